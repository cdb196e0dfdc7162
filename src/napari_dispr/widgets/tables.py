"""The morphometry table: a row a cell (estimates) or a row a member, to read, copy and export.

It shows the first measures of the table (`HEADLINE`); what is copied and exported has all.
"""

from pathlib import Path

import pandas as pd
from qtpy.QtCore import QAbstractTableModel, QModelIndex, QSortFilterProxyModel, Qt
from qtpy.QtGui import QKeySequence
from qtpy.QtWidgets import (
    QAbstractItemView,
    QApplication,
    QFileDialog,
    QHBoxLayout,
    QHeaderView,
    QPushButton,
    QShortcut,
    QTableView,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)

from napari_dispr.files import written_aside
from napari_dispr.shapes.intervals import LEVEL
from napari_dispr.shapes.morphometry import HEADLINE

#: How units of length are written in a heading.
_SYMBOLS = {"micrometer": "µm", "nanometer": "nm", "millimeter": "mm", "centimeter": "cm", "meter": "m"}
_POWERS = {"^3": "³", "^2": "²", "^-1": "⁻¹"}

_CELLS_FILTER = "Estimates of each cell (*.csv)"
_MEMBERS_FILTER = "Every member (*.csv)"

#: What the tooltips of estimates say of the two numbers after the mean.
_ABOUT_SD = "Mean over the shapes ± their standard deviation."
_ABOUT_INTERVAL = (
    f"Mean over the shapes, and the {LEVEL:.0%} interval: of cells like those that the model was made for, "
    f"about {round(10 * LEVEL)} in 10 have their true value in it. It comes from cells of known shape and "
    "does not hold for a cell with a warning."
)
_ABOUT_AMBIGUITY = (
    "How much the picture leaves open: the share by which two shapes of the cell differ (1 - IoU, mean over "
    "all pairs). 0: all shapes are the same. In brackets the number of quite different groups of shapes, if "
    "there are several."
)


class FrameModel(QAbstractTableModel):
    """A read-only pandas table for a Qt view.

    Parameters
    ----------
    texts : DataFrame
        What stands in the cells.
    values : DataFrame
        What they are sorted by; same shape.
    tooltips : list of str
        One a column.
    notes : list of str, optional
        One a row: tooltip of the row, where it is not empty.
    """

    def __init__(
        self, texts: pd.DataFrame, values: pd.DataFrame, tooltips: list[str], notes: list[str] | None = None
    ) -> None:
        super().__init__()
        self._texts, self._values, self._tooltips = texts, values, tooltips
        self._notes = notes or [""] * len(texts)

    def rowCount(self, parent: QModelIndex = QModelIndex()) -> int:  # noqa: B008
        return 0 if parent.isValid() else self._texts.shape[0]

    def columnCount(self, parent: QModelIndex = QModelIndex()) -> int:  # noqa: B008
        return 0 if parent.isValid() else self._texts.shape[1]

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> object:
        if role == Qt.ItemDataRole.DisplayRole:
            return str(self._texts.iat[index.row(), index.column()])
        if role == Qt.ItemDataRole.ToolTipRole:
            return self._notes[index.row()] or None
        if role == Qt.ItemDataRole.UserRole:
            return float(self._values.iat[index.row(), index.column()])  # type: ignore[arg-type]
        if role == Qt.ItemDataRole.TextAlignmentRole:
            return Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
        return None

    def headerData(
        self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole
    ) -> object:
        if orientation == Qt.Orientation.Vertical:
            return None
        if role == Qt.ItemDataRole.DisplayRole:
            return str(self._texts.columns[section])
        if role == Qt.ItemDataRole.ToolTipRole:
            return self._tooltips[section]
        return None


class MorphometryTable(QWidget):
    """Measures of all members, and what they say together of each cell."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._measures = self._cells = pd.DataFrame()
        self.cells_view, self.members_view = _view(), _view()
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
        headings, tooltips = _headings(measures)
        self._show_cells(headings, dict(zip(HEADLINE, tooltips, strict=True)))
        numbers = measures[["label", "member", *HEADLINE]].assign(member=measures["member"] + 1)
        texts = pd.DataFrame({"cell": numbers["label"].astype(str), "member": numbers["member"].astype(str)})
        for name in HEADLINE:
            texts[headings[name]] = [f"{value:.4g}" for value in numbers[name]]
        _fill(
            self.members_view, FrameModel(texts, numbers, ["Label of the cell", "Shape, from 1", *tooltips])
        )

    def _show_cells(self, headings: dict[str, str], meanings: dict[str, str]) -> None:
        cells = self._cells
        calibrated = [name for name in HEADLINE if f"{name}_low" in cells]
        kind = f"mean, {LEVEL:.0%} interval" if calibrated else "mean ± sd"
        self.tabs.setTabText(self.tabs.indexOf(self.cells_view), f"Cells ({kind})")
        values = pd.DataFrame({"cell": cells["label"], **{n: cells[f"{n}_mean"] for n in HEADLINE}})
        values["ambiguity"] = cells["ambiguity"]
        # A cell that the model may get wrong is marked; the tooltip of its row says why.
        marks = cells["warning"].map(lambda warning: "⚠ " if warning else "")
        texts = pd.DataFrame({"cell": marks + cells["label"].astype(str)})
        for name in HEADLINE:
            ends = [cells[f"{name}_{end}"] for end in ("low", "high")] if name in calibrated else []
            rows = zip(cells[f"{name}_mean"], cells[f"{name}_sd"], *ends, strict=True)
            texts[headings[name]] = [estimate(*row) for row in rows]
        pairs = zip(cells["ambiguity"], cells["modes"], strict=True)
        texts["ambiguity"] = ["" if a != a else f"{a:.2f}{f' ({n})' if n > 1 else ''}" for a, n in pairs]
        about = {n: _ABOUT_INTERVAL if n in calibrated else _ABOUT_SD for n in HEADLINE}
        tooltips = [
            "Label of the cell; ⚠: it is unlike the cells that the model was trained on",
            *(f"<p>{meanings[n]}</p><p>{about[n]}</p>" for n in HEADLINE),
            f"<p>{_ABOUT_AMBIGUITY}</p>",
        ]
        notes = [f"Unlike the training data: {warning}" if warning else "" for warning in cells["warning"]]
        _fill(self.cells_view, FrameModel(texts, values, tooltips, notes))

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


def estimate(mean: float, sd: float, low: float = float("nan"), high: float = float("nan")) -> str:
    """Such as ``92.1 [84.0, 103.5]`` with an interval, `mean_and_sd` without; ends as exact as the mean."""
    if not high >= low:
        return mean_and_sd(mean, sd)
    width = max(high - low, 1e-12 * abs(mean), 1e-300)
    places = max(0, 1 - int(f"{width:.1e}".split("e")[1]))
    return f"{mean:.{places}f} [{low:.{places}f}, {high:.{places}f}]"


def mean_and_sd(mean: float, sd: float) -> str:
    """Such as ``92.1 ± 4.3``: the sd with two digits, the mean with as many places; one member has no sd."""
    if not sd > 0:
        return f"{mean:.4g}"
    places = max(0, 1 - int(f"{sd:.1e}".split("e")[1]))
    return f"{mean:.{places}f} ± {sd:.{places}f}"


def _headings(measures: pd.DataFrame) -> tuple[dict[str, str], list[str]]:
    """Heading of each measure, such as ``volume (µm³)`` on two lines, and its meaning."""
    headings, tooltips = {}, []
    for name in HEADLINE:
        unit, _, meaning = measures.attrs["columns"][name].partition(": ")
        for long, short in (_SYMBOLS | _POWERS).items():
            unit = unit.replace(long, short)
        words = name.replace("_", " " if len(name) < 14 else "\n")
        headings[name] = words if unit == "no unit" else f"{words}\n({unit})"
        tooltips.append(meaning)
    return headings, tooltips


def _view() -> QTableView:
    view = QTableView()
    view.setSortingEnabled(True)
    view.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
    view.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
    view.verticalHeader().hide()
    view.setMinimumHeight(120)
    return view


def _fill(view: QTableView, model: FrameModel) -> None:
    header = view.horizontalHeader()
    column, order = header.sortIndicatorSection(), header.sortIndicatorOrder()
    proxy = QSortFilterProxyModel(view)
    proxy.setSourceModel(model)
    model.setParent(proxy)
    proxy.setSortRole(Qt.ItemDataRole.UserRole)
    old = view.model()
    view.setModel(proxy)
    if old is not None:
        old.deleteLater()
    view.sortByColumn(column if 0 <= column < model.columnCount() else 0, order)
    if old is None:
        view.sortByColumn(0, Qt.SortOrder.AscendingOrder)
        view.resizeColumnsToContents()
    header.setSectionResizeMode(QHeaderView.ResizeMode.Interactive)
