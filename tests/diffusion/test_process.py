"""Forward processes and losses: the original's schedules and losses, and rectified flow."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from support.dispr_reference import FIXTURES, stored, weights_of

from napari_dispr.diffusion.network import NetworkConfig, UNet3D
from napari_dispr.diffusion.process import (
    GaussianDiffusion,
    RectifiedFlow,
    cosine_betas,
    discretised_log_likelihood,
    flow_loss,
    gaussian_kl,
    linear_betas,
)
from napari_dispr.settings import PRESETS
from napari_dispr.training.objectives import objective_of, topology_of
from napari_dispr.training.state import State

SMALL = NetworkConfig(channel_mult=(1, 2), attention_downsamplings=(2,))
SPECS = ("10", "50", "100", "250")


@pytest.fixture(scope="module")
def schedules():
    with np.load(FIXTURES / "schedules_linear_T1000.npz") as file:
        return dict(file)


def close(value, expected):
    np.testing.assert_allclose(value, expected, rtol=1e-12, atol=1e-12)


# --- schedules --------------------------------------------------------------------------------------


def test_betas(schedules):
    close(linear_betas(1000), schedules["betas"])
    close(cosine_betas(1000), schedules["betas_cosine_1000"])


def test_levels_of_signal_and_noise(schedules):
    process = GaussianDiffusion()
    times = range(1000)
    close(process.alphas_bar, schedules["alphas_cumprod"])
    close([process.signal(t) for t in times], schedules["sqrt_alphas_cumprod"])
    close([process.noise(t) for t in times], schedules["sqrt_one_minus_alphas_cumprod"])
    close([process.alpha_bar(t - 1) for t in times], schedules["alphas_cumprod_prev"])
    close([2 * np.log(process.noise(t)) for t in times], schedules["log_one_minus_alphas_cumprod"])
    close([1 / process.signal(t) for t in times], schedules["sqrt_recip_alphas_cumprod"])
    ratio = [process.noise(t) / process.signal(t) for t in times]
    close(ratio, schedules["sqrt_recipm1_alphas_cumprod"])


def test_posterior(schedules):
    process = GaussianDiffusion()
    steps = [process.posterior(t, t - 1, t + 1 if t < 999 else None) for t in range(1000)]
    close([step.clean for step in steps], schedules["posterior_mean_coef1"])
    close([step.current for step in steps], schedules["posterior_mean_coef2"])
    close([step.log_variance for step in steps], schedules["posterior_log_variance_clipped"])
    close(np.exp([step.log_variance for step in steps[1:]]), schedules["posterior_variance"][1:])
    close(np.exp([step.log_beta for step in steps]), schedules["betas"])


@pytest.mark.parametrize("spec", SPECS)
def test_respacing(schedules, spec):
    process = GaussianDiffusion()
    kept = schedules[f"respace_{spec}_timestep_map"].tolist()
    times = process.times(int(spec))
    assert times == (*map(float, reversed(kept)), -1.0)
    betas = np.exp([process.posterior(t, s, None).log_beta for t, s in pairwise(times)])
    close(betas[::-1], schedules[f"respace_{spec}_betas"])


def test_all_steps_are_kept_as_they_are():
    assert GaussianDiffusion(50).times(50) == (*map(float, range(49, -1, -1)), -1.0)


def test_fewer_steps_are_larger():
    assert linear_betas(100)[[0, -1]] == pytest.approx([1e-3, 0.2])
    assert 0 < GaussianDiffusion(100).alphas_bar[-1] < 1e-4


@pytest.mark.parametrize(("rescaled", "expected"), [(False, [0, 1, 49]), (True, [0, 20, 980])])
def test_rescaled_timesteps(rescaled, expected):
    process = GaussianDiffusion(50, rescale_timesteps=rescaled)
    assert process.network_time(torch.tensor([0, 1, 49])).tolist() == expected


def test_fixed_variances():
    # The original: small is the clipped posterior's; large is beta, with the posterior's at the very end.
    small, large = (GaussianDiffusion(variance=v) for v in ("fixed_small", "fixed_large"))
    times = small.times(10)
    before = None
    for t, s in pairwise(times):
        beta = 1 - small.alpha_bar(t) / small.alpha_bar(s)
        q = small.posterior(t, s, before)
        assert float(small.log_variance(q, None)) == pytest.approx(q.log_variance, rel=1e-6)
        expected = np.log(beta) if s >= 0 else q.log_variance
        assert float(large.log_variance(q, None)) == pytest.approx(expected, rel=1e-6)
        before = t


def test_learned_variance_needs_the_second_channel():
    process = GaussianDiffusion()
    with pytest.raises(ValueError, match="two output channels"):
        process.log_variance(process.posterior(5, 4, 6), None)


# --- losses of the original ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small():
    network = UNet3D(SMALL)
    network.load_state_dict(weights_of(network))
    return network


@pytest.fixture(scope="module")
def numbers():
    return stored("small_training_loss")


@pytest.mark.parametrize("i", range(5))
def test_loss_and_gradients(small, numbers, i):
    record, start, noise = numbers["records"][i], numbers["x_start"], numbers["noise"]
    t = torch.tensor([record["t"]])
    clean = (start[:, 2:] > 0).float()
    process = GaussianDiffusion()
    x = process.diffuse(clean, t, noise)
    torch.testing.assert_close(x, record["x_t"], atol=1e-6, rtol=0)
    small.zero_grad()
    output = small(torch.cat([start[:, :2], x], 1), t)
    torch.testing.assert_close(output[:, :1], record["eps_pred"], atol=2e-5, rtol=0)
    terms = process.loss(output, clean, x, t, noise)
    for name in ("mse", "vb", "loss"):
        torch.testing.assert_close(terms[name], record[name], atol=2e-5, rtol=2e-5)
    terms["loss"].mean().backward()
    norm = torch.stack([p.grad.norm() for p in small.parameters()]).norm().item()
    assert norm == pytest.approx(record["grad_norm"], rel=1e-4)
    for name, parameter in (
        ("grad_out2_weight", small.out[2].weight),
        ("grad_in0_weight", small.input_blocks[0][0].weight),
        ("grad_qkv", small.middle_block[1].qkv.weight),
    ):
        scale = record[name].abs().max().item()
        torch.testing.assert_close(parameter.grad, record[name], atol=2e-4 * scale, rtol=0)


def test_three_steps_of_the_preset_dispr(small):
    """Loss, parameters and average of what ``train --preset dispr`` does, step by step."""
    numbers, start = stored("small_three_steps"), stored("small_training_loss")["x_start"]
    state = State(PRESETS["dispr"], SMALL, torch.device("cpu"))
    state.start_from(small)
    objective = objective_of(state.network, state.settings)
    clean = (start[:, 2:] > 0).float()
    for t, noise, expected in zip(numbers["ts"], numbers["noise"], numbers["losses"], strict=True):
        # The fixture's planes are a volume, repeated along z as the original holds them.
        loss = objective.at(start[:, :2], clean, noise, torch.tensor([t])).mean()
        assert loss.item() == pytest.approx(expected, abs=2e-5)
        loss.backward()
        state.update(1)
    before, after, means = small.state_dict(), state.network.state_dict(), state.average.state_dict()
    for name, expected in numbers["params"].items():
        # Adam divides by the size of a gradient however small, rounding and all: 1 % of the way gone.
        assert (after[name] - before[name]).abs().max() > 1e-4
        torch.testing.assert_close(after[name], expected, atol=3e-6, rtol=0)
        torch.testing.assert_close(means[name], numbers["ema"][name], atol=1e-8, rtol=1e-6)


def test_the_preset_dispr_is_the_paper(small):
    settings = PRESETS["dispr"]
    assert topology_of(settings) == NetworkConfig()
    network = UNet3D(SMALL)
    objective = objective_of(network, settings)
    assert objective.process == GaussianDiffusion()
    assert (settings.batch, settings.learning_rate, settings.ema, settings.clip) == (1, 1e-4, 0.9999, None)


def test_half_of_the_bound_that_belongs_to_the_mean_is_detached(small, numbers):
    clean, noise = (numbers["x_start"][:, 2:] > 0).float(), numbers["noise"]
    process, t = GaussianDiffusion(), torch.tensor([200])
    output = torch.zeros(1, 2, *clean.shape[2:], requires_grad=True)
    x = process.diffuse(clean, t, noise)
    process.loss(output, clean, x, t, noise)["vb"].mean().backward()
    assert not output.grad[:, 0].any()
    assert output.grad[:, 1].any()


def test_network_that_predicts_the_shape_is_compared_with_it():
    process = GaussianDiffusion(variance="fixed_small", predicts="shape")
    clean, noise, t = torch.rand(2, 1, 4, 4, 4), torch.randn(2, 1, 4, 4, 4), torch.tensor([3, 700])
    x = process.diffuse(clean, t, noise)
    assert torch.equal(process.clean_shape(x, t, clean), clean)
    terms = process.loss(clean, clean, x, t, noise)
    assert "vb" not in terms
    assert not terms["loss"].any()


def test_noise_that_is_known_gives_the_clean_shape_back():
    process = GaussianDiffusion()
    clean, noise = torch.rand(3, 1, 4, 4, 4), torch.randn(3, 1, 4, 4, 4)
    t = torch.tensor([0, 300, 700])
    x = process.diffuse(clean, t, noise)
    torch.testing.assert_close(process.clean_shape(x, t, noise), clean, atol=1e-4, rtol=0)


def test_divergence_between_gaussians():
    mean, log_variance = torch.tensor([0.3]), torch.tensor([-0.2])
    assert gaussian_kl(mean, -0.2, mean, log_variance).item() == pytest.approx(0, abs=1e-7)
    p, q = torch.distributions.Normal(0.3, np.exp(0.1)), torch.distributions.Normal(-0.5, np.exp(-0.35))
    expected = torch.distributions.kl_divergence(p, q).item()
    found = gaussian_kl(mean, 0.2, torch.tensor([-0.5]), torch.tensor([-0.7])).item()
    assert found == pytest.approx(expected, rel=1e-6)


def test_likelihoods_of_all_levels_add_up_to_one():
    levels = torch.linspace(-1, 1, 256, dtype=torch.float64)
    for mean, log_scale in ((0.2, -2.0), (-0.99, -3.0), (0.0, 0.5)):
        mean_of, scale_of = torch.full_like(levels, mean), torch.full_like(levels, log_scale)
        assert discretised_log_likelihood(levels, mean_of, scale_of).exp().sum().item() == pytest.approx(
            1, abs=1e-6
        )


# --- rectified flow -----------------------------------------------------------------------------------


@pytest.mark.parametrize("shift", [1.0, 12.0])
def test_flow_runs_from_noise_to_shape(shift):
    process = RectifiedFlow(shift)
    times = process.times(8)
    assert len(times) == 9
    assert times[0] == 1 and times[-1] == 0
    assert all(a > b for a, b in pairwise(times))
    assert process.signal(1) == 0 and process.noise(1) == 1
    assert process.signal(0) == 1 and process.noise(0) == 0


def test_shift_pushes_times_towards_noise():
    assert RectifiedFlow(1.0).times(4) == pytest.approx((1, 0.75, 0.5, 0.25, 0))
    assert RectifiedFlow(3.0).times(4) == pytest.approx((1, 0.9, 0.75, 0.5, 0))
    # The shift multiplies the odds of t: sampling and training agree on what it means.
    drawn = RectifiedFlow(12.0).training_times(50_000, torch.Generator().manual_seed(0))
    assert ((drawn > 0) & (drawn < 1)).all()
    odds = torch.logit(drawn.double())
    assert odds.mean().item() == pytest.approx(np.log(12), abs=0.02)
    assert odds.std().item() == pytest.approx(1, abs=0.02)


def test_training_times_come_from_their_generator():
    process = RectifiedFlow()
    first, again = (process.training_times(4, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, again)


def test_flow_diffuses_along_a_straight_line():
    clean, noise = torch.rand(2, 1, 4, 4, 4), torch.randn(2, 1, 4, 4, 4)
    x = RectifiedFlow().diffuse(clean, torch.tensor([0.25, 1.0]), noise)
    torch.testing.assert_close(x[0], 0.75 * clean[0] + 0.25 * noise[0])
    assert torch.equal(x[1], noise[1])


def test_flow_loss_is_a_weighted_mean_a_sample():
    clean, predicted = torch.zeros(2, 1, 2, 2, 2), torch.zeros(2, 1, 2, 2, 2)
    predicted[1, 0, 1] = 2.0
    weight = torch.tensor([0.5, 1.5]).view(1, 1, 2, 1, 1)
    assert flow_loss(predicted, clean, weight).tolist() == [0.0, 3.0]


def test_the_velocity_gives_the_clean_picture_and_the_noise_back():
    process = GaussianDiffusion(schedule="later cosine", variance="fixed_small", predicts="velocity")
    source = torch.Generator().manual_seed(0)
    clean, noise = torch.randn((2, 3, 1, 8, 8), generator=source)
    t = torch.tensor([0, 400, 999])
    x = process.diffuse(clean, t, noise)
    velocity = process.target(clean, t, noise)
    torch.testing.assert_close(process.clean_shape(x, t, velocity), clean, atol=1e-5, rtol=1e-4)
    assert velocity.std() == pytest.approx(1, abs=0.1)


def test_the_later_cosine_schedule_has_more_noise_at_each_time():
    usual, later = (GaussianDiffusion(schedule=name) for name in ("cosine", "later cosine"))
    assert (np.diff(later.alphas_bar) < 0).all()
    middle = slice(100, 900)
    ratio = [bar / (1 - bar) for bar in (usual.alphas_bar[middle], later.alphas_bar[middle])]
    np.testing.assert_allclose(ratio[0] / ratio[1], 16, rtol=5e-3)
