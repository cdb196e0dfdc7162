"""Take the pictures of the documentation: predict cells in a real napari window, by mouse.

    xvfb-run -s "-screen 0 1600x1000x24" python docs/make_screenshots.py

opens the sample, clicks three cells, presses Predict and looks at the shapes in 3D. Needs the installed
plugin and writes into docs/images.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import napari
import numpy as np
from qtpy.QtCore import QPoint, QSettings, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QPushButton

CELLS = (2, 5, 8)
SIZE, DOCK = (1480, 900), 400
IMAGES = Path(__file__).parent / "images"


def wait(done: Callable[[], bool] = lambda: True, at_least: float = 0.5) -> None:
    """Process events of the window until something is done."""
    start = time.monotonic()
    while time.monotonic() - start < at_least or not done():
        QApplication.processEvents()
        time.sleep(0.005)


def own_settings() -> None:
    """Use default settings; the settings of the user do not change."""
    QSettings.setPath(QSettings.Format.IniFormat, QSettings.Scope.UserScope, tempfile.mkdtemp())


def click_cell(viewer: napari.Viewer, cell: int) -> None:
    """Click a cell of the segmentation on the canvas."""
    canvas = viewer.window._qt_viewer.canvas
    labels = viewer.layers["segmentation"]
    pixels = np.argwhere(labels.data == cell)
    y, x = pixels[np.abs(pixels - pixels.mean(axis=0)).sum(axis=1).argmin()]
    where = canvas.layer_to_visual[labels].node.get_transform("visual", "canvas").map([x, y, 0, 1])
    point = QPoint(*np.rint(where[:2] / where[3]).astype(int).tolist())
    QTest.mouseClick(canvas.native, Qt.MouseButton.LeftButton, pos=point)
    wait()


def press(button: QPushButton) -> None:
    """Press a button with the mouse."""
    QTest.mouseClick(button, Qt.MouseButton.LeftButton)
    wait()


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    own_settings()
    viewer = napari.Viewer(show_welcome_screen=False)
    window = viewer.window._qt_window
    window.resize(*SIZE)
    viewer.open_sample("napari-dispr", "simulated_red_blood_cells")
    dock, widget = viewer.window.add_plugin_dock_widget("napari-dispr", "Predict 3D shapes")
    window.resizeDocks([dock], [DOCK], Qt.Orientation.Horizontal)
    wait(lambda: widget.form.device.itemText(0) != "auto", at_least=2)
    viewer.reset_view()

    def shoot(name: str, canvas_only: bool = False) -> None:
        wait(at_least=1)
        viewer.window.screenshot(IMAGES / name, canvas_only=canvas_only, flash=False)

    press(widget.pick_button)
    for cell in CELLS:
        click_cell(viewer, cell)
    assert set(widget.cells.clicked) == set(CELLS)
    shoot("pick-cells.png")
    press(widget.predict_button)
    wait(lambda: not widget.running and not widget.updater.busy)
    press(widget.show_3d_button)
    shoot("predicted-shapes.png")
    viewer.close()


if __name__ == "__main__":
    main()
