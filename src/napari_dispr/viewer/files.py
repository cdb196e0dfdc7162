"""Reader of saved predictions, and writers of layers, for the manifest. No Qt.

Writers take any labels, image or surface layer; result layers are written with their provenance.
"""

import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from napari_dispr.errors import InputError
from napari_dispr.prediction.batch_tables import BATCH_FILE
from napari_dispr.prediction.saving import PREDICTION_FILE, write_table
from napari_dispr.shapes.mesh_files import FORMATS, meshes_of_labels, write_mesh
from napari_dispr.shapes.ome import OmeImage, spatial_affine, write_ome_tiff
from napari_dispr.version import __version__
from napari_dispr.viewer.content import METADATA_KEY, LayerData
from napari_dispr.viewer.ome_files import LAYERS_KEY, described
from napari_dispr.viewer.world import in_one_unit, unit_ratio

if TYPE_CHECKING:
    import trimesh

# --- reading --------------------------------------------------------------------------------------------


def ensemble_reader(path: str | Sequence[str]) -> Callable[[Any], list[Any]] | None:
    """The reader of saved predictions: a folder that ``prediction.save`` wrote, or its ``prediction.json``;
    and of batches: a folder that ``napari-dispr batch`` wrote, or its ``batch.json``.

    It gives a layer for each member, and none for a batch, which Morphometry shows. A part of a saved
    prediction gets a notification. None for any other folder, which other readers may open.
    """
    if not isinstance(path, str):
        if len(path) != 1:
            return None  # files to be stacked, not predictions
        (path,) = path
    for name, entries, read in (
        (BATCH_FILE, {"model_hash", "fields"}, read_batch),
        (PREDICTION_FILE, {"cells", "image_to_world"}, read_ensemble),
    ):
        if not (index := _index_file(path, name)).is_file():  # also a pipe, which would be waited for
            continue
        try:
            content = json.loads(index.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return read  # damaged, or not readable: it shows a notification
        if isinstance(content, dict) and not entries.isdisjoint(content):
            return read
    folder = Path(path)
    cells = folder if folder.name == "cells" else folder / "cells"
    return read_ensemble if any(cells.glob("*.npz")) else None  # which says that the index is missing


def _index_file(path: str | Sequence[str], name: str) -> Path:
    """The file of this name, in a folder or itself."""
    file = Path(path if isinstance(path, str) else path[0])
    return file if file.name == name else file / name


def read_batch(path: str | Sequence[str]) -> list[Any]:
    """Show a batch in the window Morphometry of the current viewer; without a window, say so.

    Returns no layers: a click on a row of the table opens those of a field.
    """
    from napari.utils.notifications import show_error

    folder = _index_file(path, BATCH_FILE).parent
    if _qt_is_loaded():
        from napari_dispr.viewer.opening import open_batch

        if open_batch(folder):
            return [(None,)]
    show_error(
        f"{folder.name} is a batch of fields: open it in a window of napari, or open one of its fields."
    )
    return [(None,)]


def read_ensemble(path: str | Sequence[str]) -> list[Any]:
    """The layers of a saved prediction, one for each member, with measures (``features``) and provenance
    (``metadata``).

    A damaged folder raises nothing, but sends a notification: napari would report a failed plugin and suggest
    another. Called from napari's window it returns no layers: they are added when a thread has read them.
    """
    folder = _index_file(path, PREDICTION_FILE).parent
    if _qt_is_loaded():
        from napari_dispr.viewer.opening import open_in_thread, window_is_up

        if window_is_up():  # and must not freeze; scripts wait for their layers
            open_in_thread(lambda: _layers_of(folder))
            return [(None,)]
    return _layers_of(folder) or [(None,)]


def _qt_is_loaded() -> bool:
    return bool({"PyQt6", "PySide6", "PyQt5", "PySide2"} & set(sys.modules))


def _layers_of(folder: Path) -> list[LayerData]:
    """Layer data tuples of a saved prediction; none, and a notification, if it is damaged."""
    from napari.utils.notifications import show_error, show_warning

    from napari_dispr.viewer.saved import open_saved

    try:
        opened, layers = open_saved(folder)
    except InputError as error:
        # napari shows only the beginning of a long sentence.
        text = str(error).replace(str(folder), folder.name)
        show_error(text if text.startswith(folder.name) else f"{folder.name}: {text}")
        return []
    for warning in opened.prediction.warnings:
        show_warning(warning)
    return layers


# --- writing --------------------------------------------------------------------------------------------


def write_volumes(path: str, layers: Sequence[LayerData]) -> list[str]:
    """Write labels and image layers of 2 to 4 axes as one OME-TIFF with scale, place and provenance.

    Labels of one shape and place, like the members of a prediction, become one image with axes TZYX and T =
    layer; other layers become separate images in the same file. ``.ome.tif`` is added to a name without an
    extension.

    Raises an InputError if a layer is RGB, or has too many axes or numbers that OME does not know.
    """
    place = path if path.lower().endswith((".tif", ".tiff")) else f"{path}.ome.tif"
    images = [_ome_image(layer) for layer in layers]
    first = images[0]
    alike = all(
        kind == "labels"
        and image.array.ndim == 3
        and image.array.shape == first.array.shape
        and image.unit == first.unit
        and np.allclose(image.index_to_world, first.index_to_world)
        for image, (_, _, kind) in zip(images, layers, strict=True)
    )
    if len(images) > 1 and alike:
        description = {**first.description, "layers": [image.name for image in images]}
        description.pop("member", None)
        affine = np.array(first.description[LAYERS_KEY]["affine"])
        each = [(settings, kind) for _, settings, kind in layers]
        description[LAYERS_KEY] = described(each, first.array.shape, affine)
        array = np.stack([image.array for image in images])
        images = [OmeImage(array, Path(place).name, first.index_to_world, first.unit, description)]
    write_ome_tiff(place, images)
    return [place]


def _ome_image(layer: LayerData) -> OmeImage:
    data, settings, kind = layer
    if settings.get("rgb"):
        raise InputError(f'"{settings["name"]}" is an RGB picture: save it as PNG or TIFF with napari.')
    array = np.asarray(data[0] if settings.get("multiscale") else data)
    while array.ndim > 4 and array.shape[0] == 1:
        array = array[0]
    units, affine = _units(settings), spatial_affine(_to_world(settings, np.ndim(array)))
    description = {
        **_provenance(settings),
        "layer": settings["name"],
        "unit": units[-1],
        "units": units,
        "index_to_world": affine.tolist(),
        LAYERS_KEY: described([(settings, kind)], array.shape, _own_affine(settings, array.ndim)),
    }
    return OmeImage(array, settings["name"], affine, units, description)


def write_surfaces(path: str, layers: Sequence[LayerData]) -> list[str]:
    """Write labels layers as smooth closed meshes, one for each cell, and surface layers unchanged.

    The extension gives the format: ``.stl`` (the default), ``.ply``, ``.obj``, ``.glb``. Several meshes in
    STL or PLY become one file each: ``NAME_LAYER_CELL.stl``, with a number if two would have the same name.
    Raises an InputError if a layer is 2D, or the layers have no cell.
    """
    suffix = Path(path).suffix.lower()
    place = Path(path) if suffix.lstrip(".") in FORMATS else Path(f"{path}.stl")
    unit = _unit(layers[0][1])
    meshes: dict[str, trimesh.Trimesh] = {}
    taken: set[str] = set()
    for layer in layers:
        for name, mesh in _meshes(layer, unit, several=len(layers) > 1).items():
            numbered = (f"{name} ({number})" for number in count(2))
            free = next(one for one in chain((name,), numbered) if _in_file_name(one).lower() not in taken)
            taken.add(_in_file_name(free).lower())  # some file systems do not tell A from a
            meshes[free] = mesh
    if not meshes:
        raise InputError(f"{place.name} would hold no surface: the layers are empty.")
    note = f"napari-dispr {__version__}; x, y, z in {unit}; {layers[0][1]['name']}"
    if len(meshes) == 1 or place.suffix.lower() in (".obj", ".glb"):
        write_mesh(place, meshes, note)
        return [str(place)]
    paths = []
    for name, mesh in meshes.items():
        one = place.with_name(f"{place.stem}_{_in_file_name(name)}{place.suffix}")
        write_mesh(one, {name: mesh}, note)
        paths.append(str(one))
    return paths


def _in_file_name(name: str) -> str:
    return re.sub(r"[^\w.-]+", "_", name).strip("_")


def _meshes(layer: LayerData, unit: str, *, several: bool) -> "dict[str, trimesh.Trimesh]":
    """The meshes of one layer in the world, in ``unit`` if possible, by their names."""
    import trimesh

    data, settings, kind = layer
    name = str(settings["name"])
    before = f"{name} " if several else ""
    if kind == "surface":
        vertices, faces = np.asarray(data[0], dtype=np.float64), np.asarray(data[1])
        if vertices.shape[1] != 3:
            raise InputError(f'"{name}" has {vertices.shape[1]} axes: a mesh has three.')
        affine = _to_world(settings, 3, unit)
        if np.linalg.det(affine[:3, :3]) < 0:
            faces = faces[:, ::-1]
        return {name: trimesh.Trimesh(vertices @ affine[:3, :3].T + affine[:3, 3], faces, process=False)}
    array = np.asarray(data[0] if settings.get("multiscale") else data)
    affine = _to_world(settings, array.ndim, unit)
    if array.ndim != 3:
        raise InputError(f'"{name}" has {array.ndim} axes: a surface takes labels with z, y and x.')
    return {f"{before}{label}": mesh for label, mesh in meshes_of_labels(array, affine).items()}


def write_measures(path: str, layers: Sequence[LayerData]) -> list[str]:
    """Write the measures of labels layers as one table, with its column dictionary: ``NAME.csv`` and
    ``NAME.columns.csv``.

    Raises an InputError if no layer has measures.
    """
    tables, texts = [], {"layer": "no unit: name of the layer"}
    for _, settings, _ in layers:
        features = settings.get("features")
        table = pd.DataFrame() if features is None else pd.DataFrame(features)
        if "index" in table:
            table = table.drop(columns="label", errors="ignore").rename(columns={"index": "label"})
        elif "label" not in table:
            table.insert(0, "label", table.index)  # as in napari
        table = table.dropna(how="all", subset=[name for name in table.columns if name != "label"])
        if table.shape[1] < 2 or not len(table):
            continue
        made = _provenance(settings)
        if "member" in made:
            table.insert(1, "member", int(made["member"]))
        if len(layers) > 1:
            table.insert(0, "layer", settings["name"])
        texts |= made.get("columns", {})
        tables.append(table)
    if not tables:
        raise InputError("The layers hold no measures: save result layers, which have a table.")
    whole = pd.concat(tables, ignore_index=True)
    whole.attrs["columns"] = texts
    place = Path(path) if Path(path).suffix else Path(f"{path}.csv")
    return [str(written) for written in write_table(place, whole)]


def _provenance(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Provenance of a result layer; empty for other layers."""
    return dict(settings.get("metadata", {}).get(METADATA_KEY, {}))


def _unit(settings: Mapping[str, Any]) -> str:
    units = settings.get("units") or ("pixel",)
    return str(units[-1])


def _units(settings: Mapping[str, Any]) -> tuple[str, str, str]:
    """Units of z, y and x in `_to_world`: that of the last axis, unless it cannot be converted to it."""
    last = _unit(settings)
    units: Sequence[Any] = settings.get("units") or ()
    own = [last if unit_ratio(unit, last) else str(unit) for unit in units]
    z, y, x = ([last] * 3 + own)[-3:]
    return z, y, x


def _own_affine(settings: Mapping[str, Any], ndim: int) -> NDArray[np.float64]:
    """A layer's affine from data to world, (ndim + 1, ndim + 1), each axis in its own unit."""
    from napari.utils.transforms import Affine

    parts = {name: settings.get(name) for name in ("scale", "translate", "rotate", "shear")}
    own = Affine(**{name: part for name, part in parts.items() if part is not None}, ndim=ndim)
    affine = np.asarray(own.affine_matrix, dtype=np.float64)
    if settings.get("affine") is not None:
        affine = np.asarray(settings["affine"], dtype=np.float64) @ affine
    return affine[-ndim - 1 :, -ndim - 1 :]


def _to_world(settings: Mapping[str, Any], ndim: int, unit: str | None = None) -> NDArray[np.float64]:
    """`_own_affine` in ``unit`` if possible; by default in `_units`."""
    units = list(settings.get("units") or ())[-ndim:] or ["pixel"] * ndim
    return in_one_unit(_own_affine(settings, ndim), units, unit)
