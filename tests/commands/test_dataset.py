"""``napari-dispr dataset`` as users run it: a dataset folder and its preview, one line for wrong input."""

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from skimage.io import imread

from napari_dispr.cells.folders import read_dataset, read_notes
from napari_dispr.cells.stacks import cut_stacks
from napari_dispr.commands.cli import main
from napari_dispr.synthesis.stacks import simulate_stack


@pytest.fixture(scope="module")
def stacks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders images/ and labels/ with two stacks each, as ImageJ writes them."""
    folder = tmp_path_factory.mktemp("stacks")
    for number in (1, 2):
        stack = simulate_stack(10, (34, 170, 170), seed=number)
        for kind, array in (("images", stack.image), ("labels", stack.labels)):
            (folder / kind).mkdir(exist_ok=True)
            tifffile.imwrite(
                folder / kind / f"plate{number}.tif",
                array,
                imagej=True,
                resolution=(1 / 0.3, 1 / 0.3),
                metadata={"axes": "ZYX", "unit": "um", "spacing": 1.0001},
            )
    return folder


def test_folders_of_stacks(stacks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "cells"
    assert main(["dataset", str(stacks / "images"), str(stacks / "labels"), "--out", str(out)]) == 0
    printed = capsys.readouterr()
    cells = read_dataset(out, need_objects=True)
    assert f"{len(cells)} cells: {out}" in printed.out
    assert "left out: 2 cut by the border of the stack" in printed.out
    assert f"The dataset has only {len(cells)} cells" in printed.err and printed.err.count("\n") == 1
    assert {cell.name.split("-")[0] for cell in cells} == {"plate1", "plate2"} and len(cells) >= 15
    notes = read_notes(out)
    assert notes.unit == "micrometer" and notes.plane == "middle"
    assert notes.source == ["plate1.tif", "plate2.tif"]
    assert notes.left_out["cut by the border of the stack"] == 2
    assert f"of the cells: {notes.voxel_size} micrometer" in printed.out
    preview = imread(out / "preview.png")
    assert preview.ndim == 3 and len(np.unique(preview)) > 100
    # The same as in Python.
    stack = simulate_stack(10, (34, 170, 170), seed=1)
    same = cut_stacks([stack], voxel_size=notes.voxel_size).cells
    fingerprints = {cell.fingerprint for cell in cells}
    assert {cell.fingerprint for cell in same} <= fingerprints


def test_labels_without_images(stacks: Path, tmp_path: Path) -> None:
    labels = str(stacks / "labels" / "plate1.tif")
    options = ["--spacing", "2000,600,600", "--unit", "nm", "--plane", "16", "--voxel-size", "500"]
    assert main(["dataset", "--no-image", labels, "--out", str(tmp_path), *options]) == 0
    assert {path.name for path in (tmp_path / "train").iterdir()} == {"mask", "obj"}
    assert json.loads((tmp_path / "dataset.json").read_text())["plane"] == 16
    notes = read_notes(tmp_path)
    assert notes.voxel_size == 0.5 and notes.unit == "micrometer"
    source = tifffile.imread(labels)
    for cell in read_dataset(tmp_path, need_objects=True):
        label = int(cell.name.split("-")[1])
        assert cell.obj is not None
        volume = np.count_nonzero(cell.obj > 127) * 0.5**3
        assert volume == pytest.approx((source == label).sum() * 2 * 0.6**2, rel=0.08)


def test_an_unknown_voxel_size_is_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stack = simulate_stack(10, (60, 120, 120), (0.4, 0.4, 0.4), seed=2)
    for name, array in (("image", stack.image), ("labels", stack.labels)):
        tifffile.imwrite(tmp_path / f"{name}.tif", array)
    files = [str(tmp_path / "image.tif"), str(tmp_path / "labels.tif")]
    assert main(["dataset", *files, "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr()
    assert "image.tif does not say how large its voxels are" in printed.err
    assert "1 x 1 x 1 pixel" in printed.out and read_notes(tmp_path / "out").unit == "pixel"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["{i}"], "give IMAGES and LABELS"),
        (["{i}", "{l}", "{l}"], "There are 3 paths"),
        (["{i}", "{l}", "--no-image"], "--no-image takes only one"),
        (["{i}", "{l}", "--spacing", "1,2"], "--spacing is '1,2': give 3"),
        (["{i}", "{l}", "--spacing", "1,0,1"], "--spacing is '1,0,1'"),
        (["{i}", "{l}", "--voxel-size", "small"], "--voxel-size is 'small'"),
        (["{i}", "{l}", "--plane", "top"], "--plane is 'top'"),
        (["{i}", "{l}", "--plane", "-3"], "plane is -3"),
        (["{i}", "{l}", "--plane", "99"], "not in slice 99"),
        (["{i}", "{l}", "--unit", "nm"], "--unit is the unit of --spacing"),
        (["{i}", "nowhere.tif"], "no file or folder nowhere.tif"),
        (["{i}", "images"], "is a folder: give"),
        (["{l}", "{l}", "--out", "{l}"], "is a file"),
        ([], "required"),
    ],
)
def test_bad_input_is_one_line(
    stacks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch, arguments, said: str
) -> None:
    monkeypatch.chdir(stacks)
    files = {"i": "images/plate1.tif", "l": "labels/plate1.tif"}
    command = ["dataset", "--out", str(tmp_path / "out"), *(text.format(**files) for text in arguments)]
    assert main(command) == 2
    printed = capsys.readouterr()
    assert said in printed.err and printed.err.count("\n") == 1 and "Traceback" not in printed.err
    assert not (tmp_path / "out").exists()


def test_a_dataset_that_is_there_is_kept(stacks: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "train" / "mask").mkdir(parents=True)
    files = [str(stacks / kind / "plate1.tif") for kind in ("images", "labels")]
    assert main(["dataset", *files, "--out", str(tmp_path)]) == 2
    assert "such as train: choose a new or an empty folder" in capsys.readouterr().err
