"""The page "Judge" of "Synthesise annotated images": do the synthetic images help a segmenter?"""

from collections.abc import Generator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from qtpy.QtWidgets import QLabel, QPushButton, QWidget

from napari_dispr.events import mapped
from napari_dispr.synthesis.settings import JudgeSettings
from napari_dispr.widgets.parts.docked import Message
from napari_dispr.widgets.parts.layouts import column, form
from napari_dispr.widgets.parts.loading import load_torch
from napari_dispr.widgets.parts.number_boxes import whole_box
from napari_dispr.widgets.parts.picture import Picture
from napari_dispr.widgets.parts.run_bar import RunBar
from napari_dispr.widgets.parts.text_table import TextTable
from napari_dispr.widgets.parts.threads import Progress
from napari_dispr.widgets.train.inputs import FolderInput

_ABOUT = (
    "Trains small segmenters on your real images, on the synthetic ones and on both, each from scratch and "
    "for equally many steps, and tests them on real images that were not used (SEG: 1 is perfect)."
)
#: Headings and tips of the table, and the columns (mean, standard deviation) that they show.
_COLUMNS = {
    "trained on": ("training", "", "Images on which the segmenter was trained"),
    "slices": ("slices", "", "Their annotated slices"),
    "SEG": ("seg", "seg_sd", "Score on the test images; higher is better; ± over the repetitions"),
    "KID": (
        "kid_real_synthetic",
        "kid_real_synthetic_sd",
        "Distance between the features of synthetic and of real cells; at or below 0: no difference is seen",
    ),
}
#: Label, words for a message, and tip of each folder.
_FOLDERS = {
    "real_train": (
        "real, to train",
        "of real images to train on",
        "Folder of real annotated images to train on, such as those you learned from",
    ),
    "real_test": (
        "real, to test",
        "of real images to test on",
        "Folder of other real annotated images, for the test",
    ),
    "synthetic": ("synthetic", "of synthetic images", "Folder of synthetic images"),
    "out": (
        "results",
        "for the results",
        "A new folder for the table and figures, or that of a cancelled run",
    ),
}


class JudgePage(QWidget):
    """Compares training on real, synthetic and both kinds of images."""

    def __init__(self) -> None:
        super().__init__()
        self._suggested: dict[str, Path] = {}
        self.folders = {name: FolderInput(tip) for name, (_, _, tip) in _FOLDERS.items()}
        for folder in self.folders.values():
            folder.changed.connect(self._on_inputs)
        usual = JudgeSettings()
        self.steps = whole_box(1, 1_000_000, JudgeSettings.about("steps"), usual.steps)
        self.seeds = whole_box(1, 100, JudgeSettings.about("seeds"), usual.seeds)
        self.message = Message()
        self.judge_button = QPushButton("Judge", toolTip="Train and test the segmenters in the background")
        self.run_bar = RunBar("Stop; finished segmenters are kept, and the same run can continue")
        self.table = TextTable({heading: tip for heading, (_, _, tip) in _COLUMNS.items()})
        self.picture = Picture()
        folders = {_FOLDERS[name][0]: box for name, box in self.folders.items()}
        rows = form({**folders, "steps": self.steps, "repetitions": self.seeds})
        about = QLabel(_ABOUT, wordWrap=True)
        below = (self.judge_button, self.message, self.run_bar, self.table, self.picture)
        column(about, rows, *below, parent=self)
        self.judge_button.clicked.connect(self.judge)
        self.run_bar.changed.connect(self._on_inputs)
        self._on_inputs()

    def suggest(self, **folders: Path) -> None:
        """Fill in folders, except those that the user has chosen."""
        for name, folder in folders.items():
            if self.folders[name].folder in (None, self._suggested.get(name)):
                self.folders[name].folder = self._suggested[name] = folder

    def _on_inputs(self) -> None:
        missing = [_FOLDERS[name][1] for name, box in self.folders.items() if box.folder is None]
        self.message.say(f"Choose a folder {missing[0]}." if missing else "", problem=True)
        self.judge_button.setEnabled(not missing and not self.run_bar.running)

    def judge(self) -> None:
        """Train and test, in a thread."""
        places = {name: folder for name, box in self.folders.items() if (folder := box.folder) is not None}
        settings = JudgeSettings(steps=self.steps.value(), seeds=self.seeds.value())
        self.run_bar.start(
            _iter_judge(places, settings),
            partial(self._on_judged, places["out"]),
            on_event=self.run_bar.status.say,
            first="reading the images",
            kept="Judge continues with the finished segmenters.",
        )

    def _on_judged(self, out: Path, table: pd.DataFrame) -> None:
        from napari_dispr.synthesis.judge import lacking

        self.show_table(table)
        if (picture := out / "realism.png").exists():
            self.picture.show_file(picture.read_bytes())
        self.run_bar.status.say(" ".join([f"Table and figures are in {out}.", *lacking(table)]))

    def show_table(self, table: pd.DataFrame) -> None:
        """A row for each training set."""
        rows = [
            [_text(values[name], values[sd] if sd else np.nan) for name, sd, _ in _COLUMNS.values()]
            for _, values in table.iterrows()
        ]
        self.table.show_rows(rows)


def _text(value: Any, sd: float) -> str:
    if not isinstance(value, float):
        return str(value)
    if np.isnan(value):
        return ""
    return f"{value:.3f}" if np.isnan(sd) else f"{value:.3f} ± {sd:.3f}"


def _iter_judge(places: dict[str, Path], settings: JudgeSettings) -> Generator[Any, None, pd.DataFrame]:
    """The events of `iter_judge_synthesis` as progress and sentences."""
    load_torch()
    from napari_dispr.synthesis.judge import Judged, iter_judge_synthesis

    real_train, real_test, synthetic, out = places.values()

    def shown(event: Any) -> Progress | str:
        if isinstance(event, Judged):
            return f"{event.training}, repetition {event.seed + 1}: SEG {event.seg:.3f}"
        return Progress(event.done, event.total, "training segmenters, %p %")

    events = iter_judge_synthesis(real_train, real_test, synthetic, out, settings)
    table: pd.DataFrame = yield from mapped(events, shown)
    return table
