"""From the rows of an evaluation to its summary: statistics of each method, paired tests between them."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_dispr.evaluation.comparison import intervals, paired_tests, statistics
from napari_dispr.evaluation.rows import Row
from napari_dispr.evaluation.truth import TOGETHER, Definitions, compared_by, member_columns
from napari_dispr.files import plain

#: Beside the errors of the estimates, what methods are tested by, cell by cell.
_TESTED = ("iou", "surface_distance", "hausdorff_95", "energy_score")


def summary_of(
    errors: Sequence[Row],
    cells: Sequence[Row],
    settings: Mapping[str, Any],
    definitions: Definitions = "both",
    seed: int = 0,
) -> dict[str, Any]:
    """Summarise the errors of all members and cells.

    Parameters
    ----------
    errors, cells : sequences of dict
        A row a member, a row a cell and method.
    settings : mapping
        Goes into the summary as it is.
    definitions : {"ours", "shapr", "both"}
    seed : int
        Of the bootstrap.

    Returns
    -------
    dict
        The ``settings``; ``measures`` and ``together``: the meaning of each; ``paired``: a test of the first
        method against each other one and each measure (see `comparison.paired_tests`); and ``methods``: for
        each method ``n`` (members of the cells that it was not trained on; nothing else counts), ``cells``
        (as many), ``trained_on`` (names of the cells that are left out because it was), ``failed`` (how many
        members failed), ``failed_cells`` (name to reason), ``signed_volume_bias`` (the mean of
        signed_volume), for each measure of the members and for the consensus and the energy score of the
        cells ``median``, ``percentile_90``, ``mean``, ``sd`` (of the sample; None of one) and the 95 %
        bootstrap intervals ``median_interval`` and ``mean_interval``; and ``estimate``, the same of the
        relative error of each estimate, the mean of a measure over a cell's members.
    """
    measures, columns = compared_by(definitions), member_columns(definitions)
    methods: dict[str, Any] = {}
    compared: dict[str, dict[str, dict[str, float]]] = {}
    for method in dict.fromkeys(row["method"] for row in cells):
        of_cells = [row for row in cells if row["method"] == method]
        own = [row for row in of_cells if not row["trained_on"]]
        counted = {row["cell"]: [] for row in own}  # type: dict[str, list[Row]]
        for row in errors:
            if row["method"] == method and row["cell"] in counted:
                counted[row["cell"]].append(row)
        members = [row for rows in counted.values() for row in rows]
        told = {
            name: _told([[row[name] for row in rows] for rows in counted.values()], seed) for name in columns
        }
        methods[method] = {
            "n": len(members),
            "cells": len(own),
            "trained_on": [row["cell"] for row in of_cells if row["trained_on"]],
            "failed": sum(bool(row["failed"]) for row in members),
            "failed_cells": {row["cell"]: row["failed"] for row in own if row["failed"]},
            "signed_volume_bias": told["signed_volume"]["mean"],
            **told,
            **{name: _told([[row[name]] for row in own], seed) for name in TOGETHER},
            "estimate": {name: _told([[row[f"error_{name}"]] for row in own], seed) for name in measures},
        }
        tested = {name: f"error_{name}" for name in measures} | {name: name for name in _TESTED}
        compared[method] = {
            name: {row["cell"]: row[column] for row in own} for name, column in tested.items()
        }
    first, *others = methods or [""]
    tests = paired_tests(compared, [(first, other) for other in others], [*measures, *_TESTED], seed)
    whole = {
        **settings,
        "measures": columns,
        "together": TOGETHER,
        "methods": methods,
        "paired": [test.told() for test in tests],
    }
    found: dict[str, Any] = plain(whole)
    return found


def _told(values: Sequence[Sequence[float]], seed: int) -> dict[str, Any]:
    table: NDArray[np.float64] = np.array(values, dtype=np.float64)
    return {**statistics(table), **intervals(table, seed)}


def summary_table(summary: Mapping[str, Any]) -> str:
    """The summary as a text table for a terminal: a block a method, a line a measure."""
    text = io.StringIO()
    print(f"{summary['cells']} cells, relative errors of the members (iou: agreement)", file=text)
    if summary.get("not_tested"):
        print(f"not tested yet: {summary['not_tested']} more, of these or other folds", file=text)
    if summary.get("predicted"):
        print(f"not tested: {summary['predicted']} more, whose objects are predicted ones", file=text)
    for name, method in summary["methods"].items():
        print(f"\n{name}: {method['n']} members, {method['failed']} failed", file=text)
        if method["trained_on"]:
            print(f"  left out, since it was trained on them: {len(method['trained_on'])} cells", file=text)
        if not method["n"]:
            continue
        print(f"  {'':18}{'median':>8}{'90 %':>8}{'mean':>8}    sd", file=text)
        for measure in [*summary["measures"], *summary["together"]]:
            values = method[measure]
            keys = ("median", "percentile_90", "mean")
            numbers = "".join(f"{'–' if values[k] is None else format(values[k], '.3f'):>8}" for k in keys)
            sd = "" if values["sd"] is None else f" +-{values['sd']:6.3f}"
            print(f"  {measure:18}{numbers}{sd}", file=text)
        for cell, reason in method["failed_cells"].items():
            print(f"  failed: {cell}: {reason}", file=text)
    return text.getvalue().rstrip("\n")
