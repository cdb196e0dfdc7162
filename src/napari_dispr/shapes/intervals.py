"""Calibrated intervals of measures, by conformal prediction from cells with known shapes.

The spread of the members alone is no interval: a model can be too certain or biased. The errors on cells that
the model was not trained on decide how wide an interval is.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

from napari_dispr.card import Calibration, PlaneIntervals
from napari_dispr.errors import InputError

#: Level of the intervals in tables.
LEVEL = 0.9
#: Measures that can be calibrated: they are positive, so that errors are those of the logarithm, without a
#: unit.
CALIBRATED = ("volume", "surface_area", "sphericity", "roughness", "equivalent_diameter")
#: Least number of cells if few are allowed.
LEAST_CELLS = 5
#: Classes of cells of which several planes are known.
_CLASSES = 4
#: Number of quantiles that stand for the scores of few cells: enough for intervals of 95 %.
_QUANTILES = 39
#: Floors to try, as multiples of the root mean square error.
_FLOORS = np.geomspace(0.02, 20.0, 61)

#: Limit of an interval's half width, as a logarithm: more than any factor between two cells.
_LONGEST = 50.0

Values = NDArray[np.float64]


def calibrate(
    members_by_cell: Sequence[Mapping[str, ArrayLike]],
    truths: Sequence[Mapping[str, float]],
    *,
    few: bool = False,
) -> dict[str, Calibration]:
    """Calibrate the intervals of all measures of `CALIBRATED` that are given.

    Parameters
    ----------
    members_by_cell : sequence of mapping of measure to (member,) array
        Of each cell, from a model that was not trained on it.
    truths : sequence of mapping of measure to float
        Of the same cells, in the same unit.
    few : bool
        Whether `LEAST_CELLS` cells are enough. Too few for quantiles, their errors are then assumed to be
        normally distributed.

    Returns
    -------
    dict of measure to Calibration
        Of the measures that enough cells have.

    Raises
    ------
    InputError
        If there are too few cells for intervals of `LEVEL`.

    Notes
    -----
    This is split conformal prediction with locally weighted scores [1]_ [2]_ [3]_. The score of cell i is
    ``(log truth_i - log estimate_i) / sqrt(sd_i^2 + floor^2)``. The estimate is the mean over the members,
    and sd_i the standard deviation of their logarithm. Intervals use the absolute scores, so that an
    estimate lies in the middle of its interval, also if the model is biased.

    The floor maximises the likelihood of the errors under a Laplace distribution with a scale proportional
    to ``sqrt(sd_i^2 + floor^2)``. It is near 0 if the spread of the members predicts the error. If it does
    not, the floor is large, and all intervals are equally wide. This one fitted number does not lower the
    coverage noticeably (tests/shapes/test_intervals.py).

    Fewer than 19 cells have no quantile for 90 %. The floor is then the root mean square error, and the
    scores are replaced by quantiles of the prediction interval of a normal distribution with mean 0 and
    unknown variance: those of Student's t with n - 1 degrees of freedom, times the root mean square of the
    n scores, times ``sqrt(1 + 1 / n)``.

    References
    ----------
    .. [1] Papadopoulos et al. (2002). Inductive confidence machines for regression. ECML.
    .. [2] Vovk, Gammerman and Shafer (2005). Algorithmic Learning in a Random World. Springer.
    .. [3] Lei et al. (2018). Distribution-free predictive inference for regression. JASA 113(523).
    """
    least = LEAST_CELLS if few else least_cells(LEVEL)
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


def calibrate_planes(
    gaps: Sequence[float],
    members_by_cell: Sequence[Mapping[str, ArrayLike]],
    truths: Sequence[Mapping[str, float]],
) -> tuple[PlaneIntervals, ...]:
    """Calibrate the intervals of cells of which several planes are known; see `calibrate`.

    The cells are divided by their ``gaps`` (`planes.mean_gap`) into up to `_CLASSES` classes of equal size,
    each with its own calibration: the more planes, the narrower the intervals. A cell may be given several
    times, with different planes.
    """
    count = max(1, min(_CLASSES, len(gaps) // least_cells(LEVEL)))
    found = []
    for part in np.array_split(np.argsort(gaps, kind="stable"), count):
        own = calibrate([members_by_cell[i] for i in part], [truths[i] for i in part])
        found.append(PlaneIntervals(gap=float(f"{gaps[part[-1]]:.4g}"), measures=own))
    return tuple(found)


def read_interval(values: ArrayLike, calibration: Calibration, level: float = LEVEL) -> tuple[float, float]:
    """Interval that contains the truth with probability ``level`` for a cell like the calibrated ones.

    The estimate, the mean over the members, is its geometric middle.

    Raises an InputError if the calibration has too few cells for the level.

    Parameters
    ----------
    values : (member,) array
        The measure of each member; one is enough. NaN (of empty shapes) is left out.
    level : float
        Between 0 and 1.

    Returns
    -------
    low, high : float
        In the unit of the values; NaN if no member has a value above 0.

    Notes
    -----
    The ends are ``estimate exp(+-q sqrt(sd^2 + floor^2))``, with q the absolute score number
    ``ceil((n + 1) level)`` of n in ascending order. With fewer members than in the calibration,
    their variance is pooled with the usual variance, and the larger variance of their mean is added.
    """
    n = len(calibration.scores)
    if n < least_cells(level):
        raise InputError(
            f"An interval of {level:.0%} needs a calibration with {least_cells(level)} cells, "
            f"this one has {n}: choose a lower level."
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
        # In units of the scores, whose own variance is already in the calibration.
        variance *= 1 + (1 / count - 1 / usual) / max(float(np.mean(scores**2)), 1e-12)
    spread = np.sqrt(variance + calibration.floor**2)
    score = np.sort(np.abs(scores))[int(np.ceil((n + 1) * level - 1e-9)) - 1]
    reach = min(spread * score, _LONGEST)
    return float(np.exp(log_mean - reach)), float(np.exp(log_mean + reach))


def least_cells(level: float) -> int:
    """Cells that an interval of this level needs: 19 for 90 %, so that one larger error may be left out."""
    return int(np.ceil(2 / (1 - level) - 1 - 1e-9))


def _estimate(values: ArrayLike) -> tuple[float, float] | None:
    """Logarithm of the mean, and standard deviation of the logarithm, of the members' values.

    The latter follows from the coefficient of variation, as in a log-normal distribution, so that a volume
    of 0 is allowed.
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
    count = len(error)
    few = count < least_cells(LEVEL)

    def likelihood(floor: float) -> float:
        spread = np.sqrt(sd**2 + floor**2)
        return float(-len(error) * np.log(np.mean(np.abs(error) / spread)) - np.log(spread).sum())

    floor = max(_FLOORS * size, key=likelihood) if error.any() and not few else size
    scores = np.sort(error / np.sqrt(sd**2 + floor**2))
    if few:
        levels = np.arange(1, _QUANTILES + 1) / (_QUANTILES + 1)
        spread = np.sqrt(np.mean(scores**2) * (1 + 1 / count))
        scores = np.asarray(spread * stdtrit(count - 1, (1 + levels) / 2))
    return Calibration(
        scores=tuple(float(f"{score:.5g}") for score in scores),
        floor=float(f"{floor:.5g}"),
        sd=float(f"{np.sqrt(np.mean(sd**2)):.5g}"),
        members=int(np.median(members)),
        few=count if few else None,
    )
