"""From a prediction to napari layers: the only place that builds them. No Qt."""

import copy
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from napari_dispr import grid
from napari_dispr.shapes.measures import HEADLINE
from napari_dispr.shapes.meshes import surface_mesh
from napari_dispr.shapes.one_shape import measure_shape
from napari_dispr.viewer.displayed import DisplayedPlane
from napari_dispr.viewer.session import PREDICTION_KEY, Held, OpenPrediction, prediction_of, unwrapped

if TYPE_CHECKING:
    import pint
    from napari.components import ViewerModel
    from napari.layers import Labels, Layer

    from napari_dispr.prediction.result import Prediction

#: Key of a result layer's metadata; its presence marks a layer as a result.
METADATA_KEY = "napari-dispr"

#: Feature tables have a row for each label from 0 up to here; with larger labels only the cells have one.
_DENSE_ROWS = 100_000


@dataclass(frozen=True, slots=True, eq=False)
class ResultContent:
    """All that the result layers show, made ready off the GUI thread.

    Attributes
    ----------
    prediction : Prediction
    volumes : tuple of (z, y, x) integer arrays
        One a member, label values as in the 2D layer.
    affine : (4, 4) float64
        From voxel-centre index to world.
    unit : pint.Unit, or its name
        Of the world's axes.
    depth : float
        World z of the picture's plane.
    numbers : tuple of int
        The numbers of these members.
    features : tuple of DataFrame
        One a member: ``index`` (the label) and its measures.
    metadata : mapping
        Provenance, the picture and which plane of it, and the units of the measures.
    kept : KeptContent or None
        Of the shapes that were kept, if there are any.
    """

    prediction: "Prediction"
    volumes: tuple[NDArray[Any], ...]
    affine: NDArray[np.float64]
    unit: "pint.Unit | str"
    depth: float
    numbers: tuple[int, ...]
    features: tuple[pd.DataFrame, ...]
    metadata: Mapping[str, Any]
    kept: "KeptContent | None" = None


@dataclass(frozen=True, slots=True, eq=False)
class KeptContent:
    """What the layer of the kept shapes shows: 3D labels on the affine of the others, and its features."""

    volume: NDArray[Any]
    features: pd.DataFrame


def compose(
    prediction: "Prediction",
    measures: pd.DataFrame,
    plane: DisplayedPlane,
    before: ResultContent | None = None,
) -> ResultContent:
    """Everything that the layers of a prediction need.

    Parameters
    ----------
    prediction : Prediction
    measures : DataFrame
        A row a cell and member, from `measure_ensembles`.
    plane : DisplayedPlane
        The picture: gives the unit, and the world's z of its plane.
    before : ResultContent, optional
        Of an earlier state of the prediction: volumes that are the same are taken from there.
    """
    return _content(prediction, measures, plane.unit, plane.depth, origin_of(plane), before)


def compose_saved(
    prediction: "Prediction", measures: pd.DataFrame, before: ResultContent | None = None
) -> ResultContent:
    """As `compose`, of a prediction that was read from a folder: its provenance tells of the picture.

    Parameters
    ----------
    prediction : Prediction
    measures : DataFrame
    before : ResultContent, optional
    """
    return _content(prediction, measures, prediction.unit, prediction.depth, {}, before)


def origin_of(plane: DisplayedPlane) -> dict[str, Any]:
    """What provenance says of the picture: its name, which plane of it, and the world's z of that."""
    return {"image": plane.name, "plane": list(plane.index), "depth": plane.depth}


def _content(
    prediction: "Prediction",
    measures: pd.DataFrame,
    unit: "pint.Unit | str",
    depth: float,
    origin: Mapping[str, Any],
    before: ResultContent | None,
) -> ResultContent:
    affine = prediction.frame
    largest = max(prediction)
    columns = dict(measures.attrs.get("columns", {}))
    return ResultContent(
        prediction=prediction,
        volumes=tuple(_volume(prediction, number, before) for number in prediction.numbers),
        affine=grid.translation((depth, 0.0, 0.0)) @ affine,
        unit=unit,
        depth=depth,
        numbers=prediction.numbers,
        features=tuple(_features(rows, largest) for _, rows in measures.groupby("member")),
        metadata={**prediction.provenance, **origin, "columns": columns},
        kept=_kept(prediction, measures, largest) if prediction.kept else None,
    )


def _volume(prediction: "Prediction", number: int, before: ResultContent | None) -> NDArray[Any]:
    """The label volume of one member, of an earlier state where it is the same."""
    if before is not None and number in before.numbers and prediction.same_frame(before.prediction):
        mine, theirs = (
            {label: id(one) for label, one in each.items() if number in one.numbers}
            for each in (prediction, before.prediction)
        )
        if mine == theirs:
            return before.volumes[before.numbers.index(number)]
    return prediction.label_volume(number)[0]


def _kept(prediction: "Prediction", measures: pd.DataFrame, largest: int) -> KeptContent:
    rows: list[dict[str, Any]] = []
    for label, shape in prediction.kept.items():
        if shape == "consensus":
            ensemble = prediction[label]
            row: dict[Any, Any] = dict(
                measure_shape(ensemble.consensus_distance, ensemble.grid_to_world, HEADLINE)
            )
        else:
            own = (measures["label"] == label) & (measures["member"] == shape)
            row = measures.loc[own, list(HEADLINE)].iloc[0].to_dict()
        name = shape if isinstance(shape, str) else f"member {shape + 1}"
        rows.append({"label": label, "kept": name, **row})
    return KeptContent(prediction.kept_volume()[0], _features(pd.DataFrame(rows), largest))


def member_layer(content: ResultContent, member: int, held: Held) -> dict[str, Any]:
    """What a labels layer of one member is made with, but for its colours.

    Parameters
    ----------
    content : ResultContent
    member : int
        Index of the member among all.
    held : Held
        The prediction, after which it is named, and by which widgets know it.
    """
    number = content.numbers[member]
    return {
        "name": f"{held.newest.name}: member {number + 1}",
        "features": content.features[member],
        **_common(content, {"member": number}, held),
        "visible": member == 0,
    }


def kept_layer(content: ResultContent, held: Held) -> dict[str, Any]:
    """As `member_layer`, of the layer of the shapes that were kept."""
    assert content.kept is not None
    kept = content.kept.features.dropna(subset="kept")
    chosen = {str(int(label)): shape for label, shape in zip(kept["index"], kept["kept"], strict=True)}
    return {
        "name": f"{held.newest.name}: kept shapes",
        "features": content.kept.features,
        **_common(content, {"kept": chosen}, held),
        "visible": False,
    }


def _common(content: ResultContent, what: Mapping[str, Any], held: Held) -> dict[str, Any]:
    return {
        "metadata": {METADATA_KEY: {**content.metadata, **what}, PREDICTION_KEY: held},
        "units": (content.unit,) * 3,
        "opacity": 1.0,
        "iso_gradient_mode": "smooth",
        **transform_of(content.affine),
    }


def _features(rows: pd.DataFrame, largest: int) -> pd.DataFrame:
    """Feature table of one member: row n tells of label n, as napari expects; rows of no cell are empty."""
    # napari shows them all in one line of its status bar: the first measures have room there.
    shown = ["label", *(name for name in ("kept", *HEADLINE) if name in rows)]
    table = rows[shown].rename(columns={"label": "index"}).set_index("index")
    labels = range(largest + 1) if largest <= _DENSE_ROWS else sorted({0, *table.index})
    return table.reindex(pd.Index(labels, name="index")).reset_index()


def surface_layers(opened: OpenPrediction, label: int) -> list[tuple[Any, dict[str, Any], str]]:
    """The members and the consensus of a cell as surface layers (data, settings, type), in their place.

    Parameters
    ----------
    opened : OpenPrediction
    label : int
    """
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
    """The layers of one prediction: made when the first cell is finished, then brought up to date.

    Parameters
    ----------
    viewer : ViewerModel
    labels : Labels
        The layer whose colours the results take: the 2D one, or one of the results.
    held : Held
        The prediction; the layers take their names from its.
    """

    def __init__(self, viewer: "ViewerModel", labels: "Labels", held: Held) -> None:
        # Weakly: sessions of viewers hold these, and would keep their viewers alive.
        self._viewer_of = weakref.ref(unwrapped(viewer))
        self._held = held
        self._colormap = copy.deepcopy(labels.colormap)
        #: What they show.
        self.content: ResultContent | None = None
        #: By the number of the member, and of the kept shapes by "kept".
        self._layers: dict[int | str, Labels] = {}

    @classmethod
    def found(cls, viewer: "ViewerModel", held: Held) -> "ResultLayers | None":
        """Those of a prediction that are in the viewer already, as after opening a saved one."""
        there = [layer for layer in viewer.layers if prediction_of(layer) is held]
        if not there:
            return None
        found = cls(viewer, there[0], held)
        found._layers = {layer.metadata[METADATA_KEY].get("member", "kept"): layer for layer in there}
        return found

    @property
    def _viewer(self) -> "ViewerModel":
        viewer = self._viewer_of()
        assert viewer is not None
        return viewer

    @property
    def layers(self) -> "list[Labels]":
        """Of the members, in the order of their numbers, then of the kept shapes."""
        numbers = sorted(key for key in self._layers if not isinstance(key, str))
        return [self._layers[key] for key in (*numbers, "kept") if key in self._layers]

    @property
    def in_viewer(self) -> bool:
        """Whether any of them is there."""
        return any(layer in self._viewer.layers for layer in self._layers.values())

    def update(self, content: ResultContent) -> Iterator[None]:
        """Show ``content``; yields after each layer, so that the event loop can run in between.

        Layers that the user removed meanwhile stay away, those of members that are gone are removed.
        """
        self.content = content
        if not self._layers:
            for layer in self._viewer.layers:
                if METADATA_KEY in layer.metadata:
                    layer.visible = False  # shapes of two runs in one place would hide one another
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
                settings = member_layer(content, i, self._held)
                settings["visible"] &= not self._layers
                self._add(number, content.volumes[i], settings, content.depth)
            yield
        if content.kept is not None:
            if "kept" in self._layers:
                self._fill("kept", content.kept.volume, content.kept.features, content.affine)
                settings = kept_layer(content, self._held)
                self._layers["kept"].metadata = settings["metadata"]
            else:
                settings = kept_layer(content, self._held)
                self._add("kept", content.kept.volume, settings, content.depth)
            yield

    def _add(self, key: int | str, volume: NDArray[Any], settings: dict[str, Any], depth: float) -> None:
        from napari.layers import Labels

        layer = Labels(volume, colormap=copy.deepcopy(self._colormap), **settings)
        flat = self._viewer.dims.ndim == 2
        add_unselected(self._viewer, layer)
        if flat:  # the z slider is new: put it into the picture's plane
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
    """Add a layer; the user's own one stays selected, the one that tools act on."""
    selected, active = set(viewer.layers.selection), viewer.layers.selection.active
    viewer.layers.insert(len(viewer.layers) if index is None else index, layer)
    viewer.layers.selection = selected
    viewer.layers.selection.active = active


def place(layer: "Layer", affine: NDArray[np.float64]) -> None:
    """Move a layer; what stays the same is not set anew, for napari draws after each change."""
    for name, value in transform_of(affine).items():
        if not np.allclose(getattr(layer, name), value, rtol=1e-12, atol=0):
            setattr(layer, name, value)


def transform_of(affine: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """A napari layer's transform that equals a (4, 4) affine.

    In terms of scale, rotate, shear and translate, which users see and other plugins read, wherever
    these give the affine back; else the affine itself.
    """
    from napari.utils.transforms import Affine

    parts = Affine(affine_matrix=affine)
    shear, several = parts.shear, parts.ndim * (parts.ndim - 1) // 2
    if len(shear) != several:  # of a diagonal affine napari gives as many as there are axes: zeros
        shear = np.zeros(several)
    transform = {"scale": parts.scale, "rotate": parts.rotate, "shear": shear, "translate": parts.translate}
    if np.allclose(Affine(**transform).affine_matrix, affine, rtol=1e-9, atol=1e-9 * np.abs(affine).max()):
        return transform
    return {"affine": affine}
