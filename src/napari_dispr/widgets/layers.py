"""From a prediction to napari layers: the only place that builds them. No Qt."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from napari_dispr import grid
from napari_dispr.shapes.measures import HEADLINE
from napari_dispr.widgets.displayed import DisplayedPlane

if TYPE_CHECKING:
    import pint
    from napari.components import ViewerModel
    from napari.layers import Image, Labels, Layer, Vectors

    from napari_dispr.results import Prediction

#: Key of a result layer's metadata; its presence marks a layer as a result.
METADATA_KEY = "napari-dispr"

#: Camera angles of the 3D view, in degrees.
_SLANTED = (10.0, -20.0, 45.0)
#: How much of the canvas the results take, and how much closer than the whole scene they may be looked at.
_FILL, _CLOSEST = 0.8, 8.0
#: Pixels along a side of the sheet that stands for the picture: what 3D textures take on all graphics cards.
_LARGEST_SHEET = 2048

#: Width of outlines as a share of a cell's extent, and their colour.
_OUTLINE_WIDTH, _OUTLINE_COLOR = 0.03, "#ffd60a"

#: Feature tables have a row for each label from 0 up to here; with larger labels only the cells have one.
_DENSE_ROWS = 100_000


@dataclass(frozen=True, slots=True, eq=False)
class ResultContent:
    """All that the result layers show, made ready off the GUI thread.

    Attributes
    ----------
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
    """

    volumes: tuple[NDArray[Any], ...]
    affine: NDArray[np.float64]
    unit: "pint.Unit | str"
    depth: float
    numbers: tuple[int, ...]
    features: tuple[pd.DataFrame, ...]
    metadata: Mapping[str, Any]


def compose(prediction: "Prediction", measures: pd.DataFrame, plane: DisplayedPlane) -> ResultContent:
    """Everything that the layers of a prediction need.

    Parameters
    ----------
    prediction : Prediction
    measures : DataFrame
        A row a cell and member, from `measure_ensembles`.
    plane : DisplayedPlane
        The picture: gives the unit, and the world's z of its plane.
    """
    return _content(prediction, measures, plane.unit, plane.depth, origin_of(plane))


def compose_saved(prediction: "Prediction", measures: pd.DataFrame, folder: str) -> ResultContent:
    """As `compose`, of a prediction that was read from a folder: its provenance tells of the picture.

    Parameters
    ----------
    prediction : Prediction
    measures : DataFrame
    folder : str
        Where it was read from: the layers' metadata say so.
    """
    depth = prediction.provenance.get("depth", 0.0)
    return _content(prediction, measures, prediction.unit, float(depth), {"folder": folder})


def origin_of(plane: DisplayedPlane) -> dict[str, Any]:
    """What provenance says of the picture: its name, which plane of it, and the world's z of that."""
    return {"image": plane.name, "plane": list(plane.index), "depth": plane.depth}


def _content(
    prediction: "Prediction",
    measures: pd.DataFrame,
    unit: "pint.Unit | str",
    depth: float,
    origin: Mapping[str, Any],
) -> ResultContent:
    placed = prediction.label_volumes()
    largest = max(prediction)
    return ResultContent(
        volumes=tuple(volume for volume, _ in placed),
        affine=grid.translation((depth, 0.0, 0.0)) @ placed[0][1],
        unit=unit,
        depth=depth,
        numbers=prediction.numbers,
        features=tuple(_features(rows, largest) for _, rows in measures.groupby("member")),
        metadata={
            **prediction.provenance,
            **origin,
            "columns": dict(measures.attrs.get("columns", {})),
        },
    )


def member_layer(content: ResultContent, member: int, name: str) -> dict[str, Any]:
    """What a labels layer of one member is made with, but for its colours.

    Parameters
    ----------
    content : ResultContent
    member : int
        Index of the member among all.
    name : str
        Of the 2D label layer.
    """
    number = content.numbers[member]
    return {
        "name": f"{name}: member {number + 1}",
        "features": content.features[member],
        "metadata": {METADATA_KEY: {**content.metadata, "member": number}},
        "units": (content.unit,) * 3,
        "opacity": 1.0,
        "iso_gradient_mode": "smooth",
        "visible": member == 0,
        **transform_of(content.affine),
    }


def _features(rows: pd.DataFrame, largest: int) -> pd.DataFrame:
    """Feature table of one member: row n tells of label n, as napari expects; rows of no cell are empty."""
    # napari shows them all in one line of its status bar: the first measures have room there.
    shown = ["label", *(name for name in HEADLINE if name in rows)]
    table = rows[shown].rename(columns={"label": "index"}).set_index("index")
    labels = range(largest + 1) if largest <= _DENSE_ROWS else sorted({0, *table.index})
    return table.reindex(pd.Index(labels, name="index")).reset_index()


class ResultLayers:
    """The layers of one run: made when the first cell is finished, brought up to date with each further one.

    Parameters
    ----------
    viewer : ViewerModel
    labels : Labels
        The 2D layer whose name, colours and label values the results take.
    """

    def __init__(self, viewer: "ViewerModel", labels: "Labels") -> None:
        self._viewer = viewer
        self._name = labels.name
        self._colormap = copy.deepcopy(labels.colormap)
        self.layers: list[Labels] = []

    def update(self, content: ResultContent) -> Iterator[None]:
        """Show ``content``; yields after each layer, so that the event loop can run in between.

        Layers that the user removed meanwhile stay away.
        """
        if self.layers:
            for layer, volume, features in zip(self.layers, content.volumes, content.features, strict=True):
                if layer in self._viewer.layers:
                    _fill(layer, volume, content.affine, features)
                    yield
            return
        for layer in self._viewer.layers:
            if METADATA_KEY in layer.metadata:
                layer.visible = False  # shapes of two runs in one place would hide one another
        for member in range(len(content.volumes)):
            self._add(content, member)
            yield

    def _add(self, content: ResultContent, member: int) -> None:
        from napari.layers import Labels

        settings = member_layer(content, member, self._name)
        layer = Labels(content.volumes[member], colormap=copy.deepcopy(self._colormap), **settings)
        flat = self._viewer.dims.ndim == 2
        _add_unselected(self._viewer, layer)
        if flat:  # the z slider is new: put it into the picture's plane
            self._viewer.dims.set_point(0, content.depth)
        self.layers.append(layer)


def _fill(layer: "Labels", volume: NDArray[Any], affine: NDArray[np.float64], features: pd.DataFrame) -> None:
    _place(layer, affine)
    layer.data = volume
    layer.features = features


class Outlines:
    """One layer that outlines the chosen cells, exactly over the picture; there only while cells are chosen.

    Parameters
    ----------
    viewer : ViewerModel
    """

    def __init__(self, viewer: "ViewerModel") -> None:
        self._viewer = viewer
        self._layer: Vectors | None = None

    def show(self, cells: Mapping[int, NDArray[np.float32]], plane: DisplayedPlane) -> None:
        """Outline these cells and no others.

        Parameters
        ----------
        cells : mapping of label to (segment, 2, 2) array
            From `picking.outline`, in pixels of ``plane``. None removes the layer.
        plane : DisplayedPlane
            The picture.
        """
        if not cells:
            self.remove()
            return
        ndim = 3 if plane.index else 2  # on a plane of a stack: there only
        affine = grid.pixel_to_world(plane.to_world)
        affine[0, 3] = plane.depth
        extent = float(np.median([np.ptp(segments[:, 0], axis=0).max() for segments in cells.values()]))
        layer = self._layer
        if layer is None or layer not in self._viewer.layers or layer.ndim != ndim:
            self.remove()
            layer = self._layer = self._added(ndim, plane.unit)
        _place(layer, affine[3 - ndim :, 3 - ndim :])
        layer.edge_width = max(1.0, _OUTLINE_WIDTH * extent)
        layer.data = np.pad(np.concatenate(list(cells.values())), ((0, 0), (0, 0), (ndim - 2, 0)))

    def _added(self, ndim: int, unit: "pint.Unit") -> "Vectors":
        from napari.layers import Vectors

        layer = Vectors(
            np.zeros((0, 2, ndim)),
            name="chosen cells",
            vector_style="line",
            edge_color=_OUTLINE_COLOR,
            opacity=1.0,
            blending="translucent_no_depth",  # else half of them drowns in the picture in 3D
            units=(unit,) * ndim,
        )
        _add_unselected(self._viewer, layer)
        return layer

    def remove(self) -> None:
        """Take the outlines away."""
        if self._layer is not None and self._layer in self._viewer.layers:
            self._viewer.layers.remove(self._layer)
        self._layer = None


def _add_unselected(viewer: "ViewerModel", layer: "Layer", index: int | None = None) -> None:
    """Add a layer; the user's own one stays selected, the one that tools act on."""
    selected, active = set(viewer.layers.selection), viewer.layers.selection.active
    viewer.layers.insert(len(viewer.layers) if index is None else index, layer)
    viewer.layers.selection = selected
    viewer.layers.selection.active = active


def _place(layer: "Layer", affine: NDArray[np.float64]) -> None:
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
    shear = parts.shear[
        : parts.ndim * (parts.ndim - 1) // 2
    ]  # napari gives one too many of a diagonal 2D affine
    transform = {"scale": parts.scale, "rotate": parts.rotate, "shear": shear, "translate": parts.translate}
    if np.allclose(Affine(**transform).affine_matrix, affine, rtol=1e-9, atol=1e-9 * np.abs(affine).max()):
        return transform
    return {"affine": affine}


class View3D:
    """The 3D view of results: the picture cuts the shapes where it was taken.

    napari draws a 2D layer in 3D as a slab that is one world unit thick, however small its pixels
    (1 micrometer with pixels of 0.1), and shapes would drown in it. While this view is on, the 2D layers
    are hidden and a sheet one pixel thick stands for the picture.

    Parameters
    ----------
    viewer : ViewerModel
    """

    def __init__(self, viewer: "ViewerModel") -> None:
        self._viewer = viewer
        self._sheet: Image | None = None
        self._hidden: list[Layer] = []
        self._point: tuple[float, ...] = ()

    @property
    def on(self) -> bool:
        """Whether this view is on."""
        return self._sheet is not None

    def enter(
        self, image: "Image", labels: "Labels", plane: DisplayedPlane, results: "Sequence[Layer]"
    ) -> None:
        """Show ``results`` of the displayed ``plane`` of ``image`` in 3D, from a slant."""
        results = [layer for layer in results if layer in self._viewer.layers]
        if self.on or not results:
            return
        self._hidden = [layer for layer in (image, labels) if layer.visible]
        for layer in self._hidden:
            layer.visible = False
        self._point = self._viewer.dims.point
        sheet = _sheet(image, plane, _middle(results))
        index = self._viewer.layers.index(image) + 1 if image in self._viewer.layers else 0
        # Inserting moves the sliders while the view is still flat: it is not on before both are done, lest
        # whoever takes the flat view for the user's wish leaves in the middle.
        _add_unselected(self._viewer, sheet, index)
        self._viewer.dims.ndisplay = 3
        self._sheet = sheet
        self._look_at(results)

    def leave(self) -> None:
        """Back to the 2D view, as it was."""
        sheet, self._sheet = self._sheet, None
        if sheet is None:
            return
        if sheet in self._viewer.layers:
            self._viewer.layers.remove(sheet)
        for layer in self._hidden:
            layer.visible = True
        self._hidden = []
        self._viewer.dims.ndisplay = 2
        if len(self._point) == self._viewer.dims.ndim:
            self._viewer.dims.set_point(range(len(self._point)), self._point)
        self._viewer.reset_view()

    def _look_at(self, results: "Sequence[Layer]") -> None:
        camera = self._viewer.scene.camera if hasattr(self._viewer, "scene") else self._viewer.camera  # < 0.9
        self._viewer.reset_view()
        size = _extent(results)[1] - _extent(results)[0]
        everything = np.ptp(self._viewer.layers.extent.world, axis=0)
        camera.zoom *= min(_CLOSEST, _FILL * float(everything[-2:].max() / size[-2:].max()))
        camera.center = tuple(_middle(results))
        camera.angles = _SLANTED


def _sheet(image: "Image", plane: DisplayedPlane, middle: NDArray[np.float64]) -> "Image":
    """The picture as a volume one pixel thick, no larger than graphics cards take, around ``middle``."""
    from napari.layers import Image

    pixel = (np.linalg.inv(plane.to_world) @ [*middle[1:], 1])[:2]
    last = np.maximum(np.array(plane.shape) - _LARGEST_SHEET, 0)
    y, x = np.clip(pixel - _LARGEST_SHEET // 2, 0, last).astype(int)
    affine = grid.pixel_to_world(plane.to_world) @ grid.translation((0.0, float(y), float(x)))
    affine[0, 3] = plane.depth
    return Image(
        plane.array[y : y + _LARGEST_SHEET, x : x + _LARGEST_SHEET][np.newaxis],
        name=f"{image.name}: imaged plane",
        colormap=image.colormap,
        contrast_limits=image.contrast_limits,
        gamma=image.gamma,
        units=(plane.unit,) * 3,
        metadata={METADATA_KEY: {"of": image.name}},
        **transform_of(affine),
    )


def _extent(layers: "Sequence[Layer]") -> NDArray[np.float64]:
    """First and last corner of all these layers in the world, (2, 3)."""
    corners = np.array([layer.extent.world for layer in layers])
    return np.stack([corners[:, 0].min(axis=0), corners[:, 1].max(axis=0)])


def _middle(layers: "Sequence[Layer]") -> NDArray[np.float64]:
    return _extent(layers).mean(axis=0)
