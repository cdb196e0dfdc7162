"""Measures of the cells of a 3D label volume: a user's own segmentation, ground truth, another program's.

Knows arrays and the size of their voxels, nothing of files, layers or models.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from napari_dispr import grid, signed_distance
from napari_dispr.errors import InputError
from napari_dispr.shapes.measures import MEASURES
from napari_dispr.shapes.meshes import affine_of, surface_mesh
from napari_dispr.shapes.morphometry import column_texts, measure_shape
from napari_dispr.shapes.shapr_set import SHAPR_FEATURES, shapr_features

#: Sigma of the Gaussian, in voxels, that takes the stairs of voxels off a surface.
SMOOTHING = 1.0
#: Between the volume of a mask's voxels and that of its surface, as a share.
_VOLUME_ERROR = 0.002
#: Up to this label there is a list with an entry a label; above, labels are counted first.
_DENSE_LABELS = 2**20


def level_of(mask: NDArray[np.bool_], frame: ArrayLike = (1.0, 1.0, 1.0)) -> tuple[NDArray[np.float32], Any]:
    """A smooth surface around the voxels of a mask, as a level that is positive inside.

    Parameters
    ----------
    mask : (z, y, x) bool array
        Holds at least one voxel. What lies beyond the array is outside.
    frame : (3,) or (4, 4) array
        Size of a voxel along (z, y, x), or the affine from voxel-centre index to world.

    Returns
    -------
    level : (z', y', x') float32 array
        About a signed distance in voxels; finer than the mask along axes on which its voxels are long.
    frame : (4, 4) array
        Of the level; where it lies is not kept.

    Notes
    -----
    The signed distance at the mask's own spacing is interpolated linearly to voxels of about equal sides,
    smoothed by a Gaussian of `SMOOTHING` voxels, and shifted so that the mesh of its zero level has the
    volume of the mask's voxels. The mesh of a binary volume itself is a staircase whose area is 9 % too
    large at any resolution. docs/measures.md states the errors.
    """
    linear = affine_of(frame)[:3, :3]
    steps = np.linalg.norm(linear, axis=0)
    least = steps.min()
    limit = max(5 * least, 2 * steps.max())
    level = signed_distance.from_level(np.pad(mask, 2).astype(np.float32), 0.5, limit, steps.tolist()) / least
    finer = np.maximum(np.rint(steps / least + 0.2), 1).astype(int)
    for axis, times in enumerate(finer):
        if times > 1:
            level = _refined(level, axis, int(times))
    level = ndimage.gaussian_filter(level.astype(np.float32), SMOOTHING, mode="nearest")
    fine = np.eye(4)
    fine[:3, :3] = linear / finer

    wanted = float(np.count_nonzero(mask) * abs(np.linalg.det(linear)))
    # A level with about as many voxels above it, then a step of Newton, the area being the derivative of a
    # distance, and secants from there. One or two steps do, but for shapes of a few voxels.
    count = min(int(np.count_nonzero(mask) * finer.prod()), level.size - 1)
    shift = float(np.partition(level.ravel(), level.size - count)[level.size - count]) - 1e-3
    before: tuple[float, float] | None = None
    for _ in range(8):
        mesh = surface_mesh(level - np.float32(shift), fine)
        if not len(mesh.faces):
            break
        excess = float(mesh.volume) - wanted
        if abs(excess) < _VOLUME_ERROR * wanted:
            break
        slope = float(mesh.area) * least
        if before is not None and before[0] != shift and (before[1] - excess) / (shift - before[0]) > 0:
            slope = (before[1] - excess) / (shift - before[0])
        before = shift, excess
        shift += float(np.clip(excess / slope, -1, 1))
    level = level - np.float32(shift)
    if not (level > 0).any():  # less than a voxel was left
        level = level - level.max() + np.float32(0.01)
    return level, fine


def _refined(level: NDArray[np.float32], axis: int, times: int) -> NDArray[np.float32]:
    length = level.shape[axis]
    place = np.arange((length - 1) * times + 1) / times
    below = np.minimum(place.astype(int), length - 2)
    share = (place - below).reshape([-1 if a == axis else 1 for a in range(3)])
    return np.asarray(np.take(level, below, axis) * (1 - share) + np.take(level, below + 1, axis) * share)


def measure_mask(mask: NDArray[np.bool_], frame: ArrayLike = (1.0, 1.0, 1.0)) -> dict[str, float]:
    """All of `MEASURES` of a binary volume; see `level_of` and `measure_shape`.

    Parameters
    ----------
    mask : (z, y, x) bool array
    frame : (3,) or (4, 4) array
    """
    if not mask.any():
        return measure_shape(np.full((1, 1, 1), -1.0, np.float32))
    found = ndimage.find_objects(mask.astype(np.uint8))[0]
    mask = mask[found]
    level, fine = level_of(mask, frame)
    # SHAPR's two are of the voxels themselves, where these are cubes.
    same = level.shape == tuple(length + 4 for length in mask.shape)
    return measure_shape(level, fine, binary=np.pad(mask, 2) if same else None)


def iter_measure_labels(
    labels: ArrayLike, frame: ArrayLike = (1.0, 1.0, 1.0), set: str = "first"
) -> Iterator[tuple[dict[str, float], int]]:
    """As `measure_labels`, a row at a time, each with the number of all rows; close it to cancel."""
    volume = _checked(labels)
    if set == "shapr" and volume.shape != grid.SHAPE:
        raise InputError(
            f"The labels have the shape {volume.shape}: the SHAPR set is of cells on the model grid of 64 x "
            "64 x 64 voxels; cut a dataset of them first."
        )
    boxes = _boxes(volume)
    if not boxes:
        raise InputError("The labels hold no cell: segment at least one.")
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
    """Morphometry of the cells of a 3D label volume, as of predicted ones.

    Parameters
    ----------
    labels : (z, y, x) array of whole numbers
        0 is background, each other value a cell. Cells that the border cuts are measured as they are.
    frame : (3,) or (4, 4) array
        Distance from voxel to voxel along (z, y, x), or the affine from index to world.
    unit : str
        Of the frame.
    set : {"first", "shapr"}
        The measures of every table, or the features of the SHAPR notebooks.
    progress : callable, optional
        Called with the number of cells done and of all.

    Returns
    -------
    DataFrame
        A row a cell, with the columns that `napari_dispr.measure` gives; ``member`` is 0.
        ``attrs["columns"]`` says what each column is, with its unit.

    Raises
    ------
    InputError
        If the labels are no whole numbers of three axes, or hold no cell.
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


def _checked(labels: ArrayLike) -> NDArray[Any]:
    volume = np.asarray(labels)
    if volume.ndim != 3:
        raise InputError(f"The labels have the shape {volume.shape}: give those of a 3D stack (z, y, x).")
    if volume.dtype.kind == "b":
        return volume.astype(np.uint8)
    if volume.dtype.kind == "f":
        if not np.isfinite(volume).all():
            raise InputError("The labels hold NaN or infinite values: replace them by 0, the background.")
        if (volume != np.rint(volume)).any():
            raise InputError(
                "The labels hold fractions, as images do: give labels of whole numbers, one a cell."
            )
        volume = volume.astype(np.int64)
    if volume.dtype.kind not in "ui":
        raise InputError(f"The labels have the data type {volume.dtype}: convert them to whole numbers.")
    if volume.size and volume.min() < 0:
        raise InputError("The labels hold negative values: mark the background by 0, cells by values above.")
    return volume


def _boxes(volume: NDArray[Any]) -> dict[int, tuple[slice, ...]]:
    """The bounding box of each cell, by label."""
    if not volume.size:
        return {}
    if int(volume.max()) <= _DENSE_LABELS:
        boxes = ndimage.find_objects(volume.astype(np.int32, copy=False))
        return {label: box for label, box in enumerate(boxes, start=1) if box is not None}
    values, index = np.unique(volume, return_inverse=True)
    boxes = ndimage.find_objects(index.reshape(volume.shape).astype(np.int32) + 1)
    return {int(value): box for value, box in zip(values, boxes, strict=True) if value > 0}
