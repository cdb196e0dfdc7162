"""Cross-validation: folds without a leak, stopped and resumed to the same table, by Python and command."""

import csv
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import tifffile
from support.simulated import phantom_file

import napari_dispr as nd
from napari_dispr import InputError
from napari_dispr.cells.folders import CellFile, DatasetNotes, read_dataset, write_dataset
from napari_dispr.cells.splits import class_of, classes_of, folds_of
from napari_dispr.commands.cli import main
from napari_dispr.evaluation.cross_validation import FoldStarted
from napari_dispr.models.library import read_card
from napari_dispr.settings import CrossValidateSettings, PredictSettings

#: As little as can be trained and drawn.
TRAINING = {"steps": 2, "batch": 1, "scored": 0, "validation": 0, "warmup": 1, "processes": 1}
OPTIONS = {
    "settings": CrossValidateSettings(folds=2),
    "predict": PredictSettings(members=2, steps=1, seed=3, device="cpu"),
    "training": TRAINING,
    "definitions": "shapr",
}


@pytest.fixture(scope="module")
def cells():
    return [phantom_file(("discocyte", "stomatocyte")[seed % 2], seed) for seed in range(4)]


@pytest.fixture(scope="module")
def dataset(cells, tmp_path_factory):
    folder = tmp_path_factory.mktemp("folds") / "phantoms"
    write_dataset(folder, cells, DatasetNotes(voxel_size=0.5, unit="micrometer"))
    return folder


@pytest.fixture(scope="module")
def whole(dataset, tmp_path_factory):
    """A cross-validation without interruption: its folder, events and summary."""
    out = tmp_path_factory.mktemp("whole") / "out"
    events = []
    summary = nd.cross_validate(
        dataset, out, ["model", "cylinder"], progress=events.append, save_shapes=True, **OPTIONS
    )
    return out, events, summary


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_every_cell_is_tested_once_by_models_that_have_not_seen_it(whole, cells):
    out, events, summary = whole
    folds = {row["name"]: int(row["fold"]) for row in rows_of(out / "folds.csv")}
    assert [row["class"] for row in rows_of(out / "folds.csv")] == ["discocyte"] * 2 + ["stomatocyte"] * 2
    names = sorted(cell.name for cell in cells)
    prints = {cell.name: cell.fingerprint for cell in cells}
    rows = rows_of(out / "cells.csv")
    for method, members in (("model", 2), ("cylinder", 1)):
        assert [row["cell"] for row in rows if row["method"] == method] == names
        found = summary["methods"][method]
        assert found["cells"] == 4 and found["n"] == 4 * members and found["trained_on"] == []
        for name in names:
            assert tifffile.imread(out / "shapes" / method / f"{name}.tif").shape == (members, 64, 64, 64)
    for fold in (1, 2):
        seen = read_card(out / "folds" / str(fold) / "model.safetensors").training
        assert sorted(seen["cells"]) == [name for name in names if folds[name] != fold]
        assert not {prints[name] for name in names if folds[name] == fold} & set(seen["fingerprints"])
        provenance = summary["methods"]["model"]["provenance"][f"fold {fold}"]
        assert provenance["model_hash"] == nd.load_model(out / "folds" / str(fold) / "model.safetensors").hash
    assert summary["folds"] == 2 and summary["unit"] == "micrometer" and summary["voxel_size"] == 0.5
    done = [event.done for event in events if type(event).__name__ == "Evaluated"]
    assert done == list(range(1, 9))
    assert "2-fold cross-validation" in (out / "table.md").read_text("utf-8")


def test_stopped_at_any_place_it_resumes_to_the_same_table(whole, dataset, tmp_path):
    out = tmp_path / "out"
    options = {"methods": ["model", "cylinder"], "resume": True, "save_shapes": True, **OPTIONS}
    # Stop in the first training; while cells of the first fold are drawn; in the second training.
    kinds = [
        type(event).__name__ for event in nd.iter_cross_validate(dataset, out, stop=lambda: True, **options)
    ]
    assert kinds == ["FoldStarted", "Started", "Ended"]
    assert not (out / "folds" / "1" / "model.safetensors").exists()
    for kind, times in (("Evaluated", 3), ("Started", 1)):
        events = nd.iter_cross_validate(dataset, out, **options)
        while times:
            times -= type(next(events)).__name__ == kind
        events.close()
        assert (out / "cells.partial.csv").exists() and not (out / "cells.csv").exists()
    assert len(rows_of(out / "cells.partial.csv")) == 4
    nd.cross_validate(dataset, out, **options)
    for name in ("folds.csv", "errors.csv", "cells.csv", "table.md"):
        assert (out / name).read_bytes() == (whole[0] / name).read_bytes()


def test_other_settings_are_not_resumed(whole, dataset):
    out = whole[0]
    for changes, words in (
        ({"resume": False}, "holds a cross-validation"),
        ({"save_shapes": True, "predict": PredictSettings(members=2, steps=1, seed=4)}, "other"),
        ({"training": {**TRAINING, "steps": 3}}, "other training"),
        ({"methods": ["model", "ellipsoid"]}, "other methods"),
    ):
        options = {
            "methods": ["model", "cylinder"],
            "resume": True,
            "save_shapes": True,
            **OPTIONS,
            **changes,
        }
        with pytest.raises(InputError, match=words) as caught:
            nd.cross_validate(dataset, out, **options)
        assert "\n" not in str(caught.value)


def test_a_start_that_has_seen_the_cells_is_refused(whole, dataset, tmp_path):
    seen = str(whole[0] / "folds" / "1" / "model.safetensors")
    options = {**OPTIONS, "settings": CrossValidateSettings(folds=2, init=seen)}
    with pytest.raises(InputError, match="was trained on 2 of these cells"):
        nd.cross_validate(dataset, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_two_methods_of_one_name_are_refused(whole, dataset, tmp_path):
    other = str(whole[0] / "folds" / "1" / "model.safetensors")
    with pytest.raises(InputError, match="Two methods are called 'model'"):
        nd.cross_validate(dataset, tmp_path / "out", ["model", other], **OPTIONS)
    assert not (tmp_path / "out").exists()


def test_one_fold_alone_is_a_held_out_split_that_others_join(whole, dataset, cells, tmp_path):
    """It tests the cells of this fold; continued with the other folds, its files equal those of the whole."""
    out = tmp_path / "out"
    options = {"methods": ["model", "cylinder"], "save_shapes": True, **OPTIONS}
    alone = {**options, "settings": CrossValidateSettings(folds=2, fold=2)}
    summary = nd.cross_validate(dataset, out, **alone)
    folds = {row["name"]: int(row["fold"]) for row in rows_of(whole[0] / "folds.csv")}
    second = sorted(name for name in folds if folds[name] == 2)
    assert [row["cell"] for row in rows_of(out / "cells.csv") if row["method"] == "model"] == second
    assert (summary["cells"], summary["not_tested"], summary["tested_folds"]) == (2, 2, [2])
    assert "of fold 2; 2 more are not tested yet" in (out / "table.md").read_text("utf-8")
    assert not (out / "folds" / "1").exists()
    # An unfinished other fold is not in the table, and its training is kept.
    events = nd.iter_cross_validate(dataset, out, resume=True, **options)
    while type(next(events)).__name__ != "Evaluated":
        pass
    events.close()
    assert nd.cross_validate(dataset, out, resume=True, **alone) == summary
    nd.cross_validate(dataset, out, resume=True, **options)
    for name in ("folds.csv", "errors.csv", "cells.csv", "table.md", "summary.json"):
        assert (out / name).read_bytes() == (whole[0] / name).read_bytes()


def test_cells_of_some_classes_alone_are_tested(whole, dataset, tmp_path):
    shutil.copytree(whole[0] / "folds", tmp_path / "folds")  # trained as they would be
    options = {"methods": ["model", "cylinder"], "save_shapes": True, **OPTIONS}
    summary = nd.cross_validate(dataset, tmp_path, classes=["stomatocyte"], **options)
    assert {row["cell"][:11] for row in rows_of(tmp_path / "cells.csv")} == {"stomatocyte"}
    assert (summary["cells"], summary["not_tested"]) == (2, 2)
    expected = [row for row in rows_of(whole[0] / "errors.csv") if row["cell"].startswith("stomatocyte")]
    assert rows_of(tmp_path / "errors.csv") == expected
    nd.cross_validate(dataset, tmp_path, resume=True, **options)
    assert (tmp_path / "errors.csv").read_bytes() == (whole[0] / "errors.csv").read_bytes()


def test_settings_of_one_method(dataset, tmp_path):
    training = {"processes": 1, "shapr.epochs": 20, "steps": 300, "model.batch": 4}
    options = {**OPTIONS, "settings": CrossValidateSettings(folds=2, minutes=7), "training": training}
    events = nd.iter_cross_validate(dataset, tmp_path / "out", ["model", "shapr"], **options)
    next(events)
    events.close()
    found = json.loads((tmp_path / "out" / "cross_validation.json").read_text("utf-8"))["training"]
    assert (found["model"]["minutes"], found["model"]["steps"], found["model"]["batch"]) == (7, 300, 4)
    assert (found["shapr"]["minutes"], found["shapr"]["steps"], found["shapr"]["epochs"]) == (None, None, 20)
    assert found["shapr"]["batch"] == 6
    for wrong, words in (
        ({"speed": 3}, "'speed'"),
        ({"shapr.speed": 3}, "'speed'"),
        ({"dispr.steps": 3}, "dispr, which is not trained"),
    ):
        with pytest.raises(InputError, match=words):
            nd.cross_validate(dataset, tmp_path / "no", ["model", "shapr"], **{**options, "training": wrong})
    assert not (tmp_path / "no").exists()


def test_a_method_named_as_a_preset_is_trained_by_it(dataset, tmp_path):
    settings = CrossValidateSettings(folds=2, preset="quick", minutes=7)
    options = {**OPTIONS, "settings": settings, "training": {"processes": 1, "batch": 2}}
    events = nd.iter_cross_validate(dataset, tmp_path, ["shapr", "model", "cylinder"], **options)
    assert next(events) == FoldStarted(1, 2, "shapr", 2)
    events.close()
    found = json.loads((tmp_path / "cross_validation.json").read_text("utf-8"))["training"]
    assert list(found) == ["shapr", "model"]
    for name, start, scored in (("shapr", None, None), ("model", "generic", 0.4)):
        assert (found[name]["start"], found[name].get("scored")) == (start, scored)
        assert (found[name]["minutes"], found[name]["batch"], found[name]["seed"]) == (7, 2, 3)
    assert found["shapr"]["method"] == "shapr" and "processes" not in found["shapr"]


def test_predicted_objects_are_trained_on_and_never_tested(cells, tmp_path):
    drawn = [replace(cell, name=f"{cell.name}001", predicted=True) for cell in cells]
    write_dataset(tmp_path / "cells", [*cells, *drawn], DatasetNotes())
    out = tmp_path / "out"
    options = {**OPTIONS, "settings": CrossValidateSettings(folds=2, init="none")}
    # A crash while the cells of a fold were written leaves its folder.
    (out / "folds" / "1" / "cells").mkdir(parents=True)
    (out / "folds" / "1" / "model.training").mkdir()
    events = nd.iter_cross_validate(tmp_path / "cells", out, ["model"], **options)
    assert next(events) == FoldStarted(1, 2, "model", 4)
    assert type(next(events)).__name__ == "Started"
    events.close()
    read = read_dataset(out / "folds" / "1" / "cells")
    assert sorted(cell.predicted for cell in read) == [False, False, True, True]
    summary = nd.cross_validate(tmp_path / "cells", tmp_path / "fits", ["cylinder"], **options)
    assert summary["cells"] == 4 and summary["predicted"] == 4
    folds = {row["name"]: row["fold"] for row in rows_of(tmp_path / "fits" / "folds.csv")}
    assert all(folds[cell.name] == folds[f"{cell.name}001"] for cell in cells)


def named(*names):
    """Cells without objects, each with a different picture."""
    planes = [np.full((64, 64), place, np.float32) / 255 for place in range(len(names))]
    return [CellFile(name, plane, None, None) for name, plane in zip(names, planes, strict=True)]


def test_folds_have_the_same_of_each_class():
    cells = named(
        *[f"A_x{i:03}" for i in range(23)], *[f"B{i}" for i in range(7)], *[f"C{i}" for i in range(9)]
    )
    classes = classes_of(cells)
    assert set(classes.values()) == {"A_x", "B", "C"}
    folds = folds_of(cells, 5, classes, seed=1)
    for kind in (set(classes.values()), {"A_x"}, {"B"}, {"C"}):
        counts = [sum(folds[n] == k and classes[n] in kind for n in folds) for k in range(1, 6)]
        assert max(counts) - min(counts) <= 1
    assert folds == dict(sorted(folds_of(cells[::-1], 5, classes, seed=1).items()))
    assert folds != folds_of(cells, 5, classes, seed=2)
    assert len(set(classes_of(named("a", "b", "c")).values())) == 1
    assert class_of("D_multilobate_cells000604") == class_of("D_multilobate_cells_7") == "D_multilobate_cells"


def test_copies_of_a_cell_are_in_one_fold():
    cells = named(*[f"a{i}" for i in range(8)])
    cells += [CellFile(f"b{i}", cell.mask, None, None) for i, cell in enumerate(cells)]
    folds = folds_of(cells, 4, classes_of(cells))
    assert all(folds[f"a{i}"] == folds[f"b{i}"] for i in range(8))
    with pytest.raises(InputError, match="only 8 different cells"):
        folds_of(cells, 9, classes_of(cells))


def test_classes_from_a_table(tmp_path):
    table = tmp_path / "classes.csv"
    table.write_text("name,class,note\na1,round,\nb1,flat,\n")
    assert classes_of(named("b1", "a1"), table) == {"b1": "flat", "a1": "round"}
    for text, words in (
        ("name,kind\na1,round\n", "no columns name and class"),
        ("name,class\na1,round\n", "b1 is not in"),
        ("name,class\na1,round\na1,flat\nb1,flat\n", "'a1'"),
    ):
        table.write_text(text)
        with pytest.raises(InputError, match=words):
            classes_of(named("b1", "a1"), table)
    with pytest.raises(InputError, match=r"no file .*missing\.csv"):
        classes_of(named("b1"), tmp_path / "missing.csv")


def test_command(whole, dataset, tmp_path, capsys):
    """The command continues a cross-validation of Python; here only the tables are left to do."""
    shutil.copytree(whole[0], tmp_path / "out")
    (tmp_path / "out" / "table.md").unlink()
    training = ",".join(f"{name}={value}" for name, value in TRAINING.items())
    command = ["evaluate", str(dataset), "--folds", "2", "--methods", "model,cylinder", "--members", "2"]
    command += [
        "--steps",
        "1",
        "--seed",
        "3",
        "--device",
        "cpu",
        "--training",
        training,
        "--definitions",
        "shapr",
    ]
    command += ["--save-shapes", "--out", str(tmp_path / "out")]
    assert main(command) == 2 and "continue it with --resume" in capsys.readouterr().err
    assert main([*command, "--resume"]) == 0
    assert "model: 8 members, 0 failed" in capsys.readouterr().out
    assert (tmp_path / "out" / "table.md").read_bytes() == (whole[0] / "table.md").read_bytes()
    summary = json.loads((tmp_path / "out" / "summary.json").read_text("utf-8"))
    assert summary == json.loads((whole[0] / "summary.json").read_text("utf-8"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--folds", "1"], "folds"),
        (["--folds", "9"], "only 4 different cells"),
        (["--folds", "2", "--model", "generic"], "--init"),
        (["--folds", "2", "--methods", "guess"], "guess"),
        (["--folds", "2", "--preset", "slow"], "slow"),
        (["--folds", "2", "--training", "steps"], "steps=500"),
        (["--folds", "2", "--fold", "3"], "no fold 3"),
        (["--folds", "2", "--classes", "discocyte,round"], "'round'"),
        (["--classes", "discocyte"], "--folds"),
        (["--minutes", "3"], "--folds"),
    ],
)
def test_wrong_options_are_one_line(dataset, tmp_path, capsys, options, words):
    assert main(["evaluate", str(dataset), "--out", str(tmp_path / "out"), *options]) == 2
    found = capsys.readouterr().err
    assert words in found and found.count("\n") == 1 and not (tmp_path / "out").exists()
