"""Signed distances: exactness on shapes whose distance is known, antialiased edges, and empty ones."""

import numpy as np
import pytest
from scipy.spatial import cKDTree

from napari_dispr.signed_distance import crossings, from_level

Z, Y, X = np.indices((40, 40, 40)).astype(float)


def ball(radius, centre=(19.5, 20.0, 19.2)):
    r = np.sqrt((Z - centre[0]) ** 2 + (Y - centre[1]) ** 2 + (X - centre[2]) ** 2)
    return np.clip(radius - r + 0.5, 0, 1), radius - r


def test_antialiased_ball():
    level, truth = ball(12)
    distance = from_level(level)
    assert distance.dtype == np.float32
    near = np.abs(truth) < 10
    assert np.abs(distance - truth)[near].mean() < 0.1
    assert np.abs(distance - truth)[near].max() < 0.5
    assert np.array_equal(distance > 0, level > 0.5)


def test_antialiased_edge_keeps_its_place_between_voxels():
    # Coverage of a straight edge is linear over one voxel only: 0.1 is what interpolation cannot know.
    for edge in (10.0, 10.3, 10.8):
        level = np.broadcast_to(np.clip(np.arange(20) - edge + 0.5, 0, 1), (20, 20))
        distance = from_level(level)
        np.testing.assert_allclose(distance[10], np.arange(20) - edge, atol=0.1)


def test_binary_square_lies_between_voxels():
    level = np.zeros((20, 20))
    level[5:15, 5:15] = 1
    distance = from_level(level)
    assert distance[10, 5] == pytest.approx(0.5) and distance[10, 4] == pytest.approx(-0.5)
    assert distance[10, 10] == pytest.approx(4.5)
    assert distance[10, 0] == pytest.approx(-4.5)


def test_threshold_of_uint8():
    level, _ = ball(12)
    values = np.rint(255 * level).astype(np.uint8)
    np.testing.assert_allclose(from_level(values, 127.5), from_level(level), atol=0.02)


def test_truncation_cuts_off_and_changes_nothing_below():
    level, _ = ball(12)
    cut, whole = from_level(level, truncation=3.0), from_level(level)
    assert cut.max() == 3 and cut.min() == -3
    np.testing.assert_allclose(cut, np.clip(whole, -3, 3), atol=1e-5)


def test_voxels_that_are_no_cubes():
    spacing = (2.0, 0.5, 1.0)
    z, y, x = (index * step for index, step in zip(np.indices((20, 80, 40)), spacing, strict=True))
    truth = 12 - np.sqrt((z - 19) ** 2 + (y - 20.2) ** 2 + (x - 19.6) ** 2)
    distance = from_level(truth.clip(-1, 1), 0.0, truncation=5.0, spacing=spacing)
    near = np.abs(truth) < 4.5
    assert np.abs(distance - truth)[near].mean() < 0.15 and np.abs(distance).max() == 5
    assert np.array_equal(distance > 0, truth > 0)
    # Three times as far apart: three times the distance.
    level, _ = ball(12)
    np.testing.assert_allclose(
        from_level(level, truncation=15.0, spacing=(3, 3, 3)),
        3 * from_level(level, truncation=5.0),
        rtol=1e-5,
    )


@pytest.mark.parametrize(("value", "sign"), [(0.0, -1), (1.0, 1)])
def test_nothing_crosses(value, sign):
    assert (from_level(np.full((4, 5), value), truncation=6.0) == sign * 6).all()
    assert (from_level(np.full((3, 4), value)) == sign * 5).all()


def test_hole_is_outside():
    level = np.zeros((21, 21))
    level[4:17, 4:17] = 1
    level[10, 10] = 0
    distance = from_level(level)
    assert distance[10, 10] == pytest.approx(-0.5)
    assert distance[10, 11] == pytest.approx(0.5)


def test_crossings_lie_on_the_surface():
    level, _ = ball(12)
    points = crossings(level.astype(np.float32), 0.5)
    radii = np.linalg.norm(points - [19.5, 20.0, 19.2], axis=1)
    np.testing.assert_allclose(radii, 12, atol=0.15)


@pytest.mark.parametrize("truncation", [6.0, np.inf])
def test_distance_is_that_to_the_nearest_crossing(truncation: float) -> None:
    rough = np.random.default_rng(0).uniform(size=(14, 17, 11)).astype(np.float32)
    rough[:, 8:] *= 0.3  # a half where nothing crosses, so that far voxels are seen too
    points = crossings(rough, 0.5)
    voxels = np.indices(rough.shape).reshape(3, -1).T
    truth = np.minimum(cKDTree(points).query(voxels)[0].reshape(rough.shape), truncation)
    assert truth.max() > 5
    np.testing.assert_allclose(np.abs(from_level(rough, 0.5, truncation)), truth, atol=1e-4)
