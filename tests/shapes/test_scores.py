"""Scores against answers worked out by hand, and what must hold of them for any shapes."""

import numpy as np
import pytest

from napari_dispr import grid
from napari_dispr.shapes.scores import (
    FoldError,
    ball,
    best_iou,
    consensus_iou,
    crps,
    diversity,
    energy_score,
    fold_error,
    interval_coverage_and_width,
    paired_difference,
    plane_agreement,
    thin_parts,
    thin_recall,
)


def row(*voxels):
    """A volume of ten voxels in a row, of which these are inside."""
    volume = np.zeros((1, 1, 10), dtype=bool)
    volume[..., list(voxels)] = True
    return volume


def box(z, y, x):
    volume = np.zeros(grid.SHAPE, dtype=bool)
    volume[slice(*z), slice(*y), slice(*x)] = True
    return volume


TRUTH = row(0, 1, 2, 3)
#: IoU with the truth 1/2, 1/2 and 3/4; with one another 0, 1/4 and 2/3.
MEMBERS = np.stack([row(0, 1), row(2, 3), row(1, 2, 3)])


def test_ensemble_by_hand():
    apart = [1 - 0, 1 - 1 / 4, 1 - 2 / 3]
    assert diversity(MEMBERS) == pytest.approx(np.mean(apart))
    assert best_iou(MEMBERS, TRUTH) == pytest.approx(3 / 4)
    # Voxels 1, 2 and 3 are held by two of three.
    assert consensus_iou(MEMBERS, TRUTH) == pytest.approx(3 / 4)
    to_truth = np.mean([1 / 2, 1 / 2, 1 / 4])
    assert energy_score(MEMBERS, TRUTH) == pytest.approx(to_truth - np.mean(apart) / 2)


def test_half_of_the_members_are_a_consensus():
    assert consensus_iou(MEMBERS[:2], TRUTH) == 1


def test_a_single_member_scores_by_its_iou_and_has_no_diversity():
    assert energy_score(MEMBERS[2:], TRUTH) == pytest.approx(1 / 4)
    assert np.isnan(diversity(MEMBERS[:1]))
    assert crps([7.0], 4.0) == 3


def test_members_that_are_all_alike_score_as_one():
    alike = np.repeat(MEMBERS[:1], 4, axis=0)
    assert diversity(alike) == 0
    assert energy_score(alike, TRUTH) == pytest.approx(energy_score(MEMBERS[:1], TRUTH))


def test_fair_scores_do_not_depend_on_the_number_of_members():
    rng = np.random.default_rng(0)
    draws = rng.normal(size=(8000, 12))
    few = np.mean([crps(values[:2], 0.3) for values in draws])
    many = np.mean([crps(values, 0.3) for values in draws])
    assert few == pytest.approx(many, abs=0.03)
    # Of N(0, 1) at 0.3 (Gneiting and Raftery 2007).
    assert many == pytest.approx(0.3 * 0.235823 + 2 * 0.381388 - 0.564190, abs=0.01)


def test_a_proper_score_prefers_the_distribution_of_the_truth():
    rng = np.random.default_rng(1)
    truths = [row(*range(int(n))) for n in rng.integers(2, 9, 400)]
    honest = [np.stack([row(*range(int(n))) for n in rng.integers(2, 9, 5)]) for _ in truths]
    sure = np.stack([row(*range(5))] * 5)  # the best single answer
    ours = np.mean([energy_score(members, truth) for members, truth in zip(honest, truths, strict=True)])
    assert ours < np.mean([energy_score(sure, truth) for truth in truths])


def test_crps_by_hand():
    assert crps([1, 2, 6], 3) == pytest.approx(2 - (1 + 5 + 4) / 3 / 2)


def test_ball_of_radius_two_has_33_voxels():
    assert ball(2).sum() == 33 and ball(2).shape == (5, 5, 5)


def test_thin_parts_are_what_an_opening_removes():
    body = box((20, 44), (20, 44), (20, 44))
    blade = box((30, 32), (30, 50), (44, 58))  # two voxels thick
    thin = thin_parts(body | blade)
    tip = blade & ~box((0, 64), (0, 64), (0, 46))  # at its root the ball in the body reaches into it
    assert (thin & tip).sum() == tip.sum()
    assert not thin[24:40, 24:40, 24:40].any()
    assert thin_recall(body | blade, body | blade) == 1
    assert thin_recall(body, blade) == 0
    half = blade & box((0, 64), (0, 64), (0, 51))
    assert thin_recall(half, blade) == pytest.approx(0.5)
    ball_truth = np.zeros(grid.SHAPE, dtype=bool)
    ball_truth[30:35, 30:35, 30:35] = ball(2)
    assert np.isnan(thin_recall(body, ball_truth))


def test_plane_agreement_by_hand():
    truth = box((20, 44), (10, 20), (10, 20))
    assert plane_agreement(truth, truth) == 0
    seam = truth.copy()
    seam[32] = box((0, 64), (10, 15), (10, 20))[32]  # half of its neighbours
    assert plane_agreement(seam, truth) == pytest.approx(-0.5)
    assert plane_agreement(truth, seam) == pytest.approx(0.5)
    moved = truth.copy()
    moved[:32] = False  # the plane below is empty, the one above the same
    assert plane_agreement(moved, truth) == pytest.approx(-0.5)


def test_fold_error_finds_the_seam_and_its_axis():
    truth = box((16, 48), (16, 48), (16, 48))
    members = np.stack([truth, truth])
    # Planes whose index along x leaves 1 are wrong in one member of two.
    members[0, :, :, 1::4] ^= True
    errors = fold_error(members, truth, 4)
    np.testing.assert_allclose(errors.rates[2], [0, 0.5, 0, 0])
    assert errors.seams[2] == pytest.approx(4)
    assert errors.seam == errors.seams[2] and (errors.seams[:2] < 0.5).all()
    # Every near voxel is counted once along each axis: 38^3 without corners, less 26^3.
    assert len(set(errors.counted.sum(axis=1).tolist())) == 1
    assert (errors.counted.sum(axis=1) % 2 == 0).all()


def test_fold_error_counts_near_the_surface_only():
    truth = box((16, 48), (16, 48), (16, 48))
    far = truth ^ box((28, 36), (28, 36), (28, 36)) ^ box((0, 8), (0, 8), (0, 8))
    errors = fold_error(far[None], truth, 2)
    assert errors.wrong.sum() == 0 and errors.seam == 0
    near = truth & ~box((0, 64), (0, 64), (16, 18))  # two voxels short on one side
    errors = fold_error(near[None], truth, 2)
    assert (errors.wrong.sum(axis=1) == 2 * 32 * 32).all()
    assert errors.seams[2] == pytest.approx(0, abs=0.02)  # one plane of either remainder


def test_fold_errors_add_up():
    one = FoldError(np.array([[1, 0]] * 3), np.array([[10, 10]] * 3))
    other = FoldError(np.array([[0, 1]] * 3), np.array([[10, 10]] * 3))
    assert one.seam == pytest.approx(2)
    assert (one + other).seam == 0
    np.testing.assert_allclose((one + other).rates, 0.05)


def test_coverage_and_width_by_hand():
    coverage, width = interval_coverage_and_width([1, 5, 9], [3, 6, 10], [2, 4, 10])
    assert coverage == pytest.approx(2 / 3)
    assert width == pytest.approx((2 / 2 + 1 / 4 + 1 / 10) / 3)


def test_paired_difference_of_a_constant_has_no_spread():
    second = np.array([1.0, 5.0, 2.0, np.nan])
    found = paired_difference(second + 0.5, second)
    assert found.n == 3 and found.decided
    assert found.mean == found.median == 0.5
    assert found.mean_interval == found.median_interval == (0.5, 0.5)


def test_paired_difference_is_seeded_and_changes_sign_with_the_order():
    rng = np.random.default_rng(3)
    first, second = rng.normal(size=(2, 40))
    found = paired_difference(first, second, seed=7)
    assert found == paired_difference(first, second, seed=7)
    assert found.mean_interval != paired_difference(first, second, seed=8).mean_interval
    back = paired_difference(second, first, seed=7)
    assert back.mean == -found.mean
    assert back.mean_interval == pytest.approx([-end for end in reversed(found.mean_interval)])


def test_bootstrap_interval_is_as_wide_as_theory_says():
    rng = np.random.default_rng(4)
    apart = rng.normal(0.1, 1, 400)
    low, high = paired_difference(apart, np.zeros(400)).mean_interval
    assert (high - low) / 2 == pytest.approx(1.96 * apart.std() / 20, rel=0.05)
    assert not paired_difference(apart - apart.mean(), np.zeros(400)).decided


def test_paired_difference_of_nothing_and_of_unequal_lengths():
    assert paired_difference([np.nan], [1.0]).n == 0
    assert not paired_difference([], []).decided
    with pytest.raises(ValueError, match="one length"):
        paired_difference([1.0, 2.0], [1.0])
