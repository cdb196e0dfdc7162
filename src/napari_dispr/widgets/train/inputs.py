"""Small controls of the training widget: voxel size, plane, folder; and a wheel that only scrolls."""

from pathlib import Path

from qtpy.QtCore import QEvent, QObject, Qt, Signal
from qtpy.QtGui import QDragEnterEvent, QDropEvent
from qtpy.QtWidgets import (
    QAbstractSpinBox,
    QComboBox,
    QDoubleSpinBox,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QSizePolicy,
    QSpinBox,
    QWidget,
)

from napari_dispr.widgets.train.request import Plane, Spacing, unit_symbol

#: Least width of a length, pixels.
_NARROW = 36
_UNITS = ("micrometer", "nanometer", "millimeter", "pixel")


class Length(QDoubleSpinBox):
    """A length, written without needless zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.setDecimals(6)
        self.setRange(1e-6, 1e6)
        self.setButtonSymbols(QAbstractSpinBox.ButtonSymbols.NoButtons)
        self.setKeyboardTracking(False)  # a check for "0." on the way to "0.3" would be in vain
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        # napari's own style has 70 pixels at least, of which three do not stand side by side.
        self.setStyleSheet(f"min-width: {_NARROW}px; padding: 1px 4px;")

    def textFromValue(self, value: float) -> str:
        """Such as ``0.3``."""
        return self.locale().toString(value, "g", 6)


class SpacingInput(QWidget):
    """How large a voxel is: what the layers say, until the user says otherwise."""

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.lengths = {axis: Length() for axis in "zyx"}
        self.unit = QComboBox()
        for unit in _UNITS:
            self.unit.addItem(unit_symbol(unit), unit)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(4)
        for axis, box in self.lengths.items():
            row.addWidget(QLabel(axis))
            row.addWidget(box, 1)
            box.setToolTip(
                f"Distance of voxels along {axis}; comes from the layers. Change it here if it is wrong."
            )
            box.valueChanged.connect(self._on_edit)
        row.addWidget(self.unit)
        self.unit.setToolTip("Unit of the voxel size; pixel: not known")
        self.unit.currentIndexChanged.connect(self._on_edit)
        #: Whether the user has changed what the layers say.
        self.edited = False
        self._shown = Spacing((1.0, 1.0, 1.0), "pixel")
        self.show_spacing(self._shown)

    @property
    def spacing(self) -> Spacing:
        """What the controls say."""
        if not self.edited:
            return self._shown
        z, y, x = (box.value() for box in self.lengths.values())
        return Spacing((z, y, x), self.unit.currentData())

    def show_spacing(self, spacing: Spacing) -> None:
        """Show what the layers say."""
        self.edited, self._shown = False, spacing
        for control in (*self.lengths.values(), self.unit):
            control.blockSignals(True)
        for box, length in zip(self.lengths.values(), spacing.zyx, strict=True):
            box.setValue(length)
        if self.unit.findData(spacing.unit) < 0:
            self.unit.addItem(unit_symbol(spacing.unit), spacing.unit)
        self.unit.setCurrentIndex(self.unit.findData(spacing.unit))
        for control in (*self.lengths.values(), self.unit):
            control.blockSignals(False)

    def _on_edit(self) -> None:
        self.edited = True
        self.changed.emit()


class PlaneInput(QWidget):
    """At which z the pictures of the cells are taken."""

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.kind = QComboBox()
        self.kind.addItem("middle of each cell", "middle")
        self.kind.addItem("slice", "slice")
        self.slice = QSpinBox()
        self.slice.setKeyboardTracking(False)
        self.take_button = QPushButton("Displayed")
        self.kind.setToolTip(
            "Where the pictures that the model sees are taken: through the middle of each cell, or all in "
            "one slice. Choose what your 2D pictures will be like."
        )
        self.slice.setToolTip("Slice of the stack, counted from 0; cells that it does not cut are left out")
        self.take_button.setToolTip("Take the slice that the viewer shows")
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.kind, 2)
        row.addWidget(self.slice, 1)
        row.addWidget(self.take_button)
        self.kind.currentIndexChanged.connect(self._on_kind)
        self.slice.valueChanged.connect(self._on_slice)
        self._show()

    @property
    def plane(self) -> Plane:
        """What the controls say."""
        return self.slice.value() if self.kind.currentData() == "slice" else "middle"

    @plane.setter
    def plane(self, plane: Plane) -> None:
        if isinstance(plane, int):
            self.slice.setValue(plane)
        self.kind.setCurrentIndex(0 if plane == "middle" else 1)

    def allow(self, slices: int) -> None:
        """Offer the slices of a stack."""
        self.slice.setMaximum(max(0, slices - 1))

    def _on_kind(self) -> None:
        self._show()
        self.changed.emit()

    def _on_slice(self) -> None:
        if self.kind.currentData() == "slice":
            self.changed.emit()

    def _show(self) -> None:
        self.slice.setVisible(self.kind.currentData() == "slice")


class FolderInput(QWidget):
    """The path of a dataset folder; a folder can be dropped on it."""

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.path = QLineEdit()
        self.path.setPlaceholderText("Drop a folder here, or browse")
        self.path.setClearButtonEnabled(True)
        self.browse_button = QPushButton("Browse…")
        self.path.setToolTip(
            "Folder with obj, image and mask (or with train in it), a TIFF file a cell of 64 x 64 x 64 "
            "voxels, as DISPR and SHAPR read them"
        )
        self.browse_button.setToolTip("Choose a dataset folder")
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.path, 1)
        row.addWidget(self.browse_button)
        self.path.setAcceptDrops(False)  # it would write "file:///..."; the widget around it takes drops
        self.path.textChanged.connect(self.changed)
        self.browse_button.clicked.connect(self._browse)

    @property
    def folder(self) -> Path | None:
        """The chosen folder."""
        text = self.path.text().strip()
        return Path(text).expanduser() if text else None

    @folder.setter
    def folder(self, folder: Path | None) -> None:
        self.path.setText("" if folder is None else str(folder))

    def _browse(self) -> None:
        chosen = QFileDialog.getExistingDirectory(self, "A dataset folder", self.path.text())
        if chosen:
            self.folder = Path(chosen)


def dropped_folder(event: QDragEnterEvent | QDropEvent) -> Path | None:
    """The folder that is dragged, if it is one."""
    data = event.mimeData()
    if data is None or not data.hasUrls() or len(data.urls()) != 1:
        return None
    path = Path(data.urls()[0].toLocalFile())
    return path if path.is_dir() else None


class CalmWheel(QObject):
    """Keeps the wheel from changing values: it scrolls the widget instead.

    Parameters
    ----------
    within : QWidget
        Whose combo and spin boxes are calmed, but those that have been clicked.
    """

    def __init__(self, within: QWidget) -> None:
        super().__init__(within)
        for kind in (QComboBox, QAbstractSpinBox):
            for control in within.findChildren(kind):
                control.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
                control.installEventFilter(self)

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Pass the wheel on to what scrolls."""
        if (
            event is not None
            and event.type() == QEvent.Type.Wheel
            and isinstance(watched, QWidget)
            and not watched.hasFocus()
        ):
            event.ignore()
            return True
        return super().eventFilter(watched, event)
