"""Rank the cells of a prediction by the gain of imaging each of them in 3D.

The gain is largest where a measure is least certain.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from napari_dispr.errors import InputError
from napari_dispr.prediction.result import Prediction
from napari_dispr.shapes.intervals import LEVEL, read_interval
from napari_dispr.shapes.measures import MEASURES, Measure
from napari_dispr.shapes.next_plane import plane_gains


def rank_cells(
    prediction: Prediction,
    measure: str = "volume",
    *,
    relative: bool = True,
    measures: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Rank the cells of a prediction by the expected gain of imaging each in 3D.

    Parameters
    ----------
    prediction : Prediction
        With at least two members of each cell, or calibrated intervals of the measure.
    measure : str
        One of the measures of the table (docs/measures.md).
    relative : bool
        Rank by errors as a share of the estimate. False: in the measure's own unit, which ranks large cells
        first; suits measures that may be 0 or negative (curvature, Euler number).
    measures : DataFrame, optional
        The prediction's table of members (`measure`), if it was measured before.

    Returns
    -------
    DataFrame
        A row for each cell, the largest gain first. ``attrs["columns"]`` is the column dictionary;
        ``attrs["measure"]`` and ``attrs["relative"]`` are the arguments. The columns:

        - ``rank``, from 1, ``label``, ``name``;
        - ``estimate``: mean over the members, and ``expected_error``;
        - ``low``, ``high``: if there are calibrated intervals;
        - ``expected_gain``: by it the cells are ranked;
        - ``warning``: how the cell is unlike the training data; such an ensemble may be certain and wrong.

    Raises
    ------
    InputError
        If there is no such measure, the prediction has no cell, nothing shows how certain the measure is, or
        ``measures`` is the table of another prediction.

    Notes
    -----
    A cell that is imaged in 3D has no error any more, so the gain is its expected error. With calibrated
    intervals this is half of the interval's width, which the error exceeds in 10 of 100 cells; without, the
    error that is expected if the truth were one more member (`expected_error`).
    """
    chosen = checked_measure(measure)
    prediction.check_has_cells()
    if measures is None:
        from napari_dispr.shapes.morphometry import measure_ensembles  # slow; windows have measured already

        measures = measure_ensembles(prediction, only=[measure])
    prediction.check_measures(measures, measure)
    found = {label: prediction.intervals_of(label).get(measure) for label in prediction}
    calibrated = None not in found.values()  # half intervals and expected errors cannot be compared
    if not calibrated and min(len(prediction.facts(label).numbers) for label in prediction) < 2:
        raise InputError(
            f"Nothing shows how certain the measure {measure} is: predict two members or more of each cell."
        )
    rows, unlike = [], prediction.unlike
    labels, places = np.unique(measures["label"].to_numpy(), return_inverse=True)
    drawn = measures[measure].to_numpy(np.float64)
    for place, label in enumerate(labels):
        values = drawn[places == place]
        estimate, error = mean_of(values), expected_error(values)
        calibration = found[int(label)] if calibrated else None
        low, high = (np.nan, np.nan) if calibration is None else read_interval(values, calibration)
        gain = error if calibration is None else (high - low) / 2
        rows.append(
            {
                "label": label,
                "name": prediction.stem(int(label)),
                "estimate": estimate,
                "expected_error": error,
                **({"low": low, "high": high} if calibrated else {}),
                "expected_gain": share_of(gain, estimate) if relative else gain,
                "warning": unlike.get(int(label), ""),
            }
        )
    unit = chosen.unit(prediction.unit)
    what = f"half of the {LEVEL:.0%} interval" if calibrated else "the error expected of the estimate"
    texts = {
        "estimate": f"{unit}: {chosen.description} (mean over the members)",
        "expected_error": f"{unit}: mean error of the estimate if the truth were one more member",
        "low": f"{unit}: lower end of the {LEVEL:.0%} interval",
        "high": f"{unit}: upper end of the {LEVEL:.0%} interval",
        "expected_gain": f"{'no unit' if relative else unit}: {what}"
        + (", as a share of the estimate" if relative else ""),
        "warning": "no unit: how the cell is unlike the model's training data, so that the ensemble may be "
        "certain and wrong; empty otherwise",
    }
    ranked = _ranked(rows, "expected_gain", texts)
    ranked.attrs |= {"measure": measure, "relative": relative}
    return ranked


def next_planes(
    prediction: Prediction, *, progress: Callable[[int, int], None] | None = None
) -> pd.DataFrame:
    """Which plane of each cell to image next, and what it is expected to gain.

    Parameters
    ----------
    prediction : Prediction
        With at least three members of each cell.
    progress : callable, optional
        Called with the number of finished cells and of all cells.

    Returns
    -------
    DataFrame
        A row for each cell, the largest expected gain of IoU first: ``rank`` from 1, ``label``, ``name``,
        ``depth`` (world z of the plane), ``distance`` (from the imaged plane), ``disagreement``,
        ``volume_gain``, ``iou_gain`` (see `shapes.next_plane.PlaneGains`). ``attrs["columns"]`` is the column
        dictionary.

    Raises
    ------
    InputError
        If the prediction has no cell, or a cell has fewer than three members.
    """
    prediction.check_has_cells()
    rows = []
    for done, (label, ensemble) in enumerate(prediction.items(), start=1):
        gains = plane_gains(ensemble)
        best, imaged = gains.best, prediction.imaged_depth(label)
        rows.append(
            {
                "label": label,
                "name": prediction.stem(label),
                "depth": imaged + gains.depth[best],
                "distance": gains.depth[best],
                "disagreement": gains.disagreement[best],
                "volume_gain": gains.volume_gain[best],
                "iou_gain": gains.iou_gain[best],
            }
        )
        if progress is not None:
            progress(done, len(prediction))
    texts = {
        "depth": f"{prediction.unit}: z of the plane from which the consensus should gain most",
        "distance": f"{prediction.unit}: its distance from the imaged plane along z",
        "disagreement": "no unit: mean area where the sections of two members differ, as a share of the "
        "largest section",
        "volume_gain": "no unit: by how much the relative error of the volume should fall",
        "iou_gain": "no unit: by how much the IoU of the consensus should rise",
    }
    return _ranked(rows, "iou_gain", texts)


def _ranked(rows: Sequence[Mapping[str, Any]], by: str, texts: Mapping[str, str]) -> pd.DataFrame:
    """A table in falling order of a gain, unknown ones first, with the column dictionary ``texts``."""
    ranked = pd.DataFrame(rows).sort_values(
        by, ascending=False, kind="stable", na_position="first", ignore_index=True
    )
    ranked.insert(0, "rank", range(1, len(ranked) + 1))
    ranked.attrs["columns"] = {
        "rank": "no unit: 1 is the cell with the largest expected gain",
        "label": "no unit: value of the cell in the label layer",
        "name": "no unit: what the cell's files are called",
        **texts,
    }
    return ranked


def expected_error(values: ArrayLike) -> float:
    """Mean absolute error of the members' mean if the truth were one more member.

    Each member in turn is taken as the truth and compared with the mean of the others. NaN (of empty shapes)
    are ignored; the result is NaN for fewer than two members.
    """
    values = np.asarray(values, dtype=np.float64).ravel()
    values = values[np.isfinite(values)]
    if len(values) < 2:
        return float("nan")
    return float(np.abs(values - values.mean()).mean() * len(values) / (len(values) - 1))


def mean_of(values: ArrayLike) -> float:
    """Mean of the finite values; 0 if there are none, as for empty shapes."""
    finite = np.asarray(values, dtype=np.float64)[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else 0.0


def share_of(value: float, of: float) -> float:
    """``value / |of|``; infinite if ``of`` is 0."""
    return value / abs(of) if of else np.inf


def checked_measure(measure: str) -> Measure:
    """The measure of this name; an `InputError` if there is none."""
    if measure not in MEASURES:
        raise InputError(f"There is no measure {measure!r}: choose among {', '.join(MEASURES)}.")
    return MEASURES[measure]
