"""Training cells: mask, image and signed distance of a cell, prepared once for all its samples."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_dispr import signed_distance
from napari_dispr.errors import InputError

#: Signed distances are stored up to this many voxels, so that a shrunken shape still has enough of them.
STORED_TRUNCATION = 14.0


@dataclass(frozen=True, slots=True, eq=False)
class TrainingCell:
    """A cell with its true shape on the model grid.

    Attributes
    ----------
    mask, image : (64, 64) float32 in [0, 1]; the image may be None
    signed_distance : (64, 64, 64) float16, voxels, positive inside, truncated at 14
    surface : (n, 3) float32
        Points of the surface, which must stay inside the grid.
    stack : (64, 64, 64) uint8 or None
        Pictures at all depths; 0 where there is none.
    """

    name: str
    mask: NDArray[np.float32]
    image: NDArray[np.float32] | None
    signed_distance: NDArray[np.float16]
    surface: NDArray[np.float32]
    stack: NDArray[np.uint8] | None = None

    @property
    def extent(self) -> int:
        """Larger side of the bounding box of the mask, in voxels; at least 1."""
        return larger_side(self.mask)

    @property
    def silhouette_extent(self) -> int:
        """Larger side of the bounding box of the silhouette, in voxels; at least 1."""
        return larger_side(np.asarray(self.signed_distance.max(axis=0) > 0, np.float32))


def larger_side(mask: NDArray[np.float32]) -> int:
    """Larger side of the bounding box of a mask (64, 64), in voxels; at least 1."""
    places = np.argwhere(mask > 0.5)
    return int(np.ptp(places, axis=0).max()) + 1 if len(places) else 1


def training_cell(
    name: str,
    mask: NDArray[np.float32],
    image: NDArray[np.float32] | None,
    obj: NDArray[np.uint8],
    stack: NDArray[np.uint8] | None = None,
) -> TrainingCell:
    """Make a training cell from an antialiased object (64, 64, 64), uint8, inside above 127."""
    surface = signed_distance.crossings(obj.astype(np.float32), 127.5)
    if not len(surface):
        raise InputError(f"The object of cell {name} has no surface: segment it again, or remove the cell.")
    distance = signed_distance.from_level(obj, 127.5, STORED_TRUNCATION)
    return TrainingCell(name, mask, image, distance.astype(np.float16), surface, stack)
