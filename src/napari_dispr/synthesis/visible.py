"""Whether an image shows where its labelled cells are: if not, image and labels do not belong together."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, binary_erosion, gaussian_filter, gaussian_gradient_magnitude
from scipy.stats import rankdata

from napari_dispr.labels import Box
from napari_dispr.synthesis.annotated import Annotated

Floats = NDArray[np.float32]
#: Of a section, by grey values, texture, grey values of the outline, and slope of the outline.
Differences = tuple[float, float, float, float]

#: Sections of an image that are looked at, and the fewest that say something.
_SECTIONS, _FEWEST = 50, 5
#: Width of the surroundings of a cell, as a share of its smaller side; the least in pixels.
_AROUND, _LEAST = 0.25, 3
#: Least difference from 1/2 of the chance that a pixel of one part has a larger value than one of another.
_DIFFERENT = 0.13
#: Width of a Gaussian for texture and for slopes, in pixels.
_TEXTURE, _SLOPE = 2.0, 1.0


def are_shown(sections: Sequence[Differences]) -> bool:
    """Whether images tell cells from their surroundings. Few sections say nothing: True.

    Bright cells, dark cells, and cells that differ in their outline alone are all seen.
    """
    return len(sections) < _FEWEST or bool(np.abs(np.median(sections, axis=0) - 0.5).max() >= _DIFFERENT)


def differences(field: Annotated, sections: Sequence[tuple[int, int, Box]]) -> list[Differences]:
    """How sections (label, z, box) of a stack differ from their surroundings; 1/2: not at all."""
    every = max(1, len(sections) // _SECTIONS)
    found = [_differences(field.image[z], field.labels[z], label, box) for label, z, box in sections[::every]]
    return [one for one in found if one is not None]


def _differences(image: Floats, labels: NDArray[np.int_], label: int, box: Box) -> Differences | None:
    """How often a pixel of the cell is brighter or less even than one of the surroundings, and a pixel of its
    outline brighter or steeper than others; None if the cell has no surroundings.
    """
    width = max(_LEAST, round(_AROUND * min(side.stop - side.start for side in box)))
    window = tuple(slice(max(0, side.start - 2 * width), side.stop + 2 * width) for side in box)
    own, others = labels[window] == label, (labels[window] > 0) & (labels[window] != label)
    grey = image[window]
    texture = gaussian_filter(grey**2, _TEXTURE) - gaussian_filter(grey, _TEXTURE) ** 2
    slope = gaussian_gradient_magnitude(grey, _SLOPE)
    near = binary_dilation(own)
    outside = binary_dilation(own, iterations=width) & ~near & ~others
    outline = near & ~binary_erosion(own)
    rest = (own | outside) & ~outline
    if not outside.any() or not rest.any():
        return None
    return (
        _larger(grey[own], grey[outside]),
        _larger(texture[own], texture[outside]),
        _larger(grey[outline], grey[rest]),
        _larger(slope[outline], slope[rest]),
    )


def _larger(one: Floats, other: Floats) -> float:
    """The chance that a value of one is larger than one of the other (area under the ROC curve)."""
    ranks = rankdata(np.concatenate([one, other]))[: len(one)]
    return float((ranks.sum() - len(one) * (len(one) + 1) / 2) / (len(one) * len(other)))
