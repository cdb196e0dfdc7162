"""A saved prediction as napari's layers, with the picture that it was made from. No Qt."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from napari_dispr.cells.pictures import read_plane
from napari_dispr.errors import InputError
from napari_dispr.labels import split_parts, whole_numbers
from napari_dispr.prediction.result import Prediction
from napari_dispr.prediction.saving import load_measures, load_pictures, load_prediction
from napari_dispr.viewer.content import LayerData, compose
from napari_dispr.viewer.layers import PredictionHandle, result_layers
from napari_dispr.viewer.opened import OpenPrediction, opened


def open_saved(
    folder: Path, step: Callable[[int, int], None] = lambda done, total: None
) -> tuple[OpenPrediction, list[LayerData]]:
    """Read a saved prediction, and make its layers; call it in a thread.

    Raises an InputError if the folder is no saved prediction, or is damaged.

    Parameters
    ----------
    step : callable
        Called after each of the steps with their number and the number of all; what it raises ends the work.

    Returns
    -------
    opened : OpenPrediction
    layers : list of layer data tuples
        The picture and its labels, if they are known, then the members.
    """
    prediction = load_prediction(folder).with_provenance(folder=str(folder))
    step(1, 4)
    measures = load_measures(folder, prediction)
    step(2, 4)
    pictures = load_pictures(folder, prediction.image_shape) or _recorded_pictures(prediction)
    step(3, 4)
    content = compose(prediction, measures, None)
    made = prediction.provenance
    known = made.get("labels") or made.get("field")
    name = str(known or Path(made.get("labels_file") or folder.name).stem)
    handle = PredictionHandle(opened(prediction, measures, name))
    place = {"affine": prediction.image_to_world, "units": (prediction.unit,) * 2}
    layers: list[LayerData] = [
        (array, {"name": name if what == "labels" else f"{name}: picture", **place}, what)
        for what, array in pictures.items()
    ]
    layers += [(data, settings, "labels") for data, settings in result_layers(content, handle)]
    step(4, 4)
    return handle.newest, layers


def _recorded_pictures(prediction: Prediction) -> dict[str, NDArray[Any]]:
    """Picture and labels of one plane from the files that a command predicted; those that are missing, or of
    another shape than the prediction's picture, are left out.
    """
    made, found = prediction.provenance, {}
    if "planes" in made:
        return {}
    for what in ("image", "labels"):
        if not (path := made.get(f"{what}_file")):
            continue
        with suppress(InputError):
            labels = what == "labels"
            channel = None if labels else made.get("channel")
            array = read_plane(Path(path), made.get("place") or {}, channel, labels=labels)
            if array.shape != tuple(prediction.image_shape):
                continue
            if labels:
                array = split_parts(array) if made.get("split") else whole_numbers(array)
            found[what] = array
    return found
