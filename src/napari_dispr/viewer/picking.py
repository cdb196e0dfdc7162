"""The click tool: a click on the picture adds or removes a cell. No Qt."""

from collections.abc import Callable, Generator
from typing import Any

import numpy as np
from napari.components import ViewerModel
from napari.layers import Image, Labels
from numpy.typing import NDArray
from skimage.measure import find_contours

from napari_dispr.errors import InputError
from napari_dispr.labels import Box
from napari_dispr.viewer.displayed import displayed_plane
from napari_dispr.viewer.world import in_viewer, position_in_layer

#: If press and release are further apart, in screen pixels, it is a drag, which pans.
_CLICK_RADIUS = 4


def is_click(event: Any) -> Generator[None, None, bool]:
    """Wait until the mouse button is released. Returns whether it was a click, not a drag."""
    pressed_at = np.asarray(event.pos)
    yield
    while event.type == "mouse_move":
        yield
    return bool(np.abs(np.asarray(event.pos) - pressed_at).max() <= _CLICK_RADIUS)


class PickTool:
    """While on, turns clicks on the canvas into cells of the label layer."""

    def __init__(
        self,
        viewer: ViewerModel,
        layers: Callable[[], tuple[Image | None, Labels | None]],
        clicked: Callable[[int], None],
    ) -> None:
        self._viewer = viewer
        self._layers = layers
        self._clicked = clicked
        self._on = False

    @property
    def on(self) -> bool:
        """Whether clicks choose cells."""
        return self._on

    @on.setter
    def on(self, on: bool) -> None:
        if on == self._on:
            return
        self._on = on
        if on:
            for layer in self._viewer.layers:
                layer.mode = "pan_zoom"  # a click must not paint, draw or select at the same time
            self._viewer.mouse_drag_callbacks.append(self._on_press)
        else:
            self._viewer.mouse_drag_callbacks.remove(self._on_press)
        self._viewer.cursor.style = "pointing" if on else "standard"

    @property
    def interrupted(self) -> bool:
        """Whether the user has chosen another tool, or a layer of another kind, to which clicks belong."""
        active = self._viewer.layers.selection.active
        if active is None:
            return False
        return not isinstance(active, Image | Labels) or str(active.mode) != "pan_zoom"

    def _on_press(self, viewer: ViewerModel, event: Any) -> Generator[None, None, None]:
        if event.button != 1 or event.modifiers or self.interrupted:
            return
        position, direction = np.asarray(event.position), event.view_direction
        if (yield from is_click(event)) and (label := self.label_at(position, direction)):
            self._clicked(label)

    def label_at(self, position: NDArray[np.float64], direction: NDArray[np.float64] | None = None) -> int:
        """Label of the cell at a position in the viewer's world, 0 where there is none.

        In 3D the position is moved along the ``direction`` of the view into the picture's plane.
        """
        image, labels = self._layers()
        if image is None or labels is None:
            return 0
        try:
            picture = displayed_plane(image, self._viewer.dims)
            segmentation = displayed_plane(labels, self._viewer.dims, picture.unit)
        except InputError:  # Predict's message says it already
            return 0
        if self._viewer.dims.ndisplay == 3:
            # With 2D layers only, napari gives no direction: the place of the click is unknown.
            if direction is None or abs(direction[-3]) < 1e-6:
                return 0
            depth = (picture if picture.index else segmentation).depth
            depth *= in_viewer(picture.unit, self._viewer.dims)
            position = position + direction * (depth - position[-3]) / direction[-3]
        y, x = np.floor(position_in_layer(image, tuple(position), self._viewer.dims)[-2:] + 0.5).astype(int)
        if not (0 <= y < segmentation.shape[0] and 0 <= x < segmentation.shape[1]):
            return 0
        return int(np.asarray(segmentation.array[y, x]))


def outline(labels: NDArray[Any], cell: int, box: Box) -> NDArray[np.float32]:
    """The border of a cell, between its pixels and their neighbours, (segment, 2, 2): start of each segment
    and the step to its end, in pixels (y, x), as napari's vectors.
    """
    mask = np.pad((labels[box] == cell).astype(np.float32), 1)
    offset = np.array([box[0].start - 1, box[1].start - 1], dtype=np.float32)
    segments = [
        np.stack([contour[:-1] + offset, np.diff(contour, axis=0)], axis=1)
        for contour in find_contours(mask, 0.5)
    ]
    return np.concatenate(segments).astype(np.float32)
