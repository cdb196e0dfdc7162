"""Evaluation with several known planes, and interpolation between them."""

import numpy as np
import pytest

from napari_dispr.cells.folders import CellFile
from napari_dispr.errors import InputError
from napari_dispr.evaluation.evaluate import evaluate
from napari_dispr.evaluation.planes import depths_of, in_planes
from napari_dispr.models.interpolation import INTERPOLATION
from napari_dispr.models.library import load_model


def cone(top: float = 14.0) -> CellFile:
    """A double cone with circular sections, radius 20 in the imaged plane and 0 at ``top`` and ``-top``."""
    z, y, x = np.ogrid[:64, :64, :64]
    radius = 20 * (1 - np.abs(z - 32) / top)
    inside = np.clip(radius - np.hypot(y - 31.5, x - 31.5) + 0.5, 0, 1)
    obj = np.where(radius > 0, inside, 0)
    return CellFile("cone", obj[32].astype(np.float32), None, (255 * obj).astype(np.uint8))


def test_depths_lie_on_both_sides_of_the_imaged_plane():
    assert depths_of(1) == ()
    assert depths_of(2) == (8,)
    assert depths_of(3) == (8, -8)
    assert depths_of(5) == (6, -6, 12, -12)
    with pytest.raises(InputError, match="from 1 to 9"):
        depths_of(10)


def test_only_methods_that_use_planes_get_several():
    found = in_planes({name: load_model(name) for name in ("cylinder", "interpolation")}, [3, 1, 2])
    assert list(found) == ["cylinder, 1 plane", "interpolation, 2 planes", "interpolation, 3 planes"]


def test_interpolation_gets_better_with_every_plane(tmp_path):
    methods = in_planes({"interpolation": INTERPOLATION}, [2, 3, 5])
    summary = evaluate([cone()], methods, members=1, definitions="ours", out=tmp_path)
    iou = [summary["methods"][name]["consensus_iou"]["mean"] for name in methods]
    # Between the sections of a cone linear interpolation is exact; beyond the last the cone goes on.
    assert iou[0] < iou[1] < iou[2]
    assert iou[2] > 0.93
    assert (tmp_path / "planes.png").stat().st_size > 10_000
    assert "planes.png" in (tmp_path / "table.md").read_text("utf-8")


def test_a_method_that_draws_nothing_is_in_the_figure_without_distances(tmp_path):
    methods = in_planes({"interpolation": INTERPOLATION}, [2, 3]) | {"failing": INTERPOLATION}
    summary = evaluate([cone()], methods, members=1, definitions="ours", out=tmp_path)
    assert summary["methods"]["failing"]["surface_distance"]["mean"] is None
    assert (tmp_path / "planes.png").stat().st_size > 10_000


def test_interpolation_needs_two_planes():
    summary = evaluate([cone()], {"interpolation": INTERPOLATION}, members=1, definitions="ours")
    assert summary["methods"]["interpolation"]["failed"] == 1
