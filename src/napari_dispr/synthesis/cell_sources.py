"""Where synthetic cells come from: a learned model or a simulator, behind one interface."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_dispr.synthesis.background import Background
from napari_dispr.synthesis.settings import Microscope

#: Largest gap in voxels between a cell and an earlier one next to which it is placed.
GAP = 3
#: Cells with fewer voxels are left out.
LEAST_VOXELS = 4
#: ``draw(rng, count)`` yields `TexturedCell` without end and depends on ``rng`` alone. About ``count`` cells
#: will be used, which helps to choose the size of batches. Other events that it yields are passed on.
Draw = Callable[[np.random.Generator, int], Iterator[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class TexturedCell:
    """A synthetic cell: its mask (z, y, x) or (y, x), with a margin around it, and its grey values.

    They have the units of the real image, and fall to its background around the cell. ``source`` says which
    mask and seed made it.
    """

    mask: NDArray[np.bool_]
    image: NDArray[np.float32]
    source: str


@dataclass(frozen=True, slots=True, eq=False)
class CellSource:
    """Makes the cells of a population; ``name`` is that of the learned model or simulator.

    Attributes
    ----------
    spacing : (z, y, x) or (y, x)
        Size of a voxel of the cells in ``unit``; its length is their number of axes.
    background : Background
        Of the images in which the cells lie.
    volume : float
        Typical volume (3D) or area (2D) of a cell in powers of the unit.
    density : float or None
        Share of the real images that cells fill, if it is known.
    clustering : float
        Probability that a cell is placed next to an earlier one.
    dtype : str
        Data type of the images, such as "uint16".
    microscope : Microscope or None
        The usual microscope for cells that are sharp and without noise.
    glow : tuple of float
        Light above and below a cell, relative to that in its middle, at the depths `glow.GLOW_DEPTHS`; empty:
        none, or it is part of the background.
    blurred : str
        The reason why no microscope may be simulated, in one sentence; empty if it may.
    card : mapping
        Model, hash, training and whatever else says how the cells were made; plain values for JSON.
    """

    name: str
    spacing: tuple[float, ...]
    unit: str
    background: Background
    draw: Draw
    volume: float
    density: float | None = None
    clustering: float = 0.3
    dtype: str = "uint16"
    microscope: Microscope | None = None
    glow: tuple[float, ...] = ()
    blurred: str = ""
    card: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ndim(self) -> int:
        return len(self.spacing)
