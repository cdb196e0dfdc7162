"""The plots of morphometry: a measure by cell, its histogram, and two measures against each other."""

import errno
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyqtgraph
from numpy.typing import NDArray
from pyqtgraph.exporters import Exporter
from qtpy.QtCore import QRect, QRectF, QSize, Qt, Signal
from qtpy.QtGui import QColor, QImage, QPaintDevice, QPainter
from qtpy.QtSvg import QSvgGenerator
from qtpy.QtWidgets import QCheckBox, QComboBox, QLabel, QPushButton, QWidget
from skimage.measure import points_in_poly
from superqt.utils import signals_blocked

from napari_dispr.errors import words_of
from napari_dispr.files import written_aside
from napari_dispr.widgets.morphometry.columns import NO_MEMBER
from napari_dispr.widgets.morphometry.content import TableContent
from napari_dispr.widgets.morphometry.plot_content import (
    MOST_DRAWN,
    Points,
    Strips,
    agreement_text,
    axis_label,
    group_strips,
    histogram,
    nearest,
    scatter,
    some,
    strips,
)
from napari_dispr.widgets.morphometry.plot_parts import LassoView, NamedAxis
from napari_dispr.widgets.parts.combo_boxes import ShortComboBox, refill, values_of
from napari_dispr.widgets.parts.layouts import column, row
from napari_dispr.widgets.parts.wording import plain

#: Colours that are distinct on dark and light backgrounds, also for the colour-blind.
_ON_DARK = ("#4cc2ff", "#ffb454", "#e36bd0")
_ON_LIGHT = ("#0b74b8", "#b35a00", "#a8359a")
_BY_CELL, _BY_GROUP, _HISTOGRAM, _SCATTER = "by cell", "by group", "histogram", "scatter"
_CELLS, _MEMBERS = "cells", "members"
#: A click picks the nearest point within this many pixels.
_REACH = 14.0
#: Height of the horizontal axis, with its label.
_BELOW = 42
#: Width of the strip of a cell, which shows its members side by side.
_STRIP = 0.62
#: Saved pictures are this many times as large as on screen.
_ENLARGED = 3


class PlotPanel(QWidget):
    """One plot and its controls."""

    #: A point was clicked: its cell and its member (`NO_MEMBER`: none).
    picked = Signal(int, int)
    #: A line was drawn around points: the set of their cells.
    circled = Signal(object)
    #: Whether the cells take the colours of the measure, or another measure was chosen.
    coloured = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._cells: TableContent | None = None
        self._members: TableContent | None = None
        self._shown: tuple[NDArray[np.intp], NDArray[np.intp]] = (np.zeros(0, int), np.zeros(0, int))
        self._kept: dict[int, int] = {}
        #: The marked cell and member.
        self.highlighted: tuple[int | None, int | None] = (None, None)
        self._points: list[Points] = []
        self._text, self._background = "#f0f1f2", "#262930"
        self._predicted, self._real, self._kept_colour = _ON_DARK
        self.kind = QComboBox(
            toolTip="How to plot: every member by cell; how often values occur; two measures"
        )
        self.kind.addItems([_BY_CELL, _HISTOGRAM, _SCATTER])
        self.measure, self.against, self.group = (ShortComboBox(characters=10) for _ in range(3))
        self.of = QComboBox()
        self.group.setToolTip("The column whose values are compared")
        self.measure.setToolTip("The measure that is plotted")
        self.against.setToolTip("The measure along the horizontal axis")
        self.of.addItems([_CELLS, _MEMBERS])
        self.of.setToolTip("Whether a point, or a count, is a cell (its mean) or a member")
        self.against_words, self.of_words = QLabel("against"), QLabel("of")
        self.save_button = QPushButton("Save plot…", toolTip="Save the plot as PNG or SVG")
        self.colour_cells = QCheckBox(
            "colour cells", toolTip="Colour the cells in the layers by this measure"
        )
        self.axis = NamedAxis("bottom")
        view = LassoView()
        self.plot = pyqtgraph.PlotWidget(axisItems={"bottom": self.axis}, viewBox=view)
        self.plot.setMinimumHeight(150)
        self.plot.setAntialiasing(True)
        self.plot.setMenuEnabled(False)
        for side in ("left", "bottom"):
            self.plot.getAxis(side).enableAutoSIPrefix(False)
            self.plot.getAxis(side).setStyle(maxTickLevel=0)
        self.axis.setHeight(_BELOW)
        self.plot.getPlotItem().setContentsMargins(0, 0, 6, 6)  # room for the ends of letters
        self.plot.setToolTip(
            "Click a point to select its cell; Shift and drag: draw a line around cells to select "
            "them; drag to move, wheel to zoom, A to see all"
        )
        #: Errors of the estimates against real cells.
        self.note = QLabel(wordWrap=True)
        self.note.hide()
        first = row(self.kind, (self.measure, 1), self.colour_cells, self.save_button)
        second = row(self.group, self.against_words, (self.against, 1), self.of_words, self.of, None)
        column(first, second, (self.plot, 1), self.note, parent=self)
        self._show_controls(self.kind.currentText())  # all of them would make the window wide
        for choice in (self.kind, self.measure, self.against, self.of, self.group):
            choice.currentTextChanged.connect(self.draw)
        view.drawn.connect(self._on_lasso)
        self.measure.currentTextChanged.connect(self.coloured)
        self.colour_cells.toggled.connect(self.coloured)
        self.plot.scene().sigMouseClicked.connect(self._on_click)
        self._highlight = pyqtgraph.ScatterPlotItem(size=13, brush=None)
        self._lines = pyqtgraph.PlotDataItem(connect="pairs")

    # --- what is shown -----------------------------------------------------------------------------

    def set_colours(self, text: str, background: str) -> None:
        """Take the colours of a theme, as ``#rrggbb``."""
        self._text, self._background = text, background
        colours = _ON_DARK if QColor(background).lightness() < 128 else _ON_LIGHT
        self._predicted, self._real, self._kept_colour = colours
        self.plot.setBackground(background)
        for name in ("left", "bottom"):
            axis = self.plot.getAxis(name)
            axis.setTextPen(text)
            axis.setPen(pyqtgraph.mkPen(text, width=1))
        self.draw()

    def show_content(self, cells: TableContent, members: TableContent, kept: dict[int, int]) -> None:
        """Plot other tables; call `show_rows` afterwards. Of a batch ``members`` is the same table."""
        self._cells, self._members, self._kept = cells, members, {} if cells.groups else kept
        with signals_blocked(self.kind):
            self.kind.setItemText(0, _BY_GROUP if cells.groups else _BY_CELL)
        refill(self.group, {name: name for name in cells.groups}, self.group.currentText())
        names = [*cells.measures, *(["ambiguity"] if "ambiguity" in cells.columns else [])]
        for choice, first in ((self.measure, "volume"), (self.against, "sphericity")):
            if values_of(choice) != names:
                refill(choice, {name: words_of(name) for name in names}, choice.currentData() or first)
                for index, name in enumerate(names):
                    choice.setItemData(index, cells.columns[name].about, Qt.ItemDataRole.ToolTipRole)

    def show_rows(self, cells: NDArray[np.intp], members: NDArray[np.intp]) -> None:
        """Plot these rows of the tables, in this order."""
        self._shown = cells, members
        self.draw()

    def _show_controls(self, kind: str) -> None:
        for control in (self.against_words, self.against):
            control.setVisible(kind == _SCATTER)
        for control in (self.of_words, self.of):
            control.setVisible(kind in (_HISTOGRAM, _SCATTER) and self._cells is not self._members)
        self.group.setVisible(kind == _BY_GROUP)

    def draw(self) -> None:
        """Plot everything again."""
        kind = self.kind.currentText()
        self._show_controls(kind)
        self.plot.clear()
        self._points = []
        self.axis.labels = None
        self.note.hide()
        name = self.measure.currentData()
        if self._cells is None or self._members is None or name is None:
            return
        self.plot.showGrid(y=True, x=kind == _SCATTER, alpha=0.15)
        limit = ""
        if kind == _BY_CELL:
            found = strips(self._cells, self._members, *self._shown, name, self._kept)
            self._draw_strips(found, name, "cell")
        elif kind == _BY_GROUP:
            found, count = group_strips(self._cells, self._shown[0], name, self.group.currentText())
            self._draw_strips(found, name, self.group.currentText())
            if count > len(found.labels):
                limit = f"The first {len(found.labels)} of {count} groups: filter the rows to see others."
        elif kind == _HISTOGRAM:
            self._draw_histogram(name)
        else:
            self._draw_scatter(self.against.currentData(), name)
        if kind != _HISTOGRAM and any(len(points) > MOST_DRAWN for points in self._points):
            limit = f"{limit} Of more than {MOST_DRAWN} points, {MOST_DRAWN} are drawn.".strip()
        words = limit or agreement_text(self._cells, name)
        self.note.setText(words)
        self.note.setVisible(bool(words))
        self.plot.enableAutoRange()
        self._draw_selection()

    def _draw_strips(self, found: Strips, name: str, what: str) -> None:
        assert self._cells is not None
        by_cell = what == "cell"
        if not by_cell:  # below the quartiles, which many points would hide
            self._add_points(found.members, "o", 4, _faint(self._predicted))
        self.axis.labels = found.labels
        x = np.arange(len(found.labels), dtype=float)
        there = np.isfinite(found.low) & np.isfinite(found.high)
        if there.any():
            bars = pyqtgraph.BarGraphItem(
                x=x[there], width=_STRIP, y0=found.low[there], y1=found.high[there],
                brush=_faint(self._predicted), pen=None,
            )  # fmt: skip
            self.plot.addItem(bars)
        ends = np.stack([x - _STRIP / 2, x + _STRIP / 2], axis=1).ravel()
        self.plot.addItem(
            pyqtgraph.PlotDataItem(
                ends,
                np.repeat(found.means, 2),
                connect="pairs",
                pen=pyqtgraph.mkPen(self._predicted, width=2),
            )
        )
        if by_cell:
            self._add_points(found.members, "o", 6, self._predicted)
        self._add_points(found.kept, "star", 14, self._kept_colour)
        self._add_points(found.real, "d", 11, self._real)
        legend = [("&#9679;", self._predicted, "member" if by_cell else "cell (mean)")]
        legend += [("&#9644;", self._predicted, "mean" if by_cell else "median")]
        legend += [("&#9608;", QColor(_faint(self._predicted)).name(), found.bar)] if there.any() else []
        legend += self._signs(found.kept, found.real)
        self._label(axis_label(self._cells, name), words_of(what), legend)

    def _draw_histogram(self, name: str) -> None:
        content, shown = self._chosen()
        found = histogram(content, shown, name)
        width = np.diff(found.edges)
        middle = found.edges[:-1] + width / 2
        self.plot.addItem(
            pyqtgraph.BarGraphItem(
                x=middle, width=width * 0.94, height=found.predicted, brush=self._predicted, pen=None
            )
        )
        if found.real.any():
            pen = pyqtgraph.mkPen(self._real, width=2.5)
            self.plot.plot(found.edges, found.real, stepMode="center", pen=pen)
        self._points = [found.points]
        what = self.of.currentText()
        legend = [("&#9608;", self._predicted, f"predicted {what}")]
        legend += [("&#9644;", self._real, "real cells")] if found.real.any() else []
        self._label(f"number of {what}", axis_label(content, name), legend)

    def _draw_scatter(self, x: str, y: str) -> None:
        content, shown = self._chosen()
        ours, real = scatter(content, shown, x, y)
        of_members = self.of.currentText() == _MEMBERS
        self._add_points(ours, "o", 6 if of_members else 9, self._predicted)
        kept = ours.kept(self._kept)
        self._add_points(kept, "star", 14, self._kept_colour)
        self._add_points(real, "d", 11, self._real)
        legend = [("&#9679;", self._predicted, "member" if of_members else "cell (mean)")]
        self._label(axis_label(content, y), axis_label(content, x), [*legend, *self._signs(kept, real)])

    def _chosen(self) -> tuple[TableContent, NDArray[np.intp]]:
        assert self._cells is not None and self._members is not None
        if self.of.currentText() == _MEMBERS:
            return self._members, self._shown[1]
        return self._cells, self._shown[0]

    def _signs(self, kept: Points, real: Points) -> list[tuple[str, str, str]]:
        signs = [("&#9733;", self._kept_colour, "kept")] if len(kept) else []
        return signs + ([("&#9670;", self._real, "real cell")] if len(real) else [])

    def _add_points(self, points: Points, symbol: str, size: int, colour: str | QColor) -> None:
        if not len(points):
            return
        self._points.append(points)  # also those that are not drawn can be picked
        points = some(points)
        item = pyqtgraph.ScatterPlotItem(
            x=points.x, y=points.y, data=np.arange(len(points)), symbol=symbol, size=size, brush=colour,
            pen=None if size < 6 else pyqtgraph.mkPen(self._background, width=1),
            hoverable=True, hoverSize=size + 4,
            tip=lambda x, y, data: self._tip(points, int(data)),
        )  # fmt: skip
        self.plot.addItem(item)

    def _label(self, left: str, bottom: str, legend: Sequence[tuple[str, str, str]]) -> None:
        style = {"color": self._text, "font-size": "9pt"}
        self.plot.setLabel("left", left, **style)
        self.plot.setLabel("bottom", bottom, **style)
        marks = "&nbsp;&nbsp; ".join(
            f'<span style="color: {colour}">{sign}</span> {words}' for sign, colour, words in legend
        )
        self.plot.setTitle(marks, color=self._text, size="9pt")

    def _tip(self, points: Points, i: int) -> str:
        assert self._cells is not None
        cell = self._cells.name_of(int(points.cells[i]))
        member = f", member {points.members[i] + 1}" if points.members[i] >= 0 else ""
        return f"{cell}{member}: {plain(points.y[i])}"

    # --- selection ---------------------------------------------------------------------------------

    def highlight(self, cell: int | None, member: int | None = None) -> None:
        """Mark the points of a cell, or of one member of it."""
        if (cell, member) != self.highlighted:
            self.highlighted = cell, member
            self._draw_selection()

    def _draw_selection(self) -> None:
        for item in (self._highlight, self._lines):
            if item.scene() is not None:
                self.plot.removeItem(item)
        chosen = [points.only(points.of(*self.highlighted)) for points in self._points]
        x, y = (np.concatenate([getattr(one, axis) for one in chosen] or [np.zeros(0)]) for axis in "xy")
        if not len(x):
            return
        if self.kind.currentText() == _HISTOGRAM:
            top = self.plot.getViewBox().viewRange()[1][1]
            self._lines.setData(np.repeat(x, 2), np.tile([0.0, top], len(x)), pen=self._pen(2))
            self.plot.addItem(self._lines, ignoreBounds=True)
        else:
            self._highlight.setData(x=x, y=y, pen=self._pen(1.6))
            self.plot.addItem(self._highlight, ignoreBounds=True)

    def _pen(self, width: float) -> Any:
        return pyqtgraph.mkPen(self._text, width=width)

    def _on_click(self, event: Any) -> None:
        if event.button() != Qt.MouseButton.LeftButton:
            return
        view = self.plot.getViewBox()
        if not view.sceneBoundingRect().contains(event.scenePos()):
            return
        place = view.mapSceneToView(event.scenePos())
        self.pick_at(place.x(), place.y())

    def _on_lasso(self, corners: NDArray[np.float64]) -> None:
        counted = self.kind.currentText() == _HISTOGRAM
        (left, _), (right, _) = corners.min(axis=0), corners.max(axis=0)
        cells: set[int] = set()
        for points in self._points:
            if counted:  # the points of a histogram have no height
                inside = (points.x >= left) & (points.x <= right)
            else:
                inside = points_in_poly(np.stack([points.x, points.y], axis=1), corners)
            cells |= set(points.cells[inside].tolist())
        self.circled.emit(cells)

    def pick_at(self, x: float, y: float) -> None:
        """Pick the nearest point; if none is near, the cell of the strip."""
        width, height = self.plot.getViewBox().viewPixelSize()
        counted = self.kind.currentText() == _HISTOGRAM
        found = nearest(self._points, x, y, (width, np.inf if counted else height))
        if found is not None and (counted or found[2] <= _REACH):
            self.picked.emit(found[0], found[1])
        elif self.kind.currentText() == _BY_CELL and 0 <= round(x) < len(labels := self.axis.labels or ()):
            self.picked.emit(labels[round(x)], NO_MEMBER)

    # --- files -------------------------------------------------------------------------------------

    def save(self, path: str | Path) -> None:
        """Write the plot as PNG or SVG, by the extension of the name."""
        width, height = self.plot.width(), self.plot.height()
        with written_aside(path) as aside:
            if Path(path).suffix.lower() == ".svg":
                drawing = QSvgGenerator()
                drawing.setFileName(str(aside))
                drawing.setSize(QSize(width, height))
                drawing.setViewBox(QRect(0, 0, width, height))
                drawing.setResolution(self.logicalDpiX())
                self._paint(drawing, QRectF(0, 0, width, height), 1)
            else:
                picture = QImage(_ENLARGED * width, _ENLARGED * height, QImage.Format.Format_RGB32)
                self._paint(picture, QRectF(picture.rect()), _ENLARGED)
                if not picture.save(str(aside)):
                    raise OSError(errno.EIO, "the picture could not be written", str(path))

    def _paint(self, device: QPaintDevice, place: QRectF, enlarged: float) -> None:
        painter = QPainter(device)
        # Symbols become lines and areas, and scale with the plot.
        exporter = Exporter(self.plot.scene())
        options = {"antialias": True, "resolutionScale": enlarged, "painter": painter}
        exporter.setExportMode(True, options)
        try:
            painter.setRenderHint(QPainter.RenderHint.Antialiasing)
            painter.fillRect(place, QColor(self._background))
            self.plot.render(painter, place, self.plot.rect())
        finally:
            exporter.setExportMode(False)
            painter.end()


def _faint(colour: str) -> QColor:
    faint = QColor(colour)
    faint.setAlphaF(0.28)
    return faint
