"""The window "Compare members": layout and signals. `tiles` says which shapes are painted where."""

from contextlib import suppress
from dataclasses import replace
from typing import Any

from napari.layers import Image, Labels
from napari.viewer import Viewer
from qtpy.QtCore import QSize, Qt
from qtpy.QtWidgets import (
    QButtonGroup,
    QCheckBox,
    QFileDialog,
    QLabel,
    QPushButton,
    QSizePolicy,
    QSlider,
    QStackedWidget,
    QToolButton,
    QWidget,
)
from superqt.utils import signals_blocked

from napari_dispr import grid
from napari_dispr.errors import InputError
from napari_dispr.shapes.measures import unit_sign
from napari_dispr.viewer.displayed import displayed_plane
from napari_dispr.viewer.layers import ResultLayers
from napari_dispr.viewer.link import PictureLink, with_layers
from napari_dispr.viewer.opened import OpenPrediction, Shape, unwrapped
from napari_dispr.viewer.session import Session
from napari_dispr.viewer.world import layer_to_world, unit_ratio
from napari_dispr.widgets.compare.actions import CompareActions
from napari_dispr.widgets.compare.canvas import ShapeCanvas
from napari_dispr.widgets.compare.changes import Change
from napari_dispr.widgets.compare.content import CellShapes, Truth, cell_shapes, modes_in_words, modes_of
from napari_dispr.widgets.compare.movie import TurnMovie
from napari_dispr.widgets.compare.next_plane import NextPlane
from napari_dispr.widgets.compare.tiles import View, tiles_of
from napari_dispr.widgets.parts.cell_colours import CellColours
from napari_dispr.widgets.parts.combo_boxes import ShortComboBox
from napari_dispr.widgets.parts.docked import DockedWidget
from napari_dispr.widgets.parts.layer_choice import LayerChoice, is_3d_segmentation
from napari_dispr.widgets.parts.layouts import column, row
from napari_dispr.widgets.parts.result_layers import LayerUpdater
from napari_dispr.widgets.parts.threads import LatestAnswer
from napari_dispr.widgets.parts.wording import estimate, plain

_NOTHING = (
    "Nothing to compare yet.\n\nPredict cells with Plugins > napari DISPR > Predict 3D shapes, or drop the "
    "folder of a saved prediction on the window.\n\nThis window then shows the members of a cell, all shapes "
    "that fit its picture, side by side."
)
#: Labels with planes so many pixels apart are not taken for true shapes, unless the user chooses them.
_COARSE = 4
_VIEWS = {
    View.SIDE_BY_SIDE: ("Side by side", "Each member in a tile, and the consensus; all turn together"),
    View.OVERLAY: ("Overlay", "All members in one place, translucent; the slider shows one of them opaque"),
    View.DISAGREEMENT: (
        "Disagreement",
        "Where the members differ: the consensus coloured by the spread of their surfaces, and the share of "
        "members at each place",
    ),
}


class CompareWidget(DockedWidget):
    """Compare the members of one cell's ensemble, keep or reject them, sample more."""

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__(unwrapped(napari_viewer))
        self._session = Session.of(self._viewer)
        self._opened: OpenPrediction | None = None
        self._cell: CellShapes | None = None
        self._order: list[int] = []  # the cells, in the order of the list
        self._view = View.SIDE_BY_SIDE
        self._build()
        self._shapes = LatestAnswer(cell_shapes, self._on_shapes, self, pause=20)
        self._updater = LayerUpdater(self)
        self._connect()
        self._on_predictions()

    # --- layout ----------------------------------------------------------------------------------

    def _build(self) -> None:
        self.prediction_choice = ShortComboBox()
        self.prediction_choice.setToolTip("Which of the open predictions to show")
        self.cell_choice = ShortComboBox()
        self.cell_choice.setToolTip(
            "The cell: its ambiguity (1 - IoU of its members), and how many kinds of shape fit it if there "
            "are several. You can also click the cell in the picture."
        )
        self.before_button = QToolButton(toolTip="Previous cell of the list")
        self.before_button.setArrowType(Qt.ArrowType.LeftArrow)
        self.after_button = QToolButton(toolTip="Next cell of the list")
        self.after_button.setArrowType(Qt.ArrowType.RightArrow)
        self.ambiguous_first = QCheckBox(
            "sort", toolTip="Sort the cells: the most ambiguous first, instead of by their labels"
        )
        tip = "A 3D labels layer with the true shapes and the same labels, to show next to the members"
        self.truth_choice = LayerChoice(
            self._viewer, is_3d_segmentation, tip, none="no truth", suggests=self._suggests_truth
        )
        self.picture = QCheckBox(
            "picture", toolTip="Show the picture in the imaged plane, and all known planes"
        )
        self.picture.setChecked(True)
        self.next_plane = NextPlane()
        self.view_buttons = {view: QPushButton(name, checkable=True) for view, (name, _) in _VIEWS.items()}
        self.canvas = ShapeCanvas()
        self.canvas.setToolTip(
            "Drag: turn. Wheel: zoom. Shift and drag: move. Click: select. Double click: reset."
        )
        self.slider = QSlider(Qt.Orientation.Horizontal, toolTip="Select a member; left end: none")
        self.shape_label = QLabel()
        self.headline = QLabel(wordWrap=True)
        self.picture_button = QPushButton("Save picture…", toolTip="Save the picture above as PNG")
        self.movie_button = QPushButton(
            "Save movie…", toolTip="Save a movie in which the shapes turn once, as GIF or MP4"
        )
        self.movie = TurnMovie(self.canvas)
        self.actions = CompareActions(self._viewer)
        self.empty = QLabel(_NOTHING, wordWrap=True, alignment=Qt.AlignmentFlag.AlignCenter)
        group = QButtonGroup(self)
        for view, button in self.view_buttons.items():
            button.setToolTip(_VIEWS[view][1])
            group.addButton(button)
        self.view_buttons[self._view].setChecked(True)
        cells = row(self.before_button, (self.cell_choice, 1), self.after_button, self.ambiguous_first)
        cells.setSpacing(4)
        self.content = QWidget()
        column(
            self.prediction_choice,
            cells,
            row(*self.view_buttons.values()),
            row(self.picture, self.next_plane, (self.truth_choice, 1)),
            self.headline,
            (self.canvas, 1),
            row((self.slider, 1), self.shape_label, self.picture_button, self.movie_button),
            self.actions,
            parent=self.content,
        )
        self.stack = QStackedWidget()
        self.stack.addWidget(self.empty)
        self.stack.addWidget(self.content)
        self._lay_out((self.stack, 1))
        # As large as possible: otherwise napari adds empty space below.
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)

    def sizeHint(self) -> QSize:
        """Large enough for several shapes."""
        return QSize(620, 800)

    def _connect(self) -> None:
        self._listen(self._session.events.predictions, self._on_predictions)
        self._listen(self._session.events.selected, self._on_selected)
        self.prediction_choice.activated.connect(self._on_prediction_chosen)
        self.cell_choice.activated.connect(lambda index: self._session.select(self._order[index]))
        self.before_button.clicked.connect(lambda: self._step(-1))
        self.after_button.clicked.connect(lambda: self._step(1))
        self.ambiguous_first.toggled.connect(self._offer_cells)
        self.truth_choice.layer_changed.connect(self._ask_shapes)
        self.picture.toggled.connect(self._show)
        self.next_plane.changed.connect(self._show)
        for view, button in self.view_buttons.items():
            button.clicked.connect(lambda checked, view=view: self.show_view(view))
        self.canvas.clicked.connect(self._on_tile)
        self.slider.valueChanged.connect(self._on_slider)
        self.picture_button.clicked.connect(self._ask_and_save)
        self.movie_button.clicked.connect(self._ask_and_save_movie)
        self.movie.done.connect(self._on_movie)
        self.actions.changed.connect(self._on_change)
        self._link = PictureLink(self._viewer, self._on_picture)
        self._colours = CellColours.of(self._viewer)

    # --- which cell ------------------------------------------------------------------------------

    def _on_predictions(self, event: Any = None) -> None:
        """Other predictions are open, or the current one has changed."""
        opened, before = self._session.current, self._opened
        self._opened = opened
        self.stack.setCurrentWidget(self.content if opened and opened.prediction else self.empty)
        self.truth_choice.offer()
        self.actions.refresh()
        if opened is None or not opened.prediction:
            self._cell = None
            self.canvas.clear()
            return
        others = self._session.predictions
        self.prediction_choice.clear()
        for one in others:
            self.prediction_choice.addItem(f"{one.name}: {one.prediction.provenance.get('model', '')}")
        self.prediction_choice.setCurrentIndex([one.key for one in others].index(opened.key))
        self.prediction_choice.setVisible(len(others) > 1)
        self._offer_cells()
        cell = self._session.selection.cell
        if cell is None:
            self._session.select(self._order[0])
        elif before is None or before.prediction.get(cell) is not opened.prediction[cell]:
            self._ask_shapes()
        else:
            self._show()

    def _suggests_truth(self, layer: Labels) -> bool:
        """Whether 3D labels are probably the true shapes: not those that were predicted from, nor coarse, nor
        in units that cannot be compared.
        """
        opened = self._session.current
        if opened is not None and unit_ratio(layer.units[-1], opened.unit) is None:
            return False
        sides = grid.spacing(layer_to_world(layer))
        used = any(
            layer is unwrapped(one.labels)
            or layer.name in (one.name, one.prediction.provenance.get("labels"))
            for one in self._session.predictions
        )
        return not used and bool(sides.max() <= _COARSE * sides.min())

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
            differs = f": ambiguity {ambiguity:.2f}" if ambiguity == ambiguity else ""
            kinds = f", {modes} kinds" if modes > 1 else ""
            self.cell_choice.addItem(f"{'⚠ ' if warning else ''}cell {label}{differs}{kinds}")
        if self._session.selection.cell in self._order:
            self.cell_choice.setCurrentIndex(self._order.index(self._session.selection.cell))

    def _step(self, by: int) -> None:
        index = self.cell_choice.currentIndex() + by
        if 0 <= index < len(self._order):
            self._session.select(self._order[index])

    def _on_selected(self, event: Any = None) -> None:
        cell = self._session.selection.cell
        if cell is None and self._opened is not None and self._order:
            return  # the prediction has changed: `_on_predictions` selects
        if cell in self._order:
            self.cell_choice.setCurrentIndex(self._order.index(cell))
        self.actions.refresh()
        if self._cell is not None and self._cell.label == cell and not self._shapes.pending:
            self._show()
        else:
            self._ask_shapes()

    def _on_picture(self, cell: int, shape: Shape) -> None:
        """A cell was clicked in the picture or in a result layer."""
        if self.isVisible():
            self._session.select(cell, shape)

    # --- what is shown ---------------------------------------------------------------------------

    def show_view(self, view: View) -> None:
        self._view = view
        self.view_buttons[view].setChecked(True)
        self._show()

    def _ask_shapes(self, *_: Any) -> None:
        opened, cell = self._opened, self._session.selection.cell
        if opened is None or cell is None or cell not in opened.prediction:
            return
        truth = self.truth_choice.layer
        opened, contrast = with_layers(opened, self._viewer), None
        if isinstance(opened.image, Image):
            contrast = (float(opened.image.contrast_limits[0]), float(opened.image.contrast_limits[1]))
            if opened.plane is None:  # read from a folder, and in the place of its picture
                with suppress(InputError):  # the viewer shows other axes: show the model's input instead
                    opened = replace(opened, plane=displayed_plane(opened.image, self._viewer.dims))
        true = Truth.of(truth, opened) if isinstance(truth, Labels) else None
        self._shapes.ask(opened, cell, true, contrast)

    def _on_shapes(self, answer: CellShapes | InputError) -> None:
        if isinstance(answer, InputError):
            self.headline.setText(f"⚠ {answer}")
            return
        self._cell = answer
        if self._opened is not None and answer.label in self._opened.prediction:
            self.next_plane.search(self._opened.prediction[answer.label])
        self._show()

    def _show(self, *_: Any) -> None:
        cell, opened = self._cell, self._opened
        if cell is None or opened is None or cell.label not in opened.prediction:
            return
        selection = self._session.selection
        kept = opened.prediction.kept.get(cell.label)
        shape = selection.shape if selection.cell == cell.label else None
        tiles = tiles_of(cell, self._view, shape, kept, self._notes(opened, cell))
        known = cell.sheets if self.picture.isChecked() else ()
        self.canvas.show_tiles(cell, tiles, (*known, *self.next_plane.sheet(cell)))
        words = (self._headline(opened, cell), self.next_plane.words(opened.prediction, cell.label))
        self.headline.setText("<br>".join(filter(None, words)))
        shapes = self._steps(cell)
        with signals_blocked(self.slider):
            self.slider.setRange(0, len(shapes))
            self.slider.setValue(shapes.index(shape) + 1 if shape in shapes else 0)
        self.shape_label.setText(self._words(cell, shape))

    def _steps(self, cell: CellShapes) -> list[Shape]:
        """The shapes along the slider, in the order of the tiles."""
        numbers: list[Shape] = [number for mode in cell.modes for number in mode.numbers]
        return [*numbers, "consensus"] if cell.consensus is not None and len(numbers) > 1 else numbers

    def _words(self, cell: CellShapes, shape: Shape) -> str:
        if isinstance(shape, int) and shape in cell.members:
            mode = cell.mode_of(shape)
            return f"member {shape + 1}" + (f", kind {mode.letter}" if len(cell.modes) > 1 else "")
        several = f"all {len(cell.members)} members" if len(cell.members) > 1 else "one member"
        return "consensus" if shape == "consensus" else several

    def _notes(self, opened: OpenPrediction, cell: CellShapes) -> dict[Shape, str]:
        """Volumes, to show below the shapes."""
        unit = unit_sign(f"{cell.unit}^3")
        own = opened.measures[opened.measures["label"] == cell.label]
        notes: dict[Shape, str] = {
            int(n): f"{plain(volume)} {unit}" for n, volume in zip(own["member"], own["volume"], strict=True)
        }
        if cell.consensus is not None:
            notes["consensus"] = f"{plain(cell.consensus.volume)} {unit}"
        if cell.truth is not None:
            notes[None] = f"{plain(cell.truth.volume)} {unit}"
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
        if not self.canvas.grab().save(path if path.lower().endswith(".png") else f"{path}.png"):
            self.headline.setText(f"⚠ {path} cannot be written: choose another folder.")

    def _ask_and_save_movie(self) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Save a movie", "shapes.gif", "GIF (*.gif);;MP4 (*.mp4)")
        if path:
            self.save_movie(path)

    def save_movie(self, path: str) -> None:
        """Save a movie of one turn as GIF, or as MP4 by the extension."""
        self.movie_button.setEnabled(False)
        self.actions.status.say("The movie is being made…")
        self.movie.start(path if path.lower().endswith((".gif", ".mp4")) else f"{path}.gif")

    def _on_movie(self, answer: str | InputError) -> None:
        self.movie_button.setEnabled(True)
        failed = isinstance(answer, InputError)
        self.actions.status.say(str(answer) if failed else f"The movie was saved: {answer}", problem=failed)

    # --- changes ---------------------------------------------------------------------------------

    def _on_change(self, change: Change) -> None:
        """Show a new state of the prediction here, in the other windows and in the layers."""
        if not self._session.update(change.opened):
            self.actions.status.say("The prediction was closed: nothing was changed.", problem=True)
            return
        handle = self._session.handle(change.opened)
        if handle.layers is None:
            handle.layers = ResultLayers.found(self._viewer, handle)
        if handle.layers is not None:
            self._updater.show(change.content, handle.layers)

    @property
    def busy(self) -> bool:
        """Whether something is still running or not yet on screen."""
        running = self._shapes.pending or self.next_plane.pending or self.actions.run_bar.running
        return running or self.canvas.busy or self._updater.busy

    # --- the end ---------------------------------------------------------------------------------

    def _clean_up(self) -> None:
        """Disconnect from the viewer, and delete the canvas."""
        self._link.stop()
        self._colours.release()
        self._updater.finish()
        self.canvas.shut_down()
