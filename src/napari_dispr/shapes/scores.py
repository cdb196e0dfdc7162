"""Scores: what the members of a cell tell together, how shapes fail, and how two methods differ.

Pure functions of binary volumes and numbers; what a single shape measures stands in ``morphometry``.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from napari_dispr import grid
from napari_dispr.shapes.ensemble import pairwise_iou
from napari_dispr.shapes.morphometry import iou

#: Radius, in voxels, of the ball whose opening takes away what counts as thin.
THIN_RADIUS = 2
#: Voxels to either side of the true surface in which `fold_error` counts.
NEAR_SURFACE = 3

Volume = NDArray[np.bool_]


# --- an ensemble against the truth ------------------------------------------------------------------


def diversity(members: Volume) -> float:
    """Mean 1 - IoU over all pairs of members (member, z, y, x); NaN for a single member."""
    apart = 1.0 - pairwise_iou(members)
    return float(apart[np.triu_indices(len(members), 1)].mean()) if len(members) > 1 else np.nan


def energy_score(members: Volume, truth: Volume) -> float:
    """Fair energy score of an ensemble under the distance d = 1 - IoU; 0 is best.

    Parameters
    ----------
    members : (member, z, y, x) bool array
    truth : (z, y, x) bool array

    Returns
    -------
    float
        ``mean_i d(x_i, y) - mean_{i<j} d(x_i, x_j) / 2``. Of a single member, which is a method without
        randomness, ``1 - IoU``. An ensemble can come out below 0.

    Notes
    -----
    The expectation is least for an ensemble drawn from the distribution of the truth: the score is proper
    [1]_, since 1 - IoU, the Jaccard distance, is of negative type [2]_. Fair [3]_ means that pairs of a
    member with itself are left out, so that few members and many have the same expectation.

    References
    ----------
    .. [1] Gneiting and Raftery (2007). Strictly proper scoring rules, prediction, and estimation. Journal
       of the American Statistical Association 102(477), section 5.
    .. [2] Gower and Legendre (1986). Metric and Euclidean properties of dissimilarity coefficients.
       Journal of Classification 3(1).
    .. [3] Ferro (2014). Fair scores for ensemble forecasts. Quarterly Journal of the Royal Meteorological
       Society 140(683).
    """
    to_truth = float(np.mean([1.0 - iou(member, truth) for member in members]))
    return to_truth - diversity(members) / 2 if len(members) > 1 else to_truth


def best_iou(members: Volume, truth: Volume) -> float:
    """IoU with the truth of the member that is nearest to it."""
    return max(iou(member, truth) for member in members)


def consensus_iou(members: Volume, truth: Volume) -> float:
    """IoU with the truth of the consensus: the voxels that at least half of the members hold."""
    return iou(members.mean(axis=0) >= 0.5, truth)


def crps(values: ArrayLike, truth: float) -> float:
    """Fair continuous ranked probability score of an ensemble of a scalar, in its unit; 0 is best.

    Parameters
    ----------
    values : (member,) array
    truth : float

    Returns
    -------
    float
        ``mean_i |x_i - y| - mean_{i<j} |x_i - x_j| / 2``; of a single value the absolute error.

    References
    ----------
    .. [1] Ferro (2014). Fair scores for ensemble forecasts. Quarterly Journal of the Royal Meteorological
       Society 140(683).
    """
    values = np.asarray(values, dtype=np.float64)
    to_truth = float(np.abs(values - truth).mean())
    if len(values) < 2:
        return to_truth
    apart = np.abs(values[:, None] - values)[np.triu_indices(len(values), 1)]
    return to_truth - float(apart.mean()) / 2


# --- how shapes fail --------------------------------------------------------------------------------


def ball(radius: int) -> Volume:
    """Voxels at most ``radius`` from the centre one, shape (2 radius + 1,) * 3."""
    z, y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1, -radius : radius + 1]
    return np.asarray(z**2 + y**2 + x**2 <= radius**2)


def thin_parts(truth: Volume) -> Volume:
    """What an opening with a ball of radius `THIN_RADIUS` takes away: blades, tips, bridges, rims."""
    return truth & ~ndimage.binary_opening(truth, ball(THIN_RADIUS))


def thin_recall(shape: Volume, truth: Volume) -> float:
    """Share of the truth's `thin_parts` that a shape holds; NaN where it has none."""
    thin = thin_parts(truth)
    count = np.count_nonzero(thin)
    return np.count_nonzero(shape & thin) / count if count else np.nan


def plane_agreement(shape: Volume, truth: Volume) -> float:
    """How alike the planes about the imaged one are, against the truth's: 0 is right, below 0 a seam.

    The mean IoU of the planes 31 and 32 and of 32 and 33, less that of the truth. A shape whose imaged
    plane was made to fit a mask, while its neighbours were not, comes out below 0.

    Parameters
    ----------
    shape, truth : (64, 64, 64) bool arrays
    """

    def alike(volume: Volume) -> float:
        below, imaged, above = volume[grid.IMAGED_PLANE - 1 : grid.IMAGED_PLANE + 2]
        return (iou(below, imaged) + iou(imaged, above)) / 2

    return alike(shape) - alike(truth)


@dataclass(frozen=True, slots=True, eq=False)
class FoldError:
    """Wrong voxels near the surface by voxel index modulo the fold; adds up over cells.

    Attributes
    ----------
    wrong, counted : (axis, fold) arrays
        Voxels, for each axis (z, y, x) and each remainder of the index along it.
    """

    wrong: NDArray[np.int64]
    counted: NDArray[np.int64]

    def __add__(self, other: Self) -> "FoldError":
        return FoldError(self.wrong + other.wrong, self.counted + other.counted)

    @property
    def rates(self) -> NDArray[np.float64]:
        """Share of the voxels that are wrong, (axis, fold); NaN where none were counted."""
        return np.where(self.counted > 0, self.wrong / np.maximum(self.counted, 1), np.nan)

    @property
    def seams(self) -> NDArray[np.float64]:
        """(largest - smallest rate) / mean rate along each axis, (3,); 0 without seams or errors."""
        rates = self.rates
        mean = rates.mean(axis=1)
        return np.where(mean == 0, 0.0, np.ptp(rates, axis=1) / np.where(mean == 0, 1.0, mean))

    @property
    def seam(self) -> float:
        """The largest of `seams`."""
        return float(self.seams.max())


def fold_error(members: Volume, truth: Volume, fold: int) -> FoldError:
    """Count wrong voxels by their index modulo the fold: seams of a network that folds the volume.

    A network that takes blocks of n x n x n voxels for one token can be better at one place within a
    block than at another. Only voxels within `NEAR_SURFACE` of the true surface count. Add the results
    of many cells before reading `FoldError.seams`: along z the imaged plane, which the picture shows,
    makes a difference of its own, so that methods without a fold are the reference.

    Parameters
    ----------
    members : (member, z, y, x) bool array
    truth : (z, y, x) bool array
    fold : int
        n.
    """
    near = ndimage.binary_dilation(truth, iterations=NEAR_SURFACE)
    near &= ~ndimage.binary_erosion(truth, iterations=NEAR_SURFACE, border_value=1)
    errors = ((members != truth) & near).sum(axis=0)
    totals: list[NDArray[np.int64]] = []
    for volume in (errors, near * len(members)):
        along = [volume.sum(axis=tuple({0, 1, 2} - {axis})) for axis in range(3)]
        totals.append(np.stack([[planes[rest::fold].sum() for rest in range(fold)] for planes in along]))
    return FoldError(totals[0], totals[1])


# --- many cells -------------------------------------------------------------------------------------


def interval_coverage_and_width(lows: ArrayLike, highs: ArrayLike, truths: ArrayLike) -> tuple[float, float]:
    """Share of the truths within their intervals (ends included), and the mean relative width.

    Parameters
    ----------
    lows, highs, truths : (cell,) arrays
        Truths above 0.

    Returns
    -------
    coverage, width : float
        The width is the mean of ``(high - low) / truth``.
    """
    low, high, truth = (np.asarray(values, dtype=np.float64) for values in (lows, highs, truths))
    covered = (low <= truth) & (truth <= high)
    return float(covered.mean()), float(((high - low) / truth).mean())


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """First less second over ``n`` cells: mean and median with 95 % bootstrap intervals (low, high)."""

    n: int
    mean: float
    mean_interval: tuple[float, float]
    median: float
    median_interval: tuple[float, float]

    @property
    def decided(self) -> bool:
        """Whether the interval of the mean leaves 0 out."""
        low, high = self.mean_interval
        return low > 0 or high < 0


def paired_difference(
    first: ArrayLike, second: ArrayLike, seed: int = 0, draws: int = 10_000
) -> PairedDifference:
    """Paired difference of two methods on the same cells, first less second.

    Parameters
    ----------
    first, second : (cell,) arrays
        Values of the same cells in the same order. Pairs with a NaN are left out.
    seed : int
        Of the bootstrap.
    draws : int
        Resamples of the cells.

    Returns
    -------
    PairedDifference
        With percentile intervals, 2.5 to 97.5 %. All NaN where no pair is left.

    Raises
    ------
    ValueError
        The two are not of one length.

    References
    ----------
    .. [1] Efron and Tibshirani (1993). An Introduction to the Bootstrap. Chapman and Hall, chapter 13.
    """
    one, other = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if one.shape != other.shape or one.ndim != 1:
        raise ValueError(f"paired values are two lists of one length, not {one.shape} and {other.shape}")
    apart = one - other
    apart = apart[~np.isnan(apart)]
    n = len(apart)
    if not n:
        return PairedDifference(0, np.nan, (np.nan, np.nan), np.nan, (np.nan, np.nan))
    drawn = apart[np.random.default_rng(seed).integers(n, size=(draws, n))]

    def interval(statistics: NDArray[np.float64]) -> tuple[float, float]:
        low, high = np.percentile(statistics, [2.5, 97.5])
        return float(low), float(high)

    return PairedDifference(
        n,
        float(apart.mean()),
        interval(drawn.mean(axis=1)),
        float(np.median(apart)),
        interval(np.median(drawn, axis=1)),
    )
