"""Fields for whole numbers, and for numbers that may be typed with a point or a comma."""

from qtpy.QtCore import QEvent, QLocale, QObject
from qtpy.QtGui import QValidator
from qtpy.QtWidgets import QDoubleSpinBox, QSpinBox

#: Largest number that a whole box can take.
LARGEST = 2**31 - 1


def whole_box(low: int, high: int, tip: str = "", value: int = 0) -> QSpinBox:
    """A field for whole numbers; at first the one in the range that is nearest to ``value``."""
    box = QSpinBox(toolTip=tip)
    box.setRange(low, high)
    box.setValue(value)
    return box


class DecimalBox(QDoubleSpinBox):
    """Takes a point and a comma as decimal mark, whatever the language.

    Qt takes only that of the user's language; elsewhere a typed 0.3 becomes 3, because a point groups digits.
    """

    def __init__(self, low: float, high: float, decimals: int, tip: str = "", suffix: str = "") -> None:
        super().__init__(toolTip=tip, suffix=suffix)
        self.setDecimals(decimals)
        self.setRange(low, high)
        plain = QLocale.c()
        plain.setNumberOptions(QLocale.NumberOption.OmitGroupSeparator)
        self.setLocale(plain)
        line = self.lineEdit()
        assert line is not None
        line.installEventFilter(self)

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """A double click selects the number, not only its digits on one side of the point."""
        if event is not None and event.type() == QEvent.Type.MouseButtonDblClick:
            self.selectAll()
            return True
        return super().eventFilter(watched, event)

    def validate(self, text: str | None, position: int) -> tuple[QValidator.State, str, int]:
        state, text, position = super().validate((text or "").replace(",", "."), position)
        return state, text, position
