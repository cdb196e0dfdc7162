"""The columns of the tables of morphometry: their text and their meaning. No Qt."""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from napari_dispr.errors import words_of
from napari_dispr.shapes.intervals import LEVEL
from napari_dispr.shapes.measures import MASK_MEASURES, MEASURES, PICTURE_MEASURES, unit_sign
from napari_dispr.widgets.parts.wording import estimate, gain_text, heading, plain

_ABOUT_SD = "Mean over the shapes ± their standard deviation."
_ABOUT_INTERVAL = (
    f"Mean over the shapes, and the {LEVEL:.0%} interval: it contains the true value of about "
    f"{round(10 * LEVEL)} in 10 cells of the kind that the model was trained on. It was calibrated on cells "
    "of known shape and is not valid for a cell with a warning."
)
_ABOUT_AMBIGUITY = (
    "How different the shapes of the cell are: 1 - IoU, mean over all pairs of shapes. 0: all are the same. "
    "In brackets the number of kinds of shape, if there are several."
)
_ABOUT_MODES = (
    "Kinds of shape: groups of similar shapes of the cell. More than one: all of them fit the picture, and "
    "the mean may resemble none of them."
)
_ABOUT_RANK = (
    "<p>1: the cell for which a z-stack helps most, since its measure has the largest expected error.</p>"
    "<p>The error of a cell with a warning may be larger than expected.</p>"
)
_ABOUT_PLANE_RANK = (
    "<p>1: the cell for which one more plane helps most, since it should raise the IoU of its consensus "
    "most.</p>"
)
_ABOUT_CELL = "Label of the cell; ⚠: it differs from the cells that the model was trained on"
_ABOUT_SOURCE = "The prediction, or the 3D labels layer that was measured"

#: Measures that get a column if the table has them.
SHOWN_MEASURES = MEASURES | MASK_MEASURES | PICTURE_MEASURES

#: Columns of `rank_cells` in a table of cells.
RANKING = ("rank", "expected_gain")
#: Columns of `next_planes`, and their names in a table of cells.
NEXT_PLANE = {
    "depth": "next_plane_depth",
    "disagreement": "next_plane_disagreement",
    "volume_gain": "next_plane_volume_gain",
    "iou_gain": "next_plane_iou_gain",
}
#: Number of the member in rows without one.
NO_MEMBER = -1


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """A column on screen.

    Attributes
    ----------
    heading : str
        With the unit, on up to two lines.
    about : str
        Its meaning, for a tooltip.
    text : callable
        The text of a row.
    parts : tuple of str
        The columns of the frame that it shows and copies; the first one sorts it.
    group : str
        Group of the measure; empty for other columns.
    """

    name: str
    heading: str
    about: str
    text: Callable[[int], str]
    parts: tuple[str, ...]
    group: str = ""

    @property
    def key(self) -> str:
        """The column of the frame that sorts it."""
        return self.parts[0]


def whole_numbers(frame: pd.DataFrame, name: str) -> NDArray[np.int64]:
    """A column of labels or members; `NO_MEMBER` where a row has none."""
    column = frame[name] if name in frame else pd.Series(np.zeros(len(frame)))
    return np.asarray(column.fillna(NO_MEMBER), dtype=np.int64)


def notes(frame: pd.DataFrame) -> list[str]:
    """Warnings about the cell of each row."""
    warnings = frame["warning"] if "warning" in frame else [""] * len(frame)
    return [f"Unlike the training data: {warning}" if warning else "" for warning in warnings]


def measures_of(frame: pd.DataFrame, end: str) -> list[str]:
    """The measures of the table whose columns have this ending."""
    return [name for name in SHOWN_MEASURES if f"{name}{end}" in frame]


def words_column(name: str, heading: str, about: str, values: NDArray[Any]) -> Column:
    """A column of words."""
    return Column(name, heading, about, lambda row: str(values[row]), (name,))


def numbers_column(
    name: str, heading: str, about: str, values: NDArray[np.float64], group: str = ""
) -> Column:
    """A column of numbers with up to four digits."""
    return Column(name, heading, about, lambda row: plain(values[row]), (name,), group)


def cell_column(frame: pd.DataFrame) -> Column:
    """Label of the cell, with a mark if there is a warning."""
    labels = whole_numbers(frame, "label")
    # A cell that the model may get wrong is marked; the tooltip of its row says why.
    marks = ["⚠ " if note else "" for note in notes(frame)]
    return Column("cell", "cell", _ABOUT_CELL, lambda row: f"{marks[row]}{labels[row]}", ("label",))


def source_column(frame: pd.DataFrame) -> Column:
    """The prediction, or the labels layer that was measured."""
    return words_column("source", "source", _ABOUT_SOURCE, frame["source"].to_numpy())


def estimate_column(frame: pd.DataFrame, name: str, text: str) -> Column:
    """A measure's mean and its uncertainty; ``text`` is from the column dictionary."""
    unit, _, meaning = text.removesuffix(" (mean over the members)").partition(": ")
    calibrated = f"{name}_low" in frame
    ends = ("mean", "sd", *(("low", "high") if calibrated else ()))
    parts = tuple(f"{name}_{end}" for end in ends if f"{name}_{end}" in frame)
    values = [frame[part].to_numpy(dtype=np.float64) for part in parts]  # no copies: a batch has many rows
    sd = () if len(parts) > 1 else (float("nan"),)
    about = f"<p>{meaning}</p><p>{_ABOUT_INTERVAL if calibrated else _ABOUT_SD}</p>"

    def text_of(row: int) -> str:
        return "" if values[0][row] != values[0][row] else estimate(*(one[row] for one in values), *sd)

    return Column(name, heading(name, unit), about, text_of, parts, SHOWN_MEASURES[name].group)


def ranking_columns(frame: pd.DataFrame, attrs: Mapping[Hashable, Any]) -> dict[str, Column]:
    """Rank and expected gain; ``attrs`` are those of the table of `rank_cells` or of `next_planes`."""
    if "measure" not in attrs:
        return _plane_columns(frame, attrs["columns"])
    ranks, gains = (frame[one].to_numpy(dtype=np.float64) for one in RANKING)
    unit, _, meaning = attrs["columns"]["expected_gain"].partition(": ")

    def gain(row: int) -> str:
        return "" if gains[row] != gains[row] else gain_text(gains[row], attrs["relative"])

    sign = unit_sign(unit)
    own_unit = f", in {sign}" if sign else ""
    about = f"<p>{meaning[0].upper()}{meaning[1:]}{own_unit}: expected effect of a z-stack</p>"
    title = f"expected gain\n{words_of(attrs['measure'])}"
    return {
        "rank": numbers_column("rank", "rank", _ABOUT_RANK, ranks),
        "expected_gain": Column("expected_gain", title, about, gain, ("expected_gain",)),
    }


def _plane_columns(frame: pd.DataFrame, texts: Mapping[str, str]) -> dict[str, Column]:
    """Which plane of each cell to image next, and what it should gain."""
    ranks = frame["rank"].to_numpy(np.float64, na_value=np.nan)
    columns = {"rank": numbers_column("rank", "rank", _ABOUT_PLANE_RANK, ranks)}
    for name in NEXT_PLANE.values():
        unit, _, meaning = texts[name].partition(": ")
        values = frame[name].to_numpy(dtype=np.float64, na_value=np.nan)
        title = heading(name.removeprefix("next_plane_"), unit, " ").replace("iou", "IoU")
        about = f"<p>{meaning[0].upper()}{meaning[1:]}</p>"
        columns[name] = numbers_column(name, f"next plane:\n{title}", about, values)
    return columns


def value_column(frame: pd.DataFrame, name: str, text: str) -> Column:
    """A measure of one shape; ``text`` is from the column dictionary."""
    unit, _, meaning = text.partition(": ")
    values = frame[name].to_numpy(dtype=np.float64)
    return numbers_column(name, heading(name, unit), meaning, values, SHOWN_MEASURES[name].group)


def agreement_columns(frame: pd.DataFrame) -> dict[str, Column]:
    """Agreement of the shapes of a cell, the kept one, and its warning."""
    ambiguity, modes = (frame[one].to_numpy(dtype=np.float64) for one in ("ambiguity", "modes"))

    def share(row: int) -> str:
        several = f" ({modes[row]:.0f})" if modes[row] > 1 else ""
        return "" if ambiguity[row] != ambiguity[row] else f"{ambiguity[row]:.2f}{several}"

    columns = [
        Column("ambiguity", "ambiguity", f"<p>{_ABOUT_AMBIGUITY}</p>", share, ("ambiguity", "modes")),
        numbers_column("modes", "modes", f"<p>{_ABOUT_MODES}</p>", modes),
    ]
    for name, about in (
        ("kept", "The kept shape; empty: none"),
        ("warning", "How the cell differs from the cells that the model was trained on; empty: it does not"),
    ):
        columns.append(words_column(name, name, about, frame[name].to_numpy()))
    return {column.name: column for column in columns}
