"""Group normalisation of the U-Net, where a sample does not depend on its batch."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Of so few voxels PyTorch's normalisation in 16 bit takes 3 to 6 times as long if channels are last.
_FEW = 1024


def one_by_one(function: Callable[..., Tensor], *batch: Tensor) -> Tensor:
    """The results of a function for each sample of a batch, (B, ...)."""
    samples = [function(*sample) for sample in zip(*(part.split(1) for part in batch), strict=True)]
    return samples[0] if len(samples) == 1 else torch.cat(samples)


class GroupNorm(nn.GroupNorm):
    """32 groups; computed in float32 for any input type."""

    def __init__(self, channels: int) -> None:
        super().__init__(32, channels)

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.weight.float(), self.bias.float()
        if x.device.type == "cpu" and not self.weight.requires_grad:
            # For channels-last tensors PyTorch divides the whole batch among its threads. Then the rounding
            # of a sample depends on its place in the batch, so samples are computed one by one. (PyTorch's
            # own sums are in float32 here for any type.)
            if x.dtype is not torch.float32 and x[0, 0].numel() <= _FEW:
                x = x.contiguous()
            return one_by_one(lambda one: F.group_norm(one, self.num_groups, weight, bias, self.eps), x)
        return F.group_norm(x.float(), self.num_groups, weight, bias, self.eps).to(x.dtype)
