"""Statistics of methods on the same cells: summaries with bootstrap intervals, paired tests between methods.

Cells are resampled, never members: those of one cell are no independent witnesses. Knows arrays alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from napari_dispr.shapes.scores import PairedDifference, paired_difference

#: Resamples of the cells for an interval of one method.
DRAWS = 2000
#: Below this a p-value, after correction, counts as decided.
ALPHA = 0.05


def statistics(values: ArrayLike) -> dict[str, float | None]:
    """Median, 90th percentile, mean and standard deviation (n - 1) of what is not NaN; None of nothing.

    Parameters
    ----------
    values : array
        Of any shape; all values count alike.
    """
    known = np.asarray(values, dtype=np.float64).ravel()
    known = known[~np.isnan(known)]
    if not len(known):
        return dict.fromkeys(("median", "percentile_90", "mean", "sd"))
    with np.errstate(invalid="ignore"):  # of errors without bound
        return {
            "median": float(np.median(known)),
            "percentile_90": float(np.percentile(known, 90)),
            "mean": float(known.mean()),
            "sd": float(known.std(ddof=1)) if len(known) > 1 else None,
        }


def intervals(values: ArrayLike, seed: int = 0, draws: int = DRAWS) -> dict[str, list[float] | None]:
    """95 % bootstrap intervals of median and mean, resampling cells with all their members.

    Parameters
    ----------
    values : (cell,) or (cell, member) array
        NaN are left out.
    seed : int
        Of the bootstrap.
    draws : int
        Resamples of the cells.

    Returns
    -------
    dict
        ``median_interval`` and ``mean_interval``, percentiles 2.5 and 97.5; None of fewer than two cells.

    References
    ----------
    .. [1] Efron and Tibshirani (1993). An Introduction to the Bootstrap. Chapman and Hall, chapter 13.
    """
    table = np.asarray(values, dtype=np.float64)
    table = table.reshape(len(table), -1) if table.size else np.empty((0, 1))
    table = table[~np.isnan(table).all(axis=1)]
    if len(table) < 2:
        return {"median_interval": None, "mean_interval": None}
    places = np.random.default_rng(seed).integers(len(table), size=(draws, len(table)))
    drawn = table[places].reshape(draws, -1)
    some = np.isnan(table).any()
    found: dict[str, list[float] | None] = {}
    for name, of in (
        ("median", np.nanmedian if some else np.median),
        ("mean", np.nanmean if some else np.mean),
    ):
        with np.errstate(invalid="ignore"):
            found[f"{name}_interval"] = np.percentile(of(drawn, axis=1), [2.5, 97.5]).tolist()
    return found


@dataclass(frozen=True, slots=True)
class PairedTest:
    """Two methods on the cells that both drew: the difference, first less second, and whether it is one.

    Attributes
    ----------
    first, second : str
        Methods.
    measure : str
        Column.
    difference : PairedDifference
        With bootstrap intervals.
    wilcoxon_p : float
        Two-sided, of the signed ranks of the cells' differences; 1 where there are none.
    holm_p : float
        The same, corrected for all tests that were made together.
    """

    first: str
    second: str
    measure: str
    difference: PairedDifference
    wilcoxon_p: float
    holm_p: float

    def told(self) -> dict[str, Any]:
        """As it stands in a summary."""
        own = {"first": self.first, "second": self.second, "measure": self.measure}
        tests = {"wilcoxon_p": self.wilcoxon_p, "holm_p": self.holm_p, "decided": self.holm_p < ALPHA}
        return own | asdict(self.difference) | tests


def paired_tests(
    values: Mapping[str, Mapping[str, Mapping[str, float]]],
    pairs: Sequence[tuple[str, str]],
    measures: Sequence[str],
    seed: int = 0,
) -> list[PairedTest]:
    """Compare methods by every measure, cell by cell.

    Parameters
    ----------
    values : mapping of method to (mapping of measure to (mapping of cell to value))
        Only cells that both methods of a pair have are compared, and of these what is finite.
    pairs : sequence of (method, method)
    measures : sequence of str
    seed : int
        Of the bootstrap.

    Returns
    -------
    list of PairedTest
        Pair by pair. The p-values of all of them together are corrected by Holm's method [1]_, which
        bounds the probability of any false finding without assuming that tests are independent.

    Notes
    -----
    Wilcoxon's signed-rank test [2]_ with Pratt's way of zeros: differences of 0 take their ranks, and are
    then left out. It asks whether differences lie symmetrically about 0; intervals say how large they are.

    References
    ----------
    .. [1] Holm (1979). A simple sequentially rejective multiple test procedure. Scandinavian Journal of
       Statistics 6(2).
    .. [2] Pratt (1959). Remarks on zeros and ties in the Wilcoxon signed rank procedures. Journal of the
       American Statistical Association 54(287).
    """
    found: list[tuple[str, str, str, PairedDifference, float]] = []
    for first, second in pairs:
        for measure in measures:
            one, other = values[first][measure], values[second][measure]
            both = [(one[cell], other[cell]) for cell in one if cell in other]
            table = np.array([pair for pair in both if np.isfinite(pair).all()]).reshape(-1, 2)
            difference = paired_difference(table[:, 0], table[:, 1], seed)
            found.append((first, second, measure, difference, wilcoxon(table[:, 0] - table[:, 1])))
    corrected = holm([p for *_, p in found])
    return [PairedTest(*test, p) for test, p in zip(found, corrected, strict=True)]


def wilcoxon(differences: NDArray[np.float64]) -> float:
    """Two-sided p-value of the signed ranks; 1 where no difference is left, NaN without cells."""
    if not len(differences):
        return float("nan")
    if not differences.any():
        return 1.0
    return float(stats.wilcoxon(differences, zero_method="pratt").pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values of tests made together, corrected by Holm's method; NaN stay, and count as no test."""
    p = np.asarray(p_values, dtype=np.float64)
    order = [int(place) for place in np.argsort(p) if not np.isnan(p[place])]
    corrected = np.full(len(p), np.nan)
    least = 0.0
    for rank, place in enumerate(order):
        least = max(least, min(1.0, (len(order) - rank) * p[place]))
        corrected[place] = least
    return [float(value) for value in corrected]
