"""The widget "Predict 3D shapes": layout and signals. What runs is in `running`, what is wrong in
`request`.
"""

import threading
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from napari.layers import Image, Labels
from napari.qt.threading import create_worker
from napari.utils.notifications import notification_manager
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QHBoxLayout, QLabel, QProgressBar, QPushButton, QVBoxLayout

from napari_dispr.errors import InputError
from napari_dispr.viewer.displayed import DisplayedPlane
from napari_dispr.viewer.layers import ResultLayers
from napari_dispr.viewer.opening import open_beside
from napari_dispr.viewer.scene import View3D
from napari_dispr.viewer.session import OpenPrediction, Session
from napari_dispr.widgets.parts.background import CancellableWorker, NewestAnswer
from napari_dispr.widgets.parts.docked import DockedWidget
from napari_dispr.widgets.parts.layer_choice import FollowedLayers, LayerChoice, is_picture, is_segmentation
from napari_dispr.widgets.parts.loading import devices_found
from napari_dispr.widgets.parts.message import Message
from napari_dispr.widgets.parts.result_layers import ResultDrawing
from napari_dispr.widgets.predict.cells_input import CellsInput
from napari_dispr.widgets.predict.request import CellChoice, Inspection, PredictRequest, inspect, make_request
from napari_dispr.widgets.predict.running import (
    Outcome,
    Progress,
    Results,
    number_of_cells,
    progress_text,
    run,
)
from napari_dispr.widgets.predict.settings_form import SettingsForm, recall, recall_settings, remember
from napari_dispr.widgets.predict.table import MorphometryTable

if TYPE_CHECKING:
    from napari.viewer import Viewer

    from napari_dispr.prediction.result import Prediction

#: What changes the pixels of a layer, and what else may change what is asked for.
_EDITS = ("data", "set_data", "paint", "labels_update")
_LAYER_EVENTS = (*_EDITS, "scale", "translate", "rotate", "shear", "affine", "units", "selected_label")
_DIMS_EVENTS = ("point", "order", "ndisplay", "ndim")
#: The progress bar draws itself, and with it the window, at once: not at every step, milliseconds.
_BETWEEN_PROGRESS = 200
#: Settings are written down when they have rested for so long, milliseconds.
_SAVE_AFTER = 1000


class PredictWidget(DockedWidget):
    """Predict an ensemble of 3D shapes for cells of a 2D picture.

    Parameters
    ----------
    napari_viewer : Viewer
    """

    def __init__(self, napari_viewer: "Viewer") -> None:
        super().__init__(napari_viewer)
        #: The newest prediction, of all cells finished so far.
        self.prediction: Prediction | None = None
        self._problem = False  # stands beside the inputs
        self._worker: CancellableWorker | None = None
        self._cancelled = threading.Event()
        self._session = Session.of(napari_viewer)
        self._key: object = None  # of the newest prediction among those that are open
        self._back_to_3d = False  # as soon as there are layers
        self._progress: Progress | None = None
        self._origin: tuple[Image, Labels, DisplayedPlane] | None = None  # of the results
        self._followed = FollowedLayers(_LAYER_EVENTS, self._on_layer_event)
        # Moving a slider or inserting layers tells of many changes at once: one look at them is enough.
        self._coming = QTimer(self, singleShot=True, interval=0)
        self._coming.timeout.connect(self._on_inputs)
        #: Brings the result layers up to date.
        self.drawing = ResultDrawing(self)
        self.drawing.drawn.connect(self._on_drawn)
        self._next_progress = QTimer(self, singleShot=True, interval=_BETWEEN_PROGRESS)
        self._next_progress.timeout.connect(self._show_progress)
        self._unsaved = QTimer(self, singleShot=True, interval=_SAVE_AFTER)
        self._unsaved.timeout.connect(self._remember)
        self._build()
        self._restore()
        self._view_3d = View3D(napari_viewer)
        self._check = NewestAnswer(inspect, self._on_checked, self)
        self._devices = NewestAnswer(devices_found, self.form.offer_devices, self, pause=0)
        self._connect()
        self._follow_layers()
        self._devices.ask()

    # --- layout ----------------------------------------------------------------------------------

    def _build(self) -> None:
        self.image_choice = LayerChoice(self._viewer, is_picture)
        self.labels_choice = LayerChoice(self._viewer, is_segmentation)
        self.image_choice.setToolTip("The 2D picture; of a stack the displayed plane")
        self.labels_choice.setToolTip("The segmentation of the picture, one label a cell")
        self.cells = CellsInput(self._viewer, lambda: (self.image_choice.layer, self.labels_choice.layer))
        self.pick_button = self.cells.pick_button
        self.form = SettingsForm()
        inputs = {"image": self.image_choice, "labels": self.labels_choice, "cells": self.cells}
        for row, (name, control) in enumerate(inputs.items()):
            self.form.rows.insertRow(row, name, control)
        #: What is wrong with the inputs, or what they amount to.
        self.message = Message()
        #: How the last run ended.
        self.status = QLabel(wordWrap=True)
        self.predict_button = QPushButton("Predict")
        self.cancel_button = QPushButton("Cancel")
        self.cancel_button.setToolTip("Stop; finished cells are kept")
        self.show_3d_button = QPushButton("Show in 3D", checkable=True)
        self.compare_button = QPushButton("Compare")
        self.compare_button.setToolTip("Open the widget that shows the shapes of a cell side by side in 3D")
        self.progress_bar = QProgressBar()
        buttons = QHBoxLayout()
        buttons.addWidget(self.predict_button, 2)
        buttons.addWidget(self.cancel_button, 1)
        buttons.addWidget(self.show_3d_button, 1)
        buttons.addWidget(self.compare_button, 1)
        self.table = MorphometryTable()
        layout = QVBoxLayout(self)
        layout.addWidget(self.form)
        layout.addWidget(self.message)
        layout.addLayout(buttons)
        layout.addWidget(self.progress_bar)
        layout.addWidget(self.status)
        layout.addWidget(self.table, 1)
        self.status.hide()
        self.table.hide()
        self.show_3d_button.hide()
        self.compare_button.hide()
        self._show_running(False)

    def _connect(self) -> None:
        for choice in (self.image_choice, self.labels_choice):
            choice.layer_changed.connect(self._follow_layers)
        self.cells.changed.connect(self._on_inputs)
        self.cells.found.connect(self._draw_outlines)
        self.form.changed.connect(self._on_inputs)
        self.predict_button.clicked.connect(self.predict)
        self.cancel_button.clicked.connect(self.cancel)
        self.show_3d_button.toggled.connect(self._on_show_3d)
        self.compare_button.clicked.connect(lambda: open_beside(self._viewer, "Compare members"))
        self._session.events.predictions.connect(self._on_session)
        for event in _DIMS_EVENTS:
            getattr(self._viewer.dims.events, event).connect(self._on_dims)
        # Neither of these may hold on to the widget, which is going away.
        self.destroyed.connect(self._cancelled.set)

    def _restore(self) -> None:
        self.form.settings = recall_settings()
        remembered = recall("predict/cells")
        if remembered in list(CellChoice):
            self.cells.choice = CellChoice(remembered)

    def _remember(self) -> None:
        self._unsaved.stop()
        remember(
            {
                "predict/settings": self.form.settings.model_dump_json(),
                "predict/cells": str(self.cells.choice),
            }
        )

    # --- inputs ----------------------------------------------------------------------------------

    def request(self) -> PredictRequest:
        """What the inputs ask for; `InputError` if something is wrong at first sight."""
        return make_request(
            self.image_choice.layer,
            self.labels_choice.layer,
            self._viewer.dims,
            self.cells.choice,
            self.cells.clicked,
            self.form.settings,
        )

    def _follow_layers(self) -> None:
        """Listen to the chosen layers instead of those before."""
        self._followed.follow(self.image_choice, self.image_choice.layer)
        if self._followed.follow(self.labels_choice, self.labels_choice.layer):
            self.cells.clear()
        self._on_inputs()

    def _on_layer_event(self, event: Any) -> None:
        if event.type in _EDITS:
            self.cells.edited()
        self._coming.start()

    def _on_dims(self, event: Any) -> None:
        self._coming.start()
        if self._viewer.dims.ndisplay == 2 and self._view_3d.on:  # by napari's own button
            self.show_3d_button.setChecked(False)

    def _on_inputs(self, *_: Any) -> None:
        """Say what is wrong at first sight; have the rest looked at in a thread."""
        self._coming.stop()
        self._unsaved.start()
        self._check.forget()
        self.cells.look()
        try:
            request = self.request()
        except InputError as error:
            self.cells.draw(None)
            self._say(str(error), problem=True)
            return
        self.cells.draw(request)
        self._say("")
        self._check.ask(request, self.cells.boxes)

    def _draw_outlines(self) -> None:
        with suppress(InputError):  # is said beside the inputs
            self.cells.draw(self.request())

    def _on_checked(self, answer: Inspection | InputError) -> None:
        if isinstance(answer, InputError):
            self._say(str(answer), problem=True)
            return
        text = f"{number_of_cells(len(answer.cells))} to predict."
        if answer.apart:
            text += " The labels lie elsewhere than the picture; shapes go where the picture shows the cells."
        if answer.skipped:
            left_out = number_of_cells(len(answer.skipped))
            text += f" {left_out} cut by the border, too thin or too large will be left out."
        self._say(text)

    def _say(self, text: str, *, problem: bool = False) -> None:
        """Words beside the inputs; with a problem Predict is off until the inputs change."""
        self.message.say(text, problem=problem)
        self._problem = problem
        self.predict_button.setEnabled(not problem and self._worker is None)

    # --- running ---------------------------------------------------------------------------------

    def predict(self) -> None:
        """Predict the chosen cells, in a thread."""
        if self._worker is not None:
            return
        try:
            request = self.request()
        except InputError as error:
            self._say(str(error), problem=True)
            return
        image, labels = self.image_choice.layer, self.labels_choice.layer
        assert isinstance(image, Image) and isinstance(labels, Labels)
        self.drawing.finish()
        self._back_to_3d = self.show_3d_button.isChecked()
        self.show_3d_button.setChecked(False)
        self._origin = (image, labels, request.image)
        self._cancelled.clear()
        self._progress = self.prediction = None
        self._key = object()
        self._worker = create_worker(
            run, request, self._cancelled, _start_thread=False, _worker_class=CancellableWorker
        )
        self._worker.yielded.connect(self._on_event)
        self._worker.returned.connect(self._on_outcome)
        self._worker.finished.connect(self._on_finished)
        self.status.hide()
        self._show_running(True)
        self.progress_bar.setRange(0, 1)  # an endless bar would not show its text
        self.progress_bar.setValue(0)
        self.progress_bar.setFormat("loading the model")
        self._worker.start()

    def cancel(self) -> None:
        """Stop within one step; the cells that are finished are kept."""
        self._cancelled.set()
        self.cancel_button.setEnabled(False)
        self.progress_bar.setFormat("cancelling")

    @property
    def running(self) -> bool:
        """Whether a prediction is on its way."""
        return self._worker is not None

    def _on_event(self, event: Progress | Results) -> None:
        if self._closed or self._worker is None or self._worker.quitted:  # the window is closing
            return
        if isinstance(event, Results):
            self.prediction = event.prediction
            self._show(event)
            self.table.show_measures(event.measures, event.cells)
            self.table.show()
            self.show_3d_button.show()
            self.compare_button.show()
        else:
            self._progress = event
            if not self._next_progress.isActive():
                self._next_progress.start()

    def _show(self, results: Results) -> None:
        """Hand the results to the other widgets and to the layers."""
        assert self._origin is not None
        image, labels, plane = self._origin
        found = (results.prediction, results.measures, results.cells)
        opened = OpenPrediction(self._key, labels.name, *found, plane, image, labels, growing=True)
        if not self._session.update(opened):  # the first results; later ones leave alone what is looked at
            self._session.show(opened)
        held = self._session.held(opened)
        if held.layers is None:
            held.layers = ResultLayers(self._viewer, labels, held)
            self.drawing.begin(held.layers)
        self.drawing.show(results.content)

    def _show_progress(self) -> None:
        if self._progress is not None and self._worker is not None and not self._cancelled.is_set():
            self.progress_bar.setRange(0, self._progress.total)
            self.progress_bar.setFormat(progress_text(self._progress))
            self.progress_bar.setValue(self._progress.done)

    def _on_drawn(self) -> None:
        if self._back_to_3d and self._results_in_viewer():
            self._back_to_3d = False
            self.show_3d_button.setChecked(True)

    def _results_in_viewer(self) -> list[Labels]:
        layers = self.drawing.layers
        return [] if layers is None else [one for one in layers.layers if one in self._viewer.layers]

    def _on_outcome(self, outcome: Outcome) -> None:
        if outcome.problem:
            self._say(outcome.problem, problem=True)
        of_all = f"{outcome.finished} of {number_of_cells(outcome.cells)} finished."
        text = f"{number_of_cells(outcome.finished)} predicted."
        if outcome.error is not None:
            text = f"Stopped by an error: {of_all}"
            notification_manager.receive_error(
                type(outcome.error), outcome.error, outcome.error.__traceback__
            )
        elif outcome.cancelled:
            text = f"Cancelled: {of_all}"
        self.status.setText(" ".join([text, *outcome.warnings]))
        self.status.setVisible(not outcome.problem)

    def _on_finished(self) -> None:
        self._worker = None
        self._show_running(False)
        self._let_others_change_it()

    def _let_others_change_it(self) -> None:
        opened = self._session.newest(self._key)
        if opened is not None and opened.growing:
            self._session.update(replace(opened, growing=False))

    def _on_session(self, event: Any) -> None:
        """Follow what other widgets make of the newest prediction: shapes kept, rejected and added."""
        opened = self._session.newest(self._key)
        if opened is not None and not opened.growing and opened.prediction is not self.prediction:
            self.prediction = opened.prediction
            self.table.show_measures(opened.measures, opened.cells)

    def _show_running(self, running: bool) -> None:
        self.predict_button.setEnabled(not running and not self._problem)
        self.cancel_button.setVisible(running)
        self.cancel_button.setEnabled(running)
        self.progress_bar.setVisible(running)

    def _on_show_3d(self, on: bool) -> None:
        if on and self._origin is not None:
            self._view_3d.enter(*self._origin, self._results_in_viewer())
            self.show_3d_button.setChecked(self._view_3d.on)  # the user may have removed the layers
        else:
            self._view_3d.leave()

    # --- the end ---------------------------------------------------------------------------------

    def _clean_up(self) -> None:
        """Cancel what runs and leave the viewer as it was; results stay."""
        self._cancelled.set()
        self._remember()
        for choice in (self.image_choice, self.labels_choice):
            choice.disconnect_layers()
        self._followed.stop()
        self._session.events.predictions.disconnect(self._on_session)
        self._let_others_change_it()
        for event in _DIMS_EVENTS:
            getattr(self._viewer.dims.events, event).disconnect(self._on_dims)
        self._coming.stop()
        self.drawing.stop()
        self._next_progress.stop()
        self._check.forget()
        self._devices.forget()
        self.cells.shut_down()
        self._view_3d.leave()
