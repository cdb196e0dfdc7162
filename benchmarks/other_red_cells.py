"""Red blood cells of the common kinds from a second source, which no model was trained on.

Shapes, stains and microscopes are others than those of ``napari_dispr.synthesis.red_cells``, with which this
file shares no code: discs after Kuchel and Fackerell (1999, Bulletin of Mathematical Biology 61, 209), cups
as bent plates, spicules as cones that are joined smoothly to a ball, an ellipsoid or a disc. Three
laboratories differ in stain, blur, noise and height; masks come from a threshold of the picture, and so have
its errors.
``red_cell_kinds.py --other`` measures models on them.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from napari_dispr.cells.folders import CellFile

Floats = NDArray[np.floating]
#: Signed distance (about, positive outside) from a surface, of points (..., 3) as x, y, z in micrometers.
Surface = Callable[[Floats], Floats]

VOXEL, SIZE, FINE = 0.14, 64, 2
STEP = VOXEL / FINE
KINDS = (
    *("spherocyte", "discocyte", "stomatocyte I", "stomatocyte II", "sphero-stomatocyte"),
    *("echinocyte I", "echinocyte II", "echinocyte III", "sphero-echinocyte", "acanthocyte", "elliptocyte"),
)


@dataclass(frozen=True)
class Laboratory:
    """How cells are stained and imaged; lengths in micrometers."""

    stretch: float  # how much too tall cells are
    depth: tuple[float, float]  # of the dyed surface inside the cell, least and most
    body: tuple[float, float]  # share of the dye that is inside that surface, least and most
    blur: tuple[float, float]  # in the plane and along z
    haze: float  # share of the light that is blurred more
    photons: float
    background: float
    gamma: float
    shade: float
    level: float  # threshold of the mask, relative to the bright part of the cell


LABORATORIES = (
    # The membrane in a spinning disc microscope; the cytosol in a confocal one; both, with little light.
    Laboratory(1.12, (0.2, 0.4), (0, 0.35), (0.2, 0.5), 0.35, 600, 0.01, 1, 0.05, 0.42),
    Laboratory(1.0, (0, 0.1), (0.85, 1), (0.14, 0.45), 0.1, 90, 0.03, 1, 0.1, 0.5),
    Laboratory(1.12, (0, 0.15), (0.35, 0.7), (0.18, 0.7), 0.25, 60, 0.08, 0.75, 0.25, 0.6),
)


def other_red_cells(of_each: int, seed: int) -> list[CellFile]:
    """So many cells of each kind, named KIND-NUMBER; the laboratories take turns."""
    cells = []
    for place, kind in enumerate(KINDS):
        for number in range(of_each):
            rng = np.random.default_rng((seed, place, number))
            mask, image, truth = _cell(kind, LABORATORIES[number % len(LABORATORIES)], rng)
            obj = truth.astype(np.uint8) * 255
            cells.append(CellFile(f"{kind}-{number:03d}", mask.astype(np.float32), image, obj))
    return cells


# --- shapes ---------------------------------------------------------------------------------------------


def _joined(a: Floats, b: Floats, width: float) -> Floats:
    share = np.clip(0.5 + 0.5 * (b - a) / width, 0, 1)
    return np.asarray(b + (a - b) * share - width * share * (1 - share))


def _ellipsoid(p: Floats, axes: Floats) -> Floats:
    k = np.sqrt(((p / axes) ** 2).sum(-1))
    return np.asarray(k * (k - 1) / (np.sqrt(((p / axes**2) ** 2).sum(-1)) + 1e-6))


def _disc(p: Floats, wide: float, middle: float, thick: float) -> Floats:
    """The quartic of Kuchel and Fackerell; diameter, thickness in the middle and at most."""
    u = wide**2 / middle**2
    a = -(wide**2) / 2 + thick**2 / 2 * (u - 1) * (1 - np.sqrt(1 - middle**2 / thick**2))
    b = a * u + middle**2 / 4 * (u**2 - 1)
    r2, z2 = p[..., 0] ** 2 + p[..., 1] ** 2, p[..., 2] ** 2
    s = r2 + z2
    steepness = 2 * np.sqrt(r2 * (2 * s + a) ** 2 + z2 * (2 * s + b) ** 2) + 1e-3
    return np.asarray((s * s + a * r2 + b * z2 - a * wide**2 / 4 - wide**4 / 16) / steepness)


def _cup(p: Floats, radius: float, angle: float, middle: float, rim: float) -> Floats:
    """A plate that is part of a sphere, up to an angle; half as thick as stated."""
    r, z = np.hypot(p[..., 0], p[..., 1]), p[..., 2]
    theta = np.minimum(np.arctan2(r, z), angle)
    half = middle + (rim - middle) * np.sin(theta / angle * np.pi / 2) ** 2
    return np.asarray(np.hypot(r - radius * np.sin(theta), z - radius * np.cos(theta)) - half)


def _cone(p: Floats, foot: Floats, tip: Floats, wide: float, narrow: float) -> Floats:
    axis = tip - foot
    share = np.clip(((p - foot) @ axis) / (axis @ axis), 0, 1)
    away = np.linalg.norm(p - foot - share[..., None] * axis, axis=-1)
    return np.asarray(away - wide - (narrow - wide) * share)


def _spread(count: int, rng: np.random.Generator, uneven: float) -> Floats:
    """Directions (count, 3) on a spiral over the sphere, turned and moved at random."""
    i = np.arange(count) + 0.5
    z, around = 1 - 2 * i / count, np.pi * (1 + 5**0.5) * i
    found = np.stack([np.sqrt(1 - z * z) * np.cos(around), np.sqrt(1 - z * z) * np.sin(around), z], 1)
    found = found @ Rotation.random(random_state=rng).as_matrix()
    found += rng.normal(0, uneven / np.sqrt(count), (count, 3))
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True))


def _spiked(body: Surface, out: Floats, lengths: Floats, wide: Floats, narrow: float) -> Surface:
    along = np.linspace(0.05, 8, 400)

    def surface(p: Floats) -> Floats:
        d = body(p)
        for way, length, foot_width in zip(out, lengths, wide, strict=True):
            inside = body(way[None] * along[:, None]) < 0
            foot = way * (along[inside].max() if inside.any() else 0.3)
            d = _joined(d, _cone(p, foot - way * 0.3, foot + way * length, foot_width, narrow), 0.25)
        return d

    return surface


def _shape(kind: str, rng: np.random.Generator) -> tuple[Surface, float]:
    """The surface of a cell, of any size, and the volume that it should have, fL."""
    normal, uniform = rng.normal, rng.uniform
    volume = float(np.clip(normal(92, 12), 62, 122))

    def sizes() -> tuple[float, float, float]:
        wide, middle = uniform(7.2, 8.3), uniform(0.75, 1.5)
        return wide, middle, max(normal(2.5, 0.25), middle * 1.25)

    if kind == "spherocyte":
        axes = np.exp(normal(0, 0.03, 3)) * 2.8
        return lambda p: _ellipsoid(p, axes), float(np.clip(normal(85, 12), 55, 115))
    if kind == "discocyte":
        own, bend, oval = sizes(), normal(0, 0.006), 1 + normal(0, 0.03)

        def bent(p: Floats) -> Floats:
            x, y, z = np.moveaxis(p, -1, 0)
            moved = np.stack([x, y, z + bend * (x**2 + y**2)], -1)
            return _disc(moved * [oval, 1 / oval, 1], *own)

        return bent, volume
    if kind.startswith("stomatocyte"):
        angle = np.deg2rad(uniform(40, 65) if kind == "stomatocyte I" else uniform(75, 115))
        radius, rim = uniform(3.2, 3.7) / angle, uniform(1.0, 1.3)
        middle, oval = uniform(0.45, 0.75), 1 + normal(0, 0.05)
        away, wide = np.array([0, 0, radius * 0.6]), [oval, 1 / oval, 1]
        return lambda p: _cup((p + away) * wide, radius, angle, middle, rim), volume
    if kind == "sphero-stomatocyte":
        axes = np.array([3.0, 3.0, uniform(2.5, 2.9)])
        hole = np.array([width := uniform(0.8, 1.5), width * uniform(0.8, 1.2), uniform(1.0, 1.9)])
        place = [0, 0, axes[2] + uniform(0, 0.3)]
        return lambda p: -_joined(-_ellipsoid(p, axes), _ellipsoid(p - place, hole), 0.5), volume
    if kind == "elliptocyte":
        own, long, across = sizes(), uniform(1.15, 1.4), uniform(0.9, 1.05)
        return lambda p: _disc(p * [1 / long, long * across, 1], *own), volume
    if kind == "echinocyte I":
        own, m = sizes(), int(rng.integers(6, 13))
        around = (np.arange(m) + uniform(-0.2, 0.2, m)) * 2 * np.pi / m
        out = np.stack([np.cos(around), np.sin(around), normal(0, 0.06, m)], 1)
        out /= np.linalg.norm(out, axis=1, keepdims=True)
        lengths, feet = uniform(0.25, 0.7, m), uniform(0.4, 0.7, m)
        return _spiked(lambda p: _disc(p, *own), out, lengths, feet, 0.2), volume
    if kind == "acanthocyte":
        axes, m = np.exp(normal(0, 0.08, 3)) * [2.8, 2.7, 2.3], int(rng.integers(3, 11))
        out = normal(size=(m, 3))
        out /= np.linalg.norm(out, axis=1, keepdims=True)
        lengths, feet, narrow = uniform(0.4, 1.9, m), uniform(0.4, 0.8, m), 0.22
    elif kind == "echinocyte II":
        axes, m = (
            np.array([uniform(3.1, 3.6), uniform(2.9, 3.4), uniform(1.5, 2.2)]),
            int(rng.integers(12, 28)),
        )
        out, lengths, feet, narrow = _spread(m, rng, 0.4), uniform(0.3, 0.8, m), uniform(0.45, 0.7, m), 0.2
    elif kind == "echinocyte III":
        axes, m = np.exp(normal(0, 0.04, 3)) * 2.6, int(rng.integers(25, 50))
        out, lengths, feet, narrow = _spread(m, rng, 0.3), uniform(0.4, 0.9, m), uniform(0.4, 0.6, m), 0.18
    else:  # sphero-echinocyte
        axes, m = np.exp(normal(0, 0.025, 3)) * 2.7, int(rng.integers(30, 60))
        out, lengths, feet, narrow = _spread(m, rng, 0.3), uniform(0.1, 0.35, m), uniform(0.15, 0.28, m), 0.08
    return _spiked(lambda p: _ellipsoid(p, axes), out, lengths, feet, narrow), volume


# --- cells ----------------------------------------------------------------------------------------------


def _turn(rng: np.random.Generator) -> Floats:
    """Any direction, or nearly flat, as cells that have settled."""
    turn = Rotation.random(random_state=rng)
    if rng.random() < 0.5:
        angles = [rng.uniform(0, 360), rng.normal(0, 20), rng.uniform(0, 360)]
        turn = Rotation.from_euler("zxz", angles, degrees=True)
    return np.asarray(turn.as_matrix())


def _points(size: int, step: float) -> Floats:
    axis = (np.arange(size) - (size - 1) / 2) * step
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    return np.stack([x, y, z], -1)


def _cell(
    kind: str, lab: Laboratory, rng: np.random.Generator
) -> tuple[NDArray[np.bool_], NDArray[np.float32], NDArray[np.bool_]]:
    """Mask and image (64, 64) of a cell that is cut near its middle, and the cell (64, 64, 64)."""
    surface, volume = _shape(kind, rng)
    scale = (volume / (np.count_nonzero(surface(_points(48, 0.25)) < 0) * 0.25**3)) ** (1 / 3)
    turn = _turn(rng)

    def distance(p: Floats) -> Floats:
        return surface((p / [1, 1, lab.stretch]) @ turn.T / scale)

    coarse = _points(40, 0.35)
    for _ in range(8):
        inside = coarse[distance(coarse) < 0]
        low, high = inside.min(0), inside.max(0)
        middle = (low + high) / 2
        if (high - low).max() + 0.35 < 61 * VOXEL:
            break
        turn, scale = _turn(rng), scale * 0.98
    middle = middle + np.append(rng.normal(0, 0.14, 2), rng.normal(0, 0.1))
    fine = (distance(_points(SIZE * FINE, STEP) + middle) * scale).astype(np.float32)
    blocks = np.clip(0.5 - fine / STEP, 0, 1).reshape(SIZE, FINE, SIZE, FINE, SIZE, FINE)
    truth = blocks.mean((1, 3, 5)) > 0.5
    parts, count = ndimage.label(truth)
    if count > 1:
        truth = parts == 1 + np.argmax(ndimage.sum(truth, parts, range(1, count + 1)))
    outside, within = (ndimage.distance_transform_edt(one) for one in (fine > 0, fine <= 0))
    image = _picture((outside - within) * STEP, lab, rng)
    return _mask(image, truth[SIZE // 2], lab, rng), image, truth


def _picture(away: Floats, lab: Laboratory, rng: np.random.Generator) -> NDArray[np.float32]:
    depth, body = rng.uniform(*lab.depth), rng.uniform(*lab.body)
    rim = np.exp(-0.5 * ((away + depth) / 0.07) ** 2)
    rim *= 1 + 0.15 * ndimage.gaussian_filter(rng.normal(size=away.shape), 8) * 8**1.5
    blur, axial = np.array(lab.blur) * rng.uniform(0.85, 1.15)
    height = (np.arange(SIZE * FINE) - SIZE - 0.5) * STEP

    def plane(dye: Floats) -> Floats:
        """The sharp light, and the haze, of the imaged plane."""
        found = np.zeros(dye.shape[1:])
        for share, wide, tall in ((1 - lab.haze, blur, axial), (lab.haze, 4 * blur, 3 * axial)):
            weight = np.exp(-0.5 * (height / tall) ** 2)
            found += share * ndimage.gaussian_filter(np.tensordot(weight / weight.sum(), dye, 1), wide / STEP)
        return found

    lights = [plane(dye) for dye in (rim, (away < -depth).astype(np.float32))]
    first, second = (light / np.quantile(light, 0.98) for light in lights)
    scene = ((1 - body) * first + body * second).reshape(SIZE, FINE, SIZE, FINE).mean((1, 3))
    y, x = np.mgrid[-1:1:64j, -1:1:64j]
    angle = rng.uniform(0, 2 * np.pi)
    scene *= 1 + lab.shade * rng.uniform(0, 1) * (x * np.cos(angle) + y * np.sin(angle))
    photons = lab.photons * rng.uniform(0.6, 1.5)
    image = rng.poisson(np.clip(scene + lab.background, 0, None) * photons) / photons
    image = image + rng.normal(0, 0.01, scene.shape)
    image = ndimage.gaussian_filter(np.clip(image, 0, None), 0.5) ** lab.gamma
    image = np.clip(image / np.quantile(image, 0.999) * rng.uniform(0.6, 0.95), 0, 1)
    return (np.round(image * 255) / 255).astype(np.float32)


def _mask(
    image: NDArray[np.float32], section: NDArray[np.bool_], lab: Laboratory, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """What is brighter than a threshold, filled where the cell is, without what is no part of the cell."""
    ground = np.quantile(image, 0.05)
    bright = np.quantile(image[section], 0.9) - ground
    found = ndimage.gaussian_filter(image, 0.6) > ground + lab.level * bright * rng.uniform(0.93, 1.07)
    holes = ndimage.binary_erosion(ndimage.binary_fill_holes(section) & ~section)
    found = ndimage.binary_fill_holes(found) & ~(holes & ~found)
    parts, count = ndimage.label(found)
    return np.isin(parts, [n for n in range(1, count + 1) if (section & (parts == n)).sum() > 10])
