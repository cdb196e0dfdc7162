"""What Morphometry shows: a prediction of this viewer, and a 3D labels layer of the user to measure."""

from weakref import WeakKeyDictionary

from napari.layers import Labels, Layer
from napari.viewer import Viewer
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QPushButton, QWidget

from napari_dispr.errors import InputError, counted
from napari_dispr.viewer.opened import unwrapped
from napari_dispr.viewer.session import Session
from napari_dispr.widgets.morphometry.content import Measured
from napari_dispr.widgets.morphometry.measured_labels import labels_source, measure_source
from napari_dispr.widgets.parts.combo_boxes import ShortComboBox
from napari_dispr.widgets.parts.docked import Message
from napari_dispr.widgets.parts.layer_choice import FollowedLayers, LayerChoice, is_3d_segmentation
from napari_dispr.widgets.parts.layouts import column, form, row
from napari_dispr.widgets.parts.run_bar import RunBar

#: What changes the cells of a layer, or their size.
_EDITS = ("data", "paint", "labels_update", "scale", "affine", "rotate", "shear", "units")


class SourcePanel(QWidget):
    """Chooses the prediction, and measures a labels layer."""

    #: Another labels layer was chosen, or the chosen one was measured.
    changed = Signal()

    def __init__(self, viewer: Viewer) -> None:
        super().__init__()
        self._session = Session.of(viewer)
        self._known: WeakKeyDictionary[Layer, Measured] = WeakKeyDictionary()
        self._measuring: Labels | None = None
        self._followed = FollowedLayers(_EDITS, self._on_edit, self)
        self.prediction_choice = ShortComboBox()
        self.prediction_choice.setToolTip("The predictions that are open in this window")
        self.batch_button = QPushButton(
            "Open a batch…",
            toolTip="Show the table of all fields that napari-dispr batch predicted into a folder; a click "
            "on a row opens its field",
        )
        tip = "Your own 3D labels layer, such as real cells, to measure and compare with predicted cells"
        self.labels_choice = LayerChoice(viewer, is_3d_segmentation, tip, none="none")
        self.measure_button = QPushButton("Measure")
        self.run_bar = RunBar("Stop measuring")
        #: A note on the labels layer, or what is wrong with it.
        self.message = Message()
        choices = {
            "prediction": row((self.prediction_choice, 1), self.batch_button),
            "3D labels": row((self.labels_choice, 1), self.measure_button),
        }
        column(form(choices), self.run_bar, self.message, parent=self)
        self.prediction_choice.activated.connect(self._on_prediction)
        self.labels_choice.layer_changed.connect(self._on_layer)
        self.measure_button.clicked.connect(self.measure)
        self.run_bar.changed.connect(self._on_run)
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
            self.prediction_choice.addItem(f"{one.name} ({counted(cells, 'cell')})")
        if opened is None:
            self.prediction_choice.addItem("none open")
        else:
            keys = [one.key for one in self._session.predictions]
            self.prediction_choice.setCurrentIndex(keys.index(opened.key))
        self.prediction_choice.setEnabled(opened is not None)

    def _on_prediction(self, index: int) -> None:
        self._session.show(self._session.predictions[index])

    def _on_layer(self) -> None:
        if self._followed.follow(self.labels_choice, self.layer) and not self.run_bar.running:
            self.run_bar.status.say("")  # it was about another layer
        measured = self.measured
        self._on_run()
        self.measure_button.setText("Measure again" if measured else "Measure")
        self.measure_button.setToolTip(
            "Measure all cells of the labels layer; takes about 0.1 s for each cell, more for large ones"
            if self.layer is not None
            else "Open or add a 3D labels layer to measure it"
        )
        self.message.say(measured.note if measured else "")
        self.changed.emit()

    def _on_edit(self, event: object = None) -> None:
        if self.measured is not None and not self.run_bar.running:
            self.message.say(f'"{self.measured.name}" has changed since it was measured: measure it again.')

    def measure(self) -> None:
        """Measure the chosen labels layer, in a thread."""
        layer, opened = self.layer, self._session.current
        if layer is None or self.run_bar.running:
            return
        try:
            source = labels_source(layer, None if opened is None else opened.prediction.unit)
        except InputError as error:
            self.message.say(str(error), problem=True)
            return
        self.message.say("")
        self._measuring = layer
        self.run_bar.start(
            lambda step: measure_source(source, step), self._on_measured, first="reading the labels", kept=""
        )

    def _on_measured(self, measured: Measured) -> None:
        assert self._measuring is not None
        self._known[self._measuring] = measured
        self._on_layer()

    def _on_run(self) -> None:
        self.measure_button.setEnabled(not self.run_bar.running and self.layer is not None)
