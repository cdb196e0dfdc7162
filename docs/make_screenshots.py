"""Take the pictures of the documentation: predict cells in a real napari window, by mouse.

    xvfb-run -s "-screen 0 1600x1000x24" python docs/make_screenshots.py

opens the sample, clicks three cells, presses Predict and looks at the shapes in 3D. Needs the installed
plugin and writes into docs/images.
"""

import napari
import numpy as np
from pictures import IMAGES, add_widget, open_napari, press, shoot, wait
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest

CELLS = (2, 5, 8)
SIZE, DOCK = (1480, 900), 400


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


def main() -> None:
    viewer = open_napari(SIZE, "simulated_red_blood_cells")
    widget = add_widget(viewer, "Predict 3D shapes", DOCK)
    wait(lambda: widget.form.device.itemText(0) != "auto", at_least=2)
    viewer.reset_view()
    press(widget.pick_button)
    for cell in CELLS:
        click_cell(viewer, cell)
    assert set(widget.cells.clicked) == set(CELLS)
    shoot(viewer, IMAGES / "pick-cells.png")
    press(widget.predict_button)
    wait(lambda: not widget.running and not widget.updater.busy)
    press(widget.show_3d_button)
    shoot(viewer, IMAGES / "predicted-shapes.png")
    viewer.close()


if __name__ == "__main__":
    main()
