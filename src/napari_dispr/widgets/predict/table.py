"""The morphometry table: a row a cell (estimates) or a row a member, to read, copy and export.

It shows the first measures of the table (`HEADLINE`); what is copied and exported has all.
"""

from pathlib import Path

import pandas as pd
from qtpy.QtGui import QKeySequence
from qtpy.QtWidgets import (
    QApplication,
    QFileDialog,
    QHBoxLayout,
    QPushButton,
    QShortcut,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)

from napari_dispr.files import written_aside
from napari_dispr.shapes.intervals import LEVEL
from napari_dispr.shapes.measures import HEADLINE
from napari_dispr.widgets.morphometry.array_table import ArrayView
from napari_dispr.widgets.morphometry.content import TableContent, cells_content, members_content

_CELLS_FILTER = "Estimates of each cell (*.csv)"
_MEMBERS_FILTER = "Every member (*.csv)"


def cells_tab(content: TableContent) -> str:
    """What the tab of a table of cells is called: what its numbers are."""
    calibrated = any(f"{name}_low" in content.frame for name in HEADLINE)
    return f"Cells ({f'mean, {LEVEL:.0%} interval' if calibrated else 'mean ± sd'})"


class MorphometryTable(QWidget):
    """Measures of all members, and what they say together of each cell."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._measures = self._cells = pd.DataFrame()
        self.cells_view, self.members_view = ArrayView(), ArrayView()
        self.copy_button = QPushButton("Copy")
        self.copy_button.setToolTip("Copy the table that is shown, to paste into a spreadsheet")
        self.export_button = QPushButton("Export CSV…")
        self.export_button.setToolTip("Save the estimates of each cell, or every member, as CSV")
        self.tabs = QTabWidget()
        self.tabs.addTab(self.cells_view, "Cells (mean ± sd)")
        self.tabs.addTab(self.members_view, "Members")
        buttons = QHBoxLayout()
        buttons.addWidget(self.copy_button)
        buttons.addWidget(self.export_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.tabs)
        layout.addLayout(buttons)
        self.copy_button.clicked.connect(self.copy)
        self.export_button.clicked.connect(self._ask_and_export)
        QShortcut(QKeySequence.StandardKey.Copy, self.tabs, self.copy)

    @property
    def measures(self) -> pd.DataFrame:
        """The table as numbers, a row a cell and member."""
        return self._measures

    @property
    def summary(self) -> pd.DataFrame:
        """Estimates of each cell, as numbers."""
        return self._cells

    def show_measures(self, measures: pd.DataFrame, cells: pd.DataFrame) -> None:
        """Show the tables of `measure` and `measure_cells`."""
        self._measures, self._cells = measures, cells
        content = cells_content(cells)
        self.tabs.setTabText(self.tabs.indexOf(self.cells_view), cells_tab(content))
        self.cells_view.show_content(content, ["cell", *HEADLINE, "ambiguity"])
        self.members_view.show_content(members_content(measures), ["cell", "member", *HEADLINE])

    def copy(self) -> None:
        """Put the table that is shown on the clipboard, columns parted by tabs."""
        if self._measures.empty:
            return
        shown = self.summary if self.tabs.currentWidget() is self.cells_view else self._counted()
        QApplication.clipboard().setText(shown.to_csv(sep="\t", index=False))

    def export(self, path: str | Path, *, members: bool) -> None:
        """Write a CSV: a row a cell and member, or a row a cell."""
        with written_aside(path) as temporary:
            (self._counted() if members else self.summary).to_csv(temporary, index=False)

    def _counted(self) -> pd.DataFrame:
        """The measures with members counted from 1, as they are shown and as the layers are named."""
        return self._measures.assign(member=self._measures["member"] + 1)

    def _ask_and_export(self) -> None:
        path, chosen = QFileDialog.getSaveFileName(
            self, "Export morphometry", "morphometry.csv", f"{_CELLS_FILTER};;{_MEMBERS_FILTER}"
        )
        if path:
            self.export(path, members=chosen == _MEMBERS_FILTER)
