"""Predictions as surface meshes in files, in the image's world, with a table of what each file holds."""

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sized
from pathlib import Path
from typing import Any

import pandas as pd
import trimesh

from napari_dispr import grid
from napari_dispr.errors import InputError
from napari_dispr.files import folder_written_aside, write_json
from napari_dispr.prediction.members import checked_numbers
from napari_dispr.prediction.result import Prediction
from napari_dispr.prediction.saving import write_table
from napari_dispr.shapes.mesh_files import mesh_format, write_mesh
from napari_dispr.shapes.meshes import surface_mesh
from napari_dispr.shapes.ome import OmeImage, write_ome_tiff
from napari_dispr.version import __version__

_TABLE, _JSON = "meshes.csv", "meshes.json"


def export_meshes(
    prediction: Prediction,
    folder: str | os.PathLike[str],
    format: str = "stl",
    *,
    cells: Iterable[int] | None = None,
    members: Iterable[int] | None = None,
    consensus: bool = True,
    kept: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Write the surfaces of cells, one file for each member and one for the consensus.

    Parameters
    ----------
    folder : path
        Created if needed; unchanged until all files are complete. They are ``CELL_member-0.stl``,
        ``CELL_consensus.stl`` and so on; ``meshes.csv`` lists them with label, member, volume and area,
        ``meshes.columns.csv`` describes its columns, and ``meshes.json`` holds the provenance.
    cells : iterable of int, optional
        Labels; all by default.
    members : iterable of int, optional
        Numbers from 0, as in the tables; all by default. Empty: only the consensus. Cells that have no such
        member are left out.
    consensus : bool
        Whether to write the consensus.
    kept : bool
        Write only the shape that was kept of each cell, whatever ``members`` and ``consensus`` are; cells
        without a kept shape are left out.
    progress : callable, optional
        Called with the number of finished files and of all files.

    Returns
    -------
    list of Path
        The meshes. An empty shape has no mesh, only a row in the table.

    Raises
    ------
    InputError
        If there is no such cell, member or format, or no mesh to write.

    Notes
    -----
    Vertices are (x, y, z) in the world of the image, in its unit: where napari shows the shape. Surfaces
    are closed; triangles run counterclockwise seen from outside. They are marching cubes of the signed
    distance, for the consensus of `Ensemble.consensus_distance`.
    """
    suffix = mesh_format(format)
    chosen = _chosen(cells, prediction, "cell")
    which = _chosen(members, prediction.numbers, "member")
    if kept:
        chosen = [label for label in chosen if label in prediction.kept]
        if not chosen:
            raise InputError("No shape was kept of these cells: keep one first, or export all members.")
    if not chosen or not (which or consensus or kept):
        raise InputError("There is no mesh to write: give a cell, and members or the consensus.")
    wanted = {label: _wanted(prediction, label, which, consensus, kept) for label in chosen}
    total = sum(len(numbers) + together for numbers, together in wanted.values())
    rows: list[tuple[Any, ...]] = []
    with folder_written_aside(folder) as aside:
        for label in chosen:
            ensemble = prediction[label]
            for number, mesh in _surfaces(prediction, label, *wanted[label]):
                shape = "consensus" if number is None else "member"
                name = f"{prediction.stem(label)}_{shape}" + ("" if number is None else f"-{number}")
                file = f"{name}.{suffix}"
                if len(mesh.faces):
                    note = f"napari-dispr {__version__}; {name}; x, y, z in {ensemble.unit}"
                    write_mesh(aside / file, {name: mesh}, note)
                whole = (float(mesh.volume), float(mesh.area)) if len(mesh.faces) else (0.0, 0.0)
                rows.append((file if len(mesh.faces) else "", label, shape, number, *whole))
                if progress is not None:
                    progress(len(rows), total)
        table = pd.DataFrame(rows, columns=["file", "label", "shape", "member", "volume", "surface_area"])
        table["member"] = table["member"].astype("Int64")
        unit = prediction.unit
        table.attrs["columns"] = {
            "file": "no unit: name of the mesh's file; empty where the shape is empty",
            "label": "no unit: value of the cell in the label layer",
            "shape": "no unit: member, or consensus (what at least half of the members contain)",
            "member": "no unit: number of the member in the cell's ensemble, from 0",
            "volume": f"{unit}^3: space inside the surface",
            "surface_area": f"{unit}^2: area of the surface",
        }
        write_table(aside / _TABLE, table)
        world = "that of the image: scale, translation and rotation hold"
        frame = {"axes": "x, y, z", "unit": unit, "world": world}
        write_json(aside / _JSON, {**prediction.provenance, **frame, "warnings": prediction.warnings})
    return [Path(folder) / row[0] for row in rows if row[0]]


def export_kept(prediction: Prediction, file: str | os.PathLike[str]) -> None:
    """Write the kept shapes as one 3D label volume, with scale, place and provenance, to a file that ends in
    ``.ome.tif``.

    Raises an InputError if no shape was kept.
    """
    if not prediction.kept:
        raise InputError("No shape was kept: choose the shape of at least one cell first.")
    volume, affine = prediction.kept_volume()
    affine = grid.translation((prediction.depth, 0.0, 0.0)) @ affine
    description = {
        **prediction.provenance,
        "kept": {str(label): shape for label, shape in prediction.kept.items()},
        "unit": prediction.unit,
        "index_to_world": affine.tolist(),
    }
    write_ome_tiff(file, [OmeImage(volume, "kept shapes", affine, prediction.unit, description)])


def _wanted(
    prediction: Prediction, label: int, members: Collection[int], consensus: bool, kept: bool
) -> tuple[tuple[int, ...], bool]:
    """Which members of a cell are written, and whether the consensus is."""
    if kept:
        shape = prediction.kept[label]
        return ((shape,), False) if isinstance(shape, int) else ((), True)
    return tuple(number for number in members if number in prediction.facts(label).numbers), consensus


def _chosen(wanted: Iterable[int] | None, there: Iterable[int], what: str) -> list[int]:
    known = list(there)
    if wanted is None:
        return known
    empty = isinstance(wanted, Sized) and not len(wanted)
    chosen = [] if empty else checked_numbers(wanted, f"{what}s")
    if missing := [str(one) for one in chosen if one not in known]:
        some = ", ".join(str(one) for one in known[:10]) + (", ..." if len(known) > 10 else "")
        raise InputError(
            f"There is no {what} {', '.join(missing)} in the prediction: it holds {some or 'none'}."
        )
    return chosen


def _surfaces(
    prediction: Prediction, label: int, members: Collection[int], consensus: bool
) -> Iterator[tuple[int | None, trimesh.Trimesh]]:
    ensemble, to_world = prediction[label], prediction.grid_to_world(label)
    shapes = dict(zip(ensemble.numbers, ensemble.signed_distance, strict=True))
    for number in members:
        yield number, surface_mesh(shapes[number], to_world)
    if consensus:
        yield None, surface_mesh(ensemble.consensus_distance, to_world)
