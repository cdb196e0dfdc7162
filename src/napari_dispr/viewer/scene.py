"""Outlines of the chosen cells, and 3D views of results, in the viewer itself. No Qt."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pint
from napari.components import Camera, ViewerModel
from napari.layers import Image, Labels, Layer, Vectors
from napari.utils import Colormap
from napari.utils.theme import get_theme
from numpy.typing import NDArray

from napari_dispr import grid
from napari_dispr.viewer.content import METADATA_KEY
from napari_dispr.viewer.displayed import DisplayedPlane
from napari_dispr.viewer.layers import add_unselected, place, transform_of
from napari_dispr.viewer.world import in_viewer

#: Camera angles of the 3D view, in degrees.
_SLANTED = (10.0, -20.0, 45.0)
#: The part of the canvas that the results fill, and the largest zoom relative to the whole scene.
_FILL, _CLOSEST = 0.8, 8.0
#: Largest side of the sheet that shows the picture: all graphics cards support it for 3D textures.
_LARGEST_SHEET = 2048

#: Opacity of the sheet where the picture is brightest: the shapes below it stay visible.
_SHEET_OPACITY = 0.8
#: Brightness of its colours on a white canvas.
_ON_WHITE = 0.4

#: Key of the metadata of the layer with the outlines.
_OUTLINES_KEY = "napari-dispr outlines"

#: Width of outlines as a share of a cell's extent, and their colour.
_OUTLINE_WIDTH, _OUTLINE_COLOR = 0.03, "#ffd60a"


class Outlines:
    """One layer that outlines the chosen cells; it exists only while cells are chosen."""

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self._layer: Vectors | None = None

    def show(self, cells: Mapping[int, NDArray[np.float32]], plane: DisplayedPlane) -> None:
        """Outline cells with segments of `picking.outline`, in pixels of ``plane``; no cells: none."""
        if not cells:
            self.remove()
            return
        ndim = 3 if plane.index else 2  # on a plane of a stack: there only
        affine = grid.pixel_to_world(plane.to_world)
        affine[0, 3] = plane.depth
        extent = float(np.median([np.ptp(segments[:, 0], axis=0).max() for segments in cells.values()]))
        layer, units = self._layer, (plane.unit,) * ndim
        if layer is None or layer not in self._viewer.layers or layer.units != units:
            self.remove()
            layer = self._layer = self._added(units)
        place(layer, transform_of(affine[3 - ndim :, 3 - ndim :]))
        layer.edge_width = max(1.0, _OUTLINE_WIDTH * extent)
        layer.data = np.pad(np.concatenate(list(cells.values())), ((0, 0), (0, 0), (ndim - 2, 0)))

    def _added(self, units: tuple[pint.Unit, ...]) -> Vectors:
        layer = Vectors(
            np.zeros((0, 2, len(units))),
            name="chosen cells",
            vector_style="line",
            edge_color=_OUTLINE_COLOR,
            opacity=1.0,
            blending="translucent_no_depth",  # otherwise the picture hides half of them in 3D
            units=units,
            metadata={_OUTLINES_KEY: True},
        )
        add_unselected(self._viewer, layer)
        return layer

    def remove(self) -> None:
        if self._layer is not None and self._layer in self._viewer.layers:
            self._viewer.layers.remove(self._layer)
        self._layer = None


class View3D:
    """The 3D view of results: the picture cuts the shapes where it was taken.

    napari draws a 2D layer in 3D as a slab that is one world unit thick, however small its pixels
    (1 micrometer with pixels of 0.1), and a stack as a cloud, which would hide the shapes. While this view is
    on, the 2D layers and all channels of the picture are hidden, and a translucent sheet one pixel thick
    shows the picture: it is drawn last, so that one sees the lower halves of the shapes through it.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self._sheet: Image | None = None
        self._hidden: list[Layer] = []
        self._point: tuple[float, ...] = ()

    @property
    def on(self) -> bool:
        return self._sheet is not None

    def enter(self, image: Image, labels: Labels, plane: DisplayedPlane, results: Sequence[Layer]) -> None:
        """Show ``results`` of the displayed ``plane`` of ``image`` in 3D, from an oblique angle."""
        results = [layer for layer in results if layer in self._viewer.layers]
        if self.on or not results:
            return
        self._hidden = [
            layer
            for layer in self._viewer.layers
            if layer.visible
            and isinstance(layer, Image | Labels)
            and (
                layer in (image, labels)
                or layer.ndim == 2
                or (isinstance(layer, Image) and layer.data.shape == image.data.shape)
            )
        ]
        for layer in self._hidden:
            layer.visible = False
        self._point = self._viewer.dims.point
        canvas = get_theme(self._viewer.theme).canvas.as_rgb_tuple(alpha=False)
        sheet = _sheet(image, plane, _extent(results).mean(axis=0), on_white=max(canvas) > 127)
        # `on` becomes true last: inserting a layer moves the sliders while the view is still 2D, which must
        # not look like a click on the button to leave.
        add_unselected(self._viewer, sheet)
        layers = self._viewer.layers
        for outlines in [layer for layer in layers if _OUTLINES_KEY in layer.metadata]:
            layers.move(layers.index(outlines), len(layers))  # drawn last, so that no surface hides them
        self._viewer.dims.ndisplay = 3
        self._sheet = sheet
        look_at(self._viewer, results)
        camera_of(self._viewer).angles = _SLANTED

    def leave(self) -> None:
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


class StepsView:
    """Shows only one layer (step, z, y, x), from an oblique angle, until it is removed."""

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self._layer: Layer | None = None
        self._hidden: list[Layer] = []
        self._before: dict[str, Any] = {}

    def enter(self, layer: Layer) -> None:
        """Add ``layer`` and show only it; the other layers and the view are restored when it is removed."""
        viewer = self._viewer
        if self._layer is None:
            self._before = {name: getattr(camera_of(viewer), name) for name in ("center", "zoom", "angles")}
            self._before |= {"ndisplay": viewer.dims.ndisplay, "point": viewer.dims.point[-3:]}
            viewer.layers.events.removed.connect(self._on_removed)
        self._layer = layer
        add_unselected(viewer, layer)
        others = [other for other in viewer.layers if other.visible and other is not layer]
        self._hidden += others
        for other in others:
            other.visible = False
        viewer.dims.ndisplay = 3
        viewer.dims.set_current_step(0, 0)
        look_at(viewer, [layer])
        camera_of(viewer).angles = _SLANTED

    def _on_removed(self, event: Any) -> None:
        if event.value is not self._layer:
            return
        self._viewer.layers.events.removed.disconnect(self._on_removed)
        self._layer = None
        for other in self._hidden:
            other.visible = True
        self._hidden = []
        dims, before = self._viewer.dims, self._before
        dims.ndisplay = before.pop("ndisplay")
        point = before.pop("point")
        dims.set_point(range(dims.ndim - len(point), dims.ndim), point)
        for name, value in before.items():
            setattr(camera_of(self._viewer), name, value)


def camera_of(viewer: ViewerModel) -> Camera:
    """The camera of a viewer's canvas."""
    return viewer.scene.camera if hasattr(viewer, "scene") else viewer.camera  # < 0.9


def make_current(viewer: ViewerModel | None) -> None:
    """Make the OpenGL context of a viewer's canvas the current one; call it before a layer is removed.

    napari (0.9) frees the textures and shaders of a removed layer at once, in the context that is current. If
    that is another one, such as Qt's for the window, the next draw can crash the process.
    """
    canvas: Any = viewer
    for name in ("window", "_qt_viewer", "canvas", "_scene_canvas"):  # a ViewerModel has no window
        canvas = getattr(canvas, name, None)
    if canvas is not None:
        canvas.set_current()


def look_at(viewer: ViewerModel, layers: Sequence[Layer]) -> None:
    """Move the camera so that layers of one unit fill the canvas."""
    low, high = _extent(layers) * in_viewer(layers[0].units[-1], viewer.dims)
    camera = camera_of(viewer)
    viewer.reset_view()
    everything = np.ptp(viewer.layers.extent.world[:, -2:], axis=0).max()
    camera.zoom *= min(_CLOSEST, _FILL * float(everything / (high - low)[-2:].max()))
    camera.center = tuple((low + high) / 2)


def _sheet(image: Image, plane: DisplayedPlane, middle: NDArray[np.float64], on_white: bool) -> Image:
    """The picture around ``middle`` as a volume one pixel thick."""
    pixel = (np.linalg.inv(plane.to_world) @ [*middle[1:], 1])[:2]
    last = np.maximum(np.array(plane.shape) - _LARGEST_SHEET, 0)
    y, x = np.clip(pixel - _LARGEST_SHEET // 2, 0, last).astype(int)
    affine = grid.pixel_to_world(plane.to_world) @ grid.translation((0.0, float(y), float(x)))
    affine[0, 3] = plane.depth
    return Image(
        plane.array[y : y + _LARGEST_SHEET, x : x + _LARGEST_SHEET][np.newaxis],
        name=f"{image.name}: imaged plane",
        colormap=_clear_where_dark(image.colormap, on_white),
        contrast_limits=image.contrast_limits,
        gamma=image.gamma,
        units=(plane.unit,) * 3,
        opacity=_SHEET_OPACITY,
        blending="translucent",
        metadata={METADATA_KEY: {"of": image.name}},
        **transform_of(affine),
    )


def _clear_where_dark(colormap: Colormap, on_white: bool) -> Colormap:
    """The same colours, the more transparent the darker: a dark picture darkens no shape below it.

    On a white canvas bright ones would not be seen: they are darker there.
    """
    colours = colormap.map(np.linspace(0, 1, 256))
    colours[:, 3] *= colours[:, :3].max(axis=1)
    if on_white:
        colours[:, :3] *= _ON_WHITE
    # napari's layer controls are as wide as the longest name of a colormap, whatever layer is active.
    return Colormap(colours, name=f"{colormap.name} (clear)")


def _extent(layers: Sequence[Layer]) -> NDArray[np.float64]:
    """First and last corner of all these layers in the world, (2, 3)."""
    corners = np.array([layer.extent.world[:, -3:] for layer in layers])
    return np.stack([corners[:, 0].min(axis=0), corners[:, 1].max(axis=0)])
