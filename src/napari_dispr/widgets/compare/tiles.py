"""What each view of Compare draws of a cell: which surfaces in which tile, in which colours. No Qt, no GL."""

import math
from dataclasses import dataclass
from enum import StrEnum

from napari_dispr.viewer.session import Shape
from napari_dispr.widgets.compare.content import CellShapes, Surface

Colour = tuple[float, float, float, float]


class View(StrEnum):
    """How the shapes of a cell are shown."""

    SIDE_BY_SIDE = "side by side"
    OVERLAY = "overlay"
    DISAGREEMENT = "disagreement"


#: Of modes A, B, ...; colours that people who do not tell red from green do tell apart.
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
#: Colour map of values from 0 on, on surfaces and in the colour bar.
VALUE_COLOURS = "viridis"
#: Opacity of members around the one that is looked at, and of all of them where there is none.
_FAINT, _TOGETHER = 0.08, 0.3
#: From so many shapes on surfaces of half the resolution do, in small tiles and over one another.
_COARSE_FROM = 8


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """A surface in a tile.

    Attributes
    ----------
    surface : Surface
    colour : (r, g, b, opacity)
        Where the surface has values these colour it instead.
    by_value : bool
    """

    surface: Surface
    colour: Colour
    by_value: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Tile:
    """One part of the picture, with a view of its own on the cell.

    Attributes
    ----------
    shape : int, "consensus", "truth" or None
        What it shows, if it is one thing.
    caption, note : str
        Words above and below.
    drawn : tuple of Drawn
        Opaque ones first.
    volume : bool
        Whether the occupancy is shown as a volume.
    frame : (r, g, b) or None
        Of the mode that it belongs to.
    selected, kept : bool
        Whether it is what is looked at; whether it was kept as the cell's shape.
    """

    shape: Shape
    caption: str
    note: str = ""
    drawn: tuple[Drawn, ...] = ()
    volume: bool = False
    frame: tuple[float, float, float] | None = None
    selected: bool = False
    kept: bool = False


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
    """The tiles of a view, in the order in which they are laid out.

    Parameters
    ----------
    cell : CellShapes
    view : View
    selected : int, "consensus" or None
        What is looked at.
    kept : int, "consensus" or None
        What was kept as the cell's shape.
    notes : dict, optional
        What stands below a shape, such as its volume.
    """
    notes = notes or {}
    if view is View.OVERLAY:
        return [_overlay(cell, selected)]
    if view is View.DISAGREEMENT:
        return _disagreement(cell)
    several = len(cell.modes) > 1
    shown = len(cell.members) + (cell.consensus is not None) + (cell.truth is not None)
    surfaces = cell.coarse if shown >= _COARSE_FROM else cell.members
    tiles = []
    for mode in cell.modes:
        colour = mode_colour(mode.letter)
        for number in mode.numbers:
            name = f"member {number + 1}"
            tiles.append(
                Tile(
                    shape=number,
                    caption=f"{mode.letter}: {name}" if several else name,
                    note=notes.get(number, ""),
                    drawn=(Drawn(surfaces[number], (*colour, 1.0)),),
                    frame=colour if several else None,
                    selected=selected == number,
                    kept=kept == number,
                )
            )
    if cell.consensus is not None and len(cell.members) > 1:
        tiles.append(
            Tile(
                shape="consensus",
                caption="consensus",
                note=notes.get("consensus", ""),
                drawn=(Drawn(cell.consensus, (*CONSENSUS_COLOUR, 1.0)),),
                selected=selected == "consensus",
                kept=kept == "consensus",
            )
        )
    if cell.truth is not None:
        truth = (Drawn(cell.truth, (*TRUTH_COLOUR, 1.0)),)
        tiles.append(Tile(shape=None, caption="truth", note=notes.get(None, ""), drawn=truth))
    return tiles


def _overlay(cell: CellShapes, selected: Shape) -> Tile:
    """All members in one place; the one that is looked at stands out."""
    drawn = []
    opacity = _TOGETHER if selected is None else _FAINT
    if isinstance(selected, int):
        drawn.append(Drawn(cell.members[selected], (*mode_colour(cell.mode_of(selected).letter), 1.0)))
    elif selected == "consensus" and cell.consensus is not None:
        drawn.append(Drawn(cell.consensus, (*CONSENSUS_COLOUR, 1.0)))
    several = cell.coarse if len(cell.members) >= _COARSE_FROM else cell.members
    for number, surface in several.items():
        if number != selected:
            drawn.append(Drawn(surface, (*mode_colour(cell.mode_of(number).letter), opacity)))
    if cell.truth is not None:
        drawn.append(Drawn(cell.truth, (*TRUTH_COLOUR, opacity)))
    front = "" if selected is None else f", {_name(selected)} in front"
    return Tile(shape=None, caption=f"all {len(cell.members)} members{front}", drawn=tuple(drawn))


def _name(shape: Shape) -> str:
    return f"member {shape + 1}" if isinstance(shape, int) else str(shape)


def _disagreement(cell: CellShapes) -> list[Tile]:
    tiles = []
    if cell.consensus is not None:
        drawn = (Drawn(cell.consensus, (*CONSENSUS_COLOUR, 1.0), by_value=True),)
        tiles.append(Tile("consensus", "consensus, coloured by how much the members disagree", drawn=drawn))
    tiles.append(Tile(None, "occupancy: how many members hold a place", volume=True))
    return tiles


def arranged(tiles: int, width: float, height: float) -> tuple[int, int]:
    """Columns and rows in which so many tiles are largest in a window of these sides."""
    best = (0.0, 1, 1)
    for columns in range(1, tiles + 1):
        rows = math.ceil(tiles / columns)
        side = min(width / columns, height / rows)
        if side > best[0] + 1e-9:
            best = (side, columns, rows)
    return best[1], best[2]
