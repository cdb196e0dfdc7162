"""The page "Make" of "Synthesise annotated images": sliders, a preview, images into layers or a folder."""

from pathlib import Path
from typing import Any

from napari.viewer import Viewer
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QComboBox, QFileDialog, QLabel, QPushButton, QWidget
from superqt import QLabeledDoubleSlider

from napari_dispr.errors import problem_of
from napari_dispr.synthesis.annotated import Annotated
from napari_dispr.synthesis.populations import Population
from napari_dispr.synthesis.settings import SIDES, SLICES
from napari_dispr.synthesis.simulated_sources import SIMULATED
from napari_dispr.widgets.parts.combo_boxes import ShortComboBox, refill
from napari_dispr.widgets.parts.docked import Message
from napari_dispr.widgets.parts.layouts import column, form, narrow, row
from napari_dispr.widgets.parts.number_boxes import LARGEST, whole_box
from napari_dispr.widgets.parts.picture import Picture
from napari_dispr.widgets.parts.run_bar import RunBar
from napari_dispr.widgets.synthesis.browser import FieldBrowser
from napari_dispr.widgets.synthesis.learn_run import learned_models
from napari_dispr.widgets.synthesis.make_request import (
    MOST_LAYERS,
    MakeRequest,
    Thumb,
    iter_folder,
    iter_layers,
    iter_preview,
    sources,
    usual,
)
from napari_dispr.widgets.train.inputs import FolderInput

#: A preview follows the sliders after this pause, milliseconds.
_PAUSE = 300
_OTHER = "Other file…"
_CONTINUES = "The images so far are kept; Make continues with them."


class MakePage(QWidget):
    """Makes annotated images."""

    def __init__(self, viewer: Viewer) -> None:
        super().__init__()
        self._live = False  # the preview follows the sliders
        self._folder = Path()  # to which images are written
        self._build(viewer)
        self._soon = QTimer(self, singleShot=True, interval=_PAUSE)
        self._soon.timeout.connect(self.preview)
        self._connect()
        self.offer_models()
        self._on_inputs()

    # --- layout ----------------------------------------------------------------------------------

    def _build(self, viewer: Viewer) -> None:
        self._build_cells()
        self._build_output()
        self.preview_button = QPushButton(
            "Preview", toolTip="Make one small image now; afterwards it follows the sliders"
        )
        self.preview_bar = RunBar("Stop the preview")
        self.picture = Picture()
        self.message = Message()
        self.make_button = QPushButton("Make", toolTip="Make the images in the background")
        self.run_bar = RunBar("Stop; finished images are kept, and the same run can continue with them")
        self.browser = FieldBrowser(viewer)
        preview = column(self.preview_button, self.preview_bar)
        preview.setSpacing(0)
        make = (self.make_button, self.message, self.run_bar, self.browser)
        column(self.cells_form, preview, self.picture, self.out_form, *make, None, parent=self)

    def _build_cells(self) -> None:
        """Which cells, and how they are placed."""
        self.source = ShortComboBox(characters=12)
        self.source.setToolTip(
            "Where the cells come from: a model learned from your cells, or simulated cells"
        )
        self.dimensions = QComboBox(toolTip="Make 3D stacks or 2D images")
        self.dimensions.addItem("3D stacks", 3)
        self.dimensions.addItem("2D images", 2)
        self.size = {}
        for axis, limits, usual_size in (("z", SLICES, 16), ("y", SIDES, 256), ("x", SIDES, 256)):
            self.size[axis] = whole_box(*limits, f"Voxels of an image along {axis}", usual_size)
            narrow(self.size[axis])
        self.density = _slider(0.01, 0.5, 0.1, "Share of the image that cells fill")
        tip = "Probability that a cell is placed next to another one"
        self.clustering = _slider(0, 1, 0.3, tip)
        self.cell_size = _slider(0.5, 1.5, 1.0, "Diameter of the cells relative to those of the source")
        tip = (
            "How similar the textures of neighbouring slices of a cell are: weight of their common noise "
            "(rho). 0 is as the model has learned; more makes bright spots. Only for 3D stacks of a learned "
            "model"
        )
        self.consistency = _slider(0, 3, 0.0, tip)
        self.seed = whole_box(0, LARGEST, "The same seed and settings make the same images")
        self._size_row = QWidget()
        row(*((box, 1) for box in self.size.values()), parent=self._size_row)
        self.cells_form = form(
            {
                "cells": self.source,
                "make": self.dimensions,
                "size z, y, x": self._size_row,
                "density": self.density,
                "clustering": self.clustering,
                "cell size": self.cell_size,
                "consistency": self.consistency,
                "seed": self.seed,
            }
        )

    def _build_output(self) -> None:
        """Where the images go."""
        self.into = QComboBox(toolTip="Where the images go")
        self.into.addItem("a folder", "folder")
        self.into.addItem("new layers", "layers")
        self.images = whole_box(1, 1_000_000, "Number of images", 20)
        self.folder = FolderInput("Folder to write to: a new one, or that of a cancelled run")
        self.layout_choice = ShortComboBox(characters=12)
        self.layout_choice.setToolTip(
            "Names of folders and files for the program that you train. For Cellpose each slice is a file"
        )
        for name, text in (
            ("plain", "plain: image, labels"),
            ("stardist", "StarDist: images, masks"),
            ("cellpose", "Cellpose: NAME_masks"),
        ):
            self.layout_choice.addItem(text, name)
        self.out_form = form(
            {"into": self.into, "images": self.images, "folder": self.folder, "files": self.layout_choice}
        )

    def _connect(self) -> None:
        self.source.activated.connect(self._on_source)
        for box in (self.dimensions, self.into):
            box.currentIndexChanged.connect(self._on_inputs)
        for slider in (self.density, self.clustering, self.cell_size, self.consistency):
            slider.valueChanged.connect(self._on_change)
        for spin in (*self.size.values(), self.seed):
            spin.valueChanged.connect(self._on_change)
        for choice in (self.source, self.dimensions):
            choice.currentIndexChanged.connect(self._take_usual)
            choice.currentIndexChanged.connect(self._on_change)
        self.folder.changed.connect(self._on_inputs)
        self.images.valueChanged.connect(self._on_inputs)
        self.preview_button.clicked.connect(self.preview)
        self.make_button.clicked.connect(self.make)
        self.run_bar.changed.connect(self._on_inputs)
        self.preview_bar.changed.connect(self._on_preview_changed)

    # --- inputs ----------------------------------------------------------------------------------

    def offer_models(self) -> None:
        """Offer the learned models that there are now, above the simulated cells."""
        before = self.source.currentData()
        items = {str(path): path.stem for path in learned_models()}
        items |= sources()
        if before and before not in items:
            items = {before: Path(before).stem} | items
        refill(self.source, {**items, None: _OTHER}, before or next(iter(items)))
        if self.source.currentData() != before:
            self._take_usual()
        self._on_inputs()

    def use_model(self, model: Path) -> None:
        """Choose a learned model by its file."""
        self.offer_models()
        if self.source.findData(str(model)) < 0:
            self.source.insertItem(0, model.stem, str(model))
        self.source.setCurrentIndex(self.source.findData(str(model)))
        self._on_inputs()

    def _take_usual(self) -> None:
        """Move the sliders to what the chosen model has learned."""
        found = usual(self.source.currentData() or "", self.dimensions.currentData())
        if found is not None:
            self.density.setValue(found[0])
            self.clustering.setValue(found[1])
        self.cell_size.setValue(1.0)

    def _on_source(self) -> None:
        if self.source.currentData() is None:
            chosen, _ = QFileDialog.getOpenFileName(self, "A learned model", "", "Models (*.safetensors)")
            if chosen:
                self.use_model(Path(chosen))
            else:
                self.source.setCurrentIndex(0)
        self._on_inputs()

    @property
    def request(self) -> MakeRequest:
        """What the inputs ask for."""
        size = tuple(box.value() for box in self.size.values())
        return MakeRequest(
            source=self.source.currentData() or "",
            size=size[-self.dimensions.currentData() :],
            density=round(self.density.value(), 2),
            clustering=round(self.clustering.value(), 2),
            cell_size=round(self.cell_size.value(), 2),
            consistency=round(self.consistency.value(), 2),
            seed=self.seed.value(),
        )

    def _on_inputs(self) -> None:
        """Show the controls that matter, and say what is missing."""
        in_3d, to_folder = self.dimensions.currentData() == 3, self.into.currentData() == "folder"
        self.size["z"].setVisible(in_3d)
        label = self.cells_form.labelForField(self._size_row)
        assert isinstance(label, QLabel)
        label.setText("size z, y, x" if in_3d else "size y, x")
        simulated = self.request.source in SIMULATED
        self.cells_form.setRowVisible(self.consistency, in_3d and not simulated)
        for control in (self.folder, self.layout_choice):
            self.out_form.setRowVisible(control, to_folder)
        problem = ""
        if to_folder and self.folder.folder is None:
            problem = "Choose a folder for the images."
        elif not to_folder and self.images.value() > MOST_LAYERS:
            problem = f"More than {MOST_LAYERS} images are too many layers: make them into a folder."
        self.message.say(problem, problem=True)
        self.make_button.setEnabled(not problem and not self.run_bar.running)

    # --- preview ---------------------------------------------------------------------------------

    def _on_change(self) -> None:
        if self._live:
            self._soon.start()

    def preview(self) -> None:
        """Make a small image; a running preview ends and starts again."""
        self._live = True
        self.preview_bar.restart(iter_preview(self.request), self._on_preview, kept="")

    def _on_preview(self, result: tuple[Any, tuple[str, ...]]) -> None:
        picture, notes = result
        self.picture.show_array(picture)
        self.preview_bar.status.say(" ".join(notes))

    def _on_preview_changed(self) -> None:
        """The bar takes the place of the button, so that nothing below moves when a slider does."""
        self.preview_button.setVisible(not self.preview_bar.running)

    # --- making ----------------------------------------------------------------------------------

    def make(self) -> None:
        """Make the images, in a thread."""
        request, images = self.request, self.images.value()
        if problem := problem_of(lambda: request.settings):
            self.message.say(problem, problem=True)
            return
        if self.into.currentData() == "layers":
            work = iter_layers(request, images)
            self.run_bar.start(work, self.run_bar.status.say, on_event=self._on_population)
            return
        folder = self.folder.folder
        assert folder is not None
        self._folder = folder
        work = iter_folder(request, folder, images, self.layout_choice.currentData())
        self.run_bar.start(work, self.run_bar.status.say, on_event=self._on_thumb, kept=_CONTINUES)

    def _on_thumb(self, thumb: Thumb) -> None:
        if self.browser.folder != self._folder:
            self.browser.begin(self._folder)
        self.browser.add(thumb)

    def _on_population(self, population: Population) -> None:
        self.browser.add_layers(
            Annotated("", population.image, population.labels, population.spacing, population.unit)
        )


def _slider(low: float, high: float, value: float, tip: str) -> QLabeledDoubleSlider:
    slider = QLabeledDoubleSlider(Qt.Orientation.Horizontal)
    slider.setRange(low, high)
    slider.setDecimals(2)
    slider.setValue(value)
    slider.setToolTip(tip)
    return slider
