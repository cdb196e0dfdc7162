"""A combo box of the viewer's layers of one kind, which follows changes of the layers."""

from collections.abc import Callable, Sequence
from typing import Any

from napari.components import ViewerModel
from napari.layers import Image, Labels, Layer
from qtpy.QtCore import QObject, Signal
from superqt.utils import signals_blocked

from napari_dispr.viewer.content import METADATA_KEY
from napari_dispr.widgets.parts.combo_boxes import ShortComboBox


class LayerChoice(ShortComboBox):
    """Offers the layers that ``accepts`` accepts, the topmost first.

    ``none`` is the label of an item for no layer; without it, a layer is chosen whenever there is one.
    ``suggests`` says whether an offered layer may be chosen before the user chooses.
    """

    #: The chosen layer is another one.
    layer_changed = Signal()

    def __init__(
        self,
        viewer: ViewerModel,
        accepts: Callable[[Layer], bool],
        tip: str,
        none: str = "",
        suggests: Callable[[Layer], bool] = lambda layer: True,
    ) -> None:
        super().__init__(characters=12)
        self.setToolTip(tip)
        self._viewer, self._accepts, self._none, self._suggests = viewer, accepts, none, suggests
        self._offered: list[Layer] = []
        self._chosen: Layer | None = None
        self._by_user = False  # the user has chosen the layer, or no layer
        for event in ("inserted", "removed", "reordered", "renamed"):
            getattr(viewer.layers.events, event).connect(self.offer)
        self.currentIndexChanged.connect(self._on_index)
        self.offer()

    @property
    def layer(self) -> Layer | None:
        return self._chosen

    @layer.setter
    def layer(self, layer: Layer | None) -> None:
        self.setCurrentIndex(len(self._offered) if layer is None else self._offered.index(layer))

    @property
    def offered(self) -> list[Layer]:
        return list(self._offered)

    def disconnect_layers(self) -> None:
        for event in ("inserted", "removed", "reordered", "renamed"):
            getattr(self._viewer.layers.events, event).disconnect(self.offer)

    def offer(self, event: object = None) -> None:
        """Look at the layers again; what the user has chosen stays chosen."""
        self._offered = [layer for layer in reversed(self._viewer.layers) if self._accepts(layer)]
        self._by_user &= self._chosen is None or self._chosen in self._offered
        with signals_blocked(self):
            self.clear()
            self.addItems([layer.name for layer in self._offered])
            if self._none:
                self.addItem(self._none)
            self.setCurrentIndex(self._offered_index())
        self._choose(self.currentIndex())

    def _offered_index(self) -> int:
        """Index of the chosen layer; if that may not stay, of the first that is suggested."""
        chosen, user = self._chosen, self._by_user
        if chosen is not None and chosen in self._offered and (user or self._suggests(chosen)):
            return self._offered.index(chosen)
        suggested = (i for i, layer in enumerate(self._offered) if not user and self._suggests(layer))
        return next(suggested, len(self._offered) if self._none else 0)

    def _on_index(self, index: int) -> None:
        self._by_user = index >= 0
        self._choose(index)

    def _choose(self, index: int) -> None:
        chosen = self._offered[index] if 0 <= index < len(self._offered) else None
        if chosen is not self._chosen:
            self._chosen = chosen
            self.layer_changed.emit()


class FollowedLayers(QObject):
    """Listens to events, by their names, of the layer that each of several choices shows.

    A layer without one of these events is followed by the others.
    """

    def __init__(self, names: Sequence[str], heard: Callable[[Any], None], parent: QObject) -> None:
        super().__init__(parent)
        self._names, self._heard = names, heard
        self._layers: dict[LayerChoice, Layer] = {}

    def follow(self, choice: LayerChoice, layer: Layer | None) -> bool:
        """Listen to ``layer`` in place of the layer before; whether it is another one."""
        before = self._layers.get(choice)
        if before is layer:
            return False
        for name in self._names:
            if before is not None and hasattr(before.events, name):
                getattr(before.events, name).disconnect(self._heard)
            if layer is not None and hasattr(layer.events, name):
                getattr(layer.events, name).connect(self._heard)
        self._layers.pop(choice, None)
        if layer is not None:
            self._layers[choice] = layer
        return True

    def stop(self) -> None:
        for choice in list(self._layers):
            self.follow(choice, None)


def is_picture(layer: Layer) -> bool:
    """Whether a layer is an image of the user's."""
    return isinstance(layer, Image) and METADATA_KEY not in layer.metadata


def is_segmentation(layer: Layer) -> bool:
    """Whether a layer holds labels of the user's."""
    return isinstance(layer, Labels) and METADATA_KEY not in layer.metadata


def is_3d_segmentation(layer: Layer) -> bool:
    """Whether a layer is a segmentation of the user with the axes z, y and x, not a result."""
    return is_segmentation(layer) and layer.ndim == 3
