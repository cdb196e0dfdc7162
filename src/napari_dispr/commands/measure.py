"""``napari-dispr measure``: measures of existing 3D shapes, as a table."""

import argparse
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from napari_dispr.commands import common
from napari_dispr.errors import InputError, counted

if TYPE_CHECKING:
    import pandas as pd


def add(commands: Any) -> None:
    command = common.add_command(commands, "measure", measure, "measure 3D shapes and write a table")
    command.add_argument(
        "files",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="folder of a prediction, one of its cells (NPZ, OME-TIFF), a 3D segmentation (TIFF, OME-TIFF, "
        "OME-Zarr or NPY; one value per cell), or a dataset with objects",
    )
    command.add_argument("--out", type=Path, required=True, metavar="TABLE.csv", help="CSV table to write")
    common.add_spacing(command)
    common.add_split(command)
    command.add_argument(
        "--set",
        default="first",
        metavar="first|shapr",
        help="first: the usual measures; shapr: the features of the SHAPR notebooks (first)",
    )


def measure(options: argparse.Namespace) -> None:
    spacing, unit = common.given_spacing(options)
    common.check_suffix(options.out, ".csv")
    import pandas as pd

    from napari_dispr.prediction.saving import write_table
    from napari_dispr.shapes.label_volumes import without_surface
    from napari_dispr.shapes.morphometry import measures_of

    measures_of(options.set)  # checks it before anything slow
    tables: list[pd.DataFrame] = []
    if len({os.path.realpath(path) for path in options.files}) < len(options.files):
        raise InputError("A file or folder is given twice: give each once.")
    for path in options.files:
        table = _measure_path(path, spacing, unit, options)
        if text := without_surface(table):
            common.warn(f"{path}: {text}")
        table.insert(0, "file", str(path))
        _check_units(tables, table, path)
        tables.append(table)
    whole = pd.concat(tables, ignore_index=True)
    columns: dict[str, str] = {"file": "no unit: file or folder that was measured"}
    for table in tables:
        columns |= table.attrs["columns"]
    whole.attrs["columns"] = columns
    write_table(options.out, whole)
    print(f"{counted(len(whole), 'shape')}: {options.out}")


def _check_units(tables: "list[pd.DataFrame]", table: "pd.DataFrame", path: Path) -> None:
    """Check that a column has one unit in all tables."""
    for other in tables[:1]:
        for name, text in table.attrs["columns"].items():
            unit, first = (t.partition(":")[0] for t in (text, other.attrs["columns"].get(name, text)))
            if unit != first:
                raise InputError(
                    f"{path} is measured in {unit}, the files before it in {first}: give --spacing, or write "
                    "separate tables."
                )


def _measure_path(
    path: Path, spacing: tuple[float, ...] | None, unit: str, options: argparse.Namespace
) -> "pd.DataFrame":
    """Measure a file or folder in its own units."""
    from napari_dispr.cells.file_pairs import is_zarr
    from napari_dispr.prediction.saving import PREDICTION_FILE, load_measures, load_prediction
    from napari_dispr.shapes.ensemble import Ensemble
    from napari_dispr.shapes.measures import MEASURES
    from napari_dispr.shapes.morphometry import measure_ensembles

    chosen = options.set
    if not path.exists():
        raise InputError(f"There is no file or folder {path}: check its path.")
    ours = (path / PREDICTION_FILE).is_file() or path.suffix.lower() == ".npz"
    members = None if ours or path.is_dir() else _members(path)
    if (ours or members is not None) and spacing is not None:
        raise InputError(f"{path} has its own voxel size: leave out --spacing.")
    if (path / PREDICTION_FILE).is_file():
        prediction = load_prediction(path)
        if chosen == "first":
            return load_measures(path, prediction)[["label", "member", *MEASURES]]
        return measure_ensembles(prediction, set=chosen)
    if path.suffix.lower() == ".npz":
        ensemble = Ensemble.load_npz(path)
        return measure_ensembles({ensemble.label: ensemble}, set=chosen)
    if members is not None:
        return _measure_members(path, *members, chosen)
    if any((path / name / "mask").is_dir() for name in ("", "train", "test")):
        return _measure_dataset(path, spacing, unit, chosen)
    if path.is_dir() and not is_zarr(path):
        raise InputError(f"{path} is no prediction, dataset or OME-Zarr: give one of these, or a file.")
    return _measure_segmentation(path, spacing, unit, options)


def _members(path: Path) -> tuple[Any, dict[str, Any]] | None:
    """Volumes and description of an OME-TIFF with members; None for any other file."""
    if path.suffix.lower() not in (".tif", ".tiff"):
        return None
    from napari_dispr.files import open_tiff

    try:
        with open_tiff(path) as tiff:
            root = ElementTree.fromstring(tiff.ome_metadata or "")
            text = next((e.text for e in root.iter() if e.tag.endswith("}Description")), None)
            description = json.loads(text or "")
            if "grid_to_world" not in description or description.get("content", "") == "occupancy":
                return None
            volumes = tiff.series[0].asarray()
    except Exception:  # another kind of file, or a damaged one, which the reader of stacks reports
        return None
    return volumes.reshape(-1, *volumes.shape[-3:]), description


def _measure_members(path: Path, volumes: Any, description: dict[str, Any], chosen: str) -> "pd.DataFrame":
    import numpy as np

    from napari_dispr.grid import check_spacing
    from napari_dispr.shapes.label_volumes import measure_mask
    from napari_dispr.shapes.morphometry import SETS, as_table
    from napari_dispr.shapes.shapr_set import shapr_features

    frame = np.array(description["grid_to_world"], dtype=float)
    if frame.shape != (4, 4):
        raise InputError(f"{path} has no affine for its voxels: export it again.")
    check_spacing(frame)
    rows = [
        {
            "label": int(description.get("label", 0)),
            "member": member,
            **(shapr_features(volume > 0) if chosen == "shapr" else measure_mask(volume > 0, frame)),
        }
        for member, volume in enumerate(volumes)
    ]
    return as_table(rows, SETS[chosen], str(description.get("unit", "pixel")), chosen)


def _measure_dataset(path: Path, spacing: tuple[float, ...] | None, unit: str, chosen: str) -> "pd.DataFrame":
    import pandas as pd

    from napari_dispr import signed_distance
    from napari_dispr.cells.cropping import INSIDE
    from napari_dispr.cells.folders import read_dataset, read_notes
    from napari_dispr.shapes.measures import MASK_MEASURES, PICTURE_MEASURES
    from napari_dispr.shapes.morphometry import SETS, column_texts
    from napari_dispr.shapes.one_shape import measure_shape
    from napari_dispr.shapes.planes import measure_plane
    from napari_dispr.shapes.shapr_set import binarise, shapr_features

    cells, notes = read_dataset(path, need_objects=True), read_notes(path)
    if spacing is None:
        side = notes.voxel_size
        spacing, unit = ((side,) * 3, notes.unit) if side else ((1.0,) * 3, "pixel")
    rows = []
    for number, cell in enumerate(cells, start=1):
        assert cell.obj is not None
        row: dict[str, Any] = {"label": number, "member": 0, "name": cell.name}
        if chosen == "shapr":
            row |= shapr_features(binarise(cell.obj))
        else:
            row |= measure_shape(signed_distance.from_level(cell.obj, 127.5, truncation=8), spacing)
            row |= measure_plane(cell.mask > INSIDE, cell.image, spacing[1:])
        rows.append(row)
    measures = SETS[chosen]
    if chosen == "first":
        measures = measures | MASK_MEASURES | (PICTURE_MEASURES if "picture_mean" in rows[0] else {})
    table = pd.DataFrame(rows, columns=["label", "member", "name", *measures])
    texts = column_texts(measures, "voxel" if chosen == "shapr" else unit)
    texts["label"] = "no unit: value of the cell in the label layer; in a dataset its position, from 1"
    table.attrs["columns"] = {**texts, "name": "no unit: name of the cell's files in the dataset"}
    return table


def _measure_segmentation(
    path: Path, spacing: tuple[float, ...] | None, unit: str, options: argparse.Namespace
) -> "pd.DataFrame":
    from napari_dispr.cells.stack_files import read_stack
    from napari_dispr.shapes.label_volumes import measure_labels

    stack = read_stack(None, path, spacing, unit)
    if stack.note:
        common.warn(stack.note)
    try:
        with common.progress_bar("cell") as show:
            labels = common.split_labels(stack.labels, options, path)
            return measure_labels(labels, stack.spacing, stack.unit, set=options.set, progress=show)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
