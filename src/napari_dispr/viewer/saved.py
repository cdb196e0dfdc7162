"""A saved prediction as napari's layers, with the picture that it was made from. No Qt."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from napari_dispr.cells.pictures import read_recorded
from napari_dispr.errors import InputError
from napari_dispr.labels import whole_numbers
from napari_dispr.prediction.result import Prediction
from napari_dispr.prediction.saving import load_measures, load_pictures, load_prediction
from napari_dispr.viewer.content import LayerData, compose
from napari_dispr.viewer.layers import PredictionHandle, result_layers, transform_of
from napari_dispr.viewer.opened import OpenPrediction, opened


def open_saved(
    folder: Path, step: Callable[[int, int], None] = lambda done, total: None
) -> tuple[OpenPrediction, list[LayerData]]:
    """Read a saved prediction, and make its layers: its picture and labels, if they are known, then the
    members.

    Call it in a thread. ``step`` is called with the numbers of finished steps and of all; what it raises ends
    the work. Raises an InputError if the folder is no saved prediction, or is damaged.
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
    place: dict[str, Any] = {**transform_of(prediction.image_to_world), "units": (prediction.unit,) * 2}
    if "spacing" in made:  # a stack
        place = {"scale": made["spacing"], "units": (prediction.unit,) * 3}
    layers: list[LayerData] = [
        (array, {"name": name if what == "labels" else f"{name}: picture", **place}, what)
        for what, array in pictures.items()
    ]
    layers += [(data, settings, "labels") for data, settings in result_layers(content, handle)]
    step(4, 4)
    return handle.newest, layers


def _recorded_pictures(prediction: Prediction) -> dict[str, NDArray[Any]]:
    """Picture and labels from the files that a command predicted; those that are missing, or of another
    shape than the prediction's picture, are left out.
    """
    found: dict[str, NDArray[Any]] = {}
    for what in ("image", "labels"):
        with suppress(InputError):
            array = read_recorded(prediction.provenance, labels=what == "labels")
            if array is not None and array.shape[-2:] == tuple(prediction.image_shape):
                found[what] = whole_numbers(array) if what == "labels" else array
    return found
