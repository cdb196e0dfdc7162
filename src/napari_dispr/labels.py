"""Label arrays, in 2D and 3D: check that they hold whole numbers, list their cells, find the cells' boxes.

0 is background, each other value is a cell.
"""

import os
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import find_objects, generate_binary_structure
from scipy.ndimage import label as label_parts

from napari_dispr.errors import InputError

#: A bounding box: one slice for each axis of the labels.
Box = tuple[slice, ...]

#: `find_objects` makes a list as long as the largest label: larger labels are renumbered first.
_DENSE_LABELS = 1_000_000
#: At most this many planes of a stack are checked; fewer thin pixels than this do not mean a picture.
_PLANES, _THIN = 24, 40


def as_array(array: ArrayLike, what: str) -> NDArray[Any]:
    """The array; an InputError for the path of a file, which is to be read first."""
    if isinstance(array, str | os.PathLike):
        raise InputError(
            f"The {what} is the path {os.fspath(array)}: read the file first, such as with tifffile.imread."
        )
    return np.asarray(array)


def whole_numbers(labels: NDArray[Any], name: str = "") -> NDArray[Any]:
    """Labels as an integer array; booleans, and whole numbers stored as floats, are accepted.

    Raises an InputError, with the ``name`` of the file or layer, if the array holds NaN, infinity, fractions
    or negative values, or no numbers.
    """
    which = f"The labels of {name}" if name else "The labels"
    if labels.dtype.kind == "b":
        return labels.astype(np.uint8)
    if labels.dtype.kind == "f":
        if not np.isfinite(labels).all():
            raise InputError(f"{which} hold NaN or infinite values: replace them by 0, the background.")
        if (labels != np.rint(labels)).any():
            raise InputError(f"{which} hold fractions, as images do: give each cell one whole number.")
    if labels.dtype.kind in "uf" and labels.size and int(labels.max()) >= 2**63:
        raise InputError(f"{which} hold values of 2^63 and more: number the cells from 1.")
    if labels.dtype.kind == "f":
        labels = labels.astype(np.int64)
    if labels.dtype.kind not in "ui":
        raise InputError(f"{which} have the data type {labels.dtype}: convert them to whole numbers.")
    if labels.size and labels.min() < 0:
        raise InputError(f"{which} hold negative values: use 0 for the background and 1 upwards for cells.")
    if labels.size and labels.ndim in (2, 3) and _is_picture(labels):
        raise InputError(
            f"{which} look like a picture, or like labels that were interpolated: give a segmentation with "
            "one whole number for each cell, and resize labels without interpolation (nearest neighbour)."
        )
    return labels


def _is_picture(labels: NDArray[Any]) -> bool:
    """Whether the values change from pixel to pixel, as in pictures and at the rims of interpolated labels.

    A pixel is thin if it has neighbours with other labels, and no square of 2 x 2 pixels around it has one
    value. In segmentations few pixels at the edges of cells are thin. Of a stack, some planes are checked.
    """
    planes = labels[None] if labels.ndim == 2 else labels
    thin = edge = 0
    for plane in planes[:: -(-len(planes) // _PLANES) or 1]:
        if min(plane.shape) < 2:
            return False
        down, across = plane[1:] == plane[:-1], plane[:, 1:] == plane[:, :-1]
        square = down[:, 1:] & down[:, :-1] & across[1:]
        solid, changes, touches = np.zeros((3, *plane.shape), bool)
        for rows in (slice(1, None), slice(None, -1)):
            for columns in (slice(1, None), slice(None, -1)):
                solid[rows, columns] |= square
        cell = plane > 0
        for same, one, other in (
            (down, np.s_[1:], np.s_[:-1]),
            (across, np.s_[:, 1:], np.s_[:, :-1]),
        ):
            for here, there in ((one, other), (other, one)):
                changes[here] |= ~same
                touches[here] |= ~same & cell[there]
        edge += int((changes & cell).sum())
        thin += int((touches & cell & ~solid).sum())
    return thin >= _THIN and thin > edge / 4


def separate_parts(labels: NDArray[Any]) -> int:
    """Number of connected parts of labels with one value, such as a binary mask; 1 for other labels."""
    if np.count_nonzero(np.unique(labels)) != 1:
        return 1
    return int(label_parts(labels > 0, generate_binary_structure(labels.ndim, labels.ndim))[1])


def split_parts(labels: NDArray[Any]) -> NDArray[np.int32]:
    """Labels in which each connected part of a cell is a cell; diagonal pixels are connected."""
    from skimage.measure import label

    parts: NDArray[np.int32] = label(whole_numbers(labels)).astype(np.int32)
    return parts


def cell_boxes(labels: NDArray[Any]) -> dict[int, Box]:
    """Bounding box of each cell, by label, from one pass over the array, (y, x) or (z, y, x)."""
    values: NDArray[Any] | None = None
    if not labels.size:
        return {}
    if int(labels.max()) > _DENSE_LABELS:
        values, ranks = np.unique(labels, return_inverse=True)
        labels = ranks.reshape(labels.shape)
        if values[0] != 0:  # no background
            values, labels = np.concatenate([[0], values]), labels + 1
    found = find_objects(labels.astype(np.int32, copy=False))
    boxes = {index: box for index, box in enumerate(found, start=1) if box is not None}
    return boxes if values is None else {int(values[index]): box for index, box in boxes.items()}


def cell_box(labels: NDArray[Any], label: int) -> Box:
    """Bounding box of one cell. Raises an InputError if there is no such cell."""
    boxes = find_objects((labels == label).astype(np.uint8)) if label > 0 else ()
    if not boxes:
        raise InputError(f"The labels hold no cell {label}: choose among the values that they hold.")
    return boxes[0]


def windows(corner: NDArray[np.int_], shape: ArrayLike, size: ArrayLike) -> tuple[Box, Box]:
    """The part of a box that lies in the image: as slices of the image, and as slices of the box."""
    first, last = (np.clip(end, 0, size) for end in (corner, corner + np.asarray(shape)))
    there = tuple(slice(int(a), int(b)) for a, b in zip(first, last, strict=True))
    here = tuple(slice(int(a), int(b)) for a, b in zip(first - corner, last - corner, strict=True))
    return there, here
