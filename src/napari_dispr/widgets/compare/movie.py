"""A movie of Compare's canvas, in which the shapes turn once about the vertical axis."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QObject, QTimer, Signal
from qtpy.QtGui import QImage

from napari_dispr.errors import InputError
from napari_dispr.files import written_aside
from napari_dispr.widgets.compare.canvas import ShapeCanvas
from napari_dispr.widgets.parts.threads import LatestAnswer

#: Pictures of one turn, and the time that each is shown, milliseconds.
FRAMES, _SHOWN = 36, 80


class TurnMovie(QObject):
    """Takes one picture in each turn of the event loop, and writes the movie in a thread."""

    #: The movie was written: its path, or an InputError that says what went wrong.
    done = Signal(object)

    def __init__(self, canvas: ShapeCanvas) -> None:
        super().__init__(canvas)
        self._canvas = canvas
        self._frames: list[NDArray[np.uint8]] = []
        self._path, self._angles = "", canvas.angles
        self._next = QTimer(self, interval=0)
        self._next.timeout.connect(self._take)
        self._write = LatestAnswer(write_movie, self.done.emit, self, pause=None)

    @property
    def busy(self) -> bool:
        return self._next.isActive() or self._write.pending

    def start(self, path: str) -> None:
        """Make a movie; ends in ``.gif``, or ``.mp4`` if imageio can write it."""
        if not self.busy:
            self._frames, self._path, self._angles = [], path, self._canvas.angles
            self._next.start()

    def _take(self) -> None:
        if self._canvas.busy:
            return
        elevation, azimuth = self._angles
        self._canvas.turn(elevation, azimuth + 360 * len(self._frames) / FRAMES)
        picture = self._canvas.grab().toImage().convertToFormat(QImage.Format.Format_RGBX8888)
        content = picture.constBits()
        if hasattr(content, "setsize"):  # PyQt
            content.setsize(picture.sizeInBytes())
        pixels = np.frombuffer(content, np.uint8).reshape(picture.height(), picture.width(), 4)
        self._frames.append(pixels[..., :3].copy())
        if len(self._frames) == FRAMES:
            self._next.stop()
            self._canvas.turn(*self._angles)
            frames, self._frames = self._frames, []
            self._write.ask(self._path, frames)


def write_movie(path: str, frames: Sequence[NDArray[np.uint8]]) -> str:
    """Write a GIF that repeats, or an MP4. Returns the path.

    Raises an InputError if the file cannot be written, or imageio has no plugin for it.
    """
    import imageio.v3 as iio

    size = tuple(min(frame.shape[axis] for frame in frames) // 2 * 2 for axis in (0, 1))  # even, for MP4
    movie = np.stack([frame[: size[0], : size[1]] for frame in frames])
    gif = path.lower().endswith(".gif")
    options = {"duration": _SHOWN, "loop": 0} if gif else {"fps": 1000 / _SHOWN, "macro_block_size": 2}
    try:
        with written_aside(path) as aside:
            iio.imwrite(aside, movie, extension=Path(path).suffix.lower(), **options)
    except (ImportError, ValueError, TypeError) as error:
        raise InputError(
            'MP4 needs the package imageio-ffmpeg: install it ("pip install imageio-ffmpeg"), or save a GIF.'
        ) from error
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}. Choose another folder.") from error
    return path
