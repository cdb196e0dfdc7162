"""The state of a training run, and checkpoint files: a resumed run equals an unbroken one."""

import io
from collections.abc import Collection, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from napari_dispr.diffusion.devices import channels_last
from napari_dispr.diffusion.network import NetworkConfig, UNet3D
from napari_dispr.errors import InputError
from napari_dispr.files import written_aside
from napari_dispr.settings import Settings, TrainSettings

#: Settings that may change when a run is resumed.
_FREE = {"workers", "processes", "device", "patience"}
_COUNTERS = ("step", "taken", "clock", "validated", "lowest", "since_lowest", "cells")


def _as_matrix(kernel: Tensor) -> Tensor:
    """Kernels (O, I, 3, 3, 3) as (O, 27 I); a view if they are stored channels last."""
    return kernel.permute(0, 2, 3, 4, 1).flatten(1)


class State:
    """Network, averaged network, optimisers and counters of a run.

    Random numbers need no state: those of a sample or a step depend on the seed and its number.

    Attributes
    ----------
    network, average : UNet3D
        The trained network, and the exponential moving average of its weights.
    step, taken : int
        Optimiser steps, and samples that they used.
    clock : float
        Seconds of training.
    validated : int
        Number of validations.
    lowest : list of float
        The scores of the cells in the validation with the lowest mean.
    since_lowest : int
        Validations after that one.
    cells : list of str
        Name and checksum of each training cell, in order.
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
        # Muon takes matrices: each kernel is a matrix through a view of the same (channels-last) storage.
        paper = settings.method == "dispr"
        kernels = [p for p in self.network.parameters() if p.ndim == 5 and p.shape[-1] == 3 and not paper]
        ids = {id(p) for p in kernels}
        matrices = [nn.Parameter(_as_matrix(p.data)) for p in kernels]
        #: All gradients in one tensor. Each parameter's gradient is a view of it, so that one operation sums
        #: them over the processes, clips them or sets them to 0.
        self.gradient = torch.zeros(sum(p.numel() for p in self.network.parameters()), device=device)
        first = 0
        for p in self.network.parameters():
            p.grad = torch.as_strided(self.gradient, p.shape, p.stride(), first)
            first += p.numel()
        for kernel, matrix in zip(kernels, matrices, strict=True):
            assert kernel.grad is not None
            matrix.grad = _as_matrix(kernel.grad)
        others = [p for p in self.network.parameters() if id(p) not in ids]
        self.optimisers: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(others, lr=settings.adam_learning_rate, weight_decay=0.0)
        ]
        self._peaks = [settings.adam_learning_rate]
        if matrices:
            muon = torch.optim.Muon(matrices, lr=settings.learning_rate, weight_decay=0.0)
            self.optimisers.insert(0, muon)
            self._peaks.insert(0, settings.learning_rate)
        #: False during an update: then the state must not be saved.
        self.consistent = True

    def start_from(self, network: UNet3D) -> None:
        """Copy the weights of another network of the same topology."""
        for own in (self.network, self.average):
            own.load_state_dict(network.state_dict())

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
        rise = (self.step + 1) / self.settings.warmup if self.settings.warmup else 1.0
        fall = (1 - self.share) / self.settings.decay if self.settings.decay else 1.0
        return min(1.0, rise, fall)

    def update(self, samples: int) -> None:
        """Make one optimiser step with the gradients of ``samples`` samples."""
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

    def save(self, path: Path) -> None:
        content = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "settings": self.settings.model_dump(),
            **{name: getattr(self, name) for name in _COUNTERS},
        }
        write_checkpoint(path, content)

    def load(self, path: Path) -> None:
        """Continue from a saved state; see `read_checkpoint` for the errors."""
        names = ("network", "average", "optimisers", *_COUNTERS)
        content = read_checkpoint(path, names, self.settings, free=_FREE, cells=self.cells)
        self.network.load_state_dict(content["network"])
        self.average.load_state_dict(content["average"])
        for optimiser, state in zip(self.optimisers, content["optimisers"], strict=True):
            optimiser.load_state_dict(state)
        for name in _COUNTERS:
            setattr(self, name, content[name])


# --- checkpoint files ---------------------------------------------------------------------------------


def write_checkpoint(path: Path, content: Mapping[str, Any]) -> None:
    """Write to a temporary file, then rename it."""
    whole = io.BytesIO()  # torch's own writer does not report a full disk
    torch.save(dict(content), whole)
    with written_aside(path) as aside:
        aside.write_bytes(whole.getbuffer())


def topology_for(path: Path, config: NetworkConfig) -> NetworkConfig:
    """The topology of the network in a checkpoint: ``config``, or that of a version without volumes."""
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True, mmap=True)["network"]
        return config if "known.weight" in weights else replace(config, volumes=0)
    except MemoryError:
        raise
    except Exception as error:  # a damaged file can raise anything
        raise _damaged(path) from error


def read_checkpoint(
    path: Path,
    names: Collection[str],
    settings: Settings,
    *,
    free: set[str],
    cells: Sequence[str],
    device: torch.device | None = None,
) -> dict[str, Any]:
    """Read the state that a run continues from.

    Parameters
    ----------
    names : collection of str
        Required content.
    settings, cells
        Must be equal to those of the checkpoint, except for settings in ``free``; no cells: not compared.

    Raises
    ------
    InputError
        If the file is damaged, or the run has other settings or cells.
    """
    try:
        content: dict[str, Any] = torch.load(path, map_location=device or "cpu", weights_only=True)
        before = dict(content["settings"])
        missing = set(names) - content.keys()
    except MemoryError:
        raise
    except Exception as error:  # a damaged file can raise anything
        raise _damaged(path) from error
    if missing:
        raise _damaged(path)
    own = settings.model_dump(exclude=free)
    # Settings that the checkpoint's version did not have have no effect on its network.
    if other := [name for name, value in own.items() if before.get(name, value) != value]:
        raise InputError(
            f"The run in {path.parent} was started with another {other[0]} ({before.get(other[0])}): "
            "resume it with the same settings."
        )
    if cells and content["cells"] != list(cells):
        raise InputError(
            f"The run in {path.parent} was started with other cells: resume it with the same cells."
        )
    return content


def _damaged(path: Path) -> InputError:
    return InputError(
        f"The checkpoint {path} is damaged, or another version wrote it: move it away to start again."
    )
