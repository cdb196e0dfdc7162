"""Masks: signed distances survive augmentation, a batch is reproducible, copies are recognised."""

import numpy as np
import pytest
import torch

from napari_dispr.diffusion.network import UNet
from napari_dispr.synthesis import masks
from napari_dispr.synthesis.learned import ready

Y, X = np.mgrid[:128, :128].astype(np.float32) - 63.5


def ellipse(a, b):
    """About the signed distance of an ellipse."""
    scale = np.sqrt((Y / a) ** 2 + (X / b) ** 2)
    return ((1 - scale) * min(a, b)).astype(np.float32)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    untrained = UNet(masks.TOPOLOGY)
    torch.nn.init.normal_(untrained.out[-1].weight, std=0.01)
    return ready(untrained, torch.device("cpu"))


@pytest.mark.parametrize("seed", range(3))
def test_an_augmented_mask_is_a_cell_of_about_the_same_size(seed) -> None:
    made = masks.augmented(ellipse(40, 25), np.random.default_rng(seed))
    assert made.shape == (128, 128) and made.dtype == np.float32
    assert (made > 0).sum() == pytest.approx(np.pi * 40 * 25, rel=0.25)
    assert not np.array_equal(made, ellipse(40, 25))
    slope = np.hypot(*np.gradient(masks.augmented(-np.hypot(Y, X) + 30, np.random.default_rng(seed))))
    assert np.median(slope) == pytest.approx(1, abs=0.05)  # still a distance


@pytest.mark.parametrize(("sampler", "steps"), [("dpm-solver++", 3), ("ddim", 3), ("ddpm", 3)])
def test_masks_depend_on_their_seeds_alone(network, sampler, steps) -> None:
    *between, made = masks.iter_masks(network, [1, 2], sampler, steps)
    assert between == [None] * steps
    assert made.shape == (2, 128, 128)
    *_, again = masks.iter_masks(network, [1, 2], sampler, steps)
    assert np.array_equal(made, again)
    *_, other = masks.iter_masks(network, [3, 2], sampler, steps)
    assert not np.array_equal(made[0], other[0])


def test_a_mask_has_one_part() -> None:
    two = np.maximum(20 - np.hypot(Y - 20, X - 20), 8 - np.hypot(Y + 40, X + 40)).astype(np.float32)
    one = masks._one_part(two)
    assert (one > 0).sum() == (np.hypot(Y - 20, X - 20) < 20).sum()
    assert np.array_equal(np.abs(one), np.abs(two))


def test_a_turned_and_mirrored_mask_is_a_copy_and_another_shape_is_not() -> None:
    bean = np.minimum(ellipse(44, 26), np.hypot(Y - 8, X - 30) - 14).astype(np.float32)
    copy = np.rot90(bean)[:, ::-1]
    assert masks.nearest_overlap([bean], [ellipse(20, 20), copy])[0] > 0.93
    assert masks.nearest_overlap([bean], [ellipse(20, 20)])[0] < 0.6
