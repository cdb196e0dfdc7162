"""Shared by all tests: folders of data, an empty home for each test, and the mark of tests with a window."""

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

if sys.platform.startswith("linux"):
    # The virtual screen speaks X11; under Wayland Qt would look for a real one.
    os.environ["QT_QPA_PLATFORM"] = "xcb"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what opens a window, so that ``pytest -m "not gui"`` runs without a screen."""
    for item in items:
        if {"qtbot", "qapp", "make_napari_viewer"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.gui)


@pytest.fixture(autouse=True)
def user_folders(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home for settings and models, so that tests do not touch those of the user."""
    home = tmp_path_factory.mktemp("user")
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, str(home))
    for name in ("WIN_PD_OVERRIDE_APPDATA", "WIN_PD_OVERRIDE_LOCAL_APPDATA"):
        monkeypatch.setenv(name, str(home))
    return home


def _shared(*parts: str) -> Path:
    folder = ROOT.parent.joinpath("shared", *parts)
    if not folder.exists():
        pytest.skip(f"{folder} is not on this machine")
    return folder


@pytest.fixture(scope="session")
def red_blood_cells() -> Path:
    """Dataset folder of 108 real cells: train/{obj,image,mask}/NAME.tif."""
    return _shared("data", "red_blood_cells")


@pytest.fixture(scope="session")
def shared_fixtures() -> Path:
    """Folder of reference numbers next to the repository."""
    return _shared("fixtures")
