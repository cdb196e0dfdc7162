"""The widget Morphometry in a real napari window: rows, points, layers and files are of the same cells."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pyqtgraph
import pytest
import tifffile
import trimesh
from napari import Viewer
from napari.components import ViewerModel
from napari.layers import Labels, Layer
from pytestqt.qtbot import QtBot
from qtpy.QtCore import QEvent, QPoint, QPointF, Qt
from qtpy.QtGui import QImage, QMouseEvent
from qtpy.QtSvg import QSvgRenderer
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication
from support.layers import open_with_layers
from support.predictions import CALIBRATION, CENTRES, FRAMES, balls, discs

from napari_dispr.errors import InputError
from napari_dispr.prediction.ranking import rank_cells
from napari_dispr.prediction.result import Prediction
from napari_dispr.prediction.saving import load_prediction
from napari_dispr.prediction.tables import measure, measure_cells
from napari_dispr.shapes.label_volumes import measure_labels
from napari_dispr.viewer.displayed import DisplayedPlane, displayed_plane
from napari_dispr.viewer.files import read_ensemble
from napari_dispr.viewer.link import PictureLink, with_layers
from napari_dispr.viewer.opened import OpenPrediction
from napari_dispr.viewer.scene import camera_of
from napari_dispr.viewer.session import Session
from napari_dispr.viewer.world import layer_to_world
from napari_dispr.widgets.morphometry.content import cells_content, members_content
from napari_dispr.widgets.morphometry.exports import ExportBar, MeshDialog, picture_of
from napari_dispr.widgets.morphometry.measured_labels import labels_source
from napari_dispr.widgets.morphometry.plots import PlotPanel
from napari_dispr.widgets.morphometry.widget import MorphometryWidget
from napari_dispr.widgets.parts.cell_colours import CellColours

FRAME = FRAMES["turned"] | {"units": ("micrometer", "micrometer")}


@cache
def predicted() -> tuple[Prediction, pd.DataFrame, pd.DataFrame]:
    """Two balls, the first smaller, of two members in a turned frame, and their tables."""
    to_world = layer_to_world(Labels(discs(), **FRAME))
    plain = balls(discs(), to_world)
    ensembles = {
        label: replace(one, signed_distance=one.signed_distance - 3 * (label == 2), unit="micrometer")
        for label, one in plain.items()
    }
    prediction = Prediction(
        ensembles,
        provenance={"model": "balls", "settings": {"seed": 3}},
        image_to_world=to_world,
        image_shape=discs().shape,
        unit="micrometer",
        intervals={"volume": CALIBRATION},
        kept={5: 1},
    )
    measures = measure(prediction)
    return prediction, measures, measure_cells(prediction, measures)


def show_prediction(viewer: ViewerModel) -> OpenPrediction:
    """The picture, its labels, and the prediction of them with its layers, as Predict leaves them."""
    image = viewer.add_image(10.0 * discs(), name="picture", **FRAME)
    labels = viewer.add_labels(discs(), name="cells", **FRAME)
    plane = displayed_plane(image, viewer.dims)
    prediction, measures, cells = predicted()
    opened = OpenPrediction(object(), "cells", prediction, measures, cells, plane, image, labels)
    open_with_layers(viewer, opened)
    return opened


@pytest.fixture
def window(make_napari_viewer: Callable[..., Viewer]) -> tuple[Viewer, MorphometryWidget]:
    """A window with the prediction and the widget."""
    viewer = make_napari_viewer()
    viewer.window._qt_window.resize(1300, 900)
    widget = MorphometryWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Morphometry")
    show_prediction(viewer)
    widget.refresh()
    viewer.reset_view()
    return viewer, widget


def selected(widget: MorphometryWidget) -> tuple[list[str], list[str]]:
    """The first columns of the rows that are selected in both tables."""
    found = []
    for view, width in ((widget.cells_view, 1), (widget.members_view, 2)):
        rows = sorted(index.row() for index in view.selectionModel().selectedRows())
        found.append([" ".join(view.model().index(r, c).data() for c in range(width)) for r in rows])
    return found[0], found[1]


def column(view, place: int) -> list[str]:
    model = view.model()
    return [model.index(row, place).data() for row in range(model.rowCount())]


def click_row(widget: MorphometryWidget, view, row: int) -> None:
    widget.tabs.setCurrentWidget(view)
    place = view.visualRect(view.model().index(row, 0)).center()
    QTest.mouseClick(view.viewport(), Qt.MouseButton.LeftButton, pos=place)


# --- selection ---------------------------------------------------------------------------------------


def test_a_row_selects_its_cell_everywhere(window) -> None:
    viewer, widget = window
    widget.show()
    click_row(widget, widget.cells_view, 1)
    session = Session.of(viewer)
    assert (session.selection.cell, session.selection.shape) == (5, None)
    linked = [layer for layer in viewer.layers if isinstance(layer, Labels)]
    assert len(linked) == 4 and [layer.selected_label for layer in linked] == [5] * 4
    assert selected(widget) == (["5"], ["5 1", "5 2 ★"])
    assert widget.plots.highlighted == (5, None)
    click_row(widget, widget.members_view, 0)
    assert (session.selection.cell, session.selection.shape) == (2, 0)
    assert selected(widget) == (["2"], ["2 1"])
    assert widget.plots.highlighted == (2, 0)
    # What is in view stays; what is out of it comes into view.
    camera = camera_of(viewer)
    world = {label: viewer.layers["cells"].data_to_world(centre) for label, centre in CENTRES.items()}
    camera.center = (0.0, 500.0, 500.0)
    session.select(5)
    np.testing.assert_allclose(camera.center[1:], world[5], atol=0.15)
    session.select(2)
    np.testing.assert_allclose(camera.center[1:], world[5], atol=0.15)


def test_a_cell_of_the_picture_selects_its_row(window) -> None:
    viewer, widget = window
    viewer.layers["cells"].selected_label = 5
    assert selected(widget)[0] == ["5"]
    viewer.layers["cells: member 2"].selected_label = 2
    assert Session.of(viewer).selection.shape == 1
    assert selected(widget) == (["2"], ["2 2"])
    viewer.layers["cells: member 1"].visible = False
    camera = camera_of(viewer)
    before = camera.center
    world = viewer.layers["cells"].data_to_world(CENTRES[5])
    widget.link.click(np.array([0.0, *world]))
    assert selected(widget)[0] == ["5"]
    assert camera.center == before
    widget.link.click(np.array([0.0, *viewer.layers["cells"].data_to_world((2, 2))]))
    assert selected(widget)[0] == ["5"], "no cell there"


def test_a_click_with_the_mouse(window) -> None:
    viewer, _ = window
    viewer.layers.selection.active = viewer.layers["picture"]
    canvas = viewer.window._qt_viewer.canvas
    node = canvas.layer_to_visual[viewer.layers["cells"]].node
    where = node.get_transform("visual", "canvas").map([CENTRES[5][1], CENTRES[5][0], 0, 1])
    point = canvas.native.rect().center()
    point.setX(round(where[0] / where[3]))
    point.setY(round(where[1] / where[3]))
    QTest.mouseClick(canvas.native, Qt.MouseButton.LeftButton, pos=point)
    QApplication.processEvents()
    assert Session.of(viewer).selection.cell == 5
    viewer.layers.selection.active = viewer.layers["cells"]
    viewer.layers["cells"].mode = "paint"
    Session.of(viewer).select(2)
    QTest.mouseClick(canvas.native, Qt.MouseButton.LeftButton, pos=point)
    assert Session.of(viewer).selection.cell == 2, "painting is no selecting"


def test_points_and_rows(window) -> None:
    viewer, widget = window
    plots = widget.plots
    plots.kind.setCurrentText("scatter")
    plots.of.setCurrentText("members")
    own = predicted()[1].set_index(["label", "member"]).loc[5, 1]
    plots.pick_at(own["sphericity"], own["volume"])
    assert (Session.of(viewer).selection.cell, Session.of(viewer).selection.shape) == (5, 1)
    assert selected(widget) == (["5"], ["5 2 ★"])
    plots.kind.setCurrentText("by cell")
    plots.pick_at(0.1, -1000.0)
    assert Session.of(viewer).selection.cell == 2, "the strip of the cell"
    plots.kind.setCurrentText("histogram")
    plots.pick_at(float(own["volume"]), 0.5)
    assert Session.of(viewer).selection.cell == 5
    assert plots.highlighted[0] == 5


@pytest.mark.parametrize("kind", ["by cell", "histogram", "scatter"])
def test_a_line_around_points_by_mouse(kind: str, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(pyqtgraph.CONFIG_OPTIONS, "mouseRateLimit", -1)  # no move is dropped
    _, measures, cells = predicted()
    panel = PlotPanel()
    qtbot.addWidget(panel)
    panel.resize(500, 400)
    panel.show()
    qtbot.waitExposed(panel)
    panel.show_content(cells_content(cells), members_content(measures), {})
    panel.show_rows(np.arange(len(cells)), np.arange(len(measures)))
    panel.kind.setCurrentText(kind)
    plot = panel.plot
    plot.grab()  # paints it, which gives it its range
    circled: list[set[int]] = []
    panel.circled.connect(circled.append)

    def pixel(x: float, y: float) -> QPoint:
        inside = plot.getViewBox().mapViewToScene(QPointF(x, y))
        return plot.mapFromScene(inside)

    def send(kind: QEvent.Type, place: QPoint, held: bool) -> None:
        button = Qt.MouseButton.NoButton if kind == QEvent.Type.MouseMove else Qt.MouseButton.LeftButton
        buttons = Qt.MouseButton.LeftButton if held else Qt.MouseButton.NoButton
        target = plot.viewport()
        there = QPointF(target.mapToGlobal(place))
        shift = Qt.KeyboardModifier.ShiftModifier
        QApplication.sendEvent(target, QMouseEvent(kind, QPointF(place), there, button, buttons, shift))

    points = {cell: [(x, y) for one in panel._points for x, y, c in zip(one.x, one.y, one.cells, strict=True)
                     if c == cell] for cell in (2, 5)}  # fmt: skip
    for cell in (5, 2):
        places = [pixel(*point) for point in points[cell]]
        left, right = (end(place.x() for place in places) for end in (min, max))
        top, bottom = (end(place.y() for place in places) for end in (min, max))
        corners = [(left - 7, top - 7), (right + 7, top - 7), (right + 7, bottom + 7), (left - 7, bottom + 7)]
        first, *others = [QPoint(*corner) for corner in corners]
        send(QEvent.Type.MouseButtonPress, first, True)
        for place in others:
            send(QEvent.Type.MouseMove, place, True)
        send(QEvent.Type.MouseButtonRelease, others[-1], False)
    assert circled == [{5}, {2}]


# --- tables ------------------------------------------------------------------------------------------


def test_the_layers_show_what_is_selected_and_filtered(window, qtbot: QtBot) -> None:
    viewer, widget = window
    labels, member = viewer.layers["cells"], viewer.layers["cells: member 1"]
    own = labels.colormap
    before = {cell: own.map(cell) for cell in (2, 5)}

    def colours(layer: Labels) -> dict[int, np.ndarray]:
        qtbot.waitUntil(lambda: not widget.colours.busy)
        return {cell: layer.colormap.map(cell) for cell in (2, 5)}

    click_row(widget, widget.cells_view, 1)
    for layer in (labels, member):
        found = colours(layer)
        np.testing.assert_allclose(found[5], (1, 0.85, 0.1, 1), atol=1e-6)
        np.testing.assert_allclose(found[2], before[2] * (1, 1, 1, 0.5), atol=1e-6)
    widget.filter_line.setText("5")
    widget._filter()
    assert colours(labels)[2][3] < 0.2, "the filter hides it"
    widget.filter_line.setText("")
    widget._filter()
    widget.plots.measure.setCurrentText("volume")
    widget.plots.colour_cells.setChecked(True)
    Session.of(viewer).select(None)
    low, high = colours(labels)[2], colours(labels)[5]
    assert low[:3].sum() < 0.8 < 1.5 < high[:3].sum(), "the smaller cell is dark"
    widget.plots.colour_cells.setChecked(False)
    np.testing.assert_allclose(colours(labels)[5], before[5])
    assert labels.colormap is own
    # A line around points of the plot selects the rows of their cells, and dims the others.
    corners = np.array([(-0.45, 5.0), (0.45, 5.0), (0.45, 30.0), (-0.45, 30.0)])
    widget.plots.plot.getViewBox().drawn.emit(corners)
    assert selected(widget)[0] == ["2"] and len(selected(widget)[1]) == 2
    assert colours(labels)[5][3] < 0.2 and colours(labels)[2][3] > 0.2
    click_row(widget, widget.cells_view, 1)
    assert colours(labels)[2][3] > 0.2
    viewer.window.remove_dock_widget(widget)
    assert labels.colormap is own


def test_the_colours_of_a_large_layer_need_no_look_at_all_its_voxels(
    qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Voxels(np.ndarray):
        def max(self):
            raise AssertionError("it takes too long")

    monkeypatch.setattr("napari_dispr.widgets.parts.cell_colours._LARGE", 0, raising=False)
    viewer = ViewerModel()
    layer = viewer.add_labels(discs(), name="cells")
    own = layer.colormap
    layer._data = layer.data.view(Voxels)
    colours = CellColours.of(viewer)
    colours.select_alone(layer, 5)
    qtbot.waitUntil(lambda: not colours.busy)
    np.testing.assert_allclose(layer.colormap.map(2), own.map(2) * (1, 1, 1, 0.5))
    np.testing.assert_allclose(layer.colormap.map(5), (1, 0.85, 0.1, 1), atol=1e-6)
    colours.release()


@pytest.mark.parametrize("large", [70_000, 2**32 - 2])
def test_a_large_label_stands_out(large: int, qtbot: QtBot) -> None:
    """Without numba, napari's own colormap ends at 2^16."""
    viewer, labels = ViewerModel(), discs().astype(np.uint32)
    labels[labels == 5] = large
    layer = viewer.add_labels(labels)
    colours = CellColours.of(viewer)
    before = layer.colormap.map(labels)
    colours.select_alone(layer, large)
    qtbot.waitUntil(lambda: not colours.busy)
    found = layer.colormap.map(labels)
    np.testing.assert_allclose(
        found[labels == large], [(1, 0.85, 0.1, 1)] * (labels == large).sum(), atol=1e-6
    )
    np.testing.assert_allclose(found[labels == 2], before[labels == 2] * (1, 1, 1, 0.5), atol=1e-6)
    assert not found[labels == 0].any()
    colours.release()


def test_sort_filter_columns_copy(window, qtbot: QtBot) -> None:
    _, widget = window
    widget.cells_view.select([1])
    widget.cells_view.sortByColumn(0, Qt.SortOrder.DescendingOrder)
    assert column(widget.cells_view, 0) == ["5", "2"]
    assert selected(widget)[0] == ["5"]
    assert widget.plots.axis.labels == [5, 2]
    volumes = predicted()[2].set_index("label")["volume_mean"]
    limit = volumes.mean()
    QTest.keyClicks(widget.filter_line, f"volume < {limit:.6f}")
    qtbot.waitUntil(lambda: widget.hint.text().startswith("1 of 2 rows"))
    least = str(volumes.idxmin())
    assert column(widget.cells_view, 0) == [least] and set(column(widget.members_view, 0)) == {least}
    QTest.keyClicks(widget.filter_line, " volum > 3")
    qtbot.waitUntil(lambda: "did you mean volume" in widget.hint.text())
    assert column(widget.cells_view, 0) == [least], "stays as it was"
    widget.filter_line.clear()
    qtbot.waitUntil(lambda: not widget.hint.text())
    assert column(widget.cells_view, 0) == ["5", "2"]
    assert selected(widget)[0] == ["5"]
    # Columns, and what is copied of them.
    widget.cells_view.sortByColumn(0, Qt.SortOrder.AscendingOrder)
    names = widget.cells_view.table.names
    assert names[:3] == ["cell", "volume", "surface_area"] and names[-2:] == ["kept", "warning"]
    assert "thickness" not in names
    widget.columns.choose(["volume", "thickness"])
    assert widget.members_view.table.names == ["cell", "member", "volume", "thickness"]
    widget.tabs.setCurrentWidget(widget.members_view)
    widget.copying.copy()
    lines = QApplication.clipboard().text().splitlines()
    assert lines[0].split("\t") == ["label", "member", "volume", "thickness"]
    own = predicted()[1].sort_values(["label", "member"])
    assert [float(line.split("\t")[2]) for line in lines[1:]] == own["volume"].tolist()
    assert [line.split("\t")[1] for line in lines[1:]] == ["1", "2", "1", "2"]
    widget.copying.copy(whole=True)
    headings = QApplication.clipboard().text().splitlines()[0].split("\t")
    assert headings == list(widget.contents[1].frame.columns)
    widget.members_view.select([2])
    widget.copying.copy_selected()
    assert len(QApplication.clipboard().text().splitlines()) == 2


def test_cells_are_ranked_for_a_z_stack(window, qtbot: QtBot) -> None:
    viewer, widget = window
    widget.tabs.setCurrentWidget(widget.members_view)
    widget.rank.choose("volume")
    assert widget.tabs.currentWidget() is widget.cells_view
    expected = rank_cells(predicted()[0], "volume")
    assert widget.cells_view.table.names[:3] == ["cell", "rank", "expected_gain"]
    assert widget.cells_view.model().headerData(2, Qt.Orientation.Horizontal) == "expected gain\nvolume"
    assert column(widget.cells_view, 0) == [str(label) for label in expected["label"]]
    assert column(widget.cells_view, 1) == ["1", "2"]
    assert column(widget.cells_view, 2) == [f"{gain:.0%}" for gain in expected["expected_gain"]]
    assert widget.hint.text().startswith(
        f"Cell {expected['label'][0]} deserves a z-stack most: the expected error of its volume"
    )
    QTest.keyClicks(widget.filter_line, "rank <= 1")
    qtbot.waitUntil(lambda: column(widget.cells_view, 1) == ["1"])
    widget.filter_line.clear()
    widget.copying.copy(whole=True)
    assert "expected_gain" in QApplication.clipboard().text().splitlines()[0].split("\t")
    widget.rank.choose("")
    assert column(widget.cells_view, 0) == ["2", "5"] and "rank" not in widget.cells_view.table.names
    # With one shape per cell, only intervals show the uncertainty of a measure.
    prediction = predicted()[0]
    few = replace(prediction, ensembles={label: one.without(1) for label, one in prediction.items()}, kept={})
    opened = Session.of(viewer).current
    own = measure(few)
    Session.of(viewer).show(replace(opened, prediction=few, measures=own, cells=measure_cells(few, own)))
    widget.refresh()
    widget.rank.choose("sphericity")
    assert "predict two members or more" in widget.hint.text()
    assert "rank" not in widget.cells_view.table.names


def test_with_nothing_open_it_says_what_to_do(make_napari_viewer: Callable[..., Viewer]) -> None:
    viewer = make_napari_viewer()
    widget = MorphometryWidget(viewer)
    viewer.window.add_dock_widget(widget)
    widget.refresh()
    assert widget.stack.currentWidget() is widget.empty and "Predict 3D shapes" in widget.empty.text()
    assert widget.source.prediction_choice.currentText() == "none open"
    assert not widget.source.measure_button.isEnabled() and not widget.exports.button.isEnabled()
    viewer.add_labels(discs())
    assert widget.source.layer is None, "2D labels are not measured"


def test_it_disconnects_from_the_viewer(window) -> None:
    viewer, widget = window
    before = len(viewer.mouse_drag_callbacks)
    viewer.window.remove_dock_widget(widget)
    assert len(viewer.mouse_drag_callbacks) == before - 1
    Session.of(viewer).select(5)
    viewer.layers["cells"].selected_label = 2
    assert Session.of(viewer).selection.cell == 5


# --- labels of the user ------------------------------------------------------------------------------


def real_cells() -> np.ndarray:
    """Cell 5, larger than predicted, and 9, which was not predicted."""
    volume = np.zeros((24, 40, 60), np.uint16)
    z, y, x = np.indices(volume.shape)
    volume[4 * (z - 12) ** 2 + (y - 20) ** 2 + (x - 20) ** 2 < 15**2] = 5
    volume[4 * (z - 12) ** 2 + (y - 20) ** 2 + (x - 48) ** 2 < 8**2] = 9
    return volume


def test_real_cells_are_measured_next_to_predicted_ones(window, qtbot: QtBot) -> None:
    viewer, widget = window
    real = viewer.add_labels(
        real_cells(), name="real cells", scale=(200, 100, 100), translate=(0, 3000, 5000),
        rotate=(0, 0, 20), units=("nanometer",) * 3,
    )  # fmt: skip
    assert widget.source.layer is real
    QTest.mouseClick(widget.source.measure_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: widget.source.measured is not None)
    widget.refresh()
    assert column(widget.cells_view, 0) == ["2", "5", "5", "9"]
    assert column(widget.cells_view, 1) == ["cells", "cells", "real cells", "real cells"]
    expected = measure_labels(real_cells(), (0.2, 0.1, 0.1), "micrometer").set_index("label")
    cells = widget.contents[0]
    for name in ("volume", "surface_area", "sphericity", "largest_diameter"):
        np.testing.assert_allclose(cells.values(name)[[2, 3]], expected[name][[5, 9]], rtol=2e-3)
    assert "1 cell" in widget.plots.note.text()
    real.selected_label = 9
    assert widget.selected == 9 and selected(widget)[0] == ["9"]
    assert Session.of(viewer).selection.cell is None, "it was not predicted"
    real.selected_label = 5
    assert Session.of(viewer).selection.cell == 5
    real.data = real_cells() * 0 + 5
    assert "measure it again" in widget.source.message.text()
    widget.source.labels_choice.layer = None
    widget.refresh()
    assert column(widget.cells_view, 0) == ["2", "5"]
    assert all(layer is not real for layer in widget.link.layers)
    # What is wrong is said, and measuring can be cancelled.
    widget.source.labels_choice.layer = viewer.add_labels(np.zeros((4, 5, 6), int), name="empty")
    widget.source.measure()
    qtbot.waitUntil(lambda: "has no cell" in widget.source.run_bar.status.text())
    widget.source.labels_choice.layer = viewer.add_labels(real_cells(), name="more")
    widget.source.measure()
    widget.source.run_bar.cancel_button.click()
    qtbot.waitUntil(lambda: not widget.source.run_bar.running)
    assert widget.source.measured is None and widget.source.measure_button.isEnabled()


def test_real_cells_without_a_prediction(make_napari_viewer: Callable[..., Viewer], qtbot: QtBot) -> None:
    viewer = make_napari_viewer()
    real = viewer.add_labels(
        real_cells(), name="real cells", scale=(0.2, 0.1, 0.1), units=("micrometer",) * 3
    )
    widget = MorphometryWidget(viewer)
    viewer.window.add_dock_widget(widget)
    widget.source.measure()
    qtbot.waitUntil(lambda: widget.source.measured is not None)
    widget.refresh()
    assert column(widget.cells_view, 0) == column(widget.members_view, 0) == ["5", "9"]
    expected = measure_labels(real_cells(), (0.2, 0.1, 0.1), "micrometer")["volume"]
    for content in widget.contents:
        np.testing.assert_allclose(content.values("volume"), expected)
        assert (content.members == -1).all() and not content.predicted.any()
    for kind in ("by cell", "histogram", "scatter"):
        for of in ("cells", "members"):
            widget.plots.kind.setCurrentText(kind)
            widget.plots.of.setCurrentText(of)
            assert sum(map(len, widget.plots._points)) == 2
    click_row(widget, widget.cells_view, 1)
    assert widget.selected == 9 and real.selected_label == 9
    widget.filter_line.setText("volume > 30")
    widget.tabs.setCurrentWidget(widget.members_view)
    widget.copying.copy(whole=True)


def test_units_and_axes_of_labels() -> None:
    source = labels_source(Labels(real_cells(), scale=(2, 1, 1)), "micrometer")
    assert source.unit == "micrometer" and "its scale was read as µm" in source.note
    np.testing.assert_allclose(np.diag(source.affine)[:3], (2, 1, 1))
    assert not labels_source(Labels(real_cells(), units=("mm",) * 3), "micrometer").note
    assert "count as cubes: give the layer a scale" in labels_source(Labels(real_cells())).note
    assert not labels_source(Labels(real_cells(), scale=(2, 1, 1))).note
    with pytest.raises(InputError, match="choose labels with z, y and x"):
        labels_source(Labels(discs()))


# --- files -------------------------------------------------------------------------------------------


def exported(qtbot: QtBot, bar: ExportBar) -> str:
    qtbot.waitUntil(lambda: not bar.run_bar.running)
    return bar.run_bar.status.text()


def export_bar(qtbot: QtBot, shown: list[OpenPrediction]) -> ExportBar:
    """The button alone, with the last of these predictions, and no cell selected."""

    def tables() -> tuple[pd.DataFrame, pd.DataFrame]:
        cells, measures = (shown[-1].cells, shown[-1].measures) if shown else (None, None)
        return cells_content(cells).exported, members_content(measures).exported

    bar = ExportBar(lambda: shown[-1] if shown else None, tables, lambda: None)
    qtbot.addWidget(bar)
    return bar


@pytest.fixture
def bar(qtbot: QtBot) -> ExportBar:
    return export_bar(qtbot, [show_prediction(ViewerModel())])


def test_tables_as_files(bar: ExportBar, qtbot: QtBot, tmp_path: Path) -> None:
    prediction, measures, cells = predicted()
    for members, expected, keys in ((False, cells, ["label"]), (True, measures, ["label", "member"])):
        path = tmp_path / f"{members}.csv"
        bar.save_table(path, members=members)
        assert "rows written" in exported(qtbot, bar)
        read = pd.read_csv(path).set_index(keys)
        for name in ("volume", "sphericity", "thickness"):
            name = name if members else f"{name}_mean"
            np.testing.assert_allclose(read[name], expected.set_index(keys)[name][read.index], rtol=1e-12)
        columns = pd.read_csv(path.with_suffix(".columns.csv")).set_index("column")
        assert set(pd.read_csv(path).columns) == set(columns.index)
        assert columns["unit"]["volume" if members else "volume_mean"] == "micrometer^3"
    # The volume of the voxels, in micrometers.
    voxel = abs(np.linalg.det(prediction[5].grid_to_world[:3, :3]))
    counted = np.count_nonzero(prediction[5].members[0]) * voxel
    assert pd.read_csv(tmp_path / "True.csv").set_index(["label", "member"])["volume"][5, 0] == pytest.approx(
        counted, rel=0.01
    )


def test_the_rest_as_files(bar: ExportBar, qtbot: QtBot, tmp_path: Path) -> None:
    _, measures, _ = predicted()
    bar.save_prediction(tmp_path / "whole")
    assert "saved in whole" in exported(qtbot, bar)
    assert dict(load_prediction(tmp_path / "whole").kept) == {5: 1}
    # The folder opens with the picture and the segmentation, in their place.
    viewer = ViewerModel()
    for layer in read_ensemble(str(tmp_path / "whole")):
        viewer.add_layer(Layer.create(*layer))
    assert [layer.ndim for layer in viewer.layers] == [2, 2, 3, 3, 3]
    found = with_layers(Session.of(viewer).current, viewer)
    assert (found.image, found.labels) == tuple(viewer.layers[:2])
    for layer, before in zip((found.image, found.labels), picture_of(bar._opened()), strict=True):
        np.testing.assert_array_equal(layer.data, before)
    bar.save_meshes(tmp_path / "meshes", "ply", "kept")
    exported(qtbot, bar)
    (file,) = (tmp_path / "meshes").glob("*.ply")
    mesh = trimesh.load(file)
    own = measures.set_index(["label", "member"]).loc[5, 1]
    assert mesh.is_watertight and mesh.volume == pytest.approx(own["volume"], rel=1e-3)
    world = Labels(discs(), **FRAME).data_to_world(CENTRES[5])
    np.testing.assert_allclose(mesh.centroid[::-1][1:], world, atol=0.1)
    bar.save_meshes(tmp_path / "one", "stl", "all", [2])
    exported(qtbot, bar)
    names = {path.name for path in (tmp_path / "one").glob("*.stl")}
    assert names == {"2_member-0.stl", "2_member-1.stl", "2_consensus.stl"}
    bar.save_kept(tmp_path / "kept.ome.tif")
    assert "1 kept shapes" in exported(qtbot, bar)
    with tifffile.TiffFile(tmp_path / "kept.ome.tif") as tiff:
        volume, xml = tiff.asarray(), tifffile.xml2dict(tiff.ome_metadata)["OME"]["Image"]
    assert np.unique(volume).tolist() == [0, 5]
    assert float(xml["Pixels"]["PhysicalSizeX"]) == pytest.approx(0.1)
    assert np.count_nonzero(volume) * 0.1**3 == pytest.approx(own["volume"], rel=0.02)
    assert json.loads(xml["Description"])["kept"] == {"5": 1}
    bar.save_report(tmp_path / "report.html")
    assert "report.html" in exported(qtbot, bar)
    page = (tmp_path / "report.html").read_text("utf-8")
    assert page.count("data:image/png") >= 6 and "balls" in page
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_cancelled_or_failed_export_leaves_what_was_there(
    bar: ExportBar, qtbot: QtBot, tmp_path: Path
) -> None:
    predicted()[0].save(tmp_path / "whole")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    bar.save_prediction(tmp_path / "whole")
    bar.run_bar.cancel_button.click()
    assert exported(qtbot, bar) == "Cancelled. Nothing was written."
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    (tmp_path / "file").write_text("")
    bar.save_table(tmp_path / "file" / "cells.csv", members=False)
    assert "Choose another folder" in exported(qtbot, bar)
    assert bar.button.isEnabled()


def test_what_is_offered_for_export(qtbot: QtBot) -> None:
    prediction, measures, cells = predicted()
    shown: list[OpenPrediction] = []
    bar = export_bar(qtbot, shown)
    assert not bar.button.isEnabled()
    shown.append(OpenPrediction(object(), "cells", prediction.keep(5, None), measures, cells))
    bar.refresh()
    offered = {name for name, action in bar.actions_by_name.items() if action.isEnabled()}
    assert offered == {"cells", "members", "prediction", "meshes", "report"}
    dialog = MeshDialog(prediction, 5, bar)
    assert dialog.cells is None and dialog.shapes == "all" and dialog.format == "stl"
    dialog.cells_choice.setCurrentIndex(1)
    dialog.shapes_choice.setCurrentIndex(3)
    assert dialog.cells == [5] and dialog.shapes == "kept"


def test_the_picture_of_a_stack() -> None:
    prediction, measures, cells = predicted()
    stack = np.stack([discs() * 0, discs()])
    plane = DisplayedPlane("picture", discs(), np.eye(3), 1.0, "pixel", (1,))  # type: ignore[arg-type]
    opened = OpenPrediction(object(), "cells", prediction, measures, cells, plane, None, Labels(stack))
    image, labels = picture_of(opened)
    assert image is not None and labels is not None
    np.testing.assert_array_equal(labels, discs())
    other = OpenPrediction(object(), "cells", prediction, measures, cells, plane, None, Labels(stack[:, 1:]))
    assert picture_of(other)[1] is None


def test_plots_as_files(window, tmp_path: Path) -> None:
    _, widget = window
    for kind in ("by cell", "histogram", "scatter"):
        widget.plots.kind.setCurrentText(kind)
        widget.plots.save(tmp_path / "plot.svg")
        assert QSvgRenderer(str(tmp_path / "plot.svg")).isValid()
        text = (tmp_path / "plot.svg").read_text("utf-8")
        assert "volume (µm³)" in text
        widget.plots.save(tmp_path / "plot.png")
        picture = QImage(str(tmp_path / "plot.png"))
        assert picture.width() == 3 * widget.plots.plot.width()
        colours = {picture.pixelColor(x, y).name() for x in range(0, picture.width(), 3)
                   for y in range(0, picture.height(), 3)}  # fmt: skip
        assert "#4cc2ff" in colours, "the points are there"


def test_a_saved_prediction_is_linked_to_its_labels(
    make_napari_viewer: Callable[..., Viewer], tmp_path: Path
) -> None:
    predicted()[0].save(tmp_path / "whole")
    viewer = ViewerModel()
    image = viewer.add_image(discs().astype(float), **FRAME)
    labels = viewer.add_labels(discs(), name="other name", **FRAME)
    viewer.add_labels(discs(), name="elsewhere")
    for layer in read_ensemble(str(tmp_path / "whole")):
        viewer.add_layer(Labels(layer[0], **layer[1]))
    link = PictureLink(viewer, lambda cell, shape: None)
    assert labels in link.layers and len(link.layers) == 4
    link.show(5)
    assert labels.selected_label == 5
    opened = Session.of(viewer).current
    assert opened is not None
    found = with_layers(opened, viewer)
    assert (found.image, found.labels) == (image, labels)
    assert picture_of(found)[0] is not None and picture_of(opened) == (None, None)
