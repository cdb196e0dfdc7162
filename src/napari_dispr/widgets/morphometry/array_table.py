"""A table model over arrays, fast with thousands of rows, and its view."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from qtpy.QtCore import (
    QAbstractTableModel,
    QItemSelection,
    QItemSelectionModel,
    QModelIndex,
    QSignalBlocker,
    Qt,
    Signal,
)
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTableView

from napari_dispr.widgets.morphometry.content import TableContent

#: Rows that are measured to find the width of a column, and the margin.
_MEASURED_ROWS = 12
_ROOM = 14
_WIDEST = 180
#: Separate runs of rows that are marked as selected at once; Qt takes minutes for tens of thousands.
_MOST_RUNS = 1000


class ArrayModel(QAbstractTableModel):
    """Shows rows of a `TableContent`, sorted and filtered. A row number counts in the content.

    ``names`` are the columns to show; names that the content lacks are ignored.
    """

    #: The rows or their order have changed.
    rearranged = Signal()

    def __init__(self, content: TableContent, names: Sequence[str]) -> None:
        super().__init__()
        #: The column by which rows are sorted (empty: none), and whether the largest is first.
        self.sorting = "", False
        self._take(content, names)

    def _take(self, content: TableContent, names: Sequence[str]) -> None:
        self.content = content
        #: The columns that are shown.
        self.names = [name for name in names if name in content.columns]
        self._passing = np.ones(len(content), dtype=bool)
        self._arrange()

    def places_of(self, rows: ArrayLike) -> NDArray[np.intp]:
        """Positions on screen of rows of the content, sorted; rows that are filtered out have none."""
        places = self._places[np.asarray(rows, dtype=np.intp)]
        return np.sort(places[places >= 0])

    def show(self, content: TableContent, names: Sequence[str]) -> None:
        """Show other content, sorted as before and not filtered; does not emit `rearranged`."""
        self.beginResetModel()
        self._take(content, names)
        self.endResetModel()

    def choose(self, names: Sequence[str]) -> None:
        """Show other columns."""
        self.beginResetModel()
        self.names = [name for name in names if name in self.content.columns]
        self.endResetModel()

    def set_filter(self, passing: NDArray[np.bool_]) -> None:
        """Show only the rows that pass a filter."""
        if (passing == self._passing).all():
            return
        self.beginResetModel()
        self._passing = passing
        self._arrange()
        self.endResetModel()
        self.rearranged.emit()

    def sort(self, column: int, order: Qt.SortOrder = Qt.SortOrder.AscendingOrder) -> None:
        name = self.names[column] if 0 <= column < len(self.names) else ""
        wanted = (name, order == Qt.SortOrder.DescendingOrder)
        if wanted == self.sorting:
            return
        self.layoutAboutToBeChanged.emit()
        self.sorting, before = wanted, self.rows
        self._arrange()
        old = self.persistentIndexList()
        new = [self.index(int(self._places[before[index.row()]]), index.column()) for index in old]
        self.changePersistentIndexList(old, new)
        self.layoutChanged.emit()
        self.rearranged.emit()

    def _arrange(self) -> None:
        rows, (name, descending) = np.flatnonzero(self._passing), self.sorting
        if name in self.content.columns:
            values = self.content.values(name)[rows]
            # Rows without a number come last in both orders.
            rows = rows[np.argsort(-values if descending else values, kind="stable")]
        #: The content's rows on screen, in their order.
        self.rows = rows
        self._places = np.full(len(self.content), -1, dtype=np.intp)
        self._places[rows] = np.arange(len(rows))

    # --- called by Qt ------------------------------------------------------------------------------

    def rowCount(self, parent: QModelIndex = QModelIndex()) -> int:  # noqa: B008
        return 0 if parent.isValid() else len(self.rows)

    def columnCount(self, parent: QModelIndex = QModelIndex()) -> int:  # noqa: B008
        return 0 if parent.isValid() else len(self.names)

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> object:
        if role == Qt.ItemDataRole.DisplayRole:
            row = int(self.rows[index.row()])
            return self.content.columns[self.names[index.column()]].text(row)
        if role == Qt.ItemDataRole.ToolTipRole:
            return self.content.notes[self.rows[index.row()]] or None
        if role == Qt.ItemDataRole.TextAlignmentRole:
            number = self.content.is_number(self.names[index.column()])
            side = Qt.AlignmentFlag.AlignRight if number else Qt.AlignmentFlag.AlignLeft
            return side | Qt.AlignmentFlag.AlignVCenter
        return None

    def headerData(
        self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole
    ) -> object:
        if orientation == Qt.Orientation.Vertical or not 0 <= section < len(self.names):
            return None
        column = self.content.columns[self.names[section]]
        if role == Qt.ItemDataRole.DisplayRole:
            return column.heading
        if role == Qt.ItemDataRole.ToolTipRole:
            return column.about
        return None


class ArrayView(QTableView):
    """A table that selects whole rows; sorting and filtering keep the selection."""

    #: The user selected rows; gives the content's row at the cursor.
    picked = Signal(int)
    #: The rows or their order have changed.
    rearranged = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.setSortingEnabled(True)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setHorizontalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setWordWrap(False)
        self.verticalHeader().hide()
        self.setMinimumHeight(120)
        header = self.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.Interactive)
        #: The selected rows of the content, also if they are filtered out.
        self.selected: NDArray[np.intp] = np.zeros(0, dtype=np.intp)
        self._choosing = False

    @property
    def table(self) -> ArrayModel | None:
        model = self.model()
        return model if isinstance(model, ArrayModel) else None

    def show_content(self, content: TableContent, names: Sequence[str]) -> None:
        """Show this content, sorted as before; nothing is selected."""
        model = self.table
        if model is None:
            model = ArrayModel(content, names)
            model.setParent(self)
            self.setModel(model)
            model.modelReset.connect(self._restore)
            model.rearranged.connect(self.rearranged)
            self.selectionModel().selectionChanged.connect(self._on_selection)
            # Of its own: with that of the table the header asks each row whether it is selected.
            self.horizontalHeader().setSelectionModel(QItemSelectionModel(model, self.horizontalHeader()))
            self.sortByColumn(0, Qt.SortOrder.AscendingOrder)
        else:
            self.selected = np.zeros(0, dtype=np.intp)
            model.show(content, names)
        self.fit_columns()

    def choose(self, names: Sequence[str]) -> None:
        """Show other columns of the content."""
        if self.table is not None:
            self.table.choose(names)
            self.fit_columns()

    def fit_columns(self) -> None:
        """Fit columns to the text in some of their rows; Qt's own method takes ten times as long."""
        model = self.table
        if model is None:
            return
        metrics, header = self.fontMetrics(), self.horizontalHeader()
        rows = model.rows[:: max(1, len(model.rows) // _MEASURED_ROWS)].tolist()
        with QSignalBlocker(header):
            for section, name in enumerate(model.names):
                text = model.content.columns[name].text
                width = max((metrics.horizontalAdvance(text(row)) for row in rows), default=0) + _ROOM
                self.setColumnWidth(section, min(max(width, header.sectionSizeHint(section)), _WIDEST))
        self.updateGeometries()

    def select(self, rows: ArrayLike) -> None:
        """Select rows of the content, without emitting `picked`. Of very many runs only some are marked."""
        self.selected = np.asarray(rows, dtype=np.intp)
        self._mark(scroll=True)

    def _mark(self, scroll: bool) -> None:
        model, selecting = self.table, self.selectionModel()
        if model is None or selecting is None:
            return
        places = model.places_of(self.selected)
        selection = QItemSelection()
        for first, last in runs(places)[:_MOST_RUNS]:
            selection.select(model.index(first, 0), model.index(last, max(0, model.columnCount() - 1)))
        self._choosing = True
        flags = QItemSelectionModel.SelectionFlag
        selecting.select(selection, flags.ClearAndSelect | flags.Rows)
        if len(places):
            first_place = model.index(int(places[0]), 0)
            selecting.setCurrentIndex(first_place, flags.NoUpdate)
            if scroll:
                across = self.horizontalScrollBar().value()
                self.scrollTo(first_place)
                self.horizontalScrollBar().setValue(across)
        self._choosing = False

    def _restore(self) -> None:
        """Restore selection and sorting, which Qt forgets at a reset."""
        model = self.table
        assert model is not None
        name, descending = model.sorting
        order = Qt.SortOrder.DescendingOrder if descending else Qt.SortOrder.AscendingOrder
        header = self.horizontalHeader()
        with QSignalBlocker(header):
            header.setSortIndicator(model.names.index(name) if name in model.names else -1, order)
        self._mark(scroll=False)

    def _on_selection(self) -> None:
        model = self.table
        if self._choosing or model is None:
            return
        chosen = np.zeros(len(model.rows), dtype=bool)
        for part in self.selectionModel().selection():  # of whole rows
            chosen[part.top() : part.bottom() + 1] = True
        self.selected = model.rows[chosen]
        current = self.currentIndex().row()
        if len(self.selected):
            picked = 0 <= current < len(chosen) and chosen[current]
            self.picked.emit(int(model.rows[current] if picked else self.selected[0]))


def runs(places: ArrayLike) -> list[tuple[int, int]]:
    """First and last of each run of consecutive numbers, which are sorted."""
    array = np.asarray(places, dtype=np.intp)
    if not len(array):
        return []
    breaks = np.flatnonzero(np.diff(array) != 1) + 1
    return [(int(part[0]), int(part[-1])) for part in np.split(array, breaks)]
