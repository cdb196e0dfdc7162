"""The button "Export": tables, the whole prediction, meshes, a report and kept shapes as files.

The writers are in `export` and `prediction`, which the thread that writes imports; here the user chooses
what to write and where.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from qtpy.QtCore import QStandardPaths
from qtpy.QtGui import QAction
from qtpy.QtWidgets import (
    QComboBox,
    QDialog,
    QDialogButtonBox,
    QFileDialog,
    QFormLayout,
    QLabel,
    QMenu,
    QPushButton,
    QWidget,
)

from napari_dispr.prediction.result import Prediction
from napari_dispr.shapes.measures import unit_sign
from napari_dispr.shapes.mesh_files import FORMATS
from napari_dispr.viewer.displayed import finest
from napari_dispr.viewer.opened import OpenPrediction
from napari_dispr.widgets.parts.layouts import column
from napari_dispr.widgets.parts.remembered import recall, remember
from napari_dispr.widgets.parts.run_bar import RunBar
from napari_dispr.widgets.parts.threads import Step

#: Key of the folder of the last export in the remembered texts.
_FOLDER_KEY = "export/folder"

#: What may be exported as a mesh of each cell, in words.
SHAPES = {
    "all": "all members and the consensus",
    "members": "all members",
    "consensus": "the consensus",
    "kept": "the shapes that were kept",
}
_ABOUT_FORMATS = (
    "stl: 3D printing, most programs; ply: MeshLab, Blender; obj: 3D graphics; glb: web viewers, PowerPoint"
)
_NOTHING = "Nothing to export yet: predict cells, or open a saved prediction"


class ExportBar(QWidget):
    """A menu of all exports, and the run bar of the export.

    ``opened`` gives the prediction to export, ``tables`` those of cells and of members, ``selected`` the
    selected cell.
    """

    def __init__(
        self,
        opened: Callable[[], OpenPrediction | None],
        tables: Callable[[], tuple[pd.DataFrame, pd.DataFrame]],
        selected: Callable[[], int | None],
    ) -> None:
        super().__init__()
        self._opened, self._tables, self._selected = opened, tables, selected
        self.button = QPushButton(
            "Export", toolTip="Save tables, shapes, meshes or a report as files for other programs"
        )
        self.run_bar = RunBar("Stop; existing files stay as they are")
        column(self.run_bar, parent=self)
        self._build_menu()
        self.run_bar.changed.connect(self.refresh)
        self.refresh()

    def _build_menu(self) -> None:
        menu = QMenu(self)
        menu.setToolTipsVisible(True)
        self.actions_by_name: dict[str, QAction] = {}
        explained = "with all measures, and a file that explains them"
        for name, text, about, ask in (
            ("cells", "Table of cells (CSV)…", f"One row for each cell {explained}",
             lambda: self._ask("Save the table of cells", "cells.csv", "Table (*.csv)",
                               lambda path: self.save_table(path, members=False))),
            ("members", "Table of members (CSV)…", f"One row for each member {explained}",
             lambda: self._ask("Save the table of members", "members.csv", "Table (*.csv)",
                               lambda path: self.save_table(path, members=True))),
            ("prediction", "Whole prediction (folder)…", "Shapes, tables and settings in a new folder, with "
             "the picture and its segmentation. Drop the folder on napari to open it again",
             lambda: self._ask("Save the prediction as a new folder", f"{self._name()} prediction",
                               "Folder (*)", self.save_prediction)),
            ("meshes", "Surface meshes (STL, PLY, OBJ, GLB)…", "Closed surfaces in the units of the picture",
             self._ask_meshes),
            ("kept", "Kept shapes (OME-TIFF)…", "The shapes that you kept, as one 3D label image with its "
             "scale",
             lambda: self._ask("Save the kept shapes", f"{self._name()} kept shapes.ome.tif",
                               "OME-TIFF (*.ome.tif)", self.save_kept)),
            ("report", "Report (HTML)…", "One page with pictures, measures and settings of all cells, to "
             "print or mail",
             lambda: self._ask("Save the report", f"{self._name()} report.html", "Web page (*.html)",
                               self.save_report)),
        ):  # fmt: skip
            action = menu.addAction(text)
            action.setToolTip(about)
            action.triggered.connect(ask)
            self.actions_by_name[name] = action
        menu.aboutToShow.connect(self.refresh)
        self.button.setMenu(menu)

    def refresh(self) -> None:
        """Enable the exports that are possible now."""
        opened = self._opened()
        there = opened is not None and len(opened.prediction) > 0
        tables = len(self._tables()[0]) > 0
        kept = bool(opened is not None and opened.prediction.kept)
        for name, action in self.actions_by_name.items():
            on = tables if name in ("cells", "members") else kept if name == "kept" else there
            action.setEnabled(on and not self.run_bar.running)
        self.button.setEnabled(tables and not self.run_bar.running)
        self.button.setStatusTip("" if tables else _NOTHING)

    # --- what is written ---------------------------------------------------------------------------

    def save_table(self, path: str | Path, *, members: bool) -> None:
        """Write the table of cells or of members as CSV, and its column dictionary."""
        table = self._tables()[members]

        def write(step: Step) -> None:
            from napari_dispr.prediction.saving import write_table

            write_table(path, table)

        self._start(write, f"{len(table)} rows written to {Path(path).name}")

    def save_prediction(self, folder: str | Path) -> None:
        opened = self._current()

        def write(step: Step) -> None:
            from napari_dispr.prediction.saving import save_pictures, save_prediction

            opened.prediction.check_has_cells()
            save_prediction(opened.prediction, folder, measures=opened.measures, progress=step)
            pictures = picture_of(opened)
            if not any(array is not None and array.ndim > 2 for array in pictures):
                save_pictures(folder, *pictures)

        self._start(
            write,
            f"The prediction was saved in {Path(folder).name}: drop the folder on napari to open it again",
        )

    def save_meshes(
        self, folder: str | Path, format: str = "stl", shapes: str = "all", cells: list[int] | None = None
    ) -> None:
        """Write surfaces; ``shapes`` is one of `SHAPES`."""
        prediction = self._current().prediction
        options: dict[str, dict[str, Any]] = {
            "all": {},
            "members": {"consensus": False},
            "consensus": {"members": ()},
            "kept": {"kept": True},
        }

        def write(step: Step) -> None:
            from napari_dispr.export.meshes import export_meshes

            export_meshes(prediction, folder, format, cells=cells, progress=step, **options[shapes])

        self._start(
            write,
            f"Meshes were written to {Path(folder).name}: x, y, z in {unit_sign(prediction.unit)}; "
            "files count members from 0",
        )

    def save_kept(self, path: str | Path) -> None:
        """Write the shapes that were kept as an OME-TIFF."""
        prediction = self._current().prediction

        def write(step: Step) -> None:
            from napari_dispr.export.meshes import export_kept

            export_kept(prediction, path)

        self._start(write, f"{len(prediction.kept)} kept shapes were written to {Path(path).name}")

    def save_report(self, path: str | Path) -> None:
        opened = self._current()

        def write(step: Step) -> None:
            from napari_dispr.export.report import report

            pictures, measures = picture_of(opened), opened.measures
            report(opened.prediction, path, *pictures, title=opened.name, measures=measures, progress=step)

        self._start(write, f"The report is {Path(path).name}: open it in a browser")

    def _current(self) -> OpenPrediction:
        opened = self._opened()
        assert opened is not None, "the menu offers it with a prediction only"
        return opened

    def _start(self, work: Callable[[Step], Any], done: str) -> None:
        """Write in a thread, then show a sentence."""
        self.run_bar.start(
            work,
            lambda result: self.run_bar.status.say(f"{done}."),
            first="writing",
            kept="Nothing was written.",
        )

    # --- where to write ----------------------------------------------------------------------------------

    def _ask(self, title: str, name: str, kind: str, save: Callable[[str], None]) -> None:
        if path := self.ask_file(title, name, kind):
            save(path)

    def _ask_meshes(self) -> None:
        dialog = MeshDialog(self._current().prediction, self._selected(), self)
        if dialog.exec():
            self._ask(
                "Save the meshes in a new folder",
                f"{self._name()} meshes",
                "Folder (*)",
                lambda path: self.save_meshes(path, dialog.format, dialog.shapes, dialog.cells),
            )

    def _name(self) -> str:
        opened = self._opened()
        return opened.name if opened is not None else "cells"

    def ask_file(self, title: str, name: str, *kinds: str) -> str:
        """Ask for the path of a file, in the folder of the last export; empty if cancelled."""
        place = str(Path(last_folder()) / name)
        path, kind = QFileDialog.getSaveFileName(self, title, place, ";;".join(kinds))
        if not path:
            return ""
        remember({_FOLDER_KEY: str(Path(path).parent)})
        ends = [one.partition("*")[2].rstrip(")") for one in kinds]
        chosen = ends[kinds.index(kind)] if kind in kinds else ends[0]
        return path if path.lower().endswith(tuple(ends)) else path + chosen


class MeshDialog(QDialog):
    """The shapes, the cells, and the format."""

    def __init__(self, prediction: Prediction, selected: int | None, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Export surface meshes")
        self._selected = selected
        self.cells_choice, self.shapes_choice, self.format_choice = QComboBox(), QComboBox(), QComboBox()
        self.cells_choice.addItem(f"all {len(prediction)} cells")
        if selected is not None and selected in prediction:
            self.cells_choice.addItem(f"cell {selected}, which is selected")
        for name, words in SHAPES.items():
            if name != "kept" or prediction.kept:
                self.shapes_choice.addItem(words, name)
        self.format_choice.addItems(FORMATS)
        self.format_choice.setToolTip(_ABOUT_FORMATS)
        form = QFormLayout(self)
        form.addRow("of", self.cells_choice)
        form.addRow("shapes", self.shapes_choice)
        form.addRow("format", self.format_choice)
        where = f"One file for each shape, in {unit_sign(prediction.unit)}, where napari shows it."
        form.addRow(QLabel(where, wordWrap=True))
        buttons = QDialogButtonBox(
            QDialogButtonBox.StandardButton.Ok | QDialogButtonBox.StandardButton.Cancel
        )
        buttons.accepted.connect(self.accept)
        buttons.rejected.connect(self.reject)
        form.addRow(buttons)

    @property
    def cells(self) -> list[int] | None:
        """The labels of the cells; None: all."""
        return [self._selected] if self.cells_choice.currentIndex() and self._selected is not None else None

    @property
    def shapes(self) -> str:
        """One of `SHAPES`."""
        return str(self.shapes_choice.currentData())

    @property
    def format(self) -> str:
        """One of the formats of meshes."""
        return self.format_choice.currentText()


def last_folder() -> str:
    """Where the last export went; the user's documents at first."""
    folder = recall(_FOLDER_KEY)
    if folder and Path(folder).is_dir():
        return folder
    return QStandardPaths.writableLocation(QStandardPaths.StandardLocation.DocumentsLocation)


def picture_of(opened: OpenPrediction) -> tuple[NDArray[Any] | None, NDArray[Any] | None]:
    """The picture and the labels of a prediction, if they are available.

    Those of a prediction from several planes are stacks (plane, y, x).
    """
    shape, plane = tuple(opened.prediction.image_shape), opened.plane
    axes = 3 if "depths" in opened.prediction.provenance else 2
    image = None if plane is None else np.asarray(plane.array)
    if plane is None and opened.image is not None:
        image = np.asarray(finest(opened.image))
    labels = None
    if opened.labels is not None:
        array = finest(opened.labels)
        leading = array.ndim - axes
        index = plane.index[-leading:] if plane is not None and leading > 0 else ()
        if len(index) == leading:
            labels = np.asarray(array[index] if index else array)
    # A layer whose shape has changed since then is another picture.
    image = image if image is not None and image.shape[-2:] == shape and image.ndim <= axes else None
    labels = labels if labels is not None and labels.shape[-2:] == shape and labels.ndim <= axes else None
    return image, labels
