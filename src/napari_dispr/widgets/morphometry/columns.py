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
    group : str
        Group of the measure; empty for other columns.
    key : str
        The column of the frame that sorts it.
    parts : tuple of str
        The columns of the frame that it shows and copies.
    text : callable
        The text of a row.
    """

    name: str
    heading: str
    about: str
    group: str
    key: str
    parts: tuple[str, ...]
    text: Callable[[int], str]


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


def cell_column(frame: pd.DataFrame) -> Column:
    """Label of the cell, with a mark if there is a warning."""
    labels = whole_numbers(frame, "label")
    # A cell that the model may get wrong is marked; the tooltip of its row says why.
    marks = ["⚠ " if note else "" for note in notes(frame)]
    return Column(
        "cell", "cell", _ABOUT_CELL, "", "label", ("label",), lambda row: f"{marks[row]}{labels[row]}"
    )


def source_column(frame: pd.DataFrame) -> Column:
    """The prediction, or the labels layer that was measured."""
    sources = frame["source"].to_numpy(dtype=str)
    return Column("source", "source", _ABOUT_SOURCE, "", "source", ("source",), lambda row: str(sources[row]))


def estimate_column(frame: pd.DataFrame, name: str, text: str) -> Column:
    """A measure's mean and its uncertainty; ``text`` is from the column dictionary."""
    unit, _, meaning = text.removesuffix(" (mean over the members)").partition(": ")
    calibrated = f"{name}_low" in frame
    ends = ("mean", "sd", *(("low", "high") if calibrated else ()))
    parts = tuple(f"{name}_{end}" for end in ends if f"{name}_{end}" in frame)
    values = [frame[part].to_numpy(dtype=np.float64) for part in parts]  # no copies: a batch has many rows
    sd = () if len(parts) > 1 else (float("nan"),)
    about = f"<p>{meaning}</p><p>{_ABOUT_INTERVAL if calibrated else _ABOUT_SD}</p>"
    return Column(
        name, heading(name, unit), about, SHOWN_MEASURES[name].group, parts[0], parts,
        lambda row: "" if values[0][row] != values[0][row] else estimate(*(one[row] for one in values), *sd),
    )  # fmt: skip


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
    return {
        "rank": _rank_column(ranks, _ABOUT_RANK),
        "expected_gain": Column(
            "expected_gain", f"expected gain\n{words_of(attrs['measure'])}", about, "", "expected_gain",
            ("expected_gain",), gain,
        ),
    }  # fmt: skip


def _rank_column(ranks: NDArray[np.float64], about: str) -> Column:
    return Column(
        "rank", "rank", about, "", "rank", ("rank",),
        lambda row: "" if ranks[row] != ranks[row] else f"{ranks[row]:.0f}",
    )  # fmt: skip


def _plane_columns(frame: pd.DataFrame, texts: Mapping[str, str]) -> dict[str, Column]:
    """Which plane of each cell to image next, and what it should gain."""
    columns = {"rank": _rank_column(frame["rank"].to_numpy(np.float64, na_value=np.nan), _ABOUT_PLANE_RANK)}
    for name in NEXT_PLANE.values():
        unit, _, meaning = texts[name].partition(": ")
        values = frame[name].to_numpy(dtype=np.float64, na_value=np.nan)
        title = heading(name.removeprefix("next_plane_"), unit, " ").replace("iou", "IoU")
        columns[name] = Column(
            name, f"next plane:\n{title}", f"<p>{meaning[0].upper()}{meaning[1:]}</p>", "", name, (name,),
            lambda row, values=values: plain(values[row]),  # type: ignore[misc]
        )  # fmt: skip
    return columns


def value_column(frame: pd.DataFrame, name: str, text: str) -> Column:
    """A measure of one shape; ``text`` is from the column dictionary."""
    unit, _, meaning = text.partition(": ")
    values = frame[name].to_numpy(dtype=np.float64)
    return Column(
        name, heading(name, unit), meaning, SHOWN_MEASURES[name].group, name, (name,),
        lambda row: plain(values[row]),
    )  # fmt: skip


def agreement_columns(frame: pd.DataFrame) -> dict[str, Column]:
    """Agreement of the shapes of a cell, the kept one, and its warning."""
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
        ("kept", "The kept shape; empty: none"),
        ("warning", "How the cell differs from the cells that the model was trained on; empty: it does not"),
    ):
        words = frame[name].to_numpy(dtype=str)
        columns.append(Column(name, name, about, "", name, (name,), lambda row, w=words: str(w[row])))  # type: ignore[misc]
    return {column.name: column for column in columns}
