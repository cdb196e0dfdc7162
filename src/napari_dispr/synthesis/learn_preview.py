"""The picture of a run that learns: real and made masks, and real and made textures, one above the other."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_dispr.files import written_aside
from napari_dispr.synthesis import masks, textures

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
    cells = [learner.examples.pictures[int(i)].mask[None] for i in which]
    *_, drawn = textures.iter_textures(learner.network("textures"), cells, range(COLUMNS))
    assert drawn is not None
    low, high = np.quantile(pictures, (0.005, 0.995))
    rows = [
        _row([np.clip(0.5 + mask / 2, 0, 1) for mask in real]),
        _row([np.clip(0.5 + mask / 2, 0, 1) for mask in made]),
        _row(list((pictures - low) / (high - low))),
        _row([(picture[0] - low) / (high - low) for picture in drawn]),
    ]
    width = max(row.shape[1] for row in rows)
    rows = [np.pad(row, ((0, 4), (0, width - row.shape[1])), constant_values=255) for row in rows]
    with written_aside(path) as aside:
        imwrite(aside, np.concatenate(rows))


def _row(pictures: list[NDArray[np.float32]]) -> NDArray[np.uint8]:
    """Pictures with values from 0 to 1 next to one another, at least 96 pixels high."""
    factor = max(1, round(128 / pictures[0].shape[0]))
    large = [np.repeat(np.repeat(picture, factor, 0), factor, 1) for picture in pictures]
    framed = [np.pad(np.clip(picture, 0, 1), ((0, 0), (0, 4)), constant_values=1) for picture in large]
    return np.rint(255 * np.concatenate(framed, axis=1)).astype(np.uint8)
