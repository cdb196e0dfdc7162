"""What "Morphometry" is of: a prediction of this viewer, and a 3D labels layer of the user to measure."""

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from napari.layers import Labels, Layer
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QFormLayout, QHBoxLayout, QProgressBar, QPushButton, QWidget

from napari_dispr.errors import InputError
from napari_dispr.viewer.session import Session, unwrapped
from napari_dispr.widgets.morphometry.content import Measured
from napari_dispr.widgets.morphometry.measured_labels import is_measurable, labels_source, measure_source
from napari_dispr.widgets.parts.job import Job
from napari_dispr.widgets.parts.layer_choice import LayerChoice
from napari_dispr.widgets.parts.message import Message

if TYPE_CHECKING:
    from napari.viewer import Viewer

#: What changes the cells of a layer, or their size.
_EDITS = ("data", "paint", "labels_update", "scale", "affine", "rotate", "shear", "units")


class SourcePanel(QWidget):
    """Chooses the prediction, and measures a labels layer.

    Parameters
    ----------
    viewer : Viewer
    """

    #: Another labels layer was chosen, or it has been measured.
    changed = Signal()

    def __init__(self, viewer: "Viewer", parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._session = Session.of(viewer)
        self._known: WeakKeyDictionary[Layer, Measured] = WeakKeyDictionary()
        self._measuring: Labels | None = None
        self._followed: Labels | None = None
        self.prediction_choice = QComboBox()
        self.prediction_choice.setToolTip("The predictions that are open in this window")
        self.labels_choice = LayerChoice(viewer, is_measurable, none="none")
        self.labels_choice.setToolTip(
            "A 3D labels layer of your own, such as real cells, to measure and set beside the predicted "
            "cells of the same label values"
        )
        self.measure_button = QPushButton("Measure")
        self.progress_bar = QProgressBar()
        self.cancel_button = QPushButton("Cancel")
        self.cancel_button.setToolTip("Stop measuring")
        #: What is to know of the labels layer.
        self.message = Message()
        #: Measures the chosen labels layer.
        self.job = Job(self)
        measuring = QHBoxLayout()
        measuring.addWidget(self.labels_choice, 1)
        measuring.addWidget(self.measure_button)
        self._progress = QWidget()
        progress = QHBoxLayout(self._progress)
        progress.setContentsMargins(0, 0, 0, 0)
        progress.addWidget(self.progress_bar, 1)
        progress.addWidget(self.cancel_button)
        form = QFormLayout(self)
        form.setContentsMargins(0, 0, 0, 0)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.addRow("prediction", self.prediction_choice)
        form.addRow("3D labels", measuring)
        form.addRow(self._progress)
        form.addRow(self.message)
        self._show_running(False)
        self.prediction_choice.activated.connect(self._on_prediction)
        self.labels_choice.layer_changed.connect(self._on_layer)
        self.measure_button.clicked.connect(self.measure)
        self.cancel_button.clicked.connect(self.job.cancel)
        self.job.progressed.connect(self._on_progress)
        self.job.done.connect(self._on_measured)
        self.job.failed.connect(lambda reason: self.message.say(reason, problem=True))
        self.job.ended.connect(lambda: self._show_running(False))
        self._on_layer()

    @property
    def layer(self) -> Labels | None:
        """The labels layer that is chosen."""
        layer = unwrapped(self.labels_choice.layer)
        return layer if isinstance(layer, Labels) else None

    @property
    def measured(self) -> Measured | None:
        """Measures of the chosen labels layer, once it was measured."""
        return self._known.get(self.layer) if self.layer is not None else None

    def list_predictions(self) -> None:
        """Offer the predictions that are open; the current one is chosen."""
        opened = self._session.current
        self.prediction_choice.clear()
        for one in self._session.predictions:
            cells = len(one.prediction)
            self.prediction_choice.addItem(f"{one.name} ({cells} cell{'s' if cells != 1 else ''})")
        if opened is None:
            self.prediction_choice.addItem("none open")
        else:
            keys = [one.key for one in self._session.predictions]
            self.prediction_choice.setCurrentIndex(keys.index(opened.key))
        self.prediction_choice.setEnabled(opened is not None)

    def _on_prediction(self, index: int) -> None:
        self._session.show(self._session.predictions[index])

    def _on_layer(self) -> None:
        self._follow(self.layer)
        measured = self.measured
        self._show_running(self.job.running)
        self.measure_button.setText("Measure again" if measured else "Measure")
        self.measure_button.setToolTip(
            "Measure all cells of the labels layer; takes about 0.1 s a cell, more for large ones"
            if self.layer is not None
            else "Open or add a 3D labels layer to measure it"
        )
        self.message.say(measured.note if measured else "")
        self.changed.emit()

    def _follow(self, layer: Labels | None) -> None:
        """Hear when the layer is edited."""
        for name in _EDITS:
            if self._followed is not None and hasattr(self._followed.events, name):
                getattr(self._followed.events, name).disconnect(self._on_edit)
            if layer is not None and hasattr(layer.events, name):
                getattr(layer.events, name).connect(self._on_edit)
        self._followed = layer

    def _on_edit(self, event: object = None) -> None:
        if self.measured is not None and not self.job.running:
            self.message.say(f'"{self.measured.name}" was changed after it was measured: measure it again.')

    def measure(self) -> None:
        """Measure the chosen labels layer, in a thread."""
        layer, opened = self.layer, self._session.current
        if layer is None or self.job.running:
            return
        try:
            source = labels_source(layer, None if opened is None else opened.prediction.unit)
        except InputError as error:
            self.message.say(str(error), problem=True)
            return
        self.message.say("")
        self._measuring = layer
        self.progress_bar.setRange(0, 0)
        self.job.start(lambda step: measure_source(source, step))
        self._show_running(True)

    def _on_progress(self, done: int, total: int) -> None:
        self.progress_bar.setRange(0, total)
        self.progress_bar.setFormat(f"cell {done} of {total}" if done else "reading the labels")
        self.progress_bar.setValue(done)

    def _on_measured(self, measured: Measured) -> None:
        assert self._measuring is not None
        self._known[self._measuring] = measured
        self._on_layer()

    def _show_running(self, running: bool) -> None:
        self._progress.setVisible(running)
        self.measure_button.setEnabled(not running and self.layer is not None)

    def shut_down(self) -> None:
        """Stop what runs, and let go of the viewer."""
        self.job.cancel()
        self._follow(None)
        self.labels_choice.disconnect_layers()
