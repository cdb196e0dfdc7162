"""Read one plane of a picture or of labels, and no other."""

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_dispr.cells.file_pairs import check_no_image
from napari_dispr.cells.stack_files import (
    checked_channel,
    named_axes,
    one_channel,
    open_zarr,
    read_file,
)
from napari_dispr.errors import InputError
from napari_dispr.files import TIFF, open_tiff, reading
from napari_dispr.labels import split_parts

#: Axes along which a file may hold several fields: time points and slices.
SERIES = "TZ"
_PLANES = {"T": "time points", "Z": "slices", "C": "channels", "S": "colours", "Q": "planes"}


def axes_of(path: Path, unnamed: str = "T") -> dict[str, int]:
    """The axes of a picture that are longer than 1, a letter each, and their lengths; without reading pixels.

    Empty if the file cannot be read, or does not say its axes. An axis without a name before y and x, as in
    NPY files, is called ``unnamed``: a series of planes.
    """
    try:
        if path.is_dir():
            opened = open_zarr(path)
            shape, letters = opened.array.shape, opened.axes
        elif path.suffix.lower() in TIFF:
            with open_tiff(path) as tiff:
                shape, letters = tiff.series[0].shape, tiff.series[0].axes
        elif path.suffix.lower() == ".npy" and path.is_file():
            shape = np.load(path, mmap_mode="r", allow_pickle=False).shape
            letters = "YX".rjust(len(shape), "Q")
        else:
            return {}
    except Exception:  # a damaged file can raise anything; it is reported when it is read
        return {}
    letters = named_axes(shape, letters)
    if len(shape) == 3 and letters.endswith("YX"):
        letters = letters.replace("Q", unnamed).replace("I", unnamed)
    if not len(set(letters)) == len(letters) == len(shape):
        return {}
    return {letter: length for letter, length in zip(letters, shape, strict=True) if length > 1}


def read_plane(
    path: Path,
    place: Mapping[str, int] = MappingProxyType({}),
    channel: int | None = None,
    *,
    labels: bool = False,
) -> NDArray[Any]:
    """Read one plane of a picture or of labels, (y, x), but for axes that are not known.

    ``place`` is the index of the time point (T) and of the slice (Z), if there are several; ``channel``, from
    0, that of a picture with several. Raises an InputError if the file cannot be read, has no such plane, or
    has several channels and none was chosen.
    """
    if labels:
        check_no_image(path)
    axes = axes_of(path, unnamed="T" if "T" in place else "Q")  # one without a name may be channels
    if "".join(axes)[-2:] != "YX":  # in colour, or not known: checked by what uses it
        array = one_channel(read_file(path, labels=labels), path, channel).array
        return array.reshape([length for length in array.shape if length != 1] or array.shape)
    if not labels and not {"C", "S", "Q"} & axes.keys():
        checked_channel(channel or 0, path, 1)
    wanted = {}
    for letter, length in list(axes.items())[:-2]:
        if letter in place:
            if place[letter] >= length:
                raise InputError(
                    f"{path} has {length} planes along {letter}, fewer than its partner: check both."
                )
            wanted[letter] = place[letter]
        elif letter in "CSQ" and not labels:
            wanted[letter] = checked_channel(channel, path, length, _PLANES[letter])
        else:
            what = _PLANES.get(letter, f"planes along {letter}")
            raise InputError(f"{path} has {length} {what}, and one was expected: save one of them.")
    return _read_plane(path, tuple(wanted.values()))


def read_recorded(made: Mapping[str, Any], labels: bool, path: Path | None = None) -> NDArray[Any] | None:
    """Read the picture, or the labels, that a prediction was made from, or another file at ``path``.

    It is (y, x), or (z, y, x) of a prediction from several planes; None if the provenance records no file, or
    it cannot be found. Raises an InputError if the file cannot be read.
    """
    recorded = made.get("labels_file" if labels else "image_file")
    # Unlike `Path.exists`, this raises nothing for a folder that the user may not enter.
    path = path or (Path(recorded) if recorded and os.path.exists(recorded) else None)
    if path is None:
        return None
    channel = None if labels else made.get("channel")
    if "planes" in made:
        array = one_channel(read_file(path, labels=labels), path, channel).array.squeeze()
    else:
        array = read_plane(path, made.get("place") or {}, channel, labels=labels)
    return split_parts(array) if labels and made.get("split") else array


def _read_plane(path: Path, index: tuple[int, ...]) -> NDArray[Any]:
    """The plane at an index of the axes before y and x that are longer than 1; no other is read."""
    with reading(path, "TIFF" if path.suffix.lower() in TIFF else "a picture"):
        if path.is_dir():
            return _plane_of(open_zarr(path).array, index)
        if path.suffix.lower() == ".npy":
            return _plane_of(np.load(path, mmap_mode="r", allow_pickle=False), index)
        with open_tiff(path) as tiff:
            series = tiff.series[0]
            if series.dataoffset is not None:
                return _plane_of(tifffile.memmap(path, mode="r"), index)
            shape = series.shape[:-2]
            if len(series.pages) == np.prod(shape, dtype=int):
                number = np.ravel_multi_index(_whole_index(shape, index), shape) if shape else 0
                if (page := series.pages[int(number)]) is not None:
                    return np.asarray(page.asarray())
            return _plane_of(series.asarray(), index)


def _plane_of(array: Any, index: tuple[int, ...]) -> NDArray[Any]:
    return np.array(array[_whole_index(array.shape[:-2], index)])


def _whole_index(shape: tuple[int, ...], index: tuple[int, ...]) -> tuple[int, ...]:
    """The index with a 0 for each axis of length 1."""
    places = iter(index)
    return tuple(0 if length == 1 else next(places) for length in shape)
