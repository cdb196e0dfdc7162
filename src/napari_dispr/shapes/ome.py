"""Volumes as OME-TIFF, with the size of their voxels, their place and how they came to be.

What other programs read of such a file (Fiji and everything else that goes by Bio-Formats or tifffile):
axes, voxel size with its unit, the position of the planes. What OME has no words for, as a rotation,
stands in the image's description, which is JSON.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tifffile
from numpy.typing import ArrayLike, NDArray

from napari_dispr import grid
from napari_dispr.errors import InputError
from napari_dispr.files import written_aside

#: Length units that OME-XML knows, by the names that napari (pint) gives them.
OME_UNITS = {
    **{name: name for name in ("pixel", "nm", "µm", "mm", "cm", "m")},
    "nanometer": "nm",
    "micrometer": "µm",
    "micron": "µm",
    "um": "µm",
    "millimeter": "mm",
    "centimeter": "cm",
    "meter": "m",
}

#: Above this many bytes offsets take 64 bits.
_LARGEST_CLASSIC = 2**32 - 2**25

#: What OME knows of numbers, by NumPy's kind; others become the first that holds them.
_TYPES: dict[str, tuple[Any, ...]] = {
    "u": (np.uint8, np.uint16, np.uint32),
    "i": (np.int8, np.int16, np.int32),
    "f": (np.float32, np.float64),
}


@dataclass(frozen=True, slots=True, eq=False)
class OmeImage:
    """One image of a file.

    Parameters
    ----------
    array : (y, x), (z, y, x) or (t, z, y, x) array
        Bool, whole or floating numbers.
    name : str
    index_to_world : (4, 4) array
        Affine on (z, y, x, 1) from voxel-centre index to world.
    unit : str
        Of the world ("pixel", "micrometer", ...).
    description : mapping
        Anything JSON can hold.
    """

    array: NDArray[Any]
    name: str
    index_to_world: NDArray[np.float64]
    unit: str = "pixel"
    description: Mapping[str, Any] = field(default_factory=dict)


def write_ome_tiff(path: str | os.PathLike[str], images: Sequence[OmeImage]) -> None:
    """Write images into one OME-TIFF, each as an image of its own; compressed without loss.

    Parameters
    ----------
    path : path
        Ends in ``.ome.tif``, by which other programs know it.
    images : sequence of OmeImage

    Raises
    ------
    InputError
        If an image has more axes than t, z, y and x, is empty, or has numbers that OME does not know.
    """
    arrays = [_for_ome(image) for image in images]
    large = sum(array.nbytes for array in arrays) > _LARGEST_CLASSIC
    with (
        written_aside(path) as temporary,
        tifffile.TiffWriter(temporary, ome=True, bigtiff=large) as file,
    ):
        for array, image in zip(arrays, images, strict=True):
            file.write(array, photometric="minisblack", compression="zlib", metadata=_metadata(image))


def _for_ome(image: OmeImage) -> NDArray[Any]:
    """The pixels as a type that OME knows."""
    array = np.asarray(image.array)
    if not 2 <= array.ndim <= 4 or not array.size:
        raise InputError(f'"{image.name}" has the shape {array.shape}: an OME-TIFF takes 2 to 4 axes.')
    if array.dtype == bool:
        return array.astype(np.uint8)
    types = _TYPES.get(array.dtype.kind, ())
    for kind in types:
        if array.dtype.itemsize <= np.dtype(kind).itemsize:
            return array.astype(kind, copy=False)
    if array.dtype.kind in "ui":  # a wide type may hold small numbers, as labels do
        for kind in _TYPES["u" if array.min() >= 0 else "i"]:
            if np.iinfo(kind).min <= array.min() and array.max() <= np.iinfo(kind).max:
                return array.astype(kind)
    raise InputError(f'"{image.name}" holds numbers that OME-TIFF cannot ({array.dtype}): convert its type.')


def _metadata(image: OmeImage) -> dict[str, Any]:
    array = np.asarray(image.array)
    # A unit that OME does not know is named in the description only.
    unit = OME_UNITS.get(image.unit, "reference frame")
    # Plain numbers: the text of NumPy's is not always a number.
    sizes = [float(size) for size in grid.spacing(image.index_to_world)]
    place = [float(value) for value in image.index_to_world[:3, 3]]
    planes = int(np.prod(array.shape[:-2]))
    depth = array.shape[-3] if array.ndim > 2 else 1
    metadata: dict[str, Any] = {
        "axes": "TZYX"[4 - array.ndim :],
        "Name": image.name,
        "Description": json.dumps(dict(image.description)),
        "Plane": {
            "PositionX": [place[2]] * planes,
            "PositionXUnit": [unit] * planes,
            "PositionY": [place[1]] * planes,
            "PositionYUnit": [unit] * planes,
            "PositionZ": [place[0] + float(image.index_to_world[0, 0]) * (i % depth) for i in range(planes)],
            "PositionZUnit": [unit] * planes,
        },
    }
    for axis, length in zip("ZYX", sizes, strict=True):
        metadata |= {f"PhysicalSize{axis}": length, f"PhysicalSize{axis}Unit": unit}
    return metadata


def spatial_affine(affine: ArrayLike) -> NDArray[np.float64]:
    """The part of an (n + 1, n + 1) affine that tells of (z, y, x), as (4, 4); missing axes have size 1."""
    affine = np.asarray(affine, dtype=np.float64)
    axes = min(len(affine) - 1, 3)
    result = np.eye(4)
    result[3 - axes : 3, 3 - axes : 3] = affine[-1 - axes : -1, -1 - axes : -1]
    result[3 - axes : 3, 3] = affine[-1 - axes : -1, -1]
    return result
