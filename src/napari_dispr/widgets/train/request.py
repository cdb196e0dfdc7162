"""The cells to train on, their problems in words, and the start of a run; no Qt.

``stack_of`` does not read pixels and is quick; ``gather`` reads, crops and checks the cells, ``start_run``
writes them and starts the run: call both in a thread.
"""

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from napari.layers import Image, Labels
from numpy.typing import NDArray

from napari_dispr.cells.folders import CellFile, DatasetNotes, read_notes, read_training_cells, write_dataset
from napari_dispr.cells.splits import check_cells, split_cells
from napari_dispr.cells.stack_files import StatedSpacing
from napari_dispr.cells.stacks import Stack, cut_stacks, in_words
from napari_dispr.cells.stated_sizes import UNIT, micrometers
from napari_dispr.errors import InputError, counted
from napari_dispr.export.pictures import montage
from napari_dispr.models.library import available_models, new_model_path, numbered_names, user_folder
from napari_dispr.settings import TrainSettings
from napari_dispr.shapes.measures import unit_sign
from napari_dispr.training.run import Plan, Run, runs_folder
from napari_dispr.viewer.displayed import finest
from napari_dispr.viewer.world import layer_to_world, unit_ratio
from napari_dispr.widgets.parts.loading import without_full_collections
from napari_dispr.widgets.parts.wording import AS_LABELS

Plane = Literal["middle"] | int

_NAME = "my-cells"
#: Columns and rows of cells in the small picture, and in the large one.
SMALL, LARGE = (3, 2), (6, 6)


@dataclass(frozen=True, slots=True)
class Spacing:
    """Distance of voxels along z, y and x, or of pixels along y and x, in ``unit`` ("pixel": not known)."""

    sides: tuple[float, ...]
    unit: str

    @property
    def is_known(self) -> bool:
        """Whether the voxel size was set."""
        return self.unit != "pixel" or any(side != 1 for side in self.sides)


@dataclass(frozen=True, slots=True, eq=False)
class DataRequest:
    """Where the cells are: in a stack (with the z of the imaged plane), or in a dataset folder."""

    stack: Stack | None = None
    plane: Plane = "middle"
    folder: Path | None = None


@dataclass(frozen=True, slots=True, eq=False)
class TrainingData:
    """Cells to train on, and sentences about them: how many there are, how many were left out and why.

    ``folder`` is the dataset that holds them already; without it the run writes them. The picture (y, x, 3)
    shows some of them.
    """

    cells: tuple[CellFile, ...]
    folder: Path | None
    notes: DatasetNotes
    summary: str
    warnings: tuple[str, ...]
    picture: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """Settings of the new model; ``start`` is the start model, None: from scratch."""

    name: str
    start: str | None
    preset: str
    settings: TrainSettings
    licence: str = ""
    data_note: str = ""


# --- from layers -------------------------------------------------------------------------------------


def spacing_of(layer: Image | Labels) -> Spacing:
    """Distance of a layer's voxels along its last axes, at most three, also if it is rotated.

    Raises an InputError if the layer is sheared, or its axes have units that cannot be converted.
    """
    units = layer.units[-3:]
    if None in [unit_ratio(unit, units[-1]) for unit in units]:
        raise InputError(
            f'"{layer.name}" has {"zyx"[-len(units)]} in {units[0]} and x in {units[-1]}: give all axes '
            "units of length."
        )
    axes = layer_to_world(layer)[-len(units) - 1 : -1, -len(units) - 1 : -1]
    lengths = np.linalg.norm(axes, axis=0)
    if not lengths.all():
        raise InputError(f'"{layer.name}" has a scale of 0: give all axes a scale.')
    cosines = (axes.T @ axes) / np.outer(lengths, lengths)
    if np.abs(cosines - np.eye(len(units))).max() > 0.01:
        raise InputError(f'"{layer.name}" is sheared: remove the shear, so that distances are correct.')
    # Seven digits: what a layer computes from 0.2 is 0.2 again.
    return Spacing(tuple(float(f"{length:.7g}") for length in lengths), str(units[-1]))


def layers_spacing(image: Image | None, labels: Labels, stated: StatedSpacing | None = None) -> Spacing:
    """Voxel size of the labels; of the picture if they have none; what their files state if none has."""
    spacing = spacing_of(labels)
    if image is not None and not spacing.is_known:
        spacing = spacing_of(image)
    if not spacing.is_known and stated:
        sides = tuple(side for side in stated[-len(spacing.sides) :] if side is not None)
        return Spacing(sides, UNIT) if len(sides) == len(spacing.sides) else spacing
    return spacing


def stack_of(image: Image | None, labels: Labels | None, spacing: Spacing) -> Stack:
    """The chosen layers as a stack, without reading them.

    Raises an InputError if there are no labels, or they do not fit the picture.
    """
    if labels is None:
        raise InputError(
            f"Open a 3D label layer (each cell a number), or choose a dataset folder. {AS_LABELS}"
        )
    voxels = None if image is None else finest(image)
    marks = finest(labels)
    if voxels is not None and tuple(voxels.shape) != tuple(marks.shape):
        raise InputError(
            f'"{image.name if image else ""}" has {_size(voxels.shape)} voxels and "{labels.name}" '
            f"{_size(marks.shape)}: choose labels made from this picture."
        )
    # Files get this name.
    name = re.sub(r"[^\w .-]+", "-", labels.name).strip(" .-") or "cells"
    z, y, x = spacing.sides
    return Stack(name, voxels, marks, (z, y, x), spacing.unit, _clash(image, labels, spacing))


def _clash(image: Image | None, labels: Labels, spacing: Spacing) -> str:
    """A sentence if the picture states another voxel size than the labels, whose size is used."""
    if image is None or spacing != (own := spacing_of(labels)) or not own.is_known:
        return ""
    other = spacing_of(image)
    theirs, ours = (np.multiply(s.sides, micrometers(s.unit) or 1.0) for s in (other, own))
    if not other.is_known or np.allclose(theirs, ours, rtol=0.01):
        return ""
    texts = [f"{' x '.join(f'{step:.4g}' for step in s.sides)} {unit_sign(s.unit)}" for s in (other, own)]
    return (
        f'"{image.name}" has voxels of {texts[0]}, "{labels.name}" of {texts[1]}. Those of the labels are '
        "used: give the voxel size above if they are wrong."
    )


def _size(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


# --- reading -----------------------------------------------------------------------------------------


class Progress:
    """How many labels have been cropped; once it is cancelled, it ends the cropping by an `InputError`."""

    def __init__(self) -> None:
        self.done = self.total = 0
        self.cancelled = False

    def __call__(self, done: int, total: int) -> None:
        self.done, self.total = done, total
        if self.cancelled:
            raise InputError("The cells have changed while they were read: they are read again.")


def gather(request: DataRequest, progress: Progress | None = None) -> TrainingData:
    """Read, crop and check the cells. Raises an InputError if they cannot be used."""
    try:
        with without_full_collections():
            if request.folder is not None:
                return _of_folder(request.folder)
            return _of_stack(request, progress)
    except MemoryError as error:
        raise InputError("There is not enough memory for these cells: crop the stack first.") from error
    except OSError as error:  # a lazy layer reads its file here
        raise InputError(f"The cells cannot be read: {error}.") from error


def _of_folder(folder: Path) -> TrainingData:
    cells = tuple(read_training_cells(folder))
    return _checked(cells, folder, read_notes(folder), f"{counted(len(cells), 'cell')} to train on.", ())


def _of_stack(request: DataRequest, progress: Progress | None) -> TrainingData:
    stack = request.stack
    assert stack is not None
    read = replace(
        stack, labels=np.asarray(stack.labels), image=None if stack.image is None else np.asarray(stack.image)
    )
    cut = cut_stacks([read], plane=request.plane, progress=progress)
    notes = DatasetNotes(
        voxel_size=None if cut.unit == "pixel" else cut.voxel_size,
        unit=cut.unit,
        source=[stack.name],
        plane=cut.plane,
        left_out=cut.left_out,
    )
    unit = "pixels" if cut.unit == "pixel" else unit_sign(cut.unit)
    number = counted(len(cut.cells), "cell")
    summary = f"{number} to train on, a voxel of the model grid is {cut.voxel_size:.3g} {unit}."
    if cut.left_out:
        summary += f" Left out: {in_words(cut.left_out)}."
    warnings = [stack.note] if stack.note else []
    if not Spacing(stack.spacing, stack.unit).is_known:
        warnings.insert(
            0,
            "The layers have no voxel size. If slices are further apart than pixels, give the voxel size "
            "above: otherwise shapes become too flat.",
        )
    return _checked(tuple(cut.cells), None, notes, summary, warnings)


def _checked(
    cells: tuple[CellFile, ...],
    folder: Path | None,
    notes: DatasetNotes,
    summary: str,
    warnings: Sequence[str],
) -> TrainingData:
    split_cells(cells)  # raises if there are too few
    picture = montage(cells, columns=SMALL[0], rows=SMALL[1])
    return TrainingData(cells, folder, notes, summary, (*warnings, *check_cells(cells)), picture)


def large_picture(data: TrainingData) -> NDArray[np.uint8]:
    """A larger picture of more cells, (y, x, 3)."""
    with without_full_collections():
        return montage(data.cells, columns=LARGE[0], rows=LARGE[1])


# --- starting ---------------------------------------------------------------------------------------


def new_name(name: str) -> str:
    """The name of a new model, checked.

    Raises an InputError if a file cannot have this name, or a model or a run has it.
    """
    if not name.strip():
        raise InputError("Give the model a name, such as my-nuclei.")
    name = new_model_path(name).stem
    if name.casefold() in _run_names():
        raise InputError(
            f"There is a training run {name!r} already: choose another name, or choose that run above."
        )
    return name


def free_name() -> str:
    """A name that no model and no run has: my-cells, my-cells-2, ..."""
    taken = {model.casefold() for model in available_models()} | _run_names()
    return next(name for name in numbered_names(_NAME) if name not in taken)


def _run_names() -> set[str]:
    try:
        return {path.name.casefold() for path in runs_folder().iterdir()}
    except OSError:  # there is no run yet
        return set()


def start_run(data: TrainingData, model: ModelRequest) -> Run:
    """Write the cells, unless a folder holds them, plan a run and start its process.

    Raises an InputError if the name is taken, or files cannot be written.
    """
    name = new_name(model.name)
    folder = runs_folder() / name
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise InputError(f"The folder {folder} cannot be made: {error.strerror or error}.") from error
    try:
        dataset = data.folder
        if dataset is None:
            dataset = folder / "cells"
            with without_full_collections():
                write_dataset(dataset, data.cells, data.notes)
        plan = Plan(
            name=name,
            dataset=str(dataset.absolute()),
            out=str(user_folder() / f"{name}.safetensors"),
            start=model.start,
            settings=model.settings,
            preset=model.preset,
            licence=model.licence,
            data_note=model.data_note,
        )
        run = Run.create(folder, plan)
        run.start()
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise InputError(f"The run cannot be written to {folder}: {error.strerror or error}.") from error
    except InputError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return run
