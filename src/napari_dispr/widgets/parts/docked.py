"""What all windows of the plugin share: they scroll in one group of tabs, follow napari's theme, and clean up
when their dock closes.
"""

from collections.abc import Callable
from typing import Any

from napari.utils.theme import get_theme
from napari.viewer import Viewer
from qtpy.QtCore import QEvent, QObject, QSize, Qt, QTimer
from qtpy.QtGui import QColor
from qtpy.QtWidgets import (
    QAbstractSlider,
    QAbstractSpinBox,
    QComboBox,
    QDockWidget,
    QFrame,
    QLabel,
    QMainWindow,
    QScrollArea,
    QScrollBar,
    QStyle,
    QTabBar,
    QWidget,
)

from napari_dispr.viewer.opening import DISPLAY_NAME, name_as_menu
from napari_dispr.widgets.parts.citation import CiteLink
from napari_dispr.widgets.parts.layer_choice import FollowedLayers, LayerChoice
from napari_dispr.widgets.parts.layouts import Item, column, keep_room
from napari_dispr.widgets.parts.threads import Job, LatestAnswer
from napari_dispr.widgets.parts.wording import BREAK, breakable

_PROBLEM = "problem"
#: Colours of warnings that can be read on a dark and on a light theme.
_ON_DARK, _ON_LIGHT = "#ffb454", "#a34a00"
#: The least height of a dock's content, and the largest width that it demands, in pixels.
_LOWEST, _WIDEST = 100, 500


class Message(QLabel):
    """A sentence about the inputs. It has the colour of warnings if something is wrong.

    It has room for some ``lines`` also without a text, so that it does not move the controls around it.
    """

    def __init__(self, lines: int = 0) -> None:
        super().__init__(wordWrap=True)
        if lines:
            keep_room(self)
            self.setMinimumHeight(lines * self.fontMetrics().lineSpacing())
        self.hide()

    def text(self) -> str:
        """What was said, without the places where long words may be broken."""
        return super().text().replace(BREAK, "")

    def say(self, text: str, *, problem: bool = False) -> None:
        """Show a text; an empty text takes no space."""
        self.setText(breakable(f"⚠ {text}" if problem and text else text))
        self.setVisible(bool(text))
        if self.objectName() != (name := _PROBLEM if problem else ""):
            self.setObjectName(name)
            self.style().unpolish(self)
            self.style().polish(self)


class CalmWheel(QObject):
    """Makes the wheel scroll a widget, not change values of its combo and spin boxes and sliders, except the
    one that was clicked.
    """

    def __init__(self, within: QWidget) -> None:
        super().__init__(within)
        for control in within.findChildren(QWidget):
            if isinstance(control, QComboBox | QAbstractSpinBox):
                control.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
                control.installEventFilter(self)
            elif isinstance(control, QAbstractSlider) and not isinstance(control, QScrollBar):
                control.installEventFilter(self)

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Pass the wheel on to the scroll area."""
        if (
            event is not None
            and event.type() == QEvent.Type.Wheel
            and isinstance(watched, QWidget)
            and not watched.hasFocus()
        ):
            event.ignore()
            return True
        return super().eventFilter(watched, event)


class _ScrollArea(QScrollArea):
    """As wide as its content, up to a limit; scrolls if there is too little space."""

    def __init__(self, content: QWidget) -> None:
        super().__init__(widgetResizable=True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setWidget(content)
        CalmWheel(content)
        self._kept: QWidget | None = None
        self.verticalScrollBar().rangeChanged.connect(self._on_range)
        self.verticalScrollBar().actionTriggered.connect(self._on_scrolled)

    def keep_in_view(self, control: QWidget) -> None:
        """Scroll to a control that has just appeared, also when it moves, until the user scrolls."""
        self._kept = control
        self._on_range()

    def _on_range(self, *_: int) -> None:
        if self._kept is not None and self._kept.isVisible():
            self.ensureWidgetVisible(self._kept)

    def _on_scrolled(self, *_: int) -> None:
        self._kept = None

    def minimumSizeHint(self) -> QSize:
        """Low, so that a dock never makes the window higher."""
        content = self.widget()
        assert content is not None
        style = self.style()
        assert style is not None
        bar = self.verticalScrollBar().sizeHint().width()
        bar += style.pixelMetric(QStyle.PixelMetric.PM_ScrollView_ScrollBarSpacing, None, self)
        bar += 2 * self.frameWidth()  # napari's style draws one
        return QSize(min(content.minimumSizeHint().width(), _WIDEST) + bar, _LOWEST)

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Ask for another width when the content does."""
        if event is not None and event.type() == QEvent.Type.LayoutRequest:
            self.updateGeometry()
        return super().eventFilter(watched, event)


class DockedWidget(QWidget):
    """A widget that becomes a tab next to the others of the plugin, and cleans up once, when its dock closes;
    subclasses say how in `_clean_up`.
    """

    def __init__(self, viewer: Viewer) -> None:
        super().__init__()
        self._viewer: Any = viewer
        self._closed = False
        self._in_front = True  # its tab is the current one
        self._raise_soon = QTimer(self, singleShot=True, interval=0)
        self._raise_soon.timeout.connect(self._raise)
        self._set_colours: list[Callable[[str, str], None]] = []
        self._heard: list[tuple[Any, Callable[..., None]]] = []
        self._listen(viewer.events.theme, self._on_theme)
        self._on_theme()

    def _listen(self, emitter: Any, heard: Callable[..., None]) -> None:
        """Call ``heard`` at the events of an emitter of napari, until the window closes."""
        emitter.connect(heard)
        self._heard.append((emitter, heard))

    def _follow_theme(self, set_colours: Callable[[str, str], None]) -> None:
        """Give a plot the theme's colours of text and background, now and when they change."""
        self._set_colours.append(set_colours)
        self._on_theme()

    def _on_theme(self, event: Any = None) -> None:
        """Give warnings a colour that can be read on the theme, and plots its colours."""
        theme = get_theme(self._viewer.theme)
        text, background = (QColor(colour.as_hex()) for colour in (theme.text, theme.background))
        warning = _ON_DARK if background.lightness() < 128 else _ON_LIGHT
        self.setStyleSheet(f"QLabel#{_PROBLEM} {{ color: {warning}; }}")
        for set_colours in self._set_colours:
            set_colours(text.name(), background.name())

    def _lay_out(self, *items: Item) -> None:
        """Controls below each other, which scroll if the dock is too small for them."""
        content = QWidget()
        layout = column(*items, parent=content, low=True)
        layout.unsetContentsMargins()
        layout.addStretch(0)
        layout.addWidget(CiteLink())
        self._area = _ScrollArea(content)
        column(self._area, parent=self)

    # --- the dock --------------------------------------------------------------------------------

    def event(self, event: QEvent | None) -> bool:
        """Follow the dock that contains this widget; clean up when the dock no longer does."""
        if event is not None and event.type() == QEvent.Type.ParentChange:
            dock = self.parent()
            if isinstance(dock, QDockWidget):
                dock.dockLocationChanged.connect(self._on_docked)
                dock.visibilityChanged.connect(self._on_front)
                dock.installEventFilter(self)
            elif dock is None:
                self.shut_down()
        return super().event(event)

    def _on_docked(self, area: Any) -> None:
        """Join the tabs of the plugin's other widgets; later the user may move the dock."""
        dock = self.parent()
        if not isinstance(dock, QDockWidget) or not isinstance(window := dock.parent(), QMainWindow):
            return
        dock.dockLocationChanged.disconnect(self._on_docked)
        name_as_menu(dock, window)
        dock.setWindowTitle(dock.name.removesuffix(f" ({DISPLAY_NAME})"))  # the text of its tab
        docks = [one.parent() for one in window.findChildren(DockedWidget) if one is not self]
        tabs = [
            one for one in docks
            if isinstance(one, QDockWidget)
            and not (_closed(one) or one.isFloating())
            and window.dockWidgetArea(one) == area
        ]  # fmt: skip
        if tabs:
            window.tabifyDockWidget(tabs[-1], dock)
        self._raise_soon.start()

    def _on_front(self, front: bool) -> None:
        self._in_front = front

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Raise the dock when it is shown, and when napari's menu would hide it behind another tab."""
        dock = self.parent()
        if watched is dock and isinstance(dock, QDockWidget) and event is not None and not self._closed:
            shown = event.type() == QEvent.Type.Show and not event.spontaneous()
            if shown or (event.type() == QEvent.Type.Hide and _closed(dock) and not self._in_front):
                self._raise_soon.start()
        return super().eventFilter(watched, event)

    def _raise(self) -> None:
        dock = self.parent()
        if isinstance(dock, QDockWidget) and not self._closed:
            dock.show()
            dock.raise_()
            self._raise_soon.stop()  # which showing it has started again
            for bar in dock.parent().findChildren(QTabBar):
                if any(bar.tabText(tab) == dock.windowTitle() for tab in range(bar.count())):
                    bar.setElideMode(Qt.TextElideMode.ElideNone)  # whole names, with arrows to reach them
                    bar.setUsesScrollButtons(True)

    # --- the end ---------------------------------------------------------------------------------

    def shut_down(self) -> None:
        """Cancel what runs, deliver no answers any more, and disconnect from the viewer; its layers stay."""
        if self._closed:
            return
        self._closed = True
        for emitter, heard in self._heard:
            emitter.disconnect(heard)
        self._heard.clear()
        for choice in self.findChildren(LayerChoice):
            choice.disconnect_layers()
        for followed in self.findChildren(FollowedLayers):
            followed.stop()
        self._clean_up()
        for job in self.findChildren(Job):
            job.abandon()
        for answer in self.findChildren(LatestAnswer):
            answer.forget()
        for timer in self.findChildren(QTimer):
            timer.stop()

    def _clean_up(self) -> None:
        """End what only this window has.

        It hears no events of the viewer and its layers any more. Jobs, answers and timers of all parts end
        afterwards.
        """


def _closed(dock: QDockWidget) -> bool:
    """Whether a dock was hidden; before it is first shown, it was not."""
    return dock.isHidden() and dock.testAttribute(Qt.WidgetAttribute.WA_WState_ExplicitShowHide)
