"""Parts of the plots of morphometry: an axis that names cells or groups, and a lasso."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyqtgraph
from qtpy.QtCore import Qt, Signal

#: Least distance of the names on an axis, and room for a digit of a cell's label, in pixels.
_LEAST_TICK, _DIGIT = 24, 9
_LINE = "#e36bd0"


class NamedAxis(pyqtgraph.AxisItem):
    """Names strips after their cells or groups."""

    labels: Sequence[int] | Sequence[str] | None = None

    def tickSpacing(self, low: float, high: float, size: float) -> list[tuple[float, float]]:
        if self.labels is None:
            return list(super().tickSpacing(low, high, size))
        cells = [_DIGIT * (len(str(one)) + 1) for one in self.labels if not isinstance(one, str)]
        least = max([_LEAST_TICK, *cells])  # names of groups are never left out for being long
        # At whole numbers.
        return [(max(1.0, float(np.ceil((high - low) * least / max(size, 1)))), 0.0)]

    def tickStrings(self, values: Sequence[float], scale: float, spacing: float) -> list[str]:
        if self.labels is None:
            return list(super().tickStrings(values, scale, spacing))
        return [
            str(self.labels[round(value)]) if 0 <= round(value) < len(self.labels) else "" for value in values
        ]


class LassoView(pyqtgraph.ViewBox):
    """Drag with Shift draws a line around points."""

    #: The line is complete: its corners (n, 2), in the coordinates of the plot.
    drawn = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self._corners: list[tuple[float, float]] = []
        self._line = pyqtgraph.PlotCurveItem(pen=pyqtgraph.mkPen(_LINE, width=1.5))

    def mouseDragEvent(self, ev: Any, axis: int | None = None) -> None:
        shift = ev.modifiers() & Qt.KeyboardModifier.ShiftModifier
        if not shift or ev.button() != Qt.MouseButton.LeftButton:
            super().mouseDragEvent(ev, axis)
            return
        ev.accept()
        if ev.isStart():
            self._corners = []
            self.addItem(self._line, ignoreBounds=True)
        # The first event comes when the mouse has moved already.
        for place in (ev.buttonDownPos(ev.button()), ev.pos()) if ev.isStart() else (ev.pos(),):
            corner = self.mapToView(place)
            self._corners.append((corner.x(), corner.y()))
        self._line.setData(*np.transpose([*self._corners, self._corners[0]]))
        if ev.isFinish():
            self.removeItem(self._line)
            self.drawn.emit(np.array(self._corners))
