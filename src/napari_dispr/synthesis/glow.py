"""The light of a cell in the slices above and below it: measured in real stacks, painted into made ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter

from napari_dispr.labels import Box, windows
from napari_dispr.synthesis.annotated import Annotated
from napari_dispr.synthesis.cell_ends import LEAST_CONTRAST
from napari_dispr.synthesis.cell_sources import TexturedCell

Floats = NDArray[np.float32]

#: Depths at which it is measured: 0 is the middle of a cell, 1 its end.
GLOW_DEPTHS = (1.0, 1.25, 1.5, 2.0, 2.5, 3.0)
#: It is blurred by this share of the width of the cell.
_BLUR = 0.15


def light_beyond(
    field: Annotated, label: int, z: int, box: Box, ends: tuple[float, float], level: float
) -> NDArray[np.float64]:
    """Light in the column of the inner half of a section, relative to that in the middle of its cell.

    Parameters
    ----------
    z : int
        The slice of the section.
    level : float
        Grey value of the background.

    Returns
    -------
    (2, len(GLOW_DEPTHS)) array
        Below and above the cell; NaN outside the image, where another cell is annotated, and if the cell does
        not stand out.
    """
    window = slice(None), *box
    labels = field.labels[window]
    depth = distance_transform_edt(np.pad(labels[z] == label, 1))[1:-1, 1:-1]
    core = depth > depth.max() / 2
    light = field.image[window][:, core].mean(axis=1) - level
    light[((labels[:, core] > 0) & (labels[:, core] != label)).any(axis=1)] = np.nan
    middle, half = (ends[0] + ends[1]) / 2, (ends[1] - ends[0]) / 2
    slices = np.arange(len(light))
    places = middle + half * np.outer((-1, 1), GLOW_DEPTHS)
    found: NDArray[np.float64] = np.interp(places, slices, light, left=np.nan, right=np.nan)
    own = float(np.interp(middle, slices, light))
    return found / own if abs(own) >= LEAST_CONTRAST * field.image[z].std() else np.full_like(found, np.nan)


@dataclass(frozen=True, slots=True, eq=False)
class Glow:
    """The light of a made cell in the slices above and below it.

    Attributes
    ----------
    plane : (y, x) float32
        Blurred light of the middle of the cell, above the background, in its box and a margin.
    margin : int
        In pixels.
    height : int
        Of the cell, in slices.
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

    def add_to(
        self,
        image: Floats,
        corner: NDArray[np.int_],
        shares: Sequence[float],
        shown: tuple[Box, Floats] | None = None,
    ) -> None:
        """Add the light above and below a cell whose box starts at ``corner``.

        ``shares`` are those of the light at ``GLOW_DEPTHS``. ``shown`` is the window of the cell's own image,
        which shows some of this light, and its weight there.
        """
        depths = np.abs(np.arange(len(image)) - corner[0] - (self.height - 1) / 2) / (self.height / 2)
        along = np.where(depths < 1, 0, np.interp(depths, GLOW_DEPTHS, shares, right=0)).astype(np.float32)
        plane, own = windows(corner[1:] - self.margin, self.plane.shape, image.shape[1:])
        light = along[:, None, None] * self.plane[own]
        if shown is not None:
            (depth, *sides), weight = shown
            both = [
                slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(plane, sides, strict=True)
            ]
            of_light, of_weight = (
                tuple(slice(s.start - w.start, s.stop - w.start) for s, w in zip(both, parts, strict=True))
                for parts in (plane, sides)
            )
            light[(depth, *of_light)] *= 1 - weight[(slice(None), *of_weight)]
        image[(slice(None), *plane)] += light
