"""Make docs/images/known-shapes.png: true shapes of simulated red blood cells, and members of each.

python benchmarks/red_cell_kinds.py --models red-blood-cell --of-each 2 --seed 3000 --out KINDS
python docs/make_known_shapes_picture.py KINDS --model red-blood-cell --number 1
"""

import argparse
from pathlib import Path

import matplotlib
import numpy as np
from scipy.ndimage import gaussian_filter

from napari_dispr.cells.folders import read_dataset
from napari_dispr.shapes.shading import shaded

matplotlib.use("Agg")
from matplotlib import pyplot

KINDS = ("spherocyte", "discocyte", "stomatocyte I", "stomatocyte II", "elliptocyte", "keratocyte")
MEMBERS = 4
TRUTH, MEMBER = (1.0, 0.8, 0.45), (0.55, 0.8, 1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("kinds", type=Path, help="folder of red_cell_kinds.py")
    parser.add_argument("--model", default="red-blood-cell", help="folder of the members in it")
    parser.add_argument("--number", type=int, default=0, help="which cell of each kind (0)")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "images" / "known-shapes.png")
    options = parser.parse_args()
    cells = {cell.name: cell for cell in read_dataset(options.kinds / "cells", need_objects=True)}
    figure, axes = pyplot.subplots(
        len(KINDS), MEMBERS + 2, figsize=(1.5 * (MEMBERS + 2), 1.5 * len(KINDS)), facecolor="black"
    )
    for row, kind in zip(axes, KINDS, strict=True):
        cell = cells[f"{kind}-{options.number:03d}"]
        with np.load(options.kinds / options.model / f"{cell.name}.npz") as file:
            members = file["signed_distance"][:MEMBERS].astype(np.float32)
        assert cell.obj is not None and cell.image is not None
        truth = gaussian_filter(cell.obj / np.float32(127.5) - 1, 0.7)
        row[0].imshow(cell.image, cmap="gray")
        row[0].contour(cell.mask, [0.5], colors=["orange"], linewidths=1)
        row[1].imshow(np.clip(shaded(truth, TRUTH), 0, 1))
        for place, member in zip(row[2:], members, strict=True):
            place.imshow(np.clip(shaded(member, MEMBER), 0, 1))
        row[0].set_ylabel(kind, color="white")
    for place, title in zip(axes[0], ("picture", "true shape", *["member"] * MEMBERS), strict=True):
        place.set_title(title, color="white", fontsize=9)
    for place in axes.flat:
        place.set(xticks=[], yticks=[], facecolor="black")
    figure.tight_layout(pad=0.3)
    figure.savefig(options.out, dpi=100, facecolor="black")


if __name__ == "__main__":
    main()
