"""The classification experiment as files: tables, JSON, and a figure in the form of the paper's Fig. 5."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from napari_dispr.evaluation.f1 import Predicted
from napari_dispr.files import write_json, written_aside
from napari_dispr.prediction.saving import write_table

_SCORES = {"macro_f1": "macro F1", "weighted_f1": "weighted F1"}
#: Fit for one column of a page of two, and legible there; inches and points.
_COLUMN, _TEXT = 3.5, 8
_COLOURS = {"macro_f1": "#1f5a94", "weighted_f1": "#9bb8d3"}


def write_classification(
    folder: Path, summary: Mapping[str, Any], results: Sequence[Predicted], classes: Mapping[str, str]
) -> None:
    """Write ``classification.json``, ``.csv`` and ``.png``, ``predictions.csv`` and ``table.md``.

    Parameters
    ----------
    folder : path
    summary : dict
        From `iter_classify`.
    results : sequence of Predicted
    classes : mapping of name to class
    """
    rows = [
        (one.arm, one.seed, one.fold, name, classes[name], found)
        for one in results
        for name, found in one.classes.items()
    ]
    predictions = pd.DataFrame(rows, columns=["arm", "seed", "fold", "cell", "class", "predicted"])
    predictions.attrs["columns"] = {
        "arm": "no unit: features and what was added to the training part",
        "seed": "no unit: repetition, from 0",
        "fold": "no unit: test fold of the cell",
        "cell": "no unit: name of the cell",
        "class": "no unit: its class",
        "predicted": "no unit: the class that the forest gave it",
    }
    write_table(folder / "predictions.csv", predictions)
    write_table(folder / "classification.csv", _scores(summary))
    with written_aside(folder / "table.md") as aside:
        aside.write_text(markdown(summary) + "\n", encoding="utf-8")
    with written_aside(folder / "classification.png") as aside:
        draw(summary, aside)
    write_json(folder / "classification.json", summary)


def _scores(summary: Mapping[str, Any]) -> pd.DataFrame:
    """A row an arm and repetition."""
    rows = [
        (arm, seed, *(told[score]["seeds"][seed] for score in _SCORES))
        for arm, told in summary["arms"].items()
        for seed in range(len(told["macro_f1"]["seeds"]))
    ]
    table = pd.DataFrame(rows, columns=["arm", "seed", *_SCORES])
    table.attrs["columns"] = {
        "arm": "no unit: features and what was added to the training part",
        "seed": "no unit: repetition, from 0",
        "macro_f1": "no unit: mean over classes of F1, all cells tested once",
        "weighted_f1": "no unit: mean over cells of the F1 of their class, all cells tested once",
    }
    return table


def markdown(summary: Mapping[str, Any]) -> str:
    """F1 of each arm and the differences between arms, in percent, as Markdown."""
    lines = [
        "| training | macro F1, % | interval | folds | weighted F1, % | interval | folds |",
        "| --- | ---: | --- | --- | ---: | --- | --- |",
    ]
    for arm, told in summary["arms"].items():
        parts = [arm]
        for score in _SCORES:
            one = told[score]
            parts += [_percent(one["mean"]), _interval(one["interval"])]
            parts.append(f"{_percent(one['folds_mean'])} ± {_percent(one['folds_sd'])}")
        lines.append(f"| {' | '.join(parts)} |")
    lines += ["", "| difference | macro F1, points | interval | weighted F1 | interval |"]
    lines.append("| --- | ---: | --- | ---: | --- |")
    for name, told in summary["differences"].items():
        parts = [name]
        for score in _SCORES:
            parts += [_percent(told[score]["mean"], "+"), _interval(told[score]["interval"], "+")]
        lines.append(f"| {' | '.join(parts)} |")
    counts = ", ".join(f"{name} {count}" for name, count in summary["classes"].items())
    lines += [
        "",
        f"Cells: {counts}. "
        + (f"Predicted shapes were added of: {', '.join(summary['rare'])}. " if summary["rare"] else "")
        + f"Folds: {summary['settings']['folds']}; repetitions: {summary['settings']['seeds']}. F1 of all "
        f"test folds together; interval: {summary['interval']}. Folds: mean ± sd over folds and repetitions, "
        "as the paper gives it.",
    ]
    return "\n".join(lines)


def _percent(value: float | None, sign: str = "") -> str:
    return "–" if value is None else f"{100 * value:{sign}.1f}"


def _interval(ends: Sequence[float], sign: str = "") -> str:
    return f"[{_percent(ends[0], sign)}, {_percent(ends[1], sign)}]"


def draw(summary: Mapping[str, Any], path: Path) -> None:
    """F1 of each arm with its interval, and confusion matrices: without and with what was added.

    Parameters
    ----------
    summary : dict
    path : path
        PNG, 300 dots per inch.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    arms = list(summary["arms"])
    shown = ["3D", *[arm for arm in arms if arm.startswith("3D + ")]]
    if len(shown) == 1:
        shown = [arm for arm in ("2D", "3D") if arm in arms]
    columns = 2 if len(shown) == 4 else min(len(shown), 3)
    rows = -(-len(shown) // columns)
    side = 2 * _COLUMN / columns if columns > 1 else _COLUMN
    with rc_context({"font.size": _TEXT, "axes.linewidth": 0.6, "font.family": "sans-serif"}):
        bars = 0.9 + 0.32 * len(arms)
        figure = Figure((2 * _COLUMN, bars + rows * (0.5 + min(side, 3.4))), layout="constrained")
        FigureCanvasAgg(figure)
        heights = [bars, rows * (0.5 + min(side, 3.4))]
        (above,), (below,) = figure.subfigures(2, 1, height_ratios=heights, squeeze=False)
        _draw_scores(above.subplots(), summary)
        axes = np.atleast_1d(below.subplots(rows, columns, squeeze=False).ravel())
        for axis, arm in zip(axes, shown, strict=False):
            _draw_matrix(axis, arm, summary, named=axis in axes[::columns])
        for axis in axes[len(shown) :]:
            axis.set_visible(False)
        below.supxlabel("predicted class, % of the true one", fontsize=_TEXT)
        figure.savefig(path, dpi=300)


def _draw_scores(axis: Any, summary: Mapping[str, Any]) -> None:
    arms = list(summary["arms"])
    for offset, (score, name) in zip((-0.17, 0.17), _SCORES.items(), strict=True):
        told = [summary["arms"][arm][score] for arm in arms]
        means = 100 * np.array([one["mean"] for one in told])
        ends = 100 * np.array([one["interval"] for one in told]).T
        place = np.arange(len(arms)) + offset
        axis.barh(place, means, 0.32, color=_COLOURS[score], label=name)
        away = np.clip([means - ends[0], ends[1] - means], 0, None)
        axis.errorbar(means, place, xerr=away, fmt="none", ecolor="black", elinewidth=0.8, capsize=2)
        for y, mean, end in zip(place, means, ends[1], strict=True):
            axis.text(max(end, mean) + 1, y, f"{mean:.1f}", va="center", fontsize=_TEXT - 1)
    axis.set_yticks(range(len(arms)), arms)
    axis.invert_yaxis()
    axis.set_xlim(0, 112)
    axis.set_xticks(range(0, 101, 20))
    axis.set_xlabel("F1, % (interval: 95 %, of cells and repetitions)")
    axis.legend(loc="upper center", bbox_to_anchor=(0.45, 1.0 + 0.55 / len(arms)), ncols=2, frameon=False)
    axis.spines[["top", "right"]].set_visible(False)


def _draw_matrix(axis: Any, arm: str, summary: Mapping[str, Any], *, named: bool) -> None:
    kinds = list(summary["classes"])
    matrix = np.array(summary["arms"][arm]["confusion"])
    share = 100 * matrix / matrix.sum(axis=1, keepdims=True)
    axis.imshow(share, cmap="Blues", vmin=0, vmax=100)
    for (y, x), value in np.ndenumerate(share):
        if value >= 0.5:
            colour = "white" if value > 55 else "black"
            axis.text(x, y, f"{value:.0f}", ha="center", va="center", color=colour, fontsize=_TEXT - 1)
    words = [kind.replace("_", " ") for kind in kinds]
    axis.set_xticks(range(len(kinds)), words, rotation=40, ha="right", rotation_mode="anchor")
    numbers = [f"{word} ({summary['classes'][kind]})" for word, kind in zip(words, kinds, strict=True)]
    axis.set_yticks(range(len(kinds)), numbers if named else [])
    if named:
        axis.set_ylabel("true class (cells)")
    axis.set_title(arm, fontsize=_TEXT)
    axis.tick_params(length=0)
