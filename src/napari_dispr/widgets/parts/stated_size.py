"""The voxel size that the files of layers state: napari's own readers do not keep it."""

from pathlib import Path

from napari.layers import Layer
from qtpy.QtCore import QObject, Signal

from napari_dispr.cells.stack_files import StatedSpacing, stated_spacing
from napari_dispr.widgets.parts.threads import LatestAnswer


class StatedSize(QObject):
    """Reads the headers of files in a thread, each once."""

    #: The files are read: `of` has an answer.
    read = Signal()

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._known: dict[Path, StatedSpacing | None] = {}
        self._asked: list[Path] = []
        self._read = LatestAnswer(_stated, self._on_read, self, pause=0)

    @property
    def pending(self) -> bool:
        """Whether the files of the last layers are still being read."""
        return self._read.pending

    def of(self, *layers: Layer | None) -> StatedSpacing | None:
        """What the file of the first layer states whose file states anything; None also until it is read."""
        files = [Path(layer.source.path) for layer in layers if layer is not None and layer.source.path]
        if unread := [file for file in files if file not in self._known]:
            if unread != self._asked:
                self._asked = unread
                self._read.ask(unread)
            return None
        return next((size for file in files if (size := self._known[file])), None)

    def _on_read(self, sizes: dict[Path, StatedSpacing | None]) -> None:
        self._known |= sizes
        self.read.emit()


def _stated(files: list[Path]) -> dict[Path, StatedSpacing | None]:
    return {file: stated_spacing(file) for file in files}
