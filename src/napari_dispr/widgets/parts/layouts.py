"""Rows, columns and forms of controls in one call each."""

from collections.abc import Mapping
from typing import TypeAlias, TypeVar

from qtpy.QtWidgets import (
    QAbstractSpinBox,
    QBoxLayout,
    QFormLayout,
    QHBoxLayout,
    QLayout,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

#: A control, or a control that takes a share of the free space.
Item: TypeAlias = QWidget | QLayout | tuple[QWidget | QLayout, int] | None

#: Least width of a box, pixels.
_NARROW = 36

Layout = TypeVar("Layout", bound=QBoxLayout)


class _LowColumn(QVBoxLayout):
    """Demands its least height also while some text in it wraps, for which Qt demands the preferred one."""

    _asked = False  # Qt finds the least height by a call of `heightForWidth`

    def heightForWidth(self, width: int) -> int:
        if self._asked:
            return super().heightForWidth(width)
        self._asked = True
        least = self.minimumHeightForWidth(width)
        self._asked = False
        return least


def row(*items: Item, parent: QWidget | None = None) -> QHBoxLayout:
    """Controls side by side; None takes the free space."""
    return _filled(QHBoxLayout(parent), items)


def column(*items: Item, parent: QWidget | None = None, low: bool = False) -> QVBoxLayout:
    """Controls below each other; None takes the free space. With ``low`` tables and plots in a scroll area
    shrink before it scrolls.
    """
    return _filled(_LowColumn(parent) if low else QVBoxLayout(parent), items)


def form(rows: Mapping[str, QWidget | QLayout], parent: QWidget | None = None) -> QFormLayout:
    """Controls with their labels."""
    layout = QFormLayout(parent)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
    for label, control in rows.items():
        layout.addRow(label, control)
    return layout


def narrow(box: QAbstractSpinBox) -> None:
    """Let a box be narrow, so that three fit side by side; napari's style needs more than 70 pixels."""
    box.setButtonSymbols(QAbstractSpinBox.ButtonSymbols.NoButtons)
    box.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    box.setStyleSheet(f"min-width: {_NARROW}px; padding: 1px 4px;")


def keep_room(control: QWidget) -> None:
    """Let a control take its room also while it is hidden, so that it does not move those around it."""
    policy = control.sizePolicy()
    policy.setRetainSizeWhenHidden(True)
    control.setSizePolicy(policy)


def _filled(layout: Layout, items: tuple[Item, ...]) -> Layout:
    layout.setContentsMargins(0, 0, 0, 0)
    for item in items:
        control, stretch = item if isinstance(item, tuple) else (item, 0)
        if control is None:
            layout.addStretch(1)
        elif isinstance(control, QWidget):
            layout.addWidget(control, stretch)
        else:
            layout.addLayout(control, stretch)
    return layout
