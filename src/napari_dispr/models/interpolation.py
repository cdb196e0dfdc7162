"""Shape-based interpolation of known sections, the usual way to complete a stack: to compare models with.

Reference: Raya and Udupa (1990). Shape-based interpolation of multidimensional objects. IEEE Transactions on
Medical Imaging 9(1).
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from napari_dispr import grid, signed_distance
from napari_dispr.card import Card
from napari_dispr.cells.cropping import Crop
from napari_dispr.errors import InputError
from napari_dispr.models.method import OneShape


@dataclass(frozen=True)
class Interpolation(OneShape):
    """The signed distances of the sections, interpolated linearly along z.

    The first and the last section continue for half the distance to their neighbour.
    """

    card: Card
    uses_planes: ClassVar[bool] = True

    def level(self, crop: Crop) -> tuple[NDArray[Any], float]:
        """The interpolated signed distance in voxels, and 0."""
        if not crop.planes:
            raise InputError("Interpolation needs sections in two planes or more: give further planes.")
        sections = [(0.0, crop.mask), *((plane.depth, plane.mask) for plane in crop.planes)]
        sections.sort(key=lambda section: section[0])
        depths = np.array([depth for depth, _ in sections])
        distances = np.stack([signed_distance.from_level(mask, truncation=grid.SIZE) for _, mask in sections])
        z = grid.plane_distance()
        level = grid.between(distances, depths, z)
        low, high = depths[0] - (depths[1] - depths[0]) / 2, depths[-1] + (depths[-1] - depths[-2]) / 2
        level[(z < low) | (z > high)] = -grid.SIZE
        return level, 0.0


INTERPOLATION = Interpolation(
    Card(
        name="interpolation",
        description="Shape-based interpolation of several sections. For comparison: one shape for each cell.",
        rival="fit",
        qualities={},
    )
)
