"""Predictions as surface meshes in files, in the image's world, with a table of what each file holds."""

import os
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path

import pandas as pd
import trimesh

from napari_dispr import __version__
from napari_dispr.errors import InputError
from napari_dispr.files import write_json
from napari_dispr.results import Prediction, write_table
from napari_dispr.shapes.ensemble import Ensemble
from napari_dispr.shapes.mesh_files import mesh_format, write_mesh
from napari_dispr.shapes.meshes import surface_mesh

__all__ = ["export_meshes"]

_TABLE, _JSON = "meshes.csv", "meshes.json"


def export_meshes(
    prediction: Prediction,
    folder: str | os.PathLike[str],
    format: str = "stl",
    *,
    cells: Iterable[int] | None = None,
    members: Iterable[int] | None = None,
    consensus: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Write the surfaces of cells, one file a member and one for the consensus.

    Parameters
    ----------
    prediction : Prediction
    folder : path
        Made if it is not there. The files are ``CELL_member-0.stl``, ``CELL_consensus.stl`` and so on;
        ``meshes.csv`` lists them with label, member, volume and area, ``meshes.columns.csv`` says what its
        columns are, and ``meshes.json`` how the shapes came to be.
    format : {"stl", "ply", "obj", "glb"}
    cells : iterable of int, optional
        Labels; all by default.
    members : iterable of int, optional
        Numbers from 0, as in the tables; all by default. Empty: none, the consensus alone. Cells that have
        no such member are left out.
    consensus : bool
        Whether the consensus is written, too.
    progress : callable, optional
        Called with the number of files done and of all.

    Returns
    -------
    list of Path
        The meshes. A shape that is empty has none, and says so in the table.

    Raises
    ------
    InputError
        If a cell or member is not there, nothing is asked for, or the format is another.

    Notes
    -----
    Vertices are (x, y, z) in the world of the image, in its unit: where napari shows the shape. Surfaces
    are closed and triangles turn counterclockwise seen from outside. They are marching cubes of the signed
    distance; that of the consensus is `Ensemble.consensus_distance`.
    """
    suffix = mesh_format(format)
    chosen = _chosen(cells, prediction, "cell")
    which = _chosen(members, prediction.numbers, "member")
    if not chosen or not (which or consensus):
        raise InputError("No mesh was asked for: name a cell, and members or the consensus.")
    folder = Path(folder)
    total = sum(len(set(which) & set(prediction[label].numbers)) + consensus for label in chosen)
    rows, paths = [], []
    for label in chosen:
        ensemble = prediction[label]
        for number, mesh in _surfaces(ensemble, which, consensus):
            shape = "consensus" if number is None else "member"
            name = f"{prediction.stem(label)}_{shape}" + ("" if number is None else f"-{number}")
            file = f"{name}.{suffix}"
            if len(mesh.faces):
                note = f"napari-dispr {__version__}; {name}; x, y, z in {ensemble.unit}"
                write_mesh(folder / file, {name: mesh}, note)
                paths.append(folder / file)
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
        "shape": "no unit: member, or consensus (what at least half of the members hold)",
        "member": "no unit: number of the member in the cell's ensemble, from 0",
        "volume": f"{unit}^3: space inside the surface",
        "surface_area": f"{unit}^2: area of the surface",
    }
    write_table(folder / _TABLE, table)
    frame = {
        "axes": "x, y, z",
        "unit": unit,
        "world": "that of the image: scale, translation and rotation hold",
    }
    write_json(folder / _JSON, {**prediction.provenance, **frame, "warnings": prediction.warnings})
    return paths


def _chosen(asked: Iterable[int] | None, there: Iterable[int], what: str) -> list[int]:
    known = list(there)
    if asked is None:
        return known
    chosen = list(dict.fromkeys(int(one) for one in asked))
    if missing := [str(one) for one in chosen if one not in known]:
        some = ", ".join(str(one) for one in known[:10]) + (", ..." if len(known) > 10 else "")
        raise InputError(
            f"There is no {what} {', '.join(missing)} in the prediction: it holds {some or 'none'}."
        )
    return chosen


def _surfaces(
    ensemble: Ensemble, members: Collection[int], consensus: bool
) -> Iterator[tuple[int | None, trimesh.Trimesh]]:
    shapes = dict(zip(ensemble.numbers, ensemble.signed_distance, strict=True))
    for number in members:  # in the order that was asked for
        if number in shapes:
            yield number, surface_mesh(shapes[number], ensemble.grid_to_world)
    if consensus:
        yield None, surface_mesh(ensemble.consensus_distance, ensemble.grid_to_world)
