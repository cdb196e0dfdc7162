"""Evaluate as a verb: errors of shapes drawn from a picture against the known object, for any methods.

A generator, so that the same code drives a progress bar, a cancellable worker and the command line.
"""

import os
import zlib
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_dispr import grid
from napari_dispr.cells.folders import CellFile, DatasetNotes
from napari_dispr.cells.splits import real_cells
from napari_dispr.errors import InputError
from napari_dispr.evaluation.rows import Rows, rows_of
from napari_dispr.evaluation.summary import summary_of
from napari_dispr.evaluation.truth import Definitions, Truth, member_columns
from napari_dispr.events import result_of
from napari_dispr.files import plain, write_json, written_aside
from napari_dispr.models.fits import FIT_RIVALS
from napari_dispr.shapes.morphometry import binarise
from napari_dispr.version import __version__

Mask = NDArray[np.float32]
Shapes = NDArray[Any]

#: What is known of a member, in the order of the columns of errors.csv; the first are relative errors.
ERRORS: dict[str, str] = member_columns("both")
#: What an evaluation leaves beside its tables.
SUMMARY, TABLE, FIGURE = "summary.json", "table.md", "errors.png"


class Method(Protocol):
    """Draws shapes on the model grid from what a picture shows of a cell.

    Called with the mask (64, 64) in [0, 1], the image (64, 64) in [0, 1] or None, the number of members
    and a seed (its own for each cell, whatever other cells are evaluated).

    Returns
    -------
    (member, 64, 64, 64) array
        Bool, or signed distance (positive inside). As many members as asked for; a method that draws
        but one shape says so by an attribute ``members = 1`` and is asked for one. Or a generator that
        returns such an array: what it yields on its way is passed on as progress, and closing it
        cancels. If a method has them, its attribute ``trained_on`` holds the fingerprints of the cells
        that it was trained on, and of their objects, and ``provenance`` what is needed to repeat it.

    Raises
    ------
    InputError
        The method cannot draw this cell, which counts as failed.
    """

    def __call__(
        self, mask: Mask, image: Mask | None, members: int, seed: int, /
    ) -> Shapes | Generator[Any, None, Shapes]: ...


#: Methods that need no model, by name.
FIT_METHODS: dict[str, Method] = dict(FIT_RIVALS)


@dataclass(frozen=True, slots=True)
class Evaluated:
    """One cell is done by one method: ``done`` of ``total`` such pairs, and why it failed, if it did."""

    cell: str
    method: str
    done: int
    total: int
    failed: str | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """How cells are drawn and compared.

    Attributes
    ----------
    members : int
        Shapes a cell, of methods that can draw more than one.
    seed : int
    definitions : {"ours", "shapr", "both"}
    voxel_size : float
        Side of a voxel of the grid in ``unit``: that of surface distances.
    unit : str
    save_shapes : bool
    """

    members: int = 5
    seed: int = 0
    definitions: Definitions = "both"
    voxel_size: float = 1.0
    unit: str = "voxel"
    save_shapes: bool = False


def iter_evaluate(
    cells: Sequence[CellFile],
    methods: Mapping[str, Method],
    *,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    **asked: Any,
) -> Generator[Any, None, dict[str, Any]]:
    """Let every method draw every cell and compare with the known objects.

    Parameters
    ----------
    cells : sequence of CellFile
        With objects (``read_dataset(folder, need_objects=True)``). Predicted ones are no truth and left out.
    methods : mapping of name to Method
        `FIT_METHODS` hold the fits. The first is tested against each of the others.
    out : path, optional
        Folder for ``errors.csv`` (a row a cell, method and member), ``cells.csv`` (a row a cell and method),
        ``summary.json``, ``table.md`` and ``errors.png``. While the evaluation runs, its rows stand in
        ``errors.partial.csv`` and ``cells.partial.csv``.
    resume : bool
        Go on with the rows of ``out``: what they tell is not drawn again.
    **asked
        Fields of `Asked`: ``members``, ``seed`` (with a cell's name it decides the seed that a method gets
        for the cell), ``definitions``, ``voxel_size`` and ``unit``, ``save_shapes`` (also write
        ``shapes/METHOD/NAME.tif``, uint8 0/1, axes (member, z, y, x)).

    Yields
    ------
    Evaluated
        After each cell and method; between them whatever the methods yield.

    Returns
    -------
    dict
        The summary (see `evaluation_summary.summary_of`), as in ``summary.json``.

    Raises
    ------
    InputError
        There are no cells or methods, a cell has no object, two cells have one name, shapes are to be saved
        without a folder, or what is to be gone on with was begun otherwise.

    Notes
    -----
    Errors are those of SHAPR and DISPR, ``|predicted - true| / |true|``, each member's own; docs/evaluate.md
    says of what. An empty member, and every member of a cell that a method cannot draw, counts as error 1
    and IoU 0. Closing the generator leaves the rows so far.
    """
    how, given = Asked(**asked), len(cells)
    cells = real_cells(cells)
    check(cells, methods, how, out)
    folder = None if out is None else Path(out)
    told = {name: getattr(method, "provenance", {}) for name, method in methods.items()}
    rows = Rows.begun(folder, how.definitions, settings_of(cells, how) | {"methods": told}, resume)
    done = 0
    for cell in cells:
        with closing(iter_cell(cell, methods, how, rows)) as events:
            for event in events:
                if isinstance(event, Evaluated):
                    done += 1
                    event = replace(event, done=done, total=len(cells) * len(methods))
                yield event
    return finished(rows, cells, told, how, predicted=given - len(cells))


def iter_cell(
    cell: CellFile, methods: Mapping[str, Method], how: Asked, rows: Rows
) -> Generator[Any, None, None]:
    """Let methods draw a cell, as far as ``rows`` have it not yet, and add what they drew."""
    truth: Truth | None = None
    for name, method in methods.items():
        if rows.has(cell.name, name):
            yield Evaluated(cell.name, name, 0, 0)
            continue
        if truth is None:
            truth = _truth(cell, how)
        asked = getattr(method, "members", how.members)
        known = cell.is_among(getattr(method, "trained_on", frozenset()))
        failed = ""
        try:
            shapes = yield from _drawn(method, cell, asked, seed_of(cell.name, how.seed))
        except InputError as error:
            failed = str(error)
            shapes = np.zeros((asked, *grid.SHAPE), dtype=bool)
        if rows.folder is not None and how.save_shapes:
            path = rows.folder / "shapes" / name / f"{cell.name}.tif"
            if failed:
                path.unlink(missing_ok=True)  # of an earlier evaluation
            else:
                _save_shapes(path, shapes)
        errors, own = rows_of(cell.name, name, known, failed, shapes, truth)
        rows.add(errors, own)
        yield Evaluated(cell.name, name, 0, 0, own["failed"] or None)


def finished(
    rows: Rows,
    cells: Sequence[CellFile],
    told: Mapping[str, Any],
    how: Asked,
    *,
    predicted: int,
    **also: Any,
) -> dict[str, Any]:
    """The summary of all rows, and everything that an evaluation leaves in its folder.

    Parameters
    ----------
    rows : Rows
        Of all pairs of these cells and methods; others are let go of.
    cells : sequence of CellFile
    told : mapping of method to dict
        Its provenance.
    how : Asked
    predicted : int
        Cells of the dataset that were not drawn, as their objects are predicted ones.
    **also
        Goes into the summary.
    """
    rows.keep([cell.name for cell in cells], list(told))
    settings = {
        "software": f"napari-dispr {__version__}",
        "cells": len(cells),
        **{name: value for name, value in asdict(how).items() if name != "save_shapes"},
        "predicted": predicted,
        **also,
    }
    summary = summary_of(rows.errors, rows.cells, settings, how.definitions, how.seed)
    for name, provenance in told.items():
        summary["methods"][name]["provenance"] = plain(provenance)
    if rows.folder is not None:
        from napari_dispr.evaluation.report import figure, report

        with rows.completed():
            write_json(rows.folder / SUMMARY, summary)
            with written_aside(rows.folder / TABLE) as aside:
                aside.write_text(report(summary), "utf-8")
            figure(rows.errors, summary, rows.folder / FIGURE)
    return summary


def evaluate(
    cells: Sequence[CellFile],
    methods: Mapping[str, Method],
    *,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    progress: Callable[[Any], None] | None = None,
    **asked: Any,
) -> dict[str, Any]:
    """`iter_evaluate` in one go: calls ``progress`` with each event and returns the summary."""
    return result_of(iter_evaluate(cells, methods, out=out, resume=resume, **asked), progress)


def check(
    cells: Sequence[CellFile],
    methods: Iterable[str],
    how: Asked,
    out: str | os.PathLike[str] | None,
) -> None:
    """Is what is asked for possible, as far as that is quick to tell?

    Raises
    ------
    InputError
        If not.
    """
    if not cells:
        raise InputError("There are no cells to evaluate: give a dataset with obj, image and mask.")
    if not list(methods):
        raise InputError("There is no method to evaluate: name at least one, such as cylinder.")
    if how.members < 1:
        raise InputError(f"The number of members is {how.members}: ask for at least one.")
    if how.save_shapes and out is None:
        raise InputError("Shapes are to be saved but no folder is given: name one with out.")
    for name in methods:
        if not name or name in (".", "..") or set(name) & set('/\\:*?"<>|'):
            raise InputError(f"The method's name {name!r} cannot name a folder: take a plain word.")


def settings_of(cells: Sequence[CellFile], how: Asked) -> dict[str, Any]:
    """What rows depend on, beside the methods."""
    known = {cell.name: [cell.fingerprint, cell.shape_fingerprint] for cell in cells}
    return {"version": __version__, **asdict(how), "cells": known}


def voxel_of(notes: DatasetNotes, pixel_size: float | None = None) -> tuple[float, str]:
    """Side of a voxel and its unit: as given, in micrometer; as a dataset's notes have it; or 1 voxel."""
    if pixel_size is not None:
        return pixel_size, "micrometer"
    if notes.voxel_size is not None:
        return notes.voxel_size, notes.unit
    return 1.0, "voxel"


def _truth(cell: CellFile, how: Asked) -> Truth:
    if cell.obj is None:
        raise InputError(f"The cell {cell.name} has no object to compare with: add obj/{cell.name}.tif.")
    obj = binarise(cell.obj)
    if not obj.any() or obj.all():
        raise InputError(f"The object of {cell.name} has no surface: repair or remove obj/{cell.name}.tif.")
    return Truth(obj, cell.mask, how.definitions, how.voxel_size)


def seed_of(name: str, seed: int) -> int:
    """A cell's own seed, from its name, so that it does not depend on which other cells there are."""
    return int(np.random.SeedSequence([seed, zlib.crc32(name.encode())]).generate_state(1)[0])


def _drawn(method: Method, cell: CellFile, members: int, seed: int) -> Generator[Any, None, Shapes]:
    shapes = method(cell.mask, cell.image, members, seed)
    if isinstance(shapes, Generator):
        shapes = yield from shapes
    shapes = np.asarray(shapes)
    if shapes.shape != (members, *grid.SHAPE):
        raise ValueError(f"a method gives shapes ({members}, 64, 64, 64), not {shapes.shape}")
    return shapes if shapes.dtype == bool else shapes > 0


def _save_shapes(path: Path, shapes: NDArray[np.bool_]) -> None:
    with written_aside(path) as temporary:
        tifffile.imwrite(
            temporary,
            shapes.astype(np.uint8),
            photometric="minisblack",
            compression="zlib",
            metadata={"axes": "TZYX"},
        )
