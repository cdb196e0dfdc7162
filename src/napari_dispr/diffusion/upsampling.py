"""Nearest-neighbour upsampling by 2 and a convolution, merged into one convolution of the small volume.

The 27 voxels of the large volume that decide one of its voxels are 2 x 2 x 2 voxels of the small one: 8
products do for 27 (11 with the border). Each of the 8 places of a voxel in its block has its own kernel.
"""

from itertools import product
from typing import cast

import torch
from torch import Tensor, nn

from napari_dispr.diffusion.network import UNet3D, Upsample


class MergedUpsample(nn.Module):
    """The same as an `Upsample` by 2 along z, y and x with a convolution of 3 x 3 x 3, for sampling."""

    def __init__(self, conv: nn.Conv3d) -> None:
        super().__init__()
        weight = conv.weight
        for axis in (-1, -2, -3):
            first, middle, last = weight.unbind(axis)
            kernels = (first, middle + last), (first + middle, last)
            weight = torch.stack([torch.stack(kernel, axis) for kernel in kernels])
        bias = cast(Tensor, conv.bias).repeat(8)
        with torch.device("meta"):
            self.conv = nn.Conv3d(conv.in_channels, len(bias), 2, padding=1)
        self.conv.weight = nn.Parameter(weight.flatten(0, 3), requires_grad=False)
        self.conv.bias = nn.Parameter(bias, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        found = self.conv(x)  # at the corners of the voxels of the small volume
        d, h, w = x.shape[2:]
        large = torch.empty(
            (len(x), found.shape[1] // 8, 2 * d, 2 * h, 2 * w),
            dtype=found.dtype, device=x.device, memory_format=torch.channels_last_3d,
        )  # fmt: skip
        for (i, j, k), part in zip(product((0, 1), repeat=3), found.chunk(8, dim=1), strict=True):
            large[:, :, i::2, j::2, k::2] = part[:, :, i : i + d, j : j + h, k : k + w]
        return large


def with_merged_upsampling(network: UNet3D) -> UNet3D:
    """Replace the upsampling by 2 along all axes; for sampling only."""
    for stage in network.output_blocks:
        for name, child in list(stage.named_children()):
            is_double = isinstance(child, Upsample) and child.factor == (2, 2, 2)
            if is_double and isinstance(child.conv, nn.Conv3d):
                setattr(stage, name, MergedUpsample(child.conv))
    return network
