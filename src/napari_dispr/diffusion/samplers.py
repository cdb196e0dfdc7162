"""Samplers: generator functions of one signature over one denoiser protocol.

Each takes ``(denoiser, x, times, fresh_noise)`` and yields x after every evaluation of the network;
the last one is the clean shape. Closing the generator ends the work. A new sampler is a function
here and a name in ``SAMPLERS``.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from napari_dispr.diffusion.process import GaussianDiffusion, Process


@dataclass(frozen=True, slots=True)
class Denoised:
    """A denoiser's answer: the clean shape (B, 1, D, H, W), and where variance is learned its fraction."""

    clean: Tensor
    variance_fraction: Tensor | None = None


class Denoiser(Protocol):
    """A network, its process and its condition as one call."""

    @property
    def process(self) -> Process:
        """Whose times the samplers visit."""

    def __call__(self, x: Tensor, t: float) -> Denoised:
        """The clean shape that x_t points to."""


FreshNoise = Callable[[], Tensor]
Sampler = Callable[[Denoiser, Tensor, Sequence[float], FreshNoise], Iterator[Tensor]]


def ddpm(denoiser: Denoiser, x: Tensor, times: Sequence[float], fresh_noise: FreshNoise) -> Iterator[Tensor]:
    """Ancestral sampling, Eqs. 5 and 6 of the paper (with the minus sign that they lack).

    Works for any respacing of a Gaussian diffusion: variances follow from the times visited. At the
    last time the result is the predicted clean shape, without noise.
    """
    process = denoiser.process
    if not isinstance(process, GaussianDiffusion):
        raise TypeError("DDPM samples a Gaussian diffusion.")
    before = None
    for t, s in pairwise(times):
        denoised = denoiser(x, t)
        q = process.posterior(t, s, before)
        x = q.clean * denoised.clean + q.current * x  # Eq. 5, written with x_0
        if s >= 0:
            log_variance = process.log_variance(q, denoised.variance_fraction)
            x = x + torch.exp(0.5 * log_variance) * fresh_noise()  # Eq. 6
        before = t
        yield x


def ddim(
    denoiser: Denoiser,
    x: Tensor,
    times: Sequence[float],
    fresh_noise: FreshNoise,
    eta: float = 0.0,
) -> Iterator[Tensor]:
    """DDIM (Song et al., arXiv 2010.02502, Eq. 12); ``eta`` 0 is deterministic, 1 as noisy as DDPM.

    Written for any signal and noise level, so that it serves rectified flow too, where it is the
    Euler method for eta = 0.
    """
    process = denoiser.process
    for t, s in pairwise(times):
        clean = denoiser(x, t).clean
        noise = (x - process.signal(t) * clean) / process.noise(t)
        signal_ratio, noise_ratio = process.signal(t) / process.signal(s), process.noise(s) / process.noise(t)
        fresh = eta * process.noise(s) * math.sqrt(max(0.0, 1 - (signal_ratio * noise_ratio) ** 2))
        x = process.signal(s) * clean + math.sqrt(process.noise(s) ** 2 - fresh**2) * noise
        if fresh > 0:
            x = x + fresh * fresh_noise()
        yield x


def euler(denoiser: Denoiser, x: Tensor, times: Sequence[float], fresh_noise: FreshNoise) -> Iterator[Tensor]:
    """Straight steps towards the predicted clean shape (first order)."""
    return ddim(denoiser, x, times, fresh_noise)


def dpm_solver_2m(
    denoiser: Denoiser, x: Tensor, times: Sequence[float], fresh_noise: FreshNoise
) -> Iterator[Tensor]:
    """DPM-Solver++(2M) (Lu et al., arXiv 2211.01095, Algorithm 2), multistep, deterministic.

    First order wherever lambda = log(signal / noise) is infinite: from pure noise, and into the
    clean shape.
    """
    process = denoiser.process

    def log_ratio(t: float) -> float:
        signal, noise = process.signal(t), process.noise(t)
        if signal == 0 or noise == 0:
            return -math.inf if signal == 0 else math.inf
        return math.log(signal / noise)

    last_clean, last_step = None, math.inf
    for t, s in pairwise(times):
        clean = denoiser(x, t).clean
        step = log_ratio(s) - log_ratio(t)
        target = clean
        if last_clean is not None and math.isfinite(step) and math.isfinite(last_step):
            target = clean + (clean - last_clean) * (step / (2 * last_step))
        noise_ratio = process.noise(s) / process.noise(t)
        x = noise_ratio * x + (process.signal(s) - process.signal(t) * noise_ratio) * target
        last_clean, last_step = clean, step
        yield x


SAMPLERS: dict[str, Sampler] = {
    "ddpm": ddpm,
    "ddim": ddim,
    "dpm-solver++": dpm_solver_2m,
    "euler": euler,
}
