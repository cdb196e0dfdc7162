"""Features of a mask and an image on the model grid: size, shape, picture.

The image counts only inside the mask, normalised as in a model's condition, so that neighbours and gain have
no effect.
"""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_dispr.cells.cropping import INSIDE
from napari_dispr.cells.training_cells import larger_side

Plane = NDArray[np.float32]
Floats = NDArray[np.float64]

#: Limits of rings around the edge of the mask, as distances in voxels.
_RINGS = (0.0, 1.5, 3.0, 5.0, 8.0, np.inf)
#: Distance from the edge up to which the rim reaches, and from which the core starts, in voxels.
_RIM, _CORE = 5.0, 2.5
#: Sigmas in voxels of the Gaussians that separate details by size.
_WIDTHS = (0.7, 1.4, 2.8, 5.6)

#: Features of the size of the mask (logarithms of voxels).
SIZE = ("extent", "area")
#: Features of its shape, independent of size: area / extent^2, ratio of axes, area / hull, number of parts,
#: holes, perimeter / root of the area.
SHAPE = ("fill", "elongation", "solidity", "parts", "holes", "perimeter")
#: Features of the picture: moments, mean of each ring, correlation with the distance from the edge in the
#: rim, strength of details of each size in the core and everywhere, steepness.
PICTURE = (
    *("mean", "sd", "skew"),
    *(f"ring_{i}" for i in range(len(_RINGS) - 1)),
    "rim",
    *(f"core_{i}" for i in range(len(_WIDTHS))),
    *(f"detail_{i}" for i in range(len(_WIDTHS))),
    *("steepest", "steep", "flat", "edges", "curved"),
)

#: The features of each group.
GROUPS = {"size": SIZE, "shape": SHAPE, "picture": PICTURE}


def features(mask: Plane, image: Plane | None) -> dict[str, list[float]]:
    """Features of a crop by group: "size", "shape" and, if there is an image that is not constant, "picture".

    ``mask`` (64, 64), in [0, 1], is not empty.
    """
    inside = mask > INSIDE
    extent = float(larger_side(mask))
    area = float(inside.sum())
    found = {"size": [np.log(extent), np.log(area)], "shape": _shape(inside, area, extent)}
    values = None if image is None else _normalised(image, inside)
    if values is not None:
        found["picture"] = _picture(values, inside)
    return found


def _shape(inside: NDArray[np.bool_], area: float, extent: float) -> list[float]:
    points = np.argwhere(inside).astype(np.float64)
    centred = points - points.mean(axis=0)
    axes: Floats = np.linalg.eigvalsh(centred.T @ centred / area) + 1 / 12  # of a pixel itself
    padded = np.pad(inside, 1)
    edges = float(sum(np.count_nonzero(np.diff(padded, axis=axis)) for axis in (0, 1)))
    parts, _ = ndimage.label(inside, np.ones((3, 3)))
    ground, _ = ndimage.label(~padded)
    large = int(np.count_nonzero(np.bincount(parts.ravel())[1:] > 0.01 * area))
    return [
        np.log(area / extent**2),
        float(np.log(axes[1] / axes[0]) / 2),
        np.log(area / _hull(points)),
        float(np.log(max(large, 1))),
        float(np.sqrt(np.bincount(ground.ravel())[2:].sum() / area)),
        np.log(edges / np.sqrt(area)),
    ]


def _hull(points: Floats) -> float:
    """Area of the convex hull of voxels with their corners."""
    from scipy.spatial import ConvexHull, QhullError  # not needed where a window opens

    corners = (points[:, None] + [(-0.5, -0.5), (-0.5, 0.5), (0.5, -0.5), (0.5, 0.5)]).reshape(-1, 2)
    try:
        return float(ConvexHull(corners).volume)
    except QhullError:
        return float(len(points))


def _normalised(image: Plane, inside: NDArray[np.bool_]) -> Floats | None:
    """Scale the 1st to 99th percentile inside the mask to [0, 1]; None if the image is constant."""
    low, high = np.percentile(image[inside], (1, 99))
    if high - low <= 1e-6 * max(1.0, abs(high)):
        return None
    return np.clip((image.astype(np.float64) - low) / (high - low), -0.5, 1.5)


def _picture(values: Floats, inside: NDArray[np.bool_]) -> list[float]:
    own = values[inside]
    mean, sd = float(own.mean()), float(own.std())
    depth = np.asarray(ndimage.distance_transform_edt(np.pad(inside, 1)))[1:-1, 1:-1]
    rings: list[float] = []
    for low, high in pairwise(_RINGS):
        ring = (depth > low) & (depth <= high)
        # A thin cell has no inner rings: they get the value of its innermost ring.
        rings.append(float(values[ring].mean()) if ring.sum() > 5 else rings[-1] if rings else mean)
    core = depth > _CORE
    core = core if core.sum() >= 30 else inside

    # Smoothed only inside the mask: outside are other cells, or nothing.
    weight = inside.astype(np.float64)
    levels = [values]
    for width in _WIDTHS:
        light, share = (ndimage.gaussian_filter(plane, width) for plane in (values * weight, weight))
        levels.append(light / np.maximum(share, 1e-3))
    bands = [finer - coarser for finer, coarser in pairwise(levels)]
    steepness = np.hypot(*np.gradient(levels[1]))
    bend = np.abs(ndimage.laplace(levels[1]))[core]
    rim = (depth > 0) & (depth <= _RIM)
    return [
        mean,
        sd,
        float(((own - mean) ** 3).mean() / sd**3),
        *rings,
        _correlation(values[rim], depth[rim]),
        *(_log(np.sqrt(np.mean(band[core] ** 2))) for band in bands),
        *(_log(np.sqrt(np.mean(band[inside] ** 2))) for band in bands),
        *(_log(q) for q in np.percentile(steepness[inside], (98, 85, 50))),
        *(_log(q) for q in np.percentile(bend, (90, 50))),
    ]


def _log(value: float) -> float:
    """Logarithm of a strength; less than a thousandth of the contrast counts as 0."""
    return float(np.log(value + 1e-3))


def _correlation(a: Floats, b: Floats) -> float:
    spread = float(a.std() * b.std())
    return float(((a - a.mean()) * (b - b.mean())).mean() / spread) if spread > 1e-9 else 0.0


def rounded(values: Floats) -> tuple[float, ...]:
    """Values for a card, rounded to six digits."""
    return tuple(float(f"{value:.6g}") for value in values)
