"""What the scripts that take pictures share: a napari window with default settings, used by mouse."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import napari
from qtpy.QtCore import QSettings, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QPushButton

IMAGES = Path(__file__).parent / "images"


def open_napari(size: tuple[int, int], sample: str | None = None) -> napari.Viewer:
    """A window with default settings (those of the user do not change), and a sample of the plugin."""
    IMAGES.mkdir(exist_ok=True)
    QSettings.setPath(QSettings.Format.IniFormat, QSettings.Scope.UserScope, tempfile.mkdtemp())
    viewer = napari.Viewer(show_welcome_screen=False)
    viewer.window._qt_window.resize(*size)
    if sample is not None:
        viewer.open_sample("napari-dispr", sample)
    return viewer


def add_widget(viewer: napari.Viewer, title: str, width: int | None = None) -> Any:
    """Open a widget of the plugin from the menu, with a dock of ``width``."""
    dock, widget = viewer.window.add_plugin_dock_widget("napari-dispr", title)
    if width is not None:
        viewer.window._qt_window.resizeDocks([dock], [width], Qt.Orientation.Horizontal)
    return widget


def wait(done: Callable[[], bool] = lambda: True, at_least: float = 0.5) -> None:
    """Process events of the window until something is done."""
    start = time.monotonic()
    while time.monotonic() - start < at_least or not done():
        QApplication.processEvents()
        time.sleep(0.005)


def press(button: QPushButton) -> None:
    """Press a button with the mouse."""
    QTest.mouseClick(button, Qt.MouseButton.LeftButton)
    wait()


def shoot(viewer: napari.Viewer, path: Path) -> None:
    """Save a picture of the window, when it has drawn everything."""
    wait(at_least=1)
    viewer.window.screenshot(path, canvas_only=False, flash=False)
