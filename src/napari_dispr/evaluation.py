"""Evaluate as a verb: errors of shapes drawn from a picture against the known object, for any methods.

A generator, so that the same code drives a progress bar, a cancellable worker and the command line.
"""

import csv
import io
import os
import zlib
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_dispr import __version__, grid
from napari_dispr.cells.folders import CellFile
from napari_dispr.errors import InputError
from napari_dispr.files import write_json, written_aside
from napari_dispr.rivals.fits import FIT_RIVALS
from napari_dispr.shapes.morphometry import SHAPR_MEASURES, binarise, iou, relative_error, shapr_measures

Mask = NDArray[np.float32]
Shapes = NDArray[Any]

#: What is known of a member, in the order of the columns of errors.csv; the first are relative errors.
ERRORS: dict[str, str] = {
    "volume": "relative error of the voxels inside",
    "surface_mesh": "relative error of the area of the unsmoothed marching-cubes mesh",
    "surface_voxel": "relative error of the voxels with background in their 3 x 3 x 3 neighbourhood",
    "roughness_mesh": "relative error of what Humphrey's filter moves the mesh by",
    "roughness_voxel": "relative error of the voxels that a Gaussian of sigma 2 changes",
    "signed_volume": "(predicted - true volume) / true volume",
    "iou": "intersection over union with the true volume",
    "imaged_plane_iou": "intersection over union of plane 32 with the mask",
}
_COLUMNS = ("cell", "method", "member", "trained_on", "failed", *ERRORS)


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
        that it was trained on, and ``provenance`` what is needed to repeat it.

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


class _Row(NamedTuple):
    """One member's errors, in the order of `ERRORS`."""

    cell: str
    method: str
    member: int
    trained_on: bool
    failed: str
    errors: tuple[float, ...]


#: A failed member: error 1 throughout, as if there were nothing, and it agrees with nothing.
_FAILED = {**dict.fromkeys(ERRORS, 1.0), "signed_volume": -1.0, "iou": 0.0, "imaged_plane_iou": 0.0}


class _Truth:
    """A cell's object and mask, measured once for all methods."""

    def __init__(self, cell: CellFile) -> None:
        if cell.obj is None:
            raise InputError(f"The cell {cell.name} has no object to compare with: add obj/{cell.name}.tif.")
        self.obj = binarise(cell.obj)
        self.section = np.asarray(cell.mask) > 0.5
        if not self.obj.any() or self.obj.all():
            raise InputError(
                f"The object of {cell.name} has no surface: repair or remove obj/{cell.name}.tif."
            )
        self.measures = shapr_measures(self.obj)

    def errors(self, shape: NDArray[np.bool_]) -> tuple[float, ...]:
        measures = shapr_measures(shape)
        errors = {name: relative_error(measures[name], self.measures[name]) for name in SHAPR_MEASURES}
        errors["signed_volume"] = measures["volume"] / self.measures["volume"] - 1
        errors["iou"] = iou(shape, self.obj)
        errors["imaged_plane_iou"] = iou(shape[grid.IMAGED_PLANE], self.section)
        return tuple(errors[name] for name in ERRORS)


def iter_evaluate(
    cells: Sequence[CellFile],
    methods: Mapping[str, Method],
    *,
    members: int = 5,
    seed: int = 0,
    out: str | os.PathLike[str] | None = None,
    save_shapes: bool = False,
) -> Generator[Any, None, dict[str, Any]]:
    """Let every method draw every cell and compare with the known objects.

    Parameters
    ----------
    cells : sequence of CellFile
        With objects (``read_dataset(folder, need_objects=True)``).
    methods : mapping of name to Method
        `FIT_METHODS` hold the fits.
    members : int
        Shapes a cell, of methods that can draw more than one.
    seed : int
        Together with the cell's name it decides the seed that a method gets for the cell.
    out : path, optional
        Folder for ``errors.csv`` (a row a cell, method and member) and ``summary.json``. While the
        evaluation runs, its rows stand in ``errors.partial.csv``.
    save_shapes : bool
        Also write ``shapes/METHOD/NAME.tif``, uint8 0/1, axes (member, z, y, x).

    Yields
    ------
    Evaluated
        After each cell and method; between them whatever the methods yield.

    Returns
    -------
    dict
        The summary (see `summary_of`), as in ``summary.json``.

    Raises
    ------
    InputError
        There are no cells or methods, a cell has no object, two cells have one name, or shapes are to
        be saved without a folder.

    Notes
    -----
    Errors are those of SHAPR and DISPR, ``|predicted - true| / |true|``, each member's own. An empty
    member, and every member of a cell that a method cannot draw, counts as error 1 and IoU 0. Closing
    the generator leaves the rows so far in ``errors.partial.csv``.
    """
    _check(cells, methods, members, out, save_shapes)
    folder = None if out is None else Path(out)
    rows: list[_Row] = []
    with _growing_table(folder) as write:
        done = 0
        for cell in cells:
            truth = _Truth(cell)
            for name, method in methods.items():
                asked = getattr(method, "members", members)
                known = cell.fingerprint in getattr(method, "trained_on", ())
                failed = None
                try:
                    shapes = yield from _drawn(method, cell, asked, _seed_of(cell.name, seed))
                except InputError as error:
                    failed = str(error)
                    nothing = tuple(_FAILED.values())
                    new = [_Row(cell.name, name, i, known, failed, nothing) for i in range(asked)]
                else:
                    new = [_measured(cell.name, name, i, known, s, truth) for i, s in enumerate(shapes)]
                    failed = next((row.failed for row in new if row.failed), None)
                    if folder is not None and save_shapes:
                        _save_shapes(folder / "shapes" / name / f"{cell.name}.tif", shapes)
                write(new)
                rows += new
                done += 1
                yield Evaluated(cell.name, name, done, len(cells) * len(methods), failed)
        settings = {"cells": len(cells), "members": members, "seed": seed}
        summary = summary_of(rows, {"software": f"napari-dispr {__version__}", **settings})
        for name, method in methods.items():
            summary["methods"][name]["provenance"] = getattr(method, "provenance", {})
        if folder is not None:
            write_json(folder / "summary.json", summary)
    return summary


def evaluate(
    cells: Sequence[CellFile],
    methods: Mapping[str, Method],
    *,
    members: int = 5,
    seed: int = 0,
    out: str | os.PathLike[str] | None = None,
    save_shapes: bool = False,
    progress: Callable[[Any], None] | None = None,
) -> dict[str, Any]:
    """`iter_evaluate` in one go: calls ``progress`` with each event and returns the summary."""
    events = iter_evaluate(cells, methods, members=members, seed=seed, out=out, save_shapes=save_shapes)
    while True:
        try:
            event = next(events)
        except StopIteration as end:
            summary: dict[str, Any] = end.value
            return summary
        if progress is not None:
            progress(event)


def _check(
    cells: Sequence[CellFile],
    methods: Mapping[str, Method],
    members: int,
    out: str | os.PathLike[str] | None,
    save_shapes: bool,
) -> None:
    if not cells:
        raise InputError("There are no cells to evaluate: give a dataset with obj, image and mask.")
    if not methods:
        raise InputError("There is no method to evaluate: name at least one, such as cylinder.")
    if members < 1:
        raise InputError(f"The number of members is {members}: ask for at least one.")
    if save_shapes and out is None:
        raise InputError("Shapes are to be saved but no folder is given: name one with out.")
    names = [cell.name for cell in cells]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"Two cells are named {name}: evaluate train and test one after the other.")
    for name in methods:
        if not name or name in (".", "..") or set(name) & set('/\\:*?"<>|'):
            raise InputError(f"The method's name {name!r} cannot name a folder: take a plain word.")


def _seed_of(name: str, seed: int) -> int:
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


def _measured(
    cell: str, method: str, member: int, known: bool, shape: NDArray[np.bool_], truth: _Truth
) -> _Row:
    if not shape.any():
        return _Row(cell, method, member, known, f"Member {member} is empty.", tuple(_FAILED.values()))
    return _Row(cell, method, member, known, "", truth.errors(shape))


def _save_shapes(path: Path, shapes: NDArray[np.bool_]) -> None:
    with written_aside(path) as temporary:
        tifffile.imwrite(
            temporary,
            shapes.astype(np.uint8),
            photometric="minisblack",
            compression="zlib",
            metadata={"axes": "TZYX"},
        )


@contextmanager
def _growing_table(folder: Path | None) -> Iterator[Callable[[list[_Row]], None]]:
    """A table whose rows are on disk as soon as they are known; it takes its name when it is complete."""
    if folder is None:
        yield lambda rows: None
        return
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / "errors.partial.csv"
    with partial.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(_COLUMNS)

        def write(rows: list[_Row]) -> None:
            table.writerows(
                [*row[:3], int(row.trained_on), row.failed, *(f"{error:.6g}" for error in row.errors)]
                for row in rows
            )
            file.flush()

        yield write
    os.replace(partial, folder / "errors.csv")


def summary_of(rows: Sequence[_Row], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Summarise the errors of all members.

    Returns
    -------
    dict
        The ``settings``; ``measures``: the meaning of each; and ``methods``: for each method ``n``
        (members of the cells that it was not trained on; nothing else counts), ``trained_on`` (names of
        the cells that are left out because it was), ``failed`` (how many of them failed),
        ``failed_cells`` (name to reason),
        ``signed_volume_bias`` (the mean of signed_volume) and for each measure its ``median``,
        ``percentile_90``, ``mean`` and ``sd`` (of the sample; None for one member).
    """
    methods: dict[str, Any] = {}
    for method in dict.fromkeys(row.method for row in rows):
        own = [row for row in rows if row.method == method and not row.trained_on]
        known = dict.fromkeys(row.cell for row in rows if row.method == method and row.trained_on)
        values = np.array([row.errors for row in own]).reshape(-1, len(ERRORS))
        statistics = {name: _statistics(column) for name, column in zip(ERRORS, values.T, strict=True)}
        methods[method] = {
            "n": len(own),
            "trained_on": list(known),
            "failed": sum(bool(row.failed) for row in own),
            "failed_cells": {row.cell: row.failed for row in reversed(own) if row.failed},
            "signed_volume_bias": statistics["signed_volume"]["mean"],
            **statistics,
        }
    return {**settings, "measures": ERRORS, "methods": methods}


def _statistics(values: NDArray[np.float64]) -> dict[str, float | None]:
    if not len(values):
        return dict.fromkeys(("median", "percentile_90", "mean", "sd"))
    return {
        "median": float(np.median(values)),
        "percentile_90": float(np.percentile(values, 90)),
        "mean": float(values.mean()),
        "sd": float(values.std(ddof=1)) if len(values) > 1 else None,
    }


def summary_table(summary: Mapping[str, Any]) -> str:
    """The summary as a text table for a terminal: a block a method, a line a measure."""
    text = io.StringIO()
    print(f"{summary['cells']} cells, relative errors of the members (iou: agreement)", file=text)
    for name, method in summary["methods"].items():
        print(f"\n{name}: {method['n']} members, {method['failed']} failed", file=text)
        if method["trained_on"]:
            print(f"  left out, since it was trained on them: {len(method['trained_on'])} cells", file=text)
        if not method["n"]:
            continue
        print(f"  {'':18}{'median':>8}{'90 %':>8}{'mean':>8}    sd", file=text)
        for measure in summary["measures"]:
            values = method[measure]
            numbers = "".join(f"{values[key]:8.3f}" for key in ("median", "percentile_90", "mean"))
            sd = "" if values["sd"] is None else f" +-{values['sd']:6.3f}"
            print(f"  {measure:18}{numbers}{sd}", file=text)
        for cell, reason in method["failed_cells"].items():
            print(f"  failed: {cell}: {reason}", file=text)
    return text.getvalue().rstrip("\n")
