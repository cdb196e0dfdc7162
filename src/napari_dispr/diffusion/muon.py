"""The optimiser Muon, fast also on processors without 16-bit arithmetic."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from napari_dispr.diffusion.devices import fast_dtype

#: The polynomial a x + b x^3 + c x^5, applied five times, which brings singular values near 1.
_A, _B, _C, _TIMES = 3.4445, -4.775, 2.0315, 5


class Muon(torch.optim.Muon):
    """As PyTorch's Muon, with the same state.

    PyTorch's Muon always multiplies matrices in 16 bit. Without hardware for it this takes most of a training
    step of a small network.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Make one step; no closure is called."""
        for group in self.param_groups:
            for matrix in group["params"]:
                state, gradient = self.state[matrix], matrix.grad
                if gradient is None:
                    continue
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(gradient)
                momentum = state["momentum_buffer"].lerp_(gradient, 1 - group["momentum"])
                update = orthogonalised(gradient.lerp(momentum, group["momentum"]))
                ratio = max(1, matrix.shape[0] / matrix.shape[1]) ** 0.5
                matrix.mul_(1 - group["lr"] * group["weight_decay"])
                matrix.add_(update, alpha=-group["lr"] * ratio)


def orthogonalised(matrix: Tensor) -> Tensor:
    """The matrix with all its singular values near 1 (0.7 to 1.2), by Newton-Schulz iterations."""
    x = (matrix / matrix.norm().clamp(min=1e-7)).to(fast_dtype(matrix.device))
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    for _ in range(_TIMES):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=_B, alpha=_C), x, beta=_A)
    return x.T if tall else x
