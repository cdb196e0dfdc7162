"""Which cells to train on: 3D layers or a dataset folder; shows what was found there."""

from pathlib import Path
from typing import Any

import numpy as np
from napari.components import ViewerModel
from napari.layers import Image, Labels, Layer
from numpy.typing import NDArray
from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import QButtonGroup, QLabel, QPushButton, QRadioButton

from napari_dispr.errors import InputError
from napari_dispr.viewer.displayed import displayed_plane, finest
from napari_dispr.widgets.parts.docked import Message
from napari_dispr.widgets.parts.layer_choice import (
    FollowedLayers,
    LayerChoice,
    is_3d_segmentation,
    is_picture,
)
from napari_dispr.widgets.parts.layouts import column, form, row
from napari_dispr.widgets.parts.picture import Picture, PictureWindow
from napari_dispr.widgets.parts.stated_size import StatedSize
from napari_dispr.widgets.parts.threads import LatestAnswer
from napari_dispr.widgets.train.inputs import FolderInput, FolderTarget, PlaneInput, SpacingInput
from napari_dispr.widgets.train.request import (
    DataRequest,
    Progress,
    TrainingData,
    gather,
    large_picture,
    layers_spacing,
    stack_of,
)

#: Events that change the voxels of a layer, and those that change its frame. Not "set_data": each move of a
#: slider sends it.
_EDITS = ("data", "paint", "labels_update")
_FRAME = ("scale", "rotate", "shear", "affine", "units")
#: Cropping cells takes seconds: start after this pause in the input, milliseconds.
_PAUSE = 400
#: How often the progress of cropping is shown, milliseconds.
_BETWEEN_PROGRESS = 200
_READING = "Reading the cells…"

_ABOUT_PICTURE = (
    "Each cell: left the picture with its outline, which is the model's input; right its 3D shape, seen "
    "obliquely from above, which the model learns."
)


class DataInput(FolderTarget):
    """Chooses cells, and reads and checks them in a thread whenever the choice changes."""

    #: ``data`` has changed, or the problem has.
    changed = Signal()

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        self._viewer = viewer
        #: The cells; None while they are being read, or if something is wrong.
        self.data: TrainingData | None = None
        self._followed = FollowedLayers((*_EDITS, *_FRAME), self._on_layer_event, self)
        self._active, self._stale = True, False
        self._progress = Progress()
        self._build()
        self._coming = QTimer(self, singleShot=True, interval=0)
        self._coming.timeout.connect(self._on_inputs)
        self._next_progress = QTimer(self, interval=_BETWEEN_PROGRESS)
        self._next_progress.timeout.connect(self._show_progress)
        self._check = LatestAnswer(gather, self._on_gathered, self, pause=_PAUSE)
        self._enlarge = LatestAnswer(large_picture, self._show_large, self, pause=0)
        self._stated = StatedSize(self)
        self._connect()
        self._on_source()
        self._follow_layers()

    # --- layout ----------------------------------------------------------------------------------

    def _build(self) -> None:
        self.folder_dropped.connect(self.use_folder)
        self.layers_button = QRadioButton(
            "3D layers", toolTip="Cells of an open stack: a 3D label layer, with or without an image"
        )
        self.folder_button = QRadioButton(
            "dataset folder", toolTip="Cells that were cropped already, in the format of DISPR and SHAPR"
        )
        self.layers_button.setChecked(True)
        group = QButtonGroup(self)
        for button in (self.layers_button, self.folder_button):
            group.addButton(button)
        tip = "The 3D segmentation, one label for each cell"
        self.labels_choice = LayerChoice(self._viewer, is_3d_segmentation, tip)
        self.labels_choice.setPlaceholderText("no 3D label layer is open")
        tip = "The 3D image, one channel. Without it the model learns from outlines only."
        self.image_choice = LayerChoice(self._viewer, _is_3d_picture, tip, none="none: labels only")
        self.spacing = SpacingInput()
        self.plane = PlaneInput()
        self.folder = FolderInput(
            "Folder with obj, image and mask (or with a folder train), a TIFF file of 64 x 64 x 64 voxels "
            "for each cell, in the format of DISPR and SHAPR"
        )
        self.rows = form(
            {
                "labels": self.labels_choice,
                "image": self.image_choice,
                "voxel size": self.spacing,
                "plane": self.plane,
                "folder": self.folder,
            }
        )
        #: A problem of the cells, or how many were found.
        self.message = Message()
        self.warnings = Message()
        self.picture = Picture()
        self.caption = QLabel(_ABOUT_PICTURE, wordWrap=True)
        self.caption.hide()
        self.preview_button = QPushButton("Preview", toolTip="Show more of the cells, larger")
        sources = row(self.layers_button, self.folder_button, None)
        found = row((self.message, 1), self.preview_button)
        column(sources, self.rows, self.caption, self.picture, found, self.warnings, parent=self)
        self.preview_button.hide()

    def _connect(self) -> None:
        self.layers_button.toggled.connect(self._on_source)
        for choice in (self.labels_choice, self.image_choice):
            choice.layer_changed.connect(self._follow_layers)
        for control in (self.spacing, self.plane, self.folder):
            control.changed.connect(self._on_inputs)
        self._stated.read.connect(self._on_inputs)
        self.plane.take_button.clicked.connect(self._take_displayed)
        self.preview_button.clicked.connect(self._preview)

    def _on_source(self) -> None:
        of_layers = self.layers_button.isChecked()
        for control in (self.labels_choice, self.image_choice, self.spacing, self.plane):
            self.rows.setRowVisible(control, of_layers)
        self.rows.setRowVisible(self.folder, not of_layers)
        self._on_inputs()

    # --- what is chosen --------------------------------------------------------------------------

    @property
    def pending(self) -> bool:
        return self._check.pending or self._stated.pending

    def request(self) -> DataRequest:
        """The request that the inputs make; `InputError` if something is wrong at first sight."""
        if self.folder_button.isChecked():
            if self.folder.folder is None:
                raise InputError("Choose a dataset folder, or open a 3D label layer.")
            return DataRequest(folder=self.folder.folder)
        image, labels = self.image_choice.layer, self.labels_choice.layer
        assert image is None or isinstance(image, Image)
        assert labels is None or isinstance(labels, Labels)
        if labels is not None and not self.spacing.edited:
            self.spacing.show_spacing(layers_spacing(image, labels, self._stated.of(labels, image)))
        stack = stack_of(image, labels, self.spacing.spacing)
        return DataRequest(stack, self.plane.plane)

    def set_active(self, active: bool) -> None:
        """Read the cells on each change; while not active, wait with that."""
        self._active = active
        if active and self._stale:
            self._on_inputs()

    def use_folder(self, folder: Path) -> None:
        self.folder.folder = folder
        self.folder_button.setChecked(True)

    def _follow_layers(self) -> None:
        """Follow the chosen layers instead of the earlier ones."""
        changed = [
            self._followed.follow(choice, choice.layer) for choice in (self.labels_choice, self.image_choice)
        ]
        if any(changed):
            self.spacing.edited = False
        if (labels := self.labels_choice.layer) is not None:
            self.plane.allow(finest(labels).shape[0])
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
        """Say what is wrong at first sight; read and check the cells in a thread."""
        self._coming.stop()
        self._stale = not self._active
        if self._stale:
            return
        self.forget()
        self.data = None
        self.preview_button.hide()
        self.warnings.say("")
        try:
            request = self.request()
        except InputError as error:
            self._show_picture(None)
            self.message.say(str(error), problem=self._anything_chosen)
        else:
            self.message.say(_READING)
            if not self._stated.pending:  # else the voxel size of the file comes first
                self._progress = Progress()
                self._next_progress.start()
                self._check.ask(request, self._progress)
        self.changed.emit()

    def forget(self) -> None:
        """Cancel the reading of earlier inputs."""
        self._progress.cancelled = True
        self._next_progress.stop()
        self._check.forget()

    def _show_progress(self) -> None:
        if self._progress.total and self._check.pending:
            self.message.say(f"{_READING} {self._progress.done} of {self._progress.total}")

    @property
    def _anything_chosen(self) -> bool:
        """Whether the user has chosen something that could be wrong."""
        if self.folder_button.isChecked():
            return self.folder.folder is not None
        return self.labels_choice.layer is not None

    def _on_gathered(self, answer: TrainingData | InputError) -> None:
        self._next_progress.stop()
        if isinstance(answer, InputError):
            self._show_picture(None)
            self.message.say(str(answer), problem=True)
        else:
            self.data = answer
            self.message.say(answer.summary)
            self.warnings.say("\n⚠ ".join(answer.warnings), problem=True)
            self._show_picture(answer.picture)
            self.preview_button.show()
        self.changed.emit()

    def _show_picture(self, picture: NDArray[np.uint8] | None) -> None:
        self.picture.show_array(picture)
        self.caption.setVisible(picture is not None)

    def _preview(self) -> None:
        if self.data is not None:
            self.preview_button.setEnabled(False)
            self._enlarge.ask(self.data)

    def _show_large(self, picture: Any) -> None:
        self.preview_button.setEnabled(True)
        PictureWindow("Cells to train on", _ABOUT_PICTURE, picture, self).show()


def _is_3d_picture(layer: Layer) -> bool:
    return is_picture(layer) and layer.ndim == 3 and not layer.rgb
