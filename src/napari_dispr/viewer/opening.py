"""What is opened in napari's window: saved predictions, read in a thread, and widgets from one another."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import napari
from napari.layers import Layer
from qtpy.QtCore import QThread, QTimer
from qtpy.QtWidgets import QApplication, QWidget
from superqt.utils import create_worker

LayerData = tuple[Any, dict[str, Any], str]


def window_is_up() -> bool:
    """Whether a window's events are being worked through by this thread, which is the GUI's."""
    app = QApplication.instance()
    here = QThread.currentThread()
    return (
        app is not None
        and here is app.thread()
        and here.loopLevel() > 0
        and napari.current_viewer() is not None
    )


def open_in_thread(read: Callable[[], Sequence[LayerData]]) -> None:
    """Read layers in a thread and add them to the current viewer, one at a time.

    Parameters
    ----------
    read : callable
        Gives layer data tuples. The first layer that is added is visible before the others are made.
    """
    viewer = napari.current_viewer()

    def add(waiting: Iterator[LayerData]) -> None:
        layer = next(waiting, None)
        # The window may have been closed meanwhile.
        if layer is not None and napari.current_viewer() is viewer:
            viewer.add_layer(Layer.create(*layer))
            QTimer.singleShot(0, lambda: add(waiting))

    create_worker(read, _connect={"returned": lambda layers: add(iter(layers))}, _start_thread=True)


def open_beside(viewer: Any, widget: str) -> QWidget:
    """Open a widget of this plugin in a tab with those that are there, and bring it to the front.

    Parameters
    ----------
    viewer : Viewer
    widget : str
        As the plugin's menu names it.
    """
    dock, inner = viewer.window.add_plugin_dock_widget("napari-dispr", widget, tabify=True)
    dock.show()
    dock.raise_()
    return inner
