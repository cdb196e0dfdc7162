"""How long the window does not react in Compare members with 200 cells x 5 members, and how fast it turns.

    xvfb-run -s "-screen 0 1800x1100x24" python benchmarks/compare_widget.py

A 20 ms timer ticks in napari's event loop while cells, views and members are selected, as in gui_gap.py; the
time that OpenGL needs to draw is listed separately. Then the camera is turned, and pictures a second are
counted, with 5 and with 20 members. The shapes are artificial and have the size of cells.
"""

import tempfile
import time
from collections.abc import Callable

import napari
import numpy as np
import pandas as pd
from gui_gap import Clock
from qtpy.QtCore import QSettings
from qtpy.QtWidgets import QApplication

from napari_dispr import grid
from napari_dispr.prediction.result import Prediction
from napari_dispr.prediction.tables import measure_cells
from napari_dispr.shapes.ensemble import Ensemble
from napari_dispr.shapes.measures import MEASURES
from napari_dispr.shapes.morphometry import column_texts
from napari_dispr.viewer.opened import OpenPrediction, opened
from napari_dispr.viewer.session import Session
from napari_dispr.widgets.compare.tiles import View
from napari_dispr.widgets.compare.widget import CompareWidget

CELLS, MEMBERS, MANY, REPEATS, PICTURES = 200, 5, 20, 5, 8


def prediction(members: int) -> OpenPrediction:
    """Bumpy balls; the first cells are all different."""
    rng = np.random.default_rng(0)
    place = np.indices(grid.SHAPE).transpose(1, 2, 3, 0) - 32.0
    radius = np.linalg.norm(place, axis=-1)
    directions = place / np.maximum(radius, 1)[..., None]
    ensembles = {}
    for label in range(1, 2 * REPEATS + 1):
        bumps = (np.sin(4 * directions @ rng.normal(size=3)) for _ in range(members))
        distance = np.stack([20 + 3 * bump - radius for bump in bumps]).astype(np.float32)
        ensembles[label] = Ensemble(label, distance, np.eye(4))
    first = Prediction({1: ensembles[1]})
    ensembles |= dict.fromkeys(range(len(ensembles) + 1, CELLS + 1), ensembles[1])
    rows = [(label, member) for label in ensembles for member in range(members)]
    table = pd.DataFrame(rng.lognormal(size=(len(rows), len(MEASURES))), columns=[*MEASURES])
    table.insert(0, "label", [label for label, _ in rows])
    table.insert(1, "member", [member for _, member in rows])
    table.attrs["columns"] = column_texts(MEASURES, "pixel")
    summary = measure_cells(first, table)
    summary["ambiguity"], summary["modes"] = rng.uniform(0, 1, CELLS), rng.integers(1, 3, CELLS)
    return opened(Prediction(ensembles), table, f"{members} members", cells=summary)


def main() -> None:
    QSettings.setPath(QSettings.Format.IniFormat, QSettings.Scope.UserScope, tempfile.mkdtemp())
    viewer = napari.Viewer(show_welcome_screen=False)
    viewer.window._qt_window.resize(1600, 1000)
    widget = CompareWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Compare members")
    session = Session.of(viewer)
    five, twenty = prediction(MEMBERS), prediction(MANY)
    session.show(five)
    settle(widget)
    clock = Clock()
    native = widget.canvas._canvas.native
    native.paintGL = clock.of_napari(native.paintGL)
    actions: dict[str, Callable[[int], object]] = {
        "a cell": lambda i: session.select(2 + i),
        "a view": lambda i: widget.show_view(list(View)[(i + 1) % 3]),
        "a member": lambda i: widget.slider.setValue(1 + i),
        "ambiguous first": lambda i: widget.ambiguous_first.toggle(),
        "picture": lambda i: widget.picture.toggle(),
    }
    for entry in (five, twenty):
        members = len(entry.prediction[1])
        clock.phase(f"{members}: a prediction")
        session.show(entry)
        settle(widget)
        for name, action in actions.items():
            clock.phase(f"{members}: {name}")
            for i in range(REPEATS):
                action(i)
                settle(widget)
        clock.phase("")
        for view in View:
            widget.show_view(view)
            settle(widget)
            start = time.perf_counter()
            for i in range(PICTURES):
                widget.canvas.turn(30, 3 * i)
                native.repaint()
                QApplication.processEvents()
            rate = PICTURES / (time.perf_counter() - start)
            print(f"{members} members, {view}: {rate:.1f} pictures a second", flush=True)
    clock.report()
    viewer.close()


def settle(widget: CompareWidget) -> None:
    until = time.perf_counter() + 0.3
    while time.perf_counter() < until or widget.busy:
        QApplication.processEvents()
        time.sleep(0.001)


if __name__ == "__main__":
    main()
