"""Model files that are dropped into napari: they become the user's, and napari says so."""

from pathlib import Path

import napari_builtins
import pytest
from napari.utils.notifications import NotificationSeverity, notification_manager
from npe2 import PluginManifest, _pytest_plugin
from pytestqt.qtbot import QtBot
from support.models import tiny_model
from support.windows import drop_on

import napari_dispr
from napari_dispr.models.library import available_models, read_card, user_folder
from napari_dispr.viewer.samples import model_reader

SOURCE = Path(napari_dispr.__file__).parent


@pytest.fixture
def drop(make_napari_viewer, npe2pm: _pytest_plugin.TestPluginManager, qtbot: QtBot):
    """Drops files into napari's window and gives what napari then says: severities and words."""
    manifests = [SOURCE / "napari.yaml", Path(napari_builtins.__file__).parent / "builtins.yaml"]
    ours, builtins = map(PluginManifest.from_file, manifests)
    with npe2pm.tmp_plugin(manifest=ours), npe2pm.tmp_plugin(manifest=builtins):
        viewer = make_napari_viewer()

        def drop_and_wait(*paths: Path) -> list[tuple[NotificationSeverity, str]]:
            notification_manager.records.clear()
            drop_on(viewer.window._qt_viewer, *paths)
            qtbot.waitUntil(lambda: len(notification_manager.records) >= len(paths))
            assert not viewer.layers
            return [(one.severity, one.message) for one in notification_manager.records]

        yield drop_and_wait
        notification_manager.records.clear()


def test_dropped_model_is_one_of_the_users(drop, tmp_path: Path) -> None:
    tiny_model(name="nuclei", description="of a colleague").save(tmp_path / "file.safetensors")
    ((severity, words),) = drop(tmp_path / "file.safetensors")
    assert severity == NotificationSeverity.INFO
    assert words == (
        "'nuclei' is now one of your models: choose it in Plugins > napari DISPR > Predict 3D shapes."
    )
    assert read_card("nuclei").description == "of a colleague"
    ((severity, words),) = drop(tmp_path / "file.safetensors")
    assert severity == NotificationSeverity.INFO and "is one of your models already" in words
    assert list(available_models()) == ["generic", "red-blood-cell", "nuclei"]


def test_several_at_once_and_of_one_name(drop, tmp_path: Path) -> None:
    for name in "ab":
        tiny_model(name="nuclei", description=name).save(tmp_path / f"{name}.safetensors")
    found = drop(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    assert sorted(words.split("'")[1] for _, words in found) == ["nuclei", "nuclei-2"]
    assert {read_card(name).description for name in ("nuclei", "nuclei-2")} == {"a", "b"}


def test_wrong_file_is_one_sentence(drop, tmp_path: Path) -> None:
    (tmp_path / "words.safetensors").write_text("no model")
    ((severity, words),) = drop(tmp_path / "words.safetensors")
    assert severity == NotificationSeverity.ERROR
    assert words.startswith("words.safetensors is not a shape model of napari-dispr: ")
    assert not user_folder().exists()


def test_folder_that_cannot_be_written_to(drop, tmp_path: Path) -> None:
    user_folder().parent.mkdir(parents=True)
    user_folder().write_text("a file in its place")
    tiny_model().save(tmp_path / "tiny.safetensors")
    ((severity, words),) = drop(tmp_path / "tiny.safetensors")
    assert severity == NotificationSeverity.ERROR and str(user_folder()) in words


def test_reader_takes_a_stack_of_files(qtbot: QtBot, tmp_path: Path) -> None:
    paths = [str(tmp_path / f"{name}.safetensors") for name in "ab"]
    for name, path in zip("ab", paths, strict=True):
        tiny_model(name=name).save(path)
    assert model_reader(paths)(paths) == [(None,)]
    qtbot.waitUntil(lambda: list(available_models())[2:] == ["a", "b"])
    qtbot.waitUntil(lambda: "'b'" in notification_manager.records[-1].message)
