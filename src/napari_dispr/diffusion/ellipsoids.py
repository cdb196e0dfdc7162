"""Where the members of a cell in a coarse stack start: ellipsoids with its sections.

The planes of a coarse stack are not chosen by the cells: they lie anywhere in them. A cell with one section
between two empty planes was hit at random. And a network that learned from sections at most `planes.WIDEST`
voxels apart does not know what lies between two that are farther apart. So the members start from quantiles
of the ellipsoids that are possible (`stereology`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Self

import numpy as np
from scipy.ndimage import gaussian_filter

from napari_dispr import grid, signed_distance
from napari_dispr.diffusion.cosines import Floats, volume_of
from napari_dispr.diffusion.known_shapes import KnownShapes
from napari_dispr.diffusion.representatives import spread_evenly
from napari_dispr.planes import WIDEST, KnownPlane
from napari_dispr.stereology import OFF, TALL, Cut, Numbers, Sizes

#: So many known shapes of a model are compared with ellipsoids, which must have this mean IoU with them. It
#: is .81 in `generic`, and .63 in `red-blood-cell`, where members that start from known shapes are better.
_COMPARED, _ALIKE = 40, 0.72
#: So many voxels from a section the outline is smooth, with a standard deviation of this share of the radius:
#: the steps of its pixels would be grooves along the whole cell.
_FADED, _SMOOTH = 3.0, 0.15


@dataclass(frozen=True, eq=False)
class Ellipsoids:
    """Ellipsoids with one or two sections of a cell; ``cut`` and ``sizes``, those of the cells of its stack,
    are in voxels.

    ``edges`` (1 or 2, 64, 64) are signed distances from the edge of each section, in voxels; ``truncation``
    is the unit of the shapes.
    """

    cut: Cut
    edges: Floats
    sizes: Sizes | None
    truncation: float

    @classmethod
    def of(
        cls, mask: Floats, planes: Sequence[KnownPlane], truncation: float, sizes: Sizes | None = None
    ) -> Self | None:
        """None if the planes are not those of a coarse stack, or there are more sections.

        The only section of a cell must have empty planes below and above if the sizes are not known.
        """
        seen = sorted([(0.0, mask), *((one.depth, one.mask) for one in planes)], key=lambda one: one[0])
        inside = [k for k, (_, section) in enumerate(seen) if (section > 0.5).any()]
        if not 1 <= len(inside) <= 2 or inside[-1] - inside[0] != len(inside) - 1:
            return None
        first, last = inside[0], inside[-1]
        low = seen[first - 1][0] if first else -np.inf
        high = seen[last + 1][0] if last + 1 < len(seen) else np.inf
        depths = np.array([seen[k][0] for k in inside])
        closed = sizes is not None or np.isfinite(low + high)
        if not (closed if len(inside) == 1 else np.ptp(depths) > WIDEST):
            return None
        squares = np.array([float(seen[k][1].sum()) / np.pi for k in inside])
        edges = [signed_distance.from_level(seen[k][1], truncation=grid.SIZE) for k in inside]
        return cls(Cut(depths, squares, low, high), np.stack(edges), sizes, truncation)

    def shape(self, seed: int) -> Floats:
        """An ellipsoid (64, 64, 64) with the outlines of the sections, in units of the truncation.

        Five consecutive seeds take different fifths of the distribution of ``a``, and of ``c``.
        """
        chances = self._chances
        tall = _quantile(chances.sum(axis=1), spread_evenly(seed))
        off = _quantile(chances[tall], spread_evenly(2 * seed + 1))
        level = self._level(float(TALL[tall]), float(OFF[off]))
        return np.clip(level / self.truncation, -1, 1).astype(np.float32)

    def adjusted(self, shape: Floats, start: Floats) -> Floats:
        """The ellipsoid ``start``, whatever a network makes of it: it was not trained with such planes."""
        return start

    def _level(self, tall: float, off: float) -> Numbers:
        """Signed distance (64, 64, 64) of an ellipsoid, about in voxels."""
        z = grid.plane_distance().astype(np.float64)
        depths = self.cut.depths
        squares = self.cut.squares_at(z, np.array(tall), np.array(off))
        own = np.sqrt(np.interp(z, depths, self.cut.squares))
        # Where an ellipsoid is wider than the section, so is the cell, in proportion to the section.
        wider = np.sign(squares) * np.sqrt(np.abs(squares)) / own - 1
        deepest = np.interp(z, depths, self.edges.max(axis=(1, 2)))
        near = np.clip(1 - np.abs(z[:, None] - depths).min(axis=1) / _FADED, 0, 1)[:, None, None]
        edge = near * grid.between(self.edges, depths, z) + (1 - near) * grid.between(self._smooth, depths, z)
        return np.asarray(edge + (wider * deepest)[:, None, None])

    @cached_property
    def _smooth(self) -> Floats:
        """The edges with smooth outlines; the second term undoes that smoothing shrinks a circle."""
        radii = np.sqrt(self.cut.squares)
        smooth = [
            gaussian_filter(e, _SMOOTH * r) + _SMOOTH**2 * r / 2
            for e, r in zip(self.edges, radii, strict=True)
        ]
        return np.stack(smooth).astype(np.float32)

    @cached_property
    def _chances(self) -> Numbers:
        """As `Cut.chances`."""
        return self.cut.chances(self.sizes)


@lru_cache(maxsize=4)
def describe(known: KnownShapes) -> bool:
    """Whether ellipsoids with the sections of known shapes have their volumes at about the same places."""
    found = []
    for number in np.linspace(0, len(known.shapes) - 1, _COMPARED).astype(int):
        shape = volume_of(known.coefficients(known.shapes[number] * known.shape_unit), 0.0) > 0
        section = shape[grid.IMAGED_PLANE].astype(np.float32)
        if not section.any():
            continue
        nowhere = np.zeros_like(section)
        planes = [KnownPlane(depth, nowhere) for depth in (-grid.IMAGED_PLANE, grid.IMAGED_PLANE - 1)]
        like = Ellipsoids.of(section, planes, 1.0)
        assert like is not None
        tall = 0.75 * np.count_nonzero(shape) / np.pi / like.cut.squares[0] ** 1.5
        alike = like._level(tall, 0.0) > 0
        found.append(np.count_nonzero(alike & shape) / np.count_nonzero(alike | shape))
    return bool(found) and float(np.mean(found)) > _ALIKE


def _quantile(chances: Numbers, share: float) -> int:
    cumulative = chances.cumsum()
    return min(int(np.searchsorted(cumulative, share * cumulative[-1], side="right")), len(chances) - 1)
