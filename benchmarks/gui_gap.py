"""How long the window does not react, from the opening of Predict as first window to its closing.

A 20 ms timer ticks in napari's event loop; during a gap between two ticks the window does not react. Each gap
is listed in wall time and, since other programs run too, in CPU time of the GUI thread. Two parts are listed
separately, in CPU time: what napari itself needs to insert, draw and remove layers and to dock widgets, and
full garbage collections, which visit all objects of napari, and which any line of Python can start. So that
one can see that these are napari's, the last phases do the same without this plugin: layers of the same size
are inserted, shown in 3D and removed, and an empty widget with a view of its own is docked and floated.

    python benchmarks/gui_gap.py [--cells 3] [--members 5]
"""

import argparse
import gc
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any

import napari
import numpy as np
from napari._qt.qt_main_window import Window
from napari._vispy.canvas import VispyCanvas
from napari.layers import Labels, Layer, Surface
from qtpy.QtCore import QSettings, QTimer
from qtpy.QtWidgets import QApplication
from vispy.scene import SceneCanvas

TICK, LONGEST = 0.020, 0.100


class Clock:
    """Ticks in the event loop, and separates napari's own part of the time between two ticks."""

    def __init__(self) -> None:
        #: Start, end and CPU seconds of each call since the last tick, without calls within calls.
        self.napari: list[tuple[float, float, float]] = []
        self._depth = 0
        #: CPU seconds of full garbage collections since the last tick, outside of napari's calls.
        self._collected, self._collecting = 0.0, 0.0
        #: CPU seconds of each call, by its name.
        self.cpu: dict[str, list[float]] = {}
        self._gaps: list[tuple[float, float, float, float, str]] = []
        self._phase = ""
        self._last, self._last_cpu = time.perf_counter(), time.thread_time()
        self._gui = threading.get_ident()
        gc.callbacks.append(self._on_collection)
        self._timer = QTimer()
        self._timer.timeout.connect(self._tick)
        self._timer.start(int(TICK * 1000))

    def phase(self, name: str) -> None:
        self._tick()
        self._phase = name

    def _tick(self) -> None:
        now = time.perf_counter()
        theirs = sum(stop - start for start, stop, _ in self.napari)
        spent = sum(cpu for _, _, cpu in self.napari)
        cpu = time.thread_time()
        ours = cpu - self._last_cpu - spent - self._collected
        self._gaps.append((now - self._last - theirs, ours, spent, self._collected, self._phase))
        self.napari.clear()
        self._collected = 0.0
        self._last, self._last_cpu = now, cpu

    def _on_collection(self, phase: str, info: dict[str, int]) -> None:
        if threading.get_ident() != self._gui or self._depth or info["generation"] < 2:
            return
        if phase == "start":
            self._collecting = time.thread_time()
        else:
            self._collected += time.thread_time() - self._collecting

    def of_napari(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap a call so that its time counts as napari's."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            start, cpu = time.perf_counter(), time.thread_time()
            self._depth += 1
            try:
                return call(*args, **kwargs)
            finally:
                self._depth -= 1
                spent = time.thread_time() - cpu
                if not self._depth:
                    self.napari.append((start, time.perf_counter(), spent))
                self.cpu.setdefault(call.__qualname__, []).append(spent)

        return timed

    def count(self, owner: type, method: str) -> None:
        """Count a method of a class as napari's."""
        setattr(owner, method, self.of_napari(getattr(owner, method)))

    def report(self) -> None:
        print(
            f"{'phase':<36}{'largest gap':>12}{'in CPU time':>12}{'> 100 ms':>9}{'napari':>12}"
            f"{'collections':>12}{'ticks':>7}"
        )
        for phase in dict.fromkeys(gap[-1] for gap in self._gaps if gap[-1]):
            gaps = [gap for gap in self._gaps if gap[-1] == phase]
            wall, cpu, theirs, gone = (f"{1000 * max(gap[k] for gap in gaps):.0f} ms" for k in range(4))
            over = sum(gap[1] > LONGEST for gap in gaps)
            print(f"{phase:<36}{wall:>12}{cpu:>12}{over:>9}{theirs:>12}{gone:>12}{len(gaps):>7}")
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
    picture, segmentation = field()
    viewer.add_image(picture)
    viewer.add_labels(segmentation)
    canvas = viewer.window._qt_viewer.canvas.native
    wait(2)
    clock = Clock()
    canvas.paintGL = clock.of_napari(canvas.paintGL)
    clock.count(Window, "add_dock_widget")
    clock.count(VispyCanvas, "_clean_and_update_scenegraph")
    shown = predict_and_compare(viewer, clock, options.cells, options.members)
    open_other_windows(viewer, clock)
    clock.phase("")  # not listed
    viewer.layers.clear()
    viewer.add_image(picture)
    wait(1)
    without_plugin(viewer, clock, shown)
    clock.report()
    viewer.close()


def wait(at_least: float, done: Callable[[], bool] = lambda: True) -> None:
    """Run napari's event loop for so many seconds, and until it is done."""
    start = time.perf_counter()
    while time.perf_counter() - start < at_least or not done():
        QApplication.processEvents()
        time.sleep(0.001)


def predict_and_compare(viewer: napari.Viewer, clock: Clock, cells: int, members: int) -> list[Layer]:
    """From the opening of Predict to its closing; returns plain layers as large as those that it showed."""
    clock.phase("opening Predict")
    # As napari's menu does; nothing of the plugin was imported before.
    widget: Any = viewer.window.add_plugin_dock_widget("napari-dispr", "Predict 3D shapes")[1]
    part_of_napari(clock)
    wait(1, lambda: widget.form.device.count() > 1)
    widget.form.members.setValue(members)
    clock.phase("choosing cells")
    for cell in range(1, cells + 1):
        widget.cells.toggle(cell)
        wait(0.3)
    clock.phase("predicting")
    widget.predict_button.click()
    wait(1, lambda: not widget.running)
    clock.phase("showing in 3D")
    widget.show_3d_button.click()
    wait(3)
    clock.phase("opening Compare")
    widget.compare_button.click()
    wait(5)
    compare = viewer.window.dock_widgets["Compare members (napari DISPR)"]
    clock.phase("floating Compare")
    compare.parent().setFloating(True)
    wait(2)
    clock.phase("closing Compare")
    compare.parent().close()
    wait(1)
    clock.phase("")  # not listed
    bare = [
        Layer.create(np.zeros_like(layer.data), {"name": "bare labels"}, "labels")
        if isinstance(layer, Labels)
        else Layer.create((layer.data[0], layer.data[1]), {"name": "bare surface"}, "surface")
        for layer in viewer.layers
        if layer.ndim == 3 and isinstance(layer, Labels | Surface)
    ]
    clock.phase("closing Predict in 3D")
    viewer.window.remove_dock_widget(widget)
    wait(2)
    return bare


def open_other_windows(viewer: napari.Viewer, clock: Clock) -> None:
    for name in ("Morphometry", "Train a shape model", "Balance classes", "Synthesise annotated images"):
        clock.phase(f"opening {name}")
        _, opened = viewer.window.add_plugin_dock_widget("napari-dispr", name)
        wait(3)
        clock.phase(f"closing {name}")
        viewer.window.remove_dock_widget(opened)
        wait(1)


def without_plugin(viewer: napari.Viewer, clock: Clock, layers: list[Layer]) -> None:
    """What napari alone needs for such layers, and for a widget with a view of its own."""
    clock.phase("bare: layers")
    insert = clock.of_napari(viewer.add_layer)
    for layer in layers:
        insert(layer)
        wait(0.3)
    for ndisplay in (3, 2):
        clock.phase(f"bare: {ndisplay}D view")
        viewer.dims.ndisplay = ndisplay
        viewer.reset_view()
        wait(2)
    clock.phase("bare: removing a layer")
    viewer.layers.remove(layers[0])
    wait(1)
    clock.phase("bare: docking")
    dock = viewer.window.add_dock_widget(SceneCanvas().native, name="bare")
    wait(1)
    clock.phase("bare: floating")
    dock.setFloating(True)
    wait(2)


def field() -> tuple[np.ndarray, np.ndarray]:
    """A picture and labels of nine cells."""
    y, x = np.indices((300, 300))
    distance = np.hypot(y % 100 - 50, x % 100 - 50)
    picture = np.clip(30 - distance, 0, 8) * 20 + np.random.default_rng(0).normal(0, 5, y.shape)
    return picture, np.where(distance < 28, y // 100 * 3 + x // 100 + 1, 0)


def part_of_napari(clock: Clock) -> None:
    """Count what napari does with our layers as its own; the plugin is imported by now."""
    from napari_dispr.viewer.layers import ResultLayers
    from napari_dispr.viewer.scene import Outlines, View3D
    from napari_dispr.viewer.smooth import SmoothLayers

    for owner, name in (
        (ResultLayers, "_add"),
        (Outlines, "_added"),
        (SmoothLayers, "replace"),
        (View3D, "enter"),
        (View3D, "leave"),
    ):
        clock.count(owner, name)


if __name__ == "__main__":
    main()
