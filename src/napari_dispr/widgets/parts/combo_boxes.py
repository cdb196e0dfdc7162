"""Combo boxes whose items have values: what the program calls what the user reads."""

from collections.abc import Mapping
from typing import Any

from qtpy.QtWidgets import QComboBox
from superqt.utils import signals_blocked


class ShortComboBox(QComboBox):
    """A combo box that does not grow as wide as its longest item."""

    def __init__(self, characters: int = 8) -> None:
        super().__init__()
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(characters)


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
