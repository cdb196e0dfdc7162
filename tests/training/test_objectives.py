"""The energy score as a loss: it is proper and fair, and is taken at the inputs of the sampler."""

import pytest
import torch
from support.models import TINY

from napari_dispr.diffusion.condition import Condition
from napari_dispr.diffusion.network import UNet3D
from napari_dispr.diffusion.process import RectifiedFlow
from napari_dispr.diffusion.samplers import FlowDenoiser, ddim
from napari_dispr.training.objectives import energy_score, run_up_to, shape_distance

FLAT = torch.ones(1, 1, 64, 1, 1)


def ball(radius, shift=0.0):
    axis = torch.arange(64.0)
    z, y, x = torch.meshgrid(axis - 32 - shift, axis - 31.5, axis - 31.5, indexing="ij")
    return ((radius - (z**2 + y**2 + x**2).sqrt()) / 8).clamp(-1, 1)[None, None]


def test_distance_is_a_distance():
    a, b, c = ball(10), ball(14), ball(12, 6.0)
    apart = [float(shape_distance(*pair, FLAT, 8.0)) for pair in ((a, b), (b, c), (a, c))]
    assert float(shape_distance(a, a, FLAT, 8.0)) == pytest.approx(0.001, abs=1e-4)
    assert float(shape_distance(b, a, FLAT, 8.0)) == pytest.approx(apart[0])
    assert apart[2] <= apart[0] + apart[1]


def test_distance_is_nearly_one_minus_iou_and_root_mean_square():
    a, b = ball(10), ball(14)
    iou = ((a > 0) & (b > 0)).sum() / ((a > 0) | (b > 0)).sum()
    rms = ((a - b) ** 2).mean().sqrt()
    assert float(shape_distance(a, b, FLAT, 8.0)) == pytest.approx(float(1 - iou + rms), abs=0.03)


def test_score_of_equal_members_is_their_distance():
    a, b = ball(10), ball(13)
    score = energy_score(a, a, b, FLAT, 8.0)
    assert float(score) == pytest.approx(float(shape_distance(a, b, FLAT, 8.0)), abs=1e-3)


def test_score_is_proper():
    """Truths are balls of two sizes: it pays to draw both, not the one between, nor one of them alone."""
    small, large, middle = ball(9), ball(15), ball(12.5)

    def expected(members):
        scores = [
            float(energy_score(a, b, truth, FLAT, 8.0))
            for truth in (small, large)
            for a in members
            for b in members
        ]
        return sum(scores) / len(scores)

    honest = expected((small, large))
    assert honest < expected((middle,)) - 0.02
    assert honest < expected((small,)) - 0.02


def test_gradient_is_finite_where_members_agree():
    a = ball(10).requires_grad_()
    energy_score(a, a, ball(10), FLAT, 8.0).sum().backward()
    assert torch.isfinite(a.grad).all()


@pytest.mark.parametrize("stage", [(1, 0), (2, 1), (4, 3)])
def test_training_goes_where_sampling_goes(stage):
    torch.manual_seed(0)
    network = UNet3D(TINY)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    network = network.with_inputs(TINY.planes, 4)
    torch.nn.init.normal_(network.known.weight, std=0.02)
    depths = torch.tensor([[0, 7.5, torch.nan], [torch.nan] * 3])  # two sections, and a projection
    edges = torch.randn(2, 3, 64, 64).clamp(-1, 1)
    volumes = torch.randn(2, 4, 64, 64, 64)
    condition = Condition(torch.randn(2, TINY.planes, 64, 64), volumes, depths, edges)
    noise = torch.randn(2, 1, 64, 64, 64)
    process = RectifiedFlow()
    x, t = run_up_to(network, process, condition, 8.0, noise, stage)
    assert t == process.times(stage[0])[stage[1]] and not x.requires_grad
    features = network.encode(condition.planes, volumes)
    denoiser = FlowDenoiser(network, process, features, condition.sections(8.0))
    states = [noise]
    with torch.no_grad():
        states += list(ddim(denoiser, noise, process.times(stage[0]), lambda: noise))
    torch.testing.assert_close(x, states[stage[1]], atol=2e-5, rtol=1e-4)
