"""Write what a ranking of cells is worth: tables, JSON and a figure."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from napari_dispr.errors import words_of
from napari_dispr.evaluation.report import table, write_text
from napari_dispr.export.figures import saved_figure
from napari_dispr.files import write_json
from napari_dispr.prediction.saving import write_table
from napari_dispr.shapes.measures import MEASURES


def write_worth(folder: Path, summary: Mapping[str, Any], rows: pd.DataFrame) -> None:
    """Write ``worth.csv``, ``worth.md``, ``worth.png`` and ``worth.json``."""
    own = MEASURES[summary["measure"]].unit("voxel")
    unit = "no unit" if summary["errors"] == "relative" else own
    rows.attrs["columns"] = {
        "method": "no unit: method that predicted the shapes",
        "cell": "no unit: name of the cell",
        "true": f"{own}: {summary['measure']} of the true shape",
        "estimate": f"{own}: {summary['measure']}, mean over the members",
        "error": f"{unit}: absolute error of the estimate ({summary['errors']})",
        "expected_gain": f"{unit}: expected error if the truth were one more member; ranks the cells",
    }
    write_table(folder / "worth.csv", rows)
    write_text(folder / "worth.md", markdown(summary))
    draw(summary, folder / "worth.png")
    write_json(folder / "worth.json", summary)


def markdown(summary: Mapping[str, Any]) -> str:
    """The error that remains at each share of imaged cells, for every method, as Markdown."""
    rows = []
    for method, worth in summary["methods"].items():
        rows.append([method, "none", f"{worth['error']:.4g}", "", "", ""])
        for share, one in worth["shares"].items():
            low, high = one["random_interval"]
            imaged = f"{100 * float(share):g} % ({one['imaged']} of {worth['cells']})"
            random = f"{one['random']:.4g} [{low:.4g}, {high:.4g}]"
            rows.append(
                [method, imaged, f"{one['ranked']:.4g}", random, f"{one['best']:.4g}", f"{one['p']:.3g}"]
            )
    head = ["method", "imaged in 3D", "error left: ranked", "random order (interval)", "best order", "p"]
    correlations = ", ".join(f"{name} {one['correlation']:.2f}" for name, one in summary["methods"].items())
    return "\n\n".join(
        [
            table(head, rows),
            f"Mean error of the {summary['measure']} ({summary['errors']}) over all cells; the error of "
            "cells imaged in 3D is 0. Interval: 2.5 to 97.5 percentile of 2000 random orders. p: share of "
            "the random orders that leave no more error than the ranking. Rank correlation of expected and "
            f"true error: {correlations}.",
        ]
    )


def draw(summary: Mapping[str, Any], path: Path) -> None:
    """A PNG of the error that remains against the share of imaged cells, one panel per method."""
    methods = summary["methods"]
    with saved_figure(path, min(7.0, 3.5 * len(methods)), 2.8) as figure:
        axes = figure.subplots(1, len(methods), sharey=True, squeeze=False)[0]
        for axis, (method, worth) in zip(axes, methods.items(), strict=True):
            curve = worth["curve"]
            share = 100 * np.linspace(0, 1, worth["cells"] + 1)
            axis.fill_between(share, curve["low"], curve["high"], color="0.85", label="random order, 95 %")
            axis.plot(share, curve["random"], color="0.5", lw=1)
            axis.plot(share, curve["ranked"], color="#1f5a94", lw=1.5, label="by expected gain")
            axis.plot(share, curve["best"], color="#c8553d", lw=1, ls="--", label="by true error")
            axis.set_title(f"{method}, {worth['cells']} cells", fontsize="medium")
            axis.set_xlabel("cells imaged in 3D, %")
            axis.set_xlim(0, 100)
            axis.set_ylim(bottom=0)
            axis.spines[["top", "right"]].set_visible(False)
        unit = MEASURES[summary["measure"]].unit("voxel")
        kind = "mean relative error" if summary["errors"] == "relative" else f"mean error ({unit})"
        axes[0].set_ylabel(f"{kind} of {words_of(summary['measure'])}")
        axes[0].legend(frameon=False)
