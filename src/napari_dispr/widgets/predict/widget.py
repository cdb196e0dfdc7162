"""The window "Predict 3D shapes": layout and signals. `request` checks the inputs, `running` runs them."""

from contextlib import suppress
from dataclasses import replace
from typing import Any

from napari.layers import Image, Labels, Layer
from napari.viewer import Viewer
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QCheckBox, QPushButton

from napari_dispr.errors import InputError
from napari_dispr.prediction.result import Prediction
from napari_dispr.viewer.content import LayerData, LayerStyle
from napari_dispr.viewer.displayed import DisplayedPlane, displayed_plane
from napari_dispr.viewer.layers import ResultLayers, removed_together
from napari_dispr.viewer.opened import OpenPrediction, unwrapped
from napari_dispr.viewer.opening import open_window
from napari_dispr.viewer.session import Session
from napari_dispr.widgets.morphometry.array_table import ArrayView
from napari_dispr.widgets.parts.cell_colours import CellColours
from napari_dispr.widgets.parts.combo_boxes import ShortComboBox
from napari_dispr.widgets.parts.docked import DockedWidget, Message
from napari_dispr.widgets.parts.layer_choice import FollowedLayers, LayerChoice, is_picture, is_segmentation
from napari_dispr.widgets.parts.layouts import row
from napari_dispr.widgets.parts.loading import devices_found
from napari_dispr.widgets.parts.remembered import recall, remember
from napari_dispr.widgets.parts.result_layers import LayerUpdater
from napari_dispr.widgets.parts.run_bar import RunBar
from napari_dispr.widgets.parts.threads import LatestAnswer
from napari_dispr.widgets.predict.cells_input import CellsInput
from napari_dispr.widgets.predict.fixes import ALIGN, SPLIT, SPLIT_STACK, Fix, misaligned
from napari_dispr.widgets.predict.pixel_size import PixelSize
from napari_dispr.widgets.predict.planes_input import PlanesInput
from napari_dispr.widgets.predict.request import (
    CellChoice,
    Inspection,
    MaskError,
    PredictRequest,
    inspect,
    make_request,
)
from napari_dispr.widgets.predict.running import Results, removed_text, run, summary
from napari_dispr.widgets.predict.settings_form import SettingsForm, recall_settings
from napari_dispr.widgets.predict.show_3d import Show3D
from napari_dispr.widgets.predict.table import MorphometryTable

#: Events that change the pixels of a layer, and all that may change the request.
_EDITS = ("data", "set_data", "paint", "labels_update")
_PIXELS = ("data", "paint", "labels_update")  # napari sends ``set_data`` also when it shows another plane
_LAYER_EVENTS = (*_EDITS, "scale", "translate", "rotate", "shear", "affine", "units", "selected_label")
_OUTDATED = "The image or the labels have changed since then: press Predict to predict the cells again."
#: Settings are saved when they have not changed for this long, milliseconds.
_SAVE_AFTER = 1000


class PredictWidget(DockedWidget):
    """Predict an ensemble of 3D shapes for cells of a 2D picture, or of several planes of a stack."""

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__(napari_viewer)
        #: The newest prediction, of all cells finished so far.
        self.prediction: Prediction | None = None
        self._fix: Fix | None = None  # what the button below the message does
        self._problem = False  # something is wrong with the inputs
        self._inspection: Inspection | None = None  # of the current inputs
        self._last: Results | None = None
        self._session = Session.of(napari_viewer)
        self._key: object = None  # of the newest prediction, in the session
        self._outdated = False  # the layers of the newest prediction have changed
        self._back_to_3d = False  # as soon as there are layers
        self._origin: tuple[Image, Labels, DisplayedPlane] | None = None  # of the results, as displayed
        self._plane: DisplayedPlane | None = None  # the picture of the results
        self._followed = FollowedLayers(_LAYER_EVENTS, self._on_layer_event, self)
        # Moving a slider or inserting layers sends many events: read the inputs once after them.
        self._coming = QTimer(self, singleShot=True, interval=0)
        self._coming.timeout.connect(self._on_inputs)
        #: Brings the result layers up to date.
        self.updater = LayerUpdater(self)
        self.updater.updated.connect(self._on_updated)
        self._unsaved = QTimer(self, singleShot=True, interval=_SAVE_AFTER)
        self._unsaved.timeout.connect(self._remember)
        self._build()
        self._restore()
        self._check = LatestAnswer(inspect, self._on_checked, self)
        self._devices = LatestAnswer(devices_found, self.form.device.offer, self, pause=0)
        self._connect()
        self._follow_layers()
        self._devices.ask()

    # --- layout ----------------------------------------------------------------------------------

    def _build(self) -> None:
        tip = "The 2D picture; of a stack the displayed plane"
        self.image_choice = LayerChoice(self._viewer, is_picture, tip)
        tip = "The segmentation of the picture, one label for each cell"
        self.labels_choice = LayerChoice(self._viewer, is_segmentation, tip)
        self.cells = CellsInput(self._viewer, self._layers)
        self.pick_button = self.cells.pick_button
        self.form = SettingsForm()
        self.planes = PlanesInput()
        self.pixel_size = PixelSize(self._viewer, self._layers)
        inputs = {
            "image": self.image_choice,
            "labels": self.labels_choice,
            "planes": self.planes,
            "pixel size": self.pixel_size,
            "cells": self.cells,
        }
        for place, (name, control) in enumerate(inputs.items()):
            self.form.rows.insertRow(place, name, control)
        self.stacked = ShortComboBox(characters=16)
        self.stacked.setToolTip("How the members are added to the layer list")
        self.stacked.addItems(["one for each member", "one with a slider for the members"])
        self.consensus = QCheckBox(
            "consensus", toolTip="Also add a layer of the voxels that at least half of the members contain"
        )
        self.keep_earlier = QCheckBox(
            "keep earlier layers of the same cells",
            toolTip="If this is off, a run replaces earlier layers of the same cells and the same labels, "
            "unless you have kept or rejected shapes in them",
        )
        self.form.rows.addRow("layers", row((self.stacked, 1), self.consensus))
        self.form.rows.addRow("", self.keep_earlier)
        #: A problem of the inputs, or what will be predicted.
        self.message = Message()
        self.predict_button = QPushButton("Predict")
        self.show_3d_button = Show3D(self._viewer, lambda: self._origin, self._results_in_viewer)
        self.compare_button = QPushButton(
            "Compare", toolTip="Open the window that shows the shapes of a cell side by side in 3D"
        )
        self.run_bar = RunBar("Stop; finished cells are kept")
        self.fix_button = QPushButton()
        buttons = row((self.predict_button, 2), (self.show_3d_button, 1), (self.compare_button, 1))
        self.table = MorphometryTable()
        # Messages come and go: they stand below the buttons, which would move away from a click.
        self._lay_out(self.form, buttons, self.message, self.fix_button, self.run_bar, (self.table, 1))
        for later in (self.table, self.show_3d_button, self.compare_button, self.fix_button):
            later.hide()

    def _connect(self) -> None:
        for choice in (self.image_choice, self.labels_choice):
            choice.layer_changed.connect(self._follow_layers)
        layers = self.stacked.currentIndexChanged, self.consensus.toggled, self.keep_earlier.toggled
        for changed in (self.cells.changed, self.planes.changed, self.form.changed, *layers):
            changed.connect(self._on_inputs)
        self.cells.found.connect(self._show_outlines)
        self.predict_button.clicked.connect(self.predict)
        self.fix_button.clicked.connect(self._on_fix)
        self.run_bar.changed.connect(self._on_run)
        self.compare_button.clicked.connect(lambda: open_window(self._viewer, "Compare members"))
        self._listen(self._session.events.predictions, self._on_session)
        self._colours = CellColours.of(self._viewer)
        for view in (self.table.cells_view, self.table.members_view):
            view.picked.connect(self._on_row)
        for event in ("point", "order", "ndisplay", "ndim"):
            self._listen(getattr(self._viewer.dims.events, event), self._on_dims)

    def _restore(self) -> None:
        self.form.settings = recall_settings()
        own_number = isinstance(self.form.settings.scale, float)
        self.form.scale_by_hand = own_number or recall("predict/scale_by_hand") == "1"
        if (remembered := recall("predict/cells")) in list(CellChoice):
            self.cells.choice = CellChoice(remembered)
        self.stacked.setCurrentIndex(recall("predict/layers") == "1")
        self.consensus.setChecked(recall("predict/consensus") == "1")
        self.keep_earlier.setChecked(recall("predict/keep_earlier") == "1")

    def _remember(self) -> None:
        self._unsaved.stop()
        remember(
            {
                "predict/settings": self.form.settings.model_dump_json(),
                "predict/scale_by_hand": str(int(self.form.scale_by_hand)),
                "predict/cells": str(self.cells.choice),
                "predict/layers": str(self.stacked.currentIndex()),
                "predict/consensus": str(int(self.consensus.isChecked())),
                "predict/keep_earlier": str(int(self.keep_earlier.isChecked())),
            }
        )

    # --- inputs ----------------------------------------------------------------------------------

    def _layers(self) -> tuple[Any, Any]:
        """The chosen picture and labels."""
        return self.image_choice.layer, self.labels_choice.layer

    def request(self) -> PredictRequest:
        """The request that the inputs make; `InputError` if something is wrong at first sight."""
        style = LayerStyle(self.stacked.currentIndex() == 1, self.consensus.isChecked())
        request = make_request(
            self.image_choice.layer,
            self.labels_choice.layer,
            self._viewer.dims,
            self.cells.choice,
            self.cells.clicked,
            self.form.settings,
            self.planes.several,
        )
        return replace(request, style=style)

    def use_model(self, model: str) -> None:
        """Choose a model, with the scale that suits it."""
        self.form.scale_by_hand = False
        self.form.model_choice.model = model
        self._on_inputs()

    def _suggest_scale(self) -> None:
        image = self.image_choice.layer
        with suppress(InputError):  # the message says it
            if isinstance(image, Image):
                self.form.suggest_scale(displayed_plane(image, self._viewer.dims))

    def _follow_layers(self) -> None:
        """Follow the chosen layers instead of the earlier ones."""
        labels = self.labels_choice.layer
        if self._origin is not None and self.prediction is not None and labels is not None:
            # The table and what the run said are those of its own labels.
            own, said = unwrapped(labels) is unwrapped(self._origin[1]), self.run_bar.status
            self.table.setVisible(own)
            said.setVisible(own and bool(said.text()))
        self._followed.follow(self.image_choice, self.image_choice.layer)
        if self._followed.follow(self.labels_choice, self.labels_choice.layer):
            self.cells.clear()
        self._on_inputs()

    def _on_layer_event(self, event: Any) -> None:
        if event.type in _EDITS:
            self.cells.edited()
            self.planes.edited()
        if event.type in _PIXELS and self._origin is not None and not self._outdated:
            self._outdated = any(unwrapped(one) is event.source for one in self._origin[:2])
            if self._outdated and self._last is not None and not self.running:
                self.run_bar.status.say(f"{self.run_bar.status.text()} {_OUTDATED}".strip())
        self._coming.start()

    def _on_dims(self, event: Any) -> None:
        self._coming.start()
        if self._viewer.dims.ndisplay == 2 and self.show_3d_button.on:  # by napari's own button
            self.show_3d_button.setChecked(False)

    def _on_inputs(self, *_: Any) -> None:
        """Say what is wrong at first sight; check the rest in a thread."""
        self._coming.stop()
        self._unsaved.start()
        self._check.forget()
        self._inspection = None
        self._offer_fix(None)
        image, labels = self._layers()
        self.form.rows.setRowVisible(self.planes, self.planes.refresh(labels, self._viewer.dims))
        self.form.picture.setEnabled(not self.planes.several)
        self.form.rows.setRowVisible(self.pixel_size, self.pixel_size.refresh(self.planes.several))
        self.cells.refresh()
        self._suggest_scale()
        try:
            request = self.request()
        except InputError as error:
            self.cells.show_outlines(None)
            self._say(str(error), problem=True)
            if isinstance(image, Image) and isinstance(labels, Labels) and misaligned(image, labels):
                self._offer_fix(ALIGN)
            return
        self.cells.show_outlines(request)
        # A text stays until the check has answered, so that the button below it does not move.
        self._say("Checking…" if self._problem or not self.message.text() else self.message.text())
        self._check.ask(request, None if self.planes.several else self.cells.boxes)

    def _show_outlines(self) -> None:
        with suppress(InputError):  # the message says it already
            self.cells.show_outlines(self.request())

    def _on_checked(self, answer: Inspection | InputError) -> None:
        if isinstance(answer, InputError):
            self._say(str(answer), problem=True)
            binary = isinstance(answer, MaskError)
        else:
            self._inspection = answer
            self._say(answer.text + self.pixel_size.hint)
            binary = answer.binary
        if binary:
            self._offer_fix(SPLIT_STACK if self.planes.several else SPLIT)

    def _offer_fix(self, fix: Fix | None) -> None:
        self._fix = fix
        self.fix_button.setVisible(fix is not None)
        if fix is not None:
            self.fix_button.setText(fix.text)
            self.fix_button.setToolTip(fix.tip)

    def _on_fix(self) -> None:
        """Add a fixed label layer and choose it."""
        (image, labels), fix = self._layers(), self._fix
        if fix is None or not isinstance(image, Image) or not isinstance(labels, Labels):
            return

        def added(made: LayerData) -> None:
            labels.visible = False
            self._viewer.add_layer(Layer.create(*made))
            self.labels_choice.layer = unwrapped(self._viewer).layers[-1]

        self.run_bar.start(lambda step: fix.fixed(image, labels), added, first="labels")

    def _say(self, text: str, *, problem: bool = False) -> None:
        """Show a message below the inputs; with a problem Predict is off until the inputs change."""
        self.message.say(text, problem=problem)
        self._problem = problem
        self.predict_button.setEnabled(not problem and not self.running)

    # --- running ---------------------------------------------------------------------------------

    def predict(self) -> None:
        if self.running:
            return
        if self._coming.isActive():  # the inputs have changed since they were inspected
            self._on_inputs()
        try:
            request = self.request()
        except InputError as error:
            self._say(str(error), problem=True)
            return
        image, labels = self._layers()
        assert isinstance(image, Image) and isinstance(labels, Labels)
        self.updater.finish()
        self._back_to_3d = self.show_3d_button.isChecked()
        self.show_3d_button.setChecked(False)
        self._origin = (image, labels, request.image)
        self._plane = request.origin
        self._last = self.prediction = None
        self._outdated = False
        self._key = object()
        work = run(request, self._inspection)
        self.run_bar.start(work, self._on_result, on_event=self._show, kept=self._kept)

    @property
    def running(self) -> bool:
        return self.run_bar.running

    def _on_result(self, results: Results) -> None:
        self._show(results, replacing=not self.keep_earlier.isChecked())
        self.run_bar.status.say(self._said(results, finished=True))

    def _kept(self) -> str:
        return self._said(self._last, finished=False) if self._last else "No cell was finished."

    def _said(self, results: Results, finished: bool) -> str:
        """The result in words, also where it is if the user has removed layers during the run."""
        assert self._origin is not None
        inputs = [one for one in self._origin[:2] if unwrapped(one) not in self._viewer.layers]
        said = summary(results, finished, self.message.text()) + removed_text(inputs, self.updater.layers)
        return f"{said} {_OUTDATED}" if self._outdated else said

    def _show(self, results: Results, *, replacing: bool = False) -> None:
        """Pass the results on to the tables, to the other windows and to the layers.

        Earlier results of the same cells are replaced only by a finished run.
        """
        assert self._origin is not None
        self._last, self.prediction = results, results.prediction
        image, labels, _ = self._origin
        found = (results.prediction, results.measures, results.cells)
        opened = OpenPrediction(self._key, labels.name, *found, self._plane, image, labels, growing=True)
        earlier = self._session.earlier(opened) if replacing else []
        name = earlier[0].name if earlier else self._session.free_name(opened)
        opened = replace(opened, name=name)
        if not self._session.update(opened):  # the first results; later ones do not change what is shown
            self._session.show(opened)
        handle = self._session.handle(opened)
        if handle.layers is None:
            handle.layers = ResultLayers(self._viewer, labels, handle)
        for one in earlier:
            before = self._session.handle(one)
            if before.layers is not None:
                handle.layers.replaced.append(before.layers)
            if self._session.current is one:
                self._session.show(opened)
        self.updater.show(results.content, handle.layers)
        self.table.show_measures(results.measures, results.cells)
        for later in (self.table, self.show_3d_button, self.compare_button):
            later.show()

    def _on_updated(self) -> None:
        if self._back_to_3d and self._results_in_viewer():
            self._back_to_3d = False
            self.show_3d_button.setChecked(True)
        self.show_3d_button.refresh()

    def _results_in_viewer(self) -> list[Labels]:
        layers = self.updater.layers
        return [] if layers is None else [one for one in layers.layers if one in self._viewer.layers]

    def _on_run(self) -> None:
        self.predict_button.setEnabled(not self.running and not self._problem)
        self.fix_button.setEnabled(not self.running)
        if not self.running:
            self._finish_growing()

    def _finish_growing(self) -> None:
        """Let the other windows change the prediction."""
        opened = self._session.newest(self._key)
        if opened is not None and opened.growing:
            self._session.update(replace(opened, growing=False))

    def _on_session(self, event: Any) -> None:
        """Show what other windows changed in the newest prediction: shapes kept, rejected and added."""
        opened = self._session.newest(self._key)
        if opened is not None and not opened.growing and opened.prediction is not self.prediction:
            self.prediction = opened.prediction
            self.table.show_measures(opened.measures, opened.cells)

    def _on_row(self, row: int) -> None:
        """Select the cell of a row: it stands out in the picture and in 3D."""
        opened, view = self._session.newest(self._key), self.sender()
        if opened is not None and isinstance(view, ArrayView) and view.table is not None:
            content = view.table.content
            member = int(content.members[row])
            if opened is not self._session.current:
                self._session.show(opened)
            self._session.select(int(content.cells[row]), member if member >= 0 else None)

    # --- the end ---------------------------------------------------------------------------------

    def _clean_up(self) -> None:
        """End all changes of the viewer; result layers stay."""
        with removed_together(self._viewer):
            self.show_3d_button.leave()  # before the colours change, which would colour its surfaces again
            self._remember()
            self._colours.release()
            self._finish_growing()
            self.cells.shut_down()
