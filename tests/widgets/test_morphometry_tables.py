"""What the tables and plots of morphometry hold, and what the filter lets through; no window."""

import io
from functools import cache

import numpy as np
import pandas as pd
import pytest
from support.predictions import CALIBRATION, ball, prediction_of

from napari_dispr.errors import InputError
from napari_dispr.prediction.notes import Note
from napari_dispr.prediction.ranking import rank_cells
from napari_dispr.prediction.result import Prediction
from napari_dispr.prediction.tables import measure, measure_cells
from napari_dispr.shapes.label_volumes import measure_labels
from napari_dispr.widgets.morphometry.content import (
    NO_MEMBER,
    Measured,
    TableContent,
    cells_content,
    members_content,
)
from napari_dispr.widgets.morphometry.copying import tab_separated
from napari_dispr.widgets.morphometry.plot_content import (
    agreement_text,
    axis_label,
    histogram,
    nearest,
    scatter,
    strips,
)
from napari_dispr.widgets.morphometry.row_filter import matching, passing
from napari_dispr.widgets.morphometry.words import Words


@cache
def prediction() -> Prediction:
    cells = (
        ball(4, (50, 60), [20, 18, 17]),
        ball(9, (150, 60), [12, 14, 13]),
        ball(2, (90, 60), [10, 16, 11]),
    )
    return prediction_of(
        *cells,
        intervals={"volume": CALIBRATION},
        notes=(Note("unlike", 9, "its picture looks blurred"),),
        kept={4: 1, 2: "consensus"},
    )


@cache
def tables() -> tuple[pd.DataFrame, pd.DataFrame]:
    measures = measure(prediction())
    return measures, measure_cells(prediction(), measures)


@cache
def truth() -> Measured:
    """Real cells 4 and 7, of known volume."""
    labels = np.zeros((30, 30, 60), np.uint8)
    z, y, x = np.indices(labels.shape)
    for label, middle in ((4, 15), (7, 45)):
        labels[(z - 15) ** 2 + (y - 15) ** 2 + (x - middle) ** 2 < 12**2] = label
    return Measured("real cells", measure_labels(labels, (3.0, 3.0, 3.0), "micrometer"), {})


@cache
def both() -> tuple[TableContent, TableContent]:
    measures, cells = tables()
    return (
        cells_content(cells, "cells", truth()),
        members_content(measures, "cells", truth(), prediction().kept),
    )


def texts(content: TableContent, name: str) -> list[str]:
    return [content.columns[name].text(row) for row in range(len(content))]


def test_real_cells_stand_next_to_predicted_ones_of_their_label() -> None:
    cells, members = both()
    assert list(zip(texts(cells, "cell"), texts(cells, "source"), strict=True)) == [
        ("2", "cells"), ("4", "cells"), ("4", "real cells"), ("7", "real cells"), ("⚠ 9", "cells"),
    ]  # fmt: skip
    assert texts(members, "member") == ["1", "2", "3", "1", "2 ★", "3", "", "", "1", "2", "3"]
    real = truth().table.set_index("label")["volume"]
    np.testing.assert_allclose(cells.values("volume")[[2, 3]], real[[4, 7]])
    assert real[4] == pytest.approx(4 / 3 * np.pi * 36**3, rel=0.02)
    mean = tables()[1].set_index("label")["volume_mean"]
    np.testing.assert_allclose(cells.values("volume")[[0, 1, 4]], mean[[2, 4, 9]])
    assert "[" in texts(cells, "volume")[1] and "±" in texts(cells, "sphericity")[1]
    assert texts(cells, "ambiguity")[2] == "" == texts(cells, "kept")[2]


def test_ranked_cells_stand_next_to_real_ones_that_have_no_rank() -> None:
    measures, own = tables()
    for relative in (True, False):
        ranking = rank_cells(prediction(), relative=relative, measures=measures)
        pd.testing.assert_frame_equal(ranking, rank_cells(prediction(), relative=relative))
        content = cells_content(own, "cells", truth(), ranking)
        assert list(content.columns)[:4] == ["cell", "source", "rank", "expected_gain"]
        of_cell = dict(
            zip(content.cells[content.predicted], content.values("rank")[content.predicted], strict=True)
        )
        assert of_cell == dict(zip(ranking["label"], ranking["rank"], strict=True))
        assert texts(content, "rank")[2] == texts(content, "expected_gain")[2] == "", "a real cell is known"
        assert texts(content, "expected_gain")[0].endswith("%") == relative
        assert content.exported.attrs["columns"]["rank"] == ranking.attrs["columns"]["rank"]
    assert "rank" not in both()[0].columns and "rank" not in both()[0].frame


def test_the_window_counts_members_from_1_and_files_from_0() -> None:
    cells, members = both()
    assert texts(cells, "kept") == ["consensus", "member 2", "", "", ""]
    assert cells.exported["kept"].tolist() == ["consensus", "member 1", "", "", ""]
    assert members.frame["member"].dropna().tolist() == [1, 2, 3] * 3
    assert members.exported["member"].dropna().tolist() == [0, 1, 2] * 3
    assert members.exported["shape"].tolist()[:3] == ["member 1", "member 2", "member 3"]
    for content in (cells, members):
        assert set(content.exported.columns) <= content.exported.attrs["columns"].keys()


def test_filed_members_are_the_table_of_the_prediction() -> None:
    content = members_content(tables()[0], "cells")
    expected = tables()[0].sort_values("label", kind="stable").reset_index(drop=True)
    pd.testing.assert_frame_equal(
        content.exported[expected.columns], expected, check_dtype=False, check_exact=True, check_like=False
    )
    assert content.exported.attrs["columns"].items() >= tables()[0].attrs["columns"].items()
    assert "source" not in content.columns, "one source needs no column"


def test_nothing_is_a_table_too() -> None:
    for content in (cells_content(None), members_content(None)):
        assert len(content) == 0 and content.measures == []
        assert not content.rows_of(3).any()
    alone = cells_content(None, "", truth())
    assert texts(alone, "cell") == ["4", "7"] and alone.measures[0] == "volume"


def test_copied_tables_are_read_back_as_they_are() -> None:
    for content in both():
        read = pd.read_csv(io.StringIO(tab_separated(content.frame)), sep="\t")
        assert list(read) == list(content.frame)
        for name, column in content.frame.items():
            if pd.api.types.is_numeric_dtype(column):
                expected = column.to_numpy(float, na_value=np.nan)
                np.testing.assert_array_equal(read[name].to_numpy(float), expected)
            else:
                assert read[name].fillna("").tolist() == column.tolist()


def test_rows_of_a_cell_are_the_predicted_ones() -> None:
    cells, members = both()
    assert np.flatnonzero(cells.rows_of(4)).tolist() == [1]
    assert np.flatnonzero(cells.rows_of(7)).tolist() == [3], "real only"
    assert np.flatnonzero(members.rows_of(4, 2)).tolist() == [5]
    assert not cells.rows_of(None).any()


# --- filter -----------------------------------------------------------------------------------------

COLUMNS = {
    "label": np.array([1.0, 2.0, 12.0, 30.0]),
    "volume": np.array([70.0, 80.0, 90.5, np.nan]),
    "surface_area": np.array([5.0, 6.0, 7.0, 8.0]),
    "area": np.array([0.0, 0.0, 1.0, 1.0]),
    "warning": Words.of(["", "its picture looks blurred", "Too LARGE", ""]),
}


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("", [0, 1, 2, 3]),
        ("volume > 80", [2]),
        ("volume>=80", [1, 2]),
        ("volume ≥ 80 volume<90", [1]),
        ("surface area > 5, area = 0", [1]),
        ("Surface_Area <= 6 and volume < 75", [0]),
        ("area != 1", [0, 1]),
        ("volume != 70", [1, 2]),
        ("large", [2]),
        ("LOOKS blur", [1]),
        ('"looks blurred"', [1]),
        ('"blurred looks"', []),
        ("12", [2]),
        ("2", [1]),
        ("large volume > 80", [2]),
        ('warning = ""', [0, 3]),
        ('warning != "too large" volume > 0', [0, 1]),
        ("volume < 1e2", [0, 1, 2]),
        ("volume > -1", [0, 1, 2]),
    ],
)
def test_filter(text: str, rows: list[int]) -> None:
    assert np.flatnonzero(matching(text, COLUMNS, 4)).tolist() == rows


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("volum > 80", 'There is no column "volum": did you mean volume?'),
        ("surface aera > 80", "did you mean"),
        ("xyz > 80", "write volume > 80"),
        ("volume >", '"volume >" a value is missing'),
        ("volume > large", 'takes a number, not "large"'),
        ("> 80", "name of a column is missing"),
        ("warning > 3", "is a text column"),
        ("volume > > 80", "a value is missing"),
    ],
)
def test_a_wrong_filter_says_what_is_wrong(text: str, hint: str) -> None:
    with pytest.raises(InputError) as error:
        matching(text, COLUMNS, 4)
    assert hint in str(error.value)


def test_a_filter_of_cells_is_one_of_their_members_too() -> None:
    cells, members = both()
    limit = tables()[1].set_index("label")["volume_mean"][9]
    rows, others = passing(f"volume > {limit}", cells, members)
    assert set(cells.cells[rows]) == {4, 7, 2} - ({2} if cells.values("volume")[0] <= limit else set())
    assert set(members.cells[others]) == set(cells.cells[rows])
    # A column that only the other table has; real cells stay next to the predicted ones.
    rows, others = passing("modes = 1", members, cells)
    assert set(members.cells[rows]) == set(cells.cells[others]) >= {4, 9}
    assert np.count_nonzero(others & ~cells.predicted) == 1, "cell 4, which was predicted"
    rows, others = passing('source = "real cells"', cells, members)
    assert not cells.predicted[rows].any() and rows.any()
    assert not members.predicted[others].any() and others.any(), "the plot shows no cell that is filtered out"
    found = strips(cells, members, np.flatnonzero(rows), np.flatnonzero(others), "volume", {})
    assert len(found.real) == 2 and not len(found.members) and np.isnan(found.means).all()
    with pytest.raises(InputError, match="no column"):
        passing("nothing > 3", members, cells)


# --- plots ------------------------------------------------------------------------------------------


def test_strips_follow_the_order_of_the_table() -> None:
    cells, members = both()
    order = np.array([4, 1, 2, 3])  # 9, 4, and the real 4 and 7
    found = strips(cells, members, order, np.arange(len(members)), "volume", {4: 1})
    assert found.labels == [9, 4, 7]
    measures, summary = tables()
    own = measures[measures["label"] == 4]
    np.testing.assert_allclose(found.members.y[found.members.cells == 4], own["volume"])
    assert set(np.rint(found.members.x[found.members.cells == 9])) == {0}
    assert len(set(found.members.x[found.members.cells == 4])) == 3, "side by side"
    assert (found.kept.cells.tolist(), found.kept.members.tolist()) == ([4], [1])
    assert found.real.cells.tolist() == [4, 7] and found.real.x.tolist() == [1, 2]
    row = summary.set_index("label").loc[4]
    assert (found.means[1], found.low[1], found.high[1]) == (
        row["volume_mean"],
        row["volume_low"],
        row["volume_high"],
    )
    assert np.isnan(found.means[2]) and found.bar == "90% interval"
    spread = strips(cells, members, order, np.arange(len(members)), "sphericity", {})
    assert spread.bar == "± sd"
    assert spread.high[1] - spread.low[1] == pytest.approx(2 * row["sphericity_sd"])


def test_histogram_counts_every_row_once() -> None:
    _, members = both()
    found = histogram(members, np.arange(len(members)), "volume")
    assert (found.predicted.sum(), found.real.sum()) == (9, 2)
    values = members.values("volume")
    inside = (values[members.predicted] >= found.edges[0]) & (values[members.predicted] < found.edges[1])
    assert found.predicted[0] == np.count_nonzero(inside)
    empty = histogram(members, np.zeros(0, int), "volume")
    assert not empty.predicted.any() and not len(empty.points)


def test_scatter_and_the_nearest_point() -> None:
    cells, members = both()
    ours, real = scatter(cells, np.arange(len(cells)), "volume", "sphericity")
    assert (ours.cells.tolist(), real.cells.tolist()) == ([2, 4, 9], [4, 7])
    np.testing.assert_array_equal(ours.x, cells.values("volume")[cells.predicted])
    x, y = ours.x[1], ours.y[1]
    assert nearest([ours, real], x, y, (1.0, 1.0)) == (4, NO_MEMBER, 0.0)
    assert nearest([], x, y, (1.0, 1.0)) is None
    assert ours.of(4).tolist() == [False, True, False] and ours.of(4, 2).tolist() == [False, True, False]
    points, _ = scatter(members, np.arange(len(members)), "volume", "volume")
    assert points.of(9, 1).sum() == 1


def test_axes_have_units() -> None:
    cells, members = both()
    assert axis_label(cells, "volume") == "volume (µm³)" == axis_label(members, "volume")
    assert axis_label(cells, "sphericity") == "sphericity"
    assert axis_label(members, "gaussian_curvature_sd") == "gaussian curvature sd (µm⁻²)"


def test_estimates_and_the_truth_in_words() -> None:
    cells, _ = both()
    error = cells.values("volume")[1] / cells.values("volume")[2] - 1
    words = agreement_text(cells, "volume")
    assert f"{abs(error):.1%}" in words and f"{error:+.1%}" in words and "1 cell " in words
    assert "of 1 real values in the 90% interval" in words
    assert "interval" not in agreement_text(cells, "sphericity")
    assert agreement_text(cells_content(tables()[1]), "volume") == ""
