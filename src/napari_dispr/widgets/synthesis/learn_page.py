"""The page "Learn" of "Synthesise annotated images": choose layers, start a run, follow it."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyqtgraph
from napari.layers import Image, Labels
from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import (
    QDoubleSpinBox,
    QLabel,
    QLineEdit,
    QMessageBox,
    QProgressBar,
    QPushButton,
    QWidget,
)
from superqt.utils import signals_blocked

from napari_dispr.errors import InputError
from napari_dispr.widgets.parts.docked import Message
from napari_dispr.widgets.parts.layer_choice import FollowedLayers, LayerChoice, is_picture, is_segmentation
from napari_dispr.widgets.parts.layouts import column, form, row
from napari_dispr.widgets.parts.model_choice import ShortComboBox
from napari_dispr.widgets.parts.threads import LatestAnswer
from napari_dispr.widgets.synthesis.learn_run import (
    GRACE,
    AnnotatedLayers,
    FollowedLearning,
    LearnRun,
    annotated_layers,
    free_name,
    list_runs,
    name_problem,
    resume,
    start_learning,
)
from napari_dispr.widgets.train.follow import stop_runs
from napari_dispr.widgets.train.picture import Picture

if TYPE_CHECKING:
    from napari.viewer import Viewer

#: How often the log is read, milliseconds.
_POLL = 500
_MINUTES = 20.0
#: Colours that are distinct on dark and light backgrounds, also for the colour-blind.
_MASKS, _TEXTURES = "#4cc2ff", "#ffb454"
_ABOUT_PICTURE = (
    "From top to bottom: real masks, made masks, real cells, and textures made for the same cells."
)
_ABOUT = (
    "Learn the masks and textures of your cells from annotated slices: about 20 cells are enough, 100 are "
    "better. Slices without labels are not used."
)


class LossCurve(pyqtgraph.PlotWidget):
    """The losses of masks and textures over the share of the training time."""

    def __init__(self) -> None:
        super().__init__()
        self.setFixedHeight(170)
        self.masks = self.plot(pen=pyqtgraph.mkPen(_MASKS, width=2))
        self.textures = self.plot(pen=pyqtgraph.mkPen(_TEXTURES, width=2))
        self.setMenuEnabled(False)
        self.setMouseEnabled(False, False)  # the wheel scrolls the widget
        self.hideButtons()
        self.setLogMode(y=True)
        self.setXRange(0, 100, padding=0.02)
        self.getAxis("bottom").setTicks([[(share, f"{share} %") for share in range(0, 101, 20)]])
        self.getAxis("left").setWidth(48)
        self.showGrid(y=True, alpha=0.15)

    def set_colours(self, text: str, background: str) -> None:
        """Take the colours of a theme, as ``#rrggbb``."""
        self.setBackground(background)
        for name in ("left", "bottom"):
            self.getAxis(name).setTextPen(text)
            self.getAxis(name).setPen(pyqtgraph.mkPen(text, width=1))
        marks = "&nbsp;&nbsp;".join(
            f'<span style="color: {colour}">&#9644;</span> {name}'
            for name, colour in (("masks", _MASKS), ("textures", _TEXTURES))
        )
        self.setTitle(f"training loss:&nbsp; {marks}", color=text, size="8pt")

    def show_run(self, followed: FollowedLearning) -> None:
        """Draw the losses so far."""
        share = [100 * one.share for one in followed.losses]
        self.masks.setData(share, [max(one.masks, 1e-6) for one in followed.losses])
        self.textures.setData(share, [max(one.textures, 1e-6) for one in followed.losses])


class LearnPage(QWidget):
    """Starts runs and follows one of them."""

    #: The user wants to make images with a learned model: its file.
    model_wanted = Signal(object)
    #: A run has ended, or was deleted: other models may be there.
    models_changed = Signal()

    def __init__(self, viewer: "Viewer") -> None:
        super().__init__()
        self._viewer = viewer
        self._followed: FollowedLearning | None = None
        self._state = ""
        self._stopping = False
        self._layers = FollowedLayers(["scale", "units", "set_data"], lambda event: self._on_inputs())
        #: Asks whether to delete a run; tests replace it.
        self.confirm: Callable[[str], bool] = self._confirm
        self._build()
        self._start = LatestAnswer(start_learning, self._on_started, self, pause=None)
        self._resume = LatestAnswer(resume, self._on_resumed, self, pause=None)
        self._stop = LatestAnswer(stop_runs, self._on_stopped, self, pause=None)
        self._read = LatestAnswer(FollowedLearning.read, self._on_read, self, pause=None)
        self._list = LatestAnswer(list_runs, self._on_listed, self, pause=None)
        self._delete = LatestAnswer(LearnRun.delete, self._on_deleted, self, pause=None)
        self._next_read = QTimer(self, singleShot=True, interval=_POLL)
        self._next_read.timeout.connect(self._ask)
        self._connect()
        self._show_page()
        self._on_layers()
        self._list.ask()

    # --- layout ----------------------------------------------------------------------------------

    def _build(self) -> None:
        self.runs = ShortComboBox(characters=12)
        self.runs.setToolTip("Learn a new model, or show a run")
        self.runs.addItem("New model…", None)
        tip = "A 2D image or a 3D stack, one channel"
        self.image_choice = LayerChoice(self._viewer, is_picture, tip)
        tip = "Its labels. Of a stack some labelled slices are enough: leave the others empty"
        self.labels_choice = LayerChoice(self._viewer, is_segmentation, tip)
        self.name = QLineEdit(free_name(), toolTip="Name of the learned model")
        self.minutes = QDoubleSpinBox(toolTip="Training time. It can be stopped and continued at any moment")
        self.minutes.setRange(0.1, 10_000)
        self.minutes.setDecimals(1)
        self.minutes.setValue(_MINUTES)
        self.minutes.setSuffix(" min")
        self.summary = Message()
        self.message = Message()
        self.learn_button = QPushButton(
            "Learn", toolTip="Learn in a separate process, which continues when napari is closed"
        )
        about = QLabel(_ABOUT, wordWrap=True)
        inputs = form(
            {
                "image": self.image_choice,
                "labels": self.labels_choice,
                "name": self.name,
                "time": self.minutes,
            }
        )
        self.page_new = QWidget()
        column(about, inputs, self.summary, self.message, self.learn_button, None, parent=self.page_new)

        self.headline = QLabel(wordWrap=True)
        self.headline.setStyleSheet("font-weight: bold;")
        self.progress_bar = QProgressBar(toolTip="Used share of the training time")
        self.progress_bar.setRange(0, 1000)
        self.numbers = QLabel(wordWrap=True)
        self.problem = Message()
        self.stop_button = QPushButton("Stop", toolTip="Save and stop; you can continue later")
        self.continue_button = QPushButton("Continue", toolTip="Continue from the last save")
        self.finish_button = QPushButton(
            "Save as model", toolTip="End the training: make a model of what is learned so far"
        )
        self.make_button = QPushButton("Make images", toolTip="Make annotated images with this model")
        self.delete_button = QPushButton(
            "Delete run", toolTip="Delete the folders of the run; its finished model stays"
        )
        controls = (self.stop_button, self.continue_button, self.finish_button)
        buttons = row(*((button, 1) for button in (*controls, self.make_button, self.delete_button)))
        self.curve = LossCurve()
        self.caption = QLabel(_ABOUT_PICTURE, wordWrap=True)
        self.picture = Picture()
        self.page_run = QWidget()
        words = (self.headline, self.progress_bar, self.numbers, self.problem)
        column(*words, buttons, self.curve, self.caption, self.picture, None, parent=self.page_run)
        column(form({"run": self.runs}), self.page_new, self.page_run, parent=self)

    def _connect(self) -> None:
        self.runs.activated.connect(self._on_run_chosen)
        self.image_choice.layer_changed.connect(self._on_layers)
        self.labels_choice.layer_changed.connect(self._on_layers)
        self.name.textChanged.connect(self._on_inputs)
        self.learn_button.clicked.connect(self.learn)
        self.stop_button.clicked.connect(self.stop)
        self.continue_button.clicked.connect(lambda: self._ask_resume(finish=False))
        self.finish_button.clicked.connect(lambda: self._ask_resume(finish=True))
        self.make_button.clicked.connect(self._on_make)
        self.delete_button.clicked.connect(self._on_delete)

    # --- a new run -------------------------------------------------------------------------------

    def _chosen(self) -> AnnotatedLayers:
        image, labels = self.image_choice.layer, self.labels_choice.layer
        assert image is None or isinstance(image, Image)
        assert labels is None or isinstance(labels, Labels)
        return annotated_layers(image, labels)

    def _on_layers(self) -> None:
        for choice in (self.image_choice, self.labels_choice):
            self._layers.follow(choice, choice.layer)
        self._on_inputs()

    def _on_inputs(self) -> None:
        """Say what is chosen, and why learning cannot start."""
        problem = ""
        try:
            self.summary.say(self._chosen().summary)
        except InputError as error:
            self.summary.say("")
            problem = str(error)
        problem = problem or name_problem(self.name.text())
        self.message.say(problem, problem=True)
        self.learn_button.setEnabled(not problem and not self._start.pending)

    def learn(self) -> None:
        """Start a run with these inputs, in a process of its own."""
        if self._start.pending:
            return
        try:
            chosen = self._chosen()
        except InputError as error:
            self.message.say(str(error), problem=True)
            return
        self.learn_button.setEnabled(False)
        self.learn_button.setText("Writing the images…")
        self._start.ask(chosen, self.name.text().strip(), self.minutes.value())

    def _on_started(self, answer: LearnRun | InputError) -> None:
        self.learn_button.setText("Learn")
        if isinstance(answer, InputError):
            self._on_inputs()
            self.message.say(str(answer), problem=True)
            return
        self.name.setText(free_name())
        self.follow(answer)

    # --- following -------------------------------------------------------------------------------

    @property
    def run(self) -> LearnRun | None:
        """The run that is shown."""
        return None if self._followed is None else self._followed.run

    def follow(self, run: LearnRun | None) -> None:
        """Show a run, or the page for a new one."""
        self._next_read.stop()
        self._read.forget()
        self._stopping, self._state = False, ""
        self._followed = None if run is None else FollowedLearning(run)
        self._show_page()
        self._list.ask()
        if self._followed is not None:
            self._show()
            self._ask()

    def _on_run_chosen(self) -> None:
        folder = self.runs.currentData()
        self.follow(None if folder is None else LearnRun(Path(folder)))

    def _on_listed(self, listed: list[tuple[str, str, str]]) -> None:
        going = [folder for folder, _, state in listed if state == "running"]
        shown = None if self.run is None else str(self.run.folder)
        with signals_blocked(self.runs):
            self.runs.clear()
            self.runs.addItem("New model…", None)
            for folder, name, state in listed:
                self.runs.addItem(f"{name}: {state}", folder)
            self.runs.setCurrentIndex(max(0, self.runs.findData(shown)))
        if self._fresh and going and shown is None:
            self.follow(LearnRun(Path(going[0])))  # started before this window was opened
        self._fresh = False

    _fresh = True

    def _show_page(self) -> None:
        self.page_new.setVisible(self._followed is None)
        self.page_run.setVisible(self._followed is not None)

    def _ask(self) -> None:
        if self._followed is not None:
            self._read.ask(self._followed)

    def _on_read(self, answer: FollowedLearning | InputError) -> None:
        if isinstance(answer, InputError):
            self.follow(None)
        elif answer is self._followed:
            self._stopping = self._stop.pending
            self._show()
            self._next_read.start()

    def _show(self) -> None:
        followed = self._followed
        assert followed is not None
        state = followed.state
        self.headline.setText("Stopping…" if self._stopping else followed.headline())
        self.progress_bar.setValue(round(1000 * followed.share))
        self.progress_bar.setVisible(state != "finished")
        self.numbers.setText(followed.numbers())
        self.numbers.setVisible(bool(followed.numbers()))
        self.problem.say(followed.problem(), problem=True)
        self.curve.show_run(followed)
        self.curve.setVisible(len(followed.losses) > 1)
        if followed.picture is not self._drawn:
            self._drawn = followed.picture
            self.picture.show_file(followed.picture)
        self.caption.setVisible(bool(followed.picture))
        busy = self._resume.pending or self._delete.pending
        self.stop_button.setVisible(state == "running")
        self.stop_button.setEnabled(not self._stopping)
        self.continue_button.setVisible(state in ("planned", "stopped"))
        self.finish_button.setVisible(state == "stopped" and bool(followed.losses))
        self.make_button.setVisible(state == "finished")
        self.delete_button.setVisible(state != "running")
        for button in (self.continue_button, self.finish_button, self.delete_button):
            button.setEnabled(not busy)
        if state != self._state:
            self._state = state
            self._list.ask()
            self.models_changed.emit()

    _drawn = b""

    # --- what can be done ------------------------------------------------------------------------

    def stop(self) -> None:
        """Stop the process after it has saved."""
        if self.run is None or self._stopping:
            return
        self._stopping = True
        self.stop_button.setEnabled(False)
        self.headline.setText("Stopping…")
        self._stop.ask((self.run,), GRACE)

    def _on_stopped(self, answer: InputError | None) -> None:
        self._next_read.stop()
        self._ask()

    def _ask_resume(self, finish: bool) -> None:
        if self.run is not None:
            self._resume.ask(self.run, finish)
            self._show()

    def _on_resumed(self, answer: LearnRun | InputError) -> None:
        if isinstance(answer, InputError):
            self.problem.say(str(answer), problem=True)
        elif answer is self.run:
            self._next_read.stop()
            self._ask()

    def _on_make(self) -> None:
        if self.run is not None:
            self.model_wanted.emit(self.run.model)

    def _on_delete(self) -> None:
        if self.run is not None and self.confirm(
            f"Delete the run {self.run.name!r} with its images and weights? Its finished model stays."
        ):
            self._delete.ask(self.run)

    def _confirm(self, text: str) -> bool:
        answer = QMessageBox.question(self, "Delete run", text)
        return bool(answer == QMessageBox.StandardButton.Yes)

    def _on_deleted(self, answer: Any) -> None:
        if isinstance(answer, InputError):
            self.problem.say(str(answer), problem=True)
            return
        self.follow(None)
        self._on_inputs()

    def shut_down(self) -> None:
        """Stop following; the process continues."""
        self._next_read.stop()
        for answer in (self._read, self._resume, self._list, self._delete, self._start):
            answer.forget()
        self._followed = None
        self._layers.stop()
        for choice in (self.image_choice, self.labels_choice):
            choice.disconnect_layers()
