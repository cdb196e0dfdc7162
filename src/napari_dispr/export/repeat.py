"""How to make a prediction again: the command and the Python call, from what its provenance says."""

import shlex
from typing import Any

import numpy as np

from napari_dispr import grid
from napari_dispr.prediction.result import Prediction

#: What stands for files that provenance does not name.
_IMAGE, _LABELS = "IMAGE.tif", "LABELS.tif"


def command_line(prediction: Prediction) -> str:
    """The command that draws the same shapes again.

    It draws the same shapes, also where the picture was moved or turned in its world, of which the command
    line knows the size of the pixels alone: then `python_call` puts them into the same place, too.
    """
    made, settings = prediction.provenance, _settings(prediction)
    if "pixel_size" not in settings and prediction.unit == "micrometer":
        settings["pixel_size"] = _plain(grid.in_plane_scale(prediction.image_to_world))
    if made.get("dataset"):
        inputs = [str(made["dataset"])]
    else:
        inputs = [str(made.get("image_file") or _IMAGE), str(made.get("labels_file") or _LABELS)]
        settings = {"cells": ",".join(str(label) for label in prediction), **settings}
    options = [
        part for name, value in settings.items() for part in (f"--{name.replace('_', '-')}", str(value))
    ]
    return shlex.join(["napari-dispr", "predict", *inputs, "--out", "FOLDER", *options])


def python_call(prediction: Prediction) -> str:
    """The Python code that makes the same prediction again; empty for cells of a dataset folder."""
    made = prediction.provenance
    if made.get("dataset"):
        return ""
    arguments: dict[str, Any] = {"cells": list(prediction), **_settings(prediction)}
    if not np.array_equal(prediction.image_to_world, np.eye(3)):
        arguments["image_to_world"] = [[_plain(x) for x in row] for row in prediction.image_to_world.tolist()]
    if prediction.unit != "pixel":
        arguments["unit"] = prediction.unit
    files = [str(made.get("image_file") or _IMAGE), str(made.get("labels_file") or _LABELS)]
    lines = ["import napari_dispr as nd", "import tifffile", "", "prediction = nd.predict("]
    lines += [f"    tifffile.imread({file!r})," for file in files]
    lines += [f"    {name}={value!r}," for name, value in arguments.items()]
    return "\n".join([*lines, ")"])


def is_moved(prediction: Prediction) -> bool:
    """Whether the picture was moved, turned or sheared in its world."""
    pixel = grid.in_plane_scale(prediction.image_to_world)
    return not np.allclose(prediction.image_to_world, np.diag([pixel, pixel, 1.0]), atol=1e-9 * pixel)


def _settings(prediction: Prediction) -> dict[str, Any]:
    """What was set, without what was left open."""
    settings = dict(prediction.provenance.get("settings", {}))
    if prediction.intervals:  # they are there only where sampler and steps are the quality's own
        settings = {name: value for name, value in settings.items() if name not in ("sampler", "steps")}
    if "members" in settings and prediction.numbers:  # more may have been drawn since
        settings["members"] = max(prediction.numbers) + 1
    return {name: value for name, value in settings.items() if value is not None}


def _plain(value: float) -> float | int:
    return int(value) if value == int(value) else value
