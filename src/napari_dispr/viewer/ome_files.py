"""Reader of OME-TIFF files: layers with their scale, units and names, for the manifest. No Qt.

Layers that `write_volumes` wrote come back with their type, affine and metadata. Of other programs' files the
size of the pixels is read, which napari's own reader leaves out.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_dispr.cells.stated_sizes import as_number, micrometers
from napari_dispr.errors import InputError
from napari_dispr.files import open_tiff, reading
from napari_dispr.viewer.content import LayerData

#: Key in the description of an image: what is needed to make the same layers again.
LAYERS_KEY = "napari"


def described(
    layers: Sequence[tuple[Mapping[str, Any], str]], shape: Sequence[int], affine: NDArray[np.float64]
) -> dict[str, Any]:
    """JSON content from which `read_ome` makes layers (settings, type) of one shape, affine and units again.

    ``affine`` (n + 1, n + 1) is from index to world in the units of the layer.
    """
    units = layers[0][0].get("units") or ("pixel",) * len(shape)
    return {
        "layers": [
            {"name": settings["name"], "type": kind, "metadata": _json_only(settings.get("metadata") or {})}
            for settings, kind in layers
        ],
        "shape": list(shape),
        "affine": affine.tolist(),
        "units": [str(unit) for unit in units][-len(shape) :],
    }


def _json_only(metadata: Mapping[Any, Any]) -> dict[str, Any]:
    """The entries that JSON can hold."""
    kept = {}
    for name, value in metadata.items():
        try:
            kept[str(name)] = json.loads(json.dumps(value, allow_nan=False))
        except (TypeError, ValueError, RecursionError):
            continue
    return kept


def ome_reader(path: str | Sequence[str]) -> Callable[[Any], list[LayerData]] | None:
    """The reader of one OME-TIFF; None for other files, which other readers may open."""
    if not isinstance(path, str):
        if len(path) != 1:
            return None
        (path,) = path
    if not Path(path).is_file():
        return None
    try:
        with tifffile.TiffFile(path) as file:
            return read_ome if file.is_ome else None
    except (OSError, ValueError, tifffile.TiffFileError):
        return None


def read_ome(path: str | Sequence[str]) -> list[LayerData]:
    """The layers of an OME-TIFF. Raises an InputError if the file cannot be read."""
    path = path if isinstance(path, str) else path[0]
    try:
        with reading(Path(path), "OME-TIFF"), open_tiff(path) as file:
            content = tifffile.xml2dict(file.ome_metadata or "")["OME"]["Image"]
            images = content if isinstance(content, list) else [content]
            return [
                layer
                for series, image in zip(file.series, images, strict=False)
                for layer in _layers_of(series.asarray(), series.axes, image)
            ]
    except InputError as error:  # napari shows only the beginning of a long sentence
        raise InputError(str(error).replace(path, Path(path).name)) from error.__cause__


def _layers_of(array: NDArray[Any], axes: str, image: Mapping[str, Any]) -> list[LayerData]:
    from napari_dispr.viewer.layers import transform_of

    try:
        made = json.loads(image["Description"])[LAYERS_KEY]
    except (KeyError, TypeError, ValueError):
        return [_foreign(array, axes, image)]
    stack = array.reshape(len(made["layers"]), *made["shape"])
    place = {"units": tuple(made["units"]), **transform_of(np.array(made["affine"], dtype=np.float64))}
    return [
        (one, {"name": layer["name"], "metadata": layer["metadata"], **place}, layer["type"])
        for one, layer in zip(stack, made["layers"], strict=True)
    ]


def _foreign(array: NDArray[Any], axes: str, image: Mapping[str, Any]) -> LayerData:
    """An image of another program, its channels as separate layers."""
    pixels = image["Pixels"]
    settings: dict[str, Any] = {"scale": [], "units": []}
    for axis in axes.replace("S", "").replace("C", ""):
        size = max(as_number(pixels.get(f"PhysicalSize{axis}")), 0.0)
        unit = micrometers(pixels.get(f"PhysicalSize{axis}Unit", "µm"))
        known = axis in "ZYX" and unit is not None and 0 < size * unit < float("inf")
        settings["scale"].append(size * unit if known and unit else size or 1.0)
        settings["units"].append("micrometer" if known else "pixel")
    if image.get("Name"):
        settings["name"] = str(image["Name"])
    if "S" in axes:
        array, settings["rgb"] = np.moveaxis(array, axes.index("S"), -1), True
        axes = axes.replace("S", "")
    if "C" in axes:
        settings["channel_axis"] = axes.index("C")
    return array, settings, "image"
