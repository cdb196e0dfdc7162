"""Convolutions in 8 bit against those in float32."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from support.models import tiny_model
from torch import nn

from napari_dispr.cells.cropping import Crop
from napari_dispr.diffusion import devices, eight_bit

pytestmark = pytest.mark.skipif(not eight_bit.is_available(), reason="this processor has no 8-bit kernels")


@pytest.fixture
def convs():
    torch.manual_seed(0)
    conv = nn.Conv3d(32, 48, 3, padding=1).requires_grad_(False)
    return conv, eight_bit.EightBitConv(devices.channels_last(deepcopy(conv)))


def inputs(*scales):
    """Samples of different scales, (B, 32, 8, 8, 8), channels last."""
    x = torch.randn(len(scales), 32, 8, 8, 8, generator=torch.Generator().manual_seed(1))
    x = nn.functional.silu(x) * torch.tensor(scales).view(-1, 1, 1, 1, 1)
    return x.to(memory_format=torch.channels_last_3d)


def test_results_are_those_of_float32(convs):
    exact, rounded = (conv(inputs(0.01, 1.0, 100.0)) for conv in convs)
    errors = (rounded - exact).square().mean((1, 2, 3, 4)).sqrt() / exact.std((1, 2, 3, 4))
    assert (errors < 0.02).all()


def test_large_activations_do_not_overflow(convs):
    exact, rounded = (conv(torch.full((1, 32, 8, 8, 8), 3.0)) for conv in convs)
    assert ((rounded - exact).abs() < 0.02 * exact.abs().max()).all()
    exact, rounded = (conv(torch.zeros(1, 32, 8, 8, 8)) for conv in convs)
    torch.testing.assert_close(rounded, exact)


def test_a_sample_does_not_depend_on_the_others(convs):
    x = inputs(1.0, 50.0, 3.0)
    together = convs[1](x)
    for i in range(3):
        assert torch.equal(together[i : i + 1], convs[1](x[i : i + 1]))


def test_values_that_are_not_finite_stay_so(convs):
    x = inputs(1.0, 1.0)
    x[0, 3, 2, 1, 0] = torch.inf
    result = convs[1](x)
    assert result[0].isnan().all() and result[1].isfinite().all()


def test_a_pointwise_convolution_is_a_matrix_product():
    conv = nn.Conv3d(32, 16, 1).requires_grad_(False)
    torch.testing.assert_close(eight_bit.PointwiseConv(conv)(inputs(1.0, 2.0)), conv(inputs(1.0, 2.0)))


@pytest.mark.parametrize(
    ("fast", "tiles"), [(torch.float32, False), (torch.bfloat16, False), (torch.bfloat16, True)]
)
def test_bfloat16_is_taken_only_where_it_is_faster(monkeypatch, fast, tiles):
    """With AVX-512, but without AMX, 8 bit takes half its time."""
    monkeypatch.setattr(devices, "fast_dtype", lambda device: fast)
    monkeypatch.setattr(devices, "has_tiles", lambda: tiles, raising=False)
    network = tiny_model().ready(torch.device("cpu"))
    assert (eight_bit.EightBitConv in map(type, network.modules())) != tiles
    assert next(network.parameters()).dtype == (fast if tiles else torch.float32)


def test_a_slow_processor_draws_the_same_shapes(monkeypatch):
    mask = np.zeros((64, 64), np.float32)
    mask[16:48, 20:44] = 1
    drawn = []
    for available in (False, True):
        monkeypatch.setattr(devices, "fast_dtype", lambda device: torch.float32)
        monkeypatch.setattr(eight_bit, "is_available", lambda available=available: available)
        model = tiny_model()
        network = model.ready(torch.device("cpu"))
        kinds = {type(module) for module in network.modules()}
        assert (eight_bit.EightBitConv in kinds) == available
        noise = torch.randn((2, 1, 64, 64, 64), generator=torch.Generator().manual_seed(0))
        crop = Crop(1, mask, None, 1.0, np.eye(4))
        drawn.append(model.denoiser([crop, crop], network)(noise, 0.9).clean)
    assert (drawn[1] - drawn[0]).square().mean().sqrt() < 0.05 * drawn[0].std()
    assert not torch.equal(*drawn)
