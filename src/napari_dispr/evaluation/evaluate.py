"""Evaluate methods: errors of the shapes that they draw from pictures, compared with the true objects.

A generator does the work, so that a progress bar, a worker and the command line run the same code.
"""

import os
import zlib
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt, PositiveFloat

from napari_dispr import grid
from napari_dispr.cells.folders import CellFile, DatasetNotes
from napari_dispr.cells.splits import real_cells
from napari_dispr.errors import InputError
from napari_dispr.evaluation.planes import crop_of
from napari_dispr.evaluation.rows import Rows, rows_of
from napari_dispr.evaluation.summary import summary_of
from napari_dispr.evaluation.truth import Definitions, Truth
from napari_dispr.events import Step, in_one_go, steps_of
from napari_dispr.files import as_file_name, plain, write_json, written_aside
from napari_dispr.models.library import available_fits, available_models, load_model
from napari_dispr.models.method import Method
from napari_dispr.models.sampling import Model, as_method
from napari_dispr.prediction.predict import iter_predict_crops
from napari_dispr.settings import PredictSettings, Settings, checked_settings
from napari_dispr.shapes.shapr_set import binarise
from napari_dispr.version import __version__

SUMMARY = "summary.json"


@dataclass(frozen=True, slots=True)
class Evaluated:
    """A method has drawn a cell: ``done`` of ``total`` such pairs, and why it failed, if it did."""

    cell: str
    method: str
    done: int
    total: int
    failed: str | None = None


class Options(Settings):
    """How cells are drawn and compared.

    ``members`` is for methods that can draw several shapes of a cell, ``voxel_size`` the side of a grid voxel
    in ``unit``, for surface distances.
    """

    members: Annotated[int, Field(ge=1, le=100)] = 5
    seed: NonNegativeInt = 0
    definitions: Definitions = "both"
    voxel_size: PositiveFloat = 1.0
    unit: str = "voxel"
    save_shapes: bool = False


def iter_evaluate(
    cells: Sequence[CellFile],
    methods: Mapping[str, Model],
    *,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    **options: Any,
) -> Generator[Step | Evaluated, None, dict[str, Any]]:
    """Let every method draw every cell, and compare the shapes with the true objects.

    Parameters
    ----------
    cells : sequence of CellFile
        With objects (``read_dataset(folder, need_objects=True)``). Cells whose objects are predicted are left
        out.
    methods : mapping of name to ShapeModel or other method
        From `load_model`, `methods_of` or `as_method`, which says how a shape model is sampled; ``FITS`` are
        the fits. The first is tested against each of the others.
    out : path, optional
        Folder for ``errors.csv`` (a row for each cell, method and member), ``cells.csv`` (a row for each cell
        and method), ``summary.json``, ``table.md``, ``errors.png``, and ``steps.png`` or ``planes.png`` if a
        model is evaluated with several numbers of steps or planes. During the evaluation its rows are in
        ``errors.partial.csv`` and ``cells.partial.csv``.
    resume : bool
        Continue with the rows in ``out``; these cells are not drawn again.
    **options
        Fields of `Options`: ``members``, ``seed`` (which together with a cell's name gives the seed of the
        cell), ``definitions``, ``voxel_size`` and ``unit``, ``save_shapes`` (also write
        ``shapes/METHOD/NAME.tif``, uint8 0/1, axes (member, z, y, x)).

    Yields
    ------
    Step
    Evaluated
        After each cell and method.

    Returns
    -------
    dict
        The summary (see `summary.summary_of`), as in ``summary.json``.

    Raises
    ------
    InputError
        There are no cells or methods, an option is wrong, a cell has no object, two cells have one name,
        shapes are to be saved without a folder, or the evaluation to be continued has other settings.

    Notes
    -----
    Errors are those of SHAPR and DISPR, ``|predicted - true| / |true|``, of each member; docs/evaluate.md
    lists the measures. An empty member, and every member of a cell that a method cannot draw, counts as error
    1 and IoU 0. Closing the generator keeps the rows so far.
    """
    how, given = checked_settings(Options, options), len(cells)
    cells, drawn_by = real_cells(cells), {name: as_method(model) for name, model in methods.items()}
    check(cells, methods, how, out)
    folder = None if out is None else Path(out)
    provenance = {name: method.provenance for name, method in drawn_by.items()}
    rows = Rows.start_or_resume(
        folder, how.definitions, settings_of(cells, how) | {"methods": provenance}, resume
    )
    total = len(cells) * len(methods)
    for place, cell in enumerate(cells):
        yield from iter_cell(cell, drawn_by, how, rows, place * len(methods), total)
    return finished(rows, cells, provenance, how, predicted=given - len(cells))


evaluate = in_one_go(iter_evaluate, 'evaluate(cells, {"generic": load_model("generic")}, out="results")')


def iter_cell(
    cell: CellFile, methods: Mapping[str, Method], how: Options, rows: Rows, done: int, total: int
) -> Generator[Step | Evaluated, None, None]:
    """Let methods draw a cell, unless ``rows`` have it already, and add the rows.

    ``done`` of ``total`` pairs of a cell and a method were drawn before.
    """
    truth: Truth | None = None
    for number, (name, method) in enumerate(methods.items(), start=done + 1):
        if rows.has(cell.name, name):
            yield Evaluated(cell.name, name, number, total)
            continue
        if truth is None:
            truth = _truth(cell, how)
        members = method.members or how.members
        known = cell.is_among(method.card.seen)
        failed = ""
        try:
            shapes = yield from iter_shapes(cell, method, members, seed_of(cell.name, how.seed))
        except InputError as error:
            failed = str(error)
            shapes = np.zeros((members, *grid.SHAPE), dtype=bool)
        if rows.folder is not None and how.save_shapes:
            path = rows.folder / "shapes" / name / f"{cell.name}.tif"
            if failed:
                path.unlink(missing_ok=True)  # of an earlier evaluation
            else:
                _save_shapes(path, shapes)
        errors, own = rows_of(cell.name, name, known, failed, shapes, truth)
        rows.add(errors, own)
        yield Evaluated(cell.name, name, number, total, own["failed"] or None)


def finished(
    rows: Rows,
    cells: Sequence[CellFile],
    provenance: Mapping[str, Any],
    how: Options,
    *,
    predicted: int,
    **also: Any,
) -> dict[str, Any]:
    """Summarise the rows of these cells and methods, and write the files of the evaluation.

    ``predicted`` is the number of cells that were left out, since their objects are predicted.
    """
    rows.keep([cell.name for cell in cells], list(provenance))
    settings = {
        "software": f"napari-dispr {__version__}",
        "cells": len(cells),
        **how.model_dump(exclude={"save_shapes"}),
        "predicted": predicted,
        **also,
    }
    summary = summary_of(rows.errors, rows.cells, settings, how.definitions, how.seed)
    for name, own in provenance.items():
        summary["methods"][name]["provenance"] = plain(own)
    if rows.folder is not None:
        from napari_dispr.evaluation.report import write_report

        with rows.completed():
            write_json(rows.folder / SUMMARY, summary)
            write_report(rows.folder, rows.errors, summary)
    return summary


def check(
    cells: Sequence[CellFile], methods: Iterable[str], how: Options, out: str | os.PathLike[str] | None
) -> None:
    """Make all quick checks; raise an `InputError` if the evaluation is impossible."""
    if not cells:
        raise InputError("There are no cells to evaluate: give a dataset with obj, image and mask.")
    if not list(methods):
        raise InputError("There is no method to evaluate: give at least one, such as cylinder.")
    if how.save_shapes and out is None:
        raise InputError("Shapes cannot be saved without a folder: give one as out.")
    for name in methods:
        if not name or as_file_name(name) != name:
            raise InputError(f"The name {name!r} cannot be that of a folder: use letters and digits.")


def settings_of(cells: Sequence[CellFile], how: Options) -> dict[str, Any]:
    """Everything that the rows depend on, except the methods."""
    known = {cell.name: [cell.fingerprint, cell.shape_fingerprint] for cell in cells}
    return {"version": __version__, **how.model_dump(), "cells": known}


def voxel_of(notes: DatasetNotes, pixel_size: float | None = None) -> tuple[float, str]:
    """Side of a voxel and its unit: the given one in micrometer, or the dataset's own, or 1 voxel."""
    if pixel_size is not None:
        return pixel_size, "micrometer"
    if notes.voxel_size is not None:
        return notes.voxel_size, notes.unit
    return 1.0, "voxel"


def _truth(cell: CellFile, how: Options) -> Truth:
    obj = binarise(cell.known_object)
    if not obj.any() or obj.all():
        raise InputError(f"The object of {cell.name} has no surface: repair or remove obj/{cell.name}.tif.")
    return Truth(obj, cell.mask, how.definitions, how.voxel_size)


def seed_of(name: str, seed: int) -> int:
    """The seed of a cell, from its name, so that it does not depend on which other cells there are."""
    return int(np.random.SeedSequence([seed, zlib.crc32(name.encode())]).generate_state(1)[0])


def iter_shapes(
    cell: CellFile, method: Method, members: int, seed: int
) -> Generator[Step, None, NDArray[np.bool_]]:
    """Draw members (member, 64, 64, 64) of a cell of a dataset.

    Raises an InputError if the method cannot draw the cell.
    """
    crop = crop_of(cell, method)
    settings = PredictSettings(members=members, seed=seed)
    prediction = yield from steps_of(iter_predict_crops([crop], method, settings, image_to_world=np.eye(3)))
    return prediction[1].members


def _save_shapes(path: Path, shapes: NDArray[np.bool_]) -> None:
    how: dict[str, Any] = {"photometric": "minisblack", "compression": "zlib", "metadata": {"axes": "TZYX"}}
    with written_aside(path) as temporary:
        tifffile.imwrite(temporary, shapes.astype(np.uint8), **how)


# --- methods by name --------------------------------------------------------------------------------------


def method_of(name_or_path: str | os.PathLike[str], settings: PredictSettings) -> Method:
    """A method by name or file: a fit, a shape model or SHAPR; ``model`` is the model of the settings.

    Raises an InputError if there is no such method; the sentence lists the choices.
    """
    wanted = settings.model if str(name_or_path) == "model" else name_or_path
    if str(wanted) not in (*available_models(), *available_fits()) and not os.path.isfile(wanted):
        raise InputError(f"There is no method {str(wanted)!r}: choose among {', '.join(method_names())}.")
    return as_method(load_model(wanted), settings)


def methods_of(names_or_paths: Iterable[str], settings: PredictSettings) -> dict[str, Method]:
    """Methods by the names under which they are evaluated, in their order, each once.

    Raises an InputError if there is no such method, or two have the same name.
    """
    methods: dict[str, Method] = {}
    for one in dict.fromkeys(names_or_paths):
        method = method_of(one, settings)
        if methods.setdefault(method.name, method).hash != method.hash:
            raise two_called(method.name)
    return methods


def two_called(name: str) -> InputError:
    """The error for two methods with the same name."""
    return InputError(f"Two methods are called {name!r}: import one of the models under another name first.")


def method_names() -> list[str]:
    """The choices for `method_of`, for a message."""
    return ["model", *available_fits(), *available_models(), "a model file"]
