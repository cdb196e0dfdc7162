"""Simulated cells as a source of populations: nuclei of many kinds, and red blood cells as in a disease."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter

from napari_dispr import grid
from napari_dispr.synthesis import stacks
from napari_dispr.synthesis.background import Background
from napari_dispr.synthesis.cell_sources import CellSource, TexturedCell
from napari_dispr.synthesis.implicit import Floats, Shape, turned
from napari_dispr.synthesis.red_cell_crops import red_cell_pose
from napari_dispr.synthesis.red_cells import KINDS
from napari_dispr.synthesis.settings import Microscope

#: Spherocytes, discocytes, stomatocytes and echinocytes: the "SDE" shapes of Simionato et al. (2021).
SDE = tuple(kind for kind in KINDS if any(word in kind for word in ("sphero", "disco", "stomato", "echino")))
#: Ranges of the share of each kind in blood, after Simionato et al. (2021); "SDE" are all of those. What is
#: left is divided among the other kinds as in their data.
BLOOD: dict[str, dict[str, tuple[float, float]]] = {
    "healthy blood": {
        "SDE": (0.87, 0.99),
        "keratocyte": (0, 0.04),
        "knizocyte": (0, 0.023),
        "acanthocyte": (0, 0.004),
    },
    "hereditary spherocytosis": {
        "SDE": (0.44, 0.83),
        "keratocyte": (0.02, 0.15),
        "acanthocyte": (0.01, 0.22),
    },
}
#: Names of the simulated sources.
SIMULATED = ("nuclei", *BLOOD)

#: Half side of the box in which a red blood cell is drawn, micrometer; a cell that is larger is replaced.
_REACH = 7.5
#: Depth of a membrane's middle inside the edge, its thickness, and dye in the cell relative to it.
_MEMBRANE = (0.25, 0.16, 0.3)
#: Standard deviation of the depth of focus of a 2D image, micrometer.
_FOCUS = 0.6
#: Least distance of the planes of which a 2D image is made, micrometer.
_PLANES = 0.3

#: Diameter of a ball with the volume of a usual nucleus, and of a red blood cell, micrometer.
_NUCLEUS, _RED_CELL = 2 * float(np.mean(stacks.RADII)), 5.6

_Drawn = tuple[Floats, Floats, str]


def simulated_source(name: str, spacing: Sequence[float]) -> CellSource:
    """Simulated cells, one of ``SIMULATED``, as a source: sharp dye of brightness 0 to about 1, for a
    simulated microscope.

    ``spacing`` is in micrometer. 2D cells are what a microscope sees of a 3D cell at the plane through its
    middle. Raises an InputError if the spacing does not suit a microscope.
    """
    steps = np.asarray(spacing, np.float64)
    whole = steps if len(steps) == 3 else np.array([max(_PLANES, steps.mean()), *steps])
    grid.check_spacing(whole, "micrometer")

    def draw(rng: np.random.Generator, count: int) -> Iterator[TexturedCell]:
        shares = blood_shares(name, rng) if name in BLOOD else None
        number = 0
        while True:
            level, dye, kind = _nucleus(rng, whole) if shares is None else _red_cell(rng, whole, shares)
            cell = _cell(level, dye, len(steps), whole, f"{kind} {number}")
            number += 1
            if cell is not None:
                yield cell

    diameter = _NUCLEUS if name == "nuclei" else _RED_CELL
    return CellSource(
        name=name,
        spacing=tuple(float(step) for step in steps),
        unit="micrometer",
        background=Background(level=0.03, unevenness=0.006, length=30.0),
        draw=draw,
        volume=(np.pi / 4 if len(steps) == 2 else np.pi / 6) * diameter ** len(steps),
        microscope=Microscope(),
        card={"simulated": name},
    )


def blood_shares(name: str, rng: np.random.Generator) -> dict[str, float]:
    """The share of each kind of red blood cells in a population of ``BLOOD``, drawn from its ranges."""
    ranges = BLOOD[name]
    drawn = {name: rng.uniform(*limits) for name, limits in ranges.items()}
    others = [kind for kind in KINDS if kind not in SDE and kind not in ranges]
    rest = max(0.0, 1 - sum(drawn.values()))
    shares = {kind: drawn[kind] for kind in ranges if kind in KINDS}
    for kinds, share in ((SDE, drawn["SDE"]), (others, rest)):
        counts = {kind: KINDS[kind][1] for kind in kinds}
        shares |= {kind: share * count / sum(counts.values()) for kind, count in counts.items()}
    return {kind: share / sum(shares.values()) for kind, share in shares.items()}


def _rendered(shape: Shape, reach: float, scale: float, steps: NDArray[np.float64]) -> Floats:
    """Share of each voxel that a shape fills, (z, y, x); the shape's unit is ``scale`` micrometer."""
    half = np.ceil(reach / steps).astype(int)
    box = tuple(slice(0, 2 * int(n)) for n in half)
    return stacks.filled_share(shape, box, half * steps, scale, steps)


def _nucleus(rng: np.random.Generator, steps: NDArray[np.float64]) -> _Drawn:
    radius = rng.uniform(*stacks.RADII)
    level = _rendered(stacks.nucleus(rng), stacks.REACH * radius, radius, steps)
    inside = level > 0.5
    dye = 1 + rng.uniform(0.1, 0.3) * stacks.mottled(level.shape, steps, rng)
    if inside.any():
        box = tuple(slice(0, length) for length in level.shape)
        dye *= stacks.without_nucleoli(box, inside, steps, rng)
    return level, rng.uniform(0.55, 1.0) * level * np.maximum(dye, 0.05), "nucleus"


def _red_cell(rng: np.random.Generator, steps: NDArray[np.float64], shares: Mapping[str, float]) -> _Drawn:
    kind = str(rng.choice(list(shares), p=list(shares.values())))
    cell = KINDS[kind][0](rng)
    level = _rendered(turned(cell.shape, red_cell_pose(cell, rng)), _REACH, 1.0, steps)
    depth, thickness, cytosol = _MEMBRANE
    inside = level > 0.5
    distance = distance_transform_edt(inside, sampling=steps) - distance_transform_edt(
        ~inside, sampling=steps
    )
    distance = distance.astype(np.float32) - np.float32(depth)
    membrane = np.exp(-(distance**2) / np.float32(2 * thickness**2))
    dye = membrane + np.float32(cytosol) * np.clip(distance / np.float32(depth) + 0.5, 0, 1)
    uneven = gaussian_filter(rng.normal(size=level.shape).astype(np.float32), 0.5 / steps)
    return level, rng.uniform(0.7, 1.1) * dye * (1 + 0.08 * uneven / max(float(uneven.std()), 1e-6)), kind


def _cell(
    level: Floats, dye: Floats, ndim: int, steps: NDArray[np.float64], source: str
) -> TexturedCell | None:
    """The cell with a margin; None if the box cuts it or, in 2D, its plane is empty."""
    mask = level > 0.5
    if not mask.any() or any(mask.take(end, axis=axis).any() for axis in range(3) for end in (0, -1)):
        return None
    if ndim == 2:
        heights = np.flatnonzero(mask.any(axis=(1, 2)))
        middle = int(heights.mean())
        focus = np.exp(-(((np.arange(len(mask)) - middle) * steps[0] / _FOCUS) ** 2) / 2)
        dye = np.tensordot((focus / focus.sum()).astype(np.float32), dye, 1)
        mask = mask[middle]
        if not mask.any():
            return None
    margin = np.ceil(np.maximum(1, 0.6 / steps[-ndim:])).astype(int)
    box = grid.box_of(mask, margin)
    return TexturedCell(mask[box], dye[box].astype(np.float32), source)
