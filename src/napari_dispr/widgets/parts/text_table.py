"""A small table of text that shows all its columns, and its rows without a scroll bar."""

from collections.abc import Mapping, Sequence

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QHeaderView, QTableWidget, QTableWidgetItem

#: The most rows that show without scrolling.
_MOST_ROWS = 8


class TextTable(QTableWidget):
    """A table to read; hidden while it has no rows. ``columns`` are the headings, each with its tooltip."""

    def __init__(self, columns: Mapping[str, str]) -> None:
        super().__init__(0, len(columns))
        self.setEditTriggers(QTableWidget.EditTrigger.NoEditTriggers)
        self.verticalHeader().hide()
        self.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.Stretch)
        for place, (heading, tip) in enumerate(columns.items()):
            item = QTableWidgetItem(heading)
            item.setToolTip(tip)
            self.setHorizontalHeaderItem(place, item)
        self.hide()

    def show_rows(self, rows: Sequence[Sequence[str]]) -> None:
        """Show these rows; all columns but the first hold numbers."""
        self.setRowCount(len(rows))
        for y, row in enumerate(rows):
            for x, text in enumerate(row):
                item = QTableWidgetItem(text)
                if x:
                    item.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
                self.setItem(y, x, item)
        height = self.rowHeight(0) * min(len(rows), _MOST_ROWS) + 4
        self.setFixedHeight(self.horizontalHeader().sizeHint().height() + height)
        self.setVisible(bool(rows))
