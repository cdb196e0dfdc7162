"""A network in training: its optimisers, all gradients in one tensor, and the average of its weights."""

from copy import deepcopy
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from napari_dispr.diffusion.checkpoints import damaged
from napari_dispr.diffusion.devices import channels_last
from napari_dispr.diffusion.muon import Muon
from napari_dispr.diffusion.network import UNet
from napari_dispr.errors import InputError

#: A training ends after so many steps in a row without a finite gradient.
_MOST_LOST = 20

Network = TypeVar("Network", bound=UNet)


def _as_matrix(kernel: Tensor) -> Tensor:
    """Kernels (O, I, 3, ...) as (O, 27 I) or (O, 9 I); a view if they are stored channels last."""
    return kernel.movedim(1, -1).flatten(1)


class Trained(Generic[Network]):
    """A network, the exponential moving average of its weights, and their optimisers.

    The kernels of the network are stored channels last from now on. The learning rates are the peak rates of
    Muon, which trains the kernels of 3 voxels, and of AdamW, which trains the rest; without ``muon`` it
    trains all.
    """

    def __init__(
        self, network: Network, learning_rate: float, adam_learning_rate: float, *, muon: bool = True
    ) -> None:
        self.network = channels_last(network)
        self.average = deepcopy(self.network).requires_grad_(False)
        # Muon takes matrices: each kernel is a matrix through a view of the same (channels-last) storage.
        kernels = [p for p in self.network.parameters() if p.ndim >= 4 and p.shape[-1] == 3 and muon]
        ids = {id(p) for p in kernels}
        matrices = [nn.Parameter(_as_matrix(p.data)) for p in kernels]
        device = next(network.parameters()).device
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
        self._optimisers: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(others, lr=adam_learning_rate, weight_decay=0.0)
        ]
        self._peaks = [adam_learning_rate]
        if matrices:
            self._optimisers.insert(0, Muon(matrices, lr=learning_rate, weight_decay=0.0))
            self._peaks.insert(0, learning_rate)
        self._lost = 0

    def start_from(self, network: UNet) -> None:
        for own in (self.network, self.average):
            own.load_state_dict(network.state_dict())

    def apply(self, share: float, clip: float | None, decay: float) -> bool:
        """Make one optimiser step with the gradient, cut to the norm ``clip``, and set it to 0.

        The learning rates are their ``share`` of the peak; ``decay`` is that of the moving average, for this
        step. Returns False, and changes no weight, if the gradient is not finite.
        """
        norm = self.gradient.norm()
        if not torch.isfinite(norm):
            self.gradient.zero_()
            self._lost += 1
            return False
        self._lost = 0
        if clip is not None:
            self.gradient.mul_((clip / (norm + 1e-6)).clamp(max=1.0))
        for optimiser, peak in zip(self._optimisers, self._peaks, strict=True):
            for group in optimiser.param_groups:
                group["lr"] = share * peak
            optimiser.step()
        self.gradient.zero_()
        with torch.no_grad():
            for mean, now in zip(self.average.parameters(), self.network.parameters(), strict=True):
                mean.lerp_(now, 1 - decay)
        return True

    def check_finite(self) -> None:
        """Raise an InputError if the last gradients were not finite. The weights are those before them."""
        if self._lost >= _MOST_LOST:
            raise InputError("The loss is no longer finite: start a new run with lower learning rates.")

    def content(self) -> dict[str, Any]:
        """What a checkpoint holds of it."""
        return {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self._optimisers],
        }

    def restore(self, content: dict[str, Any], path: Path) -> None:
        """Continue from the `content` of a checkpoint; an InputError if it is of another network."""
        try:
            self.network.load_state_dict(content["network"])
            self.average.load_state_dict(content["average"])
            for optimiser, state in zip(self._optimisers, content["optimisers"], strict=True):
                optimiser.load_state_dict(state)
        except (RuntimeError, ValueError, KeyError) as error:
            raise damaged(path) from error


def warm_and_decayed(step: int, share: float, warmup: int, decay: float) -> float:
    """Share of the peak learning rates: a linear rise, a plateau, and a linear fall in the last ``decay``."""
    rise = (step + 1) / warmup if warmup else 1.0
    fall = (1 - share) / decay if decay else 1.0
    return min(1.0, rise, fall)


def average_decay(ema: float, steps: int) -> float:
    """Decay of the moving average after this number of steps; early averages forget the first weights."""
    return min(ema, (1 + steps) / (10 + steps))
