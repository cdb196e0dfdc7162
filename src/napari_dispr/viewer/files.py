"""Predictions and napari's layers from and to files: the reader and the writers of the manifest. No Qt.

Writers take any labels, image or surface layer; those of results bring their provenance along.
"""

import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from napari_dispr.errors import InputError
from napari_dispr.prediction.saving import PREDICTION_FILE, load_measures, load_prediction, write_table
from napari_dispr.shapes.mesh_files import FORMATS, meshes_of_labels, write_mesh
from napari_dispr.shapes.ome import OmeImage, spatial_affine, write_ome_tiff
from napari_dispr.version import __version__

if TYPE_CHECKING:
    import trimesh

#: What napari passes: data, what the layer is made with, and its type.
LayerData = tuple[Any, dict[str, Any], str]

# --- reading --------------------------------------------------------------------------------------------


def ensemble_reader(path: str | Sequence[str]) -> Callable[[Any], list[Any]] | None:
    """The reader for saved predictions: a folder that ``prediction.save`` wrote, or its ``prediction.json``.

    Parameters
    ----------
    path : str or sequence of str

    Returns
    -------
    callable or None
        Takes the same path and gives layer data tuples, one a member; None for any other folder, so that
        other readers get their turn.
    """
    if not isinstance(path, str):
        if len(path) != 1:
            return None  # several are to be stacked: predictions are not
        (path,) = path
    file = _prediction_file(path)
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError:
        return None
    except ValueError:
        return read_ensemble  # it is damaged, and is told so
    ours = isinstance(content, dict) and not {"cells", "image_to_world"}.isdisjoint(content)
    return read_ensemble if ours else None


def _prediction_file(path: str) -> Path:
    file = Path(path)
    return file if file.name == PREDICTION_FILE else file / PREDICTION_FILE


def read_ensemble(path: str | Sequence[str]) -> list[Any]:
    """The layers of a saved prediction, as they were when it was drawn; of a damaged one a notification.

    Nothing is raised for a damaged folder: napari would say that the plugin failed, and to look for another.

    Returns
    -------
    list of layer data tuples
        A labels layer a member, with measures (``features``) and provenance (``metadata``). Called from
        napari's window it is empty for napari: the layers follow as soon as a thread has read them.
    """
    folder = _prediction_file(path if isinstance(path, str) else path[0]).parent
    if _window_is_up():
        from napari_dispr.viewer.opening import open_in_thread

        open_in_thread(lambda: _layers_of(folder))
        return [(None,)]
    return _layers_of(folder) or [(None,)]


def _window_is_up() -> bool:
    """Whether this is called from napari's window, which must not freeze; scripts wait for their layers."""
    if not {"PyQt6", "PySide6", "PyQt5", "PySide2"} & set(sys.modules):
        return False
    from napari_dispr.viewer.opening import window_is_up

    return window_is_up()


def _layers_of(folder: Path) -> list[LayerData]:
    """Layer data tuples of a saved prediction; none, and a notification, if it is damaged."""
    from napari.utils.notifications import show_error, show_warning

    from napari_dispr.viewer.layers import compose_saved, kept_layer, member_layer
    from napari_dispr.viewer.session import Held, opened

    try:
        prediction = load_prediction(folder).with_provenance(folder=str(folder))
        measures = load_measures(folder, prediction)
        content = compose_saved(prediction, measures)
    except InputError as error:
        text = str(error).replace(str(folder), folder.name)  # of a long sentence the beginning is shown
        show_error(text if text.startswith(folder.name) else f"{folder.name}: {text}")
        return []
    for warning in prediction.warnings:
        show_warning(warning)
    made = prediction.provenance
    name = made.get("labels") or Path(made.get("labels_file") or folder.name).stem
    held = Held(opened(prediction, measures, name))
    layers = [
        (volume, member_layer(content, member, held), "labels")
        for member, volume in enumerate(content.volumes)
    ]
    if content.kept is not None:
        layers.append((content.kept.volume, kept_layer(content, held), "labels"))
    return layers


# --- writing --------------------------------------------------------------------------------------------


def write_volumes(path: str, layers: Sequence[LayerData]) -> list[str]:
    """Write labels and image layers as one OME-TIFF with scale, place and provenance.

    Labels of one shape in one place, as the members of a prediction are, become one image, axes TZYX with
    T = layer; others are images of their own in the same file.

    Parameters
    ----------
    path : str
        ``.ome.tif`` is added to a name without an extension.
    layers : sequence of layer data tuples
        Of 2 to 4 axes.

    Returns
    -------
    list of str
        The file.

    Raises
    ------
    InputError
        If a layer is RGB, or has too many axes or numbers that OME does not know.
    """
    place = path if path.lower().endswith((".tif", ".tiff")) else f"{path}.ome.tif"
    images = [_ome_image(layer) for layer in layers]
    first = images[0]
    alike = all(
        kind == "labels"
        and image.array.ndim == 3
        and image.array.shape == first.array.shape
        and np.allclose(image.index_to_world, first.index_to_world)
        for image, (_, _, kind) in zip(images, layers, strict=True)
    )
    if len(images) > 1 and alike:
        description = {**first.description, "layers": [image.name for image in images]}
        description.pop("member", None)
        array = np.stack([image.array for image in images])
        images = [OmeImage(array, Path(place).name, first.index_to_world, first.unit, description)]
    write_ome_tiff(place, images)
    return [place]


def _ome_image(layer: LayerData) -> OmeImage:
    data, settings, _ = layer
    if settings.get("rgb"):
        raise InputError(f'"{settings["name"]}" is an RGB picture: save it as PNG or TIFF of napari.')
    array = np.asarray(data[0] if settings.get("multiscale") else data)
    while array.ndim > 4 and array.shape[0] == 1:
        array = array[0]
    unit, affine = _unit(settings), spatial_affine(_to_world(settings, np.ndim(array)))
    description = {
        **_made(settings),
        "layer": settings["name"],
        "unit": unit,
        "index_to_world": affine.tolist(),
    }
    return OmeImage(array, settings["name"], affine, unit, description)


def write_surfaces(path: str, layers: Sequence[LayerData]) -> list[str]:
    """Write labels layers as smooth closed meshes, a mesh a cell, and surface layers as they are.

    Parameters
    ----------
    path : str
        Its end says which format: ``.stl`` (added to a name without one), ``.ply``, ``.obj``, ``.glb``.
    layers : sequence of layer data tuples
        Of three axes.

    Returns
    -------
    list of str
        One file; of several meshes in STL or PLY, which hold one each, one a mesh: ``NAME_LAYER_CELL.stl``.

    Raises
    ------
    InputError
        If a layer is flat, or there is no cell in them.
    """
    suffix = Path(path).suffix.lower()
    place = Path(path) if suffix.lstrip(".") in FORMATS else Path(f"{path}.stl")
    meshes: dict[str, trimesh.Trimesh] = {}
    for layer in layers:
        meshes |= _meshes(layer, several=len(layers) > 1)
    if not meshes:
        raise InputError(f"{place.name} would hold no surface: the layers are empty.")
    note = f"napari-dispr {__version__}; x, y, z in {_unit(layers[0][1])}; {layers[0][1]['name']}"
    if len(meshes) == 1 or place.suffix.lower() in (".obj", ".glb"):
        write_mesh(place, meshes, note)
        return [str(place)]
    paths = []
    for name, mesh in meshes.items():
        plain = re.sub(r"[^\w.-]+", "_", name).strip("_")
        one = place.with_name(f"{place.stem}_{plain}{place.suffix}")
        write_mesh(one, {name: mesh}, note)
        paths.append(str(one))
    return paths


def _meshes(layer: LayerData, *, several: bool) -> "dict[str, trimesh.Trimesh]":
    """The meshes of one layer, by their names; in the world."""
    import trimesh

    data, settings, kind = layer
    name = str(settings["name"])
    before = f"{name} " if several else ""
    if kind == "surface":
        vertices, faces = np.asarray(data[0], dtype=np.float64), np.asarray(data[1])
        if vertices.shape[1] != 3:
            raise InputError(f'"{name}" has {vertices.shape[1]} axes: a mesh has three.')
        affine = _to_world(settings, 3)
        if np.linalg.det(affine[:3, :3]) < 0:
            faces = faces[:, ::-1]
        return {name: trimesh.Trimesh(vertices @ affine[:3, :3].T + affine[:3, 3], faces, process=False)}
    array = np.asarray(data[0] if settings.get("multiscale") else data)
    affine = _to_world(settings, array.ndim)
    if array.ndim != 3:
        raise InputError(f'"{name}" has {array.ndim} axes: a surface takes labels with z, y and x.')
    return {f"{before}{label}": mesh for label, mesh in meshes_of_labels(array, affine).items()}


def write_measures(path: str, layers: Sequence[LayerData]) -> list[str]:
    """Write the measures that labels layers carry as one table, with its column dictionary beside it.

    Parameters
    ----------
    path : str
        ``.csv`` is added to a name without an extension.
    layers : sequence of layer data tuples

    Returns
    -------
    list of str
        ``NAME.csv`` and ``NAME.columns.csv``.

    Raises
    ------
    InputError
        If no layer has measures.
    """
    tables, texts = [], {"layer": "no unit: name of the layer"}
    for _, settings, _ in layers:
        features = settings.get("features")
        table = pd.DataFrame() if features is None else pd.DataFrame(features)
        table = table.rename(columns={"index": "label"})
        table = table.dropna(how="all", subset=[name for name in table.columns if name != "label"])
        if table.shape[1] < 2 or not len(table):
            continue
        made = _made(settings)
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


def _made(settings: Mapping[str, Any]) -> dict[str, Any]:
    """How a result layer came to be; nothing of others."""
    from napari_dispr.viewer.layers import METADATA_KEY

    made = settings.get("metadata", {}).get(METADATA_KEY, {})
    return dict(made)


def _unit(settings: Mapping[str, Any]) -> str:
    units = settings.get("units") or ("pixel",)
    return str(units[-1])


def _to_world(settings: Mapping[str, Any], ndim: int) -> NDArray[np.float64]:
    """A layer's affine from data to world, (ndim + 1, ndim + 1), all axes in the unit of the last."""
    from napari.utils.transforms import Affine

    parts = {name: settings.get(name) for name in ("scale", "translate", "rotate", "shear")}
    own = Affine(**{name: part for name, part in parts.items() if part is not None}, ndim=ndim)
    affine = np.asarray(own.affine_matrix, dtype=np.float64)
    if settings.get("affine") is not None:
        affine = np.asarray(settings["affine"], dtype=np.float64) @ affine
    for axis, unit in enumerate(settings.get("units") or ()):
        if str(unit) != _unit(settings) and hasattr(unit, "is_compatible_with"):
            last = settings["units"][-1]
            if unit.is_compatible_with(last):
                affine[axis] *= float((1 * unit).to(last).magnitude)
    return affine[-ndim - 1 :, -ndim - 1 :]
