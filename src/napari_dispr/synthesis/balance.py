"""Balance the classes of a training dataset: predict more shapes for the cells of rare classes.

The result is a dataset folder in which each class has as many cells as the largest one, with a table that
says which objects are real and which are predicted.
"""

import json
import os
from collections.abc import Generator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from napari_dispr.cells.cropping import Crop
from napari_dispr.cells.folders import (
    CELLS_FILE,
    PREDICTED,
    CellFile,
    DatasetNotes,
    check_no_dataset,
    finish_dataset,
    is_written,
    write_cell,
)
from napari_dispr.cells.splits import real_cells, several_classes
from napari_dispr.errors import InputError
from napari_dispr.events import in_one_go, steps_of
from napari_dispr.files import check_no_other_files, folder_locked, plain, write_json
from napari_dispr.prediction.predict import iter_predict_crops
from napari_dispr.prediction.saving import write_table
from napari_dispr.settings import PredictSettings, checked_settings
from napari_dispr.synthesis.balance_plan import AT_MOST, Plan, plan, predicted_names

if TYPE_CHECKING:
    from napari_dispr.diffusion.model import ShapeModel

#: File with the settings of a run, which decide whether it can be continued.
REQUEST_FILE = "augment.json"


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """A cell of the class ``kind`` whose picture is used to predict shapes; ``real`` has its true object, if
    it is known.
    """

    name: str
    kind: str
    crop: Crop
    real: CellFile | None


@dataclass(frozen=True, slots=True)
class Augmented:
    """The predicted shapes of a cell are saved: ``done`` of ``total`` shapes."""

    cell: str
    done: int
    total: int


def iter_augment(
    cells: Sequence[CellFile],
    out: str | os.PathLike[str],
    *,
    model: "ShapeModel | str | os.PathLike[str]" = PredictSettings.model_fields["model"].default,
    class_table: str | os.PathLike[str] | None = None,
    per_class: int | None = None,
    at_most: int = AT_MOST,
    notes: DatasetNotes | None = None,
    **settings: Any,
) -> Generator[Any, None, dict[str, Any]]:
    """Write a training dataset whose classes are balanced with predicted shapes.

    Parameters
    ----------
    cells : sequence of CellFile
        With objects. All real cells are copied into the folder; cells with predicted objects are left out.
    out : path
        Folder for ``train/{obj,image,mask}/NAME.tif``, ``cells.csv`` and ``dataset.json``. An interrupted run
        is continued if it is started again with the same cells and settings.
    class_table : path, optional
        CSV with the columns ``name`` and ``class``; by default the class is read from the name of the cell.
    per_class, at_most : int
        As in `plan`.
    notes : DatasetNotes, optional
        Notes of the dataset of the cells.
    **settings
        ``quality``, ``sampler``, ``steps``, ``seed`` and ``device`` of
        :class:`~napari_dispr.settings.PredictSettings`.

    Yields
    ------
    Step, CellDone, Augmented

    Returns
    -------
    dict
        ``before`` and ``after`` (number of cells by class), ``predicted`` (number of shapes) and
        ``warnings``.

    Raises
    ------
    InputError
        If the folder holds another dataset, another process writes into it, or classes, names or settings are
        wrong.

    Notes
    -----
    A predicted object has the mask and image of its real cell. So it is recognised as a copy of this cell,
    and both are always on the same side of a split (`split_cells`). If the model was trained on the same
    cells, its shapes are closer to the true ones than those of new cells would be; a warning says so.
    """
    cells = real_cells(cells)
    kinds = several_classes(cells, class_table)
    sources = [Source(cell.name, kinds[cell.name], cell.crop(i), cell) for i, cell in enumerate(cells, 1)]
    chosen = plan(kinds, [cell.name for cell in cells], per_class, at_most)
    shape_model = shape_model_of(model) if isinstance(model, str | os.PathLike) else model
    result: dict[str, Any] = yield from iter_write_balanced(
        sources, chosen, shape_model, out, notes=notes or DatasetNotes(), settings=settings
    )
    return result


def shape_model_of(name_or_path: str | os.PathLike[str]) -> "ShapeModel":
    """The shape model of this name or file.

    Raises an InputError if there is no such model, or if it is a method that draws only one shape of a cell.
    """
    from napari_dispr.diffusion.model import ShapeModel
    from napari_dispr.models.library import load_model

    model = load_model(name_or_path)
    if not isinstance(model, ShapeModel):
        raise InputError(
            f"{name_or_path} draws only one shape of a cell: choose a shape model, such as generic."
        )
    return model


augment = in_one_go(iter_augment)


def iter_write_balanced(
    sources: Sequence[Source],
    chosen: Plan,
    model: "ShapeModel",
    out: str | os.PathLike[str],
    *,
    notes: DatasetNotes,
    settings: Mapping[str, Any],
) -> Generator[Any, None, dict[str, Any]]:
    """`iter_augment` for cells that may lack a true shape; then the folder has only their predicted ones."""
    folder = Path(out)
    sampling = checked_settings(PredictSettings, {**settings, "model": model.name, "members": 1})
    model.sampling(sampling.quality, sampling.sampler, sampling.steps)  # raises for an unknown quality
    names = predicted_names([source.name for source in sources], chosen.members)
    check_no_dataset(folder)
    check_no_other_files(folder, REQUEST_FILE)
    with folder_locked(folder):
        _start_or_continue(folder, sources, chosen, model, sampling)
        rows: list[list[Any]] = []
        total, done = sum(chosen.members.values()), 0
        trained_on = model.card.seen
        for source in sources:
            file = _file(source)
            if source.real is not None:
                if not is_written(folder, source.name):
                    write_cell(folder, source.real)
                rows.append([source.name, source.kind, "real", source.name, "", "", None, None, False])
            wanted = names.get(source.name, [])
            if wanted and not all(is_written(folder, name) for name in wanted):
                shapes = yield from _predicted_objects(
                    source, model, sampling.model_copy(update={"members": len(wanted)})
                )
                for name, shape in zip(wanted, shapes, strict=True):
                    write_cell(folder, replace(file, name=name, obj=shape))
            made = (PREDICTED, source.name, model.name, model.hash)
            for member, name in enumerate(wanted):
                rows.append([name, source.kind, *made, member, sampling.seed, file.is_among(trained_on)])
            if wanted:
                done += len(wanted)
                yield Augmented(source.name, done, total)
        write_table(folder / CELLS_FILE, _table(rows))
        note = f"{total} shapes predicted by {model.name} ({model.hash}), see {CELLS_FILE}"
        finish_dataset(folder, notes.model_copy(update={"source": [*notes.source, note]}))
        return {
            "before": chosen.before,
            "after": chosen.after,
            "predicted": total,
            "warnings": _warnings(sources, chosen, model, trained_on),
        }


def _file(source: Source) -> CellFile:
    return source.real or CellFile(source.name, source.crop.mask, source.crop.image, None)


def _start_or_continue(
    folder: Path, sources: Sequence[Source], chosen: Plan, model: "ShapeModel", sampling: PredictSettings
) -> None:
    """Write the settings of a new run, or check that the folder was started with the same ones."""
    request = plain(
        {
            "model": model.hash,
            "settings": sampling.model_dump(exclude={"model", "members", "device", "scale", "pixel_size"}),
            "members": chosen.members,
            "cells": {source.name: _file(source).fingerprint for source in sources},
        }
    )
    path = folder / REQUEST_FILE
    if path.is_file():
        try:
            before = json.loads(path.read_bytes())
        except ValueError:
            before = None
        if before != request:
            raise InputError(
                f"{folder} holds the results of a run with other cells or settings: choose another folder, "
                "or delete this one."
            )
    write_json(path, request)


def _predicted_objects(
    source: Source, model: "ShapeModel", settings: PredictSettings
) -> Generator[Any, None, list[NDArray[np.uint8]]]:
    """Predict the members of a cell, as antialiased objects."""
    crop = replace(source.crop, label=1)
    events = iter_predict_crops([crop], model, settings, image_to_world=np.eye(3), names={1: source.name})
    prediction = yield from steps_of(events)  # `Augmented` reports cells when they are saved
    shapes = prediction[1].signed_distance
    if not all((shape > 0).any() for shape in shapes):
        raise InputError(
            f"The model {model.name} draws an empty shape of the cell {source.name}: choose another model or "
            "seed, or leave the cell out."
        )
    return [_object(shape) for shape in shapes]


def _object(distance: NDArray[np.float32]) -> NDArray[np.uint8]:
    """An object as in a dataset: antialiased over one voxel at the surface, inside above 127.5."""
    return np.rint(255 * np.clip(distance + 0.5, 0, 1)).astype(np.uint8)


#: Columns of ``cells.csv`` and what they mean.
_COLUMNS = {
    "name": "no unit: name of the files in obj, image and mask",
    "class": "no unit: class of the cell",
    "kind": "no unit: real (the object is the true one) or predicted",
    "cell": "no unit: name of the real cell that image and mask come from",
    "model": "no unit: shape model that predicted the object",
    "model_hash": "no unit: hash of this model",
    "member": "no unit: member of the cell's ensemble, from 0",
    "seed": "no unit: seed of the ensemble",
    "trained_on": "no unit: whether the model was trained on this cell",
}


def _table(rows: Sequence[Sequence[Any]]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=list(_COLUMNS)).astype({"member": "Int64", "seed": "Int64"})
    table.attrs["columns"] = _COLUMNS
    return table


def _warnings(
    sources: Sequence[Source], chosen: Plan, model: "ShapeModel", trained_on: Set[str]
) -> list[str]:
    warnings = []
    drawn = [source for source in sources if source.name in chosen.members]
    if known := sum(_file(source).is_among(trained_on) for source in drawn):
        warnings.append(
            f"The model {model.name} was trained on {known} of the {len(drawn)} cells whose shapes were "
            "predicted, so these shapes are closer to the true ones than those of new cells. For an "
            "experiment use a model that was trained on other cells."
        )
    if alone := sum(source.real is None for source in drawn):
        warnings.append(f"{alone} cells have no true shape: the folder has only predicted shapes of them.")
    for kind, missing in chosen.short.items():
        warnings.append(
            f"The class {kind} has {chosen.after[kind]} cells, {missing} too few: allow more shapes of each "
            "cell to fill it up."
        )
    return warnings
