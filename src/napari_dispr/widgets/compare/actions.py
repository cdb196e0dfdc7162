"""The buttons below the shapes of Compare, and the threads behind them: keep, reject, draw more, watch."""

import threading
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

from napari.qt.threading import create_worker
from napari.utils.notifications import notification_manager
from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QGridLayout,
    QHBoxLayout,
    QProgressBar,
    QPushButton,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from napari_dispr.errors import InputError
from napari_dispr.prediction.result import Kept, Prediction
from napari_dispr.viewer.layers import ResultContent, add_unselected
from napari_dispr.viewer.scene import StepsView
from napari_dispr.viewer.session import OpenPrediction, Selection, Session
from napari_dispr.widgets.compare.changes import Change, changed, draw_more, surfaces, watch_denoising
from napari_dispr.widgets.parts.background import CancellableWorker
from napari_dispr.widgets.parts.message import Message

if TYPE_CHECKING:
    from napari.components import ViewerModel

_MOST_MEMBERS = 100


class CompareActions(QWidget):
    """Acts on the cell and shape that the session looks at.

    Parameters
    ----------
    viewer : ViewerModel
    """

    #: A new state of the prediction is ready to be shown.
    changed = Signal(object)

    def __init__(self, viewer: "ViewerModel") -> None:
        super().__init__()
        self._viewer, self._session = viewer, Session.of(viewer)
        self._worker: Any = None
        self._on_end: Callable[[Any], None] = lambda answer: None
        self._cancelled = threading.Event()
        self._steps_view = StepsView(viewer)
        self._build()
        self.destroyed.connect(self._cancelled.set)

    def _build(self) -> None:
        self.keep_button = QPushButton("Keep this shape")
        self.keep_button.setToolTip(
            "Take the shape that is selected, or the consensus, as the cell's own: it goes into the layer "
            '"kept shapes", and tables and files say so. Again: keep none.'
        )
        self.reject_button = QPushButton("Reject")
        self.reject_button.setToolTip(
            "Take the selected member out of the ensemble. The cell's interval does not hold any more then."
        )
        self.replace_button = QPushButton("Redraw")
        self.replace_button.setToolTip("Take the selected member out and draw another in its place")
        self.more_button = QPushButton("Draw more")
        self.more_button.setToolTip("Draw further members of this cell, with new noise")
        self.more = QSpinBox()
        self.more.setRange(1, 20)
        self.more.setValue(5)
        self.more.setToolTip("How many members to add")
        self.watch_button = QPushButton("How it came to be")
        self.watch_button.setToolTip(
            "Draw the selected member again and add its way from noise to shape as a layer with a time axis"
        )
        self.surfaces_button = QPushButton("Add as surfaces")
        self.surfaces_button.setToolTip(
            "Add the members and the consensus of this cell as surface layers, in their place in the viewer"
        )
        self.cancel_button = QPushButton("Cancel")
        self.cancel_button.setToolTip("Stop within one step; nothing is changed then")
        self.progress_bar = QProgressBar()
        self.status = Message()
        more = QHBoxLayout()
        more.setContentsMargins(0, 0, 0, 0)
        more.addWidget(self.more_button, 1)
        more.addWidget(self.more)
        buttons = QGridLayout()
        for i, one in enumerate((self.keep_button, self.reject_button, self.replace_button)):
            buttons.addWidget(one, 0, i)
        buttons.addWidget(self.watch_button, 1, 0)
        buttons.addWidget(self.surfaces_button, 1, 1)
        buttons.addLayout(more, 1, 2)
        for column in range(3):
            buttons.setColumnStretch(column, 1)
        running = QHBoxLayout()
        running.addWidget(self.progress_bar, 1)
        running.addWidget(self.cancel_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(buttons)
        layout.addLayout(running)
        layout.addWidget(self.status)
        self.keep_button.clicked.connect(self.keep)
        self.reject_button.clicked.connect(self.reject)
        self.replace_button.clicked.connect(self.replace)
        self.more_button.clicked.connect(self.draw_more)
        self.watch_button.clicked.connect(self.watch)
        self.surfaces_button.clicked.connect(self.add_surfaces)
        self.cancel_button.clicked.connect(self.cancel)
        self.refresh()

    # --- what can be done ------------------------------------------------------------------------

    def refresh(self) -> None:
        """Offer what can be done with what is looked at."""
        opened, look = self._session.current, self._session.selection
        cell = look.cell is not None and opened is not None and look.cell in opened.prediction
        idle = cell and self._worker is None and opened is not None and not opened.growing
        member = isinstance(look.shape, int)
        several = cell and opened is not None and len(opened.prediction[look.cell or 0]) > 1
        self.keep_button.setEnabled(idle and look.shape is not None)
        kept = opened.prediction.kept.get(look.cell or 0) if cell and opened else None
        is_kept = kept is not None and kept == look.shape
        self.keep_button.setText("Keep none" if is_kept else "Keep consensus" if look.shape == "consensus"
                                 else "Keep this shape")  # fmt: skip
        self.reject_button.setEnabled(idle and member and several)
        self.replace_button.setEnabled(idle and member)
        self.more_button.setEnabled(idle)
        self.watch_button.setEnabled(idle and member)
        self.surfaces_button.setEnabled(idle)
        self.progress_bar.setVisible(self._worker is not None)
        self.cancel_button.setVisible(self._worker is not None)

    @property
    def running(self) -> bool:
        """Whether something is being drawn or changed."""
        return self._worker is not None

    def keep(self) -> None:
        """Keep the selected shape as the cell's, or none if it is kept already."""
        opened, look = self._looked_at()
        assert look.cell is not None and look.shape is not None
        shape: Kept | None = look.shape
        if opened.prediction.kept.get(look.cell) == shape:
            shape = None
        self._change(opened, opened.prediction.keep(look.cell, shape), "the layer of kept shapes")

    def reject(self) -> None:
        """Take the selected member out."""
        opened, look = self._looked_at()
        assert look.cell is not None and isinstance(look.shape, int)
        try:
            prediction = opened.prediction.reject(look.cell, look.shape)
        except InputError as error:
            self.status.say(str(error), problem=True)
            return
        self._change(opened, prediction, "tables and layers")

    def replace(self) -> None:
        """Take the selected member out and draw another."""
        opened, look = self._looked_at()
        assert look.cell is not None and isinstance(look.shape, int)
        self._draw(opened, look.cell, 1, look.shape)

    def draw_more(self) -> None:
        """Draw further members of the cell."""
        opened, look = self._looked_at()
        assert look.cell is not None
        there = len(opened.prediction[look.cell])
        if there + self.more.value() > _MOST_MEMBERS:
            text = f"Cell {look.cell} has {there} members: {_MOST_MEMBERS} are the most."
            self.status.say(text, problem=True)
            return
        self._draw(opened, look.cell, self.more.value(), None)

    def _draw(self, opened: OpenPrediction, cell: int, members: int, instead_of: int | None) -> None:
        arguments = (opened, cell, members, instead_of, self._before(opened))
        self._start(draw_more, *arguments, on_end=self._on_change)

    def watch(self) -> None:
        """Add the way of the selected member from noise to shape as a layer."""
        opened, look = self._looked_at()
        assert look.cell is not None and isinstance(look.shape, int)
        arguments = (opened, look.cell, look.shape)
        self._start(watch_denoising, *arguments, on_end=self._on_watched)

    def add_surfaces(self) -> None:
        """Add the cell's shapes as surface layers."""
        opened, look = self._looked_at()
        assert look.cell is not None
        self._start(surfaces, opened, look.cell, on_end=self._add_layers)

    def cancel(self) -> None:
        """Stop within one step."""
        self._cancelled.set()
        self.cancel_button.setEnabled(False)

    # --- threads ---------------------------------------------------------------------------------

    def _looked_at(self) -> tuple[OpenPrediction, Selection]:
        opened = self._session.current
        assert opened is not None
        return opened, self._session.selection

    def _before(self, opened: OpenPrediction) -> ResultContent | None:
        layers = self._session.held(opened).layers
        return None if layers is None else layers.content

    def _change(self, opened: OpenPrediction, prediction: Prediction, what: str) -> None:
        self._start(changed, opened, prediction, self._before(opened), on_end=self._on_change, busy=what)

    def _start(
        self, work: Callable[..., Any], *arguments: Any, on_end: Callable[[Any], None], busy: str = ""
    ) -> None:
        if self._worker is not None:
            return
        self._cancelled.clear()
        self.status.say("")
        self.progress_bar.setRange(0, 0 if busy else 1)
        self.progress_bar.setFormat(busy or "loading the model")
        self._worker = create_worker(
            _answered(work), *arguments, self._cancelled, _start_thread=False, _worker_class=CancellableWorker
        )
        self._worker.yielded.connect(self._on_step)
        self._on_end = on_end
        # A method, not a lambda: Qt lets go of it with this widget, which may be gone before the answer.
        self._worker.returned.connect(self._on_answer)
        self._worker.finished.connect(self._on_finished)
        self.cancel_button.setEnabled(True)
        self._worker.start()
        self.refresh()

    def _on_step(self, event: Any) -> None:
        if hasattr(event, "total"):
            self.progress_bar.setRange(0, event.total)
            self.progress_bar.setValue(event.done)
            self.progress_bar.setFormat("%v of %m steps")

    def _on_answer(self, answer: Any) -> None:
        worker, self._worker = self._worker, None
        if worker is None or worker.quitted:  # the window is closing
            return
        if isinstance(answer, InputError):
            self.status.say(str(answer), problem=True)
        elif isinstance(answer, Exception):
            self.status.say("Stopped by an error; nothing was changed.", problem=True)
            notification_manager.receive_error(type(answer), answer, answer.__traceback__)
        elif answer is None:
            self.status.say("Cancelled; nothing was changed.")
        else:
            self._on_end(answer)

    def _on_finished(self) -> None:
        self._worker = None
        self.refresh()

    def _on_change(self, change: Change) -> None:
        self.changed.emit(change)

    def _on_watched(self, answer: tuple[Any, dict[str, Any], str]) -> None:
        from napari.layers import Layer

        layer = Layer.create(*answer)
        self._steps_view.enter(layer)
        self.status.say(
            "Its way from noise to shape is a layer now: move or play the slider of its steps. All other "
            "layers come back when you remove it."
        )

    def _add_layers(self, layers: list[Any]) -> None:
        from napari.layers import Layer

        for layer in layers:
            add_unselected(self._viewer, Layer.create(*layer))

    def shut_down(self) -> None:
        """Stop what runs."""
        self._cancelled.set()


def _answered(work: Callable[..., Any]) -> Callable[..., Generator[Any, None, Any]]:
    """The same work with its error as an answer: of a RuntimeError superqt makes a worker that never ends."""

    def generate(*arguments: Any) -> Generator[Any, None, Any]:
        try:
            return (yield from work(*arguments))
        except Exception as error:
            return error

    return generate
