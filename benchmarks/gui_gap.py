"""How long the window does not react while cells are predicted.

A 20 ms timer ticks in napari's event loop from the creation of the widget (when a thread loads torch) until
the last cell is shown in 3D. During a gap between two ticks the window does not react. The time that napari
itself needs to insert and draw layers is listed separately; so that one can see that it is napari's, bare
layers of the same size are inserted at the end. That list is in CPU time of the GUI thread.

    python benchmarks/gui_gap.py [--cells 3] [--members 5]
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from typing import Any

import napari
import numpy as np
from napari.layers import Labels, Layer, Surface
from qtpy.QtCore import QSettings, QTimer
from qtpy.QtWidgets import QApplication

from napari_dispr.viewer.layers import ResultLayers
from napari_dispr.viewer.samples import simulated_red_blood_cells
from napari_dispr.viewer.scene import Outlines, View3D
from napari_dispr.viewer.smooth import SmoothLayers
from napari_dispr.widgets.predict.widget import PredictWidget

TICK, LONGEST = 0.020, 0.100


class Clock:
    """Ticks in the event loop, and separates napari's own part of the time between two ticks."""

    def __init__(self) -> None:
        self.napari: list[tuple[float, float]] = []
        #: CPU seconds of each call, by its name.
        self.cpu: dict[str, list[float]] = {}
        self._gaps: list[tuple[float, float, str]] = []
        self._phase = ""
        self._last = time.perf_counter()
        self._timer = QTimer()
        self._timer.timeout.connect(self._tick)
        self._timer.start(int(TICK * 1000))

    def phase(self, name: str) -> None:
        self._tick()
        self._phase = name

    def _tick(self) -> None:
        now = time.perf_counter()
        theirs = sum(max(0.0, min(now, stop) - max(self._last, start)) for start, stop in self.napari)
        self._gaps.append((now - self._last - theirs, theirs, self._phase))
        self.napari.clear()
        self._last = now

    def of_napari(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap a call so that its time counts as napari's."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            start, cpu = time.perf_counter(), time.thread_time()
            try:
                return call(*args, **kwargs)
            finally:
                self.napari.append((start, time.perf_counter()))
                self.cpu.setdefault(call.__qualname__, []).append(time.thread_time() - cpu)

        return timed

    def report(self) -> None:
        print(f"{'phase':<22}{'largest gap':>12}{'> 100 ms':>8}{'napari':>12}{'ticks':>8}")
        for phase in dict.fromkeys(gap[2] for gap in self._gaps if gap[2]):
            gaps = [gap for gap in self._gaps if gap[2] == phase]
            ours, theirs = max(gap[0] for gap in gaps), max(gap[1] for gap in gaps)
            over = sum(gap[0] > LONGEST for gap in gaps)
            print(f"{phase:<22}{ours * 1000:>9.0f} ms{over:>8}{theirs * 1000:>9.0f} ms{len(gaps):>8}")
        for name, seconds in self.cpu.items():
            each = f"{1000 * sum(seconds) / len(seconds):.0f} ms"
            print(f"{name:<46} {len(seconds):>5} times, mean {each}, largest {1000 * max(seconds):.0f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=3)
    parser.add_argument("--members", type=int, default=5)
    options = parser.parse_args()
    # Do not change the settings of the user.
    QSettings.setPath(QSettings.Format.IniFormat, QSettings.Scope.UserScope, tempfile.mkdtemp())
    viewer = napari.Viewer()
    app = QApplication.instance()
    assert app is not None

    def wait(done: Callable[[], bool], at_least: float = 0.5) -> None:
        start = time.perf_counter()
        while time.perf_counter() - start < at_least or not done():
            app.processEvents()
            time.sleep(0.001)

    for sample in simulated_red_blood_cells():
        viewer.add_layer(Layer.create(*sample))
    canvas = viewer.window._qt_viewer.canvas.native
    wait(lambda: True, 2)
    clock = Clock()
    canvas.paintGL = clock.of_napari(canvas.paintGL)
    viewer.window.add_dock_widget = clock.of_napari(viewer.window.add_dock_widget)
    ResultLayers._add = clock.of_napari(ResultLayers._add)  # type: ignore[method-assign]
    Outlines._added = clock.of_napari(Outlines._added)  # type: ignore[method-assign]
    SmoothLayers.replace = clock.of_napari(SmoothLayers.replace)  # type: ignore[method-assign]
    View3D.enter = clock.of_napari(View3D.enter)  # type: ignore[method-assign]

    clock.phase("showing the widget")
    widget = PredictWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Predict 3D shapes")
    wait(lambda: widget.form.device.count() > 1, 1)
    widget.form.members.setValue(options.members)
    clock.phase("choosing cells")
    for cell in range(1, options.cells + 1):
        widget.cells.toggle(cell)
        wait(lambda: True, 0.3)
    clock.phase("predicting")
    widget.predict_button.click()
    wait(lambda: not widget.running, 1)
    clock.phase("showing in 3D")
    widget.show_3d_button.click()
    wait(lambda: True, 3)
    bare = [
        Layer.create(np.zeros_like(layer.data), {"name": "bare labels"}, "labels")
        if isinstance(layer, Labels)
        else Layer.create((layer.data[0], layer.data[1]), {"name": "bare surface"}, "surface")
        for layer in viewer.layers
        if layer.ndim == 3 and isinstance(layer, Labels | Surface)
    ]
    clock.phase("bare layers")
    insert = clock.of_napari(viewer.add_layer)
    for layer in bare:
        insert(layer)
        wait(lambda: True, 0.3)
    clock.report()
    viewer.close()


if __name__ == "__main__":
    main()
