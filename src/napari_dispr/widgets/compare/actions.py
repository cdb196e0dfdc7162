"""The buttons below the shapes of Compare: keep, reject, sample more, replay, add as surfaces."""

from collections.abc import Callable
from functools import partial

from napari.components import ViewerModel
from napari.layers import Layer
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QPushButton, QWidget

from napari_dispr.errors import InputError
from napari_dispr.prediction.result import Prediction
from napari_dispr.viewer.completed import add_completed, completed_layers
from napari_dispr.viewer.content import METADATA_KEY, LayerData, ResultContent
from napari_dispr.viewer.layers import add_surfaces, surface_layers
from napari_dispr.viewer.opened import OpenPrediction, Shape
from napari_dispr.viewer.scene import StepsView
from napari_dispr.viewer.session import Session
from napari_dispr.widgets.compare.changes import Change, changed, draw_more, replay_denoising
from napari_dispr.widgets.parts.layouts import column, row
from napari_dispr.widgets.parts.number_boxes import whole_box
from napari_dispr.widgets.parts.run_bar import RunBar

_MOST_MEMBERS = 100
#: Number of changes that can be undone.
_MOST_CHANGES = 20


class CompareActions(QWidget):
    """Acts on the cell and the shape that are selected."""

    #: A new state of the prediction is ready to be shown.
    changed = Signal(object)

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        self._viewer, self._session = viewer, Session.of(viewer)
        self._steps_view = StepsView(viewer)
        #: Changes that can be undone: the predictions before and after each.
        self._changes: list[tuple[Prediction, Prediction]] = []
        self._build()

    def _build(self) -> None:
        self.keep_button = _button(
            "Keep this shape",
            "Take the selected member, or the consensus, as the cell's shape: it goes into the layer "
            '"kept shapes", into tables and files. Press again to undo.',
            self.keep,
        )
        self.reject_button = _button(
            "Reject",
            "Remove the selected member from the ensemble. The cell's interval is no longer valid then.",
            self.reject,
        )
        self.undo_button = _button("Undo", "Undo the last change of this prediction", self.undo)
        self.replace_button = _button("Redraw", "Replace the selected member by a new one", self.replace)
        self.more_button = _button("Draw more", "Add members to this cell, from new noise", self.draw_more)
        self.more = whole_box(1, 20, "How many members to add", 5)
        self.replay_button = _button(
            "Replay denoising",
            "Sample the selected member again, and show its steps from noise to shape as a layer",
            self.replay,
        )
        self.surfaces_button = _button(
            "Add as surfaces",
            "Add the members and the consensus of this cell to the viewer as surface layers",
            self.add_surfaces,
        )
        self.complete_button = _button(
            "Complete stack",
            "Add one layer of 3D labels with cubic voxels that holds all cells of this prediction (the kept "
            "shape of each, or its consensus), and an image of where they are uncertain: 0 where the members "
            "agree, 1 where half of them are inside",
            self.complete,
        )
        self.run_bar = RunBar("Stop within one step; nothing is changed then", keeps_room=True)
        #: How the last action ended.
        self.status = self.run_bar.status
        column(
            row((self.keep_button, 1), (self.reject_button, 1), (self.replace_button, 1)),
            row((self.more_button, 1), self.more, (self.undo_button, 1)),
            row((self.replay_button, 1), (self.surfaces_button, 1), (self.complete_button, 1)),
            self.run_bar,
            parent=self,
        )
        self.run_bar.changed.connect(self.refresh)
        self.refresh()

    # --- what can be done ------------------------------------------------------------------------

    def refresh(self) -> None:
        """Enable the buttons that fit the selection."""
        opened, shape = self._session.current, self._session.selection.shape
        cell = self._session.selection.cell or 0  # no cell has the label 0
        prediction = {} if opened is None else opened.prediction
        idle = opened is not None and cell in prediction and not (self.run_bar.running or opened.growing)
        member = idle and isinstance(shape, int)
        kept = None if opened is None else opened.prediction.kept.get(cell)
        is_kept = kept is not None and kept == shape
        self.keep_button.setText("Undo keep" if is_kept else "Keep consensus" if shape == "consensus"
                                 else "Keep this shape")  # fmt: skip
        self.keep_button.setEnabled(idle and shape is not None)
        self.reject_button.setEnabled(member and len(prediction[cell]) > 1)
        for button in (self.replace_button, self.replay_button):
            button.setEnabled(member)
        for button in (self.more_button, self.surfaces_button, self.complete_button):
            button.setEnabled(idle)
        self.undo_button.setEnabled(opened is not None and idle and self._last_change(opened) is not None)

    def keep(self) -> None:
        """Keep the selected shape as the cell's; undo that if it is kept already."""
        opened, cell, shape = self._selected()
        kept = None if opened.prediction.kept.get(cell) == shape else shape
        self._change(opened, opened.prediction.keep(cell, kept), "the layer of kept shapes")

    def reject(self) -> None:
        opened, cell, member = self._selected()
        assert isinstance(member, int)
        try:
            prediction = opened.prediction.reject(cell, member)
        except InputError as error:
            self.status.say(str(error), problem=True)
            return
        self._change(opened, prediction, "tables and layers")

    def undo(self) -> None:
        opened, _, _ = self._selected()
        last = self._last_change(opened)
        assert last is not None
        work = partial(changed, opened, last[0], self._before(opened))
        self.run_bar.start(lambda step: work(), partial(self._on_undone, last), first="tables and layers")

    def _last_change(self, opened: OpenPrediction) -> tuple[Prediction, Prediction] | None:
        return next((one for one in reversed(self._changes) if one[1] is opened.prediction), None)

    def _on_undone(self, last: tuple[Prediction, Prediction], change: Change) -> None:
        # Not `remove`: predictions of the same shapes are equal, whatever was kept.
        self._changes = [one for one in self._changes if one is not last]
        self.changed.emit(change)

    def _on_changed(self, before: Prediction, change: Change) -> None:
        self._changes = [*self._changes[1 - _MOST_CHANGES :], (before, change.opened.prediction)]
        self.changed.emit(change)

    def replace(self) -> None:
        opened, cell, member = self._selected()
        assert isinstance(member, int)
        self._draw(opened, cell, 1, member)

    def draw_more(self) -> None:
        opened, cell, _ = self._selected()
        there = len(opened.prediction[cell])
        if there + self.more.value() > _MOST_MEMBERS:
            text = f"Cell {cell} has {there} members: a cell takes at most {_MOST_MEMBERS}."
            self.status.say(text, problem=True)
            return
        self._draw(opened, cell, self.more.value(), None)

    def _draw(self, opened: OpenPrediction, cell: int, members: int, replaced: int | None) -> None:
        work = draw_more(opened, cell, members, replaced, self._before(opened))
        self.run_bar.start(work, partial(self._on_changed, opened.prediction))

    def replay(self) -> None:
        """Show the steps of the selected member from noise to shape as a layer."""
        opened, cell, member = self._selected()
        assert isinstance(member, int)
        self.run_bar.start(replay_denoising(opened, cell, member), self._on_replayed)

    def add_surfaces(self) -> None:
        """Add the cell's shapes as surface layers."""
        opened, cell, _ = self._selected()
        self.run_bar.start(
            lambda step: surface_layers(opened, cell), partial(self._add_layers, opened), first="surfaces"
        )

    def complete(self) -> None:
        """Add all cells as one isotropic stack of labels, and where they are uncertain."""
        opened, _, _ = self._selected()
        self.run_bar.start(
            lambda step: completed_layers(opened), partial(self._add_completed, opened), first="all cells"
        )

    # --- results ---------------------------------------------------------------------------------

    def _selected(self) -> tuple[OpenPrediction, int, Shape]:
        """The prediction, the cell and the shape that are selected: the buttons are off without a cell."""
        opened, selection = self._session.current, self._session.selection
        assert opened is not None and selection.cell is not None
        return opened, selection.cell, selection.shape

    def _before(self, opened: OpenPrediction) -> ResultContent | None:
        layers = self._session.handle(opened).layers
        return None if layers is None else layers.content

    def _change(self, opened: OpenPrediction, prediction: Prediction, what: str) -> None:
        before = self._before(opened)
        on_result = partial(self._on_changed, opened.prediction)
        self.run_bar.start(lambda step: changed(opened, prediction, before), on_result, first=what)

    def _on_replayed(self, layer_data: LayerData) -> None:
        self._steps_view.enter(Layer.create(*layer_data))
        self.status.say(
            "The steps from noise to shape are a layer now: move or play its slider. Remove the "
            "layer to see the other layers again."
        )

    def _add_layers(self, opened: OpenPrediction, layers: list[LayerData]) -> None:
        handle = self._session.handle(opened)
        add_surfaces(self._viewer, [Layer.create(*layer) for layer in layers], handle)

    def _add_completed(self, opened: OpenPrediction, layers: list[LayerData]) -> None:
        add_completed(self._viewer, opened, [Layer.create(*layer) for layer in layers])
        self.status.say(
            f'"{opened.name}: completed" holds all cells; "{opened.name}: uncertainty" shows where their '
            "members differ. "
            + (
                layers[0][1]["metadata"][METADATA_KEY]["note"]
                or "Save both with File > Save Selected Layers."
            )
        )


def _button(text: str, tip: str, pressed: Callable[[], None]) -> QPushButton:
    button = QPushButton(text, toolTip=tip)
    button.clicked.connect(lambda: pressed())
    return button
