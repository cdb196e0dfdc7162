"""Masks of single cells from a 2D diffusion model without condition (MaskDDPM), as signed distances.

The first stage of Yilmaz, Keven, Wu and Stegmaier, Cascaded diffusion models for 2D and 3D microscopy image
synthesis to enhance cell segmentation.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, label, map_coordinates
from torch import Tensor

from napari_dispr.diffusion.network import PlaneNetworkConfig, UNet
from napari_dispr.diffusion.process import GaussianDiffusion
from napari_dispr.diffusion.samplers import SAMPLERS, GaussianDenoiser
from napari_dispr.synthesis.examples import MASK_SIDE

Floats = NDArray[np.float32]

#: The network. Signed distances are smooth: blocks of 8 x 8 pixels are enough.
TOPOLOGY = PlaneNetworkConfig(
    num_channels=32,
    channel_mult=(2, 2),
    attention_downsamplings=(),
    num_head_channels=32,
    use_scale_shift_norm=True,
    in_channels=1,
    out_channels=1,
    fold=8,
)
PROCESS = GaussianDiffusion(schedule="later cosine", variance="fixed_small", predicts="shape")
#: Signed distances are cut off at this many pixels. For the network ``UNIT`` pixels are 1: small numbers move
#: the decisions about the shape, of which all pixels tell, to more of the times (Chen, arXiv 2301.10972).
TRUNCATION, UNIT = 32.0, 96.0
#: Evaluations of the network for each mask, by sampler.
STEPS = {"dpm-solver++": 12, "ddim": 50, "ddpm": 250}
#: Resampling changes the size of a mask and the ratio of its sides by up to these shares, and bends it by up
#: to so many pixels: few masks would be learned by heart.
SCALING, STRETCH, BEND = 0.1, 0.1, 3.0


def augmented(distance: Floats, rng: np.random.Generator) -> Floats:
    """A mask turned, mirrored, and scaled, stretched and bent a little; signed distances in pixels."""
    angle, scale = rng.uniform(0, 2 * np.pi), 1 + rng.uniform(-SCALING, SCALING)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    turn[:, 1] *= rng.choice((-1.0, 1.0))
    # Along a direction of the original, since the angle is any.
    along = rng.uniform(0, np.pi)
    axis = np.array([np.cos(along), np.sin(along)])
    longer = 1 + rng.uniform(-STRETCH, STRETCH)
    turn = (np.eye(2) + (longer - 1) * np.outer(axis, axis)) @ turn / np.sqrt(longer)
    centre = (MASK_SIDE - 1) / 2
    coarse = np.arange(0, MASK_SIDE, 2) + 0.5  # signed distances are smooth
    points = np.stack(np.meshgrid(coarse, coarse, indexing="ij")) - centre
    waves = gaussian_filter(rng.normal(size=points.shape), (0, 12, 12), mode="wrap")
    points += rng.uniform(0, BEND) * waves / waves.std()
    source = np.tensordot(turn / scale, points, 1) + centre
    half = map_coordinates(distance, source, order=1, mode="nearest") * scale
    place = (np.arange(MASK_SIDE) - 0.5) / 2
    fine = np.stack(np.meshgrid(place, place, indexing="ij"))
    return map_coordinates(half, fine, order=1, mode="nearest").astype(np.float32)


def encoded(distances: Sequence[Floats]) -> Tensor:
    """Signed distances in pixels as what the network learns, (B, 1, 128, 128)."""
    cut = np.clip(np.stack(distances)[:, None], -TRUNCATION, TRUNCATION)
    return torch.from_numpy(cut / np.float32(UNIT))


def iter_masks(
    network: UNet, seeds: Sequence[int], sampler: str = "dpm-solver++", steps: int | None = None
) -> Iterator[Floats | None]:
    """Sample a batch of masks with a network of `learned.ready`, one for each seed.

    A mask depends on the seeds of its batch, in their order. ``sampler`` is "dpm-solver++", "ddim" or "ddpm".

    Yields
    ------
    None
        After each evaluation of the network.
    (mask, 128, 128) float32
        At the end: signed distances in pixels, positive inside, each with one connected part.
    """
    device = next(network.parameters()).device
    sources = [torch.Generator().manual_seed(seed) for seed in seeds]

    def noise() -> Tensor:
        return torch.stack([torch.randn((1, MASK_SIDE, MASK_SIDE), generator=s) for s in sources]).to(device)

    start = noise()
    denoiser = GaussianDenoiser(network, PROCESS, start[:, :0])
    last = start
    for x in SAMPLERS[sampler](denoiser, start, PROCESS.even_times(steps or STEPS[sampler]), noise):
        last = x
        yield None
    distances = last[:, 0].float().cpu().numpy() * np.float32(UNIT)
    yield np.stack([_one_part(distance) for distance in distances])


def _one_part(distance: Floats) -> Floats:
    """The mask without all but its largest part."""
    parts, count = label(distance > 0)
    if count < 2:
        return distance
    sizes = np.bincount(parts.ravel())[1:]
    other = (parts > 0) & (parts != 1 + int(sizes.argmax()))
    return np.where(other, -np.abs(distance), distance).astype(np.float32)


# --- are they copies? --------------------------------------------------------------------------------

#: Masks are compared at this side, in this number of directions and mirrored.
_SIDE, _TURNS = 32, 24


def nearest_overlap(masks: Sequence[Floats], others: Sequence[Floats]) -> NDArray[np.float64]:
    """Largest IoU of each mask with any of the others, in 24 directions and mirrored; shape (mask,).

    Masks are signed distances (128, 128) in pixels.
    """
    own = np.stack([_reduced(mask, 0.0, mirrored=False) for mask in masks])
    turned = np.stack(
        [
            _reduced(other, 2 * np.pi * turn / _TURNS, mirrored=mirrored)
            for other in others
            for turn in range(_TURNS)
            for mirrored in (False, True)
        ]
    )
    shared = own @ turned.T
    either = own.sum(axis=1)[:, None] + turned.sum(axis=1) - shared
    best: NDArray[np.float64] = (shared / np.maximum(either, 1)).max(axis=1).astype(np.float64)
    return best


def _reduced(distance: Floats, angle: float, *, mirrored: bool) -> Floats:
    """The mask about its centre of mass, turned, as a row of 0 and 1."""
    inside = np.argwhere(distance > 0)
    centre = inside.mean(axis=0) if len(inside) else np.full(2, (MASK_SIDE - 1) / 2)
    place = (np.arange(_SIDE) - (_SIDE - 1) / 2) * (MASK_SIDE / _SIDE)
    points = np.stack(np.meshgrid(place, -place if mirrored else place, indexing="ij"))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    source = np.tensordot(turn, points, 1) + centre[:, None, None]
    values = map_coordinates(distance, source, order=1, mode="nearest")
    return (values > 0).astype(np.float32).ravel()
