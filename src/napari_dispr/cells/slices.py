"""A label's slices on the model grid, and the shape that lies between them.

Knows nothing of which labels become cells, or where the grid's voxel size comes from.
"""

from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from napari_dispr import grid
from napari_dispr.cells.cropping import Crop, grid_window
from napari_dispr.signed_distance import from_level

#: Planes, rows and columns of a label's bounding box.
Box = tuple[slice, slice, slice]

#: Pixels whose sides differ by less are square.
SQUARE = 0.01


@dataclass(frozen=True, slots=True, eq=False)
class Slice:
    """A slice with square pixels.

    Attributes
    ----------
    image : (y, x) array or None
    labels : (y, x) integer array
    pixel : float
        Side of a pixel.
    rows, columns : integer arrays
        Of the stack, for each row and column: those that the labels are from.
    """

    image: NDArray[Any] | None
    labels: NDArray[Any]
    pixel: float
    rows: NDArray[np.int_]
    columns: NDArray[np.int_]


def square_slice(image: NDArray[Any] | None, labels: NDArray[Any], sides: tuple[float, float]) -> Slice:
    """A slice of a stack, resampled where its pixels are not square: to their shorter side.

    Parameters
    ----------
    image : (y, x) array or None
        Interpolated linearly.
    labels : (y, x) integer array
        The nearest pixel's are taken.
    sides : (float, float)
        Of a pixel, along y and x; they count as equal where they differ by up to 1 %.
    """
    sources = [np.arange(length) for length in labels.shape]
    if abs(sides[0] / sides[1] - 1) <= SQUARE:
        return Slice(image, labels, (sides[0] + sides[1]) / 2, *sources)
    pixel = min(sides)
    axis = int(sides[1] > sides[0])
    step = pixel / sides[axis]
    length = labels.shape[axis]
    place = (np.arange(max(1, round(length / step))) + 0.5) * step - 0.5
    place = np.clip(place, 0, length - 1)
    sources[axis] = np.rint(place).astype(int)
    if image is not None:
        before = np.floor(place).astype(int)
        after = np.minimum(before + 1, length - 1)
        share = np.expand_dims(place - before, 1 - axis)
        mixed = image.take(before, axis) * (1 - share) + image.take(after, axis) * share
        image = (mixed if image.dtype.kind == "f" else np.rint(mixed)).astype(image.dtype)
    return Slice(image, labels.take(sources[axis], axis), pixel, *sources)


def levels(
    labels: NDArray[Any], label: int, box: Box, picture: Slice, crop: Crop
) -> tuple[NDArray[np.float64], int]:
    """All slices of a label in the frame of its crop, each brought there as the crop's mask is.

    Parameters
    ----------
    labels : (z, y, x) integer array
    label : int
    box : Box
        The label's.
    picture : Slice
        That the crop is of.
    crop : Crop

    Returns
    -------
    levels : (slices, 64, 64) float64
        Share of each voxel that the label covers.
    first : int
        z of the first of them in the stack.
    """
    weights, places = [], []
    for axis, source in ((1, picture.rows), (2, picture.columns)):
        centre = float(crop.grid_to_pixel[axis] @ (grid.IMAGED_PLANE, grid.CENTRE, grid.CENTRE, 1))
        window, of_pixels = grid_window(crop.zoom, centre, len(source))
        source = source[window]
        held = (source >= box[axis].start) & (source < box[axis].stop)
        weights.append(of_pixels[:, held])
        places.append(source[held])
    down, across = weights
    cell = labels[box[0]][:, places[0][:, None], places[1]] == label
    return np.clip(down @ cell.astype(np.float64) @ across.T, 0, 1), box[0].start


def between_slices(level: NDArray[np.float64], thick: float, first: int) -> NDArray[np.uint8]:
    """An antialiased object from its slices.

    Parameters
    ----------
    level : (slices, 64, 64) array
        Inside above 0.5.
    thick : float
        Voxels from slice to slice.
    first : int
        Slices from the imaged plane to the first of ``level``.

    Returns
    -------
    (64, 64, 64) uint8
        clip(d + 0.5, 0, 1) * 255, d the signed distance in voxels. In the imaged plane the inside is that
        of the slice which lies there.

    Notes
    -----
    Shape-based interpolation (Raya and Udupa, IEEE Trans. Med. Imaging 9 (1990) 32): what is interpolated
    is each slice's own signed distance. It is cut off at two slices' thickness inside and one outside, so
    that a part which the next slice does not hold goes on for about half the way. The distance to the
    surface of all slices would leave terraces, flat half way between the slices.
    """
    beyond = ceil(1 / thick)
    level = np.pad(level, ((beyond, beyond), (0, 0), (0, 0)))
    far = max(thick, 1.0)
    apart = 1e9  # slices are too far from one another to know of each other
    distance = np.maximum(from_level(level, truncation=2 * far, spacing=(apart, 1, 1)), -far)
    place = (np.arange(grid.SIZE) - grid.IMAGED_PLANE) / thick - (first - beyond)
    place = np.clip(place, 0, len(level) - 1)  # the slices at either end are empty
    distance = PchipInterpolator(np.arange(len(level)), distance, axis=0)(place)

    obj = np.zeros(grid.SHAPE, np.uint8)
    inside = np.argwhere(distance > 0)
    if len(inside):
        low, high = np.maximum(inside.min(axis=0) - 3, 0), inside.max(axis=0) + 4
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        near = from_level(distance[box], 0.0, truncation=1.5)
        # Rounded so that what is not inside stays so: a distance of 0 is 127.
        obj[box] = np.ceil(255 * np.clip(near + 0.5, 0, 1) - 0.5)
    return obj
