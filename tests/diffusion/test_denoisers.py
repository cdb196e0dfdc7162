"""Denoisers: the inputs of the networks, and agreement with the mask without a seam."""

import numpy as np
import torch
from support.models import dispr_model, tiny_model

from napari_dispr import grid, signed_distance
from napari_dispr.diffusion.samplers import GaussianDenoiser, agree_with_mask
from napari_dispr.synthesis.phantoms import KINDS, phantom

CPU = torch.device("cpu")


def field(values, truncation=8.0):
    distance = signed_distance.from_level(values, 127.5, truncation) / truncation
    return torch.from_numpy(distance)


def disc(radius, hole=0.0):
    y, x = np.indices((64, 64))
    r = np.hypot(y - 31.5, x - 31.5)
    level = np.clip(np.minimum(radius - r, r - hole if hole else np.inf) + 0.5, 0, 1).astype(np.float32)
    return torch.from_numpy(signed_distance.from_level(level, 0.5, 16.0) / 8).clamp(-1, 1)


def test_imaged_plane_becomes_the_mask():
    rng = np.random.default_rng(0)
    shapes = torch.stack([field(phantom(kind, rng))[None] for kind in KINDS[:4]])
    masks = torch.stack([disc(24.0), disc(12.0), disc(20.0, hole=6.0), disc(3.0)])
    agreed = agree_with_mask(shapes, masks)
    assert torch.equal(agreed[:, 0, grid.IMAGED_PLANE] > 0, masks > 0)


def test_noise_too_becomes_the_mask():
    noise = torch.randn(1, 1, *grid.SHAPE, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
    assert torch.equal(agree_with_mask(noise, disc(20.0)[None])[0, 0, 32] > 0, disc(20.0) > 0)


def test_shape_that_agrees_is_left_alone():
    rng = np.random.default_rng(1)
    for kind in KINDS:
        obj = phantom(kind, rng)
        shape = field(obj)[None, None]
        mask = torch.from_numpy(signed_distance.from_level(obj[32], 127.5, 16.0) / 8).clamp(-1, 1)[None]
        change = (agree_with_mask(shape, mask) - shape).abs()
        # A real section lies within the bounds but where the surface leans more than 3 in 1.
        assert torch.equal(shape[0, 0, 32] > 0, mask[0] > 0)
        assert (change > 0.05).float().mean() < 0.03
    z, y, x = np.indices(grid.SHAPE)
    ball = np.clip(20.5 - np.sqrt((z - 32) ** 2 + (y - 31.5) ** 2 + (x - 31.5) ** 2), 0, 1) * 255
    shape = field(ball)[None, None]
    assert (agree_with_mask(shape, disc(20.0)[None]) - shape).abs().max() < 0.02


def test_agreeing_twice_is_agreeing_once():
    shape = torch.randn(1, 1, *grid.SHAPE, generator=torch.Generator().manual_seed(2))
    once = agree_with_mask(shape, disc(15.0)[None])
    torch.testing.assert_close(agree_with_mask(once, disc(15.0)[None]), once, atol=1e-6, rtol=0)


def test_correction_fades_without_a_jump():
    rng = np.random.default_rng(3)
    shape = field(phantom("discocyte", rng))[None, None]
    change = (agree_with_mask(shape, disc(14.0)[None]) - shape)[0, 0]
    largest = change[32].abs().max()
    assert largest > 0.5
    between = (change[1:] - change[:-1]).abs().amax(dim=(1, 2))
    assert between.max() < 0.25 * largest
    assert change[[0, -1]].abs().max() < 1e-3
    torch.testing.assert_close(change[31], change[33])


def test_cells_of_a_batch_keep_to_their_own_masks():
    shape = torch.zeros(2, 1, *grid.SHAPE)
    agreed = agree_with_mask(shape, torch.stack([disc(10.0), disc(20.0)]))
    assert (agreed[0, 0, 32] > 0).sum() < (agreed[1, 0, 32] > 0).sum()


def test_flow_denoiser_draws_the_mask_from_untrained_weights():
    model = tiny_model()
    mask = np.zeros((64, 64), np.float32)
    mask[15:50, 20:40] = 1
    x = torch.randn(1, 1, *grid.SHAPE, generator=torch.Generator().manual_seed(0))
    free = model.denoiser([mask], [None], model.ready(CPU), agree=False)(x, 0.9)
    kept = model.denoiser([mask], [None], model.ready(CPU))(x, 0.9)
    assert free.variance_fraction is None and kept.clean.dtype == torch.float32
    assert free.clean.abs().max() <= 1
    assert np.array_equal(kept.clean[0, 0, 32] > 0, mask > 0.5)
    assert not np.array_equal(free.clean[0, 0, 32] > 0, mask > 0.5)


def test_gaussian_denoiser_repeats_planes_and_clips():
    model = dispr_model(rescale_timesteps=True, steps=100)
    mask = np.zeros((64, 64), np.float32)
    mask[15:50, 20:40] = 1
    image = np.random.default_rng(0).random((64, 64)).astype(np.float32)
    denoiser = model.denoiser([mask], [image], model.ready(CPU))
    assert isinstance(denoiser, GaussianDenoiser)
    x = torch.randn(1, 1, 2, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        answer = denoiser(x, 40.0)
        planes = torch.from_numpy(np.stack([mask, image * mask]))[None, :, None].expand(-1, -1, 2, -1, -1)
        output = model.network(torch.cat([planes, x], 1), torch.tensor([400.0]))
        loose = GaussianDenoiser(model.network, model.process, planes, clip=False)(x, 40.0)
    torch.testing.assert_close(answer.variance_fraction, output[:, 1:], atol=1e-5, rtol=0)
    clean = model.process.clean_shape(x, torch.tensor([40]), output[:, :1])
    torch.testing.assert_close(loose.clean, clean, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(answer.clean, clean.clamp(-1, 1), atol=1e-4, rtol=0)
    assert clean.abs().max() > 1
