"""What a test does in a window as a user would."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari import Viewer
from pytestqt.qtbot import QtBot
from qtpy.QtCore import QMimeData, QPoint, QPointF, Qt, QUrl
from qtpy.QtGui import QDropEvent, QWheelEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QWidget

#: Milliseconds, a little less than a whole test may take: tests wait for conditions, never for a time.
PATIENCE = 840_000


class PatientBot(QtBot):
    """Waits for conditions as long as a test may take."""

    def waitUntil(self, callback: Callable[[], bool | None], *, timeout: int = PATIENCE) -> None:
        super().waitUntil(callback, timeout=timeout)

    def waitSignal(self, signal, *, timeout: int = PATIENCE, **options):
        return super().waitSignal(signal, timeout=timeout, **options)


@pytest.fixture
def qtbot(qapp, request: pytest.FixtureRequest) -> PatientBot:
    """In place of pytest-qt's, which gives up after five seconds."""
    return PatientBot(request)


def let_events_run() -> None:
    """Work through all events that are due, those that they cause too."""
    for _ in range(5):
        QApplication.processEvents()


def press(button: QWidget) -> None:
    """A click of the left mouse button in the middle of a button."""
    QTest.mouseClick(button, Qt.MouseButton.LeftButton)


def drop_on(target: Any, *paths: Path) -> None:
    """Drop files or folders on a widget, or on napari's window."""
    mime = QMimeData()
    mime.setUrls([QUrl.fromLocalFile(str(path)) for path in paths])
    button, key = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    target.dropEvent(QDropEvent(QPointF(50, 50), Qt.DropAction.CopyAction, mime, button, key))


def turn_wheel(target: QWidget) -> None:
    """One step of the mouse wheel, downwards, over a control."""
    wheel = QWheelEvent(
        QPointF(3, 3), QPointF(3, 3), QPoint(0, -120), QPoint(0, -120), Qt.MouseButton.NoButton,
        Qt.KeyboardModifier.NoModifier, Qt.ScrollPhase.NoScrollPhase, False,
    )  # fmt: skip
    QApplication.sendEvent(target, wheel)


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
        let_events_run()
    QTest.mouseRelease(canvas.native, Qt.MouseButton.LeftButton, pos=point + QPoint(drag, drag))
    QApplication.processEvents()
