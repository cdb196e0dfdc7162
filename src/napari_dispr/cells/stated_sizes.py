"""Voxel sizes as files state them: units by their many names, and the metadata of TIFF files."""

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any
from xml.etree import ElementTree

import numpy as np
import tifffile

#: The unit of all stacks whose files have a unit.
UNIT = "micrometer"
#: Names of units in files, in lower case, and their length in micrometer.
_UNITS = {
    **dict.fromkeys(("µm", "μm", "um", "micron", "microns", "micrometer", "micrometre", "\\u00b5m"), 1.0),
    **dict.fromkeys(("nm", "nanometer", "nanometre"), 1e-3),
    **dict.fromkeys(("mm", "millimeter", "millimetre"), 1e3),
    **dict.fromkeys(("cm", "centimeter", "centimetre"), 1e4),
    **dict.fromkeys(("m", "meter", "metre"), 1e6),
    **dict.fromkeys(("å", "angstrom"), 1e-4),
}
#: The units of TIFF itself, by number: inch and centimeter in micrometer.
_TIFF_UNITS = {2: 25_400.0, 3: 10_000.0}
#: Sides of a pixel in micrometer that count with these units. Many programs write the resolution of a screen,
#: a printer or a scanner (72 to 4800 dpi) into every TIFF: these pixels are larger.
_LEAST_PIXEL, _LARGEST_PIXEL = 0.001, 5.0
#: Size of a voxel along (z, y, x); None: not in the file.
Sizes = tuple[float | None, float | None, float | None]
UNKNOWN: Sizes = (None, None, None)


def tiff_sizes(tiff: tifffile.TiffFile) -> tuple[Sizes, Sequence[object], str]:
    """Voxel size and units from OME-XML, the description and tags of ImageJ, or the tags of TIFF; a note."""
    if tiff.is_ome and tiff.ome_metadata:
        return *_ome_sizes(tiff.ome_metadata), ""
    shaped: Any = tiff.shaped_metadata
    metadata: Mapping[str, Any] = tiff.imagej_metadata or (shaped[0] if shaped else {})
    # ImageJ states the units of y and z only where they differ from that of x.
    units = [metadata.get(name, metadata.get("unit")) for name in ("zunit", "yunit", "unit")]

    def in_plane(name: str) -> float | None:
        tag = tiff.pages.first.tags.get(name)
        pixels, per = tag.value if tag is not None else (0, 1)
        return per / pixels if pixels else None

    y, x = in_plane("YResolution"), in_plane("XResolution")
    tag = tiff.pages.first.tags.get("ResolutionUnit")
    if tag is not None and y and x and not any(units):
        y_side, x_side = (side * _TIFF_UNITS.get(int(tag.value), np.inf) for side in (y, x))
        if min(y_side, x_side) >= _LEAST_PIXEL and max(y_side, x_side) <= _LARGEST_PIXEL:
            return (None, y_side, x_side), (UNIT,) * 3, ""
    note, z = "", abs(as_number(metadata.get("spacing")))
    if tiff.is_imagej and _slices(metadata) < 2:
        z = 0.0
    elif not z and tiff.is_imagej and micrometers(units[0]):
        note, z = "the distance of its slices is taken as 1 unit, the default of ImageJ.", 1.0
    return (z or None, y, x), units, note


def _slices(metadata: Mapping[str, Any]) -> int:
    """Number of slices that ImageJ states; it leaves out what is 1."""
    series = {"channels", "frames"} & metadata.keys()
    return int(metadata.get("slices", 1 if series else metadata.get("images", 1)))


def _ome_sizes(text: str) -> tuple[Sizes, Sequence[object]]:
    pixels = next((e for e in ElementTree.fromstring(text).iter() if e.tag.endswith("}Pixels")), None)
    if pixels is None:
        return UNKNOWN, (None,) * 3
    z, y, x = (as_number(pixels.get(f"PhysicalSize{axis}")) or None for axis in "ZYX")
    return (z, y, x), [pixels.get(f"PhysicalSize{axis}Unit", "µm") for axis in "ZYX"]


def as_number(size: Any) -> float:
    """A size in the metadata of a file; 0 if it is missing, or no finite number."""
    try:
        number = float(size)
    except (TypeError, ValueError):
        return 0.0
    return number if isfinite(number) else 0.0


def in_one_unit(sizes: Sizes, units: Sequence[object]) -> tuple[Sizes, str]:
    """Sizes in micrometer; in pixel, with their ratio, if no axis has a unit of length."""
    lengths = [micrometers(unit) for unit in units]
    unit = UNIT if any(lengths) else "pixel"
    steps = [1.0 if unit == "pixel" else length for length in lengths]
    usable = [
        size * step if size and step and 0 < size * step < float("inf") else None
        for size, step in zip(sizes, steps, strict=True)
    ]
    return (usable[0], usable[1], usable[2]), unit


def micrometers(unit: object) -> float | None:
    """Length of a unit, by any of its names in files; None for "pixel" and similar."""
    return _UNITS.get(str(unit).strip().lower())
