"""Summarise an evaluation: statistics of each method, paired tests between methods, a table for a terminal.

Statistics resample cells, never single members: the members of one cell are not independent of each other.
"""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from napari_dispr.errors import counted
from napari_dispr.evaluation.rows import Row
from napari_dispr.evaluation.truth import TOGETHER, Definitions, compared_by, member_columns
from napari_dispr.files import plain

#: Resamples of the cells for an interval of one method, and for one of a difference between two methods.
RESAMPLES, PAIRED_RESAMPLES = 2000, 10_000
#: Values that are resampled at once: of thousands of cells all resamples would take gigabytes.
_AT_ONCE = 2_000_000
#: A difference with a corrected p-value below this counts as decided.
ALPHA = 0.05
#: Columns that are tested in addition to the errors of the estimates.
_TESTED = ("iou", "surface_distance", "hausdorff_95", "energy_score")


def summary_of(
    errors: Sequence[Row],
    cells: Sequence[Row],
    settings: Mapping[str, Any],
    definitions: Definitions = "both",
    seed: int = 0,
) -> dict[str, Any]:
    """Summarise the rows of an evaluation.

    Cells that a method was trained on count in none of its statistics.

    Parameters
    ----------
    errors, cells : sequences of dict
        One row per member; one row per cell and method.

    Returns
    -------
    dict
        The ``settings``, and

        - ``measures``, ``together``: what each column means;
        - ``methods``, for each method: ``n`` (members), ``cells`` (their number), ``failed`` (number of
          members), ``failed_cells`` (name to reason), ``trained_on`` (names of the cells that were left out),
          ``signed_volume_bias`` (mean of ``signed_volume``). For each column ``median``, ``percentile_90``,
          ``mean``, ``sd`` (of the sample), ``median_interval`` and ``mean_interval`` (95 %). ``estimate`` has
          the same for the relative errors of the estimates (a measure's mean over the members of a cell);
        - ``paired``: the first method against each other one (see `paired_tests`).
    """
    measures, columns = compared_by(definitions), member_columns(definitions)
    tested = {name: f"error_{name}" for name in measures} | {name: name for name in _TESTED}
    methods: dict[str, Any] = {}
    compared: dict[str, dict[str, dict[str, float]]] = {}
    for method in dict.fromkeys(row["method"] for row in cells):
        of_cells = [row for row in cells if row["method"] == method]
        unseen = [row for row in of_cells if not row["trained_on"]]
        by_cell: dict[str, list[Row]] = {row["cell"]: [] for row in unseen}
        for row in errors:
            if row["method"] == method and row["cell"] in by_cell:
                by_cell[row["cell"]].append(row)
        members = [row for rows in by_cell.values() for row in rows]
        found = {
            name: _statistics([[row[name] for row in rows] for rows in by_cell.values()], seed)
            for name in columns
        }
        methods[method] = {
            "n": len(members),
            "cells": len(unseen),
            "trained_on": [row["cell"] for row in of_cells if row["trained_on"]],
            "failed": sum(bool(row["failed"]) for row in members),
            "failed_cells": {row["cell"]: row["failed"] for row in unseen if row["failed"]},
            "signed_volume_bias": found["signed_volume"]["mean"],
            **found,
            **{name: _statistics([[row[name]] for row in unseen], seed) for name in TOGETHER},
            "estimate": {
                name: _statistics([[row[f"error_{name}"]] for row in unseen], seed) for name in measures
            },
        }
        compared[method] = {
            name: {row["cell"]: row[column] for row in unseen} for name, column in tested.items()
        }
    first, *others = methods or [""]
    whole: dict[str, Any] = plain(
        {
            **settings,
            "measures": columns,
            "together": TOGETHER,
            "methods": methods,
            "paired": paired_tests(compared, [(first, other) for other in others], list(tested), seed),
        }
    )
    return whole


def _statistics(values: Sequence[Sequence[float]], seed: int) -> dict[str, Any]:
    table: NDArray[np.float64] = np.array(values, dtype=np.float64)
    return {**statistics(table), **bootstrap_intervals(table, seed)}


def statistics(values: ArrayLike) -> dict[str, float | None]:
    """Median, 90th percentile, mean and standard deviation (n - 1) of all values but NaN; None for none."""
    known = np.asarray(values, dtype=np.float64).ravel()
    known = known[~np.isnan(known)]
    if not len(known):
        return dict.fromkeys(("median", "percentile_90", "mean", "sd"))
    with np.errstate(invalid="ignore"):  # some errors are infinite
        return {
            "median": float(np.median(known)),
            "percentile_90": float(np.percentile(known, 90)),
            "mean": float(known.mean()),
            "sd": float(known.std(ddof=1)) if len(known) > 1 else None,
        }


def bootstrap_intervals(
    values: ArrayLike, seed: int = 0, resamples: int = RESAMPLES
) -> dict[str, list[float] | None]:
    """95 % bootstrap intervals [1]_ of median and mean; each resampled cell brings all its members.

    Parameters
    ----------
    values : (cell,) or (cell, member) array
        NaN are left out.

    Returns
    -------
    dict
        ``median_interval`` and ``mean_interval``: the percentiles 2.5 and 97.5, or None for fewer than two
        cells.

    References
    ----------
    .. [1] Efron and Tibshirani (1993). An Introduction to the Bootstrap. Chapman and Hall, chapter 13.
    """
    table = np.asarray(values, dtype=np.float64)
    table = table.reshape(len(table), -1) if table.size else np.empty((0, 1))
    table = table[~np.isnan(table).all(axis=1)]
    if len(table) < 2:
        return {"median_interval": None, "mean_interval": None}
    median, mean = (np.nanmedian, np.nanmean) if np.isnan(table).any() else (np.median, np.mean)
    rng, found, step = np.random.default_rng(seed), [], max(1, _AT_ONCE // table.size)
    with np.errstate(invalid="ignore"):
        for first in range(0, resamples, step):
            count = min(step, resamples - first)
            resampled = table[rng.integers(len(table), size=(count, len(table)))].reshape(count, -1)
            found.append((median(resampled, axis=1), mean(resampled, axis=1)))
        medians, means = np.percentile(np.concatenate(found, axis=1), [2.5, 97.5], axis=1).T.tolist()
    return {"median_interval": medians, "mean_interval": means}


def paired_tests(
    values: Mapping[str, Mapping[str, Mapping[str, float]]],
    pairs: Sequence[tuple[str, str]],
    measures: Sequence[str],
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Compare pairs of methods cell by cell.

    Parameters
    ----------
    values : mapping of method to (mapping of measure to (mapping of cell to value))
        A pair is compared on the cells for which both methods have a finite value.

    Returns
    -------
    list of dict
        One per pair and measure:

        - ``first``, ``second``, ``measure``, ``n`` (cells);
        - ``mean`` and ``median`` of the differences, first less second, each with its 95 % bootstrap
          interval;
        - ``wilcoxon_p`` (two-sided), ``holm_p`` (the same, corrected for all tests of the list) and
          ``decided`` (``holm_p`` < 0.05).

    Notes
    -----
    Wilcoxon's signed-rank test asks whether the differences lie symmetrically about 0. Differences of 0 take
    part in the ranking and are then left out (Pratt [1]_). Holm's correction [2]_ bounds the probability of
    one or more false findings, and does not assume that the tests are independent.

    References
    ----------
    .. [1] Pratt (1959). Remarks on zeros and ties in the Wilcoxon signed rank procedures. Journal of the
       American Statistical Association 54(287).
    .. [2] Holm (1979). A simple sequentially rejective multiple test procedure. Scandinavian Journal of
       Statistics 6(2).
    """
    tests: list[dict[str, Any]] = []
    for first, second in pairs:
        for measure in measures:
            one, other = values[first][measure], values[second][measure]
            differences = np.array([one[cell] - other[cell] for cell in one if cell in other], np.float64)
            differences = differences[np.isfinite(differences)]
            found = statistics(differences) | bootstrap_intervals(differences, seed, PAIRED_RESAMPLES)
            tests.append(
                {"first": first, "second": second, "measure": measure, "n": len(differences)}
                | {name: found[name] for name in ("mean", "mean_interval", "median", "median_interval")}
                | {"wilcoxon_p": wilcoxon(differences)}
            )
    for test, p in zip(tests, holm([test["wilcoxon_p"] for test in tests]), strict=True):
        test |= {"holm_p": p, "decided": p < ALPHA}
    return tests


def wilcoxon(differences: NDArray[np.float64]) -> float:
    """Two-sided p-value of the signed-rank test; 1 if all differences are 0, NaN without differences."""
    if not len(differences):
        return float("nan")
    if not differences.any():
        return 1.0
    return float(stats.wilcoxon(differences, zero_method="pratt").pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values after Holm's correction; NaN stay NaN and do not count as tests."""
    p = np.asarray(p_values, dtype=np.float64)
    order = [int(place) for place in np.argsort(p) if not np.isnan(p[place])]
    corrected = np.full(len(p), np.nan)
    least = 0.0
    for rank, place in enumerate(order):
        least = max(least, min(1.0, (len(order) - rank) * p[place]))
        corrected[place] = least
    return [float(value) for value in corrected]


def summary_table(summary: Mapping[str, Any]) -> str:
    """The summary as text for a terminal: a block for each method, a line for each measure."""
    text = io.StringIO()
    print(f"{summary['cells']} cells, relative errors of the members (iou: agreement)", file=text)
    if summary.get("not_tested"):
        print(f"not tested yet: {summary['not_tested']} more, of these or other folds", file=text)
    if summary.get("predicted"):
        print(f"not tested: {summary['predicted']} more, whose objects are predicted ones", file=text)
    for name, method in summary["methods"].items():
        print(f"\n{name}: {method['n']} members, {method['failed']} failed", file=text)
        if method["trained_on"]:
            left_out = counted(len(method["trained_on"]), "cell")
            print(f"  left out, since the method was trained on them: {left_out}", file=text)
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
