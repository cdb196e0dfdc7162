"""The picture of a run that learns: real and made masks, and real and made textures, one above the other."""

from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_dispr.files import written_aside
from napari_dispr.synthesis import masks, textures
from napari_dispr.synthesis.examples import MASK_SIDE

if TYPE_CHECKING:
    from napari_dispr.synthesis.learn import Learner

#: Masks and textures in the picture.
COLUMNS = 8


def write_preview(path: Path, learner: "Learner") -> None:
    """Four rows: real masks, made masks, real pictures, and pictures made for the same cells."""
    from imageio.v3 import imwrite

    rng = np.random.default_rng(0)
    real = [learner.masks[int(i)].distance for i in rng.choice(len(learner.masks), COLUMNS)]
    *_, made = masks.iter_masks(learner.network("masks"), range(COLUMNS))
    assert made is not None
    which = rng.choice(len(learner.pictures.images), COLUMNS)
    pictures = learner.pictures.images[which]
    examples = [learner.examples.pictures[int(i)] for i in which]
    cells, depths = [one.mask[None] for one in examples], [[one.depth] for one in examples]
    *_, drawn = textures.iter_textures(learner.network("textures"), cells, range(COLUMNS), depths)
    assert drawn is not None
    low, high = np.quantile(pictures, (0.005, 0.995))
    factor = ceil(MASK_SIDE / pictures.shape[-1])
    around = (factor * pictures.shape[-1] - MASK_SIDE) // 2
    outlines = [np.pad(np.clip(0.5 + mask / 2, 0, 1), around) for mask in (*real, *made)]
    seen = [(picture - low) / (high - low) for picture in (*pictures, *(one[0] for one in drawn))]
    large = [np.repeat(np.repeat(picture, factor, 0), factor, 1) for picture in seen]
    framed = [np.pad(np.clip(one, 0, 1), ((0, 4), (0, 4)), constant_values=1) for one in (*outlines, *large)]
    rows = [np.concatenate(framed[i : i + COLUMNS], axis=1) for i in range(0, len(framed), COLUMNS)]
    with written_aside(path) as aside:
        imwrite(aside, np.rint(255 * np.concatenate(rows)).astype(np.uint8))
