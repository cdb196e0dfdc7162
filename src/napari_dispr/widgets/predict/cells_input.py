"""Which cells to predict: clicked, the selected label or all; with the click tool and the outlines."""

from collections.abc import Callable
from typing import Any
from weakref import ref

import numpy as np
from napari.components import ViewerModel
from napari.layers import Image, Labels, Layer
from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import QButtonGroup, QPushButton, QRadioButton, QWidget

from napari_dispr.errors import InputError
from napari_dispr.labels import Box, cell_boxes
from napari_dispr.viewer.displayed import DisplayedPlane, displayed_plane
from napari_dispr.viewer.opened import unwrapped
from napari_dispr.viewer.picking import PickTool, outline
from napari_dispr.viewer.scene import Outlines
from napari_dispr.widgets.parts.layouts import column, row
from napari_dispr.widgets.parts.threads import LatestAnswer
from napari_dispr.widgets.predict.request import CellChoice, PredictRequest


class CellsInput(QWidget):
    """Chooses cells of the label layer and outlines them in the viewer."""

    #: Other cells are chosen.
    changed = Signal()
    #: The boxes of the cells are known.
    found = Signal()

    def __init__(self, viewer: ViewerModel, layers: Callable[[], tuple[Image | None, Labels | None]]) -> None:
        super().__init__()
        self._viewer, self._layers = viewer, layers
        self._clicked: list[int] = []
        self._boxes: dict[int, Box] = {}
        self._segmentation: Any = None  # the plane that the boxes belong to
        self._edits = 0  # number of edits of the labels
        self._wanted: object = None  # layer, plane and edits for which the boxes are wanted
        self._known: object = None  # ... and for which they are known
        self._outlined: object = None
        self._build()
        self._tool = PickTool(viewer, layers, self.toggle)
        self._outlines = Outlines(viewer)
        self._scan = LatestAnswer(_scan, self._on_scanned, self, pause=20)
        # Later: inserting a layer makes it active for a moment.
        self._check_tool = QTimer(self, singleShot=True, interval=0)
        self._check_tool.timeout.connect(self._on_check_tool)
        self._active: Layer | None = None
        viewer.layers.selection.events.active.connect(self._on_active)
        self._on_active()

    def _build(self) -> None:
        self.buttons = {
            CellChoice.CLICKED: QRadioButton("clicked"),
            CellChoice.SELECTED: QRadioButton("selected label"),
            CellChoice.ALL: QRadioButton("all"),
        }
        tip = "While on, a click on the picture adds or removes a cell"
        self.pick_button = QPushButton("Pick cells", checkable=True, toolTip=tip)
        self.clear_button = QPushButton("Clear", toolTip="Choose no cell")
        group = QButtonGroup(self)
        for button in self.buttons.values():
            group.addButton(button)
        picking = row((self.pick_button, 2), (self.clear_button, 1))
        column(row(*self.buttons.values(), None), picking, parent=self)
        self.buttons[CellChoice.CLICKED].setChecked(True)
        group.buttonToggled.connect(self._on_choice)
        self.pick_button.toggled.connect(self._on_pick)
        self.clear_button.clicked.connect(self.clear)

    # --- what is chosen --------------------------------------------------------------------------

    @property
    def choice(self) -> CellChoice:
        return next(choice for choice, button in self.buttons.items() if button.isChecked())

    @choice.setter
    def choice(self, choice: CellChoice) -> None:
        self.buttons[choice].setChecked(True)

    @property
    def clicked(self) -> tuple[int, ...]:
        """Labels of the clicked cells, in the order of the clicks."""
        return tuple(self._clicked)

    def toggle(self, cell: int) -> None:
        if cell in self._clicked:
            self._clicked.remove(cell)
        else:
            self._clicked.append(cell)
        self.changed.emit()

    def clear(self) -> None:
        self._clicked.clear()
        self.changed.emit()

    def _on_choice(self, button: QRadioButton, on: bool) -> None:
        if on:
            if self.choice is not CellChoice.CLICKED:
                self.pick_button.setChecked(False)
            self.changed.emit()

    def _on_pick(self, on: bool) -> None:
        self._tool.on = on
        if on:
            self.choice = CellChoice.CLICKED
        self.changed.emit()

    def _on_active(self, event: object = None) -> None:
        """Follow the tool of the active layer."""
        if self._active is not None:
            self._active.events.mode.disconnect(self._on_mode)
        self._active = self._viewer.layers.selection.active
        if self._active is not None:
            self._active.events.mode.connect(self._on_mode)
        self._check_tool.start()

    def _on_mode(self, event: object) -> None:
        self._check_tool.start()

    def _on_check_tool(self) -> None:
        """Turn the click tool off when the user has chosen another tool, or a layer of another kind."""
        if self._tool.on and self._tool.interrupted:
            self.pick_button.setChecked(False)

    # --- where the cells are ---------------------------------------------------------------------

    @property
    def boxes(self) -> dict[int, Box] | None:
        """Bounding boxes of all cells, None while they are being found."""
        return self._boxes if self._known is not None and self._known == self._wanted else None

    def edited(self) -> None:
        """Note that pixels of the label layer have changed."""
        self._edits += 1

    def refresh(self) -> None:
        """Find the cells of the displayed segmentation in a thread, unless they are known."""
        labels = self._layers()[1]
        if labels is None:
            return
        try:
            plane = displayed_plane(labels, self._viewer.dims)
        except InputError:  # the message below the inputs says it
            return
        which = (ref(unwrapped(labels)), plane.index, self._edits)
        if which == self._wanted:
            return
        if self._known is not None and which[:2] != self._known[:2]:  # type: ignore[index]
            self._boxes, self._known = {}, None
        self._wanted = which
        self._scan.ask(which, plane)

    def _on_scanned(self, answer: tuple[object, Any, dict[int, Box]]) -> None:
        self._known, self._segmentation, self._boxes = answer
        self.found.emit()

    def show_outlines(self, request: PredictRequest | None) -> None:
        cells = tuple(cell for cell in request.cells or () if cell in self._boxes) if request else ()
        place = (request.image.index, request.image.to_world.tobytes()) if request else None
        if (what := (cells, self._known, place) if cells else None) == self._outlined:
            return
        self._outlined = what
        if request is None or not cells:
            self._outlines.remove()
            return
        lines = {cell: outline(self._segmentation, cell, self._boxes[cell]) for cell in cells}
        self._outlines.show(lines, request.image)

    def shut_down(self) -> None:
        self._tool.on = False
        self._viewer.layers.selection.events.active.disconnect(self._on_active)
        if self._active is not None:
            self._active.events.mode.disconnect(self._on_mode)
        self._outlines.remove()


def _scan(which: object, plane: DisplayedPlane) -> tuple[object, Any, dict[int, Box]]:
    labels = np.asarray(plane.array)
    return which, labels, cell_boxes(labels)
