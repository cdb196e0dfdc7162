"""What sections at any height say of the sizes of cells (stereology), taken as ellipsoids.

In an ellipsoid whose radius is ``R`` in the plane and ``a R`` along z, the squared radius of a section is
``R^2 - (z - c)^2 / a^2``. One section leaves ``a`` and ``c`` open, two sections leave ``a`` open. All cells
of a stack together show which ``R`` and ``a`` are usual (the general spheroid problem, Cruz-Orive 1976,
Journal of Microscopy 107, 235).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]

#: Standard deviation of the logarithm of ``a`` among the known shapes of `generic`; its mean there is 0.
SPREAD = 0.4
#: Values of ``a``, and of ``c / (a R)``, that are tried.
TALL = np.exp(np.linspace(-1.2, 1.2, 121))
OFF = np.linspace(-0.95, 0.95, 77)
#: The sizes in a stack are fitted to at least and at most so many cells, in so many rounds.
_LEAST, _MOST, _ROUNDS = 5, 200, 60
#: Largest logarithm of the usual radius over that of a section that counts.
_NARROW = 1.0
#: Prior of the fit: standard deviations of the logarithms of ``R`` and ``a`` within a stack, which count as
#: much as so many cells; and that of the mean logarithm of ``a`` among stacks.
_RADIUS_SD, _TALL_SD, _COUNT, _MEAN_SD = 0.3, 0.2, 2.0, 0.35


@dataclass(frozen=True, slots=True)
class Sizes:
    """Sizes of the cells of a stack: means and standard deviations of the logarithms of ``R`` and ``a``."""

    radius: float
    radius_sd: float
    tall: float
    tall_sd: float

    def __post_init__(self) -> None:
        numbers = np.array([self.radius, self.radius_sd, self.tall, self.tall_sd], np.float64)
        if not np.isfinite(numbers).all() or min(self.radius_sd, self.tall_sd) <= 0:
            raise ValueError(f"the sizes of the cells of a stack are {self}")

    def chance(self, radius: Numbers, tall: Numbers) -> Numbers:
        """Density of sizes, given by their logarithms, up to a factor."""
        squares = ((radius - self.radius) / self.radius_sd) ** 2 + ((tall - self.tall) / self.tall_sd) ** 2
        return np.asarray(np.exp(-0.5 * squares))

    def zoomed(self, zoom: float) -> Self:
        """The same in a unit of length that is smaller by this factor."""
        return type(self)(self.radius + float(np.log(zoom)), self.radius_sd, self.tall, self.tall_sd)


@dataclass(frozen=True, eq=False)
class Cut:
    """One or two sections of an ellipsoid, at rising depths, with the squared radius of a disc as large as
    each.

    ``low`` and ``high`` are the depths of the empty planes below and above; infinite: none is known.
    """

    depths: Numbers
    squares: Numbers
    low: float
    high: float

    def squares_at(self, z: Numbers, tall: Numbers, off: Numbers) -> Numbers:
        """Squared radii at depths, of ellipsoids with ``a`` and, with one section, ``c / (a R)``."""
        if len(self.depths) == 1:
            (depth,), (square,) = self.depths, self.squares
            centre = off * tall * np.sqrt(square / (1 - off**2))
            return np.asarray(square + (2 * centre * (z - depth) - (z - depth) ** 2) / tall**2)
        (below, above), (first, last) = self.depths, self.squares
        straight = first + (last - first) * (z - below) / (above - below)
        return np.asarray(straight + (z - below) * (above - z) / tall**2)

    def chances(self, sizes: Sizes | None) -> Numbers:
        """Chance of each ``a`` and each ``c``, (121, 77); with two sections one ``c`` is possible, (121, 1).

        Without sizes, cells are as tall as the known shapes of `generic`, and of any size.
        """
        radius, tall, possible = self.ellipsoids()
        prior = np.exp(-0.5 * (tall / SPREAD) ** 2) if sizes is None else sizes.chance(radius, tall)
        return prior * possible

    def ellipsoids(self) -> tuple[Numbers, Numbers, Numbers]:
        """Logarithms of ``R`` and ``a`` of the ellipsoids, and how often planes cut such ones in this way.

        All are (121, 77), or (121, 1) with two sections.
        """
        tall, off = TALL[:, None], OFF[None]
        if len(self.depths) == 1:
            # Planes hit a cell the more often the taller it is, in all depths equally often: the chance of
            # the section is that of dR / R dc, which is a / sqrt(1 - off^2).
            radius = np.sqrt(self.squares / (1 - off**2)) + 0 * tall
            often = tall / np.sqrt(1 - off**2)
        else:
            # The same for the squared radii of two sections: a^2 / R^2.
            off = np.zeros((1, 1))
            (below, above), (first, last) = self.depths, self.squares
            middle = (below + above) / 2 + tall**2 * (last - first) / (2 * (above - below))
            radius = np.sqrt(self.squares_at(middle, tall, off))
            often = tall**2 / radius**2
        ends = np.clip([self.low, self.high], -1e3, 1e3)
        possible = np.all(self.squares_at(ends, tall[..., None], off[..., None]) <= 0, axis=-1)
        if not possible.any():  # the flattest, in its middle
            possible[0, possible.shape[1] // 2] = True
        return np.log(radius), np.log(tall) + 0 * radius, often * possible


def usual_sizes(depths: Numbers, areas: Sequence[Numbers]) -> Sizes | None:
    """Sizes of the cells of a stack, from the areas of their sections; None: too few cells.

    The most likely log-normal distributions (expectation maximisation). A plane hits a cell with a
    probability proportional to its height, and always if it is higher than the planes are apart.

    Parameters
    ----------
    depths : (plane,) array
        Rising.
    areas : sequence of (plane,) arrays
        Of each cell, 0 where a plane does not hit it. Cells in the first or the last plane are left out,
        since they may go on, and so are cells with a gap.
    """
    found = [one for area in areas if (one := _possible(depths, area)) is not None]
    if len(found) < _LEAST:
        return None
    # Sections much smaller than usual are nearer to an end of their cells than `OFF` reaches.
    least = np.array([radius.min() for radius, _, _ in found])
    found = [one for one, own in zip(found, least, strict=True) if own > np.median(least) - _NARROW]
    found = found[:: -(-len(found) // _MOST)]
    apart = float(np.diff(depths).mean())
    radius, tall, often = (np.concatenate(one) for one in zip(*found, strict=True))
    cell = np.repeat(np.arange(len(found)), [len(one[0]) for one in found])
    hit = np.minimum(2 * np.exp(radius + tall), apart)
    sizes, count = Sizes(float(np.median(least)), _RADIUS_SD, 0.0, _TALL_SD), len(found)
    for _ in range(_ROUNDS):
        chance = often * sizes.chance(radius, tall) + 1e-300
        share = chance / np.bincount(cell, chance)[cell] / hit
        share /= share.sum()
        middle, mean = share @ radius, share @ tall
        shrunk = count * mean / (count + (sizes.tall_sd / _MEAN_SD) ** 2)
        sds = (
            np.sqrt((count * (share @ (logs - centre) ** 2) + _COUNT * usual**2) / (count + _COUNT))
            for logs, centre, usual in ((radius, middle, _RADIUS_SD), (tall, shrunk, _TALL_SD))
        )
        radius_sd, tall_sd = (float(sd) for sd in sds)
        sizes = Sizes(float(middle), radius_sd, float(shrunk), tall_sd)
    return sizes


def _possible(depths: Numbers, areas: Numbers) -> tuple[Numbers, Numbers, Numbers] | None:
    """What `Cut.ellipsoids` says of a cell, a quarter of it, in one dimension; None if it is left out."""
    inside = np.flatnonzero(areas)
    first, last = inside[0], inside[-1]
    if first == 0 or last == len(areas) - 1 or last - first != len(inside) - 1:
        return None
    depths, squares = depths - depths[first], areas[inside] / np.pi
    if len(inside) <= 2:
        cut = Cut(depths[inside], squares, depths[first - 1], depths[last + 1])
        radius, tall, often = (one[::2, ::2].ravel() for one in cut.ellipsoids())
        kept = often > 0
        return (radius[kept], tall[kept], often[kept]) if kept.any() else None
    bend, slope, level = np.polyfit(depths[inside], squares, 2)
    if bend >= 0:
        return None
    radius = np.log(level - slope**2 / (4 * bend)) / 2
    return np.array([radius]), np.array([np.log(-bend) / -2]), np.ones(1)
