"""Read stacks and pictures with their voxel sizes: TIFF (OME, ImageJ and others), OME-Zarr, NPY, and what
imageio reads.
"""

import json
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_dispr.cells.file_pairs import check_no_image, is_zarr, stem_of
from napari_dispr.cells.stacks import Stack
from napari_dispr.cells.stated_sizes import UNIT, UNKNOWN, Sizes, in_one_unit, micrometers, tiff_sizes
from napari_dispr.errors import InputError
from napari_dispr.files import TIFF, open_tiff, reading
from napari_dispr.grid import check_spacing

#: Formats that are not read, and what to do about them.
_OTHER_FORMATS = {
    **dict.fromkeys(
        (".czi", ".dv", ".ims", ".lif", ".nd2", ".oib", ".oif", ".oir", ".vsi", ".zvi"),
        "is in the format of a microscope: open it in Fiji (Bio-Formats) and save it as OME-TIFF",
    ),
    **dict.fromkeys(
        (".geojson", ".json", ".roi"),
        "holds outlines, not labels: export a label image from the program that drew them",
    ),
    ".zip": "is an archive: unpack it, or, if it holds ImageJ's outlines, export a label image from the "
    "program that drew them",
    ".npz": "is an archive of arrays: save one of them as NPY or TIFF",
}

#: The most colours, with opacity, and the shortest side of a picture in colour whose axes have no names.
_COLOURS, _SHORTEST = 4, 16

#: Distances of voxels (z, y, x) in micrometer; that along z may not be known.
StatedSpacing = tuple[float | None, float, float]


@dataclass(frozen=True, slots=True, eq=False)
class FileArray:
    """The content of a file: array, a letter for each axis, voxel size in ``unit``."""

    array: Any
    axes: str
    sizes: Sizes = UNKNOWN
    unit: str = UNIT
    note: str = ""


def read_stack(
    image: str | PathLike[str] | None,
    labels: str | PathLike[str],
    spacing: Sequence[float] | None = None,
    unit: str = UNIT,
    *,
    flat: bool = False,
    channel: int | None = None,
) -> Stack:
    """Read a 3D image and its segmentation.

    Raises an InputError if a file is missing or damaged, has time points or channels of which none was
    chosen, or is not a 3D stack, or if the package for OME-Zarr is missing.

    Parameters
    ----------
    image : path or None
        TIFF, OME-TIFF, OME-Zarr (its largest resolution), NPY, PNG and others; axes of length 1 are dropped.
    labels : path
        Whole numbers with the same size.
    spacing : (z, y, x), optional
        Size of a voxel in ``unit``; by default that in the file of the image, or else of the labels.
    unit : str
        Of the given spacing. Units of length are converted to micrometer.
    flat : bool
        Whether 2D images are accepted too, as stacks of one slice.
    channel : int, optional
        Which channel of the image, from 0; needed if it has several.

    Returns
    -------
    Stack
        Named after the file of the image, or else of the labels. If no file contains the voxel size along
        all axes, voxels are cubes of one pixel, and ``note`` says so.
    """
    named = Path(labels if image is None else image)
    segmentation = _in_space(read_file(Path(labels), labels=True), Path(labels), flat)
    picture = None
    if image is not None:
        picture = _in_space(one_channel(read_file(Path(image)), Path(image), channel), Path(image), flat)
    given: tuple[float, ...]
    note = ""
    if spacing is not None:
        in_unit = micrometers(unit)
        given = tuple(spacing) if in_unit is None else tuple(step * in_unit for step in spacing)
        unit = unit if in_unit is None else UNIT
    else:
        given, unit, note = _stated_spacing(picture, segmentation)
        note = f"{named}{note}" if note else ""
    if len(given) != 3:
        raise InputError(f"The spacing is {spacing}: give three lengths, along z, y and x.")
    try:
        check_spacing(given, unit)
    except InputError as error:
        raise InputError(f"{named}: {error}") from None
    return Stack(
        name=stem_of(named),
        image=None if picture is None else picture.array,
        labels=segmentation.array,
        spacing=(float(given[0]), float(given[1]), float(given[2])),
        unit=unit,
        note=note,
    )


def _stated_spacing(image: FileArray | None, labels: FileArray) -> tuple[tuple[float, ...], str, str]:
    """Spacing and unit that the files state, and a note for the user (without the name of the file)."""
    reads = [read for read in (image, labels) if read is not None and None not in read.sizes]
    if not reads or all(read.unit != UNIT and set(read.sizes) == {1.0} for read in reads):
        note = " does not say how large its voxels are along z, y and x. They count as cubes: "
        return (1.0, 1.0, 1.0), "pixel", note + "give the spacing if they are not."
    chosen = next((read for read in reads if read.unit == UNIT), reads[0])
    spacing = tuple(size for size in chosen.sizes if size is not None)
    note = f": {chosen.note}" if chosen.note else ""
    if chosen.unit != UNIT:
        note = f" gives its voxels as {_lengths(spacing)} without a unit: give the spacing and its unit."
    others = [read.sizes for read in reads if read.unit == chosen.unit and read is not chosen]
    if others and not np.allclose(np.array(others[0], float), spacing, rtol=0.01):
        note = (
            f" and its labels state different voxel sizes, {_lengths(spacing)} and {_lengths(others[0])} "
            f"{chosen.unit}. The first is used: give the spacing if it is wrong."
        )
    return spacing, chosen.unit, note


def _lengths(sizes: Sequence[float | None]) -> str:
    return " x ".join(f"{size:.4g}" for size in sizes if size is not None)


def stated_pixel_size(path: Path) -> tuple[float, float] | None:
    """Sides (y, x) of a pixel in micrometer; None as in :func:`stated_spacing`."""
    spacing = stated_spacing(path)
    return spacing and spacing[1:]


def stated_spacing(path: Path) -> StatedSpacing | None:
    """Distances of voxels (z, y, x) in micrometer, from the metadata of a TIFF or OME-Zarr picture.

    None if the file does not state the sides of a pixel, or if no microscope has such pixels; z alone may be
    missing.
    """
    try:
        if path.is_dir():
            sizes, unit = (read := open_zarr(path)).sizes, read.unit
        elif path.suffix.lower() in TIFF:
            with open_tiff(path) as tiff:
                sizes, unit = in_one_unit(*tiff_sizes(tiff)[:2])
        else:
            return None
        z, y, x = sizes
        if unit != UNIT or y is None or x is None:
            return None
        check_spacing((z or y, y, x), unit)
    except Exception:  # damaged metadata can raise anything, and the picture may be fine without them
        return None
    return z, y, x


def read_file(path: Path, *, labels: bool = False) -> FileArray:
    """Read a file as an array, with its axes and the size of its voxels.

    Labels in a picture with a palette are its indices; those in Cellpose's NAME_seg.npy its masks.
    Raises an InputError if there is no such file, it cannot be read, or labels have channels or colours.
    """
    if not path.exists():
        raise InputError(f"There is no file {path}: check the name.")
    suffix = path.suffix.lower()
    if labels:
        check_no_image(path)
    if path.is_dir():
        read = _read_zarr(path)
    elif suffix in TIFF:
        read = _read_tiff(path)
    elif suffix == ".npy":
        with reading(path, "NPY"):
            array = _read_cellpose(path) if stem_of(path).endswith("_seg") else np.load(path)
        read = FileArray(array, named_axes(array.shape, "Q" * array.ndim))
    elif suffix in _OTHER_FORMATS:
        raise InputError(f"{path} {_OTHER_FORMATS[suffix]}.")
    else:
        read = _read_picture(path, labels)
    if not labels:
        return read
    try:
        return one_channel(read, path, None)
    except InputError as error:
        what = str(error).partition(":")[0]
        raise InputError(f"{what}: save the labels as one channel, with one number for each cell.") from None


def one_channel(read: FileArray, path: Path, channel: int | None) -> FileArray:
    """Choose a channel of a picture that has several; colours that are all equal need no choice.

    Raises an InputError if the picture has several channels and none, or one that it does not have, was
    chosen.
    """
    several = [i for i, letter in enumerate(read.axes) if letter in "CS" and read.array.shape[i] > 1]
    if not several:
        checked_channel(channel or 0, path, 1)
        return read
    axis = several[0]
    channels, colours = np.moveaxis(read.array, axis, 0), read.axes[axis] == "S"
    if channel is None and colours and all(np.array_equal(channels[0], other) for other in channels[1:3]):
        channel = 0  # grey values, perhaps with an opacity
    channel = checked_channel(channel, path, len(channels), "colours" if colours else "channels")
    read = replace(read, array=channels[channel], axes=read.axes[:axis] + read.axes[axis + 1 :])
    return read if len(several) == 1 else one_channel(read, path, channel)


def checked_channel(channel: int | None, path: Path, count: int, what: str = "channels") -> int:
    """The chosen channel; an InputError if none, or one that the picture does not have, was chosen."""
    if count == 1 and channel != 0:
        raise InputError(f"{path} has one channel: leave out --channel {channel}.")
    if channel is None or not 0 <= channel < count:
        raise InputError(
            f"{path} has {count} {what}: give the one that shows the cells, --channel 0 to {count - 1}."
        )
    return channel


def _read_picture(path: Path, labels: bool) -> FileArray:
    from imageio.v3 import immeta, imread

    with reading(path, "a picture", "save it as TIFF"):
        content: Any = path.read_bytes()  # imageio leaves files open that it cannot read
        kind: dict[str, Any] = {"extension": path.suffix}
        has_palette = labels and immeta(content, exclude_applied=False, **kind).get("mode") == "P"
        array = imread(content, mode="P", **kind) if has_palette else imread(content, **kind)
        if path.suffix.lower() == ".gif" and len(array) == 1:
            array = array[0]
        if array.ndim == 3 and array.shape[2] == 2:  # grey values and opacity
            array = array[..., 0]
    return FileArray(array, {2: "YX", 3: "YXS"}.get(array.ndim, "Q" * array.ndim))


def named_axes(shape: Sequence[int], axes: str) -> str:
    """The axes of a file; ``YXS`` for three without names of which the last is as short as colours."""
    is_colour = (
        len(shape) == 3 and axes[0] in "QI" and 2 <= shape[2] <= _COLOURS < _SHORTEST <= min(shape[:2])
    )
    return "YXS" if is_colour else axes


class _NoArray:
    """Stands for any other object in a pickle, such as a path: takes its content and does nothing."""

    def __init__(self, *content: Any) -> None: ...

    def __setstate__(self, state: Any) -> None: ...

    def __setitem__(self, key: Any, value: Any) -> None: ...

    def append(self, value: Any) -> None: ...


class _ArrayUnpickler(pickle.Unpickler):
    """Reads pickled arrays, and nothing that could run code."""

    def find_class(self, module: str, name: str) -> Any:
        known = ("_reconstruct", "scalar", "_frombuffer", "ndarray", "dtype")
        if module.split(".")[0] != "numpy" or name not in known:
            return _NoArray
        return super().find_class(module, name)


def _read_cellpose(path: Path) -> NDArray[Any]:
    """The masks of Cellpose's NAME_seg.npy, a pickled dictionary; or the array of any other NPY file."""
    with path.open("rb") as file:
        version = np.lib.format.read_magic(file)
        read = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        if read(file)[2] != np.dtype(object):
            return np.load(path)
        content = _ArrayUnpickler(file).load()
    masks = content.item().get("masks") if isinstance(content, np.ndarray) else None
    if not isinstance(masks, np.ndarray):
        raise InputError(f"{path} holds no masks: segment the picture in Cellpose, and save it again.")
    return masks


def _in_space(read: FileArray, path: Path, flat: bool) -> FileArray:
    """Drop axes of length 1, and check that the other axes are z, y and x; a flat image gets a z axis."""
    if (times := dict(zip(read.axes, read.array.shape, strict=True)).get("T", 1)) > 1:
        raise InputError(
            f"{path} has {times} time points: save one of them, or call the axis z if these are slices."
        )
    array, sizes = read.array.squeeze(), read.sizes
    if flat and array.ndim == 2:
        _, y, x = sizes
        array, sizes = array[None], (None if y is None or x is None else (y + x) / 2, y, x)
    if array.ndim != 3:
        shape = " x ".join(str(length) for length in read.array.shape)
        raise InputError(
            f"{path} has the shape {shape} and is not a 3D stack: save one with the axes z, y and x."
        )
    return replace(read, array=array, axes="ZYX", sizes=sizes)


# --- TIFF -------------------------------------------------------------------------------------------


def _read_tiff(path: Path) -> FileArray:
    with reading(path, "TIFF"), open_tiff(path) as tiff:
        series = tiff.series[0]
        # By default tifffile writes three or four slices of whole numbers as colours.
        array = series.asarray()
        axes = "ZYX" if series.axes == "SYX" else named_axes(array.shape, series.axes)
        if array.size < _promised(tiff):
            raise ValueError("pages are missing")
        sizes, units, note = tiff_sizes(tiff)
    return FileArray(array, axes, *in_one_unit(sizes, units), note)


def _promised(tiff: tifffile.TiffFile) -> int:
    """Number of values according to the metadata; of a truncated file, readers return the remaining pages."""
    shaped: Any = tiff.shaped_metadata
    if shaped:
        return int(np.prod(shaped[0].get("shape", ())))
    return int((tiff.imagej_metadata or {}).get("images", 1) * np.prod(tiff.pages.first.shape))


# --- OME-Zarr ---------------------------------------------------------------------------------------


_ZARR, _ZARR_CURE = "an OME-Zarr image", "save it as OME-Zarr or TIFF"


def _read_zarr(path: Path) -> FileArray:
    opened = open_zarr(path)
    with reading(path, _ZARR, _ZARR_CURE):
        return replace(opened, array=np.asarray(opened.array[...]))


def open_zarr(path: Path) -> FileArray:
    """The largest resolution of an OME-Zarr image, whose pixels are read when the array is indexed."""
    try:
        import zarr
    except ImportError:
        raise InputError(
            f'{path} is OME-Zarr, which needs one more package: run pip install "napari-dispr[zarr]".'
        ) from None
    if not is_zarr(path):
        raise InputError(f"{path} is a folder, and a picture was expected: give a file or an OME-Zarr in it.")
    with reading(path, _ZARR, _ZARR_CURE):
        group = zarr.open_group(path, mode="r")
        attributes: Mapping[str, Any] = json.loads(json.dumps(dict(group.attrs)))
        attributes = attributes.get("ome", attributes)  # from version 0.5
        if "bioformats2raw.layout" in attributes:  # a folder of images, numbered from 0
            images = sorted(name for name, _ in group.groups() if name.isdecimal())
            if len(images) > 1:
                one = path / images[0]
                raise InputError(f"{path} has {len(images)} images: choose one of them, such as {one}.")
            return open_zarr(path / images[0])
        if "multiscales" not in attributes:
            # A group of label images, or of the wells and fields of a plate.
            inner = sorted(name for name, _ in group.groups())
            cure = f"choose an image in it, such as {path / inner[0]}" if inner else _ZARR_CURE
            raise InputError(f"{path} is a Zarr, but no OME-Zarr image: {cure}.")
        image = attributes["multiscales"][0]
        largest: Any = group[image["datasets"][0]["path"]]
        axes = [_axis(axis) for axis in image.get("axes", "tczyx")]
        sizes = dict(zip((name for name, _ in axes), _zarr_scale(image, len(axes)), strict=True))
        letters = "".join(name[0].upper() for name, _ in axes)
        if len(letters) != len(largest.shape):
            raise ValueError("each axis has a name")
    units = dict(axes)
    zyx = (sizes.get("z"), sizes.get("y"), sizes.get("x"))
    return FileArray(largest, letters, *in_one_unit(zyx, [units.get(name) for name in "zyx"]))


def _axis(axis: Any) -> tuple[str, str | None]:
    """Name and unit of an axis, in any version of the format."""
    return (axis["name"], axis.get("unit")) if isinstance(axis, dict) else (axis, None)


def _zarr_scale(image: Mapping[str, Any], count: int) -> list[float]:
    """The scale of the largest resolution times the common scale, for each axis."""
    scale = np.ones(count)
    for part in (image["datasets"][0], image):
        for transformation in part.get("coordinateTransformations", ()):
            if transformation["type"] == "scale":
                scale = scale * transformation["scale"]
    return [float(step) for step in scale]
