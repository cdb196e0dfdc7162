"""The classification experiment on balls and rods: F1 of known answers, no leak from the test cells."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile

from napari_dispr import grid
from napari_dispr.cells.folders import CellFile
from napari_dispr.errors import InputError
from napari_dispr.evaluation.classification import (
    SETS,
    Arm,
    PredictedShapes,
    classify,
    training_rows,
)
from napari_dispr.evaluation.f1 import confusion, f1_scores
from napari_dispr.evaluation.shape_features import SHAPE_FEATURES, Described

QUICK = {"rare": 1, "seeds": 2, "fold_count": 4, "trees": 20, "jobs": 1}
COUNTS = {"ball": 8, "rod": 4}


def ellipsoid(half: tuple[float, float, float]) -> np.ndarray:
    z, y, x = np.indices(grid.SHAPE) - np.array([32.0, 31.5, 31.5]).reshape(3, 1, 1, 1)
    level = 1 - np.sqrt((z / half[0]) ** 2 + (y / half[1]) ** 2 + (x / half[2]) ** 2)
    return np.rint(255 * np.clip(0.5 + level * min(half), 0, 1)).astype(np.uint8)


def cell(kind: str, number: int) -> CellFile:
    size = 14 + 0.7 * number
    obj = ellipsoid((size, size, size) if kind == "ball" else (10 + number, size, 28))
    mask = obj[32].astype(np.float32) / 255
    return CellFile(f"{kind}_{number:02d}", mask, mask * np.linspace(0.4, 1, 64, dtype=np.float32), obj)


@pytest.fixture(scope="module")
def cells() -> list[CellFile]:
    return [cell(kind, number) for kind, count in COUNTS.items() for number in range(count)]


@pytest.fixture(scope="module")
def evaluation(cells, tmp_path_factory) -> Path:
    """Files of a cross-validation of a method that draws two members, a little too small."""
    folder = tmp_path_factory.mktemp("evaluation")
    save_evaluation(folder, cells, ["rod"])
    return folder


def save_evaluation(folder: Path, cells: list[CellFile], kinds: list[str], count: int = 4) -> None:
    folds = pd.DataFrame(
        [(one.name, one.name[:-3], number % count + 1) for number, one in enumerate(cells)],
        columns=["name", "class", "fold"],
    )
    (folder / "shapes" / "drawn").mkdir(parents=True)
    folds.to_csv(folder / "folds.csv", index=False)
    for one in cells:
        if one.name[:-3] in kinds:
            members = np.stack([one.obj > 140, one.obj > 150])[: count // 2].astype(np.uint8)
            tifffile.imwrite(folder / "shapes" / "drawn" / f"{one.name}.tif", members)


@pytest.fixture(scope="module")
def done(cells, evaluation, tmp_path_factory):
    out = tmp_path_factory.mktemp("classified")
    shapes = [PredictedShapes("drawn", evaluation / "shapes" / "drawn")]
    return out, classify(cells, shapes=shapes, folds=evaluation / "folds.csv", out=out, **QUICK)


def test_classes_that_differ_are_distinguished(done) -> None:
    out, summary = done
    assert summary["classes"] == COUNTS
    assert summary["rare"] == ["rod"]
    assert list(summary["arms"]) == [*SETS, "3D, rare cells repeated", "3D + drawn"]
    for scores in summary["arms"].values():
        assert scores["macro_f1"]["mean"] == scores["weighted_f1"]["mean"] == 1
        assert np.array_equal(scores["confusion"], [[8, 0], [0, 4]])
    names = {path.name for path in out.iterdir()}
    assert {"classification.json", "classification.csv", "classification.png", "table.md"} <= names
    predictions = pd.read_csv(out / "predictions.csv")
    assert (predictions.groupby(["arm", "seed", "cell"]).size() == 1).all()
    assert (predictions["class"] == predictions["predicted"]).all()
    lines = (out / "table.md").read_text("utf-8").splitlines()
    line = next(line for line in lines if line.startswith("| 3D + drawn "))
    assert line.split("|")[2].strip() == "100.0"


def test_features_are_computed_once_and_labels_without_meaning_give_chance(cells, done, tmp_path) -> None:
    out, _ = done
    known = tmp_path / "features.csv"
    known.write_bytes((out / "features.csv").read_bytes())
    table = tmp_path / "classes.csv"
    names = [one.name for one in cells]
    kinds = ["a" if number % 2 else "b" for number in range(len(names))]
    pd.DataFrame({"name": names, "class": kinds}).to_csv(table, index=False)
    before = known.read_bytes()
    events: list = []
    options = {**QUICK, "seeds": 3, "progress": events.append}
    summary = classify(cells, class_table=table, out=tmp_path, **options)
    assert not any(isinstance(event, Described) for event in events)
    assert known.read_bytes() == before
    for scores in summary["arms"].values():
        assert scores["macro_f1"]["mean"] < 0.7
        assert (
            scores["macro_f1"]["interval"][0] < scores["macro_f1"]["mean"] < scores["macro_f1"]["interval"][1]
        )


@pytest.fixture(scope="module")
def features() -> tuple[pd.DataFrame, dict[str, str], dict[str, str]]:
    """Rows with a cell and a source, without features."""
    classes = {f"{kind}{number}": kind for kind in "abc" for number in range(4)}
    folds = {name: str(place % 4 + 1) for place, name in enumerate(classes)}
    sources = ["true", "drawn", "drawn", *(f"drawn without {fold}" for fold in "1234")]
    rows = [(name, source, 0) for source in sources for name in classes]
    return pd.DataFrame(rows, columns=["cell", "source", "member"]), classes, folds


@pytest.mark.parametrize("source", [None, "drawn", "drawn without {fold}"], ids=["plain", "drawn", "strict"])
@pytest.mark.parametrize("repeated", [0, 3])
@pytest.mark.parametrize("test", ["1", "2", "3", "4"])
def test_no_row_of_a_test_cell_is_trained_on(features, source, repeated: int, test: str) -> None:
    table, classes, folds = features
    rows = training_rows(table, Arm("", SHAPE_FEATURES, source, repeated), classes, folds, test, ["a", "c"])
    assert test not in set(rows["cell"].map(folds))
    true = rows[rows["source"] == "true"]
    assert set(true["cell"]) == {name for name, fold in folds.items() if fold != test}
    counts = true["cell"].map(classes).value_counts()
    assert counts["b"] == 3
    assert counts["a"] == counts["c"] == 3 * (1 + repeated)
    drawn = rows[rows["source"] != "true"]
    if source is None:
        assert drawn.empty
    else:
        assert set(drawn["source"]) == {source.replace("{fold}", test)}
        assert set(drawn["cell"].map(classes)) == {"a", "c"}
        assert len(drawn) == (12 if source == "drawn" else 6)


def test_shapes_need_the_folds_of_their_models(cells, evaluation, tmp_path) -> None:
    shapes = [PredictedShapes("drawn", evaluation / "shapes" / "drawn")]
    with pytest.raises(InputError, match="need the folds of their models"):
        classify(cells, shapes=shapes, **QUICK)
    folds = pd.read_csv(evaluation / "folds.csv")
    folds[folds["name"] != "rod_01"].to_csv(tmp_path / "folds.csv", index=False)
    with pytest.raises(InputError, match="no fold for the cell rod_01"):
        classify(cells, shapes=shapes, folds=tmp_path / "folds.csv", **QUICK)
    copy = CellFile("rod_99", cells[8].mask, cells[8].image, cells[8].obj)
    both = pd.concat([folds, pd.DataFrame([{"name": "rod_99", "class": "rod", "fold": 2}])])
    both.to_csv(tmp_path / "folds.csv", index=False)
    with pytest.raises(InputError, match="copies of one cell"):
        classify([*cells, copy], shapes=shapes, folds=tmp_path / "folds.csv", **QUICK)


def test_strict_shapes_have_not_met_the_test_fold(cells, done, tmp_path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "features.csv").write_bytes((done[0] / "features.csv").read_bytes())
    save_evaluation(tmp_path / "outer", cells, [], count=2)
    table = tmp_path / "outer" / "folds.csv"
    folds = pd.read_csv(table).set_index("name")["fold"]
    for fold in (1, 2):
        others = [one for one in cells if folds[one.name] != fold]
        save_evaluation(tmp_path / str(fold), others, ["rod"], count=2)
    shapes = [PredictedShapes("drawn", tmp_path, inner=True)]
    options = {"folds": table, "out": out, **QUICK, "seeds": 1}
    summary = classify(cells, shapes=shapes, **options)
    assert summary["arms"]["3D + drawn (strict)"]["macro_f1"]["mean"] == 1
    (tmp_path / "2" / "folds.csv").write_bytes(table.read_bytes())
    with pytest.raises(InputError, match="which is in the test fold 2"):
        classify(cells, shapes=shapes, **options)


def test_shapes_of_models_that_know_the_cells_are_refused(cells, evaluation, tmp_path, monkeypatch) -> None:
    save_evaluation(tmp_path, cells, ["rod"])
    monkeypatch.chdir(tmp_path / "shapes")
    shapes = [PredictedShapes("drawn", Path("drawn"))]
    pd.DataFrame(
        [(one.name, method, int(method == "drawn")) for one in cells for method in ("fit", "drawn")],
        columns=["cell", "method", "trained_on"],
    ).to_csv(tmp_path / "cells.csv", index=False)
    with pytest.raises(InputError, match=r"trained on 4 of the cells that it drew \(such as rod_00\)"):
        classify(cells, shapes=shapes, folds=tmp_path / "folds.csv", **QUICK)
    # The folds of one cross-validation with the shapes of another.
    folds = pd.read_csv(tmp_path / "folds.csv")
    folds["fold"] = folds["fold"] % 4 + 1
    folds.to_csv(tmp_path / "folds.csv", index=False)
    with pytest.raises(InputError, match="has the cell ball_00 in another fold"):
        classify(cells, shapes=shapes, folds=evaluation / "folds.csv", **QUICK)


def test_predicted_objects_are_no_cells_and_a_class_has_two(cells) -> None:
    drawn = [replace(one, name=f"{one.name}001", predicted=True) for one in cells]
    with pytest.raises(InputError, match="All objects are predicted"):
        classify(drawn, **QUICK)
    with pytest.raises(InputError, match="The class rod has only one cell"):
        classify([*cells[:9], *drawn], **QUICK)


def test_missing_and_damaged_shapes_are_named(cells, evaluation, done, tmp_path) -> None:
    (tmp_path / "features.csv").write_bytes((done[0] / "features.csv").read_bytes())
    options = {"folds": evaluation / "folds.csv", "out": tmp_path, **QUICK}
    save_evaluation(tmp_path, cells, ["rod"])
    shapes = [PredictedShapes("drawn", tmp_path / "shapes" / "drawn")]
    (shapes[0].folder / "rod_00.tif").write_bytes(b"II*\0broken")
    with pytest.raises(InputError, match=r"rod_00\.tif (cannot be read|has the shape)"):
        classify(cells, shapes=shapes, **options)
    (shapes[0].folder / "rod_00.tif").unlink()
    with pytest.raises(InputError, match=r"no file .*rod_00\.tif"):
        classify(cells, shapes=shapes, **options)


def test_f1_by_hand() -> None:
    matrix = confusion(np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 0, 2]), 4)
    # F1: 2/3, 1/2 and 1; the fourth class is neither there nor found.
    assert f1_scores(matrix) == pytest.approx(((2 / 3 + 1 / 2 + 1) / 3, (3 * 2 / 3 + 2 / 2 + 1) / 6))
