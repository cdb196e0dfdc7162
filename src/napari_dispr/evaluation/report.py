"""Write the summary of an evaluation as Markdown tables (table.md) and as figures.

The figures are errors.png, and steps.png or planes.png.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from napari_dispr.evaluation.rows import Row
from napari_dispr.evaluation.truth import COMPARED, LENGTHS, MORE_IS_BETTER
from napari_dispr.export.figures import saved_figure
from napari_dispr.files import written_aside

Summary = Mapping[str, Any]

#: What an evaluation writes in addition to its tables of rows.
TABLE, FIGURE = "table.md", "errors.png"
#: What can differ between methods that are one model: key of the provenance, and label of the axis.
COMPARED_BY = {"steps": "evaluations of the network a member", "planes": "known planes of a cell"}
#: Rows of the table "Agreement".
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
- **Relative error**: |shape - truth| / |truth|. *Members*: the error of each shape, as SHAPR and DISPR count;
  a method that draws one shape is an ensemble of one member. *Estimates*: the error of the mean of a measure
  over the members of a cell.
- **A shape that is empty or could not be drawn** has relative errors of 1, IoU 0 and energy score 1. It has
  no surface, so it does not count in the distances.
- **Measures** marked SHAPR follow the SHAPR notebooks: they measure voxels and the unsmoothed mesh of the
  voxels. The others are the measures of this program, of the smoothed surface around the same voxels. The
  curvature of the notebooks is near 0 or negative for many cells, so that its relative error has no bound:
  the tables give no mean of it.
- **Energy score**: fair, under 1 - IoU. For a method that draws one shape it is 1 - IoU.
- **Intervals** are 95 % bootstrap intervals; each resampled cell brings all its members. **p**: Wilcoxon's
  signed-rank test over cells, two-sided; *corrected*: by Holm's method, for all tests of the table together.
- **Comparison with the paper's Table 1**: those numbers are for 825 red blood cells of six classes, most of
  them of one easy class, and of predictors trained on about 660 of them. Other cells, another number of
  cells, and another definition of curvature (the notebooks do not reproduce the paper's) give other numbers
  for the same method. Compare methods within this table; compare only their order with the paper."""


def write_report(folder: Path, errors: Sequence[Row], summary: Summary) -> None:
    """Write ``table.md``, ``errors.png`` and, if a model was evaluated with several, ``steps.png`` ..."""
    write_text(folder / TABLE, report(summary))
    figure(errors, summary, folder / FIGURE)
    for name, label in COMPARED_BY.items():
        (folder / f"{name}.png").unlink(missing_ok=True)
        if curves := _curves(summary, name):
            curves_figure(curves, summary, label, folder / f"{name}.png")


# --- Markdown ---------------------------------------------------------------------------------------


def write_text(path: Path, text: str) -> None:
    """Write a text file in one step."""
    with written_aside(path) as aside:
        aside.write_text(text.rstrip("\n") + "\n", "utf-8")


def number(value: Any, digits: int = 3, sign: bool = False) -> str:
    """A number as text for a table; a dash for None and NaN."""
    if value is None or not isinstance(value, int | float) or math.isnan(value):
        return "–"
    return f"{value:{'+' if sign else ''}.{digits}f}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table whose columns line up as plain text; all columns but the first are right-aligned."""
    head, *body = [[cell.replace("|", r"\|") for cell in row] for row in (head, *rows)]
    widths = [max(3, *(len(row[i]) for row in [head, *body])) for i in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        first, *others = cells
        padded = [first.ljust(widths[0]), *(c.rjust(w) for c, w in zip(others, widths[1:], strict=True))]
        return f"| {' | '.join(padded)} |"

    rule = [":" + "-" * (widths[0] - 1), *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join([line(head), f"| {' | '.join(rule)} |", *map(line, body)])


def report(summary: Summary) -> str:
    """The text of table.md."""
    drawn = _drawn(summary)
    parts = ["# Evaluation", _head(summary)]
    if not drawn:
        parts.append("Every method was trained on all of these cells: take cells that are new to a method.")
        return "\n\n".join(parts)
    errors = [name for name in COMPARED if name in summary["measures"]]
    one = all(method["n"] == method["cells"] for method in drawn.values())
    parts += [
        "## Relative errors" + ("" if one else " of the members"),
        "Median (mean ± standard deviation); the best in bold.",
        table(["", *drawn], [_row(COMPARED[name].label, name, drawn) for name in errors]),
    ]
    if not one:
        estimates = {name: method["estimate"] for name, method in drawn.items()}
        parts += [
            "## Relative errors of the estimates",
            "Errors of the mean over the members of each cell.",
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
        "Mean ± standard deviation. IoU and Dice: more is better; distances and energy score: less is "
        "better.",
        table(["", *drawn], [_mean_row(label, name, drawn) for name, label in labels.items()]),
        "## Intervals",
        "Medians of the relative errors of the members, means of all others, each with its 95 % interval.",
        table(
            ["", *drawn],
            [_interval_row(COMPARED[name].label, name, "median", drawn) for name in errors]
            + [_interval_row(label, name, "mean", drawn) for name, label in labels.items()],
        ),
        *_paired(summary, labels),
        f"![Relative errors by method]({FIGURE})",
        *(f"![Errors by number of {name}]({name}.png)" for name in COMPARED_BY if _curves(summary, name)),
        "## How to read the tables",
        NOTES,
    ]
    return "\n\n".join(parts)


def _drawn(summary: Summary) -> dict[str, Mapping[str, Any]]:
    """The methods that drew at least one cell that is new to them."""
    return {name: method for name, method in summary["methods"].items() if method["cells"]}


def _head(summary: Summary) -> str:
    lines = [
        f"- {summary['software']}; {summary['cells']} cells; at most {summary['members']} members a cell; "
        f"seed {summary['seed']}"
    ]
    if folds := summary.get("folds"):
        lines.append(
            f"- {folds}-fold cross-validation: each method draws every cell once; trained methods have seen "
            "only the cells of the other folds"
        )
        if left := summary.get("not_tested"):
            tested = ", ".join(map(str, summary["tested_folds"]))
            lines.append(f"- so far only the cells of fold {tested}; {left} more are not tested yet")
    if predicted := summary.get("predicted"):
        trained = "used for training together with their real cells, but " if folds else ""
        lines.append(f"- {predicted} more objects of the dataset are predicted ones: {trained}never tested")
    for name, method in summary["methods"].items():
        if method["trained_on"]:
            lines.append(
                f"- **{name}** was trained on {len(method['trained_on'])} of them, which are left out"
            )
        lines += [f"- **{name}** failed on {cell}: {why}" for cell, why in method["failed_cells"].items()]
    counts = {name: method["cells"] for name, method in summary["methods"].items()}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name} {count}" for name, count in counts.items())
        lines.append(
            f"- The methods have different numbers of cells ({listed}): compare them by the paired tests"
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
    found = [method[measure] for method in methods.values()]
    medians = _bold([number(one["median"]) for one in found], [one["median"] for one in found])
    if not COMPARED[measure].bounded:
        return [label, *medians]
    means = _bold([_spread(one) for one in found], [one["mean"] for one in found])
    return [label, *(f"{median} ({mean})" for median, mean in zip(medians, means, strict=True))]


def _mean_row(label: str, measure: str, methods: Mapping[str, Any]) -> list[str]:
    found = [method[measure] for method in methods.values()]
    values = [one["mean"] for one in found]
    return [label, *_bold([_spread(one) for one in found], values, measure in MORE_IS_BETTER)]


def _spread(values: Mapping[str, Any]) -> str:
    sd = "" if values["sd"] is None else f" ± {number(values['sd'])}"
    return f"{number(values['mean'])}{sd}"


def _interval_row(label: str, measure: str, statistic: str, methods: Mapping[str, Any]) -> list[str]:
    found = (method[measure] for method in methods.values())
    return [label, *(_between(one[statistic], one[f"{statistic}_interval"]) for one in found)]


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
    head = ["", f"{first} minus", "cells", "mean", "median", "p", "p, corrected"]
    return [
        "## Paired comparisons",
        f"Differences between **{first}** and each other method, cell by cell, on the cells that are new to "
        "both: of relative errors those of the estimate, of all others the mean over the members of a cell. "
        f"If **{first}** is better, errors are below 0 and IoU is above 0. Bold: p < 0.05 after correction "
        "for all of these tests.",
        table(head, rows),
    ]


def _p(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" if value >= 0.001 else f"{value:.0e}"


# --- figures ----------------------------------------------------------------------------------------

#: Colours that colour-blind readers can distinguish (Okabe and Ito).
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
#: If the median of a method is this many times that of another, the axis is logarithmic, from this error on.
_FAR, _LEAST = 10, 0.01


def figure(errors: Sequence[Row], summary: Summary, path: Path) -> None:
    """A PNG with one panel per measure: the relative errors of the members by method, as boxes and points.

    An axis ends a little above the whiskers of the boxes; a note says how many points lie beyond.
    """
    measures = [name for name in COMPARED if name in summary["measures"]]
    methods = list(_drawn(summary))
    columns = {4: 4, 6: 3, 9: 3}[len(measures)]
    rows = len(measures) // columns
    width = max(2.4, 0.8 + 0.62 * len(methods))
    with saved_figure(path, width * columns, 2.7 * rows + 0.3, dpi=200) as page:
        for axes, measure in zip(page.subplots(rows, columns, squeeze=False).flat, measures, strict=True):
            values = [_values(errors, method, measure) for method in methods]
            _boxes(axes, values, methods)
            axes.set_title(COMPARED[measure].label, fontsize=9)
        page.supylabel("relative error", fontsize=9)


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
        axes.yaxis.set_major_formatter("{x:g}")
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


def _curves(summary: Summary, name: str) -> dict[str, dict[int, Mapping[str, Any]]]:
    """Methods that are one model with several numbers of steps or planes: {line: {number: method}}."""
    curves: dict[str, dict[int, Mapping[str, Any]]] = {}
    for method in _drawn(summary).values():
        known = method.get("provenance", {})
        if known.get(name) and known.get("model_hash"):
            line = ", ".join(known[part] for part in ("model", "sampler") if known.get(part))
            curves.setdefault(line, {})[known[name]] = method
    return {line: dict(sorted(points.items())) for line, points in curves.items() if len(points) > 1}


def curves_figure(
    curves: Mapping[str, Mapping[int, Mapping[str, Any]]], summary: Summary, label: str, path: Path
) -> None:
    """A PNG with scores against the number of steps or planes, each with its 95 % interval.

    Methods without such a number are dashed lines.
    """
    surface = "surface_area" if "surface_area" in summary["measures"] else "surface_mesh"
    panels = [
        ("energy score", "mean", lambda method: method["energy_score"]),
        ("IoU of the members", "mean", lambda method: method["iou"]),
        ("IoU of the consensus", "mean", lambda method: method["consensus_iou"]),
        ("volume, error of the estimate", "median", lambda method: method["estimate"]["volume"]),
        ("surface area, error of the estimate", "median", lambda method: method["estimate"][surface]),
        (f"mean surface distance, {summary['unit']}", "mean", lambda method: method["surface_distance"]),
    ]
    in_curves = [id(method) for points in curves.values() for method in points.values()]
    others = {name: method for name, method in _drawn(summary).items() if id(method) not in in_curves}
    with saved_figure(path, 11, 6, dpi=200) as page:
        for axes, (title, statistic, score) in zip(page.subplots(2, 3).flat, panels, strict=True):
            for colour, (line, points) in zip(_COLOURS, curves.items(), strict=False):
                found = [score(method) for method in points.values()]
                ends = [one[f"{statistic}_interval"] or (np.nan, np.nan) for one in found]
                axes.plot(
                    list(points), [one[statistic] for one in found], "o-", color=colour, ms=4, label=line
                )
                axes.fill_between(list(points), *np.transpose(ends), color=colour, alpha=0.15, linewidth=0)
            values = {name: score(method)[statistic] for name, method in others.items()}
            for name, value in values.items():
                if value is not None:  # without a shape there is no distance
                    axes.axhline(value, color="0.6", linestyle="--", linewidth=1)
                    place = ("axes fraction", "data")
                    axes.annotate(name, (0.02, value), xycoords=place, va="bottom", fontsize=7, color="0.4")
            ticks = sorted({steps for points in curves.values() for steps in points})
            axes.set_xscale("log", base=2)
            axes.set_xticks(ticks, [str(tick) for tick in ticks])
            axes.set_title(f"{title} ({statistic})", fontsize=9)
            axes.spines[["top", "right"]].set_visible(False)
        page.axes[0].legend(fontsize=8)
        page.supxlabel(label, fontsize=9)
