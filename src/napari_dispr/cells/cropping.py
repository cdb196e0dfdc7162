"""A cell's image and mask, cut from a field onto the model grid by a stored affine.

Knows nothing of models: which zoom suits one comes in as numbers, normalising is the model's condition.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_dispr import grid
from napari_dispr.errors import InputError
from napari_dispr.labels import Box, cell_box, cell_boxes, whole_numbers

#: Level of a mask above which a voxel belongs to the cell.
INSIDE = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Crop:
    """A cell's image and mask on the imaged plane of the model grid.

    Attributes
    ----------
    label : int
        The cell's value in the labels.
    mask : (64, 64) float32
        Share of each voxel that this cell covers, 0 to 1; holes and separate parts are kept.
    image : (64, 64) float32 or None
        Intensities, 0 to 1 over the range of 8 bit, or up to the cell's brightest pixel for other types;
        neither masked nor normalised. Where the mask is above 0 they come
        from the cell's own pixels alone, so that image times mask knows nothing of the neighbours.
    zoom : float
        Grid voxels per pixel.
    grid_to_pixel : (4, 4) float64
        From voxel-centre index (z, y, x) to pixel index; z in pixels, 0 in the picture.
    known_scale : float or None
        1 where the cell is as large on the grid as the same cell was in the training data; None where
        that is not known, as it was brought to the usual extent.
    """

    label: int
    mask: NDArray[np.float32]
    image: NDArray[np.float32] | None
    zoom: float
    grid_to_pixel: NDArray[np.float64]
    known_scale: float | None = None


def check_fields(image: ArrayLike | None, labels: ArrayLike) -> tuple[NDArray[Any] | None, NDArray[Any]]:
    """The picture and its labels as 2D arrays, once nothing is wrong with them.

    Parameters
    ----------
    image : (y, x) array or None
        Any real data type; axes of length 1 are dropped.
    labels : (y, x) array
        0 is background, each other value a cell. Booleans and whole numbers stored as floats are
        accepted and come back as integers.

    Raises
    ------
    InputError
        If they are not 2D, differ in shape, hold NaN or infinity, fractions or negative labels, no
        cell, or if the image has colours or a single value.
    """
    labels = _plane(labels)
    if labels.ndim != 2:
        raise InputError(f"The labels have the shape {labels.shape}, not (y, x): choose one plane of them.")
    labels = whole_numbers(labels)
    if image is not None:
        image = _check_image(image, labels.shape)
    if not labels.any():
        raise InputError("The labels are empty: paint or segment at least one cell.")
    return image, labels


def _check_image(image: ArrayLike, shape: tuple[int, ...]) -> NDArray[Any]:
    image = _plane(image)
    if image.ndim == 3 and image.shape[-1] in (3, 4):
        raise InputError("The image is RGB: convert it to one channel of intensities.")
    if image.ndim != 2:
        raise InputError(f"The image has the shape {image.shape}, not (y, x): choose one plane and channel.")
    if image.shape != shape:
        raise InputError(
            f"The image has the shape {image.shape} and the labels {shape}: use labels made from this image."
        )
    if image.dtype.kind not in "buif":
        raise InputError(f"The image has the data type {image.dtype}: convert it to real numbers.")
    if image.dtype.kind == "f" and not np.isfinite(image).all():
        raise InputError("The image holds NaN or infinite values: replace them by numbers.")
    if image.min() == image.max():
        raise InputError("The image has the same value everywhere: choose the channel that shows the cells.")
    return image


def _plane(array: ArrayLike) -> NDArray[Any]:
    """The array without axes of length 1, as long as more than two axes remain."""
    array = np.asarray(array)
    while array.ndim > 2 and 1 in array.shape:
        array = array.squeeze(array.shape.index(1))
    return array


def cut_by_border(labels: NDArray[Any], label: int, box: Box | None = None) -> bool:
    """Whether the cell reaches the first or last row or column, so that part of it may be missing."""
    sides = zip(box or cell_box(labels, label), labels.shape, strict=True)
    return any(side.start == 0 or side.stop == length for side, length in sides)


def zoom_for(
    labels: NDArray[Any],
    label: int,
    scale: str | float,
    *,
    typical_extent: float,
    pixel_size: float | None,
    voxel_size: float | None,
    box: Box | None = None,
) -> float:
    """Grid voxels per pixel for one cell.

    Parameters
    ----------
    labels : (y, x) integer array
    label : int
    scale : "auto", "physical" or float
        ``auto`` brings the larger side of the mask's box to ``typical_extent``; ``physical`` keeps
        true sizes; a number is the zoom itself.
    typical_extent : float
        Voxels that a cell's larger side has in the data of the model.
    pixel_size, voxel_size : float or None
        Side of a pixel and of the model's voxel, in the same unit; for ``physical`` alone.
    box : Box, optional
        The cell's, where it is known already.

    Raises
    ------
    InputError
        If the scale is no such word or number, or a size that ``physical`` needs is unknown.
    """
    if scale == "auto":
        return typical_extent / max(side.stop - side.start for side in box or cell_box(labels, label))
    if scale == "physical":
        if voxel_size is None:
            raise InputError('Scale "physical" needs a model that states its voxel size: use scale "auto".')
        if pixel_size is None or not (isfinite(pixel_size) and pixel_size > 0):
            raise InputError('Scale "physical" needs the size of a pixel: state it, or use scale "auto".')
        return pixel_size / voxel_size
    if isinstance(scale, str) or not (isfinite(scale) and scale > 0):
        raise InputError(
            f'Scale is {scale!r}: use "auto", "physical" or a number (voxels per pixel) above 0.'
        )
    return float(scale)


def crop_cells(
    image: NDArray[Any] | None,
    labels: NDArray[Any],
    cells: Sequence[int] | None,
    scale: str | float,
    *,
    typical_extent: float,
    pixel_size: float | None,
    voxel_size: float | None,
    boxes: Mapping[int, Box] | None = None,
) -> tuple[list[Crop], dict[int, str]]:
    """Crops of many cells, each at the zoom that `zoom_for` gives it.

    Parameters
    ----------
    image, labels
        As for `crop_cell`.
    cells : sequence of int or None
        None: all, but for those that cannot be cropped.
    scale, typical_extent, pixel_size, voxel_size
        As for `zoom_for`.
    boxes : mapping, optional
        Of `cell_boxes`, where they are known already.

    Returns
    -------
    crops : list of Crop
    left_out : dict
        Cells of all that cannot be cropped, each with the reason in words.

    Raises
    ------
    InputError
        If a cell that was named cannot be cropped, or none of all can.
    """
    boxes = boxes or cell_boxes(labels)
    crops: list[Crop] = []
    left_out: dict[int, str] = {}
    for label in boxes if cells is None else cells:
        box = boxes.get(label)
        zoom = zoom_for(
            labels,
            label,
            scale,
            typical_extent=typical_extent,
            pixel_size=pixel_size,
            voxel_size=voxel_size,
            box=box,
        )
        try:
            crop = crop_cell(image, labels, label, zoom=zoom, box=box)
            crops.append(replace(crop, known_scale=1.0) if scale == "physical" else crop)
        except InputError as error:
            if cells is not None:
                raise
            left_out[label] = str(error)
    if not crops and left_out:
        if all(cut_by_border(labels, label, boxes[label]) for label in left_out):
            raise InputError("All cells are cut by the border of the image: use a picture with whole cells.")
        raise InputError(next(iter(left_out.values())))
    return crops, left_out


def crop_cell(
    image: NDArray[Any] | None, labels: NDArray[Any], label: int, *, zoom: float, box: Box | None = None
) -> Crop:
    """One cell on the model grid, the centre of its box at the in-plane centre of the grid.

    Each voxel takes the mean over a window of one voxel or one pixel, whichever is larger: the exact
    share of its area where pixels are smaller, linear interpolation where they are larger.

    Parameters
    ----------
    image : (y, x) array or None
        As ``check_fields`` returns it.
    labels : (y, x) integer array
    label : int
    zoom : float
        Grid voxels per pixel, from ``zoom_for``.
    box : Box, optional
        The cell's, where it is known already.

    Raises
    ------
    InputError
        If there is no such cell, the border cuts it, it does not fit the grid at this zoom, or it is
        so thin that nothing of it would be left.
    """
    box = box or cell_box(labels, label)
    if cut_by_border(labels, label, box):
        raise InputError(
            f"Cell {label} is cut by the border of the image: choose cells that are wholly in it."
        )
    height, width = (side.stop - side.start for side in box)
    if max(height, width) * zoom > grid.SIZE * (1 + 1e-9):
        raise InputError(
            f"Cell {label} measures {height} x {width} pixels, which at {zoom:.3g} voxels per pixel is more "
            f"than the {grid.SIZE} voxels of the grid: "
            f'use scale "auto" or a number of at most {grid.SIZE / max(height, width):.3g}.'
        )
    centre = tuple((side.start + side.stop - 1) / 2 for side in box)
    (rows, down), (columns, across) = (
        grid_window(zoom, c, length) for c, length in zip(centre, labels.shape, strict=True)
    )
    cell = (labels[rows, columns] == label).astype(np.float64)
    mask = np.clip(down @ cell @ across.T, 0, 1).astype(np.float32)
    if not (mask > INSIDE).any():
        raise InputError(
            f"Cell {label} is less than a voxel thick at {zoom:.3g} voxels per pixel: "
            "leave it out, or give a larger scale."
        )
    own = None if image is None else _intensities(image[rows, columns], cell > 0)
    return Crop(
        label=label,
        mask=mask,
        image=None if own is None else _resample(own, cell, down, across),
        zoom=zoom,
        grid_to_pixel=grid.grid_to_pixel(zoom, (centre[0], centre[1])),
    )


def grid_window(zoom: float, centre: float, length: int) -> tuple[slice, NDArray[np.float64]]:
    """The pixels of one axis that the grid sees, and their weights in each voxel, (64, pixels).

    Parameters
    ----------
    zoom : float
        Grid voxels per pixel.
    centre : float
        Pixel index that lies at the in-plane centre of the grid.
    length : int
        Pixels along this axis.
    """
    middle = (np.arange(grid.SIZE) - grid.CENTRE) / zoom + centre
    reach = max(1.0, 1 / zoom) / 2
    start = max(0, int(np.floor(middle[0] - reach)))
    stop = min(length, int(np.ceil(middle[-1] + reach)) + 1)
    pixel = np.arange(start, stop)
    first, last = middle[:, None] - reach, middle[:, None] + reach
    overlap = np.minimum(last, pixel + 0.5) - np.maximum(first, pixel - 0.5)
    return slice(start, stop), np.clip(overlap, 0, None) / (2 * reach)


def _resample(
    image: NDArray[np.float64],
    cell: NDArray[np.float64],
    down: NDArray[np.float64],
    across: NDArray[np.float64],
) -> NDArray[np.float32]:
    """Weighted means of the cell's own pixels where a voxel holds any, of all pixels elsewhere."""
    everything = np.outer(down.sum(axis=1), across.sum(axis=1))
    own = down @ cell @ across.T
    near = own > 1e-9  # a smaller share is rounding
    total = np.where(near, down @ (image * cell) @ across.T, down @ image @ across.T)
    weight = np.where(near, own, everything)
    return np.divide(total, weight, out=np.zeros_like(total), where=weight > 0).astype(np.float32)


def _intensities(image: NDArray[Any], inside: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Part of a picture, its cell in [0, 1].

    8 bit by the range of the data type, as the original has it. Other types have no range that pictures
    fill (cameras give 12 or 14 of 16 bit): there the cell's brightest pixel becomes 1, and 0 stays 0
    unless the cell has negative pixels. Nothing outside the cell changes its values.
    """
    values = image.astype(np.float64)
    if image.dtype in (np.bool_, np.uint8):
        return values / (255.0 if image.dtype == np.uint8 else 1.0)
    low, high = min(0.0, float(values[inside].min())), float(values[inside].max())
    return (values - low) / ((high - low) or 1.0)
