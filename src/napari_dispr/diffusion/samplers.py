"""Samplers and denoisers: generator functions of one signature, and networks as one call.

A sampler takes ``(denoiser, x, times, fresh_noise)`` and yields x after every evaluation of the network;
the last x is the clean shape. A new sampler is a function here and a name in ``SAMPLERS``.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from itertools import pairwise
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_dispr import grid
from napari_dispr.diffusion.network import UNet, UNet3D
from napari_dispr.diffusion.process import GaussianDiffusion, Process, RectifiedFlow

#: Standard deviation along z, in voxels, of a correction of a section, if no other section is near.
CORRECTION_DEPTH = 3.0
#: The same as a share of the distance to the nearest other section, so that no correction undoes another.
CORRECTION_SHARE = 2 / 3
#: The surface may be this many times nearer than the edge of the section (flat cells: 1 in 3), ...
NEARER = 3.0
#: ... and with several sections, between which corrections are interpolated. Lower limits score better there.
NEARER_OF_SEVERAL = 4 / 3
#: Signed distance that a silhouette demands in each of its columns, and an empty section outside the cell, in
#: units of the truncation.
CLEAR = 0.08


@dataclass(frozen=True, slots=True)
class Denoised:
    """Predicted clean shapes (B, 1, D, H, W) and, for learned variances, the variance fraction."""

    clean: Tensor
    variance_fraction: Tensor | None = None


class Denoiser(Protocol):
    """A network with its process and its condition."""

    @property
    def process(self) -> Process:
        """Defines the times that samplers visit."""

    def __call__(self, x: Tensor, t: float) -> Denoised:
        """Predict the clean shapes from x at time t."""


FreshNoise = Callable[[], Tensor]
Adjust = Callable[[NDArray[np.float32]], NDArray[np.float32]]
Sampler = Callable[[Denoiser, Tensor, Sequence[float], FreshNoise], Iterator[Tensor]]


def ddpm(denoiser: Denoiser, x: Tensor, times: Sequence[float], fresh_noise: FreshNoise) -> Iterator[Tensor]:
    """Ancestral sampling, Eqs. 5 and 6 of the paper (with the minus sign that they lack).

    The variances follow from the times visited. At the last time the result is the predicted clean shape,
    without noise.
    """
    process = denoiser.process
    if not isinstance(process, GaussianDiffusion):
        raise TypeError("DDPM needs a Gaussian diffusion.")
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


def ddim(denoiser: Denoiser, x: Tensor, times: Sequence[float], fresh_noise: FreshNoise) -> Iterator[Tensor]:
    """DDIM (Song et al., arXiv 2010.02502, Eq. 12), deterministic: straight steps towards the clean shape.

    Works for any signal and noise level; for rectified flow it is the Euler method.
    """
    process = denoiser.process
    for t, s in pairwise(times):
        clean = denoiser(x, t).clean
        if process.noise(s):
            noise = (x - process.signal(t) * clean) / process.noise(t)
            x = process.signal(s) * clean + process.noise(s) * noise
        else:
            x = process.signal(s) * clean
        yield x


def dpm_solver_2m(
    denoiser: Denoiser, x: Tensor, times: Sequence[float], fresh_noise: FreshNoise
) -> Iterator[Tensor]:
    """DPM-Solver++(2M) (Lu et al., arXiv 2211.01095, Algorithm 2), multistep, deterministic.

    First order where lambda = log(signal / noise) is infinite: at the first and at the last step.
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
    "euler": ddim,
}


# --- denoisers ---------------------------------------------------------------------------------------


class FlowDenoiser:
    """Rectified flow on signed distances.

    Parameters
    ----------
    features : (B, width, D, H, W)
        Of the network's ``encode``.
    sections : (depths, distances)
        Of `Condition.sections`. Each clean shape is made to agree with them, see :func:`agree_with_sections`.
    adjust : sequence of callable
        Before that, they change the clean shapes of the network, one each, (64, 64, 64). Empty: none.
    """

    def __init__(
        self,
        network: UNet3D,
        process: RectifiedFlow,
        features: Tensor,
        sections: tuple[Tensor, Tensor],
        adjust: Sequence[Adjust] = (),
    ) -> None:
        self.network, self.process, self.features = network, process, features
        self.sections, self.adjust = sections, adjust
        self.dtype = next(network.parameters()).dtype

    def __call__(self, x: Tensor, t: float) -> Denoised:
        times = torch.full((len(x),), 1000.0 * t, device=x.device)
        clean = self.network(x.to(self.dtype), times, self.features).float()
        for shape, change in zip(clean[:, 0], self.adjust, strict=False):
            shape.copy_(torch.from_numpy(change(shape.clamp(-1, 1).cpu().numpy())))
        return Denoised(self.agreeing(clean))

    def agreeing(self, clean: Tensor) -> Tensor:
        """Clean shapes (B, 1, 64, 64, 64) that agree with what is known of the cells."""
        return agree_with_sections(clean.clamp(-1, 1), *self.sections)


class GaussianDenoiser:
    """The paper's diffusion, conditioned on planes (B, C, H, W) repeated along z (or on a volume).

    For networks of pictures x_t and the condition are both (B, C, H, W).

    Parameters
    ----------
    condition : (B, C, H, W) or (B, C, D, H, W)
        The first input channels, maybe none; x_t is the last.
    clip : bool
        Clamp predicted clean shapes to [-1, 1], as the original does.
    """

    def __init__(
        self, network: UNet, process: GaussianDiffusion, condition: Tensor, clip: bool = True
    ) -> None:
        self.network, self.process, self.condition, self.clip = network, process, condition, clip
        self.dtype = next(network.parameters()).dtype

    def __call__(self, x: Tensor, t: float) -> Denoised:
        times = torch.full((len(x),), int(t), device=x.device)
        inputs = with_condition(self.condition, x).to(self.dtype)
        output = self.network(inputs, self.process.network_time(times)).float()
        clean = self.process.clean_shape(x, times, output[:, :1])
        fraction = output[:, 1:] if output.shape[1] > 1 else None
        return Denoised(clean.clamp(-1, 1) if self.clip else clean, fraction)


def with_condition(condition: Tensor, x: Tensor) -> Tensor:
    """Input channels of the paper's network: condition planes, repeated along z, or a volume; then x_t."""
    if condition.ndim < x.ndim:
        condition = condition[:, :, None].expand(-1, -1, x.shape[2], -1, -1)
    return torch.cat([condition, x], dim=1)


def agree_with_sections(clean: Tensor, depths: Tensor, distances: Tensor) -> Tensor:
    """Correct clean shapes so that their sections, or their silhouette, are the known ones, without a seam.

    In the plane of a section the distance of a voxel from the surface is at most its distance from the edge
    of the section and has the same sign. The corrections that a prediction needs to meet this in all sections
    are added to the volume with weights that decrease smoothly with the distance from the sections.

    Parameters
    ----------
    clean : (B, 1, 64, 64, 64)
        Signed distance in units of the truncation.
    depths : (B, K)
        Of the sections, in voxels from the imaged plane; NaN: no section. A NaN in the first place: there is
        a silhouette instead of sections.
    distances : (B, K, 64, 64)
        Signed distance from the edge of each section, in units of the truncation.
    """
    corrected = []
    for shape, deep, edges in zip(clean[:, 0], depths.numpy(), distances, strict=True):
        known = ~np.isnan(deep)
        if known[0]:
            corrected.append(_with_sections(shape, deep[known], edges[: len(known)][torch.from_numpy(known)]))
        else:
            corrected.append(_with_silhouette(shape, edges[0]))
    return torch.stack(corrected)[:, None]


def _with_sections(clean: Tensor, depths: NDArray[np.float32], distances: Tensor) -> Tensor:
    """One shape (64, 64, 64) with its sections at ``depths`` (K,); ``distances`` (K, 64, 64)."""
    low, high = section_limits(distances)
    below, share, profiles = _profiles(tuple(depths.tolist()))
    profile = torch.from_numpy(profiles).to(clean)
    changes = []
    for k, (i, s) in enumerate(zip(below, share, strict=True)):
        section = clean[i] * (1 - s) + clean[i + 1] * s
        missing = torch.minimum(torch.maximum(section, low[k]), high[k]) - section
        changes.append(profile[:, k, None, None] * missing)
    return clean + reduce(torch.add, changes)


def section_limits(distances: Tensor) -> tuple[Tensor, Tensor]:
    """Least and largest signed distance from the surface in all sections of a cell, (K, 64, 64).

    ``distances`` (K, 64, 64) are those from the edges of the sections, in units of the truncation.
    """
    # An inclined surface is nearer than the edge of the section. Slopes flatter than 1 in 3 are rare.
    near = distances / (NEARER if len(distances) == 1 else NEARER_OF_SEVERAL)
    # The cell may end anywhere before an empty section.
    is_empty = distances.amax(dim=(1, 2), keepdim=True) < 0
    high = torch.maximum(near, distances)
    return torch.minimum(near, distances), torch.where(is_empty, -CLEAR, high)


@lru_cache(maxsize=4)  # the members of a cell have the same sections
def _profiles(depths_of: tuple[float, ...]) -> tuple[list[int], list[float], NDArray[np.float32]]:
    """Change along z, (64, K), that changes section k by 1 and the others, read between voxels, by 0.

    Before it, for each section the voxel below it and the share of the voxel above it.
    """
    depths = np.array(depths_of, np.float32)
    place = grid.IMAGED_PLANE + depths
    below = np.clip(np.floor(place).astype(int), 0, grid.SIZE - 2)
    share = place - below
    apart = np.abs(depths[:, None] - depths) + np.where(np.eye(len(depths)), np.inf, 0)
    width = np.minimum(CORRECTION_DEPTH, CORRECTION_SHARE * apart.min(axis=1)).astype(np.float32)
    z = torch.from_numpy(grid.plane_distance()[:, None] - depths)
    spread = torch.exp(-0.5 * (z / torch.from_numpy(width)) ** 2).numpy().astype(np.float64)
    read = spread[below] * (1 - share[:, None]) + spread[below + 1] * share[:, None]
    return below.tolist(), share.tolist(), (spread @ np.linalg.inv(read)).astype(np.float32)


def _with_silhouette(clean: Tensor, distance: Tensor) -> Tensor:
    """One shape (64, 64, 64) within a silhouette, (64, 64), and with a voxel in each of its columns."""
    z = torch.from_numpy(grid.plane_distance()).to(clean)[:, None, None]
    peak = (clean - 1e-3 * z.abs()).argmax(dim=0)  # of equal voxels the one next to the imaged plane
    top = clean.gather(0, peak[None])[0]
    missing = torch.where(distance > 0, distance.clamp(max=CLEAR) - top, 0).clamp(min=0)
    weight = torch.exp(-0.5 * ((z + grid.IMAGED_PLANE - peak) / CORRECTION_DEPTH) ** 2)
    # A voxel is at least as far outside the cell as outside its silhouette, and at most as far inside.
    return torch.minimum(clean + weight * missing, distance)
