"""The quick Muon does what PyTorch's does."""

import pytest
import torch

from napari_dispr.diffusion.muon import Muon, orthogonalised


@pytest.mark.parametrize("shape", [(8, 72), (40, 12)])
def test_singular_values_come_near_1(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalised(matrix).float())
    assert values.min() > 0.6 and values.max() < 1.3


def test_steps_are_those_of_pytorch_and_so_is_the_state() -> None:
    source = torch.Generator().manual_seed(0)
    start = torch.randn((8, 72), generator=source)
    own, other = (torch.nn.Parameter(start.clone()) for _ in range(2))
    quick = Muon([own], lr=0.02, weight_decay=0.1)
    plain = torch.optim.Muon([other], lr=0.02, weight_decay=0.1)
    for _ in range(3):
        own.grad = torch.randn(start.shape, generator=source)
        other.grad = own.grad.clone()
        quick.step()
        plain.step()
    # PyTorch's products are of 16 bit.
    torch.testing.assert_close(own, other, atol=0.002, rtol=0.02)
    plain.load_state_dict(quick.state_dict())
    torch.testing.assert_close(plain.state[other]["momentum_buffer"], quick.state[own]["momentum_buffer"])
