"""A button with the list of measures, to choose the columns of a table."""

from collections.abc import Iterable

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QMenu, QPushButton, QTreeWidget, QTreeWidgetItem, QWidget, QWidgetAction
from superqt.utils import signals_blocked

from napari_dispr.errors import words_of
from napari_dispr.shapes.measures import HEADLINE
from napari_dispr.widgets.morphometry.content import TableContent
from napari_dispr.widgets.parts.layouts import column, row

#: Titles of the groups of measures, in their order.
GROUPS = {
    "size": "size",
    "form": "form",
    "surface": "surface",
    "curvature": "curvature",
    "axes": "axes",
    "box": "box around the cell",
    "thickness": "thickness",
    "harmonics": "spherical harmonics",
    "mask": "mask in the picture",
    "picture": "grey values in the picture",
}
_SIZE = (300, 380)


class ColumnChoice(QPushButton):
    """Which measures have a column; at first the main ones."""

    #: Other measures were chosen.
    changed = Signal()

    def __init__(self) -> None:
        super().__init__("Columns")
        self.setToolTip("Choose which measures the tables show; all of them can be copied and exported")
        self._chosen = set(HEADLINE)
        self.tree = QTreeWidget()
        self.tree.setHeaderHidden(True)
        self.tree.setFixedSize(*_SIZE)
        self.main_button = QPushButton(
            "Main measures", toolTip="Volume, surface area, sphericity, roughness, curvature and diameter"
        )
        self.all_button = QPushButton("All")
        panel = QWidget()
        buttons = row(self.main_button, self.all_button)
        column(buttons, self.tree, parent=panel).setContentsMargins(6, 6, 6, 6)
        action = QWidgetAction(self)
        action.setDefaultWidget(panel)
        menu = QMenu(self)
        menu.addAction(action)
        self.setMenu(menu)
        self.tree.itemChanged.connect(self._on_item)
        self.main_button.clicked.connect(lambda: self.choose(HEADLINE))
        self.all_button.clicked.connect(lambda: self.choose(self._items()))

    @property
    def chosen(self) -> set[str]:
        """The measures that have a column."""
        return set(self._chosen)

    def offer(self, content: TableContent) -> None:
        offered = {
            words: [name for name in content.measures if content.columns[name].group == group]
            for group, words in GROUPS.items()
        }
        if list(self._items()) == [name for names in offered.values() for name in names]:
            return
        with signals_blocked(self.tree):
            self.tree.clear()
            for words, names in offered.items():
                if not names:
                    continue
                parent = QTreeWidgetItem([words])
                parent.setFlags(
                    parent.flags() | Qt.ItemFlag.ItemIsUserCheckable | Qt.ItemFlag.ItemIsAutoTristate
                )
                self.tree.addTopLevelItem(parent)
                for name in names:
                    item = QTreeWidgetItem([words_of(name)])
                    item.setData(0, Qt.ItemDataRole.UserRole, name)
                    item.setToolTip(0, content.columns[name].about)
                    item.setCheckState(0, _state(name in self._chosen))
                    parent.addChild(item)

    def choose(self, names: Iterable[str]) -> None:
        """Show these measures."""
        self._chosen = set(names)
        with signals_blocked(self.tree):
            for name, item in self._items().items():
                item.setCheckState(0, _state(name in self._chosen))
        self.changed.emit()

    def _items(self) -> dict[str, QTreeWidgetItem]:
        groups = [self.tree.topLevelItem(i) for i in range(self.tree.topLevelItemCount())]
        items = [group.child(i) for group in groups for i in range(group.childCount())]
        return {item.data(0, Qt.ItemDataRole.UserRole): item for item in items}

    def _on_item(self, item: QTreeWidgetItem, column: int) -> None:
        """A measure, or a group, which sends a signal for each of its measures too."""
        checked = Qt.CheckState.Checked
        chosen = {name for name, one in self._items().items() if one.checkState(0) == checked}
        if chosen != self._chosen & set(self._items()):
            self._chosen = chosen
            self.changed.emit()


def _state(on: bool) -> Qt.CheckState:
    return Qt.CheckState.Checked if on else Qt.CheckState.Unchecked
