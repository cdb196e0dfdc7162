"""The condition: what reaches a network of a crop, and above all what does not."""

import itertools

import numpy as np
import pytest
import torch

from napari_dispr.cells.cropping import crop_cell
from napari_dispr.diffusion.condition import (
    MASK_TRUNCATION,
    Condition,
    Known,
    dispr_planes,
    filled_up,
    normalise_inside,
    signed_planes,
)
from napari_dispr.planes import KnownPlane
from napari_dispr.synthesis.phantoms import simulate_field

RNG = np.random.default_rng(0)
Y, X = np.indices((64, 64))
MASK = np.clip(20.5 - np.hypot(Y - 31.5, X - 31.5), 0, 1).astype(np.float32)
IMAGE = (0.3 + 0.1 * RNG.random((64, 64)) + 0.2 * MASK).astype(np.float32)


def test_planes_are_mask_distance_image_and_flag():
    mask, distance, image, known, scale, scale_known = signed_planes(MASK, IMAGE, 1.15)
    assert np.array_equal(mask, MASK)
    assert np.array_equal(distance > 0, MASK > 0.5)
    assert distance.max() == 1 and distance.min() == -1
    assert distance[31, 31 + 12] * MASK_TRUNCATION == pytest.approx(8, abs=0.6)
    assert not image[MASK == 0].any()
    inside = MASK > 0.5
    low, high = np.percentile((image / np.maximum(MASK, 0.1))[inside], (1, 99))
    assert low == pytest.approx(0, abs=1e-3) and high == pytest.approx(1, abs=1e-3)
    assert (known == 1).all() and (scale_known == 1).all()
    assert scale == pytest.approx(np.log(1.15) / 0.15)


def test_scale_that_is_not_known_says_nothing():
    assert not signed_planes(MASK, IMAGE)[4:].any()
    assert not signed_planes(MASK, IMAGE, 1.0)[4].any() and signed_planes(MASK, IMAGE, 1.0)[5].all()


@pytest.mark.parametrize(("gain", "offset"), [(0.5, 0.0), (1.0, 0.2), (0.01, 0.5), (3.0, -0.4)])
def test_gain_and_offset_of_the_camera_change_nothing(gain, offset):
    other = (gain * IMAGE + offset).astype(np.float32)
    np.testing.assert_allclose(signed_planes(MASK, other), signed_planes(MASK, IMAGE), atol=2e-4 / gain**0.5)


def test_what_lies_outside_the_mask_changes_nothing():
    other = np.where(MASK > 0, IMAGE, 5.0).astype(np.float32)
    assert np.array_equal(signed_planes(MASK, other), signed_planes(MASK, IMAGE))


def test_neighbours_change_nothing():
    field = simulate_field(3, (300, 300), seed=4)
    zoom = 0.6
    touched = field.image.copy()
    touched[field.labels != 1] = 60_000
    alone = np.where(field.labels == 1, field.labels, 0)
    with_all = crop_cell(field.image, field.labels, 1, zoom=zoom)
    with_others = crop_cell(touched, field.labels, 1, zoom=zoom)
    by_itself = crop_cell(field.image, alone, 1, zoom=zoom)
    expected = signed_planes(with_all.mask, with_all.image)
    assert expected[3].all()
    np.testing.assert_allclose(signed_planes(with_others.mask, with_others.image), expected, atol=1e-5)
    assert np.array_equal(signed_planes(by_itself.mask, by_itself.image), expected)


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_constant_image_says_nothing(value):
    constant = np.full((64, 64), value, np.float32)
    without = signed_planes(MASK, None)
    assert np.array_equal(signed_planes(MASK, constant), without)
    assert not without[2:].any()
    assert normalise_inside(constant, MASK) is None


def test_image_that_is_constant_inside_only_says_nothing():
    assert normalise_inside(np.where(MASK > 0, 0.5, IMAGE).astype(np.float32), MASK) is None


def test_outliers_do_not_set_the_scale():
    spiked = IMAGE.copy()
    spiked[31, 31] = 50.0
    plane = normalise_inside(spiked, MASK)
    assert plane.max() == 1.5
    np.testing.assert_allclose(
        np.median(plane[MASK == 1]), np.median(normalise_inside(IMAGE, MASK)[MASK == 1]), atol=0.01
    )


def test_mask_without_inside_is_no_reason_to_fail():
    assert normalise_inside(IMAGE, 0.3 * MASK) is None


def test_original_sees_mask_and_image_within_it():
    planes = dispr_planes(MASK, IMAGE)
    assert planes.dtype == np.float32
    assert np.array_equal(planes, np.stack([MASK, IMAGE * MASK]))
    assert not dispr_planes(MASK, None)[1].any()


def known(depths=(), projection=False, images=True):
    planes = [KnownPlane(d, np.roll(MASK, 3, 0), IMAGE if images else None) for d in depths]
    return Known.of(MASK, IMAGE, planes, projection)


def test_volumes_show_each_section_at_its_depth():
    one = known([6.25, -4.0])
    nearness, distance, picture, projection = one.volumes()
    np.testing.assert_allclose(nearness[[32, 28, 38, 30, 63], 5, 5], [1, 1, 1 - 0.25 / 16, 1 - 2 / 16, 0])
    np.testing.assert_array_equal(distance[32], one.distances[0])
    np.testing.assert_array_equal(distance[28], one.distances[2])
    np.testing.assert_allclose(distance[30], (one.distances[0] + one.distances[2]) / 2, atol=1e-6)
    np.testing.assert_array_equal(distance[[0, 63]], one.distances[[2, 1]])  # constant beyond the last ones
    np.testing.assert_allclose(picture[38] + picture[39], one.pictures[1], atol=1e-6)
    np.testing.assert_allclose(picture[39], 0.25 * one.pictures[1], atol=1e-6)
    assert not picture[[30, 31, 33, 37]].any() and not projection.any()


def test_a_section_between_voxels_is_told_from_its_neighbours():
    volumes = [known([depth]).volumes() for depth in (6.0, 6.3, 6.6, 7.0)]
    for one, other in itertools.combinations(volumes, 2):
        assert np.abs(one[0] - other[0]).max() > 0.015 and np.abs(one[1] - other[1]).max() > 0.005


def test_an_empty_section_and_one_without_image():
    empty = Known.of(MASK, None, [KnownPlane(9.0, np.zeros_like(MASK))])
    assert (empty.distances[1] == -1).all() and not empty.pictures.any()
    _, distance, picture, _ = empty.volumes()
    assert (distance[41:] == -1).all() and not picture.any()


def test_a_projection_has_a_silhouette_at_no_depth():
    one = known(projection=True)
    nearness, distance, picture, projection = one.volumes()
    assert np.isnan(one.depths[0]) and projection.all() and not nearness.any() and not picture.any()
    np.testing.assert_array_equal(distance, np.broadcast_to(one.distances[0], distance.shape))


def test_sections_of_a_batch_are_filled_up():
    depths, distances = filled_up([known(), known([5.0, 8.0])])
    np.testing.assert_array_equal(depths, [[0, np.nan, np.nan], [0, 5, 8]])
    assert distances.shape == (2, 3, 64, 64) and not distances[0, 1:].any()
    planes = torch.from_numpy(np.stack([signed_planes(MASK, IMAGE)] * 2))
    condition = Condition(planes, torch.zeros(2, 0, 64, 64, 64), depths, distances)
    # The first section is the mask of the planes, in units of the truncation of the model.
    _, edges = condition.sections(8.0)
    assert torch.equal(edges[:, 0], (planes[:, 1] * 2).clamp(-1, 1))
