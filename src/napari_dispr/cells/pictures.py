"""Read one plane of a picture or of labels: TIFF, OME-Zarr, NPY, or any format that imageio reads."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_dispr.cells.stack_files import read_zarr_picture
from napari_dispr.errors import InputError
from napari_dispr.files import unreadable_tiff

#: Axes along which a file may hold several fields: time points and slices.
SERIES = "TZ"


def read_picture(path: Path, *, labels: bool = False) -> NDArray[Any]:
    """Read a whole picture, or labels.

    Of labels in a PNG with a palette, the values are the indices of the palette.

    Raises
    ------
    InputError
        If there is no such file, or it cannot be read.
    """
    if path.is_dir():
        return read_zarr_picture(path)
    if not path.is_file():
        raise InputError(f"There is no file {path}: check the name.")
    suffix = path.suffix.lower()
    try:
        if suffix in (".tif", ".tiff"):
            return tifffile.imread(path)
        if suffix == ".npy":
            return np.load(path, allow_pickle=False)
        from imageio.v3 import imread

        with path.open("rb") as file:
            has_palette = suffix == ".png" and file.read(26)[25:] == b"\3"  # the colour type
        return imread(path, mode="P") if labels and has_palette else imread(path)
    except Exception as error:  # a broken file can raise anything
        if suffix in (".tif", ".tiff"):
            raise unreadable_tiff(path, error) from error
        raise InputError(f"{path} cannot be read as a picture: save it as TIFF.") from error


def axes_of(path: Path) -> dict[str, int]:
    """The axes of a picture that are longer than 1, a letter each, and their lengths; without reading pixels.

    Empty if the file cannot be read, or does not say its axes. NPY files of three axes are series of planes.
    """
    try:
        if path.is_dir():
            import zarr

            from napari_dispr.cells.stack_files import zarr_axes

            shape, letters = zarr_axes(zarr.open_group(path, mode="r"))
        elif path.suffix.lower() in (".tif", ".tiff"):
            with tifffile.TiffFile(path) as tiff:
                shape, letters = tiff.series[0].shape, tiff.series[0].axes
        elif path.suffix.lower() == ".npy":
            shape = np.load(path, mmap_mode="r", allow_pickle=False).shape
            letters = "TYX" if len(shape) == 3 else "YX"
        else:
            return {}
    except Exception:  # a damaged file can raise anything; it is reported when it is read
        return {}
    if len(shape) == 3 and letters.endswith("YX"):
        letters = letters.replace("Q", "T").replace("I", "T")  # an axis without a name: planes
    return {letter: length for letter, length in zip(letters, shape, strict=True) if length > 1}


def read_plane(
    path: Path, place: Mapping[str, int], channel: int | None = None, *, labels: bool = False
) -> NDArray[Any]:
    """Read one plane of a picture or of labels.

    Parameters
    ----------
    place : mapping of axis to int
        Index of the time point (T) and of the slice (Z), if there are several.
    channel : int, optional
        Which channel of a picture, from 0; needed if there are several.

    Returns
    -------
    array
        (y, x), but for pictures in colour and for axes that are not known.

    Raises
    ------
    InputError
        If the file cannot be read, has no such plane, or has several channels and none was chosen.
    """
    axes = axes_of(path)
    array = read_picture(path, labels=labels)
    array = array.reshape([length for length in array.shape if length > 1] or array.shape)
    if "".join(axes)[-2:] != "YX" or array.ndim != len(axes):
        return array  # one plane, or not known: checked by what uses it
    index: list[int | slice] = []
    for letter, length in axes.items():
        if letter in "YX":
            index.append(slice(None))
        elif letter in place:
            if place[letter] >= length:
                raise InputError(
                    f"{path} has {length} planes along {letter}, fewer than its partner: check both."
                )
            index.append(place[letter])
        elif letter == "C" and not labels:
            if channel is None or channel >= length:
                raise InputError(
                    f"{path} has {length} channels: give the one that shows the cells, --channel 0 to "
                    f"{length - 1}."
                )
            index.append(channel)
        else:
            raise InputError(f"{path} has an axis {letter} that its partner does not have: save one plane.")
    return np.asarray(array[tuple(index)])
