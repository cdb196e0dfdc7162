"""Known planes: sections of a cell parallel to the imaged plane, each with its depth."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_dispr import grid

#: Planes that are closer than this many voxels to one that is used tell nothing new on the grid.
LEAST_SPACING = 1.5


@dataclass(frozen=True, slots=True, eq=False)
class KnownPlane:
    """A further section of a cell, parallel to the imaged plane.

    Attributes
    ----------
    depth : float
        Distance from the imaged plane in grid voxels, positive towards higher z; need not be whole.
    mask : (64, 64) float32
        Share of each voxel that the cell covers. It may be empty: the cell does not reach this plane.
    image : (64, 64) float32 or None
        Intensities from 0 to 1, neither masked nor normalised.
    """

    depth: float
    mask: NDArray[np.float32]
    image: NDArray[np.float32] | None = None


def on_grid(depth: float) -> bool:
    """Whether a depth, in voxels from the imaged plane, is on the model grid."""
    return 0 <= grid.IMAGED_PLANE + depth <= grid.SIZE - 1


def useful(planes: Iterable[KnownPlane]) -> tuple[KnownPlane, ...]:
    """The further planes on the grid, in the order of their depths, without those too close to others.

    Planes near the imaged plane, which is at depth 0, are preferred.
    """
    kept: list[KnownPlane] = []
    for plane in sorted(planes, key=lambda plane: abs(plane.depth)):
        depths = [0.0, *(other.depth for other in kept)]
        if on_grid(plane.depth) and min(abs(plane.depth - depth) for depth in depths) >= LEAST_SPACING:
            kept.append(plane)
    return tuple(sorted(kept, key=lambda plane: plane.depth))
