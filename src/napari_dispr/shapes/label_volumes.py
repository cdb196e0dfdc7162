"""Measure the cells of a 3D label volume, such as a user's own segmentation or a ground truth.

Knows arrays and voxel sizes, but no files, layers or models.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from napari_dispr import grid, signed_distance
from napari_dispr.errors import InputError
from napari_dispr.labels import cell_boxes, whole_numbers
from napari_dispr.shapes.measures import MEASURES
from napari_dispr.shapes.meshes import affine_of, surface_mesh
from napari_dispr.shapes.morphometry import column_texts, measure_shape
from napari_dispr.shapes.shapr_set import SHAPR_FEATURES, shapr_features

#: Sigma in voxels of the Gaussian that smooths the stairs of voxels.
SMOOTHING = 1.0
#: Allowed relative difference between the volume of a mask's voxels and that of its surface.
_VOLUME_ERROR = 0.002


def level_of(mask: NDArray[np.bool_], frame: ArrayLike = (1.0, 1.0, 1.0)) -> tuple[NDArray[np.float32], Any]:
    """A smooth surface around the voxels of a mask that keeps their volume, as the zero of a level.

    Parameters
    ----------
    mask : (z, y, x) bool array
        Holds at least one voxel. Beyond the array is outside.
    frame : (3,) or (4, 4) array
        Size of a voxel along (z, y, x), or the affine from voxel-centre index to world.

    Returns
    -------
    level : (z', y', x') float32 array
        Nearly a signed distance in voxels, positive inside. Along long voxel axes it is finer than the mask.
    frame : (4, 4) array
        The affine from voxel-centre index of the level to world.

    Notes
    -----
    The signed distance at the mask's own spacing is interpolated linearly to voxels with about equal sides,
    smoothed by a Gaussian of `SMOOTHING` voxels, and shifted so that the mesh of its zero level has the
    volume of the mask's voxels. The mesh of the binary volume itself is a staircase whose area is 9 % too
    large at any resolution. docs/measures.md lists the errors.
    """
    affine = affine_of(frame)
    linear = affine[:3, :3]
    steps = np.linalg.norm(linear, axis=0)
    least = steps.min()
    limit = max(5 * least, 2 * steps.max())
    margin = 2
    occupancy = np.pad(mask, margin).astype(np.float32)
    level = signed_distance.from_level(occupancy, 0.5, limit, steps.tolist()) / least
    finer = np.maximum(np.rint(steps / least + 0.2), 1).astype(int)
    for axis, times in enumerate(finer):
        if times > 1:
            level = _refined(level, axis, int(times))
    level = ndimage.gaussian_filter(level.astype(np.float32), SMOOTHING, mode="nearest")
    fine = np.eye(4)
    fine[:3, :3] = linear / finer
    fine[:3, 3] = (affine @ [-margin, -margin, -margin, 1])[:3]
    voxels = int(np.count_nonzero(mask))
    shift = _keeping_volume(level, fine, voxels * finer.prod(), float(voxels * abs(np.linalg.det(linear))))
    level = level - np.float32(shift)
    if not (level > 0).any():  # less than a voxel was left
        level = level - level.max() + np.float32(0.01)
    return level, fine


def _keeping_volume(
    level: NDArray[np.float32], frame: NDArray[np.float64], count: int, volume: float
) -> float:
    """The threshold of a level at which the mesh has a volume.

    Starts from the threshold that ``count`` voxels exceed. Then follow a step of Newton's method (the surface
    area is the derivative of the volume) and secant steps. One or two steps are enough, except for shapes of
    a few voxels.
    """
    count = min(int(count), level.size - 1)
    shift = float(np.partition(level.ravel(), level.size - count)[level.size - count]) - 1e-3
    before: tuple[float, float] | None = None
    for _ in range(8):
        mesh = surface_mesh(level - np.float32(shift), frame)
        if not len(mesh.faces):
            break
        excess = float(mesh.volume) - volume
        if abs(excess) < _VOLUME_ERROR * volume:
            break
        slope = float(mesh.area) * float(np.linalg.norm(frame[:3, :3], axis=0).min())
        if before is not None and before[0] != shift and (before[1] - excess) / (shift - before[0]) > 0:
            slope = (before[1] - excess) / (shift - before[0])
        before = shift, excess
        shift += float(np.clip(excess / slope, -1, 1))
    return shift


def _refined(level: NDArray[np.float32], axis: int, times: int) -> NDArray[np.float32]:
    length = level.shape[axis]
    place = np.arange((length - 1) * times + 1) / times
    below = np.minimum(place.astype(int), length - 2)
    share = (place - below).reshape([-1 if a == axis else 1 for a in range(3)])
    return np.asarray(np.take(level, below, axis) * (1 - share) + np.take(level, below + 1, axis) * share)


def measure_mask(mask: NDArray[np.bool_], frame: ArrayLike = (1.0, 1.0, 1.0)) -> dict[str, float]:
    """All of `MEASURES` of a binary volume (z, y, x); see `level_of` and `measure_shape`."""
    if not mask.any():
        return measure_shape(np.full((1, 1, 1), -1.0, np.float32))
    found = ndimage.find_objects(mask.astype(np.uint8))[0]
    mask = mask[found]
    return measure_shape(*level_of(mask, frame))


def iter_measure_labels(
    labels: ArrayLike, frame: ArrayLike = (1.0, 1.0, 1.0), set: str = "first"
) -> Iterator[tuple[dict[str, float], int]]:
    """As `measure_labels`, row by row, each with the total number of rows."""
    volume = np.asarray(labels)
    if volume.ndim != 3:
        raise InputError(f"The labels have the shape {volume.shape}: give those of a 3D stack (z, y, x).")
    volume = whole_numbers(volume)
    if set == "shapr" and volume.shape != grid.SHAPE:
        raise InputError(
            f"The labels have the shape {volume.shape}, but the SHAPR set needs cells on the model grid of "
            "64 x 64 x 64 voxels: make a dataset of them first."
        )
    boxes = cell_boxes(volume)
    if not boxes:
        raise InputError("The labels are empty: segment at least one cell.")
    for label, box in boxes.items():
        row: dict[str, float] = {"label": label, "member": 0}
        if set == "shapr":
            row |= shapr_features(volume == label)
        else:
            row |= measure_mask(volume[box] == label, frame)
        yield row, len(boxes)


def measure_labels(
    labels: ArrayLike,
    frame: ArrayLike = (1.0, 1.0, 1.0),
    unit: str = "pixel",
    *,
    set: str = "first",
    progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """Morphometry of the cells of a 3D label volume, with the measures of predicted shapes.

    Parameters
    ----------
    labels : (z, y, x) array of whole numbers
        0 is background, each other value is a cell. A cell at the border is closed there.
    frame : (3,) or (4, 4) array
        Size of a voxel along (z, y, x), or the affine from voxel-centre index to world.
    unit : str
        Of the frame.
    set : {"first", "shapr"}
        The measures of every table, or the features of the SHAPR notebooks.
    progress : callable, optional
        Called with the number of cells done and the total.

    Returns
    -------
    DataFrame
        One row per cell, with the columns of `napari_dispr.measure`; ``member`` is 0.

    Raises
    ------
    InputError
        If the labels are not whole numbers with three axes, or hold no cell.
    """
    rows = []
    for row, total in iter_measure_labels(labels, frame, set):
        rows.append(row)
        if progress is not None:
            progress(len(rows), total)
    measures = SHAPR_FEATURES if set == "shapr" else MEASURES
    table = pd.DataFrame(rows, columns=["label", "member", *measures])
    table.attrs["columns"] = column_texts(measures, "voxel" if set == "shapr" else unit)
    return table
