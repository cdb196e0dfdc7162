"""Tables of measures in the image's units, and errors between two shapes.

Knows neither how shapes are drawn nor how tables are shown.
"""

from collections.abc import Collection, Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from napari_dispr.card import Calibration
from napari_dispr.shapes.ensemble import MODE_DISTANCE, Ensemble
from napari_dispr.shapes.intervals import LEVEL, read_interval
from napari_dispr.shapes.measures import HEADLINE, MASK_MEASURES, MEASURES, PICTURE_MEASURES, Measure
from napari_dispr.shapes.one_shape import measure_shape
from napari_dispr.shapes.shapr_set import (
    SHAPR_FEATURES,
    SHAPR_MEASURES,
    binarise,
    shapr_features,
    shapr_measures,
)

__all__ = [
    "HEADLINE",
    "MEASURES",
    "SETS",
    "SHAPR_MEASURES",
    "Measure",
    "agreement",
    "binarise",
    "column_texts",
    "iou",
    "measure_ensembles",
    "measure_shape",
    "relative_error",
    "shapr_measures",
    "summarise",
]

#: Sets of measures by their names.
SETS: dict[str, dict[str, Measure]] = {"first": MEASURES, "shapr": SHAPR_FEATURES}
_ALL = MEASURES | MASK_MEASURES | PICTURE_MEASURES | SHAPR_FEATURES


def measure_ensembles(
    ensembles: Mapping[int, Ensemble], *, only: Collection[str] | None = None, set: str = "first"
) -> pd.DataFrame:
    """Morphometry table of a prediction.

    Parameters
    ----------
    ensembles : mapping of label to Ensemble
    only : collection of str, optional
        The names of `MEASURES` that are wanted.
    set : {"first", "shapr"}
        `MEASURES`, or the features of the SHAPR notebooks in their place.

    Returns
    -------
    DataFrame
        A row a cell and member, columns ``label``, ``member`` and those of the set.
        ``attrs["columns"]`` maps each column to its unit and meaning.

    Raises
    ------
    ValueError
        The ensembles are in different units, or there is no such set.
    """
    if set not in SETS:
        raise ValueError(f"there is no set {set!r} of measures: choose among {', '.join(SETS)}")
    measures = {name: one for name, one in SETS[set].items() if only is None or name in only}
    rows = [
        {
            "label": ensemble.label,
            "member": member,
            **(
                shapr_features(distance > 0)
                if set == "shapr"
                else measure_shape(distance, ensemble.grid_to_world, measures)
            ),
        }
        for ensemble in ensembles.values()
        for member, distance in zip(ensemble.numbers, ensemble.signed_distance, strict=True)
    ]
    table = pd.DataFrame(rows, columns=["label", "member", *measures])
    units = {ensemble.unit for ensemble in ensembles.values()} or {"pixel"}
    if len(units) > 1:
        raise ValueError(
            f"ensembles in different units ({', '.join(sorted(units))}) do not go into one table"
        )
    table.attrs["columns"] = column_texts(measures, "voxel" if set == "shapr" else units.pop())
    return table


def column_texts(measures: Mapping[str, Measure], unit: str) -> dict[str, str]:
    """The column dictionary of a table of measures: of each column "unit: meaning"."""
    return {
        "label": "no unit: value of the cell in the label layer",
        "member": "no unit: number of the member in the cell's ensemble, from 0",
        **{name: measure.column(unit) for name, measure in measures.items()},
    }


def summarise(table: pd.DataFrame, intervals: Mapping[str, Calibration] | None = None) -> pd.DataFrame:
    """Mean, standard deviation and interval of each measure over the members of each cell.

    Parameters
    ----------
    table : DataFrame
        From `measure_ensembles`.
    intervals : mapping of measure to Calibration, optional
        What intervals are read from (a model's card has them).

    Returns
    -------
    DataFrame
        A row a cell, in the table's order: ``label``, ``members`` (their number), then ``volume_mean``,
        ``volume_sd`` and, where there is a calibration, ``volume_low`` and ``volume_high``, between which
        the true value lies with a probability of 90 %; and so on. The standard deviation is the sample's
        (n - 1), NaN for one member; members without a value (empty shapes) are left out of all but the
        volume. ``attrs["columns"]`` maps each column to its unit and meaning.
    """
    cells = table.groupby("label", sort=False)
    known = table.attrs.get("columns", {})
    names = [name for name in table.columns if name not in ("label", "member") and name in _ALL]
    means, sds, sizes = cells[names].mean(), cells[names].std(), cells.size()
    columns: dict[str, pd.Series] = {"members": sizes}
    texts = {
        "label": "no unit: value of the cell in the label layer",
        "members": "no unit: number of members",
    }
    for name in names:
        text = known.get(name, _ALL[name].description)
        columns |= {f"{name}_mean": means[name], f"{name}_sd": sds[name]}
        texts |= {
            f"{name}_mean": f"{text} (mean over the members)",
            f"{name}_sd": f"{text} (standard deviation over the members)",
        }
        if calibration := (intervals or {}).get(name):
            ends = np.array([read_interval(values, calibration) for _, values in cells[name]]).reshape(-1, 2)
            if name == "sphericity":  # nothing is rounder than a sphere
                ends = np.minimum(ends, 1)
            said = f"end of the {LEVEL:.0%} interval, calibrated on {len(calibration.scores)} cells"
            for end, word, values in zip(("low", "high"), ("lower", "upper"), ends.T, strict=True):
                columns[f"{name}_{end}"] = pd.Series(values, index=sizes.index)
                texts[f"{name}_{end}"] = f"{text} ({word} {said})"
    summary = pd.DataFrame(columns).reset_index()
    summary.attrs["columns"] = texts
    return summary


def agreement(ensembles: Mapping[int, Ensemble]) -> pd.DataFrame:
    """How much the members of each cell agree.

    Parameters
    ----------
    ensembles : mapping of label to Ensemble

    Returns
    -------
    DataFrame
        A row a cell: ``label``, ``ambiguity`` (mean of 1 - IoU over pairs of members; NaN for one member)
        and ``modes`` (groups of similar members). ``attrs["columns"]`` as in `summarise`.
    """
    rows = [(ensemble.label, ensemble.ambiguity, len(ensemble.modes)) for ensemble in ensembles.values()]
    table = pd.DataFrame(rows, columns=["label", "ambiguity", "modes"])
    table.attrs["columns"] = {
        "ambiguity": "no unit: 1 - IoU, mean over all pairs of members; 0 where all are the same shape",
        "modes": "no unit: groups of similar members (average linkage on 1 - IoU, cut at "
        f"{MODE_DISTANCE}); more than one: the picture fits quite different shapes",
    }
    return table


def relative_error(predicted: float, true: float) -> float:
    """``|predicted - true| / |true|``; infinite where the truth is 0 and the prediction is not."""
    if true == 0:
        return 0.0 if predicted == 0 else np.inf
    return abs(predicted - true) / abs(true)


def iou(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """Voxels that both hold as a share of those that either holds; 1 where both are empty."""
    either = np.count_nonzero(first | second)
    return float(np.count_nonzero(first & second) / either) if either else 1.0
