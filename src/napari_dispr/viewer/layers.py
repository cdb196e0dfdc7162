"""Builds the napari layers of a prediction and keeps them up to date. No Qt."""

import copy
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from napari.components import ViewerModel
from napari.layers import Labels, Layer, Surface
from napari.utils.transforms import Affine
from numpy.typing import NDArray

from napari_dispr import grid
from napari_dispr.viewer.content import METADATA_KEY, LayerData, ResultContent, mean_features
from napari_dispr.viewer.opened import OpenPrediction, unwrapped
from napari_dispr.viewer.world import in_viewer

#: Key of a result layer's metadata that holds the `PredictionHandle` of its prediction.
PREDICTION_KEY = "napari-dispr prediction"

_TRANSFORM = {"scale", "rotate", "shear", "translate", "affine"}

#: Key of a surface layer's metadata that holds the key of its prediction.
_SURFACE_KEY = "napari-dispr surface of"

#: Result layers that show no single member, in their order: keys of the metadata, and names.
_WORDS = {"members": "members", "consensus": "consensus", "kept": "kept shapes"}


#: Layers that show colours for a while, as of a selected cell: their own colours, and those that they show.
COLOURED: weakref.WeakKeyDictionary[Labels, tuple[Any, Any]] = weakref.WeakKeyDictionary()

#: Surfaces that are shown in the place of labels layers, which are hidden meanwhile.
STAND_INS: weakref.WeakKeyDictionary[Labels, Surface] = weakref.WeakKeyDictionary()


def is_seen(layer: Labels) -> bool:
    """Whether a labels layer is on screen, itself or as a surface in its place."""
    return bool(layer.visible or (layer in STAND_INS and STAND_INS[layer].visible))


def hide(layer: Layer) -> None:
    """Hide a layer, and the surface in its place."""
    layer.visible = False
    if layer in STAND_INS:
        STAND_INS[layer].visible = False


def own_colormap(layer: Labels) -> Any:
    """The colours of a layer, without those that it only shows for a while."""
    layer = unwrapped(layer)
    own, shown = COLOURED.get(layer, (None, None))
    return own if shown is not None and layer.colormap is shown else layer.colormap


def key_of(made: Mapping[str, Any]) -> int | str:
    """What a result layer shows, by its metadata: the number of a member, or a key of `_WORDS`."""
    return int(made["member"]) if "member" in made else next((key for key in _WORDS if key in made), "kept")


@dataclass(slots=True, eq=False)
class PredictionHandle:
    """All layers of a prediction share one of these in their metadata: its newest state, and its layers."""

    newest: OpenPrediction
    layers: "ResultLayers | None" = None

    def layer_name(self, made: Mapping[str, Any]) -> str:
        """Name of a result layer with this metadata."""
        key = key_of(made)
        words = f"member {key + 1}" if isinstance(key, int) else _WORDS[key]
        return f"{self.newest.name}: {words}"


def handle_of(layer: Layer) -> PredictionHandle | None:
    """The prediction that a result layer shows; None for any other layer."""
    handle = unwrapped(layer).metadata.get(PREDICTION_KEY)
    return handle if isinstance(handle, PredictionHandle) else None


def result_layers(
    content: ResultContent, handle: PredictionHandle
) -> list[tuple[NDArray[Any], dict[str, Any]]]:
    """Data and settings of all result layers of a prediction, without their colours."""
    shown: list[tuple[NDArray[Any], pd.DataFrame, dict[str, Any]]] = []
    if content.stack is not None:
        shown.append((content.stack, mean_features(content), {"members": list(content.prediction.numbers)}))
    else:
        each = zip(content.volumes, content.features, content.prediction.numbers, strict=True)
        shown += [(volume, features, {"member": number}) for volume, features, number in each]
    if content.consensus is not None:
        shown.append((content.consensus.volume, content.consensus.features, {"consensus": True}))
    if content.kept is not None:
        kept = content.kept.features.dropna(subset="kept")
        chosen = {str(int(label)): shape for label, shape in zip(kept["index"], kept["kept"], strict=True)}
        shown.append((content.kept.volume, content.kept.features, {"kept": chosen}))
    layers: list[tuple[NDArray[Any], dict[str, Any]]] = []
    for volume, features, what in shown:
        affine = np.eye(volume.ndim + 1)
        affine[-4:, -4:] = content.affine
        settings = {
            "name": handle.layer_name(what),
            "features": features,
            "metadata": {METADATA_KEY: {**content.metadata, **what}, PREDICTION_KEY: handle},
            "units": ("pixel",) * (volume.ndim - 3) + (content.unit,) * 3,
            "opacity": 1.0,
            "iso_gradient_mode": "smooth",
            "visible": not layers,
            **transform_of(affine),
        }
        layers.append((volume, settings))
    return layers


def surface_layers(opened: OpenPrediction, label: int) -> list[LayerData]:
    """The members and the consensus of a cell as surface layers (data, settings, type), in their place."""
    from napari_dispr.shapes.meshes import surface_mesh, without_creases

    prediction, ensemble = opened.prediction, opened.prediction[label]
    to_world = grid.translation((opened.depth, 0.0, 0.0)) @ ensemble.grid_to_world
    shapes: list[tuple[str, Any, NDArray[np.float32]]] = [
        (f"member {number + 1}", number, distance)
        for number, distance in zip(ensemble.numbers, ensemble.signed_distance, strict=True)
    ]
    shapes.append(("consensus", "consensus", ensemble.consensus_distance))
    layers: list[LayerData] = []
    for name, shape, distance in shapes:
        mesh = surface_mesh(distance, to_world)
        if shape == "consensus":
            mesh = without_creases(mesh)
        if len(mesh.faces):
            settings = {
                "name": f"cell {label}: {name}",
                "metadata": {
                    METADATA_KEY: {**prediction.provenance, "label": label, "shape": shape},
                    _SURFACE_KEY: (opened.key, label),
                },
                "units": (opened.unit,) * 3,
                "shading": "smooth",
                "visible": not layers,
            }
            layers.append(((np.asarray(mesh.vertices), np.asarray(mesh.faces)), settings, "surface"))
    return layers


class ResultLayers:
    """The layers of one prediction: added when the first cell is finished, then updated.

    They take the colours of ``labels``: the 2D labels, or one of the results.
    """

    def __init__(self, viewer: ViewerModel, labels: Labels, handle: PredictionHandle) -> None:
        # A weak reference: a session must not keep its viewer alive.
        self._viewer_of = weakref.ref(unwrapped(viewer))
        self._handle = handle
        self._colormap = copy.deepcopy(own_colormap(labels))
        #: What the layers show.
        self.content: ResultContent | None = None
        #: Earlier layers, to be removed after the next update.
        self.replaced: list[ResultLayers] = []
        #: By the number of the member, or a key of `_WORDS`.
        self._layers: dict[int | str, Labels] = {}

    @classmethod
    def found(cls, viewer: ViewerModel, handle: PredictionHandle) -> "ResultLayers | None":
        """The layers of a prediction that are in the viewer already, as after opening a saved one."""
        there = [layer for layer in viewer.layers if handle_of(layer) is handle]
        if not there:
            return None
        found = cls(viewer, there[0], handle)
        found._layers = {key_of(layer.metadata[METADATA_KEY]): layer for layer in there}
        return found

    @property
    def _viewer(self) -> ViewerModel:
        viewer = self._viewer_of()
        assert viewer is not None
        return viewer

    @property
    def layers(self) -> list[Labels]:
        """The layers of the members, by their numbers, then the others."""
        numbers = sorted(key for key in self._layers if not isinstance(key, str))
        return [self._layers[key] for key in (*numbers, *_WORDS) if key in self._layers]

    @property
    def in_viewer(self) -> bool:
        return any(layer in self._viewer.layers for layer in self._layers.values())

    def update(self, content: ResultContent) -> Iterator[None]:
        """Show ``content``; yields after each layer, so that the event loop can run in between.

        Layers that the user removed are not added again; layers of removed members are removed.
        """
        self.content = content
        if not self._layers:
            for layer in self._viewer.layers:
                if METADATA_KEY in layer.metadata:
                    layer.visible = False  # shapes of two runs would hide each other
        shown = {
            key_of(settings["metadata"][METADATA_KEY]): (data, settings)
            for data, settings in result_layers(content, self._handle)
        }
        if gone := [self._layers.pop(key) for key in set(self._layers) - set(shown)]:
            remove_layers(self._viewer, gone)
            yield
        for key, (data, settings) in shown.items():
            if key in self._layers:
                self._fill(self._layers[key], data, settings)
            else:
                settings["visible"] &= not self._layers
                self._add(key, data, settings, content.depth)
            yield
        if self.replaced:
            remove_layers(self._viewer, [layer for one in self.replaced for layer in one.layers])
            self.replaced.clear()
            yield
        for layer in self._layers.values():  # the names of replaced layers are free now
            name = self._handle.layer_name(layer.metadata[METADATA_KEY])
            if layer.name != name and layer in self._viewer.layers:
                layer.name = name

    def _add(self, key: int | str, data: NDArray[Any], settings: dict[str, Any], depth: float) -> None:
        layer = Labels(data, colormap=copy.deepcopy(self._colormap), **settings)
        self._layers[key] = layer  # first: an error of another listener must not add it again
        flat = self._viewer.dims.ndim == 2
        add_unselected(self._viewer, layer)
        if flat:  # the z slider is new: move it to the picture's plane
            dims = self._viewer.dims
            dims.set_point(layer.ndim - 3, depth * in_viewer(layer.units[-1], dims))

    def _fill(self, layer: Labels, data: NDArray[Any], settings: dict[str, Any]) -> None:
        if layer not in self._viewer.layers:
            return
        place(layer, settings)
        if layer.data is not data:
            layer.data = data
        layer.features = settings["features"]
        layer.metadata = settings["metadata"]


def add_surfaces(viewer: ViewerModel, surfaces: Sequence[Layer], handle: PredictionHandle) -> None:
    """Add the surfaces of a cell in place of those added before; the labels in the same place are hidden."""
    which = {layer.metadata[_SURFACE_KEY] for layer in surfaces}
    remove_layers(viewer, [one for one in viewer.layers if one.metadata.get(_SURFACE_KEY) in which])
    for layer in viewer.layers:
        if handle_of(layer) is handle:
            hide(layer)
    for layer in surfaces:
        add_unselected(viewer, layer)


def removed_together(viewer: ViewerModel) -> AbstractContextManager[None]:
    """Inside, layers are removed as one: napari (0.9) collects all garbage at the end, not after each.

    A collection takes 0.1 to 0.4 s. Such blocks cannot be nested.
    """
    together: AbstractContextManager[None] = getattr(viewer.layers, "batched_update", nullcontext)()
    return together


def remove_layers(viewer: ViewerModel, layers: Iterable[Layer]) -> None:
    """Remove those layers that are in the viewer."""
    there = [layer for layer in layers if layer in viewer.layers]
    if there:
        with removed_together(viewer):
            for layer in there:
                viewer.layers.remove(layer)


def add_unselected(viewer: ViewerModel, layer: Layer, index: int | None = None) -> None:
    """Add a layer and keep the user's layer selected, on which tools act."""
    selected, active = set(viewer.layers.selection), viewer.layers.selection.active
    cursor = unwrapped(viewer).cursor
    if viewer.dims.ndisplay == 3 and cursor._view_direction is None:
        # napari asks the new layer what is under the pointer, and fails if it was never over the canvas.
        cursor._view_direction = np.array([1.0, 0.0, 0.0])
    viewer.layers.insert(len(viewer.layers) if index is None else index, layer)
    viewer.layers.selection = selected
    viewer.layers.selection.active = active


def place(layer: Layer, transform: Mapping[str, Any]) -> None:
    """Give a layer a transform (`transform_of`); equal values are not set: napari repaints after each."""
    for name in _TRANSFORM & transform.keys():
        value = transform[name]
        if not np.allclose(getattr(layer, name), value, rtol=1e-12, atol=0):
            setattr(layer, name, value)


def transform_of(affine: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """A napari layer's transform, with all its parts, that equals a (n + 1, n + 1) affine.

    It has scale, rotate, shear and translate, which users see and other plugins read, if these equal the
    affine; otherwise the affine itself.
    """
    own, ndim = Affine(affine_matrix=affine), len(affine) - 1
    none = {"rotate": np.eye(ndim), "shear": np.zeros(ndim * (ndim - 1) // 2)}
    turned = {"rotate": own.rotate, "shear": own.shear}
    # Of a diagonal affine napari gives a scale with signs, and a rotation that has them once more.
    is_diagonal = np.allclose(affine[:-1, :-1], np.diag(own.scale), rtol=0, atol=1e-8)
    parts = {"scale": own.scale, "translate": own.translate, **(none if is_diagonal else turned)}
    if np.allclose(Affine(**parts).affine_matrix, affine, rtol=1e-9, atol=1e-9 * np.abs(affine).max()):
        return {**parts, "affine": np.eye(ndim + 1)}
    return {"scale": np.ones(ndim), "translate": np.zeros(ndim), **none, "affine": affine}
