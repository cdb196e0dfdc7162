"""A batch in Morphometry: opens its folder, shows the table of all fields, and opens the field of a row."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from napari.layers import Layer
from napari.viewer import Viewer
from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import QFileDialog, QTabBar, QTabWidget, QToolButton, QWidget

from napari_dispr.errors import counted
from napari_dispr.prediction.result import Prediction
from napari_dispr.viewer.content import LayerData
from napari_dispr.viewer.layers import handle_of, hide, remove_layers
from napari_dispr.viewer.opened import unwrapped
from napari_dispr.viewer.opening import add_layers
from napari_dispr.viewer.saved import open_saved
from napari_dispr.viewer.session import Session
from napari_dispr.widgets.morphometry.array_table import ArrayView
from napari_dispr.widgets.morphometry.batch_content import BatchContent
from napari_dispr.widgets.parts.layouts import column
from napari_dispr.widgets.parts.remembered import recall, remember
from napari_dispr.widgets.parts.run_bar import RunBar

#: Key of the folder of the last batch in the remembered texts.
_FOLDER_KEY = "batch/folder"
#: A job starts when no other was asked for in this time, milliseconds: of a field, when no other row was.
_PAUSE = 150


class BatchPart(QWidget):
    """Reads a batch, and opens its fields one at a time: a field takes the place of the one before."""

    #: Another batch is shown, or none.
    changed = Signal()
    #: The field of this row was opened.
    field_opened = Signal(int)

    def __init__(self, viewer: Viewer) -> None:
        super().__init__()
        self._viewer: Any = viewer
        self._session = Session.of(viewer)
        #: The table of the batch; None if none is open.
        self.content: BatchContent | None = None
        self.view = ArrayView()
        self.run_bar = RunBar("Stop opening; what is in the window stays")
        column(self.run_bar, parent=self)
        self._next: Callable[[], None] | None = None  # starts the next job
        self._shown: Prediction | None = None  # as it was read; another state of it was changed by the user
        self._layers: list[Layer] = []
        self._coming = QTimer(self, singleShot=True, interval=_PAUSE)
        self._coming.timeout.connect(self._start_next)
        self.run_bar.changed.connect(self._on_run)
        self._on_run()

    # --- the batch ---------------------------------------------------------------------------------

    def ask(self) -> None:
        """Let the user choose the folder of a batch."""
        folder = QFileDialog.getExistingDirectory(
            self, "Open a batch: the folder that napari-dispr batch wrote", recall(_FOLDER_KEY)
        )
        if folder:
            remember({_FOLDER_KEY: str(Path(folder).parent)})
            self.open(Path(folder))

    def open(self, folder: Path) -> None:
        """Read the table of a batch in a thread, and show it."""
        work = partial(BatchContent.read, folder)
        self._do_next(partial(self.run_bar.restart, work, self._on_read, first="reading the table"))

    def close_batch(self) -> None:
        """Show no batch any more; the layers of its last field stay."""
        self._do_next(None)
        self.content, self._layers, self._shown = None, [], None
        self.changed.emit()

    def _on_read(self, content: BatchContent) -> None:
        self.content = content
        self.changed.emit()

    def show_tab(self, tabs: QTabWidget) -> None:
        """Make the table the first of the tabs, and bring it to the front; without a batch remove it."""
        tabs.removeTab(tabs.indexOf(self.view))
        if self.content is None:
            return
        place = tabs.insertTab(0, self.view, f"All fields ({counted(len(self.content), 'cell')})")
        tabs.setTabToolTip(place, str(self.content.folder))
        close = QToolButton(text="✕", autoRaise=True, toolTip="Close the batch; its last field stays open")
        close.clicked.connect(self.close_batch)
        tabs.tabBar().setTabButton(place, QTabBar.ButtonPosition.RightSide, close)
        tabs.setCurrentIndex(place)

    # --- a field -----------------------------------------------------------------------------------

    @property
    def _current_folder(self) -> Path:
        """Folder of the current prediction of the window."""
        opened = self._session.current
        return Path("" if opened is None else opened.prediction.provenance.get("folder", ""))

    def is_open(self, row: int) -> bool:
        """Whether the field of a row is the current prediction of the window."""
        return self.content is not None and self._current_folder == self.content.folder_of(row)

    def row_of(self, cell: int | None) -> int | None:
        """The row of a cell of the current prediction; None if that is no field of the batch."""
        if self.content is None:
            return None
        rows = self.content.rows_in(self._current_folder, cell)
        return int(rows[0]) if len(rows) else None

    def open_field(self, row: int) -> None:
        """Open the field of a row in a thread, unless another is chosen soon; then emit `field_opened`."""
        content = self.content
        assert content is not None
        if self.is_open(row):
            self._do_next(None)
            self.field_opened.emit(row)
            return
        work, first = partial(open_saved, content.folder_of(row)), f"opening {content.fields[row]}"
        on_result = partial(self._on_field, row)
        self._do_next(partial(self.run_bar.restart, work, on_result, first=first, kept=""))

    def _do_next(self, start: Callable[[], None] | None) -> None:
        """Cancel what runs; start this job when it has ended, unless another one comes soon."""
        self._next = start
        self.run_bar.cancel()
        self._coming.start()

    def _start_next(self) -> None:
        start, self._next = self._next, None
        if start is not None:
            start()

    def _on_run(self) -> None:
        self.setVisible(self.run_bar.running or bool(self.run_bar.status.text()))

    def _on_field(self, row: int, found: tuple[Any, list[LayerData]]) -> None:
        opened, layers = found
        self._remove_layers()
        self._shown = opened.prediction
        add_layers(unwrapped(self._viewer), layers, self._layers.append, lambda: self.field_opened.emit(row))

    def _remove_layers(self) -> None:
        """Remove the layers of the field before, or hide them if the user changed its shapes."""
        there = [layer for layer in self._layers if layer in self._viewer.layers]
        handles = [handle for layer in there if (handle := handle_of(layer)) is not None]
        changed = any(handle.newest.prediction is not self._shown for handle in handles)
        if changed:
            for layer in there:
                hide(layer)
        else:
            remove_layers(self._viewer, there)
        self._layers = []
