"""Augment as a verb: more training cells of rare classes, predicted from the pictures of real ones.

Writes a dataset folder in which each class has as many cells as the largest, and a table that says which
of them are real. Knows cells and models, no classifier.
"""

import os
from collections.abc import Callable, Generator, Mapping, Sequence, Set
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
from napari_dispr.events import result_of
from napari_dispr.files import write_json
from napari_dispr.prediction.predict import CellDone, iter_predict_crops
from napari_dispr.prediction.saving import write_table
from napari_dispr.settings import PredictSettings, Settings, checked_settings
from napari_dispr.synthesis.balance_plan import AT_MOST, Plan, plan, predicted_names

if TYPE_CHECKING:
    from napari_dispr.diffusion.model import ShapeModel

__all__ = ["Augmented", "Source", "augment", "iter_augment", "iter_write_balanced"]

#: What a folder was asked for, beside its parts.
REQUEST_FILE = "augment.json"


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """A cell whose picture shapes are predicted from.

    Attributes
    ----------
    name : str
    kind : str
        Its class.
    crop : Crop
        On the model grid.
    real : CellFile or None
        With its true object; None where no true shape is known.
    """

    name: str
    kind: str
    crop: Crop
    real: CellFile | None


@dataclass(frozen=True, slots=True)
class Augmented:
    """A cell's predicted shapes are written: ``done`` of ``total`` shapes."""

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
    """Write a training folder whose classes are balanced by predicted shapes.

    Parameters
    ----------
    cells : sequence of CellFile
        With objects. All real ones are in the folder, too; predicted ones are left out.
    out : path
        Folder: ``train/{obj,image,mask}/NAME.tif``, ``cells.csv`` and ``dataset.json``. A run that was
        interrupted goes on where it ended when it is asked for the same again.
    model : ShapeModel, name or path
    class_table : path, optional
        CSV with the columns ``name`` and ``class``; by default the names tell the classes.
    per_class, at_most : int
        As in `plan`.
    notes : DatasetNotes, optional
        Of the cells' folder.
    **settings
        ``quality``, ``sampler``, ``steps``, ``seed`` and ``device`` of
        :class:`~napari_dispr.settings.PredictSettings`.

    Yields
    ------
    Step, CellDone, Augmented

    Returns
    -------
    dict
        ``before`` and ``after`` (cells a class), ``predicted`` (shapes in all) and ``warnings``.

    Raises
    ------
    InputError
        If the folder holds another dataset, or classes, names or settings are wrong.

    Notes
    -----
    A predicted object comes with the mask and image of its real cell: by them copies are recognised and kept
    on one side of every split (`split_cells`). A model that was trained on the very cells draws shapes
    nearer to the true ones than it would of other cells; the warnings say so.
    """
    cells = real_cells(cells)
    kinds = several_classes(cells, class_table)
    sources = [Source(cell.name, kinds[cell.name], cell.crop(i), cell) for i, cell in enumerate(cells, 1)]
    if missing := next((cell.name for cell in cells if cell.obj is None), None):
        raise InputError(f"The cell {missing} has no object: add obj/{missing}.tif.")
    chosen = plan(kinds, [cell.name for cell in cells], per_class, at_most)
    shape_model = shape_model_of(model) if isinstance(model, str | os.PathLike) else model
    result: dict[str, Any] = yield from iter_write_balanced(
        sources, chosen, shape_model, out, notes=notes or DatasetNotes(), settings=settings
    )
    return result


def shape_model_of(name_or_path: str | os.PathLike[str]) -> "ShapeModel":
    """The shape model of this name or file.

    Raises
    ------
    InputError
        If there is none, or it is a rival, which draws but one shape a cell.
    """
    from napari_dispr.diffusion.model import ShapeModel
    from napari_dispr.models.library import load_model

    model = load_model(name_or_path)
    if not isinstance(model, ShapeModel):
        raise InputError(f"{name_or_path} draws but one shape of a cell: take a shape model, as generic is.")
    return model


def augment(
    cells: Sequence[CellFile],
    out: str | os.PathLike[str],
    *,
    progress: Callable[[Any], None] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """`iter_augment` in one go: calls ``progress`` with each event and returns what it does."""
    return result_of(iter_augment(cells, out, **options), progress)


class _Request(Settings):
    """What makes two runs the same one, so that the second goes on with the first."""

    model: str
    settings: dict[str, Any]
    members: dict[str, int]
    cells: dict[str, str]


def iter_write_balanced(
    sources: Sequence[Source],
    chosen: Plan,
    model: "ShapeModel",
    out: str | os.PathLike[str],
    *,
    notes: DatasetNotes,
    settings: Mapping[str, Any],
) -> Generator[Any, None, dict[str, Any]]:
    """`iter_augment` of cells that may have no true shape: those are in the folder as predicted ones only.

    Parameters
    ----------
    sources : sequence of Source
    chosen : Plan
    model : ShapeModel
    out : path
    notes : DatasetNotes
    settings : mapping
        Of :class:`~napari_dispr.settings.PredictSettings`.
    """
    folder = Path(out)
    drawing = checked_settings(PredictSettings, {**settings, "model": model.name, "members": 1})
    model.sampling(drawing.quality, drawing.sampler, drawing.steps)  # is there such a quality?
    names = predicted_names([source.name for source in sources], chosen.members)
    _begin(folder, sources, chosen, model, drawing)
    rows: list[dict[str, Any]] = []
    total, done = sum(chosen.members.values()), 0
    trained_on = model.card.seen
    for source in sources:
        file = _file(source)
        if source.real is not None:
            if not is_written(folder, source.name):
                write_cell(folder, source.real)
            rows.append(_row(source.name, source, real=True))
        wanted = names.get(source.name, [])
        if wanted and not all(is_written(folder, name) for name in wanted):
            shapes = yield from _drawn(source, model, drawing.model_copy(update={"members": len(wanted)}))
            for name, shape in zip(wanted, shapes, strict=True):
                write_cell(folder, replace(file, name=name, obj=shape))
        for member, name in enumerate(wanted):
            seen = file.is_among(trained_on)
            rows.append(_row(name, source, model=model, member=member, seed=drawing.seed, seen=seen))
        if wanted:
            done += len(wanted)
            yield Augmented(source.name, done, total)
    write_table(folder / CELLS_FILE, _table(rows))
    made = f"{total} shapes predicted by {model.name} ({model.hash}), see {CELLS_FILE}"
    finish_dataset(folder, notes.model_copy(update={"source": [*notes.source, made]}))
    return {
        "before": chosen.before,
        "after": chosen.after,
        "predicted": total,
        "warnings": _warnings(sources, chosen, model, trained_on),
    }


def _file(source: Source) -> CellFile:
    return source.real or CellFile(source.name, source.crop.mask, source.crop.image, None)


def _begin(
    folder: Path, sources: Sequence[Source], chosen: Plan, model: "ShapeModel", drawing: PredictSettings
) -> None:
    """Note what is asked for, or find that the folder was begun with the very same."""
    check_no_dataset(folder)
    request = _Request(
        model=model.hash,
        settings=drawing.model_dump(exclude={"model", "members", "device", "scale", "pixel_size"}),
        members=chosen.members,
        cells={source.name: _file(source).fingerprint for source in sources},
    )
    path = folder / REQUEST_FILE
    if path.is_file():
        try:
            before = _Request.model_validate_json(path.read_bytes())
        except ValueError:
            before = None
        if before != request:
            raise InputError(
                f"{folder} was begun with other cells or settings: give another folder, or remove this one."
            )
    write_json(path, request.model_dump())


def _drawn(
    source: Source, model: "ShapeModel", settings: PredictSettings
) -> Generator[Any, None, list[NDArray[np.uint8]]]:
    """Members of a cell as antialiased objects."""
    crop = replace(source.crop, label=1)
    events = iter_predict_crops([crop], model, settings, image_to_world=np.eye(3), names={1: source.name})
    prediction = yield from _without_cells(events)
    shapes = prediction[1].signed_distance
    if not all((shape > 0).any() for shape in shapes):
        raise InputError(
            f"The model {model.name} draws an empty shape of the cell {source.name}: take another model or "
            "seed, or leave the cell out."
        )
    return [_object(shape) for shape in shapes]


def _without_cells(events: Generator[Any, None, Any]) -> Generator[Any, None, Any]:
    """The steps, so that a caller can cancel between them; cells are told of when they are written."""
    while True:
        try:
            event = next(events)
        except StopIteration as end:
            return end.value
        if not isinstance(event, CellDone):
            yield event


def _object(distance: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Antialiased over one voxel about the surface, inside above 127.5, as objects of a dataset are."""
    return np.rint(255 * np.clip(distance + 0.5, 0, 1)).astype(np.uint8)


def _row(
    name: str,
    source: Source,
    *,
    real: bool = False,
    model: "ShapeModel | None" = None,
    member: int | None = None,
    seed: int | None = None,
    seen: bool = False,
) -> dict[str, Any]:
    return {
        "name": name,
        "class": source.kind,
        "kind": "real" if real else PREDICTED,
        "cell": source.name,
        "model": model.name if model else "",
        "model_hash": model.hash if model else "",
        "member": member,
        "seed": seed,
        "trained_on": seen,
    }


def _table(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    table = pd.DataFrame(rows).astype({"member": "Int64", "seed": "Int64"})
    table.attrs["columns"] = {
        "name": "no unit: name of the files of obj, image and mask",
        "class": "no unit: class of the cell",
        "kind": "no unit: real (the object is the true one) or predicted",
        "cell": "no unit: name of the real cell, whose image and mask these are",
        "model": "no unit: shape model that predicted the object",
        "model_hash": "no unit: which model of this name it was",
        "member": "no unit: member of the cell's ensemble, from 0",
        "seed": "no unit: seed of the ensemble",
        "trained_on": "no unit: whether that model was trained on this very cell",
    }
    return table


def _warnings(
    sources: Sequence[Source], chosen: Plan, model: "ShapeModel", trained_on: Set[str]
) -> list[str]:
    said = []
    drawn = [source for source in sources if source.name in chosen.members]
    if known := sum(_file(source).is_among(trained_on) for source in drawn):
        said.append(
            f"The model {model.name} was trained on {known} of the {len(drawn)} cells that shapes were "
            "predicted of: these are nearer to the true shapes than those of cells it has not seen. For an "
            "experiment take a model of other cells."
        )
    if alone := sum(source.real is None for source in drawn):
        said.append(f"{alone} cells have no true shape: they are in the folder as predicted ones only.")
    for kind, missing in chosen.short.items():
        said.append(
            f"{kind} has {chosen.after[kind]} cells, {missing} fewer than asked for: its cells lend their "
            "pictures only so often."
        )
    return said
