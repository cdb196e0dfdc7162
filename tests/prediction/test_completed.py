"""A coarse stack of balls, completed by interpolation: where the balls are, and where they are uncertain."""

from dataclasses import replace

import numpy as np
import pytest
import tifffile

from napari_dispr.commands.cli import main
from napari_dispr.prediction.completed import complete
from napari_dispr.prediction.predict import predict
from napari_dispr.prediction.ranking import next_planes
from napari_dispr.shapes import placement
from napari_dispr.shapes.ensemble import Ensemble
from napari_dispr.shapes.ome import OmeImage, write_ome_tiff

#: Centre (z, y, x) and radius of each ball in micrometer; pixels of 0.5, planes every 2.
BALLS = {3: ((6.0, 12.0, 14.0), 5.0), 7: ((8.0, 30.0, 28.0), 6.0)}
PIXEL, DEPTHS = 0.5, tuple(np.arange(-2.0, 17.0, 2.0))


def balls(z):
    """Labels (..., y, x) at world z."""
    y, x = np.ogrid[: 80 * PIXEL : PIXEL, : 90 * PIXEL : PIXEL]
    labels = np.zeros(np.broadcast_shapes(np.shape(z), (80, 90)), np.uint8)
    for label, ((cz, cy, cx), radius) in BALLS.items():
        labels[(np.asarray(z) - cz) ** 2 + (y - cy) ** 2 + (x - cx) ** 2 < radius**2] = label
    return labels


@pytest.fixture(scope="module")
def prediction():
    labels = np.stack([balls(z) for z in DEPTHS])
    return predict(
        None, labels, model="interpolation", depths=DEPTHS, pixel_size=PIXEL, unit="micrometer", members=1
    )


def test_the_stack_is_isotropic_and_lies_where_its_cells_are(prediction):
    stack = complete(prediction)
    assert stack.labels.shape[1:] == stack.uncertainty.shape[1:] == (80, 90)
    np.testing.assert_allclose(np.diag(stack.affine)[:3], PIXEL)
    z = stack.affine[0, 3] + PIXEL * np.arange(len(stack.labels))[:, None, None]
    for label in BALLS:
        found, true = stack.labels == label, balls(z) == label
        assert (found & true).sum() > 0.82 * (found | true).sum()
        offset = np.argwhere(found).mean(axis=0) * PIXEL + [stack.affine[0, 3], 0, 0] - BALLS[label][0]
        assert np.abs(offset).max() < 0.2
    assert stack.uncertainty.max() == 0  # of one member each


def with_members(prediction):
    """Three members of each cell: the shape, and twice the shape without its upper end."""
    for label, ensemble in list(prediction.items()):
        low = ensemble.signed_distance[0].copy()
        low[40:] = -8
        distance = np.stack([ensemble.signed_distance[0], low, low])
        prediction = prediction.with_cell(
            Ensemble(label, distance, ensemble.grid_to_world, ensemble.unit, ensemble.zoom)
        )
    return prediction


def test_uncertain_voxels_and_the_next_plane_are_where_members_differ(prediction):
    several = with_members(prediction)
    stack, planes = complete(several), next_planes(several).set_index("label")
    for label, ((_, y, x), _) in BALLS.items():
        frame = several.grid_to_world(label)
        end = frame[0, 0] * 40 + frame[0, 3]
        assert end - 0.1 <= planes.depth[label] <= end + 2
        column = stack.uncertainty[:, round(y / PIXEL), round(x / PIXEL)]
        z = stack.affine[0, 3] + PIXEL * np.arange(len(column))
        assert column[z < end - 1].max() < 1e-6
        assert column[z > end].max() == pytest.approx(2 / 3, abs=0.05)  # one of three is inside
    kept = replace(several, kept={7: 0})
    assert (complete(kept).labels == 7).sum() > 1.05 * (stack.labels == 7).sum()


def test_a_large_picture_takes_no_more_memory(prediction, monkeypatch):
    """First the picture around the cells is left out, then voxels are larger; cells stay where they are."""
    whole, box = complete(prediction), prediction.placement(2).shape
    assert not whole.note
    for most, step, words in (
        (2 * whole.labels.size - 1, 1, "part of the picture"),
        (box.prod(), 2, "2 pixels"),
    ):
        monkeypatch.setattr(placement, "LARGEST_VOLUMES", int(most))
        stack = complete(prediction)
        assert 2 * stack.labels.nbytes <= most and words in stack.note
        assert stack.labels.shape == stack.uncertainty.shape
        np.testing.assert_allclose(np.diag(stack.affine)[:3], step * PIXEL)
        for label in BALLS:
            middles = [
                np.argwhere(one.labels == label).mean(axis=0) * np.diag(one.affine)[:3] + one.affine[:3, 3]
                for one in (whole, stack)
            ]
            np.testing.assert_allclose(*middles, atol=0.5 * PIXEL)


def test_the_commands(prediction, tmp_path, capsys, monkeypatch):
    with_members(prediction).save(tmp_path / "prediction")
    assert main(["complete", str(tmp_path / "prediction"), "--out", str(tmp_path / "stack")]) == 0
    assert "2 cells" in capsys.readouterr().out
    labels = tifffile.imread(tmp_path / "stack" / "labels.ome.tif")
    assert set(np.unique(labels)) == {0, 3, 7}
    with monkeypatch.context() as patch:
        patch.setattr(placement, "LARGEST_VOLUMES", 2 * labels.size - 1)
        assert main(["complete", str(tmp_path / "prediction"), "--out", str(tmp_path / "stack")]) == 0
    assert "part of the picture" in capsys.readouterr().err
    own = tmp_path / "own" / "labels.ome.tif"
    write_ome_tiff(own, [OmeImage(labels, "drawn by hand", np.eye(4), description={"layer": "napari-dispr"})])
    before = own.read_bytes()
    assert main(["complete", str(tmp_path / "prediction"), "--out", str(own.parent)]) == 2
    assert own.read_bytes() == before and f"{own} already exists" in capsys.readouterr().err
    table = tmp_path / "planes.csv"
    assert main(["rank", str(tmp_path / "prediction"), "--planes", "--out", str(table)]) == 0
    assert table.read_text("utf-8").startswith("rank,label,name,depth")
    assert main(["rank", str(tmp_path / "prediction"), "--planes", "--out", str(table)]) == 0
    of_prediction = tmp_path / "prediction" / "cells.csv"
    assert main(["rank", str(tmp_path / "prediction"), "--out", str(of_prediction)]) == 2
    assert of_prediction.read_text("utf-8").startswith("label")
    assert main(["complete", str(tmp_path / "prediction"), "--out", str(tmp_path / "prediction")]) == 2
