"""Textures: correlated noise, the order of the slices, and what a training picture holds."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from napari_dispr.diffusion.network import UNet
from napari_dispr.diffusion.process import GaussianDiffusion
from napari_dispr.diffusion.samplers import SAMPLERS, Denoised
from napari_dispr.synthesis import masks, textures
from napari_dispr.synthesis.examples import PictureExample
from napari_dispr.synthesis.learned import ready


@pytest.mark.parametrize("rho", [0.0, 0.7, 2.0])
def test_noise_of_two_slices_correlates_as_equation_2_says(rho) -> None:
    noise = textures._noise(5, (4, 128, 128), rho).flatten(1).numpy()
    assert noise.std(axis=1) == pytest.approx(np.ones(4), abs=0.02)
    found = np.corrcoef(noise)[np.triu_indices(4, 1)]
    assert found == pytest.approx(np.full(6, rho**2 / (1 + rho**2)), abs=0.025)


def test_every_slice_is_drawn_once_after_the_slice_that_it_needs() -> None:
    depths, seen = [1, 4, 7], set()
    for batch in textures._in_turn(depths, with_neighbours=True):
        for cell, z, before in batch:
            assert (cell, z) not in seen
            assert (before is None) == (z == depths[cell] // 2)
            assert before is None or (abs(before - z) == 1 and (cell, before) in seen)
        seen |= {(cell, z) for cell, z, _ in batch}
    assert seen == {(cell, z) for cell, depth in enumerate(depths) for z in range(depth)}
    (at_once,) = textures._in_turn(depths, with_neighbours=False)
    assert {(cell, z) for cell, z, _ in at_once} == seen and all(before is None for *_, before in at_once)


@dataclass
class Normal:
    """The best denoiser of details from N(mean, sd^2)."""

    process: GaussianDiffusion
    sd: float
    mean: float = 0.0

    def __call__(self, x, t):
        signal, noise = self.process.signal(t), self.process.noise(t)
        share = signal * self.sd**2 / (signal**2 * self.sd**2 + noise**2)
        return Denoised(self.mean + share * (x - signal * self.mean))


@pytest.mark.parametrize("sd", [1.0, 0.5, 0.2])
@pytest.mark.parametrize("process", [textures.PROCESS, masks.PROCESS])
def test_few_evaluations_keep_the_strength_of_details(process, sd) -> None:
    start = torch.ones(1)  # the sampler is linear: one standard deviation stays one
    times = process.even_times(textures.STEPS["dpm-solver++"])
    *_, end = SAMPLERS["dpm-solver++"](Normal(process, sd), start, times, start.clone)
    assert end.item() / sd == pytest.approx(1, abs=0.06)
    *_, end = SAMPLERS["ddim"](Normal(process, sd), start, process.times(12), start.clone)
    assert end.item() / sd < 0.8  # even timesteps do not


@pytest.mark.parametrize("process", [textures.PROCESS, masks.PROCESS])
@pytest.mark.parametrize("steps", [10, 12, 30])
def test_what_all_pixels_have_in_common_keeps_its_mean_and_strength(process, steps) -> None:
    # The sum over 150 pixels of a cell whose light is 2 +- 0.7, relative to the noise of the sum.
    mean, sd = 2 * 150**0.5, 0.7 * 150**0.5
    start, times = torch.tensor([0.0, 1.0]), process.even_times(steps)
    *_, end = SAMPLERS["dpm-solver++"](Normal(process, sd, mean), start, times, start.clone)
    assert end[0].item() == pytest.approx(mean, rel=0.01)
    assert (end[1] - end[0]).item() == pytest.approx(sd, rel=0.05)


def disk(side, radius):
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    return np.hypot(y, x) < radius


def test_condition_is_the_signed_distance_of_the_mask() -> None:
    condition = textures.mask_condition(np.stack([disk(32, 10), np.zeros((32, 32), bool)]))
    assert condition.shape == (2, 32, 32)
    assert condition[0, 16, 16] == 1 and condition[0, 0, 0] == -1
    assert condition[0, 16, 22] == pytest.approx(3.5 / 8, abs=0.1)  # 3.5 pixels inside the edge
    assert (condition[1] == -1).all()


def test_a_sample_turns_picture_condition_and_weight_together() -> None:
    image = np.arange(32 * 32, dtype=np.float32).reshape(32, 32)
    mask = np.zeros((32, 32), bool)
    mask[4:12, 8:24] = True
    known = np.ones((32, 32), bool)
    known[:, 20:] = False
    example = PictureExample(image, mask, known, (image + 1,), depth=0.75)
    pictures = textures.Pictures.of([example], offset=500.0, scale=100.0)
    shown = []
    for seed in range(20):
        condition, clean, weight = pictures.sample(0, np.random.default_rng(seed))
        back = np.rint(clean[0] * 100 + 500).astype(int)
        assert np.array_equal(condition[0] > 0, mask.ravel()[back])
        assert np.array_equal(weight[0] > 0, known.ravel()[back])
        assert set(np.unique(condition[2])) in ({0.0}, {1.0})
        assert (condition[3] == 0.5).all()  # from -1 in the middle of the cell to 1 at its end
        shown.append(condition[2, 0, 0])
        if condition[2, 0, 0]:
            assert np.corrcoef(condition[1].ravel(), clean.ravel())[0, 1] > 0.95
    assert {0.0, 1.0} == set(shown)


def test_stacks_are_reproducible_and_follow_their_neighbours() -> None:
    torch.manual_seed(0)
    untrained = UNet(textures.TOPOLOGY)
    torch.nn.init.normal_(untrained.out[-1].weight, std=0.05)
    network = ready(untrained, torch.device("cpu"))
    stacks = [np.stack([disk(32, r) for r in (6, 9, 7)]), disk(32, 8)[None]]

    def drawn(**options):
        *_, pictures = textures.iter_textures(network, stacks, [3, 4], steps=2, **options)
        return pictures

    first = drawn()
    assert [picture.shape for picture in first] == [(3, 32, 32), (1, 32, 32)]
    assert all(np.array_equal(a, b) for a, b in zip(first, drawn(), strict=True))
    assert not np.allclose(first[0][0], drawn(with_neighbours=False)[0][0], atol=0.05)
    # The depth of a slice counts; half way is the same as not known.
    halfway = drawn(depths=[[0.5, 0.5, 0.5], [0.5]])
    assert all(np.array_equal(a, b) for a, b in zip(first, halfway, strict=True))
    deeper = drawn(depths=[[0.5, 0.5, 0.5], [1.0]])
    assert np.array_equal(first[0], deeper[0]) and not np.allclose(first[1], deeper[1], atol=0.05)
