"""The window "Morphometry": layout and signals."""

from typing import Any

import numpy as np
import pandas as pd
from napari.viewer import Viewer
from qtpy.QtCore import Qt, QTimer
from qtpy.QtGui import QKeySequence, QResizeEvent
from qtpy.QtWidgets import (
    QLabel,
    QLineEdit,
    QShortcut,
    QSizePolicy,
    QSplitter,
    QStackedWidget,
    QTabWidget,
    QWidget,
)

from napari_dispr.errors import InputError, counted
from napari_dispr.viewer.link import PictureLink, with_layers
from napari_dispr.viewer.opened import OpenPrediction, Shape, unwrapped
from napari_dispr.viewer.session import Session
from napari_dispr.widgets.morphometry.array_table import ArrayView
from napari_dispr.widgets.morphometry.batch import BatchPart
from napari_dispr.widgets.morphometry.batch_content import BatchContent
from napari_dispr.widgets.morphometry.column_choice import ColumnChoice
from napari_dispr.widgets.morphometry.columns import NO_MEMBER
from napari_dispr.widgets.morphometry.content import TableContent, cells_content, members_content
from napari_dispr.widgets.morphometry.copying import CopyButton
from napari_dispr.widgets.morphometry.exports import ExportBar
from napari_dispr.widgets.morphometry.plots import PlotPanel
from napari_dispr.widgets.morphometry.rank_choice import RankChoice
from napari_dispr.widgets.morphometry.row_filter import ABOUT_FILTER, FILTER_EXAMPLE, passing
from napari_dispr.widgets.morphometry.source import SourcePanel
from napari_dispr.widgets.parts.cell_colours import CellColours, colours_of
from napari_dispr.widgets.parts.docked import DockedWidget, Message
from napari_dispr.widgets.parts.layouts import column, row
from napari_dispr.widgets.predict.table import cells_tab

_EMPTY = (
    "<p><b>Nothing to show yet.</b></p>"
    "<p>Predict cells in <i>Plugins &gt; napari DISPR &gt; Predict 3D shapes</i>,</p>"
    "<p>or drop the folder of a saved prediction, or of a batch, on the window,</p>"
    "<p>or choose your own 3D labels layer above and press <i>Measure</i>.</p>"
)
#: The filter waits for this pause in typing, milliseconds.
_PAUSE = 120
#: If the width is more than this many times the height, plots are to the right of the tables.
_SIDE_BY_SIDE = 1.15


class MorphometryWidget(DockedWidget):
    """Measures of predicted cells and of real ones: tables, plots, export."""

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__(napari_viewer)
        self._session = Session.of(napari_viewer)
        self._origin: object = None  # the part in which the user selected a cell
        self._filtered = True  # both tables are filtered, and can be plotted
        self._alone: int | None = None  # a selected cell of the labels layer without a prediction
        self._circled: frozenset[int] = frozenset()  # cells that were selected in the plot; empty: all
        self._ranked = ""  # the ranking in words, or why there is none
        self._cells, self._members = cells_content(None), members_content(None)
        # Predicting sends many changes: show the last one.
        self._coming = QTimer(self, singleShot=True, interval=0)
        self._coming.timeout.connect(self.refresh)
        self._filtering = QTimer(self, singleShot=True, interval=_PAUSE)
        self._filtering.timeout.connect(self._filter)
        self._build()
        self.link = PictureLink(napari_viewer, self._on_picture)
        self.colours = CellColours.of(napari_viewer)
        self._connect()
        self._follow_theme(self.plots.set_colours)
        self._on_layer()

    # --- layout ------------------------------------------------------------------------------------

    def _build(self) -> None:
        self.source = SourcePanel(self._viewer)
        self.batch = BatchPart(self._viewer)
        self.filter_line = QLineEdit(clearButtonEnabled=True, toolTip=ABOUT_FILTER)
        self.filter_line.setPlaceholderText(FILTER_EXAMPLE)
        #: What is wrong with the filter, or how many rows pass it.
        self.hint = Message(lines=1)
        self.rank = RankChoice()
        self.columns = ColumnChoice()
        self.copying = CopyButton(lambda: self._on_screen)
        self.exports = ExportBar(self._opened, self._exported, lambda: self.selected)
        tools = row(self.rank, self.columns, self.copying, self.exports.button)
        self.cells_view, self.members_view = ArrayView(), ArrayView()
        self.tabs = QTabWidget()
        self.tabs.addTab(self.cells_view, "Cells")
        self.tabs.addTab(self.members_view, "Members")
        self.plots = PlotPanel()
        self.splitter = QSplitter(Qt.Orientation.Vertical)
        self.splitter.setChildrenCollapsible(False)
        self.splitter.addWidget(self.tabs)
        self.splitter.addWidget(self.plots)
        self.splitter.setSizes([1, 1])  # halves
        self.empty = QLabel(_EMPTY, wordWrap=True, alignment=Qt.AlignmentFlag.AlignCenter)
        content = QWidget()
        above = (tools, self.rank.run_bar, self.filter_line, self.hint)
        column(*above, (self.splitter, 1), self.exports, parent=content, low=True)
        self.stack = QStackedWidget()
        self.stack.addWidget(self.empty)
        self.stack.addWidget(content)
        self._lay_out(self.source, self.batch, (self.stack, 1))
        # Otherwise napari's dock adds empty space below.
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)

    def _connect(self) -> None:
        self._listen(self._session.events.predictions, lambda event: self._coming.start())
        self._listen(self._session.events.selected, self._on_selected)
        self.source.changed.connect(self._on_layer)
        self.source.batch_button.clicked.connect(self.batch.ask)
        self.batch.changed.connect(self._on_batch)
        self.batch.field_opened.connect(self._on_field)
        self.batch.view.picked.connect(self.batch.open_field)
        self.copying.message.connect(self.hint.say)
        self.filter_line.textChanged.connect(lambda: self._filtering.start())
        self.rank.changed.connect(self._on_rank)
        self.columns.changed.connect(self._on_columns)
        self.tabs.currentChanged.connect(self._on_tab)
        for view in self._views:
            view.picked.connect(self._on_row)
        for view in (*self._views, self.batch.view):
            view.rearranged.connect(self._plot_rows)
        self.plots.picked.connect(self._on_point)
        self.plots.circled.connect(self._on_lasso)
        self.plots.coloured.connect(self._colour_cells)
        self.plots.save_button.clicked.connect(self._ask_and_save_plot)
        QShortcut(QKeySequence.StandardKey.Copy, self.tabs, self.copying.copy_selected)

    # --- what is there -----------------------------------------------------------------------------

    @property
    def contents(self) -> tuple[TableContent, TableContent]:
        """The tables of cells and of members."""
        return self._cells, self._members

    @property
    def _on_screen(self) -> ArrayView:
        view = self.tabs.currentWidget()
        assert isinstance(view, ArrayView)
        return view

    @property
    def _batch(self) -> BatchContent | None:
        """The content of the batch, if its table is on screen."""
        return self.batch.content if self._on_screen is self.batch.view else None

    @property
    def selected(self) -> int | None:
        return self._session.selection.cell if self._alone is None else self._alone

    def _on_batch(self) -> None:
        """Another batch is open, or none."""
        if self.batch.content is not None:
            self.batch.view.show_content(self.batch.content, self._names(self.batch.content))
        self.batch.show_tab(self.tabs)
        self.refresh()
        self._on_tab()

    def _on_field(self, row: int) -> None:
        """The field of a row of the batch was opened: select the cell of the row."""
        content = self.batch.content
        if content is not None and self.batch.is_open(row):
            self._pick(cell := int(content.labels[row]), None, self.batch.view)
            self.link.zoom_to(cell)

    def _on_tab(self) -> None:
        """Another table is on screen."""
        self._show_plots()
        self._filter()
        self._on_selected()

    def _on_layer(self) -> None:
        """Another labels layer was chosen, or it was measured."""
        measured = self.source.measured
        self.link.measured(self.source.layer if measured else None, measured.centres if measured else {})
        self._coming.start()

    def refresh(self) -> None:
        """Show the current prediction and the measured layer."""
        self._coming.stop()
        opened, measured = self._session.current, self.source.measured
        self.source.list_predictions()
        if opened is None:
            self._cells = cells_content(None, "", measured)
            self._members = members_content(None, "", measured)
        else:
            self._cells = cells_content(opened.cells, opened.name, measured, self._ranking(opened))
            self._members = members_content(
                opened.measures, opened.name, measured, dict(opened.prediction.kept)
            )
        self.tabs.setTabText(self.tabs.indexOf(self.cells_view), cells_tab(self._cells))
        self.columns.offer(self._cells if self._cells.measures else self.batch.content or self._cells)
        for view, content in zip(self._views, self.contents, strict=True):
            view.show_content(content, self._names(content))
        self.stack.setCurrentIndex(int(len(self._cells) > 0 or self.batch.content is not None))
        self.exports.refresh()
        if self._batch is None:
            self._show_plots()
            self._filter()
        else:  # the table on screen is the same
            self._colour_cells()
        self._on_selected()

    def _show_plots(self) -> None:
        """Plot the table on screen."""
        opened, batch = self._session.current, self._batch
        kept = {} if opened is None else opened.prediction.kept
        members = {cell: one for cell, one in kept.items() if isinstance(one, int)}
        self.plots.show_content(*(self.contents if batch is None else (batch, batch)), members)

    @property
    def _views(self) -> tuple[ArrayView, ArrayView]:
        return self.cells_view, self.members_view

    def _names(self, content: TableContent) -> list[str]:
        """The columns that are shown."""
        chosen = self.columns.chosen
        return [name for name, column in content.columns.items() if not column.group or name in chosen]

    def _on_columns(self) -> None:
        for view in (*self._views, self.batch.view):
            if view.table is not None:
                view.choose(self._names(view.table.content))

    def _ranking(self, opened: OpenPrediction) -> pd.DataFrame | None:
        """The ranking of the cells by the chosen measure; None if there is none."""
        self._ranked = ""
        try:
            ranking = self.rank.ranking(opened.prediction, opened.measures)
        except InputError as error:
            self._ranked = str(error)
            return None
        if ranking is not None:
            self._ranked = self.rank.summary(ranking)
        return ranking

    def _on_rank(self) -> None:
        """Sort the cells by rank, or by label if they are not ranked."""
        self.tabs.setCurrentWidget(self.cells_view)
        self.refresh()
        names = self._names(self._cells)
        first = "rank" if "rank" in names else "cell"
        self.cells_view.sortByColumn(names.index(first), Qt.SortOrder.AscendingOrder)
        self.hint.say(self._ranked, problem=bool(self._ranked) and first == "cell")

    def _opened(self) -> OpenPrediction | None:
        """The current prediction with its picture, to export."""
        opened = self._session.current
        return None if opened is None else with_layers(opened, unwrapped(self._viewer))

    def _exported(self) -> tuple[Any, Any]:
        return self._cells.exported, self._members.exported

    # --- filter ------------------------------------------------------------------------------------

    def _filter(self) -> None:
        """Show the rows that pass the filter, and say how many."""
        self._filtering.stop()
        shown, other = self._cells, self._members
        if (batch := self._batch) is not None:
            shown = other = batch
        elif self._on_screen is self.members_view:
            shown, other = other, shown
        try:
            rows, others = passing(self.filter_line.text(), shown, other)
        except InputError as error:
            self.hint.say(str(error), problem=True)
            return
        if batch is not None:
            passed = [(self.batch.view, rows)]
        else:
            both = (rows, others) if shown is self._cells else (others, rows)
            passed = list(zip(self._views, both, strict=True))
        self._filtered = False
        for view, which in passed:
            if view.table is not None:
                view.table.set_filter(which)
        self._filtered = True
        many = f"{np.count_nonzero(rows)} of {len(rows)} rows pass the filter."
        self.hint.say(many if self.filter_line.text().strip() else "")
        self._circled = frozenset()
        self._plot_rows()
        self._colour_cells()

    def _colour_cells(self) -> None:
        """Dim cells that the filter or a line in the plot excludes; colour the others by the measure."""
        cells, table = self._cells, self.cells_view.table
        seen = set() if table is None else set(cells.cells[table.rows].tolist())
        seen = seen & self._circled if self._circled else seen
        name = self.plots.measure.currentData()
        colours = {}
        if self.plots.colour_cells.isChecked() and name in cells.columns:
            rows = np.flatnonzero(np.isin(cells.cells, list(seen)))
            colours = colours_of(cells.cells[rows], cells.values(name)[rows])
        self.colours.show(colours, set(cells.cells.tolist()) - seen)

    def _on_lasso(self, cells: set[int]) -> None:
        """Select the rows of the cells in a line drawn in the plot; a line around none ends the selection."""
        if self._batch is not None:
            self.batch.view.select(sorted(cells))
        else:
            self._circled = frozenset(cells)
            for view, content in zip(self._views, self.contents, strict=True):
                view.select(np.flatnonzero(np.isin(content.cells, list(cells))))
        self.hint.say(
            f"{counted(len(cells), 'cell')} inside the line: Ctrl+C copies their rows." if cells else ""
        )
        self._colour_cells()

    def _plot_rows(self) -> None:
        if self._batch is not None and (table := self.batch.view.table) is not None:
            self.plots.show_rows(table.rows, table.rows)
            return
        cells, members = self.cells_view.table, self.members_view.table
        if cells is not None and members is not None and self._filtered:
            self.plots.show_rows(cells.rows, members.rows)

    # --- selection ---------------------------------------------------------------------------------

    def _on_row(self, row: int) -> None:
        on_members = self.sender() is self.members_view
        content = self._members if on_members else self._cells
        member = int(content.members[row])
        self._pick(int(content.cells[row]), member if member >= 0 else None, self.sender())

    def _on_point(self, cell: int, member: int) -> None:
        if self._batch is not None:
            self.batch.view.select([cell])
            self.batch.open_field(cell)
            return
        self._pick(cell, None if member == NO_MEMBER else member, self.plots)

    def _on_picture(self, cell: int, shape: Shape) -> None:
        self._pick(cell, shape, self.link)

    def _pick(self, cell: int, shape: Shape, origin: object) -> None:
        """Select a cell that the user chose in ``origin``."""
        opened = self._session.current
        self._origin = origin
        if self._circled:
            self._circled = frozenset()
            self._colour_cells()
        if opened is not None and cell in opened.prediction:
            self._alone = None
            before = self._session.selection
            self._session.select(cell, shape)
            if self._session.selection == before:
                self._on_selected()
        else:  # only in the labels layer
            self._alone = cell
            self._on_selected()
        self._origin = None

    def _on_selected(self, event: object = None) -> None:
        """Show the selection here and in the picture."""
        if event is not None and self._origin is None:
            self._alone = None
        cell, shape = self.selected, self._session.selection.shape
        member = shape if isinstance(shape, int) and self._alone is None else None
        for view, content in zip(self._views, self.contents, strict=True):
            if view is not self._origin and view.table is not None:
                of_member = member if view is self.members_view else None
                view.select(np.flatnonzero(content.rows_of(cell, of_member)))
        row = self.batch.row_of(cell) if self._alone is None else None
        if row is not None and self._origin is not self.batch.view:
            self.batch.view.select([row])
        self.plots.highlight(*((cell, member) if self._batch is None else (row, None)))
        self.colours.select_alone(self.source.layer if self.source.measured else None, self._alone)
        self.link.show(cell)
        if cell is not None and event is not None and self._origin is not self.link:
            self.link.bring_into_view(cell)

    # --- files and looks ---------------------------------------------------------------------------

    def _ask_and_save_plot(self) -> None:
        kinds = "Picture (*.png)", "Drawing (*.svg)"
        path = self.exports.ask_file("Save the plot", "morphometry plot.png", *kinds)
        if path:
            try:
                self.plots.save(path)
            except OSError as error:
                self.hint.say(f"{path}: {error.strerror}. Choose another folder.", problem=True)
            else:
                self.hint.say(f"Plot saved as {path}.")

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        """Put the plots below the tables in a narrow dock, and right of them in a wide one."""
        super().resizeEvent(event)
        wide = self.width() > _SIDE_BY_SIDE * self.height()
        self.splitter.setOrientation(Qt.Orientation.Horizontal if wide else Qt.Orientation.Vertical)

    def _clean_up(self) -> None:
        """Disconnect from the viewer."""
        self.link.stop()
        self.colours.release()
