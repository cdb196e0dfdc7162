"""The list of models: kept in step with the user's folder, with the choice kept."""

from pathlib import Path

import pytest
from pytestqt.qtbot import QtBot
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog
from support.models import tiny_model

from napari_dispr.card import Card, Quality
from napari_dispr.models.library import available_fits, model_path, read_card, remove_model, user_folder
from napari_dispr.models.shapr import SHAPR, SHAPRModel
from napari_dispr.settings import PredictSettings
from napari_dispr.widgets.parts.model_choice import ModelChoice
from napari_dispr.widgets.predict.settings_form import SettingsForm

SHIPPED = ["generic", "red-blood-cell"]
OTHER = "Other file…"


def texts(choice: ModelChoice) -> list[str]:
    return [choice.itemText(index) for index in range(choice.count())]


def tip(choice: ModelChoice, text: str) -> str:
    return choice.itemData(texts(choice).index(text), Qt.ItemDataRole.ToolTipRole)


def pick(choice: ModelChoice, text: str) -> None:
    """As a user does: Qt tells of an entry that is picked from the list in this order."""
    index = texts(choice).index(text)
    choice.setCurrentIndex(index)
    choice.activated.emit(index)


@pytest.fixture
def choice(qtbot: QtBot) -> ModelChoice:
    choice = ModelChoice()
    qtbot.addWidget(choice)
    choice.show()
    return choice


def put(name: str, **card) -> Path:
    """A model among the user's."""
    path = user_folder() / f"{name}.safetensors"
    tiny_model(name=name, **card).save(path)
    return path


def test_what_is_offered_at_first(choice: ModelChoice) -> None:
    assert texts(choice) == [*SHIPPED, OTHER]
    assert choice.model == choice.currentText() == PredictSettings().model
    for name in SHIPPED:
        assert tip(choice, name) == read_card(name).description


def test_model_comes_and_goes_with_its_file(choice: ModelChoice, qtbot: QtBot) -> None:
    changes = []
    choice.model_changed.connect(lambda: changes.append(choice.model))
    path = put("mine", description="cells of my own")
    qtbot.waitUntil(lambda: texts(choice) == [*SHIPPED, "mine", OTHER])
    assert tip(choice, "mine") == "cells of my own"
    assert choice.model == choice.currentText() == "red-blood-cell" and not changes
    pick(choice, "mine")
    assert (choice.model, changes) == ("mine", ["mine"])
    put("another")
    qtbot.waitUntil(lambda: texts(choice) == [*SHIPPED, "another", "mine", OTHER])
    remove_model("another")
    qtbot.waitUntil(lambda: "another" not in texts(choice))
    assert choice.model == choice.currentText() == "mine" and changes == ["mine"]
    path.unlink()
    qtbot.waitUntil(lambda: texts(choice) == [*SHIPPED, OTHER])
    assert choice.model == choice.currentText() == "red-blood-cell"
    assert changes == ["mine", "red-blood-cell"]


def test_folder_may_be_removed_and_made_again(choice: ModelChoice, qtbot: QtBot) -> None:
    assert user_folder().is_dir()
    user_folder().rmdir()
    qtbot.waitUntil(user_folder().is_dir)
    put("mine")
    qtbot.waitUntil(lambda: "mine" in texts(choice))


def test_another_file_of_the_chosen_model_is_a_change(choice: ModelChoice, qtbot: QtBot) -> None:
    put("mine", description="first")
    qtbot.waitUntil(lambda: "mine" in texts(choice))
    choice.model = "mine"
    with qtbot.waitSignal(choice.model_changed):
        put("mine", description="trained again")
    assert choice.model == choice.currentText() == "mine"
    assert tip(choice, "mine") == "trained again"


def test_broken_file_has_a_message(choice: ModelChoice, qtbot: QtBot) -> None:
    (user_folder() / "broken.safetensors").write_bytes(b"nothing")
    qtbot.waitUntil(lambda: "broken" in texts(choice))
    assert "is not a shape model" in tip(choice, "broken")


def test_no_model_in_words(qtbot: QtBot) -> None:
    choice = ModelChoice(none="from scratch")
    qtbot.addWidget(choice)
    assert texts(choice) == ["from scratch", *SHIPPED, OTHER]
    assert choice.model is None
    with qtbot.waitSignal(choice.model_changed):
        choice.model = "generic"
    assert choice.currentText() == "generic"
    with qtbot.waitSignal(choice.model_changed):
        pick(choice, "from scratch")
    assert choice.model is None
    put("mine")
    qtbot.waitUntil(lambda: "mine" in texts(choice))
    assert choice.model is None
    choice.model = "mine"
    remove_model("mine")
    qtbot.waitUntil(lambda: "mine" not in texts(choice))
    assert choice.model is None and choice.currentText() == "from scratch"


def test_any_file(choice: ModelChoice, qtbot: QtBot, tmp_path: Path, monkeypatch) -> None:
    elsewhere = tmp_path / "elsewhere.safetensors"
    tiny_model(name="elsewhere", description="of a stick").save(elsewhere)
    answers = iter(["", str(elsewhere)])
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (next(answers), ""))
    choice.model = "generic"
    changes = []
    choice.model_changed.connect(lambda: changes.append(choice.model))
    pick(choice, OTHER)  # and cancel
    assert choice.model == choice.currentText() == "generic" and not changes
    pick(choice, OTHER)
    assert choice.model == str(elsewhere) and changes == [str(elsewhere)]
    assert texts(choice) == [*SHIPPED, "elsewhere.safetensors", OTHER]
    assert choice.currentText() == "elsewhere.safetensors"
    assert tip(choice, "elsewhere.safetensors") == f"{elsewhere}\nof a stick"
    put("mine")
    qtbot.waitUntil(lambda: "mine" in texts(choice))
    assert choice.model == str(elsewhere)
    pick(choice, "generic")
    pick(choice, "elsewhere.safetensors")  # is still offered
    assert choice.model == str(elsewhere)


def test_path_of_a_model_of_the_list_is_its_name(choice: ModelChoice) -> None:
    choice.model = str(model_path("generic"))
    assert choice.model == "generic" and texts(choice) == [*SHIPPED, OTHER]
    path = put("mine")
    choice.model = str(path)  # before its folder was looked at again
    assert choice.model == choice.currentText() == "mine"


def test_what_is_not_there_can_be_set_and_appear_later(choice: ModelChoice, qtbot: QtBot) -> None:
    choice.model = "gone"
    assert choice.model == choice.currentText() == "gone"
    assert "There is no model 'gone'" in tip(choice, "gone")
    put("gone", description="here again")
    qtbot.waitUntil(lambda: tip(choice, "gone") == "here again")
    assert choice.model == "gone" and texts(choice) == [*SHIPPED, "gone", OTHER]
    choice.model = "lost"
    choice.model = "generic"
    assert texts(choice) == [*SHIPPED, "gone", OTHER]


def test_open_list_is_updated(choice: ModelChoice, qtbot: QtBot) -> None:
    choice._watcher.removePaths(choice._watcher.directories())  # as on a network drive that tells nothing
    put("mine")
    choice.showPopup()
    assert "mine" in texts(choice)
    put("other")  # while it is open
    qtbot.waitUntil(lambda: "other" in texts(choice))
    assert choice.view().isVisible()
    choice.hidePopup()


def test_form_follows_the_model(qtbot: QtBot) -> None:
    form = SettingsForm()
    qtbot.addWidget(form)
    changes = []
    form.changed.connect(lambda: changes.append(form.settings))
    put("mine", description="first")
    qtbot.waitUntil(lambda: "mine" in texts(form.model_choice))
    assert not changes and form.settings == PredictSettings(scale="auto")
    pick(form.model_choice, "mine")
    assert changes == [PredictSettings(model="mine", scale="auto")]
    model = tiny_model(name="mine")
    model.card = model.card.model_copy(update={"qualities": {"paper": Quality(sampler="euler", steps=3)}})
    with qtbot.waitSignal(form.changed):
        model.save(user_folder() / "mine.safetensors")
    assert (form.quality.count(), form.settings.quality) == (1, "paper")
    with qtbot.waitSignal(form.changed):
        remove_model("mine")
    assert form.settings == PredictSettings(scale="auto")


def test_rivals_are_offered_where_a_lab_compares(choice: ModelChoice, qtbot: QtBot) -> None:
    """With a model to begin training from they are not; what has no meaning for them cannot be set."""
    card = Card(name="my-shapr", description="SHAPR.", rival="shapr", qualities={})
    SHAPRModel(SHAPR(), card).save(user_folder() / "my-shapr.safetensors")
    form = SettingsForm()
    qtbot.addWidget(form)
    assert texts(form.model_choice) == [*SHIPPED, "my-shapr", *available_fits(), OTHER]
    choice.offer()
    assert texts(choice) == [*SHIPPED, OTHER]
    form.settings = PredictSettings(quality="fast", members=3)
    for name in ("my-shapr", "cylinder"):
        pick(form.model_choice, name)
        assert form.settings.model == name and tip(form.model_choice, name) == read_card(name).description
        for control in (form.members, form.quality, form.device, form.seed):
            assert not control.isEnabled()
            assert control.toolTip().startswith(f"{name} predicts one shape per cell")
        assert form.scale.isEnabled()
    pick(form.model_choice, "generic")
    assert form.members.isEnabled() and "one shape" not in form.quality.toolTip()
    assert form.settings == PredictSettings(model="generic", quality="fast", members=3, scale="auto")
