"""The tiles of each view of Compare: their surfaces and colours. No Qt, no OpenGL."""

import math
from dataclasses import dataclass
from enum import StrEnum

from napari_dispr.viewer.opened import Shape
from napari_dispr.widgets.compare.content import CellShapes, Surface

Colour = tuple[float, float, float, float]


class View(StrEnum):
    """How the shapes of a cell are shown."""

    SIDE_BY_SIDE = "side by side"
    OVERLAY = "overlay"
    DISAGREEMENT = "disagreement"


#: Colours of modes A, B, ..., also distinct for the colour-blind.
MODE_COLOURS: tuple[tuple[float, float, float], ...] = (
    (0.45, 0.70, 0.96),
    (0.96, 0.64, 0.33),
    (0.42, 0.80, 0.62),
    (0.85, 0.55, 0.82),
    (0.93, 0.86, 0.42),
    (0.62, 0.62, 0.95),
)
CONSENSUS_COLOUR: tuple[float, float, float] = (0.80, 0.82, 0.86)
TRUTH_COLOUR: tuple[float, float, float] = (0.98, 0.90, 0.55)
#: Colour map of values, on surfaces and in the colour bar.
VALUE_COLOURS = "viridis"
#: Opacity of the members around the selected one, and of all if none is selected.
_FAINT, _TOGETHER = 0.08, 0.3
#: With at least this many shapes, surfaces of half the resolution are enough.
_COARSE_FROM = 8


@dataclass(frozen=True, slots=True)
class TileSurface:
    """A surface in a tile, of one colour (r, g, b, opacity) or, with ``by_value``, coloured by its values."""

    surface: Surface
    colour: Colour
    by_value: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Tile:
    """One part of the canvas, with its own view of the cell.

    Attributes
    ----------
    shape : int, "consensus", "truth" or None
        The shape in it, if it is one.
    caption, note : str
        Text above and below.
    surfaces : tuple of TileSurface
        Opaque ones first.
    volume : bool
        Whether the occupancy is shown as a volume.
    frame : (r, g, b) or None
        Colour of its mode.
    """

    shape: Shape
    caption: str
    note: str = ""
    surfaces: tuple[TileSurface, ...] = ()
    volume: bool = False
    frame: tuple[float, float, float] | None = None
    selected: bool = False
    kept: bool = False

    @property
    def painted(self) -> tuple[bool, tuple[TileSurface, ...]]:
        """What the canvas paints; the rest is captions."""
        return self.volume, self.surfaces


def mode_colour(letter: str) -> tuple[float, float, float]:
    """The colour of a mode."""
    return MODE_COLOURS[(ord(letter[0]) - ord("A")) % len(MODE_COLOURS)]


def tiles_of(
    cell: CellShapes,
    view: View,
    selected: Shape = None,
    kept: Shape = None,
    notes: dict[Shape, str] | None = None,
) -> list[Tile]:
    """The tiles of a view, in the order in which they are laid out. ``notes``: text below a shape, such as
    its volume.
    """
    notes = notes or {}
    if view is View.OVERLAY:
        return [_overlay(cell, selected)]
    if view is View.DISAGREEMENT:
        return _disagreement(cell)
    several = len(cell.modes) > 1
    shown = len(cell.members) + (cell.consensus is not None) + (cell.truth is not None)
    surfaces = cell.coarse if shown >= _COARSE_FROM else cell.members

    def tile(shape: Shape, caption: str, surface: Surface, colour: tuple[float, float, float]) -> Tile:
        return Tile(
            shape,
            caption,
            notes.get(shape, ""),
            (TileSurface(surface, (*colour, 1.0)),),
            frame=colour if several and isinstance(shape, int) else None,
            selected=shape is not None and selected == shape,
            kept=shape is not None and kept == shape,
        )

    tiles = []
    for mode in cell.modes:
        for number in mode.numbers:
            caption = f"{mode.letter}: {_name(number)}" if several else _name(number)
            tiles.append(tile(number, caption, surfaces[number], mode_colour(mode.letter)))
    if cell.consensus is not None and len(cell.members) > 1:
        tiles.append(tile("consensus", "consensus", cell.consensus, CONSENSUS_COLOUR))
    if cell.truth is not None:
        tiles.append(tile(None, "truth", cell.truth, TRUTH_COLOUR))
    return tiles


def _overlay(cell: CellShapes, selected: Shape) -> Tile:
    """All members in one place, with the selected one opaque."""
    surfaces = []
    opacity = _TOGETHER if selected is None else _FAINT
    if isinstance(selected, int):
        surfaces.append(
            TileSurface(cell.members[selected], (*mode_colour(cell.mode_of(selected).letter), 1.0))
        )
    elif selected == "consensus" and cell.consensus is not None:
        surfaces.append(TileSurface(cell.consensus, (*CONSENSUS_COLOUR, 1.0)))
    several = cell.coarse if len(cell.members) >= _COARSE_FROM else cell.members
    for number, surface in several.items():
        if number != selected:
            surfaces.append(TileSurface(surface, (*mode_colour(cell.mode_of(number).letter), opacity)))
    if cell.truth is not None:
        surfaces.append(TileSurface(cell.truth, (*TRUTH_COLOUR, opacity)))
    front = "" if selected is None else f", {_name(selected)} in front"
    count = f"all {len(cell.members)} members" if len(cell.members) > 1 else "one member"
    return Tile(shape=None, caption=f"{count}{front}", surfaces=tuple(surfaces))


def _name(shape: Shape) -> str:
    return f"member {shape + 1}" if isinstance(shape, int) else str(shape)


def _disagreement(cell: CellShapes) -> list[Tile]:
    tiles = []
    if cell.consensus is not None:
        surfaces = (TileSurface(cell.consensus, (*CONSENSUS_COLOUR, 1.0), by_value=True),)
        tiles.append(Tile("consensus", "consensus, by disagreement", surfaces=surfaces))
    tiles.append(Tile(None, "share of members", volume=True))
    return tiles


def arranged(tiles: int, width: float, height: float) -> tuple[int, int]:
    """Columns and rows that make the tiles largest in a window of this size."""
    best = (0.0, 1, 1)
    for columns in range(1, tiles + 1):
        rows = math.ceil(tiles / columns)
        side = min(width / columns, height / rows)
        if side > best[0] + 1e-9:
            best = (side, columns, rows)
    return best[1], best[2]
