"""The rows of an evaluation and their files, which grow pair by pair, so that an evaluation can be resumed.

A pair is a cell and a method. Independent of the sampling of shapes and of the use of the rows.
"""

import csv
import io
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from napari_dispr.errors import InputError, words_of
from napari_dispr.evaluation.truth import (
    AGREEMENTS,
    TOGETHER,
    Definitions,
    Truth,
    compared_by,
    measured,
    member_columns,
)
from napari_dispr.files import plain, reading, write_json, write_rows

Row = dict[str, Any]
#: Columns of text, and columns of whole numbers.
_WORDS = ("cell", "method", "failed")
_COUNTS = ("member", "members", "trained_on")
_SETTINGS = "evaluation"
_TABLES = ("errors", "cells")
#: Agreements of a cell: means over its members.
_OF_CELLS = tuple(name for name in AGREEMENTS if name != "signed_volume")


def columns_of(definitions: Definitions) -> dict[str, list[str]]:
    """The columns of ``errors`` (a row per member) and ``cells`` (a row per cell and method)."""
    measures, kinds = list(compared_by(definitions)), ("true", "estimate", "error", "member_error")
    return {
        "errors": ["cell", "method", "member", "trained_on", "failed", *member_columns(definitions)],
        "cells": [
            *("cell", "method", "members", "trained_on", "failed"),
            *(f"{kind}_{name}" for name in measures for kind in kinds),
            *_OF_CELLS,
            *TOGETHER,
        ],
    }


def rows_of(
    cell: str, method: str, trained_on: bool, failed: str, members: NDArray[np.bool_], truth: Truth
) -> tuple[list[Row], Row]:
    """The rows of a pair: one for each member, and one for the cell.

    If the method could not draw the cell, the members are empty and ``failed`` says why.
    """
    head: Row = {"cell": cell, "method": method, "trained_on": int(trained_on)}
    rows = []
    values: dict[str, list[float]] = {name: [] for name in truth.measures}
    for i, shape in enumerate(members):
        empty = "" if shape.any() else f"Member {i} is empty."
        measures = measured(shape, truth.definitions)
        for name, value in measures.items():
            values[name].append(value)
        rows.append(head | {"member": i, "failed": failed or empty} | truth.errors(shape, measures))
    why = next((row["failed"] for row in rows if row["failed"]), "")
    of_cell = head | {"members": len(members), "failed": why} | truth.together(members, values)
    for name in truth.measures:
        of_cell[f"member_error_{name}"] = np.mean([row[name] for row in rows])
    for name in _OF_CELLS:
        known = [row[name] for row in rows if not np.isnan(row[name])]
        of_cell[name] = np.mean(known) if known else np.nan
    return [_rounded(row) for row in rows], _rounded(of_cell)


def _rounded(row: Row) -> Row:
    """Round as the files do, so that rows that are read equal those that were written."""
    return {
        name: value if name in (*_WORDS, *_COUNTS) else float(f"{value:.9g}") for name, value in row.items()
    }


def _as_text(row: Row) -> Row:
    return {name: f"{value:.9g}" if isinstance(value, float) else value for name, value in row.items()}


class Rows:
    """All rows of an evaluation so far; with a folder, each row is on disk as soon as it is known.

    ``errors`` has a row per member, ``cells`` one per cell and method.
    """

    def __init__(self, folder: Path | None, definitions: Definitions) -> None:
        self.folder, self.columns = folder, columns_of(definitions)
        self.errors: list[Row] = []
        self.cells: list[Row] = []
        self._done: set[tuple[str, str]] = set()

    @classmethod
    def start_or_resume(
        cls, folder: Path | None, definitions: Definitions, settings: Mapping[str, Any], resume: bool
    ) -> Self:
        """Start an evaluation, or resume the one in the folder, if its ``settings`` are equal: all that rows
        depend on.

        Raises an InputError if they differ. If ``resume`` is false it starts again; the tables of a complete
        evaluation stay until the new ones are complete.
        """
        rows = cls(folder, definitions)
        if folder is None:
            return rows
        kept = plain(settings)
        part = next((p for p in (".partial", "") if (folder / f"{_SETTINGS}{p}.json").exists()), None)
        if resume and part is not None:
            check_same(folder / f"{_SETTINGS}{part}.json", kept)
            rows._read(part)
        rows._write(".partial")
        # Last, so that the folder never holds rows of an earlier evaluation with these settings.
        write_json(folder / f"{_SETTINGS}.partial.json", kept)
        return rows

    def has(self, cell: str, method: str) -> bool:
        return (cell, method) in self._done

    def add(self, errors: Sequence[Row], cell: Row) -> None:
        """Add the rows of a pair. The row of the cell is written last: it marks the pair as complete."""
        self.errors += errors
        self.cells.append(cell)
        self._done.add(_pair(cell))
        if self.folder is not None:
            for name, rows in (("errors", errors), ("cells", [cell])):
                with (self.folder / f"{name}.partial.csv").open("a", newline="", encoding="utf-8") as file:
                    csv.DictWriter(file, self.columns[name], lineterminator="\n").writerows(
                        map(_as_text, rows)
                    )

    def keep(self, cells: Sequence[str], methods: Sequence[str]) -> None:
        """Keep only the rows of these cells and methods, in this order."""
        place = {(cell, method): (i, j) for i, cell in enumerate(cells) for j, method in enumerate(methods)}
        for rows in (self.errors, self.cells):
            rows[:] = [row for row in rows if _pair(row) in place]
            rows.sort(key=lambda row: place[_pair(row)])  # stable: members keep theirs

    @contextmanager
    def completed(self) -> Iterator[None]:
        """Give the tables their final names when the block ends."""
        yield
        assert self.folder is not None
        self._write("")
        os.replace(self.folder / f"{_SETTINGS}.partial.json", self.folder / f"{_SETTINGS}.json")
        for name in _TABLES:
            (self.folder / f"{name}.partial.csv").unlink()

    def _write(self, part: str) -> None:
        """Write all rows."""
        assert self.folder is not None
        for name in _TABLES:
            write_rows(
                self.folder / f"{name}{part}.csv", self.columns[name], map(_as_text, getattr(self, name))
            )

    def _read(self, part: str) -> None:
        """Read all complete pairs; half a line and pairs that lack rows are skipped."""
        assert self.folder is not None
        found: dict[str, list[Row]] = {}
        for name in _TABLES:
            path = self.folder / f"{name}{part}.csv"
            text = path.read_text("utf-8") if path.exists() else ""
            lines = csv.reader(io.StringIO(text[: text.rfind("\n") + 1]))
            try:
                same = next(lines, self.columns[name]) == self.columns[name]
                found[name] = [_read_row(self.columns[name], values) for values in lines if same]
            except (ValueError, csv.Error):
                raise InputError(f"{path} is damaged: choose another folder, or remove this one.") from None
            if not same:
                raise InputError(f"{path} was written by another version: choose another folder.")
        members = Counter(_pair(row) for row in found["errors"])
        self.cells = [row for row in found["cells"] if members[_pair(row)] == row["members"]]
        self._done = {_pair(row) for row in self.cells}
        self.errors = [row for row in found["errors"] if _pair(row) in self._done]


def _pair(row: Row) -> tuple[str, str]:
    return row["cell"], row["method"]


def _read_row(columns: Sequence[str], values: Sequence[str]) -> Row:
    kinds = {**dict.fromkeys(_WORDS, str), **dict.fromkeys(_COUNTS, int)}
    return {name: kinds.get(name, float)(value) for name, value in zip(columns, values, strict=True)}


def trained_on(evaluation: Path, method: str) -> set[str]:
    """Names of the cells in a finished evaluation that a method was trained on; empty without ``cells.csv``.

    Raises an InputError if the table is damaged or has no row of the method, whose shapes are then of an
    earlier evaluation.
    """
    path = evaluation / "cells.csv"
    if not path.is_file():
        return set()
    with reading(path, "the table of an evaluation", "evaluate again"):
        with path.open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if row["method"] == method]
        seen = {row["cell"] for row in rows if int(row["trained_on"])}
    if not rows:
        raise InputError(
            f"The shapes of {method} in {evaluation} are of an earlier evaluation, as {path.name} has no row "
            f"of this method. Evaluate it again, or remove {Path('shapes') / method}."
        )
    return seen


def check_same(path: Path, settings: Mapping[str, Any]) -> None:
    """Check that a file holds these settings.

    Raises an InputError if not; the message names the first setting that differs.
    """
    try:
        before = json.loads(path.read_text("utf-8"))
    except ValueError:
        raise InputError(f"{path} is damaged: choose another folder.") from None
    for name in dict.fromkeys([*settings, *before]):
        if settings.get(name) != before.get(name):
            raise InputError(
                f"The evaluation in {path.parent} was started with other {words_of(name)}: give the "
                "same to resume it, or choose another folder."
            )
