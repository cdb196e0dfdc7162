"""Learns from annotated layers in a process of its own, and follows it. No Qt.

A run named NAME has two folders in the user's data: NAME.run with the images, the process and its output, and
NAME.learning, which the process writes. The learned model is the file NAME.safetensors next to them.
"""

import json
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from napari.layers import Image, Labels
from numpy.typing import NDArray
from platformdirs import user_data_path

from napari_dispr.cells.stack_files import StatedSpacing
from napari_dispr.errors import InputError, counted, duration, problem_of
from napari_dispr.files import write_json
from napari_dispr.models.library import check_name, numbered_names
from napari_dispr.shapes.measures import unit_sign
from napari_dispr.synthesis.annotated import Annotated, annotated_files, read_annotated, write_image
from napari_dispr.synthesis.annotated_cells import check_annotated
from napari_dispr.training.run import RunFolder, written_at
from napari_dispr.viewer.displayed import finest
from napari_dispr.widgets.parts.followed import Followed, last_line
from napari_dispr.widgets.parts.wording import AS_LABELS
from napari_dispr.widgets.train.request import layers_spacing

_NAME, _RUN, _LEARNING, _MODEL = "my-cells", ".run", ".learning", ".safetensors"
_PLAN = "plan.json"
#: How the command begins a sentence for the user, and its last one after a stop.
_SAYS = "napari-dispr: "
_INTERRUPTED = f"{_SAYS}interrupted"
#: The most points of a curve; beyond them every second one is dropped.
_MOST_LOSSES = 2000
#: A process that does not stop on request is killed after this time, in seconds: a step and a picture.
GRACE = 20.0


def models_folder() -> Path:
    """The folder with the user's learned models and the runs that make them."""
    return user_data_path("napari-dispr", appauthor=False) / "synthesis"


def learned_models() -> list[Path]:
    """The user's learned models, the newest first."""
    found = [path for path in models_folder().glob(f"*{_MODEL}") if not path.name.startswith(".")]
    return sorted(found, key=written_at, reverse=True)


# --- what to learn from ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class AnnotatedLayers:
    """An image layer and its label layer, (y, x) or (z, y, x), with the size of their voxels."""

    image: NDArray[Any]
    labels: NDArray[Any]
    spacing: tuple[float, ...]
    unit: str

    @property
    def summary(self) -> str:
        """Such as ``3D, voxels of 1 x 0.3 x 0.3 µm``."""
        sides = " x ".join(f"{side:.4g}" for side in self.spacing)
        size = "voxels" if len(self.spacing) == 3 else "pixels"
        if self.unit == "pixel":
            return f"{len(self.spacing)}D, {size} of {sides} (no unit: give the layers a scale and units)"
        return f"{len(self.spacing)}D, {size} of {sides} {unit_sign(self.unit)}"


def annotated_layers(
    image: Image | None, labels: Labels | None, stated: StatedSpacing | None = None
) -> AnnotatedLayers:
    """Check two layers without reading their pixels; their voxel size is that of `layers_spacing`.

    Raises an InputError if a layer is missing, or they are not one 2D or 3D image and its labels.
    """
    if image is None or labels is None:
        raise InputError(
            f"Choose an image and its labels. For a first try: File > Open Sample > napari DISPR. {AS_LABELS}"
        )
    if getattr(image, "rgb", False):
        raise InputError(f'"{image.name}" is a colour image: split it into channels and choose one.')
    pixels, marks = finest(image), finest(labels)
    if pixels.ndim not in (2, 3):
        raise InputError(
            f'"{image.name}" has {pixels.ndim} axes: choose a 2D image or a 3D stack of one channel and time.'
        )
    if pixels.shape != marks.shape:
        raise InputError(
            f'"{image.name}" has the shape {pixels.shape} and "{labels.name}" {marks.shape}: choose labels '
            "that were made from this image."
        )
    spacing = layers_spacing(image, labels, stated)
    return AnnotatedLayers(pixels, marks, spacing.sides, spacing.unit)


def images_in(folder: Path) -> str:
    """How many annotated images a folder holds, in words; does not read them.

    Raises an InputError if it is no folder of images and their labels.
    """
    return f"{counted(len(annotated_files(folder)), 'image')} with labels"


def free_name() -> str:
    """A name that no learned model and no run has: my-cells, my-cells-2, ..."""
    return next(name for name in numbered_names(_NAME) if not _is_taken(name))


def name_problem(name: str) -> str:
    """Why a new model cannot have this name, in a sentence; empty if it can."""
    if not name.strip():
        return "Give the model a name, such as my-cells."
    if not (problem := problem_of(lambda: check_name(name))) and _is_taken(name):
        return f"There is a learned model or a run {name!r} already: choose another name."
    return problem


def _is_taken(name: str) -> bool:
    return any((models_folder() / f"{name}{end}").exists() for end in (_RUN, _LEARNING, _MODEL))


# --- the run -----------------------------------------------------------------------------------------


class LearnRun(RunFolder):
    """A run that learns to synthesise cells."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, folder.name.removesuffix(_RUN))

    @property
    def model(self) -> Path:
        """The learned model, once the run is finished."""
        return self.folder.with_name(self.name + _MODEL)

    @property
    def learning(self) -> Path:
        """The folder that the process writes."""
        return self.folder.with_name(self.name + _LEARNING)

    @property
    def checkpoint(self) -> Path:
        """What is learned so far; missing before the first save."""
        return self.learning / "checkpoint.pt"

    @property
    def log(self) -> Path:
        return self.learning / "log.jsonl"

    @property
    def picture(self) -> Path:
        """Real and made masks, and real and made textures. Replaced from time to time."""
        return self.learning / "preview.png"

    @property
    def _plan(self) -> dict[str, Any]:
        plan: dict[str, Any] = json.loads((self.folder / _PLAN).read_text("utf-8"))
        return plan

    @property
    def images(self) -> Path:
        """The folder of the annotated images."""
        return Path(self._plan.get("images") or self.folder)

    def command(self, finish: bool = False) -> list[str]:
        start = [sys.executable, "-m", "napari_dispr", "synthesise", "learn", str(self.images)]
        budget = ["--out", str(self.model), "--minutes", f"{self._plan['minutes']:g}"]
        return [*start, *budget, *(["--finish"] if finish else [])]

    def request_stop(self) -> None:
        """Let the process save and end; on Windows it ends at once and has its last save."""
        if (owner := self._owner()) is not None:
            owner.terminate()

    def _folders(self) -> tuple[Path, ...]:
        return self.learning, self.folder


def start_learning(source: AnnotatedLayers | Path, name: str, minutes: float) -> LearnRun:
    """Start the process of a new run, into which layers are written first. Reads pixels: for a thread.

    Raises an InputError if the name is taken, the labels hold too few cells, or files cannot be written.
    """
    if problem := name_problem(name):
        raise InputError(problem)
    run = LearnRun(models_folder() / f"{name}{_RUN}")
    plan: dict[str, Any] = {"name": name, "minutes": minutes}
    if isinstance(source, Path):
        check_annotated(list(read_annotated(source)))
        plan["images"] = str(source.absolute())
    else:
        image, labels = np.asarray(source.image), np.asarray(source.labels)
        check_annotated([Annotated("the image", image, labels, source.spacing, source.unit)])
    try:
        write_json(run.folder / _PLAN, plan)
        if not isinstance(source, Path):
            # Labels of 64 bit, which napari makes, do not go into OME-TIFF.
            small = labels.astype(np.min_scalar_type(int(labels.max())))
            for kind, array in (("image", image), ("labels", small)):
                write_image(run.folder / kind / f"{name}.tif", array, source.spacing, source.unit)
        run.start()
    except OSError as error:
        shutil.rmtree(run.folder, ignore_errors=True)
        raise InputError(f"{error.filename} cannot be written: {error.strerror or error}.") from error
    except InputError:
        shutil.rmtree(run.folder, ignore_errors=True)
        raise
    return run


def all_runs() -> list[LearnRun]:
    """The runs in `models_folder`, the newest first."""
    folders = sorted(models_folder().glob(f"*{_RUN}"), key=written_at, reverse=True)
    return [LearnRun(folder) for folder in folders]


# --- following ---------------------------------------------------------------------------------------


class Losses(NamedTuple):
    """Mean losses of masks and textures at ``share`` of the budget."""

    share: float
    masks: float
    textures: float


class FollowedLearning(Followed):
    """A run with its losses."""

    run: LearnRun

    def __init__(self, run: LearnRun) -> None:
        super().__init__(run)
        self.losses: list[Losses] = []
        self.last: Mapping[str, Any] = {}
        self.end: Mapping[str, Any] = {}
        self.warnings: list[str] = []

    def started(self, finish: bool = False) -> None:
        super().started(finish)
        self.last = self.end = {}

    def _add(self, line: Mapping[str, Any]) -> None:
        if line.get("kind") == "begin":
            self.warnings = line.get("warnings", [])
        if line.get("kind") == "end":
            self.end = line
        if line.get("kind") != "step":
            return
        share = line["done"] / line["total"]
        # A run that continues repeats what came after its last save.
        while self.losses and self.losses[-1].share >= share:
            self.losses.pop()
        values = (line[name] for name in ("mask_loss", "texture_loss"))
        self.losses.append(Losses(share, *(float("nan") if value is None else value for value in values)))
        if len(self.losses) > _MOST_LOSSES:
            del self.losses[1::2]
        self.last = line

    @property
    def progress(self) -> float:
        """How much of the budget is used, 0 to 1."""
        return self.losses[-1].share if self.losses else 0.0

    @property
    def can_finish(self) -> bool:
        return self.run.checkpoint.is_file()

    def headline(self) -> str:
        if self.state == "running":
            if self._finishing:
                return "Saving what is learned so far as a model."
            if self._starting or not self.losses:
                return "Starting: loading libraries and cutting out cells."
            return "Learning masks and textures." if self.progress < 1 else "Saving the model."
        if self.state == "finished":
            return f'Finished: "{self.run.name}" can now be chosen in Make.'
        if not self.losses:
            return "Stopped before it began."
        return f"Stopped at {int(100 * self.progress)}% of its time."

    def numbers(self) -> str:
        """Of a running training the time left; of a finished one, how far made masks are from copies."""
        if self.state == "running" and self.last:
            return f"step {self.last['step']:,} · {duration(self.last['seconds_left'])} left"
        if self.state == "finished" and "overlap_with_held_out" in self.end:
            known, other = self.end["overlap_with_training"], self.end["overlap_with_held_out"]
            return (
                f"Learned from {self.end['cells']} cells. Made masks overlap with the most similar real mask "
                f"(IoU) by {known:.2f} among training cells and {other:.2f} among validation cells."
            )
        return ""

    def problem(self) -> str:
        if self.state in ("running", "finished"):
            return " ".join(self.warnings)
        printed = last_line(self.run.output)
        if not printed or printed.startswith(_INTERRUPTED):
            return ""
        text = printed.removeprefix(_SAYS)
        # A warning at the beginning, or a progress bar, is not the reason of the end.
        is_warning = any(warning.startswith(text.rstrip("…")) for warning in self.warnings)
        if printed.startswith(_SAYS) and not is_warning:
            return text
        output = "" if is_warning or "%|" in printed else f' Its last output: "{printed}"'
        return (
            "The process ended unexpectedly (killed, out of memory or switched off). Its last save is kept: "
            f"press Continue.{output}"
        )
