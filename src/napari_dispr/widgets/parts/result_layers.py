"""Brings result layers up to date one at a time, so that clicks and painting come in between."""

from collections.abc import Iterator

from qtpy.QtCore import QObject, QTimer, Signal

from napari_dispr.viewer.content import ResultContent
from napari_dispr.viewer.layers import ResultLayers

#: Time for clicks and for painting before the next layer, milliseconds: napari takes 0.1 s to insert one.
_BETWEEN_LAYERS = 30


class LayerUpdater(QObject):
    """Shows the newest content in the layers of one prediction at a time."""

    #: All layers show the newest content.
    updated = Signal()

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        #: The layers that are updated.
        self.layers: ResultLayers | None = None
        self._next: ResultContent | None = None
        self._steps: Iterator[None] | None = None
        self._timer = QTimer(self, singleShot=True, interval=_BETWEEN_LAYERS)
        self._timer.timeout.connect(self._on_timer)

    @property
    def busy(self) -> bool:
        """Whether some layer is not up to date."""
        return self._steps is not None or self._next is not None

    def show(self, content: ResultContent, layers: ResultLayers) -> None:
        """Show ``content`` in ``layers`` after what is being shown now."""
        if layers is not self.layers:
            self.finish()
            self.layers = layers
        self._next = content
        self._timer.start()

    def finish(self) -> None:
        self._timer.stop()
        while self._step():
            pass

    def _on_timer(self) -> None:
        if self._step():
            self._timer.start()

    def _step(self) -> bool:
        """Update one layer; whether there is more to update."""
        if self._steps is None:
            if self.layers is None or self._next is None:
                return False
            self._steps, self._next = self.layers.update(self._next), None
        if next(self._steps, self) is self:
            self._steps = None
            if self._next is None:
                self.updated.emit()
                return False
        return True
