"""How well nuclei are drawn from a few planes of their stacks, wherever in them these planes lie.

    python benchmarks/coarse_stacks.py NUCLEI

Of each stack every seventh or fourteenth plane is used, from two first planes, with picture and labels; the
whole stack is the truth. ``generic`` was trained on some of these nuclei, cut near their middle.
"""

import sys
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray
from red_cell_kinds import summarised

import napari_dispr as nd
from napari_dispr import grid
from napari_dispr.cells.cropping import cut_by_border
from napari_dispr.labels import cell_boxes
from napari_dispr.shapes.ensemble import Ensemble
from napari_dispr.shapes.scores import iou

#: Stack, spacing (z, y, x) in micrometer, and every how many planes are used.
STACKS = (
    ("mouse_embryo_16cell", (1.75, 0.8, 0.8), 7),
    ("mouse_embryo_16cell", (0.97, 0.8, 0.8), 7),
    ("mouse_embryo_8cell", (0.97, 0.8, 0.8), 7),
    ("arabidopsis_ovule_1135", (0.284, 0.127, 0.127), 14),
    ("human_cells3d", (0.29, 0.26, 0.26), 7),
)


def scores(ensemble: Ensemble, is_cell: NDArray[np.bool_], spacing: NDArray[np.float64]) -> dict[str, float]:
    """Scores against a cell of a stack, of which parts may lie beyond the grid."""
    affine = ensemble.grid_to_world
    voxels = np.indices(grid.SHAPE).reshape(3, -1)
    place = np.rint((affine[:3, :3] @ voxels + affine[:3, 3:]) / spacing[:, None]).astype(int)
    inside = ((place >= 0) & (place < np.array(is_cell.shape)[:, None])).all(axis=0)
    seen = np.zeros(inside.shape, bool)
    seen[inside] = is_cell[tuple(place[:, inside])]
    whole = is_cell.sum() * spacing.prod() / abs(np.linalg.det(affine[:3, :3]))
    members = ensemble.members.reshape(len(ensemble.members), -1)

    def overlap(shape: NDArray[np.bool_]) -> float:
        both = np.count_nonzero(shape & seen)
        return float(both / (np.count_nonzero(shape) + whole - both))

    apart = np.mean([1 - iou(a, b) for i, a in enumerate(members) for j, b in enumerate(members) if i != j])
    bias = float(members.sum(axis=1).mean() / whole) - 1
    return {
        "volume": abs(bias),
        "bias": bias,
        "consensus": overlap(members.mean(axis=0) >= 0.5),
        "energy": float(np.mean([1 - overlap(one) for one in members]) - apart / 2),
    }


def main() -> None:
    folder = Path(sys.argv[1])
    rows: dict[str, list[dict[str, float]]] = {}
    cut = 0
    for name, spacing, step in STACKS:
        image, labels = (tifffile.imread(folder / kind / f"{name}.tif") for kind in ("image", "labels"))
        whole = [k for k, box in cell_boxes(labels).items() if not cut_by_border(labels, k, box)]
        labels = np.where(np.isin(labels, whole), labels, 0)
        for first in (2, 2 + step // 2):
            z = np.arange(first, len(labels), step)
            try:
                found = nd.predict(
                    image[z], labels[z], depths=z * spacing[0], model="generic", members=5, quality="fast",
                    image_to_world=np.diag([*spacing[1:], 1]), unit="micrometer",
                )  # fmt: skip
            except nd.InputError as error:  # neighbours lie above one another in so few planes
                print(f"{name}, planes {first}, {first + step}, ...: {error}")
                continue
            cut += sum(note.kind == "cut" for note in found.notes)
            for label, ensemble in found.ensembles.items():
                assert ensemble.section is not None
                sections = 1 + sum(plane.mask.any() for plane in ensemble.section.planes)
                row = scores(ensemble, labels == label, np.array(spacing))
                rows.setdefault(f"{min(sections, 3)}{'+' if sections > 2 else ''}", []).append(row)
    for sections in sorted(rows):
        figures = "  ".join(f"{key} {value:.3f}" for key, value in summarised(rows[sections]).items())
        print(f"{sections:3s} sections  {figures}")
    print(f"{cut} cells are cut by the border of the grid")


if __name__ == "__main__":
    main()
