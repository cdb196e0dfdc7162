"""Several planes in the windows: Predict finds and takes them, Compare shows and completes them."""

from collections.abc import Callable
from dataclasses import replace
from threading import Event

import numpy as np
import pandas as pd
import pytest
from napari import Viewer
from napari.components import ViewerModel
from pytestqt.qtbot import QtBot
from support.stacks import STEP, two_balls

import napari_dispr.prediction.predict  # noqa: F401  before a thread does: rewriting is not thread-safe
from napari_dispr.cells.planes import known_planes
from napari_dispr.errors import InputError
from napari_dispr.prediction.result import Prediction
from napari_dispr.settings import PredictSettings
from napari_dispr.viewer.session import Session
from napari_dispr.widgets.compare.widget import CompareWidget
from napari_dispr.widgets.morphometry import rank_choice
from napari_dispr.widgets.morphometry.columns import NEXT_PLANE
from napari_dispr.widgets.morphometry.rank_choice import BY_PLANE, RankChoice
from napari_dispr.widgets.predict.cells_input import CellsInput
from napari_dispr.widgets.predict.fixes import SPLIT_STACK
from napari_dispr.widgets.predict.planes_input import PlanesInput
from napari_dispr.widgets.predict.request import CellChoice, inspect, make_request
from napari_dispr.widgets.predict.widget import PredictWidget

IMAGE, LABELS = two_balls()
QUICK = PredictSettings(members=3, quality="fast", device="cpu")
#: Every second plane has labels; planes are 0.3 micrometer apart, from z = 3 on.
SPARSE = np.where(np.arange(len(LABELS))[:, None, None] % 2 == 0, LABELS, 0)
PLACE = {"scale": (0.1 * STEP, 0.1, 0.1), "translate": (3.0, 0.0, 0.0), "units": ("um",) * 3}


def test_the_planes_that_say_where_cells_are() -> None:
    assert known_planes(SPARSE) == [0, 2, 4, 6, 8][: len(np.flatnonzero(SPARSE.any(axis=(1, 2))))]
    inner = np.zeros((9, 40, 40), np.uint8)
    for plane, half in ((2, 3), (3, 9), (4, 8)):
        inner[plane, 20 - half : 20 + half, 20 - half : 20 + half] = 1
    # The cell becomes small towards plane 2, so that it ends before it; it may go on after plane 4.
    assert known_planes(inner) == [1, 2, 3, 4]
    assert known_planes(np.zeros_like(inner)) == []


def requested(image=IMAGE, labels=SPARSE, *, of_image=PLACE, of_labels=PLACE):
    viewer = ViewerModel()
    layers = viewer.add_image(image, name="stack", **of_image), viewer.add_labels(labels, **of_labels)
    return make_request(*layers, viewer.dims, CellChoice.ALL, (), QUICK, several=True)


def test_cells_are_cropped_from_all_planes_in_the_z_of_the_stack() -> None:
    inspection = inspect(requested())
    assert [crop.label for crop in inspection.crops] == [1, 2]
    assert np.allclose(np.diff(inspection.depths), 0.6) and inspection.depths[0] >= 3.0
    assert "2 cells to predict, from" in inspection.text
    image, dense = (np.pad(array, ((1, 1), (0, 0), (0, 0))) for array in (IMAGE, LABELS))
    text = inspect(requested(image, dense)).text
    assert text.startswith("2 cells to predict, from 11 planes (2 of them without labels)."), text
    crop = inspection.crops[0]
    assert len(crop.planes) >= 3 and all(plane.image is not None for plane in crop.planes)


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"image": IMAGE[0], "of_image": {"scale": (0.1, 0.1)}}, "has one plane only"),
        ({"image": IMAGE[:-1]}, "has 8 planes"),
        ({"of_image": {"scale": (1, 1, 1)}}, "how far its planes are apart"),
        ({"of_labels": PLACE | {"translate": (4.0, 0.0, 0.0)}}, "are up to 1 apart"),
        ({"labels": np.zeros_like(LABELS)}, "no labels in any plane"),
    ],
    ids=["one plane", "fewer planes", "no distance", "other depths", "no labels"],
)
def test_wrong_stacks_in_words(inputs: dict, words: str) -> None:
    with pytest.raises(InputError, match=words) as error:
        inspect(requested(**inputs))
    assert len(str(error.value).splitlines()) == 1


def test_a_displayed_plane_without_labels_names_both_cures() -> None:
    viewer = ViewerModel()
    layers = viewer.add_image(IMAGE, **PLACE), viewer.add_labels(SPARSE, name="cells", **PLACE)
    viewer.dims.set_current_step(0, int(np.flatnonzero(~SPARSE.any(axis=(1, 2)))[0]))
    with pytest.raises(InputError, match='"cells" has no labels in the displayed plane: move the slider'):
        inspect(make_request(*layers, viewer.dims, CellChoice.ALL, (), QUICK))


def test_a_mask_of_a_stack_is_split_into_cells_that_keep_their_number() -> None:
    mask = (SPARSE > 0).astype(np.uint8)
    inspection = inspect(requested(labels=mask))
    assert inspection.binary and "a mask with one value" in inspection.text
    viewer = ViewerModel()
    layers = viewer.add_image(IMAGE, **PLACE), viewer.add_labels(mask, **PLACE)
    data, settings, _ = SPLIT_STACK.fixed(*layers)
    assert np.array_equal(data > 0, SPARSE > 0)
    assert [len(np.unique(data[label == SPARSE])) for label in (1, 2)] == [1, 1]
    assert np.allclose(settings["scale"], PLACE["scale"])


def test_labels_of_all_channels_are_no_stack(qtbot: QtBot) -> None:
    viewer = ViewerModel()
    viewer.add_image(np.zeros((3, 2, 20, 20)))
    labels = viewer.add_labels(np.ones((3, 1, 20, 20), int))
    planes = PlanesInput()
    qtbot.addWidget(planes)
    planes.setCurrentIndex(1)  # remembered from another stack
    assert not planes.refresh(labels, viewer.dims) and not planes.several
    assert planes.refresh(viewer.add_labels(np.ones((3, 2, 20, 20), int)), viewer.dims) and planes.several


def test_a_new_layer_is_not_taken_for_a_deleted_one(qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python may give it the number of the deleted layer."""
    for module in ("cells_input", "planes_input"):
        place = f"napari_dispr.widgets.predict.{module}.id"
        monkeypatch.setattr(place, lambda layer: 1, raising=False)
    viewer = ViewerModel()
    cells, planes = CellsInput(viewer, lambda: (None, viewer.layers[0])), PlanesInput()
    for widget in (cells, planes):
        qtbot.addWidget(widget)
    for labels in (LABELS, SPARSE * 3):
        viewer.layers.clear()
        viewer.add_labels(labels, **PLACE)
        viewer.dims.set_current_step(0, int(np.flatnonzero(SPARSE.any(axis=(1, 2)))[0]))
        cells.refresh()
        planes.refresh(viewer.layers[0], viewer.dims)
        qtbot.waitUntil(lambda: cells.boxes is not None and not planes._scan.pending)
    assert not {1, 2} & set(cells.boxes or ()) and "5 planes" in planes.itemText(1)
    cells.shut_down()


def test_predict_compare_and_complete_a_coarse_stack(
    make_napari_viewer: Callable[..., Viewer], qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    viewer = make_napari_viewer(show=True)
    viewer.add_image(IMAGE, name="stack")
    viewer.add_labels(SPARSE, name="cells")
    predict = PredictWidget(viewer)
    viewer.window.add_dock_widget(predict, name="Predict 3D shapes")
    predict.form.settings = QUICK
    predict.cells.choice = CellChoice.ALL
    assert not predict.planes.isHidden() and not predict.planes.several and predict.form.picture.isEnabled()
    predict.planes.setCurrentIndex(1)
    assert "how far its planes are apart" in predict.message.text() and not predict.form.picture.isEnabled()
    predict.pixel_size.size.setValue(0.1)
    predict.pixel_size.distance.setValue(0.1 * STEP)
    predict.pixel_size.set_button.click()
    for layer in viewer.layers:
        assert np.allclose(layer.scale, PLACE["scale"]) and {str(one) for one in layer.units} == {
            "micrometer"
        }
    qtbot.waitUntil(lambda: "to predict, from" in predict.message.text())
    qtbot.waitUntil(lambda: predict.planes.itemText(1).endswith("planes with labels, 0.6 µm apart"))
    assert predict.pixel_size.isHidden()
    predict.predict_button.click()
    qtbot.waitUntil(lambda: not predict.running and not predict.updater.busy)
    found = predict.prediction
    assert set(found) == {1, 2} and found.depth == 0
    depths = found.provenance["depths"]
    assert any(np.isclose((found.grid_to_world(1) @ [32, 0, 0, 1])[0], depths))
    # The sections of the labels are sections of the result, where they lie in the stack.
    member = next(layer for layer in viewer.layers if layer.name == "cells: member 1")
    z, y, x = np.nonzero(SPARSE == 1)
    index = np.stack(
        [member.world_to_data(viewer.layers["cells"].data_to_world(one)) for one in zip(z, y, x, strict=True)]
    )
    inside = member.data[tuple(np.rint(index).astype(int).T)] == 1
    assert inside.mean() > 0.93

    compare = CompareWidget(viewer)
    viewer.window.add_dock_widget(compare, name="Compare members")
    Session.of(viewer).select(1)
    qtbot.waitUntil(lambda: not compare.busy and compare._cell is not None and compare._cell.label == 1)
    section = found[1].section
    heights = [sheet.height for sheet in compare._cell.sheets]
    spacing = found[1].spacing[0]
    assert np.allclose(heights, [0, *(-plane.depth * spacing for plane in section.planes)])
    compare.next_plane.setChecked(True)
    qtbot.waitUntil(lambda: not compare.busy)
    assert "Next plane: z = " in compare.headline.text()
    assert len(compare.canvas._sheets) == len(heights) + 1
    ensemble, gains = compare.next_plane._found
    for volume, iou, text in (
        (-0.01, 0.03, "Expected gain: IoU +0.03."),
        (0.02, 0.0, "Expected gain: volume error −2.0%."),
        (0.02, 0.03, "Expected gain: volume error −2.0%, IoU +0.03."),
        (0.0, 0.001, "Expected gain: small, as far as these members show."),
    ):
        known = replace(gains, volume_gain=np.full(64, volume), iou_gain=np.full(64, iou))
        compare.next_plane._found = ensemble, known
        assert compare.next_plane.words(found, 1).endswith(text)
    compare.actions.complete_button.click()
    qtbot.waitUntil(lambda: "cells: completed" in viewer.layers)
    completed, unsure = viewer.layers["cells: completed"], viewer.layers["cells: uncertainty"]
    assert set(np.unique(completed.data)) == {0, 1, 2} and np.allclose(completed.scale, 0.1)
    assert completed.data.shape == unsure.data.shape and 0 < unsure.data.max() <= 1
    monkeypatch.setattr("napari_dispr.shapes.placement.LARGEST_VOLUMES", 2 * completed.data.nbytes - 1)
    compare.actions.complete_button.click()
    qtbot.waitUntil(lambda: not compare.busy)
    assert "only the part of the picture with the cells" in compare.actions.status.text()
    assert sum("completed" in layer.name for layer in viewer.layers) == 1

    rank = RankChoice()
    qtbot.addWidget(rank)
    opened = Session.of(viewer).current
    rank.choose(BY_PLANE)
    assert rank.ranking(opened.prediction, opened.measures) is None and rank.run_bar.running
    qtbot.waitUntil(lambda: not rank.run_bar.running)
    ranking = rank.ranking(opened.prediction, opened.measures)
    assert {*NEXT_PLANE.values()} <= {*ranking.columns} and ranking["rank"].tolist() == [1, 2]
    assert "one more plane, at z = " in rank.summary(ranking)


def test_the_search_for_planes_can_be_cancelled(qtbot, monkeypatch: pytest.MonkeyPatch) -> None:
    cancelled = Event()

    def searched(prediction: Prediction, progress: Callable[[int, int], None]) -> None:
        progress(1, 2)
        cancelled.wait()
        progress(2, 2)

    monkeypatch.setattr(rank_choice, "next_planes", searched)
    rank, prediction = RankChoice(), Prediction({}, provenance={})
    qtbot.addWidget(rank)
    rank.choose(BY_PLANE)
    assert rank.ranking(prediction, pd.DataFrame([1])) is None and rank.run_bar.running
    rank.run_bar.cancel_button.click()
    cancelled.set()
    qtbot.waitUntil(lambda: not rank.run_bar.running)
    assert rank.chosen == "" and rank.run_bar.status.text() == "Cancelled. The cells are not ranked."
