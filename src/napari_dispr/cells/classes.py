"""Classes that cells are told apart by: that there are several, which are rare, and folds that were given."""

import csv
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from napari_dispr.cells.folders import CellFile
from napari_dispr.cells.folds import classes_of
from napari_dispr.cells.splits import copies
from napari_dispr.errors import InputError


def several_classes(cells: Sequence[CellFile], table: str | os.PathLike[str] | None = None) -> dict[str, str]:
    """The class of each cell by its name, as `classes_of` tells it.

    Raises
    ------
    InputError
        Also if all cells are of one class.
    """
    classes = classes_of(cells, table)
    if len(set(classes.values())) < 2:
        cure = f"give two or more in {table}" if table else "name them CLASS_001, ..., or give a table"
        raise InputError(f"All cells are of one class: {cure}.")
    return classes


def read_folds(table: str | os.PathLike[str], cells: Sequence[CellFile]) -> dict[str, str]:
    """The fold of each cell by its name, of a CSV with the columns ``name`` and ``fold``.

    Raises
    ------
    InputError
        If the table cannot be read or lacks a cell, there is but one fold, or copies of a cell are in
        different folds, so that a model that has not seen one has seen the other.
    """
    told = fold_table(table)
    if missing := [cell.name for cell in cells if not told.get(cell.name)]:
        raise InputError(f"{table} says no fold of the cell {missing[0]}: cross-validate all cells.")
    folds = {cell.name: told[cell.name] for cell in cells}
    if len(set(folds.values())) < 2:
        raise InputError(f"{table} puts all cells into one fold: cross-validate with two or more.")
    for group in copies(cells):
        names = [cells[index].name for index in group]
        if len({folds[name] for name in names}) > 1:
            raise InputError(
                f"{' and '.join(names[:3])} are copies of one cell, but {table} has them in different folds: "
                "remove all but one, and cross-validate again."
            )
    return folds


def fold_table(table: str | os.PathLike[str]) -> dict[str, str]:
    """All folds of such a CSV, by name.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    try:
        with Path(table).open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
        return {row["name"]: row["fold"] for row in rows}
    except (OSError, ValueError, KeyError, csv.Error):
        raise InputError(f"{table} is no table of folds: give the folds.csv of a cross-validation.") from None


def rarest(classes: Mapping[str, str], count: int) -> list[str]:
    """The classes of the fewest cells, the rarest first.

    Raises
    ------
    InputError
        If there are not more classes than that.
    """
    numbers = Counter(classes.values())
    if not 0 < count < len(numbers):
        raise InputError(
            f"{count} of {len(numbers)} classes cannot be the rare ones: take 1 to {len(numbers) - 1}."
        )
    return sorted(numbers, key=lambda name: (numbers[name], name))[:count]
