"""A prediction as a folder of files, and back: shapes, tables with their column dictionaries, and JSON."""

import json
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tifffile
from numpy.typing import NDArray
from pydantic import ValidationError

from napari_dispr import grid
from napari_dispr.errors import InputError
from napari_dispr.files import (
    check_readable,
    folder_written_aside,
    open_tiff,
    reading,
    write_json,
    written_aside,
)
from napari_dispr.prediction.index import INDEX_FILE, cell_entry, read_index
from napari_dispr.prediction.result import Prediction
from napari_dispr.prediction.schema import SavedPrediction
from napari_dispr.prediction.store import CellFile, EnsembleStore
from napari_dispr.settings import first_fault
from napari_dispr.shapes.facts import CellFacts
from napari_dispr.shapes.measures import MEASURES

#: What makes a folder a saved prediction.
PREDICTION_FILE = "prediction.json"
CELLS = "cells"
TABLES = ("morphometry.csv", "cells.csv")
#: Endings of the two files of a cell.
_SUFFIXES = (".npz", ".ome.tif")
#: The picture and its segmentation, (y, x), which a folder may also hold.
PICTURES = {"image": "picture.tif", "labels": "segmentation.tif"}


def save_prediction(
    prediction: Prediction,
    folder: str | os.PathLike[str],
    *,
    measures: pd.DataFrame | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write all files; see `Prediction.save`. ``measures`` is its table (`measure`), if it was measured
    before.

    Picture and segmentation of a prediction that is replaced stay if all cells were cut from them, as after
    members were kept, rejected or added. ``progress`` is called with the number of finished cells and of all
    cells. If it raises, nothing is written.
    """
    _check_not_foreign(prediction, folder)
    with folder_written_aside(folder) as aside:
        for done, label in enumerate(prediction, start=1):
            save_cell(prediction, aside, label)
            if progress is not None:
                progress(done, len(prediction))
        save_tables(prediction, aside, measures)
        before = _stems(Path(folder))
        pictures = () if _same_cells(Path(folder), prediction) else PICTURES.values()
        for name in (INDEX_FILE, PREDICTION_FILE):  # without them the rest is no prediction: nothing can mix
            (Path(folder) / name).unlink(missing_ok=True)
    _remove_files(Path(folder), {*before} - {*map(prediction.stem, prediction)}, pictures if before else ())


def _check_not_foreign(prediction: Prediction, folder: str | os.PathLike[str]) -> None:
    """Raise an InputError if saving would replace files that are not of a saved prediction."""
    if (Path(folder) / PREDICTION_FILE).is_file():
        return
    files = [CELLS + f"/{prediction.stem(label)}{suffix}" for label in prediction for suffix in _SUFFIXES]
    for name in (*TABLES, *(columns_file(table).name for table in TABLES), *files):
        if (Path(folder) / name).exists():
            raise InputError(
                f"{folder} holds a file {name} that is not of a saved prediction: choose a new or an empty "
                "folder."
            )


def save_cell(prediction: Prediction, folder: str | os.PathLike[str], label: int) -> None:
    """Write the files of one cell, so that a long run that is interrupted keeps the finished cells."""
    folder, stem, ensemble = Path(folder), prediction.stem(label), prediction[label]
    made, depth = prediction.provenance, prediction.depth
    ensemble.save_tiff(
        folder / CELLS / f"{stem}.ome.tif", made, ("members", "occupancy", "consensus"), depth=depth
    )
    ensemble.save_npz(folder / CELLS / f"{stem}.npz")


def save_tables(
    prediction: Prediction, folder: str | os.PathLike[str], measures: pd.DataFrame | None = None
) -> None:
    """Write the tables and ``prediction.json`` of saved cells; ``measures`` as `measure` gives it."""
    from napari_dispr.prediction.tables import measure, measure_cells  # slow: windows open without it

    folder = Path(folder)
    table = measure(prediction) if measures is None else measures
    tables = dict(zip(TABLES, (table, measure_cells(prediction, table)), strict=True))
    for name, content in tables.items():
        write_table(folder / name, content)
    # Apart: "curvature_sd" is over the surface in one and over the members in the other.
    _write_content(prediction, folder, {name: table.attrs["columns"] for name, table in tables.items()})


def earlier_prediction(folder: str | os.PathLike[str]) -> Prediction | None:
    """The prediction in a folder, with which a stopped run goes on; None if no cell was finished.

    Raises an InputError if the prediction is damaged.
    """
    folder = Path(folder)
    if not (folder / PREDICTION_FILE).exists():
        return None
    content = _read(folder)
    return _loaded(folder, content) if content.cells else None


def _write_content(
    prediction: Prediction, folder: Path, columns: Mapping[str, Mapping[str, str]] | None = None
) -> None:
    """Write ``prediction.json``; ``columns`` are those of the tables, if they are written."""
    unlike = prediction.unlike
    cells = {str(label): cell_entry(prediction, label, unlike.get(label, "")) for label in prediction}
    write_json(
        folder / PREDICTION_FILE,
        {
            **prediction.provenance,
            "warnings": prediction.warnings,
            "notes": [asdict(note) for note in prediction.notes],
            "unit": prediction.unit,
            "image_to_world": prediction.image_to_world,
            "image_shape": prediction.image_shape,
            "columns": columns or {},
            "intervals": {name: one.model_dump() for name, one in prediction.intervals.items()},
            "plane_intervals": [one.model_dump() for one in prediction.plane_intervals],
            "cells": cells,
        },
    )


def start_index(prediction: Prediction, folder: Path) -> None:
    """Make a folder an unfinished prediction without cells; a prediction in the folder is removed."""
    before = _stems(folder)
    (folder / INDEX_FILE).unlink(missing_ok=True)
    _write_content(replace(prediction, ensembles={}), folder)
    _remove_files(folder, before, (*TABLES, *PICTURES.values()))


def save_pictures(
    folder: str | os.PathLike[str], image: NDArray[Any] | None, labels: NDArray[Any] | None
) -> None:
    """Write the picture and its segmentation, (y, x) arrays, next to a saved prediction."""
    for name, array in zip(PICTURES.values(), (image, labels), strict=True):
        if array is not None:
            kept = array.astype(np.uint8) if array.dtype == bool else array
            with written_aside(Path(folder) / name) as aside:
                tifffile.imwrite(aside, kept, compression="zlib", photometric="minisblack")


def load_pictures(folder: str | os.PathLike[str], shape: tuple[int, ...]) -> dict[str, NDArray[Any]]:
    """The picture (``image``) and its segmentation (``labels``) next to a saved prediction.

    Those that are missing, damaged, or of another shape than the prediction's picture are left out.
    """
    found = {}
    for what, name in PICTURES.items():
        path = Path(folder) / name
        with suppress(InputError), reading(path, "TIFF"), open_tiff(path) as tiff:
            array = tiff.asarray()
            if array.shape == tuple(shape):
                found[what] = array
    return found


def load_prediction(folder: str | os.PathLike[str]) -> Prediction:
    """Read what :meth:`Prediction.save` wrote; table and label volumes are the same.

    The shapes of a cell are read when they are asked for: the folder must stay while the prediction is used.

    Raises
    ------
    InputError
        If the folder is no saved prediction, or is damaged.
    """
    folder = Path(folder)
    content = _read(folder)
    if not content.cells:
        raise InputError(f"{folder} holds no finished cell: run the same prediction again.")
    return _loaded(folder, content)


def _loaded(folder: Path, content: SavedPrediction) -> Prediction:
    cells = {label: _found_cell(folder, content, label) for label in content.cells}
    # Either all cells have names, which decide their noise, or none; a name may equal the label.
    files = {label: cell.file for label, cell in content.cells.items()}
    named = "dataset" in content.provenance or any(file != str(label) for label, file in files.items())
    return Prediction(
        EnsembleStore(saved=cells),
        provenance=content.provenance,
        image_to_world=np.array(content.image_to_world, dtype=np.float64),
        image_shape=content.image_shape,
        unit=content.unit,
        notes=tuple(content.notes),
        names=files if named else {},
        intervals=content.intervals,
        plane_intervals=content.plane_intervals,
        kept={label: cell.kept for label, cell in content.cells.items() if cell.kept is not None},
        rejected={label: cell.rejected for label, cell in content.cells.items() if cell.rejected},
    )


def _read(folder: Path) -> SavedPrediction:
    """The content of ``prediction.json``, and of the index if the prediction is not complete."""
    path = folder / PREDICTION_FILE
    if not os.path.isfile(path):  # which is False, too, where the folder may not be entered
        raise InputError(f"{folder} holds no {PREDICTION_FILE}: give the folder of a saved prediction.")
    check_readable(path)
    try:
        text = path.read_bytes()
        finished = {one.label: (one.cell, one.notes) for one in read_index(folder)}
        if not finished:
            return SavedPrediction.model_validate_json(text)
        content = json.loads(text)
        content["cells"] |= {str(label): cell for label, (cell, _) in finished.items()}
        before = [
            note
            for note in content["notes"]
            if note["kind"] not in ("unlike", "cut") or note["cell"] not in finished
        ]
        new = [asdict(note) for _, notes in finished.values() for note in notes]
        content["notes"] = before + [note for note in new if note not in before]
        return SavedPrediction.model_validate(content)
    except ValidationError as error:
        raise InputError(f"{path} is damaged ({first_fault(error)}): predict again.") from None
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise InputError(f"{path} is damaged: predict again.") from error


def _found_cell(folder: Path, content: SavedPrediction, label: int) -> CellFile:
    """The file of a cell, checked against what ``prediction.json`` says of it."""
    saved = content.cells[label]
    path = folder.absolute() / CELLS / f"{saved.file}.npz"
    facts = CellFacts.read(path)
    to_world = grid.translation((-content.depth, 0.0, 0.0)) @ np.array(saved.grid_to_world)
    close = {"rtol": 1e-6, "atol": 1e-6 * np.abs(to_world).max()}
    faults = {
        "is of another cell": facts.label != label,
        "has another unit": facts.unit != content.unit,
        "lies elsewhere": not np.allclose(facts.grid_to_world, to_world, **close),
        "has another zoom": not np.isclose(facts.zoom, saved.zoom),
        "lacks the member that was kept": isinstance(saved.kept, int) and saved.kept not in facts.numbers,
    }
    for fault in (words for words, is_so in faults.items() if is_so):
        raise InputError(
            f"{saved.file}.npz {fault}, compared with {PREDICTION_FILE}: predict this cell again."
        )
    if sorted(sum(saved.modes, ())) == list(range(len(facts.numbers))):
        facts = replace(facts, agreement=saved.agreement)  # else members were changed since it was written
    return CellFile(path, facts)


def _same_cells(folder: Path, prediction: Prediction) -> bool:
    """Whether a folder has all cells of a prediction, cut from the same picture and segmentation."""
    try:
        content = _read(folder)
        if content.image_shape != tuple(prediction.image_shape):
            return False
        for label in prediction:
            saved = content.cells.get(label)
            if saved is None or not np.allclose(saved.grid_to_world, prediction.grid_to_world(label)):
                return False
            before, section = (
                _found_cell(folder, content, label).section(),
                prediction.store.cell(label).section,
            )
            if before is None or section is None or not before.same(section):
                return False
    except InputError:
        return False
    return True


def _stems(folder: Path) -> list[str]:
    """What the names of the files of a saved prediction begin with; none if there is no prediction."""
    try:
        return [cell.file for cell in _read(folder).cells.values()]
    except InputError:
        return []


def _remove_files(folder: Path, stems: Iterable[str], names: Iterable[str]) -> None:
    """Remove the files of cells, and tables and pictures with these names."""
    for name in names:
        (folder / name).unlink(missing_ok=True)
        columns_file(folder / name).unlink(missing_ok=True)
    for stem in stems:
        for suffix in _SUFFIXES:
            (folder / CELLS / f"{stem}{suffix}").unlink(missing_ok=True)


def write_table(path: str | os.PathLike[str], table: pd.DataFrame) -> list[Path]:
    """Write a table as CSV, and its column dictionary as ``NAME.columns.csv``; returns both paths.

    ``attrs["columns"]`` of the table holds for each column "unit: what it is", as in the tables of `measure`.
    The dictionary has the columns ``column``, ``unit`` ("no unit" for plain numbers and words) and
    ``meaning``.
    """
    path, texts = Path(path), table.attrs.get("columns", {})
    write_columns(path, {name: texts.get(name, "") for name in table.columns})
    with written_aside(path) as aside:
        table.to_csv(aside, index=False)
    return [path, columns_file(path)]


def write_columns(path: Path, texts: Mapping[str, str]) -> None:
    """Write the column dictionary of a table."""
    rows = [(name, *text.partition(": ")[::2]) for name, text in texts.items()]
    with written_aside(columns_file(path)) as aside:
        pd.DataFrame(rows, columns=["column", "unit", "meaning"]).to_csv(aside, index=False)


def columns_file(path: str | os.PathLike[str]) -> Path:
    """File of the column dictionary of a table."""
    return Path(path).with_suffix(".columns.csv")


def load_measures(folder: str | os.PathLike[str], prediction: Prediction) -> pd.DataFrame:
    """The table of a saved prediction as :func:`measure` gives it, read from its folder.

    Cells that are missing in the file, or have other members, are measured again; all, if a measure is
    missing.
    """
    from napari_dispr.shapes.morphometry import (  # slow: windows open without it
        measure_members,
        table_of_cells,
        values_of,
    )

    folder = Path(folder)
    expected = [(label, number) for label in prediction for number in prediction.facts(label).numbers]
    table = _written_measures(folder)
    if table is not None and list(zip(table["label"], table["member"], strict=True)) == expected:
        return table
    known: dict[int, tuple[tuple[int, ...], NDArray[np.float64]]] = {}
    if table is not None:
        for label, own in table.groupby("label", sort=False):
            known[int(str(label))] = tuple(own["member"]), own[list(MEASURES)].to_numpy(float)
    for one in read_index(folder):
        if all(row.keys() == {"label", "member", *MEASURES} for row in one.measures):
            known[one.label] = tuple(int(row["member"]) for row in one.measures), values_of(one.measures)
    numbers = {label: prediction.facts(label).numbers for label in prediction}
    values = {
        label: known[label][1]
        if known.get(label, ((), None))[0] == own
        else values_of(measure_members(prediction[label]))
        for label, own in numbers.items()
    }
    return table_of_cells(values, numbers, prediction.unit)


def _written_measures(folder: Path) -> pd.DataFrame | None:
    """The table of members in the folder of a prediction; None if there is none, or a measure is missing."""
    try:
        # As text first: Python's own numbers are exact, those of the reader in some versions of pandas not.
        text = pd.read_csv(folder / TABLES[0], dtype=str)
        table = text.apply(_numbers)
        content = json.loads((folder / PREDICTION_FILE).read_text(encoding="utf-8"))
        columns = content["columns"][TABLES[0]]
        table.attrs["columns"] = {name: columns[name] for name in table.columns}
        fit = all(table[name].dtype == int for name in ("label", "member")) and not {*MEASURES} - {*table}
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return None
    return table if fit else None


def _numbers(text: pd.Series) -> pd.Series:
    """Whole numbers where all are written as such, else floating ones."""
    whole = text.str.fullmatch(r"-?\d+").eq(True).all()
    return text.astype(int if whole else float)
