"""The browser of annotated images: small pictures; a click shows an image and its labels as layers."""

from pathlib import Path
from typing import Any
from weakref import WeakSet

import numpy as np
from napari.layers import Image, Labels, Layer
from napari.viewer import Viewer
from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtGui import QIcon, QPixmap
from qtpy.QtWidgets import QFileDialog, QLabel, QListWidget, QListWidgetItem, QPushButton, QWidget

from napari_dispr.errors import InputError, counted
from napari_dispr.synthesis.annotated import Annotated
from napari_dispr.viewer.layers import remove_layers
from napari_dispr.viewer.scene import look_at
from napari_dispr.viewer.world import in_viewer
from napari_dispr.widgets.parts.docked import Message
from napari_dispr.widgets.parts.layouts import column, row
from napari_dispr.widgets.parts.picture import image_of
from napari_dispr.widgets.parts.run_bar import RunBar
from napari_dispr.widgets.parts.threads import LatestAnswer
from napari_dispr.widgets.synthesis.make_request import THUMB, Thumb, iter_browse, made_with, read_pair

#: Names of the two layers that show the chosen image.
IMAGE_LAYER, LABELS_LAYER = "synthetic image", "synthetic labels"
_HEIGHT = 250


class FieldBrowser(QWidget):
    """Shows the annotated images of a folder."""

    #: Another folder is shown.
    folder_changed = Signal()

    def __init__(self, viewer: Viewer) -> None:
        super().__init__()
        self._viewer: Any = viewer
        #: The folder that is shown.
        self.folder: Path | None = None
        self._shown: WeakSet[Layer] = WeakSet()  # layers of the image that was clicked
        self.title = QLabel("Made images", wordWrap=True)
        self.open_button = QPushButton("Open folder…", toolTip="Show the images of another folder")
        self.list = QListWidget(
            toolTip="Each image and, next to it, the outlines of its cells. Click to show it in the viewer"
        )
        self.list.setViewMode(QListWidget.ViewMode.IconMode)
        self.list.setIconSize(QSize(2 * THUMB, THUMB))
        self.list.setResizeMode(QListWidget.ResizeMode.Adjust)
        self.list.setMovement(QListWidget.Movement.Static)
        self.list.setUniformItemSizes(True)
        self.list.setFixedHeight(_HEIGHT)
        self.message = Message()
        self.run_bar = RunBar("Read no more images")
        top = row((self.title, 1), self.open_button)
        column(top, self.list, self.message, self.run_bar, parent=self)
        self._read = LatestAnswer(read_pair, self._on_read, self, pause=None)
        self.open_button.clicked.connect(self._choose)
        self.list.itemClicked.connect(self._on_clicked)
        self._show_title()

    def begin(self, folder: Path) -> None:
        """Empty the browser for the images of a folder; those of another are not read any more."""
        self.run_bar.cancel()
        self.folder = folder
        self.list.clear()
        self._show_title()
        self.folder_changed.emit()

    def add(self, thumb: Thumb) -> None:
        """Add an image, unless it is shown already, or another folder is."""
        shown = self.list.findItems(thumb.name, Qt.MatchFlag.MatchExactly)
        if shown or self.folder not in thumb.image.parents:
            return
        item = QListWidgetItem(QIcon(QPixmap.fromImage(image_of(thumb.picture))), thumb.name)
        item.setData(Qt.ItemDataRole.UserRole, (str(thumb.image), str(thumb.labels)))
        self.list.addItem(item)
        self._show_title()

    def open(self, folder: Path) -> None:
        """Show the images of a folder."""
        self.begin(folder)
        self.run_bar.restart(
            iter_browse(folder), self.run_bar.status.say, on_event=self.add, first="reading", kept=""
        )

    def show_layers(self, field: Annotated) -> None:
        """Show an image and its labels as layers, in place of the last ones shown here."""
        shown = [layer for layer in self._shown if layer in self._viewer.layers]
        remove_layers(self._viewer, shown)
        # If there were some, the user has decided what is visible.
        self._shown = WeakSet(self.add_layers(field, alone=not shown))

    def add_layers(self, field: Annotated, *, alone: bool = True) -> tuple[Image, Labels]:
        """Add an image and its labels as new layers, and show the slice with most cells.

        With ``alone`` the other layers are hidden.
        """
        for layer in self._viewer.layers if alone else ():
            layer.visible = False
        place = {"scale": field.spacing, "units": (field.unit,) * field.labels.ndim}
        image = self._viewer.add_image(field.image, name=IMAGE_LAYER, **place)
        labels = self._viewer.add_labels(field.labels, name=LABELS_LAYER, opacity=0.5, **place)
        look_at(self._viewer, [image])
        if field.labels.ndim == 3:
            z = int(np.argmax((field.labels > 0).sum(axis=(1, 2))))
            dims = self._viewer.dims  # its steps may be those of another layer
            dims.set_point(dims.ndim - 3, z * field.spacing[0] * in_viewer(field.unit, dims))
        return image, labels

    def _show_title(self) -> None:
        self.list.setVisible(self.list.count() > 0)
        if self.folder is None:
            self.title.setText("No folder is open.")
            return
        images = counted(self.list.count(), "image")
        self.title.setText(f"{self.folder.name}: {images}. {made_with(self.folder)}")
        self.title.setToolTip(str(self.folder))

    def _choose(self) -> None:
        start = str(self.folder or "")
        chosen = QFileDialog.getExistingDirectory(self, "A folder of annotated images", start)
        if chosen:
            self.open(Path(chosen))

    def _on_clicked(self, item: QListWidgetItem) -> None:
        image, labels = item.data(Qt.ItemDataRole.UserRole)
        self._read.ask(Path(image), Path(labels))

    def _on_read(self, answer: Annotated | InputError) -> None:
        if isinstance(answer, InputError):
            self.message.say(str(answer), problem=True)
            return
        self.message.say("")
        self.show_layers(answer)
