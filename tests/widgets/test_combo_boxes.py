"""Combo boxes whose texts do not fit."""

import pytest
from pytestqt.qtbot import QtBot
from qtpy.QtCore import QEvent, QPoint
from qtpy.QtGui import QHelpEvent
from qtpy.QtWidgets import QApplication, QStyleOptionComboBox, QToolTip

from napari_dispr.widgets.parts.combo_boxes import ShortComboBox

LONG = "nuclei-of-the-embryo-at-sixteen-cells-of-2026-11-30"


@pytest.mark.parametrize("text", ["generic", LONG])
def test_a_text_is_whole_or_elided_with_the_whole_in_list_and_tooltip(qtbot: QtBot, text: str) -> None:
    box = ShortComboBox()
    qtbot.addWidget(box)
    box.addItems([text, "another"])
    box.setToolTip("The model")
    box.resize(150, 24)
    box.show()
    option = QStyleOptionComboBox()
    box.initStyleOption(option)
    fits = text != LONG
    assert (option.currentText == text) == fits and ("…" in option.currentText) == (not fits)
    assert option.currentText[:5] == text[:5] and option.currentText[-2:] == text[-2:]
    where = QPoint(5, 5)
    QApplication.sendEvent(box, QHelpEvent(QEvent.Type.ToolTip, where, box.mapToGlobal(where)))
    qtbot.waitUntil(lambda: QToolTip.text() == ("The model" if fits else f"{LONG}\nThe model"))
    box.showPopup()
    assert box.view().width() > box.fontMetrics().horizontalAdvance(text)
    box.hidePopup()
