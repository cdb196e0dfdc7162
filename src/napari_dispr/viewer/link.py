"""Links the picture with the session: a click selects a cell, a selected cell is shown. No Qt."""

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from napari.components import ViewerModel
from napari.layers import Image, Labels, Layer
from numpy.typing import NDArray

from napari_dispr import grid
from napari_dispr.prediction.result import Prediction
from napari_dispr.viewer.content import METADATA_KEY
from napari_dispr.viewer.displayed import finest
from napari_dispr.viewer.layers import handle_of, is_seen
from napari_dispr.viewer.opened import OpenPrediction, Shape, unwrapped
from napari_dispr.viewer.picking import is_click
from napari_dispr.viewer.scene import camera_of
from napari_dispr.viewer.session import Session
from napari_dispr.viewer.world import in_units_of, in_viewer, layer_to_world, position_in_layer

#: The part of the canvas in which a cell's centre counts as in view.
_IN_VIEW = 0.9
#: A cell whose grid takes less than this part of the canvas's height is too small to see its shape.
_TOO_SMALL, _WELL_SEEN = 1 / 12, 1 / 4


class PictureLink:
    """Links the labels layers of a viewer with the selection of its session.

    The linked layers are the 2D labels of the current prediction, its result layers, and a measured layer of
    the user. A click on a cell in one of them selects it (in a result layer with its member), and so does the
    layer's control for the label. The selected cell becomes the selected label of all these layers. ``pick``
    takes the cell and the shape that the user selected in the picture.
    """

    #: True while a link sets labels: then they are not the user's choice.
    _showing: ClassVar[bool] = False

    def __init__(self, viewer: ViewerModel, pick: Callable[[int, Shape], None]) -> None:
        self._viewer = unwrapped(viewer)
        self._session = Session.of(viewer)
        self._pick = pick
        self._followed: list[Labels] = []
        self._measured: Labels | None = None
        self._centres: Mapping[int, NDArray[np.float64]] = {}
        self._viewer.mouse_drag_callbacks.append(self._on_press)
        for event in ("inserted", "removed"):
            getattr(self._viewer.layers.events, event).connect(self.follow)
        self._session.events.predictions.connect(self.follow)
        self.follow()

    def stop(self) -> None:
        """Disconnect from the viewer."""
        self._viewer.mouse_drag_callbacks.remove(self._on_press)
        for event in ("inserted", "removed"):
            getattr(self._viewer.layers.events, event).disconnect(self.follow)
        self._session.events.predictions.disconnect(self.follow)
        for layer in self._followed:
            layer.events.selected_label.disconnect(self._on_label)
        self._followed = []

    @property
    def layers(self) -> list[Labels]:
        """The linked layers, the topmost first."""
        return list(self._followed)

    def measured(self, layer: Labels | None, centres: Mapping[int, NDArray[np.float64]]) -> None:
        """Also link a layer of the user, whose cells have these centres in the world."""
        self._measured, self._centres = unwrapped(layer), centres
        self.follow()

    def follow(self, event: object = None) -> None:
        """Follow the layers of the current prediction."""
        wanted = linked_layers(self._viewer, self._measured)
        for layer in self._followed:
            if layer not in wanted:
                layer.events.selected_label.disconnect(self._on_label)
        for layer in wanted:
            if layer not in self._followed:
                layer.events.selected_label.connect(self._on_label)
        self._followed = wanted

    # --- from the picture --------------------------------------------------------------------------

    def _on_label(self, event: Any) -> None:
        layer = event.source
        if not PictureLink._showing and layer.selected_label > 0:
            self._chosen(layer, int(layer.selected_label))

    def _on_press(self, viewer: ViewerModel, event: Any) -> Generator[None, None, None]:
        # Another cursor or mode means that some tool is active.
        active = self._viewer.layers.selection.active
        mode = str(getattr(active, "mode", "pan_zoom"))
        if event.button != 1 or event.modifiers or mode != "pan_zoom":
            return
        if self._viewer.cursor.style != "standard":
            return
        position, direction = np.asarray(event.position), event.view_direction
        displayed = event.dims_displayed
        if (yield from is_click(event)):
            self.click(position, direction, displayed)

    def click(self, position: NDArray[np.float64], direction: Any = None, displayed: Any = None) -> None:
        """Select the cell at a position of the viewer's world, if there is one.

        In 3D, ``direction`` is that of the view, and ``displayed`` says which axes are displayed.
        """
        for layer in self._followed:
            if not is_seen(layer):
                continue
            dims = self._viewer.dims
            axes = list(dims.displayed if displayed is None else displayed)
            place, along = (
                None if one is None else in_units_of(layer, one, dims) for one in (position, direction)
            )
            value = layer.get_value(place, view_direction=along, dims_displayed=axes, world=True)
            value = value[-1] if isinstance(value, tuple) else value  # of a multiscale layer: level and value
            if value:
                self._chosen(layer, int(value))
                return

    def _chosen(self, layer: Labels, cell: int) -> None:
        opened = self._session.current
        known = opened is not None and cell in opened.prediction
        if not known and cell not in self._centres:
            return
        made = layer.metadata.get(METADATA_KEY, {})
        member = made.get("member")
        if "members" in made:  # one layer with a slider for the members
            index = round(position_in_layer(layer, self._viewer.dims.point, self._viewer.dims)[0])
            member = made["members"][min(max(index, 0), len(made["members"]) - 1)]
        numbers = opened.prediction.facts(cell).numbers if opened is not None and known else ()
        self._pick(cell, member if member in numbers else None)

    # --- to the picture ----------------------------------------------------------------------------

    def show(self, cell: int | None) -> None:
        """Make a cell the selected label of all linked layers."""
        if cell is None or PictureLink._showing:
            return
        with PictureLink.quiet():
            for layer in self._followed:
                if layer.selected_label != cell and cell <= np.iinfo(layer.data.dtype).max:
                    layer.selected_label = cell

    @classmethod
    @contextmanager
    def quiet(cls) -> Generator[None, None, None]:
        """While this is active, labels and colours that change are not the user's choice."""
        before, cls._showing = cls._showing, True
        try:
            yield
        finally:
            cls._showing = before

    def bring_into_view(self, cell: int) -> bool:
        """Move the camera to a cell out of view, unless the mouse is over the canvas; whether it moved."""
        centre = self._centre(cell)
        if centre is None or getattr(self._viewer, "mouse_over_canvas", False):
            return False
        centre = centre * self._in_viewer()
        if self._is_in_view(centre):
            return False
        camera = camera_of(self._viewer)
        if self._viewer.dims.ndisplay == 3:
            camera.center = tuple(centre)
        else:
            camera.center = (camera.center[0], *centre[1:])
        return True

    def zoom_to(self, cell: int) -> None:
        """Move the camera to a cell of the current prediction that is too small to see its shape."""
        opened = self._session.current
        if opened is None or cell not in opened.prediction:
            return
        voxel = np.linalg.norm(opened.prediction.facts(cell).grid_to_world[:3, 2])
        height, side = _canvas_size(self._viewer)[0], grid.SIZE * voxel * self._in_viewer()
        camera, centre = camera_of(self._viewer), self._centre(cell)
        if centre is not None and side * camera.zoom < _TOO_SMALL * height:
            camera.zoom = _WELL_SEEN * height / side
            camera.center = (camera.center[0], *(centre * self._in_viewer())[1:])

    def _centre(self, cell: int) -> NDArray[np.float64] | None:
        opened = self._session.current
        if opened is None or cell not in opened.prediction:
            return self._centres.get(cell)
        middle = [*grid.MIDDLE, 1.0]
        centre: NDArray[np.float64] = (opened.prediction.facts(cell).grid_to_world @ middle)[:3]
        return centre + np.array([opened.depth, 0.0, 0.0])

    def _in_viewer(self) -> float:
        """How long the unit of `_centre` is on the viewer's axes."""
        opened, measured = self._session.current, self._measured
        own = "pixel" if measured is None else measured.units[-1]
        return in_viewer(own if opened is None else opened.unit, self._viewer.dims)

    def _is_in_view(self, centre: NDArray[np.float64]) -> bool:
        camera = camera_of(self._viewer)
        height, width = (_IN_VIEW * side / camera.zoom / 2 for side in _canvas_size(self._viewer))
        away = centre - np.asarray(camera.center)
        if self._viewer.dims.ndisplay == 2:
            return bool(abs(away[1]) <= height and abs(away[2]) <= width)
        up = np.asarray(camera.up_direction)
        right = np.cross(np.asarray(camera.view_direction), up)
        return bool(abs(away @ up) <= height and abs(away @ right) <= width)


def linked_layers(viewer: ViewerModel, measured: Labels | None = None) -> list[Labels]:
    """The current prediction's 2D labels and result layers, and a measured layer, the topmost first."""
    opened = Session.of(viewer).current
    under = None if opened is None else with_layers(opened, viewer).labels
    return [layer for layer in reversed(viewer.layers) if layer in (measured, under) or _shows(layer, opened)]


def _shows(layer: Layer, opened: OpenPrediction | None) -> bool:
    handle = handle_of(layer)
    same = opened is not None and handle is not None and handle.newest.key is opened.key
    return same and hasattr(layer, "selected_label")


def with_layers(opened: OpenPrediction, viewer: ViewerModel) -> OpenPrediction:
    """A prediction with the layers of its picture and its 2D labels.

    For a prediction from a folder these are the layers with the shape and the place of its picture.
    """
    if opened.labels is not None:
        return replace(opened, image=unwrapped(opened.image), labels=unwrapped(opened.labels))
    under = [layer for layer in viewer.layers if _lies_under(layer, opened.prediction)]
    image = next((layer for layer in under if isinstance(layer, Image) and not layer.rgb), None)
    return replace(opened, image=image, labels=next((one for one in under if isinstance(one, Labels)), None))


def _lies_under(layer: Layer, prediction: Prediction) -> bool:
    """Whether a layer has the shape and the place of a prediction's picture."""
    if layer.ndim != 2 or METADATA_KEY in layer.metadata or not hasattr(layer, "multiscale"):
        return False
    same = np.shape(finest(layer))[:2] == tuple(prediction.image_shape)
    return same and np.allclose(layer_to_world(layer, prediction.unit), prediction.image_to_world)


def _canvas_size(viewer: ViewerModel) -> tuple[float, float]:
    size = viewer.canvas.size if hasattr(viewer, "canvas") else viewer._canvas_size  # < 0.9
    return float(size[0]), float(size[1])
