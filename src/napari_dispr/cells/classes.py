"""Classes of cells, from their names or a table, and disjoint folds that have their share of each."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from napari_dispr.cells.checks import copies
from napari_dispr.cells.folders import CellFile
from napari_dispr.errors import InputError


def class_of(name: str) -> str:
    """The class that a cell's name tells: the name without the digits at its end, as of ``SDE_012`` SDE."""
    return name.rstrip("0123456789").rstrip("_-. ") or name


def classes_of(cells: Sequence[CellFile], table: str | os.PathLike[str] | None = None) -> dict[str, str]:
    """The class of each cell, by its name.

    Parameters
    ----------
    cells : sequence of CellFile
    table : path, optional
        CSV with the columns ``name`` and ``class``; without it the names tell the classes.

    Raises
    ------
    InputError
        If the table cannot be read or lacks a cell, or there is but one class.
    """
    if table is None:
        classes = {cell.name: class_of(cell.name) for cell in cells}
        cure = "name them CLASS_001, CLASS_002, ..., or give a table with the columns name and class"
    else:
        classes = _column(table, "class", [cell.name for cell in cells])
        cure = f"give at least two in {table}"
    if len(set(classes.values())) in (1, len(cells)):
        what = "one class" if len(set(classes.values())) == 1 else "a class of its own each"
        raise InputError(f"The cells are of {what}: {cure}.")
    return classes


def read_folds(table: str | os.PathLike[str], cells: Sequence[CellFile]) -> dict[str, str]:
    """The fold of each cell, by its name, of a CSV with the columns ``name`` and ``fold``.

    Raises
    ------
    InputError
        If the table cannot be read or lacks a cell, there is but one fold, or copies of a cell are in
        different folds, so that each fold's model has seen cells of another.
    """
    folds = _column(table, "fold", [cell.name for cell in cells])
    if len(set(folds.values())) < 2:
        raise InputError(f"{table} puts all cells into one fold: give at least two.")
    for group in copies(cells):
        names = [cells[index].name for index in group]
        if len({folds[name] for name in names}) > 1:
            raise InputError(
                f"{' and '.join(names[:3])} are copies of one cell, but {table} has them in different folds: "
                "remove all but one, and cross-validate again."
            )
    return folds


def stratified_folds(
    cells: Sequence[CellFile], classes: Mapping[str, str], count: int = 5, seed: int = 0
) -> dict[str, str]:
    """Disjoint folds that have, as far as whole cells allow, the same share of each class.

    Parameters
    ----------
    cells : sequence of CellFile
    classes : mapping of name to class
    count : int
        Folds; they are called "1", "2", ...
    seed : int

    Returns
    -------
    dict of name to fold
        Copies of a cell are in one fold.

    Raises
    ------
    InputError
        If there are fewer different cells than folds.
    """
    groups = [[cells[index].name for index in group] for group in copies(cells)]
    if len(groups) < count:
        raise InputError(f"{len(groups)} different cells are too few for {count} folds: ask for fewer.")
    rng = np.random.default_rng(seed)
    shuffled = [groups[index] for index in rng.permutation(len(groups))]
    # Class by class, dealt out in turn: the next class goes on where the last one ended.
    dealt = sorted(shuffled, key=lambda group: classes[group[0]])
    return {name: str(place % count + 1) for place, group in enumerate(dealt) for name in group}


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


def _column(table: str | os.PathLike[str], column: str, names: Sequence[str]) -> dict[str, str]:
    """A column of a CSV, as text, by the column ``name``."""
    path = Path(table)
    if not path.is_file():
        raise InputError(f"There is no table {path}: check its path.")
    try:
        content = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise InputError(f"The table {path} cannot be read: save it as CSV.") from error
    for needed in ("name", column):
        if needed not in content:
            raise InputError(f"The table {path} has no column {needed!r}: add it.")
    values = dict(zip(content["name"], content[column], strict=True))
    if missing := [name for name in names if not values.get(name)]:
        raise InputError(f"The table {path} says no {column} of the cell {missing[0]}: add it.")
    return {name: values[name] for name in names}
