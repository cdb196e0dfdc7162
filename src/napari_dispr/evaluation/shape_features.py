"""Features of true and predicted shapes for the classification experiment, and the table that keeps them.

No classifier here: only numbers that describe shapes, masks and pictures.
"""

import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from napari_dispr import grid
from napari_dispr.cells.cropping import INSIDE
from napari_dispr.cells.folders import CellFile
from napari_dispr.errors import InputError
from napari_dispr.files import open_tiff, read_rows, reading, write_rows
from napari_dispr.shapes.measures import MASK_MEASURES, PICTURE_MEASURES
from napari_dispr.shapes.planes import measure_plane
from napari_dispr.shapes.shapr_set import SHAPR_FEATURES, binarise, shapr_features

#: Features of a shape, and of its mask and picture.
SHAPE_FEATURES = tuple(SHAPR_FEATURES)
PLANE_FEATURES = (*MASK_MEASURES, *PICTURE_MEASURES)
#: A row is a true shape (source "true") or a predicted member. A changed shape or picture changes its
#: ``key``.
_PLACE = ("cell", "source", "member", "key")
_COLUMNS = [*_PLACE, *PLANE_FEATURES, *SHAPE_FEATURES]
TRUE = "true"
#: Seconds between two saves of the table.
_BETWEEN = 20.0


@dataclass(frozen=True, slots=True)
class Described:
    """The features of a shape are computed; ``done`` of ``total`` counts pairs of a cell and a source."""

    cell: str
    source: str
    done: int
    total: int


def read_shapes(folder: Path, name: str) -> NDArray[np.bool_]:
    """Members of a cell, (member, 64, 64, 64), as an evaluation saved them.

    Raises an InputError if the file is missing, damaged or of another size.
    """
    path = _check_there(folder, name)
    with reading(path, "TIFF", "evaluate again"), open_tiff(path) as tiff:
        array = tiff.asarray()
    if array.shape[-3:] != grid.SHAPE:
        raise InputError(f"The file {path} has the shape {array.shape}: members of 64 x 64 x 64 are needed.")
    return array.reshape(-1, *grid.SHAPE) > 0


def _check_there(folder: Path, name: str) -> Path:
    path = folder / f"{name}.tif"
    if not path.is_file():
        raise InputError(f"There is no file {path}: evaluate with --save-shapes, all cells of the dataset.")
    return path


def iter_features(
    cells: Sequence[CellFile], predicted: Mapping[str, tuple[Path, Sequence[str]]], table: Path | None = None
) -> Generator[Described, None, pd.DataFrame]:
    """Features of the true shapes of cells, and of predicted ones.

    Raises an InputError if the file of a predicted cell is missing.

    Parameters
    ----------
    predicted : mapping of source to (folder, names)
        ``FOLDER/NAME.tif`` holds the members of these cells, with axes (member, z, y, x).
    table : path, optional
        CSV of features that are already known. New ones are added to it, also when the generator is closed.

    Returns
    -------
    DataFrame
        Columns ``cell``, ``source`` ("true", or as in ``predicted``), ``member``, `PLANE_FEATURES` (of the
        mask and picture of the cell; NaN without a picture) and `SHAPE_FEATURES`, in voxels of the model
        grid.
    """
    by_name = {cell.name: cell for cell in cells}
    pairs = [(TRUE, name) for name in by_name]
    for source, (folder, names) in predicted.items():
        for name in names:
            _check_there(folder, name)  # before anything slow
            pairs.append((source, name))
    known = _known(table)
    rows: dict[tuple[str, str, int], dict[str, Any]] = {}
    fresh, written = 0, time.monotonic()
    try:
        for done, (source, name) in enumerate(pairs, start=1):
            cell = by_name[name]
            shapes = (
                [binarise(cell.known_object)] if source == TRUE else read_shapes(predicted[source][0], name)
            )
            for member, shape in enumerate(shapes):
                place = (name, source, member)
                key = cell.fingerprint + sha256(np.packbits(shape).tobytes()).hexdigest()[:16]
                if place in known and known[place]["key"] == key:
                    rows[place] = known[place]
                    continue
                plane = measure_plane(cell.mask > INSIDE, cell.image)
                rows[place] = dict(zip(_PLACE, (*place, key), strict=True)) | plane | shapr_features(shape)
                fresh += 1
                if time.monotonic() - written > _BETWEEN:
                    _write(table, {**known, **rows})
                    written = time.monotonic()
                yield Described(name, source, done, len(pairs))
    finally:
        if fresh:
            _write(table, {**known, **rows})
    found = pd.DataFrame(list(rows.values()), columns=_COLUMNS)
    return found.drop(columns="key").replace([np.inf, -np.inf], np.nan)


def is_of_features(table: Path) -> bool:
    """Whether a file is a table of `iter_features`, of any version."""
    try:
        with table.open(encoding="utf-8") as file:
            return file.readline().startswith(",".join(_PLACE))
    except (OSError, ValueError):
        return False


def _known(table: Path | None) -> dict[tuple[str, str, int], dict[str, Any]]:
    """Rows of an earlier run; none if the table is damaged or has other features."""
    found: dict[tuple[str, str, int], dict[str, Any]] = {}
    try:
        for row in read_rows(table, _COLUMNS) if table is not None else ():
            place = row["cell"], row["source"], int(row["member"])
            numbers = {name: float(row[name] or "nan") for name in _COLUMNS if name not in _PLACE}
            found[place] = dict(zip(_PLACE, (*place, row["key"]), strict=True)) | numbers
    except (ValueError, TypeError):
        return {}
    return found


def _write(table: Path | None, rows: Mapping[tuple[str, str, int], Mapping[str, Any]]) -> None:
    if table is not None:
        write_rows(table, _COLUMNS, rows.values())
