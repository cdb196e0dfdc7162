"""Words beside the inputs: what was found, or what is wrong, in a colour that any theme lets one read."""

from qtpy.QtGui import QColor
from qtpy.QtWidgets import QLabel

_PROBLEM = "problem"
#: Colours of warnings that can be read on a dark and on a light theme.
_ON_DARK, _ON_LIGHT = "#ffb454", "#a34a00"


class Message(QLabel):
    """Words on what was found, or on what is wrong: these in the colour of warnings, see `warnings_on`."""

    def __init__(self) -> None:
        super().__init__(wordWrap=True)
        self.hide()

    def say(self, text: str, *, problem: bool = False) -> None:
        """Show words; empty ones take no room."""
        self.setText(f"⚠ {text}" if problem and text else text)
        self.setVisible(bool(text))
        if self.objectName() != (name := _PROBLEM if problem else ""):
            self.setObjectName(name)
            self.style().unpolish(self)
            self.style().polish(self)


def warnings_on(background: QColor) -> str:
    """Style sheet for a widget with messages, on a background."""
    colour = _ON_DARK if background.lightness() < 128 else _ON_LIGHT
    return f"QLabel#{_PROBLEM} {{ color: {colour}; }}"
