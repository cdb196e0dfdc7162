"""Denoisers: the inputs of the networks, and agreement with the mask without a seam."""

import numpy as np
import pytest
import torch
from support.models import dispr_model, tiny_model

from napari_dispr import grid, signed_distance
from napari_dispr.cells.cropping import Crop
from napari_dispr.diffusion.samplers import CLEAR, GaussianDenoiser, agree_with_sections
from napari_dispr.planes import KnownPlane
from napari_dispr.synthesis.phantoms import KINDS, phantom

CPU = torch.device("cpu")


def field(values, truncation=8.0):
    distance = signed_distance.from_level(values, 127.5, truncation) / truncation
    return torch.from_numpy(distance)


def crop(mask, image=None, **known):
    return Crop(1, mask, image, 1.0, grid.grid_to_pixel(1.0, (31.5, 31.5)), **known)


def disc(radius, hole=0.0):
    y, x = np.indices((64, 64))
    r = np.hypot(y - 31.5, x - 31.5)
    level = np.clip(np.minimum(radius - r, r - hole if hole else np.inf) + 0.5, 0, 1).astype(np.float32)
    return torch.from_numpy(signed_distance.from_level(level, 0.5, 16.0) / 8).clamp(-1, 1)


def agree_with_mask(clean, mask_distance):
    """One section, in the imaged plane."""
    return agree_with_sections(clean, torch.zeros(len(clean), 1), mask_distance[:, None])


def sections(volume, depths):
    """The sections of a volume (64, 64, 64), read between its voxels."""
    place = 32 + np.asarray(depths)
    below = np.floor(place).astype(int)
    share = torch.from_numpy(place - below)[:, None, None]
    return volume[below] * (1 - share) + volume[np.minimum(below + 1, 63)] * share


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


def test_one_section_is_corrected_as_ever():
    """Bit by bit: the shipped models draw the same voxels as before there were further planes."""
    shape = torch.randn(2, 1, *grid.SHAPE, generator=torch.Generator().manual_seed(4)).clamp(-1, 1)
    masks = torch.stack([disc(10.0), disc(20.0, hole=6.0)])
    section = shape[:, 0, 32]
    near = masks / 3
    low, high = torch.minimum(near, masks), torch.maximum(near, masks)
    missing = torch.minimum(torch.maximum(section, low), high) - section
    weight = torch.exp(-0.5 * (torch.from_numpy(grid.plane_distance()) / 3.0) ** 2).view(1, -1, 1, 1)
    assert torch.equal(agree_with_mask(shape, masks), shape + (weight * missing[:, None])[:, None])


@pytest.mark.parametrize(
    "depths", [[0, 8], [0, -6, 6, 12], [0, 2.5, 5, 7.5, 10], [0, -1.5, 1.5, 3, 4.5], [0, 31]]
)
def test_all_known_sections_are_met(depths):
    noise = torch.randn(1, 1, *grid.SHAPE, generator=torch.Generator().manual_seed(1)).clamp(-1, 1)
    edges = torch.stack([disc(20.0 - k) for k in range(len(depths) - 1)] + [torch.full((64, 64), -1.0)])
    agreed = agree_with_sections(noise, torch.tensor([depths], dtype=torch.float32), edges[None])
    found = sections(agreed[0, 0], depths)
    assert torch.equal(found > 0, edges > 0)
    assert found[-1].max() < 0  # the empty section, too
    assert (found.abs() <= edges.abs() + 1e-3).all()


def test_sections_of_a_shape_leave_it_alone():
    z, y, x = np.indices(grid.SHAPE)
    ball = np.clip(20.5 - np.sqrt((z - 32) ** 2 + (y - 31.5) ** 2 + (x - 31.5) ** 2), 0, 1) * 255
    depths = [0.0, 7.5, -13.0, 24.0]
    edges = torch.stack(
        [disc(max(0.1, 20**2 - d**2) ** 0.5) if d < 20 else torch.full((64, 64), -1.0) for d in depths]
    )
    shape = field(ball)[None, None]
    agreed = agree_with_sections(shape, torch.tensor([depths]), edges[None])
    assert ((agreed > 0) ^ (shape > 0)).sum() < 0.01 * (shape > 0).sum()


@pytest.mark.parametrize("end", [21.5, 24.0])
def test_a_cell_may_end_anywhere_before_an_empty_section(end):
    """A ball with a radius of 20 is not changed by an empty plane above it."""
    z, y, x = np.indices(grid.SHAPE)
    ball = np.clip(20.5 - np.sqrt((z - 32) ** 2 + (y - 31.5) ** 2 + (x - 31.5) ** 2), 0, 1) * 255
    shape, empty = field(ball)[None, None], torch.full((64, 64), -1.0)
    agreed = agree_with_sections(shape, torch.tensor([[0.0, end]]), torch.stack([disc(20.0), empty])[None])
    assert (agreed - shape).abs().max() < 0.05


def test_corrections_of_several_sections_fade_without_a_jump():
    shape = field(phantom("discocyte", np.random.default_rng(3)))[None, None]
    depths = torch.tensor([[0.0, 6.5, -7.0]])
    edges = torch.stack([disc(14.0), disc(9.0), disc(11.0)])[None]
    change = (agree_with_sections(shape, depths, edges) - shape)[0, 0]
    largest = change.abs().max()
    assert largest > 0.5
    assert (change[1:] - change[:-1]).abs().max() < 0.25 * largest
    assert change[[0, -1]].abs().max() < 1e-3


def test_a_silhouette_bounds_all_planes_and_leaves_no_column_empty():
    noise = torch.randn(1, 1, *grid.SHAPE, generator=torch.Generator().manual_seed(1)).clamp(-1, 1)
    silhouette = disc(20.0, hole=6.0)
    projection = torch.tensor([[torch.nan]])
    for shape in (
        noise,
        -torch.ones_like(noise),
        field(phantom("echinocyte", np.random.default_rng(0)))[None, None],
    ):
        agreed = agree_with_sections(shape, projection, silhouette[None, None])
        assert torch.equal((agreed[0, 0] > 0).any(dim=0), silhouette > 0)
        assert (agreed[0, 0].amax(dim=0)[silhouette > CLEAR] >= CLEAR - 1e-6).all()
    filled = agree_with_sections(-torch.ones_like(noise), projection, silhouette[None, None])[0, 0] > 0
    assert filled[32].any() and not filled[:20].any() and not filled[44:].any()


def test_cells_of_a_batch_do_not_change_each_other():
    noise = torch.randn(2, 1, *grid.SHAPE, generator=torch.Generator().manual_seed(5)).clamp(-1, 1)
    depths = torch.tensor([[0.0, torch.nan, torch.nan], [0.0, 5.25, -6.0]])
    edges = torch.stack([disc(r) for r in (12.0, 9.0, 9.0, 20.0, 16.0, 15.0)]).view(2, 3, 64, 64)
    both = agree_with_sections(noise, depths, edges)
    assert torch.equal(both[:1], agree_with_sections(noise[:1], depths[:1, :1], edges[:1, :1]))
    assert torch.equal(both[1:], agree_with_sections(noise[1:], depths[1:], edges[1:]))


def test_cells_of_a_batch_keep_to_their_own_masks():
    shape = torch.zeros(2, 1, *grid.SHAPE)
    agreed = agree_with_mask(shape, torch.stack([disc(10.0), disc(20.0)]))
    assert (agreed[0, 0, 32] > 0).sum() < (agreed[1, 0, 32] > 0).sum()


def test_flow_denoiser_draws_the_mask_from_untrained_weights():
    model = tiny_model()
    mask = np.zeros((64, 64), np.float32)
    mask[15:50, 20:40] = 1
    x = torch.randn(1, 1, *grid.SHAPE, generator=torch.Generator().manual_seed(0))
    network = model.ready(CPU)
    denoiser = model.denoiser([crop(mask)], network)
    free = network(x.to(denoiser.dtype), torch.tensor([900.0]), denoiser.features).float()
    kept = denoiser(x, 0.9)
    assert kept.variance_fraction is None and kept.clean.dtype == torch.float32
    assert np.array_equal(kept.clean[0, 0, 32] > 0, mask > 0.5)
    assert not np.array_equal(free[0, 0, 32] > 0, mask > 0.5)


def test_a_cell_is_encoded_once_whatever_else_is_in_the_batch(monkeypatch):
    model = tiny_model()
    for parameter in model.network.parameters():
        torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(0))
    one, other = (crop(np.float32(disc(radius).numpy() > 0)) for radius in (12.0, 20.0))
    network, counts = model.ready(CPU), []
    encode = network.encode
    monkeypatch.setattr(network, "encode", lambda *known: counts.append(len(known[0])) or encode(*known))
    alone = model.denoiser([one], network).features
    both = model.denoiser([other, one, one], network).features
    assert counts == [1, 1, 1] and both[1].std() > 0
    assert torch.equal(both[1], alone[0]) and torch.equal(both[2], alone[0])
    assert not torch.equal(both[0], both[1])


def test_denoiser_meets_further_planes_that_its_network_does_not_know():
    model = tiny_model()
    assert not model.network.config.volumes
    disc_mask = (disc(16.0).numpy() > 0).astype(np.float32)
    smaller = (disc(9.0).numpy() > 0).astype(np.float32)
    planes = (KnownPlane(-6.5, smaller), KnownPlane(10.0, np.zeros_like(smaller)))
    x = torch.randn(2, 1, *grid.SHAPE, generator=torch.Generator().manual_seed(0))
    crops = [crop(disc_mask, planes=planes), crop(disc_mask, picture="projection")]
    several, projection = model.denoiser(crops, model.ready(CPU))(x, 0.9).clean[:, 0]
    found = sections(several, [0.0, -6.5, 10.0]).numpy() > 0
    np.testing.assert_array_equal(found, np.stack([disc_mask, smaller, 0 * smaller]) > 0)
    np.testing.assert_array_equal((projection > 0).any(dim=0), disc_mask > 0)


def test_gaussian_denoiser_repeats_planes_and_clips():
    model = dispr_model(rescale_timesteps=True, steps=100)
    mask = np.zeros((64, 64), np.float32)
    mask[15:50, 20:40] = 1
    image = np.random.default_rng(0).random((64, 64)).astype(np.float32)
    denoiser = model.denoiser([crop(mask, image)], model.ready(CPU))
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
