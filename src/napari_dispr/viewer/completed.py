"""The layers of a completed stack: all cells as isotropic 3D labels, and where they are uncertain. No Qt."""

from collections.abc import Sequence
from typing import Any

from napari.components import ViewerModel
from napari.layers import Layer

from napari_dispr.prediction.completed import complete
from napari_dispr.viewer.content import METADATA_KEY, LayerData
from napari_dispr.viewer.layers import add_unselected, handle_of, hide, remove_layers, transform_of
from napari_dispr.viewer.opened import OpenPrediction

#: Key of a layer's metadata that holds the key of the prediction that it completes.
_COMPLETED_KEY = "napari-dispr completed"


def completed_layers(opened: OpenPrediction) -> list[LayerData]:
    """The completed stack as layers (data, settings, type): first the uncertainty, then the labels.

    Takes about 0.1 s for each cell: call it in a thread.
    """
    stack = complete(opened.prediction)
    place: dict[str, Any] = {
        "units": (opened.unit,) * 3,
        "metadata": {METADATA_KEY: {**stack.provenance, "note": stack.note}, _COMPLETED_KEY: opened.key},
        **transform_of(stack.affine),
    }
    unsure = {
        "name": f"{opened.name}: uncertainty",
        "colormap": "magma",
        "contrast_limits": (0.0, 1.0),
        "blending": "additive",
        "visible": False,
        **place,
    }
    labels = {"name": f"{opened.name}: completed", "opacity": 1.0, "iso_gradient_mode": "smooth", **place}
    return [(stack.uncertainty, unsure, "image"), (stack.labels, labels, "labels")]


def add_completed(viewer: ViewerModel, opened: OpenPrediction, layers: Sequence[Layer]) -> None:
    """Add a completed stack in place of an earlier one; the members in the same place are hidden."""
    remove_layers(viewer, [one for one in viewer.layers if one.metadata.get(_COMPLETED_KEY) is opened.key])
    for layer in viewer.layers:
        handle = handle_of(layer)
        if handle is not None and handle.newest.key is opened.key:
            hide(layer)
    for layer in layers:
        add_unselected(viewer, layer)
