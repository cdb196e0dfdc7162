"""The tables of a prediction as the widget shows them."""

import numpy as np
import pytest
from pytestqt.qtbot import QtBot
from qtpy.QtCore import Qt

from napari_dispr import grid
from napari_dispr.card import Calibration
from napari_dispr.prediction.notes import Note
from napari_dispr.prediction.result import Prediction
from napari_dispr.prediction.tables import measure, measure_cells
from napari_dispr.shapes.ensemble import Ensemble
from napari_dispr.widgets.parts.wording import estimate
from napari_dispr.widgets.predict.table import MorphometryTable

DISTANCE = np.linalg.norm(np.indices(grid.SHAPE).transpose(1, 2, 3, 0) - 32.0, axis=-1)
CALIBRATION = Calibration(scores=tuple(np.linspace(-2.0, 2.0, 19).tolist()), floor=0.1, sd=0.05, members=2)


def prediction_of(**more) -> Prediction:
    cells = {}
    for label, radii in ((4, (20, 18)), (7, (10, 24))):
        distance = np.stack([radius - DISTANCE for radius in radii]).astype(np.float32)
        cells[label] = Ensemble(label, distance, np.eye(4))
    return Prediction(cells, **more)


def shown(qtbot: QtBot, prediction: Prediction) -> MorphometryTable:
    table = MorphometryTable()
    qtbot.addWidget(table)
    measures = measure(prediction)
    table.show_measures(measures, measure_cells(prediction, measures))
    return table


def column(table: MorphometryTable, place: int) -> list[str]:
    model = table.cells_view.model()
    return [model.index(row, place).data() for row in range(model.rowCount())]


def test_intervals_stand_where_the_model_has_them(qtbot: QtBot) -> None:
    prediction = prediction_of(intervals={"volume": CALIBRATION})
    table = shown(qtbot, prediction)
    rows = measure_cells(prediction)
    columns = [f"volume_{end}" for end in ("mean", "sd", "low", "high")]
    assert column(table, 1) == [estimate(*row) for row in rows[columns].to_numpy()]
    assert "[" in column(table, 1)[0] and "±" in column(table, 2)[0]
    assert "90% interval" in table.tabs.tabText(0)
    model = table.cells_view.model()
    tooltip = model.headerData(1, Qt.Orientation.Horizontal, Qt.ItemDataRole.ToolTipRole)
    assert "9 in 10" in tooltip and "space inside" in tooltip
    tooltip = model.headerData(2, Qt.Orientation.Horizontal, Qt.ItemDataRole.ToolTipRole)
    assert "standard deviation" in tooltip and "9 in 10" not in tooltip


def test_without_a_calibration_there_is_the_sd(qtbot: QtBot) -> None:
    table = shown(qtbot, prediction_of())
    assert table.tabs.tabText(0) == "Cells (mean ± sd)" and "±" in column(table, 1)[0]


def test_rows_are_sorted_by_number(qtbot: QtBot) -> None:
    table = shown(qtbot, prediction_of())
    table.members_view.sortByColumn(2, Qt.SortOrder.AscendingOrder)
    volumes = [float(table.members_view.model().index(row, 2).data()) for row in range(4)]
    assert volumes == sorted(volumes) and volumes[0] < 1e4 < volumes[1], "not by their first digits"


def test_ambiguity_and_modes(qtbot: QtBot) -> None:
    table = shown(qtbot, prediction_of())
    first, second = column(table, 7)
    assert float(first) == pytest.approx(1 - 0.9**3, abs=0.02)
    assert second.endswith(" (2)") and float(second.split()[0]) > 0.9


def test_unlike_cells_are_marked_and_the_tooltip_says_why(qtbot: QtBot) -> None:
    table = shown(qtbot, prediction_of(notes=(Note("unlike", 7, "its picture looks blurred"),)))
    assert column(table, 0) == ["4", "⚠ 7"]
    model = table.cells_view.model()
    tooltips = [model.index(row, 2).data(Qt.ItemDataRole.ToolTipRole) for row in range(2)]
    assert tooltips[0] is None and "blurred" in tooltips[1]
    table.cells_view.sortByColumn(0, Qt.SortOrder.DescendingOrder)
    assert column(table, 0) == ["⚠ 7", "4"], "sorted by label, marked or not"
    assert table.summary["warning"].tolist() == ["", "its picture looks blurred"]


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ((92.123, 4.28, 84.0, 103.47), "92 [84, 103]"),
        ((0.8591, 0.0123, 0.82, 0.9), "0.859 [0.820, 0.900]"),
        ((1234.5, 56.7, 1000.0, 1600.0), "1234 [1000, 1600]"),
        ((92.123, 4.28, np.nan, np.nan), "92.1 ± 4.3"),
        ((92.123, 4.28), "92.1 ± 4.3"),
        ((1234.5, 56.7), "1234 ± 57"),
        ((0.8591, 0.0123), "0.859 ± 0.012"),
        ((5.0, np.nan), "5"),
        ((5.0, np.nan, 4.0, 6.5), "5.0 [4.0, 6.5]"),
    ],
)
def test_estimates_in_words(numbers: tuple[float, ...], text: str) -> None:
    assert estimate(*numbers) == text
