"""What else is known of a training sample: further planes, or a projection instead of a section.

Where a training cell has pictures at other depths, these are used. Otherwise they are simulated from the true
shape.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from napari_dispr import grid, signed_distance
from napari_dispr.cells.novelty import other_optics
from napari_dispr.planes import WIDEST, KnownPlane, useful
from napari_dispr.training.augmentation import Sample

#: Most known planes of a sample, the imaged one included.
MOST_PLANES = 9
#: Distances between the planes of a stack, in voxels.
SPACINGS = (2.0, WIDEST)
#: Share of samples whose planes are a part of an evenly spaced stack; the others have any depths.
_EVEN = 0.7
#: Voxels beyond the ends of the cell where a plane, which is empty, may lie.
_BEYOND = 6.0
#: Pictures that are nowhere brighter are none.
_DARK = 1 / 255
#: Chances that the further planes of a sample all have images, that some have, and that none has.
_WITH_IMAGES = (0.4, 0.2, 0.4)

Volume = NDArray[np.float32]


def further_planes(sample: Sample, rng: np.random.Generator) -> tuple[KnownPlane, ...]:
    """Sections of a sample at random depths, as real stacks have them; some lie beyond the cell's ends."""
    inside = grid.depths_inside(sample.signed_distance > 0)
    low, high = inside[0] - _BEYOND, inside[-1] + _BEYOND
    # Every second sample has two or three planes, which need the most learning.
    count = int(rng.integers(1, 3) if rng.random() < 0.5 else rng.integers(3, MOST_PLANES))
    if rng.random() < _EVEN:
        spacing = np.exp(rng.uniform(*np.log(SPACINGS)))
        steps = np.arange(np.ceil(low / spacing), np.floor(high / spacing) + 1)
        depths = spacing * steps[steps != 0]
        first = int(rng.integers(max(1, len(depths) - count + 1)))
        depths = depths[first : first + count]
    else:
        depths = rng.uniform(low, high, count)
    images = rng.choice([1.0, 0.5, 0.0], p=_WITH_IMAGES) if sample.image is not None else 0.0
    light = _light(sample, rng) if images else None
    return useful(_plane(sample, depth, light, images, rng) for depth in depths.tolist())


def projected(sample: Sample, rng: np.random.Generator) -> Sample:
    """The sample with its silhouette as mask, and a projection as image if it has one.

    The projection is the brightest voxel or the mean of each column. The middle of the cell moves to
    the imaged plane, because a projection does not show at which depth the cell is.
    """
    distance = sample.signed_distance
    inside = grid.depths_inside(distance > 0)
    shift = -round((inside[0] + inside[-1]) / 2)
    light = None if sample.image is None else _light(sample, rng)
    distance = distance[np.clip(np.arange(grid.SIZE) - shift, 0, grid.SIZE - 1)]
    mask = _antialiased(distance.max(axis=0))
    image = None
    if light is not None:
        flat = light.max(axis=0) if rng.random() < 0.5 else light.mean(axis=0)
        image = _photographed(flat, sample.stack is None, rng)
    return Sample(mask, image, distance, sample.scale)


def _plane(
    sample: Sample, depth: float, light: Volume | None, images: float, rng: np.random.Generator
) -> KnownPlane:
    mask = _antialiased(grid.section(sample.signed_distance, depth))
    image = None
    if light is not None and rng.random() < images and mask.any():
        picture = grid.section(light, depth)
        # Also of cells with pictures, some planes have none.
        image = _photographed(picture, sample.stack is None, rng) if picture[mask > 0].max() > _DARK else None
    return KnownPlane(depth, mask, image)


def _antialiased(section: NDArray[np.float32]) -> NDArray[np.float32]:
    """The mask of a section of a signed distance; its edge is one voxel wide, however flat the surface is."""
    return np.clip(signed_distance.from_level(section, 0.0, 4.0) + 0.5, 0, 1).astype(np.float32)


def _light(sample: Sample, rng: np.random.Generator) -> Volume:
    """Pictures at all depths."""
    return _dyed(sample.signed_distance, rng) if sample.stack is None else sample.stack


def _dyed(distance: Volume, rng: np.random.Generator) -> Volume:
    """Light of a cell whose membrane and body are dyed in a random proportion, blurred along z."""
    body = rng.uniform(0.0, 1.0)
    width = rng.uniform(1.0, 2.0)
    light = body * np.clip(distance / 2 + 0.5, 0, 1) + (1 - body) * np.exp(-((distance / width) ** 2) / 2)
    return np.asarray(gaussian_filter(light, (rng.uniform(1, 3), 0, 0)), np.float32)


def _photographed(light: NDArray[np.float32], sharp: bool, rng: np.random.Generator) -> NDArray[np.float32]:
    """The image of a plane of light as from a random microscope; blurred in the plane if it is ``sharp``."""
    if sharp:
        light = gaussian_filter(light, rng.uniform(0.6, 1.6))
    return np.asarray(other_optics(light / max(float(light.max()), 1e-6), rng), np.float32)
