"""Intervals hold the truth as often as they say, where cells are alike, and only there."""

import numpy as np
import pytest

from napari_dispr.errors import InputError
from napari_dispr.shapes.intervals import (
    CALIBRATED,
    Calibration,
    calibrate,
    calibrate_planes,
    read_interval,
)
from napari_dispr.shapes.measures import HEADLINE


def simulated(rng, cells, members=5, shift=0.0, shown=1.0):
    """Members and truth of a volume: what the picture leaves open differs between cells.

    ``shown`` is the share of a cell's uncertainty that its members show.
    """
    centre = rng.normal(5, 0.5, cells)
    open_ = rng.choice([0.05, 0.3], cells)
    truth = np.exp(centre + shift + open_ * rng.standard_normal(cells))
    drawn = np.exp(centre[:, None] + shown * open_[:, None] * rng.standard_normal((cells, members)))
    return [{"volume": row} for row in drawn], [{"volume": float(value)} for value in truth]


def coverage(rng, level, trials=15, members=5, drawn=None, **changes):
    hits = []
    for _ in range(trials):
        fitted = calibrate(*simulated(rng, 60, members, shown=changes.get("shown", 1.0)))["volume"]
        for values, truth in zip(*simulated(rng, 50, drawn or members, **changes), strict=True):
            low, high = read_interval(values["volume"], fitted, level)
            hits.append(low <= truth["volume"] <= high)
    return np.mean(hits)


@pytest.mark.parametrize("level", [0.5, 0.8, 0.9])
@pytest.mark.parametrize("members", [1, 2, 5])
def test_intervals_hold_the_truth_as_often_as_they_say(level, members):
    found = coverage(np.random.default_rng(0), level, members=members)
    # 15 calibrations of 60 cells: the coverage of each has a standard deviation of sqrt(p (1 - p) / 60).
    limit = 4 * np.sqrt(level * (1 - level) * (1 / 60 + 1 / 50) / 15)
    assert level - limit < found < level + 2 / 61 + limit


@pytest.mark.parametrize("shown", [0.2, 1.0, 3.0])
def test_members_that_are_too_sure_or_too_unsure_are_put_right(shown):
    assert coverage(np.random.default_rng(1), 0.9, shown=shown) == pytest.approx(0.91, abs=0.05)


def test_cells_unlike_those_of_the_calibration_are_missed():
    assert coverage(np.random.default_rng(2), 0.9, shift=0.5) < 0.7


@pytest.mark.parametrize("drawn", [1, 2, 20])
def test_another_number_of_members_than_in_the_calibration(drawn):
    assert coverage(np.random.default_rng(3), 0.9, drawn=drawn) > 0.87


def test_intervals_are_wide_where_members_differ():
    fitted = calibrate(*simulated(np.random.default_rng(4), 200))["volume"]
    sure, unsure = (read_interval([100 - d, 100, 100 + d], fitted) for d in (2, 30))
    assert np.log(sure[1] / sure[0]) < 0.7 * np.log(unsure[1] / unsure[0])
    assert sure[0] < 100 < sure[1]


def test_an_estimate_is_in_the_middle_of_its_interval_even_if_a_model_is_off_to_one_side():
    rng = np.random.default_rng(5)
    members = [{"volume": 1.5 * value["volume"]} for value in simulated(rng, 300)[0]]
    truths = [{"volume": float(value["volume"].mean() / 1.5)} for value in members]
    ends = read_interval([150.0] * 5, calibrate(members, truths)["volume"])
    np.testing.assert_allclose(ends, (100, 225), rtol=0.01)


def test_units_do_not_matter():
    members, truths = simulated(np.random.default_rng(6), 40)
    small = calibrate([{"volume": m["volume"] * 1e-3} for m in members],
                      [{"volume": t["volume"] * 1e-3} for t in truths])  # fmt: skip
    large = calibrate(members, truths)
    np.testing.assert_allclose(small["volume"].scores, large["volume"].scores, rtol=1e-3, atol=1e-4)
    a = read_interval([1.0, 2.0, 3.0], large["volume"])
    b = read_interval([1000.0, 2000.0, 3000.0], large["volume"])
    np.testing.assert_allclose(np.array(b), 1000 * np.array(a))


def test_ends_are_the_scores_of_the_finite_sample():
    # 19 cells at 90 %: the smallest and the largest score, and no level beyond.
    fitted = Calibration(scores=tuple(np.arange(-9.0, 10)), floor=0.1, sd=0.0, members=1)
    low, high = read_interval([10.0], fitted, 0.9)
    np.testing.assert_allclose([low, high], 10 * np.exp([-0.9, 0.9]))
    low, high = read_interval([10.0], fitted, 0.5)
    np.testing.assert_allclose([low, high], 10 * np.exp([-0.5, 0.5]))
    with pytest.raises(InputError, match="39 cells"):
        read_interval([10.0], fitted, 0.95)


def test_empty_members():
    fitted = calibrate(*simulated(np.random.default_rng(7), 40))["volume"]
    assert np.isnan(read_interval([0.0, 0.0], fitted)).all()
    assert np.isnan(read_interval([np.nan], fitted)).all()
    low, high = read_interval([0.0, 100.0, 100.0, 100.0, 100.0], fitted)
    assert 0 < low < 80 < high < np.inf


def test_a_perfect_model():
    members = [{"volume": np.full(5, value)} for value in np.linspace(10, 20, 30)]
    fitted = calibrate(members, [{"volume": float(m["volume"][0])} for m in members])["volume"]
    np.testing.assert_allclose(read_interval([12.0] * 5, fitted), 12)


def test_measures_that_can_be_calibrated_are_in_the_table():
    assert set(CALIBRATED) == set(HEADLINE) - {"curvature"}


def test_a_calibration_survives_json():
    fitted = calibrate(*simulated(np.random.default_rng(8), 108))["volume"]
    text = fitted.model_dump_json()
    assert Calibration.model_validate_json(text) == fitted and len(text) < 2000


def test_too_few_cells():
    members, truths = simulated(np.random.default_rng(9), 40)
    with pytest.raises(InputError, match="at least 19"):
        calibrate(members[:18], truths[:18])


@pytest.mark.parametrize("cells", [5, 8, 15])
@pytest.mark.parametrize("level", [0.5, 0.9])
def test_few_cells_give_wider_intervals_that_hold_the_truth_as_often(cells, level):
    rng = np.random.default_rng(7)
    hits = []
    for _ in range(200):
        estimates = [{"volume": np.full(5, 100.0)} for _ in range(cells + 5)]
        truths = [{"volume": float(np.exp(4.6 + 0.2 * rng.standard_normal()))} for _ in estimates]
        fitted = calibrate(estimates[:cells], truths[:cells], few=True)["volume"]
        assert fitted.cells == cells
        low, high = read_interval(estimates[0]["volume"], fitted, level)
        hits += [low <= truth["volume"] <= high for truth in truths[cells:]]
    assert np.mean(hits) == pytest.approx(level, abs=0.05)


def test_too_few_cells_for_any_interval():
    estimates, truths = simulated(np.random.default_rng(8), 4)
    with pytest.raises(InputError, match="give at least 5"):
        calibrate(estimates, truths, few=True)


def test_cells_with_more_planes_get_narrower_intervals_that_hold_the_truth():
    rng = np.random.default_rng(5)

    def cells(count):
        gaps = rng.uniform(0.5, 8, count)
        error = 0.03 * gaps * rng.standard_normal(count)
        members = [{"volume": 100 * np.exp(0.01 * gap * rng.standard_normal(5))} for gap in gaps]
        return gaps, members, [{"volume": float(100 * np.exp(one))} for one in error]

    fitted = calibrate_planes(*cells(240))
    assert len(fitted) == 4 and [one.gap for one in fitted] == sorted(one.gap for one in fitted)
    hits, widths = np.zeros((2, 4)), [[] for _ in fitted]
    for gap, members, truth in zip(*cells(800), strict=True):
        which = next((i for i, one in enumerate(fitted) if gap <= one.gap), None)
        if which is not None:
            low, high = read_interval(members["volume"], fitted[which].measures["volume"])
            hits[:, which] += low <= truth["volume"] <= high, 1
            widths[which].append(np.log(high / low))
    assert (np.abs(hits[0] / hits[1] - 0.9) < 0.09).all()
    assert (np.diff([np.median(one) for one in widths]) > 0).all()
    assert len(calibrate_planes(*cells(30))) == 1
