"""A picture that fills the width of its widget, and a window for a large one.

The height follows by Qt's height for width: a widget that sets its own height when it is resized can switch a
scroll bar on and off without end.
"""

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QRectF, QSize, QSizeF, Qt
from qtpy.QtGui import QImage, QPainter, QPaintEvent
from qtpy.QtWidgets import QDialog, QLabel, QScrollArea, QSizePolicy, QVBoxLayout, QWidget

#: Small pictures are enlarged up to this many times.
_LARGEST_ZOOM = 2.0
#: Largest initial size of a window with a picture, in pixels.
_WIDEST, _HIGHEST = 1180, 900


def image_of(picture: NDArray[np.uint8]) -> QImage:
    """A picture (y, x, 3) for Qt."""
    height, width, _ = picture.shape
    image = QImage(picture.tobytes(), width, height, 3 * width, QImage.Format.Format_RGB888)
    return image.copy()  # Python owns the bytes of the other one


class Picture(QWidget):
    """Shows a picture in the width of the widget, and adapts the height."""

    def __init__(self) -> None:
        super().__init__()
        self._image = QImage()
        self._scaled = QImage()
        self.setMinimumWidth(100)
        policy = QSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Minimum)
        policy.setHeightForWidth(True)
        self.setSizePolicy(policy)
        self.hide()

    @property
    def image(self) -> QImage:
        """The picture; null if there is none."""
        return self._image

    def show_array(self, picture: NDArray[np.uint8] | None) -> None:
        """Show a picture (y, x, 3); None shows nothing."""
        if picture is None:
            self._show(QImage())
            return
        self._show(image_of(picture))

    def show_file(self, content: bytes) -> None:
        """Show the content of a PNG; empty shows nothing."""
        self._show(QImage.fromData(content) if content else QImage())

    def _show(self, image: QImage) -> None:
        self._image, self._scaled = image, QImage()
        self.setVisible(not image.isNull())
        self.updateGeometry()
        self.update()

    def _zoom(self, width: int) -> float:
        return min(width / max(1, self._image.width()), _LARGEST_ZOOM)

    def heightForWidth(self, width: int) -> int:
        return round(self._image.height() * self._zoom(width))

    def sizeHint(self) -> QSize:
        """Small: the layout asks for the height at the width that it has."""
        return QSize(self.minimumWidth(), self.heightForWidth(self.minimumWidth()))

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Paint in the pixels of the screen, not in Qt's larger ones."""
        if self._image.isNull():
            return
        zoom = self._zoom(self.width())
        width, height = self._image.width() * zoom, self._image.height() * zoom
        size = (QSizeF(width, height) * self.devicePixelRatioF()).toSize().expandedTo(QSize(1, 1))
        if self._scaled.size() != size:
            self._scaled = self._image.scaled(
                size, Qt.AspectRatioMode.IgnoreAspectRatio, Qt.TransformationMode.SmoothTransformation
            )
        painter = QPainter(self)
        painter.drawImage(QRectF((self.width() - width) / 2, 0, width, height), self._scaled)
        painter.end()


class PictureWindow(QDialog):
    """A separate window with a large picture and a caption."""

    def __init__(self, title: str, words: str, picture: NDArray[np.uint8], parent: QWidget) -> None:
        super().__init__(parent)
        self.setWindowTitle(title)
        self.setModal(False)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        caption = QLabel(words, wordWrap=True)
        self.picture = Picture()
        self.picture.show_array(picture)
        area = QScrollArea(widgetResizable=True)
        area.setWidget(self.picture)
        layout = QVBoxLayout(self)
        layout.addWidget(caption)
        layout.addWidget(area, 1)
        height, width, _ = picture.shape
        wide = min(_WIDEST, width)
        self.resize(wide + 24, min(_HIGHEST, wide * height // width + 64))
