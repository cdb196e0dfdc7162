"""Shapes and pictures as cosines, in a frame that is turned in the plane."""

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_dispr import grid

#: Cosines along each axis of shapes, and of masks and images.
MODES, PLANE_MODES = 16, 12
#: Signed distance, in units of the truncation, outside the square in which a shape is known.
_OUTSIDE = -1.0

Floats = NDArray[np.float32]


def mirrored(coefficients: Floats, way: int) -> Floats:
    """Coefficients (..., y, x), mirrored: not at all (``way`` is 0), along x (1), along y (2) or both (3)."""
    sign = (1 - 2 * (np.arange(coefficients.shape[-1]) % 2)).astype(np.float32)
    if way & 1:
        coefficients = coefficients * sign
    if way & 2:
        coefficients = coefficients * sign[:, None]
    return coefficients


def all_mirrored(coefficients: Floats) -> Floats:
    """Coefficients of a picture (n, n), unchanged and mirrored in each of the three ways, (4, n * n)."""
    return np.stack([mirrored(coefficients, way).ravel() for way in range(4)])


def coefficients_of(volume: Floats, angle: float) -> Floats:
    """Coefficients (16, 16, 16) of a shape (64, 64, 64), turned so that a line at ``angle`` lies along x."""
    along_z = np.tensordot(cosines(MODES), volume, 1)
    return plane_coefficients(turned_planes(along_z, angle), 0.0, MODES)


def volume_of(coefficients: Floats, angle: float, outside: float = _OUTSIDE, shift: float = 0.0) -> Floats:
    """The shape (64, 64, 64) of coefficients (16, 16, 16), turned so that its x axis lies at ``angle``.

    It is moved along z by ``shift`` voxels. ``outside`` is the value where the moved grid does not reach.
    """
    products, beyond = _turned_products(-angle)
    z = np.arange(grid.SIZE) - shift
    volume = cosines_at(MODES, z) @ (coefficients.reshape(MODES, -1) @ products)
    volume[:, beyond] = outside
    volume[np.abs(z - grid.CENTRE) > grid.SIZE / 2] = outside
    return np.asarray(volume.reshape(grid.SHAPE), np.float32)


@lru_cache(maxsize=2)  # the members of a cell follow one another
def _turned_products(angle: float) -> tuple[Floats, NDArray[np.bool_]]:
    """Products (256, 4096) of the cosines of y and x at the pixels of a turned picture; which are outside."""
    y, x = _turned_places(angle)
    down, across = (np.ascontiguousarray(cosines_at(MODES, one).T) for one in (y, x))
    outside = np.maximum(np.abs(y - grid.CENTRE), np.abs(x - grid.CENTRE)) > grid.SIZE / 2
    return (down[:, None] * across).reshape(-1, len(y)), outside


def plane_coefficients(planes: Floats, angle: float, modes: int = PLANE_MODES) -> Floats:
    """Coefficients (..., modes, modes) of planes (..., 64, 64), turned."""
    waves = cosines(modes)
    return np.asarray(waves @ (turned_planes(planes, angle) if angle else planes) @ waves.T, np.float32)


def turned_planes(planes: Floats, angle: float) -> Floats:
    """Planes (..., 64, 64) turned so that a line at ``angle`` lies along x; linear between pixels."""
    y, x = (np.clip(one, 0, grid.SIZE - 1) for one in _turned_places(angle))
    above, left = (np.minimum(one.astype(int), grid.SIZE - 2) for one in (y, x))
    down, right = (y - above).astype(np.float32), (x - left).astype(np.float32)
    top = planes[..., above, left] * (1 - right) + planes[..., above, left + 1] * right
    bottom = planes[..., above + 1, left] * (1 - right) + planes[..., above + 1, left + 1] * right
    return (top * (1 - down) + bottom * down).reshape(planes.shape)


def _turned_places(angle: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where the pixels of a turned picture come from: y and x, (4096,)."""
    y, x = (np.indices(grid.SHAPE[1:]) - grid.CENTRE).reshape(2, -1)
    c, s = np.cos(angle), np.sin(angle)
    return s * x + c * y + grid.CENTRE, c * x - s * y + grid.CENTRE


def cosines(modes: int) -> Floats:
    """The orthonormal cosines of the grid, (modes, 64)."""
    return cosines_at(modes, np.arange(grid.SIZE)).T


def cosines_at(modes: int, place: ArrayLike) -> Floats:
    """The orthonormal cosines at any places, (places, modes)."""
    k = np.arange(modes)
    unit = np.sqrt(np.where(k == 0, 1, 2) / grid.SIZE)
    return (np.cos(np.pi / grid.SIZE * (np.asarray(place)[:, None] + 0.5) * k) * unit).astype(np.float32)
