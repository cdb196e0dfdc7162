"""Ranking cells for 3D imaging: known spreads, calibrated intervals, and worths that can be told by hand."""

import shutil

import numpy as np
import pandas as pd
import pytest
import tifffile

from napari_dispr import grid
from napari_dispr.card import Calibration
from napari_dispr.cells.folders import CellFile, write_dataset
from napari_dispr.cells.folders import DatasetNotes as Notes
from napari_dispr.commands.cli import main
from napari_dispr.errors import InputError
from napari_dispr.prediction.ranking import expected_error, rank_cells, worth_of
from napari_dispr.prediction.result import Prediction
from napari_dispr.shapes.ensemble import Ensemble


def ball(radius: float) -> np.ndarray:
    z, y, x = np.indices(grid.SHAPE) - np.array([32.0, 31.5, 31.5]).reshape(3, 1, 1, 1)
    return (radius - np.sqrt(z**2 + y**2 + x**2)).astype(np.float32)


def ensemble(label: int, *radii: float) -> Ensemble:
    return Ensemble(label, np.stack([ball(radius) for radius in radii]), np.eye(4))


@pytest.fixture(scope="module")
def prediction() -> Prediction:
    cells = [ensemble(1, 20, 20), ensemble(2, 10, 14), ensemble(3, 22, 24)]
    return Prediction({one.label: one for one in cells}, unlike={1: "its picture looks blurred"})


def test_expected_error_by_hand() -> None:
    assert expected_error([1, 2, 6]) == pytest.approx((abs(1 - 4) + abs(2 - 3.5) + abs(6 - 1.5)) / 3)
    assert expected_error([3, 3, np.nan, 3]) == 0
    assert np.isnan(expected_error([3]))


def test_the_least_sure_comes_first(prediction) -> None:
    relative = rank_cells(prediction)
    assert list(relative["label"]) == [2, 3, 1]
    assert list(relative["rank"]) == [1, 2, 3]
    volumes = 4 / 3 * np.pi * np.array([10, 14]) ** 3
    first = relative.iloc[0]
    assert first["estimate"] == pytest.approx(volumes.mean(), rel=0.01)
    assert first["expected_error"] == pytest.approx(np.ptp(volumes), rel=0.01)
    assert first["expected_gain"] == pytest.approx(np.ptp(volumes) / volumes.mean(), rel=0.01)
    assert list(relative["warning"]) == ["", "", "its picture looks blurred"]
    # In voxels the larger cell has more to gain.
    assert list(rank_cells(prediction, relative=False)["label"]) == [3, 2, 1]


def test_calibrated_intervals_rank_where_there_are_some(prediction) -> None:
    scores = tuple(np.linspace(-2, 2, 39))
    own = {"volume": Calibration(scores=scores, floor=0.1, sd=0.2, members=2)}
    table = rank_cells(Prediction(prediction.ensembles, intervals=own))
    assert list(table["label"]) == [2, 3, 1]
    half = (table["high"] - table["low"]) / 2 / table["estimate"]
    assert np.allclose(table["expected_gain"], half)


def test_wrong_measures_and_single_members(prediction) -> None:
    with pytest.raises(InputError, match="no measure 'weight'"):
        rank_cells(prediction, "weight")
    with pytest.raises(InputError, match="two members"):
        rank_cells(Prediction({1: ensemble(1, 20)}))


def test_worth_of_known_errors() -> None:
    errors = np.arange(1.0, 11.0)
    told = worth_of(errors, errors**2, shares=(0.1, 0.2, 0.5))
    assert told["error"] == 5.5
    assert told["correlation"] == pytest.approx(1)
    left = {share: (45, 36, 15)[place] / 10 for place, share in enumerate(("0.1", "0.2", "0.5"))}
    for share, one in told["shares"].items():
        assert one["ranked"] == one["best"] == pytest.approx(left[share])
        assert one["random"] == pytest.approx(5.5 * (1 - float(share)))
        assert one["random_interval"][0] < one["random"] < one["random_interval"][1]
    assert told["shares"]["0.5"]["p"] < 0.02
    worst = worth_of(errors, -errors)
    assert worst["shares"]["0.5"]["ranked"] == pytest.approx(4)
    assert worst["shares"]["0.5"]["p"] == 1
    # Gains that say nothing are as good as chance would be: ties stand in the order of the cells.
    assert np.isnan(worth_of(errors, np.ones(10))["correlation"])


def test_worth_of_an_evaluation(tmp_path, capsys) -> None:
    truths = {"a_1": 16.0, "a_2": 16.0, "a_3": 18.0, "a_4": 20.0, "a_5": 22.0}
    drawn = {"a_1": (16, 16), "a_2": (18, 22), "a_3": (18, 18), "a_4": (20, 20), "a_5": (22, 22)}
    cells = []
    for name, radius in truths.items():
        obj = np.rint(255 * np.clip(ball(radius) + 0.5, 0, 1)).astype(np.uint8)
        mask = obj[32].astype(np.float32) / 255
        cells.append(CellFile(name, mask, mask * np.linspace(0.3, 1, 64, dtype=np.float32), obj))
    write_dataset(tmp_path / "cells", cells, Notes())
    place = tmp_path / "evaluation" / "shapes" / "model"
    place.mkdir(parents=True)
    (place.parent / "fit").mkdir()
    for name, radii in drawn.items():
        members = np.stack([ball(radius) > 0 for radius in radii]).astype(np.uint8)
        tifffile.imwrite(place / f"{name}.tif", members)
        tifffile.imwrite(place.parent / "fit" / f"{name}.tif", members[:1])
    shutil.copytree(place, place.parent / "knowing")
    methods = ("model", "knowing", "fit")
    known = [f"{name},{method},{int(method == 'knowing')}" for name in drawn for method in methods]
    (tmp_path / "evaluation" / "cells.csv").write_text("\n".join(["cell,method,trained_on", *known, ""]))
    command = ["rank", str(tmp_path / "cells"), "--worth", str(tmp_path / "evaluation")]
    assert main([*command, "--out", str(tmp_path / "worth")]) == 0
    assert "| model | 20 % (1 of 5) |" in capsys.readouterr().out
    table = pd.read_csv(tmp_path / "worth" / "worth.csv").set_index("cell")
    # A fit has no ensemble, and no order; what a method was trained on tells nothing.
    assert set(table["method"]) == {"model"}
    assert table["error"].drop("a_2").max() < 0.02
    assert table.loc["a_2", "error"] == pytest.approx((18**3 + 22**3) / 2 / 16**3 - 1, abs=0.02)
    assert table["expected_gain"].idxmax() == "a_2"
    assert (tmp_path / "worth" / "worth.png").stat().st_size > 1000
    shutil.copytree(place, place.parent / "before")
    assert main([*command, "--out", str(tmp_path / "worth")]) == 2
    assert "shapes of before" in (said := capsys.readouterr().err) and said.count("\n") == 1


def test_rank_command(prediction, tmp_path, capsys) -> None:
    prediction.save(tmp_path / "saved")
    assert main(["rank", str(tmp_path / "saved"), "--out", str(tmp_path / "ranking.csv")]) == 0
    said = capsys.readouterr()
    assert "unlike the training data" in said.err and "3 cells" in said.out
    assert list(pd.read_csv(tmp_path / "ranking.csv")["label"]) == [2, 3, 1]
