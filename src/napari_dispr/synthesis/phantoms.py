"""Simulated cells whose 3D shape is known, and a simulated picture of a field of them with its labels."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, map_coordinates, shift
from scipy.signal import fftconvolve

from napari_dispr import grid
from napari_dispr.errors import InputError
from napari_dispr.synthesis.implicit import Floats
from napari_dispr.synthesis.red_cell_crops import VOXEL_SIZE, membrane_light, red_cell_volume

#: Kinds of red blood cells, the best known and most different ones first.
KINDS = (
    *("discocyte", "spherocyte", "stomatocyte II", "echinocyte III", "acanthocyte", "cluster"),
    *("knizocyte", "keratocyte", "elliptocyte", "multilobate", "stomatocyte I", "echinocyte II"),
    *("sphero-stomatocyte", "echinocyte I", "sphero-echinocyte"),
)

#: Pixel size (micrometers) of a simulated field, and grid voxels per pixel.
FIELD_PIXEL_SIZE = 0.1
FIELD_ZOOM = FIELD_PIXEL_SIZE / VOXEL_SIZE


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
    """One simulated cell on the model grid, in any orientation. Each cell is different.

    It is antialiased, inside above 127.5; a voxel is 0.14 micrometers. The imaged plane runs through the
    middle of the cell, and the box of that section is centred in the plane. Raises an InputError if there is
    no such kind.
    """
    return red_cell_volume(kind, rng, varied=False)[0]


def simulate_field(
    cells: int = 12,
    shape: tuple[int, int] = (512, 512),
    seed: int = 0,
) -> Field:
    """A picture of many simulated cells, one in three touching another, with labels and truth.

    Raises an InputError if the cells do not fit into the picture.

    Parameters
    ----------
    shape : (y, x)
        Pixels; a cell takes about 100 x 100.
    """
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, np.uint16)
    light = np.zeros(shape)
    order = [KINDS[i % len(KINDS)] for i in range(cells)]
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
        _add_light(light, brightness * membrane_light(objects[label], rng), centres[label])
    photons = rng.poisson(2000 * np.maximum(light, 0) + 40)
    counts = 100 + photons + rng.normal(0, 5, shape)
    image = np.clip(np.rint(counts), 0, 65535).astype(np.uint16)
    return Field(image, labels, objects, field_kinds, centres)


def _section_in_pixels(obj: NDArray[np.uint8]) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """The cell's mask in pixels, cut to its box, and the box's centre (pixels) from that of the grid."""
    reach = int(grid.CENTRE / FIELD_ZOOM)
    pixel = np.arange(-reach, reach + 1) * FIELD_ZOOM + grid.CENTRE
    level = map_coordinates(
        grid.section(obj).astype(np.float32), np.meshgrid(pixel, pixel, indexing="ij"), order=1
    )
    mask = level > 127.5
    box = grid.box_of(mask) or ()
    offset = np.array([side.start + side.stop - 1 for side in box]) / 2 - reach
    return mask[box], offset


def _moved(obj: NDArray[np.uint8], offset: NDArray[np.float64]) -> NDArray[np.uint8]:
    """The object on a grid whose in-plane centre is moved by ``offset`` voxels."""
    if not offset.any():
        return obj
    moved = shift(obj.astype(np.float32), (0, *-offset), order=1)
    return np.rint(moved).astype(np.uint8)


def _place_for(
    section: NDArray[np.bool_], taken: NDArray[np.bool_], touching: bool, rng: np.random.Generator
) -> tuple[int, int]:
    """Where the mask's first corner goes: next to another cell, or at least 5 pixels away from all."""
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
        next_to = np.argwhere((overlap(taken) == 0) & (overlap(binary_dilation(taken)) >= 8))
        places = next_to if len(next_to) else places
    if not len(places):
        raise InputError("The cells do not fit into the field: use fewer cells, or a larger picture.")
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
