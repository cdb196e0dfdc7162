"""Classes of cells, and folds of a cross-validation: by cell, every class in every fold."""

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from napari_dispr.cells.folders import CellFile
from napari_dispr.cells.splits import copies
from napari_dispr.errors import InputError


def class_of(name: str) -> str:
    """The class that a file name tells: the name without the digits at its end, and what joins them."""
    return name.rstrip("0123456789").rstrip(" _-.") or name


def classes_of(cells: Sequence[CellFile], table: str | os.PathLike[str] | None = None) -> dict[str, str]:
    """The class of each cell by its name.

    Parameters
    ----------
    cells : sequence of CellFile
    table : path, optional
        A CSV file with the columns ``name`` and ``class``; without it file names tell (see `class_of`), and
        where every cell would be a class of its own, all are of one, ``cell``.

    Raises
    ------
    InputError
        If the table cannot be read, or a cell is missing in it.
    """
    if table is not None:
        told = _read_table(Path(table))
        if missing := [cell.name for cell in cells if cell.name not in told]:
            raise InputError(f"The cell {missing[0]} is not in {table}: add a line for it.")
        return {cell.name: told[cell.name] for cell in cells}
    found = {cell.name: class_of(cell.name) for cell in cells}
    return found if len(set(found.values())) < len(found) else dict.fromkeys(found, "cell")


def folds_of(
    cells: Sequence[CellFile], folds: int, classes: Mapping[str, str], seed: int = 0
) -> dict[str, int]:
    """The fold of each cell, from 1, by its name.

    Parameters
    ----------
    cells : sequence of CellFile
    folds : int
    classes : mapping of name to class
        Of `classes_of`. As far as whole cells allow, every fold has the same of each class, and as many
        cells: numbers of different cells differ by 1 at most, in all and in every class.
    seed : int
        The same cells are split in the same way, in whatever order they come.

    Raises
    ------
    InputError
        If there are fewer different cells than folds.

    Notes
    -----
    Copies of a cell (the same picture, or the same object) are in one fold, so that none is tested by what
    was trained on the other.
    """
    groups = [sorted(cells[i].name for i in group) for group in copies(cells)]
    if len(groups) < folds:
        raise InputError(
            f"There are only {len(groups)} different cells for {folds} folds: take fewer folds, or add cells."
        )
    groups.sort()
    order = sorted(np.random.default_rng(seed).permutation(len(groups)), key=lambda i: classes[groups[i][0]])
    # Dealt out one by one, class after class.
    fold = {name: place % folds + 1 for place, i in enumerate(order) for name in groups[i]}
    return {cell.name: fold[cell.name] for cell in cells}


def _read_table(path: Path) -> dict[str, str]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, ValueError, csv.Error):
        raise InputError(f"The table of classes {path} cannot be read: give a CSV file.") from None
    if not rows or not {"name", "class"} <= rows[0].keys():
        raise InputError(f"The table of classes {path} has no columns name and class: add them.")
    found: dict[str, str] = {}
    for row in rows:
        name, kind = (row["name"] or "").strip(), (row["class"] or "").strip()
        if not kind or found.setdefault(name, kind) != kind:
            raise InputError(f"{path} does not say of {name!r} which class it is of: repair its line.")
    return found
