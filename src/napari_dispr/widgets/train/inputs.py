"""Small controls of Train: voxel size, plane, folder."""

from contextlib import ExitStack
from pathlib import Path

from qtpy.QtCore import Signal
from qtpy.QtGui import QDragEnterEvent, QDropEvent
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QLabel,
    QLineEdit,
    QPushButton,
    QSpinBox,
    QWidget,
)
from superqt.utils import signals_blocked

from napari_dispr.shapes.measures import unit_sign
from napari_dispr.widgets.parts.layouts import narrow, row
from napari_dispr.widgets.parts.number_boxes import DecimalBox
from napari_dispr.widgets.train.request import Plane, Spacing

_UNITS = ("micrometer", "nanometer", "millimeter", "pixel")


class Length(DecimalBox):
    """A length, without trailing zeros."""

    def __init__(self) -> None:
        super().__init__(1e-6, 1e6, 6)
        self.setKeyboardTracking(False)  # do not check "0." while "0.3" is typed
        narrow(self)

    def textFromValue(self, value: float) -> str:
        """Such as ``0.3``."""
        return self.locale().toString(value, "g", 6)


class SpacingInput(QWidget):
    """The voxel size: that of the layers, until the user changes it."""

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.lengths = {axis: Length() for axis in "zyx"}
        self.unit = QComboBox(toolTip="Unit of the voxel size; pixel: unknown")
        for unit in _UNITS:
            self.unit.addItem(unit_sign(unit), unit)
        items = [item for axis, box in self.lengths.items() for item in (QLabel(axis), (box, 1))]
        row(*items, self.unit, parent=self).setSpacing(4)
        for axis, box in self.lengths.items():
            box.setToolTip(
                f"Distance of voxels along {axis}, from the layers. Change it here if it is wrong."
            )
            box.valueChanged.connect(self._on_edit)
        self.unit.currentIndexChanged.connect(self._on_edit)
        #: Whether the user has changed the voxel size of the layers.
        self.edited = False
        self._shown = Spacing((1.0, 1.0, 1.0), "pixel")
        self.show_spacing(self._shown)

    @property
    def spacing(self) -> Spacing:
        if not self.edited:
            return self._shown
        return Spacing(tuple(box.value() for box in self.lengths.values()), self.unit.currentData())

    def show_spacing(self, spacing: Spacing) -> None:
        self.edited, self._shown = False, spacing
        with ExitStack() as blocked:
            for control in (*self.lengths.values(), self.unit):
                blocked.enter_context(signals_blocked(control))
            for box, length in zip(self.lengths.values(), spacing.sides, strict=True):
                box.setValue(length)
            if self.unit.findData(spacing.unit) < 0:
                self.unit.addItem(unit_sign(spacing.unit), spacing.unit)
            self.unit.setCurrentIndex(self.unit.findData(spacing.unit))

    def _on_edit(self) -> None:
        self.edited = True
        self.changed.emit()


class PlaneInput(QWidget):
    """The z of the imaged plane."""

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.kind = QComboBox()
        self.kind.addItem("middle of each cell", "middle")
        self.kind.addItem("slice", "slice")
        self.slice = QSpinBox(toolTip="Slice of the stack, from 0; cells outside it are left out")
        self.slice.setKeyboardTracking(False)
        self.take_button = QPushButton("Displayed", toolTip="Use the slice that the viewer shows")
        self.kind.setToolTip(
            "Imaged plane of the training pictures: through the middle of each cell, or one slice for all. "
            "Choose what is most similar to your 2D pictures."
        )
        row((self.kind, 2), (self.slice, 1), self.take_button, parent=self)
        self.kind.currentIndexChanged.connect(self._on_kind)
        self.slice.valueChanged.connect(self._on_slice)
        self._show()

    @property
    def plane(self) -> Plane:
        return self.slice.value() if self.kind.currentData() == "slice" else "middle"

    @plane.setter
    def plane(self, plane: Plane) -> None:
        if isinstance(plane, int):
            self.slice.setValue(plane)
        self.kind.setCurrentIndex(0 if plane == "middle" else 1)

    def allow(self, slices: int) -> None:
        self.slice.setMaximum(max(0, slices - 1))

    def _on_kind(self) -> None:
        self._show()
        self.changed.emit()

    def _on_slice(self) -> None:
        if self.kind.currentData() == "slice":
            self.changed.emit()

    def _show(self) -> None:
        self.slice.setVisible(self.kind.currentData() == "slice")


class FolderTarget(QWidget):
    """Takes a folder that is dropped on it."""

    #: The path of the folder.
    folder_dropped = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self.setAcceptDrops(True)

    def dragEnterEvent(self, event: QDragEnterEvent | None) -> None:
        if event is not None and _dropped_folder(event) is not None:
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent | None) -> None:
        if event is not None and (folder := _dropped_folder(event)) is not None:
            event.acceptProposedAction()
            self.folder_dropped.emit(folder)


def _dropped_folder(event: QDragEnterEvent | QDropEvent) -> Path | None:
    """The dragged folder; None for anything else."""
    data = event.mimeData()
    if data is None or not data.hasUrls() or len(data.urls()) != 1:
        return None
    path = Path(data.urls()[0].toLocalFile())
    return path if path.is_dir() else None


class FolderInput(FolderTarget):
    """The path of a folder, which can be dropped on it."""

    changed = Signal()

    def __init__(self, tip: str) -> None:
        super().__init__()
        self.path = QLineEdit(toolTip=tip)
        self.path.setPlaceholderText("Drop a folder")
        self.path.setClearButtonEnabled(True)
        self.browse_button = QPushButton("Browse…", toolTip=tip)
        row((self.path, 1), self.browse_button, parent=self)
        self.path.setAcceptDrops(False)  # it would write "file:///..."
        self.path.textChanged.connect(self.changed)
        self.browse_button.clicked.connect(self._browse)
        self.folder_dropped.connect(lambda folder: self.path.setText(str(folder)))

    @property
    def folder(self) -> Path | None:
        text = self.path.text().strip()
        return Path(text).expanduser() if text else None

    @folder.setter
    def folder(self, folder: Path | None) -> None:
        self.path.setText("" if folder is None else str(folder))

    def _browse(self) -> None:
        chosen = QFileDialog.getExistingDirectory(self, "Choose a folder", self.path.text())
        if chosen:
            self.folder = Path(chosen)
