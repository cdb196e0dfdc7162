"""Forward processes and their losses: Gaussian diffusion (the paper) and rectified flow (ours).

A process defines x_t = signal(t) x_0 + noise(t) e, the times that a sampler visits, and the training loss.
Numbers are float64; only in operations with tensors they become float32.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, repeat
from typing import Annotated, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

Array = NDArray[np.float64]


class Process(Protocol):
    """What samplers need. Times decrease from noise to the clean shape."""

    def times(self, steps: int) -> tuple[float, ...]:
        """The steps + 1 times that a sampler visits; at the last time signal is 1 and noise 0."""

    def signal(self, t: float) -> float:
        """Factor of the clean shape in x_t."""

    def noise(self, t: float) -> float:
        """Standard deviation of the noise in x_t."""


# --- rectified flow ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class RectifiedFlow:
    """x_t = (1 - t) x_0 + t e, t in [0, 1] (Liu et al., arXiv 2209.03003); the network predicts x_0.

    Attributes
    ----------
    shift : float
        Moves times towards noise: t' = s t / (1 + (s - 1) t) (Esser et al., arXiv 2403.03206, Eq. 23), in
        training and in sampling. Neighbouring voxels of a smooth shape are so similar that t > 0.95
        decides its volume.
    """

    shift: Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)] = 12.0

    def shifted(self, t: Tensor) -> Tensor:
        """Times moved towards noise."""
        return self.shift * t / (1 + (self.shift - 1) * t)

    def times(self, steps: int, first: float = 1.0) -> tuple[float, ...]:
        return tuple(
            self.shifted(torch.linspace(self._even(first), 0, steps + 1, dtype=torch.float64)).tolist()
        )

    def _even(self, t: float) -> float:
        """The inverse of `shifted`."""
        return t / (self.shift - (self.shift - 1) * t)

    def signal(self, t: float) -> float:
        return 1.0 - t

    def noise(self, t: float) -> float:
        return t

    def training_times(self, count: int, generator: torch.Generator) -> Tensor:
        """Logit-normal times, shifted, shape (count,)."""
        return self.shifted(torch.sigmoid(torch.randn(count, generator=generator)))

    def diffuse(self, clean: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """x_t of clean shapes (B, 1, D, H, W) at times (B,)."""
        t = t.view(-1, 1, 1, 1, 1)
        return (1 - t) * clean + t * noise


# --- Gaussian diffusion -----------------------------------------------------------------------------


def linear_betas(steps: int) -> Array:
    """The linear schedule of the paper: 1e-4 to 0.02 for 1000 steps, scaled for others."""
    scale = 1000 / steps
    return np.linspace(scale * 1e-4, scale * 0.02, steps, dtype=np.float64)


def cosine_betas(steps: int, factor: float = 1.0) -> Array:
    """The cosine schedule (Nichol & Dhariwal, arXiv 2102.09672, Eq. 17).

    With signal / noise divided by ``factor`` (Hoogeboom et al., arXiv 2301.11093) it decides the content at
    higher noise: neighbouring pixels of pictures of one cell are very similar.
    """
    edges = np.arange(steps + 1, dtype=np.float64) / steps
    bar = np.cos((edges + 0.008) / 1.008 * np.pi / 2) ** 2
    bar = bar / (bar + factor**2 * (1 - bar))
    return np.minimum(1 - bar[1:] / bar[:-1], 0.999)


def respaced(steps: int, count: int) -> list[int]:
    """``count`` (2 or more) evenly spaced timesteps of 0 ... ``steps`` - 1, ascending, as in the original."""
    stride = (steps - 1) / (count - 1)
    # Added up, not multiplied: the rounding of the original depends on it.
    return [round(at) for at in accumulate(repeat(stride, count - 1), initial=0.0)]


@dataclass(frozen=True)
class Posterior:
    """q(x_s | x_t, x_0) between two visited times s < t (Eqs. 10 to 12 of Ho et al., arXiv 2006.11239).

    ``clean`` and ``current`` are the factors of x_0 and x_t in the mean. ``log_beta`` is the logarithm of
    the upper bound of the variance, ``log_variance`` that of the lower bound, the posterior variance; it is
    clipped at the last step, where it is 0.
    """

    clean: float
    current: float
    log_beta: float
    log_variance: float


@dataclass(frozen=True)
class GaussianDiffusion:
    """The process of the paper, Eqs. 1 to 6; the network predicts the noise.

    Attributes
    ----------
    variance : "learned_range", "fixed_small" or "fixed_large"
        Variance of a denoising step: one of the two bounds, or the network's second channel interpolates
        them.
    rescale_timesteps : bool
        The network gets t * 1000 / T instead of t.
    predicts : "noise", "shape" or "velocity"
        The network's first channel. The velocity (Salimans & Ho, arXiv 2202.00512) is signal times noise
        minus noise level times shape: it can be predicted well at all times.
    """

    steps: Annotated[int, Field(ge=1, le=100_000)] = 1000
    schedule: Literal["linear", "cosine", "later cosine"] = "linear"
    variance: Literal["learned_range", "fixed_small", "fixed_large"] = "learned_range"
    rescale_timesteps: bool = False
    predicts: Literal["noise", "shape", "velocity"] = "noise"

    @cached_property
    def alphas_bar(self) -> Array:
        """Cumulative product of 1 - beta, shape (T,). Eq. 2."""
        if self.schedule == "linear":
            betas = linear_betas(self.steps)
        else:
            betas = cosine_betas(self.steps, 1.0 if self.schedule == "cosine" else 4.0)
        return np.cumprod(1.0 - betas, dtype=np.float64)

    def alpha_bar(self, t: float) -> float:
        """At an integer timestep; -1 is the clean shape."""
        return 1.0 if t < 0 else float(self.alphas_bar[int(t)])

    def signal(self, t: float) -> float:
        return self.alpha_bar(t) ** 0.5

    def noise(self, t: float) -> float:
        return (1.0 - self.alpha_bar(t)) ** 0.5

    def times(self, steps: int) -> tuple[float, ...]:
        if steps == 1:  # the original would keep t = 0, where there is no noise to remove
            return (self.steps - 1.0, -1.0)
        return tuple(float(t) for t in reversed([-1, *respaced(self.steps, steps)]))

    def even_times(self, steps: int) -> tuple[float, ...]:
        """The noisiest time; then times at which noise / signal falls evenly, in its logarithm, from 100 to
        0.05; then -1.

        With these times a solver of few steps keeps the strength of all details. Normal details, whose
        denoiser is known, of 0.3 of the standard deviation of a picture keep 0.998 of it in 12 steps of
        DPM-Solver++. In 12 steps of DDIM at even timesteps they keep 0.49 of it.

        At the noisiest time nothing is left of the picture. Without that time pictures would be too dim:
        what many pixels have in common, such as the light of a cell, still shows in the noise at the next
        time, and noise alone does not hold it (Lin et al., arXiv 2305.08891).
        """
        ratio = np.log(1 / self.alphas_bar - 1) / 2
        nearest = [int(np.abs(ratio - log).argmin()) for log in np.log(np.geomspace(100, 0.05, steps - 1))]
        return (*map(float, dict.fromkeys((self.steps - 1, *nearest))), -1.0)

    def network_time(self, t: Tensor) -> Tensor:
        """The time as input of the network."""
        return t.float() * (1000.0 / self.steps) if self.rescale_timesteps else t

    def posterior(self, t: float, s: float, before: float | None) -> Posterior:
        """Between visited times s < t; ``before`` is the time visited just before t, if any.

        At the last step (s = -1) the posterior variance is 0. For its logarithm the original uses the
        variance of the step before.
        """
        bar_t, bar_s = self.alpha_bar(t), self.alpha_bar(s)
        beta = 1.0 - bar_t / bar_s
        if s < 0 and before is not None:
            bar_before = self.alpha_bar(before)
            variance = (1.0 - bar_before / bar_t) * (1.0 - bar_t) / (1.0 - bar_before)
        else:
            variance = beta * (1.0 - bar_s) / (1.0 - bar_t)
        return Posterior(
            clean=beta * bar_s**0.5 / (1.0 - bar_t),
            current=(1.0 - bar_s) * (1.0 - beta) ** 0.5 / (1.0 - bar_t),
            log_beta=float(np.log(beta)),
            log_variance=float(np.log(max(variance, 1e-20))),
        )

    def log_variance(self, posterior: Posterior, fraction: Tensor | None) -> Tensor:
        """Logarithm of the variance of a denoising step; ``fraction`` is the network's second channel."""
        if self.variance == "learned_range":
            if fraction is None:
                raise ValueError("A learned variance needs a network with two output channels.")
            share = (fraction + 1) / 2
            return share * posterior.log_beta + (1 - share) * posterior.log_variance
        # The large variance is beta, except at the last step, where beta is far too small.
        large = self.variance == "fixed_large" and posterior.clean < 1.0
        return torch.tensor(posterior.log_beta if large else posterior.log_variance)

    def clean_shape(self, x: Tensor, t: Tensor, prediction: Tensor) -> Tensor:
        """x_0 from x_t and the network's first channel. Eq. 3 solved for x_0."""
        if self.predicts == "shape":
            return prediction
        bar = _at(self.alphas_bar, t, x.ndim)
        if self.predicts == "velocity":
            return bar.sqrt().float() * x - (1.0 - bar).sqrt().float() * prediction
        return (1.0 / bar).sqrt().float() * x - (1.0 / bar - 1).sqrt().float() * prediction

    def target(self, clean: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """What the network's first channel is to be."""
        if self.predicts == "velocity":
            bar = _at(self.alphas_bar, t, clean.ndim)
            return bar.sqrt().float() * noise - (1.0 - bar).sqrt().float() * clean
        return noise if self.predicts == "noise" else clean

    def diffuse(self, clean: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """x_t of clean shapes (B, 1, ...) at integer timesteps (B,). Eq. 3."""
        bar = _at(self.alphas_bar, t, clean.ndim)
        return bar.sqrt().float() * clean + (1.0 - bar).sqrt().float() * noise

    def loss(self, output: Tensor, clean: Tensor, x: Tensor, t: Tensor, noise: Tensor) -> dict[str, Tensor]:
        """The hybrid loss of the original for each sample of a batch.

        ``output`` (B, 2, D, H, W) is the network's prediction and the fraction of the variance. Returns (B,)
        each: ``mse`` (Eq. 4), ``vb`` (variational bound, mean bits per dimension; its mean is detached) and
        their sum ``loss``.
        """
        prediction, fraction = output.chunk(2, dim=1) if output.shape[1] == 2 else (output, None)
        terms = {"mse": ((self.target(clean, t, noise) - prediction) ** 2).mean(dim=(1, 2, 3, 4))}
        terms["loss"] = terms["mse"]
        if self.variance == "learned_range":
            terms["vb"] = self._bound(prediction.detach(), fraction, clean, x, t)
            terms["loss"] = terms["mse"] + terms["vb"]
        return terms

    def _bound(
        self, prediction: Tensor, fraction: Tensor | None, clean: Tensor, x: Tensor, t: Tensor
    ) -> Tensor:
        predicted = self.clean_shape(x, t, prediction)
        bits = []
        for i, step in enumerate(t.tolist()):
            before = step + 1 if step + 1 < self.steps else None
            q = self.posterior(step, step - 1, before)
            log_variance = self.log_variance(q, None if fraction is None else fraction[i])
            mean = q.clean * predicted[i] + q.current * x[i]
            if step == 0:  # likelihood of the shape itself
                nats = -discretised_log_likelihood(clean[i], mean, 0.5 * log_variance)
            else:
                true_mean = q.clean * clean[i] + q.current * x[i]
                nats = gaussian_kl(true_mean, q.log_variance, mean, log_variance)
            bits.append(nats.mean() / np.log(2.0))
        return torch.stack(bits)


def _at(values: Array, t: Tensor, axes: int) -> Tensor:
    """Entries of a float64 array at integer timesteps (B,), shape (B, 1, ...) with this number of axes."""
    # Indexed on the CPU: some accelerators have no float64.
    picked = torch.from_numpy(values)[t.long().cpu()].view(-1, *[1] * (axes - 1))
    return picked if t.device.type == "cpu" else picked.float().to(t.device)


def gaussian_kl(mean: Tensor, log_variance: float, other_mean: Tensor, other_log_variance: Tensor) -> Tensor:
    """KL divergence of two Gaussians with diagonal covariance for each voxel, in nats."""
    return 0.5 * (
        -1.0
        + other_log_variance
        - log_variance
        + torch.exp(log_variance - other_log_variance)
        + (mean - other_mean) ** 2 * torch.exp(-other_log_variance)
    )


def _approximate_cdf(x: Tensor) -> Tensor:
    """Cumulative distribution of the standard normal, by the tanh approximation of the original."""
    return 0.5 * (1.0 + torch.tanh(np.sqrt(2.0 / np.pi) * (x + 0.044715 * x**3)))


def discretised_log_likelihood(x: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """Log likelihood of x, in [-1, 1] in steps of 2/255, under a Gaussian, in nats."""
    centred, inverse = x - mean, torch.exp(-log_scale)
    above = _approximate_cdf(inverse * (centred + 1.0 / 255.0))
    below = _approximate_cdf(inverse * (centred - 1.0 / 255.0))
    tiny = 1e-12
    return torch.where(
        x < -0.999,
        above.clamp(min=tiny).log(),
        torch.where(x > 0.999, (1.0 - below).clamp(min=tiny).log(), (above - below).clamp(min=tiny).log()),
    )


def flow_loss(predicted: Tensor, clean: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean squared error of predicted clean shapes, (B,)."""
    return (weight * (predicted.float() - clean) ** 2).mean(dim=(1, 2, 3, 4))
