"""The plane to image next, on members whose only difference is known."""

import numpy as np
import pytest

from napari_dispr.errors import InputError
from napari_dispr.shapes.ensemble import Ensemble
from napari_dispr.shapes.next_plane import plane_gains


def capped(tops, spacing=1.0):
    """Balls of radius 16 that are cut at these heights above the imaged plane."""
    z, y, x = np.ogrid[:64, :64, :64]
    distance = 16 - np.sqrt((z - 32) ** 2 + (y - 31.5) ** 2 + (x - 31.5) ** 2)
    cut = [np.minimum(distance, 32 + top - z) for top in tops]
    return Ensemble(1, np.stack(cut).astype(np.float32), np.diag([spacing, spacing, spacing, 1]))


def test_the_next_plane_lies_where_the_members_differ():
    found = plane_gains(capped([4, 4, 4, 14, 14, 14], spacing=0.5))
    assert 4 * 0.5 <= found.depth[found.best] <= 14 * 0.5
    assert found.disagreement[found.depth <= 1.5].max() == 0
    assert found.iou_gain[found.best] > 0.02
    assert found.volume_gain[found.best] > 0.01
    assert abs(found.iou_gain[:20]).max() < 1e-6  # equal sections tell nothing


def test_equal_members_gain_nothing():
    found = plane_gains(capped([8, 8, 8]))
    assert found.disagreement.max() == 0
    assert np.abs(found.iou_gain).max() < 1e-9
    assert np.abs(found.volume_gain).max() < 1e-9


def test_two_members_are_too_few():
    with pytest.raises(InputError, match="draw three or more"):
        plane_gains(capped([4, 8]))
