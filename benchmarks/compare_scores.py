"""Scores of drawn shapes for ``compare.py``: a row a member, a row a cell, a summary a method."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from napari_dispr import grid
from napari_dispr.card import Card
from napari_dispr.cells.folders import CellFile
from napari_dispr.errors import InputError
from napari_dispr.evaluation.comparison import statistics
from napari_dispr.shapes import scores
from napari_dispr.shapes.intervals import read_interval
from napari_dispr.shapes.morphometry import binarise, iou, measure_shape, relative_error, shapr_measures

#: Measures whose relative errors are told, and what they are.
MEASURES = {
    "volume": "voxels inside",
    "surface_mesh": "area of the unsmoothed marching-cubes mesh",
    "surface_voxel": "voxels with background in their 3 x 3 x 3 neighbourhood",
    "roughness_voxel": "voxels that a Gaussian of sigma 2 changes",
    "roughness_mesh": "what Humphrey's filter moves the mesh's vertices by",
    "curvature": "mean curvature averaged over the mesh (integral of mean curvature / area: bounded)",
}
#: Measures that have intervals and a CRPS; by their names in a card.
INTERVALS = {"volume": "volume", "surface_mesh": "surface_area"}
LEVELS = (0.5, 0.8, 0.9)
#: Index modulo which seams are looked for: a multiple of the folds in use.
FOLD = 4
#: What methods are compared by, cell by cell.
PAIRED = {
    "error_volume": "error of the estimate of volume",
    "error_surface_mesh": "error of the estimate of surface",
    "consensus_iou": "IoU of the consensus",
    "energy_score": "energy score",
}


def measures_of(shape: NDArray[np.bool_]) -> dict[str, float]:
    """All of `MEASURES` of a binary volume; 0 throughout for an empty one."""
    if not shape.any():
        return dict.fromkeys(MEASURES, 0.0)
    # Of the binary volume, as the others are: rivals know no distances, and the truth is the same for all.
    curvature = measure_shape(shape - np.float32(0.5), only={"curvature"})["curvature"]
    return {**shapr_measures(shape), "curvature": curvature}


class Truth:
    """A cell's object and mask, measured once for all methods."""

    def __init__(self, cell: CellFile) -> None:
        if cell.obj is None:
            raise InputError(f"The cell {cell.name} has no object to compare with: add obj/{cell.name}.tif.")
        self.name = cell.name
        self.obj = binarise(cell.obj)
        self.section = np.asarray(cell.mask) > 0.5
        self.measures = measures_of(self.obj)
        self.thin = scores.thin_parts(self.obj)


def member_row(
    shape: NDArray[np.bool_], before: NDArray[np.bool_], truth: Truth
) -> tuple[dict[str, float], dict[str, float]]:
    """A member's measures, and its errors and agreements.

    Parameters
    ----------
    shape : (64, 64, 64) bool array
    before : (64, 64) bool array
        The imaged plane before any correction.
    truth : Truth
    """
    measures = measures_of(shape)
    errors = {f"error_{name}": relative_error(measures[name], truth.measures[name]) for name in MEASURES}
    thin = np.count_nonzero(truth.thin)
    return measures, {
        **errors,
        "volume_bias": measures["volume"] / truth.measures["volume"] - 1,
        "iou": iou(shape, truth.obj),
        "thin_recall": np.count_nonzero(shape & truth.thin) / thin if thin else np.nan,
        "plane_iou_before": iou(before, truth.section),
        "plane_iou": iou(shape[grid.IMAGED_PLANE], truth.section),
        "plane_agreement": scores.plane_agreement(shape, truth.obj),
    }


def intervals_of(card: Card, measures: pd.DataFrame) -> dict[tuple[str, float], tuple[float, float]]:
    """Intervals by the calibration in a model's card, by (measure, level); none where it has none."""
    return {
        (name, level): read_interval(measures[name], card.intervals[calibrated], level)
        for name, calibrated in INTERVALS.items()
        for level in LEVELS
        if calibrated in card.intervals
    }


def cell_row(
    members: NDArray[np.bool_],
    measures: pd.DataFrame,
    truth: Truth,
    intervals: Mapping[tuple[str, float], tuple[float, float]],
) -> dict[str, float]:
    """What the members of a cell tell together.

    Parameters
    ----------
    members : (member, 64, 64, 64) bool array
    measures : DataFrame
        A row a member, a column a measure.
    truth : Truth
    intervals : mapping of (measure, level) to (low, high)
    """
    row: dict[str, float] = {"members": len(members)}
    for name in MEASURES:
        estimate = float(measures[name].mean())
        row |= {f"true_{name}": truth.measures[name], f"estimate_{name}": estimate}
        row[f"error_{name}"] = relative_error(estimate, truth.measures[name])
    row["volume_bias"] = row["estimate_volume"] / truth.measures["volume"] - 1
    row["consensus_iou"] = scores.consensus_iou(members, truth.obj)
    row["best_iou"] = scores.best_iou(members, truth.obj)
    row["energy_score"] = scores.energy_score(members, truth.obj)
    row["diversity"] = scores.diversity(members)
    for name in INTERVALS:
        row[f"crps_{name}"] = scores.crps(measures[name], truth.measures[name]) / truth.measures[name]
    for (name, level), (low, high) in intervals.items():
        row |= {f"low_{name}_{level:.0%}": low, f"high_{name}_{level:.0%}": high}
    return row


def coverage(cells: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Coverage and mean relative width of the intervals in a method's cells; empty where it has none."""
    found: dict[str, dict[str, Any]] = {}
    for name in INTERVALS:
        for level in LEVELS:
            ends = [f"{end}_{name}_{level:.0%}" for end in ("low", "high")]
            if not set(ends) <= set(cells):
                continue
            known = cells[cells[ends].notna().all(axis=1)]
            if known.empty:
                continue
            covered, width = scores.interval_coverage_and_width(
                known[ends[0]], known[ends[1]], known[f"true_{name}"]
            )
            # A cell that could not be drawn has no interval, and so none that holds its truth.
            covered *= len(known) / len(cells)
            found.setdefault(name, {})[f"{level:.0%}"] = {"coverage": covered, "width": width}
    return found


def summary(members: pd.DataFrame, cells: pd.DataFrame, fold_error: scores.FoldError) -> dict[str, Any]:
    """A method's summary from the rows of its members and of its cells."""
    of_members = [name for name in map(str, members) if name.startswith("error_")]
    of_members += ["iou", "thin_recall", "plane_iou_before", "plane_iou", "plane_agreement"]
    of_cells = [name for name in map(str, cells) if name.startswith(("error_", "crps_"))]
    of_cells += ["volume_bias", "consensus_iou", "best_iou", "energy_score", "diversity", "seconds"]
    return {
        "n": len(cells),
        "failed": {row.cell: row.failed for row in cells.itertuples() if row.failed},
        "members": {name: statistics(members[name]) for name in of_members},
        "estimate": {name: statistics(cells[name]) for name in of_cells},
        "intervals": coverage(cells),
        "fold": {
            "modulo": FOLD,
            "rates": fold_error.rates.tolist(),
            "seams": fold_error.seams.tolist(),
            "seam": fold_error.seam,
        },
    }


def without_picture(evaluated: Sequence[Truth], others: Sequence[CellFile]) -> dict[str, Any]:
    """Coverage and width of intervals read off the other cells alone: what a picture has to beat.

    Where fewer than 20 cells are left over, each cell's interval is that of all cells but itself.
    """
    # Two measures are needed, not all six.
    rest = [shapr_measures(binarise(cell.obj)) for cell in others if cell.obj is not None]
    rows = []
    for truth in evaluated:
        known = rest if len(rest) >= 20 else [*rest, *(o.measures for o in evaluated if o is not truth)]
        row: dict[str, float] = {}
        for name in INTERVALS:
            row[f"true_{name}"] = truth.measures[name]
            values = [measures[name] for measures in known]
            for level in LEVELS:
                low, high = (
                    np.percentile(values, [50 - 50 * level, 50 + 50 * level]) if values else (np.nan,) * 2
                )
                row |= {f"low_{name}_{level:.0%}": low, f"high_{name}_{level:.0%}": high}
        rows.append(row)
    return coverage(pd.DataFrame(rows))


def paired(cells: pd.DataFrame, pairs: Sequence[tuple[str, str]], seed: int) -> list[dict[str, Any]]:
    """Paired differences of `PAIRED`, the first method less the second, on the cells that both drew."""
    found = []
    by_method = {name: rows.set_index("cell") for name, rows in cells.groupby("method", sort=False)}
    for first, second in pairs:
        common = by_method[first].index.intersection(by_method[second].index)
        for column in PAIRED:
            ours, theirs = (by_method[name].loc[common, column] for name in (first, second))
            difference = scores.paired_difference(ours, theirs, seed)
            found.append(
                {"first": first, "second": second, "measure": column, "decided": difference.decided}
                | asdict(difference)
            )
    return found
