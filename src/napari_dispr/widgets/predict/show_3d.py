"""The button that shows results in 3D: at once as voxels, then as smooth surfaces."""

from collections.abc import Callable, Sequence
from typing import Any

from napari.layers import Image, Labels
from napari.viewer import Viewer
from qtpy.QtWidgets import QPushButton

from napari_dispr.errors import InputError
from napari_dispr.viewer.displayed import DisplayedPlane
from napari_dispr.viewer.layers import removed_together
from napari_dispr.viewer.scene import View3D
from napari_dispr.viewer.smooth import SmoothLayers, smooth_shapes
from napari_dispr.widgets.parts.threads import Cancelled, Job


class Show3D(QPushButton):
    """Shows the results of Predict in 3D while it is checked.

    ``origin`` gives the picture, its segmentation, and the plane of the picture that was predicted from, None
    if there are no results; ``results`` the result layers that are in the viewer.
    """

    def __init__(
        self,
        viewer: Viewer,
        origin: Callable[[], tuple[Image, Labels, DisplayedPlane] | None],
        results: Callable[[], Sequence[Labels]],
    ) -> None:
        super().__init__("Show in 3D", checkable=True)
        self._viewer, self._origin, self._results = viewer, origin, results
        self._followed: list[Labels] = []
        self._view, self._smooth = View3D(viewer), SmoothLayers(viewer)
        self._again = False
        self._job = Job(self)
        self._job.yielded.connect(self._on_shape)
        self._job.done.connect(self._on_done)
        self._job.failed.connect(self._on_failed)
        self.toggled.connect(self._on_toggled)

    @property
    def on(self) -> bool:
        return self._view.on

    def refresh(self, event: object = None) -> None:
        """Make the result layers on screen smooth, also those that have just changed or become visible."""
        if not self._view.on:
            return
        for layer in self._results():
            if layer not in self._followed:
                self._followed.append(layer)
                layer.events.visible.connect(self.refresh)
        if self._job.running:
            self._again = True
            return
        if layers := self._smooth.missing(self._results()):
            self._job.start(smooth_shapes(layers))

    def _on_toggled(self, on: bool) -> None:
        origin = self._origin()
        if on and origin is not None:
            self._view.enter(*origin, self._results())
            self.setChecked(self._view.on)  # the user may have removed the layers
            self.refresh()
        else:
            with removed_together(self._viewer):
                self.leave()

    def leave(self) -> None:
        """Show the results in 2D, with the layers as they were."""
        self._job.cancel()
        for layer in self._followed:
            layer.events.visible.disconnect(self.refresh)
        self._followed = []
        self._smooth.remove()
        self._view.leave()

    def _on_shape(self, made: Any) -> None:
        if self._view.on:
            self._smooth.replace(*made)

    def _on_done(self, _: Any) -> None:
        again, self._again = self._again, False
        if again:
            self.refresh()

    def _on_failed(self, error: Exception) -> None:
        self._on_done(None)
        if not isinstance(error, Cancelled | InputError):
            raise error
