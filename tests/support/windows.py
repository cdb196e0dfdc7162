"""What a test does in a window as a user would."""

import numpy as np
from napari import Viewer
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication


def click_cell(viewer: Viewer, cell: int, drag: int = 0) -> None:
    """A click of the left mouse button on a pixel of a cell, or a drag from there."""
    canvas = viewer.window._qt_viewer.canvas
    labels = viewer.layers["cells"]
    pixels = np.argwhere(labels.data == cell)
    y, x = pixels[np.abs(pixels - pixels.mean(axis=0)).sum(axis=1).argmin()]
    node = canvas.layer_to_visual[labels].node
    where = node.get_transform("visual", "canvas").map([x, y, 0, 1])
    point = QPoint(*np.rint(where[:2] / where[3]).astype(int).tolist())
    QTest.mousePress(canvas.native, Qt.MouseButton.LeftButton, pos=point)
    if drag:
        QTest.mouseMove(canvas.native, point + QPoint(drag, drag))
        QTest.qWait(20)
    QTest.mouseRelease(canvas.native, Qt.MouseButton.LeftButton, pos=point + QPoint(drag, drag))
    QApplication.processEvents()
