"""The kinds of simulated cells as smooth implicit functions, in the manner of diseased red blood cells.

Nothing here knows of voxels; nothing is drawn from data.
"""

from collections.abc import Callable
from functools import reduce

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

Floats = NDArray[np.float32]
#: Rough signed distance of points, axis first (3, ...), in the cell's own frame, where its radius is
#: about 1; positive inside.
Shape = Callable[[Floats], Floats]


def union(a: Floats, b: Floats, blend: float) -> Floats:
    """The larger of two distances, rounded where they are within ``blend`` of each other."""
    share = np.clip(0.5 + 0.5 * (a - b) / blend, 0, 1)
    return b + (a - b) * share + blend * share * (1 - share)


def difference(a: Floats, b: Floats, blend: float) -> Floats:
    """The first without the second, its new edge rounded over ``blend``."""
    return -union(-a, b, blend)


def ellipsoid(axes: ArrayLike, centre: ArrayLike = (0, 0, 0), turn: Rotation | None = None) -> Shape:
    """Half axes along (z, y, x) of its own frame, which ``turn`` leads to that of the cell."""
    half = np.asarray(axes, np.float32).reshape(3, 1)

    def distance(points: Floats) -> Floats:
        own = points.reshape(3, -1) - np.asarray(centre, np.float32).reshape(3, 1)
        if turn is not None:
            own = turn.as_matrix().T.astype(np.float32) @ own
        radius = np.linalg.norm(own / half, axis=0)
        slope = np.linalg.norm(own / half**2, axis=0)
        return (radius * (1 - radius) / np.maximum(slope, 1e-6)).reshape(points.shape[1:])

    return distance


def _discocyte(swelling: float, elongation: float) -> Shape:
    """Biconcave disc, thickness as in Evans and Fung, Microvasc. Res. 4 (1972) 335, its radius 1."""
    c0, c1, c2 = np.array([0.81 * swelling, 7.83, -4.39]) / 3.91

    def distance(points: Floats) -> Floats:
        z, y, x = points[0], points[1] * elongation, points[2]
        outwards = y**2 + x**2
        inner = np.minimum(outwards, 1)
        profile = c0 + c1 * inner + c2 * inner**2
        slope = (
            np.where(outwards < 1, (c1 + 2 * c2 * inner) * profile * (1 - outwards) / 2, 0) - profile**2 / 4
        )
        value = (1 - outwards) * profile**2 / 4 - z**2
        return value / np.sqrt(4 * outwards * slope**2 + 4 * z**2 + 0.01)

    return distance


def _spiculated(
    directions: NDArray[np.float64], lengths: NDArray[np.float64], widths: NDArray[np.float64]
) -> Shape:
    """Ball of radius 0.75 with rounded spikes."""

    def distance(points: Floats) -> Floats:
        flat = points.reshape(3, -1)
        radius = np.linalg.norm(flat, axis=0)
        unit = flat / np.maximum(radius, 1e-6)
        surface = np.full_like(radius, 0.75)
        for direction, length, width in zip(directions.astype(np.float32), lengths, widths, strict=True):
            surface += np.float32(length) * np.exp((direction @ unit - 1) / np.float32(width**2))
        return (surface - radius).reshape(points.shape[1:])

    return distance


def spread(count: int, jitter: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Directions spread over the sphere (Fibonacci lattice), each moved a little."""
    step = np.arange(count) + 0.5
    z, turn = 1 - 2 * step / count, step * np.pi * (3 - np.sqrt(5))
    even = np.stack([z, np.sqrt(1 - z**2) * np.cos(turn), np.sqrt(1 - z**2) * np.sin(turn)], axis=1)
    moved = even + rng.normal(0, jitter / np.sqrt(count), even.shape)
    return moved / np.linalg.norm(moved, axis=1, keepdims=True)


def random_turn(rng: np.random.Generator) -> Rotation:
    """A rotation in space, all equally likely."""
    return Rotation.from_quat(rng.normal(size=4))


def _spherocyte(rng: np.random.Generator) -> Shape:
    return ellipsoid(rng.uniform(0.85, 1.0, 3))


def _disc(rng: np.random.Generator) -> Shape:
    return _discocyte(rng.uniform(1.5, 2.8), rng.uniform(0.85, 1.15))


def _stomatocyte(rng: np.random.Generator) -> Shape:
    """A ball, somewhat flattened, with a deep hollow in one side."""
    height, mouth = rng.uniform(0.65, 0.85), rng.uniform(0.45, 0.6)
    body = ellipsoid((height, 1, rng.uniform(0.85, 1.0)))
    floor = rng.uniform(0.5, 0.8) - height
    hollow = ellipsoid((0.9, mouth, mouth * rng.uniform(0.8, 1.25)), (floor + 0.9, 0, 0))
    return lambda points: difference(body(points), hollow(points), 0.2)


def _echinocyte(rng: np.random.Generator) -> Shape:
    count = int(rng.integers(16, 30))
    return _spiculated(
        spread(count, 0.5, rng), rng.uniform(0.22, 0.32, count), rng.uniform(0.15, 0.19, count)
    )


def _acanthocyte(rng: np.random.Generator) -> Shape:
    count = int(rng.integers(5, 10))
    return _spiculated(spread(count, 1.2, rng), rng.uniform(0.25, 0.5, count), rng.uniform(0.14, 0.24, count))


def _knizocyte(rng: np.random.Generator) -> Shape:
    """Three blades about a common axis: a cell pinched from three sides."""
    blades = []
    for third in range(3):
        angle = 2 * np.pi * third / 3 + rng.normal(0, 0.2)
        around = Rotation.from_rotvec([angle, 0, 0])
        half = rng.uniform(0.65, 0.9), rng.uniform(0.46, 0.54), rng.uniform(0.28, 0.35)
        blades.append(ellipsoid(half, around.apply([0, rng.uniform(0.36, 0.46), 0]), around))
    return lambda points: reduce(lambda a, b: union(a, b, 0.25), (blade(points) for blade in blades))


def _keratocyte(rng: np.random.Generator) -> Shape:
    """A bent disc with a bite out of its side, which leaves one or two horns."""
    disc = _discocyte(rng.uniform(1.5, 3.5), rng.uniform(0.9, 1.35))
    bite = rng.uniform(0.55, 0.95)
    place = (0, rng.uniform(-0.35, 0.35), 0.95 + bite * rng.uniform(0.35, 0.6))
    gap = ellipsoid((1.6, bite, bite), place)
    bend = np.float32(rng.uniform(-0.3, 0.3))

    def distance(points: Floats) -> Floats:
        bent = np.stack([points[0] - bend * points[1] ** 2, points[1], points[2]])
        return difference(disc(bent), gap(points), 0.1)

    return distance


def _multilobate(rng: np.random.Generator) -> Shape:
    count = int(rng.integers(4, 8))
    lobes = [ellipsoid((0.5, 0.5, 0.5))]
    for direction in spread(count, 0.8, rng):
        lobes.append(
            ellipsoid(rng.uniform(0.3, 0.5, 3), direction * rng.uniform(0.4, 0.62), random_turn(rng))
        )
    return lambda points: reduce(lambda a, b: union(a, b, 0.1), (lobe(points) for lobe in lobes))


def _cluster(rng: np.random.Generator) -> Shape:
    """Two or three cells that stick together."""
    count = int(rng.integers(2, 4))
    size = np.float32(0.66 if count == 2 else 0.56)
    around = rng.uniform(0, 2 * np.pi)
    members = []
    for member in range(count):
        angle = around + 2 * np.pi * member / count
        place = size * np.array([rng.uniform(-0.2, 0.2), 0.7 * np.cos(angle), 0.7 * np.sin(angle)])
        disc = _discocyte(rng.uniform(2.5, 5), rng.uniform(0.85, 1.15))
        members.append(
            (disc, place.reshape(3, 1).astype(np.float32), random_turn(rng).as_matrix().astype(np.float32))
        )

    def distance(points: Floats) -> Floats:
        flat = points.reshape(3, -1)
        parts = (size * disc(turn @ (flat - place) / size) for disc, place, turn in members)
        return reduce(lambda a, b: union(a, b, 0.04), parts).reshape(points.shape[1:])

    return distance


#: A random shape of each kind.
SHAPES: dict[str, Callable[[np.random.Generator], Shape]] = {
    "spherocyte": _spherocyte,
    "discocyte": _disc,
    "stomatocyte": _stomatocyte,
    "echinocyte": _echinocyte,
    "acanthocyte": _acanthocyte,
    "knizocyte": _knizocyte,
    "keratocyte": _keratocyte,
    "multilobate": _multilobate,
    "cluster": _cluster,
}


def turned_and_dented(shape: Shape, rng: np.random.Generator) -> Shape:
    """The shape turned anyhow in space, its points displaced by a few long waves."""
    turn = random_turn(rng).as_matrix().astype(np.float32)
    waves = rng.normal(0, 1.7, (4, 3)).astype(np.float32)
    phases = rng.uniform(0, 2 * np.pi, 4).astype(np.float32)
    heights = rng.normal(0, 0.045, (4, 3)).astype(np.float32)

    def distance(points: Floats) -> Floats:
        flat = turn @ points.reshape(3, -1)
        flat = flat + heights.T @ np.sin(waves @ flat + phases[:, None])
        return shape(flat).reshape(points.shape[1:])

    return distance
