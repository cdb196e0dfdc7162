"""Simulated red blood cells on the model grid with pictures, similar to the real training data.

Sizes are physical: a voxel is 0.14 micrometers, an estimate. The effects of microscope and fixation are
imitated: cells are slightly too tall, and the picture is that of a membrane dye (CellMask Deep Red) in a
spinning disc microscope, with a mask from a fixed threshold.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from napari_dispr import grid, signed_distance
from napari_dispr.cells.training_cells import TrainingCell, training_cell
from napari_dispr.errors import InputError
from napari_dispr.synthesis.bodies import waved
from napari_dispr.synthesis.discocytes import RADIUS
from napari_dispr.synthesis.implicit import Floats, Shape, random_turn, scaled, stretched, turned, voxels
from napari_dispr.synthesis.microscopy import picture
from napari_dispr.synthesis.red_cells import KINDS, RedCell

#: Size of a voxel of the real red blood cells, micrometers: estimated.
VOXEL_SIZE = 0.14
#: Factor by which cells are too tall in stacks: mean and standard deviation.
AXIAL_STRETCH = (1.08, 0.04)
#: Brightness (0 to 1) in the middle of the edge of a mask.
EDGE = 0.25
#: Names for any stage of a kind.
ANY_STAGE = ("stomatocyte", "echinocyte")
#: Points of a coarse grid over a cell, micrometers.
_LOOK = np.linspace(-6.5, 6.5, 53, dtype=np.float32)
#: A cell that does not fit the grid is shrunk, down to this factor; one that is still larger is replaced.
_LEAST_SHRINK = 0.86

# Dye and microscope, fitted to the features of the real pictures; lengths in voxels.
#: Depth of the membrane inside the mask, whose threshold is low, and its thickness.
_WITHIN, _THICKNESS = 2.3, 0.9
#: Dye inside the cell, relative to that in the membrane.
_CYTOSOL = 0.3
#: Standard deviations of the point-spread function.
_LATERAL, _AXIAL = 1.6, 3.0
#: Share of the light that comes from far out of focus.
_HAZE = 0.16
#: How even the brightness along the mask's edge is, and over which distance.
_EVEN, _REACH = 0.8, 6.0


@dataclass(frozen=True, slots=True, eq=False)
class RedCellCrop:
    """A simulated red blood cell as a dataset holds it; ``volume`` is in fL.

    ``obj`` is antialiased, inside above 127.5, and does not touch the border of the grid; ``mask`` is its
    section with the imaged plane; the intensities of ``image`` are from 0 to 1.
    """

    kind: str
    obj: NDArray[np.uint8]
    mask: NDArray[np.float32]
    image: NDArray[np.float32]
    volume: float
    spicules: int


def simulated_red_cell(kind: str, rng: np.random.Generator) -> RedCellCrop:
    """One cell of a kind in its usual orientation, with picture and mask.

    Raises an InputError if there is no such kind.
    """
    obj, cell = red_cell_volume(kind, rng)
    image = membrane_picture(obj, rng)
    mask = grid.section(obj).astype(np.float32) / 255
    volume = float((obj > 127).sum()) * VOXEL_SIZE**3
    return RedCellCrop(kind, obj, mask, image, volume, cell.spicules)


def red_cell_training_cells(count: int, seed: int, other_pictures: float = 0.12) -> Iterator[TrainingCell]:
    """Training cells of all kinds, such as ``discocyte-000123``, as frequent as in the paper; each is made
    when it is needed.

    Cell number i depends on ``(seed, i)`` alone. The share ``other_pictures`` has a picture of another stain
    or microscope.
    """
    shares = np.array([share for _, share in KINDS.values()], np.float64)
    for number in range(count):
        rng = np.random.default_rng((seed, number))
        kind = str(rng.choice(list(KINDS), p=shares / shares.sum()))
        cell = simulated_red_cell(kind, rng)
        image = picture(cell.obj, rng) if rng.random() < other_pictures else cell.image
        yield training_cell(f"{kind}-{number:06d}", cell.mask, image, cell.obj)


def red_cell_volume(
    kind: str, rng: np.random.Generator, varied: bool = True
) -> tuple[NDArray[np.uint8], RedCell]:
    """One cell of a kind on the model grid, and what it is.

    Raises an InputError if there is no such kind.

    Parameters
    ----------
    varied : bool
        Whether the imaged plane is sometimes not the middle of the cell, and the middle of the section not
        that of the grid, as in the real data.
    """
    stages = [name for name in KINDS if name == kind or (kind in ANY_STAGE and kind in name)]
    if not stages:
        names = ", ".join((*KINDS, *ANY_STAGE))
        raise InputError(f"There is no kind of red blood cells {kind!r}: choose one of {names}.")
    while True:
        cell = KINDS[stages[0] if len(stages) == 1 else str(rng.choice(stages))][0](rng)
        shape = scaled(waved(scaled(cell.shape, 1 / RADIUS), rng, rng.uniform(0, 0.03)), RADIUS)
        tall = float(np.clip(rng.normal(*AXIAL_STRETCH), 0.98, 1.22))
        obj = _placed(stretched(turned(shape, red_cell_pose(cell, rng)), (tall, 1, 1)), rng, varied)
        if obj is not None:
            return obj, cell


def red_cell_pose(cell: RedCell, rng: np.random.Generator) -> Rotation:
    """A usual orientation of a cell: flat, in a share of its kind, or any."""
    if rng.random() >= cell.flat:
        return random_turn(rng)
    upside = Rotation.from_rotvec([0, np.pi * rng.integers(2), 0])
    tilt = Rotation.from_rotvec([0, *rng.normal(0, cell.tilt, 2)])
    return tilt * upside * Rotation.from_rotvec([rng.uniform(0, 2 * np.pi), 0, 0])


def _placed(shape: Shape, rng: np.random.Generator, varied: bool) -> NDArray[np.uint8] | None:
    """The shape on the grid, with an imaged plane; None if it does not fit or its section is too small."""
    inside = shape(np.stack(np.meshgrid(_LOOK, _LOOK, _LOOK, indexing="ij"))) > 0
    box = grid.box_of(inside)
    if box is None:
        return None
    step = float(_LOOK[1] - _LOOK[0])
    low, high = np.array([_LOOK[[side.start, side.stop - 1]] for side in box], np.float64).T
    low, high = low - step / 2, high + step / 2
    middle = (low + high) / 2
    # In the data the imaged plane is the middle of a cell; users choose the plane where they see a cell best.
    what = rng.random() if varied else 0.0
    if what > 0.85:
        middle[0] += np.clip(rng.normal(0, 0.1) * (high[0] - low[0]), -0.22, 0.22)
    elif what > 0.7:
        areas = inside.sum(axis=(1, 2))
        widest = float(_LOOK[areas > 0.97 * areas.max()].mean())
        middle[0] += (widest - middle[0]) * rng.uniform(0.5, 1)
    if not varied or rng.random() < 0.5:  # the section's box in the middle, as crops have it
        sides = _section_middle(shape, middle[0])
        if sides is None:
            return None
        middle[1:] = sides
    if varied:
        middle += rng.normal(0, 0.1, 3)
    place = np.array(grid.MIDDLE)
    room = np.minimum(place, grid.SIZE - 1 - place) - 0.7
    fitting = float((room / np.maximum(middle - low, high - middle)).min())
    zoom = min(1 / VOXEL_SIZE, fitting)
    if zoom < _LEAST_SHRINK / VOXEL_SIZE:
        return None
    obj = voxels(shape, zoom, middle, place, least_slope=0.4)
    section = grid.section(obj) > 127
    if section.sum() < 200 or obj[1:-1, 1:-1, 1:-1].sum() != obj.sum():
        return None
    return obj


def _section_middle(shape: Shape, z: float) -> NDArray[np.float64] | None:
    """Middle of the box of the section at a height; None where there is none."""
    axis = np.linspace(_LOOK[0], _LOOK[-1], 209, dtype=np.float32)
    plane = shape(np.stack(np.meshgrid(np.array([z], np.float32), axis, axis, indexing="ij")))[0] > 0
    box = grid.box_of(plane)
    return None if box is None else np.array([axis[[side.start, side.stop - 1]].mean() for side in box])


def membrane_picture(
    obj: NDArray[np.uint8], rng: np.random.Generator, plane: int = grid.IMAGED_PLANE
) -> Floats:
    """The picture of one plane of a cell with a dyed membrane in a spinning disc microscope.

    Intensities (64, 64), 0 to 1; about `EDGE` at the edge of the section.
    """
    light = membrane_light(obj, rng, plane) + rng.uniform(0.004, 0.02)
    photons = np.exp(rng.uniform(np.log(1200), np.log(8000)))
    light = rng.poisson(photons * np.maximum(light, 0)) / photons
    return np.clip(gaussian_filter(light, 0.45), 0, 1).astype(np.float32)


def membrane_light(
    obj: NDArray[np.uint8], rng: np.random.Generator, plane: int = grid.IMAGED_PLANE
) -> Floats:
    """The light of one plane before background and noise, (64, 64), 0 to 1."""
    depth = slice(max(0, plane - 16), plane + 17)
    distance = signed_distance.from_level(obj, 127.5, 9.0)[depth]
    height = np.arange(grid.SIZE, dtype=np.float32)[depth] - plane
    within = rng.normal(_WITHIN, 0.3)
    membrane = np.exp(-((distance - within) ** 2) / (2 * _THICKNESS**2)) / (2.5 * _THICKNESS)
    inner = np.clip((distance - within) / 1.5 + 0.5, 0, 1)
    uneven = gaussian_filter(rng.normal(size=inner.shape).astype(np.float32), rng.uniform(2, 5))
    uneven *= rng.uniform(0.03, 0.09) / uneven.std()
    cytosol = np.exp(rng.normal(np.log(_CYTOSOL), 0.35))
    dye = (membrane + cytosol * inner) * (1 + uneven)
    axial, lateral = _AXIAL * rng.uniform(0.8, 1.25), _LATERAL * rng.uniform(0.85, 1.15)
    focus, haze = np.exp(-(height**2) / (2 * axial**2)), np.exp(-np.abs(height) / 9)
    share = _HAZE * rng.uniform(0.6, 1.4)
    sharp = gaussian_filter(np.tensordot(focus / focus.sum(), dye, 1), lateral)
    light = (1 - share) * sharp + share * gaussian_filter(np.tensordot(haze / haze.sum(), dye, 1), 5.0)
    # Masks are from one threshold, so that the edge has nearly the same brightness everywhere.
    at_edge = (np.abs(distance[plane - depth.start]) < 1).astype(np.float32)
    logs = np.log(light + 1e-3)
    typical = float(np.median(logs[at_edge > 0])) if at_edge.any() else -2.0
    # Far from the edge, as in the middle of a large disc, the level passes smoothly to the usual one.
    near, level = (gaussian_filter(plane, _REACH) for plane in (at_edge, at_edge * (logs - typical)))
    level = typical + level / (near + 0.02 * near.max() + 1e-6)
    wanted = EDGE * rng.uniform(0.9, 1.1)
    light = light * wanted * np.exp(-_EVEN * level - (1 - _EVEN) * typical)
    light *= min(1.0, rng.uniform(0.75, 1.0) / max(float(np.percentile(light, 99.8)), 1e-6))
    return light.astype(np.float32)
