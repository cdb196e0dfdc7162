"""Write the classification experiment: tables, JSON, and a figure in the form of the paper's Fig. 5."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from napari_dispr.errors import words_of
from napari_dispr.evaluation.f1 import FoldResult
from napari_dispr.evaluation.report import table, write_text
from napari_dispr.export.figures import saved_figure
from napari_dispr.files import write_json
from napari_dispr.prediction.saving import write_table

_SCORES = {"macro_f1": "macro F1", "weighted_f1": "weighted F1"}
#: Width of one column of a two-column page in inches, and the size of the smaller text in points.
_COLUMN, _SMALL = 3.5, 7
_COLOURS = {"macro_f1": "#1f5a94", "weighted_f1": "#9bb8d3"}
_COLUMNS = {
    "arm": "no unit: features, and what was added to the training cells",
    "seed": "no unit: repetition, from 0",
    "fold": "no unit: test fold of the cell",
    "cell": "no unit: name of the cell",
    "class": "no unit: true class of the cell",
    "predicted": "no unit: class that the forest predicted",
    "macro_f1": "no unit: mean over classes of F1, each cell tested once",
    "weighted_f1": "no unit: mean over cells of the F1 of their class, each cell tested once",
}


def write_classification(
    folder: Path, summary: Mapping[str, Any], results: Sequence[FoldResult], classes: Mapping[str, str]
) -> None:
    """Write ``classification.json``, ``.csv`` and ``.png``, ``predictions.csv`` and ``table.md``."""
    predictions = [
        (one.arm, one.seed, one.fold, name, classes[name], found)
        for one in results
        for name, found in one.classes.items()
    ]
    scores = [
        (arm, seed, *(own[score]["seeds"][seed] for score in _SCORES))
        for arm, own in summary["arms"].items()
        for seed in range(len(own["macro_f1"]["seeds"]))
    ]
    for name, columns, rows in (
        ("predictions", ["arm", "seed", "fold", "cell", "class", "predicted"], predictions),
        ("classification", ["arm", "seed", *_SCORES], scores),
    ):
        content = pd.DataFrame(rows, columns=columns)
        content.attrs["columns"] = {column: _COLUMNS[column] for column in columns}
        write_table(folder / f"{name}.csv", content)
    write_text(folder / "table.md", markdown(summary))
    draw(summary, folder / "classification.png")
    write_json(folder / "classification.json", summary)


def markdown(summary: Mapping[str, Any]) -> str:
    """F1 of each arm and the differences between arms, in percent, as Markdown."""
    arms = [
        [arm, *(text for score in _SCORES for text in _texts(own[score]))]
        for arm, own in summary["arms"].items()
    ]
    differences = [
        [name, *(text for score in _SCORES for text in _texts(own[score], "+"))]
        for name, own in summary["differences"].items()
    ]
    spread = ["interval", "folds"]
    counts = ", ".join(f"{name} {count}" for name, count in summary["classes"].items())
    rare = f"Predicted shapes were added to: {', '.join(summary['rare'])}. " if summary["rare"] else ""
    return "\n\n".join(
        [
            table(["training", "macro F1, %", *spread, "weighted F1, %", *spread], arms),
            table(["difference", "macro F1, points", "interval", "weighted F1", "interval"], differences),
            f"Cells: {counts}. {rare}Folds: {summary['settings']['folds']}; repetitions: "
            f"{summary['settings']['seeds']}. F1 is of all test folds together; interval: "
            f"{summary['interval']}. Folds: mean ± sd over folds and repetitions, as in the paper.",
        ]
    )


def _texts(score: Mapping[str, Any], sign: str = "") -> list[str]:
    """Mean and interval of a score in percent, then mean and deviation over folds if there are any."""

    def percent(value: float | None) -> str:
        return "–" if value is None else f"{100 * value:{sign}.1f}"

    low, high = score["interval"]
    texts = [percent(score["mean"]), f"[{percent(low)}, {percent(high)}]"]
    if "folds_mean" in score:
        texts.append(f"{percent(score['folds_mean'])} ± {percent(score['folds_sd'])}")
    return texts


def draw(summary: Mapping[str, Any], path: Path) -> None:
    """A PNG with F1 of each arm and its interval, and the confusion matrices of the arms of 3D features."""
    arms = list(summary["arms"])
    shown = ["3D", *[arm for arm in arms if arm.startswith("3D + ")]]
    if len(shown) == 1:
        shown = [arm for arm in ("2D", "3D") if arm in arms]
    columns = 2 if len(shown) == 4 else min(len(shown), 3)
    rows = -(-len(shown) // columns)
    side = 2 * _COLUMN / columns if columns > 1 else _COLUMN
    heights = [0.9 + 0.32 * len(arms), rows * (0.5 + min(side, 3.4))]
    with saved_figure(path, 2 * _COLUMN, sum(heights)) as figure:
        (above,), (below,) = figure.subfigures(2, 1, height_ratios=heights, squeeze=False)
        _draw_scores(above.subplots(), summary)
        axes = np.atleast_1d(below.subplots(rows, columns, squeeze=False).ravel())
        for axis, arm in zip(axes, shown, strict=False):
            _draw_matrix(axis, arm, summary, named=axis in axes[::columns])
        for axis in axes[len(shown) :]:
            axis.set_visible(False)
        below.supxlabel("predicted class, % of the true one", fontsize="medium")


def _draw_scores(axis: Any, summary: Mapping[str, Any]) -> None:
    arms = list(summary["arms"])
    for offset, (score, name) in zip((-0.17, 0.17), _SCORES.items(), strict=True):
        scores = [summary["arms"][arm][score] for arm in arms]
        means = 100 * np.array([one["mean"] for one in scores])
        ends = 100 * np.array([one["interval"] for one in scores]).T
        place = np.arange(len(arms)) + offset
        axis.barh(place, means, 0.32, color=_COLOURS[score], label=name)
        away = np.clip([means - ends[0], ends[1] - means], 0, None)
        axis.errorbar(means, place, xerr=away, fmt="none", ecolor="black", elinewidth=0.8, capsize=2)
        for y, mean, end in zip(place, means, ends[1], strict=True):
            axis.text(max(end, mean) + 1, y, f"{mean:.1f}", va="center", fontsize=_SMALL)
    axis.set_yticks(range(len(arms)), arms)
    axis.invert_yaxis()
    axis.set_xlim(0, 112)
    axis.set_xticks(range(0, 101, 20))
    axis.set_xlabel("F1, % (95 % interval over cells and repetitions)")
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
            axis.text(x, y, f"{value:.0f}", ha="center", va="center", color=colour, fontsize=_SMALL)
    words = [words_of(kind) for kind in kinds]
    axis.set_xticks(range(len(kinds)), words, rotation=40, ha="right", rotation_mode="anchor")
    numbers = [f"{word} ({summary['classes'][kind]})" for word, kind in zip(words, kinds, strict=True)]
    axis.set_yticks(range(len(kinds)), numbers if named else [])
    if named:
        axis.set_ylabel("true class (cells)")
    axis.set_title(arm, fontsize="medium")
    axis.tick_params(length=0)
