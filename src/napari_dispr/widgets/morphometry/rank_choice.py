"""A button that ranks cells by the expected error of a measure."""

import pandas as pd
from qtpy.QtCore import Signal
from qtpy.QtGui import QAction, QActionGroup
from qtpy.QtWidgets import QMenu, QPushButton, QWidget

from napari_dispr.prediction.ranking import rank_cells
from napari_dispr.prediction.result import Prediction
from napari_dispr.shapes.measures import HEADLINE, MEASURES
from napari_dispr.widgets.parts.wording import gain_text, words_of

_ABOUT = (
    "<p><b>Which cells deserve a z-stack?</b></p><p>Ranks the cells by the expected error of a measure: "
    "cells for which a z-stack would help most come first.</p>"
)


class RankChoice(QPushButton):
    """The measure by which cells are ranked; at first none."""

    #: Another was chosen.
    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__("Rank", parent)
        self.setToolTip(_ABOUT)
        self._group = QActionGroup(self)  # one of them is checked
        self._group.triggered.connect(lambda: self.changed.emit())
        menu = QMenu(self)
        more = QMenu("By another measure", menu)
        self._add(menu, "Not ranked", "").setChecked(True)
        menu.addSeparator()
        for name in MEASURES:
            self._add(menu if name in HEADLINE else more, f"By {words_of(name)}", name)
        menu.addMenu(more)
        self.setMenu(menu)

    def _add(self, menu: QMenu, text: str, name: str) -> QAction:
        action = QAction(text, self._group, checkable=True)
        action.setData(name)
        menu.addAction(action)
        return action

    @property
    def chosen(self) -> str:
        """The measure; empty: cells are not ranked."""
        action = self._group.checkedAction()
        return action.data() if action is not None else ""

    def choose(self, name: str) -> None:
        """Rank by this measure; empty: not any more."""
        next(action for action in self._group.actions() if action.data() == name).trigger()

    def ranking(self, prediction: Prediction, measures: pd.DataFrame) -> pd.DataFrame | None:
        """The ranked cells of a prediction; None if no measure is chosen.

        Lengths, areas and volumes are ranked by relative errors, other measures, which may be 0, by
        absolute ones.

        Raises
        ------
        InputError
            If the uncertainty of the measure is not known.
        """
        if not self.chosen or measures.empty:
            return None
        relative = MEASURES[self.chosen].unit_power > 0
        return rank_cells(prediction, self.chosen, relative=relative, measures=measures)

    @staticmethod
    def summary(ranking: pd.DataFrame) -> str:
        """The ranking in a sentence."""
        measure, relative = words_of(ranking.attrs["measure"]), ranking.attrs["relative"]
        labels, gains = ranking["label"].to_list(), ranking["expected_gain"].to_list()
        return (
            f"Cell {labels[0]} deserves a z-stack most: the expected error of its {measure} is "
            f"{gain_text(gains[0], relative)}; that of the last cell, {labels[-1]}, is "
            f"{gain_text(gains[-1], relative)}."
        )
