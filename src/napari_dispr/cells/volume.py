"""Predict the volume of a cell from a few features of mask and image, to correct the sampled shapes.

A network overfits a hundred cells. A regression on few features generalises better, for example that blood
cells of a kind have similar volumes in all orientations. Knows arrays only.
"""

from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

from napari_dispr.card import KNOWN, GaussianProcess, VolumeProcess, VolumeRegression
from napari_dispr.cells.features import GROUPS, SIZE, Floats, Plane, features, rounded
from napari_dispr.errors import InputError

#: Least number of training cells for a regression.
LEAST_CELLS = 20

#: Limit of the logarithm of a predicted volume in voxels: far beyond the model grid.
_LONGEST = 50.0

#: Least error of a cell relative to the root mean square of all, and limit of the logarithm of that ratio.
_LEAST, _FACTOR = 0.12, 1.5

#: Hyperparameters to try: length scale, share of the linear kernel, variance of the noise.
_TRIED = tuple(product((0.7, 1.0, 1.5, 2.5), (0.1, 0.3, 1.0), (0.1, 0.3, 1.0)))


def fit_volume(
    masks: Sequence[Plane], images: Sequence[Plane | None], volumes: Sequence[float]
) -> VolumeRegression:
    """Fit the volume of cells, in voxels, to features of mask and image, (64, 64) at the same scale.

    Cells without image, or with a constant one, are left out. Raises an InputError if there are fewer than
    `LEAST_CELLS` cells with an image.

    Notes
    -----
    Gaussian process regression of the logarithm of the volume [1]_ (relative to area^1.5 if the size is not
    among the features) on standardised features, with a squared exponential and a linear kernel. The
    hyperparameters minimise the leave-one-out error (Eqs. 5.10 to 5.12).

    References
    ----------
    .. [1] Rasmussen and Williams (2006). Gaussian Processes for Machine Learning. MIT Press.
    """
    triples = zip(masks, images, volumes, strict=True)
    seen = [(features(mask, image), volume) for mask, image, volume in triples]
    seen = [(found, volume) for found, volume in seen if "picture" in found]
    if len(seen) < LEAST_CELLS:
        raise InputError(
            f"{len(seen)} cells with an image are too few to predict volumes: give at least {LEAST_CELLS}."
        )
    table = np.array([np.concatenate([found[group] for group in GROUPS]) for found, _ in seen])
    log_volume = np.log([volume for _, volume in seen])
    log_area = np.array([found["size"][SIZE.index("area")] for found, _ in seen])
    mean, sd = table.mean(axis=0), table.std(axis=0) + 1e-3
    cells = np.round((table - mean) / sd, 4)
    return VolumeRegression(
        mean=rounded(mean),
        sd=rounded(sd),
        cells=tuple(rounded(row) for row in cells),
        weights={
            known: _fitted(
                cells[:, _columns(known.split("+"))],
                log_volume if "size" in known else log_volume - 1.5 * log_area,
            )
            for known in KNOWN
        },
    )


def expected_volume(
    regression: VolumeRegression, found: Mapping[str, Sequence[float]], *, sized: bool
) -> tuple[float, float]:
    """Volume of a cell in voxels, predicted from its `features`, and the standard deviation of its logarithm.

    ``sized`` says whether the size on the grid is the true size. It is not with the scale "auto".
    """
    known = [group for group in GROUPS if group in found and (group != "size" or sized)]
    columns = _columns(known)
    own = np.concatenate([found[group] for group in known])
    own = (own - np.array(regression.mean)[columns]) / np.array(regression.sd)[columns]
    weights = regression.weights["+".join(known)]
    cells = np.array(regression.cells)[:, columns]
    log_volume = _predicted(weights, own, cells)
    if "size" not in known:
        log_volume += 1.5 * found["size"][SIZE.index("area")]
    error = weights.error
    if weights.errors is not None:
        error *= np.exp(np.clip(_predicted(weights.errors, own, cells), -_FACTOR, _FACTOR))
    return float(np.exp(np.clip(log_volume, -_LONGEST, _LONGEST))), float(error)


def _columns(known: Sequence[str]) -> NDArray[np.int64]:
    """Columns of the groups in the table of all features."""
    groups = np.repeat(list(GROUPS), [len(names) for names in GROUPS.values()])
    return np.flatnonzero(np.isin(groups, known))


def _kernel(a: Floats, b: Floats, length: float, linear: float) -> Floats:
    squared = ((a[:, None] - b[None]) ** 2).mean(axis=-1)
    return np.asarray(np.exp(-squared / (2 * length**2)) + linear * (a @ b.T) / a.shape[1])


def _predicted(process: GaussianProcess, own: Floats, cells: Floats) -> float:
    kernel = _kernel(own[None], cells, process.length, process.linear)
    return float(process.centre + (kernel @ np.array(process.of_cells))[0])


def _fitted(cells: Floats, target: Floats) -> VolumeProcess:
    process, left_out = _process(cells, target)
    error = max(float(np.sqrt(np.mean(left_out**2))), 1e-3 * float(target.std()), 1e-6)
    # The size of the errors, relative to their root mean square; an error is not small only by chance.
    sizes = np.log(np.abs(left_out) / error + _LEAST)
    errors, off = _process(cells, sizes)
    scale = np.log(np.mean((left_out / error / np.exp(sizes - off)) ** 2) + 1e-12) / 2
    return VolumeProcess(
        **process.model_dump(),
        error=float(f"{error:.4g}"),
        errors=errors.model_copy(update={"centre": float(errors.centre + scale)}),
    )


def _process(cells: Floats, target: Floats) -> tuple[GaussianProcess, Floats]:
    """The process, and the errors of cells left out one by one."""
    centre = float(target.mean())
    tried: list[tuple[float, Floats, Floats, float, float]] = []
    for length, linear, noise in _TRIED:
        inverse = np.linalg.inv(_kernel(cells, cells, length, linear) + noise * np.eye(len(cells)))
        of_cells = inverse @ (target - centre)
        left_out = of_cells / np.diag(inverse)  # Eq. 5.12: leave-one-out errors
        tried.append((float(np.mean(left_out**2)), of_cells, left_out, length, linear))
    _, of_cells, left_out, length, linear = min(tried, key=lambda one: one[0])
    return GaussianProcess(centre=centre, of_cells=rounded(of_cells), length=length, linear=linear), left_out
