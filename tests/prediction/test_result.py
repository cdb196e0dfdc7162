"""A prediction in the picture's frame, and on disk."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from support.predictions import CALIBRATION, DISTANCE, ball, prediction_of, rotated

from napari_dispr import grid
from napari_dispr.card import PlaneIntervals
from napari_dispr.errors import InputError
from napari_dispr.planes import KnownPlane
from napari_dispr.prediction.notes import Note
from napari_dispr.prediction.ranking import rank_cells
from napari_dispr.prediction.result import Prediction
from napari_dispr.prediction.saving import (
    load_pictures,
    load_prediction,
    save_pictures,
    save_prediction,
)
from napari_dispr.prediction.tables import measure, measure_cells
from napari_dispr.shapes import placement
from napari_dispr.shapes.ensemble import Ensemble
from napari_dispr.shapes.section import Section


@pytest.mark.parametrize("to_world", [np.eye(3), rotated(30, 0.1, (5, -3)), rotated(-70, 2.5, (0, 11))])
def test_shapes_stand_where_their_cells_are(to_world):
    centre = (40.5, 71.0)
    volume, affine = prediction_of(ball(9, centre, [20], to_world=to_world), to_world=to_world).label_volume()
    assert set(np.unique(volume)) == {0, 9}
    inside = np.argwhere(volume == 9)
    world = (affine @ np.append(inside.mean(axis=0), 1))[:3]
    expected = np.append(0.0, (to_world @ [*centre, 1])[:2])
    scale = grid.in_plane_scale(to_world)
    np.testing.assert_allclose(world, expected, atol=0.05 * scale)
    # A ball of 20 voxels at 0.5 voxels a pixel has a radius of 40 pixels.
    assert len(inside) == pytest.approx(4 / 3 * np.pi * 40**3, rel=0.02)
    # The picture lies in a plane of voxel centres, and there the section is widest.
    planes = np.unique(inside[:, 0])
    z = affine[0, 0] * planes + affine[0, 3]
    assert np.abs(z).min() < 1e-9 * scale
    areas = [(inside[:, 0] == plane).sum() for plane in planes]
    assert abs(z[int(np.argmax(areas))]) <= scale


def test_every_voxel_of_the_imaged_plane_lies_on_a_pixel():
    # Sides of different lengths, turned and sheared: as any layer of napari may be.
    to_world = rotated(25, 0.2, (5, -3)) @ np.array([[1.0, 0.3, 0], [0, 1.7, 0], [0, 0, 1]])
    prediction = prediction_of(ball(3, (60.0, 47.5), [18], to_world=to_world), to_world=to_world)
    volume, affine = prediction.label_volume()
    inside = np.argwhere(volume == 3)
    world = (affine @ np.c_[inside, np.ones(len(inside))].T).T[:, :3]
    section = inside[np.abs(world[:, 0]) < 1e-9]
    assert len(section) == pytest.approx(np.pi * 36**2, rel=0.01)
    pixel = (
        np.linalg.inv(to_world) @ np.c_[world[np.abs(world[:, 0]) < 1e-9][:, 1:], np.ones(len(section))].T
    ).T
    np.testing.assert_allclose(pixel, np.rint(pixel), atol=1e-9)
    radius = np.hypot(pixel[:, 0] - 60.0, pixel[:, 1] - 47.5)
    assert radius.max() == pytest.approx(36, abs=0.8)
    # z is isotropic with the mean of the two sides.
    assert affine[0, 0] == pytest.approx(grid.in_plane_scale(to_world))
    assert np.ptp(inside[:, 0]) == 70


def test_where_cells_overlap_the_larger_signed_distance_wins():
    volume, affine = prediction_of(ball(1, (50, 50), [20]), ball(2, (50, 110), [20])).label_volume()
    middle = round(-affine[0, 3])
    row = volume[middle, round(50 - affine[1, 3])]
    x = np.arange(len(row)) + affine[2, 3]
    assert set(row[(x > 20) & (x < 79)]) == {1} and set(row[(x > 81) & (x < 140)]) == {2}


def test_volumes_are_coarser_above_the_limit_and_stay_in_place(monkeypatch):
    prediction = prediction_of(ball(3, (100, 60), [20, 15]))
    fine, to_world = prediction.label_volume(1)
    monkeypatch.setattr(placement, "LARGEST_VOLUMES", fine.nbytes // 3)
    prediction = prediction_of(ball(3, (100, 60), [20, 15]))
    coarse, coarse_to_world = prediction.label_volume(1)
    assert prediction.step == 2
    assert 2 * coarse.nbytes <= fine.nbytes // 3
    centres = [
        (affine @ np.append(np.argwhere(volume).mean(axis=0), 1))[:3]
        for volume, affine in ((fine, to_world), (coarse, coarse_to_world))
    ]
    np.testing.assert_allclose(*centres, atol=0.1)
    assert 8 * (coarse > 0).sum() == pytest.approx((fine > 0).sum(), rel=0.02)
    assert -coarse_to_world[0, 3] % 2 == 0  # a plane of voxels lies in the picture


def test_labels_keep_their_values():
    for label in (7, 300, 70_000):
        volume, _ = prediction_of(ball(label, (30, 30), [10])).label_volume()
        assert volume.max() == label


def test_an_empty_member_is_an_empty_volume():
    prediction = prediction_of(ball(1, (30, 30), [0, 10]))
    assert not prediction.label_volume(0)[0].any()
    assert prediction.label_volume(1)[0].any()


def test_wrong_members_and_no_cells():
    with pytest.raises(InputError, match="choose among 0, 1"):
        prediction_of(ball(1, (30, 30), [5, 5])).label_volume(2)
    with pytest.raises(InputError, match="no cell"):
        Prediction({}).label_volume()


def test_a_reloaded_prediction_is_the_same(tmp_path):
    to_world = rotated(20, 0.1, (3, 4))
    saved = prediction_of(
        ball(4, (50, 60), [20, 18], to_world=to_world),
        ball(250, (150, 60), [12, 25], to_world=to_world),
        to_world=to_world,
        provenance={"model": "m", "settings": {"seed": 3}},
        intervals={"volume": CALIBRATION},
        notes=(Note("general", None, "Something."), Note("unlike", 250, "it is odd")),
    )
    saved.save(tmp_path)
    loaded = load_prediction(tmp_path)
    assert list(loaded) == [4, 250]
    pd.testing.assert_frame_equal(measure(saved), measure(loaded))
    pd.testing.assert_frame_equal(measure_cells(saved), measure_cells(loaded))
    assert measure_cells(loaded)["warning"].tolist() == ["", "it is odd"]
    for (a, a_affine), (b, b_affine) in zip(saved.label_volumes(), loaded.label_volumes(), strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a_affine, b_affine)
    assert loaded.provenance == saved.provenance and loaded.notes == saved.notes
    assert loaded.warnings == ["Something.", "Cell 250 is unlike the training data: it is odd."]
    assert loaded.unit == "micrometer"


def test_files(tmp_path):
    prediction_of(ball(4, (50, 60), [20, 18]), names={4: "one"}).save(tmp_path)
    files = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert files == [
        "cells.columns.csv",
        "cells.csv",
        "cells/one.npz",
        "cells/one.ome.tif",
        "morphometry.columns.csv",
        "morphometry.csv",
        "prediction.json",
    ]
    content = json.loads((tmp_path / "prediction.json").read_text())
    cell = content["cells"]["4"]
    np.testing.assert_array_equal(cell["grid_to_world"], load_prediction(tmp_path)[4].grid_to_world)
    assert cell["zoom"] == 0.5 and cell["unit"] == "micrometer"
    assert "micrometer^3" in content["columns"]["morphometry.csv"]["volume"]


def test_table_of_cells(tmp_path):
    cells = [ball(4, (50, 60), [20, 18]), ball(9, (150, 60), [15]), ball(2, (90, 60), [10, 0, 25])]
    saved = prediction_of(
        *cells, intervals={"volume": CALIBRATION}, notes=(Note("unlike", 9, "its picture looks blurred"),)
    )
    table = measure_cells(saved).set_index("label")
    assert list(table.index) == [4, 9, 2] and list(table["members"]) == [2, 1, 3]
    assert (table["volume_low"] < table["volume_mean"]).all()
    assert (table["volume_high"] > table["volume_mean"]).all()
    assert "sphericity_low" not in table
    # Two concentric balls share what the smaller holds.
    assert table["ambiguity"][4] == pytest.approx(1 - (18 / 20) ** 3, abs=0.01)
    assert np.isnan(table["ambiguity"][9]) and list(table["modes"]) == [1, 1, 3]
    assert table["warning"].tolist() == ["", "its picture looks blurred", ""]
    saved.save(tmp_path)
    written = pd.read_csv(tmp_path / "cells.csv", keep_default_na=False, na_values={"ambiguity": ""})
    assert list(written.columns) == ["label", *table.columns]
    assert written["warning"].tolist() == table["warning"].tolist()
    columns = json.loads((tmp_path / "prediction.json").read_text())["columns"]["cells.csv"]
    assert set(written.columns) <= set(columns) and "90% interval" in columns["volume_low"]
    assert "19 cells" in columns["volume_high"] and "micrometer^3" in columns["volume_high"]


def test_damaged_intervals(tmp_path):
    prediction_of(ball(4, (50, 60), [20])).save(tmp_path)
    content = json.loads((tmp_path / "prediction.json").read_text())
    content["intervals"] = {"volume": {"scores": "many"}}
    (tmp_path / "prediction.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="damaged"):
        load_prediction(tmp_path)


def test_a_new_prediction_replaces_the_one_that_lay_there(tmp_path):
    prediction_of(ball(4, (50, 60), [20]), ball(5, (150, 60), [20])).save(tmp_path)
    (tmp_path / "cells" / "notes.txt").write_text("the user's own")
    prediction_of(ball(4, (50, 60), [10])).save(tmp_path)
    assert list(load_prediction(tmp_path)) == [4]
    names = sorted(path.name for path in (tmp_path / "cells").iterdir())
    assert names == ["4.npz", "4.ome.tif", "notes.txt"]


def test_a_prediction_is_not_lost_if_its_table_cannot_be_replaced(tmp_path):
    """As on Windows if a spreadsheet has the table open."""
    folder = tmp_path / "results"
    prediction_of(ball(4, (50, 60), [20])).save(folder)
    (folder / "morphometry.csv").unlink()
    (folder / "morphometry.csv").mkdir()
    with pytest.raises(InputError, match="cannot be replaced"):
        load_prediction(folder).keep(4, 0).save(folder)
    (kept,) = folder.glob("results-*")
    assert load_prediction(kept).kept == {4: 0}


@pytest.mark.parametrize("name", ["cells.csv", "morphometry.columns.csv", "cells/4.ome.tif"])
def test_other_files_are_not_replaced(tmp_path, name):
    prediction = prediction_of(ball(4, (50, 60), [20]))
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("the user's own")
    with pytest.raises(InputError, match=f"holds a file {name} that is not of a saved prediction"):
        save_prediction(prediction, tmp_path)
    assert (tmp_path / name).read_text() == "the user's own"


def test_the_picture_stays_with_a_prediction_of_the_same_cells(tmp_path):
    def cell(label, centre, radii, mask):
        one = ball(label, centre, radii)
        section = Section(np.full((64, 64), mask, np.float32), None, 1.0)
        return replace(one, section=section)

    picture = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)
    first = prediction_of(cell(4, (50, 60), [20, 18], 1), cell(5, (150, 60), [20, 18], 1))
    first.save(tmp_path)
    save_pictures(tmp_path, picture, picture > 9)
    load_prediction(tmp_path).keep(4, 1).reject(5, 0).save(tmp_path)
    assert load_prediction(tmp_path).kept == {4: 1}
    assert set(load_pictures(tmp_path, (64, 64))) == {"image", "labels"}
    prediction_of(cell(4, (50, 60), [20], 0)).save(tmp_path)  # another outline: of another segmentation
    assert not load_pictures(tmp_path, (64, 64))


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"cells": {"1": {}}}'])
def test_damaged_folders(tmp_path, content):
    with pytest.raises(InputError, match="saved prediction"):
        load_prediction(tmp_path)
    (tmp_path / "prediction.json").write_text(content)
    with pytest.raises(InputError, match="damaged"):
        load_prediction(tmp_path)


def test_measures_do_not_depend_on_where_a_cell_stands():
    to_world = rotated(30, 0.1, (5, -3))
    table = measure(prediction_of(ball(1, (40, 70), [20], to_world=to_world), to_world=to_world))
    # 20 voxels at 0.5 voxels a pixel and 0.1 micrometre a pixel: 4 micrometres.
    assert table["volume"][0] == pytest.approx(4 / 3 * np.pi * 4**3, rel=0.01)
    assert table["surface_area"][0] == pytest.approx(4 * np.pi * 4**2, rel=0.01)
    assert table["curvature"][0] == pytest.approx(1 / 4, rel=0.01)


# --- choosing -------------------------------------------------------------------------------------------


def test_members_keep_their_numbers_when_others_are_rejected_and_added():
    prediction = prediction_of(ball(1, (50, 50), [20, 15, 10]), ball(2, (50, 110), [12, 12, 12]))
    fewer = prediction.reject(1, 1)
    assert fewer[1].numbers == (0, 2) and fewer.rejected == {1: (1,)} and fewer.numbers == (0, 1, 2)
    further = Ensemble(
        1, prediction[1].signed_distance[:1] - 3, prediction[1].grid_to_world, "micrometer", 0.5, (3,)
    )
    more = fewer.with_cell(fewer[1].joined(further))
    assert more[1].numbers == (0, 2, 3) and more.numbers == (0, 1, 2, 3) and more.members == 3
    volumes = [set(np.unique(volume)) - {0} for volume, _ in more.label_volumes()]
    assert volumes == [{1, 2}, {2}, {1, 2}, {1}]
    table = measure(more)
    assert table[["label", "member"]].to_numpy().tolist() == [[1, 0], [1, 2], [1, 3], [2, 0], [2, 1], [2, 2]]
    with pytest.raises(InputError, match="no member 1: choose among 0, 2, 3"):
        more.reject(1, 1)
    with pytest.raises(InputError, match="last of cell 1"):
        more.reject(1, 0).reject(1, 2).reject(1, 3)


def test_kept_shapes_make_a_volume_of_their_own_and_stand_in_the_table():
    cells = prediction_of(ball(1, (50, 50), [20, 15, 10]), ball(2, (50, 110), [12, 12, 12]))
    prediction = cells.keep(1, 2).keep(2, "consensus")
    volume, affine = prediction.kept_volume()
    every, same = prediction.label_volume(2)
    np.testing.assert_array_equal(volume, every)  # all members of cell 2 are one shape
    np.testing.assert_array_equal(affine, same)
    assert measure_cells(prediction)["kept"].tolist() == ["member 2", "consensus"]
    assert measure_cells(prediction.keep(1, None))["kept"].tolist() == ["", "consensus"]
    assert prediction.reject(1, 2).kept == {2: "consensus"}, "what is rejected is not kept"
    with pytest.raises(InputError, match="no cell 9"):
        prediction.keep(9, "consensus")


def test_choices_numbers_and_sections_come_back_from_disk(tmp_path):
    one = ball(1, (50, 50), [20, 15, 10])
    section = Section(np.full((64, 64), 0.5, np.float32), np.eye(64, dtype=np.float32), 1.0)
    own = Ensemble(1, one.signed_distance, one.grid_to_world, "micrometer", 0.5, section=section)
    prediction = prediction_of(own, ball(2, (50, 110), [12, 12, 12])).reject(1, 0).keep(1, 2)
    prediction.save(tmp_path)
    again = load_prediction(tmp_path)
    assert again.kept == {1: 2} and again.rejected == {1: (0,)} and again[1].numbers == (1, 2)
    np.testing.assert_array_equal(again[1].section.image, section.image)
    np.testing.assert_array_equal(again[1].section.mask, section.mask)
    assert again[1].section.known_scale == 1.0 and again[2].section is None
    pd.testing.assert_frame_equal(measure(again), measure(prediction))
    np.testing.assert_array_equal(again.kept_volume()[0], prediction.kept_volume()[0])


def test_intervals_do_not_hold_for_members_chosen_by_hand():
    cells = prediction_of(ball(1, (50, 50), [20, 15, 10]), ball(2, (50, 110), [12, 11, 12]))
    prediction = replace(cells, intervals={"volume": CALIBRATION}).reject(1, 1)
    table = measure_cells(prediction).set_index("label")
    assert np.isnan(table.loc[1, "volume_low"]) and table.loc[2, "volume_low"] > 0


def test_cells_of_several_planes_have_intervals_of_their_own(tmp_path):
    mask = (DISTANCE[grid.IMAGED_PLANE] < 20).astype(np.float32)
    near, far = (Section(mask, planes=(KnownPlane(depth, mask),)) for depth in (12.0, 1.5))
    cells = prediction_of(
        replace(ball(1, (50, 50), [20, 19]), section=near),
        replace(ball(2, (50, 110), [12, 11]), section=far),
        ball(3, (90, 50), [20, 19]),
    )
    gaps = [cells.facts(label).gap for label in (1, 2)]
    assert gaps[0] < gaps[1] and cells.facts(3).gap is None
    narrow = CALIBRATION.model_copy(update={"floor": 0.01})
    planes = (PlaneIntervals(gap=gaps[0] + 0.01, measures={"volume": narrow}),)
    prediction = replace(cells, intervals={"volume": CALIBRATION}, plane_intervals=planes)
    prediction.save(tmp_path)
    for one in (prediction, load_prediction(tmp_path)):
        table = measure_cells(one).set_index("label")
        widths = np.log(table["volume_high"] / table["volume_low"])
        assert widths[1] < widths[3] and np.isnan(widths[2]), "no class holds for the second"
        assert "low" not in rank_cells(one), "errors and intervals are not mixed"
    assert "low" in rank_cells(prediction_of(cells[1], plane_intervals=planes))
    assert not replace(cells, intervals={"volume": CALIBRATION}, ensembles={1: cells[1]}).has_intervals


@pytest.mark.parametrize(
    ("place", "value", "word"),
    [
        (("unit",), 3, "unit"),
        (("image_to_world",), [[0.0] * 3] * 3, "image_to_world"),
        (("cells", "4", "grid_to_world"), np.diag([1e200, 1e200, 1e200, 1]).tolist(), "grid_to_world"),
        (("cells", "4", "grid_to_world"), np.diag([2.0, 2.0, 2.0, 1]).tolist(), "lies elsewhere"),
        (("cells", "4", "unit"), "mm", "unit"),
        (("cells", "4", "file"), "../4", "folder"),
        (("cells", "4", "file"), "4\0", "folder"),
        (("cells", "4", "file"), "5", "another cell"),
        (("cells",), {}, "no finished cell"),
        (("depth",), "deep", "depth"),
    ],
)
def test_a_damaged_json_is_named(tmp_path, place, value, word):
    prediction_of(ball(4, (50, 60), [20])).save(tmp_path)
    prediction_of(ball(5, (50, 60), [20])).save(tmp_path / "other")
    (tmp_path / "other" / "cells" / "5.npz").rename(tmp_path / "cells" / "5.npz")
    path = tmp_path / "prediction.json"
    content = json.loads(path.read_text())
    part = content
    for key in place[:-1]:
        part = part[key]
    part[place[-1]] = value
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=word):
        load_prediction(tmp_path)
