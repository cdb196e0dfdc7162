"""New label layers that fix inputs of Predict: split into connected parts, or aligned in time. No Qt."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from napari.layers import Image, Labels
from numpy.typing import NDArray

from napari_dispr.labels import separate_parts, split_parts
from napari_dispr.viewer.content import LayerData
from napari_dispr.viewer.displayed import finest


@dataclass(frozen=True, slots=True)
class Fix:
    """What Predict offers to do with the label layer; ``text`` and ``tip`` are those of the button.

    ``fixed`` makes the new label layer from picture and labels: its data, settings and type. For a thread.
    """

    text: str
    tip: str
    fixed: Callable[[Image, Labels], LayerData]


def misaligned(image: Image, labels: Labels) -> bool:
    """Whether the labels lack an axis between time and y that the picture has.

    napari aligns axes from the last one, so that the time of the labels meets another axis of the picture.
    """
    ours, theirs = _leading(labels), _leading(image)
    return 0 < len(ours) < len(theirs) and theirs[-len(ours) :] != ours and theirs[: len(ours)] == ours


def _split(image: Image, labels: Labels, linked: bool) -> LayerData:
    settings = {name: getattr(labels, name) for name in ("scale", "translate", "rotate", "shear", "affine")}
    settings |= {"name": f"{labels.name}: split", "units": labels.units}
    return split(np.asarray(finest(labels)), linked), settings, "labels"


def _aligned(image: Image, labels: Labels) -> LayerData:
    """The labels with the leading axes of the picture."""
    data = finest(labels)
    leading, lengths = len(_leading(labels)), _leading(image)
    added = lengths[leading:]
    # One plane as thick as all channels, so that it is shown with each of them; it can be painted on.
    scale, translate = np.array(image.scale), np.array(image.translate)
    for axis, length in enumerate(added, start=leading):
        translate[axis] += scale[axis] * (length - 1) / 2
        scale[axis] *= length
    scale[:leading], translate[:leading] = image.scale[:leading], image.translate[:leading]
    settings = {
        "name": f"{labels.name}: aligned",
        "scale": scale,
        "translate": translate,
        "units": image.units,
    }
    shape = (*data.shape[:leading], *(1,) * len(added), *data.shape[-2:])
    return np.asarray(data).reshape(shape), settings, "labels"


def is_binary(labels: NDArray[Any]) -> bool:
    """Whether labels (y, x) or (z, y, x) are a mask with one value, 1 or 255, in several parts."""
    return int(labels.max(initial=0)) in (1, 255) and separate_parts(labels) > 1


def split(labels: NDArray[Any], linked: bool) -> NDArray[np.int32]:
    """Labels (..., y, x) with the connected parts of each plane numbered from 1.

    If they are ``linked``, parts that lie above one another, in planes with labels, stay one cell.
    """
    if linked:
        result = np.zeros(labels.shape, np.int32)
        for index in np.ndindex(labels.shape[:-3]):
            known = labels[index].any(axis=(1, 2))
            result[index][known] = split_parts(labels[index][known] != 0)
        return result
    planes = labels.reshape(-1, *labels.shape[-2:])
    return np.stack([split_parts(plane != 0) for plane in planes]).reshape(labels.shape)


def _leading(layer: Image | Labels) -> tuple[int, ...]:
    return tuple(int(length) for length in finest(layer).shape[:-2])


SPLIT = Fix(
    "Split into cells",
    "Add a label layer in which each connected part has its own label",
    partial(_split, linked=False),
)
SPLIT_STACK = Fix(
    "Split into cells",
    "Add a label layer in which each part has its own label, the same in all planes that it reaches",
    partial(_split, linked=True),
)
ALIGN = Fix(
    "Align labels",
    "Add a label layer whose leading axes are those of the picture, for all channels",
    _aligned,
)
