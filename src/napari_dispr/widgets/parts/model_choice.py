"""Combo boxes of the shape models, of a model's qualities and of the devices of this machine."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from qtpy.QtCore import QFileSystemWatcher, Qt, QTimer, Signal
from qtpy.QtWidgets import QFileDialog
from superqt.utils import signals_blocked

from napari_dispr.errors import InputError
from napari_dispr.models.library import (
    available_fits,
    available_models,
    model_version,
    read_card,
    user_folder,
)
from napari_dispr.settings import PredictSettings
from napari_dispr.widgets.parts.combo_boxes import ShortComboBox, refill, values_of

_OTHER_FILE: Final = "Other file…"
#: Writing a file changes its folder several times: read the folder after this pause, milliseconds.
_PAUSE = 50


class QualityChoice(ShortComboBox):
    """Offers the qualities of a model."""

    def offer(self, qualities: Sequence[str]) -> None:
        """Offer these; the chosen one stays chosen if it is among them."""
        if list(qualities) != values_of(self):
            wanted = self.quality if self.quality in qualities else PredictSettings().quality
            refill(self, {quality: quality for quality in qualities}, wanted)

    @property
    def quality(self) -> str:
        """The chosen quality; the default where a model offers none."""
        return self.currentData() or PredictSettings().quality


class DeviceChoice(ShortComboBox):
    """Offers ``auto``, and the devices of this machine once they are known."""

    def __init__(self) -> None:
        super().__init__()
        self.addItem("auto", "auto")

    def offer(self, found: Mapping[str, str]) -> None:
        """Offer devices, each with its description; ``auto`` says which one it takes."""
        best = next((text for name, text in found.items() if name != "cpu"), found["cpu"])
        items = {name: text if name == "cpu" else f"{name}: {text}" for name, text in found.items()}
        refill(self, {"auto": f"auto: {best}"} | items, self.currentData())


class ModelChoice(ShortComboBox):
    """Offers the shipped models and the user's own; follows the folder of the user's models.

    ``none`` is the label of an item for no model. With ``rivals`` it also offers methods that draw one shape
    per cell: fits, and SHAPR models of the user.
    """

    #: Another model is chosen, or the file of the chosen one has changed.
    model_changed = Signal()

    def __init__(self, *, none: str | None = None, rivals: bool = False) -> None:
        super().__init__()
        self._none, self._rivals = none, rivals
        self._elsewhere: str | None = None  # a path, of a model that is not in the library
        self._chosen: str | None = None if none is not None else PredictSettings().model
        self._watcher = QFileSystemWatcher(self)
        self._soon = QTimer(self, singleShot=True, interval=_PAUSE)
        self._watcher.directoryChanged.connect(lambda: self._soon.start())
        self._soon.timeout.connect(self.offer)
        self._offer()
        self._version = model_version(self._chosen or "")
        self.currentIndexChanged.connect(self._on_index)
        self.activated.connect(self._on_activated)

    @property
    def model(self) -> str | None:
        """Name or path of the chosen model, None for no model.

        A name or path without a model can be set too: the error comes where the model is used.
        """
        return self._chosen

    @model.setter
    def model(self, model: str | None) -> None:
        names = self._names()
        if model is not None and model not in names:
            paths = {str(path): name for name, path in available_models().items() if name in names}
            model = paths.get(str(Path(model).absolute()), model)
        if model is None and self._none is None:
            model = PredictSettings().model
        if model is not None and model not in names:
            self._elsewhere = model
        elif self._elsewhere in names or not Path(self._elsewhere or "").is_file():
            self._elsewhere = None
        self._choose(model)

    def offer(self) -> None:
        """Offer the models that exist now; if the chosen one was deleted, choose the default."""
        gone = self._chosen not in (None, self._elsewhere, *self._names())
        self.model = None if gone else self._chosen

    def showPopup(self) -> None:
        """Read the folder again: not every file system reports changes."""
        self.offer()
        super().showPopup()

    def _choose(self, model: str | None) -> None:
        self._chosen = model
        self._offer()
        version = model_version(model or "")
        if version != self._version:
            self._version = version
            self.model_changed.emit()

    def _names(self) -> list[str]:
        """Names of the offered models, without those chosen as a file."""
        if self._rivals:
            return [*available_models(), *available_fits()]
        return [name for name, path in available_models().items() if not _is_rival(path)]

    def _offer(self) -> None:
        """Remove and insert single entries, so that an open list keeps its place.

        The values are names or paths, None for no model, and _OTHER_FILE for the dialog.
        """
        self._watch()
        entries: dict[str | None, tuple[str, str]] = {}
        if self._none is not None:
            entries[None] = self._none, ""
        entries |= {name: (name, _described(name)) for name in self._names()}
        if self._elsewhere is not None:
            tip = f"{self._elsewhere}\n{_described(self._elsewhere)}"
            entries[self._elsewhere] = Path(self._elsewhere).name, tip
        entries[_OTHER_FILE] = _OTHER_FILE, "A model file that is not among yours"
        with signals_blocked(self):
            for index in reversed(range(self.count())):
                if self.itemData(index) not in entries:
                    self.removeItem(index)
            for index, (value, (text, tip)) in enumerate(entries.items()):
                if value not in values_of(self):
                    self.insertItem(index, text, value)
                self.setItemData(index, tip, Qt.ItemDataRole.ToolTipRole)
            self.setCurrentIndex(values_of(self).index(self._chosen))

    def _watch(self) -> None:
        """Watch the folder; Qt stops watching one that is deleted and made again."""
        folder = user_folder()
        with suppress(OSError):  # a folder that cannot be written to gets no models
            folder.mkdir(parents=True, exist_ok=True)
        if folder.is_dir() and str(folder) not in self._watcher.directories():
            self._watcher.addPath(str(folder))

    def _on_index(self, index: int) -> None:
        if index >= 0 and self.itemData(index) != _OTHER_FILE:
            self.model = self.itemData(index)

    def _on_activated(self, index: int) -> None:
        if self.itemData(index) != _OTHER_FILE:
            return
        path, _ = QFileDialog.getOpenFileName(self, "A shape model", "", "Shape models (*.safetensors)")
        self.model = path or self._chosen


def _is_rival(path: Path) -> bool:
    try:
        return read_card(path).rival is not None
    except InputError:  # its tooltip says why
        return False


def _described(model: str) -> str:
    try:
        return read_card(model).description
    except InputError as error:
        return str(error)
