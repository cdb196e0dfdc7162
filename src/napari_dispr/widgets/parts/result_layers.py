"""Brings result layers up to date one at a time, so that clicks and drawing come in between."""

from collections.abc import Iterator

from qtpy.QtCore import QObject, QTimer, Signal

from napari_dispr.viewer.layers import ResultContent, ResultLayers

#: Time for clicks and for drawing before the next layer, milliseconds: napari takes 0.1 s to insert one.
_BETWEEN_LAYERS = 30


class ResultDrawing(QObject):
    """Draws the newest content of the layers of one prediction at a time."""

    #: All layers show the newest content.
    drawn = Signal()

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._layers: ResultLayers | None = None
        self._next: ResultContent | None = None
        self._drawing: Iterator[None] | None = None
        self._timer = QTimer(self, singleShot=True, interval=_BETWEEN_LAYERS)
        self._timer.timeout.connect(self._draw)

    @property
    def layers(self) -> ResultLayers | None:
        """What is drawn to."""
        return self._layers

    @property
    def busy(self) -> bool:
        """Whether there is more to draw."""
        return self._drawing is not None or self._next is not None

    def begin(self, layers: ResultLayers) -> None:
        """Draw to these layers from now on, once those before are finished."""
        if layers is not self._layers:
            self.finish()
            self._layers = layers

    def show(self, content: ResultContent) -> None:
        """Show ``content`` as soon as what is being drawn is finished."""
        self._next = content
        self._timer.start()

    def stop(self) -> None:
        """Draw nothing more."""
        self._timer.stop()

    def finish(self) -> None:
        """Draw at once what is left."""
        self._timer.stop()
        while self._step():
            pass

    def _draw(self) -> None:
        if self._step():
            self._timer.start()

    def _step(self) -> bool:
        """Draw one layer; whether there is more to come."""
        if self._drawing is None:
            if self._layers is None or self._next is None:
                return False
            self._drawing, self._next = self._layers.update(self._next), None
        if next(self._drawing, self) is self:
            self._drawing = None
            if self._next is None:
                self.drawn.emit()
                return False
        return True
