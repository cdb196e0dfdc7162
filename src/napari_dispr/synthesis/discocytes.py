"""Biconcave discs and cups of given area and volume as bodies of revolution, in micrometers.

Uses published measurements of healthy red blood cells, and no voxels.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates
from scipy.optimize import brentq, root
from skimage.measure import points_in_poly

from napari_dispr.errors import InputError
from napari_dispr.synthesis.implicit import Floats, Shape

#: Area (square micrometers) and volume (fL) of the mean discocyte of Evans and Fung (1972), how both vary
#: together, and how little the area varies at one volume (Canham and Burton 1968).
AREA, VOLUME = 134.1, 94.1
VOLUME_SD, AREA_BY_VOLUME, AREA_SD = 13.0, 1.05, 4.0
#: A healthy cell passes a cylinder of this diameter (Canham and Burton 1968), micrometers.
WIDEST_CYLINDER = 3.7
#: Radius of the mean discocyte (Evans and Fung 1972), micrometers.
RADIUS = 3.91
#: The cylinder coordinate, in units of the radius, at which a discocyte is thickest.
_THICKEST = 0.7
#: Step of the table that a body of revolution is read from, micrometers.
_TABLE_STEP = 0.05


def narrowest_cylinder(area: float, volume: float) -> float:
    """Diameter of the narrowest cylinder, with rounded ends, that such a cell can pass.

    Canham and Burton (1968): the smallest d with d A / 4 - pi d^3 / 12 = V.
    """
    widest = np.sqrt(area / np.pi)  # a ball, for which the volume is largest
    if volume >= np.pi * widest**3 / 6:
        return float(widest)
    return float(brentq(lambda d: d * area / 4 - np.pi * d**3 / 12 - volume, 0, widest))


def area_and_volume(rng: np.random.Generator) -> tuple[float, float]:
    """Area and volume of a healthy cell, square micrometers and fL: one that can pass a capillary."""
    while True:
        volume = rng.normal(VOLUME, VOLUME_SD)
        area = AREA + AREA_BY_VOLUME * (volume - VOLUME) + rng.normal(0, AREA_SD)
        if 55 < volume < 140 and narrowest_cylinder(area, volume) < WIDEST_CYLINDER:
            return float(area), float(volume)


def outline(area: float, volume: float, dimple: float, bend: float = 0.0) -> NDArray[np.float64]:
    """Half a section through the axis of a biconcave disc or a cup of the given area and volume.

    Raises an InputError if there is no such cell.

    Parameters
    ----------
    area, volume : float
        Square micrometers and fL.
    dimple : float
        Thickness in the middle, divided by the largest thickness; 0.315 for the disc of Evans and Fung.
    bend : float
        Angle in radians from the axis to the rim, seen from the centre of a ball that the mid-surface
        lies on; 0 for a disc, about 1 for a stomatocyte I, 1.7 for a stomatocyte II.

    Returns
    -------
    (n, 2) array
        (r, z) in micrometers, from the axis on one side to the axis on the other.

    Notes
    -----
    Evans and Fung (1972): r = R sin(eta), z = R / 2 cos(eta) (C0 + C2 sin^2(eta) + C4 sin^4(eta)). C2 and
    C4 follow from the largest thickness, and from where it is. Radius and thickness are found by iteration.
    """
    eta = np.linspace(0, np.pi, 241)
    rho, side = np.sin(eta), np.sign(np.cos(eta))
    start = np.log([np.sqrt(area / AREA) * RADIUS, 2.57 * (volume / area) / (VOLUME / AREA)])

    def curve_of(logs: NDArray[np.float64]) -> NDArray[np.float64]:
        radius, thickest = np.exp(logs)
        return _bent(radius * rho, side * _thickness(rho, thickest, dimple) / 2, bend / radius)

    def apart(logs: NDArray[np.float64]) -> NDArray[np.float64]:
        found = np.maximum(measured(curve_of(np.clip(logs, start - 1, start + 1))), 1e-3)
        return np.asarray(np.log(found / [area, volume]))

    found = root(apart, start, tol=1e-5)
    radius, thickest = np.exp(found.x)
    # The inner side of a cup must not meet itself at the centre of the bend.
    if np.abs(found.fun).max() > 1e-3 or (bend and radius / bend < thickest / 2 + 0.25):
        raise InputError(
            f"There is no cell of {area:.0f} um2 and {volume:.0f} fL that is bent by {bend:.2f}."
        )
    return curve_of(found.x)


def _thickness(rho: NDArray[np.float64], thickest: float, dimple: float) -> NDArray[np.float64]:
    """Thickness of a disc at rho = r / R, micrometers; largest at ``_THICKEST``."""
    # t = sqrt(1 - rho^2) (c0 + c2 rho^2 + c4 rho^4), t(p) = thickest, t'(p) = 0.
    p, c0 = _THICKEST, dimple * thickest
    root = np.sqrt(1 - p**2)
    c2, c4 = np.linalg.solve(
        [[p**2, p**4], [2 * p, 4 * p**3]],
        [thickest / root - c0, p * thickest / root**3],
    )
    return np.asarray(np.sqrt(np.maximum(1 - rho**2, 0)) * (c0 + c2 * rho**2 + c4 * rho**4))


def _bent(along: NDArray[np.float64], off: NDArray[np.float64], curvature: float) -> NDArray[np.float64]:
    """Points ``along`` the mid-surface from the axis, and ``off`` it; the mid-surface lies on a ball."""
    if curvature == 0:
        return np.stack([along, off], axis=1)
    angle = along * curvature
    return np.stack(
        [(1 / curvature - off) * np.sin(angle), 1 / curvature - (1 / curvature - off) * np.cos(angle)], axis=1
    )


def measured(curve: NDArray[np.float64]) -> tuple[float, float]:
    """Area and volume of the body of revolution of an outline (n, 2) of (r, z)."""
    (r1, z1), (r2, z2) = curve[:-1].T, curve[1:].T
    area = np.pi * ((r1 + r2) * np.hypot(r2 - r1, z2 - z1)).sum()
    volume = np.pi / 3 * ((r1**2 + r1 * r2 + r2**2) * (z1 - z2)).sum()
    return float(area), float(volume)


def revolved(curve: NDArray[np.float64]) -> Shape:
    """The body of revolution of an outline, with its middle in the origin; distances to some micrometers."""
    curve = curve - [0, (curve[:, 1].min() + curve[:, 1].max()) / 2]
    reach = np.array([curve[:, 0].max(), curve[:, 1].max()]) + 1.5
    r = np.arange(0, reach[0], _TABLE_STEP)
    z = np.arange(-reach[1], reach[1], _TABLE_STEP)
    points = np.stack(np.meshgrid(r, z, indexing="ij"), axis=-1).reshape(-1, 1, 2).astype(np.float32)
    first = curve[:-1:2].astype(np.float32)
    along = curve[2::2].astype(np.float32) - first
    share = ((points - first) * along).sum(axis=-1) / np.maximum((along**2).sum(axis=-1), 1e-12)
    nearest = first + np.clip(share, 0, 1)[..., None] * along
    distance = np.sqrt(((points - nearest) ** 2).sum(axis=-1).min(axis=1))
    inside = points_in_poly(
        points[:, 0] + [1e-6, 0], np.concatenate([curve, [[-1, curve[-1, 1]], [-1, curve[0, 1]]]])
    )
    table = np.where(inside, distance, -distance).reshape(len(r), len(z))

    def shape(points: Floats) -> Floats:
        index = np.hypot(points[1], points[2]) / _TABLE_STEP, (points[0] + reach[1]) / _TABLE_STEP
        value: Floats = map_coordinates(table, index, order=1, mode="nearest")
        return value

    return shape
