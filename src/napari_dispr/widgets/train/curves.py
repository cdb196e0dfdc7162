"""The curves of a training run: its loss, and its scores on validation cells."""

from collections.abc import Sequence

import pyqtgraph
from qtpy.QtCore import Qt

from napari_dispr.widgets.parts.budget_plot import pen, set_colours, set_logarithmic, set_up
from napari_dispr.widgets.train.follow import Loss, RunLog

#: Colours that are distinct on dark and light backgrounds, also for the colour-blind.
_FLOW, _SCORED = "#4cc2ff", "#b18cff"
_ENERGY, _VOLUME = "#ffb454", "#3ddc97"
_LEAST_LOSS = 1e-4
_HEIGHT = 300


class Curves(pyqtgraph.GraphicsLayoutWidget):
    """Two plots over the share of the budget: training loss above, validation below."""

    def __init__(self) -> None:
        super().__init__()
        self.setFixedHeight(_HEIGHT)
        self.ci.setContentsMargins(0, 0, 0, 6)  # room for the lower half of the axis' label
        self.ci.setSpacing(0)
        self.setToolTip(
            "Top: the training loss, in its two phases. Bottom: errors of the shapes predicted for "
            "validation cells; dashed: the start model. Lower is better."
        )
        self.loss_plot = self.addPlot(row=0, col=0)
        self.score_plot = self.addPlot(row=1, col=0)
        # The two phases measure different things, of different size.
        set_logarithmic(self.loss_plot)
        self.flow = _curve(self.loss_plot, _FLOW)
        self.scored = _curve(self.loss_plot, _SCORED)
        self.energy = _curve(self.score_plot, _ENERGY)
        self.volume = _curve(self.score_plot, _VOLUME)
        self.start_lines = {"energy": self._line(_ENERGY), "volume": self._line(_VOLUME)}
        for plot in (self.loss_plot, self.score_plot):
            set_up(plot)
        self.loss_plot.getAxis("bottom").setStyle(showValues=False)
        self.loss_plot.setLabel("left", "loss")
        self.score_plot.setLabel("left", "error")
        self.score_plot.setLabel("bottom", "share of the budget")
        self.set_colours("#f0f1f2", "#262930")

    def _line(self, colour: str) -> pyqtgraph.InfiniteLine:
        line = pyqtgraph.InfiniteLine(angle=0, pen=pen(colour, Qt.PenStyle.DashLine))
        line.hide()
        self.score_plot.addItem(line)
        return line

    def set_colours(self, text: str, background: str) -> None:
        """Take the colours of a theme, as ``#rrggbb``."""
        self.setBackground(background)
        losses = {"shapes": _FLOW, "fast sampling": _SCORED}
        set_colours(self.loss_plot, text, "training loss", losses)
        errors = {"energy score": _ENERGY, "volume error": _VOLUME}
        set_colours(self.score_plot, text, "validation cells", errors)

    def show_log(self, log: RunLog, has_start: bool) -> None:
        """Plot losses and scores; ``has_start``: compare with the scores of the start model."""
        for curve, scored in ((self.flow, False), (self.scored, True)):
            losses = [loss for loss in log.losses if (loss.phase == "scored") == scored]
            # One point makes no line.
            curve.setData(*_losses(losses), symbol="o" if len(losses) == 1 else None)
        scores = [log.start, *log.scores] if log.start and has_start else log.scores
        x = [100 * score.share for score in scores]
        self.energy.setData(x, [score.energy_score for score in scores])
        self.volume.setData(x, [score.volume_error for score in scores])
        start = log.start if has_start else None
        for line in self.start_lines.values():
            line.setVisible(start is not None)
        if start is not None:
            self.start_lines["energy"].setPos(start.energy_score)
            self.start_lines["volume"].setPos(start.volume_error)
        self.score_plot.enableAutoRange(axis="y")


def _curve(plot: pyqtgraph.PlotItem, colour: str) -> pyqtgraph.PlotDataItem:
    """A line with points."""
    return plot.plot(pen=pen(colour), symbol="o", symbolSize=5, symbolBrush=colour, symbolPen=None)


def _losses(losses: Sequence[Loss]) -> tuple[list[float], list[float]]:
    # An energy score can be 0, which has no logarithm.
    return [100 * loss.share for loss in losses], [max(loss.loss, _LEAST_LOSS) for loss in losses]
