"""Convolutions in 8-bit integers, for x86 processors without AMX.

Such processors multiply 8-bit integers about twice as fast as float32 or bfloat16, and with AVX-VNNI three
times. Kernels are rounded once, for each output channel; activations are rounded in each call, for each
sample, so that a member does not depend on the other members of its batch. Sums are exact, and the results
are float32.
"""

import math
import platform
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_dispr.diffusion.network import UNet3D
from napari_dispr.diffusion.normalisation import one_by_one

#: Largest integer of a rounded activation, and of a weight. AVX2 adds two products in 16 bit: activations
#: from 0 to 255 would overflow.
_ACTIVATION, _WEIGHT = 127, 127


@cache
def is_available() -> bool:
    """Whether this processor computes faster in 8 bit than in float32, and this PyTorch can."""
    return (
        platform.machine().lower() in ("x86_64", "amd64")
        and torch.backends.mkldnn.is_available()
        and torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
        and _is_right()
    )


def _is_right() -> bool:
    """Whether PyTorch's operators, which other versions may change, give the right result."""
    conv = nn.Conv3d(8, 8, 3, padding=1).requires_grad_(False)
    x = torch.linspace(-1, 1, 8 * 64).view(1, 8, 4, 4, 4)
    try:
        return bool(torch.allclose(EightBitConv(conv)(x), conv(x), atol=0.05))
    except (AttributeError, RuntimeError, TypeError):
        return False


class EightBitConv(nn.Module):
    """A 3D convolution with 8-bit weights and activations; input and output are float32."""

    kernel: Tensor | None  # the weight in oneDNN's order for this processor and the shape of x

    def __init__(self, conv: nn.Conv3d) -> None:
        super().__init__()
        self.bias, self.kernel = conv.bias, None
        self.places = (list(conv.stride), list(conv.padding), list(conv.dilation), conv.groups)
        # A channel of zeros has no scale of its own.
        self.scales = conv.weight.abs().amax((1, 2, 3, 4)).clamp(min=1e-12) / _WEIGHT
        self.weight = (conv.weight / self.scales.view(-1, 1, 1, 1, 1)).round().to(torch.int8).contiguous()
        self.zeros = torch.zeros_like(self.scales, dtype=torch.int64)

    def forward(self, x: Tensor) -> Tensor:
        return one_by_one(self._one, x)

    def _one(self, x: Tensor) -> Tensor:
        lowest, highest = (value.item() for value in torch.aminmax(x.movedim(1, -1)))
        # With 0, which pads the volume.
        lowest, highest = min(lowest, 0.0), max(highest, 0.0)
        is_finite = math.isfinite(highest - lowest)
        scale = max(highest - lowest, 1e-12) / _ACTIVATION if is_finite else 1.0
        # At least 1: oneDNN's order of the weight for 0 is another.
        zero = max(1, round(-lowest / scale)) if is_finite else 1
        if self.kernel is None:
            self.kernel = torch.ops.onednn.qconv_prepack(
                self.weight, self.scales, scale, zero, *self.places, list(x.shape)
            )
        integers = torch.add(zero + 0.5, x, alpha=1 / scale).to(torch.uint8)  # the conversion rounds down
        result = torch.ops.onednn.qconv3d_pointwise(
            *(integers, scale, zero, self.kernel, self.scales, self.zeros, self.bias, *self.places),
            *(1.0, 0, torch.float32, "none", [], ""),  # float32 results, and nothing after the convolution
        )
        return result if is_finite else torch.full_like(result, torch.nan)


class PointwiseConv(nn.Module):
    """A 1 x 1 x 1 convolution in float32 as a matrix product, which is faster for channels-last tensors."""

    def __init__(self, conv: nn.Conv3d) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(conv.weight.flatten(1), requires_grad=False), conv.bias

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x.movedim(1, -1), self.weight, self.bias).movedim(-1, 1)


def in_eight_bit(network: UNet3D) -> UNet3D:
    """Replace the convolutions of a float32 network, except the first and the last; for sampling only."""
    network.apart = True
    for stage in (*network.input_blocks[1:], network.middle_block, *network.output_blocks):
        for parent in list(stage.modules()):
            for name, child in list(parent.named_children()):
                if isinstance(child, nn.Conv3d):
                    is_pointwise = child.kernel_size == (1, 1, 1)
                    setattr(parent, name, PointwiseConv(child) if is_pointwise else EightBitConv(child))
    return network
