"""The canvas of Compare: tiles of shapes in 3D that share one camera. Knows OpenGL, not napari's viewer.

There is one orthographic scene. The tiles are placed side by side in the plane of the screen: each tile turns
about its own centre, and all turn together.
"""

import weakref
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from qtpy import API_NAME
from qtpy.QtCore import QRectF, QTimer, Signal
from qtpy.QtWidgets import QSizePolicy, QVBoxLayout, QWidget
from vispy.app import use_app
from vispy.color import Colormap, get_colormap
from vispy.scene import Node, SceneCanvas
from vispy.scene.cameras import TurntableCamera
from vispy.scene.visuals import Image, Mesh, Volume
from vispy.visuals.filters import ShadingFilter
from vispy.visuals.filters.base_filter import Filter
from vispy.visuals.transforms import STTransform

from napari_dispr.widgets.compare.captions import Captions
from napari_dispr.widgets.compare.content import CellShapes
from napari_dispr.widgets.compare.sheets import Sheet
from napari_dispr.widgets.compare.tiles import VALUE_COLOURS, Tile, TileSurface, arranged

#: Initial camera angles, degrees.
_ELEVATION, _AZIMUTH = 32.0, -25.0
#: Size of a tile relative to its shape; largest and smallest zoom.
_FILL, _CLOSEST, _FARTHEST = 1.12, 8.0, 0.4
#: Depth of the scene to each side of its centre, relative to the shape: panning must not leave it.
_DEPTH = 100.0
#: Order of painting: opaque surfaces from 0 on, then sheets, then translucent surfaces.
_SHEET_ORDER, _CLEAR_ORDER = 50, 100
#: Height of the text above and below a tile, pixels.
HEAD, FOOT = 24, 24
#: Pause between two tiles, milliseconds: OpenGL compiles for each.
_BETWEEN = 5
#: If press and release are further apart, in pixels, it is a drag, which turns.
_CLICK_RADIUS = 4
#: Samples of a pixel, for smooth edges.
_SAMPLES = 4
_BACKGROUND = (0.11, 0.12, 0.14)


class _TileNode:
    """The visuals of one tile, which are reused for other shapes."""

    def __init__(self, parent: Node) -> None:
        self.node = Node(parent=parent)
        self.node.transform = STTransform()
        self._meshes: list[Mesh] = []
        self._sheets: list[Image] = []
        self._heights: list[float] = []
        self._volume: Volume | None = None

    @property
    def meshes(self) -> list[Mesh]:
        return [mesh for mesh in self._meshes if mesh.visible]

    def fill(self, tile: Tile, cell: CellShapes, values_to: float, sheets: Sequence[Sheet]) -> None:
        for i, surface in enumerate(tile.surfaces):
            if i == len(self._meshes):
                self._meshes.append(_lit_mesh(surface, self.node))
            _fill_mesh(self._meshes[i], surface, i, values_to)
        for mesh in self._meshes[len(tile.surfaces) :]:
            mesh.visible = False
        self._fill_sheets(sheets)
        self._fill_volume(cell, tile.volume)

    def _fill_sheets(self, sheets: Sequence[Sheet]) -> None:
        for i, sheet in enumerate(sheets):
            if i == len(self._sheets):
                self._sheets.append(_flat_picture(sheet.pixels, self.node))
            _lay(self._sheets[i], sheet)
        for picture in self._sheets[len(sheets) :]:
            picture.visible = False
        self._heights = [sheet.height for sheet in sheets]

    def sort_sheets(self, from_above: bool) -> None:
        """Paint the farthest sheet first: a translucent one hides those that are painted later behind it."""
        order = np.argsort(np.argsort(self._heights if from_above else np.negative(self._heights)))
        for picture, place in zip(self._sheets, order.tolist(), strict=False):
            if picture.order != _SHEET_ORDER + place:
                picture.order = _SHEET_ORDER + place

    def _fill_volume(self, cell: CellShapes, wanted: bool) -> None:
        if not wanted:
            if self._volume is not None:
                self._volume.visible = False
            return
        if self._volume is None:
            # Additive: bright where all members are, a haze where few are.
            self._volume = Volume(
                cell.occupancy, clim=(0, 1.0), method="translucent", cmap=_haze(), parent=self.node
            )
            self._volume.set_gl_state("translucent", depth_test=False, cull_face=False)
            self._volume.relative_step_size, self._volume.order = 1.0, _CLEAR_ORDER
        self._volume.set_data(cell.occupancy, clim=(0, 1.0))
        self._volume.transform = STTransform(scale=(cell.voxel,) * 3, translate=cell.first)
        self._volume.visible = True


def _flat_picture(picture: NDArray[np.float32], parent: Node) -> Image:
    image = Image(picture, parent=parent)
    image.set_gl_state("translucent", depth_test=True, cull_face=False)
    # Transparent pixels must not hide a neighbouring tile.
    image.attach(Filter(fcode="void cut() { if (gl_FragColor.a < 0.01) discard; }", fpos=100))
    return image


def _lay(image: Image, sheet: Sheet) -> None:
    image.set_data(sheet.pixels)
    pixel = 2 * sheet.half / len(sheet.pixels)
    image.transform = STTransform(scale=(pixel, -pixel, 1), translate=(-sheet.half, sheet.half, sheet.height))
    image.visible = True


def _lit_mesh(painted: TileSurface, parent: Node) -> Mesh:
    mesh = Mesh(painted.surface.vertices, painted.surface.faces, parent=parent)
    mesh.shading_filter = ShadingFilter(
        "smooth",
        ambient_light=(1, 1, 1, 0.32),
        diffuse_light=(1, 1, 1, 0.8),
        specular_light=(1, 1, 1, 0.12),
        shininess=40,
    )
    mesh.attach(mesh.shading_filter)
    return mesh


def _fill_mesh(mesh: Mesh, painted: TileSurface, order: int, values_to: float) -> None:
    surface = painted.surface
    empty = not len(surface.faces)
    mesh.visible = not empty
    if empty:
        return
    if painted.by_value and surface.values is not None:
        colours = get_colormap(VALUE_COLOURS).map(np.clip(surface.values / values_to, 0, 1))
        mesh.set_data(surface.vertices, surface.faces, vertex_colors=colours)
    else:
        mesh.set_data(surface.vertices, surface.faces, color=painted.colour)
    solid = painted.colour[3] == 1.0
    # All layers of translucent surfaces count, in any order.
    mesh.set_gl_state("opaque" if solid else "translucent", depth_test=solid, cull_face=False)
    mesh.order = order + (0 if solid else _CLEAR_ORDER)


def _haze() -> Colormap:
    """Transparent where no member is; a haze where few are."""
    return Colormap([(0, 0, 0, 0), (0.27, 0.4, 0.75, 0.02), (0.35, 0.72, 0.76, 0.05), (1, 0.95, 0.7, 0.22)])


class ShapeCanvas(QWidget):
    """Shows tiles of shapes; drag turns all of them, the wheel zooms, shift and drag moves."""

    #: Index of the tile that was clicked.
    clicked = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        self.setMinimumSize(240, 200)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self._cell: CellShapes | None = None
        self._tiles: list[Tile] = []
        self._values_to = 1.0
        self._sheets: list[Sheet] = []
        self._zoom = 1.0
        #: Elevation and azimuth of the camera, degrees.
        self.angles = (_ELEVATION, _AZIMUTH)
        self._centre = (0.0, 0.0, 0.0)
        self._canvas: SceneCanvas | None = None
        self._window: weakref.ref[QWidget] | None = None
        self._placing = False
        self._nodes: list[_TileNode] = []
        self._waiting: list[int] = []
        self._pressed: tuple[float, float] | None = None
        self._next = QTimer(self, singleShot=True, interval=_BETWEEN)
        self._next.timeout.connect(self._fill_one)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)

    # --- what is shown ---------------------------------------------------------------------------

    def show_tiles(self, cell: CellShapes, tiles: Sequence[Tile], sheets: Sequence[Sheet]) -> None:
        """Show these tiles of a cell, one after another, each with these sheets across its shapes."""
        before = self._tiles
        if cell is not self._cell:  # no shape stands under the caption of another
            for node in self._nodes:
                node.node.visible = False
        same_cell = cell is self._cell and list(sheets) == self._sheets
        self._cell, self._tiles, self._sheets = cell, list(tiles), list(sheets)
        self._values_to = _largest_value(tiles)
        if self._canvas is None:
            return
        self._captions.say(self._tiles, cell, self._values_to)
        changed = [
            i
            for i, tile in enumerate(tiles)
            if not same_cell or i >= len(before) or before[i].painted != tile.painted
        ]
        self._waiting = sorted({*changed, *(i for i in self._waiting if same_cell and i < len(tiles))})
        for node in self._nodes[len(tiles) :]:
            node.node.visible = False
        self._fit()
        self._next.start()

    def clear(self) -> None:
        self._cell, self._tiles, self._waiting = None, [], []
        for node in self._nodes:
            node.node.visible = False
        if self._canvas is not None:
            self._captions.say([], None, 1.0)

    @property
    def busy(self) -> bool:
        """Whether some tiles are not painted yet."""
        return bool(self._waiting)

    def reset_view(self) -> None:
        self._zoom, self.angles, self._centre = 1.0, (_ELEVATION, _AZIMUTH), (0.0, 0.0, 0.0)
        self._fit()

    def turn(self, elevation: float, azimuth: float) -> None:
        """Look from another side, in degrees."""
        self.angles = (elevation, azimuth)
        self._fit()

    def _fill_one(self) -> None:
        if not self._waiting or self._canvas is None or self._cell is None:
            return
        i = self._waiting.pop(0)
        while len(self._nodes) <= i:
            self._nodes.append(_TileNode(self._view.scene))
        self._nodes[i].fill(self._tiles[i], self._cell, self._values_to, self._sheets)
        self._nodes[i].node.visible = True
        self._place()
        if self._waiting:
            self._next.start()

    # --- placement -------------------------------------------------------------------------------

    def tile_rects(self) -> list[QRectF]:
        """Places of the tiles, in pixels of this widget."""
        columns, rows = arranged(len(self._tiles), self.width(), self.height())
        w, h = self.width() / columns, self.height() / rows
        return [QRectF(i % columns * w, i // columns * h, w, h) for i in range(len(self._tiles))]

    def _fit(self) -> None:
        """Scale so that shapes fill their tiles, times the user's zoom."""
        if self._canvas is None or self._cell is None or not self._tiles or not self.width():
            return
        rect = self.tile_rects()[0]
        # The sheets are as wide as the ball of this radius, and are seen obliquely.
        side = max(20.0, min(rect.width() / _FILL, rect.height() - HEAD - FOOT))
        camera = self._view.camera
        self._placing = True
        camera.elevation, camera.azimuth = self.angles
        camera.center = self._centre
        # vispy's default of a million units leaves too few steps of depth for cells of a few micrometres.
        camera.depth_value = _DEPTH * self._cell.radius
        pixels = float(np.linalg.svd(self._pixels_a_unit(), compute_uv=False)[0])
        camera.scale_factor *= pixels / (_FILL * side / (2 * self._cell.radius) * self._zoom)
        self._fitted = camera.scale_factor * self._zoom
        self._placing = False
        self._place()

    def _pixels_a_unit(self) -> NDArray[np.float64]:
        """(2, 3): pixels on the screen for one unit along x, y and z."""
        at = self._view.scene.transform.map(np.vstack([np.zeros(3), np.eye(3)]))
        at = at[:, :2] / at[:, 3:]
        return np.asarray((at[1:] - at[0]).T)

    def _place(self) -> None:
        """Put the tiles side by side on the screen, and the light behind the camera."""
        if self._placing or self._canvas is None or not self._tiles:
            return
        pixels = self._pixels_a_unit()
        to_world = np.linalg.pinv(pixels)
        right, down = (to_world / np.linalg.norm(to_world, axis=0)).T
        light = np.cross(right, down) + 0.45 * right + 0.75 * down
        middle = np.array([self.width(), self.height()]) / 2
        for rect, node in zip(self.tile_rects(), self._nodes, strict=False):
            centre = np.array([rect.center().x(), rect.center().y() + (HEAD - FOOT) / 2])
            node.node.transform.translate = to_world @ (centre - middle)
            node.sort_sheets(self._view.camera.elevation >= 0)
            for mesh in node.meshes:
                # The filter's property would send all normals to OpenGL again.
                mesh.shading_filter.vshader["light_dir"] = tuple(light)
        self._canvas.update()

    def _on_camera(self, event: object = None) -> None:
        if self._placing or self._cell is None:
            return
        camera = self._view.camera
        zoom = self._fitted / camera.scale_factor
        self._zoom = float(np.clip(zoom, _FARTHEST, _CLOSEST))
        self.angles = (camera.elevation, camera.azimuth)
        self._centre = tuple(camera.center)
        if zoom != self._zoom:
            self._fit()
        else:
            self._place()

    # --- the canvas itself -----------------------------------------------------------------------

    def showEvent(self, event: object) -> None:
        """Make the canvas; make it again in another window, which has its own OpenGL context."""
        super().showEvent(event)
        if self._window is None or self.window() is not self._window():
            self._drop()
            self._make()
        elif self._canvas is not None:
            self._canvas.events.draw.unblock()

    def hideEvent(self, event: object) -> None:
        """Paint nothing while hidden: moving to another window would paint once more."""
        super().hideEvent(event)
        if self._canvas is not None:
            self._canvas.events.draw.block()

    def resizeEvent(self, event: object) -> None:
        super().resizeEvent(event)
        if self._canvas is not None:
            self._captions.resize(self.size())
            self._fit()

    def _make(self) -> None:
        self._window = weakref.ref(self.window())
        use_app(API_NAME)
        self._canvas = SceneCanvas(
            keys=None, bgcolor=_BACKGROUND, size=(self.width(), self.height()), config={"samples": _SAMPLES}
        )
        self._view = self._canvas.central_widget.add_view(camera=TurntableCamera(fov=0, up="+z"))
        self._fitted = self._view.camera.scale_factor
        self.layout().addWidget(self._canvas.native)
        self._captions = Captions(self)
        self._captions.resize(self.size())
        self._captions.show()
        self._view.scene.transform.changed.connect(self._on_camera)
        self._canvas.events.mouse_press.connect(self._on_press)
        self._canvas.events.mouse_release.connect(self._on_release)
        self._canvas.events.mouse_double_click.connect(lambda event: self.reset_view())
        if self._cell is not None:
            cell, self._cell = self._cell, None
            self.show_tiles(cell, self._tiles, self._sheets)

    def _drop(self) -> None:
        if self._canvas is None:
            return
        self._captions.deleteLater()
        self._view.scene.transform.changed.disconnect(self._on_camera)
        self._canvas.native.hide()
        self.layout().removeWidget(self._canvas.native)
        self._canvas.native.setParent(None)
        self._canvas.close()
        self._canvas, self._nodes, self._waiting = None, [], []

    def shut_down(self) -> None:
        self._drop()
        self._window = None

    def _on_press(self, event: object) -> None:
        self._pressed = tuple(event.pos[:2]) if event.button == 1 and not event.modifiers else None  # type: ignore[attr-defined]

    def _on_release(self, event: object) -> None:
        pressed, self._pressed = self._pressed, None
        if pressed is None or np.abs(np.subtract(event.pos[:2], pressed)).max() > _CLICK_RADIUS:  # type: ignore[attr-defined]
            return
        for i, rect in enumerate(self.tile_rects()):
            if rect.contains(*(float(value) for value in pressed)):
                self.clicked.emit(i)


def _largest_value(tiles: Sequence[Tile]) -> float:
    """The value of the last colour: few values are above it."""
    values = [one.surface.values for tile in tiles for one in tile.surfaces if one.by_value]
    return max((float(np.percentile(some, 98)) for some in values if some is not None), default=0.0) or 1.0
