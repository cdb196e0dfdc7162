"""Where the members of a cell in a coarse stack start: ellipsoids with its sections.

The planes of a coarse stack are no choice: they lie anywhere in a cell. A cell with one section between two
empty planes was hit at random, and a network that learned from sections at most `planes.WIDEST` voxels apart
does not know what lies between two that are farther apart. In an ellipsoid whose radius is ``R`` in the
plane and ``a R`` along z, the squared radius of a section is ``R^2 - (z - c)^2 / a^2``. One section leaves
``a`` and ``c`` open, two leave ``a``; the members take quantiles of what is possible.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Self

import numpy as np
from numpy.typing import NDArray

from napari_dispr import grid, signed_distance
from napari_dispr.diffusion.cosines import Floats, volume_of
from napari_dispr.diffusion.known_shapes import KnownShapes
from napari_dispr.diffusion.starts import spread_evenly
from napari_dispr.planes import WIDEST, KnownPlane

#: Standard deviation of the logarithm of ``a`` among the known shapes of `generic`; its mean there is 0.
_SPREAD = 0.4
#: So many known shapes of a model are compared with ellipsoids, which must have this mean IoU with them. It
#: is .81 in `generic`, and .63 in `red-blood-cell`, where members that start from known shapes are better.
_COMPARED, _ALIKE = 40, 0.72
#: Values of ``a``, and of ``c / (a R)``, that are tried.
_TALL = np.exp(np.linspace(-1.2, 1.2, 121))
_OFF = np.linspace(-0.95, 0.95, 77)


Numbers = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Ellipsoids:
    """Ellipsoids with one or two sections of a cell.

    Attributes
    ----------
    depths : (1,) or (2,) float64
        Of the sections, rising, in voxels from the imaged plane.
    edges : (1 or 2, 64, 64) float32
        Signed distance from the edge of each section, in voxels.
    squares : (1,) or (2,) float64
        Squared radius of a disc as large as each section.
    low, high : float
        Depths of the empty planes below and above; infinite: none is known.
    truncation : float
        Unit of the shapes, in voxels.
    """

    depths: Numbers
    edges: Floats
    squares: Numbers
    low: float
    high: float
    truncation: float

    @classmethod
    def of(cls, mask: Floats, planes: Sequence[KnownPlane], truncation: float) -> Self | None:
        """None if the planes are not those of a coarse stack, or there are more sections."""
        seen = sorted([(0.0, mask), *((one.depth, one.mask) for one in planes)], key=lambda one: one[0])
        inside = [k for k, (_, section) in enumerate(seen) if (section > 0.5).any()]
        if not 1 <= len(inside) <= 2 or inside[-1] - inside[0] != len(inside) - 1:
            return None
        first, last = inside[0], inside[-1]
        low = seen[first - 1][0] if first else -np.inf
        high = seen[last + 1][0] if last + 1 < len(seen) else np.inf
        depths = np.array([seen[k][0] for k in inside])
        if not (np.isfinite(low + high) if len(inside) == 1 else np.ptp(depths) > WIDEST):
            return None
        return cls(
            depths,
            np.stack([signed_distance.from_level(seen[k][1], truncation=grid.SIZE) for k in inside]),
            np.array([float(seen[k][1].sum()) / np.pi for k in inside]),
            low,
            high,
            truncation,
        )

    def shape(self, seed: int) -> Floats:
        """An ellipsoid (64, 64, 64) with the outlines of the sections, in units of the truncation.

        Five consecutive seeds take different fifths of the distribution of ``a``, and of ``c``.
        """
        chances = self._chances
        tall = _quantile(chances.sum(axis=1), spread_evenly(seed))
        off = _quantile(chances[tall], spread_evenly(2 * seed + 1))
        level = self._level(float(_TALL[tall]), float(_OFF[off]))
        return np.clip(level / self.truncation, -1, 1).astype(np.float32)

    def _level(self, tall: float, off: float) -> Numbers:
        """Signed distance (64, 64, 64) of an ellipsoid, about in voxels."""
        z = grid.plane_distance().astype(np.float64)
        squares = self._squares(z, np.array(tall), np.array(off))
        own = np.sqrt(np.interp(z, self.depths, self.squares))
        # Where an ellipsoid is wider than the section, so is the cell, in proportion to the section.
        wider = np.sign(squares) * np.sqrt(np.abs(squares)) / own - 1
        deepest = np.interp(z, self.depths, self.edges.max(axis=(1, 2)))
        return np.asarray(grid.between(self.edges, self.depths, z) + (wider * deepest)[:, None, None])

    def _squares(self, z: Numbers, tall: Numbers, off: Numbers) -> Numbers:
        """Squared radii at depths, of ellipsoids with ``a`` and, with one section, ``c / (a R)``."""
        if len(self.depths) == 1:
            centre = off * tall * np.sqrt(self.squares[0] / (1 - off**2))
            return np.asarray(self.squares[0] + (2 * centre * z - z**2) / tall**2)
        (below, above), (first, last) = self.depths, self.squares
        straight = first + (last - first) * (z - below) / (above - below)
        return np.asarray(straight + (z - below) * (above - z) / tall**2)

    @cached_property
    def _chances(self) -> Numbers:
        """Chance of each ``a`` and each ``c``, (121, 77); with two sections one ``c`` is possible."""
        tall = _TALL[:, None]
        prior = np.exp(-0.5 * (np.log(tall) / _SPREAD) ** 2)
        if len(self.depths) == 1:
            # Planes hit a cell the more often the taller it is, in all depths equally often. With radii of
            # any size, dR / R, the chance of the section is that of dR / R dc: a / sqrt(1 - off^2).
            off = _OFF[None]
            chances = prior * tall / np.sqrt(1 - off**2)
        else:
            # The same for the squared radii of two sections: a^2 / R^2.
            off = np.zeros((1, 1))
            (below, above), (first, last) = self.depths, self.squares
            middle = (below + above) / 2 + tall**2 * (last - first) / (2 * (above - below))
            chances = prior * tall**2 / self._squares(middle, tall, off)
        ends = np.clip([self.low, self.high], -1e3, 1e3)
        possible = np.all(self._squares(ends, tall[..., None], off[..., None]) <= 0, axis=-1)
        if not possible.any():  # the flattest, in its middle
            possible[0, possible.shape[1] // 2] = True
        return np.asarray(chances * possible)


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
        tall = 0.75 * np.count_nonzero(shape) / np.pi / like.squares[0] ** 1.5
        alike = like._level(tall, 0.0) > 0
        found.append(np.count_nonzero(alike & shape) / np.count_nonzero(alike | shape))
    return bool(found) and float(np.mean(found)) > _ALIKE


def _quantile(chances: Numbers, share: float) -> int:
    cumulative = chances.cumsum()
    return min(int(np.searchsorted(cumulative, share * cumulative[-1], side="right")), len(chances) - 1)
