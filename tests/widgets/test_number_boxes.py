"""Numbers that are typed with a point or a comma."""

import pytest
from pytestqt.qtbot import QtBot
from qtpy.QtCore import QLocale, QPoint, Qt
from qtpy.QtTest import QTest

from napari_dispr.widgets.parts.number_boxes import DecimalBox
from napari_dispr.widgets.train.inputs import Length


@pytest.mark.parametrize("language", ["de_DE", "en_US", "fr_CH"])
@pytest.mark.parametrize(("text", "value"), [("0.3", 0.3), ("0,3", 0.3), ("1234.5", 1234.5), ("12", 12)])
def test_a_point_and_a_comma_in_every_language(language: str, text: str, value: float, qtbot: QtBot) -> None:
    before = QLocale()
    QLocale.setDefault(QLocale(language))
    try:
        box = Length()
        qtbot.addWidget(box)
        box.selectAll()
        qtbot.keyClicks(box.lineEdit(), text)
        box.interpretText()
        assert box.value() == value and box.text() == text.replace(",", ".")
    finally:
        QLocale.setDefault(before)


def test_a_double_click_selects_the_whole_number(qtbot: QtBot) -> None:
    box = DecimalBox(0, 99, 2, suffix=" min")
    qtbot.addWidget(box)
    box.setValue(15.2)
    box.show()
    line = box.lineEdit()
    QTest.mouseDClick(line, Qt.MouseButton.LeftButton, pos=QPoint(12, line.height() // 2))
    QTest.keyClicks(line, "0.5")
    assert box.value() == 0.5
