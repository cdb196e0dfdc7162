"""Versions of training cells as the known shapes from which sampling starts."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_dispr.cells.training_cells import TrainingCell
from napari_dispr.diffusion.cosines import coefficients_of
from napari_dispr.diffusion.known_shapes import KnownShapes, Look, look_of
from napari_dispr.training.augmentation import SIZE_SPREAD, augmented

#: Share of the versions in which the true size is hidden, as with the scale "auto".
_HIDDEN = 0.4
#: Share of the versions that are cut in another direction, and share of the others without image.
_RESLICED, _WITHOUT_IMAGE = 0.1, 0.1


class Version(NamedTuple):
    """One version of a cell: cosines of its shape (16, 16, 16), its look, whether it has its true size."""

    shape: NDArray[np.float32]
    look: Look
    sized: bool
    name: str


def versions(
    cells: Sequence[TrainingCell],
    count: int,
    truncation: float,
    extent: float,
    seed: int = 0,
    *,
    varied: bool = True,
) -> Iterator[Version]:
    """Random versions of cells, turned and mirrored; all cells in turn. ``truncation`` is that of the model.

    ``extent`` is the larger side of a cell at the scale "auto", in voxels: the ``typical_extent`` of the
    model. If ``varied``, cells are also scaled and bent as in training, since few cells do not show how cells
    vary. Simulated cells do, and bent ones would no longer be spheres or discs.
    """
    rng = np.random.default_rng((seed, 3))
    for number in range(count):
        cell = cells[number % len(cells)]
        hidden = rng.random() < _HIDDEN
        sample = augmented(
            cell,
            rng,
            scale=extent / cell.extent if hidden else 1.0,
            resliced=_RESLICED,
            bent=varied,
            size_spread=SIZE_SPREAD if varied else 0.0,
            image_dropout=_WITHOUT_IMAGE,
        )
        look = look_of(sample.mask, sample.image)
        shape = np.clip(sample.signed_distance / truncation, -1, 1).astype(np.float32)
        yield Version(coefficients_of(shape, look.angle), look, not hidden, cell.name)


def known_shapes(drawn: Sequence[Version]) -> KnownShapes:
    """The known shapes of a model."""
    shapes, looks, sized, names = zip(*drawn, strict=True)
    return KnownShapes.of(np.stack(shapes), looks, sized, names)
