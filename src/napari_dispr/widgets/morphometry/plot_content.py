"""The data of the plots of morphometry, from the content of the tables. No Qt."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from napari_dispr.errors import counted, words_of
from napari_dispr.shapes.intervals import LEVEL
from napari_dispr.widgets.morphometry.columns import NO_MEMBER
from napari_dispr.widgets.morphometry.content import TableContent
from napari_dispr.widgets.parts.wording import heading, plain

Floats = NDArray[np.float64]

#: Bars of a histogram.
_FEWEST, _MOST = 5, 40
#: Groups that fit on the axis.
MOST_GROUPS = 40
#: Points of one kind that are drawn; with more the plot would be slow, and its points would hide each other.
MOST_DRAWN = 5000


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """Points of a plot, each with its cell, and its member or `NO_MEMBER`."""

    x: Floats
    y: Floats
    cells: NDArray[np.int64]
    members: NDArray[np.int64]

    def only(self, which: NDArray[np.bool_]) -> "Points":
        return Points(self.x[which], self.y[which], self.cells[which], self.members[which])

    def of(self, cell: int | None, member: int | None = None) -> NDArray[np.bool_]:
        """Points of a cell, or of one of its members if points have members."""
        found = self.cells == (NO_MEMBER if cell is None else cell)
        return (
            found & ((self.members == member) | (self.members == NO_MEMBER)) if member is not None else found
        )

    def kept(self, members: Mapping[int, int]) -> "Points":
        """The kept members, of which there is at most one for each cell."""
        pairs = zip(self.cells.tolist(), self.members.tolist(), strict=True)
        return self.only(np.array([members.get(cell) == member for cell, member in pairs], dtype=bool))

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True, slots=True, eq=False)
class Strips:
    """A measure by cell or by group: one strip for each of ``labels``, at x = 0, 1, 2, ...

    Attributes
    ----------
    real : Points
        The same cells in the measured labels layer.
    means, low, high : (strip,) arrays
        Mean, and the ends of the interval or mean ± standard deviation; NaN if there is none. Of groups:
        median and quartiles.
    bar : str
        Meaning of low and high.
    """

    labels: list[int] | list[str]
    members: Points
    kept: Points
    real: Points
    means: Floats
    low: Floats
    high: Floats
    bar: str


def strips(
    cells: TableContent,
    members: TableContent,
    shown_cells: NDArray[np.intp],
    shown_members: NDArray[np.intp],
    name: str,
    kept: dict[int, int],
) -> Strips:
    """A measure by cell, in the order of the rows on screen; ``kept`` is the kept member of each cell."""
    labels = list(dict.fromkeys(cells.cells[shown_cells].tolist()))
    place = {label: float(x) for x, label in enumerate(labels)}
    shown = shown_members[np.isin(members.cells[shown_members], labels)]
    x = np.array([place[label] for label in members.cells[shown].tolist()], dtype=np.float64)
    # Members side by side: two of the same value do not hide each other.
    numbers = members.members[shown]
    widest = max(1, int(numbers.max(initial=0)))
    offset = np.where(numbers >= 0, 0.36 * (numbers / widest - 0.5), 0.0)
    predicted = members.predicted[shown]
    every = Points(x + offset, _value(members, name)[shown], members.cells[shown], numbers)
    every, predicted = _finite(every, predicted)
    ours, real = every.only(predicted), every.only(~predicted)
    rows = {int(cells.cells[row]): int(row) for row in shown_cells if cells.predicted[row]}
    own = np.array([rows.get(label, -1) for label in labels], dtype=int)
    means, low, high, bar = _bars(cells, name)
    means, low, high = (np.where(own >= 0, column[own], np.nan) for column in (means, low, high))
    return Strips(labels, ours, ours.kept(kept), real, means, low, high, bar)


def group_strips(content: TableContent, shown: NDArray[np.intp], name: str, group: str) -> tuple[Strips, int]:
    """A measure by group, a column of the content's ``groups``: median, quartiles, and a point for each shown
    cell.

    Returns the strips of the first `MOST_GROUPS` groups, numbers in rising order, words in alphabetical
    order; and the number of all groups.
    """
    values = _value(content, name)[shown]
    codes, groups = pd.factorize(content.frame[group].to_numpy()[shown], sort=True)
    count = len(groups)
    there = np.isfinite(values) & (codes >= 0) & (codes < MOST_GROUPS)
    shown, values, codes = shown[there], values[there], codes[there]
    names = range(min(count, MOST_GROUPS))
    of_group = pd.Series(values).groupby(codes)
    quartiles = of_group.quantile(np.array([0.25, 0.5, 0.75])).unstack().reindex(names)
    low, middle, high = np.array(quartiles, dtype=np.float64).T
    offset = 0.56 * (shown * (np.sqrt(5) - 1) / 2 % 1 - 0.5)  # evenly spread over the strip
    points = Points(codes + offset, values, content.cells[shown], content.members[shown])
    labels = [one if isinstance(one, str) else plain(one) for one in groups[:MOST_GROUPS]]
    none = points.only(np.zeros(len(points), dtype=bool))
    return Strips(labels, points, none, none, middle, low, high, "middle half"), count


def some(points: Points) -> Points:
    """Some of the points, evenly chosen, if there are more than `MOST_DRAWN`."""
    if len(points) <= MOST_DRAWN:
        return points
    chosen = np.zeros(len(points), dtype=bool)
    chosen[np.random.default_rng(0).choice(len(points), MOST_DRAWN, replace=False)] = True
    return points.only(chosen)


def _bars(cells: TableContent, name: str) -> tuple[Floats, Floats, Floats, str]:
    """Mean and ends for each row of cells, and the meaning of the ends."""
    nothing = np.full(max(1, len(cells)), np.nan)
    means = cells.arrays.get(f"{name}_mean", nothing)
    sd = cells.arrays.get(f"{name}_sd", nothing)
    if f"{name}_low" in cells.arrays:
        return means, cells.arrays[f"{name}_low"], cells.arrays[f"{name}_high"], f"{LEVEL:.0%} interval"
    return means, means - sd, means + sd, "± sd"


def scatter(content: TableContent, shown: NDArray[np.intp], x: str, y: str) -> tuple[Points, Points]:
    """Two measures against each other: predicted rows, and those of a labels layer."""
    points = Points(
        _value(content, x)[shown], _value(content, y)[shown], content.cells[shown], content.members[shown]
    )
    points, predicted = _finite(points, content.predicted[shown])
    return points.only(predicted), points.only(~predicted)


@dataclass(frozen=True, slots=True, eq=False)
class Histogram:
    """Frequencies of the values of a measure: the rows in each bar, and all of them as points at their
    values.
    """

    edges: Floats
    predicted: Floats
    real: Floats
    points: Points


def histogram(content: TableContent, shown: NDArray[np.intp], name: str) -> Histogram:
    """Histogram of a measure over the rows on screen."""
    points, real = scatter(content, shown, name, name)
    values = np.concatenate([points.x, real.x])
    every = Points(
        values,
        np.zeros(len(values)),
        np.concatenate([points.cells, real.cells]),
        np.concatenate([points.members, real.members]),
    )
    if not len(values):
        return Histogram(np.array([0.0, 1.0]), np.zeros(1), np.zeros(1), every)
    bars = int(np.clip(np.ceil(1.5 * np.sqrt(len(values))), _FEWEST, _MOST))
    edges = np.histogram_bin_edges(values, bars)
    counts = [np.histogram(one, edges)[0].astype(np.float64) for one in (points.x, real.x)]
    return Histogram(edges, counts[0], counts[1], every)


def axis_label(content: TableContent, name: str) -> str:
    """The name of a measure with its unit, on one line."""
    column = content.columns.get(name)
    return words_of(name) if column is None else heading(name, _unit(content, name), " ")


def _unit(content: TableContent, name: str) -> str:
    texts = content.exported.attrs.get("columns", {})
    text = str(texts.get(f"{name}_mean") or texts.get(name, ""))
    return text.partition(": ")[0] if ": " in text else "no unit"


def agreement_text(cells: TableContent, name: str) -> str:
    """Errors of the estimates against the same cells in the labels layer, in words; empty without one."""
    values = cells.arrays.get(f"{name}_mean")
    if values is None or cells.predicted.all():
        return ""
    ends = {end: cells.arrays.get(f"{name}_{end}", np.nan) for end in ("low", "high")}
    rows = pd.DataFrame({"mean": values, **ends}, index=cells.cells)
    both = rows[cells.predicted].join(rows.loc[~cells.predicted, "mean"].rename("real"), how="inner")
    both = both[np.isfinite(both["mean"]) & np.isfinite(both["real"]) & (both["real"] != 0)]
    if both.empty:
        return ""
    errors = both["mean"] / both["real"] - 1
    text = f"{words_of(name).capitalize()} of {counted(len(both), 'cell')} in both sources: "
    text += f"mean error {errors.abs().mean():.1%}, bias {errors.mean():+.1%}"
    if f"{name}_low" in cells.arrays:
        inside = both["real"].between(both["low"], both["high"]).sum()
        text += f"; {inside} of {both['low'].count()} real values in the {LEVEL:.0%} interval"
    return text + "."


def _value(content: TableContent, name: str) -> Floats:
    return content.values(name) if name in content.columns else np.full(len(content), np.nan)


def _finite(points: Points, predicted: NDArray[np.bool_]) -> tuple[Points, NDArray[np.bool_]]:
    there = np.isfinite(points.x) & np.isfinite(points.y)
    return points.only(there), predicted[there]


def nearest(
    points: Sequence[Points], x: float, y: float, pixel: tuple[float, float]
) -> tuple[int, int, float] | None:
    """The cell and member nearest to a place, and the distance in pixels; None if there is no point.

    ``pixel`` is the size of a pixel along x and y; infinite: ignore that axis.
    """
    best: tuple[int, int, float] | None = None
    for one in points:
        if len(one):
            away = np.hypot((one.x - x) / pixel[0], (one.y - y) / pixel[1])
            i = int(away.argmin())
            if best is None or away[i] < best[2]:
                best = int(one.cells[i]), int(one.members[i]), float(away[i])
    return best
