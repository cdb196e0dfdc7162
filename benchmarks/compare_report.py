"""The result of ``compare.py`` as Markdown tables and as a plot; draws and measures nothing."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compare_scores import PAIRED

from napari_dispr.evaluation.markdown import number, table
from napari_dispr.files import written_aside

Result = Mapping[str, Any]

NOTES = """\
- **Relative errors**: |shape - truth| / truth, of binary volumes. A shape that is empty or could not be drawn
  has error 1 and IoU 0. *Members*: each shape by itself. *Estimate*: a measure's mean over a cell's members.
- **Thin parts**: share of what an opening of the truth with a ball of radius 2 takes away.
- **Planes**: IoU of the imaged plane with the mask, without and with the correction while sampling.
  *Agreement*: how much more alike than the truth's the planes about it are; below 0 is a seam.
- **Seams**: error rate near the surface by voxel index modulo {fold}, (largest - smallest) / mean, along each
  axis. Along z the imaged plane makes a difference of its own: compare with methods that do not fold.
- **Energy score**: fair, under 1 - IoU; of a method with one shape it is 1 - IoU. **CRPS**: fair, over the
  truth. **Diversity**: mean pairwise 1 - IoU. **Volume bias**: (estimate - truth) / truth.
- **Intervals**: coverage, and mean width over the truth.
- **Seconds**: of all members of a cell, after one cell to warm up. **Memory**: the most that a process of its
  own held while drawing, and what it held with the libraries loaded but no model."""


def report(result: Result) -> str:
    """The text of compare.md."""
    drawn = {name: told for name, told in result["methods"].items() if told["n"]}
    parts = ["# Comparison", head(result), *left_out(result)]
    if result["steps"]:
        parts += [
            "## Quality against evaluations",
            steps_table(drawn),
            "![Quality against evaluations](steps.png)",
        ]
    else:
        parts += ["## Shapes", shapes(drawn), "## Ensembles", ensembles(drawn), *errors(result, drawn)]
        parts += ["## Intervals", intervals(result, drawn), "## Cost", cost(drawn)]
        parts += differences(result)
    modulo = next(iter(drawn.values()))["fold"]["modulo"]
    return "\n\n".join([*parts, "## What the numbers are", NOTES.format(fold=modulo)]) + "\n"


def head(result: Result) -> str:
    """Date, machine, versions, seed, commit, cells, command."""
    told = result["head"]
    machine, dataset = told["machine"], told["dataset"]
    versions = ", ".join(f"{name} {version}" for name, version in told["versions"].items())
    cells = f"{len(dataset['compared_on'])} of the {dataset['cells']} cells of {dataset['folder']}"
    lines = {
        "date": told["date"],
        "machine": f"{machine['processor']}, {machine['cores']} cores, {machine['usable_cores']} usable, "
        f"{machine['threads']} threads, device {machine['device']}, {machine['system']}",
        "versions": versions,
        "commit": told["commit"],
        "cells": f"{cells} ({dataset['chosen']})",
        "members, seed": f"{told['members']}, {told['seed']}",
        "command": f"`{told['command']}`",
    }
    return "\n".join(f"- {name}: {text}" for name, text in lines.items())


def left_out(result: Result) -> list[str]:
    """Which cells a method was trained on, and which it could not draw."""
    lines = []
    of = len(result["head"]["dataset"]["compared_on"])
    for name, told in result["methods"].items():
        if count := len(told["left_out"]):
            rest = (
                "all, so it is not compared" if count == of else f"{count} of {of} cells, which are left out"
            )
            lines.append(f"- **{name}** was trained on {rest}.")
        lines += [f"- **{name}** failed on {cell}: {why}" for cell, why in told.get("failed", {}).items()]
    return ["\n".join(lines)] if lines else []


def shapes(drawn: Result) -> str:
    """IoU of members, consensus and best member, thin parts, planes, seams."""
    columns = ["method", "cells", "IoU of members", "median", "consensus", "best", "thin parts"]
    columns += ["plane before", "plane after", "agreement", "seam z", "y", "x"]
    rows = []
    for name, told in drawn.items():
        members, cells = told["members"], told["estimate"]
        row = [name, str(told["n"]), spread(members["iou"]), number(members["iou"]["median"])]
        row += [number(cells[score]["mean"]) for score in ("consensus_iou", "best_iou")]
        row += [number(members["thin_recall"]["mean"])]
        row += [number(members[score]["median"]) for score in ("plane_iou_before", "plane_iou")]
        row += [number(members["plane_agreement"]["mean"], sign=True)]
        row += [number(seam, 2) for seam in told["fold"]["seams"]]
        rows.append(row)
    return (
        "Means over members or cells; planes: medians over members; ± is the standard deviation.\n\n"
        + table(columns, rows)
    )


def ensembles(drawn: Result) -> str:
    """Energy score, CRPS, diversity, bias."""
    columns = [
        "method",
        "energy score",
        "CRPS volume",
        "CRPS surface",
        "diversity",
        "volume bias",
        "its median",
    ]
    rows = []
    for name, told in drawn.items():
        cells = told["estimate"]
        row = [name, spread(cells["energy_score"])]
        row += [number(cells[score]["mean"]) for score in ("crps_volume", "crps_surface_mesh", "diversity")]
        row += [number(cells["volume_bias"][key], sign=True) for key in ("mean", "median")]
        rows.append(row)
    return "Means over cells.\n\n" + table(columns, rows)


def spread(values: Mapping[str, float]) -> str:
    """Mean and standard deviation."""
    return f"{number(values['mean'])} ± {number(values['sd'])}"


def errors(result: Result, drawn: Result) -> list[str]:
    """A table a measure: errors of the members and of the estimate."""
    keys = {"median": "median", "percentile_90": "90 %", "mean": "mean", "sd": "sd"}
    _, *names = keys.values()
    columns = ["method", "members: median", *names, "estimate: median", *names]
    parts = ["## Relative errors"]
    for measure, meaning in result["head"]["measures"].items():
        rows = [
            [
                name,
                *(
                    number(told[of][f"error_{measure}"][key])
                    for of in ("members", "estimate")
                    for key in keys
                ),
            ]
            for name, told in drawn.items()
        ]
        parts += [f"### {measure}\n\n{meaning[0].upper()}{meaning[1:]}.", table(columns, rows)]
    return parts


def intervals(result: Result, drawn: Result) -> str:
    """Coverage and width of each method's intervals, and of those that need no picture."""
    levels = result["head"]["levels"]
    columns = ["method", "measure", *(f"{level} {what}" for level in levels for what in ("covers", "width"))]
    known = {name: told["intervals"] for name, told in drawn.items() if told["kind"] == "model"}
    rows = []
    for name, found in {**known, "no picture: other cells": result["without_picture"]}.items():
        for measure in result["head"]["intervals_of"]:
            values = [found.get(measure, {}).get(level, {}) for level in levels]
            told = [number(value.get(what), 2) for value in values for what in ("coverage", "width")]
            rows.append([name, measure, *told])
    return table(columns, rows)


def cost(drawn: Result) -> str:
    """Evaluations of the network, seconds and memory."""
    columns = ["method", "evaluations", "seconds a cell", "90 %", "peak MiB", "libraries MiB", "above them"]
    rows = []
    for name, told in drawn.items():
        seconds, peak, base = told["estimate"]["seconds"], told["peak_memory"], told["base_memory"]
        above = None if peak is None or base is None else peak - base
        steps = next(iter(told["provenance"].values())).get("steps")
        row = [name, number(steps, 0), number(seconds["median"]), number(seconds["percentile_90"])]
        rows.append([*row, *(number(value, 0) for value in (peak, base, above))])
    return table(columns, rows)


def differences(result: Result) -> list[str]:
    """Paired differences, means and medians, with their intervals."""
    if not result["paired"]:
        return []
    pairs: dict[tuple[str, str], dict[str, Any]] = {}
    for found in result["paired"]:
        pairs.setdefault((found["first"], found["second"]), {})[found["measure"]] = found
    parts = [
        "## Paired differences\n\nThe first method less the second on the cells that both drew, with 95 % "
        "bootstrap intervals; bold where the interval leaves 0 out. Of errors and energy scores less is "
        "better, of IoU more."
    ]
    for statistic in ("mean", "median"):
        rows = [
            [f"{first} - {second}", str(next(iter(found.values()))["n"])]
            + [difference(found[measure], statistic) for measure in PAIRED]
            for (first, second), found in pairs.items()
        ]
        parts += [f"### {statistic.title()}s", table(["pair", "cells", *PAIRED.values()], rows)]
    return parts


def difference(found: Mapping[str, Any], statistic: str) -> str:
    """One difference and its interval."""
    low, high = found[f"{statistic}_interval"]
    text = f"{number(found[statistic], sign=True)} [{number(low, sign=True)}, {number(high, sign=True)}]"
    return f"**{text}**" if low > 0 or high < 0 else text


#: What is told of each number of evaluations: where it stands, which statistic, its name, and what is better.
STEPS = (
    ("estimate", "energy_score", "mean", "energy score"),
    ("members", "iou", "mean", "IoU of members"),
    ("estimate", "consensus_iou", "mean", "IoU of consensus"),
    ("estimate", "error_volume", "median", "volume error, estimate (median)"),
    ("estimate", "volume_bias", "mean", "signed volume bias"),
    ("estimate", "error_surface_mesh", "median", "surface error, estimate (median)"),
    ("members", "error_roughness_voxel", "median", "roughness error, members (median)"),
    ("members", "plane_iou_before", "median", "plane IoU, uncorrected (median)"),
    ("estimate", "seconds", "median", "seconds a cell"),
)


def steps_table(drawn: Result) -> str:
    """A row a model, sampler and number of evaluations."""
    columns = ["model", "sampler", "evaluations", *(name for *_, name in STEPS)]
    rows = []
    for told in drawn.values():
        if told["steps"] is None:
            first = [told["name"], "–", "–"]
        else:
            first = [told["model"], told["sampler"], str(told["steps"])]
        rows.append(
            [*first, *(number(told[of][score][key], sign="bias" in score) for of, score, key, _ in STEPS)]
        )
    return table(columns, rows)


def steps_plot(result: Result, path: Path) -> None:
    """Quality against the number of evaluations: a panel a score, a line a model and sampler."""
    # Not pyplot: its state is of no use here, and it would look for a screen.
    from matplotlib.figure import Figure

    lines: dict[str, list[Mapping[str, Any]]] = {}
    for told in result["methods"].values():
        if told["n"]:
            key = told["name"] if told["steps"] is None else f"{told['model']}, {told['sampler']}"
            lines.setdefault(key, []).append(told)
    figure = Figure(figsize=(12, 9), layout="constrained")
    for axes, (of, score, key, name) in zip(figure.subplots(3, 3).flat, STEPS, strict=True):
        for label, points in lines.items():
            values = [told[of][score][key] for told in points]
            if points[0]["steps"] is None:  # a rival, which has no steps
                axes.axhline(values[0], color="0.6", linestyle="--", linewidth=1)
                axes.annotate(
                    label, (0.02, values[0]), xycoords=("axes fraction", "data"), fontsize=7, color="0.4"
                )
                continue
            axes.plot([told["steps"] for told in points], values, marker="o", markersize=4, label=label)
        axes.set_xscale("log", base=2)
        ticks = sorted({told["steps"] for points in lines.values() for told in points if told["steps"]})
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.set_title(name, fontsize=10)
        axes.grid(alpha=0.3)
    figure.axes[0].legend(fontsize=8)
    figure.supxlabel("evaluations of the network")
    with written_aside(path) as temporary:
        figure.savefig(temporary, dpi=120)
