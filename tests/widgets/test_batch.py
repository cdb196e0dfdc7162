"""A batch in Morphometry: the table of all fields, its plots by group, and the field of a row."""

import shutil

import numpy as np
import pandas as pd
import pytest
import tifffile
from napari.layers import Image
from napari.utils.notifications import notification_manager
from qtpy.QtCore import Qt
from qtpy.QtGui import QOpenGLContext
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QToolButton
from support.screens import write_screen

from napari_dispr.errors import InputError
from napari_dispr.prediction.batch import predict_batch
from napari_dispr.prediction.batch_tables import read_table
from napari_dispr.viewer.files import ensemble_reader, read_batch
from napari_dispr.viewer.opening import open_batch
from napari_dispr.viewer.saved import open_saved
from napari_dispr.widgets.morphometry import plot_content
from napari_dispr.widgets.morphometry.batch_content import BatchContent
from napari_dispr.widgets.morphometry.widget import MorphometryWidget
from napari_dispr.widgets.parts import threads

DRUGS = ("taxol", "NA", "taxol")


@pytest.fixture(scope="module")
def batch(tmp_path_factory):
    """Three fields of two cells each, two of them with the same drug."""
    folder = tmp_path_factory.mktemp("batch")
    write_screen(folder / "screen", 3, 2)
    rows = [f"screen/f{n}.tif,screen/f{n}_masks.tif,0.1,{drug},{n / 2}" for n, drug in enumerate(DRUGS)]
    (folder / "fields.csv").write_text("\n".join(["image,labels,pixel_size,drug,dose", *rows]))
    return predict_batch(folder / "fields.csv", folder / "out", model="ellipsoid", workers=0).folder


@pytest.fixture
def content(batch):
    return BatchContent.read(batch, lambda done, total: None)


def test_table_from_parquet_and_from_csv(batch, tmp_path):
    steps: list = []
    parquet = read_table(batch, lambda *step: steps.append(step))
    assert steps == [(6, 6)] and parquet.attrs["given"] == ["drug", "dose"]
    assert parquet["drug"].tolist() == [drug for drug in DRUGS for _ in range(2)]
    assert parquet.attrs["columns"]["volume_mean"].startswith("micrometer^3: ")
    for name in ("batch.json", "cells.csv", "cells.columns.csv"):
        shutil.copy(batch / name, tmp_path)
    pd.testing.assert_frame_equal(read_table(tmp_path), parquet, check_dtype=False)
    (tmp_path / "cells.csv").write_text("field\nf0\n")
    with pytest.raises(InputError, match="is damaged: run the batch again"):
        read_table(tmp_path)
    (tmp_path / "cells.csv").unlink()
    with pytest.raises(InputError, match="has no table yet"):
        read_table(tmp_path)
    (tmp_path / "batch.json").unlink()
    with pytest.raises(InputError, match=r"holds no batch\.json: give the folder of a batch"):
        read_table(tmp_path)


def test_groups_are_compared_by_median_and_quartiles(content, monkeypatch):
    volume = content.frame["volume_mean"]
    found, count = plot_content.group_strips(content, np.arange(6), "volume", "drug")
    assert found.labels == ["NA", "taxol"] and count == 2
    for place, rows in enumerate(([2, 3], [0, 1, 4, 5])):
        low, middle, high = volume[rows].quantile([0.25, 0.5, 0.75])
        assert (found.low[place], found.means[place], found.high[place]) == pytest.approx((low, middle, high))
        assert sorted(found.members.cells[np.rint(found.members.x) == place]) == rows
    found, _ = plot_content.group_strips(content, np.array([5, 0]), "volume", "dose")
    assert found.labels == ["0", "1"]
    monkeypatch.setattr(plot_content, "MOST_GROUPS", 2)
    found, count = plot_content.group_strips(content, np.arange(6), "volume", "field")
    assert (found.labels, count, len(found.members)) == (["f0", "f1"], 3, 4)
    monkeypatch.setattr(plot_content, "MOST_DRAWN", 3)
    assert len(plot_content.some(found.members)) == 3


def test_a_field_opens_with_its_picture_unless_that_is_gone(batch, tmp_path):
    screen = batch.parent / "screen"
    opened, layers = open_saved(batch / "cells" / "f1")
    assert opened.name == "f1"
    (image, how, _), (labels, _, _) = layers[:2]
    np.testing.assert_array_equal(image, tifffile.imread(screen / "f1.tif"))
    np.testing.assert_array_equal(labels, tifffile.imread(screen / "f1_masks.tif"))
    to_world = opened.prediction.image_to_world
    np.testing.assert_allclose(how["scale"], np.diag(to_world)[:2])  # which other plugins read
    np.testing.assert_allclose(Image(image, **how)._data_to_world.affine_matrix, to_world)
    shutil.copytree(batch / "cells" / "f1", tmp_path / "f1")
    text = (tmp_path / "f1" / "prediction.json").read_text("utf-8")
    for other in ("gone.tif", f"{'long' * 99}.tif"):  # the system raises an error for the second one
        (tmp_path / "f1" / "prediction.json").write_text(text.replace("f1.tif", other), "utf-8")
        names = [settings["name"] for _, settings, _ in open_saved(tmp_path / "f1")[1]]
        assert names == ["f1", "f1: member 1"]


@pytest.fixture
def window(make_napari_viewer, qtbot, batch):
    """Morphometry with the batch."""
    viewer = make_napari_viewer()
    viewer.window._qt_window.resize(1300, 900)
    widget = MorphometryWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Morphometry")
    widget.batch.open(batch)
    qtbot.waitUntil(lambda: widget.batch.content is not None and not widget.batch.run_bar.running)
    yield viewer, widget
    qtbot.waitUntil(lambda: not threads.threads_running())


def click(widget, row):
    view = widget.batch.view
    place = view.visualRect(view.model().index(row, 0)).center()
    QTest.mouseClick(view.viewport(), Qt.MouseButton.LeftButton, pos=place)


def selected(widget):
    return widget.batch.view.selected.tolist(), widget._session.selection.cell


def names(viewer):
    return [layer.name for layer in viewer.layers]


def test_rows_are_filtered_sorted_and_plotted_by_group(window):
    _, widget = window
    view = widget.batch.view
    assert widget.tabs.tabText(0) == "All fields (6 cells)" and widget.tabs.currentWidget() is view
    assert view.table.names[:4] == ["field", "drug", "dose", "cell"]
    assert widget.plots.kind.currentText() == "by group" and widget.plots.axis.labels == ["NA", "taxol"]
    widget.filter_line.setText("drug = taxol dose > 0.2")
    widget._filter()
    assert view.table.rows.tolist() == [4, 5] and widget.plots.axis.labels == ["taxol"]
    assert widget.hint.text() == "2 of 6 rows pass the filter."
    widget.filter_line.clear()
    widget._filter()
    view.sortByColumn(view.table.names.index("volume"), Qt.SortOrder.DescendingOrder)
    volume = widget.batch.content.frame["volume_mean"].to_numpy()
    assert (np.diff(volume[view.table.rows]) <= 0).all()
    view.selectAll()
    widget.copying.copy_selected()
    assert len(QApplication.clipboard().text().splitlines()) == 7
    widget.tabs.tabBar().findChild(QToolButton).click()
    assert widget.batch.content is None and widget.tabs.tabText(0).startswith("Cells")
    assert widget.stack.currentWidget() is widget.empty


def test_a_click_opens_the_field_of_the_row_at_its_cell(window, qtbot):
    viewer, widget = window
    click(widget, 3)
    qtbot.waitUntil(lambda: selected(widget) == ([3], 2))
    assert names(viewer) == ["f1: picture", "f1", "f1: member 1"]
    assert widget._session.current.name == "f1" and viewer.layers["f1"].selected_label == 2
    assert widget.tabs.currentWidget() is widget.batch.view and len(widget.contents[0]) == 2
    widget.plots.pick_at(*[getattr(widget.plots._points[0].only(widget.plots._points[0].of(2)), axis)[0]
                           for axis in "xy"])  # fmt: skip
    assert selected(widget) == ([2], 1), "a point of the same field"
    click(widget, 4)  # nothing is opened for a row that another one follows at once
    click(widget, 0)
    qtbot.waitUntil(
        lambda: names(viewer) == ["f0: picture", "f0", "f0: member 1"] and widget.batch.is_open(0)
    )
    qtbot.waitUntil(lambda: selected(widget) == ([0], 1))
    viewer.layers["f0"].selected_label = 2
    assert selected(widget) == ([1], 2), "a cell chosen in the picture"
    opened = widget._session.current
    widget._session.update(opened.changed_to(opened.prediction.keep(2, 0)))
    click(widget, 5)
    qtbot.waitUntil(lambda: "f2: member 1" in names(viewer) and selected(widget) == ([5], 2))
    assert set(names(viewer)) >= {"f0: member 1", "f2: member 1"}, "what the user changed stays"
    assert not viewer.layers["f0: member 1"].visible and viewer.layers["f2: member 1"].visible


def test_many_rows_clicked_one_after_another(make_napari_viewer, qtbot, batch):
    """While a layer is removed, the canvas has its OpenGL context, not the window its own: otherwise
    the next draw crashes some drivers."""
    viewer = make_napari_viewer(show=True)
    widget = MorphometryWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Morphometry")
    widget.batch.open(batch)
    qtbot.waitUntil(lambda: widget.batch.content is not None and not widget.batch.run_bar.running)
    canvas, removed = viewer.window._qt_viewer.canvas.native, []
    viewer.layers.events.removed.connect(
        lambda event: removed.append(QOpenGLContext.currentContext() is canvas.context())
    )
    for row in (0, 2, 4) * 3:
        click(widget, row)
        qtbot.waitUntil(lambda row=row: selected(widget) == ([row], 1) and widget.batch.is_open(row))
        qtbot.waitUntil(lambda: not widget.colours.busy)
    assert len(viewer.layers) == 3 and removed == [True] * 3 * 8
    qtbot.waitUntil(lambda: not threads.threads_running())


def test_a_field_that_is_damaged_is_named(window, qtbot, batch, monkeypatch):
    viewer, widget = window
    monkeypatch.setattr(BatchContent, "folder_of", lambda self, row: batch / "cells" / "gone")
    click(widget, 1)
    qtbot.waitUntil(lambda: "holds no prediction.json" in widget.batch.run_bar.status.text())
    assert not names(viewer) and not widget.batch.isHidden()


def test_a_dropped_batch_opens_in_morphometry(make_napari_viewer, qtbot, batch):
    viewer = make_napari_viewer()
    assert ensemble_reader(str(batch)) is ensemble_reader([str(batch / "batch.json")]) is read_batch
    assert open_batch(batch)
    (dock,) = [one for name, one in viewer.window.dock_widgets.items() if name.startswith("Morphometry")]
    qtbot.waitUntil(lambda: dock.batch.content is not None and not threads.threads_running())
    assert dock.batch.content.folder == batch


def test_without_a_window_a_batch_is_no_layer(batch, monkeypatch):
    monkeypatch.setattr("napari.current_viewer", lambda: None)
    said: list = []
    notification_manager.notification_ready.connect(said.append)
    assert read_batch(str(batch)) == [(None,)]
    notification_manager.notification_ready.disconnect(said.append)
    assert "open it in a window of napari" in said[0].message
