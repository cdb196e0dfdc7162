"""Known planes: sections of a cell parallel to the imaged plane, each with its depth."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from napari_dispr import grid

#: Planes that are closer than this many voxels to one that is used tell nothing new on the grid.
LEAST_SPACING = 1.5
#: Networks learn from planes that are at most this many voxels apart.
WIDEST = 12.0
#: Height of a cell beyond its last known section, relative to the radius of a disc as large as that.
CAP = 0.8


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
    mask: NDArray[np.float32] = field(repr=False)
    image: NDArray[np.float32] | None = field(default=None, repr=False)


def mean_gap(mask: NDArray[np.float32], planes: Iterable[KnownPlane]) -> float:
    """Mean distance of the inside of a cell from its nearest known plane, in voxels, judged by the masks.

    The area changes linearly from section to section, and falls to 0 at the ends (`ends`). ``mask`` is that
    of the imaged plane.
    """
    depths, areas = section_areas(mask, planes)
    low, high = ends(depths, areas)
    inside = np.flatnonzero(areas)
    sections = slice(inside[0], inside[-1] + 1) if len(inside) else slice(0, 1)
    z = np.linspace(low, high, 4 * grid.SIZE)
    area = np.interp(z, np.r_[low, depths[sections], high], np.r_[0, areas[sections], 0])
    return float((area * np.abs(z[:, None] - depths).min(axis=1)).sum() / max(area.sum(), 1e-9))


def ends(depths: NDArray[np.float64], areas: NDArray[np.float64], cap: float = CAP) -> tuple[float, float]:
    """Depths at which a cell ends, lower and upper, judged by its sections at rising depths.

    Beyond its outermost sections it is as high as ``cap`` times the radius of a disc of their area, or it
    reaches up to the next plane, which is empty. Depths and radii have one unit.
    """
    inside = np.flatnonzero(areas)
    first, last = (inside[0], inside[-1]) if len(inside) else (0, 0)
    reach = cap * np.sqrt(areas[[first, last]] / np.pi)
    low = max(depths[first] - reach[0], *depths[max(first - 1, 0) : first], -np.inf)
    high = min(depths[last] + reach[1], *depths[last + 1 : last + 2], np.inf)
    return float(low), float(high)


def section_areas(
    mask: NDArray[np.float32], planes: Iterable[KnownPlane]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Depths of all known planes in voxels from the imaged plane, rising, and the areas of their sections."""
    known = sorted([(0.0, float(mask.sum())), *((one.depth, float(one.mask.sum())) for one in planes)])
    depths, areas = np.array(known).T
    return depths, areas


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
