"""New label layers that mend inputs of Predict: split into connected parts, or aligned in time. No Qt."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from napari.layers import Image, Labels
from numpy.typing import NDArray

from napari_dispr.labels import separate_parts, split_parts

LayerData = tuple[Any, dict[str, Any], str]


@dataclass(frozen=True, slots=True)
class Cure:
    """What Predict offers to do with the label layer.

    Attributes
    ----------
    text, tip : str
        Of the button.
    split : bool
        Split the labels into connected parts; otherwise align them with the leading axes of the picture.
    linked : bool
        Whether parts that lie above one another, in planes with labels, stay one cell.
    """

    text: str
    tip: str
    split: bool
    linked: bool = False


SPLIT = Cure(
    "Split into cells", "Add a label layer in which each connected part has its own label", split=True
)
SPLIT_STACK = Cure(
    "Split into cells",
    "Add a label layer in which each part has its own label, the same in all planes that it reaches",
    split=True,
    linked=True,
)
ALIGN = Cure(
    "Align labels",
    "Add a label layer whose leading axes are those of the picture, for all channels",
    split=False,
)


def misaligned(image: Image, labels: Labels) -> bool:
    """Whether the labels lack an axis between time and y that the picture has.

    napari aligns axes from the last one, so that the time of the labels meets another axis of the picture.
    """
    ours, theirs = _leading(labels), _leading(image)
    return 0 < len(ours) < len(theirs) and theirs[-len(ours) :] != ours and theirs[: len(ours)] == ours


def cured(cure: Cure, image: Image, labels: Labels) -> LayerData:
    """Data, settings and type of the new label layer. Call it in a thread.

    Raises
    ------
    ValueError
        If napari cannot show such a layer.
    """
    data = labels.data[0] if labels.multiscale else labels.data
    if cure.split:
        settings = {
            name: getattr(labels, name) for name in ("scale", "translate", "rotate", "shear", "affine")
        }
        settings |= {"name": f"{labels.name}: split", "units": labels.units}
        return split(np.asarray(data), cure.linked), settings, "labels"
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
    return (
        np.asarray(data).reshape(*data.shape[:leading], *(1,) * len(added), *data.shape[-2:]),
        settings,
        "labels",
    )


def is_binary(labels: NDArray[Any]) -> bool:
    """Whether labels (y, x) or (z, y, x) are a mask with one value, 1 or 255, in several parts."""
    return int(labels.max(initial=0)) in (1, 255) and separate_parts(labels) > 1


def split(labels: NDArray[Any], linked: bool = False) -> NDArray[np.int32]:
    """Labels (..., y, x) with the connected parts of each plane numbered from 1; or of each stack, `Cure`."""
    if linked:
        result = np.zeros(labels.shape, np.int32)
        for index in np.ndindex(labels.shape[:-3]):
            known = labels[index].any(axis=(1, 2))
            result[index][known] = split_parts(labels[index][known] != 0)
        return result
    planes = labels.reshape(-1, *labels.shape[-2:])
    return np.stack([split_parts(plane != 0) for plane in planes]).reshape(labels.shape)


def _leading(layer: Image | Labels) -> tuple[int, ...]:
    data = layer.data[0] if layer.multiscale else layer.data
    return tuple(int(length) for length in data.shape[:-2])
