"""Crop a cell: resample its mask and image from a field to the model grid, by a stored affine.

Knows no models. Normalising is part of a model's condition.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import floor, isfinite, log10
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_dispr import grid
from napari_dispr.errors import CellError, InputError
from napari_dispr.labels import Box, as_array, cell_box, cell_boxes, whole_numbers
from napari_dispr.planes import KnownPlane
from napari_dispr.settings import PictureKind
from napari_dispr.stereology import Sizes

#: Level of a mask above which a voxel belongs to the cell.
INSIDE = 0.5
#: Why cells are left out.
CUT, LARGER = "cut by the border", "larger than the grid"


@dataclass(frozen=True, slots=True, eq=False)
class Crop:
    """A cell's image and mask on the imaged plane of the model grid.

    Attributes
    ----------
    mask : (64, 64) float32
        Share of each voxel that the cell covers, 0 to 1. Holes and separate parts are kept.
    image : (64, 64) float32 or None
        Intensities from 0 to 1: the range of 8 bit or, for other types, up to the cell's brightest pixel;
        neither masked nor normalised. Where the mask is above 0 only pixels of the cell are used, not of
        neighbours.
    zoom : float
        Grid voxels per pixel; for the mean of both sides of pixels that are not square.
    grid_to_pixel : (4, 4) float64
        From voxel-centre index (z, y, x) to pixel index; z is in pixels, 0 in the image.
    known_scale : float or None
        Size on the grid relative to the training data; None: not known, because of the scale "auto".
    picture : "section" or "projection"
        What image and mask show. The mask of a projection is the silhouette of the whole cell.
    sizes : Sizes or None
        Of the cells of the stack, in grid voxels, if the cell has one or two sections.
    """

    label: int
    mask: NDArray[np.float32] = field(repr=False)
    image: NDArray[np.float32] | None = field(repr=False)
    zoom: float
    grid_to_pixel: NDArray[np.float64] = field(repr=False)
    known_scale: float | None = None
    planes: tuple[KnownPlane, ...] = ()
    picture: PictureKind = "section"
    sizes: Sizes | None = None


def check_fields(image: ArrayLike | None, labels: ArrayLike) -> tuple[NDArray[Any] | None, NDArray[Any]]:
    """Check an image and its labels, of any real data type, and return them as (y, x) arrays.

    Axes of length 1 are dropped; labels that are booleans or floats become integers. Raises an InputError if
    they are not 2D, have different shapes, the labels are not whole numbers or are empty, or the image has
    colours, NaN or a single value.
    """
    labels = _plane(as_array(labels, "segmentation"))
    if labels.ndim != 2:
        raise InputError(
            f"The labels have the shape {labels.shape}, not (y, x): choose one plane of them, or give the "
            "depths of all planes."
        )
    labels = whole_numbers(labels)
    if image is not None:
        image = _check_image(image, labels)
    if not labels.any():
        raise InputError("The labels are empty: paint or segment at least one cell.")
    return image, labels


def _check_image(image: ArrayLike, labels: NDArray[Any]) -> NDArray[Any]:
    image = _plane(as_array(image, "picture"))
    if image.ndim == 3 and image.shape[-1] in (3, 4):
        raise InputError("The image is RGB: convert it to one channel of intensities.")
    if image.ndim != 2:
        raise InputError(f"The image has the shape {image.shape}, not (y, x): choose one plane and channel.")
    if image.shape != labels.shape:
        raise InputError(
            f"The image has the shape {image.shape} and the labels {labels.shape}: use labels made from this "
            "image."
        )
    return check_intensities(image, labels)


def check_intensities(
    image: NDArray[Any], labels: NDArray[Any] | None = None, name: str = ""
) -> NDArray[Any]:
    """Raise an InputError if an image is not of real, finite, different numbers, or holds the labels.

    With labels only the cells need finite numbers; returns the image with 0 in place of others elsewhere.
    """
    which = f"The image of {name}" if name else "The image"
    if image.dtype.kind not in "buif":
        raise InputError(f"{which} has the data type {image.dtype}: convert it to real numbers.")
    if image.dtype.kind == "f" and not (finite := np.isfinite(image)).all():
        if labels is None:
            raise InputError(f"{which} has NaN or infinite values: replace them by numbers.")
        if (inside := labels[~finite]).any():
            raise InputError(
                f"{which} has NaN or infinite values in cells, such as {inside[inside > 0].min()}: replace "
                "them by numbers, or remove these cells from the labels."
            )
        image = np.where(finite, image, 0)
    if image.size and image.min() == image.max():
        raise InputError(f"{which} has the same value everywhere: choose the channel that shows the cells.")
    if labels is not None and labels.max(initial=0) > 1 and np.array_equal(image, labels):
        raise InputError(f"{which} holds the labels themselves: choose the picture that shows the cells.")
    return image


def _plane(array: NDArray[Any]) -> NDArray[Any]:
    """Drop axes of length 1 as long as there are more than two axes."""
    while array.ndim > 2 and 1 in array.shape:
        array = array.squeeze(array.shape.index(1))
    return array


def cut_by_border(labels: NDArray[Any], label: int, box: Box | None = None) -> bool:
    """Whether the cell touches the border of the image, so that a part of it may be missing."""
    sides = zip(box or cell_box(labels, label), labels.shape, strict=True)
    return any(side.start == 0 or side.stop == length for side, length in sides)


@dataclass(frozen=True, slots=True)
class Scaling:
    """How large cells are on the grid.

    Attributes
    ----------
    scale : "auto", "physical" or float
        ``auto`` gives the larger side of the bounding box ``typical_extent`` voxels; ``physical`` keeps true
        sizes; a number is the zoom itself.
    typical_extent : float
        Larger side of a cell in the training data, in voxels.
    pixel_size, voxel_size : float or None
        Side of a pixel and of the model's voxel in the same unit; only for ``physical``.
    sides : (float, float)
        Sides (y, x) of a pixel over their mean, of `grid.pixel_sides`: cells are resampled to square pixels.
    """

    scale: str | float
    typical_extent: float
    pixel_size: float | None = None
    voxel_size: float | None = None
    sides: tuple[float, float] = (1.0, 1.0)

    def zoom(self, box: Box) -> float:
        """Grid voxels per pixel for the cell in this box.

        Raises an InputError if there is no such scale, or a size that ``physical`` needs is unknown.
        """
        scale, size = self.scale, self.pixel_size
        if scale == "auto":
            return self.typical_extent / max(_extent(box, self.sides))
        if scale == "physical":
            if self.voxel_size is None:
                raise InputError(
                    'Scale "physical" needs a model that states its voxel size: use scale "auto".'
                )
            if size is None or not (isfinite(size) and size > 0):
                raise InputError('Scale "physical" needs the size of a pixel: state it, or use scale "auto".')
            return size / self.voxel_size
        if isinstance(scale, str) or not (isfinite(scale) and scale > 0):
            raise InputError(
                f'Scale is {scale!r}: use "auto", "physical" or a number (voxels per pixel) above 0.'
            )
        return float(scale)


def usual_scale(pixel_size: float | None, voxel_size: float | None) -> Literal["auto", "physical"]:
    """The scale that cells get if none is chosen: true sizes if those of pixel and voxel are known."""
    return "auto" if pixel_size is None or voxel_size is None else "physical"


def crop_cells(
    image: NDArray[Any] | None,
    labels: NDArray[Any],
    cells: Sequence[int] | None,
    scaling: Scaling,
    boxes: Mapping[int, Box] | None = None,
) -> tuple[list[Crop], dict[int, CellError]]:
    """Crop many cells, by default all that can be cropped.

    Raises an InputError if a named cell cannot be cropped, or no cell at all. Returns also the cells that
    cannot be cropped, and why.
    """
    boxes = boxes or cell_boxes(labels)
    crops: list[Crop] = []
    left_out: dict[int, CellError] = {}
    for label in boxes if cells is None else cells:
        box = boxes.get(label) or cell_box(labels, label)
        zoom = scaling.zoom(box)
        try:
            crop = crop_cell(image, labels, label, zoom=zoom, box=box, sides=scaling.sides)
            crops.append(replace(crop, known_scale=1.0) if scaling.scale == "physical" else crop)
        except CellError as error:
            if cells is not None:
                raise
            left_out[label] = error
    if not crops and left_out:
        if all(cut_by_border(labels, label, boxes[label]) for label in left_out):
            raise InputError("All cells are cut by the border of the image: use a picture with whole cells.")
        raise next(iter(left_out.values()))
    return crops, left_out


def _extent(box: Box, sides: tuple[float, float]) -> tuple[float, float]:
    """Height and width of a box in pixels of the mean side."""
    height, width = ((span.stop - span.start) * side for span, side in zip(box, sides, strict=True))
    return height, width


def crop_cell(
    image: NDArray[Any] | None,
    labels: NDArray[Any],
    label: int,
    *,
    zoom: float,
    box: Box | None = None,
    sides: tuple[float, float] = (1.0, 1.0),
) -> Crop:
    """Crop one cell. The centre of its bounding box becomes the in-plane centre of the grid.

    Each voxel is the mean over a window of one voxel or one pixel, whichever is larger: the exact share of
    the area for small pixels, linear interpolation for large ones. ``zoom`` is in grid voxels per pixel.

    Raises an InputError if there is no such cell, the border cuts it, it does not fit the grid at this zoom,
    or it is too thin.
    """
    box = box or cell_box(labels, label)
    if cut_by_border(labels, label, box):
        raise CellError(
            f"Cell {label} is cut by the border of the image: choose cells that are wholly in it.", CUT
        )
    height, width = (side.stop - side.start for side in box)
    extent = max(_extent(box, sides))
    if extent * zoom > grid.SIZE * (1 + 1e-9):
        raise CellError(
            f"Cell {label} measures {height} x {width} pixels, which at {zoom:.3g} voxels per pixel is more "
            f"than the {grid.SIZE} voxels of the grid: "
            f'use scale "auto" or a number of at most {three_digits(grid.SIZE / extent, floor):g}.',
            LARGER,
        )
    centre = box_centre(box)
    mask, own = resampled_cell(image, labels, label, zoom, centre, sides)
    if not (mask > INSIDE).any():
        raise CellError(
            f"Cell {label} is less than a voxel thick at {zoom:.3g} voxels per pixel: "
            "leave it out, or give a larger scale.",
            "too thin",
        )
    return Crop(label, mask, own, zoom, grid.grid_to_pixel(zoom, centre, sides))


def three_digits(number: float, way: Callable[[float], int]) -> float:
    """A number above 0 with three digits; ``way`` is `math.floor` or `math.ceil`."""
    digit = 10.0 ** (floor(log10(number)) - 2)
    return float(f"{way(round(number / digit, 6)) * digit:.3g}")


def box_centre(box: Box) -> tuple[float, float]:
    """Pixel coordinates (y, x) of the middle of a box."""
    y, x = ((side.start + side.stop - 1) / 2 for side in box)
    return y, x


def resampled_cell(
    image: NDArray[Any] | None,
    labels: NDArray[Any],
    label: int,
    zoom: float,
    centre: tuple[float, float],
    sides: tuple[float, float],
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """Mask and image (64, 64) of a cell, the pixel ``centre`` in the middle of the grid."""
    (rows, down), (columns, across) = (
        grid_window(zoom * side, c, length)
        for side, c, length in zip(sides, centre, labels.shape, strict=True)
    )
    cell = (labels[rows, columns] == label).astype(np.float64)
    mask = np.clip(down @ cell @ across.T, 0, 1).astype(np.float32)
    if image is None or not cell.any():
        return mask, None
    return mask, _resample(_intensities(image[rows, columns], cell > 0), cell, down, across)


def grid_window(zoom: float, centre: float, length: int) -> tuple[slice, NDArray[np.float64]]:
    """The pixels of one axis that the grid covers, and their weights in each voxel, (64, pixels).

    ``zoom`` is in grid voxels per pixel; ``centre`` is the pixel index at the in-plane centre of the grid.
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
    """Weighted means: of the cell's own pixels in voxels with such pixels, of all pixels elsewhere."""
    everything = np.outer(down.sum(axis=1), across.sum(axis=1))
    own = down @ cell @ across.T
    near = own > 1e-9  # smaller shares are rounding errors
    total = np.where(near, down @ (image * cell) @ across.T, down @ image @ across.T)
    weight = np.where(near, own, everything)
    return np.divide(total, weight, out=np.zeros_like(total), where=weight > 0).astype(np.float32)


def _intensities(image: NDArray[Any], inside: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Part of an image with its cell in [0, 1].

    8 bit by the range of the data type, as in the original. Other types have no range that images fill
    (cameras use 12 or 14 of 16 bit): the brightest pixel of the cell becomes 1, and 0 stays 0 unless the
    cell has negative pixels. Pixels outside the cell have no effect; brighter ones become 1, too.
    """
    values = image.astype(np.float64)
    if image.dtype in (np.bool_, np.uint8):
        return values / (255.0 if image.dtype == np.uint8 else 1.0)
    low, high = min(0.0, float(values[inside].min())), float(values[inside].max())
    return np.clip((values - low) / ((high - low) or 1.0), 0, 1)
