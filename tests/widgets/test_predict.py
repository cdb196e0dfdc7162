"""The widget in a real napari window, by mouse, with the model that is shipped."""

import gc
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from napari import Viewer
from napari.layers import Labels
from napari.utils.notifications import notification_manager
from pytestqt.qtbot import QtBot
from qtpy.QtCore import QSettings, Qt
from qtpy.QtWidgets import QApplication, QFileDialog
from support.windows import click_cell, let_events_run, press

import napari_dispr.prediction.predict  # before a thread does: rewriting of modules is not thread-safe
from napari_dispr import grid
from napari_dispr.card import Card
from napari_dispr.models.library import user_folder
from napari_dispr.models.shapr import SHAPR, SHAPRModel
from napari_dispr.prediction.more import more_members
from napari_dispr.settings import PredictSettings
from napari_dispr.shapes.measures import MEASURES
from napari_dispr.viewer.content import METADATA_KEY
from napari_dispr.viewer.samples import simulated_red_blood_cells
from napari_dispr.viewer.scene import camera_of
from napari_dispr.viewer.session import Session
from napari_dispr.widgets.parts.threads import threads_running
from napari_dispr.widgets.parts.wording import estimate
from napari_dispr.widgets.predict.request import CellChoice
from napari_dispr.widgets.predict.running import progress_text
from napari_dispr.widgets.predict.widget import PredictWidget

(IMAGE, IMAGE_META, _), (LABELS, LABELS_META, _) = simulated_red_blood_cells()
QUICK = PredictSettings(members=2, quality="fast", device="cpu")


@pytest.fixture
def opened(make_napari_viewer: Callable[..., Viewer]) -> Callable[..., tuple[Viewer, PredictWidget]]:
    """Opens a window with the sample, in any frame, and the widget in its dock."""

    def open_(image: np.ndarray = IMAGE, labels: np.ndarray = LABELS, show: bool = False, **frame: object):
        viewer = make_napari_viewer(show=show)
        viewer.window._qt_window.resize(1300, 800)
        frame = {"scale": (0.1, 0.1), "units": ("um", "um")} | frame
        viewer.add_image(image, name="picture", **frame)
        viewer.add_labels(labels, name="cells", **frame)
        widget = PredictWidget(viewer)
        viewer.window.add_dock_widget(widget, name="Predict 3D shapes")
        widget.form.settings = QUICK
        return viewer, widget

    return open_


def run(qtbot: QtBot, widget: PredictWidget, *cells: int) -> None:
    """Choose these cells, press Predict and wait for the layers."""
    widget.cells.choice = CellChoice.CLICKED
    widget.cells.clear()
    for cell in cells:
        widget.cells.toggle(cell)
    press(widget.predict_button)
    assert widget.running
    settle(qtbot, widget)


def settle(qtbot: QtBot, widget: PredictWidget) -> None:
    qtbot.waitUntil(lambda: not widget.running)
    qtbot.waitUntil(lambda: not widget.updater.busy)


def results(viewer: Viewer) -> list[Labels]:
    return [layer for layer in viewer.layers if METADATA_KEY in layer.metadata and isinstance(layer, Labels)]


# --- the whole main job --------------------------------------------------------------------------


def test_click_predict_compare_read(opened, qtbot: QtBot) -> None:
    viewer, widget = opened(show=True)
    press(widget.pick_button)
    for cell in (1, 4, 8):
        click_cell(viewer, cell)
    assert widget.cells.clicked == (1, 4, 8)
    qtbot.waitUntil(lambda: "chosen cells" in viewer.layers)
    qtbot.waitUntil(lambda: widget.message.text().startswith("3 cells to predict."))
    press(widget.predict_button)
    assert not widget.predict_button.isEnabled()
    assert widget.run_bar.cancel_button.isVisible() and widget.run_bar.cancel_button.isEnabled()
    assert widget.run_bar.progress_bar.isVisible()
    settle(qtbot, widget)
    assert not widget.run_bar.cancel_button.isVisible()
    assert widget.predict_button.isEnabled()
    assert widget.run_bar.status.text().startswith("3 cells predicted.")
    assert [layer.name for layer in results(viewer)] == ["cells: member 1", "cells: member 2"]
    assert set(np.unique(results(viewer)[0].data)) == {0, 1, 4, 8}
    assert set(widget.prediction) == {1, 4, 8}
    table = widget.table
    assert table.isVisible()
    assert (table.cells_view.model().rowCount(), table.members_view.model().rowCount()) == (3, 6)
    headings = [table.cells_view.model().headerData(i, Qt.Orientation.Horizontal) for i in range(3)]
    assert headings == ["cell", "volume\n(µm³)", "surface area\n(µm²)"]
    press(widget.show_3d_button)
    assert viewer.dims.ndisplay == 3
    viewer.dims.ndisplay = 2  # by napari's own button
    assert not widget.show_3d_button.isChecked()
    assert viewer.layers["cells"].visible


@pytest.mark.parametrize(
    "frame",
    [{"rotate": 35, "translate": (5, -3)}, {"scale": (100, 100), "units": ("nm", "nm")}, {"shear": [0.3]}],
    ids=["turned", "nanometers", "sheared"],
)
def test_result_lies_in_the_frame_of_the_picture(opened, qtbot: QtBot, frame: dict) -> None:
    viewer, widget = opened(**frame)
    run(qtbot, widget, 1, 8)
    layer = results(viewer)[0]
    assert layer.units == viewer.layers["picture"].units * 2 or len(set(layer.units)) == 1
    assert layer.units[0] == viewer.layers["picture"].units[0]
    for cell in (1, 8):
        mask = cell == LABELS
        pixels = np.argwhere(np.pad(mask, 0) | (LABELS == 0))[::3]
        world = [(0.0, *viewer.layers["picture"].data_to_world(pixel)) for pixel in pixels]
        index = np.rint([layer.world_to_data(point) for point in world]).astype(int)
        inside = ((index >= 0) & (index < layer.data.shape)).all(axis=1)
        section = np.zeros(len(pixels), bool)
        section[inside] = layer.data[tuple(index[inside].T)] == cell
        truth = mask[tuple(pixels.T)]
        assert (section & truth).sum() / (section | truth).sum() > 0.85


def test_same_voxels_alone_and_with_others(opened, qtbot: QtBot) -> None:
    _viewer, widget = opened()
    run(qtbot, widget, 4)
    alone = widget.prediction[4].signed_distance
    run(qtbot, widget, 1, 8, 4)
    np.testing.assert_array_equal(widget.prediction[4].signed_distance, alone)
    run(qtbot, widget, 4)
    np.testing.assert_array_equal(widget.prediction[4].signed_distance, alone)


def test_runs_one_after_another_add_layers_and_hide_the_older(opened, qtbot: QtBot) -> None:
    viewer, widget = opened()
    run(qtbot, widget, 1)
    session = Session.of(viewer)
    first = session.current
    run(qtbot, widget, 4)
    assert len(results(viewer)) == 4
    assert [layer.visible for layer in results(viewer)] == [False, False, True, False]
    assert set(np.unique(results(viewer)[2].data)) == {0, 4}
    widget.cells.toggle(1)
    press(widget.predict_button)
    qtbot.waitUntil(lambda: session.current.growing)
    session.show(first)
    settle(qtbot, widget)
    assert session.current is first, "what was chosen meanwhile is looked at"
    assert not any(one.growing for one in session.predictions) and len(session.predictions) == 3
    assert set(session.predictions[-1].prediction) == {1, 4}


def test_a_run_on_the_same_cells_replaces_the_layers(opened, qtbot: QtBot) -> None:
    viewer, widget = opened()
    session = Session.of(viewer)
    names = ["cells: member 1", "cells: member 2"]
    for seed in (0, 1):
        widget.form.settings = QUICK.model_copy(update={"seed": seed})
        run(qtbot, widget, 1, 4)
        assert [layer.name for layer in results(viewer)] == names
        assert results(viewer)[0].metadata[METADATA_KEY]["settings"]["seed"] == seed
        assert [one.name for one in session.predictions] == ["cells"]
    widget.keep_earlier.setChecked(True)
    widget.stacked.setCurrentIndex(1)
    run(qtbot, widget, 1, 4)
    assert [layer.name for layer in results(viewer)] == [*names, "cells (2): members"]
    assert [one.name for one in session.predictions] == ["cells", "cells (2)"]
    widget.keep_earlier.setChecked(False)
    session.show(session.current.changed_to(session.current.prediction.keep(1, "consensus")))
    run(qtbot, widget, 1, 4)
    assert [one.name for one in session.predictions] == ["cells (2)", "cells"]
    assert session.predictions[0].prediction.kept, "choices of the user are not thrown away"
    more = more_members(session.current.prediction, 1, 1)
    session.show(session.current.changed_to(more))
    run(qtbot, widget, 1, 4)
    assert len(session.predictions) == 3 and len(session.predictions[1].prediction[1]) == 3


def test_results_do_not_take_the_colours_of_a_selection(opened, qtbot: QtBot) -> None:
    viewer, widget = opened()
    session, labels = Session.of(viewer), viewer.layers["cells"]
    own = {cell: labels.colormap.map(cell) for cell in (1, 4)}
    run(qtbot, widget, 1, 4)
    session.select(1)
    qtbot.waitUntil(lambda: not np.allclose(labels.colormap.map(1), own[1]))
    run(qtbot, widget, 1, 4)
    session.select(None)
    qtbot.waitUntil(lambda: np.allclose(labels.colormap.map(1), own[1]))
    for layer in results(viewer):
        for cell, colour in own.items():
            np.testing.assert_allclose(layer.colormap.map(cell), colour)


def test_a_run_in_the_3d_view_ends_in_it(opened, qtbot: QtBot) -> None:
    viewer, widget = opened()
    run(qtbot, widget, 1)
    press(widget.show_3d_button)
    run(qtbot, widget, 4)
    assert viewer.dims.ndisplay == 3 and widget.show_3d_button.isChecked()
    assert "picture: imaged plane" in viewer.layers
    for layer in results(viewer):
        viewer.layers.remove(layer)
    press(widget.show_3d_button)
    assert viewer.dims.ndisplay == 2
    press(widget.show_3d_button)
    assert not widget.show_3d_button.isChecked(), "there is nothing to show"


def test_3d_view_without_the_inputs_and_back(opened, qtbot: QtBot) -> None:
    viewer, widget = opened(show=True)
    run(qtbot, widget, 1)
    before, controls = viewer.dims.point, viewer.window._qt_viewer.dockLayerControls
    first, second = results(viewer)
    viewer.add_surface(
        (np.eye(3), np.array([[0, 1, 2]])), name="napari's own"
    )  # such controls are the widest
    narrow = controls.minimumSizeHint().width()
    viewer.layers.remove("napari's own")
    press(widget.show_3d_button)
    qtbot.waitUntil(lambda: "cells: member 1 (smooth)" in viewer.layers)
    assert controls.minimumSizeHint().width() <= narrow, "the canvas is not made smaller"
    assert not first.visible
    second.visible = True
    qtbot.waitUntil(lambda: "cells: member 2 (smooth)" in viewer.layers)
    press(widget.show_3d_button)
    let_events_run()
    assert viewer.dims.point == before and first.visible and second.visible
    assert not any("smooth" in layer.name for layer in viewer.layers)
    for name in ("cells", "picture"):
        viewer.layers.remove(viewer.layers[name])
    press(widget.show_3d_button)
    let_events_run()
    assert viewer.dims.ndisplay == 3 and widget.show_3d_button.isChecked()
    assert "picture: imaged plane" in viewer.layers
    press(widget.show_3d_button)
    assert viewer.dims.ndisplay == 2 and "picture: imaged plane" not in viewer.layers


@pytest.mark.parametrize("shape", [IMAGE.shape, (3, *IMAGE.shape)], ids=["a picture", "a stack"])
def test_3d_view_hides_the_other_channels(opened, qtbot: QtBot, shape: tuple[int, ...]) -> None:
    """In 3D napari draws a 2D layer as a thick slab and a stack as a cloud, in which the shapes would lie."""
    frame = {"scale": [0.1] * len(shape), "units": ["um"] * len(shape)}
    picture = np.broadcast_to(IMAGE, shape)
    viewer, widget = opened(picture, np.broadcast_to(LABELS, shape).copy(), **frame)
    viewer.add_image(picture, name="other channel", **frame)
    volume = viewer.add_labels(np.ones((2, 9, 9), np.uint8), name="known shape", units=["um"] * 3)
    run(qtbot, widget, 1)
    press(widget.show_3d_button)
    hidden = [layer.name for layer in viewer.layers if not layer.visible]
    assert {"picture", "cells", "other channel"} <= set(hidden) and volume.visible
    press(widget.show_3d_button)
    assert all(viewer.layers[name].visible for name in ("picture", "cells", "other channel"))


def test_rivals_next_to_the_model(opened, qtbot: QtBot) -> None:
    """A fit and a SHAPR of one's own, for comparison: one shape per cell, which the status says."""
    card = Card(name="my-shapr", rival="shapr", qualities={})
    SHAPRModel(SHAPR(), card).save(user_folder() / "my-shapr.safetensors")
    viewer, widget = opened()
    for name in ("ellipsoid", "my-shapr"):
        widget.form.settings = QUICK.model_copy(update={"model": name})
        assert not widget.form.members.isEnabled()
        run(qtbot, widget, 1, 4)
        assert set(widget.prediction) == {1, 4} and widget.prediction.members == 1
        assert f"{name} draws one shape of each cell" in widget.run_bar.status.text()
        shown = results(viewer)[-1]
        assert shown.metadata[METADATA_KEY]["model"] == name
    assert "⚠" not in widget.message.text()


# --- cancelling and closing ----------------------------------------------------------------------


def test_cancel_keeps_what_is_finished(opened, qtbot: QtBot) -> None:
    viewer, widget = opened(show=True)
    widget.form.settings = QUICK.model_copy(update={"members": 5, "quality": "balanced"})
    widget.cells.choice = CellChoice.ALL
    press(widget.predict_button)
    qtbot.waitUntil(lambda: widget.prediction is not None)
    cells = viewer.layers["cells"]
    viewer.layers.remove(cells)
    press(widget.run_bar.cancel_button)
    assert not widget.run_bar.cancel_button.isEnabled()
    settle(qtbot, widget)
    finished = len(widget.prediction)
    assert 1 <= finished < 9
    assert widget.run_bar.status.text().startswith(f"Cancelled. {finished} of 9 cells finished.")
    assert '"cells" was removed during the run: the shapes lie where it was.' in widget.run_bar.status.text()
    assert set(np.unique(results(viewer)[0].data)) == {0, *widget.prediction}
    assert widget.table.cells_view.model().rowCount() == finished
    viewer.layers.append(cells)
    run(qtbot, widget, 1)
    assert widget.run_bar.status.text().startswith("1 cell predicted.")


def test_closing_the_dock_cancels(opened, qtbot: QtBot) -> None:
    viewer, widget = opened()
    widget.form.settings = QUICK.model_copy(update={"members": 50})
    widget.cells.choice = CellChoice.ALL
    press(widget.pick_button)
    widget.cells.toggle(1)
    widget.cells.choice = CellChoice.ALL
    press(widget.predict_button)
    viewer.window.remove_dock_widget(widget)
    qtbot.waitUntil(lambda: not threads_running())
    assert "chosen cells" not in viewer.layers
    assert widget.cells._tool._on_press not in viewer.mouse_drag_callbacks
    viewer.add_labels(np.zeros((2, 4, 4), int))
    viewer.dims.set_point(0, 1)
    viewer.layers["cells"].scale = (0.2, 0.2)
    let_events_run()
    assert "chosen cells" not in viewer.layers, "nobody listens any more"
    assert not results(viewer)
    assert gc.get_freeze_count() == 0


def test_closing_the_window_cancels(opened, qtbot: QtBot) -> None:
    viewer, widget = opened()
    widget.form.settings = QUICK.model_copy(update={"members": 50})
    widget.cells.choice = CellChoice.ALL
    press(widget.predict_button)
    assert threads_running() and not widget.fix_button.isEnabled(), "it would do nothing"
    viewer.close()
    qtbot.waitUntil(lambda: not threads_running())
    let_events_run()  # no result may reach the closed window
    assert gc.get_freeze_count() == 0


def test_a_failure_leaves_the_finished_cells(opened, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> None:
    sound = napari_dispr.prediction.predict.iter_predict_crops

    def failing(*args, **kwargs):
        for event in sound(*args, **kwargs):
            yield event
            if isinstance(event, napari_dispr.prediction.predict.CellDone):
                raise RuntimeError("the device fell off the bus")

    monkeypatch.setattr("napari_dispr.prediction.predict.iter_predict_crops", failing)
    viewer, widget = opened()
    run(qtbot, widget, 1, 4)
    assert set(widget.prediction) == {1}
    assert set(np.unique(results(viewer)[0].data)) == {0, 1}
    assert "the device fell off the bus" in notification_manager.records[-1].message
    assert widget.run_bar.status.text().startswith(
        "⚠ Stopped by an error: see napari's notifications. 1 of 2 cells finished."
    )
    monkeypatch.undo()
    run(qtbot, widget, 4)
    assert set(widget.prediction) == {4}


# --- choosing ------------------------------------------------------------------------------------


def test_clicks_choose_only_with_the_tool_on(opened, qtbot: QtBot) -> None:
    viewer, widget = opened(show=True)
    viewer.layers["cells"].mode = "paint"
    click_cell(viewer, 4, drag=0)
    assert widget.cells.clicked == ()
    viewer.layers["cells"].undo()
    press(widget.pick_button)
    assert viewer.layers["cells"].mode == "pan_zoom", "a click must not paint at the same time"
    click_cell(viewer, 4)
    click_cell(viewer, 1)
    assert widget.cells.clicked == (4, 1)
    click_cell(viewer, 4)
    assert widget.cells.clicked == (1,)
    click_cell(viewer, 0)  # background
    click_cell(viewer, 8, drag=60)
    assert widget.cells.clicked == (1,), "a drag moves the picture"
    press(widget.pick_button)
    click_cell(viewer, 8)
    assert widget.cells.clicked == (1,)
    press(widget.cells.clear_button)
    assert widget.cells.clicked == ()
    assert "chosen cells" not in viewer.layers


def test_another_tool_or_layer_turns_picking_off(opened, qtbot: QtBot) -> None:
    viewer, widget = opened(labels=LABELS.copy(), show=True)
    press(widget.pick_button)
    click_cell(viewer, 4)
    qtbot.waitUntil(lambda: "chosen cells" in viewer.layers)
    let_events_run()
    assert widget.pick_button.isChecked(), "the outlines are not the user's layer"
    viewer.layers.selection.active = viewer.layers["cells"]
    viewer.layers["cells"].mode = "paint"
    viewer.layers["cells"].selected_label = 99
    click_cell(viewer, 1)  # paints, and does not pick
    assert widget.cells.clicked == (4,) and not widget.pick_button.isChecked()
    viewer.layers["cells"].undo()
    press(widget.pick_button)
    viewer.add_points(np.zeros((1, 2)))
    let_events_run()
    assert not widget.pick_button.isChecked()


@pytest.mark.parametrize("frame", [{"rotate": 40, "scale": (0.3, 0.2)}, {"translate": (300, -20)}])
def test_clicks_hit_in_every_frame_and_in_3d(opened, qtbot: QtBot, frame: dict) -> None:
    viewer, widget = opened(show=True, **frame)
    press(widget.pick_button)
    click_cell(viewer, 7)
    assert widget.cells.clicked == (7,)
    camera = camera_of(viewer)
    viewer.dims.ndisplay = 3
    camera.angles = (10, -20, 30)
    let_events_run()
    click_cell(viewer, 3)
    assert widget.cells.clicked == (7,), "with 2D layers alone napari does not tell where a click went"
    viewer.add_image(np.zeros((3, 4, 4)), scale=frame.get("scale", (0.1, 0.1))[:1] * 3, units=("um",) * 3)
    camera.angles = (10, -20, 30)
    let_events_run()
    click_cell(viewer, 3)
    assert widget.cells.clicked == (7, 3)


def test_predict_right_after_the_slider_moved(opened, qtbot: QtBot) -> None:
    moved = np.roll(LABELS, 20, axis=1)
    viewer, widget = opened(
        np.stack([IMAGE, np.roll(IMAGE, 20, axis=1)]),
        np.stack([LABELS, moved]),
        scale=(1, 0.1, 0.1),
        units=("um",) * 3,
    )
    widget.cells.toggle(4)
    qtbot.waitUntil(lambda: widget._inspection is not None)
    viewer.dims.set_point(0, 1)
    widget.predict_button.click()  # before the event loop runs again
    settle(qtbot, widget)
    middle = widget.prediction.grid_to_world(4) @ [*grid.MIDDLE, 1]
    assert middle[2] == pytest.approx(0.1 * np.nonzero(moved == 4)[1].mean(), abs=0.5)


def test_a_click_on_a_plane_of_a_stack(opened, qtbot: QtBot) -> None:
    moved = np.roll(LABELS, 100, axis=1)
    viewer, widget = opened(
        np.stack([IMAGE, IMAGE]), np.stack([LABELS, moved]), scale=(1, 0.1, 0.1), units=("um",) * 3
    )
    viewer.dims.set_point(0, 1)
    y, x = np.argwhere(moved == 4)[100]
    assert widget.cells._tool.label_at(np.array([1.0, y * 0.1, x * 0.1])) == 4
    widget.cells.toggle(4)
    qtbot.waitUntil(lambda: "chosen cells" in viewer.layers)
    starts = viewer.layers["chosen cells"].data[:, 0]
    assert (starts[:, 0] == 0).all() and viewer.layers["chosen cells"].translate[0] == 1
    rows, columns = np.nonzero(moved == 4)
    assert starts[:, 2].min() == pytest.approx(columns.min() - 0.5)
    assert starts[:, 1].max() == pytest.approx(rows.max() + 0.5)


def test_painting_moves_the_outline(opened, qtbot: QtBot) -> None:
    viewer, widget = opened(labels=LABELS.copy())
    labels = viewer.layers["cells"]
    widget.cells.toggle(4)
    qtbot.waitUntil(lambda: "chosen cells" in viewer.layers)
    before = viewer.layers["chosen cells"].data
    rows, columns = np.nonzero(LABELS == 4)
    grown = (np.arange(rows.min() - 5, rows.min() + 5), np.full(10, int(columns.mean())))
    labels.data_setitem(grown, 4)
    qtbot.waitUntil(lambda: viewer.layers["chosen cells"].data[:, 0, 0].min() < before[:, 0, 0].min() - 3)


@pytest.mark.parametrize("changed", ["cells", "picture"])
def test_results_of_changed_layers_are_called_outdated(opened, qtbot: QtBot, changed: str) -> None:
    viewer, widget = opened(labels=LABELS.copy())
    run(qtbot, widget, 4)
    said = widget.run_bar.status.text()
    viewer.layers[changed].refresh()
    assert widget.run_bar.status.text() == said
    if changed == "cells":
        viewer.layers["cells"].data_setitem((np.arange(3), np.arange(3)), 4)
    else:
        viewer.layers["picture"].data = IMAGE + 1
    outdated = "The image or the labels have changed since then"
    assert widget.run_bar.status.text().startswith(f"{said} {outdated}")
    run(qtbot, widget, 4)
    assert outdated not in widget.run_bar.status.text()


def test_selected_label_is_outlined_and_predicted(opened, qtbot: QtBot) -> None:
    viewer, widget = opened()
    press(widget.cells.buttons[CellChoice.SELECTED])
    viewer.layers["cells"].selected_label = 5
    qtbot.waitUntil(lambda: "chosen cells" in viewer.layers)
    press(widget.predict_button)
    settle(qtbot, widget)
    assert set(widget.prediction) == {5}


def test_choices_follow_the_layers(opened) -> None:
    viewer, widget = opened()
    assert [layer.name for layer in widget.image_choice.offered] == ["picture"]
    second = viewer.add_image(IMAGE, name="second")
    assert widget.image_choice.itemText(0) == "second"
    assert widget.image_choice.layer.name == "picture", "the choice is the user's"
    widget.image_choice.layer = second
    second.name = "renamed"
    assert widget.image_choice.currentText() == "renamed"
    viewer.layers.remove(second)
    assert widget.image_choice.layer is viewer.layers["picture"]
    viewer.layers.clear()
    assert widget.image_choice.layer is None and widget.labels_choice.layer is None
    assert "no picture" in widget.message.text()


def test_results_are_not_offered_as_labels(opened, qtbot: QtBot) -> None:
    _viewer, widget = opened()
    run(qtbot, widget, 1)
    press(widget.show_3d_button)
    assert [layer.name for layer in widget.labels_choice.offered] == ["cells"]
    assert [layer.name for layer in widget.image_choice.offered] == ["picture"]


# --- problems of the inputs -----------------------------------------------------------------------


SPOILED = np.where(LABELS == 4, np.nan, IMAGE)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (IMAGE[:-9], "choose labels made from this picture"),  # seen at a glance
        (SPOILED, "NaN"),  # seen in a thread
    ],
    ids=["shapes differ", "NaN"],
)
def test_wrong_layers(opened, qtbot: QtBot, image: np.ndarray, words: str) -> None:
    """Which others are wrong: see the tests of the request."""
    viewer, widget = opened(image)
    widget.cells.toggle(4)
    qtbot.waitUntil(lambda: words in widget.message.text())
    assert not widget.predict_button.isEnabled()
    widget.predict()  # as fast as no check could be
    settle(qtbot, widget)
    assert words in widget.message.text()
    assert not results(viewer) and widget.prediction is None


def test_wrong_settings(opened, qtbot: QtBot, tmp_path) -> None:
    _viewer, widget = opened()
    widget.cells.toggle(4)
    widget.form.settings = QUICK.model_copy(update={"scale": 3.0})
    qtbot.waitUntil(lambda: "64 voxels of the grid" in widget.message.text())
    file = tmp_path / "none.safetensors"
    file.write_text("nothing")
    widget.form.settings = QUICK.model_copy(update={"model": str(file)})
    qtbot.waitUntil(lambda: "is not a shape model" in widget.message.text())
    assert not widget.predict_button.isEnabled()
    widget.form.settings = QUICK
    qtbot.waitUntil(lambda: widget.message.text().startswith("1 cell to predict."))
    assert widget.predict_button.isEnabled()


def test_wrong_inputs_of_a_run_in_haste(opened, qtbot: QtBot) -> None:
    viewer, widget = opened(image=SPOILED)
    widget.cells.toggle(4)
    press(widget.predict_button)  # before the check has answered
    settle(qtbot, widget)
    qtbot.waitUntil(lambda: "NaN" in widget.message.text())
    assert not results(viewer)
    assert not widget.predict_button.isEnabled()


def test_a_mask_is_split_into_cells(opened, qtbot: QtBot) -> None:
    mask = np.where(LABELS > 0, 255, 0).astype(np.uint8)
    mask[:9, :9] = 255  # cut by the border: what is wrong is that all is one cell
    viewer, widget = opened(labels=mask)
    widget.cells.choice = CellChoice.ALL
    qtbot.waitUntil(lambda: not widget.fix_button.isHidden())
    assert "mask with one value" in widget.message.text()
    press(widget.fix_button)
    qtbot.waitUntil(lambda: widget.message.text().startswith("6 cells to predict."))  # some touch
    assert widget.labels_choice.layer.name == "cells: split" and widget.fix_button.isHidden()
    assert not viewer.layers["cells"].visible


def test_the_size_of_a_pixel_goes_into_the_layers(opened, qtbot: QtBot) -> None:
    viewer, widget = opened(scale=(1, 1), units=("pixel", "pixel"))
    card = Card(name="sized", rival="shapr", qualities={}, voxel_size=0.1, unit="micrometer")
    SHAPRModel(SHAPR(), card).save(user_folder() / "sized.safetensors")
    widget.use_model("sized")
    assert widget.form.settings.scale == "auto" and not widget.pixel_size.isHidden()
    widget.cells.toggle(4)
    qtbot.waitUntil(lambda: "in pixels: check the pixel size above and press Set." in widget.message.text())
    widget.pixel_size.size.setValue(0.2)
    press(widget.pixel_size.set_button)
    for layer in (viewer.layers["picture"], viewer.layers["cells"]):
        assert (tuple(layer.scale), str(layer.units[-1])) == ((0.2, 0.2), "micrometer")
    middle = viewer.layers["picture"].extent.world[:, -2:].mean(axis=0)
    assert np.allclose(camera_of(viewer).center[-2:], middle, rtol=0.05), "the picture is still in view"
    qtbot.waitUntil(lambda: widget.pixel_size.isHidden())
    assert widget.form.settings.scale == "physical"
    qtbot.waitUntil(lambda: "in pixels" not in widget.message.text())


def test_a_scale_without_units_is_the_size_that_is_offered(opened) -> None:
    """Whoever gives layers a scale and no units means a length, most often micrometers."""
    viewer, widget = opened(scale=(0.2, 0.1), units=("pixel", "pixel"))
    assert widget.pixel_size.size.value() == pytest.approx(0.02**0.5, abs=1e-4)
    press(widget.pixel_size.set_button)
    for layer in (viewer.layers["picture"], viewer.layers["cells"]):
        assert layer.scale == pytest.approx((0.2, 0.1)) and str(layer.units[-1]) == "micrometer"


@pytest.mark.parametrize("several", [True, False])
def test_the_size_that_the_file_states_is_offered(
    several: bool, make_napari_viewer, tmp_path: Path, qtbot: QtBot
) -> None:
    """napari's reader of TIFF leaves the size of a voxel out."""
    stack = np.stack([IMAGE] * 9)
    stated = {"metadata": {"axes": "ZYX", "spacing": 1.75, "unit": "um"}, "resolution": (1 / 0.4, 1 / 0.8)}
    tifffile.imwrite(tmp_path / "stack.tif", stack.astype(np.float32), imagej=True, **stated)
    viewer = make_napari_viewer()
    (image,) = viewer.open(tmp_path / "stack.tif", plugin="napari")
    labels = viewer.add_labels(np.stack([LABELS] * 9))
    viewer.dims.set_current_step(0, 6)
    widget = PredictWidget(viewer)
    size = widget.pixel_size
    qtbot.waitUntil(lambda: size.size.value() == pytest.approx(np.sqrt(0.32), abs=1e-4))
    assert size.distance.value() == 1.75 and size.unit.currentData() == "micrometer"
    widget.planes.setCurrentIndex(int(several))
    qtbot.waitUntil(lambda: size.distance.isHidden() != several)
    press(size.set_button)
    for layer in (image, labels):
        assert layer.scale == pytest.approx((1.75, 0.8, 0.4), rel=1e-6)
        assert {str(unit) for unit in layer.units} == {"micrometer"}
    assert viewer.dims.current_step[0] == 6, "the same plane is displayed"
    size.size.setValue(3.0)
    qtbot.waitUntil(lambda: size.isHidden())
    assert size.size.value() == 3.0, "what the user entered stays"


def test_true_sizes_are_kept_unless_the_user_chose_a_scale(make_napari_viewer) -> None:
    viewer = make_napari_viewer()
    for add, array in ((viewer.add_image, IMAGE), (viewer.add_labels, LABELS)):
        add(array, scale=(0.1, 0.1), units=("um", "um"))
    widget = PredictWidget(viewer)
    scale = widget.form.scale
    assert widget.form.settings.scale == "physical", "the model and the picture know their sizes"
    widget.form.model_choice.model = "generic"
    assert widget.form.settings.scale == "auto", "cells of any size"
    widget.form.model_choice.model = "red-blood-cell"
    assert widget.form.settings.scale == "physical"
    scale.setCurrentIndex(scale.findData("auto"))
    widget.form.model_choice.model = "generic"
    widget.form.model_choice.model = "red-blood-cell"
    assert widget.form.settings.scale == "auto"
    widget.shut_down()
    again = PredictWidget(viewer)
    assert again.form.settings.scale == "auto"
    again.use_model("red-blood-cell")
    assert again.form.settings.scale == "physical"
    again.shut_down()


# --- table, settings, device ----------------------------------------------------------------------


def test_table_copies_and_exports(opened, qtbot: QtBot, tmp_path) -> None:
    viewer, widget = opened()
    run(qtbot, widget, 1, 4)
    table = widget.table
    press(table.copy_button)
    lines = QApplication.clipboard().text().splitlines()
    assert lines[0].split("\t")[:3] == ["label", "members", "volume_mean"]
    assert len(lines) == 3
    table.export(tmp_path / "members.csv", members=True)
    members = pd.read_csv(tmp_path / "members.csv")
    assert list(members.columns) == ["label", "member", *MEASURES]
    assert len(members) == 4
    table.export(tmp_path / "cells.csv", members=False)
    cells = pd.read_csv(tmp_path / "cells.csv").set_index("label")
    volumes = members.groupby("label")["volume"]
    np.testing.assert_allclose(cells["volume_mean"], volumes.mean())
    np.testing.assert_allclose(cells["volume_sd"], volumes.std())
    shown = table.cells_view.model()
    columns = [f"volume_{end}" for end in ("mean", "sd", "low", "high")]
    assert shown.index(0, 1).data() == estimate(*cells.reindex(columns=columns).loc[1])
    for layer, (_, rows) in zip(results(viewer), members.groupby("member"), strict=True):
        np.testing.assert_allclose(layer.features["volume"].dropna(), rows["volume"])


def test_a_table_that_cannot_be_written_is_said(opened, qtbot: QtBot, tmp_path, monkeypatch) -> None:
    _, widget = opened()
    run(qtbot, widget, 1)
    table = widget.table
    (tmp_path / "file").write_text("")
    for path, text in (
        (tmp_path / "file" / "cells.csv", "Choose another folder"),
        (tmp_path / "a.csv", "Saved"),
    ):
        monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_, path=path: (str(path), "Every member"))
        press(table.export_button)
        qtbot.waitUntil(lambda: not table.run_bar.running)
        assert text in table.run_bar.status.text()


def test_results_are_shown_with_their_own_labels_only(opened, qtbot: QtBot) -> None:
    viewer, widget = opened()
    run(qtbot, widget, 1)
    other = viewer.add_labels(LABELS, scale=viewer.layers["cells"].scale, name="other")
    for layer, hidden in ((other, True), (viewer.layers["cells"], False)):
        widget.labels_choice.layer = layer
        assert (widget.table.isHidden(), widget.run_bar.status.isHidden()) == (hidden, hidden)


def test_settings_are_remembered(make_napari_viewer) -> None:
    viewer = make_napari_viewer()
    chosen = PredictSettings(members=7, quality="fast", scale=0.7, seed=11, device="cpu")
    first = PredictWidget(viewer)
    assert first.form.settings == PredictSettings(scale="auto")
    first.form.settings = chosen
    first.cells.choice = CellChoice.ALL
    first.shut_down()
    second = PredictWidget(viewer)
    assert second.form.settings == chosen
    assert second.cells.choice is CellChoice.ALL
    second.shut_down()
    stored = QSettings(QSettings.Format.IniFormat, QSettings.Scope.UserScope, "napari-dispr", "napari-dispr")
    stored.setValue("predict/settings", '{"members": 5000}')  # of another version
    stored.setValue("predict/cells", "none")
    stored.sync()
    third = PredictWidget(viewer)
    assert third.form.settings == PredictSettings(scale="auto")
    assert third.cells.choice is CellChoice.CLICKED
    third.shut_down()


def test_found_device_is_named(opened, qtbot: QtBot) -> None:
    _, widget = opened()
    device = widget.form.device
    qtbot.waitUntil(lambda: device.itemText(0).startswith("auto: "))
    names = {device.itemData(i): device.itemText(i) for i in range(device.count())}
    assert names["cpu"].startswith("CPU (")
    assert device.currentData() == "cpu", "the choice is the user's"


def test_progress_in_words() -> None:
    assert progress_text(7, 2, 3, None) == "cell 7 (2 of 3), %p %"
    assert progress_text(7, 2, 3, 12.3) == "cell 7 (2 of 3), %p %, 12 s left"
    assert progress_text(7, 2, 3, 245) == "cell 7 (2 of 3), %p %, 4 min left"


def python(script: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", textwrap.dedent(script)]
    return subprocess.run(command, capture_output=True, text=True)


def test_torch_is_loaded_in_a_thread() -> None:
    script = """
        import sys, threading, time

        class Witness:
            threads = []
            def find_spec(self, name, path=None, target=None):
                if name == "torch":
                    self.threads.append(threading.current_thread())

        sys.meta_path.insert(0, Witness())
        import napari
        from qtpy.QtWidgets import QApplication
        from napari_dispr.widgets.predict.widget import PredictWidget
        viewer = napari.Viewer(show=False)
        widget = PredictWidget(viewer)
        viewer.window.add_dock_widget(widget)
        assert "torch" not in sys.modules
        while widget.form.device.count() < 2:  # the test's own limit ends it
            QApplication.processEvents()
            time.sleep(0.01)
        assert widget.form.device.count() >= 2
        assert Witness.threads and threading.main_thread() not in Witness.threads
        viewer.close()
        print("in a thread")
    """
    done = python(script)
    assert done.returncode == 0 and "in a thread" in done.stdout, done.stderr


def test_python_ends_while_torch_is_loading() -> None:
    script = """
        import napari
        from qtpy.QtWidgets import QApplication
        from napari_dispr.widgets.predict.widget import PredictWidget
        viewer = napari.Viewer(show=False)
        viewer.window.add_dock_widget(PredictWidget(viewer))
        for _ in range(20):
            QApplication.processEvents()
    """
    done = python(script)
    assert done.returncode == 0, done.stderr
