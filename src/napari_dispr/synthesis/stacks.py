"""Simulated 3D stacks of fluorescent nuclei with their segmentation, for trials and for teaching.

Uses no data.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from napari_dispr.cells.stacks import Stack
from napari_dispr.errors import InputError
from napari_dispr.labels import Box
from napari_dispr.synthesis.bodies import BODIES, pose, waved
from napari_dispr.synthesis.implicit import Floats, Shape, turned
from napari_dispr.synthesis.settings import Microscope

#: Bodies of the nuclei, and their frequencies.
KINDS = {"ellipsoid": 0.3, "smooth": 0.25, "bumpy": 0.1, "bent": 0.15, "lobed": 0.1, "dented": 0.1}
#: The border of the stack cuts one nucleus in this number.
CUT = 6
#: Range of the longest half axis of a nucleus, micrometer.
RADII = (4.2, 6.2)
#: No point of a body is further from its origin than this, in its own unit.
REACH = 1.6
#: Number of places that are tried for each nucleus.
TRIES = 400


def simulate_stack(
    cells: int = 40,
    shape: tuple[int, int, int] = (40, 320, 320),
    spacing: tuple[float, float, float] = (1.0, 0.3, 0.3),
    seed: int = 0,
) -> Stack:
    """A confocal stack of fluorescent nuclei of various shapes, which do not overlap, with labels.

    Raises an InputError if the nuclei do not fit into the stack.

    Parameters
    ----------
    cells : int
        Nuclei; every sixth is cut by the border of the stack, the others are whole.
    shape : (z, y, x)
        Voxels. A nucleus of 10 micrometer needs about 14 micrometer along each axis.
    spacing : (z, y, x)
        Size of a voxel in micrometer.

    Returns
    -------
    Stack
        Image uint16, labels uint16 (1 to ``cells``), unit micrometer. The light is blurred more
        along z than in the plane, and noisy.
    """
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, np.uint16)
    dye = np.zeros(shape, np.float32)
    steps = np.asarray(spacing, np.float64)
    chromatin = mottled(shape, steps, rng)
    for label in range(1, cells + 1):
        box, level = _placed(labels, steps, label % CUT == 0, rng)
        inside = level > 0.5
        labels[box][inside] = label
        texture = 1 + rng.uniform(0.1, 0.3) * chromatin[box]
        texture *= without_nucleoli(box, inside, steps, rng)
        dye[box] += rng.uniform(0.55, 1.0) * level * np.maximum(texture, 0.05)
    microscope = Microscope()
    light = gaussian_filter(dye, np.asarray(microscope.blur) / steps)
    photons = rng.poisson(microscope.photons * (light + 0.02))
    counts = microscope.offset + photons + rng.normal(0, microscope.read_noise, shape)
    image = np.clip(np.rint(counts), 0, 65535).astype(np.uint16)
    return Stack("simulated nuclei", image, labels, (steps[0], steps[1], steps[2]), "micrometer")


def mottled(shape: tuple[int, int, int], steps: NDArray[np.float64], rng: np.random.Generator) -> Floats:
    """Unevenness of chromatin, of mean 0 and standard deviation 1."""
    field = gaussian_filter(rng.normal(size=shape).astype(np.float32), 0.6 / steps)
    return (field - field.mean()) / field.std()


def _placed(
    labels: NDArray[np.uint16], steps: NDArray[np.float64], cut: bool, rng: np.random.Generator
) -> tuple[Box, Floats]:
    """A nucleus where there is room for it: its box in the stack, and its share of each voxel there."""
    size = np.array(labels.shape) * steps
    for _ in range(TRIES):
        radius = rng.uniform(*RADII)
        body = nucleus(rng)
        centre = rng.uniform(0, size)
        if cut:  # its middle is next to one of the faces
            axis = int(rng.integers(3))
            centre[axis] = rng.choice((0.0, size[axis])) + rng.uniform(-0.4, 0.4) * radius
        reach = REACH * radius
        first = np.maximum(np.floor((centre - reach) / steps), 0).astype(int)
        last = np.minimum(np.ceil((centre + reach) / steps), labels.shape).astype(int)
        box = tuple(slice(a, b) for a, b in zip(first, last, strict=True))
        level = filled_share(body, box, centre, radius, steps)
        inside = level > 0.5
        faces = [
            inside.take(end, axis=axis).any()
            for axis in range(3)
            for end, at_border in ((0, first[axis] == 0), (-1, last[axis] == labels.shape[axis]))
            if at_border
        ]
        if inside.any() and any(faces) == cut and not labels[box][inside].any():
            return box, level
    raise InputError("The nuclei do not fit into the stack: use fewer nuclei, or a larger stack.")


def nucleus(rng: np.random.Generator) -> Shape:
    """A nucleus of any of ``KINDS`` in an orientation of its own; its radius is about 1."""
    kind = str(rng.choice(list(KINDS), p=list(KINDS.values())))
    body: Callable[[np.random.Generator], Shape] = BODIES[kind][0]
    return turned(waved(body(rng), rng, rng.uniform(0, 0.04)), pose(rng, 0.4))


def filled_share(
    body: Shape, box: Box, centre: NDArray[np.float64], radius: float, steps: NDArray[np.float64]
) -> Floats:
    """Approximate share of each voxel that the body fills."""
    axes = [
        ((np.arange(side.start, side.stop) + 0.5) * step - middle) / radius
        for side, step, middle in zip(box, steps, centre, strict=True)
    ]
    distance = body(np.stack(np.meshgrid(*axes, indexing="ij")).astype(np.float32)) * np.float32(radius)
    return np.clip(0.5 + distance / np.float32(steps[1:].mean()), 0, 1)


def without_nucleoli(
    box: Box, inside: NDArray[np.bool_], steps: NDArray[np.float64], rng: np.random.Generator
) -> Floats:
    """1, and less in up to three dark spots inside."""
    keep = np.ones(inside.shape, np.float32)
    axes = [np.arange(length) * step for length, step in zip(inside.shape, steps, strict=True)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).astype(np.float32)
    for place in rng.choice(np.argwhere(inside), int(rng.integers(0, 4))):
        far = ((points - (place * steps).astype(np.float32)) ** 2).sum(axis=-1)
        keep *= 1 - np.float32(rng.uniform(0.3, 0.7)) * np.exp(-far / np.float32(rng.uniform(0.7, 1.5) ** 2))
    return keep
