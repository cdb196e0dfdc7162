"""Write volumes as OME-TIFF, with voxel size, position and provenance.

Other programs (Fiji and all that use Bio-Formats or tifffile) read axes, voxel size, unit and the position of
the planes. The rest, such as a rotation, is JSON in the description of the image.
"""

import json
import os
import uuid
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tifffile
from numpy.typing import ArrayLike, NDArray

from napari_dispr import grid
from napari_dispr.errors import InputError
from napari_dispr.files import written_aside

#: Length units of OME-XML, by their names in napari (pint).
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

#: Larger files, in bytes, need offsets of 64 bits.
_LARGEST_CLASSIC = 2**32 - 2**25

#: Data types of OME, by NumPy's kind. Other types become the first one that can hold their values.
_TYPES: dict[str, tuple[Any, ...]] = {
    "u": (np.uint8, np.uint16, np.uint32),
    "i": (np.int8, np.int16, np.int32),
    "f": (np.float32, np.float64),
}


@dataclass(frozen=True, slots=True, eq=False)
class OmeImage:
    """One image of a file: (y, x), (z, y, x) or (t, z, y, x) booleans, integers or floats.

    ``index_to_world`` is the affine on (z, y, x, 1) from voxel-centre index to world, ``unit`` that of the
    world, or one for each of (z, y, x), and ``description`` JSON content.
    """

    array: NDArray[Any]
    name: str
    index_to_world: NDArray[np.float64]
    unit: str | tuple[str, str, str] = "pixel"
    description: Mapping[str, Any] = field(default_factory=dict)


def write_ome_tiff(path: str | os.PathLike[str], images: Sequence[OmeImage]) -> None:
    """Write images into one OME-TIFF, with lossless compression.

    Raises an InputError if an image is empty, has other axes than t, z, y and x, or a data type that OME does
    not have.

    Parameters
    ----------
    path : path
        Ends in ``.ome.tif``, so that other programs recognise it.
    """
    arrays = [_for_ome(image) for image in images]
    texts = [_metadata(image) for image in images]
    # The identifier follows from the content, so that the same images make the same file.
    content = json.dumps(texts) + "".join(f"{zlib.crc32(array.tobytes())}" for array in arrays)
    texts[0]["UUID"] = f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, content)}"
    large = sum(array.nbytes for array in arrays) > _LARGEST_CLASSIC
    with written_aside(path) as temporary, tifffile.TiffWriter(temporary, ome=True, bigtiff=large) as file:
        for array, metadata in zip(arrays, texts, strict=True):
            file.write(array, photometric="minisblack", compression="zlib", metadata=metadata)


def _for_ome(image: OmeImage) -> NDArray[Any]:
    """The pixels in a data type of OME."""
    array = np.asarray(image.array)
    if not 2 <= array.ndim <= 4 or not array.size:
        raise InputError(f'"{image.name}" has the shape {array.shape}: an OME-TIFF takes 2 to 4 axes.')
    if array.dtype == bool:
        return array.astype(np.uint8)
    types = _TYPES.get(array.dtype.kind, ())
    for kind in types:
        if array.dtype.itemsize <= np.dtype(kind).itemsize:
            return array.astype(kind, copy=False)
    if array.dtype.kind in "ui":  # a large type with small values, as in labels
        for kind in _TYPES["u" if array.min() >= 0 else "i"]:
            if np.iinfo(kind).min <= array.min() and array.max() <= np.iinfo(kind).max:
                return array.astype(kind)
        raise InputError(
            f'"{image.name}" holds the value {array.max()}, and OME-TIFF has whole numbers up to '
            f"{2**32 - 1}: number the cells from 1, and predict them again."
        )
    raise InputError(
        f'"{image.name}" has the data type {array.dtype}, which OME-TIFF does not have: convert it.'
    )


def _metadata(image: OmeImage) -> dict[str, Any]:
    array = np.asarray(image.array)
    # Other units are only in the description.
    names = (image.unit,) * 3 if isinstance(image.unit, str) else image.unit
    units = [OME_UNITS.get(name, "reference frame") for name in names]
    # Python floats, because the text of NumPy's is not always a number.
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
            "PositionXUnit": [units[2]] * planes,
            "PositionY": [place[1]] * planes,
            "PositionYUnit": [units[1]] * planes,
            "PositionZ": [place[0] + float(image.index_to_world[0, 0]) * (i % depth) for i in range(planes)],
            "PositionZUnit": [units[0]] * planes,
        },
    }
    for axis, length, unit in zip("ZYX", sizes, units, strict=True):
        metadata |= {f"PhysicalSize{axis}": length, f"PhysicalSize{axis}Unit": unit}
    return metadata


def spatial_affine(affine: ArrayLike) -> NDArray[np.float64]:
    """The (z, y, x) part of an (n + 1, n + 1) affine, as (4, 4); missing axes have size 1."""
    affine = np.asarray(affine, dtype=np.float64)
    axes = min(len(affine) - 1, 3)
    result = np.eye(4)
    result[3 - axes : 3, 3 - axes : 3] = affine[-1 - axes : -1, -1 - axes : -1]
    result[3 - axes : 3, 3] = affine[-1 - axes : -1, -1]
    return result
