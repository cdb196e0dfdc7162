"""All that changes while training, saved whole, so that a resumed run equals one that went on."""

from copy import deepcopy
from pathlib import Path

import torch
from torch import Tensor, nn

from napari_dispr.diffusion.devices import channels_last
from napari_dispr.diffusion.network import NetworkConfig, UNet3D
from napari_dispr.settings import TrainSettings
from napari_dispr.training.checkpoints import read_checkpoint, write_checkpoint

#: What a run that goes on may change.
_FREE = {"workers", "processes", "device", "patience"}


def _as_matrix(kernel: Tensor) -> Tensor:
    """Kernels (O, I, 3, 3, 3) as (O, 27 I); a view, where they are stored channels last."""
    return kernel.permute(0, 2, 3, 4, 1).flatten(1)


class State:
    """Network, its average, optimisers and counters of a run.

    Random numbers need no state: each sample and each step draws its own from the seed and its number.

    Attributes
    ----------
    network, average : UNet3D
        The one that is trained, and the exponential moving average of its weights.
    step, taken : int
        Optimiser steps, and samples that went into them.
    clock : float
        Seconds of training.
    validated : int
        Validations done.
    lowest : list of float
        Scores of the cells in the validation that had the lowest mean.
    since_lowest : int
        Validations after it.
    cells : list of str
        Names of the training cells and what tells their shapes apart, in their order.
    """

    def __init__(self, settings: TrainSettings, config: NetworkConfig, device: torch.device) -> None:
        torch.manual_seed(settings.seed)
        self.network = channels_last(UNet3D(config).to(device))
        self.average = deepcopy(self.network).requires_grad_(False)
        self.step = self.taken = self.validated = self.since_lowest = 0
        self.clock = 0.0
        self.lowest: list[float] = []
        self.cells: list[str] = []
        self.settings = settings
        # Muon takes matrices: each kernel is seen as one, through a view of the same (channels-last) storage.
        paper = settings.method == "dispr"
        self._kernels = [
            p for p in self.network.parameters() if p.ndim == 5 and p.shape[-1] == 3 and not paper
        ]
        ids = {id(p) for p in self._kernels}
        self._matrices = [nn.Parameter(_as_matrix(p.data)) for p in self._kernels]
        #: All gradients, one after the other: each parameter's is a view, so that they are summed up over
        #: processes, cut and set to 0 as one.
        self.gradient = torch.zeros(sum(p.numel() for p in self.network.parameters()), device=device)
        first = 0
        for p in self.network.parameters():
            p.grad = torch.as_strided(self.gradient, p.shape, p.stride(), first)
            first += p.numel()
        for kernel, matrix in zip(self._kernels, self._matrices, strict=True):
            assert kernel.grad is not None
            matrix.grad = _as_matrix(kernel.grad)
        others = [p for p in self.network.parameters() if id(p) not in ids]
        self.optimisers: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(others, lr=settings.adam_learning_rate, weight_decay=0.0)
        ]
        self._peaks = [settings.adam_learning_rate]
        if self._matrices:
            muon = torch.optim.Muon(self._matrices, lr=settings.learning_rate, weight_decay=0.0)
            self.optimisers.insert(0, muon)
            self._peaks.insert(0, settings.learning_rate)
        #: False in the middle of an update, where an interrupted run must not be saved.
        self.consistent = True

    def begin_with(self, network: UNet3D) -> None:
        """Take over the weights of another network of the same topology."""
        for own in (self.network, self.average):
            own.load_state_dict(network.state_dict())

    @property
    def share(self) -> float:
        """Of the budget, how much is used up; 1 at its end."""
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
        """Whether what remains of the budget makes weights better: scored, or at a falling rate."""
        return self.scored or self.share >= 1 - self.settings.decay

    @property
    def learning_rate_share(self) -> float:
        """Of the peak rates: a linear rise, a plateau, and a linear fall to 0 at the end."""
        rise = (self.step + 1) / self.settings.warmup if self.settings.warmup else 1.0
        fall = (1 - self.share) / self.settings.decay if self.settings.decay else 1.0
        return min(1.0, rise, fall)

    def update(self, samples: int) -> None:
        """One optimiser step with the gradients at hand, of so many samples."""
        self.consistent = False
        share = self.learning_rate_share
        if self.settings.clip is not None:
            self.gradient.mul_((self.settings.clip / (self.gradient.norm() + 1e-6)).clamp(max=1.0))
        for optimiser, peak in zip(self.optimisers, self._peaks, strict=True):
            for group in optimiser.param_groups:
                group["lr"] = share * peak
            optimiser.step()
        self.gradient.zero_()
        self.step += 1
        self.taken += samples
        decay = self.settings.ema
        if self.settings.method != "dispr":  # early averages are short, so that they forget the first weights
            decay = min(decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for mean, now in zip(self.average.parameters(), self.network.parameters(), strict=True):
                mean.lerp_(now, 1 - decay)
        self.consistent = True

    # --- files --------------------------------------------------------------------------------------

    def save(self, path: Path) -> None:
        """Write the whole state aside, then rename."""
        content = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "settings": self.settings.model_dump(),
            **{name: getattr(self, name) for name in _COUNTERS},
        }
        write_checkpoint(path, content)

    def load(self, path: Path) -> None:
        """Continue where :meth:`save` was called.

        Raises
        ------
        InputError
            If the file is none of ours, or the run was begun with other settings or cells.
        """
        names = ("network", "average", "optimisers", *_COUNTERS)
        content = read_checkpoint(path, names, self.settings, free=_FREE, cells=self.cells)
        self.network.load_state_dict(content["network"])
        self.average.load_state_dict(content["average"])
        for optimiser, state in zip(self.optimisers, content["optimisers"], strict=True):
            optimiser.load_state_dict(state)
        for name in _COUNTERS:
            setattr(self, name, content[name])


_COUNTERS = ("step", "taken", "clock", "validated", "lowest", "since_lowest", "cells")
