"""What a ranking of cells is worth, as files: tables, JSON and a figure."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from napari_dispr.files import plain, write_json, written_aside
from napari_dispr.prediction.saving import write_table

_COLOURS = ("#1f5a94", "#c8553d")


def write_worth(folder: Path, summary: Mapping[str, Any], table: pd.DataFrame) -> None:
    """Write ``worth.csv``, ``worth.md``, ``worth.png`` and ``worth.json``.

    Parameters
    ----------
    folder : path
    summary : dict
        From `iter_rank_worth`.
    table : DataFrame
        A row a cell and method.
    """
    unit = "no unit" if summary["errors"] == "relative" else "voxel"
    table.attrs["columns"] = {
        "method": "no unit: who drew the shapes",
        "cell": "no unit: name of the cell",
        "true": f"voxel: {summary['measure']} of the true shape",
        "estimate": f"voxel: {summary['measure']}, mean over the members",
        "error": f"{unit}: absolute error of the estimate ({summary['errors']})",
        "expected_gain": f"{unit}: the error expected if the truth were one more member; ranks cells",
    }
    write_table(folder / "worth.csv", table)
    with written_aside(folder / "worth.md") as aside:
        aside.write_text(markdown(summary) + "\n", encoding="utf-8")
    with written_aside(folder / "worth.png") as aside:
        draw(summary, aside)
    write_json(folder / "worth.json", plain(summary))


def markdown(summary: Mapping[str, Any]) -> str:
    """Error that remains at each share, of every method, as Markdown."""
    lines = [
        "| method | imaged in 3D | error left: ranked | at random (interval) | best order | p |",
        "| --- | --- | ---: | --- | ---: | ---: |",
    ]
    for method, told in summary["methods"].items():
        lines.append(f"| {method} | none | {told['error']:.4g} | | | |")
        for share, one in told["shares"].items():
            low, high = one["random_interval"]
            lines.append(
                f"| {method} | {100 * float(share):g} % ({one['imaged']} of {told['cells']}) "
                f"| {one['ranked']:.4g} | {one['random']:.4g} [{low:.4g}, {high:.4g}] | {one['best']:.4g} "
                f"| {one['p']:.3g} |"
            )
    correlations = ", ".join(
        f"{method} {told['correlation']:.2f}" for method, told in summary["methods"].items()
    )
    lines += [
        "",
        f"Mean error of the {summary['measure']} ({summary['errors']}) over all cells, those imaged in 3D "
        "counting 0. Interval: 2.5 to 97.5 percentile of 2000 orders at random; p: the share of them that "
        f"leave no more than the ranking. Rank correlation of expected and true error: {correlations}.",
    ]
    return "\n".join(lines)


def draw(summary: Mapping[str, Any], path: Path) -> None:
    """Error that remains against the share imaged, of each method a panel; PNG, 300 dots per inch."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    methods = summary["methods"]
    with rc_context({"font.size": 8, "axes.linewidth": 0.6, "font.family": "sans-serif"}):
        figure = Figure((min(7.0, 3.5 * len(methods)), 2.8), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(1, len(methods), sharey=True, squeeze=False)[0]
        for axis, (method, told) in zip(axes, methods.items(), strict=True):
            curve = told["curve"]
            share = 100 * np.linspace(0, 1, told["cells"] + 1)
            axis.fill_between(share, curve["low"], curve["high"], color="0.85", label="at random, 95 %")
            axis.plot(share, curve["random"], color="0.5", lw=1)
            axis.plot(share, curve["ranked"], color=_COLOURS[0], lw=1.5, label="by expected gain")
            axis.plot(share, curve["best"], color=_COLOURS[1], lw=1, ls="--", label="by true error")
            axis.set_title(f"{method}, {told['cells']} cells", fontsize=8)
            axis.set_xlabel("cells imaged in 3D, %")
            axis.set_xlim(0, 100)
            axis.set_ylim(bottom=0)
            axis.spines[["top", "right"]].set_visible(False)
        kind = "mean relative error" if summary["errors"] == "relative" else "mean error (voxels)"
        axes[0].set_ylabel(f"{kind} of {summary['measure'].replace('_', ' ')}")
        axes[0].legend(frameon=False)
        figure.savefig(path, dpi=300)
