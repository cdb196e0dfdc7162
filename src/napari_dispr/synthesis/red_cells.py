"""Red blood cells of every kind as smooth implicit functions, in micrometers; area and volume agree.

Discs follow Evans and Fung, bent ones are stomatocytes; the other kinds are built on discs, balls and
ellipsoids. Uses neither voxels nor data.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from napari_dispr.errors import InputError
from napari_dispr.synthesis.discocytes import RADIUS, area_and_volume, outline, revolved
from napari_dispr.synthesis.implicit import (
    Floats,
    Shape,
    difference,
    ellipsoid,
    random_turn,
    scaled,
    spread,
    stretched,
    turned,
    union,
    united,
)

#: Step of the grid that measures a volume, micrometers.
_COARSE_STEP = 0.22


@dataclass(frozen=True, slots=True, eq=False)
class RedCell:
    """A red blood cell in its own frame: z is its axis or its short side.

    Attributes
    ----------
    shape : Shape
        Of points in micrometers.
    flat : float
        Share of such cells with their axis near the optical axis; the others have any direction.
    tilt : float
        Standard deviation of their tilt about both other axes, radians.
    spicules : int
        Bumps or spikes.
    """

    shape: Shape
    flat: float = 0.0
    tilt: float = 0.2
    spicules: int = 0


def of_volume(shape: Shape, volume: float, reach: float = 6.0) -> Shape:
    """The shape, scaled to the volume in fL; all of it lies within ``reach`` of its origin."""
    axis = np.arange(-reach, reach, _COARSE_STEP * reach / 6, dtype=np.float32)
    step = float(axis[1] - axis[0])
    value = shape(np.stack(np.meshgrid(axis, axis, axis, indexing="ij")))
    filled = float(np.clip(0.5 + value / step, 0, 1).sum()) * step**3
    return scaled(shape, (volume / max(filled, 1e-6)) ** (1 / 3))


def _spike(start: NDArray[np.float64], end: NDArray[np.float64], wide: float, narrow: float) -> Shape:
    """A cone with rounded ends from a radius ``wide`` to ``narrow``; far from it a large negative number."""
    a, axis = start.astype(np.float32), (end - start).astype(np.float32)
    length = np.float32(axis @ axis)
    centre = (start + end).reshape(3, 1).astype(np.float32) / 2
    reach = np.float32((np.linalg.norm(axis) / 2 + wide + 0.8) ** 2)

    def shape(points: Floats) -> Floats:
        flat = points.reshape(3, -1)
        value = np.full(flat.shape[1], -9.0, np.float32)
        near = np.flatnonzero(((flat - centre) ** 2).sum(axis=0) < reach)
        own = flat[:, near] - a[:, None]
        share = np.clip(axis @ own / length, 0, 1)
        radius = np.float32(wide) + np.float32(narrow - wide) * share
        value[near] = radius - np.linalg.norm(own - share * axis[:, None], axis=0)
        return value.reshape(points.shape[1:])

    return shape


def _with_spikes(body: Shape, spikes: list[Shape], blend: float) -> Shape:
    def shape(points: Floats) -> Floats:
        highest = reduce(np.maximum, (spike(points) for spike in spikes))
        return union(body(points), highest, blend)

    return shape


def _surface(body: Shape, directions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points at which rays from the origin leave the body for the last time."""
    far = np.linspace(0, 6, 240, dtype=np.float32)
    value = body((directions.T[:, :, None] * far).astype(np.float32))
    last = far.size - 1 - np.argmax(value[:, ::-1] > 0, axis=1)
    return directions * far[last][:, None]


def _spiked(
    body: Shape,
    directions: NDArray[np.float64],
    lengths: NDArray[np.float64],
    wide: float,
    narrow: float,
    blend: float,
) -> Shape:
    places = _surface(body, directions)
    spikes = [
        _spike(place - 0.5 * wide * out, place + (length - narrow) * out, wide, narrow)
        for place, out, length in zip(places, directions, lengths, strict=True)
    ]
    return _with_spikes(body, spikes, blend)


# --- kinds ----------------------------------------------------------------------------------------------


def _cup(rng: np.random.Generator, bends: tuple[float, float], dimple: float, lean: float = 1.0) -> Shape:
    """A disc or cup with ``lean`` times the usual area for its volume."""
    while True:
        area, volume = area_and_volume(rng)
        try:
            return revolved(outline(lean * area, volume, dimple, rng.uniform(*bends)))
        except InputError:
            dimple = min(0.95, dimple + 0.02)


def _dimple(rng: np.random.Generator) -> float:
    return float(np.clip(rng.normal(0.315, 0.12), 0.06, 0.7))


def _discocyte(rng: np.random.Generator) -> RedCell:
    disc = _cup(rng, (0, 0), _dimple(rng))
    oval = np.exp(rng.normal(0, 0.03))
    return RedCell(stretched(disc, (1, oval, 1 / oval)), flat=0.5)


def _stomatocyte_1(rng: np.random.Generator) -> RedCell:
    return RedCell(_cup(rng, (0.5, 1.05), rng.uniform(0.35, 0.7)), flat=0.4, tilt=0.25)


def _stomatocyte_2(rng: np.random.Generator) -> RedCell:
    return RedCell(_cup(rng, (1.05, 1.6), rng.uniform(0.5, 0.9)), flat=0.4, tilt=0.25)


def _sphero_stomatocyte(rng: np.random.Generator) -> RedCell:
    """A ball with one deep, narrow hollow."""
    body = ellipsoid((rng.uniform(0.86, 0.98), 1, rng.uniform(0.94, 1.0)))
    mouth, depth = rng.uniform(0.22, 0.4), rng.uniform(0.7, 1.25)
    hollow = ellipsoid((0.9, mouth, mouth * rng.uniform(0.85, 1.3)), (0.95 - depth + 0.9, 0, 0))
    shape: Shape = lambda points: difference(body(points), hollow(points), 0.15)  # noqa: E731
    return RedCell(of_volume(shape, rng.normal(92, 11), 1.6), flat=0.3)


def _spherocyte(rng: np.random.Generator) -> RedCell:
    shape = ellipsoid((rng.uniform(0.93, 1.0), 1.0, rng.uniform(0.94, 1.0)))
    return RedCell(of_volume(shape, float(np.clip(rng.normal(93, 14), 60, 130)), 1.5))


def _elliptocyte(rng: np.random.Generator) -> RedCell:
    while True:
        area, volume = area_and_volume(rng)
        long = np.sqrt(rng.uniform(1.25, 2.1))
        try:
            disc = revolved(outline(0.94 * area, 0.9 * volume, rng.uniform(0.4, 0.85)))
        except InputError:
            continue
        return RedCell(stretched(disc, (1, 1 / long, long)), flat=0.55)


def _echinocyte_1(rng: np.random.Generator) -> RedCell:
    """An uneven disc with low bumps, most of them at its rim."""
    disc = _cup(rng, (0, 0.4), rng.uniform(0.4, 0.8))
    rim = int(rng.integers(7, 12))
    around = 2 * np.pi * (np.arange(rim) + rng.uniform(-0.25, 0.25, rim)) / rim
    at_rim = np.stack([rng.normal(0, 0.12, rim), np.cos(around), np.sin(around)], axis=1)
    faces = spread(14, 0.5, rng)
    faces = faces[np.abs(faces[:, 0]) > 0.55]
    out = np.concatenate([at_rim, faces])
    out /= np.linalg.norm(out, axis=1, keepdims=True)
    lengths = np.concatenate([rng.uniform(0.3, 0.6, rim), rng.uniform(0.2, 0.45, len(faces))])
    shape = _spiked(disc, out, lengths, 0.62, 0.34, 0.35)
    return RedCell(of_volume(shape, area_and_volume(rng)[1]), flat=0.4, tilt=0.3, spicules=len(out))


def _echinocyte(
    rng: np.random.Generator, thin: tuple[float, float], count: tuple[int, int], height: tuple[float, float],
    wide: float, narrow: float,
) -> RedCell:  # fmt: skip
    number = int(rng.integers(*count))
    body = ellipsoid(2.75 * np.array([rng.uniform(*thin), 1, rng.uniform(0.92, 1.0)]))
    high = rng.uniform(*height)
    size = rng.uniform(0.85, 1.15) * np.sqrt(30 / number)
    lengths = high * rng.uniform(0.8, 1.2, number)
    shape = _spiked(
        body, random_turn(rng).apply(spread(number, 0.35, rng)), lengths, wide * size, narrow * size, 0.3
    )
    return RedCell(of_volume(shape, area_and_volume(rng)[1]), flat=0.2, tilt=0.3, spicules=number)


def _echinocyte_2(rng: np.random.Generator) -> RedCell:
    """A flattened ball with regular bumps."""
    return _echinocyte(rng, (0.55, 0.8), (16, 31), (0.5, 0.85), 0.62, 0.26)


def _echinocyte_3(rng: np.random.Generator) -> RedCell:
    """A ball with regular, sharper spicules."""
    return _echinocyte(rng, (0.86, 1.0), (25, 51), (0.55, 1.05), 0.58, 0.2)


def _sphero_echinocyte(rng: np.random.Generator) -> RedCell:
    """A ball with many small spicules."""
    return _echinocyte(rng, (0.93, 1.0), (30, 51), (0.2, 0.4), 0.36, 0.16)


def _acanthocyte(rng: np.random.Generator) -> RedCell:
    """A ball, somewhat flattened, with a few spikes of unequal length and place."""
    count = int(rng.integers(3, 13))
    body = ellipsoid(2.75 * np.array([rng.uniform(0.65, 1.0), 1, rng.uniform(0.85, 1.0)]))
    directions = random_turn(rng).apply(spread(count, 1.3, rng))
    places = _surface(body, directions)
    spikes = []
    for place, out in zip(places, directions, strict=True):
        length, wide = rng.uniform(0.5, 1.7), rng.uniform(0.55, 0.95)
        aside = out + rng.normal(0, 0.25, 3)
        narrow = rng.uniform(0.2, 0.38)
        spikes.append(
            _spike(place - 0.6 * out, place + (length - narrow) * aside / np.linalg.norm(aside), wide, narrow)
        )
    shape = _with_spikes(body, spikes, 0.35)
    return RedCell(of_volume(shape, rng.normal(88, 12)), flat=0.2, tilt=0.3, spicules=count)


def _knizocyte(rng: np.random.Generator) -> RedCell:
    """A rim of three parts with dimples between: three halves of a disc about a common axis, which is z."""
    blades = []
    start = rng.uniform(0, 2 * np.pi)
    for third in range(3):
        disc = _cup(rng, (0, 0), rng.uniform(0.3, 0.6), 0.95)
        angle = start + 2 * np.pi * third / 3 + rng.normal(0, 0.25)
        wide = rng.uniform(0.75, 1.1)
        blades.append((disc, np.float32(np.cos(angle)), np.float32(np.sin(angle)), np.float32(wide)))

    def shape(points: Floats) -> Floats:
        z, y, x = points
        parts = []
        for disc, c, s, wide in blades:
            out, across = (c * y + s * x) / wide, -s * y + c * x
            # The disc stands on its rim: its axis is across, and only the half that points outwards counts.
            parts.append(np.minimum(disc(np.stack([across, out, z])), np.float32(0.6) + out))
        return reduce(lambda a, b: union(a, b, 0.5), parts)

    return RedCell(of_volume(shape, float(np.clip(rng.normal(84, 11), 60, 120))), flat=0.6, tilt=0.35)


def _keratocyte(rng: np.random.Generator) -> RedCell:
    """A bent disc with a bite out of its side, which leaves one or two horns."""
    disc = scaled(_cup(rng, (0, 0.5), rng.uniform(0.3, 0.9)), 1 / RADIUS)
    oval = rng.uniform(0.85, 1.15)
    bite = rng.uniform(0.5, 0.95)
    place = (0, rng.uniform(-0.4, 0.4), 0.95 + bite * rng.uniform(0.3, 0.65))
    gap = ellipsoid((1.6, bite, bite), place)
    bend = np.float32(rng.uniform(-0.25, 0.25))

    def shape(points: Floats) -> Floats:
        bent = np.stack([points[0] - bend * points[1] ** 2, points[1] * np.float32(oval), points[2]])
        return difference(disc(bent), gap(points), 0.12)

    return RedCell(of_volume(shape, float(np.clip(rng.normal(62, 20), 25, 110)), 1.8), flat=0.85, tilt=0.35)


def _multilobate(rng: np.random.Generator) -> RedCell:
    """A ball with two to six rounded lobes."""
    count = int(rng.integers(2, 7))
    lobes = [ellipsoid(rng.uniform(0.58, 0.72, 3))]
    for direction in random_turn(rng).apply(spread(max(count, 4), 0.9, rng))[:count]:
        place = direction * rng.uniform(0.5, 0.75)
        lobes.append(ellipsoid(rng.uniform(0.16, 0.42, 3), place, random_turn(rng)))
    volume = float(np.clip(rng.normal(113, 25), 65, 150))
    return RedCell(of_volume(united(lobes, 0.12), volume, 1.8), spicules=count)


#: Kinds of cells in clusters, and their frequencies.
_CLUSTERED = {"disc": 0.5, "cup": 0.35, "echinocyte": 0.15}


def _cluster(rng: np.random.Generator) -> RedCell:
    """Two cells, rarely three, that touch each other."""
    kinds = rng.choice(list(_CLUSTERED), 2 if rng.random() < 0.85 else 3, p=list(_CLUSTERED.values()))
    axis = np.linspace(-5, 5, 34, dtype=np.float32)
    points = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"))
    turn = random_turn(rng)
    whole, filled = None, None
    for kind in kinds:
        own = Rotation.from_rotvec(rng.normal(0, 0.4, 3)) * turn
        lean = rng.uniform(0.8, 0.95)
        if kind == "disc":
            single = _cup(rng, (0, 0), rng.uniform(0.3, 0.9), lean)
        elif kind == "cup":
            single = _cup(rng, (0.4, 1.3), rng.uniform(0.5, 0.9), lean)
        else:
            single = scaled(_echinocyte_3(rng).shape, 0.92)
        part = turned(single, own)
        if whole is None or filled is None:
            whole, filled = part, points[:, part(points) > 0]
            continue
        towards = turn.apply([1, 0, 0]) * rng.choice((-1, 1)) + rng.normal(0, 0.3, 3)
        towards = (towards / np.linalg.norm(towards)).astype(np.float32).reshape(3, 1)
        # At the distance with an overlap of about 0.1 micrometer.
        steps = np.arange(0, 9, 0.15, dtype=np.float32)
        apart = next((s for s in steps if part(filled - s * towards).max() < 0.4), steps[-1])
        moved = _moved(part, apart * towards)
        whole = united((whole, moved), 0.1)
        filled = np.concatenate([filled, points[:, part(points) > 0] + apart * towards], axis=1)
    assert whole is not None and filled is not None
    middle = (filled.min(axis=1) + filled.max(axis=1)).reshape(3, 1) / 2
    count = len(kinds)
    shape = of_volume(
        _moved(whole, -middle), float(np.clip(rng.normal(78 * count, 10 * count), 95, 230)), 8.5
    )
    return RedCell(shape)


def _moved(shape: Shape, by: Floats) -> Shape:
    return lambda points: shape((points.reshape(3, -1) - by).reshape(points.shape))


#: The function for each kind, and its approximate number among the 825 cells of Simionato et al. (2021).
KINDS: dict[str, tuple[Callable[[np.random.Generator], RedCell], int]] = {
    "spherocyte": (_spherocyte, 93),
    "discocyte": (_discocyte, 176),
    "stomatocyte I": (_stomatocyte_1, 30),
    "stomatocyte II": (_stomatocyte_2, 11),
    "sphero-stomatocyte": (_sphero_stomatocyte, 11),
    "echinocyte I": (_echinocyte_1, 47),
    "echinocyte II": (_echinocyte_2, 77),
    "echinocyte III": (_echinocyte_3, 134),
    "sphero-echinocyte": (_sphero_echinocyte, 34),
    "acanthocyte": (_acanthocyte, 88),
    "elliptocyte": (_elliptocyte, 25),
    "knizocyte": (_knizocyte, 23),
    "keratocyte": (_keratocyte, 31),
    "multilobate": (_multilobate, 12),
    "cluster": (_cluster, 69),
}
