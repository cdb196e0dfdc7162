"""Where a cell of which one slice is annotated starts and ends along z, by its light in the other slices."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, binary_erosion, distance_transform_edt

from napari_dispr.labels import Box
from napari_dispr.synthesis.annotated import Annotated

#: Cells show where they end if they differ from their surroundings by this share of the standard deviation of
#: the grey values there.
LEAST_CONTRAST = 0.3
#: Width of the surroundings, in pixels.
_AROUND = 2


def inner_half(section: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Where a section (y, x) is more than half as far from its edge as at its deepest point."""
    depth = distance_transform_edt(np.pad(section, 1))[1:-1, 1:-1]
    inner: NDArray[np.bool_] = depth > depth.max() / 2
    return inner


def light_ends(
    field: Annotated, annotated: NDArray[np.bool_], label: int, z: int, box: Box, seen: tuple[int, int]
) -> tuple[float, float] | None:
    """First and last depth of a cell, in slices; None if its light does not show them.

    The cell ends where the mean grey value above or below the inner half of its section in slice ``z`` has
    fallen (or risen, if cells are dark) to the value at the edge of that section. ``annotated`` says which
    slices are, and ``seen`` in which of them it is seen first and last.
    """
    window = (slice(None), *(slice(max(0, side.start - _AROUND), side.stop + _AROUND) for side in box))
    image, labels = field.image[window], field.labels[window]
    own = labels[z] == label
    around = binary_dilation(own, iterations=_AROUND) & (labels[z] == 0)
    if not around.any():
        return None
    core = inner_half(own)
    light = image[:, core].mean(axis=1)
    outside = float(image[z][around].mean())
    edge = (float(image[z][own & ~binary_erosion(own)].mean()) + outside) / 2
    contrast = float(light[z]) - outside
    inside = (light - edge) * np.sign(contrast)
    # In other annotated slices the labels say whether the cell is there.
    absent = annotated & ~(labels[:, core] == label).any(axis=1)
    inside[absent] = -np.abs(inside[absent])
    is_seen = abs(contrast) >= LEAST_CONTRAST * image[z].std() and inside[z] > 0
    lowest, highest = seen
    # Positive, so that the cell does not end there, even where its light is that of the edge.
    inside[lowest : highest + 1] = np.maximum(
        np.abs(inside[lowest : highest + 1]), np.finfo(inside.dtype).tiny
    )
    below, above = np.flatnonzero(inside[:lowest] <= 0), highest + np.flatnonzero(inside[highest:] <= 0)
    if not is_seen or not len(below) or not len(above):
        return None
    last, first = int(below[-1]), int(above[0])
    low = last + inside[last] / (inside[last] - inside[last + 1])
    high = first - inside[first] / (inside[first] - inside[first - 1])
    return float(low), float(high)
