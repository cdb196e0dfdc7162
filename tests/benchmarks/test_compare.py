"""The benchmark that decides, on simulated cells: what it draws, tells and writes, and what it leaves out."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile

from napari_dispr import grid
from napari_dispr.card import Calibration, Card, Quality
from napari_dispr.cells.folders import read_dataset
from napari_dispr.errors import InputError
from napari_dispr.shapes.morphometry import relative_error
from napari_dispr.synthesis.phantoms import KINDS, image_of, phantom
from tests.support.methods import FunctionMethod

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
ALL = ["--cells", "all", "--members", "2", "--threads", "1", "--device", "cpu"]


@pytest.fixture(scope="module", autouse=True)
def benchmarks_on_the_path():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield


@pytest.fixture
def compare():
    return importlib.import_module("compare")


@pytest.fixture
def drawing():
    return importlib.import_module("compare_drawing")


@pytest.fixture
def in_this_process(compare, monkeypatch):
    """No process a method, which would load torch again each time."""
    monkeypatch.setattr(compare, "drawn_apart", compare.draw)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Three simulated cells as DISPR reads them."""
    folder = tmp_path_factory.mktemp("dataset")
    rng = np.random.default_rng(5)
    for kind in KINDS[:3]:
        obj = phantom(kind, rng)
        content = {"obj": obj, "mask": obj[32], "image": np.rint(255 * image_of(obj, rng)).astype(np.uint8)}
        for part, values in content.items():
            (folder / "train" / part).mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(folder / "train" / part / f"{kind}1.tif", values)
    return folder


@pytest.fixture(scope="module")
def out(dataset, tmp_path_factory):
    """What the command writes: the shipped model, in a process of its own, and the fits on two cells."""
    compare, out = importlib.import_module("compare"), tmp_path_factory.mktemp("out")
    more = ["--models", "red-blood-cell", "--qualities", "fast", "--fits", "--limit", "2"]
    text = compare.compare(options_of(compare, dataset, out, *more))
    assert text == (out / "compare.md").read_text("utf-8")
    return out


def options_of(compare, dataset, out, *more):
    return compare.arguments().parse_args([str(dataset), "--out", str(out), *ALL, *more])


@pytest.mark.slow
def test_what_is_written(out, dataset):
    assert sorted(path.name for path in out.iterdir()) == [
        "cells.csv", "compare.json", "compare.md", "members.csv",
    ]  # fmt: skip
    text = (out / "compare.md").read_text("utf-8")
    for title in ("Shapes", "Ensembles", "Relative errors", "Intervals", "Cost", "Paired differences"):
        assert f"\n## {title}\n" in text
    assert str(dataset) not in text and "nan" not in text
    told = json.loads((out / "compare.json").read_text("utf-8"))
    names = ["red-blood-cell fast", "cylinder", "ellipsoid", "cylinder-code", "ellipsoid-code"]
    assert list(told["methods"]) == names
    assert told["head"]["seed"] == 0 and told["head"]["members"] == 2
    assert told["head"]["dataset"]["compared_on"] == ["discocyte1", "spherocyte1"]
    assert {"processor", "cores", "threads"} <= told["head"]["machine"].keys()
    model = told["methods"]["red-blood-cell fast"]
    assert model["n"] == 2 and model["left_out"] == []
    if sys.platform != "win32":
        assert 50 < model["base_memory"] < model["peak_memory"]
    assert told["methods"]["cylinder"]["peak_memory"] is None
    assert told["without_picture"]["volume"]["90%"]["width"] + 1 > 0.5  # two cells: of one another


@pytest.mark.slow
def test_summary_is_that_of_the_rows(out):
    told = json.loads((out / "compare.json").read_text("utf-8"))
    members, cells = pd.read_csv(out / "members.csv"), pd.read_csv(out / "cells.csv")
    assert members.groupby("method").size().to_dict() == {
        "red-blood-cell fast": 4, "cylinder": 2, "ellipsoid": 2, "cylinder-code": 2, "ellipsoid-code": 2,
    }  # fmt: skip
    ours, fits = (cells[(cells.method == "red-blood-cell fast") == own] for own in (True, False))
    own = members[members.method == "red-blood-cell fast"]
    summary = told["methods"]["red-blood-cell fast"]
    for name in ("volume", "surface_mesh", "roughness_voxel", "curvature"):
        error = summary["members"][f"error_{name}"]
        assert error["median"] == pytest.approx(own[f"error_{name}"].median(), rel=1e-4)
        assert error["sd"] == pytest.approx(own[f"error_{name}"].std(), rel=1e-4)
        estimate = own.groupby("cell", sort=False)[name].mean().to_numpy()
        np.testing.assert_allclose(ours[f"estimate_{name}"], estimate, rtol=1e-4)
        error = np.abs(estimate / ours[f"true_{name}"] - 1)
        np.testing.assert_allclose(ours[f"error_{name}"], error, rtol=0.01, atol=1e-4)
    assert summary["estimate"]["consensus_iou"]["mean"] == pytest.approx(ours.consensus_iou.mean(), rel=1e-4)
    assert (ours.best_iou >= ours.iou).all() and (ours.energy_score < 1 - ours.iou).all()
    np.testing.assert_allclose(ours.energy_score, 1 - ours.iou - ours.diversity / 2, atol=1e-4)
    # One shape: nothing to be diverse, and its score is its error.
    np.testing.assert_allclose(fits.energy_score, 1 - fits.iou, atol=1e-5)
    np.testing.assert_allclose(fits.crps_volume, fits.error_volume, atol=1e-5)
    assert fits.diversity.isna().all()


@pytest.mark.slow
def test_the_correction_brings_the_imaged_plane_to_the_mask(out):
    members = pd.read_csv(out / "members.csv")
    ours = members.method == "red-blood-cell fast"
    assert (members[ours].plane_iou > 0.97).all()
    assert members[ours].plane_iou_before.mean() < members[ours].plane_iou.mean()
    assert (members[~ours].plane_iou == members[~ours].plane_iou_before).all()
    assert (members[members.method == "cylinder"].plane_iou == 1).all()


@pytest.mark.slow
def test_paired_differences_are_of_the_cells(out):
    told = json.loads((out / "compare.json").read_text("utf-8"))
    cells = pd.read_csv(out / "cells.csv").set_index(["method", "cell"])
    pairs = [(pair["first"], pair["second"]) for pair in told["paired"]]
    assert {first for first, _ in pairs} == {"red-blood-cell fast"} and len(pairs) == 4 * 4
    for pair in told["paired"]:
        apart = cells.loc[pair["first"], pair["measure"]] - cells.loc[pair["second"], pair["measure"]]
        assert pair["n"] == 2
        assert pair["mean"] == pytest.approx(apart.mean(), abs=1e-5)
        low, high = pair["mean_interval"]
        assert (low, high) == pytest.approx((apart.min(), apart.max()), abs=1e-5)  # of two cells


@pytest.mark.slow
def test_shapes_are_those_that_evaluate_draws(dataset, out):
    from napari_dispr.evaluation.evaluate import ERRORS, iter_evaluate
    from napari_dispr.models.library import load_model
    from napari_dispr.models.sampling import as_method
    from napari_dispr.settings import PredictSettings

    method = as_method(load_model("red-blood-cell"), PredictSettings(quality="fast", device="cpu"))
    cells = read_dataset(dataset, need_objects=True)[:1]
    events = iter_evaluate(cells, {"m": method}, members=2)
    while True:
        try:
            next(events)
        except StopIteration as end:
            theirs = end.value["methods"]["m"]
            break
    members = pd.read_csv(out / "members.csv")
    ours = members[(members.method == "red-blood-cell fast") & (members.cell == cells[0].name)]
    assert {"volume", "iou"} <= ERRORS.keys()
    # Not to the last voxel: the number of threads may differ.
    for name in ("iou", "error_volume", "error_surface_mesh", "error_roughness_voxel"):
        assert ours[name].mean() == pytest.approx(theirs[name.removeprefix("error_")]["mean"], abs=0.01)


@pytest.mark.slow
def test_steps_and_rivals(compare, dataset, tmp_path, in_this_process):
    from napari_dispr.models.shapr import SHAPR, SHAPRModel

    SHAPRModel(SHAPR()).save(tmp_path / "shapr.safetensors")
    more = ["--models", "red-blood-cell", "--steps", "1,2", "--samplers", "euler", "--limit", "1"]
    more += ["--shapr", str(tmp_path / "shapr.safetensors")]
    text = compare.compare(options_of(compare, dataset, tmp_path / "out", *more))
    told = json.loads((tmp_path / "out" / "compare.json").read_text("utf-8"))
    assert list(told["methods"]) == ["red-blood-cell euler 1", "red-blood-cell euler 2", "SHAPR"]
    assert [line.split("|")[3].strip() for line in text.splitlines() if "euler |" in line] == ["1", "2"]
    one, two = (told["methods"][f"red-blood-cell euler {steps}"]["provenance"] for steps in (1, 2))
    assert next(iter(one.values()))["steps"] == 1 and next(iter(two.values()))["steps"] == 2
    png = (tmp_path / "out" / "steps.png").read_bytes()
    assert png.startswith(b"\x89PNG") and len(png) > 20_000


def fits_only(compare, monkeypatch, seen):
    """The fits as if they had been trained: ``seen`` maps their files to the names of their cells."""
    monkeypatch.setattr(compare, "trained_on", lambda kind, file: seen.get(file, frozenset()))


def test_cells_that_a_method_was_trained_on_are_left_out_and_named(compare, dataset, tmp_path, monkeypatch):
    cells = read_dataset(dataset)
    fits_only(compare, monkeypatch, {
        "cylinder": frozenset([cells[0].fingerprint]),
        "ellipsoid": frozenset(cell.fingerprint for cell in cells),
    })  # fmt: skip
    text = compare.compare(options_of(compare, dataset, tmp_path, "--fits"))
    assert "- **cylinder** was trained on 1 of 3 cells, which are left out." in text
    assert "- **ellipsoid** was trained on all, so it is not compared." in text
    told = json.loads((tmp_path / "compare.json").read_text("utf-8"))["methods"]
    assert told["cylinder"]["n"] == 2 and told["cylinder"]["left_out"] == [cells[0].name]
    assert told["ellipsoid"] == {**told["ellipsoid"], "n": 0} and "members" not in told["ellipsoid"]
    drawn = pd.read_csv(tmp_path / "cells.csv").groupby("method").cell.agg(list)
    assert drawn["cylinder"] == [cell.name for cell in cells[1:]]
    assert drawn["ellipsoid-code"] == [cell.name for cell in cells]
    assert "ellipsoid" not in drawn


def test_out_of_fold_takes_the_cells_that_nobody_has_seen(compare, drawing, dataset, tmp_path, monkeypatch):
    a, b, c = read_dataset(dataset)
    fits_only(compare, monkeypatch, {
        "fold0": frozenset([a.fingerprint, c.fingerprint]),
        "fold1": frozenset([b.fingerprint, c.fingerprint]),
    })  # fmt: skip
    folds = drawing.Run("folds", "fit", ("fold0", "fold1"))
    assert compare.drawn_by(folds, [a, b, c]) == {a.name: "fold1", b.name: "fold0"}
    options = options_of(compare, dataset, tmp_path, "--cells", "out-of-fold")
    chosen, others = compare.chosen_cells(options, [folds, drawing.Run("fit", "fit", ("cylinder",))])
    assert [cell.name for cell in chosen] == [a.name, b.name]
    assert [cell.name for cell in others] == [c.name]


def test_held_out_is_the_split_of_training(compare, dataset, tmp_path):
    from train_red_blood_cell import split

    # Of three classes of one cell each none is held out.
    assert split(read_dataset(dataset))[1] == []
    with pytest.raises(InputError, match="--cells held-out"):
        compare.compare(options_of(compare, dataset, tmp_path, "--fits", "--cells", "held-out"))


def test_a_cell_that_cannot_be_drawn_counts_with_error_1(compare, drawing, dataset, tmp_path, monkeypatch):
    def broken(mask, image, members, seed):
        raise InputError("The mask is too thin.")

    monkeypatch.setitem(drawing.FITS, "cylinder", FunctionMethod(broken))
    text = compare.compare(options_of(compare, dataset, tmp_path, "--fits", "--limit", "1"))
    assert text.count("**cylinder** failed on discocyte1: The mask is too thin.") == 1
    row = pd.read_csv(tmp_path / "cells.csv").set_index("method").loc["cylinder"]
    assert row.failed == "The mask is too thin."
    for name in importlib.import_module("compare_scores").MEASURES:
        assert row[f"error_{name}"] == 1
    assert row.iou == row.consensus_iou == 0 and row.energy_score == 1 and row.volume_bias == -1


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ([], "nothing to compare"),
        (["--models", "no-such-model"], "no model 'no-such-model'"),
        (["--models", "red-blood-cell", "--qualities", "paper"], "choose of fast, balanced"),
        (["--models", "red-blood-cell", "red-blood-cell"], "called"),
        (["--models", "."], "holds no .safetensors"),
    ],
)
def test_wrong_input_is_one_sentence(compare, dataset, tmp_path, monkeypatch, capsys, more, sentence):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["compare.py", str(dataset), "--out", str(tmp_path), *more])
    assert compare.main() == 2
    error = capsys.readouterr().err
    assert sentence in error and error.count("\n") == 1


def test_labels_tell_models_of_the_same_file_name_apart(compare):
    names = ["run1/model.safetensors", "run2/model.safetensors", "red-blood-cell", "other.safetensors"]
    assert compare.labels_of(names) == ["run1/model", "run2/model", "red-blood-cell", "other"]


def test_a_model_s_intervals_are_read_from_its_card():
    scores = importlib.import_module("compare_scores")
    calibration = Calibration(scores=tuple(np.linspace(-1, 1, 39)), floor=0.1, sd=0.05, members=2)
    card = Card(
        name="m",
        qualities={"fast": Quality(sampler="euler", steps=1)},
        intervals={"volume": calibration},
    )
    measures = pd.DataFrame({"volume": [900.0, 1100.0], "surface_mesh": [50.0, 60.0]})
    found = scores.intervals_of(card, measures)
    assert {name for name, _ in found} == {"volume"} and {level for _, level in found} == {0.5, 0.8, 0.9}
    widths = [found["volume", level][1] - found["volume", level][0] for level in scores.LEVELS]
    assert widths == sorted(widths) and found["volume", 0.5][0] < 1000 < found["volume", 0.5][1]
    assert scores.intervals_of(card.model_copy(update={"intervals": {}}), measures) == {}
    cells = pd.DataFrame({
        "true_volume": [100.0, 100.0, 100.0, 100.0],
        "low_volume_90%": [90.0, 101.0, 80.0, np.nan], "high_volume_90%": [110.0, 111.0, 100.0, np.nan],
    })  # fmt: skip
    # Two of four hold it; the last could not be drawn.
    assert scores.coverage(cells) == {
        "volume": {"90%": {"coverage": pytest.approx(0.5), "width": pytest.approx(0.5 / 3)}}
    }


def test_measures_of_a_binary_ball_and_of_nothing():
    scores = importlib.import_module("compare_scores")
    z, y, x = np.indices(grid.SHAPE) - 31.5
    ball = z**2 + y**2 + x**2 < 20**2
    measures = scores.measures_of(ball)
    assert measures["volume"] == ball.sum()
    # Of the staircase: the area is too large by 8 %, and what is averaged over it too small by as much.
    assert measures["curvature"] == pytest.approx(1 / 20, rel=0.1)
    nothing = scores.measures_of(np.zeros_like(ball))
    assert set(nothing) == set(measures) and set(nothing.values()) == {0.0}
    assert relative_error(nothing["curvature"], measures["curvature"]) == 1


def test_members_survive_their_file(drawing, tmp_path):
    members = np.random.default_rng(0).random((2, *grid.SHAPE)) > 0.5
    drawing.save_members(tmp_path / "a.npz", members, members[:, 5])
    stored, before = drawing.load_members(tmp_path / "a.npz")
    np.testing.assert_array_equal(stored, members)
    np.testing.assert_array_equal(before, members[:, 5])


def test_tables_line_up():
    report = importlib.import_module("compare_report")
    lines = report.table(["method", "n"], [["a", "1"], ["a longer one", "22"]]).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[1] == "| :----------- | --: |" and lines[3] == "| a longer one |  22 |"
    assert report.number(float("nan")) == report.number(None) == "–"
    assert report.number(0.12345) == "0.123" and report.number(0.5, sign=True) == "+0.500"
    found = {"mean": -0.2, "mean_interval": (-0.3, -0.1)}
    assert report.difference(found, "mean") == "**-0.200 [-0.300, -0.100]**"
