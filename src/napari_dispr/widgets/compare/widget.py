"""The widget "Compare members": layout and signals. What is drawn stands in `compare_tiles`."""

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from napari.layers import Image, Labels, Layer
from qtpy.QtCore import QSize, Qt
from qtpy.QtWidgets import (
    QButtonGroup,
    QCheckBox,
    QComboBox,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QSlider,
    QStackedWidget,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_dispr.errors import InputError
from napari_dispr.shapes.measures import unit_sign
from napari_dispr.viewer.displayed import displayed_plane
from napari_dispr.viewer.layers import METADATA_KEY, ResultLayers
from napari_dispr.viewer.link import PictureLink, with_layers
from napari_dispr.viewer.session import OpenPrediction, Session, Shape, unwrapped
from napari_dispr.widgets.compare.actions import CompareActions
from napari_dispr.widgets.compare.canvas import ShapeCanvas
from napari_dispr.widgets.compare.changes import Change
from napari_dispr.widgets.compare.content import CellShapes, Truth, cell_shapes, modes_in_words, modes_of
from napari_dispr.widgets.compare.tiles import View, tiles_of
from napari_dispr.widgets.parts.background import NewestAnswer
from napari_dispr.widgets.parts.docked import DockedWidget
from napari_dispr.widgets.parts.layer_choice import LayerChoice
from napari_dispr.widgets.parts.result_layers import ResultDrawing
from napari_dispr.widgets.parts.wording import estimate

if TYPE_CHECKING:
    from napari.viewer import Viewer

_NOTHING = (
    "Nothing to compare yet.\n\nPredict some cells with Plugins > Predict 3D shapes, or open a saved "
    "prediction: drop its folder on the window.\n\nThe members of a cell, all the shapes that fit its "
    "picture, then stand here side by side."
)
#: Pixels beside the words of a list.
_SCROLL_BAR = 24
_VIEWS = {
    View.SIDE_BY_SIDE: ("Side by side", "Every member in a tile, and the consensus; one camera turns all"),
    View.OVERLAY: ("Overlay", "All members in one place, translucent; the slider brings one to the front"),
    View.DISAGREEMENT: (
        "Disagreement",
        "Where the members differ: the consensus coloured by the spread of their surfaces, and the share of "
        "members that hold each place",
    ),
}


class CompareWidget(DockedWidget):
    """Compare the members of one cell's ensemble, choose among them, draw others.

    Parameters
    ----------
    napari_viewer : Viewer
    """

    def __init__(self, napari_viewer: "Viewer") -> None:
        super().__init__(unwrapped(napari_viewer))
        self._session = Session.of(self._viewer)
        self._opened: OpenPrediction | None = None
        self._cell: CellShapes | None = None
        self._order: list[int] = []  # the cells, as they are offered
        self._view = View.SIDE_BY_SIDE
        self._build()
        self._shapes = NewestAnswer(cell_shapes, self._on_shapes, self, pause=20)
        self._drawing = ResultDrawing(self)
        self._connect()
        self._on_predictions()

    # --- layout ----------------------------------------------------------------------------------

    def _build(self) -> None:
        self.prediction_choice = QComboBox()
        self.prediction_choice.setToolTip("The prediction that is looked at, of those that are open")
        self.cell_choice = QComboBox()
        self.cell_choice.setToolTip("The cell. A click on it in the picture chooses it, too.")
        self.cell_choice.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.before_button, self.after_button = QToolButton(), QToolButton()
        self.before_button.setArrowType(Qt.ArrowType.LeftArrow)
        self.after_button.setArrowType(Qt.ArrowType.RightArrow)
        self.before_button.setToolTip("The cell before, in the order of the list")
        self.after_button.setToolTip("The next cell, in the order of the list")
        self.ambiguous_first = QCheckBox("ambiguous first")
        self.ambiguous_first.setToolTip(
            "Order the cells by how much their members differ (1 - IoU), not by label"
        )
        self.truth_choice = LayerChoice(self._viewer, _may_be_truth, none="no truth")
        self.truth_choice.setToolTip(
            "A 3D labels layer with the true shapes, under the same labels: shown beside the members"
        )
        self.picture = QCheckBox("picture")
        self.picture.setChecked(True)
        self.picture.setToolTip("Show the picture in the imaged plane, where it cuts the shapes")
        self.view_buttons = {view: QPushButton(name, checkable=True) for view, (name, _) in _VIEWS.items()}
        self.canvas = ShapeCanvas()
        self.canvas.setToolTip(
            "Drag: turn. Wheel: zoom. Shift and drag: move. Click: select. Double click: as at first."
        )
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setToolTip("Step through the members; at the left end none is selected")
        self.shape_label = QLabel()
        self.headline = QLabel(wordWrap=True)
        self.picture_button = QPushButton("Save picture…")
        self.picture_button.setToolTip("Save what is shown above as PNG")
        self.actions = CompareActions(self._viewer)
        self.empty = QLabel(_NOTHING, wordWrap=True, alignment=Qt.AlignmentFlag.AlignCenter)
        first, second, third, fourth = (QHBoxLayout() for _ in range(4))
        first.addWidget(self.before_button)
        first.addWidget(self.cell_choice, 1)
        first.addWidget(self.after_button)
        first.addWidget(self.ambiguous_first)
        group = QButtonGroup(self)
        for view, button in self.view_buttons.items():
            button.setToolTip(_VIEWS[view][1])
            group.addButton(button)
            second.addWidget(button)
        self.view_buttons[self._view].setChecked(True)
        third.addWidget(self.picture)
        third.addWidget(self.truth_choice, 1)
        third.addWidget(self.picture_button)
        fourth.addWidget(self.slider, 1)
        fourth.addWidget(self.shape_label)
        self.content = QWidget()
        inner = QVBoxLayout(self.content)
        inner.setContentsMargins(0, 0, 0, 0)
        inner.addWidget(self.prediction_choice)
        for row in (first, second, third):
            inner.addLayout(row)
        inner.addWidget(self.headline)
        inner.addWidget(self.canvas, 1)
        inner.addLayout(fourth)
        inner.addWidget(self.actions)
        self.stack = QStackedWidget()
        self.stack.addWidget(self.empty)
        self.stack.addWidget(self.content)
        layout = QVBoxLayout(self)
        layout.addWidget(self.stack)
        # As large as there is room: napari would fill up with an empty space below.
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setMinimumWidth(440)

    def sizeHint(self) -> QSize:
        """Shapes want room."""
        return QSize(620, 800)

    def _connect(self) -> None:
        self._session.events.predictions.connect(self._on_predictions)
        self._session.events.selected.connect(self._on_selected)
        self.prediction_choice.activated.connect(self._on_prediction_chosen)
        self.cell_choice.activated.connect(lambda index: self._session.select(self._order[index]))
        self.before_button.clicked.connect(lambda: self._step(-1))
        self.after_button.clicked.connect(lambda: self._step(1))
        self.ambiguous_first.toggled.connect(self._offer_cells)
        self.truth_choice.layer_changed.connect(self._look)
        self.picture.toggled.connect(self._show)
        for view, button in self.view_buttons.items():
            button.clicked.connect(lambda checked, view=view: self.show_view(view))
        self.canvas.clicked.connect(self._on_tile)
        self.slider.valueChanged.connect(self._on_slider)
        self.picture_button.clicked.connect(self._ask_and_save)
        self.actions.changed.connect(self._on_change)
        self._link = PictureLink(self._viewer, self._on_picture)

    # --- which cell ------------------------------------------------------------------------------

    def _on_predictions(self, event: Any = None) -> None:
        """Others are open, or the one that is looked at changed."""
        opened, before = self._session.current, self._opened
        self._opened = opened
        self.stack.setCurrentWidget(self.content if opened and opened.prediction else self.empty)
        self.actions.refresh()
        if opened is None or not opened.prediction:
            self._cell = None
            self.canvas.clear()
            return
        others = self._session.predictions
        self.prediction_choice.clear()
        self.prediction_choice.addItems([_title(one) for one in others])
        self.prediction_choice.setCurrentIndex([one.key for one in others].index(opened.key))
        self.prediction_choice.setVisible(len(others) > 1)
        self._offer_cells()
        cell = self._session.selection.cell
        if cell is None:
            self._session.select(self._order[0])
        elif before is None or before.prediction.get(cell) is not opened.prediction[cell]:
            self._look()
        else:
            self._show()

    def _on_prediction_chosen(self, index: int) -> None:
        self._session.show(self._session.predictions[index])

    def _offer_cells(self, *_: Any) -> None:
        if self._opened is None:
            return
        cells = self._opened.cells
        table = cells.sort_values("ambiguity", ascending=False) if self.ambiguous_first.isChecked() else cells
        self._order = [int(label) for label in table["label"]]
        self.cell_choice.clear()
        columns = (table[name] for name in ("label", "ambiguity", "modes", "warning"))
        for label, ambiguity, modes, warning in zip(*columns, strict=True):
            differs = f", ambiguity {ambiguity:.2f}" if ambiguity == ambiguity else ""
            kinds = f", {modes} kinds" if modes > 1 else ""
            self.cell_choice.addItem(f"{'⚠ ' if warning else ''}cell {label}{differs}{kinds}")
        words = self.cell_choice.view()
        words.setMinimumWidth(words.sizeHintForColumn(0) + _SCROLL_BAR)  # not cut off beside the narrow box
        if self._session.selection.cell in self._order:
            self.cell_choice.setCurrentIndex(self._order.index(self._session.selection.cell))

    def _step(self, by: int) -> None:
        index = self.cell_choice.currentIndex() + by
        if 0 <= index < len(self._order):
            self._session.select(self._order[index])

    def _on_selected(self, event: Any = None) -> None:
        cell = self._session.selection.cell
        if cell is None and self._opened is not None and self._order:
            return  # of another prediction: `_on_predictions` chooses
        if cell in self._order:
            self.cell_choice.setCurrentIndex(self._order.index(cell))
        self.actions.refresh()
        if self._cell is not None and self._cell.label == cell and not self._shapes.pending:
            self._show()
        else:
            self._look()

    def _on_picture(self, cell: int, shape: Shape) -> None:
        """A cell was clicked in the picture, or in a result layer."""
        if self.isVisible():
            self._session.select(cell, shape)

    # --- what is shown ---------------------------------------------------------------------------

    def show_view(self, view: View) -> None:
        """Show the cell side by side, overlaid, or by where members disagree."""
        self._view = view
        self.view_buttons[view].setChecked(True)
        self._show()

    def _look(self, *_: Any) -> None:
        """Have the shapes of the chosen cell made ready, in a thread."""
        opened, cell = self._opened, self._session.selection.cell
        if opened is None or cell is None or cell not in opened.prediction:
            return
        truth = self.truth_choice.layer
        opened, contrast = with_layers(opened, self._viewer), None
        if isinstance(opened.image, Image):
            contrast = (float(opened.image.contrast_limits[0]), float(opened.image.contrast_limits[1]))
            if opened.plane is None:  # it was read from a folder, and lies on its picture
                with suppress(InputError):  # the viewer shows other axes: what the model saw is shown instead
                    opened = replace(opened, plane=displayed_plane(opened.image, self._viewer.dims))
        self._shapes.ask(opened, cell, Truth.of(truth) if isinstance(truth, Labels) else None, contrast)

    def _on_shapes(self, answer: CellShapes | InputError) -> None:
        if isinstance(answer, InputError):
            self.headline.setText(f"⚠ {answer}")
            return
        self._cell = answer
        self._show()

    def _show(self, *_: Any) -> None:
        cell, opened = self._cell, self._opened
        if cell is None or opened is None or cell.label not in opened.prediction:
            return
        look = self._session.selection
        kept = opened.prediction.kept.get(cell.label)
        shape = look.shape if look.cell == cell.label else None
        tiles = tiles_of(cell, self._view, shape, kept, self._notes(opened, cell))
        self.canvas.show_tiles(cell, tiles, picture=self.picture.isChecked())
        self.headline.setText(self._headline(opened, cell))
        shapes = self._steps(cell)
        self.slider.blockSignals(True)
        self.slider.setRange(0, len(shapes))
        self.slider.setValue(shapes.index(shape) + 1 if shape in shapes else 0)
        self.slider.blockSignals(False)
        self.shape_label.setText(self._words(cell, shape))

    def _steps(self, cell: CellShapes) -> list[Shape]:
        """What the slider steps through, in the order of the tiles."""
        numbers: list[Shape] = [number for mode in cell.modes for number in mode.numbers]
        return [*numbers, "consensus"] if cell.consensus is not None and len(numbers) > 1 else numbers

    def _words(self, cell: CellShapes, shape: Shape) -> str:
        if isinstance(shape, int) and shape in cell.members:
            mode = cell.mode_of(shape)
            return f"member {shape + 1}" + (f", kind {mode.letter}" if len(cell.modes) > 1 else "")
        return "consensus" if shape == "consensus" else f"all {len(cell.members)} members"

    def _notes(self, opened: OpenPrediction, cell: CellShapes) -> dict[Shape, str]:
        """Volumes, to stand below the shapes."""
        unit = unit_sign(f"{cell.unit}^3")
        own = opened.measures[opened.measures["label"] == cell.label]
        notes: dict[Shape, str] = {
            int(n): f"{volume:.4g} {unit}" for n, volume in zip(own["member"], own["volume"], strict=True)
        }
        if cell.consensus is not None:
            notes["consensus"] = f"{cell.consensus.volume:.4g} {unit}"
        if cell.truth is not None:
            notes[None] = f"{cell.truth.volume:.4g} {unit}"
        return notes

    def _headline(self, opened: OpenPrediction, cell: CellShapes) -> str:
        row = opened.cells[opened.cells["label"] == cell.label].iloc[0]
        ends = [row[f"volume_{end}"] for end in ("low", "high")] if "volume_low" in row else []
        volume = estimate(row["volume_mean"], row["volume_sd"], *ends)
        unit = unit_sign(f"{cell.unit}^3")
        parts = [f"<b>cell {cell.label}</b>: {modes_in_words(modes_of(opened.prediction[cell.label]))}"]
        if row["ambiguity"] == row["ambiguity"]:
            parts.append(f"ambiguity {row['ambiguity']:.2f}")
        parts.append(f"volume {volume} {unit}")
        if row["warning"]:
            parts.append(f"⚠ {row['warning']}")
        return "; ".join(parts)

    def _on_tile(self, index: int) -> None:
        if self._cell is None or self._view is not View.SIDE_BY_SIDE:
            return
        steps = self._steps(self._cell)
        if index < len(steps):
            chosen = None if self._session.selection.shape == steps[index] else steps[index]
            self._session.select(self._cell.label, chosen)

    def _on_slider(self, value: int) -> None:
        if self._cell is not None:
            self._session.select(self._cell.label, self._steps(self._cell)[value - 1] if value else None)

    def _ask_and_save(self) -> None:
        cell = self._cell.label if self._cell else ""
        path, _ = QFileDialog.getSaveFileName(
            self, "Save picture", f"cell-{cell}-{self._view.value.replace(' ', '-')}.png", "PNG (*.png)"
        )
        if path:
            self.save_picture(path)

    def save_picture(self, path: str) -> None:
        """Save what the canvas shows as PNG."""
        if not self.canvas.grab().save(path if path.lower().endswith(".png") else f"{path}.png"):
            self.headline.setText(f"⚠ {path} cannot be written: choose another folder.")

    # --- changes ---------------------------------------------------------------------------------

    def _on_change(self, change: Change) -> None:
        """Show a new state of the prediction, here, in the other widgets and in the layers."""
        if not self._session.update(change.opened):
            self.actions.status.say("The prediction was closed meanwhile: nothing was changed.", problem=True)
            return
        held = self._session.held(change.opened)
        if held.layers is None:
            held.layers = ResultLayers.found(self._viewer, held)
        if held.layers is not None:
            self._drawing.begin(held.layers)
            self._drawing.show(change.content)

    @property
    def busy(self) -> bool:
        """Whether something is still to be shown or done."""
        return self._shapes.pending or self.canvas.busy or self.actions.running or self._drawing.busy

    # --- the end ---------------------------------------------------------------------------------

    def _clean_up(self) -> None:
        """Stop what runs and follow nothing any more; the viewer is as it was."""
        self._session.events.predictions.disconnect(self._on_predictions)
        self._session.events.selected.disconnect(self._on_selected)
        self._link.stop()
        self._shapes.forget()
        self._drawing.finish()
        self.truth_choice.disconnect_layers()
        self.actions.shut_down()
        self.canvas.shut_down()


def _title(opened: OpenPrediction) -> str:
    return f"{opened.name}: {opened.prediction.provenance.get('model', '')}"


def _may_be_truth(layer: Layer) -> bool:
    return isinstance(layer, Labels) and layer.ndim == 3 and METADATA_KEY not in layer.metadata
