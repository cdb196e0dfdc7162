"""The training samples: which cell, its augmentation and its noise."""

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from napari_dispr.cells.training_cells import TrainingCell
from napari_dispr.diffusion.condition import Condition, Known, dispr_planes, filled_up, signed_planes
from napari_dispr.errors import InputError
from napari_dispr.settings import TrainSettings
from napari_dispr.training.augmentation import augmented, unaugmented
from napari_dispr.training.known import MOST_PLANES, further_planes, projected
from napari_dispr.training.process_group import ProcessGroup

Array = NDArray[np.float32]


class Drawn(NamedTuple):
    """One sample, or several as a batch, for a network: ``clean`` (B, 1, 64, 64, 64), ``noise`` (B, members,
    64, 64, 64).
    """

    condition: Condition
    clean: Tensor
    noise: Tensor


class Samples(Dataset[Drawn]):
    """The samples of a run. All of sample ``i`` depends on (seed, i) alone.

    ``planes`` and ``volumes`` are the inputs of the network. Without volumes, the samples have neither
    further planes nor projections.
    """

    def __init__(
        self, cells: Sequence[TrainingCell], settings: TrainSettings, planes: int, volumes: int
    ) -> None:
        self.cells, self.settings, self.planes, self.volumes = cells, settings, planes, volumes
        self._extents = [cell.extent for cell in cells]
        self._typical = float(np.median(self._extents))

    def __getitem__(self, i: int) -> Drawn:
        settings = self.settings
        epoch, place = divmod(i, len(self.cells))
        order = np.random.default_rng((settings.seed, 0, epoch)).permutation(len(self.cells))
        rng = np.random.default_rng((settings.seed, 1, i))
        which = int(order[place])
        paper = settings.method == "dispr"
        condition, clean = self._paper(self.cells[which]) if paper else self._ours(which, rng, i)
        source = torch.Generator().manual_seed(int(rng.integers(2**62)))
        noise = torch.randn((1, 2 if settings.scored else 1, *clean.shape[1:]), generator=source)
        return Drawn(condition, torch.from_numpy(clean)[None], noise)

    def _ours(self, which: int, rng: np.random.Generator, i: int) -> tuple[Condition, Array]:
        settings = self.settings
        # Numbers of their own, so that they do not change the rest of the sample.
        other = np.random.default_rng((settings.seed, 2, i))
        projection = self.volumes > 0 and other.random() < settings.projections
        further = self.volumes > 0 and not projection and other.random() < settings.further_planes
        cell = self.cells[which]
        extent = cell.silhouette_extent if projection else self._extents[which]
        # In some samples the true size is hidden, as the scale "auto" hides it: all cells get one size.
        hidden = rng.random() < settings.scale_dropout
        sample = augmented(
            cell,
            rng,
            scale=self._typical / extent if hidden else 1.0,
            resliced=settings.resliced,
            blended=settings.blended,
            partner=self.cells[int(rng.integers(len(self.cells)))],
            image_dropout=settings.image_dropout,
            with_stack=projection or further,
        )
        if projection:
            sample = projected(sample, other)
        scale = None if hidden else sample.scale
        known = Known.of(
            sample.mask, sample.image, further_planes(sample, other) if further else (), projection
        )
        planes = signed_planes(sample.mask, sample.image, scale)[: self.planes]
        clean = np.clip(sample.signed_distance / settings.truncation, -1, 1)[None]
        return self._condition(planes, known), clean.astype(np.float32)

    def _paper(self, cell: TrainingCell) -> tuple[Condition, Array]:
        """Without augmentation; shapes are 0 and 1."""
        sample = unaugmented(cell)
        condition = self._condition(
            dispr_planes(sample.mask, sample.image), Known.of(sample.mask, sample.image)
        )
        return condition, (sample.signed_distance > 0)[None].astype(np.float32)

    def _condition(self, planes: Array, known: Known) -> Condition:
        volumes = known.volumes()[None, : self.volumes]
        sections = filled_up([known], MOST_PLANES if self.volumes else 1)
        return Condition(torch.from_numpy(planes)[None], torch.from_numpy(volumes), *sections)


def joined(drawn: Sequence[Drawn]) -> Drawn:
    """Several samples as one batch."""
    conditions, clean, noise = zip(*drawn, strict=True)
    condition = Condition(*(torch.cat(kind) for kind in zip(*conditions, strict=True)))
    return Drawn(condition, torch.cat(clean), torch.cat(noise))


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
