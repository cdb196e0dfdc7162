"""What plots over the share of a training's budget have in common."""

from math import log10

import pyqtgraph
from qtpy.QtCore import Qt


def set_up(plot: pyqtgraph.PlotItem) -> None:
    """Give a plot the axis from 0 to 100 %, and no interaction: the wheel scrolls the widget."""
    plot.setMenuEnabled(False)
    plot.setMouseEnabled(False, False)
    plot.hideButtons()
    plot.setXRange(0, 100, padding=0.02)
    plot.getAxis("left").setWidth(54)
    plot.getAxis("left").enableAutoSIPrefix(False)
    plot.getAxis("left").setStyle(maxTickLevel=0)
    plot.getAxis("bottom").setStyle(hideOverlappingLabels=False)
    plot.getAxis("bottom").setTicks([[(share, f"{share} %") for share in range(0, 101, 20)]])
    plot.layout.setContentsMargins(0, 0, 16, 0)  # room for the right half of "100 %"
    plot.showGrid(y=True, alpha=0.15)


def set_logarithmic(plot: pyqtgraph.PlotItem) -> None:
    """Give a plot of losses a logarithmic axis, with marks at 1 and 3 times each power of ten."""
    losses = [digit * 10.0**power for power in range(-5, 3) for digit in (1, 3)]
    plot.setLogMode(y=True)
    plot.getAxis("left").setTicks([[(log10(loss), f"{loss:g}") for loss in losses]])


def set_colours(plot: pyqtgraph.PlotItem, text: str, title: str, entries: dict[str, str]) -> None:
    """Give axes and title the colour of a theme; ``entries`` are names of curves with their colours."""
    for name in ("left", "bottom"):
        plot.getAxis(name).setTextPen(text)
        plot.getAxis(name).setPen(pyqtgraph.mkPen(text, width=1))
    marks = "&nbsp;&nbsp;".join(
        f'<span style="color: {colour}">&#9644;</span> {name}' for name, colour in entries.items()
    )
    plot.setTitle(f"{title}:&nbsp; {marks}", color=text, size="8pt")


def pen(colour: str, style: Qt.PenStyle = Qt.PenStyle.SolidLine) -> object:
    """The pen of a curve."""
    return pyqtgraph.mkPen(colour, width=2, style=style)
