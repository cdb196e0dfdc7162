"""Simulated cells whose 3D shape is known, and a simulated picture of a field of them with its labels."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import (
    binary_dilation,
    gaussian_filter,
    gaussian_gradient_magnitude,
    map_coordinates,
    shift,
)
from scipy.signal import fftconvolve
from scipy.special import expit

from napari_dispr import grid
from napari_dispr.errors import InputError
from napari_dispr.synthesis.implicit import SHAPES, Floats, Shape, turned_and_dented

KINDS = tuple(SHAPES)

#: Grid voxels per pixel and pixel size (micrometers) of a simulated field: a voxel is 0.16 micrometers.
FIELD_ZOOM = 0.625
FIELD_PIXEL_SIZE = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class Field:
    """A simulated picture of cells in one plane, with the truth.

    Attributes
    ----------
    image : (y, x) uint16
        Camera counts.
    labels : (y, x) uint16
        Sections of the cells with the imaged plane; 0 is background.
    objects : dict of label to (64, 64, 64) uint8
        Each cell on the model grid as ``crop_cell`` at this ``zoom`` places it; inside above 127.5.
    kinds : dict of label to str
    centres : dict of label to (y, x)
        The pixel that lies at the in-plane centre of the cell's grid.
    zoom : float
        Grid voxels per pixel.
    pixel_size : float
        Micrometers.
    """

    image: NDArray[np.uint16]
    labels: NDArray[np.uint16]
    objects: dict[int, NDArray[np.uint8]]
    kinds: dict[int, str]
    centres: dict[int, tuple[float, float]]
    zoom: float = FIELD_ZOOM
    pixel_size: float = FIELD_PIXEL_SIZE


def phantom(kind: str, rng: np.random.Generator) -> NDArray[np.uint8]:
    """One simulated cell on the model grid, turned anyhow, no two alike.

    Parameters
    ----------
    kind : str
        One of ``KINDS``.
    rng : numpy Generator

    Returns
    -------
    (64, 64, 64) uint8
        Antialiased, axes (z, y, x), inside above 127.5. The imaged plane runs through the middle of
        the cell, give or take a voxel, and the box of that section is centred in the plane.

    Raises
    ------
    InputError
        If there is no such kind.
    """
    if kind not in SHAPES:
        raise InputError(f"There is no phantom {kind!r}: choose one of {', '.join(KINDS)}.")
    while True:
        shape = turned_and_dented(SHAPES[kind](rng), rng)
        low, high = _box_of(shape)
        middle = (low[0] + high[0]) / 2 + rng.uniform(-0.04, 0.04)
        top_left, bottom_right, area = _section_box(shape, middle)
        centre = np.array([middle, *(top_left + bottom_right) / 2])
        place = np.array([grid.IMAGED_PLANE, grid.CENTRE, grid.CENTRE])
        room = np.minimum(place - 1, grid.SIZE - 2 - place)
        fitting = float((room / np.maximum(centre - low, high - centre)).min())
        side = float((bottom_right - top_left).max())
        zoom = min(rng.uniform(42, 56) / side, fitting) if side else 0.0  # grid voxels per unit
        # Sections and heights that the real ones hardly have: drawn again.
        if zoom * side > 36 and zoom**2 * area > 400 and zoom * (high[0] - low[0]) > 24:
            obj = voxels(shape, zoom, centre, place)
            if obj[1:-1, 1:-1, 1:-1].sum() == obj.sum():  # a thin tip can reach further than its box says
                return obj


def _points(*axes: NDArray[np.float64]) -> Floats:
    return np.stack(np.meshgrid(*axes, indexing="ij")).astype(np.float32)


def _box_of(shape: Shape) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Corners of the cell's box, to about a voxel on the safe side."""
    axis = np.linspace(-1.9, 1.9, 40)
    inside = shape(_points(axis, axis, axis)) > 0
    sides = [axis[inside.any(axis=tuple({0, 1, 2} - {a}))] for a in range(3)]
    step = (axis[1] - axis[0]) / 2
    return np.array([s[0] - step for s in sides]), np.array([s[-1] + step for s in sides])


def _section_box(shape: Shape, z: float) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Corners and area of the section at height ``z``; all 0 where there is none."""
    axis = np.linspace(-1.9, 1.9, 160)
    inside = shape(_points(np.array([z]), axis, axis))[0] > 0
    if not inside.any():
        return np.zeros(2), np.zeros(2), 0.0
    sides = [axis[inside.any(axis=1)], axis[inside.any(axis=0)]]
    area = float(inside.sum() * (axis[1] - axis[0]) ** 2)
    return np.array([s[0] for s in sides]), np.array([s[-1] for s in sides]), area


def voxels(
    shape: Shape, zoom: float, centre: NDArray[np.float64], place: NDArray[np.float64]
) -> NDArray[np.uint8]:
    """The shape on the grid, its point ``centre`` at the voxel ``place``; edges one voxel wide."""
    index = np.arange(grid.SIZE)
    value = shape(_points(*((index - p) / zoom + c for p, c in zip(place, centre, strict=True))))
    slope = np.sqrt(sum(np.square(along) for along in np.gradient(value)))
    level = np.clip(0.5 + value / np.maximum(slope, 0.1 / zoom), 0, 1)
    return np.rint(255 * level).astype(np.uint8)


def _light(obj: NDArray[np.uint8], rng: np.random.Generator, plane: int) -> Floats:
    """What a confocal microscope makes of one plane before noise, about 1 inside, shape (64, 64).

    A dye in the cell, unevenly spread, and one in its membrane; both begin somewhat inside the mask, as
    segmentations are generous, so that the edge is dim, as it is in pictures of real red blood cells.
    Gaussian point-spread function of 3 voxels axially and 1.7 laterally, and a weak wide halo.
    """
    depth = slice(max(0, plane - 9), plane + 10)
    occupancy = obj[depth].astype(np.float32) / 255
    uneven = gaussian_filter(rng.normal(size=occupancy.shape).astype(np.float32), 4.0)
    uneven *= rng.uniform(0.14, 0.26) / uneven.std()
    inner = expit((gaussian_filter(occupancy, 1.5) - 0.8) / 0.05)
    membrane = gaussian_gradient_magnitude(inner, 1.0)
    share = rng.uniform(0.2, 0.5)
    dye = inner * (1 - share) * (1 + uneven) + membrane * 3.0 * share
    height = np.arange(depth.start, depth.start + len(occupancy)) - plane
    axial = np.exp(-(height**2) / (2 * 3.0**2)).astype(np.float32)
    light = np.tensordot(axial / axial.sum(), dye, 1)
    return np.asarray(0.94 * gaussian_filter(light, 1.7) + 0.06 * gaussian_filter(light, 6))


def image_of(obj: NDArray[np.uint8], rng: np.random.Generator, plane: int = grid.IMAGED_PLANE) -> Floats:
    """A noisy picture of one plane of an object.

    Parameters
    ----------
    obj : (64, 64, 64) uint8
    rng : numpy Generator
    plane : int
        z index.

    Returns
    -------
    (64, 64) float32
        Intensities, 0 to 1: point-spread function, shot noise and noise of the camera.
    """
    photons = rng.poisson(3000 * _light(obj, rng, plane) + 30)
    picture = photons / 3000 * rng.uniform(0.65, 0.95) + rng.normal(0.02, 0.003, photons.shape)
    return np.clip(picture, 0, 1).astype(np.float32)


def simulate_field(
    cells: int = 12,
    shape: tuple[int, int] = (512, 512),
    seed: int = 0,
    kinds: Sequence[str] = KINDS,
) -> Field:
    """A picture of many simulated cells, one in three touching another, with labels and truth.

    Parameters
    ----------
    cells : int
    shape : (y, x)
        Pixels; a cell takes about 100 x 100.
    seed : int
    kinds : sequence of str
        Kinds to take in turn.

    Raises
    ------
    InputError
        If the cells do not fit into the picture, or there is no such kind.
    """
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, np.uint16)
    light = np.zeros(shape)
    order = [kinds[i % len(kinds)] for i in range(cells)]
    field_kinds = dict(enumerate(rng.permutation(order).tolist(), start=1))
    objects, centres = {}, {}
    for label, kind in field_kinds.items():
        obj = phantom(kind, rng)
        section, offset = _section_in_pixels(obj)
        corner = _place_for(section, labels > 0, label % 3 == 0, rng)
        window = tuple(slice(c, c + s) for c, s in zip(corner, section.shape, strict=True))
        labels[window][section] = label
        centres[label] = (corner[0] + (section.shape[0] - 1) / 2, corner[1] + (section.shape[1] - 1) / 2)
        objects[label] = _moved(obj, offset * FIELD_ZOOM)
        brightness = rng.uniform(0.7, 1.2)
        _add_light(light, brightness * _light(objects[label], rng, grid.IMAGED_PLANE), centres[label])
    photons = rng.poisson(1200 * light + 40)
    counts = 100 + photons + rng.normal(0, 5, shape)
    image = np.clip(np.rint(counts), 0, 65535).astype(np.uint16)
    return Field(image, labels, objects, field_kinds, centres)


def _section_in_pixels(obj: NDArray[np.uint8]) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """The cell's mask in pixels, cut to its box, and the box's centre (pixels) from that of the grid."""
    reach = int(grid.CENTRE / FIELD_ZOOM)
    pixel = np.arange(-reach, reach + 1) * FIELD_ZOOM + grid.CENTRE
    level = map_coordinates(
        obj[grid.IMAGED_PLANE].astype(np.float32), np.meshgrid(pixel, pixel, indexing="ij"), order=1
    )
    mask = level > 127.5
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    offset = np.array([rows[0] + rows[-1], columns[0] + columns[-1]]) / 2 - reach
    return mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], offset


def _moved(obj: NDArray[np.uint8], offset: NDArray[np.float64]) -> NDArray[np.uint8]:
    """The object where the in-plane centre of the grid lies ``offset`` voxels further."""
    if not offset.any():
        return obj
    moved = shift(obj.astype(np.float32), (0, *-offset), order=1)
    return np.rint(moved).astype(np.uint8)


def _place_for(
    section: NDArray[np.bool_], taken: NDArray[np.bool_], touching: bool, rng: np.random.Generator
) -> tuple[int, int]:
    """Where the mask's first corner goes: beside another cell, or at least 5 pixels away from all."""
    margin = 3
    if any(t < s + 2 * margin for t, s in zip(taken.shape, section.shape, strict=True)):
        raise InputError(
            f"The field of {taken.shape} pixels is too small for a cell: use at least 120 x 120."
        )

    def overlap(area: NDArray[np.bool_]) -> NDArray[np.int64]:
        count = fftconvolve(area.astype(np.float32), section[::-1, ::-1].astype(np.float32), mode="valid")
        return np.rint(count[margin:-margin, margin:-margin]).astype(np.int64)

    places = np.argwhere(overlap(binary_dilation(taken, iterations=5)) == 0)
    if touching:
        beside = np.argwhere((overlap(taken) == 0) & (overlap(binary_dilation(taken)) >= 8))
        places = beside if len(beside) else places
    if not len(places):
        raise InputError("The cells do not fit into the field: ask for fewer, or for a larger picture.")
    y, x = places[rng.integers(len(places))]
    return int(y) + margin, int(x) + margin


def _add_light(field: NDArray[np.float64], light: Floats, centre: tuple[float, float]) -> None:
    """Add a cell's light, given on its grid, to the pixels that the grid covers."""
    half = grid.CENTRE / FIELD_ZOOM
    pixels = [
        np.arange(max(0, int(np.ceil(c - half))), min(n, int(c + half) + 1))
        for c, n in zip(centre, field.shape, strict=True)
    ]
    points = np.meshgrid(
        *((p - c) * FIELD_ZOOM + grid.CENTRE for p, c in zip(pixels, centre, strict=True)), indexing="ij"
    )
    field[np.ix_(*pixels)] += map_coordinates(light, points, order=3)
