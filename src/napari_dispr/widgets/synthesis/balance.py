"""The widget "Balance classes": layout and signals. What it asks for and runs is in `augment_request`."""

import threading
from pathlib import Path
from typing import TYPE_CHECKING

from napari.layers import Labels, Layer
from napari.qt.threading import create_worker
from napari.utils.notifications import notification_manager
from qtpy.QtWidgets import (
    QComboBox,
    QFormLayout,
    QHBoxLayout,
    QHeaderView,
    QProgressBar,
    QPushButton,
    QSpinBox,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
)

from napari_dispr.errors import InputError
from napari_dispr.models.library import read_card
from napari_dispr.settings import PredictSettings
from napari_dispr.synthesis.balance_plan import AT_MOST
from napari_dispr.viewer.displayed import displayed_plane
from napari_dispr.widgets.parts.background import CancellableWorker
from napari_dispr.widgets.parts.docked import DockedWidget
from napari_dispr.widgets.parts.layer_choice import LayerChoice, is_picture, is_segmentation
from napari_dispr.widgets.parts.message import Message
from napari_dispr.widgets.parts.model_choice import ModelChoice
from napari_dispr.widgets.synthesis.balance_request import (
    BalanceRequest,
    Outcome,
    Progress,
    class_columns,
    classes_of_layer,
    make_request,
    planned,
    run,
)
from napari_dispr.widgets.train.inputs import FolderInput

if TYPE_CHECKING:
    from napari.viewer import Viewer

_ABOUT = (
    "Writes a folder to train on in which all classes have as many cells as the largest: obj, image, mask "
    "and cells.csv. All shapes in it are predicted: of the cells of a picture no true shape is known."
)
#: Rows of the table of classes that show without scrolling.
_ROWS = 8


class BalanceWidget(DockedWidget):
    """Write a training folder in which rare classes have as many cells as frequent ones.

    Parameters
    ----------
    napari_viewer : Viewer
    """

    def __init__(self, napari_viewer: "Viewer") -> None:
        super().__init__(napari_viewer)
        self._worker: CancellableWorker | None = None
        self._cancelled = threading.Event()
        self._followed: Layer | None = None
        self._written: Path | None = None  # the folder that the last run finished
        self._build()
        self._connect()
        self._on_labels()

    # --- layout ----------------------------------------------------------------------------------

    def _build(self) -> None:
        self.image_choice = LayerChoice(self._viewer, is_picture)
        self.labels_choice = LayerChoice(self._viewer, is_segmentation)
        self.column = QComboBox()
        self.column.setPlaceholderText("no column of classes")
        self.model_choice = ModelChoice()
        self.quality = QComboBox()
        self.at_most = QSpinBox()
        self.at_most.setRange(1, 100)
        self.at_most.setValue(AT_MOST)
        self.seed = QSpinBox()
        self.seed.setRange(0, 2**31 - 1)
        self.folder = FolderInput()
        self.image_choice.setToolTip("The 2D picture; of a stack the displayed plane")
        self.labels_choice.setToolTip(
            "The segmentation of the picture, whose table has a class for each cell"
        )
        self.column.setToolTip(
            "The column of the label layer's table (layer.features) that holds the classes"
        )
        self.model_choice.setToolTip(PredictSettings.model_fields["model"].description or "")
        self.quality.setToolTip(PredictSettings.model_fields["quality"].description or "")
        self.at_most.setToolTip("A cell lends its picture to so many predicted shapes, at most")
        self.seed.setToolTip(PredictSettings.model_fields["seed"].description or "")
        self.folder.path.setToolTip("Folder to write to: a new one, or one that a cancelled run began")
        self.folder.browse_button.setToolTip("Choose the folder to write to")
        rows = QFormLayout()
        rows.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        for name, control in {
            "image": self.image_choice,
            "labels": self.labels_choice,
            "classes": self.column,
            "model": self.model_choice,
            "quality": self.quality,
            "at most a cell": self.at_most,
            "seed": self.seed,
            "folder": self.folder,
        }.items():
            rows.addRow(name, control)
        self.table = QTableWidget(0, 3)
        self.table.setHorizontalHeaderLabels(["class", "cells", "predicted"])
        self.table.setEditTriggers(QTableWidget.EditTrigger.NoEditTriggers)
        self.table.setSelectionMode(QTableWidget.SelectionMode.NoSelection)
        if (vertical := self.table.verticalHeader()) is not None:
            vertical.hide()
        if (header := self.table.horizontalHeader()) is not None:
            header.setSectionResizeMode(QHeaderView.ResizeMode.Stretch)
        #: What is wrong with the inputs.
        self.message = Message()
        #: How the last run ended.
        self.status = Message()
        self.balance_button = QPushButton("Balance classes")
        self.balance_button.setToolTip(_ABOUT)
        self.cancel_button = QPushButton("Cancel")
        self.cancel_button.setToolTip("Stop; what is written is kept, and the same run goes on with it")
        self.progress_bar = QProgressBar()
        buttons = QHBoxLayout()
        buttons.addWidget(self.balance_button, 2)
        buttons.addWidget(self.cancel_button, 1)
        about = Message()
        about.say(_ABOUT)
        layout = QVBoxLayout(self)
        layout.addWidget(about)
        layout.addLayout(rows)
        layout.addWidget(self.table)
        layout.addWidget(self.message)
        layout.addLayout(buttons)
        layout.addWidget(self.progress_bar)
        layout.addWidget(self.status)
        layout.addStretch()
        self._show_running(False)

    def _connect(self) -> None:
        self.image_choice.layer_changed.connect(self._on_inputs)
        self.labels_choice.layer_changed.connect(self._on_labels)
        self.column.currentIndexChanged.connect(self._on_inputs)
        self.model_choice.model_changed.connect(self._on_inputs)
        self.at_most.valueChanged.connect(self._on_inputs)
        self.folder.changed.connect(self._on_inputs)
        self.balance_button.clicked.connect(self.balance)
        self.cancel_button.clicked.connect(self.cancel)
        self.destroyed.connect(self._cancelled.set)

    # --- inputs ----------------------------------------------------------------------------------

    def request(self) -> BalanceRequest:
        """What the inputs ask for; `InputError` if something is wrong at first sight."""
        image, labels = self.image_choice.layer, self.labels_choice.layer
        assert labels is None or isinstance(labels, Labels)
        return make_request(
            None if image is None else displayed_plane(image, self._viewer.dims),
            None if labels is None else displayed_plane(labels, self._viewer.dims),
            labels,
            self.column.currentData(),
            model=self.model_choice.model or PredictSettings().model,
            quality=self.quality.currentData() or PredictSettings().quality,
            at_most=self.at_most.value(),
            seed=self.seed.value(),
            folder=self.folder.folder,
        )

    def _on_labels(self) -> None:
        """Follow the table of the chosen label layer."""
        layer = self.labels_choice.layer
        if layer is not self._followed:
            self._unfollow()
            self._followed = layer
            if layer is not None:
                layer.events.features.connect(self._on_labels)
        columns = [] if layer is None else class_columns(layer.features)
        before = self.column.currentData()
        self.column.blockSignals(True)
        self.column.clear()
        for name in columns:
            self.column.addItem(name, name)
        self.column.setCurrentIndex(max(self.column.findData(before), 0) if columns else -1)
        self.column.blockSignals(False)
        self._on_inputs()

    def _unfollow(self) -> None:
        if self._followed is not None:
            self._followed.events.features.disconnect(self._on_labels)

    def _on_inputs(self) -> None:
        """Show what will be drawn, and say what is missing."""
        self._offer_qualities()
        self._show_classes()
        problem = ""
        try:
            self.request()
        except InputError as error:
            problem = str(error)
        # That the folder which was just written is there already is no warning: the status says so.
        finished = self._written is not None and self.folder.folder == self._written
        self.message.say("" if finished else problem, problem=True)
        self.balance_button.setEnabled(not problem and self._worker is None)

    def _offer_qualities(self) -> None:
        try:
            qualities = list(read_card(self.model_choice.model or "").qualities)
        except InputError:  # is said when it runs
            return
        if qualities == [self.quality.itemData(i) for i in range(self.quality.count())]:
            return
        wanted = (self.quality.currentData(), PredictSettings().quality, *qualities)
        self.quality.clear()
        for quality in qualities:
            self.quality.addItem(quality, quality)
        self.quality.setCurrentIndex(next((qualities.index(q) for q in wanted if q in qualities), -1))

    def _show_classes(self) -> None:
        """A row a class: its cells, and how many shapes will be predicted of them."""
        layer, column = self.labels_choice.layer, self.column.currentData()
        rows: list[tuple[str, ...]] = []
        if layer is not None and column:
            classes = classes_of_layer(layer.features, column)
            after = planned(classes, self.at_most.value()).after
            kinds = list(classes.values())
            rows = [(kind, str(kinds.count(kind)), str(count)) for kind, count in after.items()]
        self.table.setRowCount(len(rows))
        for y, row in enumerate(rows):
            for x, text in enumerate(row):
                self.table.setItem(y, x, QTableWidgetItem(text))
        height = self.table.rowHeight(0) if rows else 0
        header = self.table.horizontalHeader()
        above = 24 if header is None else header.sizeHint().height()
        self.table.setFixedHeight(above + height * min(len(rows), _ROWS) + 4)
        self.table.setVisible(bool(rows))

    # --- running ---------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """Whether shapes are being predicted."""
        return self._worker is not None

    def balance(self) -> None:
        """Predict and write the folder, in a thread."""
        if self._worker is not None:
            return
        try:
            request = self.request()
        except InputError as error:
            self.message.say(str(error), problem=True)
            return
        self._cancelled.clear()
        self._worker = create_worker(
            run, request, self._cancelled, _start_thread=False, _worker_class=CancellableWorker
        )
        self._worker.yielded.connect(self._on_progress)
        self._worker.returned.connect(self._on_outcome)
        self._worker.finished.connect(self._on_finished)
        self.status.say("")
        self._show_running(True)
        self.progress_bar.setRange(0, 1)
        self.progress_bar.setValue(0)
        self.progress_bar.setFormat("loading the model")
        self._worker.start()

    def cancel(self) -> None:
        """Stop within one step; what is written is kept."""
        self._cancelled.set()
        self.cancel_button.setEnabled(False)
        self.progress_bar.setFormat("cancelling")

    def _on_progress(self, progress: Progress) -> None:
        if not self._closed and not self._cancelled.is_set():
            self.progress_bar.setRange(0, progress.total)
            self.progress_bar.setValue(progress.done)
            self.progress_bar.setFormat(f"{progress.done} of {progress.total} shapes")

    def _on_outcome(self, outcome: Outcome) -> None:
        if self._closed:
            return
        if outcome.error is not None:
            error = outcome.error
            notification_manager.receive_error(type(error), error, error.__traceback__)
            self.status.say("Stopped by an error; what is written is kept.", problem=True)
        elif outcome.problem:
            self.status.say(outcome.problem, problem=True)
        elif outcome.cancelled:
            self.status.say("Cancelled. The same run, into the same folder, goes on where this one ended.")
        else:
            counts = ", ".join(f"{count} {kind}" for kind, count in outcome.after.items())
            said = " ".join([f"Written to {outcome.folder}: {counts}.", *outcome.warnings])
            self.status.say(said)
            self._written = outcome.folder

    def _on_finished(self) -> None:
        self._worker = None
        if not self._closed:
            self._show_running(False)
            self._on_inputs()

    def _show_running(self, running: bool) -> None:
        self.cancel_button.setVisible(running)
        self.cancel_button.setEnabled(running)
        self.progress_bar.setVisible(running)
        self.balance_button.setEnabled(not running)

    # --- the end ---------------------------------------------------------------------------------

    def _clean_up(self) -> None:
        """Cancel what runs and follow the viewer no more."""
        self._cancelled.set()
        self._unfollow()
        self._followed = None
        for choice in (self.image_choice, self.labels_choice):
            choice.disconnect_layers()
