"""The widget "Balance classes" in a real napari window, and what it reads from a label layer's table."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from napari import Viewer
from pytestqt.qtbot import QtBot
from support.windows import press

from napari_dispr.cells.folders import read_dataset
from napari_dispr.cells.splits import class_of
from napari_dispr.errors import InputError
from napari_dispr.synthesis.phantoms import simulate_field
from napari_dispr.widgets.synthesis.balance import BalanceWidget
from napari_dispr.widgets.synthesis.balance_request import (
    class_columns,
    classes_of_layer,
    planned,
    with_table,
)


def test_columns_of_classes_are_found() -> None:
    table = pd.DataFrame(
        {
            "index": [3, 5, 7, 9],
            "area": [10.0, 11.0, 12.5, 9.0],
            "kind": ["disc", "spiky", None, "disc"],
            "stage": [1, 2, 2, 1],
            "number": [11, 12, 13, 14],
            "same": ["x"] * 4,
        }
    )
    assert class_columns(table) == ["kind", "stage"]
    assert classes_of_layer(table, "kind") == {3: "disc", 5: "spiky", 9: "disc"}
    # Without a column of labels a row is of the label of its number, as napari has it.
    assert classes_of_layer(table.drop(columns="index"), "kind") == {1: "spiky", 3: "disc"}
    assert class_columns(pd.DataFrame()) == []


def test_columns_are_read_from_a_table(tmp_path: Path) -> None:
    path = tmp_path / "classes.csv"
    path.write_text("\ufeffLabel;kind\n3;disc\n5;spiky\n9;disc\n", encoding="utf-8")
    empty = with_table(pd.DataFrame(), path)
    assert classes_of_layer(empty, "kind") == {3: "disc", 5: "spiky", 9: "disc"}
    own = pd.DataFrame({"label": [3, 5, 7], "area": [1.5, 2.5, 3.5], "kind": ["x", "x", "x"]})
    both = with_table(own, path)
    assert classes_of_layer(both, "kind") == classes_of_layer(empty, "kind")
    assert both.set_index("index")["area"].dropna().to_dict() == {3: 1.5, 5: 2.5, 7: 3.5}
    without = pd.DataFrame({"area": [0.0, 1.5, 2.5, 3.5]})  # row 0: background
    assert with_table(without, path).set_index("index")["area"][3] == 3.5
    for wrong in ("name,kind\na,disc\n", "label,kind\n1.5,disc\n", "label,kind\n1,disc\n1,spiky\n", ""):
        path.write_text(wrong, encoding="utf-8")
        with pytest.raises(InputError, match=r"column label with the number|is empty"):
            with_table(own, path)


def test_names_tell_the_classes_again() -> None:
    members = planned({1: "type 1", 2: "type 1", 30: "a/b"}, 5).members
    assert members == {"type_1__01": 1, "type_1__02": 1, "a_b_30": 2}
    assert [class_of(name) for name in members] == ["a_b", "type_1", "type_1"]


@pytest.fixture
def opened(make_napari_viewer: Callable[..., Viewer]) -> Callable[..., tuple[Viewer, BalanceWidget]]:
    def open_(show: bool = False) -> tuple[Viewer, BalanceWidget]:
        field = simulate_field(cells=5, shape=(300, 300), seed=2)
        viewer = make_napari_viewer(show=show)
        viewer.add_image(field.image, name="picture")
        labels = viewer.add_labels(field.labels, name="cells")
        kinds = ["disc", "disc", "disc", "spiky", "spiky"]
        labels.features = pd.DataFrame({"index": [1, 2, 3, 4, 5], "kind": kinds})
        widget = BalanceWidget(viewer)
        viewer.window.add_dock_widget(widget, name="Balance classes")
        widget.quality.setCurrentIndex(widget.quality.findData("fast"))
        return viewer, widget

    return open_


def rows(widget: BalanceWidget) -> list[list[str]]:
    table = widget.table
    return [[table.item(y, x).text() for x in range(3)] for y in range(table.rowCount())]


def test_a_balanced_folder_by_mouse(opened, qtbot: QtBot, tmp_path: Path) -> None:
    _, widget = opened(show=True)
    assert widget.column.currentData() == "kind"
    assert rows(widget) == [["disc", "3", "3"], ["spiky", "2", "3"]]
    assert "folder" in widget.message.text() and not widget.balance_button.isEnabled()
    widget.folder.folder = tmp_path / "balanced"
    assert not widget.message.text()
    press(widget.balance_button)
    assert widget.run_bar.running and not widget.run_bar.cancel_button.isHidden()
    press(widget.run_bar.cancel_button)
    qtbot.waitUntil(lambda: not widget.run_bar.running)
    assert widget.run_bar.status.text().startswith("Cancelled")
    assert not (tmp_path / "balanced" / "train").exists()
    press(widget.balance_button)
    qtbot.waitUntil(lambda: not widget.run_bar.running)
    assert "3 disc, 3 spiky" in widget.run_bar.status.text()
    assert "no true shape" in widget.run_bar.status.text()
    found = read_dataset(tmp_path / "balanced", need_objects=True)
    assert [class_of(cell.name) for cell in found] == ["disc"] * 3 + ["spiky"] * 3
    for cell in found:
        section = cell.obj[32] > 127
        assert (section & (cell.mask > 0.5)).sum() / (section | (cell.mask > 0.5)).sum() > 0.9
    table = pd.read_csv(tmp_path / "balanced" / "cells.csv")
    assert set(table["kind"]) == {"predicted"}
    assert not widget.balance_button.isEnabled() and widget.message.isHidden()  # the folder is a dataset now


def test_what_is_missing_is_said(opened, tmp_path: Path) -> None:
    viewer, widget = opened()
    widget.folder.folder = tmp_path
    labels = viewer.layers["cells"]
    labels.features = pd.DataFrame({"index": [1, 2, 3], "area": [3.0, 4.0, 5.0]})
    assert "no column of classes" in widget.message.text()
    assert widget.table.isHidden() and not widget.balance_button.isEnabled()
    table = tmp_path / "classes.csv"
    table.write_text("label,kind\n1,disc\n2,disc\n3,spiky\n", encoding="utf-8")
    widget.read_csv(table)
    assert rows(widget) == [["disc", "2", "2"], ["spiky", "1", "2"]] and "area" in labels.features
    widget.read_csv(tmp_path / "other.csv")
    assert "There is no file" in widget.message.text()
    labels.features = pd.DataFrame({"index": [1, 2, 3], "state": [True, True, False]})
    assert widget.column.currentData() == "state"
    assert rows(widget) == [["False", "1", "2"], ["True", "2", "2"]]
    assert widget.balance_button.isEnabled()
    viewer.layers.remove("picture")
    assert widget.message.text() == "⚠ Choose a picture and its labels."
    assert np.array_equal(labels.data.shape, (300, 300))
