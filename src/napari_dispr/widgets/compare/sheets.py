"""Sheets across the shapes of a cell: its picture or known planes, and the plane to image next. No Qt."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, map_coordinates

from napari_dispr import grid
from napari_dispr.shapes.ensemble import Ensemble

#: Pixels along a side of a sheet, and width of its lines in pixels.
_PIXELS, _LINE = 192, 3
#: Colours of outlines in known planes and of the next plane, (r, g, b).
_OUTLINE, _NEXT = (0.95, 0.95, 0.98), (1.0, 0.72, 0.2)
#: Opacity of a picture inside the outline and where the cell is not, of lines, and of the next plane.
_INSIDE, _OUTSIDE, _LINES, _TINT = 0.5, 0.15, 0.9, 0.22
#: Largest disc, as a share of a sheet: there is room for its line.
_LARGEST = 0.97
#: Smallest disc, likewise.
SMALL_DISC = 0.3
#: A mask's outline is at this level.
_EDGE = 0.5

_Pixels = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Sheet:
    """A picture across the shapes, parallel to the imaged plane.

    ``pixels`` (h, w, 4) are RGBA, rows downwards; ``half`` of its side, and its z in the view (``height``)
    are in the unit of the world.
    """

    pixels: _Pixels
    half: float
    height: float


def known_sheets(ensemble: Ensemble, half: float, radius: float) -> tuple[Sheet, ...]:
    """A sheet for each known plane of a cell that has several; ``half`` is half of its side.

    It shows the picture inside the cell's outline, or the outline alone. A plane that is known to be empty is
    a disc within the ball of this radius around the cell.
    """
    section = ensemble.section
    if section is None or not section.planes:
        return ()
    low, high = section.brightness
    index = places_on_grid(ensemble, half)
    sheets = []
    for plane in section.all_planes:
        height = -plane.depth * float(ensemble.spacing[0])
        pixels = np.zeros((_PIXELS, _PIXELS, 4), np.float32)
        empty = plane.mask.max() <= _EDGE
        inside = (
            _in_ball(height, half, radius) if empty else map_coordinates(plane.mask, index, order=1) > _EDGE
        )
        if plane.image is not None:
            seen = map_coordinates(plane.image, index, order=1, mode="nearest")
            grey = (seen - low) / max(high - low, 1e-12)
            pixels[..., :3] = grey[..., None]
            pixels[..., 3] = np.where(inside, _OUTSIDE if empty else _INSIDE, 0.0)
        pixels[_rim(inside)] = (*_OUTLINE, _LINES)
        sheets.append(Sheet(pixels, half, height))
    return tuple(sheets)


def picture_sheet(picture: _Pixels, half: float) -> Sheet:
    """The picture (h, w), from 0 to 1, in the imaged plane. It is round, so that it stays in its tile when it
    turns.
    """
    inside = np.clip((1 - _from_middle()) * _PIXELS / 4, 0, 1)
    return Sheet(np.dstack([picture, picture, picture, _INSIDE * inside]).astype(np.float32), half, 0.0)


def places_on_grid(ensemble: Ensemble, half: float) -> NDArray[np.float64]:
    """Grid indices (2, h, w) along y and x of the pixels of a sheet."""
    steps = (np.arange(_PIXELS) + 0.5) / _PIXELS * 2 - 1
    index = np.stack(np.meshgrid(steps, steps, indexing="ij")) * half
    return np.asarray(index / ensemble.spacing[1:, None, None] + grid.CENTRE)


def next_sheet(depth: float, half: float, radius: float) -> Sheet:
    """The plane to image next, at a depth in the unit of the world: a disc within the ball of this radius
    around the cell.
    """
    disc = _in_ball(depth, half, radius)
    pixels = np.zeros((_PIXELS, _PIXELS, 4), np.float32)
    pixels[disc] = (*_NEXT, _TINT)
    pixels[_rim(disc)] = (*_NEXT, _LINES)
    return Sheet(pixels, half, -depth)


def _in_ball(height: float, half: float, radius: float) -> NDArray[np.bool_]:
    """The disc at this height within a ball; above and below the ball a small one."""
    share = min(_LARGEST, np.sqrt(max(radius**2 - height**2, (SMALL_DISC * half) ** 2)) / half)
    return _from_middle() < share


def _from_middle() -> NDArray[np.float64]:
    """Distance of each pixel of a sheet from its middle, relative to half of its side."""
    y, x = (np.indices((_PIXELS, _PIXELS)) + 0.5) * 2 / _PIXELS - 1
    return np.asarray(np.hypot(y, x))


def _rim(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A line around it, outside, so that shapes do not hide it."""
    return np.asarray(binary_dilation(inside, iterations=_LINE) & ~inside)
