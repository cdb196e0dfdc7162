"""Look for seams in predicted shapes: where blocks of voxels meet, and at the imaged plane.

    napari-dispr evaluate DATASET --model MODEL --methods model,cylinder --save-shapes --out EVALUATION
    python benchmarks/seams.py DATASET EVALUATION [--fold 4]

A network that folds blocks of n x n x n voxels into one token can be better at one place of a block than at
another. Error rates near the surface are therefore compared by voxel index modulo n; methods without blocks
are the reference. The correction of the imaged plane can leave a seam of its own.
"""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_dispr import grid
from napari_dispr.cells.folders import read_dataset
from napari_dispr.evaluation.report import number, table
from napari_dispr.evaluation.rows import trained_on
from napari_dispr.evaluation.shape_features import read_shapes
from napari_dispr.shapes.morphometry import iou
from napari_dispr.shapes.shapr_set import binarise

#: Only voxels at most this far from the true surface count.
NEAR_SURFACE = 3


def plane_agreement(shape: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """Mean IoU of the imaged plane with its two neighbours, minus that of the truth; below 0 is a seam."""

    def alike(volume: NDArray[np.bool_]) -> float:
        below, imaged, above = volume[grid.IMAGED_PLANE - 1 : grid.IMAGED_PLANE + 2]
        return (iou(below, imaged) + iou(imaged, above)) / 2

    return alike(shape) - alike(truth)


def errors_by_index(members: NDArray[np.bool_], truth: NDArray[np.bool_], fold: int) -> NDArray[np.int64]:
    """Count wrong voxels and all voxels near the true surface, (2, axis, voxel index modulo fold).

    Parameters
    ----------
    members : (member, z, y, x) array
    truth : (z, y, x) array
    """
    near = ndimage.binary_dilation(truth, iterations=NEAR_SURFACE)
    near &= ~ndimage.binary_erosion(truth, iterations=NEAR_SURFACE, border_value=1)
    counts = []
    for volume in (((members != truth) & near).sum(axis=0), near * len(members)):
        along = [volume.sum(axis=tuple({0, 1, 2} - {axis})) for axis in range(3)]
        counts.append([[planes[rest::fold].sum() for rest in range(fold)] for planes in along])
    return np.array(counts, dtype=np.int64)


def seams(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """(largest - smallest error rate) / mean rate along each axis, from the sum of `errors_by_index` over
    cells."""
    wrong, counted = counts
    rates = wrong / np.maximum(counted, 1)
    mean = rates.mean(axis=1)
    return np.where(mean == 0, 0.0, np.ptp(rates, axis=1) / np.where(mean == 0, 1.0, mean))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("evaluation", type=Path, help="folder of an evaluation with saved shapes")
    parser.add_argument("--fold", type=int, default=4, help="side of the blocks in voxels (4)")
    options = parser.parse_args()
    cells = read_dataset(options.dataset, need_objects=True)
    rows = []
    for folder in sorted((options.evaluation / "shapes").iterdir()):
        known = trained_on(options.evaluation, folder.name)
        counts, agreements = np.zeros((2, 3, options.fold), np.int64), []
        for cell in cells:
            if cell.name in known or not (folder / f"{cell.name}.tif").is_file() or cell.obj is None:
                continue
            members, truth = read_shapes(folder, cell.name), binarise(cell.obj)
            counts += errors_by_index(members, truth, options.fold)
            agreements += [plane_agreement(member, truth) for member in members]
        if agreements:
            found = [number(seam, 2) for seam in seams(counts)]
            rows.append([folder.name, *found, number(float(np.mean(agreements)), sign=True)])
    print(table(["method", "seam z", "y", "x", "plane agreement"], rows))


if __name__ == "__main__":
    main()
