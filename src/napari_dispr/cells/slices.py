"""The slices of a label on the model grid, and the shape between them."""

from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_dispr import grid
from napari_dispr.cells.cropping import Crop, grid_window, resampled_cell
from napari_dispr.labels import Box
from napari_dispr.signed_distance import from_level


def touches_border(obj: NDArray[np.uint8]) -> bool:
    """Whether an antialiased object reaches a face of the grid, which may cut it."""
    return any((obj.take([0, -1], axis=axis) > 127).any() for axis in range(3))


def levels(labels: NDArray[Any], label: int, box: Box, crop: Crop) -> tuple[NDArray[np.float64], int]:
    """All slices of a label in the frame of its crop, resampled like the mask of the crop, and z of the first
    one.

    They are (slices, 64, 64): the share of each voxel that the label covers.
    """
    weights, places = [], []
    for axis in (1, 2):
        centre = float(crop.grid_to_pixel[axis] @ (*grid.MIDDLE, 1))
        zoom = float(1 / crop.grid_to_pixel[axis, axis])
        window, of_pixels = grid_window(zoom, centre, labels.shape[axis])
        own = slice(max(window.start, box[axis].start), min(window.stop, box[axis].stop))
        weights.append(of_pixels[:, own.start - window.start : own.stop - window.start])
        places.append(own)
    down, across = weights
    cell = labels[box[0], places[0], places[1]] == label
    return np.clip(down @ cell.astype(np.float64) @ across.T, 0, 1), box[0].start


def stack_on_grid(
    image: NDArray[Any],
    labels: NDArray[Any],
    box: Box,
    thick: float,
    crop: Crop,
    sides: tuple[float, float],
    plane: int,
) -> NDArray[np.uint8]:
    """The picture of a cell at all depths, (64, 64, 64); 0 in planes without the cell.

    Slices of the stack (z, y, x) are resampled like the slice ``plane``, which is the imaged plane of the
    crop. ``thick`` is the distance between slices in voxels of the grid, ``sides`` are of `grid.pixel_sides`.
    """
    y, x = (crop.grid_to_pixel[1:3] @ (*grid.MIDDLE, 1)).tolist()
    around = slice(max(0, box[0].start - 1), box[0].stop + 1)
    slices = [
        resampled_cell(one, own, crop.label, crop.zoom, (y, x), sides)[1]
        for one, own in zip(image[around], labels[around], strict=True)
    ]
    imaged = [k for k, one in enumerate(slices) if one is not None]
    known = np.stack([one for one in slices if one is not None])
    place = (np.arange(grid.SIZE) - grid.IMAGED_PLANE) / thick + plane - around.start
    result = np.zeros(grid.SHAPE, np.float32)
    inside = (place >= imaged[0] - 0.5) & (place <= imaged[-1] + 0.5)
    result[inside] = grid.between(known, imaged, place[inside])
    return np.rint(255 * np.clip(result, 0, 1)).astype(np.uint8)


def between_slices(level: NDArray[np.float64], thick: float, first: int) -> NDArray[np.uint8]:
    """An antialiased object (64, 64, 64) from the slices of ``level`` (slices, 64, 64), inside above 0.5.

    ``thick`` is the distance between slices in voxels, ``first`` the position of the first one relative to
    the imaged plane, in slices. The object is clip(d + 0.5, 0, 1) * 255, where d is the signed distance in
    voxels. In the imaged plane the inside is that of the slice at this position.

    Notes
    -----
    Shape-based interpolation (Raya and Udupa, IEEE Trans. Med. Imaging 9 (1990) 32) of the signed distance of
    each slice. It is truncated at twice the slice distance inside and once outside, so that a part that is
    missing in the next slice ends about half way. The signed distance of the stack would give terraces that
    are flat half way between slices.
    """
    from scipy.interpolate import PchipInterpolator  # not needed where a window opens

    beyond = ceil(1 / thick)
    level = np.pad(level, ((beyond, beyond), (0, 0), (0, 0)))
    far = max(thick, 1.0)
    gap = 1e9  # so far that slices do not affect each other
    distance = np.maximum(from_level(level, truncation=2 * far, spacing=(gap, 1, 1)), -far)
    place = (np.arange(grid.SIZE) - grid.IMAGED_PLANE) / thick - (first - beyond)
    place = np.clip(place, 0, len(level) - 1)  # the slices at both ends are empty
    distance = PchipInterpolator(np.arange(len(level)), distance, axis=0)(place)

    obj = np.zeros(grid.SHAPE, np.uint8)
    inside = np.argwhere(distance > 0)
    if len(inside):
        low, high = np.maximum(inside.min(axis=0) - 3, 0), inside.max(axis=0) + 4
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        near = from_level(distance[box], 0.0, truncation=1.5)
        # Rounded so that a distance of 0 is 127 and not inside.
        obj[box] = np.ceil(255 * np.clip(near + 0.5, 0, 1) - 0.5)
    return obj
