"""The size of a pixel, where the picture's layer does not say it: it is written into the layers."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtWidgets import QComboBox, QDoubleSpinBox, QPushButton, QWidget

from napari_dispr.widgets.parts.layouts import row

if TYPE_CHECKING:
    from napari.layers import Image, Labels, Layer

_UNITS = {"µm": "micrometer", "nm": "nanometer", "mm": "millimeter"}


class PixelSize(QWidget):
    """Gives picture and labels the pixel size that the user enters, as scale and units of the layers.

    Parameters
    ----------
    layers : callable
        Gives the chosen image and label layer.
    """

    def __init__(self, layers: "Callable[[], tuple[Image | None, Labels | None]]") -> None:
        super().__init__()
        self._layers = layers
        self.size = QDoubleSpinBox(toolTip="Side of a pixel. The layer does not say it: sizes are in pixels")
        self.size.setDecimals(4)
        self.size.setRange(0.0001, 10_000)
        self.size.setValue(0.1)
        self.unit = QComboBox()
        for sign, name in _UNITS.items():
            self.unit.addItem(sign, name)
        self.set_button = QPushButton("Set", toolTip="Write the size into the layers of picture and labels")
        row((self.size, 1), self.unit, self.set_button, parent=self)
        self.set_button.clicked.connect(self.write)

    @staticmethod
    def is_missing(layer: "Layer | None") -> bool:
        """Whether the layer does not know the size of its pixels."""
        return layer is not None and str(layer.units[-1]) == "pixel"

    def write(self) -> None:
        """Set scale, place and units of y and x of both layers; their ratio is kept."""
        image, labels = self._layers()
        if image is None:
            return
        factor = self.size.value() / float(np.sqrt(np.prod(image.scale[-2:])))
        for layer in (image, labels):
            if layer is not None and self.is_missing(layer):
                grown = np.ones(layer.ndim)
                grown[-2:] = factor
                layer.scale, layer.translate = layer.scale * grown, layer.translate * grown
                layer.units = (*layer.units[:-2], *(self.unit.currentData(),) * 2)
