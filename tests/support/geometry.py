"""Balls as signed distances, and measures of ellipsoids by formula, and how objects end."""

import numpy as np
from scipy.special import ellipeinc, ellipkinc

from napari_dispr import grid
from napari_dispr.signed_distance import from_level

_Z, _Y, _X = np.indices(grid.SHAPE, dtype=np.float32)


def ball(radius, centre=(32, 31.5, 31.5)):
    """Signed distance (64, 64, 64) of a ball on the model grid."""
    z, y, x = centre
    return radius - np.sqrt((_Z - z) ** 2 + (_Y - y) ** 2 + (_X - x) ** 2)


def ellipsoid_area(a, b, c):
    a, b, c = sorted((a, b, c), reverse=True)
    phi = np.arccos(c / a)
    m = a**2 * (b**2 - c**2) / (b**2 * (a**2 - c**2))
    elliptic = np.sin(phi) ** 2 * ellipeinc(phi, m) + np.cos(phi) ** 2 * ellipkinc(phi, m)
    return 2 * np.pi * c**2 + 2 * np.pi * a * b / np.sin(phi) * elliptic


def mean_width(a, b, c):
    """Of an ellipsoid, by its support function over directions spread evenly on the sphere."""
    i = np.arange(20_000) + 0.5
    polar, azimuth = np.arccos(1 - i / 10_000), np.pi * (1 + 5**0.5) * i
    n = np.cos(polar), np.sin(polar) * np.sin(azimuth), np.sin(polar) * np.cos(azimuth)
    return 2 * np.sqrt((a * n[0]) ** 2 + (b * n[1]) ** 2 + (c * n[2]) ** 2).mean()


def check_antialiased(obj: np.ndarray) -> None:
    """The edges of an object are one voxel wide."""
    distance = from_level(obj, 127.5, truncation=3)
    assert (obj[distance > 1.5] == 255).mean() > 0.99
    assert (obj[distance < -1.5] == 0).mean() > 0.99
    near = np.abs(distance) < 0.4
    assert np.abs(obj[near] / 255 - 0.5 - distance[near]).mean() < 0.1
