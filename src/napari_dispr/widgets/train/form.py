"""Settings of the new model: name, start, preset, budget, device, licence; the others are folded."""

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QComboBox, QLabel, QLineEdit, QWidget
from superqt import QCollapsible

from napari_dispr.errors import InputError
from napari_dispr.settings import PRESET_HELP, PRESETS, TrainSettings, checked_settings
from napari_dispr.widgets.parts.layouts import column, form, row
from napari_dispr.widgets.parts.model_choice import DeviceChoice, ModelChoice
from napari_dispr.widgets.parts.number_boxes import LARGEST, DecimalBox, whole_box
from napari_dispr.widgets.train.request import ModelRequest, free_name, new_name

LICENCES = ("not stated", "CC-BY-4.0", "CC0-1.0", "BSD-3-Clause", "MIT")
_PRESET, _START = "standard", "generic"
#: The choice next to the presets that does not train.
_CALIBRATE = "calibrate only"
_CALIBRATE_HELP = (
    "Seconds to minutes, with 5 or more cells: heights, intervals and warnings of the start model are fitted "
    "to your cells; its network does not change."
)
_MOST_STEPS = 10_000_000


class ModelForm(QWidget):
    """Collects a `ModelRequest`."""

    #: Some setting has changed.
    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._build()
        self._on_preset()
        self._connect()

    def _build(self) -> None:
        self.name = QLineEdit(free_name(), toolTip="The model has this name in Predict")
        self.name.setPlaceholderText("such as my-nuclei")
        self.start = ModelChoice(none="from scratch")
        self.start.model = _START
        self.start.setToolTip(
            "Start model: it knows cells already, so that a few dozen of your cells are enough. "
            "Training from scratch needs hundreds of cells, and takes hours."
        )
        self.preset = QComboBox()
        for name in PRESETS:
            self.preset.addItem(name, name)
        self.preset.addItem(_CALIBRATE, _CALIBRATE)
        self.preset.setCurrentIndex(self.preset.findData(_PRESET))
        texts = {**PRESET_HELP, _CALIBRATE: _CALIBRATE_HELP}
        self.preset.setToolTip("\n".join(f"{name}: {text}" for name, text in texts.items()))
        self.preset_help = QLabel(wordWrap=True)
        self.preset_help.setStyleSheet("font-style: italic; padding: 0px; margin: 0px;")
        tip = "How long to train. You can stop earlier and save the model then."
        self.minutes = DecimalBox(0.1, 100_000, 1, tip, suffix=" min")
        self.device = DeviceChoice()
        self.device.setToolTip(TrainSettings.about("device"))
        self.licence = QComboBox(toolTip="Terms for other users of the model; written into its card")
        self.licence.setEditable(True)
        self.licence.addItems(LICENCES)
        self.data_note = QLineEdit(toolTip="Source of the cells: one line for the model's card")
        self.data_note.setPlaceholderText("whose cells, which microscope, DOI")
        self.rows = form(
            {
                "name": self.name,
                "start from": self.start,
                "preset": self.preset,
                "": self.preset_help,
                "train for": self.minutes,
                "device": self.device,
                "licence": self.licence,
                "cells from": self.data_note,
            }
        )
        column(self.rows, self._build_more(), parent=self)

    def _build_more(self) -> QCollapsible:
        self.by_steps = QCheckBox("in steps:", toolTip="Train for a number of steps instead of a time")
        self.steps = whole_box(1, _MOST_STEPS, "Optimiser steps: independent of the speed of the machine")
        self.batch = whole_box(1, 512, TrainSettings.about("batch"))
        self.validation = whole_box(5, 50, TrainSettings.about("validation"))
        self.seed = whole_box(0, LARGEST, TrainSettings.about("seed"))
        self.validation.setSuffix(" %")
        steps_row = row(self.by_steps, (self.steps, 1))
        inside = QWidget()
        rows = {"batch size": self.batch, "validation cells": self.validation, "seed": self.seed}
        form({"budget": steps_row, **rows}, parent=inside).setContentsMargins(8, 0, 0, 0)
        self.more = QCollapsible("More settings", expandedIcon="▾", collapsedIcon="▸")
        self.more.layout().setContentsMargins(0, 0, 0, 0)
        self.more.setToolTip("Settings that rarely need a change")
        self.more.addWidget(inside)
        return self.more

    def _connect(self) -> None:
        self.preset.currentIndexChanged.connect(self._on_preset)
        self.by_steps.toggled.connect(self._on_budget)
        for line in (self.name, self.data_note):
            line.textChanged.connect(self.changed)
        self.start.model_changed.connect(self.changed)
        self.device.currentIndexChanged.connect(self.changed)
        self.licence.currentTextChanged.connect(self.changed)
        for box in (self.minutes, self.steps, self.batch, self.validation, self.seed):
            box.valueChanged.connect(self.changed)

    def _on_preset(self) -> None:
        self.rows.setRowVisible(self.minutes, not self.calibrates)
        self.more.setVisible(not self.calibrates)
        if self.calibrates:
            self.preset_help.setText(_CALIBRATE_HELP)
            self.start.setEnabled(True)
            self.changed.emit()
            return
        settings = PRESETS[self.preset.currentData()]
        self.preset_help.setText(PRESET_HELP[self.preset.currentData()])
        if settings.minutes is not None:
            self.minutes.setValue(settings.minutes)
        self.steps.setValue(settings.steps)
        self.batch.setValue(settings.batch)
        self.validation.setValue(round(100 * settings.validation))
        self.by_steps.setChecked(settings.minutes is None)
        # The paper's network differs from that of our models: it cannot start from one.
        self.start.setEnabled(settings.method != "dispr")
        self._on_budget()

    def _on_budget(self) -> None:
        self.minutes.setEnabled(not self.by_steps.isChecked())
        self.steps.setEnabled(self.by_steps.isChecked())
        self.changed.emit()

    @property
    def calibrates(self) -> bool:
        """Whether the start model is only calibrated, not trained."""
        return bool(self.preset.currentData() == _CALIBRATE)

    def request(self) -> ModelRequest:
        """The settings of the form.

        Raises an InputError if the name is taken or empty, or settings do not fit together.
        """
        preset = self.preset.currentData()
        before = TrainSettings() if self.calibrates else PRESETS[preset]
        if self.calibrates and self.start.model is None:
            raise InputError('Choose the model to calibrate in "start from".')
        by_steps = self.by_steps.isChecked()
        changes = {
            "minutes": None if by_steps or self.calibrates else round(self.minutes.value(), 1),
            "steps": self.steps.value() if by_steps else before.steps,
            "batch": self.batch.value(),
            "validation": self.validation.value() / 100,
            "seed": self.seed.value(),
            "device": self.device.currentData(),
        }
        licence = self.licence.currentText().strip()
        return ModelRequest(
            name=new_name(self.name.text()),
            start=None if before.method == "dispr" else self.start.model,
            preset=preset,
            settings=checked_settings(TrainSettings, {**before.model_dump(), **changes}),
            licence="" if licence == LICENCES[0] else licence,
            data_note=self.data_note.text().strip(),
        )

    def suggest_name(self) -> None:
        self.name.setText(free_name())
