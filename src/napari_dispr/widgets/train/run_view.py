"""Shows a training run: its state, its curves, and buttons to stop, continue, save or delete it."""

from collections.abc import Callable, Mapping
from html import escape

from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import QLabel, QMessageBox, QProgressBar, QPushButton, QWidget

from napari_dispr.errors import InputError
from napari_dispr.settings import RivalTrainSettings
from napari_dispr.training.run import Run
from napari_dispr.widgets.parts.docked import Message
from napari_dispr.widgets.parts.layouts import column, row
from napari_dispr.widgets.parts.threads import LatestAnswer
from napari_dispr.widgets.train.curves import Curves
from napari_dispr.widgets.train.follow import FollowedRun, Score, cells_words, start_name, stop_runs
from napari_dispr.widgets.train.picture import Picture
from napari_dispr.widgets.train.request import delete_run, resume

#: How often the log is read, milliseconds.
POLL = 500

_ABOUT_PICTURE = (
    "Validation cells, one in each row. From left to right: the picture inside the outline, the true shape "
    "(grey), and shapes that the model predicts now (blue)."
)


class RunView(QWidget):
    """Follows one run."""

    #: The run's state has changed.
    state_changed = Signal()
    #: The run's folder was deleted.
    gone = Signal()
    #: The user wants to train the model of a finished run further: the run and the model's file.
    further_wanted = Signal(object, str)
    #: The user wants to predict with the model of this file.
    model_wanted = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._followed: FollowedRun | None = None
        self._shown: tuple[object, int] = (None, 0)
        self._state: str = ""
        self._stopping = False
        #: Asks whether to delete a run; tests replace it.
        self.confirm: Callable[[str], bool] = self._confirm
        self._build()
        self._read = LatestAnswer(FollowedRun.read, self._on_read, self, pause=None)
        self._start = LatestAnswer(resume, self._on_started, self, pause=None)
        self._stop = LatestAnswer(stop_runs, self._on_stopped, self, pause=None)
        self._delete = LatestAnswer(delete_run, self._on_deleted, self, pause=None)
        self._next_read = QTimer(self, singleShot=True, interval=POLL)
        self._next_read.timeout.connect(self._ask)
        self.stop_button.clicked.connect(self.stop)
        self.continue_button.clicked.connect(lambda: self._resume(finish=False))
        self.finish_button.clicked.connect(lambda: self._resume(finish=True))
        self.delete_button.clicked.connect(self._on_delete)
        self.use_button.clicked.connect(self._on_use)
        self.further_button.clicked.connect(self._on_further)

    def _build(self) -> None:
        self.summary = QLabel(wordWrap=True)
        self.headline = QLabel(wordWrap=True)
        self.headline.setStyleSheet("font-weight: bold;")
        self.numbers = QLabel(wordWrap=True)
        self.progress_bar = QProgressBar(
            toolTip="Used share of the training budget; before and after training, scored cells"
        )
        self.progress_bar.setRange(0, 1000)
        self.problem = Message()
        self.verdict = Message()
        self.scores = QLabel()
        self.scores.setToolTip(
            "Energy score: distance of the predicted shapes from the true shape, minus their own spread. "
            "Volume error: relative error of their mean volume. Lower is better for both."
        )
        self.curves = Curves()
        self.picture = Picture()
        self.caption = QLabel(_ABOUT_PICTURE, wordWrap=True)
        self.stop_button = _button("Stop", "Save and stop within 2 seconds; you can continue later")
        self.continue_button = _button("Continue", "Continue from the last save")
        self.finish_button = _button("Save as model", "End training: save the best weights so far as a model")
        self.use_button = _button("Use in Predict", "Open Predict 3D shapes with this model")
        self.further_button = _button(
            "Train further", "Start a new run from this model: with more time, or with more cells"
        )
        self.delete_button = _button(
            "Delete run", "Delete the run's folder; its finished model stays available in Predict"
        )
        save = (self.finish_button, self.use_button, self.further_button, self.delete_button)
        buttons = row(*((button, 1) for button in (self.stop_button, self.continue_button, *save)))
        words = (self.headline, self.progress_bar, self.numbers, self.problem, self.verdict, self.scores)
        column(self.summary, *words, buttons, self.curves, self.caption, self.picture, None, parent=self)

    # --- following -------------------------------------------------------------------------------

    @property
    def run(self) -> Run | None:
        """The run that is shown."""
        return None if self._followed is None else self._followed.run

    @property
    def state(self) -> str:
        """State of the run; empty while it is not known."""
        return self._state if self._followed is not None else ""

    def follow(self, run: Run | None, *, started: bool = False) -> None:
        """Show a run; ``started``: its process was started just now."""
        self._next_read.stop()
        self._read.forget()
        self._stopping = False
        self._state = ""
        self._followed = None if run is None else FollowedRun(run)
        if self._followed is not None:
            if started:
                self._followed.started()
            self._show()
            self._ask()

    def _ask(self) -> None:
        if self._followed is not None:
            self._read.ask(self._followed)

    def _on_read(self, answer: FollowedRun | InputError) -> None:
        if isinstance(answer, InputError):
            self._followed = None
            self.gone.emit()
        elif answer is self._followed:
            self._stopping = self._stop.pending
            self._show()
            self._next_read.start()

    def _show(self) -> None:
        followed = self._followed
        if followed is None or self._shown == (followed, followed.news):
            return
        new_run = self._shown[0] is not followed
        self._shown = (followed, followed.news)
        plan, log = followed.run.plan, followed.log
        self.summary.setText(_summary(followed))
        self.headline.setText("Stopping…" if self._stopping else followed.headline())
        self.numbers.setText(followed.numbers())
        self.numbers.setVisible(bool(self.numbers.text()))
        self.problem.say(followed.problem(), problem=True)
        self.verdict.say(followed.verdict())
        self.scores.setText(_table(followed.scores()))
        self.scores.setVisible(bool(self.scores.text()))
        self.progress_bar.setValue(round(1000 * followed.progress))
        self.progress_bar.setVisible(followed.state != "finished")
        self.curves.setVisible(bool(log.losses or log.scores))
        self.curves.show_log(log, plan.start is not None)
        if new_run or followed.picture is not self._drawn_picture:
            self._drawn_picture = followed.picture
            self.picture.show_file(followed.picture)
            self.caption.setVisible(bool(followed.picture))
        if followed.state != self._state:
            self._state = followed.state
            self.state_changed.emit()
        self._show_buttons()

    _drawn_picture = b""

    def _show_buttons(self) -> None:
        followed = self._followed
        assert followed is not None
        state, run = followed.state, followed.run
        busy = self._start.pending or self._delete.pending
        resting = state in ("planned", "stopped")
        self.stop_button.setVisible(state == "running")
        self.stop_button.setEnabled(not self._stopping)
        self.continue_button.setVisible(resting)
        self.continue_button.setText("Start" if state == "planned" else "Continue")
        self.finish_button.setVisible(resting and (run.best.exists() or run.checkpoint.exists()))
        self.use_button.setVisible(state == "finished")
        ours = not isinstance(run.plan.settings, RivalTrainSettings)
        self.further_button.setVisible(state == "finished" and ours)
        self.delete_button.setVisible(state != "running")
        for button in (self.continue_button, self.finish_button, self.delete_button):
            button.setEnabled(not busy)

    # --- what can be done ------------------------------------------------------------------------

    def stop(self) -> None:
        """Stop the process: it saves and ends within 2 s, or is killed."""
        if self.run is None or self._stopping:
            return
        self._stopping = True
        self.stop_button.setEnabled(False)
        self.headline.setText("Stopping…")
        self._stop.ask((self.run,))

    def _on_stopped(self, answer: InputError | None) -> None:
        self._next_read.stop()
        self._ask()

    def _resume(self, finish: bool) -> None:
        if self.run is not None:
            self._start.ask(self.run, finish)
            self._show_buttons()

    def _on_started(self, answer: tuple[Run, bool] | InputError) -> None:
        if self._followed is None:
            return
        if isinstance(answer, InputError):
            self._refresh()
            self.problem.say(str(answer), problem=True)
        elif answer[0] is self.run:
            self._followed.started(finish=answer[1])
            self._refresh()

    def _on_delete(self) -> None:
        if self.run is None:
            return
        name = self.run.plan.name
        text = f"Delete the run {name!r} with its log and its weights? Its finished model stays."
        if self.confirm(text):
            self._delete.ask(self.run)
            self._show_buttons()

    def _confirm(self, text: str) -> bool:
        answer = QMessageBox.question(self, "Delete run", text)
        return bool(answer == QMessageBox.StandardButton.Yes)

    def _on_deleted(self, answer: InputError | None) -> None:
        if isinstance(answer, InputError):
            self._refresh()
            self.problem.say(str(answer), problem=True)
            return
        self._next_read.stop()
        self._read.forget()
        self._followed = None
        self.gone.emit()

    def _on_use(self) -> None:
        if self._followed is not None:
            self.model_wanted.emit(self._followed.model or self._followed.run.plan.out)

    def _on_further(self) -> None:
        if self._followed is not None:
            run = self._followed.run
            self.further_wanted.emit(run, self._followed.model or run.plan.out)

    def _refresh(self) -> None:
        self._shown = (None, 0)
        self._show()
        self._next_read.stop()
        self._ask()

    def shut_down(self) -> None:
        """Stop following; the process continues."""
        self._next_read.stop()
        for answer in (self._read, self._start, self._delete):
            answer.forget()
        self._followed = None


def _button(text: str, tip: str) -> QPushButton:
    button = QPushButton(text, toolTip=tip)
    return button


def _summary(followed: FollowedRun) -> str:
    plan, begin = followed.run.plan, followed.log.begin
    text = f"From {start_name(plan)}, {plan.settings.budget}, preset {plan.preset}."
    return text if begin is None else f"{text} {cells_words(begin)}."


def _table(scores: Mapping[str, Score]) -> str:
    """Scores as an HTML table, one row for each model; empty if there are none."""
    if not scores:
        return ""
    row = (
        '<tr><td style="padding-right: 14px;">{}</td><td style="padding-right: 14px;" align="right">{}</td>'
        '<td align="right">{}</td></tr>'
    )
    lines = [
        row.format(escape(name), f"{score.energy_score:.3f}", f"{score.volume_error:.1%}")
        for name, score in scores.items()
    ]
    return f"<table>{row.format('', 'energy score', 'volume error')}{''.join(lines)}</table>"
