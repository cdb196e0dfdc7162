"""Statistics, bootstrap intervals and paired tests against answers worked out by hand; tables and figures."""

import tracemalloc

import numpy as np
import pytest
from matplotlib.image import imread

from napari_dispr.evaluation import summary
from napari_dispr.evaluation.report import number, table, write_report
from napari_dispr.evaluation.rows import columns_of
from napari_dispr.evaluation.summary import (
    bootstrap_intervals,
    holm,
    paired_tests,
    statistics,
    summary_of,
    wilcoxon,
)


def test_intervals_resample_cells_not_members():
    rng = np.random.default_rng(0)
    cells = rng.normal(size=40)
    once, often = (bootstrap_intervals(np.repeat(cells[:, None], times, axis=1)) for times in (1, 50))
    for name, ends in once.items():  # fifty equal members count as one
        assert often[name] == pytest.approx(ends)
    low, high = once["mean_interval"]
    assert high - low == pytest.approx(2 * 1.96 * cells.std() / np.sqrt(40), rel=0.1)
    assert bootstrap_intervals([[1.0, 2.0]]) == {"median_interval": None, "mean_interval": None}
    holed = bootstrap_intervals([[1.0, np.nan], [3.0, 5.0], [np.nan, np.nan]])
    assert holed["mean_interval"] == [1, 4]
    assert statistics([1, np.nan, 4])["mean"] == 2.5 and statistics([np.nan])["mean"] is None


def test_intervals_of_thousands_of_cells_take_little_memory(monkeypatch):
    values = np.random.default_rng(1).lognormal(size=(2000, 5))
    tracemalloc.start()
    found = bootstrap_intervals(values)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6
    monkeypatch.setattr(summary, "_AT_ONCE", 10**9)
    assert bootstrap_intervals(values) == found


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.5]) == pytest.approx([0.04, 0.09, 0.09, 0.5])
    assert holm([0.6, 0.7]) == [1, 1] and np.isnan(holm([np.nan, 0.02])[0])
    assert holm([np.nan, 0.02])[1] == 0.02


def test_paired_tests_of_the_cells_that_both_have():
    cells = {f"c{i}": float(i) for i in range(12)}
    values = {
        "ours": {"error": {name: value + 0.5 for name, value in cells.items()}},
        "theirs": {"error": {**{name: value + 1 for name, value in cells.items()}, "more": 0.0}},
        "same": {"error": {name: value + 0.5 for name, value in cells.items()} | {"c3": np.inf}},
    }
    worse, same = paired_tests(values, [("ours", "theirs"), ("ours", "same")], ["error"])
    assert worse["n"] == 12 and worse["mean"] == worse["median"] == -0.5
    assert worse["mean_interval"] == worse["median_interval"] == [-0.5, -0.5]
    # The least that twelve signs can have, twice, as two tests were made.
    assert worse["wilcoxon_p"] == pytest.approx(2 / 2**12) and worse["holm_p"] == pytest.approx(4 / 2**12)
    assert same["n"] == 11 and same["wilcoxon_p"] == 1 and not same["decided"]
    assert np.isnan(wilcoxon(np.array([])))


def test_differences_are_seeded_and_change_sign_with_the_order():
    drawn = np.random.default_rng(3).normal(size=(2, 40))
    values = {
        name: {"error": {f"c{i}": float(value) for i, value in enumerate(row)}}
        for name, row in zip("ab", drawn, strict=True)
    }
    (one,), (again,), (other,) = (paired_tests(values, [("a", "b")], ["error"], seed) for seed in (7, 7, 8))
    assert one == again and one["mean_interval"] != other["mean_interval"]
    (back,) = paired_tests(values, [("b", "a")], ["error"], 7)
    assert back["mean"] == -one["mean"]
    assert back["mean_interval"] == pytest.approx([-end for end in reversed(one["mean_interval"])])


def test_interval_is_as_wide_as_theory_says():
    apart = np.random.default_rng(4).normal(0.1, 1, 400)
    low, high = bootstrap_intervals(apart, resamples=10_000)["mean_interval"]
    assert (high - low) / 2 == pytest.approx(1.96 * apart.std() / 20, rel=0.05)


def test_nothing_in_common_is_no_difference():
    (test,) = paired_tests({"a": {"e": {"c": 1.0}}, "b": {"e": {"d": 1.0}}}, [("a", "b")], ["e"])
    assert test["n"] == 0 and test["mean"] is None and not test["decided"]


def test_tables_line_up():
    lines = table(["method", "n"], [["a", "1"], ["a|longer one", "22"]]).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[1] == "| :------------ | --: |" and lines[3] == r"| a\|longer one |  22 |"
    assert number(float("nan")) == number(None) == "–"
    assert number(0.12345) == "0.123" and number(0.5, sign=True) == "+0.500"


def rows_of(method, error):
    """Rows of three cells with two members, all with the same numbers."""
    found = []
    for kind, count in (("errors", 2), ("cells", 1)):
        numbers = dict.fromkeys(columns_of("ours")[kind], error)
        found.append(
            [
                {**numbers, "cell": f"c{i}", "method": method, "trained_on": 0, "failed": "", "members": 2}
                for i in range(3)
                for _ in range(count)
            ]
        )
    return found


def test_a_model_with_several_numbers_of_steps_gets_a_figure(tmp_path):
    errors, cells = [], []
    for name, error in (("m 1", 0.3), ("m 4", 0.2), ("fit", 0.5)):
        of_members, of_cells = rows_of(name, error)
        errors += of_members
        cells += of_cells
    settings = {"software": "s", "cells": 3, "members": 2, "seed": 0, "unit": "voxel"}
    summary = summary_of(errors, cells, settings, "ours")
    write_report(tmp_path, errors, summary)
    assert not (tmp_path / "steps.png").exists()
    for name, steps in (("m 1", 1), ("m 4", 4)):
        summary["methods"][name]["provenance"] = {
            "model": "m", "model_hash": "h", "sampler": "euler", "steps": steps,
        }  # fmt: skip
    write_report(tmp_path, errors, summary)
    assert "(steps.png)" in (tmp_path / "table.md").read_text("utf-8")
    page = imread(tmp_path / "steps.png")
    assert min(page.shape[:2]) > 800 and page[..., :3].min() < 0.5
