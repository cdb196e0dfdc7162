"""Compare members in a real napari window, by mouse."""

from collections.abc import Callable
from dataclasses import replace

import imageio.v3 as iio
import numpy as np
import pandas as pd
import pytest
from napari import Viewer
from pytestqt.qtbot import QtBot
from qtpy.QtCore import QPoint, Qt
from qtpy.QtGui import QImage
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QDockWidget, QStyleOptionComboBox
from support.layers import open_with_layers
from support.predictions import balls, discs
from support.windows import click_cell, let_events_run, press

from napari_dispr.prediction.result import Prediction
from napari_dispr.prediction.tables import measure_cells
from napari_dispr.shapes.ensemble import Ensemble
from napari_dispr.shapes.measures import MEASURES
from napari_dispr.viewer.content import METADATA_KEY
from napari_dispr.viewer.displayed import displayed_plane
from napari_dispr.viewer.opened import OpenPrediction
from napari_dispr.viewer.scene import camera_of
from napari_dispr.viewer.session import Session
from napari_dispr.widgets.compare import movie
from napari_dispr.widgets.compare.tiles import CONSENSUS_COLOUR, View, mode_colour
from napari_dispr.widgets.compare.widget import CompareWidget
from napari_dispr.widgets.parts.threads import threads_running


def prediction_of_discs(to_world: np.ndarray) -> Prediction:
    """Cell 2: five members of one kind; cell 5: of two kinds, as two of them are far smaller."""
    same = balls(discs(), to_world, (2,), members=5)[2]
    one = balls(discs(), to_world, (5,), members=5)[5]
    distance = one.signed_distance.copy()
    distance[3:] -= 9
    other = Ensemble(5, distance, one.grid_to_world, "pixel", one.zoom)
    return Prediction({2: same, 5: other}, provenance={"model": "balls"}, image_to_world=to_world)


def table_of(prediction: Prediction) -> pd.DataFrame:
    """Volumes of the members in voxels; measuring them all would take seconds."""
    rows = [
        {"label": label, "member": number, **dict.fromkeys(MEASURES, 1.0), "volume": float((one > 0).sum())}
        for label, ensemble in prediction.items()
        for number, one in zip(ensemble.numbers, ensemble.signed_distance, strict=True)
    ]
    table = pd.DataFrame(rows)
    table.attrs["columns"] = dict.fromkeys(table.columns, "no unit: of a test")
    return table


@pytest.fixture
def compare(
    make_napari_viewer: Callable[..., Viewer], qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], tuple[Viewer, CompareWidget]]:
    """Opens a window with a prediction, its layers, and the widget in a dock."""
    monkeypatch.setattr("napari_dispr.prediction.tables.measure", table_of)

    def open_() -> tuple[Viewer, CompareWidget]:
        viewer = make_napari_viewer(show=True)
        viewer.window._qt_window.resize(1500, 900)
        image = viewer.add_image(discs().astype(float), name="picture")
        labels = viewer.add_labels(discs(), name="cells")
        widget = CompareWidget(viewer)
        viewer.window.add_dock_widget(widget, name="Compare members")
        plane = displayed_plane(image, viewer.dims)
        prediction = prediction_of_discs(plane.to_world)
        table = table_of(prediction)
        opened = OpenPrediction(
            object(), "cells", prediction, table, measure_cells(prediction, table), plane, image, labels
        )
        open_with_layers(viewer, opened)
        settle(qtbot, widget)
        return viewer, widget

    return open_


def settle(qtbot: QtBot, widget: CompareWidget) -> None:
    let_events_run()
    qtbot.waitUntil(lambda: not widget.busy)
    let_events_run()


def click_tile(widget: CompareWidget, index: int) -> None:
    middle = widget.canvas.tile_rects()[index].center()
    QTest.mouseClick(
        widget.canvas._canvas.native, Qt.MouseButton.LeftButton, pos=QPoint(int(middle.x()), int(middle.y()))
    )


def colours(widget: CompareWidget, index: int) -> np.ndarray:
    """The pixels of a tile that are brighter than what lies behind it, (n, 3) in [0, 1]."""
    rect = widget.canvas.tile_rects()[index].adjusted(8, 26, -8, -24).toRect()
    picture = widget.canvas.grab(rect).toImage().convertToFormat(QImage.Format.Format_RGB888)
    bits = picture.constBits()
    if hasattr(bits, "setsize"):  # of PyQt; PySide knows the size
        bits.setsize(picture.sizeInBytes())
    lines = np.frombuffer(bits, np.uint8).reshape(picture.height(), picture.bytesPerLine())
    pixels = lines[:, : 3 * picture.width()].reshape(-1, 3) / 255
    return pixels[pixels.max(axis=1) > 0.35]


def hue_of(pixels: np.ndarray) -> np.ndarray:
    mean = pixels.mean(axis=0)
    return mean / mean.max()


def seen(viewer: Viewer) -> tuple[object, ...]:
    """How napari's own view stands."""
    camera = camera_of(viewer)
    return camera.center, camera.zoom, viewer.dims.ndisplay, [layer.visible for layer in viewer.layers]


def test_before_anything_is_predicted_it_says_what_to_do(make_napari_viewer: Callable[..., Viewer]) -> None:
    widget = CompareWidget(make_napari_viewer())
    assert widget.stack.currentWidget() is widget.empty and "Predict 3D shapes" in widget.empty.text()
    widget.shut_down()


def test_the_members_stand_side_by_side_in_the_colours_of_their_kinds(compare, qtbot: QtBot) -> None:
    _, widget = compare()
    widget.picture.setChecked(False)
    assert widget._session.selection.cell == 2 and "one kind of shape fits" in widget.headline.text()
    assert len(widget.canvas.tile_rects()) == 6
    widget.ambiguous_first.setChecked(True)
    assert widget.cell_choice.itemText(0).startswith("cell 5") and "2 kinds" in widget.cell_choice.itemText(0)
    widget.cell_choice.activated.emit(0)
    settle(qtbot, widget)
    assert "A 60 %, B 40 %" in widget.headline.text()
    for index, colour in ((0, mode_colour("A")), (3, mode_colour("B")), (5, CONSENSUS_COLOUR)):
        pixels = colours(widget, index)
        assert len(pixels) > 200, f"tile {index} shows nothing"
        np.testing.assert_allclose(hue_of(pixels), np.divide(colour, max(colour)), atol=0.12)


def test_the_list_of_cells_shows_whole_texts_in_a_narrow_dock(compare, qtbot: QtBot) -> None:
    viewer, widget = compare()
    viewer.window._qt_window.resizeDocks([widget.parent()], [400], Qt.Orientation.Horizontal)
    qtbot.waitUntil(lambda: widget.width() < 450)
    widget.cell_choice.setItemText(0, "cell 10: ambiguity 0.44, 2 kinds")
    widget.cell_choice.setCurrentIndex(0)
    option = QStyleOptionComboBox()
    widget.cell_choice.initStyleOption(option)
    assert option.currentText == widget.cell_choice.currentText()


def test_clicks_choose_cells_and_members_and_the_others_follow(compare, qtbot: QtBot) -> None:
    viewer, widget = compare()
    session = widget._session
    click_cell(viewer, 5)
    settle(qtbot, widget)
    assert session.selection.cell == 5 and widget.cell_choice.currentText().startswith("cell 5")
    click_tile(widget, 3)
    assert session.selection.shape == 3 and widget.shape_label.text() == "member 4, kind B"
    assert widget.slider.value() == 4
    widget.slider.setValue(1)
    assert session.selection.shape == 0
    click_tile(widget, 0)
    assert session.selection.shape is None, "a second click takes it back"
    session.select(2, "consensus")  # as the table does
    settle(qtbot, widget)
    assert widget.cell_choice.currentText().startswith("cell 2") and widget.shape_label.text() == "consensus"


def test_every_view_draws_and_dragging_turns_all_tiles(compare, qtbot: QtBot) -> None:
    viewer, widget = compare()
    before = seen(viewer)
    press(widget.view_buttons[View.DISAGREEMENT])
    settle(qtbot, widget)
    assert len(widget.canvas.tile_rects()) == 2
    assert len(colours(widget, 0)) > 500 and len(colours(widget, 1)) > 500
    press(widget.view_buttons[View.OVERLAY])
    settle(qtbot, widget)
    assert len(widget.canvas.tile_rects()) == 1 and len(colours(widget, 0)) > 500
    camera = widget.canvas._view.camera
    assert camera.depth_value < 1e3 * widget._cell.radius  # a depth buffer of 24 bits resolves 1e-4 of a cell
    angles = widget.canvas.angles
    native = widget.canvas._canvas.native
    QTest.mousePress(native, Qt.MouseButton.LeftButton, pos=QPoint(100, 100))
    QTest.mouseMove(native, QPoint(140, 120))
    QTest.mouseMove(native, QPoint(180, 130))
    QTest.mouseRelease(native, Qt.MouseButton.LeftButton, pos=QPoint(180, 130))
    assert widget.canvas.angles != angles and widget._session.selection.shape is None
    QTest.mouseDClick(native, Qt.MouseButton.LeftButton, pos=QPoint(100, 100))
    assert widget.canvas.angles == angles
    viewer.window.remove_dock_widget(widget)
    assert seen(viewer) == before, "napari's own view is as it was"
    assert len(viewer.mouse_drag_callbacks) == 1, "napari's own"


def test_it_may_float_and_come_back(compare, qtbot: QtBot) -> None:
    _, widget = compare()
    dock = widget.parent()
    while not isinstance(dock, QDockWidget):
        dock = dock.parent()
    for floating in (True, False):
        dock.setFloating(floating)
        settle(qtbot, widget)
        assert len(colours(widget, 0)) > 200


def test_keep_and_reject_go_into_table_layers_and_back(compare, qtbot: QtBot) -> None:
    viewer, widget = compare()
    widget._session.select(5)
    settle(qtbot, widget)
    assert not widget.actions.keep_button.isEnabled() and not widget.actions.reject_button.isEnabled()
    click_tile(widget, 3)
    press(widget.actions.keep_button)
    settle(qtbot, widget)
    opened = widget._session.current
    assert opened.prediction.kept == {5: 3} and opened.cells.set_index("label").loc[5, "kept"] == "member 3"
    kept = viewer.layers["cells: kept shapes"]
    assert kept.metadata[METADATA_KEY]["kept"] == {"5": "member 4"}
    np.testing.assert_array_equal(np.asarray(kept.data) == 5, viewer.layers["cells: member 4"].data == 5)
    assert widget.actions.keep_button.text() == "Undo keep"
    click_tile(widget, 0)
    place = widget.actions.reject_button.mapTo(widget, QPoint())
    press(widget.actions.reject_button)
    assert widget.actions.run_bar.running
    widget.content.layout().activate()
    assert widget.actions.reject_button.mapTo(widget, QPoint()) == place, "no button moves during a short job"
    settle(qtbot, widget)
    widget.actions.status.say(
        '"cells: completed" holds all cells; "cells: uncertainty" shows where their members differ. '
        "Save both with File > Save Selected Layers."
    )
    widget.content.layout().activate()
    assert widget.actions.reject_button.mapTo(widget, QPoint()) == place, "nor when its result is shown"
    opened = widget._session.current
    assert opened.prediction[5].numbers == (1, 2, 3, 4) and opened.prediction.rejected == {5: (0,)}
    assert set(np.unique(viewer.layers["cells: member 1"].data)) == {0, 2}, "the other cell keeps its member"
    press(widget.actions.undo_button)
    settle(qtbot, widget)
    opened = widget._session.current
    assert opened.prediction[5].numbers == (0, 1, 2, 3, 4) and not opened.prediction.rejected
    assert set(np.unique(viewer.layers["cells: member 1"].data)) == {0, 2, 5}
    click_tile(widget, 0)
    press(widget.actions.reject_button)
    settle(qtbot, widget)
    assert len(widget.canvas.tile_rects()) == 5 and "A 50 %, B 50 %" in widget.headline.text()
    click_tile(widget, 2)
    press(widget.actions.keep_button)  # the one that is kept
    settle(qtbot, widget)
    assert widget._session.current.prediction.kept == {}
    assert "cells: kept shapes" not in viewer.layers


def test_choices_are_undone_one_by_one(compare, qtbot: QtBot) -> None:
    _, widget = compare()
    widget._session.select(5)
    settle(qtbot, widget)
    for member in (3, 0):
        click_tile(widget, member)
        press(widget.actions.keep_button)
        settle(qtbot, widget)
    for kept in ({5: 3}, {}):
        press(widget.actions.undo_button)
        settle(qtbot, widget)
        assert widget._session.current.prediction.kept == kept


def test_shapes_can_be_added_as_surfaces_and_the_picture_saved(compare, qtbot: QtBot, tmp_path) -> None:
    viewer, widget = compare()
    press(widget.actions.surfaces_button)
    settle(qtbot, widget)
    surfaces = [layer.name for layer in viewer.layers if layer.name.startswith("cell 2: ")]
    press(widget.actions.surfaces_button)  # again: in place of the first
    settle(qtbot, widget)
    assert [layer.name for layer in viewer.layers if layer.name.startswith("cell 2: ")] == surfaces
    assert not viewer.layers["cells: member 1"].visible, "labels and surfaces in one place flicker"
    surface, labels = viewer.layers["cell 2: member 1"], viewer.layers["cells: member 1"]
    middle = np.mean([surface.data[0].min(axis=0), surface.data[0].max(axis=0)], axis=0)
    place = np.argwhere(labels.data == 2)
    world = labels.data_to_world(np.mean([place.min(axis=0), place.max(axis=0)], axis=0))
    np.testing.assert_allclose(middle, world, atol=0.6)
    widget.save_picture(str(tmp_path / "tiles"))
    assert (tmp_path / "tiles.png").stat().st_size > 5000
    widget.save_picture(str(tmp_path / "nowhere" / "tiles.png"))
    assert "choose another folder" in widget.headline.text()


def test_a_movie_of_one_turn(compare, qtbot: QtBot, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(movie, "FRAMES", 4)
    _, widget = compare()
    settle(qtbot, widget)
    before = widget.canvas.angles
    widget.save_movie(str(tmp_path / "turn.gif"))
    qtbot.waitUntil(lambda: not widget.movie.busy)
    assert "turn.gif" in widget.actions.status.text() and widget.movie_button.isEnabled()
    pictures = iio.imread(tmp_path / "turn.gif")
    assert len(pictures) == 4 and pictures.std(axis=0).max() > 10
    assert widget.canvas.angles == pytest.approx(before)
    widget.save_movie(str(tmp_path / "turn.gif" / "turn.gif"))
    qtbot.waitUntil(lambda: not widget.movie.busy)
    assert "Choose another folder" in widget.actions.status.text()


def test_the_truth_stands_next_to_the_members(compare, qtbot: QtBot) -> None:
    viewer, widget = compare()
    layer = viewer.layers["cells: member 1"]
    viewer.add_labels(np.asarray(layer.data), name="truth", translate=layer.translate, scale=layer.scale)
    settle(qtbot, widget)
    assert widget.truth_choice.currentText() == "truth"
    assert len(widget.canvas.tile_rects()) == 7 and widget._cell.truth is not None
    widget.truth_choice.layer = None
    settle(qtbot, widget)
    assert len(widget.canvas.tile_rects()) == 6


def test_neither_coarse_labels_nor_those_predicted_from_are_taken_for_the_truth(compare) -> None:
    viewer, widget = compare()
    data = np.asarray(viewer.layers["cells: member 1"].data)
    used, coarse, fine = (
        viewer.add_labels(data, name=name, scale=scale)
        for name, scale in (("stack", (1, 1, 1)), ("coarse", (5, 1, 1)), ("fine", (2, 1, 1)))
    )
    assert widget.truth_choice.layer is used  # nothing was known of it when it came first
    session = Session.of(viewer)
    session.show(replace(session.current, key=object(), labels=used))
    assert widget.truth_choice.layer is fine
    session.show(replace(session.current, key=object(), labels=viewer.layers["cells"]))
    assert widget.truth_choice.layer is fine, "another prediction was made from the stack"
    viewer.layers.remove(fine)
    in_micrometer = viewer.add_labels(data, name="of another picture", units=("micrometer",) * 3)
    assert widget.truth_choice.layer is None and in_micrometer in widget.truth_choice.offered
    viewer.layers.remove(in_micrometer)
    assert widget.truth_choice.layer is None and widget.truth_choice.offered == [coarse, used]
    widget.truth_choice.layer = used  # as the user says
    session.show(replace(session.current, key=object()))
    assert widget.truth_choice.layer is used


def test_the_window_closes_while_a_change_is_on_its_way(compare, qtbot: QtBot) -> None:
    viewer, widget = compare()
    click_tile(widget, 1)
    press(widget.actions.reject_button)
    with qtbot.capture_exceptions() as errors:
        viewer.close()
        qtbot.waitUntil(lambda: not threads_running())
        let_events_run()
    assert not errors, "the result came to a closed window"
