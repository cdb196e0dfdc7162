"""The summary of an evaluation as Markdown tables and as a figure; draws and measures nothing."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from napari_dispr.evaluation.markdown import number, table
from napari_dispr.evaluation.rows import Row
from napari_dispr.evaluation.truth import COMPARED, LENGTHS, MORE_IS_BETTER
from napari_dispr.files import written_aside

Summary = Mapping[str, Any]

#: Rows below those of the relative errors.
_AGREEMENTS = {
    "iou": "IoU",
    "dice": "Dice",
    "consensus_iou": "IoU of the consensus",
    "imaged_plane_iou": "IoU of the imaged plane with the mask",
    "surface_distance": "mean surface distance",
    "hausdorff_95": "95 % Hausdorff distance",
    "energy_score": "energy score",
}
NOTES = """\
- **Relative error**: |shape - truth| / |truth|. *Members*: each shape by itself, as SHAPR and DISPR count; a
  method that draws one shape is an ensemble of one. *Estimates*: the mean of a measure over a cell's members.
- **A shape that is empty or could not be drawn** has relative errors of 1, IoU 0 and energy score 1; it has
  no surface, and is left out of the distances.
- **Measures** marked SHAPR are those of its notebooks, of voxels and of their unsmoothed mesh; the others are
  those that this program measures shapes by, of the smoothed surface about the same voxels. The notebooks'
  curvature is near 0 or negative for many cells, so that its relative error has no bound: no mean is told.
- **Energy score**: fair, under 1 - IoU; of a method that draws one shape it is 1 - IoU.
- **Intervals** are of 95 %, by resampling cells with all their members. **p**: Wilcoxon's signed ranks over
  cells, two-sided; *corrected*: by Holm's method for all tests of the table together.
- **Compared with the paper's Table 1**: those figures are of 825 red blood cells of six classes, most of them
  of one easy class, and of predictors trained on about 660 of them. Other cells, other numbers of them, and
  another definition of curvature (the notebooks do not reproduce the paper's) give other figures for the
  very same method. Compare methods within this table; with the paper's figures compare their order."""


def report(summary: Summary) -> str:
    """The text of table.md."""
    drawn = {name: told for name, told in summary["methods"].items() if told["cells"]}
    parts = ["# Evaluation", _head(summary)]
    if not drawn:
        parts.append("Every method was trained on all of these cells: there is nothing to tell.")
        return "\n\n".join(parts) + "\n"
    errors = [name for name in COMPARED if name in summary["measures"]]
    one = all(told["n"] == told["cells"] for told in drawn.values())
    parts += [
        "## Relative errors" + ("" if one else " of the members"),
        "Median (mean ± standard deviation); the best in bold.",
        table(["", *drawn], [_row(COMPARED[name].label, name, drawn) for name in errors]),
    ]
    if not one:
        estimates = {name: told["estimate"] for name, told in drawn.items()}
        parts += [
            "## Relative errors of the estimates",
            "Of the mean over each cell's members, cell by cell.",
            table(["", *drawn], [_row(COMPARED[name].label, name, estimates) for name in errors]),
        ]
    unit = summary["unit"]
    labels = {
        name: f"{label}, {unit}" if name in LENGTHS else label
        for name, label in _AGREEMENTS.items()
        if not (one and name == "consensus_iou")
    }
    parts += [
        "## Agreement",
        "Mean ± standard deviation; more is better of IoU and Dice, less of distances and energy scores.",
        table(["", *drawn], [_mean_row(label, name, drawn) for name, label in labels.items()]),
        "## Intervals",
        "Medians of the members' relative errors and means of the rest, each with its 95 % interval.",
        table(
            ["", *drawn],
            [_interval_row(COMPARED[name].label, name, "median", drawn) for name in errors]
            + [_interval_row(label, name, "mean", drawn) for name, label in labels.items()],
        ),
        *_paired(summary, labels),
        "![Relative errors by method](errors.png)",
        "## How to read this",
        NOTES,
    ]
    return "\n\n".join(parts) + "\n"


def _head(summary: Summary) -> str:
    lines = [
        f"- {summary['software']}; {summary['cells']} cells; at most {summary['members']} members a cell; "
        f"seed {summary['seed']}"
    ]
    if folds := summary.get("folds"):
        lines.append(
            f"- {folds}-fold cross-validation: every cell is drawn once by each method, and what was trained "
            "was trained on the cells of the other folds"
        )
        if left := summary.get("not_tested"):
            tested = ", ".join(map(str, summary["tested_folds"]))
            lines.append(f"- these cells only so far, of fold {tested}; {left} more are not tested yet")
    if predicted := summary.get("predicted"):
        trained = "trained on where their real cells were, " if folds else ""
        lines.append(f"- {predicted} more objects of the dataset are predicted ones: {trained}never tested")
    for name, told in summary["methods"].items():
        if told["trained_on"]:
            lines.append(f"- **{name}** was trained on {len(told['trained_on'])} of them, which are left out")
        lines += [f"- **{name}** failed on {cell}: {why}" for cell, why in told["failed_cells"].items()]
    counts = {name: told["cells"] for name, told in summary["methods"].items()}
    if len(set(counts.values())) > 1:
        said = ", ".join(f"{name} {count}" for name, count in counts.items())
        lines.append(
            f"- The methods are told of different cells ({said}): only the paired comparisons are fair"
        )
    return "\n".join(lines)


def _bold(texts: Sequence[str], values: Sequence[float | None], more: bool = False) -> list[str]:
    known = [value for value in values if value is not None]
    best = (max(known) if more else min(known)) if known and len(values) > 1 else None
    return [
        f"**{text}**" if best is not None and number(value) == number(best) else text
        for text, value in zip(texts, values, strict=True)
    ]


def _row(label: str, measure: str, methods: Mapping[str, Any]) -> list[str]:
    told = [method[measure] for method in methods.values()]
    medians = _bold([number(one["median"]) for one in told], [one["median"] for one in told])
    if not COMPARED[measure].bounded:
        return [label, *medians]
    means = _bold([_spread(one) for one in told], [one["mean"] for one in told])
    return [label, *(f"{median} ({mean})" for median, mean in zip(medians, means, strict=True))]


def _mean_row(label: str, measure: str, methods: Mapping[str, Any]) -> list[str]:
    told = [method[measure] for method in methods.values()]
    values = [one["mean"] for one in told]
    return [label, *_bold([_spread(one) for one in told], values, measure in MORE_IS_BETTER)]


def _spread(values: Mapping[str, Any]) -> str:
    sd = "" if values["sd"] is None else f" ± {number(values['sd'])}"
    return f"{number(values['mean'])}{sd}"


def _interval_row(label: str, measure: str, statistic: str, methods: Mapping[str, Any]) -> list[str]:
    told = (method[measure] for method in methods.values())
    return [label, *(_between(one[statistic], one[f"{statistic}_interval"]) for one in told)]


def _between(value: float | None, ends: Sequence[float] | None, sign: bool = False) -> str:
    if ends is None or None in ends:
        return number(value, sign=sign)
    return f"{number(value, sign=sign)} [{number(ends[0], sign=sign)}, {number(ends[1], sign=sign)}]"


def _paired(summary: Summary, labels: Mapping[str, str]) -> list[str]:
    tests = [test for test in summary["paired"] if test["n"]]
    if not tests:
        return []
    names = {name: f"error of {one.label}" for name, one in COMPARED.items()} | dict(labels)
    wild = [name for name, one in COMPARED.items() if not one.bounded]
    rows = [
        [
            names[test["measure"]],
            test["second"],
            str(test["n"]),
            "–" if test["measure"] in wild else _between(test["mean"], test["mean_interval"], sign=True),
            _between(test["median"], test["median_interval"], sign=True),
            _p(test["wilcoxon_p"]),
            f"**{_p(test['holm_p'])}**" if test["decided"] else _p(test["holm_p"]),
        ]
        for test in sorted(tests, key=lambda test: list(names).index(test["measure"]))
    ]
    first = tests[0]["first"]
    head = ["of the estimates", f"{first} less", "cells", "mean", "median", "p", "p, corrected"]
    return [
        "## Paired comparisons",
        f"**{first}** less each other method, cell by cell on the cells that both have not seen: of relative "
        "errors that of the estimate, of the rest the mean over a cell's members. Below 0 it has the smaller "
        "error, of IoU above 0. Bold: p < 0.05 after correction for all of these tests.",
        table(head, rows),
    ]


def _p(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" if value >= 0.001 else f"{value:.0e}"


#: Colours that are told apart whatever one's eyes (Okabe and Ito).
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")

#: A method whose median is so many times another's takes a logarithmic axis, from an error of 0.01 on.
_FAR, _LEAST = 10, 0.01


def figure(errors: Sequence[Row], summary: Summary, path: Path) -> None:
    """A panel a measure: the members' relative errors by method, as boxes and points.

    Axes end where the boxes' whiskers do, and a little above; how many points lie beyond is written there.
    They are logarithmic where a method is far off the others.

    Parameters
    ----------
    errors : sequence of dict
        A row a member.
    summary : dict
    path : Path
        Of the PNG.
    """
    # Not pyplot: its state is of no use here, and it would look for a screen.
    from matplotlib.figure import Figure

    measures = [name for name in COMPARED if name in summary["measures"]]
    methods = [name for name, told in summary["methods"].items() if told["cells"]]
    columns = {4: 4, 6: 3, 9: 3}[len(measures)]
    rows = len(measures) // columns
    width = max(2.4, 0.8 + 0.62 * len(methods))
    page = Figure(figsize=(width * columns, 2.7 * rows + 0.3), layout="constrained")
    for axes, measure in zip(page.subplots(rows, columns, squeeze=False).flat, measures, strict=True):
        values = [_values(errors, method, measure) for method in methods]
        _boxes(axes, values, methods)
        axes.set_title(COMPARED[measure].label, fontsize=9)
    page.supylabel("relative error", fontsize=9)
    with written_aside(path) as aside:
        page.savefig(aside, dpi=200)


def _values(errors: Sequence[Row], method: str, measure: str) -> np.ndarray[Any, Any]:
    own = (row for row in errors if row["method"] == method and not row["trained_on"])
    return np.array([row[measure] for row in own if np.isfinite(row[measure])])


def _boxes(axes: Any, values: Sequence[np.ndarray[Any, Any]], methods: Sequence[str]) -> None:
    rng = np.random.default_rng(0)
    top = 0.0
    for place, own in enumerate(values):
        if not len(own):
            continue
        colour = _COLOURS[place % len(_COLOURS)]
        axes.scatter(
            place + rng.uniform(-0.28, 0.28, len(own)), own, s=4, color=colour, alpha=0.35, linewidths=0
        )
        axes.boxplot(
            own,
            positions=[place],
            widths=0.56,
            showfliers=False,
            medianprops={"color": "black", "linewidth": 1.6},
            boxprops={"linewidth": 0.8},
        )
        low, high = np.percentile(own, [25, 75])
        top = max(top, float(own[own <= high + 1.5 * (high - low)].max()))
    top = 1.15 * top or 1.0
    medians = [float(np.median(own)) for own in values if len(own)]
    if medians and max(medians) > _FAR * max(min(medians), _LEAST):
        top *= 2
        axes.set_yscale("log")
        axes.set_ylim(_LEAST, top)
    else:
        axes.set_ylim(0, top)
    for place, own in enumerate(values):
        if beyond := int((own > top).sum()):
            axes.annotate(
                f"{beyond} above",
                (place, top),
                (0, -2),
                textcoords="offset points",
                ha="center",
                va="top",
                fontsize=6,
                bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.5},
            )
    axes.set_xticks(range(len(methods)), methods, rotation=30, ha="right", fontsize=8)
    axes.tick_params(axis="y", labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
