"""A button that ranks cells by the expected error of a measure, or by what one more plane should gain.

Its run bar shows the search for the planes.
"""

import pandas as pd
from qtpy.QtCore import Signal
from qtpy.QtGui import QAction, QActionGroup
from qtpy.QtWidgets import QMenu, QPushButton

from napari_dispr.errors import words_of
from napari_dispr.prediction.ranking import next_planes, rank_cells
from napari_dispr.prediction.result import Prediction
from napari_dispr.shapes.measures import HEADLINE, MEASURES, unit_sign
from napari_dispr.widgets.morphometry.columns import NEXT_PLANE
from napari_dispr.widgets.parts.run_bar import RunBar
from napari_dispr.widgets.parts.threads import Step
from napari_dispr.widgets.parts.wording import gain_text, plain

_ABOUT = (
    "<p><b>Which cells deserve a z-stack?</b></p><p>Ranks the cells by the expected error of a measure: "
    "cells for which a z-stack would help most come first.</p>"
    "<p>Or ranks them by what one more plane should gain, and says at which depth to image it.</p>"
)
#: The choice of ranking by the next plane.
BY_PLANE = "next plane"


class RankChoice(QPushButton):
    """By what cells are ranked; at first by nothing. The next planes are found in a thread."""

    #: Another was chosen.
    changed = Signal()

    def __init__(self) -> None:
        super().__init__("Rank")
        self.setToolTip(_ABOUT)
        self._group = QActionGroup(self)  # one of them is checked
        self._group.triggered.connect(lambda: self.changed.emit())
        menu = QMenu(self)
        more = QMenu("By another measure", menu)
        self._add(menu, "Not ranked", "").setChecked(True)
        self._add(menu, "By the gain of one more plane", BY_PLANE)
        menu.addSeparator()
        for name in MEASURES:
            self._add(menu if name in HEADLINE else more, f"By {words_of(name)}", name)
        menu.addMenu(more)
        self.setMenu(menu)
        self._searched: Prediction | None = None  # the prediction whose planes are looked for, or found
        self._planes: pd.DataFrame | None = None
        self.run_bar = RunBar("Stop; the cells are then not ranked")
        self.run_bar.changed.connect(self._on_search)

    def _add(self, menu: QMenu, text: str, name: str) -> QAction:
        action = QAction(text, self._group, checkable=True)
        action.setData(name)
        menu.addAction(action)
        return action

    @property
    def chosen(self) -> str:
        """The measure, or `BY_PLANE`; empty: cells are not ranked."""
        action = self._group.checkedAction()
        return action.data() if action is not None else ""

    def choose(self, name: str) -> None:
        """Rank by this measure; empty: not any more."""
        next(action for action in self._group.actions() if action.data() == name).trigger()

    def ranking(self, prediction: Prediction, measures: pd.DataFrame) -> pd.DataFrame | None:
        """The ranked cells of a prediction; None if nothing is chosen, or the planes are not found yet.

        Lengths, areas and volumes are ranked by relative errors, other measures, which may be 0, by absolute
        ones. Raises an InputError if the uncertainty of the measure is not known.
        """
        if not self.chosen or measures.empty:
            return None
        if self.chosen == BY_PLANE:
            return self._known_planes(prediction)
        relative = MEASURES[self.chosen].unit_power > 0
        return rank_cells(prediction, self.chosen, relative=relative, measures=measures)

    def _known_planes(self, prediction: Prediction) -> pd.DataFrame | None:
        if self._searched is not prediction:
            self.run_bar.shut_down()
            self._searched, self._planes = prediction, None
            self.run_bar.start(
                lambda step: _next_planes(prediction, step),
                self._on_planes,
                first="looking for planes",
                kept="The cells are not ranked.",
            )
        return self._planes

    def _on_planes(self, found: pd.DataFrame) -> None:
        self._planes = found

    def _on_search(self) -> None:
        """The search has started or ended; without result, the cells are not ranked any more."""
        if self.run_bar.running:
            return
        if self._planes is None:
            self._searched = None
            if self.chosen == BY_PLANE:
                self.choose("")
        elif self.chosen == BY_PLANE:
            self.changed.emit()

    @staticmethod
    def summary(ranking: pd.DataFrame) -> str:
        if "measure" not in ranking.attrs:
            best = ranking.iloc[0]
            unit = unit_sign(ranking.attrs["columns"][NEXT_PLANE["depth"]].partition(":")[0])
            return (
                f"Cell {best['label']} gains most from one more plane, at z = "
                f"{plain(best[NEXT_PLANE['depth']])} {unit}: expected IoU "
                f"+{max(best[NEXT_PLANE['iou_gain']], 0):.2f}."
            )
        measure, relative = words_of(ranking.attrs["measure"]), ranking.attrs["relative"]
        labels, gains = ranking["label"].to_list(), ranking["expected_gain"].to_list()
        return (
            f"Cell {labels[0]} deserves a z-stack most: the expected error of its {measure} is "
            f"{gain_text(gains[0], relative)}; that of the last cell, {labels[-1]}, is "
            f"{gain_text(gains[-1], relative)}."
        )


def _next_planes(prediction: Prediction, step: Step) -> pd.DataFrame:
    """The next planes with the names of `NEXT_PLANE`."""
    table = next_planes(prediction, progress=step)
    texts = {NEXT_PLANE.get(name, name): text for name, text in table.attrs["columns"].items()}
    table = table.rename(columns=NEXT_PLANE)
    table.attrs["columns"] = texts
    return table
