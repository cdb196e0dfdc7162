"""Opens saved predictions, read in a thread, batches, and other windows of this plugin."""

import atexit
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import napari
from napari.layers import Layer
from qtpy.compat import isalive
from qtpy.QtCore import QThread, QTimer
from qtpy.QtWidgets import QApplication, QDockWidget, QWidget
from superqt.utils import WorkerBase, create_worker

from napari_dispr.viewer.content import LayerData
from napari_dispr.viewer.layers import PREDICTION_KEY
from napari_dispr.viewer.session import Session

#: Names of the plugin in Python and in napari's menus.
PLUGIN, DISPLAY_NAME = "napari-dispr", "napari DISPR"

# Python must not end while a thread of Qt is reading: napari waits for it only if its window is closed.
atexit.register(WorkerBase.await_workers)


def window_is_up() -> bool:
    """Whether this is the GUI thread of a running napari window."""
    app = QApplication.instance()
    here = QThread.currentThread()
    return (
        app is not None
        and here is app.thread()
        and here.loopLevel() > 0
        and napari.current_viewer() is not None
    )


def open_in_thread(read: Callable[[], Sequence[LayerData]]) -> None:
    """Read layer data tuples in a thread and add them to the current viewer, see `add_layers`."""
    viewer = napari.current_viewer()
    create_worker(read, _connect={"returned": lambda layers: add_layers(viewer, layers)}, _start_thread=True)


def add_layers(
    viewer: Any,
    layers: Iterable[LayerData],
    added: Callable[[Layer], None] = lambda layer: None,
    done: Callable[[], None] = lambda: None,
) -> None:
    """Add layers to a viewer, one at a time, so that the first is visible before the others are added.

    Layers of a prediction, also its picture and labels, get a name that no other layer has.
    ``done`` is called after the last one, but not if the window was closed.
    """

    def add(waiting: Iterator[LayerData]) -> None:
        window = getattr(viewer.window, "_qt_window", None)
        if window is None or not isalive(window):  # it was closed meanwhile
            return
        data = next(waiting, None)
        if data is None:
            done()
            return
        layer = viewer.add_layer(Layer.create(*data))
        added(layer)
        QTimer.singleShot(0, lambda: add(waiting))

    Session.of(viewer)  # also without a window of ours: layers are removed in the right OpenGL context
    add(iter(_with_free_names(viewer, list(layers))))


def _with_free_names(viewer: Any, layers: list[LayerData]) -> list[LayerData]:
    metadata = (settings.get("metadata", {}) for _, settings, _ in layers)
    handle = next((one[PREDICTION_KEY] for one in metadata if PREDICTION_KEY in one), None)
    if handle is None:
        return layers
    before = handle.newest.name
    name = Session.of(viewer).free_name(handle.newest, (layer.name for layer in viewer.layers))
    handle.newest = replace(handle.newest, name=name)
    return [
        (data, {**settings, "name": name + settings["name"].removeprefix(before)}, kind)
        for data, settings, kind in layers
    ]


def open_batch(folder: Path) -> bool:
    """Show a batch in the window Morphometry of the current viewer; False if that has no window."""
    viewer = napari.current_viewer()
    if QApplication.instance() is None or viewer is None:
        return False
    widget: Any = open_window(viewer, "Morphometry")
    widget.batch.open(folder)
    return True


def name_as_menu(dock: Any, window: QWidget) -> None:
    """Give a dock that a script opened the name that napari's menu of plugins uses.

    Otherwise the menu opens a second widget of the same kind.
    """
    name = f"{dock.name.removesuffix(f'({PLUGIN})')}({DISPLAY_NAME})"
    if dock.name.endswith(f"({PLUGIN})") and window.findChild(QDockWidget, name) is None:
        dock.name = name
        dock.setObjectName(name)
        dock.setWindowTitle(name)
        dock.title.title.setText(name)


def open_window(viewer: Any, widget: str) -> QWidget:
    """Open a window of this plugin, by its name in the menu, and raise it; there is one of each kind."""
    inner = viewer.window.dock_widgets.get(f"{widget} ({DISPLAY_NAME})")
    if inner is None:
        _, inner = viewer.window.add_plugin_dock_widget(PLUGIN, widget)
    dock = inner.parent()
    dock.show()
    dock.raise_()
    return inner
