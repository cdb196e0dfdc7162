"""The size of a pixel and the distance of planes, where layers do not say it: written into the layers.

The fields first show the sizes that the files of the layers state, or else a scale without units.
"""

from collections.abc import Callable

import numpy as np
from napari.components import ViewerModel
from napari.layers import Image, Labels, Layer
from qtpy.QtWidgets import QComboBox, QPushButton, QWidget

from napari_dispr.cells.stack_files import StatedSpacing
from napari_dispr.shapes.measures import unit_sign
from napari_dispr.viewer.scene import look_at
from napari_dispr.widgets.parts.layouts import row
from napari_dispr.widgets.parts.number_boxes import DecimalBox
from napari_dispr.widgets.parts.stated_size import StatedSize

_UNITS = ("micrometer", "nanometer", "millimeter")
_DECIMALS = 4


class PixelSize(QWidget):
    """Gives picture and labels the sizes that the user enters, as scale and units of the layers."""

    def __init__(self, viewer: ViewerModel, layers: Callable[[], tuple[Image | None, Labels | None]]) -> None:
        super().__init__()
        self._viewer, self._layers = viewer, layers
        tip = "Side of a pixel. The layer does not say it: sizes are in pixels"
        self.size = DecimalBox(0.0001, 10_000, _DECIMALS, tip)
        self.size.setValue(0.1)
        tip = "Distance between two planes of the stack, which the layer does not say"
        self.distance = DecimalBox(0.001, 10_000, 3, tip)
        self.distance.setValue(1.0)
        self.distance.setPrefix("planes: ")
        for box in (self.size, self.distance):
            box.setButtonSymbols(DecimalBox.ButtonSymbols.NoButtons)  # two numbers fit side by side
        self.unit = QComboBox()
        for name in _UNITS:
            self.unit.addItem(unit_sign(name), name)
        self.set_button = QPushButton("Set", toolTip="Write the size into the layers of picture and labels")
        row((self.size, 1), (self.distance, 1), self.unit, self.set_button, parent=self)
        self.set_button.clicked.connect(self.write)
        self._stated = StatedSize(self)
        self._stated.read.connect(self._offer_stated)
        self._offered: tuple[Image, StatedSpacing | None] | None = None
        self._exact = 0.0  # the size that was offered, which the field rounds

    def refresh(self, several: bool) -> bool:
        """Ask for what the layers do not say, with ``several`` also for the distance of planes; whether
        anything is missing.
        """
        image, labels = self._layers()
        size, distance = self.is_missing(image), several and (_unspaced(image) or _unspaced(labels))
        self.size.setVisible(size)
        self.distance.setVisible(distance)
        if size or distance:
            self._offer_stated()
        return size or distance

    def _offer_stated(self) -> None:
        """Show what the files or scales of the layers state, once: the user may change it."""
        image, labels = self._layers()
        stated = self._stated.of(image, labels)
        if image is None or self._offered == (image, stated):
            return
        sides = image.scale[-2:] if stated is None else stated[1:]
        if stated is None and tuple(sides) == (1, 1):
            return
        self._offered = (image, stated)
        self.unit.setCurrentIndex(self.unit.findData("micrometer"))
        self._exact = float(np.sqrt(np.abs(np.prod(sides))))
        self.size.setValue(self._exact)
        if stated is not None and stated[0] is not None:
            self.distance.setValue(stated[0])

    @staticmethod
    def is_missing(layer: Layer | None) -> bool:
        return layer is not None and str(layer.units[-1]) == "pixel"

    @property
    def hint(self) -> str:
        """What to do so that sizes are not in pixels; empty if the picture says its pixel size."""
        if not self.is_missing(self._layers()[0]):
            return ""
        return " Sizes will be in pixels: check the pixel size above and press Set."

    def write(self) -> None:
        """Set scale, place and units of both layers; the view shows all of them, in the same plane.

        The ratio of y and x is kept. Where it is 1, that of the file is taken, and the distance of planes of
        the file, if the user has not changed the size.
        """
        image, labels = self._layers()
        if image is None:
            return
        dims, ratio = self._viewer.dims, np.ones(2)
        steps, displayed = dims.nsteps, dims.current_step
        unit: str = self.unit.currentData()
        distance = self.distance.value() if not self.distance.isHidden() else None
        size = self.size.value()
        if unchanged := round(self._exact, _DECIMALS) == round(size, _DECIMALS):
            size = self._exact
        if self._offered and self._offered[0] is image and self._offered[1] is not None:
            sides = np.array(self._offered[1][1:])
            if np.ptp(image.scale[-2:]) == 0:
                ratio = sides / np.sqrt(sides.prod())
            if distance is None and unit == "micrometer" and unchanged:
                distance = self._offered[1][0]
        factor = size / float(np.sqrt(np.prod(image.scale[-2:])))
        for layer in (image, labels):
            if layer is None:
                continue
            grown, units = np.ones(layer.ndim), [*layer.units]
            if distance is not None and _unspaced(layer):
                grown[-3], units[-3] = distance / layer.scale[-3], unit
            if self.is_missing(layer):
                grown[-2:], units[-2:] = factor * ratio, (unit, unit)
                if distance is None and layer.ndim > 2 and str(units[-3]) == "pixel" and not _unspaced(layer):
                    grown[-3], units[-3] = factor, unit  # planes whose distance is known in pixels
            layer.scale, layer.translate = layer.scale * grown, layer.translate * grown
            layer.units = tuple(units)
        look_at(self._viewer, [image])  # it has another size in the world now
        if dims.nsteps == steps:
            dims.current_step = displayed


def _unspaced(layer: Layer | None) -> bool:
    """Whether a stack does not say how far its planes are apart: in napari's default they are 1 apart."""
    if layer is None or layer.ndim < 3 or str(layer.units[-3]) != "pixel":
        return False
    sides = layer.scale[-3:]
    return str(layer.units[-1]) != "pixel" or bool(np.isclose(abs(sides[0]), np.abs(sides[1:]).mean()))
