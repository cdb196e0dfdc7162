"""What the plugin's widgets have in common: they follow napari's theme, and their dock may let go of them."""

from typing import TYPE_CHECKING, Any

from napari.utils.theme import get_theme
from qtpy.QtCore import QEvent
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QWidget

from napari_dispr.widgets.parts.message import warnings_on

if TYPE_CHECKING:
    from napari.viewer import Viewer


class DockedWidget(QWidget):
    """A widget that cleans up once, when its dock lets go of it; subclasses say how in `_clean_up`.

    Parameters
    ----------
    viewer : Viewer
    """

    def __init__(self, viewer: "Viewer") -> None:
        super().__init__()
        self._viewer: Any = viewer
        self._closed = False
        viewer.events.theme.connect(self._on_theme)
        DockedWidget._on_theme(self)  # what a subclass has to colour is not there yet

    def _on_theme(self, event: Any = None) -> None:
        """Warnings in a colour that can be read on the theme's background."""
        self.setStyleSheet(warnings_on(QColor(get_theme(self._viewer.theme).background.as_hex())))

    def event(self, event: QEvent | None) -> bool:
        """Clean up when the dock widget lets go of this one."""
        if event is not None and event.type() == QEvent.Type.ParentChange and self.parent() is None:
            self.shut_down()
        return super().event(event)

    def shut_down(self) -> None:
        """Stop what runs and follow nothing any more; what is in the viewer stays."""
        if self._closed:
            return
        self._closed = True
        self._viewer.events.theme.disconnect(self._on_theme)
        self._clean_up()

    def _clean_up(self) -> None:
        """Let go of the viewer and of threads."""
