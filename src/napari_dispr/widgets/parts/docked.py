"""What all windows of the plugin share: they follow napari's theme and clean up when their dock lets go."""

from typing import TYPE_CHECKING, Any

from napari.utils.theme import get_theme
from qtpy.QtCore import QEvent
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QLabel, QWidget

if TYPE_CHECKING:
    from napari.viewer import Viewer

_PROBLEM = "problem"
#: Colours of warnings that can be read on a dark and on a light theme.
_ON_DARK, _ON_LIGHT = "#ffb454", "#a34a00"


class Message(QLabel):
    """A sentence on what was found, or on what is wrong: the latter in the colour of warnings."""

    def __init__(self) -> None:
        super().__init__(wordWrap=True)
        self.hide()

    def say(self, text: str, *, problem: bool = False) -> None:
        """Show a text; an empty one takes no room."""
        self.setText(f"⚠ {text}" if problem and text else text)
        self.setVisible(bool(text))
        if self.objectName() != (name := _PROBLEM if problem else ""):
            self.setObjectName(name)
            self.style().unpolish(self)
            self.style().polish(self)


class DockedWidget(QWidget):
    """A widget that cleans up once, when its dock lets go of it; subclasses say how in `_clean_up`."""

    def __init__(self, viewer: "Viewer") -> None:
        super().__init__()
        self._viewer: Any = viewer
        self._closed = False
        viewer.events.theme.connect(self._on_theme)
        DockedWidget._on_theme(self)  # the controls that a subclass colours do not exist yet

    def _on_theme(self, event: Any = None) -> None:
        """Give warnings a colour that can be read on the theme's background."""
        background = QColor(get_theme(self._viewer.theme).background.as_hex())
        colour = _ON_DARK if background.lightness() < 128 else _ON_LIGHT
        self.setStyleSheet(f"QLabel#{_PROBLEM} {{ color: {colour}; }}")

    def event(self, event: QEvent | None) -> bool:
        """Clean up when the dock widget lets go of this one."""
        if event is not None and event.type() == QEvent.Type.ParentChange and self.parent() is None:
            self.shut_down()
        return super().event(event)

    def shut_down(self) -> None:
        """Cancel what runs and disconnect from the viewer; its layers stay."""
        if self._closed:
            return
        self._closed = True
        self._viewer.events.theme.disconnect(self._on_theme)
        self._clean_up()

    def _clean_up(self) -> None:
        """Cancel what runs in threads and disconnect from the viewer."""
