"""A training run on the screen: where it stands, its curves, what can be done with it."""

from collections.abc import Callable, Mapping
from html import escape

from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QMessageBox, QProgressBar, QPushButton, QVBoxLayout, QWidget

from napari_dispr.errors import InputError
from napari_dispr.training.run import Run
from napari_dispr.widgets.parts.message import Message
from napari_dispr.widgets.parts.own_thread import OwnThread
from napari_dispr.widgets.train.curves import Curves
from napari_dispr.widgets.train.follow import Followed, Score, cells_words, halt, start_name
from napari_dispr.widgets.train.picture import Picture
from napari_dispr.widgets.train.request import forget, go_on

#: How often the log is looked at, milliseconds.
POLL = 500

_ABOUT_PICTURE = (
    "Cells kept apart, a row each: the picture inside the outline, the true shape (grey), and shapes that "
    "the model draws of it by now (blue)"
)


class RunView(QWidget):
    """Follows one run; stops it, goes on with it, deletes it.

    Parameters
    ----------
    parent : QWidget, optional
    """

    #: The run's state is another one.
    state_changed = Signal()
    #: The run's folder is gone.
    gone = Signal()
    #: The user wants to predict with the model of this file.
    model_wanted = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._followed: Followed | None = None
        self._shown: tuple[object, int] = (None, 0)
        self._state: str = ""
        self._stopping = False
        #: Asks whether to delete a run; replaced where nobody can answer.
        self.confirm: Callable[[str], bool] = self._confirm
        self._build()
        self._look = OwnThread(Followed.look, self._on_looked, self)
        self._start = OwnThread(go_on, self._on_started, self)
        self._halt = OwnThread(halt, self._on_halted, self)
        self._forget = OwnThread(forget, self._on_forgotten, self)
        self._next_look = QTimer(self, singleShot=True, interval=POLL)
        self._next_look.timeout.connect(self._ask)
        self.stop_button.clicked.connect(self.stop)
        self.continue_button.clicked.connect(lambda: self._go_on(finish=False))
        self.finish_button.clicked.connect(lambda: self._go_on(finish=True))
        self.forget_button.clicked.connect(self._on_forget)
        self.use_button.clicked.connect(self._on_use)

    def _build(self) -> None:
        self.summary = QLabel(wordWrap=True)
        self.headline = QLabel(wordWrap=True)
        self.headline.setStyleSheet("font-weight: bold;")
        self.numbers = QLabel(wordWrap=True)
        self.progress_bar = QProgressBar()
        self.progress_bar.setRange(0, 1000)
        self.progress_bar.setToolTip("Share of the budget that is used up")
        self.problem = Message()
        self.verdict = Message()
        self.scores = QLabel()
        self.scores.setToolTip(
            "Energy score: how far the drawn shapes are from the truth, less what they differ among "
            "themselves; volume error: how far their mean volume is from the true one. Less is better."
        )
        self.curves = Curves()
        self.picture = Picture()
        self.picture.setToolTip(_ABOUT_PICTURE)
        self.stop_button = _button("Stop", "Save and end within 2 seconds; you can go on later")
        self.continue_button = _button("Continue", "Go on from the last save")
        self.finish_button = _button(
            "Use it as it is", "Train no more: make a model of the best weights so far"
        )
        self.use_button = _button("Use in Predict", "Open Predict 3D shapes with this model")
        self.forget_button = _button(
            "Forget this run", "Delete the run's folder; a model that it made stays in Predict's list"
        )
        buttons = QHBoxLayout()
        for button in (self.stop_button, self.continue_button, self.finish_button, self.use_button):
            buttons.addWidget(button, 1)
        buttons.addWidget(self.forget_button, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        words = (self.headline, self.progress_bar, self.numbers, self.problem, self.verdict, self.scores)
        for widget in (self.summary, *words):
            layout.addWidget(widget)
        layout.addLayout(buttons)
        layout.addWidget(self.curves)
        layout.addWidget(self.picture)
        layout.addStretch(1)

    # --- following -------------------------------------------------------------------------------

    @property
    def run(self) -> Run | None:
        """The run that is shown."""
        return None if self._followed is None else self._followed.run

    @property
    def state(self) -> str:
        """Of the run that is shown; empty while it is not known."""
        return self._state if self._followed is not None else ""

    def follow(self, run: Run | None, *, started: bool = False) -> None:
        """Show a run.

        Parameters
        ----------
        run : Run or None
        started : bool
            Whether its process has only just been started.
        """
        self._next_look.stop()
        self._look.forget()
        self._stopping = False
        self._state = ""
        self._followed = None if run is None else Followed(run)
        if self._followed is not None:
            if started:
                self._followed.started()
            self._show()
            self._ask()

    def _ask(self) -> None:
        if self._followed is not None:
            self._look.ask(self._followed)

    def _on_looked(self, answer: Followed | InputError) -> None:
        if isinstance(answer, InputError):
            self._followed = None
            self.gone.emit()
        elif answer is self._followed:
            self._stopping = self._halt.pending
            self._show()
            self._next_look.start()

    def _show(self) -> None:
        followed = self._followed
        if followed is None or self._shown == (followed, followed.news):
            return
        new_run = self._shown[0] is not followed
        self._shown = (followed, followed.news)
        plan, story = followed.run.plan, followed.story
        self.summary.setText(_summary(followed))
        self.headline.setText("Stopping…" if self._stopping else followed.headline())
        self.numbers.setText(followed.numbers())
        self.numbers.setVisible(bool(self.numbers.text()))
        self.problem.say(followed.problem(), problem=True)
        self.verdict.say(followed.verdict())
        self.scores.setText(_table(followed.scores()))
        self.scores.setVisible(bool(self.scores.text()))
        self.progress_bar.setValue(round(1000 * story.share))
        self.progress_bar.setVisible(followed.state != "finished")
        self.curves.setVisible(bool(story.losses or story.scores))
        self.curves.show_story(story, plan.start is not None)
        if new_run or followed.picture is not self._drawn_picture:
            self._drawn_picture = followed.picture
            self.picture.show_file(followed.picture)
        if followed.state != self._state:
            self._state = followed.state
            self.state_changed.emit()
        self._show_buttons()

    _drawn_picture = b""

    def _show_buttons(self) -> None:
        followed = self._followed
        assert followed is not None
        state, run = followed.state, followed.run
        busy = self._start.pending or self._forget.pending
        resting = state in ("planned", "stopped")
        self.stop_button.setVisible(state == "running")
        self.stop_button.setEnabled(not self._stopping)
        self.continue_button.setVisible(resting)
        self.continue_button.setText("Begin" if state == "planned" else "Continue")
        self.finish_button.setVisible(resting and (run.best.exists() or run.checkpoint.exists()))
        self.use_button.setVisible(state == "finished")
        self.forget_button.setVisible(state != "running")
        for button in (self.continue_button, self.finish_button, self.forget_button):
            button.setEnabled(not busy)

    # --- what can be done ------------------------------------------------------------------------

    def stop(self) -> None:
        """Have the process save and end; within 2 s it does, or is killed."""
        if self.run is None or self._stopping:
            return
        self._stopping = True
        self.stop_button.setEnabled(False)
        self.headline.setText("Stopping…")
        self._halt.ask((self.run,))

    def _on_halted(self, answer: InputError | None) -> None:
        self._next_look.stop()
        self._ask()

    def _go_on(self, finish: bool) -> None:
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

    def _on_forget(self) -> None:
        if self.run is None:
            return
        name = self.run.plan.name
        text = f"Delete the run {name!r}, with its log and what it has learnt? A model that it made stays."
        if self.confirm(text):
            self._forget.ask(self.run)
            self._show_buttons()

    def _confirm(self, text: str) -> bool:
        answer = QMessageBox.question(self, "Forget this run", text)
        return bool(answer == QMessageBox.StandardButton.Yes)

    def _on_forgotten(self, answer: InputError | None) -> None:
        if isinstance(answer, InputError):
            self._refresh()
            self.problem.say(str(answer), problem=True)
            return
        self._next_look.stop()
        self._look.forget()
        self._followed = None
        self.gone.emit()

    def _on_use(self) -> None:
        if self._followed is not None:
            self.model_wanted.emit(self._followed.model or self._followed.run.plan.out)

    def _refresh(self) -> None:
        self._shown = (None, 0)
        self._show()
        self._next_look.stop()
        self._ask()

    def shut_down(self) -> None:
        """Follow no more; the process goes on."""
        self._next_look.stop()
        for answer in (self._look, self._start, self._forget):
            answer.forget()
        self._followed = None


def _button(text: str, tip: str) -> QPushButton:
    button = QPushButton(text)
    button.setToolTip(tip)
    return button


def _summary(followed: Followed) -> str:
    plan, begin = followed.run.plan, followed.story.begin
    text = f"From {start_name(plan)}, {plan.settings.budget}, preset {plan.preset}."
    return text if begin is None else f"{text} {cells_words(begin)}."


def _table(scores: Mapping[str, Score]) -> str:
    """Scores as HTML, a row a model; empty where there are none."""
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
