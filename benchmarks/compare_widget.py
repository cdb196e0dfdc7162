"""How long the window does not react in Compare members with 200 cells x 5 members, and how fast it turns.

    xvfb-run -s "-screen 0 1800x1100x24" python benchmarks/compare_widget.py

A 20 ms timer ticks in napari's event loop while cells, views and members are selected, as in gui_gap.py; the
time that OpenGL needs to draw is listed separately. Then the camera is turned, and pictures a second are
counted, with 5 and with 20 members. The shapes are artificial and have the size of cells.
"""

import time
from collections.abc import Callable

import numpy as np
from gui_gap import Clock
from morphometry_widget import CELLS, MEMBERS, REPEATS, artificial_tables, own_viewer, settle
from qtpy.QtWidgets import QApplication

from napari_dispr import grid
from napari_dispr.prediction.result import Prediction
from napari_dispr.shapes.ensemble import Ensemble
from napari_dispr.viewer.opened import OpenPrediction, opened
from napari_dispr.viewer.session import Session
from napari_dispr.widgets.compare.tiles import View
from napari_dispr.widgets.compare.widget import CompareWidget

MANY, PICTURES = 20, 8


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
    table, summary = artificial_tables(first, members)
    return opened(Prediction(ensembles), table, f"{members} members", cells=summary)


def main() -> None:
    viewer = own_viewer()
    widget = CompareWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Compare members")
    session = Session.of(viewer)
    five, twenty = prediction(MEMBERS), prediction(MANY)
    session.show(five)
    settle(lambda: widget.busy)
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
        settle(lambda: widget.busy)
        for name, action in actions.items():
            clock.phase(f"{members}: {name}")
            for i in range(REPEATS):
                action(i)
                settle(lambda: widget.busy)
        clock.phase("")
        for view in View:
            widget.show_view(view)
            settle(lambda: widget.busy)
            start = time.perf_counter()
            for i in range(PICTURES):
                widget.canvas.turn(30, 3 * i)
                native.repaint()
                QApplication.processEvents()
            rate = PICTURES / (time.perf_counter() - start)
            print(f"{members} members, {view}: {rate:.1f} pictures a second", flush=True)
    clock.report()
    viewer.close()


if __name__ == "__main__":
    main()
