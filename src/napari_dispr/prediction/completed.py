"""A completed stack: the cells of a prediction as isotropic 3D labels, and where they are uncertain."""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_dispr import grid
from napari_dispr.labels import windows
from napari_dispr.prediction.result import Prediction
from napari_dispr.shapes import placement
from napari_dispr.shapes.ome import OmeImage, write_ome_tiff

LABELS, UNCERTAINTY = "labels.ome.tif", "uncertainty.ome.tif"
#: Start of the names of the images in these files.
TITLE = "completed stack"


@dataclass(frozen=True, slots=True, eq=False)
class Completed:
    """A stack of cells with cubic voxels.

    Attributes
    ----------
    labels : (z, y, x) unsigned integers
        The kept shape of each cell, or else its consensus. y and x are those of the picture, unless two such
        stacks of labels exceed 256 MiB: then those of the bounding box of the cells; if that is too large,
        too, a voxel has 2, 4, ... pixels.
    uncertainty : (z, y, x) float32
        0 where all members of a cell agree, 1 where half of them are inside.
    affine : (4, 4) array
        From voxel-centre index to world, the depth of the picture in it.
    provenance : mapping
        That of the prediction.
    note : str
        What the stack lacks to save memory, in a sentence; empty if nothing.
    """

    labels: NDArray[Any]
    uncertainty: NDArray[np.float32]
    affine: NDArray[np.float64]
    unit: str
    provenance: Mapping[str, Any]
    note: str = ""

    def save(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Write ``labels.ome.tif`` and ``uncertainty.ome.tif``; returns their paths."""
        description = {
            **self.provenance,
            "unit": self.unit,
            "index_to_world": self.affine.tolist(),
            "note": self.note,
        }
        paths = []
        for name, array in ((LABELS, self.labels), (UNCERTAINTY, self.uncertainty)):
            path = Path(folder) / name
            title = f"{TITLE}: {name.partition('.')[0]}"
            write_ome_tiff(path, [OmeImage(array, title, self.affine, self.unit, description)])
            paths.append(path)
        return paths


def complete(prediction: Prediction) -> Completed:
    """Put the cells of a prediction into one stack with cubic voxels, of the size of the picture's pixels.

    Parameters
    ----------
    prediction : Prediction
        Usually from several planes of a stack, but it can be from one.

    Raises
    ------
    InputError
        If the prediction has no cell.
    """
    place = prediction.placement(2)
    (labels,) = place.volumes(((label, [_shape(prediction, label)]) for label in prediction), 1)
    uncertainty = place.image((label, 1 - np.abs(2 * one.occupancy - 1)) for label, one in prediction.items())
    affine, note = place.affine, ""
    whole = 2 * labels.itemsize * len(labels) * math.prod(prediction.image_shape)
    if place.step > 1:
        note = (
            f"To save memory voxels are {place.step} pixels wide: predict fewer cells at once for finer ones."
        )
    elif whole > placement.LARGEST_VOLUMES:
        note = (
            "To save memory the stack covers only the part of the picture with the cells; its place is saved."
        )
    else:
        labels, _ = _in_picture(prediction, labels, affine)
        uncertainty, affine = _in_picture(prediction, uncertainty, affine)
    depth = grid.translation((prediction.depth, 0.0, 0.0))
    return Completed(labels, uncertainty, depth @ affine, prediction.unit, prediction.provenance, note)


def _shape(prediction: Prediction, label: int) -> NDArray[np.float32]:
    if label in prediction.kept:
        return prediction.kept_distance(label)
    return prediction[label].consensus_distance


def _in_picture(
    prediction: Prediction, volume: NDArray[Any], affine: NDArray[np.float64]
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """A volume with the rows and columns of the picture, and its affine."""
    to_world = grid.pixel_to_world(prediction.image_to_world)
    first = np.rint(np.linalg.solve(to_world, affine)[:3, 3]).astype(int)
    result = np.zeros((len(volume), *prediction.image_shape), volume.dtype)
    there, here = windows(first[1:], volume.shape[1:], prediction.image_shape)
    result[:, *there] = volume[:, *here]
    return result, to_world @ grid.translation((float(first[0]), 0.0, 0.0))
