"""A field for a number that may be typed with a point or a comma."""

from qtpy.QtCore import QEvent, QLocale, QObject
from qtpy.QtGui import QValidator
from qtpy.QtWidgets import QDoubleSpinBox


class DecimalBox(QDoubleSpinBox):
    """Takes a point and a comma as decimal mark, whatever the language.

    Qt takes only that of the user's language; elsewhere a typed 0.3 becomes 3, because a point groups digits.
    """

    def __init__(self, *, toolTip: str = "") -> None:
        super().__init__(toolTip=toolTip)
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
