"""The window "Train a shape model": layout and signals.

`data` chooses the cells to train on, `form` the settings of the new model, `run_view` shows a run.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from napari.viewer import Viewer
from qtpy.QtCore import QEvent, QObject
from qtpy.QtWidgets import QLabel, QMainWindow, QMessageBox, QPushButton, QWidget

from napari_dispr.errors import InputError, problem_of
from napari_dispr.training.run import Run, all_runs
from napari_dispr.viewer.opening import open_window
from napari_dispr.widgets.parts.docked import DockedWidget, Message
from napari_dispr.widgets.parts.followed import stop_runs
from napari_dispr.widgets.parts.layouts import column, form
from napari_dispr.widgets.parts.loading import devices_found
from napari_dispr.widgets.parts.run_bar import RunBar
from napari_dispr.widgets.parts.run_list import RunList
from napari_dispr.widgets.parts.threads import LatestAnswer
from napari_dispr.widgets.train.calibrate import Calibrated, calibrate
from napari_dispr.widgets.train.data import DataInput
from napari_dispr.widgets.train.form import ModelForm
from napari_dispr.widgets.train.request import start_run
from napari_dispr.widgets.train.run_view import RunView

Answer = Literal["stop", "go on", "cancel"]


class TrainWidget(DockedWidget):
    """Train a shape model on cells whose 3D shape is known."""

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__(napari_viewer)
        #: Runs that were shown or started here, by folder.
        self._known: dict[str, Run] = {}
        self._closing = False
        self._window: QMainWindow | None = None  # of napari, once this widget is in it
        self._build()
        self._start = LatestAnswer(start_run, self._on_started, self, pause=None)
        self._stop = LatestAnswer(stop_runs, self._on_all_stopped, self, pause=None)
        self._devices = LatestAnswer(devices_found, self.form.device.offer, self, pause=0)
        self._connect()
        self._follow_theme(self.view.curves.set_colours)
        self._show_page()
        self._on_inputs()
        self._devices.ask()

    # --- layout ----------------------------------------------------------------------------------

    def _build(self) -> None:
        self.data = DataInput(self._viewer)
        self.form = ModelForm()
        #: What is wrong with the inputs.
        self.message = Message()
        self.train_button = QPushButton(
            "Train", toolTip="Train in a separate process, which can continue after napari is closed"
        )
        #: Progress and result of a calibration, which runs in this window.
        self.run_bar = RunBar("End the calibration; no model is written")
        self.use_button = QPushButton("Use in Predict", toolTip="Open Predict 3D shapes with this model")
        self.use_button.hide()
        self._calibrated: Calibrated | None = None
        self.page_new = QWidget()
        cells, model = _heading("Cells"), _heading("Model")
        below = (self.train_button, self.message, self.run_bar, self.use_button, None)
        column(cells, self.data, model, self.form, *below, parent=self.page_new)
        self.view = RunView()
        self.runs = RunList(all_runs, self.view)
        self._lay_out(form({"run": self.runs}), (self.page_new, 1), (self.view, 1))

    def _connect(self) -> None:
        self.runs.chosen.connect(self._on_run_chosen)
        self.data.changed.connect(self._on_inputs)
        self.form.changed.connect(self._on_inputs)
        self.train_button.clicked.connect(self.train)
        self.run_bar.changed.connect(self._on_inputs)
        self.use_button.clicked.connect(self._use_calibrated)
        self.view.gone.connect(self._on_gone)
        self.view.model_wanted.connect(self.use_in_predict)
        self.view.further_wanted.connect(self.train_further)

    # --- a new run -------------------------------------------------------------------------------

    def _on_inputs(self) -> None:
        problem = problem_of(self.form.request) if self.data.data is not None else ""
        self.train_button.setText("Calibrate" if self.form.calibrates else "Train")
        if not problem and (going := self.runs.running):
            self.message.say(f"{going[0]!r} is being trained already: two runs at once take longer.")
        else:
            self.message.say(problem, problem=True)
        busy = self._start.pending or self.run_bar.running
        self.train_button.setEnabled(self.data.data is not None and not problem and not busy)

    def train(self) -> None:
        """Start a run with these inputs, in a process of its own; or calibrate in a thread."""
        if self.data.data is None or self._start.pending or self.run_bar.running:
            return
        try:
            model = self.form.request()
        except InputError as error:
            self.message.say(str(error), problem=True)
            return
        if self.form.calibrates:
            self.use_button.hide()
            job = calibrate(self.data.data, model)
            self.run_bar.start(job, self._on_calibrated, kept="No model was written.")
            return
        self.train_button.setEnabled(False)
        self.train_button.setText("Writing the cells…")
        self._start.ask(self.data.data, model)

    def _on_calibrated(self, answer: Calibrated) -> None:
        self._calibrated = answer
        self.form.suggest_name()
        lines = [f'"{answer.path.stem}" is now available in Predict: {answer.summary}.', *answer.warnings]
        self.run_bar.status.say("\n⚠ ".join(lines))
        self.use_button.show()
        self._area.keep_in_view(self.use_button)

    def _use_calibrated(self) -> None:
        if self._calibrated is not None:
            self.use_in_predict(str(self._calibrated.path))

    def _on_started(self, answer: Run | InputError) -> None:
        self._on_inputs()
        if isinstance(answer, InputError):
            self.message.say(str(answer), problem=True)
            return
        self.form.suggest_name()
        self._follow(answer, started=True)

    # --- runs ------------------------------------------------------------------------------------

    def _follow(self, run: Run | None, *, started: bool = False) -> None:
        if run is not None:
            self._known[str(run.folder)] = run
        self.view.follow(run, started=started)
        self._show_page()
        self.runs.refresh()

    def follow(self, folder: str) -> None:
        try:
            self._follow(self._known.get(folder) or Run.open(folder))
        except InputError as error:
            self._follow(None)
            self.message.say(str(error), problem=True)

    def _on_run_chosen(self, folder: str | None) -> None:
        if folder is None:
            self._follow(None)
        elif self.view.run is None or folder != str(self.view.run.folder):
            self.follow(folder)

    def _on_gone(self) -> None:
        self._known = {folder: run for folder, run in self._known.items() if run.folder.is_dir()}
        self._follow(None)

    def _show_page(self) -> None:
        new = self.view.run is None
        self.page_new.setVisible(new)
        self.view.setVisible(not new)
        self.data.set_active(new)
        if new:
            self._on_inputs()

    def train_further(self, run: Run, model: str) -> None:
        """Prepare a new run that starts from the model of a finished one, on the same cells."""
        self._follow(None)
        self.data.use_folder(Path(run.plan.dataset))
        self.form.start.model = model
        self.form.suggest_name()

    def use_in_predict(self, model: str) -> None:
        """Open Predict with the model of this file chosen."""
        widget: Any = open_window(self._viewer, "Predict 3D shapes")
        widget.use_model(model)

    # --- the end ---------------------------------------------------------------------------------

    @property
    def going(self) -> list[Run]:
        return [run for run in self._known.values() if run.is_running]

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Before napari's window closes, ask whether training goes on."""
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
        if self._closed or not (going := self.going):
            return True
        if self._closing:
            return False  # as soon as they have stopped
        answer = self.ask_on_close(going)
        if answer == "stop":
            self._closing = True
            self._stop.ask(going)
        return answer == "go on"

    def ask_on_close(self, runs: Sequence[Run]) -> Answer:
        """Ask what to do with running training when napari closes."""
        names = ", ".join(run.plan.name for run in runs)
        box = QMessageBox(self)
        box.setWindowTitle("Training is running")
        box.setText(f"{names} is still training.")
        box.setInformativeText(
            "Stop it now and continue later, or let it run in its own process: it stays in the list of "
            "runs of this window."
        )
        stop = box.addButton("Stop and close", QMessageBox.ButtonRole.AcceptRole)
        leave = box.addButton("Let it run", QMessageBox.ButtonRole.AcceptRole)
        box.addButton("Cancel", QMessageBox.ButtonRole.RejectRole)
        box.setDefaultButton(leave)
        box.exec()
        chosen = box.clickedButton()
        return "stop" if chosen is stop else "go on" if chosen is leave else "cancel"

    def _on_all_stopped(self, _: object) -> None:
        self._closing = False
        if self._window is not None:
            self._window.close()

    def event(self, event: QEvent | None) -> bool:
        """Watch the window as soon as this widget is shown in it."""
        if event is not None and event.type() == QEvent.Type.Show:
            self._watch_window()
        return super().event(event)

    def _watch_window(self) -> None:
        window = self.parentWidget()
        while window is not None and not isinstance(window, QMainWindow):
            window = window.parentWidget()
        if window is not None and self._window is None and not self._closed:
            self._window = window
            window.installEventFilter(self)

    def _clean_up(self) -> None:
        """Follow no run any more; training continues."""
        if self._window is not None:
            self._window.removeEventFilter(self)
        self.data.forget()


def _heading(text: str) -> QLabel:
    label = QLabel(text)
    label.setStyleSheet("font-weight: bold;")
    return label
