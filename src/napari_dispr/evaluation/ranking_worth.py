"""What a ranking of cells gains: the error that remains when its first cells are imaged in 3D."""

import os
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import spearmanr

from napari_dispr.cells.folders import CellFile
from napari_dispr.cells.splits import real_cells
from napari_dispr.errors import InputError
from napari_dispr.evaluation.ranking_report import write_worth
from napari_dispr.evaluation.rows import trained_on
from napari_dispr.evaluation.shape_features import read_shapes
from napari_dispr.prediction.ranking import checked_measure, expected_error, mean_of, share_of
from napari_dispr.shapes.label_volumes import level_of
from napari_dispr.shapes.one_shape import measure_shape
from napari_dispr.shapes.shapr_set import binarise

Floats = NDArray[np.float64]
#: Shares of the cells that are imaged in 3D, each rounded to whole cells.
SHARES = (0.1, 0.2, 0.5)
#: Random orders with which a ranking is compared.
ORDERS = 2000


@dataclass(frozen=True, slots=True)
class Measured:
    """A cell of a method is measured: ``done`` of ``total``."""

    cell: str
    method: str
    done: int
    total: int


def iter_rank_worth(
    cells: Sequence[CellFile],
    evaluation: str | os.PathLike[str],
    measure: str = "volume",
    *,
    relative: bool = True,
    out: str | os.PathLike[str] | None = None,
) -> Generator[Measured, None, dict[str, Any]]:
    """Measure what a ranking gains: the error that remains when the first cells of it are imaged in 3D.

    Parameters
    ----------
    cells : sequence of CellFile
        The evaluated cells, with objects; further ones are ignored.
    evaluation : path
        Folder of an evaluation with saved shapes. Cells that a method was trained on are left out.
    relative : bool
        As in `rank_cells`. True: errors are relative to the truth; False: in voxels of the model grid.
    out : path, optional
        Folder for ``worth.json``, ``worth.csv`` (a row for each cell and method), ``worth.md`` and
        ``worth.png``.

    Yields
    ------
    Measured

    Returns
    -------
    dict
        Results of `worth_of` for each method with two members or more.

    Raises
    ------
    InputError
        If there is no such measure, or no shapes of two members or more.
    """
    checked_measure(measure)
    cells = real_cells(cells)
    folder = Path(evaluation) / "shapes"
    methods = sorted(place for place in folder.glob("*") if place.is_dir())
    if not methods:
        raise InputError(f"{evaluation} holds no shapes/METHOD: evaluate with --save-shapes.")
    known = {one.name: trained_on(Path(evaluation), one.name) for one in methods}
    drawn = [
        (one, cell)
        for one in methods
        for cell in cells
        if cell.name not in known[one.name] and (one / f"{cell.name}.tif").is_file()
    ]
    truths: dict[str, float] = {}
    rows: list[dict[str, Any]] = []
    for done, (method, cell) in enumerate(drawn, start=1):
        members = read_shapes(method, cell.name)
        if len(members) > 1:
            if cell.name not in truths:
                truths[cell.name] = _measured(binarise(cell.known_object), measure)
                if relative and not truths[cell.name]:
                    raise InputError(
                        f"The true {measure} of {cell.name} is 0, so there is no relative error: give "
                        "--absolute."
                    )
            values = [_measured(member, measure) for member in members]
            row = _row(values, truths[cell.name], relative)
            rows.append({"method": method.name, "cell": cell.name, **row})
        yield Measured(cell.name, method.name, done, len(drawn))
    if not rows:
        raise InputError(
            f"{folder} holds no shapes of two members or more by a model that was not trained on the cells: "
            "evaluate such a model."
        )
    table = pd.DataFrame(rows)
    summary: dict[str, Any] = {
        "measure": measure,
        "errors": "relative" if relative else "in voxels of the model grid",
        "methods": {
            str(method): worth_of(own["error"].to_numpy(), own["expected_gain"].to_numpy())
            for method, own in table.groupby("method", sort=False)
        },
    }
    if out is not None:
        write_worth(Path(out), summary, table)
    return summary


def _row(values: Sequence[float], truth: float, relative: bool) -> dict[str, float]:
    """Truth, estimate, its error and the expected gain of a cell, from the measure of each member."""
    estimate, gain = mean_of(values), expected_error(values)
    error = abs(estimate - truth)
    return {
        "true": truth,
        "estimate": estimate,
        "error": error / abs(truth) if relative else error,
        "expected_gain": share_of(gain, estimate) if relative else gain,
    }


def _measured(shape: NDArray[np.bool_], measure: str) -> float:
    """Measure of the smoothed surface around the voxels, as in `evaluate`."""
    if not shape.any():
        return 0.0 if measure == "volume" else float("nan")
    return measure_shape(*level_of(shape), only=[measure])[measure]


def worth_of(errors: ArrayLike, gains: ArrayLike) -> dict[str, Any]:
    """Mean error that remains when the cells of the largest expected gain are imaged in 3D.

    Parameters
    ----------
    errors : (cell,) array
        Errors before any cell is imaged; a cell that is imaged in 3D has error 0.
    gains : (cell,) array
        The cells are ranked by these; unknown gains (NaN) come first.

    Returns
    -------
    dict
        ``cells``, ``error`` (no cell imaged), ``correlation`` (Spearman's, of gain and error), ``curve`` (the
        errors for each number of imaged cells), and for each share

        - ``imaged``: number of cells;
        - ``ranked``, ``best``: the error left by the ranking, and by the order of the true errors;
        - ``random``, ``random_interval``: that left by random orders, mean and 2.5 to 97.5 percentile;
        - ``p``: share of random orders that leave no more error than the ranking.
    """
    error = np.asarray(errors, dtype=np.float64)
    gain = np.nan_to_num(np.asarray(gains, dtype=np.float64), nan=np.inf)
    count = len(error)
    rng = np.random.default_rng(0)
    random = np.stack([_remaining(error[rng.permutation(count)]) for _ in range(ORDERS)])
    # Cells of equal gain keep their order, which does not depend on their errors.
    ranked = _remaining(error[np.argsort(-gain, kind="stable")])
    best = _remaining(-np.sort(-error))
    low, high = np.percentile(random, (2.5, 97.5), axis=0)
    mean = error.mean() * (1 - np.arange(count + 1) / count)
    result: dict[str, Any] = {"cells": count, "error": float(error.mean())}
    result["correlation"] = _rank_correlation(gain, error)
    result["shares"] = {
        f"{share:g}": {
            "imaged": (imaged := round(share * count)),
            "ranked": ranked[imaged],
            "random": mean[imaged],
            "random_interval": [low[imaged], high[imaged]],
            "best": best[imaged],
            "p": float((random[:, imaged] <= ranked[imaged] + 1e-12).mean()),
        }
        for share in SHARES
    }
    result["curve"] = {"ranked": ranked, "random": mean, "low": low, "high": high, "best": best}
    return result


def _remaining(errors: Floats) -> Floats:
    """Mean over all cells when none, the first, the first two, ... of them are imaged."""
    left = errors.sum() - np.concatenate([[0.0], np.cumsum(errors)])
    return np.clip(left / len(errors), 0, None)


def _rank_correlation(one: Floats, other: Floats) -> float:
    if len(one) < 3 or not np.ptp(one) or not np.ptp(other):
        return float("nan")
    return float(spearmanr(one, other).statistic)
