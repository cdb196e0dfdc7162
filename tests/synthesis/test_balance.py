"""Balanced training folders: numbers, names, files that are read back, and a continued run."""

import numpy as np
import pandas as pd
import pytest

import napari_dispr as nd
from napari_dispr import grid
from napari_dispr.cells.folders import CellFile, read_dataset, write_dataset
from napari_dispr.cells.folders import DatasetNotes as Notes
from napari_dispr.cells.splits import class_of, copies, split_cells
from napari_dispr.commands.cli import main
from napari_dispr.errors import InputError
from napari_dispr.prediction.predict import Step
from napari_dispr.synthesis.balance import Augmented, augment, iter_augment
from napari_dispr.synthesis.balance_plan import plan, predicted_names
from napari_dispr.synthesis.phantoms import phantom
from napari_dispr.synthesis.red_cell_crops import membrane_picture

QUICK = {"model": "red-blood-cell", "quality": "fast", "device": "cpu"}


def cell(name: str, kind: str, seed: int) -> CellFile:
    rng = np.random.default_rng(seed)
    obj = phantom(kind, rng)
    return CellFile(name, obj[grid.IMAGED_PLANE].astype(np.float32) / 255, membrane_picture(obj, rng), obj)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    cells = [cell(f"disc_{number}", "discocyte", number) for number in range(4)]
    cells += [cell(f"spiky_{number}", "acanthocyte", number) for number in (7, 11)]
    folder = tmp_path_factory.mktemp("cells")
    write_dataset(folder, cells, Notes(voxel_size=0.2, unit="micrometer", source=["simulated"]))
    return folder


@pytest.fixture(scope="module")
def cells(dataset) -> list[CellFile]:
    return read_dataset(dataset, need_objects=True)


def test_shapes_are_distributed_evenly() -> None:
    classes = {"a1": "a", "a2": "a", "a3": "a", "a4": "a", "a5": "a", "b1": "b", "b2": "b", "c1": "c"}
    found = plan(classes, list(classes), at_most=3)
    assert found.members == {"b1": 2, "b2": 1, "c1": 3}
    assert found.after == {"a": 5, "b": 5, "c": 4}
    assert found.short == {"c": 1}
    assert plan(classes, list(classes), per_class=3, at_most=20).members == {"b1": 1, "c1": 2}
    # Without true shapes every cell is predicted, and none is left out.
    assert plan(classes, [], at_most=20).members == {**dict.fromkeys(["a1", "a2", "a3", "a4", "a5"], 1),
                                                     "b1": 3, "b2": 2, "c1": 5}  # fmt: skip


def test_names_keep_the_class_and_cannot_clash() -> None:
    cells = ["a_1", "a_1001", "a_1002", "b", "c_01"]
    found = predicted_names(cells, dict.fromkeys(cells, 2))
    assert found["a_1"] == ["a_0001001", "a_0001002"]
    every = [*cells, *(name for names in found.values() for name in names)]
    assert len({name.casefold() for name in every}) == len(every)
    assert all(class_of(new) == class_of(name) for name, names in found.items() for new in names)
    with pytest.raises(InputError, match="rename a_"):
        predicted_names(["a_1", "a_01"], {"a_1": 1, "a_01": 1})


def test_folder_is_read_back_balanced_and_its_copies_stay_together(dataset, cells, tmp_path, capsys) -> None:
    out = tmp_path / "balanced"
    assert main(["augment", str(dataset), "--out", str(out), "--balance", "--quality", "fast"]) == 0
    assert "spiky: 4 cells, 2 of them real" in capsys.readouterr().out
    found = read_dataset(out, need_objects=True)
    kinds = pd.Series([class_of(one.name) for one in found]).value_counts()
    assert kinds.to_dict() == {"disc": 4, "spiky": 4}
    table = pd.read_csv(out / "cells.csv", dtype={"name": str}).set_index("name")
    assert sorted(table.index) == [one.name for one in found]
    by_name = {one.name: one for one in cells}
    for one in found:
        row = table.loc[one.name]
        real = by_name[row["cell"]]
        assert one.fingerprint == real.fingerprint
        assert (one.shape_fingerprint == real.shape_fingerprint) == (row["kind"] == "real")
        assert one.predicted == (row["kind"] == "predicted")
    drawn = table[table["kind"] == "predicted"]
    assert set(drawn["model_hash"]) == {nd.load_model("red-blood-cell").hash}
    assert set(drawn["seed"]) == {0} and not drawn["trained_on"].any()
    assert sorted(map(len, copies(found))) == [1, 1, 1, 1, 2, 2]
    for one in split_cells(found, 0.4, seed=3):
        names = {one.name for one in one}
        for group in copies(found):
            assert len({found[index].name in names for index in group}) == 1
    assert nd.InputError is InputError
    with pytest.raises(InputError, match="already exists"):
        augment(cells, out, **QUICK)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "cells.csv").write_text("my notes")
    with pytest.raises(InputError, match=r"holds other files, such as cells\.csv: choose a new or an empty"):
        augment(cells, tmp_path / "other", **QUICK)


def test_an_interrupted_run_continues_to_the_same_folder(cells, tmp_path) -> None:
    whole, part = tmp_path / "whole", tmp_path / "part"
    found = augment(cells, whole, per_class=5, **QUICK)
    assert found["after"] == {"disc": 5, "spiky": 5}
    events = iter_augment(cells, part, per_class=5, **QUICK)
    while not isinstance(next(events), Augmented):
        pass
    events.close()
    assert not (part / "train").exists()
    with pytest.raises(InputError, match="a run with other cells or settings"):
        augment(cells, part, per_class=4, **QUICK)
    steps = []
    augment(cells, part, per_class=5, progress=steps.append, **QUICK)
    again = [event for event in steps if isinstance(event, Step)]
    assert len(again) == 2  # of the two cells whose shapes were not written yet
    for one, other in zip(read_dataset(whole, need_objects=True), read_dataset(part, need_objects=True),
                          strict=True):  # fmt: skip
        assert one.name == other.name
        assert np.array_equal(one.obj, other.obj)
    assert (whole / "cells.csv").read_bytes() == (part / "cells.csv").read_bytes()


def test_a_model_trained_on_these_cells_is_a_warning(cells, tmp_path) -> None:
    model = nd.load_model("red-blood-cell")
    training = {**model.card.training, "fingerprints": [one.fingerprint for one in cells]}
    own = type(model)(model.network, model.process, model.card.model_copy(update={"training": training}))
    found = augment(cells, tmp_path, **{**QUICK, "model": own})
    assert "was trained on 2 of the 2 cells" in found["warnings"][0]
    table = pd.read_csv(tmp_path / "cells.csv")
    assert table.loc[table["kind"] == "predicted", "trained_on"].all()


def test_one_class_is_bad_input(cells, tmp_path) -> None:
    with pytest.raises(InputError, match="of one class"):
        augment(cells[:4], tmp_path, **QUICK)
