"""Samplers: the original's trajectories, and exactness where the best denoiser is known in closed form."""

import math
from collections import deque
from dataclasses import dataclass
from itertools import pairwise

import pytest
import torch
from support.dispr_reference import stored, weights_of

from napari_dispr.diffusion.network import NetworkConfig, UNet3D
from napari_dispr.diffusion.process import GaussianDiffusion, Process, RectifiedFlow
from napari_dispr.diffusion.samplers import (
    SAMPLERS,
    Denoised,
    GaussianDenoiser,
    ddim,
    ddpm,
    dpm_solver_2m,
)

# --- numbers of the original ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def numbers():
    return stored("small_trajectories")


@pytest.fixture(scope="module")
def network():
    small = (
        UNet3D(NetworkConfig(channel_mult=(1, 2), attention_downsamplings=(2,))).eval().requires_grad_(False)
    )
    small.load_state_dict(weights_of(small))
    return small


class Recorder(GaussianDenoiser):
    """The real denoiser; remembers what it answered."""

    def __call__(self, x, t):
        answer = super().__call__(x, t)
        self.answers.append(answer)
        return answer


def run(sampler, network, numbers, clip=True):
    process = GaussianDiffusion()
    denoiser = Recorder(network, process, numbers["cond"], clip=clip)
    denoiser.answers = []
    noise = deque(numbers["step_noise"])
    times = process.times(10)
    assert list(times) == [*map(float, numbers["timestep_map"].flip(0)), -1.0]
    visited = list(sampler(denoiser, numbers["xT"], times, noise.popleft))
    return visited, denoiser.answers, noise


def compare(found, expected):
    scale = expected.abs().max().item()
    torch.testing.assert_close(torch.cat(found), expected, atol=2e-4 * scale, rtol=0)


#: At t = 999 an error of the network is 157 times as large in the clean shape that it points to.
CLEAN_TOLERANCE = 2e-5 * 157


def test_respaced_betas(numbers):
    process = GaussianDiffusion()
    steps = [process.posterior(t, s, None) for t, s in pairwise(process.times(10))]
    found = torch.tensor([step.log_beta for step in reversed(steps)], dtype=torch.float64).exp()
    torch.testing.assert_close(found, numbers["betas"], atol=1e-12, rtol=0)


def test_ddpm(network, numbers):
    visited, answers, noise = run(ddpm, network, numbers)
    compare(visited, numbers["ddpm_traj"])
    clean = torch.cat([answer.clean for answer in answers])
    torch.testing.assert_close(clean, numbers["ddpm_pred_xstart"], atol=CLEAN_TOLERANCE, rtol=0)
    torch.testing.assert_close(clean[-5:], numbers["ddpm_pred_xstart"][-5:], atol=2e-4, rtol=0)
    assert len(noise) == 1  # none is added at the last step
    assert torch.equal(visited[-1], answers[-1].clean)


def test_ddpm_without_clipping(network, numbers):
    visited, answers, _ = run(ddpm, network, numbers, clip=False)
    compare(visited, numbers["ddpm_traj_noclip"])
    compare([answer.clean for answer in answers], numbers["ddpm_pred_xstart_noclip"])


def test_first_step_of_ddpm(network, numbers):
    expected = numbers["p_mean_variance_first"]
    process = GaussianDiffusion()
    t, s = process.times(10)[:2]
    answer = GaussianDenoiser(network, process, numbers["cond"])(numbers["xT"], t)
    q = process.posterior(t, s, None)
    log_variance = process.log_variance(q, answer.variance_fraction)
    torch.testing.assert_close(answer.clean, expected["pred_xstart"], atol=CLEAN_TOLERANCE, rtol=0)
    mean = q.clean * answer.clean + q.current * numbers["xT"]
    torch.testing.assert_close(mean, expected["mean"], atol=2e-5, rtol=0)
    torch.testing.assert_close(log_variance, expected["log_variance"], atol=2e-5, rtol=0)
    torch.testing.assert_close(log_variance.exp(), expected["variance"], atol=2e-5, rtol=0)


def test_ddim(network, numbers):
    visited, _, noise = run(ddim, network, numbers)
    compare(visited, numbers["ddim_eta0_traj"])
    assert len(noise) == 10  # it adds none


# --- a denoiser known in closed form -----------------------------------------------------------------------

MEAN, SD = 0.3, 0.4


@dataclass
class Normal:
    """The best denoiser of clean shapes whose voxels are Normal(MEAN, SD): their expectation given x_t."""

    process: Process
    calls: int = 0

    def __call__(self, x, t):
        self.calls += 1
        signal, noise = self.process.signal(t), self.process.noise(t)
        gain = signal * SD**2 / (signal**2 * SD**2 + noise**2)
        fraction = None
        if isinstance(self.process, GaussianDiffusion):
            fraction = torch.full_like(x, -1.0)  # the lower bound: of x_s given x_t and this clean shape
        return Denoised(MEAN + gain * (x - signal * MEAN), fraction)

    def end_of(self, start):
        """Where the deterministic flow takes x at the first time: it keeps each quantile."""
        signal, noise = (f(self.process.times(2)[0]) for f in (self.process.signal, self.process.noise))
        return MEAN + SD * (start - signal * MEAN) / math.sqrt(signal**2 * SD**2 + noise**2)


def last(steps):
    return deque(steps, maxlen=1).pop()


def noise_of(*shape, seed=0):
    source = torch.Generator().manual_seed(seed)
    return lambda: torch.randn(*shape, generator=source, dtype=torch.float64)


def error(sampler, process, steps):
    """Of the end of a deterministic sampler, at worst over quantiles."""
    denoiser = Normal(process)
    start = torch.linspace(-3, 3, 7, dtype=torch.float64)
    end = last(sampler(denoiser, start, process.times(steps), noise_of(7)))
    assert denoiser.calls == steps
    return (end - denoiser.end_of(start)).abs().max().item()


FLOW = RectifiedFlow(shift=1.0)


@pytest.mark.parametrize("process", [FLOW, RectifiedFlow(12.0), GaussianDiffusion()])
@pytest.mark.parametrize("sampler", [ddim, dpm_solver_2m])
def test_deterministic_samplers_find_the_truth(sampler, process):
    errors = [error(sampler, process, steps) for steps in (20, 80, 320)]
    assert errors[2] < errors[1] / 3 < errors[0] / 6
    assert errors[2] < 0.05


@dataclass(frozen=True)
class Interior:
    """A rectified flow watched between times where lambda is finite."""

    first: float = 0.98
    last: float = 0.05

    def times(self, steps):
        # Even in lambda = log((1 - t) / t), as the solver's order is stated.
        ends = [math.log((1 - t) / t) for t in (self.first, self.last)]
        return tuple(1 / (1 + math.exp(ends[0] + (ends[1] - ends[0]) * i / steps)) for i in range(steps + 1))

    def signal(self, t):
        return 1.0 - t

    def noise(self, t):
        return t


@pytest.mark.parametrize(("sampler", "order"), [(ddim, 1), (dpm_solver_2m, 2)])
def test_order_of_convergence(sampler, order):
    process = Interior()
    x = torch.tensor([2.0], dtype=torch.float64)
    spread = [math.hypot((1 - t) * SD, t) for t in (process.first, process.last)]
    truth = (1 - process.last) * MEAN + (x - (1 - process.first) * MEAN) * spread[1] / spread[0]
    errors = []
    for steps in (32, 64, 128):
        end = last(sampler(Normal(process), x, process.times(steps), noise_of(1)))
        errors.append((end - truth).abs().item())
    for coarse, fine in pairwise(errors):
        assert math.log2(coarse / fine) == pytest.approx(order, abs=0.25)


@pytest.mark.parametrize("steps", [1, 2, 3, 8])
@pytest.mark.parametrize("name", ["dpm-solver++", "euler", "ddim"])
def test_few_steps_from_pure_noise_are_finite(name, steps):
    x = noise_of(1000)()
    end = last(SAMPLERS[name](Normal(FLOW), x, FLOW.times(steps), noise_of(1000)))
    assert torch.isfinite(end).all()
    if steps == 1:  # pure noise says nothing: the mean of all shapes
        torch.testing.assert_close(end, torch.full_like(end, MEAN))


def test_first_step_from_noise_and_last_into_the_shape_are_of_first_order():
    times, x = FLOW.times(6), noise_of(100)()
    solver = list(dpm_solver_2m(Normal(FLOW), x, times, noise_of(100)))
    straight = list(ddim(Normal(FLOW), x, times, noise_of(100)))
    torch.testing.assert_close(solver[0], straight[0])
    assert not torch.allclose(solver[2], straight[2])
    clean = Normal(FLOW)(solver[-2], times[-2]).clean
    torch.testing.assert_close(solver[-1], clean)


def test_one_step_of_a_gaussian_diffusion_starts_from_noise():
    process, x = GaussianDiffusion(), noise_of(1000)()
    end = last(ddim(Normal(process), x, process.times(1), noise_of(1000)))
    assert (end - MEAN).abs().max() < 0.01


@pytest.mark.parametrize("sampler", [ddpm, ddim])
def test_distribution_of_what_is_drawn(sampler):
    process, count = GaussianDiffusion(), 20_000
    noise = noise_of(count)
    drawn = last(sampler(Normal(process), noise(), process.times(1000), noise))
    assert drawn.mean().item() == pytest.approx(MEAN, abs=4 * SD / math.sqrt(count))
    # A step's variance is that of shapes known for certain, a little too small: 7 % with 100 steps.
    assert drawn.std().item() == pytest.approx(SD, rel=0.02)


def test_ddpm_of_a_large_fixed_variance_is_wider_in_few_steps():
    spread = {}
    for variance in ("fixed_small", "fixed_large"):
        process, noise = GaussianDiffusion(variance=variance), noise_of(20_000)
        spread[variance] = last(ddpm(Normal(process), noise(), process.times(10), noise)).std().item()
    assert spread["fixed_small"] < SD < spread["fixed_large"]


def test_ddpm_needs_a_gaussian_diffusion():
    with pytest.raises(TypeError):
        next(ddpm(Normal(FLOW), torch.zeros(1), FLOW.times(2), noise_of(1)))


@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers_yield_after_every_evaluation_and_can_be_closed(name):
    process = GaussianDiffusion()
    denoiser = Normal(process)
    steps = SAMPLERS[name](denoiser, noise_of(3)(), process.times(9), noise_of(3))
    for expected in range(1, 4):
        assert next(steps).shape == (3,)
        assert denoiser.calls == expected
    steps.close()
    assert denoiser.calls == 3
