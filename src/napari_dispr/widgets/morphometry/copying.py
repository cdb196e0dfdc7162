"""The button "Copy": rows of a table for a spreadsheet."""

from collections.abc import Callable
from typing import Any

import pandas as pd
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QApplication, QMenu, QPushButton

from napari_dispr.widgets.morphometry.array_table import ArrayView
from napari_dispr.widgets.parts.threads import LatestAnswer

#: More values than this are written in a thread.
_AT_ONCE = 20_000


class CopyButton(QPushButton):
    """Copies rows of the table on screen, which ``view`` gives, tab-separated."""

    #: Rows were copied: how many, in a sentence.
    message = Signal(str)

    def __init__(self, view: Callable[[], ArrayView]) -> None:
        super().__init__("Copy", toolTip="Copy the rows on screen, to paste them into a spreadsheet")
        self._view = view
        menu = QMenu(self)
        menu.addAction("Shown columns", lambda: self.copy())
        menu.addAction("All columns", lambda: self.copy(whole=True))
        self.setMenu(menu)
        self._writing = LatestAnswer(_text_of, self._on_text, self, pause=None)

    def copy(self, *, whole: bool = False) -> None:
        """Copy all rows that are shown; ``whole``: with all columns."""
        if (table := self._view().table) is not None:
            self._copy(table.rows, whole)

    def copy_selected(self) -> None:
        view = self._view()
        if view.table is not None:
            self._copy(view.table.rows[view.table.places_of(view.selected)], whole=False)

    def _copy(self, rows: Any, whole: bool) -> None:
        table = self._view().table
        assert table is not None
        content = table.content
        parts = dict.fromkeys(part for name in table.names for part in content.columns[name].parts)
        chosen = content.frame if whole else content.frame[list(parts)]
        if len(rows) * chosen.shape[1] <= _AT_ONCE:
            self._on_text(_text_of(chosen, rows))
        else:
            self.message.emit(f"Copying {len(rows)} rows…")
            self._writing.ask(chosen, rows)

    def _on_text(self, found: tuple[str, int]) -> None:
        text, count = found
        QApplication.clipboard().setText(text)
        self.message.emit(f"{count} rows copied: paste them into a spreadsheet.")


def _text_of(table: pd.DataFrame, rows: Any) -> tuple[str, int]:
    return tab_separated(table.iloc[rows]), len(rows)


def tab_separated(table: pd.DataFrame) -> str:
    """A table for the clipboard, numbers in full."""
    return str(table.to_csv(sep="\t", index=False, lineterminator="\n"))
