"""What the new model is to be: name, start, preset, budget, device, licence; the rest folded away."""

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)
from superqt import QCollapsible

from napari_dispr.errors import InputError
from napari_dispr.settings import PRESET_HELP, PRESETS, TrainSettings, checked_settings
from napari_dispr.widgets.parts.device_choice import DeviceChoice
from napari_dispr.widgets.parts.model_choice import ModelChoice
from napari_dispr.widgets.train.request import Wish, free_name, new_name

LICENCES = ("not stated", "CC-BY-4.0", "CC0-1.0", "BSD-3-Clause", "MIT")
_PRESET, _START = "standard", "generic"
_MOST_STEPS = 10_000_000


class ModelForm(QWidget):
    """Collects a `Wish`."""

    #: Any of it is another.
    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._build()
        self._on_preset()
        self._connect()

    def _build(self) -> None:
        self.name = QLineEdit(free_name())
        self.name.setPlaceholderText("such as my-nuclei")
        self.name.setToolTip("The model stands by this name in Predict's list")
        self.start = ModelChoice(none="from scratch")
        self.start.model = _START
        self.start.setToolTip(
            "Model to begin from: it has learnt of cells already, so that a few dozen of yours are enough. "
            "From scratch takes hundreds of cells, and hours."
        )
        self.preset = QComboBox()
        for name in PRESETS:
            self.preset.addItem(name, name)
        self.preset.setCurrentIndex(self.preset.findData(_PRESET))
        self.preset.setToolTip("\n".join(f"{name}: {text}" for name, text in PRESET_HELP.items()))
        self.preset_help = QLabel(wordWrap=True)
        self.preset_help.setStyleSheet("font-style: italic; padding: 0px; margin: 0px;")
        self.minutes = QDoubleSpinBox()
        self.minutes.setRange(0.1, 100_000)
        self.minutes.setDecimals(1)
        self.minutes.setSuffix(" min")
        self.minutes.setToolTip("How long to train. It can be stopped before, and used as it is then.")
        self.device = DeviceChoice()
        self.device.setToolTip(TrainSettings.model_fields["device"].description or "")
        self.licence = QComboBox()
        self.licence.setEditable(True)
        self.licence.addItems(LICENCES)
        self.licence.setToolTip("Under what terms others may use the model; stands in its card")
        self.data_note = QLineEdit()
        self.data_note.setPlaceholderText("whose cells, which microscope, DOI")
        self.data_note.setToolTip("Where the cells come from: one line for the model's card")
        self.rows = QFormLayout()
        self.rows.setContentsMargins(0, 0, 0, 0)
        self.rows.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        self.rows.addRow("name", self.name)
        self.rows.addRow("begin from", self.start)
        self.rows.addRow("preset", self.preset)
        self.rows.addRow("", self.preset_help)
        self.rows.addRow("train for", self.minutes)
        self.rows.addRow("device", self.device)
        self.rows.addRow("licence", self.licence)
        self.rows.addRow("cells from", self.data_note)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(self.rows)
        layout.addWidget(self._build_more())

    def _build_more(self) -> QCollapsible:
        self.by_steps = QCheckBox("in steps:")
        self.steps = _whole(1, _MOST_STEPS, "Optimiser steps; the same model comes out on any machine")
        self.batch = _whole(1, 512, TrainSettings.model_fields["batch"].description or "")
        self.apart = _whole(5, 50, TrainSettings.model_fields["validation"].description or "")
        self.seed = _whole(0, 2**31 - 1, TrainSettings.model_fields["seed"].description or "")
        self.by_steps.setToolTip("Train for a number of steps, however long that takes")
        self.apart.setSuffix(" %")
        steps_row = QHBoxLayout()
        steps_row.addWidget(self.by_steps)
        steps_row.addWidget(self.steps, 1)
        inside = QWidget()
        rows = QFormLayout(inside)
        rows.setContentsMargins(8, 0, 0, 0)
        rows.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        rows.addRow("budget", steps_row)
        rows.addRow("cells a step", self.batch)
        rows.addRow("kept apart", self.apart)
        rows.addRow("seed", self.seed)
        self.more = QCollapsible("More settings", expandedIcon="▾", collapsedIcon="▸")
        self.more.layout().setContentsMargins(0, 0, 0, 0)
        self.more.setToolTip("What seldom needs a change")
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
        for box in (self.minutes, self.steps, self.batch, self.apart, self.seed):
            box.valueChanged.connect(self.changed)

    def _on_preset(self) -> None:
        """Show the settings of the preset."""
        settings = PRESETS[self.preset.currentData()]
        self.preset_help.setText(PRESET_HELP[self.preset.currentData()])
        if settings.minutes is not None:
            self.minutes.setValue(settings.minutes)
        self.steps.setValue(settings.steps)
        self.batch.setValue(settings.batch)
        self.apart.setValue(round(100 * settings.validation))
        self.by_steps.setChecked(settings.minutes is None)
        # The paper's network is another one than those of our models.
        self.start.setEnabled(settings.method != "dispr")
        self._on_budget()

    def _on_budget(self) -> None:
        self.minutes.setEnabled(not self.by_steps.isChecked())
        self.steps.setEnabled(self.by_steps.isChecked())
        self.changed.emit()

    def wish(self) -> Wish:
        """What the form says.

        Raises
        ------
        InputError
            If the name is taken or none, or settings do not go together.
        """
        preset = self.preset.currentData()
        before = PRESETS[preset]
        by_steps = self.by_steps.isChecked()
        changes = {
            "minutes": None if by_steps else round(self.minutes.value(), 1),
            "steps": self.steps.value() if by_steps else before.steps,
            "batch": self.batch.value(),
            "validation": self.apart.value() / 100,
            "seed": self.seed.value(),
            "device": self.device.currentData(),
        }
        licence = self.licence.currentText().strip()
        return Wish(
            name=new_name(self.name.text()),
            start=None if before.method == "dispr" else self.start.model,
            preset=preset,
            settings=checked_settings(TrainSettings, {**before.model_dump(), **changes}),
            licence="" if licence == LICENCES[0] else licence,
            data_note=self.data_note.text().strip(),
        )

    def suggest_name(self) -> None:
        """Offer a name that is free, as the last one has been taken."""
        self.name.setText(free_name())

    def problem(self) -> str:
        """What is wrong, in words; empty if nothing."""
        try:
            self.wish()
        except InputError as error:
            return str(error)
        return ""


def _whole(low: int, high: int, tip: str) -> QSpinBox:
    box = QSpinBox()
    box.setRange(low, high)
    box.setToolTip(tip)
    return box
