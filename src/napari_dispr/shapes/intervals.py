"""Intervals of a measure that hold the truth as often as they say: conformal, from cells with a known truth.

The members' spread alone is no interval: a model may be too sure, or its mean may be off. How far the
truth lay from the estimate on cells that were not trained on says how wide to make it.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_dispr.card import Calibration
from napari_dispr.errors import InputError

__all__ = ["CALIBRATED", "LEVEL", "Calibration", "calibrate", "read_interval"]

#: Level of the intervals in tables.
LEVEL = 0.9
#: Measures that can be calibrated: they are positive, so that errors are of their logarithm and the unit
#: does not matter. The mean curvature can be negative and is not among them.
CALIBRATED = ("volume", "surface_area", "sphericity", "roughness", "equivalent_diameter")
#: Floors that are tried, as shares of the root mean square error.
_FLOORS = np.geomspace(0.02, 20.0, 61)

Values = NDArray[np.float64]


def calibrate(
    members_by_cell: Sequence[Mapping[str, ArrayLike]], truths: Sequence[Mapping[str, float]]
) -> dict[str, Calibration]:
    """Fit the intervals of all measures of `CALIBRATED` that are given.

    Parameters
    ----------
    members_by_cell : sequence of mapping of measure to (member,) array
        Of each cell, as drawn by a model that was not trained on it.
    truths : sequence of mapping of measure to float
        Of the same cells, in the same unit.

    Returns
    -------
    dict of measure to Calibration
        Of those measures that enough cells have.

    Raises
    ------
    InputError
        If the two are of different lengths, or there are too few cells to read an interval of `LEVEL` from.

    Notes
    -----
    The score of cell i is ``(log truth_i - log estimate_i) / sqrt(sd_i^2 + floor^2)``, with the estimate
    the mean over the members and sd_i the standard deviation of their logarithm: split conformal
    prediction with locally weighted scores [1]_ [2]_ [3]_. Scores keep their sign and each end of an
    interval is read from its own tail, so that a model that is off to one side gets intervals that are off
    to the other. The floor is the one under which the errors are most likely as those of a Laplace
    distribution whose scale is proportional to ``sqrt(sd_i^2 + floor^2)``: near 0 where the members' spread
    tells the error, large where it tells nothing and all intervals are equally wide. As one number fitted
    to all cells alike it costs no coverage that can be seen (tests/test_intervals.py).

    References
    ----------
    .. [1] Papadopoulos et al. (2002). Inductive confidence machines for regression. ECML.
    .. [2] Vovk, Gammerman and Shafer (2005). Algorithmic Learning in a Random World. Springer.
    .. [3] Lei et al. (2018). Distribution-free predictive inference for regression. JASA 113(523).
    """
    if len(members_by_cell) != len(truths):
        raise InputError(
            f"There are ensembles of {len(members_by_cell)} cells and truths of {len(truths)}: give one each."
        )
    least = least_cells(LEVEL)
    if len(truths) < least:
        raise InputError(
            f"{len(truths)} cells are too few to calibrate intervals of {LEVEL:.0%}: give at least {least}."
        )
    found = {}
    for name in CALIBRATED:
        pairs = [
            (*estimate, np.log(truth[name]), np.size(members[name]))
            for members, truth in zip(members_by_cell, truths, strict=True)
            if name in members and name in truth and truth[name] > 0
            if (estimate := _estimate(members[name])) is not None
        ]
        if len(pairs) >= least:
            found[name] = _calibration(*np.array(pairs, dtype=np.float64).T)
    return found


def read_interval(values: ArrayLike, calibration: Calibration, level: float = LEVEL) -> tuple[float, float]:
    """Interval that holds the truth of a cell with probability ``level``, if the cell is like the others.

    Parameters
    ----------
    values : (member,) array
        The measure of each member; one is enough. NaN (of empty shapes) is left out.
    calibration : Calibration
    level : float
        In (0, 1).

    Returns
    -------
    low, high : float
        In the unit of the values; NaN where no member has a value above 0.

    Raises
    ------
    InputError
        If the level is no share, or the calibration has too few cells for it.

    Notes
    -----
    Of n scores in ascending order the ends are those number ``floor((n + 1) (1 - level) / 2)`` and
    ``ceil((n + 1) (1 + level) / 2)``. With fewer members than the calibration had, their variance is
    pooled with the usual one, and what fewer members add to the variance of their mean is added.
    """
    if not 0 < level < 1:
        raise InputError(f"The level of an interval is {level!r}: give a number between 0 and 1, as 0.9.")
    n = len(calibration.scores)
    tail = int((n + 1) * (1 - level) / 2 + 1e-9)
    if tail < 1:
        raise InputError(
            f"An interval of {level:.0%} needs a calibration on {least_cells(level)} cells, this one is on "
            f"{n}: ask for a lower level."
        )
    estimate = _estimate(values)
    if estimate is None:
        return np.nan, np.nan
    log_mean, sd = estimate
    count, usual = np.count_nonzero(np.isfinite(np.asarray(values, dtype=np.float64))), calibration.members
    variance = sd**2
    scores = np.array(calibration.scores)
    if count < usual:
        variance = ((count - 1) * variance + (usual - count) * calibration.sd**2) / (usual - 1)
        # In units of the scores, whose own variance the calibration has already.
        variance *= 1 + (1 / count - 1 / usual) / max(float(np.mean(scores**2)), 1e-12)
    spread = np.sqrt(variance + calibration.floor**2)
    low, high = np.exp(log_mean + spread * scores[[tail - 1, n - tail]])
    return float(low), float(high)


def least_cells(level: float) -> int:
    """Cells that an interval of this level takes: 19 for 90 %."""
    return int(np.ceil(2 / (1 - level) - 1 - 1e-9))


def _estimate(values: ArrayLike) -> tuple[float, float] | None:
    """Logarithm of the mean, and standard deviation of the logarithm, of the members' values.

    The latter from the coefficient of variation, as of a log-normal distribution, so that an empty
    member, of volume 0, does no harm.
    """
    values = np.asarray(values, dtype=np.float64).ravel()
    values = values[np.isfinite(values)]
    if not len(values) or not values.mean() > 0:
        return None
    mean = float(values.mean())
    sd = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    return float(np.log(mean)), float(np.sqrt(np.log1p((sd / mean) ** 2)))


def _calibration(log_mean: Values, sd: Values, log_truth: Values, members: Values) -> Calibration:
    error = log_truth - log_mean
    size = max(float(np.sqrt(np.mean(error**2))), 1e-6)

    def likelihood(floor: float) -> float:
        spread = np.sqrt(sd**2 + floor**2)
        return float(-len(error) * np.log(np.mean(np.abs(error) / spread)) - np.log(spread).sum())

    floor = max(_FLOORS * size, key=likelihood) if error.any() else size
    scores = np.sort(error / np.sqrt(sd**2 + floor**2))
    return Calibration(
        scores=tuple(float(f"{score:.5g}") for score in scores),
        floor=float(f"{floor:.5g}"),
        sd=float(f"{np.sqrt(np.mean(sd**2)):.5g}"),
        members=int(np.median(members)),
    )
