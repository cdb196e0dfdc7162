"""Cells and nuclei of many kinds as smooth implicit functions, more various than those of one tissue.

Uses neither voxels nor data. In its own frame a body has a radius of about 1; z is its axis or, for a flat
body, its short side.
"""

from collections.abc import Callable
from functools import reduce

import numpy as np
from numpy.polynomial.legendre import legval
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation

from napari_dispr.synthesis.discocytes import RADIUS
from napari_dispr.synthesis.implicit import (
    Floats,
    Shape,
    difference,
    ellipsoid,
    random_turn,
    scaled,
    spread,
    united,
)
from napari_dispr.synthesis.red_cells import KINDS

Body = Callable[[np.random.Generator], Shape]
#: Number of poles of the zonal harmonics of a random surface: as many as a degree of 10 has orders.
POLES = 21


def star(
    rng: np.random.Generator, degrees: tuple[int, int], decline: float, amplitude: float, half: Floats
) -> Shape:
    """A surface ``half * (1 + f(direction))`` with a random f on the sphere.

    ``half`` are half axes along (z, y, x), ``degrees`` the first and last degree of the spherical harmonics
    in f. The standard deviation of f, ``amplitude``, is the same in every direction. That of the part of one
    degree falls as degree ** -decline.

    Notes
    -----
    f is a sum of zonal harmonics P_l(u . p) about poles p spread over the sphere, each with a random weight:
    by the addition theorem these span the spherical harmonics of degree l.
    """
    degree = np.arange(1, degrees[1] + 1)
    # The mean square of P_l over the sphere is 1 / (2 l + 1).
    deviation = np.where(degree >= degrees[0], np.sqrt(2 * degree + 1.0) * degree**-decline, 0.0)
    weights = rng.normal(size=(len(degree), POLES)) * deviation[:, None]
    poles = random_turn(rng).apply(spread(POLES, 0.5, rng))
    polar, around = np.meshgrid(np.linspace(0, np.pi, 91), np.linspace(-np.pi, np.pi, 181), indexing="ij")
    unit = np.stack([np.cos(polar), np.sin(polar) * np.cos(around), np.sin(polar) * np.sin(around)], axis=-1)
    table = np.zeros(polar.shape)
    for pole, weight in zip(poles, weights.T, strict=True):
        table += legval(unit @ pole, np.concatenate([[0.0], weight]))
    area = np.sin(polar)
    table *= amplitude / np.sqrt((area * table**2).sum() / area.sum())
    radius = np.maximum(1 + table, 0.25).astype(np.float32)
    half = np.asarray(half, np.float32).reshape(3, 1)

    def distance(points: Floats) -> Floats:
        own = points.reshape(3, -1) / half
        length = np.linalg.norm(own, axis=0)
        z = np.clip(own[0] / np.maximum(length, 1e-6), -1, 1)
        index = np.arccos(z) * (90 / np.pi), (np.arctan2(own[2], own[1]) + np.pi) * (90 / np.pi)
        surface = map_coordinates(radius, index, order=1, mode="nearest")
        return ((surface - length) * half.min()).reshape(points.shape[1:])

    return distance


def _axes(rng: np.random.Generator, thinnest: float = 0.4) -> Floats:
    """Half axes (z, y, x): x is 1, y 0.55 to 1, z from ``thinnest`` to 1, uniform in the logarithm."""
    return np.exp([rng.uniform(np.log(thinnest), 0), rng.uniform(np.log(0.55), 0), 0]).astype(np.float32)


def _ellipsoid(rng: np.random.Generator) -> Shape:
    return ellipsoid(_axes(rng, 0.33))


def _smooth(rng: np.random.Generator) -> Shape:
    """A few broad bulges and flats."""
    return star(rng, (2, 4), rng.uniform(1.5, 3), rng.uniform(0.04, 0.14), _axes(rng))


def oval(rng: np.random.Generator) -> Shape:
    """Nearly an ellipsoid, as most nuclei are."""
    return star(rng, (2, 5), rng.uniform(1.5, 3), rng.uniform(0.01, 0.07), _axes(rng, 0.65))


def _bumpy(rng: np.random.Generator) -> Shape:
    """Uneven at all lengths down to a tenth of the circumference."""
    return star(rng, (2, 10), rng.uniform(1.3, 2.3), rng.uniform(0.04, 0.12), _axes(rng, 0.5))


def _rough(rng: np.random.Generator) -> Shape:
    """Many small bumps on a rounded body."""
    return star(rng, (4, 10), rng.uniform(0.6, 1.4), rng.uniform(0.025, 0.07), _axes(rng, 0.55))


def _lobed(rng: np.random.Generator) -> Shape:
    """Two to five rounded lobes that merge at a common middle."""
    count = int(rng.integers(2, 6))
    outwards = random_turn(rng).apply(spread(count, 0.5, rng)) * [rng.uniform(0.5, 1), 1, 1]
    lobes = []
    for direction in outwards:
        size = rng.uniform(0.42, 0.62)
        half = size * rng.uniform(0.85, 1.15, 3)
        lobes.append(ellipsoid(half, direction * rng.uniform(0.65, 0.95) * size, random_turn(rng)))
    return united(lobes, rng.uniform(0.1, 0.3))


def _dents(body: Shape, half: Floats, rng: np.random.Generator, count: int) -> Shape:
    """The body with smooth hollows in directions far from each other."""
    hollows = []
    for direction in random_turn(rng).apply(spread(max(count, 3), 0.6, rng))[:count]:
        place = half * direction
        normal = place / half**2
        size, depth = rng.uniform(0.3, 0.7), rng.uniform(0.1, 0.35) * half.min() / 0.7
        hollows.append(ellipsoid((size,) * 3, place + (size - depth) * normal / np.linalg.norm(normal)))
    blend = rng.uniform(0.08, 0.25)
    return lambda points: reduce(
        lambda a, b: difference(a, b, blend), (h(points) for h in hollows), body(points)
    )


def _dented(rng: np.random.Generator) -> Shape:
    half = _axes(rng)
    return _dents(ellipsoid(half), half, rng, int(rng.integers(1, 4)))


def bent(body: Shape, bend: float) -> Shape:
    """The body with its x axis bent to a parabola in the plane of y and x. Its thickness does not change."""

    def distance(points: Floats) -> Floats:
        z, y, x = points
        slope = np.sqrt(1 + np.square(2 * bend * x, dtype=np.float32))
        return body(np.stack([z, (y - np.float32(bend) * (x**2 - 0.35)) / slope, x]))

    return distance


def _bent(rng: np.random.Generator) -> Shape:
    """A bean: longer than wide, and curved."""
    wide = rng.uniform(0.38, 0.6)
    half = wide * rng.uniform(0.75, 1.25), wide, 1.0
    return bent(ellipsoid(half), rng.uniform(0.3, 0.9))


def _biconcave(rng: np.random.Generator) -> Shape:
    """One of the kinds of red blood cells, healthy or not."""
    return scaled(KINDS[str(rng.choice(list(KINDS)))][0](rng).shape, 1 / RADIUS)


def _pressed(rng: np.random.Generator) -> Shape:
    """A cell with one to three neighbours, which make a side flat, slightly hollow or slightly round."""
    half = _axes(rng, 0.5)
    body = ellipsoid(half) if rng.random() < 0.5 else star(rng, (2, 6), 1.8, rng.uniform(0.03, 0.1), half)
    count = int(rng.choice(3, p=(0.6, 0.25, 0.15))) + 1
    faces = []
    for direction in random_turn(rng).apply(spread(max(count, 3), 0.6, rng))[:count]:
        reach = float(np.linalg.norm(half * direction))
        # A face is a part of a large ball: outside of it (hollow), inside of it (round), or nearly a plane.
        curvature = float(rng.choice((0.0, rng.uniform(-0.7, 0.7))))
        faces.append((direction, reach * rng.uniform(0.45, 0.85), curvature))
    blend = rng.uniform(0.04, 0.16)

    def distance(points: Floats) -> Floats:
        value = body(points)
        for direction, place, curvature in faces:
            height = np.tensordot(direction.astype(np.float32), points, 1)
            aside = (points**2).sum(axis=0) - height**2
            beyond = height - np.float32(place) + np.float32(curvature / 2) * aside
            value = difference(value, beyond, blend)
        return value

    return distance


def _adherent(rng: np.random.Generator) -> Shape:
    """A cell that lies on glass: flat below, with a rounded edge."""
    half = _axes(rng, 0.5) * np.array([rng.uniform(0.5, 1.1), 1, 1], np.float32)
    rough = rng.uniform(0.02, 0.09)
    body = star(rng, (2, 7), 1.7, rough, half)
    below = np.float32(-half[0] * rng.uniform(0.0, 0.6))
    blend = float(half[0] * rng.uniform(0.1, 0.5))
    return lambda points: difference(body(points), below - points[0], blend)


def _spindle(rng: np.random.Generator) -> Shape:
    """Long, with pointed ends: a superquadric of revolution, somewhat flattened."""
    wide, flat = rng.uniform(0.35, 0.6), rng.uniform(0.6, 1)
    pointed = rng.uniform(1.15, 1.5)

    def distance(points: Floats) -> Floats:
        z, y, x = points
        across = np.sqrt((z / flat) ** 2 + y**2) / wide
        # |x|^p + |r|^q with p below 2 ends in points at x = 1; the small term rounds their tips.
        along = np.sqrt(x**2 + 0.01) ** pointed
        return np.float32(wide) * (1 - along - across**1.6)

    return distance


def _chain(rng: np.random.Generator) -> Shape:
    """Three or four lobes along an arc, like the nucleus of a neutrophil."""
    count = int(rng.integers(3, 5))
    step, radius = rng.uniform(0.46, 0.56), rng.uniform(0.45, 0.75)
    angles = (np.arange(count) - (count - 1) / 2) * step / radius
    places = np.stack([rng.normal(0, 0.08, count), radius * np.cos(angles), radius * np.sin(angles)], axis=1)
    places -= places.mean(axis=0)
    # Neighbours overlap: half their distance is below the least half axis.
    lobes = [ellipsoid(rng.uniform(0.29, 0.4, 3), place, random_turn(rng)) for place in places]
    return united(lobes, rng.uniform(0.15, 0.3))


def _pear(rng: np.random.Generator) -> Shape:
    """A drop: thick at one end, pointed at the other."""
    thick, thin = rng.uniform(0.45, 0.65), rng.uniform(0.14, 0.3)
    flat = np.float32(rng.uniform(0.65, 1))
    head, tail = 1 - thick, -1 + thin

    def distance(points: Floats) -> Floats:
        z, y, x = points
        across = np.sqrt((z / flat) ** 2 + y**2)
        share = np.clip((x - tail) / (head - tail), 0, 1)
        share = share**2 * (3 - 2 * share)  # a waist between two balls
        aside = x - np.clip(x, tail, head)
        return (thin + (thick - thin) * share - np.sqrt(across**2 + aside**2)).astype(np.float32)

    return bent(distance, rng.uniform(0, 0.3))


def _dome(rng: np.random.Generator) -> Shape:
    """Flat below, dented above."""
    half = np.array([rng.uniform(0.6, 1.1), rng.uniform(0.7, 1), 1], np.float32)
    body = _dents(ellipsoid(half), half, rng, int(rng.integers(2, 5)))
    return lambda points: difference(body(points), np.float32(-0.15) - points[0], 0.08)


def _block(rng: np.random.Generator) -> Shape:
    """A box with rounded edges, like a cell in an epithelium."""
    half, power = _axes(rng, 0.6) * np.float32(0.85), rng.uniform(3.5, 6)

    def distance(points: Floats) -> Floats:
        own = np.abs(points.reshape(3, -1)) / half.reshape(3, 1)
        length = (own**power).sum(axis=0) ** (1 / power)
        return ((1 - length) * half.min()).reshape(points.shape[1:])

    return distance


#: Bodies for training, and their frequencies.
BODIES: dict[str, tuple[Body, float]] = {
    "ellipsoid": (_ellipsoid, 0.16),
    "smooth": (_smooth, 0.16),
    "bumpy": (_bumpy, 0.12),
    "rough": (_rough, 0.06),
    "lobed": (_lobed, 0.1),
    "dented": (_dented, 0.1),
    "bent": (_bent, 0.08),
    "biconcave": (_biconcave, 0.04),
    "touching": (_pressed, 0.1),
    "adherent": (_adherent, 0.08),
}
#: Bodies that are used only for tests.
UNSEEN_BODIES: dict[str, Body] = {
    "spindle": _spindle,
    "chain": _chain,
    "pear": _pear,
    "dome": _dome,
    "block": _block,
}


def waved(shape: Shape, rng: np.random.Generator, height: float) -> Shape:
    """The shape with its points displaced by a few long waves; ``height`` is their standard deviation."""
    waves = rng.normal(0, 1.7, (4, 3)).astype(np.float32)
    phases = rng.uniform(0, 2 * np.pi, 4).astype(np.float32)
    heights = rng.normal(0, height, (4, 3)).astype(np.float32)

    def distance(points: Floats) -> Floats:
        flat = points.reshape(3, -1)
        return shape((flat + heights.T @ np.sin(waves @ flat + phases[:, None])).reshape(points.shape))

    return distance


def pose(rng: np.random.Generator, lying: float) -> Rotation:
    """A random rotation; with the probability ``lying`` only about z, and with a tilt of some degrees."""
    if rng.random() >= lying:
        return random_turn(rng)
    tilt: NDArray[np.float64] = rng.normal(0, 0.12, 2)
    return Rotation.from_rotvec([0, *tilt]) * Rotation.from_rotvec([rng.uniform(0, 2 * np.pi), 0, 0])
