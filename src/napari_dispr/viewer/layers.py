"""Builds the napari layers of a prediction and keeps them up to date. No Qt."""

import copy
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from napari_dispr import grid
from napari_dispr.shapes.meshes import surface_mesh
from napari_dispr.viewer.content import METADATA_KEY, ResultContent
from napari_dispr.viewer.opened import OpenPrediction, unwrapped

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels, Layer

#: Key of a result layer's metadata that holds the `PredictionHandle` of its prediction.
PREDICTION_KEY = "napari-dispr prediction"


@dataclass(slots=True, eq=False)
class PredictionHandle:
    """All layers of a prediction share one of these in their metadata: its newest state, and its layers."""

    newest: OpenPrediction
    layers: "ResultLayers | None" = None


def handle_of(layer: "Layer") -> PredictionHandle | None:
    """The prediction that a result layer shows; None for any other layer."""
    handle = unwrapped(layer).metadata.get(PREDICTION_KEY)
    return handle if isinstance(handle, PredictionHandle) else None


def member_layer(content: ResultContent, member: int, handle: PredictionHandle) -> dict[str, Any]:
    """Settings of the labels layer of one member, without its colours.

    Parameters
    ----------
    member : int
        Index of the member in the content.
    handle : PredictionHandle
        The prediction, which names the layer.
    """
    number = content.numbers[member]
    return {
        "name": f"{handle.newest.name}: member {number + 1}",
        "features": content.features[member],
        **_common(content, {"member": number}, handle),
        "visible": member == 0,
    }


def kept_layer(content: ResultContent, handle: PredictionHandle) -> dict[str, Any]:
    """Settings of the layer of the kept shapes."""
    assert content.kept is not None
    kept = content.kept.features.dropna(subset="kept")
    chosen = {str(int(label)): shape for label, shape in zip(kept["index"], kept["kept"], strict=True)}
    return {
        "name": f"{handle.newest.name}: kept shapes",
        "features": content.kept.features,
        **_common(content, {"kept": chosen}, handle),
        "visible": False,
    }


def _common(content: ResultContent, what: Mapping[str, Any], handle: PredictionHandle) -> dict[str, Any]:
    return {
        "metadata": {METADATA_KEY: {**content.metadata, **what}, PREDICTION_KEY: handle},
        "units": (content.unit,) * 3,
        "opacity": 1.0,
        "iso_gradient_mode": "smooth",
        **transform_of(content.affine),
    }


def surface_layers(opened: OpenPrediction, label: int) -> list[tuple[Any, dict[str, Any], str]]:
    """The members and the consensus of a cell as surface layers (data, settings, type), in their place."""
    prediction, ensemble = opened.prediction, opened.prediction[label]
    to_world = grid.translation((opened.depth, 0.0, 0.0)) @ ensemble.grid_to_world
    shapes: list[tuple[str, Any, NDArray[np.float32]]] = [
        (f"member {number + 1}", number, distance)
        for number, distance in zip(ensemble.numbers, ensemble.signed_distance, strict=True)
    ]
    shapes.append(("consensus", "consensus", ensemble.consensus_distance))
    layers = []
    for name, shape, distance in shapes:
        mesh = surface_mesh(distance, to_world)
        if len(mesh.faces):
            settings = {
                "name": f"cell {label}: {name}",
                "metadata": {METADATA_KEY: {**prediction.provenance, "label": label, "shape": shape}},
                "units": (opened.unit,) * 3,
                "shading": "smooth",
                "visible": name == "member 1" or len(ensemble) == 1,
            }
            layers.append(((np.asarray(mesh.vertices), np.asarray(mesh.faces)), settings, "surface"))
    return layers


class ResultLayers:
    """The layers of one prediction: added when the first cell is finished, then updated.

    Parameters
    ----------
    labels : Labels
        The layer whose colours the results take: the 2D labels, or one of the results.
    handle : PredictionHandle
        The prediction, which names the layers.
    """

    def __init__(self, viewer: "ViewerModel", labels: "Labels", handle: PredictionHandle) -> None:
        # A weak reference: a session must not keep its viewer alive.
        self._viewer_of = weakref.ref(unwrapped(viewer))
        self._handle = handle
        self._colormap = copy.deepcopy(labels.colormap)
        #: What the layers show.
        self.content: ResultContent | None = None
        #: By the number of the member; the kept shapes have the key "kept".
        self._layers: dict[int | str, Labels] = {}

    @classmethod
    def found(cls, viewer: "ViewerModel", handle: PredictionHandle) -> "ResultLayers | None":
        """The layers of a prediction that are in the viewer already, as after opening a saved one."""
        there = [layer for layer in viewer.layers if handle_of(layer) is handle]
        if not there:
            return None
        found = cls(viewer, there[0], handle)
        found._layers = {layer.metadata[METADATA_KEY].get("member", "kept"): layer for layer in there}
        return found

    @property
    def _viewer(self) -> "ViewerModel":
        viewer = self._viewer_of()
        assert viewer is not None
        return viewer

    @property
    def layers(self) -> "list[Labels]":
        """The layers of the members, by their numbers, then that of the kept shapes."""
        numbers = sorted(key for key in self._layers if not isinstance(key, str))
        return [self._layers[key] for key in (*numbers, "kept") if key in self._layers]

    @property
    def in_viewer(self) -> bool:
        """Whether any of the layers is in the viewer."""
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
        known = {number: i for i, number in enumerate(content.numbers)}
        for key in set(self._layers) - set(known) - ({"kept"} if content.kept else set()):
            layer = self._layers.pop(key)
            if layer in self._viewer.layers:
                self._viewer.layers.remove(layer)
                yield
        for number, i in known.items():
            if number in self._layers:
                self._fill(number, content.volumes[i], content.features[i], content.affine)
            else:
                settings = member_layer(content, i, self._handle)
                settings["visible"] &= not self._layers
                self._add(number, content.volumes[i], settings, content.depth)
            yield
        if content.kept is not None:
            if "kept" in self._layers:
                self._fill("kept", content.kept.volume, content.kept.features, content.affine)
                settings = kept_layer(content, self._handle)
                self._layers["kept"].metadata = settings["metadata"]
            else:
                settings = kept_layer(content, self._handle)
                self._add("kept", content.kept.volume, settings, content.depth)
            yield

    def _add(self, key: int | str, volume: NDArray[Any], settings: dict[str, Any], depth: float) -> None:
        from napari.layers import Labels

        layer = Labels(volume, colormap=copy.deepcopy(self._colormap), **settings)
        flat = self._viewer.dims.ndim == 2
        add_unselected(self._viewer, layer)
        if flat:  # the z slider is new: move it to the picture's plane
            self._viewer.dims.set_point(0, depth)
        self._layers[key] = layer

    def _fill(
        self, key: int | str, volume: NDArray[Any], features: pd.DataFrame, affine: NDArray[np.float64]
    ) -> None:
        layer = self._layers[key]
        if layer not in self._viewer.layers:
            return
        place(layer, affine)
        if layer.data is not volume:
            layer.data = volume
        layer.features = features


def add_unselected(viewer: "ViewerModel", layer: "Layer", index: int | None = None) -> None:
    """Add a layer and keep the user's layer selected, on which tools act."""
    selected, active = set(viewer.layers.selection), viewer.layers.selection.active
    viewer.layers.insert(len(viewer.layers) if index is None else index, layer)
    viewer.layers.selection = selected
    viewer.layers.selection.active = active


def place(layer: "Layer", affine: NDArray[np.float64]) -> None:
    """Move a layer; equal values are not set, as napari repaints after each change."""
    for name, value in transform_of(affine).items():
        if not np.allclose(getattr(layer, name), value, rtol=1e-12, atol=0):
            setattr(layer, name, value)


def transform_of(affine: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """A napari layer's transform that equals a (4, 4) affine.

    It has scale, rotate, shear and translate, which users see and other plugins read, if these equal the
    affine; otherwise the affine itself.
    """
    from napari.utils.transforms import Affine

    parts = Affine(affine_matrix=affine)
    shear, several = parts.shear, parts.ndim * (parts.ndim - 1) // 2
    if len(shear) != several:  # for a diagonal affine napari gives one zero for each axis
        shear = np.zeros(several)
    transform = {"scale": parts.scale, "rotate": parts.rotate, "shear": shear, "translate": parts.translate}
    if np.allclose(Affine(**transform).affine_matrix, affine, rtol=1e-9, atol=1e-9 * np.abs(affine).max()):
        return transform
    return {"affine": affine}
