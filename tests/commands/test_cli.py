"""The command line as a user runs it: files, exit status, one line for wrong input."""

import csv
import json
import os
import shlex
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tifffile
from skimage.filters import threshold_otsu
from support.stacks import two_balls

import napari_dispr as nd
from napari_dispr.commands.cli import main
from napari_dispr.export.report import command_line
from napari_dispr.files import folder_locked
from napari_dispr.labels import split_parts
from napari_dispr.synthesis.phantoms import phantom, simulate_field
from napari_dispr.viewer.saved import open_saved

COMMAND = [sys.executable, "-m", "napari_dispr"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A picture and its labels."""
    folder = tmp_path_factory.mktemp("field")
    field = simulate_field(cells=3, shape=(200, 200), seed=2)
    tifffile.imwrite(folder / "image.tif", field.image)
    tifffile.imwrite(folder / "labels.tif", field.labels)
    np.save(folder / "labels.npy", field.labels)
    return folder


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Two simulated cells as DISPR reads them."""
    folder = tmp_path_factory.mktemp("dataset")
    field = simulate_field(cells=2, shape=(160, 160), seed=3)
    for label, obj in field.objects.items():
        for part, content in (("obj", obj), ("mask", obj[32]), ("image", obj[32] // 2 + 20)):
            (folder / "test" / part).mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(folder / "test" / part / f"cell{label}.tif", content)
    return folder


def test_predict_from_planes_of_a_stack(tmp_path, capsys):
    image, labels = two_balls()
    stack = [str(tmp_path / name) for name in ("stack.tif", "labels3d.tif")]
    for path, array in zip(stack, (image, labels), strict=True):
        tifffile.imwrite(path, array)
    out = tmp_path / "out"
    arguments = ["predict", *stack, "--out", str(out), "--members", "1", "--steps", "1"]
    spacing = ["--spacing", "0.3,0.1,0.1"]
    for more, words in (
        ([], "--planes all"),
        (["--planes", "all"], "give --spacing"),
        (spacing, "give --planes"),
        (["--planes", "2,12", *spacing], "no plane 12"),
        (["--planes", "2,2", *spacing], "plane 2 twice"),
        (["--planes", "all", *spacing, "--picture", "projection"], "projection has no depth"),
    ):
        assert main([*arguments, *more]) == 2
        assert words in capsys.readouterr().err and not out.exists()
    tifffile.imwrite(stack[1], np.where(np.arange(9)[:, None, None] == 6, 0, labels))
    assert main([*arguments, "--planes", "4,6", *spacing]) == 2
    assert "Plane 6 has no labels" in capsys.readouterr().err
    assert main([*arguments, "--planes", "2,4,7", *spacing]) == 0
    prediction = nd.load_prediction(out)
    assert prediction.unit == "micrometer" and prediction.provenance["depths"] == [0.6, 1.2, 2.1]
    assert len(prediction[1].section.planes) == 2
    for (array, settings, _), file in zip(open_saved(out)[1], stack, strict=False):
        np.testing.assert_array_equal(array, tifffile.imread(file))
        assert list(settings["scale"]) == [0.3, 0.1, 0.1] and settings["units"] == ("micrometer",) * 3
    page = tmp_path / "report.html"
    assert main(["report", str(out), "--out", str(page)]) == 0
    for text in ("Predicted from 3 planes.", "--planes 2,4,7 --spacing 0.3,0.1,0.1", "[[2, 4, 7]]"):
        assert text in page.read_text(encoding="utf-8")
    # In the stack's own z.
    assert (prediction.grid_to_world(1) @ [32, 0, 0, 1])[0] == pytest.approx(1.2)


def test_predict(folder, tmp_path):
    out = tmp_path / "out"
    arguments = ["predict", str(folder / "image.tif"), str(folder / "labels.tif"), "--out", str(out)]
    assert main([*arguments, "--cells", "3,1", "--members", "2", "--steps", "2", "--pixel-size", "0.1"]) == 0
    files = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    assert files == [
        "cells.columns.csv", "cells.csv", "cells/1.npz", "cells/1.ome.tif", "cells/3.npz", "cells/3.ome.tif",
        "morphometry.columns.csv", "morphometry.csv", "prediction.json",
    ]  # fmt: skip
    with tifffile.TiffFile(out / "cells" / "3.ome.tif") as tiff:
        assert tiff.is_ome
        axes = dict(
            zip(tiff.series[0].get_axes(squeeze=False), tiff.series[0].get_shape(squeeze=False), strict=True)
        )
        assert axes["T"] == 2 and (axes["Z"], axes["Y"], axes["X"]) == (64, 64, 64)
        members = tiff.asarray()
    prediction = nd.load_prediction(out)
    assert members.dtype == np.uint8
    np.testing.assert_array_equal(members, prediction[3].members)
    with open(out / "morphometry.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["label"], row["member"]) for row in rows] == [("3", "0"), ("3", "1"), ("1", "0"), ("1", "1")]
    with open(out / "cells.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["label"], row["members"]) for row in rows] == [("3", "2"), ("1", "2")]
    assert all(0 < float(row["ambiguity"]) < 1 and float(row["volume_sd"]) > 0 for row in rows)
    settings = json.loads((out / "prediction.json").read_text())["settings"]
    assert settings["pixel_size"] == 0.1 and settings["steps"] == 2
    image, labels = tifffile.imread(folder / "image.tif"), np.load(folder / "labels.npy")
    same = nd.predict(image, labels, cells=[1], members=2, steps=2, pixel_size=0.1)
    np.testing.assert_array_equal(same[1].members, prediction[1].members)


def test_better_shapes_are_offered_if_the_size_of_a_pixel_is_unknown(folder, tmp_path, capsys):
    paths = [str(folder / "image.tif"), str(folder / "labels.tif")]
    others = (["--pixel-size", "0.1"], ["--scale", "auto"], ["--model", "generic"])
    for number, how in enumerate(([], *others)):
        quick = ["--cells", "1", "--members", "1", "--steps", "1", "--out", str(tmp_path / f"{number}")]
        assert main(["predict", *paths, *quick, *how]) == 0
        assert ("give --pixel-size, in micrometers," in capsys.readouterr().err) == (not how)


def test_all_planes_can_be_given_by_their_numbers(tmp_path):
    image, labels = two_balls()
    for name, array in (("stack.tif", image), ("labels.tif", labels)):
        tifffile.imwrite(tmp_path / name, np.pad(array, [(2, 2), (0, 0), (0, 0)]))
    paths = [str(tmp_path / name) for name in ("stack.tif", "labels.tif", "out", "again")]
    given = ["--planes", "all", "--spacing", "0.3,0.1,0.1", "--members", "1", "--steps", "1"]
    assert main(["predict", *paths[:2], "--out", paths[2], *given]) == 0
    first = nd.load_prediction(paths[2])
    repeated = shlex.split(command_line(first))
    repeated[repeated.index("FOLDER")] = paths[3]
    assert main(repeated[1:]) == 0, "also those without labels, in which the cells have ended"
    np.testing.assert_array_equal(nd.load_prediction(paths[3])[1].members, first[1].members)


def test_warnings_go_to_the_standard_error_once(folder, tmp_path, capsys):
    labels = np.load(folder / "labels.npy")
    labels[:30, :30] = 9
    np.save(tmp_path / "labels.npy", labels)
    out = tmp_path / "out"
    arguments = ["predict", str(folder / "image.tif"), str(tmp_path / "labels.npy"), "--out", str(out)]
    assert main([*arguments, "--members", "1", "--steps", "1"]) == 0
    printed = capsys.readouterr()
    assert printed.err.count("Cell 9 is cut by the border") == 1 and "Cell 9" not in printed.out


def test_predict_a_dataset_without_objects(dataset, tmp_path, monkeypatch):
    monkeypatch.chdir(dataset.parent)
    command = ["predict", dataset.name, "--out", str(tmp_path), "--members", "1", "--steps", "1"]
    assert main(command) == 0
    monkeypatch.chdir(tmp_path)
    repeated = shlex.split(command_line(nd.load_prediction(tmp_path)).replace("FOLDER", "again"))
    assert main(repeated[1:]) == 0
    np.testing.assert_array_equal(nd.load_prediction("again")[1].members, nd.load_prediction(".")[1].members)
    assert {path.name for path in (tmp_path / "cells").glob("*.ome.tif")} == {
        "cell1.ome.tif",
        "cell2.ome.tif",
    }
    mask = tifffile.imread(dataset / "test" / "mask" / "cell2.tif") > 127
    np.testing.assert_array_equal(nd.load_prediction(tmp_path)[2].members[0, 32], mask)


def test_a_dataset_in_physical_units(dataset, tmp_path, capsys):
    command = ["predict", str(dataset), "--out", str(tmp_path), "--members", "1", "--steps", "1"]
    assert main([*command, "--pixel-size", "0.1"]) == 0
    prediction = nd.load_prediction(tmp_path)
    assert prediction[1].unit == "micrometer"
    volume = nd.measure(prediction)["volume"][0]
    assert volume == pytest.approx(prediction[1].members.sum() * 0.1**3, rel=0.02)
    for option in (["--scale", "0.5"], ["--cells", "1"]):
        assert main([*command, *option]) == 2
        assert option[0] in capsys.readouterr().err


def picture(path, array, size=None, unit="um"):
    resolution = {} if size is None else {"resolution": (1 / size,) * 2}
    tifffile.imwrite(path, array, imagej=True, **resolution, metadata={} if size is None else {"unit": unit})


@pytest.mark.parametrize(
    ("of_image", "of_labels", "options", "size", "unit"),
    [
        (0.25, None, [], 0.25, "micrometer"),
        (None, 0.25, [], 0.25, "micrometer"),
        (0.25, 0.25, [], 0.25, "micrometer"),
        (0.25, 0.5, [], 0.25, "micrometer"),
        (0.25, 0.5, ["--pixel-size", "0.1"], 0.1, "micrometer"),
        (1e9, None, [], 1.0, "pixel"),  # no microscope has it
        (None, None, [], 1.0, "pixel"),
    ],
)
def test_the_pixel_size_that_the_files_state(
    folder, tmp_path, capsys, of_image, of_labels, options, size, unit
):
    field = np.load(folder / "labels.npy")
    picture(tmp_path / "image.tif", tifffile.imread(folder / "image.tif").astype(np.uint16), of_image)
    picture(tmp_path / "labels.tif", field.astype(np.uint16), of_labels)
    files = [str(tmp_path / "image.tif"), str(tmp_path / "labels.tif")]
    command = ["predict", *files, "--out", str(tmp_path / "out"), "--model", "ellipsoid", "--cells", "1"]
    assert main([*command, *options]) == 0
    prediction = nd.load_prediction(tmp_path / "out")
    assert prediction.unit == unit
    np.testing.assert_allclose(prediction.image_to_world, np.diag([size, size, 1]), rtol=1e-5)
    differ = of_image == 0.25 and of_labels == 0.5 and not options
    said = "image.tif and {}labels.tif state different pixel sizes, 0.25 x 0.25 and 0.5 x 0.5 micrometer"
    assert (said.format(f"{tmp_path}{os.sep}") in capsys.readouterr().err) == differ


def test_the_pixel_size_of_ome_tiff(folder, tmp_path):
    sizes = {"PhysicalSizeY": 250, "PhysicalSizeYUnit": "nm", "PhysicalSizeX": 0.2}
    tifffile.imwrite(
        tmp_path / "a.ome.tif", tifffile.imread(folder / "image.tif"), metadata={"axes": "YX", **sizes}
    )
    files = [str(tmp_path / "a.ome.tif"), str(folder / "labels.npy")]
    command = ["predict", *files, "--out", str(tmp_path / "out"), "--model", "ellipsoid", "--cells", "1"]
    assert main(command) == 0
    prediction = nd.load_prediction(tmp_path / "out")
    np.testing.assert_allclose(prediction.image_to_world, np.diag([0.25, 0.2, 1]))
    assert prediction.unit == "micrometer"


def test_the_report_of_a_split_mask_shows_its_cells_and_napari_its_files(folder, tmp_path):
    mask = np.load(folder / "labels.npy") > 0
    np.save(tmp_path / "mask.npy", mask[None])
    np.save(tmp_path / "image.npy", tifffile.imread(folder / "image.tif")[None])
    files = [str(tmp_path / "image.npy"), str(tmp_path / "mask.npy")]
    assert main(["predict", *files, "--out", str(tmp_path / "out"), "--model", "ellipsoid", "--split"]) == 0
    assert main(["report", str(tmp_path / "out"), "--out", str(tmp_path / "mask.html")]) == 0
    page = (tmp_path / "mask.html").read_text()
    assert f"{files[1]} --out FOLDER --split" in page and "labels import split_parts" in page
    layers = {settings["name"]: data for data, settings, _ in open_saved(tmp_path / "out")[1]}
    np.testing.assert_array_equal(layers["mask"], split_parts(mask))
    np.testing.assert_array_equal(layers["mask: picture"], np.load(files[0])[0])
    np.save(tmp_path / "cells.npy", split_parts(mask))
    command = ["report", str(tmp_path / "out"), "--out", str(tmp_path / "cells.html")]
    assert main([*command, "--labels", str(tmp_path / "cells.npy")]) == 0
    assert (tmp_path / "cells.html").read_text() == page


def test_evaluate(dataset, tmp_path, capsys):
    command = ["evaluate", str(dataset), "--out", str(tmp_path), "--members", "2", "--steps", "1"]
    assert main([*command, "--save-shapes"]) == 0
    table = capsys.readouterr().out
    assert all(method in table for method in ("red-blood-cell", "cylinder", "ellipsoid"))
    shapes = tifffile.imread(tmp_path / "shapes" / "red-blood-cell" / "cell1.tif")
    assert shapes.shape == (2, 64, 64, 64)
    obj = tifffile.imread(dataset / "test" / "obj" / "cell1.tif")
    truth = obj > threshold_otsu(obj)
    with open(tmp_path / "errors.csv", newline="") as file:
        rows = [
            row for row in csv.DictReader(file) if (row["cell"], row["method"]) == ("cell1", "red-blood-cell")
        ]
    for row, shape in zip(rows, shapes > 0, strict=True):
        error = abs(int(shape.sum()) - int(truth.sum())) / truth.sum()
        assert float(row["volume"]) == pytest.approx(error, rel=1e-4, abs=1e-6)
        assert float(row["iou"]) == pytest.approx((shape & truth).sum() / (shape | truth).sum(), rel=1e-4)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["methods"]["red-blood-cell"]["n"] == 4 and summary["methods"]["cylinder"]["n"] == 2
    printed = summary["methods"]["red-blood-cell"]["provenance"]
    assert printed["model_hash"] == nd.load_model("red-blood-cell").hash and printed["steps"] == 1
    assert nd.__version__ in summary["software"]
    # A second evaluation does not replace the first one.
    before = {path: path.read_bytes() for path in tmp_path.glob("*.*")}
    assert main([*command, "--methods", "cylinder"]) == 2
    assert "already holds an evaluation: continue it with --resume" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in tmp_path.glob("*.*")} == before
    assert main([*command, "--save-shapes", "--resume"]) == 0


def test_demo(tmp_path):
    assert main(["demo", "--out", str(tmp_path), "--members", "2", "--quality", "fast"]) == 0
    prediction = nd.load_prediction(tmp_path)
    assert len(prediction) == 6
    picture = (tmp_path / "picture.png").read_bytes()
    assert picture.startswith(b"\x89PNG") and len(picture) > 50_000


def test_the_demo_replaces_no_other_prediction(folder, tmp_path, capsys):
    files = [str(folder / "image.tif"), str(folder / "labels.tif")]
    out = ["--out", str(tmp_path / "out")]
    assert main(["predict", *files, *out, "--model", "ellipsoid"]) == 0
    assert main(["demo", *out, "--model", "ellipsoid"]) == 2
    assert "not the demo's: choose a new" in capsys.readouterr().err
    assert len(nd.load_prediction(tmp_path / "out")) == 3
    for _ in range(2):
        assert main(["demo", "--out", str(tmp_path / "demo"), "--model", "ellipsoid"]) == 0


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")
@pytest.mark.parametrize(("reader", "status", "lines"), [("pipe", 141, 0), ("/dev/full", 2, 1)])
def test_output_that_nobody_takes(reader, status, lines):
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") if reader == "pipe" else open(reader, "wb") as out:
        done = subprocess.run([*COMMAND, "models", "list"], stdout=out, stderr=subprocess.PIPE, text=True)
    assert done.returncode == status and done.stderr.count("\n") == lines
    assert ("free some space there" in done.stderr) == (reader == "/dev/full")  # a full disk


def test_nothing_but_one_line_is_on_the_standard_error(tmp_path):
    # In a process of its own, where warnings of other packages (of pickle's protocol here) would be seen too.
    (tmp_path / "savedmodel.pt").write_bytes(b"\x80\x04garbage")
    command = [*COMMAND, "models", "import", str(tmp_path / "savedmodel.pt"), "--num-heads", "1"]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 2
    assert run.stdout == ""
    assert run.stderr.startswith("napari-dispr: ") and run.stderr.count("\n") == 1


def test_evaluate_real_cells(red_blood_cells, tmp_path, capsys):
    names = sorted(path.name for path in (red_blood_cells / "train" / "mask").glob("*.tif"))[:2]
    for part in ("obj", "image", "mask"):
        (tmp_path / "data" / part).mkdir(parents=True)
        # The shipped model was trained on the first; mirrored, the second is a cell that it has not seen.
        for name, step in zip(names, (1, -1), strict=True):
            content = tifffile.imread(red_blood_cells / "train" / part / name)
            tifffile.imwrite(tmp_path / "data" / part / name, content[..., ::step])
    command = [
        "evaluate",
        str(tmp_path / "data"),
        "--out",
        str(tmp_path / "out"),
        "--members",
        "2",
        "--steps",
        "2",
    ]
    assert main([*command, "--save-shapes", "--methods", "model,cylinder,ellipsoid"]) == 0
    methods = json.loads((tmp_path / "out" / "summary.json").read_text())["methods"]
    assert list(methods) == ["red-blood-cell", "cylinder", "ellipsoid"]
    assert methods["red-blood-cell"]["n"] == 2 and methods["red-blood-cell"]["failed"] == 0
    assert methods["red-blood-cell"]["trained_on"] == [names[0].removesuffix(".tif")]
    assert methods["red-blood-cell"]["imaged_plane_iou"]["median"] >= 0.95
    for method in methods:
        for name in names:
            shapes = tifffile.imread(tmp_path / "out" / "shapes" / method / name)
            assert shapes.shape[-3:] == (64, 64, 64) and set(np.unique(shapes)) == {0, 1}


#: Arguments after which --out is added where they lack it, and a word of the answer.
WRONG = {
    "no file": (["predict", "missing.tif", "labels.tif"], "missing.tif"),
    "no picture": (["predict", "words.tif", "labels.tif"], "words.tif"),
    "no labels": (["predict", "image.tif"], "labels"),
    "cells": (["predict", "image.tif", "labels.tif", "--cells", "three"], "three"),
    "unknown cell": (["predict", "image.tif", "labels.tif", "--cells", "99"], "99"),
    "members": (["predict", "image.tif", "labels.tif", "--members", "none"], "members"),
    "quality": (["predict", "image.tif", "labels.tif", "--quality", "paper"], "paper"),
    "no model": (["predict", "image.tif", "labels.tif", "--model", "words.tif"], "words.tif"),
    "no partner": (["predict", "lonely"], "a.tif"),
    "out is a file": (["predict", "image.tif", "labels.tif", "--out", "image.tif"], "image.tif"),
    "image to evaluate": (
        ["evaluate", "image.tif"],
        "not a dataset: cut its cells with napari-dispr dataset",
    ),
    "two paths": (["evaluate", "image.tif", "labels.tif"], "give one folder of cells"),
    "images and labels": (["evaluate", "stacks"], "not yet a dataset: cut the cells"),
    "no method": (["evaluate", "lonely", "--methods", "guess"], "guess"),
    "option": (["predict", "image.tif", "labels.tif", "--colour", "red"], "see napari-dispr predict --help"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_inputs_are_one_line(folder, tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(folder)
    (folder / "words.tif").write_text("neither picture nor model")
    for part in ("image", "mask"):
        (folder / "lonely" / part).mkdir(parents=True, exist_ok=True)
        (folder / "stacks" / part.replace("mask", "labels")).mkdir(parents=True, exist_ok=True)
    tifffile.imwrite("lonely/image/a.tif", np.zeros((64, 64), np.uint8))
    arguments, words = WRONG[name]
    if "--out" not in arguments:
        arguments = [*arguments, "--out", str(tmp_path / "out")]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and words in error
    assert not (tmp_path / "out").exists(), "nothing is left behind"


def test_too_little_memory_is_one_line(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("napari_dispr.commands.common.split_labels", lambda *_: bytearray(2**62))
    assert main(["predict", *(str(folder / name) for name in ("image.tif", "labels.tif")), "--out", "x"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "not enough memory: close other programs" in error


@pytest.mark.skipif(not os.path.isdir("/sys/kernel"), reason="a folder into which nobody may write")
def test_without_permission_the_cure_is_named(capsys):
    assert main(["models", "export", "red-blood-cell", "--out", "/sys/kernel/m.safetensors"]) == 2
    assert "denied: change it, or choose another file or folder." in capsys.readouterr().err


def test_no_command_and_unknown_command_are_bad_input(capsys):
    for arguments in ([], ["fly"]):
        assert main(arguments) == 2
        assert capsys.readouterr().err.count("\n") == 1


@pytest.fixture(scope="module")
def whole(folder, tmp_path_factory):
    """A command without its folder, and the folder of a prediction that nothing stopped."""
    arguments = ["predict", str(folder / "image.tif"), str(folder / "labels.tif"), "--members", "2"]
    arguments += ["--steps", "4", "--out"]
    out = tmp_path_factory.mktemp("whole") / "out"
    assert main([*arguments, str(out)]) == 0
    return arguments, out


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals to send to one process")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, "SIGKILL"], ids=str)
def test_a_stopped_prediction_is_continued(whole, tmp_path, capsys, number):
    (arguments, whole), out = whole, tmp_path / "out"
    process = subprocess.Popen(
        [*COMMAND, *arguments, str(out)],
        stderr=subprocess.PIPE,
        text=True,
        # A process in the background would inherit that SIGINT is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    # A line of the index is the last of a cell.
    while not (out / "cells.jsonl").exists() or "\n" not in (out / "cells.jsonl").read_text("utf-8"):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL if number == "SIGKILL" else number)
    _, error = process.communicate()
    # -SIGINT: Python ends so if the interruption came while a library ran code of its own; shells say 130.
    ends = {"SIGKILL": (-9,), signal.SIGINT: (130, -signal.SIGINT), signal.SIGTERM: (130,)}
    assert process.returncode in ends[number]
    assert "Traceback" not in error
    assert 1 in nd.load_prediction(out) and len(nd.load_prediction(out)) < 3
    (out / "cells" / ".0123abcd.2.npz").write_bytes(b"left by a killed process")
    assert main([*arguments, str(out)]) == 0
    files = sorted(path.relative_to(out) for path in out.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(whole) for path in whole.rglob("*.*"))
    for file in files:
        assert (out / file).read_bytes() == (whole / file).read_bytes(), file
    assert main([*arguments, str(out), "--seed", "1"]) == 2
    assert "seed 0, not 1" in capsys.readouterr().err
    assert main([*arguments, str(out), "--seed", "1", "--steps", "1", "--cells", "2", "--overwrite"]) == 0
    assert list(nd.load_prediction(out)) == [2] and not (out / "cells" / "1.npz").exists()


def test_files_of_the_user_are_not_replaced(folder, dataset, tmp_path, capsys):
    (tmp_path / "cells.csv").write_text("mine")
    picture = [str(folder / "image.tif"), str(folder / "labels.tif")]
    for command in (
        ["predict", *picture, "--out", str(tmp_path)],
        ["predict", str(dataset), "--out", str(dataset)],
        ["evaluate", str(dataset), "--out", str(tmp_path)],
        ["augment", str(dataset), "--out", str(tmp_path)],
        ["dataset", *picture, "--out", str(tmp_path)],
        ["export", str(tmp_path), "--out", str(tmp_path)],
        ["demo", "--out", str(tmp_path)],
        ["measure", picture[1], "--out", str(tmp_path / "cells.csv")],
    ):
        assert main(command) == 2
        assert "choose a" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["cells.csv"]
    assert (tmp_path / "cells.csv").read_text() == "mine"


def test_a_table_of_the_user_may_have_the_name_of_ours(dataset, tmp_path, capsys):
    table = tmp_path / "features.csv"
    for text, refused in (("cell,area\n1,2\n", True), ("cell,source,member,key,area\n", False)):
        table.write_text(text)
        assert main(["classify", str(dataset), "--out", str(tmp_path)]) == 2
        assert ("holds other files, such as features.csv" in capsys.readouterr().err) == refused


@pytest.mark.parametrize(
    "command",
    [
        ["predict", "cells", "--out"],
        ["demo", "--out"],
        ["evaluate", "cells", "--methods", "cylinder", "--out"],
        ["classify", "cells", "--out"],
        ["augment", "cells", "--out"],
        ["synthesise", "make", "nuclei", "--size", "48,48", "--out"],
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_two_processes_do_not_write_into_one_folder(tmp_path, monkeypatch, capsys, command):
    monkeypatch.chdir(tmp_path)
    for number, kind in enumerate(("discocyte", "discocyte", "acanthocyte", "acanthocyte")):
        obj = phantom(kind, np.random.default_rng(number))
        for part, content in (("obj", obj), ("mask", obj[32]), ("image", obj[32] // 2 + 20)):
            path = tmp_path / "cells" / "train" / part / f"{kind}_{number}.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(path, content)
    with folder_locked("out"):
        assert main([*command, "out"]) == 2
        assert "Another process is writing into out" in capsys.readouterr().err
        assert os.listdir("out") == [".lock"]


def test_a_pixel_size_that_no_microscope_has(folder, tmp_path, capsys):
    for size in ("1e160", "1e60", "1e-30"):
        picture = [str(folder / "image.tif"), str(folder / "labels.tif")]
        assert main(["predict", *picture, "--out", str(tmp_path / "out"), "--pixel-size", size]) == 2
        assert "pixel size" in capsys.readouterr().err.replace("-", " ").replace("_", " ")


@pytest.mark.skipif(os.name == "nt", reason="Windows has other encodings")
def test_a_path_that_the_terminal_cannot_print(tmp_path):
    command = [*COMMAND, "measure", str(tmp_path / "Zelle \u03bc.tif"), "--out", str(tmp_path / "t.csv")]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    run = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert run.returncode == 2 and r"Zelle \u03bc.tif" in run.stderr and "Traceback" not in run.stderr


def test_evaluate_several_numbers_of_steps(dataset, tmp_path, capsys):
    """Each number of steps is a method of the model, and a figure compares them."""
    command = ["evaluate", str(dataset), "--out", str(tmp_path), "--members", "2", "--steps", "1,2"]
    assert main([*command, "--methods", "model,cylinder", "--definitions", "ours"]) == 0
    methods = json.loads((tmp_path / "summary.json").read_text())["methods"]
    assert list(methods) == ["red-blood-cell 1", "red-blood-cell 2", "cylinder"]
    assert [methods[f"red-blood-cell {steps}"]["provenance"]["steps"] for steps in (1, 2)] == [1, 2]
    png = (tmp_path / "steps.png").read_bytes()
    assert png.startswith(b"\x89PNG") and len(png) > 20_000
    assert "steps.png" in (tmp_path / "table.md").read_text("utf-8")
    capsys.readouterr()
    assert main(["evaluate", str(dataset), "--out", str(tmp_path / "no"), "--steps", "1,x"]) == 2
    assert "'x'" in capsys.readouterr().err
