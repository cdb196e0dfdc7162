"""What the tables of morphometry hold: columns over NumPy arrays, of predicted and of real cells. No Qt."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from napari_dispr.results import Kept
from napari_dispr.shapes.intervals import LEVEL
from napari_dispr.shapes.measures import HEADLINE, MASK_MEASURES, MEASURES, PICTURE_MEASURES
from napari_dispr.widgets.wording import estimate, heading, plain

_ABOUT_SD = "Mean over the shapes ± their standard deviation."
_ABOUT_INTERVAL = (
    f"Mean over the shapes, and the {LEVEL:.0%} interval: of cells like those that the model was made for, "
    f"about {round(10 * LEVEL)} in 10 have their true value in it. It comes from cells of known shape and "
    "does not hold for a cell with a warning."
)
_ABOUT_AMBIGUITY = (
    "How much the picture leaves open: the share by which two shapes of the cell differ (1 - IoU, mean over "
    "all pairs). 0: all shapes are the same. In brackets the number of quite different groups of shapes, if "
    "there are several."
)
_ABOUT_MODES = (
    "Groups of quite different shapes among those of the cell. More than one: the picture fits them all, and "
    "the mean may be like none of them."
)
_ABOUT_CELL = "Label of the cell; ⚠: it is unlike the cells that the model was trained on"
_ABOUT_SOURCE = "The prediction, or the 3D labels layer that was measured"

#: Measures that have a column, where the table has them.
_KNOWN = MEASURES | MASK_MEASURES | PICTURE_MEASURES

#: What stands for the number of a member in rows that are of no member.
NO_MEMBER = -1


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """A column as it is shown.

    Attributes
    ----------
    name : str
    heading : str
        With the unit, on up to two lines.
    about : str
        What it is, for a tooltip.
    group : str
        Of the measure; empty of columns that are no measures.
    key : str
        The column of the frame that it is sorted by.
    parts : tuple of str
        The columns of the frame that it shows, which are copied.
    text : callable
        What stands in a row.
    """

    name: str
    heading: str
    about: str
    group: str
    key: str
    parts: tuple[str, ...]
    text: Callable[[int], str]


@dataclass(frozen=True, eq=False)
class TableContent:
    """Rows and columns of a table.

    Attributes
    ----------
    columns : dict of str to Column
        By name, in their order.
    frame : DataFrame
        The numbers as they are shown and copied: members count from 1.
    filed : DataFrame
        The same as files have it: members count from 0; ``attrs["columns"]`` has units and meanings.
    cells, members : (row,) int arrays
        Label of each row, and number of its member or `NO_MEMBER`.
    predicted : (row,) bool array
        Whether a row is of the prediction; others are of a labels layer.
    notes : sequence of str
        What is unusual about the cell of each row.
    """

    columns: dict[str, Column]
    frame: pd.DataFrame
    filed: pd.DataFrame
    cells: NDArray[np.int64]
    members: NDArray[np.int64]
    predicted: NDArray[np.bool_]
    notes: Sequence[str]

    def __len__(self) -> int:
        return len(self.cells)

    def values(self, name: str) -> NDArray[Any]:
        """The numbers or words by which a column is sorted."""
        return self.arrays[self.columns[name].key]

    @property
    def measures(self) -> list[str]:
        """Names of the columns that are measures."""
        return [name for name, column in self.columns.items() if column.group]

    @cached_property
    def arrays(self) -> dict[str, NDArray[Any]]:
        """The frame's columns as arrays: floating numbers, or words."""
        return {
            str(name): column.to_numpy(dtype=np.float64, na_value=np.nan)
            if pd.api.types.is_numeric_dtype(column)
            else column.fillna("").to_numpy(dtype=str)
            for name, column in self.frame.items()
        }

    @cached_property
    def filtered_by(self) -> dict[str, NDArray[Any]]:
        """What a filter may name: each column that is shown, and those of the frame."""
        shown = {column.name: self.arrays[column.key] for column in self.columns.values()}
        return {**self.arrays, **shown}

    def rows_of(self, cell: int | None, member: int | None = None) -> NDArray[np.bool_]:
        """Which rows are of a cell, or of one member of it; predicted ones, where there are any."""
        found = self.cells == (NO_MEMBER if cell is None else cell)
        found &= self.members == member if member is not None else True
        return found & self.predicted if (found & self.predicted).any() else found


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """Measures of the cells of a labels layer, to set beside predicted ones.

    Attributes
    ----------
    name : str
        Of the layer.
    table : DataFrame
        A row a cell, of `measure_labels`.
    centres : mapping of int to (3,) array
        Centre of each cell in the world, (z, y, x).
    note : str
        What the user should know.
    """

    name: str
    table: pd.DataFrame
    centres: Mapping[int, NDArray[np.float64]]
    note: str = ""


def cells_content(
    cells: pd.DataFrame | None, name: str = "prediction", measured: Measured | None = None
) -> TableContent:
    """A row a cell, and beside each the same cell of a labels layer.

    Parameters
    ----------
    cells : DataFrame or None
        Of `measure_cells`.
    name : str
        Of the prediction.
    measured : Measured, optional
    """
    tables = [] if cells is None else [_bare(cells).assign(source=name, predicted=True)]
    texts: dict[str, str] = {} if cells is None else dict(cells.attrs["columns"])
    if measured is not None:
        known = [one for one in measured.table if one in _KNOWN]
        renamed = {one: f"{one}_mean" for one in known}
        other = _bare(measured.table)[["label", *known]].rename(columns=renamed)
        tables.append(other.assign(source=measured.name, predicted=False))
        own = measured.table.attrs["columns"]
        texts = {"label": own["label"], **{f"{one}_mean": own[one] for one in known}} | texts
    frame, predicted = _stacked(tables, [*texts])
    frame = frame.assign(**{one: _words(frame[one]) for one in ("kept", "warning") if one in frame})
    filed = _filed(frame, texts)
    if "kept" in frame:
        frame = frame.assign(kept=_shown_kept(frame["kept"]))
    columns = {"cell": _cell_column(frame), **_source_column(frame, measured)}
    for one in _measures_of(frame, "_mean"):
        columns[one] = _estimate_column(frame, one, texts[f"{one}_mean"])
    if "ambiguity" in frame:
        columns |= _agreement_columns(frame)
    return TableContent(
        columns,
        frame,
        filed,
        _numbers(frame, "label"),
        np.full(len(frame), NO_MEMBER),
        predicted,
        _notes(frame),
    )


def members_content(
    measures: pd.DataFrame | None,
    name: str = "prediction",
    measured: Measured | None = None,
    kept: Mapping[int, Kept] | None = None,
) -> TableContent:
    """A row a cell and member, counted from 1, and beside them the same cells of a labels layer.

    Parameters
    ----------
    measures : DataFrame or None
        Of `measure`.
    name : str
        Of the prediction.
    measured : Measured, optional
    kept : mapping of int to int or "consensus", optional
        The shapes that were chosen.
    """
    tables = [] if measures is None else [_bare(measures).assign(source=name, predicted=True)]
    texts: dict[str, str] = {} if measures is None else dict(measures.attrs["columns"])
    if measured is not None:
        known = [one for one in measured.table if one in _KNOWN or one == "label"]
        tables.append(_bare(measured.table)[known].assign(source=measured.name, predicted=False))
        texts = dict(measured.table.attrs["columns"]) | texts
    frame, predicted = _stacked(tables, [*texts])
    members = np.full(len(frame), NO_MEMBER)
    members[predicted] = _numbers(frame, "member")[predicted]
    numbers = pd.Series(members, dtype="Int64").mask(members < 0)
    shapes = [f"member {member + 1}" if member >= 0 else "" for member in members]
    frame = frame.assign(member=numbers + 1)
    places = frame.assign(member=numbers)
    places.insert(3, "shape", shapes)
    texts["shape"] = "no unit: what the window calls the member; there they count from 1"
    filed = _filed(places, texts)
    labels = _numbers(frame, "label")
    chosen = np.array(
        [m >= 0 and (kept or {}).get(int(c)) == m for c, m in zip(labels, members, strict=True)], dtype=bool
    )
    columns = {
        "cell": _cell_column(frame),
        "member": Column(
            "member", "member", "Shape, from 1; ★: the one that was kept", "", "member", ("member",),
            lambda row: "" if members[row] < 0 else f"{members[row] + 1}{' ★' if chosen[row] else ''}",
        ),
        **_source_column(frame, measured),
    }  # fmt: skip
    for one in _measures_of(frame, ""):
        columns[one] = _value_column(frame, one, texts[one])
    return TableContent(columns, frame, filed, labels, members, predicted, [""] * len(frame))


def tab_separated(table: pd.DataFrame) -> str:
    """A table as it is pasted into a spreadsheet; numbers in full. pandas takes five times as long."""
    columns = [[_pasted(value) for value in table[name].tolist()] for name in table]
    rows = zip(*columns, strict=True)
    return "".join("\t".join(row) + "\n" for row in [tuple(map(str, table.columns)), *rows])


def _pasted(value: Any) -> str:
    if value is pd.NA or value is None or value != value:
        return ""
    return str(value).replace("\t", " ").replace("\n", " ")


def _bare(table: pd.DataFrame) -> pd.DataFrame:
    """The table without its attrs, of which pandas makes a deep copy at every step."""
    bare = table.copy(deep=False)
    bare.attrs = {}
    return bare


def _stacked(tables: list[pd.DataFrame], names: list[str]) -> tuple[pd.DataFrame, NDArray[np.bool_]]:
    """The tables below one another, rows of a cell together; and which rows are predicted."""
    if not tables:
        return pd.DataFrame({"label": [], "source": [], "member": []}), np.zeros(0, bool)
    frame = pd.concat(tables, ignore_index=True)
    predicted = frame.pop("predicted").to_numpy(dtype=bool)
    order = np.argsort(frame["label"].to_numpy(), kind="stable")
    frame = frame.iloc[order].reset_index(drop=True)
    return frame[["label", "source", *(name for name in names if name != "label")]], predicted[order]


def _filed(frame: pd.DataFrame, texts: Mapping[str, str]) -> pd.DataFrame:
    """The table with its column dictionary."""
    filed = frame.copy()
    filed.attrs["columns"] = {
        **texts,
        "source": "no unit: the prediction, or the labels layer that was measured",
    }
    return filed


def _words(column: "pd.Series[Any]") -> "pd.Series[Any]":
    return column.astype(object).where(column.notna(), "")


def _shown_kept(column: "pd.Series[Any]") -> list[str]:
    """Members counted from 1."""
    return [f"member {int(one.split()[1]) + 1}" if one.startswith("member") else one for one in column]


def _numbers(frame: pd.DataFrame, name: str) -> NDArray[np.int64]:
    column = frame[name] if name in frame else pd.Series(np.zeros(len(frame)))
    return np.asarray(column.fillna(NO_MEMBER), dtype=np.int64)


def _notes(frame: pd.DataFrame) -> list[str]:
    warnings = frame["warning"] if "warning" in frame else [""] * len(frame)
    return [f"Unlike the training data: {warning}" if warning else "" for warning in warnings]


def _measures_of(frame: pd.DataFrame, end: str) -> list[str]:
    return [name for name in _KNOWN if f"{name}{end}" in frame]


def _cell_column(frame: pd.DataFrame) -> Column:
    labels = _numbers(frame, "label")
    # A cell that the model may get wrong is marked; the tooltip of its row says why.
    marks = ["⚠ " if note else "" for note in _notes(frame)]
    return Column(
        "cell", "cell", _ABOUT_CELL, "", "label", ("label",), lambda row: f"{marks[row]}{labels[row]}"
    )


def _source_column(frame: pd.DataFrame, measured: Measured | None) -> dict[str, Column]:
    """Only where there are two sources."""
    if measured is None:
        return {}
    sources = frame["source"].to_numpy(dtype=str)
    return {
        "source": Column(
            "source", "source", _ABOUT_SOURCE, "", "source", ("source",), lambda row: str(sources[row])
        )
    }


def _estimate_column(frame: pd.DataFrame, name: str, text: str) -> Column:
    unit, _, meaning = text.removesuffix(" (mean over the members)").partition(": ")
    calibrated = f"{name}_low" in frame
    ends = ("mean", "sd", *(("low", "high") if calibrated else ()))
    parts = tuple(f"{name}_{end}" for end in ends if f"{name}_{end}" in frame)
    rows = frame[list(parts)].to_numpy(dtype=np.float64)
    sd = () if len(parts) > 1 else (float("nan"),)
    about = f"<p>{meaning}</p><p>{_ABOUT_INTERVAL if calibrated else _ABOUT_SD}</p>"
    return Column(
        name, heading(name, unit), about, _KNOWN[name].group, parts[0], parts,
        lambda row: "" if rows[row, 0] != rows[row, 0] else estimate(*rows[row], *sd),
    )  # fmt: skip


def _value_column(frame: pd.DataFrame, name: str, text: str) -> Column:
    unit, _, meaning = text.partition(": ")
    values = frame[name].to_numpy(dtype=np.float64)
    return Column(
        name, heading(name, unit), meaning, _KNOWN[name].group, name, (name,),
        lambda row: plain(values[row]),
    )  # fmt: skip


def _agreement_columns(frame: pd.DataFrame) -> dict[str, Column]:
    ambiguity, modes = (frame[one].to_numpy(dtype=np.float64) for one in ("ambiguity", "modes"))

    def share(row: int) -> str:
        several = f" ({modes[row]:.0f})" if modes[row] > 1 else ""
        return "" if ambiguity[row] != ambiguity[row] else f"{ambiguity[row]:.2f}{several}"

    columns = [
        Column(
            "ambiguity", "ambiguity", f"<p>{_ABOUT_AMBIGUITY}</p>", "", "ambiguity",
            ("ambiguity", "modes"), share,
        ),
        Column("modes", "modes", f"<p>{_ABOUT_MODES}</p>", "", "modes", ("modes",),
               lambda row: plain(modes[row])),
    ]  # fmt: skip
    for name, about in (
        ("kept", "The shape that was chosen as the cell's; empty: none"),
        ("warning", "How the cell is unlike those that the model was trained on; empty: it is like them"),
    ):
        words = frame[name].to_numpy(dtype=str)
        columns.append(Column(name, name, about, "", name, (name,), lambda row, w=words: str(w[row])))  # type: ignore[misc]
    return {column.name: column for column in columns}


__all__ = [
    "HEADLINE",
    "NO_MEMBER",
    "Column",
    "Measured",
    "TableContent",
    "cells_content",
    "members_content",
    "tab_separated",
]
