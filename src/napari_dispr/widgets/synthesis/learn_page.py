"""The page "Learn" of "Synthesise annotated images": choose layers, start a run, follow it."""

from pathlib import Path

import pyqtgraph
from napari.layers import Image, Labels
from napari.viewer import Viewer
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QLabel, QLineEdit, QPushButton, QWidget

from napari_dispr.errors import InputError
from napari_dispr.widgets.parts.budget_plot import pen, set_colours, set_logarithmic, set_up
from napari_dispr.widgets.parts.docked import Message
from napari_dispr.widgets.parts.layer_choice import FollowedLayers, LayerChoice, is_picture, is_segmentation
from napari_dispr.widgets.parts.layouts import column, form, row
from napari_dispr.widgets.parts.number_boxes import DecimalBox
from napari_dispr.widgets.parts.run_follower import RunFollower
from napari_dispr.widgets.parts.run_list import RunList
from napari_dispr.widgets.parts.stated_size import StatedSize
from napari_dispr.widgets.parts.threads import LatestAnswer
from napari_dispr.widgets.synthesis.learn_run import (
    GRACE,
    AnnotatedLayers,
    FollowedLearning,
    LearnRun,
    all_runs,
    annotated_layers,
    free_name,
    images_in,
    name_problem,
    start_learning,
)
from napari_dispr.widgets.train.inputs import FolderInput

_MINUTES = 20.0
#: Colours that are distinct on dark and light backgrounds, also for the colour-blind.
_MASKS, _TEXTURES = "#4cc2ff", "#ffb454"
_ABOUT_PICTURE = (
    "From top to bottom: real masks, made masks, real cells, and textures made for the same cells."
)
_ABOUT = (
    "Learn the masks and textures of your cells from annotated slices: about 20 cells are enough, 100 are "
    "better. In each slice label all cells, or none."
)


class LossCurve(pyqtgraph.PlotWidget):
    """The losses of masks and textures over the share of the training time."""

    def __init__(self) -> None:
        super().__init__()
        self.setFixedHeight(170)
        self.masks = self.plot(pen=pen(_MASKS))
        self.textures = self.plot(pen=pen(_TEXTURES))
        set_logarithmic(self.getPlotItem())
        set_up(self.getPlotItem())

    def set_colours(self, text: str, background: str) -> None:
        """Take the colours of a theme, as ``#rrggbb``."""
        self.setBackground(background)
        curves = {"masks": _MASKS, "textures": _TEXTURES}
        set_colours(self.getPlotItem(), text, "training loss", curves)

    def show_run(self, followed: FollowedLearning) -> None:
        """Draw the losses so far."""
        share = [100 * one.share for one in followed.losses]
        self.masks.setData(share, [max(one.masks, 1e-6) for one in followed.losses])
        self.textures.setData(share, [max(one.textures, 1e-6) for one in followed.losses])


class LearnView(RunFollower[FollowedLearning]):
    """Follows one run."""

    def __init__(self) -> None:
        super().__init__(FollowedLearning, _ABOUT_PICTURE, GRACE)
        self.make_button = QPushButton("Make images", toolTip="Make annotated images with this model")
        self.curve = LossCurve()
        controls = (self.stop_button, self.continue_button, self.finish_button)
        buttons = row(*((button, 1) for button in (*controls, self.make_button, self.delete_button)))
        words = (self.headline, self.progress_bar, self.numbers)
        column(*words, buttons, self.problem, self.curve, self.caption, self.picture, None, parent=self)

    def _show_more(self, followed: FollowedLearning) -> None:
        self.curve.show_run(followed)
        self.curve.setVisible(len(followed.losses) > 1)

    def _show_buttons(self, followed: FollowedLearning) -> None:
        super()._show_buttons(followed)
        self.make_button.setVisible(followed.state == "finished")


class LearnPage(QWidget):
    """Starts runs and follows one of them."""

    #: The user wants to make images with a learned model: its file.
    model_wanted = Signal(object)
    #: A run has ended, or was deleted: other models may be there.
    models_changed = Signal()

    def __init__(self, viewer: Viewer) -> None:
        super().__init__()
        self._viewer = viewer
        self._layers = FollowedLayers(["scale", "units", "set_data"], lambda event: self._on_inputs(), self)
        self._build()
        self._start = LatestAnswer(start_learning, self._on_started, self, pause=None)
        self._count = LatestAnswer(images_in, self._on_counted, self)
        self._stated = StatedSize(self)
        self._connect()
        self._show_page()
        self._on_layers()

    # --- layout ----------------------------------------------------------------------------------

    def _build(self) -> None:
        tip = "A 2D image or a 3D stack, one channel"
        self.image_choice = LayerChoice(self._viewer, is_picture, tip)
        tip = "Its labels. Of a stack some labelled slices are enough: leave the others empty"
        self.labels_choice = LayerChoice(self._viewer, is_segmentation, tip)
        self.folder = FolderInput(
            "Several images: a folder with the folders image and labels, which hold files of the same names"
        )
        self.name = QLineEdit(free_name(), toolTip="Name of the learned model")
        tip = "Training time. It can be stopped and continued at any moment"
        self.minutes = DecimalBox(0.1, 10_000, 1, tip, suffix=" min")
        self.minutes.setValue(_MINUTES)
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
                "or folder": self.folder,
                "name": self.name,
                "time": self.minutes,
            }
        )
        self.page_new = QWidget()
        column(about, inputs, self.learn_button, self.summary, self.message, None, parent=self.page_new)

        self.view = LearnView()
        self.runs = RunList(all_runs, self.view)
        column(form({"run": self.runs}), self.page_new, self.view, parent=self)

    def _connect(self) -> None:
        self.runs.chosen.connect(self._on_run_chosen)
        self.image_choice.layer_changed.connect(self._on_layers)
        self.labels_choice.layer_changed.connect(self._on_layers)
        self.folder.changed.connect(self._on_inputs)
        self._stated.read.connect(self._on_inputs)
        self.name.textChanged.connect(self._on_inputs)
        self.learn_button.clicked.connect(self.learn)
        self.view.state_changed.connect(self.models_changed)
        self.view.gone.connect(self._on_gone)
        self.view.make_button.clicked.connect(self._on_make)

    # --- a new run -------------------------------------------------------------------------------

    def _chosen(self) -> AnnotatedLayers | Path:
        if self.folder.folder is not None:
            return self.folder.folder
        image, labels = self.image_choice.layer, self.labels_choice.layer
        assert image is None or isinstance(image, Image)
        assert labels is None or isinstance(labels, Labels)
        return annotated_layers(image, labels, self._stated.of(image, labels))

    def _on_layers(self) -> None:
        for choice in (self.image_choice, self.labels_choice):
            self._layers.follow(choice, choice.layer)
        self._on_inputs()

    def _on_inputs(self) -> None:
        """Say what is chosen, and why learning cannot start; a folder is looked at in a thread."""
        for choice in (self.image_choice, self.labels_choice):
            choice.setEnabled(self.folder.folder is None)
        self._count.forget()
        try:
            chosen = self._chosen()
        except InputError as error:
            self._say("", str(error))
            return
        if isinstance(chosen, AnnotatedLayers):
            self._say(chosen.summary)
            return
        self._say("Looking into the folder…")
        self.learn_button.setEnabled(False)
        self._count.ask(chosen)

    def _on_counted(self, answer: str | InputError) -> None:
        if isinstance(answer, InputError):
            self._say("", str(answer))
        else:
            self._say(answer)

    def _say(self, summary: str, problem: str = "") -> None:
        """Say what is chosen; without a problem of the inputs, or of the name, learning can start."""
        self.summary.say(summary)
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
            self.message.say(str(answer), problem=True)
            self.learn_button.setEnabled(True)
            return
        self.name.setText(free_name())
        self.follow(answer, started=True)

    # --- runs ------------------------------------------------------------------------------------

    @property
    def run(self) -> LearnRun | None:
        """The run that is shown."""
        run: LearnRun | None = self.view.run
        return run

    def follow(self, run: LearnRun | None, *, started: bool = False) -> None:
        """Show a run, or the page for a new one."""
        self.view.follow(run, started=started)
        self._show_page()
        self.runs.refresh()

    def _on_run_chosen(self, folder: str | None) -> None:
        self.follow(None if folder is None else LearnRun(Path(folder)))

    def _show_page(self) -> None:
        self.page_new.setVisible(self.run is None)
        self.view.setVisible(self.run is not None)

    def _on_gone(self) -> None:
        self.follow(None)
        self._on_inputs()

    def _on_make(self) -> None:
        if self.run is not None:
            self.model_wanted.emit(self.run.model)
