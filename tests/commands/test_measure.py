"""``napari-dispr measure``: what it reads, what it writes, and its messages for wrong input."""

import numpy as np
import pandas as pd
import pytest
import tifffile

from napari_dispr import grid
from napari_dispr.cells.folders import CellFile, DatasetNotes, write_dataset
from napari_dispr.commands.cli import main
from napari_dispr.prediction.result import Prediction
from napari_dispr.prediction.tables import measure
from napari_dispr.shapes import morphometry
from napari_dispr.shapes.ensemble import Ensemble
from napari_dispr.shapes.measures import MEASURES
from napari_dispr.shapes.morphometry import SETS
from napari_dispr.shapes.one_shape import measure_shape

DISTANCE = np.linalg.norm(np.indices(grid.SHAPE).transpose(1, 2, 3, 0) - [32, 31.5, 31.5], axis=-1)


@pytest.fixture(scope="module")
def prediction():
    frame = np.diag([0.1, 0.1, 0.1, 1])
    shapes = np.stack([radius - DISTANCE for radius in (14, 17)])
    return Prediction({4: Ensemble(4, shapes, frame, "micrometer")}, unit="micrometer")


def run(*arguments) -> int:
    return main(["measure", *map(str, arguments)])


def test_a_prediction_gives_its_own_table(prediction, tmp_path):
    prediction.save(tmp_path / "run")
    table = tmp_path / "table.csv"
    assert run(tmp_path / "run", "--out", table) == 0
    expected = pd.read_csv(tmp_path / "run" / "morphometry.csv")
    pd.testing.assert_frame_equal(pd.read_csv(table).drop(columns="file"), expected)
    assert run(tmp_path / "run" / "cells" / "4.npz", "--out", table) == 0
    pd.testing.assert_frame_equal(pd.read_csv(table).drop(columns="file"), expected)
    columns = pd.read_csv(tmp_path / "table.columns.csv").set_index("column")
    assert list(columns.index) == ["file", "label", "member", *MEASURES]
    assert columns.loc["volume", "unit"] == "micrometer^3"


def test_what_is_in_the_table_of_a_prediction_is_not_measured_again(prediction, tmp_path, monkeypatch):
    prediction.save(tmp_path / "run")
    counted = []
    monkeypatch.setattr(
        morphometry, "measure_shape", lambda *given: counted.append(1) or measure_shape(*given)
    )
    assert run(tmp_path / "run", "--out", tmp_path / "table.csv") == 0 and not counted
    whole = pd.read_csv(tmp_path / "table.csv")
    earlier = pd.read_csv(tmp_path / "run" / "morphometry.csv").drop(columns="roughness")
    earlier.to_csv(tmp_path / "run" / "morphometry.csv", index=False)
    assert run(tmp_path / "run", "--out", tmp_path / "table.csv") == 0 and len(counted) == 2
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "table.csv"), whole)


def test_members_of_an_ome_tiff_are_nearly_the_same(prediction, tmp_path):
    prediction.save(tmp_path / "run")
    assert run(tmp_path / "run" / "cells" / "4.ome.tif", "--out", tmp_path / "table.csv") == 0
    found, expected = pd.read_csv(tmp_path / "table.csv"), measure(prediction)
    assert found["label"].tolist() == [4, 4] and found["member"].tolist() == [0, 1]
    for name in ("volume", "surface_area", "sphericity", "curvature", "equivalent_diameter"):
        np.testing.assert_allclose(found[name], expected[name], rtol=0.01, err_msg=name)


def test_labels_with_their_own_spacing_or_a_given_one(tmp_path, capsys):
    z, y, x = np.indices((24, 50, 50)) * np.array([2, 1, 1]).reshape(3, 1, 1, 1)
    labels = np.where((z - 24) ** 2 + (y - 25) ** 2 + (x - 25) ** 2 < 20**2, 5, 0).astype(np.uint16)
    metadata = {"axes": "ZYX", "PhysicalSizeZ": 0.2, "PhysicalSizeY": 0.1, "PhysicalSizeX": 0.1}
    tifffile.imwrite(tmp_path / "a.ome.tif", labels, metadata=metadata)
    np.save(tmp_path / "b.npy", labels)
    table = tmp_path / "table.csv"
    assert run(tmp_path / "a.ome.tif", "--out", table) == 0
    found = pd.read_csv(table)
    assert found["label"].tolist() == [5]
    assert found["volume"][0] == pytest.approx(4 / 3 * np.pi * 2**3, rel=0.01)
    assert found["surface_area"][0] == pytest.approx(4 * np.pi * 2**2, rel=0.01)
    assert run(tmp_path / "b.npy", "--spacing", "200,100,100", "--unit", "nm", "--out", table) == 0
    again = pd.read_csv(table)
    np.testing.assert_allclose(again["volume"], found["volume"], rtol=1e-4)
    assert run(tmp_path / "b.npy", "--out", table) == 0
    assert "does not say how large its voxels are" in capsys.readouterr().err
    assert run(tmp_path / "a.ome.tif", tmp_path / "b.npy", "--out", table) == 2
    assert "b.npy is measured in pixel^3" in capsys.readouterr().err


@pytest.fixture
def dataset(tmp_path):
    cells = []
    for name, radius in (("one", 15), ("two", 20)):
        obj = np.rint(255 * np.clip(radius - DISTANCE + 0.5, 0, 1)).astype(np.uint8)
        mask = obj[grid.IMAGED_PLANE].astype(np.float32) / 255
        cells.append(CellFile(name, mask, mask * 0.6 + 0.1, obj))
    write_dataset(tmp_path / "cells", cells, DatasetNotes(voxel_size=0.2, unit="micrometer"))
    return tmp_path / "cells"


def test_a_dataset_has_its_planes_and_voxel_size(dataset, tmp_path):
    assert run(dataset, "--out", tmp_path / "table.csv") == 0
    found = pd.read_csv(tmp_path / "table.csv")
    assert found["name"].tolist() == ["one", "two"]
    np.testing.assert_allclose(found["equivalent_diameter"], [6, 8], rtol=0.01)
    np.testing.assert_allclose(found["mask_major_axis"], [6, 8], rtol=0.02)
    assert (found["picture_contrast"] > 0.4).all()
    columns = pd.read_csv(tmp_path / "table.columns.csv").set_index("column")
    assert columns.loc["mask_area", "unit"] == "micrometer^2" and set(columns.index) == set(found.columns)


def test_the_shapr_set(dataset, prediction, tmp_path):
    prediction.save(tmp_path / "run")
    table = tmp_path / "table.csv"
    assert run(dataset, tmp_path / "run", "--set", "shapr", "--out", table) == 0
    found = pd.read_csv(table)
    assert set(SETS["shapr"]) < set(found.columns) and len(found) == 4
    assert found["shapr_volume"][3] == (DISTANCE < 17).sum()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing.tif", "--out", "t.csv"], "There is no file or folder nothing.tif"),
        (["nothing.tif", "--out", "t.xlsx"], "name that ends in .csv"),
        (["nothing.tif", "--out", "t.csv", "--unit", "nm"], "--unit is the unit of --spacing"),
        (["nothing.tif", "--out", "t.csv", "--spacing", "1,2"], "give 3 numbers from 1e-09"),
        (["nothing.tif", "--out", "t.csv", "--set", "all"], "There is no set 'all'"),
        (["text.tif", "--out", "t.csv"], "text.tif cannot be read as TIFF"),
        (["empty.npy", "--out", "t.csv"], "empty.npy: The labels are empty"),
        (["labels.npy", "./labels.npy", "--out", "t.csv"], "is given twice"),
        (["flat.npy", "--out", "t.csv"], "flat.npy"),
        (["labels.npy", "--out", "t.csv", "--set", "shapr"], "the SHAPR set needs cells on the model grid"),
    ],
)
def test_bad_input_is_one_line(arguments, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.tif").write_text("no picture")
    np.save("empty.npy", np.zeros((4, 5, 6), int))
    np.save("flat.npy", np.ones((5, 6), int))
    np.save("labels.npy", np.ones((4, 5, 6), int))
    assert run(*arguments) == 2
    lines = capsys.readouterr().err.splitlines()
    assert words in lines[-1] and lines[-1].startswith("napari-dispr: ")
    assert not (tmp_path / "t.csv").exists()


def test_specks_are_named_and_impossible_spacings_refused(tmp_path, capsys):
    labels = np.zeros((12, 12, 12), np.uint8)
    labels[2, 2, 2], labels[6:10, 6:10, 6:10] = 3, 4
    np.save(tmp_path / "a.npy", labels)
    table = tmp_path / "table.csv"
    assert run(tmp_path / "a.npy", "--spacing", "2,1,1", "--out", table) == 0
    assert "Cell 3: too small" in capsys.readouterr().err
    np.testing.assert_allclose(pd.read_csv(table)["volume"], [2, 128], rtol=0.01)
    for spacing, words in (("500,0.1,0.1", "5000 times as long"), ("1e9,1e9,1e9", "sides from 0.0001")):
        assert run(tmp_path / "a.npy", "--spacing", spacing, "--out", table) == 2
        assert words in capsys.readouterr().err
