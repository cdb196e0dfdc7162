"""A file is there whole or not at all."""

import errno
import json
import os
import stat
import sys
from pathlib import Path

import numpy as np
import pytest

from napari_dispr import files
from napari_dispr.cells.pictures import read_plane
from napari_dispr.cells.splits import read_table
from napari_dispr.cells.stack_files import read_stack
from napari_dispr.diffusion.model import ShapeModel
from napari_dispr.errors import InputError
from napari_dispr.evaluation.rows import trained_on
from napari_dispr.files import folder_locked, folder_written_aside, locked, write_json, written_aside
from napari_dispr.models.library import read_card
from napari_dispr.models.shapr import SHAPRModel
from napari_dispr.prediction.saving import load_prediction
from napari_dispr.synthesis.learned import LearnedSynthesis
from napari_dispr.training.run import Run


def test_a_file_takes_its_name_when_it_is_whole(tmp_path):
    path = tmp_path / "new" / "table.ome.tif"
    with written_aside(path) as temporary:
        temporary.write_text("whole")
        assert temporary.parent == path.parent
        assert temporary.name.endswith(".table.ome.tif")  # writers choose a format by the suffix
        assert not path.exists()
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("interruption", [ValueError, KeyboardInterrupt, GeneratorExit])
def test_an_interrupted_file_leaves_the_old_one_and_nothing_else(tmp_path, interruption):
    path = tmp_path / "table.csv"
    path.write_text("old")
    with pytest.raises(interruption), written_aside(path) as temporary:
        temporary.write_text("ha")
        raise interruption
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_files_of_the_current_folder_are_written_aside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with folder_written_aside(".") as aside:
        (aside / "table.csv").write_text("whole")
    assert list(tmp_path.iterdir()) == [tmp_path / "table.csv"]


def test_one_process_at_a_time_writes_into_a_folder(tmp_path):
    folder = tmp_path / "new"
    with pytest.raises(ValueError), folder_locked(folder):
        raise ValueError
    assert not folder.exists()
    with folder_locked(folder):
        with pytest.raises(InputError, match="Another process"), folder_locked(folder):
            pass
        (folder / "table.csv").touch()
    assert [path.name for path in folder.iterdir()] == ["table.csv"]


@pytest.mark.skipif(sys.platform == "win32", reason="removes no file that is open")
def test_a_lock_that_its_last_owner_removed_is_made_again(tmp_path, monkeypatch):
    path, lock, calls = tmp_path / "lock", files._lock, []

    def late(descriptor):
        calls.append(descriptor)
        if len(calls) == 1:
            path.unlink()
        return lock(descriptor)

    monkeypatch.setattr(files, "_lock", late)
    with locked(path, wait=True):
        assert path.exists()


def test_new_files_are_kept_if_one_of_the_old_cannot_be_replaced(tmp_path):
    """As on Windows if a spreadsheet has the old table open."""
    folder = tmp_path / "results"
    (folder / "table.csv" / "open").mkdir(parents=True)
    with (
        pytest.raises(InputError, match=r"table\.csv cannot be replaced") as error,
        folder_written_aside(folder) as aside,
    ):
        for name in ("cells.csv", "results.json", "table.csv"):
            (aside / name).write_text(name)
    (kept,) = folder.glob("results-*")
    assert str(kept) in str(error.value)
    assert {path.name: path.read_text() for path in kept.iterdir()} == {
        name: name for name in ("cells.csv", "results.json", "table.csv")
    }


def test_a_folder_may_be_a_disk_of_its_own(tmp_path, monkeypatch):
    folder, rename = tmp_path / "disk", os.replace

    def within_a_disk(old, new):
        if (folder in Path(old).parents) != (folder in Path(new).parents):
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        rename(old, new)

    monkeypatch.setattr(os, "replace", within_a_disk)
    folder.mkdir()
    with folder_written_aside(folder) as aside:
        (aside / "table.csv").write_text("whole")
    assert [path.name for path in folder.iterdir()] == ["table.csv"]


def test_a_block_that_writes_nothing_fails_and_keeps_the_old_file(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("old")
    with pytest.raises(FileNotFoundError), written_aside(path):
        pass
    assert path.read_text() == "old"


def test_json_holds_numpy_values_paths_and_no_nan(tmp_path):
    path = tmp_path / "settings.json"
    write_json(
        path,
        {
            "array": np.arange(3.0),
            "number": np.float32(0.5),
            "whole": np.int64(7),
            "flag": np.True_,
            "missing": float("nan"),
            "endless": [np.inf, (1, -np.inf)],
            "path": Path("a") / "b",
            "µ": "ü",
            7: None,
        },
    )
    text = path.read_text(encoding="utf-8")
    assert json.loads(text, parse_constant=pytest.fail) == {
        "array": [0, 1, 2],
        "number": 0.5,
        "whole": 7,
        "flag": True,
        "missing": None,
        "endless": [None, [1, None]],
        "path": str(Path("a") / "b"),
        "µ": "ü",
        "7": None,
    }
    assert "µ" in text


def test_what_json_cannot_hold_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(TypeError):
        write_json(tmp_path / "settings.json", {"function": print})
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
def test_others_may_read_the_file_as_they_may_any_new_file(tmp_path):
    plain = tmp_path / "plain"
    plain.touch()
    write_json(tmp_path / "settings.json", {})
    assert stat.S_IMODE((tmp_path / "settings.json").stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("m.safetensors", ShapeModel.load),
        ("m.safetensors", SHAPRModel.load),
        ("m.safetensors", LearnedSynthesis.load),
        ("m.safetensors", read_card),
        ("picture.tif", read_plane),
        ("picture.png", read_plane),
        ("stack.tif", lambda path: read_stack(None, path)),
        ("classes.csv", lambda path: read_table(path, "class")),
        ("cells.csv", lambda path: trained_on(path.parent, "model")),
        ("plan.json", lambda path: Run.open(path.parent)),
        ("prediction.json", lambda path: load_prediction(path.parent)),
    ],
)
def test_a_file_that_may_not_be_read_is_not_called_missing_or_damaged(tmp_path, monkeypatch, name, read):
    path = tmp_path / name
    path.write_bytes(b"\xff anything")
    # The superuser, who may run the tests, may read everything.
    monkeypatch.setattr("napari_dispr.files.os.access", lambda file, mode: Path(file) != path)
    with pytest.raises(InputError, match=rf"no permission to read .*{name}"):
        read(path)
