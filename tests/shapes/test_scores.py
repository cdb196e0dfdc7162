"""Scores against answers worked out by hand, and what must hold of them for any shapes."""

import numpy as np
import pytest

from napari_dispr.shapes.ensemble import diversity
from napari_dispr.shapes.scores import consensus_iou, energy_score


def row(*voxels):
    """A volume of ten voxels in a row, of which these are inside."""
    volume = np.zeros((1, 1, 10), dtype=bool)
    volume[..., list(voxels)] = True
    return volume


TRUTH = row(0, 1, 2, 3)
#: IoU with the truth 1/2, 1/2 and 3/4; with one another 0, 1/4 and 2/3.
MEMBERS = np.stack([row(0, 1), row(2, 3), row(1, 2, 3)])


def test_ensemble_by_hand():
    apart = [1 - 0, 1 - 1 / 4, 1 - 2 / 3]
    assert diversity(MEMBERS) == pytest.approx(np.mean(apart))
    # Voxels 1, 2 and 3 are held by two of three.
    assert consensus_iou(MEMBERS, TRUTH) == pytest.approx(3 / 4)
    to_truth = np.mean([1 / 2, 1 / 2, 1 / 4])
    assert energy_score(MEMBERS, TRUTH) == pytest.approx(to_truth - np.mean(apart) / 2)


def test_half_of_the_members_are_a_consensus():
    assert consensus_iou(MEMBERS[:2], TRUTH) == 1


def test_a_single_member_scores_by_its_iou_and_has_no_diversity():
    assert energy_score(MEMBERS[2:], TRUTH) == pytest.approx(1 / 4)
    assert np.isnan(diversity(MEMBERS[:1]))


def test_members_that_are_all_alike_score_as_one():
    alike = np.repeat(MEMBERS[:1], 4, axis=0)
    assert diversity(alike) == 0
    assert energy_score(alike, TRUTH) == pytest.approx(energy_score(MEMBERS[:1], TRUTH))


def test_a_proper_score_prefers_the_distribution_of_the_truth():
    rng = np.random.default_rng(1)
    truths = [row(*range(int(n))) for n in rng.integers(2, 9, 400)]
    honest = [np.stack([row(*range(int(n))) for n in rng.integers(2, 9, 5)]) for _ in truths]
    sure = np.stack([row(*range(5))] * 5)  # the best single answer
    ours = np.mean([energy_score(members, truth) for members, truth in zip(honest, truths, strict=True)])
    assert ours < np.mean([energy_score(sure, truth) for truth in truths])
