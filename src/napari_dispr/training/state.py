"""The state of a training run: a resumed run equals an unbroken one."""

from pathlib import Path

import torch

from napari_dispr.diffusion.checkpoints import read_checkpoint, write_checkpoint
from napari_dispr.diffusion.network import NetworkConfig, UNet3D, seeded
from napari_dispr.diffusion.optimisation import Trained, average_decay, warm_and_decayed
from napari_dispr.settings import TrainSettings

#: Settings that may change when a run is resumed.
_FREE = {"workers", "processes", "device", "patience"}
_COUNTERS = ("step", "taken", "clock", "validated", "lowest", "since_lowest", "cells")


class State(Trained[UNet3D]):
    """Network, moving average of its weights, optimisers and counters of a run.

    Random numbers need no state: those of a sample or a step depend on the seed and its number.

    Attributes
    ----------
    step, taken : int
        Optimiser steps, and samples that they used.
    lowest : list of float
        The scores of the cells in the validation with the lowest mean.
    since_lowest : int
        Validations after that one.
    cells : list of str
        Name and checksum of each training cell, in order.
    """

    def __init__(self, settings: TrainSettings, config: NetworkConfig, device: torch.device) -> None:
        with seeded(settings.seed):
            network = UNet3D(config)
        super().__init__(
            network.to(device),
            settings.learning_rate,
            settings.adam_learning_rate,
            muon=settings.method != "dispr",
        )
        self.step = self.taken = self.validated = self.since_lowest = 0
        self.clock = 0.0
        self.lowest: list[float] = []
        self.cells: list[str] = []
        self.settings = settings
        #: False during an update: then the state must not be saved.
        self.consistent = True

    @property
    def share(self) -> float:
        """Share of the budget that is used, from 0 to 1."""
        if self.settings.minutes is not None:
            return min(1.0, self.clock / (60 * self.settings.minutes))
        return min(1.0, self.step / self.settings.steps)

    @property
    def scored(self) -> bool:
        """Whether the next step trains by the energy score."""
        if self.settings.minutes is not None:
            return self.settings.scored > 0 and self.share >= 1 - self.settings.scored
        return self.step >= self.settings.flow_steps

    @property
    def settling(self) -> bool:
        """Whether weights now improve steadily: scored steps, or a falling learning rate."""
        return self.scored or self.share >= 1 - self.settings.decay

    @property
    def learning_rate_share(self) -> float:
        """Share of the peak rates: a linear rise, a plateau, and a linear fall to 0 at the end."""
        return warm_and_decayed(self.step, self.share, self.settings.warmup, self.settings.decay)

    def update(self, samples: int) -> None:
        """Make a step; only the samples count if the gradient is not finite."""
        self.consistent = False
        decay = self.settings.ema
        if self.settings.method != "dispr":
            decay = average_decay(decay, self.step + 1)
        self.step += self.apply(self.learning_rate_share, self.settings.clip, decay)
        self.taken += samples
        self.consistent = True

    def save(self, path: Path) -> None:
        counters = {name: getattr(self, name) for name in _COUNTERS}
        write_checkpoint(path, {**self.content(), "settings": self.settings.model_dump(), **counters})

    def load(self, path: Path) -> None:
        """Continue from a saved state; see `read_checkpoint` for the errors."""
        names = ("network", "average", "optimisers", *_COUNTERS)
        content = read_checkpoint(path, names, self.settings, free=_FREE, cells=self.cells)
        self.restore(content, path)
        for name in _COUNTERS:
            setattr(self, name, content[name])
