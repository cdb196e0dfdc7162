"""Settings: defaults, ranges, and the one sentence that says what is wrong."""

import pytest

from napari_dispr import InputError
from napari_dispr.settings import PredictSettings, RivalTrainSettings, TrainSettings, checked_settings


@pytest.mark.parametrize("kind", [PredictSettings, TrainSettings, RivalTrainSettings])
def test_every_field_is_described_for_tooltips_and_help(kind):
    for name in kind.model_fields:
        assert kind.about(name).endswith("."), name


def test_defaults():
    settings = checked_settings(PredictSettings, {})
    assert (settings.model, settings.members, settings.quality) == ("red-blood-cell", 5, "balanced")
    assert (settings.scale, settings.pixel_size, settings.seed) == (None, None, 0)


def test_texts_of_a_command_line_are_taken():
    settings = checked_settings(PredictSettings, {"members": "3", "scale": "0.5", "steps": "4"})
    assert (settings.members, settings.scale, settings.steps) == (3, 0.5, 4)
    assert checked_settings(PredictSettings, {"scale": "physical"}).scale == "physical"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("members", 0),
        ("members", 101),
        ("members", 2.5),
        ("members", "many"),
        ("members", None),
        ("steps", 0),
        ("steps", -3),
        ("scale", 0),
        ("scale", -1.0),
        ("scale", "large"),
        ("scale", float("nan")),
        ("scale", float("inf")),
        ("pixel_size", 0),
        ("pixel_size", float("inf")),
        ("pixel_size", float("nan")),
        ("pixel_size", "fine"),
        ("seed", -1),
        ("seed", 2**63),
        ("seed", 1.5),
        ("model", 3),
        ("device", None),
    ],
)
def test_value_out_of_range(name, value):
    with pytest.raises(InputError) as caught:
        checked_settings(PredictSettings, {name: value})
    text = str(caught.value)
    assert text.startswith(f"The setting {name} cannot be {value!r}: ")
    assert text.endswith(".") and "\n" not in text


def test_scale_that_is_no_scale_names_the_words():
    with pytest.raises(InputError, match=r"auto.*physical"):
        checked_settings(PredictSettings, {"scale": "large"})


def test_unknown_name():
    with pytest.raises(InputError, match="There is no setting 'member': choose among model, members"):
        checked_settings(PredictSettings, {"member": 3})


def test_settings_are_not_changed_in_place():
    settings = PredictSettings()
    with pytest.raises(ValueError):
        settings.members = 3
    assert settings.model_copy(update={"members": 3}).members == 3


@pytest.mark.parametrize(("name", "value"), [("ema", 1.0), ("steps", 0), ("resliced", 1.1), ("decay", -0.1)])
def test_training_out_of_range(name, value):
    with pytest.raises(InputError, match=f"The setting {name} cannot be"):
        checked_settings(TrainSettings, {name: value})
