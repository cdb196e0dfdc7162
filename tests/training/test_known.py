"""Further planes and projections of training samples."""

import numpy as np
import pytest
from support.simulated import cell_of

from napari_dispr.training.augmentation import Sample, unaugmented
from napari_dispr.training.known import MOST_PLANES, further_planes, projected


@pytest.fixture(scope="module")
def sample():
    return unaugmented(cell_of("discocyte"))


@pytest.fixture(scope="module")
def drawn(sample):
    return [further_planes(sample, np.random.default_rng(seed)) for seed in range(60)]


def test_planes_are_spaced_as_in_stacks(sample, drawn):
    counts = np.array([len(planes) for planes in drawn])
    assert counts.max() < MOST_PLANES and (counts > 0).mean() > 0.9 and len(set(counts.tolist())) > 4
    depths = [[0.0, *(plane.depth for plane in planes)] for planes in drawn]
    apart = [np.diff(sorted(some)) for some in depths if len(some) > 2]
    assert min(steps.min() for steps in apart) >= 1.5
    even = [steps for steps in apart if np.allclose(steps, steps[0])]
    assert len(even) > 0.3 * len(apart) and max(steps[0] for steps in even) > 4
    flat = [plane for planes in drawn for plane in planes]
    assert 0.05 < np.mean([not plane.mask.any() for plane in flat]) < 0.6
    below = [plane.depth < 0 for plane in flat]
    assert 0.3 < np.mean(below) < 0.7
    assert any(plane.depth % 1 for plane in flat)


def test_some_planes_have_images_and_some_have_none(sample, drawn):
    flat = [plane for planes in drawn for plane in planes if plane.mask.any()]
    assert 0.2 < np.mean([plane.image is not None for plane in flat]) < 0.8
    images = [plane.image for plane in flat if plane.image is not None]
    assert all(image.dtype == np.float32 and image.std() > 0.01 for image in images)
    without = Sample(sample.mask, None, sample.signed_distance)
    planes = [plane for seed in range(20) for plane in further_planes(without, np.random.default_rng(seed))]
    assert planes and all(plane.image is None for plane in planes)


def test_masks_are_the_sections_of_the_shape(sample, drawn):
    for planes in drawn[:10]:
        for plane in planes:
            if plane.depth % 1 == 0:
                section = sample.signed_distance[32 + int(plane.depth)] > 0
                np.testing.assert_array_equal(plane.mask > 0.5, section)


def test_a_projection_shows_the_silhouette_of_a_cell_in_the_middle(sample):
    moved = np.roll(sample.signed_distance, 5, axis=0)
    other = projected(Sample(sample.mask, sample.image, moved), np.random.default_rng(0))
    np.testing.assert_array_equal(other.mask > 0.5, (sample.signed_distance > 0).any(axis=0))
    inside = np.flatnonzero((other.signed_distance > 0).any(axis=(1, 2)))
    assert abs(inside.mean() - 32) <= 1
    assert np.count_nonzero(other.signed_distance > 0) == np.count_nonzero(moved > 0)
    assert other.image is not None and other.image.std() > 0.01
    without = projected(Sample(sample.mask, None, sample.signed_distance), np.random.default_rng(0))
    assert without.image is None


def test_pictures_of_the_cell_at_other_depths_are_used_where_it_has_them(sample):
    """Half of the grid has pictures: bright with one dark row, which no simulated picture has."""
    stack = np.where(sample.signed_distance > 0, np.float32(0.8), np.float32(0.0))
    stack[:, 31] *= 0.1
    stack[:32] = 0
    real = Sample(sample.mask, sample.image, sample.signed_distance, stack=stack)
    planes = [plane for seed in range(30) for plane in further_planes(real, np.random.default_rng(seed))]
    images = [plane for plane in planes if plane.image is not None]
    assert images and all(plane.depth > -1 for plane in images)
    for plane in images:
        inside = plane.mask > 0.99
        rows = [plane.image[row][inside[row]].mean() for row in (31, 36) if inside[row].any()]
        assert len(rows) < 2 or rows[0] < 0.6 * rows[1]
    image = projected(real, np.random.default_rng(0)).image
    assert image[31, 20:44].mean() < 0.6 * image[36, 20:44].mean()
