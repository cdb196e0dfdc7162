"""Shows a run that works in another process, with buttons to stop, continue, save or delete it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import QLabel, QMessageBox, QProgressBar, QPushButton, QWidget

from napari_dispr.errors import InputError
from napari_dispr.training.run import RunFolder
from napari_dispr.widgets.parts.docked import Message
from napari_dispr.widgets.parts.followed import GRACE, Followed, News, resume, stop_runs
from napari_dispr.widgets.parts.picture import Picture
from napari_dispr.widgets.parts.threads import LatestAnswer
from napari_dispr.widgets.parts.wording import breakable

#: How often the log is read, milliseconds.
POLL = 500

AnyFollowed = TypeVar("AnyFollowed", bound=Followed)


class RunFollower(QWidget, Generic[AnyFollowed]):
    """Follows one run. A subclass lays out the controls, and shows what only its kind of run has.

    ``kind`` makes the `Followed` of a run. A process that does not stop on request is killed after ``grace``
    seconds.
    """

    #: The run's state has changed.
    state_changed = Signal()
    #: The run's folder was deleted.
    gone = Signal()

    def __init__(self, kind: Callable[[Any], AnyFollowed], about_picture: str, grace: float = GRACE) -> None:
        super().__init__()
        self._kind = kind
        self._followed: AnyFollowed | None = None
        self._shown: tuple[object, int] = (None, 0)
        self._state: str = ""
        self._stopping: Path | None = None  # folder of the run that was asked to stop
        self._grace = grace
        self._drawn_picture = b""
        self._build(about_picture)
        self._read = LatestAnswer(Followed.read, self._on_read, self, pause=None)
        self._start = LatestAnswer(resume, self._on_started, self, pause=None)
        self._stop = LatestAnswer(stop_runs, self._on_stopped, self, pause=None)
        self._delete = LatestAnswer(_deleted, self._on_deleted, self, pause=None)
        self._next_read = QTimer(self, singleShot=True, interval=POLL)
        self._next_read.timeout.connect(self._ask)
        self.stop_button.clicked.connect(self.stop)
        self.continue_button.clicked.connect(lambda: self._resume(finish=False))
        self.finish_button.clicked.connect(lambda: self._resume(finish=True))
        self.delete_button.clicked.connect(self._on_delete)

    def _build(self, about_picture: str) -> None:
        self.headline = QLabel(wordWrap=True)
        self.headline.setStyleSheet("font-weight: bold;")
        self.progress_bar = QProgressBar(
            toolTip="Used share of the training budget; before and after training, how much is scored"
        )
        self.progress_bar.setRange(0, 1000)
        self.numbers = QLabel(wordWrap=True)
        self.problem = Message()
        self.stop_button = QPushButton("Stop", toolTip="Save and stop; you can continue later")
        self.continue_button = QPushButton("Continue", toolTip="Continue from the last save")
        self.finish_button = QPushButton(
            "Save as model", toolTip="End training: save what is learned so far as a model"
        )
        self.delete_button = QPushButton(
            "Delete run", toolTip="Delete the run's files; its finished model stays available"
        )
        self.caption = QLabel(about_picture, wordWrap=True)
        self.picture = Picture()

    # --- following -------------------------------------------------------------------------------

    @property
    def state(self) -> str:
        """State of the run; empty while it is not known."""
        return self._state if self._followed is not None else ""

    @property
    def run(self) -> Any:
        """The run that is shown; None if there is none."""
        return None if self._followed is None else self._followed.run

    def follow(self, run: RunFolder | None, *, started: bool = False) -> None:
        """Show a run; ``started``: its process was started just now."""
        self._next_read.stop()
        self._read.forget()
        self._state = ""
        self._followed = None if run is None else self._kind(run)
        if self._followed is not None:
            if started:
                self._followed.started()
            self._show()
            self._ask()

    def _ask(self) -> None:
        if self._followed is not None:
            self._read.ask(self._followed)

    def _on_read(self, answer: News | InputError) -> None:
        if isinstance(answer, InputError):
            self._followed = None
            self.gone.emit()
        elif self._followed is not None:
            self._followed.take(answer)
            self._show()
            self._next_read.start()

    def _show(self) -> None:
        followed = self._followed
        if followed is None or self._shown == (followed, followed.news):
            return
        self._shown = (followed, followed.news)
        self.headline.setText("Stopping…" if self._is_stopping else breakable(followed.headline()))
        self.numbers.setText(followed.numbers())
        self.numbers.setVisible(bool(self.numbers.text()))
        self.problem.say(followed.problem(), problem=True)
        self.progress_bar.setValue(round(1000 * followed.progress))
        self.progress_bar.setVisible(followed.state != "finished")
        self._show_more(followed)
        if followed.picture is not self._drawn_picture:
            self._drawn_picture = followed.picture
            self.picture.show_file(followed.picture)
        self.caption.setVisible(bool(followed.picture))
        if followed.state != self._state:
            self._state = followed.state
            self.state_changed.emit()
        self._show_buttons(followed)

    def _show_more(self, followed: AnyFollowed) -> None:
        """Show what only this kind of run has."""

    def _show_buttons(self, followed: AnyFollowed) -> None:
        state, resting = followed.state, followed.state in ("planned", "stopped")
        self.stop_button.setVisible(state == "running")
        self.stop_button.setEnabled(not self._is_stopping)
        self.continue_button.setVisible(resting)
        self.continue_button.setText("Start" if state == "planned" else "Continue")
        self.finish_button.setVisible(resting and followed.can_finish)
        self.delete_button.setVisible(state != "running")
        for button in (self.continue_button, self.finish_button, self.delete_button):
            button.setEnabled(not (self._start.pending or self._delete.pending))

    # --- what can be done ------------------------------------------------------------------------

    def stop(self) -> None:
        """Stop the process: it saves and ends, or is killed after some seconds."""
        if self._followed is None or self._is_stopping:
            return
        self._stopping = self._followed.run.folder
        self.stop_button.setEnabled(False)
        self.headline.setText("Stopping…")
        self._stop.ask((self._followed.run,), self._grace)

    @property
    def _is_stopping(self) -> bool:
        return self._followed is not None and self._followed.run.folder == self._stopping

    def _on_stopped(self, answer: InputError | None) -> None:
        self._stopping = None
        self._next_read.stop()
        self._ask()

    def _resume(self, finish: bool) -> None:
        if self._followed is not None:
            self._start.ask(self._followed.run, finish)
            self._show_buttons(self._followed)

    def _on_started(self, answer: tuple[RunFolder, bool] | InputError) -> None:
        if self._followed is None:
            return
        if isinstance(answer, InputError):
            self._refresh()
            self.problem.say(str(answer), problem=True)
        elif answer[0] is self._followed.run:
            self._followed.started(finish=answer[1])
            self._refresh()

    def _on_delete(self) -> None:
        if self._followed is None:
            return
        name = self._followed.run.name
        question = (
            f"Delete the run {name!r} with its log, its weights and its copies of the cells? Its finished "
            "model and your own files stay."
        )
        if self.confirm(question):
            self._delete.ask(self._followed.run)
            self._show_buttons(self._followed)

    def confirm(self, text: str) -> bool:
        """Ask whether to delete a run."""
        answer = QMessageBox.question(self, "Delete run", text)
        return bool(answer == QMessageBox.StandardButton.Yes)

    def _on_deleted(self, answer: RunFolder | InputError) -> None:
        if isinstance(answer, InputError):
            self._refresh()
            self.problem.say(str(answer), problem=True)
        elif self._followed is not None and self._followed.run is not answer:
            self.state_changed.emit()  # of a run that is not shown any more
        else:
            self._next_read.stop()
            self._read.forget()
            self._followed = None
            self.gone.emit()

    def _refresh(self) -> None:
        self._shown = (None, 0)
        self._show()
        self._next_read.stop()
        self._ask()


def _deleted(run: RunFolder) -> RunFolder:
    """Delete a run; for a thread."""
    run.delete()
    return run
