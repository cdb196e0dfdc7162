"""Smooth surfaces in the place of result layers in the 3D view, where voxels look like terraces. No Qt."""

from collections.abc import Generator, Sequence
from typing import Any, NamedTuple

import numpy as np
from napari.components import ViewerModel
from napari.layers import Labels, Surface
from numpy.typing import NDArray

from napari_dispr import grid
from napari_dispr.prediction.result import Prediction
from napari_dispr.viewer.content import METADATA_KEY
from napari_dispr.viewer.layers import STAND_INS, add_unselected, handle_of, is_seen, key_of
from napari_dispr.viewer.opened import OpenPrediction

#: Up to so many cells have surfaces of every voxel, and of every second one. More cells stay labels: napari
#: needs a second for a million triangles.
_FINE, _COARSE = 12, 60


class SmoothShape(NamedTuple):
    """The surfaces of all cells of a result layer.

    ``vertices`` (n, 3) are in the world, ``faces`` (m, 3) are indices of vertices, ``cells`` (n,) is the
    label of the cell of each vertex.
    """

    prediction: Prediction
    vertices: NDArray[np.float32]
    faces: NDArray[np.int32]
    cells: NDArray[np.int64]


def smooth_shapes(layers: Sequence[Labels]) -> "Generator[tuple[Labels, SmoothShape], None, None]":
    """Compute the surfaces of result layers, in a thread; yields after each layer.

    Layers of too many cells, without any shape, or with a slider for the members are left out.
    """
    for layer in layers:
        handle, made = handle_of(layer), layer.metadata.get(METADATA_KEY, {})
        if handle is not None and layer.ndim == 3:
            shape = _smooth_shape(handle.newest, key_of(made))
            if shape is not None:
                yield layer, shape


def _smooth_shape(opened: OpenPrediction, key: int | str) -> SmoothShape | None:
    from napari_dispr.shapes.meshes import surface_mesh

    cells = opened.prediction
    if len(cells) > _COARSE:
        return None
    step = 1 if len(cells) <= _FINE else 2
    depth = grid.translation((opened.depth, 0.0, 0.0))
    parts: list[tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.int64]]] = []
    start = 0
    for label in cells:
        distance = _distance(cells, label, key)
        if distance is None:
            continue
        to_world = depth @ cells[label].grid_to_world @ np.diag([step, step, step, 1])
        mesh = surface_mesh(distance[::step, ::step, ::step], to_world)
        count = len(mesh.vertices)
        parts.append(
            (
                np.asarray(mesh.vertices, dtype=np.float32),
                np.asarray(mesh.faces, dtype=np.int32) + start,
                np.full(count, label, dtype=np.int64),
            )
        )
        start += count
    if not start:
        return None
    vertices, faces, labels = (np.concatenate(part) for part in zip(*parts, strict=True))
    return SmoothShape(cells, vertices, faces, labels)


def _distance(prediction: Prediction, label: int, key: int | str) -> NDArray[np.float32] | None:
    """Signed distance of what a result layer shows of a cell; None if it shows nothing."""
    ensemble = prediction[label]
    if key == "consensus":
        return ensemble.consensus_distance
    if key == "kept":
        return prediction.kept_distance(label) if label in prediction.kept else None
    return ensemble.signed_distance[ensemble.numbers.index(key)] if key in ensemble.numbers else None


class SmoothLayers:
    """The surface layers of a viewer that stand in for result layers, until they are removed."""

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self._surfaces: dict[Labels, tuple[Surface, SmoothShape]] = {}

    def missing(self, results: Sequence[Labels]) -> list[Labels]:
        """Those of these layers that are on screen without a surface of their newest state."""
        return [layer for layer in results if is_seen(layer) and not self._is_new(layer)]

    def _is_new(self, layer: Labels) -> bool:
        handle = handle_of(layer)
        if layer.visible or handle is None or layer not in self._surfaces:
            return False
        return self._surfaces[layer][1].prediction is handle.newest.prediction

    def replace(self, layer: Labels, shape: SmoothShape) -> None:
        """Show a surface in the place of a result layer on screen, in the same colours."""
        handle = handle_of(layer)
        current = handle is not None and handle.newest.prediction is shape.prediction
        if layer not in self._viewer.layers or not is_seen(layer) or not current:
            return
        self._take_out(layer)
        surface = Surface(
            (shape.vertices, shape.faces),
            name=f"{layer.name} (smooth)",
            vertex_colors=_colours(layer, shape),
            shading="smooth",
            units=layer.units,
            metadata={METADATA_KEY: dict(layer.metadata[METADATA_KEY])},
        )
        self._surfaces[layer] = surface, shape
        STAND_INS[layer] = surface
        add_unselected(self._viewer, surface, self._viewer.layers.index(layer) + 1)
        layer.visible = False
        layer.events.colormap.connect(self._on_colours)

    def remove(self) -> None:
        """Remove the surfaces; the result layers are visible where their surfaces were."""
        for layer in list(self._surfaces):
            surface = self._surfaces[layer][0]
            seen = surface.visible and surface in self._viewer.layers
            self._take_out(layer)
            if layer in self._viewer.layers:
                layer.visible |= seen

    def _take_out(self, layer: Labels) -> None:
        surface, _ = self._surfaces.pop(layer, (None, None))
        STAND_INS.pop(layer, None)
        if surface is not None:
            layer.events.colormap.disconnect(self._on_colours)
            if surface in self._viewer.layers:
                self._viewer.layers.remove(surface)

    def _on_colours(self, event: Any) -> None:
        surface, shape = self._surfaces[event.source]
        surface.vertex_colors = _colours(event.source, shape)


def _colours(layer: Labels, shape: SmoothShape) -> NDArray[np.float32]:
    """The colour of each vertex, RGBA: that of its cell, as bright as it can be (napari's light is dim)."""
    cells, places = np.unique(shape.cells, return_inverse=True)
    colours = np.asarray(layer.colormap.map(cells), dtype=np.float32)
    colours[:, :3] /= np.maximum(colours[:, :3].max(axis=1, keepdims=True), 1e-3)
    return colours[places]
