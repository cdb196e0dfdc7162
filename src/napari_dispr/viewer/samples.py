"""Sample data, and the reader of model files, which adds them to the user's models. No Qt."""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from napari_dispr.errors import InputError
from napari_dispr.models.library import import_model

#: Dropped files are read one by one: which name is free depends on the files before.
_importing = threading.Lock()
_SAMPLES = Path(__file__).parent.parent / "samples"


def simulated_red_blood_cells() -> list[tuple[Any, dict[str, Any], str]]:
    """A simulated picture of diseased red blood cells and its segmentation, for File > Open Sample.

    ``docs/make_sample.py`` simulated it; it is read from a file, as napari calls this on the GUI thread and
    simulating takes a second. An image and a label layer, (y, x), 0.1 micrometer a pixel.
    """
    with np.load(_SAMPLES / "red_blood_cells.npz", allow_pickle=False) as field:
        image, labels, pixel_size = field["image"], field["labels"], float(field["pixel_size"])
    place = {"scale": (pixel_size,) * 2, "units": ("micrometer",) * 2}
    bright = float(np.percentile(image, 99.9))
    limits = (float(image.min()), bright)
    return [
        (image, {"name": "red blood cells", "contrast_limits": limits, **place}, "image"),
        (labels, {"name": "segmentation", "opacity": 0.4, **place}, "labels"),
    ]


def simulated_red_blood_cells_3d() -> list[tuple[Any, dict[str, Any], str]]:
    """Like `simulated_red_blood_cells`, with the true shapes of the cells, to compare with predicted ones.

    They are in a third layer, labels (z, y, x), which is hidden.
    """
    with np.load(_SAMPLES / "red_blood_cells_3d.npz", allow_pickle=False) as truth:
        labels, to_world = truth["labels"], truth["to_world"]
    place = {
        "units": ("micrometer",) * 3,
        "scale": tuple(np.diag(to_world)[:3].tolist()),
        "translate": tuple(to_world[:3, 3].tolist()),
    }
    shapes = (labels, {"name": "true shapes", "visible": False, "opacity": 1.0, **place}, "labels")
    return [shapes, *simulated_red_blood_cells()]


def simulated_nuclei_3d() -> list[tuple[Any, dict[str, Any], str]]:
    """A simulated confocal stack of nuclei and its segmentation, for File > Open Sample: data to train on.

    An image and a label layer, (z, y, x), with the size of their voxels in micrometer.
    """
    with np.load(_SAMPLES / "nuclei_3d.npz", allow_pickle=False) as stack:
        image, labels = stack["image"], stack["labels"]
        place = {"scale": tuple(stack["spacing"].tolist()), "units": ("micrometer",) * 3}
    return [
        (image, {"name": "nuclei", "contrast_limits": (0.0, 255.0), **place}, "image"),
        (labels, {"name": "nuclei segmentation", "opacity": 0.4, **place}, "labels"),
    ]


def model_reader(path: str | Sequence[str]) -> Callable[[Any], list[tuple[None]]]:
    """The reader of shape models (``*.safetensors``): a dropped file is added to the user's models."""
    return read_model


def read_model(path: str | Sequence[str]) -> list[tuple[None]]:
    """Add model files to the user's models, in a thread; notifications show the result.

    A wrong file raises nothing: napari would report a failed plugin and suggest another.
    """
    paths = [path] if isinstance(path, str) else list(path)
    threading.Thread(target=_import_models, args=(paths,), name="import of shape models").start()
    return [(None,)]


def _import_models(paths: Sequence[str]) -> None:
    from napari.utils.notifications import show_error, show_info

    for path in paths:
        try:
            # Not loaded: that needs torch, which takes seconds.
            with _importing:
                name, _, new = import_model(path, numbered=True, load=False)
        except InputError as error:
            # napari shows only the beginning of a long sentence.
            show_error(str(error).replace(path, Path(path).name))
        except OSError as error:
            show_error(f"{error.filename or path}: {error.strerror or error}.")
        else:
            done = "is now one of your models" if new else "is one of your models already"
            show_info(f"{name!r} {done}: choose it in Plugins > napari DISPR > Predict 3D shapes.")
