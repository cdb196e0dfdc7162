"""Textures: pictures of cells from a diffusion model with the mask as a condition, and stacks slice by slice.

The last stage of Yilmaz, Keven, Wu and Stegmaier, with a small U-Net that is trained from scratch.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_dispr import signed_distance
from napari_dispr.diffusion.network import PlaneNetworkConfig, UNet
from napari_dispr.diffusion.process import GaussianDiffusion
from napari_dispr.diffusion.samplers import SAMPLERS, GaussianDenoiser
from napari_dispr.synthesis.examples import PictureExample

Floats = NDArray[np.float32]

#: The channels: signed distance of the mask; a slice next to this one, and 1 where there is one; the depth of
#: the slice in the cell; x_t.
TOPOLOGY = PlaneNetworkConfig(
    num_channels=32,
    channel_mult=(2, 2, 2),
    attention_downsamplings=(),
    num_head_channels=32,
    use_scale_shift_norm=True,
    in_channels=5,
    out_channels=1,
    fold=4,
)
CONDITIONS = TOPOLOGY.in_channels - 1
PROCESS = GaussianDiffusion(schedule="later cosine", variance="fixed_small", predicts="velocity")
#: Distances from the edge of the mask are cut off at this many pixels.
TRUNCATION = 8.0
#: In the training the slice next to a slice is given in this share of the pictures, ...
WITH_NEIGHBOUR = 0.65
#: ... with noise of up to this standard deviation, so that errors do not add up from slice to slice.
NEIGHBOUR_NOISE = 0.3
#: Evaluations of the network for each slice, by sampler: they keep the noise of pictures.
STEPS = {"dpm-solver++": 10, "ddim": 50}
#: ``rho`` of slices that are drawn at once, that of the paper's code.
AT_ONCE = 0.7
#: Pictures are sides of a multiple of this, in pixels, for the network.
MULTIPLE = 16


def mask_condition(masks: NDArray[np.bool_]) -> Floats:
    """Signed distance from the edge of masks (B, H, W), in units of 8 pixels, from -1 to 1."""
    distances = [signed_distance.from_level(mask, truncation=TRUNCATION) for mask in masks]
    return np.stack(distances) / np.float32(TRUNCATION)


def depth_condition(depth: float | None) -> float:
    """From -1 in the middle of a cell to 1 at its end; 0 if the depth of the slice is not known."""
    return 0.0 if depth is None else 2 * depth - 1


@dataclass(frozen=True, slots=True, eq=False)
class Pictures:
    """The pictures of a training, normalised: (picture, side, side) each.

    ``neighbours`` holds for each picture the slices next to it, which may be none.
    """

    images: Floats
    conditions: Floats
    known: NDArray[np.bool_]
    neighbours: Sequence[tuple[Floats, ...]]
    depths: Sequence[float]

    @classmethod
    def of(cls, examples: Sequence[PictureExample], offset: float, scale: float) -> "Pictures":
        """Normalise pictures: grey values v become (v - offset) / scale."""

        def normal(image: Floats) -> Floats:
            return (image - np.float32(offset)) / np.float32(scale)

        return cls(
            np.stack([normal(example.image) for example in examples]),
            mask_condition(np.stack([example.mask for example in examples])),
            np.stack([example.known for example in examples]),
            [tuple(normal(image) for image in example.neighbours) for example in examples],
            [depth_condition(example.depth) for example in examples],
        )

    def sample(self, which: int, rng: np.random.Generator) -> tuple[Floats, Floats, Floats]:
        """Condition (4, side, side), clean picture (1, side, side) and weight of the loss (1, side, side).

        Turned by multiples of 90 degrees and mirrored, which keeps the noise of the pixels.
        """
        condition = np.zeros((CONDITIONS, *self.images.shape[1:]), np.float32)
        condition[0] = self.conditions[which]
        condition[3] = self.depths[which]
        neighbours = self.neighbours[which]
        if neighbours and rng.random() < WITH_NEIGHBOUR:
            noise = rng.normal(0, rng.uniform(0, NEIGHBOUR_NOISE), condition.shape[1:])
            condition[1] = neighbours[int(rng.integers(len(neighbours)))] + noise
            condition[2] = 1
        stacked = np.concatenate([condition, self.images[which][None], self.known[which][None]])
        stacked = np.rot90(stacked, int(rng.integers(4)), (1, 2))
        if rng.random() < 0.5:
            stacked = stacked[:, ::-1]
        stacked = np.ascontiguousarray(stacked, np.float32)
        return stacked[:CONDITIONS], stacked[CONDITIONS : CONDITIONS + 1], stacked[CONDITIONS + 1 :]


def slice_noise(common: Tensor, own: Tensor, rho: float) -> Tensor:
    """Start noise of slices, (cell, slice, H, W), Eq. 2: rho / sqrt(1 + rho^2) common + 1 / sqrt(1 + rho^2)
    own.

    ``common`` (cell, 1, H, W) is the same for all slices of a cell; both are from N(0, 1). The noise has
    variance 1; two slices of a cell correlate by rho^2 / (1 + rho^2).
    """
    return (rho * common + own) / (1 + rho**2) ** 0.5


def iter_textures(
    network: UNet,
    masks: Sequence[NDArray[np.bool_]],
    seeds: Sequence[int],
    depths: Sequence[Sequence[float | None]] | None = None,
    *,
    sampler: str = "dpm-solver++",
    steps: int | None = None,
    rho: float | None = None,
    with_neighbours: bool = True,
) -> Iterator[list[Floats] | None]:
    """Draw the pictures of a batch of cells, one seed each, with a network of `learned.ready`.

    Slices are drawn from the middle of a cell outwards: each has the slice before it as a condition.

    Parameters
    ----------
    masks : sequence of (slice, H, W)
        One stack of masks for each cell. H and W are the same multiple of 16 for all.
    depths : sequence of (slice,), optional
        Of the slices of each cell: from 0 in its middle to 1 at its end, as far as they are known.
    sampler : str
        "dpm-solver++" or "ddim", both without fresh noise.
    steps : int, optional
        Evaluations of the network for each slice; by default those of ``STEPS``.
    rho : float, optional
        As in `slice_noise`; by default 0.7 for slices that are drawn at once, as in the paper, and otherwise
        0. The network has not learned that the slice before, its condition, was made from the same noise:
        with common noise bright spots would become brighter from slice to slice.
    with_neighbours : bool
        False: all slices are drawn at once and agree by their noise alone, as in the paper.

    Yields
    ------
    None
        After each evaluation of the network.
    list of (slice, H, W) float32
        At the end: normalised pictures.
    """
    device = next(network.parameters()).device
    if rho is None:
        rho = 0.0 if with_neighbours else AT_ONCE
    noise = [_noise(seed, mask.shape, rho) for seed, mask in zip(seeds, masks, strict=True)]
    pictures = [np.zeros(mask.shape, np.float32) for mask in masks]
    for batch in _in_turn([len(mask) for mask in masks], with_neighbours):
        shape = (len(batch), *masks[0].shape[1:])
        condition = np.zeros((shape[0], CONDITIONS, *shape[1:]), np.float32)
        condition[:, 0] = mask_condition(np.stack([masks[cell][z] for cell, z, _ in batch]))
        for place, (cell, z, before) in enumerate(batch):
            condition[place, 3] = depth_condition(depths[cell][z] if depths else None)
            if before is not None:
                condition[place, 1] = pictures[cell][before]
                condition[place, 2] = 1
        start = torch.stack([noise[cell][z] for cell, z, _ in batch])[:, None].to(device)
        denoiser = GaussianDenoiser(network, PROCESS, torch.from_numpy(condition).to(device), clip=False)
        last = start
        for x in SAMPLERS[sampler](denoiser, start, PROCESS.even_times(steps or STEPS[sampler]), start.clone):
            last = x
            yield None
        for (cell, z, _), picture in zip(batch, last[:, 0].float().cpu().numpy(), strict=True):
            pictures[cell][z] = picture
    yield pictures


def _noise(seed: int, shape: tuple[int, ...], rho: float) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    common = torch.randn((1, 1, *shape[1:]), generator=source)
    return slice_noise(common, torch.randn((1, *shape), generator=source), rho)[0]


#: A cell, one of its slices, and the slice that is its condition.
_Slice = tuple[int, int, int | None]


def _in_turn(depths: Sequence[int], with_neighbours: bool) -> Iterator[list[_Slice]]:
    """Batches of slices that can be drawn at once: the middles first, then outwards."""
    if not with_neighbours:
        at_once: list[_Slice] = [(cell, z, None) for cell, depth in enumerate(depths) for z in range(depth)]
        yield at_once
        return
    middles = [depth // 2 for depth in depths]
    first: list[_Slice] = [(cell, middle, None) for cell, middle in enumerate(middles)]
    yield first
    for away in range(1, max(depths)):
        batch: list[_Slice] = [
            (cell, middle + way * away, middle + way * (away - 1))
            for cell, (middle, depth) in enumerate(zip(middles, depths, strict=True))
            for way in (-1, 1)
            if 0 <= middle + way * away < depth
        ]
        if batch:
            yield batch
