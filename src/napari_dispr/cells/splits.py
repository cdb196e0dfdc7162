"""Split cells for training and testing: validation cells, folds, classes, copies; and check them."""

import csv
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from napari_dispr import grid
from napari_dispr.cells.cropping import INSIDE
from napari_dispr.cells.folders import CellFile
from napari_dispr.cells.slices import touches_border
from napari_dispr.errors import InputError, counted, listed
from napari_dispr.files import A_TABLE, reading

#: Least number of different cells for a training, validation cells included.
LEAST = 5
#: With fewer cells there is a warning.
FEW = 20
#: Least IoU of a mask with the section of its shape.
AGREEING = 0.8
#: Parts of a shape are far apart if the gap between them is wider than this, in voxels.
GAP = 4
#: Smaller parts, as a share of the shape, do not count.
PART = 0.02


def split_cells(
    cells: Sequence[CellFile], share: float = 0.2, seed: int = 0
) -> tuple[list[CellFile], list[CellFile]]:
    """Split cells into training cells and validation cells, each in the order of ``cells``.

    Copies of a cell are never separated. The order of the cells has no effect. The ``share`` of the
    validation cells is about the same in each class (see `class_of`). Raises an InputError if there are fewer
    than ``LEAST`` different cells.
    """
    groups = [group for _, group in sorted((min(cells[i].name for i in g), g) for g in copies(cells))]
    if len(groups) < LEAST:
        also = f" ({len(cells)} with their copies)" if len(groups) < len(cells) else ""
        raise InputError(
            f"There are only {len(groups)} different cells{also}: give at least {LEAST} to train on."
        )
    kinds = [class_of(cells[group[0]].name) for group in groups]
    if len(set(kinds)) == len(groups):
        kinds = [""] * len(groups)
    # Shuffled within each class, then taken at even steps: each class gives its share.
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(len(groups))
    order = sorted(shuffled, key=lambda index: kinds[index])
    count = min(max(round(share * len(groups)), 1), len(groups) - 1)
    taken = np.floor((np.arange(count) + rng.uniform()) * len(groups) / count).astype(int)
    validation = {member for position in taken for member in groups[order[position]]}
    training = [cell for index, cell in enumerate(cells) if index not in validation]
    return training, [cell for index, cell in enumerate(cells) if index in validation]


def real_cells(cells: Sequence[CellFile]) -> list[CellFile]:
    """The cells with real objects; an InputError if there are none, a cell has none, or two have one name."""
    for name, times in Counter(cell.name for cell in cells).items():
        if times > 1:
            raise InputError(f"Two cells are named {name}: use the parts train and test separately.")
    if missing := next((cell.name for cell in cells if cell.obj is None), None):
        raise InputError(f"The cell {missing} has no object: add obj/{missing}.tif.")
    real = [cell for cell in cells if not cell.predicted]
    if cells and not real:
        raise InputError("All objects are predicted: give cells with real objects.")
    return real


def check_cells(cells: Sequence[CellFile]) -> list[str]:
    """Warnings about training cells that have objects, one sentence each."""
    warnings = []
    if len(cells) < FEW:
        warnings.append(
            f"The dataset has only {counted(len(cells), 'cell')}: train on {FEW} or more, so that the model "
            "learns how they differ, or only calibrate a model with these."
        )
    if predicted := sum(cell.predicted for cell in cells):
        alone = "only the others validate the model"
        none = "no real object is left to validate the model"
        warnings.append(f"{predicted} objects are predicted: {alone if predicted < len(cells) else none}.")
    if names := [cell.name for cell in cells if cell.obj is not None and touches_border(cell.obj)]:
        warnings.append(
            f"The border of the grid cuts {listed(names)}: use a larger voxel size, or remove them."
        )
    if names := [cell.name for cell in cells if cell.obj is not None and _agreement(cell) < AGREEING]:
        warnings.append(
            f"Mask and shape disagree in the imaged plane (z = {grid.IMAGED_PLANE}) of {listed(names)}: "
            "check that they are of the same cell."
        )
    same = ([index for index in group if not cells[index].predicted] for group in copies(cells))
    if groups := [group for group in same if len(group) > 1]:
        names = [" = ".join(cells[index].name for index in group[:3]) for group in groups]
        warnings.append(f"Some cells are copies of others: {listed(names)}.")
    if names := [cell.name for cell in cells if cell.obj is not None and _scattered(cell.obj)]:
        warnings.append(f"Some shapes have parts that are far apart: check the labels of {listed(names)}.")
    names = [cell.name for cell in cells if cell.image is None]
    if 0 < len(names) < len(cells):
        warnings.append(f"Some cells have no image: add those of {listed(names)}.")
    return warnings


def copies(cells: Sequence[CellFile]) -> list[list[int]]:
    """Groups of positions: cells with the same mask and image, or with the same object, are copies."""
    known: dict[str, int] = {}  # the first cell with a picture, or with an object
    same = [
        (index, known.setdefault(key, index))
        for index, cell in enumerate(cells)
        for key in [cell.fingerprint, *([] if cell.obj is None else [cell.shape_fingerprint])]
    ]
    graph = coo_array((np.ones(len(same)), np.reshape(same, (-1, 2)).astype(int).T), [len(cells)] * 2)
    groups: dict[int, list[int]] = {}
    for index, group in enumerate(connected_components(graph, directed=False)[1] if cells else ()):
        groups.setdefault(int(group), []).append(index)
    return list(groups.values())


def _agreement(cell: CellFile) -> float:
    """IoU of the mask with the section of the object."""
    mask, section = cell.mask > INSIDE, grid.section(cell.known_object) > 127
    return float((mask & section).sum() / max(1, (mask | section).sum()))


def _scattered(obj: NDArray[np.uint8]) -> bool:
    inside = obj > 127
    least = PART * inside.sum()

    def parts(labels: NDArray[np.int32]) -> int:
        return int((np.bincount(labels[inside])[1:] >= least).sum())

    if parts(ndimage.label(inside, np.ones((3, 3, 3)))[0]) < 2:
        return False
    near = ndimage.distance_transform_edt(~inside) <= GAP / 2
    return parts(ndimage.label(near)[0]) > 1


# --- classes and folds --------------------------------------------------------------------------------


def class_of(name: str) -> str:
    """The class in a file name: the name without the digits at its end and what joins them."""
    return name.rstrip("0123456789").rstrip(" _-.") or name


def classes_of(cells: Sequence[CellFile], table: str | os.PathLike[str] | None = None) -> dict[str, str]:
    """The class of each cell, by the cell's name.

    ``table`` is a CSV file with the columns ``name`` and ``class``. Without it file names give the classes
    (see `class_of`); if every cell then had its own class, all get the class ``cell``.
    """
    if table is None:
        found = {cell.name: class_of(cell.name) for cell in cells}
        return found if len(set(found.values())) < len(found) else dict.fromkeys(found, "cell")
    known = read_table(table, "class")
    if missing := [cell.name for cell in cells if cell.name not in known]:
        raise InputError(f"The cell {missing[0]} is not in {table}: add a line for it.")
    return {cell.name: known[cell.name] for cell in cells}


def several_classes(cells: Sequence[CellFile], table: str | os.PathLike[str] | None = None) -> dict[str, str]:
    """As `classes_of`, with an InputError if there is only one class."""
    classes = classes_of(cells, table)
    if len(set(classes.values())) < 2:
        cure = f"give two or more in {table}" if table else "name them CLASS_001, ..., or give their classes"
        raise InputError(f"All cells are of one class: {cure}.")
    return classes


def rarest(classes: Mapping[str, str], count: int) -> list[str]:
    """The ``count`` classes with the fewest cells, the rarest first; not all classes."""
    numbers = Counter(classes.values())
    if not 0 < count < len(numbers):
        raise InputError(
            f"{count} of {len(numbers)} classes cannot be the rare ones: choose 1 to {len(numbers) - 1}."
        )
    return sorted(numbers, key=lambda name: (numbers[name], name))[:count]


def folds_of(
    cells: Sequence[CellFile], folds: int, classes: Mapping[str, str], seed: int = 0
) -> dict[str, int]:
    """The fold of each cell, from 1, by the cell's name.

    Copies of a cell (the same image, or the same object) are in one fold, so that no cell is tested with a
    model that was trained on its copy. The numbers of different cells in two folds differ by at most 1, in
    total and in every class. The order of the cells has no effect.
    """
    groups = [sorted(cells[i].name for i in group) for group in copies(cells)]
    if len(groups) < folds:
        raise InputError(
            f"There are only {len(groups)} different cells for {folds} folds: use fewer folds, or add cells."
        )
    groups.sort()
    order = sorted(np.random.default_rng(seed).permutation(len(groups)), key=lambda i: classes[groups[i][0]])
    # Class after class, the cells are dealt to the folds in turn.
    fold = {name: place % folds + 1 for place, i in enumerate(order) for name in groups[i]}
    return {cell.name: fold[cell.name] for cell in cells}


def read_folds(table: str | os.PathLike[str], cells: Sequence[CellFile]) -> dict[str, str]:
    """The fold of each cell in a CSV file with the columns ``name`` and ``fold``, by the cell's name.

    There must be two folds or more, with all copies of a cell in the same fold.
    """
    known = read_table(table, "fold")
    if missing := [cell.name for cell in cells if cell.name not in known]:
        raise InputError(f"{table} has no fold for the cell {missing[0]}: cross-validate all cells.")
    folds = {cell.name: known[cell.name] for cell in cells}
    if len(set(folds.values())) < 2:
        raise InputError(f"{table} has only one fold: cross-validate with two or more.")
    for group in copies(cells):
        names = [cells[index].name for index in group]
        if len({folds[name] for name in names}) > 1:
            raise InputError(
                f"{' and '.join(names[:3])} are copies of one cell, but {table} has them in different folds: "
                "remove all but one, and cross-validate again."
            )
    return folds


def read_table(table: str | os.PathLike[str], column: str) -> dict[str, str]:
    """A column of a CSV file by its column ``name``. Each name has one value."""
    with reading(Path(table), *A_TABLE), Path(table).open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    if not rows or not {"name", column} <= rows[0].keys():
        raise InputError(f"The table {table} has no columns name and {column}: add them.")
    found: dict[str, str] = {}
    for row in rows:
        name, value = (row["name"] or "").strip(), (row[column] or "").strip()
        if not value or found.setdefault(name, value) != value:
            raise InputError(f"{table} does not give one {column} for {name!r}: repair its line.")
    return found
