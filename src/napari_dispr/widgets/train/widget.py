"""The widget "Train a shape model": layout and signals. A run's own screen is in `train_run`, what it is to
be trained on in `train_data`, what it is to be in `train_form`.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from napari.utils.theme import get_theme
from qtpy.QtCore import QEvent, QObject, QTimer
from qtpy.QtGui import QColor
from qtpy.QtWidgets import (
    QComboBox,
    QFormLayout,
    QFrame,
    QLabel,
    QMainWindow,
    QMessageBox,
    QPushButton,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from napari_dispr.errors import InputError
from napari_dispr.training.run import Run
from napari_dispr.widgets.parts.background import NewestAnswer
from napari_dispr.widgets.parts.loading import devices_found
from napari_dispr.widgets.parts.message import Message, warnings_on
from napari_dispr.widgets.parts.own_thread import OwnThread
from napari_dispr.widgets.train.data import DataInput
from napari_dispr.widgets.train.follow import halt, list_runs
from napari_dispr.widgets.train.form import ModelForm
from napari_dispr.widgets.train.inputs import CalmWheel
from napari_dispr.widgets.train.request import begin
from napari_dispr.widgets.train.run_view import RunView

if TYPE_CHECKING:
    from napari.viewer import Viewer

_NEW = "New model"
#: The list of runs is looked at again this often, milliseconds: others may begin or end.
_RELIST = 5000


Answer = Literal["stop", "go on", "cancel"]


class TrainWidget(QWidget):
    """Train a shape model on cells whose 3D shape is known.

    Parameters
    ----------
    napari_viewer : Viewer
    """

    def __init__(self, napari_viewer: "Viewer") -> None:
        super().__init__()
        self._viewer = napari_viewer
        self._closed = False
        #: Runs that were shown or begun here, by folder: asked about when the window closes.
        self._known: dict[str, Run] = {}
        self._listed: list[tuple[str, str, str]] = []
        self._fresh = True  # not known yet whether a run goes on
        self._closing = False
        self._window: QMainWindow | None = None  # napari's, as soon as this widget is in it
        #: What to do with runs that go on when the window closes; replaced where nobody can answer.
        self.ask_on_close: Callable[[Sequence[Run]], Answer] = self._ask_on_close
        self._build()
        self._begin = OwnThread(begin, self._on_begun, self)
        self._list = OwnThread(list_runs, self._on_listed, self)
        self._halt = OwnThread(halt, self._on_all_halted, self)
        self._devices = NewestAnswer(devices_found, self.form.device.offer, self, pause=0)
        self._relist = QTimer(self, interval=_RELIST)
        self._relist.timeout.connect(self._list.ask)
        self._connect()
        self._on_theme()
        self._show_page()
        self._on_inputs()
        self._list.ask()
        self._relist.start()
        self._devices.ask()

    # --- layout ----------------------------------------------------------------------------------

    def _build(self) -> None:
        self.runs = QComboBox()
        self.runs.addItem(f"{_NEW}…", None)
        self.runs.setToolTip("Begin a new run, or come back to one: it goes on by itself, or waits")
        top = QFormLayout()
        top.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        top.addRow("run", self.runs)
        self.data = DataInput(self._viewer)
        self.form = ModelForm()
        #: What is wrong with the inputs.
        self.message = Message()
        self.train_button = QPushButton("Train")
        self.train_button.setToolTip("Train in a process of its own; it goes on when napari is closed")
        self.page_new = QWidget()
        new = QVBoxLayout(self.page_new)
        new.setContentsMargins(0, 0, 0, 0)
        for widget in (
            _heading("Cells"),
            self.data,
            _heading("Model"),
            self.form,
            self.message,
            self.train_button,
        ):
            new.addWidget(widget)
        new.addStretch(1)
        self.view = RunView()
        inside = QWidget()
        layout = QVBoxLayout(inside)
        layout.addLayout(top)
        layout.addWidget(self.page_new, 1)
        layout.addWidget(self.view, 1)
        area = QScrollArea(widgetResizable=True)
        area.setFrameShape(QFrame.Shape.NoFrame)
        area.setWidget(inside)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(area)
        CalmWheel(inside)

    def _connect(self) -> None:
        self.runs.activated.connect(self._on_run_chosen)
        self.data.changed.connect(self._on_inputs)
        self.form.changed.connect(self._on_inputs)
        self.train_button.clicked.connect(self.train)
        self.view.state_changed.connect(self._show_list)
        self.view.state_changed.connect(self._list.ask)
        self.view.gone.connect(self._on_gone)
        self.view.model_wanted.connect(self.use_in_predict)
        self._viewer.events.theme.connect(self._on_theme)

    def _on_theme(self, event: Any = None) -> None:
        theme = get_theme(self._viewer.theme)
        text, background = QColor(theme.text.as_hex()), QColor(theme.background.as_hex())
        self.view.curves.set_colours(text.name(), background.name())
        self.setStyleSheet(warnings_on(background))

    # --- a new run -------------------------------------------------------------------------------

    def _on_inputs(self) -> None:
        """Say what keeps from training."""
        problem = self.form.problem() if self.data.data is not None else ""
        going = [name for _, name, state in self._listed if state == "running"]
        if not problem and going:
            self.message.say(f"{going[0]!r} is being trained: with two runs at once both take longer.")
        else:
            self.message.say(problem, problem=True)
        self.train_button.setEnabled(self.data.data is not None and not problem and not self._begin.pending)

    def train(self) -> None:
        """Begin a run of its own process with what the inputs say."""
        if self.data.data is None or self._begin.pending:
            return
        try:
            wish = self.form.wish()
        except InputError as error:
            self.message.say(str(error), problem=True)
            return
        self.train_button.setEnabled(False)
        self.train_button.setText("Writing the cells…")
        self._begin.ask(self.data.data, wish)

    def _on_begun(self, answer: Run | InputError) -> None:
        self.train_button.setText("Train")
        self._on_inputs()
        if isinstance(answer, InputError):
            self.message.say(str(answer), problem=True)
            return
        self.form.suggest_name()
        self._follow(answer, started=True)

    # --- runs ------------------------------------------------------------------------------------

    def _follow(self, run: Run | None, *, started: bool = False) -> None:
        self._fresh = False
        if run is not None:
            self._known[str(run.folder)] = run
        self.view.follow(run, started=started)
        self._show_page()
        self._show_list()
        self._list.ask()

    def follow(self, folder: str) -> None:
        """Show the run in a folder."""
        try:
            self._follow(self._known.get(folder) or Run.open(folder))
        except InputError as error:
            self._follow(None)
            self.message.say(str(error), problem=True)

    def _on_run_chosen(self) -> None:
        folder = self.runs.currentData()
        if folder is None:
            self._follow(None)
        elif self.view.run is None or folder != str(self.view.run.folder):
            self.follow(folder)

    def _on_listed(self, listed: list[tuple[str, str, str]]) -> None:
        self._listed = listed
        fresh, self._fresh = self._fresh, False
        if fresh and (going := [folder for folder, _, state in listed if state == "running"]):
            self.follow(going[0])  # begun before this window was opened
        self._show_list()

    def _show_list(self) -> None:
        """Show the runs, with the one that is followed chosen."""
        shown = self.view.run
        folder = None if shown is None else str(shown.folder)
        items: list[tuple[str, str | None]] = [(f"{_NEW}…", None)]
        for place, name, state in self._listed:
            items.append((f"{name}: {self.view.state or state if place == folder else state}", place))
        if shown is not None and folder not in [path for _, path in items]:
            items.insert(1, (shown.plan.name, folder))
        before = [(self.runs.itemText(i), self.runs.itemData(i)) for i in range(self.runs.count())]
        if items != before and not self.runs.view().isVisible():
            self.runs.blockSignals(True)
            self.runs.clear()
            for text, path in items:
                self.runs.addItem(text, path)
            self.runs.blockSignals(False)
        self.runs.setCurrentIndex(next(i for i, (_, path) in enumerate(items) if path == folder))

    def _on_gone(self) -> None:
        self._listed = [entry for entry in self._listed if Path(entry[0]).is_dir()]
        self._known = {folder: run for folder, run in self._known.items() if run.folder.is_dir()}
        self._follow(None)

    def _show_page(self) -> None:
        new = self.view.run is None
        self.page_new.setVisible(new)
        self.view.setVisible(not new)
        self.data.set_active(new)
        if new:
            self._on_inputs()

    def use_in_predict(self, model: str) -> None:
        """Open Predict with a model chosen.

        Parameters
        ----------
        model : str
            Its file.
        """
        _, widget = self._viewer.window.add_plugin_dock_widget(
            "napari-dispr", "Predict 3D shapes", tabify=True
        )
        widget.form.model_choice.model = model

    # --- the end ---------------------------------------------------------------------------------

    @property
    def going(self) -> list[Run]:
        """Runs of this window that are being trained."""
        return [run for run in self._known.values() if run.is_running]

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Ask what becomes of runs that go on, before napari's window closes."""
        if (
            event is not None
            and event.type() == QEvent.Type.Close
            and watched is self._window
            and not self._may_close()
        ):
            event.ignore()
            return True
        return super().eventFilter(watched, event)

    def _may_close(self) -> bool:
        """Whether the window may close now."""
        if self._closed or not (going := self.going):
            return True
        if self._closing:
            return False  # as soon as they have stopped
        answer = self.ask_on_close(going)
        if answer == "stop":
            self._closing = True
            self._halt.ask(going)
        return answer == "go on"

    def _ask_on_close(self, runs: Sequence[Run]) -> Answer:
        names = ", ".join(run.plan.name for run in runs)
        box = QMessageBox(self)
        box.setWindowTitle("Training goes on")
        box.setText(f"{names}: training is going on.")
        box.setInformativeText(
            "It can be stopped now and continued later, or go on in its own process: you find it in this "
            "widget's list of runs when you come back."
        )
        stop = box.addButton("Stop and close", QMessageBox.ButtonRole.AcceptRole)
        leave = box.addButton("Let it go on", QMessageBox.ButtonRole.AcceptRole)
        box.addButton("Cancel", QMessageBox.ButtonRole.RejectRole)
        box.setDefaultButton(leave)
        box.exec()
        chosen = box.clickedButton()
        return "stop" if chosen is stop else "go on" if chosen is leave else "cancel"

    def _on_all_halted(self, _: object) -> None:
        self._closing = False
        if self._window is not None:
            self._window.close()

    def event(self, event: QEvent | None) -> bool:
        """Watch over the window that this widget is shown in; clean up when its dock lets go of it."""
        kind = None if event is None else event.type()
        if kind == QEvent.Type.Show:
            self._watch_window()
        elif kind == QEvent.Type.ParentChange and self.parent() is None:
            self.shut_down()
        return super().event(event)

    def _watch_window(self) -> None:
        window = self.parentWidget()
        while window is not None and not isinstance(window, QMainWindow):
            window = window.parentWidget()
        if window is not None and self._window is None and not self._closed:
            self._window = window
            window.installEventFilter(self)

    def shut_down(self) -> None:
        """Follow nothing any more; runs go on, and can be found in the list again."""
        if self._closed:
            return
        self._closed = True
        if self._window is not None:
            self._window.removeEventFilter(self)
        self._viewer.events.theme.disconnect(self._on_theme)
        self._relist.stop()
        for answer in (self._list, self._devices):
            answer.forget()
        self.data.shut_down()
        self.view.shut_down()


def _heading(text: str) -> QLabel:
    label = QLabel(text)
    label.setStyleSheet("font-weight: bold;")
    return label
