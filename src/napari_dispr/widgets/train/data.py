"""Which cells to train on: 3D layers or a dataset folder; what was found there, in words and pictures."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.layers import Image, Labels, Layer
from qtpy.QtCore import QTimer, Signal
from qtpy.QtGui import QDragEnterEvent, QDropEvent
from qtpy.QtWidgets import (
    QButtonGroup,
    QFormLayout,
    QHBoxLayout,
    QPushButton,
    QRadioButton,
    QVBoxLayout,
    QWidget,
)

from napari_dispr.errors import InputError
from napari_dispr.viewer.displayed import displayed_plane
from napari_dispr.viewer.layers import METADATA_KEY
from napari_dispr.widgets.parts.background import NewestAnswer
from napari_dispr.widgets.parts.layer_choice import FollowedLayers, LayerChoice
from napari_dispr.widgets.parts.message import Message
from napari_dispr.widgets.train.inputs import (
    FolderInput,
    PlaneInput,
    SpacingInput,
    dropped_folder,
)
from napari_dispr.widgets.train.picture import Picture, PictureWindow
from napari_dispr.widgets.train.request import (
    DataRequest,
    Progress,
    TrainingData,
    gather,
    large_picture,
    layers_spacing,
    stack_of,
)

if TYPE_CHECKING:
    from napari.components import ViewerModel

#: What changes the voxels of a layer, and what its frame. Not "set_data": that is every move of a slider.
_EDITS = ("data", "paint", "labels_update")
_FRAME = ("scale", "rotate", "shear", "affine", "units")
#: Cutting cells takes seconds: wait until the user rests, milliseconds.
_PAUSE = 400
#: How often it is said how many have been cut, milliseconds.
_BETWEEN_PROGRESS = 200
_LOOKING = "Looking at the cells…"

_ABOUT_PICTURE = (
    "Each cell: the picture with its outline, which is what the model sees, and beside it the 3D shape that "
    "it is to learn, seen obliquely from above."
)


class DataInput(QWidget):
    """Chooses cells and has them looked at in a thread whenever the choice changes.

    Parameters
    ----------
    viewer : ViewerModel
    """

    #: ``data`` is another one, or what is wrong.
    changed = Signal()

    def __init__(self, viewer: "ViewerModel") -> None:
        super().__init__()
        self._viewer = viewer
        #: The cells as they were found, None while they are looked for or something is wrong.
        self.data: TrainingData | None = None
        self._followed = FollowedLayers((*_EDITS, *_FRAME), self._on_layer_event)
        self._active, self._stale = True, False
        self._progress = Progress()
        self._build()
        self._coming = QTimer(self, singleShot=True, interval=0)
        self._coming.timeout.connect(self._on_inputs)
        self._next_progress = QTimer(self, interval=_BETWEEN_PROGRESS)
        self._next_progress.timeout.connect(self._show_progress)
        self._check = NewestAnswer(gather, self._on_gathered, self, pause=_PAUSE)
        self._enlarge = NewestAnswer(large_picture, self._show_large, self, pause=0)
        self._connect()
        self._on_source()
        self._follow_layers()

    # --- layout ----------------------------------------------------------------------------------

    def _build(self) -> None:
        self.setAcceptDrops(True)
        self.layers_button = QRadioButton("3D layers")
        self.folder_button = QRadioButton("dataset folder")
        self.layers_button.setToolTip(
            "Cells of a stack that is open: a 3D label layer, with or without picture"
        )
        self.folder_button.setToolTip("Cells that were cut already: a folder as DISPR and SHAPR read it")
        self.layers_button.setChecked(True)
        group = QButtonGroup(self)
        sources = QHBoxLayout()
        for button in (self.layers_button, self.folder_button):
            group.addButton(button)
            sources.addWidget(button)
        sources.addStretch()
        self.labels_choice = LayerChoice(self._viewer, _is_segmentation)
        self.image_choice = LayerChoice(self._viewer, _is_picture, none="none: labels only")
        self.labels_choice.setPlaceholderText("no 3D label layer is open")
        self.labels_choice.setToolTip("The 3D segmentation, one label a cell")
        self.image_choice.setToolTip(
            "The 3D picture, of one channel. Without one the model learns from outlines alone."
        )
        self.spacing = SpacingInput()
        self.plane = PlaneInput()
        self.folder = FolderInput()
        self.rows = QFormLayout()
        self.rows.setContentsMargins(0, 0, 0, 0)
        self.rows.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        self.rows.addRow("labels", self.labels_choice)
        self.rows.addRow("picture", self.image_choice)
        self.rows.addRow("voxel size", self.spacing)
        self.rows.addRow("plane", self.plane)
        self.rows.addRow("folder", self.folder)
        #: What is wrong with the cells, or what was found.
        self.message = Message()
        self.doubts = Message()
        self.picture = Picture()
        self.picture.setToolTip(_ABOUT_PICTURE)
        self.preview_button = QPushButton("Preview")
        self.preview_button.setToolTip("Look at more of the cells, larger")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(sources)
        layout.addLayout(self.rows)
        layout.addWidget(self.picture)
        found = QHBoxLayout()
        found.addWidget(self.message, 1)
        found.addWidget(self.preview_button)
        layout.addLayout(found)
        layout.addWidget(self.doubts)
        self.preview_button.hide()

    def _connect(self) -> None:
        self.layers_button.toggled.connect(self._on_source)
        for choice in (self.labels_choice, self.image_choice):
            choice.layer_changed.connect(self._follow_layers)
        for control in (self.spacing, self.plane, self.folder):
            control.changed.connect(self._on_inputs)
        self.plane.take_button.clicked.connect(self._take_displayed)
        self.preview_button.clicked.connect(self._preview)

    def _on_source(self) -> None:
        of_layers = self.layers_button.isChecked()
        for control in (self.labels_choice, self.image_choice, self.spacing, self.plane):
            self.rows.setRowVisible(control, of_layers)
        self.rows.setRowVisible(self.folder, not of_layers)
        if hasattr(self, "_check"):
            self._on_inputs()

    # --- what is chosen --------------------------------------------------------------------------

    @property
    def pending(self) -> bool:
        """Whether cells are still being looked at."""
        return self._check.pending

    def request(self) -> DataRequest:
        """What the inputs ask for; `InputError` if something is wrong at first sight."""
        if self.folder_button.isChecked():
            if self.folder.folder is None:
                raise InputError("Choose a dataset folder, or open a 3D label layer.")
            return DataRequest(folder=self.folder.folder)
        image, labels = self.image_choice.layer, self.labels_choice.layer
        assert image is None or isinstance(image, Image)
        assert labels is None or isinstance(labels, Labels)
        if labels is not None and not self.spacing.edited:
            self.spacing.show_spacing(layers_spacing(image, labels))
        stack = stack_of(image, labels, self.spacing.spacing)
        return DataRequest(stack, self.plane.plane)

    def set_active(self, active: bool) -> None:
        """Look at the cells, or do not while nobody wants to know: what changed meanwhile is seen later."""
        self._active = active
        if active and self._stale:
            self._on_inputs()

    def use_folder(self, folder: Path) -> None:
        """Choose a dataset folder."""
        self.folder.folder = folder
        self.folder_button.setChecked(True)

    def _follow_layers(self) -> None:
        """Listen to the chosen layers instead of those before."""
        changed = [
            self._followed.follow(choice, choice.layer) for choice in (self.labels_choice, self.image_choice)
        ]
        if any(changed):
            self.spacing.edited = False
        if (labels := self.labels_choice.layer) is not None:
            self.plane.allow((labels.data[0] if labels.multiscale else labels.data).shape[0])
        self._on_inputs()

    def _on_layer_event(self, event: Any) -> None:
        if event.type in _FRAME:
            self.spacing.edited = False
        if self.layers_button.isChecked():
            self._coming.start()

    def _take_displayed(self) -> None:
        if self.labels_choice.layer is None:
            return
        try:
            plane = displayed_plane(self.labels_choice.layer, self._viewer.dims)
        except InputError as error:
            self.message.say(str(error), problem=True)
            return
        self.plane.plane = plane.index[0]

    # --- what was found --------------------------------------------------------------------------

    def _on_inputs(self) -> None:
        """Say what is wrong at first sight; have the rest looked at in a thread."""
        self._coming.stop()
        self._stale = not self._active
        if self._stale:
            return
        self._forget()
        self.data = None
        self.preview_button.hide()
        self.doubts.say("")
        try:
            request = self.request()
        except InputError as error:
            self.picture.show_array(None)
            self.message.say(str(error), problem=self._anything_chosen)
        else:
            self.message.say(_LOOKING)
            self._progress = Progress()
            self._next_progress.start()
            self._check.ask(request, self._progress)
        self.changed.emit()

    def _forget(self) -> None:
        """Look no more for what is out of date."""
        self._progress.cancelled = True
        self._next_progress.stop()
        self._check.forget()

    def _show_progress(self) -> None:
        if self._progress.total and self._check.pending:
            self.message.say(f"{_LOOKING} {self._progress.done} of {self._progress.total}")

    @property
    def _anything_chosen(self) -> bool:
        """Whether the user has chosen anything that could be wrong."""
        if self.folder_button.isChecked():
            return self.folder.folder is not None
        return self.labels_choice.layer is not None

    def _on_gathered(self, answer: TrainingData | InputError) -> None:
        self._next_progress.stop()
        if isinstance(answer, InputError):
            self.picture.show_array(None)
            self.message.say(str(answer), problem=True)
        else:
            self.data = answer
            self.message.say(answer.summary)
            self.doubts.say("\n⚠ ".join(answer.doubts), problem=True)
            self.picture.show_array(answer.picture)
            self.preview_button.show()
        self.changed.emit()

    def _preview(self) -> None:
        if self.data is not None:
            self.preview_button.setEnabled(False)
            self._enlarge.ask(self.data)

    def _show_large(self, picture: Any) -> None:
        self.preview_button.setEnabled(True)
        PictureWindow("Cells to train on", _ABOUT_PICTURE, picture, self).show()

    # --- dropping a folder -----------------------------------------------------------------------

    def dragEnterEvent(self, event: QDragEnterEvent | None) -> None:
        """Take folders."""
        if event is not None and dropped_folder(event) is not None:
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent | None) -> None:
        """Train on the folder that is dropped."""
        if event is not None and (folder := dropped_folder(event)) is not None:
            event.acceptProposedAction()
            self.use_folder(folder)

    def shut_down(self) -> None:
        """Follow the viewer no more."""
        for choice in (self.labels_choice, self.image_choice):
            choice.disconnect_layers()
        self._followed.stop()
        self._coming.stop()
        self._forget()
        self._enlarge.forget()


def _is_picture(layer: Layer) -> bool:
    return isinstance(layer, Image) and _is_stack(layer) and not layer.rgb


def _is_segmentation(layer: Layer) -> bool:
    return isinstance(layer, Labels) and _is_stack(layer)


def _is_stack(layer: Layer) -> bool:
    return layer.ndim == 3 and METADATA_KEY not in layer.metadata
