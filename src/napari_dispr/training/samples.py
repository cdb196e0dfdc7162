"""The training samples: which cell, its augmentation and its noise."""

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from napari_dispr.cells.training_cells import TrainingCell
from napari_dispr.diffusion.condition import dispr_planes, signed_planes
from napari_dispr.errors import InputError
from napari_dispr.settings import TrainSettings
from napari_dispr.training.augmentation import augmented, unaugmented
from napari_dispr.training.process_group import ProcessGroup

Array = NDArray[np.float32]


class Samples(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """The samples of a run. All of sample ``i`` depends on (seed, i) alone."""

    def __init__(self, cells: Sequence[TrainingCell], settings: TrainSettings, planes: int) -> None:
        self.cells, self.settings, self.planes = cells, settings, planes
        self._extents = [cell.extent for cell in cells]
        self._typical = float(np.median(self._extents))

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor, Tensor]:
        """Condition planes (planes, 64, 64), clean shape (1, 64, 64, 64), noise (members, 64, 64, 64)."""
        settings = self.settings
        epoch, place = divmod(i, len(self.cells))
        order = np.random.default_rng((settings.seed, 0, epoch)).permutation(len(self.cells))
        rng = np.random.default_rng((settings.seed, 1, i))
        which = int(order[place])
        paper = settings.method == "dispr"
        planes, clean = self._paper(self.cells[which]) if paper else self._ours(which, rng)
        source = torch.Generator().manual_seed(int(rng.integers(2**62)))
        noise = torch.randn((2 if settings.scored else 1, *clean.shape[1:]), generator=source)
        return torch.from_numpy(planes), torch.from_numpy(clean), noise

    def _ours(self, which: int, rng: np.random.Generator) -> tuple[Array, Array]:
        settings = self.settings
        # In some samples the true size is hidden, as the scale "auto" hides it: all cells get one size.
        hidden = rng.random() < settings.scale_dropout
        sample = augmented(
            self.cells[which],
            rng,
            scale=self._typical / self._extents[which] if hidden else 1.0,
            resliced=settings.resliced,
            blended=settings.blended,
            partner=self.cells[int(rng.integers(len(self.cells)))],
            image_dropout=settings.image_dropout,
        )
        scale = None if hidden else sample.scale
        clean = np.clip(sample.signed_distance / settings.truncation, -1, 1)[None]
        return signed_planes(sample.mask, sample.image, scale)[: self.planes], clean.astype(np.float32)

    def _paper(self, cell: TrainingCell) -> tuple[Array, Array]:
        """Without augmentation; shapes are 0 and 1."""
        sample = unaugmented(cell)
        return dispr_planes(sample.mask, sample.image), (sample.signed_distance > 0)[None].astype(np.float32)


def unit_size(settings: TrainSettings) -> int:
    """Samples that a scored step takes; without scored steps, that a step takes."""
    return settings.batch // 2 if settings.scored else settings.batch


def check_processes(count: int, settings: TrainSettings) -> None:
    """Raise an InputError if a process would get no sample of a step."""
    if count > unit_size(settings):
        raise InputError(f"{count} processes need a batch of {count} or more shapes: enlarge batch.")


class Units(Sampler[list[int]]):
    """Endless lists of sample numbers for one process, unit by unit.

    A unit is what a scored step takes: half a batch, because it samples two members of each cell. Other steps
    take two units. So the order of the samples does not depend on which steps are scored.
    """

    def __init__(self, settings: TrainSettings, group: ProcessGroup, taken: int) -> None:
        self.size, self.group, self.taken = unit_size(settings), group, taken

    def __iter__(self) -> Iterator[list[int]]:
        for first in itertools.count(self.taken, self.size):
            yield self.group.share(range(first, first + self.size))
