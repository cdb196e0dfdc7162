"""Tables of measures in the units of the image, and errors between two shapes.

Knows neither how members are sampled nor how tables are shown.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from napari_dispr.card import Calibration
from napari_dispr.errors import InputError
from napari_dispr.shapes.ensemble import MODE_DISTANCE, Ensemble
from napari_dispr.shapes.facts import Agreement
from napari_dispr.shapes.intervals import LEVEL, read_interval
from napari_dispr.shapes.measures import MASK_MEASURES, MEASURES, PICTURE_MEASURES, Measure, without_attrs
from napari_dispr.shapes.one_shape import measure_shape
from napari_dispr.shapes.shapr_set import SHAPR_FEATURES, shapr_features

#: Sets of measures, by name.
SETS: dict[str, dict[str, Measure]] = {"first": MEASURES, "shapr": SHAPR_FEATURES}
_ALL = MEASURES | MASK_MEASURES | PICTURE_MEASURES | SHAPR_FEATURES


def measures_of(set: str) -> dict[str, Measure]:
    """The measures of one of `SETS`; an InputError if there is no such set."""
    if set not in SETS:
        raise InputError(f"There is no set {set!r} of measures: choose among {', '.join(SETS)}.")
    return SETS[set]


def measure_ensembles(
    ensembles: Mapping[int, Ensemble], *, only: Collection[str] | None = None, set: str = "first"
) -> pd.DataFrame:
    """Morphometry table of a prediction.

    Raises a ValueError if the ensembles have different units, an InputError if there is no such set.

    Parameters
    ----------
    set : {"first", "shapr"}
        `MEASURES`, or the features of the SHAPR notebooks.

    Returns
    -------
    DataFrame
        One row per cell and member, with the columns ``label``, ``member`` and those of the set.
        ``attrs["columns"]`` maps each column to its unit and meaning.
    """
    measures = {name: one for name, one in measures_of(set).items() if only is None or name in only}
    rows = [row for ensemble in ensembles.values() for row in measure_members(ensemble, measures, set)]
    units = {ensemble.unit for ensemble in ensembles.values()} or {"pixel"}
    if len(units) > 1:
        raise ValueError(
            f"ensembles in different units ({', '.join(sorted(units))}) do not go into one table"
        )
    return as_table(rows, measures, units.pop(), set)


def measure_members(
    ensemble: Ensemble, measures: Mapping[str, Measure] = MEASURES, set: str = "first"
) -> list[dict[str, Any]]:
    """The rows of one cell in the table of `measure_ensembles`, as Python's numbers."""
    rows = []
    for member, distance in zip(ensemble.numbers, ensemble.signed_distance, strict=True):
        found = (
            shapr_features(distance > 0)
            if set == "shapr"
            else measure_shape(distance, ensemble.grid_to_world, measures)
        )
        values = {name: float(value) for name, value in found.items()}
        rows.append({"label": int(ensemble.label), "member": int(member), **values})
    return rows


def as_table(
    rows: Sequence[Mapping[str, float]], measures: Mapping[str, Measure], unit: str, set: str = "first"
) -> pd.DataFrame:
    """Rows with label, member and measures of a set as a table with its column dictionary."""
    table = pd.DataFrame(rows, columns=["label", "member", *measures])
    table.attrs["columns"] = column_texts(measures, "voxel" if set == "shapr" else unit)
    return table


def values_of(rows: Sequence[Mapping[str, float]]) -> NDArray[np.float64]:
    """The measures in the rows of a cell, (member, measure): a tenth of the memory of the rows."""
    return np.array([[row[name] for name in MEASURES] for row in rows], dtype=np.float64)


def table_of_cells(
    values: Mapping[int, NDArray[np.float64]], numbers: Mapping[int, Sequence[int]], unit: str
) -> pd.DataFrame:
    """The table of `measure_ensembles` from the `values_of` each cell and the numbers of its members."""
    members = [(label, number) for label in values for number in numbers[label]]
    index = pd.MultiIndex.from_tuples(members, names=["label", "member"])
    table = pd.DataFrame(np.concatenate(list(values.values())), index, list(MEASURES)).reset_index()
    table.attrs["columns"] = column_texts(MEASURES, unit)
    return table


def column_texts(measures: Mapping[str, Measure], unit: str) -> dict[str, str]:
    """The column dictionary of a table of measures: "unit: meaning" of each column."""
    return {
        "label": "no unit: value of the cell in the label layer",
        "member": "no unit: number of the member in the cell's ensemble, from 0",
        **{name: measure.column(unit) for name, measure in measures.items()},
    }


def summarise(
    table: pd.DataFrame, intervals: Callable[[int], Mapping[str, Calibration]] = lambda label: {}
) -> pd.DataFrame:
    """Mean, standard deviation and interval of each measure over the members of each cell.

    Parameters
    ----------
    intervals : callable, optional
        Gives the calibration of each measure of a cell, from the card of a model.

    Returns
    -------
    DataFrame
        One row per cell, in the order of the table. Empty shapes count only for the volume.
        ``attrs["columns"]`` maps each column to its unit and meaning:

        - ``label``, ``members`` (their number);
        - ``volume_mean``, ``volume_sd``, and the same for all measures. The standard deviation is that of the
          sample (n - 1), NaN for one member;
        - ``volume_low``, ``volume_high``, if any cell has a calibration: they enclose the true value with a
          probability of 90 %; NaN for cells without calibration.
    """
    known = table.attrs.get("columns", {})
    cells = without_attrs(table).groupby("label", sort=False)
    names = [name for name in table.columns if name not in ("label", "member") and name in _ALL]
    means, sds, sizes = cells[names].mean(), cells[names].std(), cells.size()
    calibrations = [intervals(int(str(label))) for label in sizes.index]
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
        of_cells = [calibration.get(name) for calibration in calibrations]
        if known_cells := [one.cells for one in of_cells if one is not None]:
            ends = np.array(
                [
                    (np.nan, np.nan) if calibration is None else read_interval(values, calibration)
                    for (_, values), calibration in zip(cells[name], of_cells, strict=True)
                ]
            )
            if name == "sphericity":  # at most 1
                ends = np.minimum(ends, 1)
            ending = f"end of the {LEVEL:.0%} interval, calibrated on {min(known_cells)} cells"
            for end, word, values in zip(("low", "high"), ("lower", "upper"), ends.T, strict=True):
                columns[f"{name}_{end}"] = pd.Series(values, index=sizes.index)
                texts[f"{name}_{end}"] = f"{text} ({word} {ending})"
    summary = pd.DataFrame(columns).reset_index()
    summary.attrs["columns"] = texts
    return summary


def agreement(cells: Mapping[int, Agreement]) -> pd.DataFrame:
    """How much the members of each cell agree.

    Returns
    -------
    DataFrame
        One row per cell: ``label``, ``ambiguity`` (mean 1 - IoU over pairs of members; NaN for one member)
        and ``modes`` (number of groups of similar members). ``attrs["columns"]`` as in `summarise`.
    """
    rows = [(label, one.ambiguity, len(one.modes)) for label, one in cells.items()]
    table = pd.DataFrame(rows, columns=["label", "ambiguity", "modes"])
    table.attrs["columns"] = {
        "ambiguity": "no unit: mean 1 - IoU over all pairs of members; 0 if all are equal",
        "modes": "no unit: groups of similar members (average linkage on 1 - IoU, cut at "
        f"{MODE_DISTANCE}); more than one: very different shapes fit the image",
    }
    return table


def relative_error(predicted: float, true: float) -> float:
    """``|predicted - true| / |true|``; infinite if only the truth is 0."""
    if true == 0:
        return 0.0 if predicted == 0 else np.inf
    return abs(predicted - true) / abs(true)


def iou(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """Intersection over union of two volumes; 1 if both are empty."""
    either = np.count_nonzero(first | second)
    return float(np.count_nonzero(first & second) / either) if either else 1.0
