"""How similar synthetic cells are to real ones: a kernel distance of named features, and panels side by side.

The distance is a KID (Binkowski et al., ICLR 2018): the unbiased squared maximum mean discrepancy with a
polynomial kernel. Its features are ours, so its values cannot be compared with those of others.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation

from napari_dispr.cells.cropping import crop_cell, cut_by_border
from napari_dispr.cells.features import GROUPS, features
from napari_dispr.errors import InputError
from napari_dispr.files import written_aside
from napari_dispr.labels import cell_boxes
from napari_dispr.shapes.measures import unit_sign
from napari_dispr.synthesis.annotated import Annotated, grey_range

Floats = NDArray[np.float64]

#: Features of the surroundings of a cell, relative to the range of the image: mean in the cell, contrast to
#: the ring around it, and standard deviation in that ring.
SURROUNDINGS = ("intensity", "contrast", "ring_sd")
#: All features: "extent" and "area" are logarithms of lengths and areas in the unit of the image.
FEATURES = (*(name for group in GROUPS.values() for name in group), *SURROUNDINGS)
#: Width of the ring in pixels, side of a cell on the grid of the features, and smallest cells, in pixels.
_RING, _SIDE, _SMALLEST = 3, 50.0, 30
#: Cells that are described of each set, and repetitions of the distance.
_MOST, _REPEATS = 400, 40
#: A distance needs at least this many cells in each of its sets, and the same in words.
_LEAST = 4
NEEDED = f"KID needs {2 * _LEAST} real and {_LEAST} synthetic cells that no border cuts; there are fewer."
#: Measures in the figure: column, title.
_PANELS = {
    "area": "area (log {unit}²)",
    "intensity": "mean intensity (share of range)",
    "contrast": "contrast to the surroundings",
    "core_1": "texture (log strength of details)",
}


@dataclass(frozen=True, slots=True)
class Distance:
    """A kernel distance: mean and standard deviation over random subsets of ``cells`` cells each."""

    mean: float
    sd: float
    cells: int


def cell_features(images: Iterable[Annotated]) -> pd.DataFrame:
    """Features of the cells of annotated images; of a cell in a stack, of one section, chosen at random.

    Single annotated slices cut their cells anywhere, so the largest sections of stacks that are annotated
    throughout, such as synthetic ones, would be of another kind.

    Returns
    -------
    DataFrame
        Columns ``image``, ``label`` and `FEATURES`. Cells that the border of a slice cuts, tiny ones and
        those with one grey value are left out. At most `_MOST` cells, chosen at random.
    """
    rows = []
    rng = np.random.default_rng(0)
    for one in images:
        labels, image = np.atleast_3d(one.labels.T).T, np.atleast_3d(one.image.T).T
        low, high = grey_range(image)
        pixel = float(np.mean(one.spacing[-2:]))
        for label, z in _sections(labels, rng).items():
            row = _described(image[z], labels[z], label, pixel, low, high)
            if row is not None:
                rows.append({"image": one.name, "label": label, **row})
    table = pd.DataFrame(rows, columns=["image", "label", *FEATURES])
    if len(table) > _MOST:
        chosen = np.sort(rng.permutation(len(table))[:_MOST])
        table = table.iloc[chosen].reset_index(drop=True)
    return table


def _sections(labels: NDArray[Any], rng: np.random.Generator) -> dict[int, int]:
    """One slice of each cell in which it is not tiny."""
    found: dict[int, list[int]] = {}
    for z, plane in enumerate(labels):
        values, counts = np.unique(plane[plane > 0], return_counts=True)
        for value in values[counts >= _SMALLEST].tolist():
            found.setdefault(value, []).append(z)
    return {label: slices[int(rng.integers(len(slices)))] for label, slices in found.items()}


def _described(
    image: NDArray[Any], labels: NDArray[Any], label: int, pixel: float, low: float, high: float
) -> dict[str, float] | None:
    box = cell_boxes((labels == label).astype(np.uint8))[1]
    if cut_by_border(labels, label, box):
        return None
    zoom = _SIDE / max(side.stop - side.start for side in box)
    try:
        crop = crop_cell(image.astype(np.float32), labels, label, zoom=zoom, box=box)
    except InputError:  # too thin
        return None
    found = features(crop.mask, crop.image)
    if "picture" not in found:
        return None
    row = {
        name: value
        for group, names in GROUPS.items()
        for name, value in zip(names, found[group], strict=True)
    }
    row["extent"] += float(np.log(pixel / zoom))
    row["area"] += float(2 * np.log(pixel / zoom))
    wide = tuple(slice(max(0, side.start - _RING), side.stop + _RING) for side in box)
    inside = labels[wide] == label
    ring = binary_dilation(inside, iterations=_RING) & (labels[wide] == 0)
    grey = (image[wide].astype(np.float64) - low) / max(high - low, 1e-9)
    around = grey[ring] if ring.sum() > 5 else grey[~inside]
    mean = float(grey[inside].mean())
    values = (mean, mean - float(around.mean()), float(around.std())) if around.size else (mean, 0.0, 0.0)
    return row | dict(zip(SURROUNDINGS, values, strict=True))


def squared_discrepancy(one: Floats, other: Floats) -> float:
    """The unbiased squared maximum mean discrepancy with the kernel (x . y / d + 1)^3; it may be below 0.

    ``one`` (n, d) and ``other`` (m, d) have at least two rows each.
    """

    def kernel(a: Floats, b: Floats) -> Floats:
        result: Floats = (a @ b.T / a.shape[1] + 1) ** 3
        return result

    def within(a: Floats) -> float:
        values = kernel(a, a)
        return float((values.sum() - np.trace(values)) / (len(a) * (len(a) - 1)))

    return within(one) + within(other) - 2 * float(kernel(one, other).mean())


def kernel_distances(real: pd.DataFrame, synthetic: pd.DataFrame) -> tuple[Distance, Distance]:
    """Distances between random halves of the real cells, and from real to synthetic ones.

    Features are standardised by the real cells. All subsets have the same number of cells. Values are NaN if
    there are fewer than 8 real or 4 synthetic cells.
    """
    centre = real[list(FEATURES)].mean()
    scale = real[list(FEATURES)].std().replace(0, 1).fillna(1)
    own, other = (
        ((table[list(FEATURES)] - centre) / scale).to_numpy(np.float64).clip(-10, 10)
        for table in (real, synthetic)
    )
    size = min(len(own) // 2, len(other))
    if size < _LEAST:
        return (Distance(np.nan, np.nan, size),) * 2
    rng = np.random.default_rng(0)
    halves, across = [], []
    for _ in range(_REPEATS):
        mixed = own[rng.permutation(len(own))]
        drawn = other[rng.permutation(len(other))[:size]]
        halves.append(squared_discrepancy(mixed[:size], mixed[size : 2 * size]))
        across.append(squared_discrepancy(mixed[:size], drawn))
    among, to_real = (Distance(float(np.mean(v)), float(np.std(v)), size) for v in (halves, across))
    return among, to_real


def save_panels(path: Path, tables: Mapping[str, pd.DataFrame], unit: str) -> None:
    """A figure with the distributions of area, intensity, contrast and texture of each set of cells."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.6, 3.3), layout="constrained")  # legible in the narrow window
    axes = figure.subplots(2, 2).ravel()
    for axis, (column, title) in zip(axes, _PANELS.items(), strict=True):
        values = {name: table[column].to_numpy(np.float64) for name, table in tables.items() if len(table)}
        edges = np.histogram_bin_edges(np.concatenate([*values.values()] or [np.zeros(1)]), bins=20)
        for name, own in values.items():
            axis.hist(own, edges, density=True, histtype="stepfilled", alpha=0.45, label=name)
        axis.set_xlabel(title.format(unit=unit_sign(unit)))
        axis.set_yticks([])
    for axis in axes[::2]:
        axis.set_ylabel("share of cells")
    axes[-1].legend(frameon=False)
    with written_aside(path) as aside:
        figure.savefig(aside, dpi=200)
