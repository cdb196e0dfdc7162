"""The content of the tables of morphometry, for predicted and real cells. No Qt."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from napari_dispr.prediction.result import Kept
from napari_dispr.shapes.measures import without_attrs
from napari_dispr.widgets.morphometry.columns import (
    NEXT_PLANE,
    NO_MEMBER,
    RANKING,
    SHOWN_MEASURES,
    Column,
    agreement_columns,
    cell_column,
    estimate_column,
    measures_of,
    notes,
    ranking_columns,
    source_column,
    value_column,
    whole_numbers,
)
from napari_dispr.widgets.morphometry.words import Words


@dataclass(frozen=True, eq=False)
class TableContent:
    """Rows and columns of a table.

    Attributes
    ----------
    frame : DataFrame
        The numbers on screen, which are copied: members count from 1.
    exported : DataFrame
        The numbers in files: members count from 0; ``attrs["columns"]`` has units and meanings.
    cells, members : (row,) int arrays
        Label of each row, and number of its member or `NO_MEMBER`.
    predicted : (row,) bool array
        Whether a row belongs to the prediction; other rows belong to a labels layer.
    notes : sequence of str
        Warnings about the cell of each row.
    groups : tuple of str
        Columns whose values are groups, which the plots compare; only in the table of a batch.
    """

    columns: dict[str, Column]
    frame: pd.DataFrame
    exported: pd.DataFrame
    cells: NDArray[np.int64]
    members: NDArray[np.int64]
    predicted: NDArray[np.bool_]
    notes: Sequence[str]
    groups: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.cells)

    def values(self, name: str) -> NDArray[Any]:
        """The numbers by which a column is sorted; of words, their places in alphabetical order."""
        found = self.filtered_by[self.columns[name].key]
        return found.places if isinstance(found, Words) else found

    def is_number(self, name: str) -> bool:
        """Whether a column is sorted by numbers, not by words."""
        return self.columns[name].key in self.arrays

    @property
    def measures(self) -> list[str]:
        """Names of the columns that are measures."""
        return [name for name, column in self.columns.items() if column.group]

    def name_of(self, cell: int) -> str:
        """A cell in words, by its number in ``cells``."""
        return f"cell {cell}"

    @cached_property
    def arrays(self) -> dict[str, NDArray[np.float64]]:
        """The frame's columns of numbers."""
        return {
            str(name): column.to_numpy(dtype=np.float64, na_value=np.nan)
            for name, column in self.frame.items()
            if pd.api.types.is_numeric_dtype(column)
        }

    @cached_property
    def filtered_by(self) -> "dict[str, NDArray[np.float64] | Words]":
        """Columns that a filter can use: those on screen, and those of the frame."""
        words = {
            str(name): Words.of(column.fillna(""))
            for name, column in self.frame.items()
            if name not in self.arrays
        }
        every: dict[str, NDArray[np.float64] | Words] = {**self.arrays, **words}
        return every | {column.name: every[column.key] for column in self.columns.values()}

    def rows_of(self, cell: int | None, member: int | None = None) -> NDArray[np.bool_]:
        """Rows of a cell, or of one of its members; only predicted ones if there are any."""
        found = self.cells == (NO_MEMBER if cell is None else cell)
        found &= self.members == member if member is not None else True
        return found & self.predicted if (found & self.predicted).any() else found


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """Measures of the cells of a labels layer, to compare with predicted ones.

    ``table`` is from `measure_labels`, a row for each cell; ``centres`` are in the world, (z, y, x); ``note``
    is for the user.
    """

    name: str
    table: pd.DataFrame
    centres: Mapping[int, NDArray[np.float64]]
    note: str = ""


def cells_content(
    cells: pd.DataFrame | None,
    name: str = "prediction",
    measured: Measured | None = None,
    ranking: pd.DataFrame | None = None,
) -> TableContent:
    """A row for each cell of `measure_cells`, and one for the same cell of a labels layer.

    ``ranking`` is from `rank_cells`: which cells deserve a z-stack most; or from `next_planes`, with the
    names of `NEXT_PLANE`: which plane to image next.
    """
    tables = [] if cells is None else [without_attrs(cells).assign(source=name, predicted=True)]
    texts: dict[str, str] = {} if cells is None else dict(cells.attrs["columns"])
    if measured is not None:
        known = [one for one in measured.table if one in SHOWN_MEASURES]
        renamed = {one: f"{one}_mean" for one in known}
        other = without_attrs(measured.table)[["label", *known]].rename(columns=renamed)
        tables.append(other.assign(source=measured.name, predicted=False))
        own = measured.table.attrs["columns"]
        texts = {"label": own["label"], **{f"{one}_mean": own[one] for one in known}} | texts
    frame, predicted = _stacked(tables, [*texts])
    frame = frame.assign(**{one: _words(frame[one]) for one in ("kept", "warning") if one in frame})
    if ranking is not None:
        ranked = [one for one in (*RANKING, *NEXT_PLANE.values()) if one in ranking]
        own = without_attrs(ranking).set_index("label")[ranked].reindex(frame["label"])
        own = own.set_index(frame.index).astype({"rank": "Int64"})
        own[~predicted] = pd.NA
        frame = pd.concat([frame, own], axis=1)
        texts |= {one: ranking.attrs["columns"][one] for one in ranked}
    exported = _exported(frame, texts)
    if "kept" in frame:
        frame = frame.assign(kept=_shown_kept(frame["kept"]))
    columns = {"cell": cell_column(frame)}
    if measured is not None:
        columns["source"] = source_column(frame)
    if ranking is not None:
        columns |= ranking_columns(frame, ranking.attrs)
    for one in measures_of(frame, "_mean"):
        columns[one] = estimate_column(frame, one, texts[f"{one}_mean"])
    if "ambiguity" in frame:
        columns |= agreement_columns(frame)
    return TableContent(
        columns,
        frame,
        exported,
        whole_numbers(frame, "label"),
        np.full(len(frame), NO_MEMBER),
        predicted,
        notes(frame),
    )


def members_content(
    measures: pd.DataFrame | None,
    name: str = "prediction",
    measured: Measured | None = None,
    kept: Mapping[int, Kept] | None = None,
) -> TableContent:
    """A row for each member, from 1, of the table of `measure`; one for the same cell of a labels layer."""
    tables = [] if measures is None else [without_attrs(measures).assign(source=name, predicted=True)]
    texts: dict[str, str] = {} if measures is None else dict(measures.attrs["columns"])
    if measured is not None:
        known = [one for one in measured.table if one in SHOWN_MEASURES or one == "label"]
        tables.append(without_attrs(measured.table)[known].assign(source=measured.name, predicted=False))
        texts = dict(measured.table.attrs["columns"]) | texts
    frame, predicted = _stacked(tables, [*texts])
    members = np.full(len(frame), NO_MEMBER)
    members[predicted] = whole_numbers(frame, "member")[predicted]
    numbers = pd.Series(members, dtype="Int64").mask(members < 0)
    shapes = [f"member {member + 1}" if member >= 0 else "" for member in members]
    frame = frame.assign(member=numbers + 1)
    places = frame.assign(member=numbers)
    places.insert(3, "shape", shapes)
    texts["shape"] = "no unit: name of the member in the window, where they count from 1"
    exported = _exported(places, texts)
    labels = whole_numbers(frame, "label")
    chosen = np.array(
        [m >= 0 and (kept or {}).get(int(c)) == m for c, m in zip(labels, members, strict=True)], dtype=bool
    )

    def member(row: int) -> str:
        return "" if members[row] < 0 else f"{members[row] + 1}{' ★' if chosen[row] else ''}"

    about = "Member, from 1; ★: the kept shape"
    columns = {
        "cell": cell_column(frame),
        "member": Column("member", "member", about, member, ("member",)),
    }
    if measured is not None:
        columns["source"] = source_column(frame)
    for one in measures_of(frame, ""):
        columns[one] = value_column(frame, one, texts[one])
    return TableContent(columns, frame, exported, labels, members, predicted, [""] * len(frame))


def _stacked(tables: list[pd.DataFrame], names: list[str]) -> tuple[pd.DataFrame, NDArray[np.bool_]]:
    """The tables in one, rows of a cell together; and which rows are predicted.

    Columns that no table has are empty.
    """
    if not tables:
        return pd.DataFrame({"label": [], "source": [], "member": []}), np.zeros(0, bool)
    frame = pd.concat(tables, ignore_index=True)
    predicted = frame.pop("predicted").to_numpy(dtype=bool)
    order = np.argsort(frame["label"].to_numpy(), kind="stable")
    frame = frame.iloc[order].reset_index(drop=True)
    columns = ["label", "source", *(name for name in names if name != "label")]
    return frame.reindex(columns=columns), predicted[order]


def _exported(frame: pd.DataFrame, texts: Mapping[str, str]) -> pd.DataFrame:
    """The table with its column dictionary."""
    exported = frame.copy()
    exported.attrs["columns"] = {
        **texts,
        "source": "no unit: the prediction, or the labels layer that was measured",
    }
    return exported


def _words(column: "pd.Series[Any]") -> "pd.Series[Any]":
    return column.astype(object).where(column.notna(), "")


def _shown_kept(column: "pd.Series[Any]") -> list[str]:
    """Members counted from 1."""
    return [f"member {int(one.split()[1]) + 1}" if one.startswith("member") else one for one in column]
