"""The model grid: 64 x 64 x 64 isotropic voxels, axes (z, y, x), imaged plane z = 32.

Every shape that the models see or draw lies on this grid. Affines are 4 x 4, row-major, act on
(z, y, x, 1) and map voxel-centre indices to voxel-centre indices or world coordinates.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_dispr.errors import InputError

SIZE = 64
SHAPE = (SIZE, SIZE, SIZE)
IMAGED_PLANE = 32
#: In-plane centre of the grid in voxel-centre indices: where the centre of a mask's box is put.
CENTRE = (SIZE - 1) / 2
#: The same in the imaged plane, (z, y, x).
MIDDLE = (IMAGED_PLANE, CENTRE, CENTRE)
#: No microscope has voxels that are longer than this many times their shortest side.
_MOST_RATIO = 100
#: Sizes of pixels and voxels, in any unit: no microscope has smaller or larger ones, and numbers beyond them
#: overflow where they are squared and multiplied.
SMALLEST, LARGEST = 1e-9, 1e9
#: The same where the unit is known.
_SIDES = {"micrometer": (1e-4, 1e4)}
#: Limit of the size of a grid's voxel relative to a pixel, and the inverse.
GRID_TO_PIXEL = 1e4


def check_affine(affine: ArrayLike) -> NDArray[np.float64]:
    """An affine (3, 3) or (4, 4) of a picture or a grid, as numbers that can be computed with.

    Raises a ValueError if it is not finite and real, cannot be inverted, or has a scale that no microscope
    has.
    """
    matrix = np.asarray(affine)
    if matrix.dtype.kind not in "iuf" or matrix.shape not in ((3, 3), (4, 4)):
        raise ValueError("an affine has 3 x 3 or 4 x 4 real numbers")
    matrix = matrix.astype(np.float64)
    with np.errstate(over="ignore"):  # infinite sizes are refused below
        size = np.linalg.norm(matrix[:-1, :-1], axis=0) if np.isfinite(matrix).all() else np.zeros(1)
    # A voxel of a grid may be smaller or larger than the pixels of its picture.
    ratio = 1.0 if len(matrix) == 3 else GRID_TO_PIXEL
    if size.min() < SMALLEST / ratio or size.max() > LARGEST * ratio:
        raise ValueError(f"an affine has scales from {SMALLEST / ratio:g} to {LARGEST * ratio:g}")
    if not np.array_equal(matrix[-1], np.eye(len(matrix))[-1]):
        raise ValueError("the last row of an affine is 0, ..., 0, 1")
    if abs(np.linalg.det(matrix[:-1, :-1] / size)) < 1e-6 or np.abs(matrix[:-1, -1]).max() > 1e18:
        raise ValueError("an affine can be inverted")
    return matrix


def plane_distance() -> NDArray[np.float32]:
    """Signed distance of each z index from the imaged plane, in voxels, shape (64,)."""
    return np.arange(SIZE, dtype=np.float32) - IMAGED_PLANE


def section(volume: Any, depth: float = 0.0) -> Any:
    """A plane (..., 64, 64) of a volume (..., 64, 64, 64), which may be a tensor.

    ``depth`` is in voxels from the imaged plane; between two planes the values are interpolated.
    """
    place = IMAGED_PLANE + depth
    below = min(max(int(place // 1), 0), SIZE - 2)
    share = place - below
    if share in (0, 1):
        return volume[..., below + int(share), :, :]
    return volume[..., below, :, :] * (1 - share) + volume[..., below + 1, :, :] * share


def between(
    planes: NDArray[np.float32], known: ArrayLike, places: NDArray[np.floating[Any]]
) -> NDArray[np.float32]:
    """Planes (n, y, x) at some places along an axis, between those at the ``known`` places, which rise.

    Interpolated linearly, and constant beyond the first and the last.
    """
    at = np.interp(places, np.asarray(known), np.arange(len(planes)))
    below = np.floor(at).astype(int)
    above = np.minimum(below + 1, len(planes) - 1)
    share = (at - below).astype(np.float32)[:, None, None]
    return planes[below] * (1 - share) + planes[above] * share


def box_of(inside: NDArray[np.bool_], margin: ArrayLike = 0) -> tuple[slice, ...] | None:
    """The smallest part of an array that holds all that is inside, and a margin as far as the array reaches.

    None if nothing is inside. ``margin`` is one for all axes, or one for each.
    """
    box = []
    margins = np.broadcast_to(np.asarray(margin, int), inside.ndim).tolist()
    for axis, (length, room) in enumerate(zip(inside.shape, margins, strict=True)):
        others = tuple(other for other in range(inside.ndim) if other != axis)
        used = np.flatnonzero(inside.any(axis=others))
        if not len(used):
            return None
        box.append(slice(max(int(used[0]) - room, 0), min(int(used[-1]) + 1 + room, length)))
    return tuple(box)


def depths_inside(shape: NDArray[np.bool_]) -> NDArray[np.int_]:
    """Distances from the imaged plane, in voxels, of the planes that a shape (z, y, x) reaches, rising."""
    return np.flatnonzero(shape.any(axis=(1, 2))) - IMAGED_PLANE


def translation(offset: NDArray[np.float64] | tuple[float, float, float]) -> NDArray[np.float64]:
    """4 x 4 affine that adds ``offset`` (z, y, x)."""
    affine = np.eye(4)
    affine[:3, 3] = offset
    return affine


def grid_to_pixel(
    zoom: float, centre: tuple[float, float], sides: tuple[float, float] = (1.0, 1.0)
) -> NDArray[np.float64]:
    """Affine (4, 4) from voxel-centre index of the model grid to pixel index of an image; z in pixels, 0 in
    the imaged plane.

    ``zoom`` is in grid voxels per pixel; the pixel ``centre`` (y, x) lies at the in-plane centre of the grid;
    ``sides`` are of `pixel_sides`.
    """
    affine = np.eye(4)
    down, across = (zoom * side for side in sides)
    affine[:3, :3] /= np.array([zoom, down, across])[:, None]
    affine[:3, 3] = -IMAGED_PLANE / zoom, centre[0] - CENTRE / down, centre[1] - CENTRE / across
    return affine


def pixel_to_world(image_to_world: NDArray[np.float64]) -> NDArray[np.float64]:
    """The 4 x 4 affine of (z, y, x) pixels that continues an image's own 3 x 3 affine of (y, x).

    z is isotropic with the mean of the in-plane scale, perpendicular to the image, and 0 in it.
    """
    affine = np.eye(4)
    affine[1:, 1:] = image_to_world
    affine[0, 0] = in_plane_scale(image_to_world)
    return affine


def in_plane_scales(image_to_world: NDArray[np.float64]) -> NDArray[np.float64]:
    """The two scales (y, x) of a 3 x 3 affine of (y, x), in world units a pixel; their product is the area of
    a pixel.

    Scales are what is left when rotation and shear are taken off (by a QR decomposition, as napari
    does), so that shear does not change them.
    """
    scales: NDArray[np.float64] = np.abs(np.diag(np.linalg.qr(np.asarray(image_to_world)[:2, :2])[1]))
    return scales


def in_plane_scale(image_to_world: NDArray[np.float64]) -> float:
    """Mean of `in_plane_scales`."""
    return float(in_plane_scales(image_to_world).mean())


def pixel_sides(image_to_world: NDArray[np.float64]) -> tuple[float, float]:
    """Sides (y, x) of a pixel over their mean; sides that differ by up to 1 % count as equal."""
    scales = in_plane_scales(image_to_world)
    if scales.max() <= 1.01 * scales.min():
        return 1.0, 1.0
    down, across = scales / scales.mean()
    return float(down), float(across)


def spacing(grid_to_world: NDArray[np.float64]) -> NDArray[np.float64]:
    """Size of a voxel along its own axes (z, y, x) in world units, from a 4 x 4 affine."""
    return np.linalg.norm(np.asarray(grid_to_world)[:3, :3], axis=0)


def check_spacing(frame: ArrayLike, unit: str = "pixel") -> None:
    """Raise an `InputError` if no microscope has voxels with these sides.

    ``frame`` is the sides (z, y, x), or the (4, 4) affine from voxel-centre index to world.
    """
    try:
        sides = np.asarray(frame, dtype=np.float64)
    except (TypeError, ValueError):  # words
        sides = np.empty(0)
    if sides.shape not in ((3,), (4, 4)):
        raise InputError(f"The spacing is {frame!r}: give three numbers, along z, y and x.")
    if sides.shape == (4, 4):
        sides = np.hypot.reduce(sides[:3, :3])  # without overflow
    low, high = _SIDES.get(unit, (SMALLEST, LARGEST))
    size = " x ".join(f"{side:g}" for side in sides)
    if not ((low <= sides) & (sides <= high)).all():
        raise InputError(
            f"The spacing is {size} {unit}, but a voxel has sides from {low:g} to {high:g}: check the "
            "spacing and its unit."
        )
    if sides.max() > _MOST_RATIO * sides.min() * (1 + 1e-6):
        ratio = sides.max() / sides.min()
        raise InputError(
            f"The spacing is {size}: one side of a voxel is {ratio:.0f} times as long as another, but no "
            f"microscope has more than {_MOST_RATIO} times. Check the spacing and its unit."
        )
