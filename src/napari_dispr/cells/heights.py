"""How tall cells of one kind are, learned from a few known ones: a line from which members get their volume.

Knows arrays only.
"""

import numpy as np
from numpy.typing import ArrayLike

from napari_dispr.card import VolumeLine
from napari_dispr.errors import InputError

#: Least number of known cells.
LEAST_CELLS = 5

#: Priors: mean and standard deviation of the slope over the drawn volume, and of that over the area; standard
#: deviation of the error of the logarithm of the volume. Half of a difference in drawn volume (at equal
#: areas) is expected to be true. Volume is expected to grow in proportion to the area, because sections of
#: cells of one kind differ more than their heights. (In six stacks of nuclei the slope of log volume over log
#: area is .2 to 1.4, 1.1 at the median.)
_OWN, _AREA, _ERROR = (0.5, 0.2), (-0.5, 0.5), 0.15


def fit_line(areas: ArrayLike, drawn: ArrayLike, volumes: ArrayLike, *, sized: bool) -> VolumeLine:
    """Fit the line that gives the volume of a cell from its drawn volume and the area of its mask.

    ``drawn`` is the mean volume of the members as the model draws them; all values (cell,) are in voxels.
    ``sized`` says whether the size on the grid is the true size. It is not with the scale "auto". Raises an
    InputError if there are fewer than `LEAST_CELLS` - 1 cells (one may be left out), or a value is not above
    0.

    Notes
    -----
    Bayesian linear regression of ``log(volume / area^1.5)`` on ``log(drawn / area^1.5)`` and, if ``sized``,
    on ``log area``. The slopes have normal priors, and the constant a flat one. So few cells teach little but
    the constant, a common factor of the heights.
    """
    values = [np.asarray(one, np.float64).ravel() for one in (areas, drawn, volumes)]
    if (count := min(map(len, values))) < LEAST_CELLS - 1:
        raise InputError(f"There are only {count} known cells: give at least {LEAST_CELLS}.")
    if not all((one > 0).all() and np.isfinite(one).all() for one in values):
        raise InputError("An area or a volume of the known cells is 0: leave out the cells that are empty.")
    area, own, truth = (np.log(one) for one in values)
    target = truth - 1.5 * area
    inputs = np.stack([own - 1.5 * area, *([area] if sized else [])], axis=1)
    mean, sd = np.array((_OWN, _AREA)[: inputs.shape[1]]).T
    centre, middle = inputs.mean(axis=0), float(target.mean())
    centred = inputs - centre
    precision = centred.T @ centred / _ERROR**2 + np.diag(1 / sd**2)
    error = target - middle - centred @ mean
    slopes = mean + np.linalg.solve(precision, centred.T @ error / _ERROR**2)
    slope, more = float(slopes[0]), float(slopes[1]) if sized else 0.0
    return VolumeLine(constant=middle - float(slopes @ centre), own=slope, area=1.5 * (1 - slope) + more)


def known_volume(line: VolumeLine, area: float, drawn: float) -> float:
    """Volume in voxels of a member of the volume ``drawn``, of a cell whose mask has this area."""
    return float(np.exp(line.constant + line.own * np.log(drawn) + line.area * np.log(area)))
