"""Text, frames and the colour bar over the tiles of Compare; ignores the mouse."""

from collections.abc import Callable, Sequence

import numpy as np
from qtpy.QtCore import QPointF, QRectF, Qt
from qtpy.QtGui import QColor, QFont, QLinearGradient, QPainter, QPen
from qtpy.QtWidgets import QWidget
from vispy.color import get_colormap

from napari_dispr.shapes.measures import unit_sign
from napari_dispr.widgets.compare.content import CellShapes
from napari_dispr.widgets.compare.tiles import VALUE_COLOURS, Tile

_WORDS, _QUIET, _SELECTED = QColor(235, 238, 242), QColor(150, 156, 165), QColor(255, 255, 255)
_BAR_HEIGHT, _BAR_MARGIN = 10, 46
_MIDDLE = Qt.AlignmentFlag.AlignVCenter
_LEFT, _RIGHT = Qt.AlignmentFlag.AlignLeft | _MIDDLE, Qt.AlignmentFlag.AlignRight | _MIDDLE


class Captions(QWidget):
    """Painted over the tiles of the canvas, which has no text."""

    def __init__(self, canvas: QWidget) -> None:
        super().__init__(canvas)
        self._canvas = canvas
        self._tiles: list[Tile] = []
        self._cell: CellShapes | None = None
        self._values_to = 1.0
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.setAttribute(Qt.WidgetAttribute.WA_NoSystemBackground)

    def say(self, tiles: Sequence[Tile], cell: CellShapes | None, values_to: float) -> None:
        """Caption these tiles; the colour bar ends at ``values_to``."""
        self._tiles, self._cell, self._values_to = list(tiles), cell, values_to
        self.raise_()
        self.update()

    def paintEvent(self, event: object) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        for tile, rect in zip(self._tiles, self._canvas.tile_rects(), strict=True):
            self._paint_tile(painter, tile, rect)
        painter.end()

    def _paint_tile(self, painter: QPainter, tile: Tile, rect: QRectF) -> None:
        inner = rect.adjusted(3, 3, -3, -3)
        if tile.frame is not None or tile.selected:
            colour = QColor.fromRgbF(*tile.frame) if tile.frame else _QUIET
            painter.setPen(QPen(_SELECTED if tile.selected else colour, 2.5 if tile.selected else 1.0))
            painter.drawRoundedRect(inner, 6, 6)
        font = QFont(self.font())
        font.setBold(tile.selected)
        painter.setFont(font)
        painter.setPen(_WORDS if tile.frame is None else QColor.fromRgbF(*tile.frame).lighter(118))
        top = QRectF(inner.x() + 8, inner.y() + 3, inner.width() - 16, 20)
        width_of = painter.fontMetrics().horizontalAdvance
        _write(painter, top, words_above(tile, lambda text: width_of(text) <= top.width()))
        if tile.note:
            painter.setFont(self.font())
            painter.setPen(_QUIET)
            _write(painter, QRectF(inner.x() + 8, inner.bottom() - 21, inner.width() - 16, 18), tile.note)
        if any(one.by_value for one in tile.surfaces):
            self._paint_bar(painter, inner)

    def _paint_bar(self, painter: QPainter, rect: QRectF) -> None:
        """The colours of the spread of surfaces, from 0 to the value of the last colour."""
        width = rect.width() - 2.4 * _BAR_MARGIN
        bar = QRectF(rect.x() + _BAR_MARGIN, rect.bottom() - 22, width, _BAR_HEIGHT)
        gradient = QLinearGradient(QPointF(bar.left(), 0), QPointF(bar.right(), 0))
        for at in np.linspace(0, 1, 9):
            colour = get_colormap(VALUE_COLOURS).map(at)[0]
            gradient.setColorAt(float(at), QColor.fromRgbF(*map(float, colour)))
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(gradient)
        painter.drawRect(bar)
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.setPen(_WORDS)
        unit = unit_sign(self._cell.unit) if self._cell else ""
        painter.drawText(QRectF(rect.x(), bar.y() - 5, _BAR_MARGIN - 6, 20), _RIGHT, "0")
        painter.drawText(QRectF(bar.right() + 6, bar.y() - 5, 90, 20), _LEFT, f"{self._values_to:.2g} {unit}")
        painter.setPen(_QUIET)
        above = QRectF(bar.x(), bar.y() - 20, rect.right() - bar.x(), 18)
        _write(painter, above, "spread of surfaces (sd)")


def words_above(tile: Tile, fits: Callable[[str], bool]) -> str:
    """The caption of a tile, with as much about a kept shape as fits."""
    kept = f"✓ kept, {tile.caption}"
    return tile.caption if not tile.kept else kept if fits(kept) else f"✓ {tile.caption}"


def _write(painter: QPainter, place: QRectF, text: str) -> None:
    """Write as much of a text as there is room for."""
    shown = painter.fontMetrics().elidedText(text, Qt.TextElideMode.ElideRight, int(place.width()))
    painter.drawText(place, _LEFT, shown)
