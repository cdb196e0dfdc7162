"""The table of Predict: a row for each cell (estimates) or for each member, to read, copy and export.

It shows the main measures (`HEADLINE`); copies and exports contain all.
"""

from pathlib import Path

import pandas as pd
from qtpy.QtGui import QKeySequence
from qtpy.QtWidgets import QApplication, QFileDialog, QPushButton, QShortcut, QTabWidget, QWidget

from napari_dispr.files import written_aside
from napari_dispr.shapes.intervals import LEVEL
from napari_dispr.shapes.measures import HEADLINE
from napari_dispr.widgets.morphometry.array_table import ArrayView
from napari_dispr.widgets.morphometry.content import TableContent, cells_content, members_content
from napari_dispr.widgets.morphometry.copying import tab_separated
from napari_dispr.widgets.parts.layouts import column, row
from napari_dispr.widgets.parts.run_bar import RunBar

_CELLS_FILTER = "Estimates of each cell (*.csv)"
_MEMBERS_FILTER = "Every member (*.csv)"


def cells_tab(content: TableContent) -> str:
    """Title of the tab of cells: the meaning of its numbers."""
    calibrated = any(f"{name}_low" in content.frame for name in HEADLINE)
    return f"Cells ({f'mean, {LEVEL:.0%} interval' if calibrated else 'mean ± sd'})"


class MorphometryTable(QWidget):
    """Measures of all members, and estimates for each cell."""

    def __init__(self) -> None:
        super().__init__()
        #: A row for each member, and a row for each cell.
        self.measures = self.summary = pd.DataFrame()
        self.cells_view, self.members_view = ArrayView(), ArrayView()
        self.copy_button = QPushButton(
            "Copy", toolTip="Copy the table on screen, to paste it into a spreadsheet"
        )
        self.export_button = QPushButton(
            "Export CSV…", toolTip="Save the estimates of each cell, or every member, as CSV"
        )
        self.tabs = QTabWidget()
        self.tabs.addTab(self.cells_view, "Cells (mean ± sd)")
        self.tabs.addTab(self.members_view, "Members")
        self.run_bar = RunBar("Stop; an existing file stays as it is")
        buttons = row(self.copy_button, self.export_button)
        column(self.tabs, buttons, self.run_bar, parent=self)
        self.copy_button.clicked.connect(self.copy)
        self.export_button.clicked.connect(self._ask_and_export)
        QShortcut(QKeySequence.StandardKey.Copy, self.tabs, self.copy)

    def show_measures(self, measures: pd.DataFrame, cells: pd.DataFrame) -> None:
        self.measures, self.summary = measures, cells
        content = cells_content(cells)
        self.tabs.setTabText(self.tabs.indexOf(self.cells_view), cells_tab(content))
        self.cells_view.show_content(content, ["cell", *HEADLINE, "ambiguity"])
        self.members_view.show_content(members_content(measures), ["cell", "member", *HEADLINE])

    def copy(self) -> None:
        """Copy the table on screen, tab-separated."""
        if self.measures.empty:
            return
        shown = self.summary if self.tabs.currentWidget() is self.cells_view else self._from_one()
        QApplication.clipboard().setText(tab_separated(shown))

    def export(self, path: str | Path, *, members: bool) -> None:
        """Write a CSV with a row for each member, or for each cell."""
        with written_aside(path) as temporary:
            (self._from_one() if members else self.summary).to_csv(temporary, index=False)

    def _from_one(self) -> pd.DataFrame:
        """The measures with members counted from 1, as on screen and in the names of layers."""
        return self.measures.assign(member=self.measures["member"] + 1)

    def _ask_and_export(self) -> None:
        path, chosen = QFileDialog.getSaveFileName(
            self, "Export morphometry", "morphometry.csv", f"{_CELLS_FILTER};;{_MEMBERS_FILTER}"
        )
        if path:
            self.run_bar.start(
                lambda step: self.export(path, members=chosen == _MEMBERS_FILTER),
                lambda result: self.run_bar.status.say(f"Saved as {path}."),
                first="writing",
                kept="",
            )
