"""The light of a cell in the slices above and below it: measured in real stacks, painted into made ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from napari_dispr.labels import Box, windows
from napari_dispr.synthesis.annotated import Annotated
from napari_dispr.synthesis.cell_ends import LEAST_CONTRAST, inner_half
from napari_dispr.synthesis.cell_sources import TexturedCell

Floats = NDArray[np.float32]

#: Depths at which it is measured: 0 is the middle of a cell, 1 its end.
GLOW_DEPTHS = (1.0, 1.25, 1.5, 2.0, 2.5, 3.0)
#: It is blurred by this share of the width of the cell.
_BLUR = 0.15


def light_along(
    field: Annotated, label: int, z: int, box: Box, ends: tuple[float, float], level: float
) -> tuple[float, NDArray[np.float64]]:
    """Light above the background, of grey value ``level``, in the column of the inner half of a section in
    slice ``z``.

    Returns that in the middle of the cell; and that below and above it, relative to its middle, (2,
    len(GLOW_DEPTHS)). It is NaN outside the image, where another cell is annotated, and if the cell does not
    stand out.
    """
    window = slice(None), *box
    labels = field.labels[window]
    core = inner_half(labels[z] == label)
    light = field.image[window][:, core].mean(axis=1) - level
    light[((labels[:, core] > 0) & (labels[:, core] != label)).any(axis=1)] = np.nan
    middle, half = (ends[0] + ends[1]) / 2, (ends[1] - ends[0]) / 2
    slices = np.arange(len(light))
    places = middle + half * np.outer((-1, 1), GLOW_DEPTHS)
    own = float(np.interp(middle, slices, light))
    if not abs(own) >= LEAST_CONTRAST * field.image[z].std():
        own = float("nan")
    return own, np.interp(places, slices, light, left=np.nan, right=np.nan) / own


@dataclass(frozen=True, slots=True, eq=False)
class Glow:
    """The light of a made cell, ``height`` slices high, in the slices above and below it.

    ``plane`` (y, x) is the blurred light of the middle of the cell, above the background, in its box and a
    ``margin``.
    """

    plane: Floats
    margin: int
    height: int

    @classmethod
    def of(cls, cell: TexturedCell, box: Box, level: float) -> "Glow":
        """The glow of a cell in a background of this level; ``box`` is that of its mask."""
        depth, *sides = box
        middle = (depth.start + depth.stop - 1) // 2
        mask = cell.mask[middle]
        width = 2 * (mask.sum() / np.pi) ** 0.5
        margin = ceil(width / 2)
        contrast = float(cell.image[middle][mask].mean()) - level if mask.any() else 0.0
        seen = np.pad(mask[tuple(sides)].astype(np.float32), margin)
        plane = np.float32(contrast) * gaussian_filter(seen, _BLUR * width)
        return cls(plane, margin, depth.stop - depth.start)

    def add_to(self, image: Floats, corner: NDArray[np.int_], shares: Sequence[float]) -> None:
        """Add the light above and below a cell whose box starts at ``corner``.

        ``shares`` are those of the light at ``GLOW_DEPTHS``.
        """
        depths = np.abs(np.arange(len(image)) - corner[0] - (self.height - 1) / 2) / (self.height / 2)
        along = np.where(depths < 1, 0, np.interp(depths, GLOW_DEPTHS, shares, right=0)).astype(np.float32)
        plane, own = windows(corner[1:] - self.margin, self.plane.shape, image.shape[1:])
        image[(slice(None), *plane)] += along[:, None, None] * self.plane[own]
