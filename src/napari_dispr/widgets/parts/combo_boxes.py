"""Combo boxes whose items have values: what the program calls what the user reads."""

from collections.abc import Mapping
from typing import Any

from qtpy.QtCore import QEvent, Qt
from qtpy.QtWidgets import QComboBox, QStyle, QStyleOptionComboBox, QToolTip
from superqt.utils import signals_blocked

#: Pixels around a text in a combo box, and in its list, where they include a scroll bar.
_AROUND, _AROUND_IN_LIST = 4, 30


class ShortComboBox(QComboBox):
    """A combo box that does not grow as wide as its longest item.

    A text that does not fit is elided, and its tooltip begins with the whole text. The list is wide enough.
    """

    def __init__(self, characters: int = 8) -> None:
        super().__init__()
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(characters)

    def initStyleOption(self, option: QStyleOptionComboBox | None) -> None:
        """Elide what is painted: Qt would cut it."""
        super().initStyleOption(option)
        if option is not None:
            option.currentText = self._elided(option)

    def _elided(self, option: QStyleOptionComboBox) -> str:
        control, field = QStyle.ComplexControl.CC_ComboBox, QStyle.SubControl.SC_ComboBoxEditField
        style = self.style()
        assert style is not None
        room = style.subControlRect(control, option, field, self).width() - _AROUND
        return self.fontMetrics().elidedText(self.currentText(), Qt.TextElideMode.ElideMiddle, room)

    def showPopup(self) -> None:
        """Open a list in which whole texts can be read."""
        if (items := self.view()) is not None:
            items.setMinimumWidth(items.sizeHintForColumn(0) + _AROUND_IN_LIST)
        super().showPopup()

    def event(self, event: QEvent | None) -> bool:
        """Show the whole text in the tooltip if it is elided."""
        if event is not None and event.type() == QEvent.Type.ToolTip:
            option = QStyleOptionComboBox()
            self.initStyleOption(option)
            if option.currentText != self.currentText():
                whole = "\n".join(filter(None, (self.currentText(), self.toolTip())))
                QToolTip.showText(event.globalPos(), whole, self)
                return True
        return super().event(event)


def values_of(box: QComboBox) -> list[Any]:
    """The values of all items, in their order."""
    return [box.itemData(index) for index in range(box.count())]


def refill(box: QComboBox, items: Mapping[Any, str], chosen: Any) -> None:
    """Offer these values, each with its text, and choose one, or else the first; without a signal."""
    with signals_blocked(box):
        box.clear()
        for value, text in items.items():
            box.addItem(text, value)
        box.setCurrentIndex(list(items).index(chosen) if chosen in items else 0)
