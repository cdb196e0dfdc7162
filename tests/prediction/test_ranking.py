"""Ranking cells for 3D imaging: known spreads and calibrated intervals."""

import numpy as np
import pandas as pd
import pytest
from support.geometry import ball

from napari_dispr.card import Calibration
from napari_dispr.commands.cli import main
from napari_dispr.errors import InputError
from napari_dispr.prediction.notes import Note
from napari_dispr.prediction.ranking import expected_error, next_planes, rank_cells
from napari_dispr.prediction.result import Prediction
from napari_dispr.prediction.tables import measure, measure_cells
from napari_dispr.shapes.ensemble import Ensemble


def ensemble(label: int, *radii: float) -> Ensemble:
    return Ensemble(label, np.stack([ball(radius) for radius in radii]), np.eye(4))


@pytest.fixture(scope="module")
def prediction() -> Prediction:
    cells = [ensemble(1, 20, 20), ensemble(2, 10, 14), ensemble(3, 22, 24)]
    return Prediction(
        {one.label: one for one in cells}, notes=(Note("unlike", 1, "its picture looks blurred"),)
    )


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


@pytest.mark.parametrize("ranked", [rank_cells, next_planes])
def test_no_cells(ranked) -> None:
    with pytest.raises(InputError, match="holds no cell"):
        ranked(Prediction({}))


def test_wrong_measures_and_single_members(prediction) -> None:
    with pytest.raises(InputError, match="no measure 'weight'"):
        rank_cells(prediction, "weight")
    with pytest.raises(InputError, match="two members"):
        rank_cells(Prediction({1: ensemble(1, 20)}))


def test_measures_of_another_table(prediction) -> None:
    with pytest.raises(InputError, match="no column 'volume'"):
        rank_cells(prediction, measures=measure(prediction, set="shapr"))
    whole = measure(prediction)
    for other in (whole[1:], whole.assign(label=whole["label"] + 1), pd.concat([whole, whole[:1]])):
        for use in (rank_cells, measure_cells):
            with pytest.raises(InputError, match="of other cells or members"):
                use(prediction, measures=other)


def test_rank_command(prediction, tmp_path, capsys) -> None:
    prediction.save(tmp_path / "saved")
    assert main(["rank", str(tmp_path / "saved"), "--out", str(tmp_path / "ranking.csv")]) == 0
    said = capsys.readouterr()
    assert "unlike the training data" in said.err and "3 cells" in said.out
    assert list(pd.read_csv(tmp_path / "ranking.csv")["label"]) == [2, 3, 1]
    assert main(["rank", str(tmp_path / "saved"), "--out", "x.csv", "--planes", "--absolute"]) == 2
    assert "leave out --measure and --absolute" in capsys.readouterr().err
