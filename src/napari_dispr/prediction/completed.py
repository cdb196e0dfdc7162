"""A completed stack: the cells of a prediction as isotropic 3D labels, and where they are uncertain."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_dispr import grid
from napari_dispr.labels import windows
from napari_dispr.prediction.result import Prediction
from napari_dispr.shapes.ome import OmeImage, write_ome_tiff

LABELS, UNCERTAINTY = "labels.ome.tif", "uncertainty.ome.tif"


@dataclass(frozen=True, slots=True, eq=False)
class Completed:
    """A stack of cells with cubic voxels.

    Attributes
    ----------
    labels : (z, y, x) unsigned integers
        The kept shape of each cell, or else its consensus. y and x are those of the picture, unless it is so
        large that a voxel takes several pixels.
    uncertainty : (z, y, x) float32
        0 where all members of a cell agree, 1 where half of them are inside.
    affine : (4, 4) array
        From voxel-centre index to world, the depth of the picture in it.
    """

    labels: NDArray[Any]
    uncertainty: NDArray[np.float32]
    affine: NDArray[np.float64]
    unit: str

    def save(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Write ``labels.ome.tif`` and ``uncertainty.ome.tif``; returns their paths."""
        paths = []
        for name, array in ((LABELS, self.labels), (UNCERTAINTY, self.uncertainty)):
            path = Path(folder) / name
            write_ome_tiff(path, [OmeImage(array, name.partition(".")[0], self.affine, self.unit)])
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
    placement = prediction.placement(2)
    (labels,) = placement.volumes(((label, [_shape(prediction, label)]) for label in prediction), 1)
    uncertainty = placement.image(
        (label, 1 - np.abs(2 * one.occupancy - 1)) for label, one in prediction.items()
    )
    affine = placement.affine
    if placement.step == 1:
        labels, _ = _in_picture(prediction, labels, affine)
        uncertainty, affine = _in_picture(prediction, uncertainty, affine)
    depth = grid.translation((prediction.depth, 0.0, 0.0))
    return Completed(labels, uncertainty, depth @ affine, prediction.unit)


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
