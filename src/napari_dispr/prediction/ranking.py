"""Rank as a verb: which cells of a prediction deserve to be imaged in 3D, and what such a ranking is worth.

A cell deserves it where its measure is least sure: what the ensemble leaves open is what a stack would tell.
"""

import os
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import spearmanr

from napari_dispr.card import Calibration
from napari_dispr.cells.folders import CellFile
from napari_dispr.cells.splits import real_cells
from napari_dispr.errors import InputError
from napari_dispr.evaluation.rows import trained_on
from napari_dispr.evaluation.shape_features import read_shapes
from napari_dispr.prediction.result import Prediction
from napari_dispr.shapes.intervals import LEVEL, read_interval
from napari_dispr.shapes.label_volumes import level_of
from napari_dispr.shapes.measures import MEASURES
from napari_dispr.shapes.morphometry import binarise, measure_ensembles, measure_shape

__all__ = ["Measured", "expected_error", "iter_rank_worth", "rank_cells", "worth_of"]

Floats = NDArray[np.float64]
#: Shares of the cells that are imaged in 3D, of which a worth is told.
SHARES = (0.1, 0.2, 0.5)
#: Orders at random with which a ranking is compared.
ORDERS = 2000


@dataclass(frozen=True, slots=True)
class Measured:
    """A cell of a method is measured: ``done`` of ``total``."""

    cell: str
    method: str
    done: int
    total: int


def rank_cells(
    prediction: Prediction,
    measure: str = "volume",
    *,
    relative: bool = True,
    measures: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Rank the cells of a prediction by what imaging each in 3D is expected to gain.

    Parameters
    ----------
    prediction : Prediction
        Of at least two members a cell, unless it has calibrated intervals of the measure.
    measure : str
        One of the measures of the table (docs/measures.md).
    relative : bool
        By errors as a share of the estimate; otherwise in the measure's own unit, by which large cells
        come first. What may be 0 or negative (curvature, Euler number) is best ranked so.
    measures : DataFrame, optional
        The prediction's table of members (`results.measure`), where it is known already.

    Returns
    -------
    DataFrame
        A row a cell, the most deserving first: ``rank`` from 1, ``label``, ``name``, ``estimate`` (mean over
        the members), ``expected_error``, ``low`` and ``high`` where there are calibrated intervals,
        ``expected_gain``, by which cells are ranked, and ``warning``, which says what is unlike the training
        data: of such a cell the ensemble may be sure and wrong. ``attrs["columns"]`` is the dictionary,
        ``attrs["measure"]`` and ``attrs["relative"]`` are what was asked for.

    Raises
    ------
    InputError
        If there is no such measure, or nothing says how sure it is.

    Notes
    -----
    A cell that is imaged in 3D has no error any more: the gain is the error that is expected now. With
    calibrated intervals it is half of the interval's width, a bound that the error keeps in 90 of 100
    cells; without, the error expected if the truth were one more member (`expected_error`). Either way it
    ranks; it is no promise.
    """
    chosen = _checked(measure)
    table = measure_ensembles(prediction, only=[measure]) if measures is None else measures
    calibration = prediction.intervals.get(measure)
    if calibration is None and min(map(len, prediction.values()), default=0) < 2:
        raise InputError(
            f"Nothing says how sure the measure {measure} is: predict two members or more of each cell."
        )
    rows = []
    found, places = np.unique(table["label"].to_numpy(), return_inverse=True)
    drawn = table[measure].to_numpy(np.float64)
    for place, label in enumerate(found):
        values = drawn[places == place]
        estimate, error = _mean(values), expected_error(values)
        low, high = _interval(values, calibration)
        gain = error if calibration is None else (high - low) / 2
        rows.append(
            {
                "label": label,
                "name": prediction.stem(int(label)),
                "estimate": estimate,
                "expected_error": error,
                **({} if calibration is None else {"low": low, "high": high}),
                "expected_gain": _share(gain, estimate) if relative else gain,
                "warning": prediction.unlike.get(int(label), ""),
            }
        )
    ranked = pd.DataFrame(rows)
    ranked = ranked.sort_values("expected_gain", ascending=False, kind="stable", na_position="first")
    ranked.insert(0, "rank", range(1, len(ranked) + 1))
    unit = chosen.unit(prediction.unit)
    what = f"half of the {LEVEL:.0%} interval" if calibration else "the error expected of the estimate"
    ranked.attrs |= {"measure": measure, "relative": relative}
    ranked.attrs["columns"] = {
        "rank": "no unit: 1 is the cell that deserves a stack most",
        "label": "no unit: value of the cell in the label layer",
        "name": "no unit: what the cell's files are called",
        "estimate": f"{unit}: {chosen.description} (mean over the members)",
        "expected_error": f"{unit}: mean error of the estimate if the truth were one more member",
        "low": f"{unit}: lower end of the {LEVEL:.0%} interval",
        "high": f"{unit}: upper end of the {LEVEL:.0%} interval",
        "expected_gain": f"{'no unit' if relative else unit}: {what}"
        + (", as a share of the estimate" if relative else ""),
        "warning": "no unit: how the cell is unlike the model's training data, so that the ensemble may be "
        "sure and wrong; empty where it is like them",
    }
    return ranked.reset_index(drop=True)


def expected_error(values: ArrayLike) -> float:
    """Mean absolute error of the members' mean if the truth were one more member.

    Each member in turn is taken for the truth and compared with the mean of the others; NaN of fewer than
    two members.

    Parameters
    ----------
    values : (member,) array
        NaN (of empty shapes) is left out.
    """
    values = np.asarray(values, dtype=np.float64).ravel()
    values = values[np.isfinite(values)]
    if len(values) < 2:
        return float("nan")
    return float(np.abs(values - values.mean()).mean() * len(values) / (len(values) - 1))


def _mean(values: ArrayLike) -> float:
    """Of what is finite; 0 where nothing is, as of shapes that are all empty."""
    finite = np.asarray(values, dtype=np.float64)[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else 0.0


def _share(value: float, of: float) -> float:
    """``value / |of|``; infinite of nothing, which is as unsure as can be."""
    return value / abs(of) if of else np.inf


def _interval(values: ArrayLike, calibration: Calibration | None) -> tuple[float, float]:
    return (np.nan, np.nan) if calibration is None else read_interval(values, calibration)


def _checked(measure: str) -> Any:
    if measure not in MEASURES:
        raise InputError(f"There is no measure {measure!r}: choose among {', '.join(MEASURES)}.")
    return MEASURES[measure]


# --- what a ranking is worth --------------------------------------------------------------------------


def iter_rank_worth(
    cells: Sequence[CellFile],
    evaluation: str | os.PathLike[str],
    measure: str = "volume",
    *,
    relative: bool = True,
    out: str | os.PathLike[str] | None = None,
) -> Generator[Measured, None, dict[str, Any]]:
    """What ranking is worth: the error that remains when the first cells of it are imaged in 3D.

    Parameters
    ----------
    cells : sequence of CellFile
        With objects: those that were evaluated, or more.
    evaluation : path
        Folder of an evaluation with saved shapes. Cells that a method was trained on are left out.
    measure : str
    relative : bool
        As in `rank_cells`; errors are relative to the truth then, or in voxels of the model grid.
    out : path, optional
        Folder for ``worth.json``, ``worth.csv`` (a row a cell and method), ``worth.md`` and ``worth.png``.

    Yields
    ------
    Measured

    Returns
    -------
    dict
        For each method with two members or more what `worth_of` says.

    Raises
    ------
    InputError
        If there is no such measure, or no shapes of two members or more.
    """
    _checked(measure)
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
        if cell.obj is None:
            raise InputError(f"The cell {cell.name} has no object: add obj/{cell.name}.tif.")
        if len(members) > 1:
            if cell.name not in truths:
                truths[cell.name] = _measured(binarise(cell.obj), measure)
            values = [_measured(member, measure) for member in members]
            estimate, truth = _mean(values), truths[cell.name]
            if relative and not truth:
                raise InputError(
                    f"The true {measure} of {cell.name} is 0, of which no error is a share: give --absolute."
                )
            error, gain = abs(estimate - truth), expected_error(values)
            rows.append(
                {
                    "method": method.name,
                    "cell": cell.name,
                    "true": truth,
                    "estimate": estimate,
                    "error": error / abs(truth) if relative else error,
                    "expected_gain": _share(gain, estimate) if relative else gain,
                }
            )
        yield Measured(cell.name, method.name, done, len(drawn))
    if not rows:
        raise InputError(
            f"{folder} holds no shapes of two members or more by models new to the cells: evaluate one."
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
        from napari_dispr.evaluation.ranking_report import write_worth

        write_worth(Path(out), summary, table)
    return summary


def _measured(shape: NDArray[np.bool_], measure: str) -> float:
    """Of the smoothed surface about the voxels, as `evaluate` measures both the true and the drawn ones."""
    if not shape.any():
        return 0.0 if measure == "volume" else float("nan")
    return measure_shape(*level_of(shape), only=[measure])[measure]


def worth_of(errors: ArrayLike, gains: ArrayLike, shares: Sequence[float] = SHARES) -> dict[str, Any]:
    """Mean error that remains when the cells of the largest expected gain are imaged in 3D.

    Parameters
    ----------
    errors : (cell,) array
        As they are; of a cell that is imaged in 3D 0.
    gains : (cell,) array
        By which cells are ranked; unknown ones (NaN) come first.
    shares : sequence of float
        Of the cells that are imaged, each rounded to whole cells.

    Returns
    -------
    dict
        ``cells``, ``error`` (none imaged), ``correlation`` (Spearman's, of gain and error), and for each
        share ``imaged`` (cells), ``ranked``, ``random`` (mean over orders), ``random_interval`` (2.5 to 97.5
        percentile of orders at random), ``best`` (in the order of the true errors) and ``p``, the share of
        orders at random that leave no more than the ranking; and ``curve``, of every number of cells.
    """
    error = np.asarray(errors, dtype=np.float64)
    gain = np.nan_to_num(np.asarray(gains, dtype=np.float64), nan=np.inf)
    count = len(error)
    rng = np.random.default_rng(0)
    random = np.stack([_remaining(error[rng.permutation(count)]) for _ in range(ORDERS)])
    # Cells of equal gain in the order in which they come, which tells nothing of their errors.
    ranked = _remaining(error[np.argsort(-gain, kind="stable")])
    best = _remaining(-np.sort(-error))
    low, high = np.percentile(random, (2.5, 97.5), axis=0)
    mean = error.mean() * (1 - np.arange(count + 1) / count)
    told: dict[str, Any] = {"cells": count, "error": float(error.mean())}
    told["correlation"] = _rank_correlation(gain, error)
    told["shares"] = {
        f"{share:g}": {
            "imaged": (imaged := round(share * count)),
            "ranked": ranked[imaged],
            "random": mean[imaged],
            "random_interval": [low[imaged], high[imaged]],
            "best": best[imaged],
            "p": float((random[:, imaged] <= ranked[imaged] + 1e-12).mean()),
        }
        for share in shares
    }
    told["curve"] = {"ranked": ranked, "random": mean, "low": low, "high": high, "best": best}
    return told


def _remaining(errors: Floats) -> Floats:
    """Mean over all cells when none, the first, the first two, ... have no error any more."""
    left = errors.sum() - np.concatenate([[0.0], np.cumsum(errors)])
    return np.clip(left / len(errors), 0, None)


def _rank_correlation(one: Floats, other: Floats) -> float:
    if len(one) < 3 or not np.ptp(one) or not np.ptp(other):
        return float("nan")
    return float(spearmanr(one, other).statistic)
