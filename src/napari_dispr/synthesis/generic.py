"""Simulated cells and nuclei of many kinds with pictures of them: the training data of the model ``generic``.

Some kinds are not used for training, but for tests of the model.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from napari_dispr import grid
from napari_dispr.cells.training_cells import TrainingCell, training_cell
from napari_dispr.errors import InputError
from napari_dispr.synthesis.bodies import BODIES, UNSEEN_BODIES, Body, pose, waved
from napari_dispr.synthesis.implicit import Floats, Shape, stretched, turned, voxels
from napari_dispr.synthesis.microscopy import picture

KINDS: tuple[str, ...] = tuple(BODIES)
UNSEEN_KINDS: tuple[str, ...] = tuple(UNSEEN_BODIES)

#: Kinds that lie on a surface: they keep their axis.
LYING = frozenset({"adherent", "dome"})
#: Points of a coarse grid over a shape, in the shape's own units.
LOOK = np.linspace(-1.9, 1.9, 58, dtype=np.float32)
#: Least size of the larger side of a section's box, and of a cell's height, in voxels; least area.
SMALLEST_SIDE, LOWEST, SMALLEST_AREA = 20, 11, 170
#: Cells of training kinds are stretched along z: mean and standard deviation of the factor's logarithm, and
#: its limits. Without it their volume is .92 of that of a body as tall as its section is wide; real nuclei
#: are from half as tall as wide (flat on glass) to twice as tall (blurred along z) in their stacks.
HEIGHT, SHORTEST, TALLEST = (0.15, 0.3), 0.5, 2.2


def simulated_cell(
    kind: str | Body, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]:
    """One cell or nucleus of a kind on the model grid, its section, and a picture of it.

    Raises an InputError if there is no such kind.

    Parameters
    ----------
    kind : str or Body
        One of ``KINDS`` or ``UNSEEN_KINDS``, or a body of another kind.

    Returns
    -------
    obj : (64, 64, 64) uint8
        Antialiased, axes (z, y, x), inside above 127.5; nothing touches the border of the grid. The imaged
        plane runs through the middle of the cell or, in a share of the cells, where its section is largest.
        The box of that section is centred in the plane. Its larger side is 20 to 56 voxels, most often about
        46, and smaller in tall cells, which would not fit the grid.
    mask : (64, 64) float32
        The section, 0 to 1.
    image : (64, 64) float32
        The picture, 0 to 1, neither masked nor normalised.
    """
    named = {**UNSEEN_BODIES, **{name: body for name, (body, _) in BODIES.items()}}
    body = named.get(kind) if isinstance(kind, str) else kind
    if body is None:
        choice = ", ".join((*KINDS, *UNSEEN_KINDS))
        raise InputError(f"There is no kind of simulated cells {kind!r}: choose one of {choice}.")
    while True:
        shape = turned(body(rng), pose(rng, 1.0 if kind in LYING else 0.4))
        if kind not in UNSEEN_BODIES:
            tall = float(np.clip(np.exp(rng.normal(*HEIGHT)), SHORTEST, TALLEST))
            # The volume does not change, so that the shape stays in view.
            shape = stretched(shape, (tall ** (2 / 3), tall ** (-1 / 3), tall ** (-1 / 3)))
        obj = _placed(waved(shape, rng, rng.uniform(0, 0.04)), rng)
        if obj is not None:
            break
    return obj, grid.section(obj).astype(np.float32) / 255, picture(obj, rng)


def generic_training_cells(count: int, seed: int) -> Iterator[TrainingCell]:
    """Training cells of all ``KINDS``, such as ``generic-000123``. Number i depends on ``(seed, i)``."""
    kinds, shares = list(BODIES), np.array([share for _, share in BODIES.values()])
    for number in range(count):
        rng = np.random.default_rng((seed, number))
        kind = str(rng.choice(kinds, p=shares / shares.sum()))
        obj, mask, image = simulated_cell(kind, rng)
        yield training_cell(f"generic-{number:06d}", mask, image, obj)


def _placed(shape: Shape, rng: np.random.Generator) -> NDArray[np.uint8] | None:
    """The shape on the grid, with an imaged plane; None if its section is too small."""
    inside = shape(np.stack(np.meshgrid(LOOK, LOOK, LOOK, indexing="ij"))) > 0
    box = grid.box_of(inside)
    if box is None:
        return None
    step = float(LOOK[1] - LOOK[0])
    low, high = np.array([LOOK[[side.start, side.stop - 1]] for side in box], np.float64).T
    low, high = low - step / 2, high + step / 2
    plane = _imaged_height(inside.sum(axis=(1, 2)), low[0], high[0], rng)
    top_left, bottom_right, area = _section(shape, plane)
    side = float((bottom_right - top_left).max())
    if not side:
        return None
    centre = np.array([plane, *(top_left + bottom_right) / 2])
    place = np.array(grid.MIDDLE)
    room = np.minimum(place, grid.SIZE - 1 - place) - 1.2
    fitting = float((room / np.maximum(centre - low, high - centre)).min())
    # The scale "auto" gives users' cells one size, so most cells have it; the others are for other scales.
    wanted = rng.normal(46, 3) if rng.random() < 0.7 else rng.uniform(30, 56)
    zoom = min(float(np.clip(wanted, 30, 55)) / side, fitting)
    if zoom * side < SMALLEST_SIDE or zoom**2 * area < SMALLEST_AREA or zoom * (high[0] - low[0]) < LOWEST:
        return None
    obj = voxels(shape, zoom, centre, place)
    return obj if obj[1:-1, 1:-1, 1:-1].sum() == obj.sum() else None


def _imaged_height(areas: NDArray[np.int_], low: float, high: float, rng: np.random.Generator) -> float:
    """The middle of the cell, or the height of its largest section if that is near the middle."""
    middle, height = (low + high) / 2, high - low
    if rng.random() < 0.6:
        return float(middle + rng.normal(0, 0.02) * height)
    widest = LOOK[areas > 0.97 * areas.max()].mean()
    return float(np.clip(widest + rng.normal(0, 0.02) * height, middle - height / 4, middle + height / 4))


def _section(shape: Shape, z: float) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Corners of the box of the section at height ``z``, and its area; all 0 where there is none."""
    axis: Floats = np.linspace(LOOK[0], LOOK[-1], 160, dtype=np.float32)
    points = np.stack(np.meshgrid(np.full(1, z, np.float32), axis, axis, indexing="ij"))
    inside = shape(points)[0] > 0
    box = grid.box_of(inside)
    if box is None:
        return np.zeros(2), np.zeros(2), 0.0
    step = float(axis[1] - axis[0])
    low, high = np.array([axis[[side.start, side.stop - 1]] for side in box], np.float64).T
    return low - step / 2, high + step / 2, float(inside.sum() * step**2)
