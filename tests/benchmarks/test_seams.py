"""The measures of the benchmark of seams against answers worked out by hand."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from napari_dispr import grid

PATH = Path(__file__).resolve().parents[2] / "benchmarks" / "seams.py"


@pytest.fixture(scope="module")
def seams():
    spec = importlib.util.spec_from_file_location("seams", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def box(z, y, x):
    volume = np.zeros(grid.SHAPE, dtype=bool)
    volume[slice(*z), slice(*y), slice(*x)] = True
    return volume


def test_plane_agreement_by_hand(seams):
    truth = box((20, 44), (10, 20), (10, 20))
    assert seams.plane_agreement(truth, truth) == 0
    seam = truth.copy()
    seam[32] = box((0, 64), (10, 15), (10, 20))[32]  # half of its neighbours
    assert seams.plane_agreement(seam, truth) == pytest.approx(-0.5)
    assert seams.plane_agreement(truth, seam) == pytest.approx(0.5)


def test_a_seam_and_its_axis_are_found(seams):
    truth = box((16, 48), (16, 48), (16, 48))
    members = np.stack([truth, truth])
    # Planes whose index along x leaves 1 are wrong in one member of two.
    members[0, :, :, 1::4] ^= True
    counts = seams.errors_by_index(members, truth, 4)
    np.testing.assert_allclose(counts[0, 2] / counts[1, 2], [0, 0.5, 0, 0])
    found = seams.seams(counts)
    assert found[2] == pytest.approx(4) and (found[:2] < 0.5).all()
    # Every voxel near the surface is counted once along each axis.
    assert len(set(counts[1].sum(axis=1).tolist())) == 1


def test_only_voxels_near_the_surface_count(seams):
    truth = box((16, 48), (16, 48), (16, 48))
    far = truth ^ box((28, 36), (28, 36), (28, 36)) ^ box((0, 8), (0, 8), (0, 8))
    counts = seams.errors_by_index(far[None], truth, 2)
    assert counts[0].sum() == 0 and (seams.seams(counts) == 0).all()
    near = truth & ~box((0, 64), (0, 64), (16, 18))  # two voxels short on one side
    counts = seams.errors_by_index(near[None], truth, 2)
    assert (counts[0].sum(axis=1) == 2 * 32 * 32).all()
    assert seams.seams(counts)[2] == pytest.approx(0, abs=0.02)  # one plane of either remainder
