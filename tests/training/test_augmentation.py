"""Augmentation: samples are still true cells."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from support.simulated import cell_of

from napari_dispr import InputError, grid, signed_distance
from napari_dispr.cells.training_cells import (
    STORED_TRUNCATION,
    TrainingCell,
    larger_side,
    training_cell,
)
from napari_dispr.diffusion.cosines import volume_of
from napari_dispr.shapes.morphometry import iou
from napari_dispr.synthesis.phantoms import phantom
from napari_dispr.training.augmentation import augmented, unaugmented
from napari_dispr.training.known_shapes import versions

#: The imaged plane, and the in-plane middle.
MIDDLE = np.array([32.0, 31.5, 31.5])


@pytest.fixture(scope="module")
def discocyte():
    return cell_of("discocyte")


@pytest.fixture(scope="module")
def knizocyte():
    return cell_of("knizocyte", 1)


def rng(seed):
    return np.random.default_rng(seed)


def test_training_cell_is_the_cell(discocyte):
    obj = phantom("discocyte", rng(0))
    assert np.array_equal(discocyte.signed_distance > 0, obj > 127.5)
    assert np.abs(discocyte.signed_distance).max() <= STORED_TRUNCATION
    assert discocyte.signed_distance.dtype == np.float16
    sample = unaugmented(discocyte)
    assert sample.mask is discocyte.mask
    assert np.array_equal(sample.signed_distance, discocyte.signed_distance)


@pytest.mark.parametrize("value", [0, 255])
def test_object_without_surface(value):
    mask = np.ones((64, 64), np.float32)
    with pytest.raises(InputError, match="cell x has no surface"):
        training_cell("x", mask, None, np.full(grid.SHAPE, value, np.uint8))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("resliced", [0.0, 1.0])
def test_sample_is_a_whole_cell_cut_by_its_mask(knizocyte, seed, resliced):
    sample = augmented(knizocyte, rng(seed), resliced=resliced, image_dropout=0.0)
    inside = sample.signed_distance > 0
    assert sample.signed_distance.shape == grid.SHAPE and sample.signed_distance.dtype == np.float32
    assert sample.mask.dtype == np.float32 and sample.mask.min() >= 0 and sample.mask.max() <= 1
    assert iou(inside[grid.IMAGED_PLANE], sample.mask > 0.5) > 0.96
    # Nothing is clipped: a voxel of background all around.
    for axis in range(3):
        assert not inside.take([0, -1], axis=axis).any()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("resliced", [0.0, 1.0])
def test_distances_are_turned_and_still_distances(discocyte, seed, resliced):
    sample = augmented(discocyte, rng(seed), resliced=resliced, bent=False)
    found = np.clip(sample.signed_distance, -8, 8)
    again = signed_distance.from_level(sample.signed_distance, 0.0, 8.0)
    # A large cell turned in space: beyond the border of its grid no distance is known.
    assert np.abs(found - again).mean() < 0.25
    assert np.percentile(np.abs(found - again)[np.abs(again) < 3], 99) < 0.3
    assert found.max() > 5 and found.min() == -8  # enough is stored for what is trained on


def volume(distance):
    return np.clip(distance.astype(np.float32) + 0.5, 0, 1).sum()


def test_scales_are_as_wide_as_stated(discocyte):
    drawn = [augmented(discocyte, rng(seed), resliced=0.0, bent=False) for seed in range(20)]
    assert all(0.85 <= sample.scale <= 1.15 for sample in drawn)
    scales = np.cbrt([volume(s.signed_distance) / volume(discocyte.signed_distance) for s in drawn])
    assert 0.84 < scales.min() < 0.95 < scales.max() < 1.16


def test_known_shapes_of_simulated_cells_keep_shape_and_size(discocyte):
    for varied in (False, True):
        shapes = [one for one in versions([discocyte], 30, 8.0, 50.0, varied=varied) if one.sized]
        # The zeroth cosine is the mean distance of all voxels.
        spread = np.std([one.shape[0, 0, 0] for one in shapes])
        assert len(shapes) > 10 and (spread < 1) != varied


def test_known_shapes_of_hidden_size_have_the_extent_of_the_scale_auto(discocyte):
    extents = [
        larger_side(volume_of(one.shape, one.look.angle)[grid.IMAGED_PLANE] > 0)
        for one in versions([discocyte], 30, 8.0, 40.0, varied=False)
        if not one.sized
    ]
    assert abs(discocyte.extent - 40) > 5 and abs(np.median(extents) - 40) <= 2


def test_scale_of_the_sample_is_correct(discocyte):
    for seed in range(4):
        sample = augmented(discocyte, rng(seed), resliced=0.5, bent=False)
        grown = np.cbrt(volume(sample.signed_distance) / volume(discocyte.signed_distance))
        assert sample.scale == pytest.approx(grown, rel=0.01)


@pytest.mark.parametrize("seed", range(4))
def test_bending_keeps_picture_and_shape_together(knizocyte, seed):
    straight, bent = (
        augmented(knizocyte, rng(seed), resliced=0.0, image_dropout=0.0, bent=b) for b in (False, True)
    )
    assert 0.5 < iou(straight.signed_distance > 0, bent.signed_distance > 0) < 0.97
    assert iou(bent.signed_distance[grid.IMAGED_PLANE] > 0, bent.mask > 0.5) > 0.96
    again = signed_distance.from_level(bent.signed_distance, 0.0, 4.0)
    assert np.abs(np.clip(bent.signed_distance, -4, 4) - again).mean() < 0.15


def test_blend_lies_between_its_cells(discocyte, knizocyte):
    options = {"resliced": 0.0, "blended": 1.0, "bent": False}
    for seed in range(4):
        sample = augmented(discocyte, rng(seed), partner=knizocyte, **options)
        assert sample.image is None
        assert iou(sample.signed_distance[grid.IMAGED_PLANE] > 0, sample.mask > 0.5) > 0.96
        volumes = [volume(cell.signed_distance) for cell in (discocyte, knizocyte)]
        assert 0.4 * min(volumes) < volume(sample.signed_distance) < 1.6 * max(volumes)
    alone = augmented(discocyte, rng(0), **options)
    assert alone.image is not None or alone.mask.any()


def test_shape_that_would_be_clipped_is_shrunk():
    z, y, x = np.indices(grid.SHAPE) - MIDDLE[:, None, None, None]
    box = np.minimum.reduce([30.5 - abs(z), 30.5 - abs(y), 30.5 - abs(x)])
    obj = np.rint(255 * np.clip(box + 0.5, 0, 1)).astype(np.uint8)
    cell = training_cell("box", obj[32].astype(np.float32) / 255, None, obj)
    for seed in range(4):
        for resliced in (0.0, 1.0):
            sample = augmented(cell, rng(seed), resliced=resliced)
            inside = sample.signed_distance > 0
            assert not any(inside.take([0, -1], axis=axis).any() for axis in range(3))
            # Turned in the plane the box is 1.41, in space up to 1.73 times as wide.
            assert volume(sample.signed_distance) > 0.9 * (1 / 1.75) ** 3 * volume(cell.signed_distance)


def test_mirror_is_about_the_imaged_plane():
    # A cap above the plane: mirrored it lies as far below it, z -> 64 - z.
    z, y, x = np.indices(grid.SHAPE) - MIDDLE[:, None, None, None]
    cap = np.minimum(np.minimum(z + 2.5, 12.5 - z), 15 - np.hypot(y, x))
    obj = np.rint(255 * np.clip(cap + 0.5, 0, 1)).astype(np.uint8)
    cell = training_cell("cap", obj[32].astype(np.float32) / 255, None, obj)
    heights = {"above": set(), "below": set()}
    for seed in range(16):
        inside = augmented(cell, rng(seed), resliced=0.0).signed_distance > 0
        up, down = (np.flatnonzero(inside.any(axis=(1, 2)))[i] - 32 for i in (-1, 0))
        heights["above" if up > -down else "below"].add((up, -down))
    assert heights["above"] and heights["below"]
    for up, down in heights["above"]:
        assert 9 <= up <= 14 and 1 <= down <= 3
    for up, down in heights["below"]:
        assert 1 <= up <= 3 and 9 <= down <= 14


def test_steep_cell_is_cut_by_its_mask_also_when_mirrored():
    # A cone whose section changes by a voxel a plane: a mirror half a voxel off would show.
    z, y, x = np.indices(grid.SHAPE) - MIDDLE[:, None, None, None]
    cone = np.minimum(np.minimum(14 - np.hypot(y, x) - z, z + 10.0) / np.sqrt(2), 12 - z)
    obj = np.rint(255 * np.clip(cone + 0.5, 0, 1)).astype(np.uint8)
    cell = training_cell("cone", obj[32].astype(np.float32) / 255, None, obj)
    mirrored = 0
    for seed in range(8):
        sample = augmented(cell, rng(seed), resliced=0.0)
        inside = sample.signed_distance > 0
        mirrored += inside[40].sum() > inside[24].sum()
        assert iou(inside[32], sample.mask > 0.5) > 0.97
    assert 0 < mirrored < 8


def test_image_goes_where_the_mask_goes(discocyte):
    image = np.zeros((64, 64), np.float32)
    image[discocyte.mask > 0.5] = 0.5
    cell = TrainingCell("m", discocyte.mask, image, discocyte.signed_distance, discocyte.surface)
    for seed in range(6):
        sample = augmented(cell, rng(seed), resliced=0.0, image_dropout=0.0)
        assert iou(sample.image > 0.5 * sample.image.max(), sample.mask > 0.5) > 0.9


def test_resliced_samples_come_without_image_and_with_another_section(discocyte):
    sections = []
    for seed in range(5):
        sample = augmented(discocyte, rng(seed), resliced=1.0)
        assert sample.image is None
        sections.append((sample.mask > 0.5).sum())
        # The cut goes through the middle of the cell.
        planes = np.flatnonzero((sample.signed_distance > 0).any(axis=(1, 2)))
        assert abs((planes[0] + planes[-1]) / 2 - grid.IMAGED_PLANE) < 3
    assert np.ptp(sections) > 0.2 * np.mean(sections)


def test_shares_are_kept(discocyte):
    without = TrainingCell("m", discocyte.mask, None, discocyte.signed_distance, discocyte.surface)
    assert augmented(without, rng(0), resliced=0.0, image_dropout=0.0).image is None
    assert augmented(discocyte, rng(0), resliced=0.0, image_dropout=0.0).image is not None
    assert augmented(discocyte, rng(0), resliced=0.0, image_dropout=1.0).image is None
    dropped = [augmented(discocyte, rng(s), resliced=0.0, image_dropout=0.5).image is None for s in range(40)]
    assert 8 < sum(dropped) < 32


def test_section_that_shows_nothing_is_not_used():
    # A bowl: through the middle of its box a cut along its rim shows nothing.
    z, y, x = np.indices(grid.SHAPE) - MIDDLE[:, None, None, None]
    two = np.maximum(8 - np.sqrt((z - 18) ** 2 + y**2 + x**2), 8 - np.sqrt((z + 18) ** 2 + y**2 + x**2))
    obj = np.rint(255 * np.clip(two + 0.5, 0, 1)).astype(np.uint8)
    mask = np.ones((64, 64), np.float32)
    cell = training_cell("two", mask, None, obj)
    seen = [augmented(cell, rng(seed), resliced=1.0).mask for seed in range(12)]
    assert all((plane > 0.5).any() for plane in seen)
    assert any(plane is mask for plane in seen)


def test_sample_depends_on_its_generator_alone(discocyte):
    first, again, other = (augmented(discocyte, rng(seed), resliced=0.5) for seed in (7, 7, 8))
    assert np.array_equal(first.signed_distance, again.signed_distance)
    assert np.array_equal(first.mask, again.mask)
    assert (first.image is None) == (again.image is None)
    assert not np.array_equal(first.mask, other.mask)


def test_cell_given_is_not_changed(discocyte):
    before = discocyte.signed_distance.copy(), discocyte.mask.copy(), discocyte.image.copy()
    augmented(discocyte, rng(0), resliced=0.0, image_dropout=0.0)
    assert all(
        np.array_equal(a, b)
        for a, b in zip(before, (discocyte.signed_distance, discocyte.mask, discocyte.image), strict=True)
    )


def test_random_turns_are_rotations():
    # What the module relies on of SciPy: no mirror among them, so that a resliced cell keeps its handedness.
    turns = Rotation.random(20, random_state=rng(0)).as_matrix()
    np.testing.assert_allclose(np.linalg.det(turns), 1, atol=1e-12)


def test_pictures_at_all_depths_move_with_the_shape(discocyte):
    """The picture is the shape itself, so that it must be where the shape is."""
    stack = np.where(discocyte.signed_distance > 0, 255, 0).astype(np.uint8)
    cell = replace(discocyte, image=discocyte.mask, stack=stack)
    for seed in range(6):
        rng = np.random.default_rng(seed)
        sample = augmented(cell, rng, resliced=0.0, image_dropout=0.0, with_stack=True)
        different = (sample.stack > 0.5) ^ (sample.signed_distance > 0)
        assert different.sum() < 0.1 * (sample.signed_distance > 0).sum()
        same = augmented(cell, np.random.default_rng(seed), resliced=0.0, image_dropout=0.0)
        assert same.stack is None and np.array_equal(same.image, sample.image)
    assert augmented(cell, np.random.default_rng(0), image_dropout=1.0, with_stack=True).stack is None
