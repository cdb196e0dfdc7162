"""Measure the cells of a 3D label volume, such as a user's own segmentation or a ground truth.

Knows arrays and voxel sizes, but no files, layers or models.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from napari_dispr import grid, signed_distance
from napari_dispr.errors import InputError
from napari_dispr.labels import as_array, cell_boxes, whole_numbers
from napari_dispr.shapes.meshes import affine_of, surface_mesh
from napari_dispr.shapes.morphometry import as_table, measures_of
from napari_dispr.shapes.one_shape import measure_shape
from napari_dispr.shapes.shapr_set import shapr_features

#: Sigma in voxels of the Gaussian that smooths the stairs of voxels.
SMOOTHING = 1.0
#: A mask is measured on a grid of at most about this many voxels, which limits time and memory.
LARGEST_GRID = 2**21
#: Masks of fewer voxels have a volume, but no surface that could be measured.
LEAST_VOXELS = 27
#: Relative difference between the volume of a mask's voxels and that of its surface: target, and limit.
_VOLUME_ERROR, _MOST_VOLUME_ERROR = 0.002, 0.01


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
        Nearly a signed distance in voxels, positive inside. Along long voxel axes, and for thin masks, it is
        finer than the mask; for masks of more than `LARGEST_GRID` voxels it is coarser.
    frame : (4, 4) array
        The affine from voxel-centre index of the level to world.

    Notes
    -----
    The signed distance at the mask's own spacing is interpolated linearly to voxels with about equal sides,
    and smoothed by a Gaussian of `SMOOTHING` voxels. It is then shifted so that the mesh of its zero level
    has the volume of the mask's voxels. Where smoothing removes too much of a thin mask, the voxels are
    halved. The mesh of the binary volume itself is a staircase whose area is 9 % too large at any resolution.
    docs/measures.md lists the errors.
    """
    affine = affine_of(frame)
    volume = float(np.count_nonzero(mask) * abs(np.linalg.det(affine[:3, :3])))
    coarser = 1
    while mask.size > LARGEST_GRID * coarser**3:
        coarser += 1
    occupancy, affine = _block_means(mask, affine, coarser)
    steps = np.linalg.norm(affine[:3, :3], axis=0)
    least = steps.min()
    distance = signed_distance.from_level(occupancy, 0.5, max(5 * least, 2 * steps.max()), steps.tolist())
    finer = np.maximum(np.rint(steps / least + 0.2), 1).astype(int)
    while finer.max() > 1 and occupancy.size * finer.prod() > LARGEST_GRID:
        finer[finer.argmax()] -= 1
    while True:
        zoom = ((np.array(distance.shape) - 1) * finer + 1) / distance.shape
        level = ndimage.zoom(distance / np.float32(least), zoom, order=1)
        level = ndimage.gaussian_filter(level, SMOOTHING, mode="nearest")
        fine = affine.copy()
        fine[:3, :3] /= finer
        shift, error = _keeping_volume(level, fine, volume)
        if error < _MOST_VOLUME_ERROR or level.size * 8 > LARGEST_GRID:
            return level - np.float32(shift), fine
        finer, least = 2 * finer, least / 2


def _block_means(
    mask: NDArray[np.bool_], affine: NDArray[np.float64], side: int
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """The share of each block of side^3 voxels inside a mask, with a margin of two blocks, and its affine."""
    margin = 2 * side
    padded = np.pad(mask, [(margin, margin + -length % side) for length in mask.shape])
    blocks = padded.reshape([part for length in padded.shape for part in (length // side, side)])
    moved = affine.copy()
    moved[:3, :3] *= side
    moved[:3, 3] = (affine @ [*[(side - 1) / 2 - margin] * 3, 1])[:3]
    return blocks.mean(axis=(1, 3, 5), dtype=np.float32), moved


def _keeping_volume(
    level: NDArray[np.float32], frame: NDArray[np.float64], volume: float
) -> tuple[float, float]:
    """The threshold of a level at which the mesh has a volume, and the relative error that is left.

    Starts from the threshold that as many voxels exceed. Then follow a step of Newton's method (the surface
    area is the derivative of the volume) and secant steps. One or two steps are enough, except for shapes of
    a few voxels.
    """
    count = round(volume / abs(np.linalg.det(frame[:3, :3])))
    count = min(max(count, 1), level.size - 1)
    shift = float(np.partition(level.ravel(), level.size - count)[level.size - count]) - 1e-3
    best, error = shift, np.inf
    before: tuple[float, float] | None = None
    for _ in range(8):
        mesh = surface_mesh(level - np.float32(shift), frame)
        if not len(mesh.faces):
            break
        excess = float(mesh.volume) - volume
        if abs(excess) < error * volume:
            best, error = shift, abs(excess) / volume
        if error < _VOLUME_ERROR:
            break
        slope = float(mesh.area) * float(np.linalg.norm(frame[:3, :3], axis=0).min())
        if before is not None and before[0] != shift and (before[1] - excess) / (shift - before[0]) > 0:
            slope = (before[1] - excess) / (shift - before[0])
        before = shift, excess
        shift += float(np.clip(excess / slope, -1, 1))
    return best, error


def measure_mask(mask: NDArray[np.bool_], frame: ArrayLike = (1.0, 1.0, 1.0)) -> dict[str, float]:
    """All of `MEASURES` of a binary volume (z, y, x); see `level_of` and `measure_shape`.

    Of a mask of fewer than `LEAST_VOXELS`, or so thin that no smooth surface keeps its volume, only volume,
    equivalent diameter and parts are measured. The others are NaN.
    """
    row = measure_shape(np.full((1, 1, 1), -1.0, np.float32))
    box = grid.box_of(mask)
    if box is None:
        return row
    mask = mask[box]
    voxels = int(np.count_nonzero(mask))
    volume = float(voxels * abs(np.linalg.det(affine_of(frame)[:3, :3])))
    if voxels >= LEAST_VOXELS:
        measured = measure_shape(*level_of(mask, frame))
        if abs(measured["volume"] - volume) <= _MOST_VOLUME_ERROR * volume:
            return measured
    parts = float(ndimage.label(mask)[1])
    return row | {"volume": volume, "equivalent_diameter": (6 * volume / np.pi) ** (1 / 3), "parts": parts}


def without_surface(table: pd.DataFrame) -> str:
    """A sentence on the cells of a table whose surface could not be measured; empty if there are none."""
    if "surface_area" not in table:
        return ""
    names = [str(label) for label in table["label"][table["surface_area"].isna() & (table["volume"] > 0)]]
    if not names:
        return ""
    listed = ", ".join(names[:20]) + (" and others" if len(names) > 20 else "")
    return (
        f"{'Cell' if len(names) == 1 else 'Cells'} {listed}: too small (fewer than {LEAST_VOXELS} voxels) or "
        "too thin for measures of the surface. Only volume, equivalent diameter and parts are given."
    )


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
        One row per cell, with the columns of `napari_dispr.measure`; ``member`` is 0. Measures that cannot
        be measured of a cell are NaN (see `measure_mask` and `without_surface`).

    Raises
    ------
    InputError
        If there is no such set, the labels are not whole numbers with three axes, or hold no cell, or no
        microscope has such voxels (`grid.check_spacing`).
    """
    measures, volume = measures_of(set), as_array(labels, "segmentation")
    if volume.ndim != 3:
        raise InputError(f"The labels have the shape {volume.shape}: give those of a 3D stack (z, y, x).")
    volume = whole_numbers(volume)
    if set == "shapr" and volume.shape != grid.SHAPE:
        raise InputError(
            f"The labels have the shape {volume.shape}, but the SHAPR set needs cells on the model grid of "
            "64 x 64 x 64 voxels: make a dataset of them first."
        )
    grid.check_spacing(frame)
    boxes = cell_boxes(volume)
    if not boxes:
        raise InputError("The labels are empty: segment at least one cell.")
    rows: list[dict[str, float]] = []
    for label, box in boxes.items():
        if set == "shapr":
            measured = shapr_features(volume == label)
        else:
            measured = measure_mask(volume[box] == label, frame)
        rows.append({"label": label, "member": 0, **measured})
        if progress is not None:
            progress(len(rows), len(boxes))
    return as_table(rows, measures, unit, set)
