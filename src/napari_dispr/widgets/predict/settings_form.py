"""The settings of Predict as a form; defaults, ranges and help come from `PredictSettings`."""

import pydantic
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QSpinBox, QWidget
from superqt.utils import signals_blocked

from napari_dispr.card import Card
from napari_dispr.cells.cropping import usual_scale
from napari_dispr.errors import InputError
from napari_dispr.models.library import read_card
from napari_dispr.settings import PredictSettings
from napari_dispr.viewer.displayed import DisplayedPlane
from napari_dispr.widgets.parts.combo_boxes import ShortComboBox
from napari_dispr.widgets.parts.layouts import form, row
from napari_dispr.widgets.parts.model_choice import DeviceChoice, ModelChoice, QualityChoice
from napari_dispr.widgets.parts.number_boxes import LARGEST, DecimalBox, whole_box
from napari_dispr.widgets.parts.remembered import recall

_NUMBER = "number"


class SettingsForm(QWidget):
    """Model, members, quality, kind of picture, scale, device and seed."""

    #: Some setting has changed.
    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.model_choice = ModelChoice(rivals=True)
        self.members = _spin_box("members")
        self.quality = QualityChoice()
        self.picture = ShortComboBox()
        self.picture.addItem("section (one plane)", "section")
        self.picture.addItem("projection (all planes in one)", "projection")
        self.scale = ShortComboBox()
        self.scale_number = DecimalBox(0.01, 100, 3, "Model grid voxels per pixel")
        self.device = DeviceChoice()
        self.seed = _spin_box("seed")
        for text, value in (("auto", "auto"), ("physical", "physical"), ("voxels per pixel:", _NUMBER)):
            self.scale.addItem(text, value)
        self.scale_number.setSingleStep(0.05)
        scale_row = row((self.scale, 1), self.scale_number)
        #: The form's layout, to which the widget adds rows of its own.
        self.rows = form({}, parent=self)
        for name, control in {
            "model": self.model_choice,
            "members": self.members,
            "quality": self.quality,
            "picture": self.picture,
            "scale": self.scale,
            "device": self.device,
            "seed": self.seed,
        }.items():
            control.setToolTip(PredictSettings.about(name))
            self.rows.addRow(name, scale_row if control is self.scale else control)
        self._card: Card | None = None
        self.settings = PredictSettings()
        #: Whether the scale was chosen, so that suggestions do not replace it.
        self.scale_by_hand = False
        self.model_choice.model_changed.connect(self._on_model)
        self.scale.currentIndexChanged.connect(self._on_scale)
        for combo in (self.quality, self.picture, self.device):
            combo.currentIndexChanged.connect(self.changed)
        for box in (self.members, self.seed, self.scale_number):
            box.valueChanged.connect(self.changed)

    @property
    def settings(self) -> PredictSettings:
        scale = self.scale.currentData()
        return PredictSettings(
            model=self.model_choice.model or PredictSettings().model,
            members=self.members.value(),
            quality=self.quality.quality,
            picture=self.picture.currentData(),
            scale=self.scale_number.value() if scale == _NUMBER else scale,
            device=self.device.currentData(),
            seed=self.seed.value(),
        )

    @settings.setter
    def settings(self, settings: PredictSettings) -> None:
        self.model_choice.model = settings.model
        self._follow_card()
        _choose(self.quality, settings.quality)
        _choose(self.picture, settings.picture)
        self.members.setValue(settings.members)
        self.seed.setValue(settings.seed)
        _choose(self.device, settings.device)
        if isinstance(settings.scale, float):
            self.scale_number.setValue(settings.scale)
        _choose(self.scale, _NUMBER if isinstance(settings.scale, float) else settings.scale or "auto")
        self.scale_number.setVisible(self.scale.currentData() == _NUMBER)
        self.scale_by_hand = True

    def _on_model(self) -> None:
        self._follow_card()
        self.changed.emit()

    def _follow_card(self) -> None:
        """Enable the settings that the model has; the check reports a file that is not a model."""
        self._card = None
        try:
            card = self._card = read_card(self.model_choice.model or "")
        except InputError:
            return
        about = PredictSettings.about("model")
        self.model_choice.setToolTip(f"{about}\n{card.name}: {card.description}")
        random = {"members": self.members, "quality": self.quality, "device": self.device, "seed": self.seed}
        for name, control in random.items():
            control.setEnabled(card.rival is None)
            control.setToolTip(
                PredictSettings.about(name)
                if card.rival is None
                else f"{card.name} predicts one shape per cell, always the same: nothing to choose"
            )
        if card.rival is None:
            self.quality.offer(list(card.qualities))

    def suggest_scale(self, plane: DisplayedPlane) -> None:
        """Keep true sizes if the model and the picture know theirs, unless the user chose a scale."""
        if self.scale_by_hand or self._card is None:
            return
        with signals_blocked(self.scale):
            _choose(self.scale, usual_scale(plane.pixel_size(self._card.unit), self._card.voxel_size))

    def _on_scale(self) -> None:
        self.scale_by_hand = True
        self.scale_number.setVisible(self.scale.currentData() == _NUMBER)
        self.changed.emit()


def _choose(combo: QComboBox, value: str) -> None:
    """Choose the item of this value; add it if there is none."""
    index = combo.findData(value)
    if index < 0:
        combo.insertItem(0, value, value)
        index = 0
    combo.setCurrentIndex(index)


def _spin_box(name: str) -> QSpinBox:
    limits = {type(limit).__name__: limit for limit in PredictSettings.model_fields[name].metadata}
    return whole_box(
        limits["Ge"].ge if "Ge" in limits else 0,
        limits["Le"].le if "Le" in limits else LARGEST,
    )


def recall_settings() -> PredictSettings:
    """The settings of the last session; the defaults if there are none, or if they are not valid any more."""
    try:
        return PredictSettings.model_validate_json(recall("predict/settings"))
    except pydantic.ValidationError:
        return PredictSettings()
