"""The window "Balance classes": layout and signals. `balance_request` checks the inputs and runs them."""

from contextlib import suppress
from pathlib import Path

from napari.layers import Labels
from napari.viewer import Viewer
from qtpy.QtWidgets import QFileDialog, QPushButton

from napari_dispr.errors import InputError, problem_of
from napari_dispr.models.library import read_card
from napari_dispr.settings import PredictSettings
from napari_dispr.synthesis.balance_plan import AT_MOST
from napari_dispr.viewer.displayed import displayed_plane
from napari_dispr.widgets.parts.combo_boxes import ShortComboBox, refill
from napari_dispr.widgets.parts.docked import DockedWidget, Message
from napari_dispr.widgets.parts.layer_choice import FollowedLayers, LayerChoice, is_picture, is_segmentation
from napari_dispr.widgets.parts.layouts import form, row
from napari_dispr.widgets.parts.model_choice import ModelChoice, QualityChoice
from napari_dispr.widgets.parts.number_boxes import LARGEST, whole_box
from napari_dispr.widgets.parts.run_bar import RunBar
from napari_dispr.widgets.parts.text_table import TextTable
from napari_dispr.widgets.synthesis.balance_request import (
    BalanceRequest,
    class_columns,
    classes_of_layer,
    make_request,
    planned,
    run,
    with_table,
)
from napari_dispr.widgets.train.inputs import FolderInput

_ABOUT = (
    "Writes a training folder (obj, image, mask and cells.csv) in which all classes have as many cells as "
    "the largest class. All shapes in it are predicted, not measured."
)
_CONTINUES = "Start the same run again to continue with what is written."


class BalanceWidget(DockedWidget):
    """Write a training folder in which rare classes have as many cells as frequent ones."""

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__(napari_viewer)
        self._followed = FollowedLayers(["features"], self._on_labels, self)
        self._written: Path | None = None  # the folder that the last run finished
        self._build()
        self._connect()
        self._on_labels()

    # --- layout ----------------------------------------------------------------------------------

    def _build(self) -> None:
        tip = "The 2D picture; of a stack the displayed plane"
        self.image_choice = LayerChoice(self._viewer, is_picture, tip)
        tip = "The segmentation of the picture, whose table has a class for each cell"
        self.labels_choice = LayerChoice(self._viewer, is_segmentation, tip)
        self.column = ShortComboBox()
        tip = "The column of the label layer's table (layer.features) that holds the classes"
        self.column.setToolTip(tip)
        self.column.setPlaceholderText("no column of classes")
        self.csv_button = QPushButton(
            "From CSV…",
            toolTip="Read classes from a table with the columns label and class, such as cells.csv of a "
            "prediction to which you have added a column",
        )
        self.model_choice = ModelChoice()
        self.quality = QualityChoice()
        tip = "The most shapes that are predicted from the picture of one cell"
        self.at_most = whole_box(1, 100, tip, AT_MOST)
        self.seed = whole_box(0, LARGEST, PredictSettings.about("seed"))
        self.folder = FolderInput("Folder to write to: a new one, or that of a cancelled run")
        self.model_choice.setToolTip(PredictSettings.about("model"))
        self.quality.setToolTip(PredictSettings.about("quality"))
        rows = form(
            {
                "image": self.image_choice,
                "labels": self.labels_choice,
                "classes": row((self.column, 1), self.csv_button),
                "model": self.model_choice,
                "quality": self.quality,
                "max. shapes per cell": self.at_most,
                "seed": self.seed,
                "folder": self.folder,
            }
        )
        self.table = TextTable(
            {
                "class": "The classes in the column that is chosen above",
                "cells": "Cells of this class in the table",
                "predicted": "Shapes that will be predicted from them",
            }
        )
        #: What is wrong with the inputs.
        self.message = Message()
        self.balance_button = QPushButton("Balance classes", toolTip=_ABOUT)
        self.run_bar = RunBar("Stop; what is written is kept, and the same run can continue with it")
        about = Message()
        about.say(_ABOUT)
        below = (self.table, self.balance_button, self.message, self.run_bar)
        self._lay_out(about, rows, *below)

    def _connect(self) -> None:
        self.image_choice.layer_changed.connect(self._on_inputs)
        self.labels_choice.layer_changed.connect(self._on_labels)
        self.column.currentIndexChanged.connect(self._on_inputs)
        self.csv_button.clicked.connect(self._ask_for_csv)
        self.model_choice.model_changed.connect(self._on_inputs)
        self.at_most.valueChanged.connect(self._on_inputs)
        self.folder.changed.connect(self._on_inputs)
        self.balance_button.clicked.connect(self.balance)
        self.run_bar.changed.connect(self._on_inputs)

    # --- inputs ----------------------------------------------------------------------------------

    def request(self) -> BalanceRequest:
        """The request that the inputs make; `InputError` if something is wrong at first sight."""
        image, labels = self.image_choice.layer, self.labels_choice.layer
        assert labels is None or isinstance(labels, Labels)
        return make_request(
            None if image is None else displayed_plane(image, self._viewer.dims),
            None if labels is None else displayed_plane(labels, self._viewer.dims),
            labels,
            self.column.currentData(),
            model=self.model_choice.model or PredictSettings().model,
            quality=self.quality.quality,
            at_most=self.at_most.value(),
            seed=self.seed.value(),
            folder=self.folder.folder,
        )

    def _on_labels(self, event: object = None) -> None:
        """Follow the table of the chosen label layer."""
        layer = self.labels_choice.layer
        self._followed.follow(self.labels_choice, layer)
        columns = [] if layer is None else class_columns(layer.features)
        refill(self.column, {name: name for name in columns}, self.column.currentData())
        self._on_inputs()

    def _ask_for_csv(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "A table of classes", "", "Tables (*.csv *.tsv *.txt)")
        if path:
            self.read_csv(Path(path))

    def read_csv(self, path: Path) -> None:
        """Add the columns of a CSV file to the table of the label layer, and choose one that is new."""
        layer = self.labels_choice.layer
        if layer is None:
            return
        before = class_columns(layer.features)
        try:
            layer.features = with_table(layer.features, path)
        except InputError as error:
            self.message.say(str(error), problem=True)
            return
        new = [name for name in class_columns(layer.features) if name not in before]
        if new:
            self.column.setCurrentIndex(self.column.findData(new[0]))

    def _on_inputs(self) -> None:
        """Show what will be predicted, and say what is missing."""
        with suppress(InputError):  # a file that is no model: the run says so
            self.quality.offer(list(read_card(self.model_choice.model or "").qualities))
        self._show_classes()
        problem = problem_of(self.request)
        # After a run its folder exists: the status says so, no warning is needed.
        finished = self._written is not None and self.folder.folder == self._written
        self.message.say("" if finished else problem, problem=True)
        self.balance_button.setEnabled(not problem and not self.run_bar.running)

    def _show_classes(self) -> None:
        """A row for each class: its cells, and how many shapes will be predicted from them."""
        layer, column = self.labels_choice.layer, self.column.currentData()
        rows: list[tuple[str, ...]] = []
        if layer is not None and column:
            classes = classes_of_layer(layer.features, column)
            after = planned(classes, self.at_most.value()).after
            kinds = list(classes.values())
            rows = [(kind, str(kinds.count(kind)), str(count)) for kind, count in after.items()]
        self.table.show_rows(rows)

    # --- running ---------------------------------------------------------------------------------

    def balance(self) -> None:
        """Predict and write the folder, in a thread."""
        try:
            request = self.request()
        except InputError as error:
            self.message.say(str(error), problem=True)
            return

        def written(text: str) -> None:
            self._written = request.folder
            self.run_bar.status.say(text)

        self.run_bar.start(run(request), written, kept=_CONTINUES)
