"""How long the widget Morphometry takes for each action with 200 cells x 5 members in its tables.

    xvfb-run -s "-screen 0 1800x1100x24" python benchmarks/morphometry_widget.py

Prints the time of each action until the window is drawn again, in milliseconds: maximum and median of five
times, and the maximum of the processor time of the window's thread, which does not depend on other programs.
The measures are artificial: only their number matters.
"""

import tempfile
import time
from collections.abc import Callable

import napari
import numpy as np
import pandas as pd
from qtpy.QtCore import QSettings, Qt
from qtpy.QtWidgets import QApplication

from napari_dispr import grid
from napari_dispr.card import Calibration
from napari_dispr.prediction.result import Prediction
from napari_dispr.prediction.tables import measure_cells
from napari_dispr.shapes.ensemble import Ensemble
from napari_dispr.shapes.measures import MEASURES
from napari_dispr.shapes.morphometry import column_texts
from napari_dispr.viewer.opened import opened
from napari_dispr.viewer.session import Session

CELLS, MEMBERS, REPEATS = 200, 5, 5


def artificial_tables(one: Prediction, members: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The measures of the members, and the table of the cells; ``one`` has the first cell."""
    rng = np.random.default_rng(0)
    rows = [(label, member) for label in range(1, CELLS + 1) for member in range(members)]
    table = pd.DataFrame(rng.lognormal(size=(len(rows), len(MEASURES))), columns=[*MEASURES])
    table.insert(0, "label", [label for label, _ in rows])
    table.insert(1, "member", [member for _, member in rows])
    table.attrs["columns"] = column_texts(MEASURES, "pixel")
    summary = measure_cells(one, table)
    summary["ambiguity"], summary["modes"] = rng.uniform(0, 1, CELLS), rng.integers(1, 3, CELLS)
    return table, summary


def prediction() -> tuple[Prediction, pd.DataFrame, pd.DataFrame]:
    """A prediction and its tables."""
    radius = np.linalg.norm(np.indices(grid.SHAPE).transpose(1, 2, 3, 0) - 32.0, axis=-1)
    distance = np.stack([20 - member - radius for member in range(MEMBERS)]).astype(np.float32)
    first = Ensemble(1, distance, np.eye(4))
    calibration = Calibration(scores=tuple(np.linspace(-2, 2, 99)), floor=0.1, sd=0.05, members=MEMBERS)
    one = Prediction({1: first}, intervals={"volume": calibration, "sphericity": calibration})
    ensembles = dict.fromkeys(range(1, CELLS + 1), first)
    return Prediction(ensembles, intervals=one.intervals), *artificial_tables(one, MEMBERS)


def main() -> None:
    whole, table, summary = prediction()
    viewer = own_viewer()
    _, widget = viewer.window.add_plugin_dock_widget("napari-dispr", "Morphometry")
    session = Session.of(viewer)
    entry = opened(whole, table, "cells", cells=summary)

    def click_header(column: int) -> None:
        view = widget.tabs.currentWidget()
        order = view.horizontalHeader().sortIndicatorOrder()
        other = Qt.SortOrder.DescendingOrder if order == Qt.SortOrder.AscendingOrder else Qt.SortOrder(0)
        view.sortByColumn(column, other)

    def type_filter(text: str) -> None:
        widget.filter_line.setText(text)
        widget._filter()

    texts = ["volume > 1", "", "ambiguity >= .3 surface area < 2", "7", ""]
    actions: dict[str, Callable[[int], object]] = {
        "show a prediction": lambda i: (session.show(entry), widget.refresh()),
        "sort": lambda i: click_header(3),
        "filter": lambda i: type_filter(texts[i]),
        "select a row": lambda i: widget.tabs.currentWidget().selectRow(10 + 7 * i),
        "select in another widget": lambda i: session.select(20 + i, i),
        "all columns, or the first": lambda i: widget.columns.all_button.click() if i % 2 == 0
        else widget.columns.main_button.click(),
        "another measure": lambda i: widget.plots.measure.setCurrentIndex(i),
        "another plot": lambda i: widget.plots.kind.setCurrentIndex(i % 3),
        "switch tabs": lambda i: widget.tabs.setCurrentIndex(i % 2),
        "copy": lambda i: widget.copy(whole=True),
    }  # fmt: skip
    print(f"{'':37} longest median at work")
    for where, tab in (("cells", 0), ("members", 1)):
        for name, action in actions.items():
            widget.tabs.setCurrentIndex(tab)
            times, at_work = [], []
            for i in range(REPEATS):
                settle()
                start, worked = time.perf_counter(), time.thread_time()
                action(i)
                QApplication.processEvents()
                at_work.append(1000 * (time.thread_time() - worked))
                times.append(1000 * (time.perf_counter() - start))
            figures = f"{max(times):6.0f} {np.median(times):6.0f} {max(at_work):6.0f}"
            print(f"{where:8} {name:28} {figures}", flush=True)
    viewer.close()


def own_viewer() -> napari.Viewer:
    """A viewer that neither uses nor changes the settings of the user."""
    QSettings.setPath(QSettings.Format.IniFormat, QSettings.Scope.UserScope, tempfile.mkdtemp())
    viewer = napari.Viewer(show_welcome_screen=False)
    viewer.window._qt_window.resize(1600, 1000)
    return viewer


def settle(busy: Callable[[], bool] = lambda: False) -> None:
    until = time.perf_counter() + 0.3
    while time.perf_counter() < until or busy():
        QApplication.processEvents()
        time.sleep(0.001)


if __name__ == "__main__":
    main()
