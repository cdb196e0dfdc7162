"""Annotated images, 2D and 3D: an image with the labels of its cells. Reads folders of several layouts."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_dispr.cells.cropping import check_intensities
from napari_dispr.cells.file_pairs import pair_files
from napari_dispr.cells.stack_files import read_stack
from napari_dispr.cells.stated_sizes import UNIT
from napari_dispr.errors import InputError
from napari_dispr.labels import whole_numbers
from napari_dispr.shapes.ome import OmeImage, write_ome_tiff

#: Names of the folders of images and of labels.
_FOLDERS = (("image", "labels"), ("images", "masks"), ("images", "labels"), ("image", "mask"))
#: A folder with images and labels together, as for Cellpose.
_TOGETHER = "train"
#: Percentiles of an image that become 0 and 1 for a segmenter.
_RANGE = (1, 99.8)

#: A file or folder, an array, or several of them.
Source = str | PathLike[str] | NDArray[Any] | Sequence[str | PathLike[str]] | Sequence[NDArray[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class Annotated:
    """An image with the labels of its cells, (z, y, x) or (y, x); ``spacing`` is the size of a voxel in
    ``unit``.

    0 is background. Of a stack, slices without labels may not be annotated.
    """

    name: str
    image: NDArray[Any]
    labels: NDArray[Any]
    spacing: tuple[float, ...]
    unit: str = "pixel"

    @property
    def slices(self) -> tuple[int, ...]:
        """The slices that hold labels; (0,) for a 2D image."""
        if self.labels.ndim == 2:
            return (0,)
        return tuple(int(z) for z in np.flatnonzero(self.labels.any(axis=(1, 2))))


def grey_range(image: NDArray[Any]) -> tuple[float, float]:
    """The grey values of an image that become 0 and 1 for a segmenter."""
    low, high = np.percentile(image, _RANGE)
    return float(low), float(high)


def annotated_files(
    images: str | PathLike[str], labels: str | PathLike[str] | None = None
) -> list[tuple[Path, Path]]:
    """The files of annotated images, in the order of names.

    ``images`` is, with ``labels``, an image or a folder of images; alone a folder with the folders image and
    labels, or images and masks, or with NAME.tif and NAME_masks.tif. Raises an InputError if a path is
    missing, a folder has none of these layouts, or a file has no partner.
    """
    folder = Path(images)
    if labels is None:
        if not folder.is_dir():
            raise InputError(
                f"{folder} is no folder: give one with the folders image and labels, or images and masks."
            )
        for one, other in _FOLDERS:
            if (folder / one).is_dir() and (folder / other).is_dir():
                images, labels = folder / one, folder / other
                break
        else:
            images = labels = folder / _TOGETHER if (folder / _TOGETHER).is_dir() else folder
    return [(image, path) for image, path in pair_files(images, labels, flat=True) if image is not None]


def read_annotated(
    images: str | PathLike[str],
    labels: str | PathLike[str] | None = None,
    spacing: Sequence[float] | None = None,
    unit: str = UNIT,
    channel: int | None = None,
) -> Iterator[Annotated]:
    """Read annotated images one by one; see `annotated_files`.

    ``spacing`` is in ``unit``; by default that in the files, or else 1 pixel. ``channel``, from 0, shows the
    cells, if images have several. Raises an InputError if a file cannot be read, image and labels have
    different shapes, or labels are not whole numbers.
    """
    for image, path in annotated_files(images, labels):
        given = spacing if spacing is None or len(spacing) == 3 else (float(np.mean(spacing)), *spacing)
        stack = read_stack(image, path, given, unit, flat=True, channel=channel)
        assert stack.image is not None
        shapes = [array.shape[len(array) == 1 :] for array in (stack.image, stack.labels)]
        if shapes[0] != shapes[1]:
            raise InputError(
                f"{image} has the shape {shapes[0]} and its labels {shapes[1]}: give labels that were made "
                "from this image."
            )
        check_intensities(stack.image, name=stack.name)
        numbers = whole_numbers(stack.labels, stack.name)
        if len(numbers) == 1:
            yield Annotated(stack.name, stack.image[0], numbers[0], stack.spacing[1:], stack.unit)
        else:
            yield Annotated(stack.name, stack.image, numbers, stack.spacing, stack.unit)


def write_image(
    path: Path,
    array: NDArray[Any],
    spacing: Sequence[float],
    unit: str,
    about: Mapping[str, Any] | None = None,
) -> None:
    """Write an image or its labels, (z, y, x) or (y, x), as OME-TIFF with the size of its voxels."""
    sides = [*[float(np.mean(spacing))] * (3 - len(spacing)), *spacing]
    write_ome_tiff(path, [OmeImage(array, path.stem, np.diag([*sides, 1.0]), unit, about or {})])


def all_annotated(
    images: Source,
    labels: Source | None,
    spacing: Sequence[float] | None,
    unit: str,
    channel: int | None = None,
) -> list[Annotated]:
    """Annotated images from a folder with both, or from paths or arrays and those of their labels."""
    if isinstance(images, str | PathLike) and labels is None:
        return list(read_annotated(images, None, spacing, unit, channel))
    many, own = _several(images), _several(labels)
    kinds = {isinstance(one, str | PathLike) for one in (*many, *own)}
    if labels is None or len(kinds) > 1:
        raise InputError("Images and labels are of different kinds: give paths for both, or arrays for both.")
    if len(many) != len(own):
        raise InputError(
            f"The number of images is {len(many)}, that of labels {len(own)}: give one for the other."
        )
    several = list(zip(many, own, strict=True))
    if kinds == {True}:
        return [one for pair in several for one in read_annotated(*pair, spacing, unit, channel)]
    return [
        Annotated(
            f"image {number}" if len(several) > 1 else "the image",
            np.asarray(image),
            np.asarray(own),
            tuple(spacing or [1.0] * np.ndim(own)),
            unit if spacing else "pixel",
        )
        for number, (image, own) in enumerate(several, start=1)
    ]


def _several(source: Source | None) -> list[Any]:
    return [source] if isinstance(source, str | PathLike | np.ndarray) else list(source or ())
