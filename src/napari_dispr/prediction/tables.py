"""Tables of a prediction: a row for each cell and member, a row for each cell."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from napari_dispr import grid
from napari_dispr.errors import InputError
from napari_dispr.labels import as_array, cell_boxes, whole_numbers
from napari_dispr.prediction.result import Prediction
from napari_dispr.shapes.ensemble import Ensemble
from napari_dispr.shapes.measures import MASK_MEASURES, PICTURE_MEASURES
from napari_dispr.shapes.morphometry import agreement, measure_ensembles, summarise
from napari_dispr.shapes.planes import RIM, measure_plane


def measure(
    prediction: Mapping[int, Ensemble],
    image: ArrayLike | None = None,
    labels: ArrayLike | None = None,
    *,
    set: Literal["first", "shapr"] = "first",
) -> pd.DataFrame:
    """Morphometry of every member of every cell, in the image's units.

    Parameters
    ----------
    image, labels : (y, x) arrays, optional
        Input of the prediction. With labels the table also has the measures of each cell's mask, with both
        also those of the intensities inside it. This needs a `Prediction`, which knows the size of a pixel.
    set : {"first", "shapr"}
        The measures of every table (docs/measures.md), or the features of the SHAPR notebooks.

    Returns
    -------
    DataFrame
        A row for each cell and member; ``attrs["columns"]`` holds unit and meaning of each column.
        :func:`measure_cells` summarises it.

    Raises
    ------
    InputError
        If the picture or the labels are not those of the prediction, or there is no such set.
    """
    table = measure_ensembles(prediction, set=set)
    if labels is None:
        if image is not None:
            raise InputError("The picture needs labels, which say where the cells are: give both.")
        return table
    if not isinstance(prediction, Prediction):
        raise InputError(
            "Measures of the picture need a prediction, which knows the size of a pixel: give that, not its "
            "ensembles."
        )
    return _with_plane(table, prediction, image, whole_numbers(as_array(labels, "segmentation")))


def measure_changed(prediction: Prediction, before: Prediction, measures: pd.DataFrame) -> pd.DataFrame:
    """The table of :func:`measure` for a changed prediction: only new members are measured.

    ``before`` is the prediction that was changed. The two share the cells that were not changed.
    """
    changed = [label for label in prediction if not prediction.store.same_cell(before.store, label)]
    fresh, measured = [], set()
    for label in changed:
        new = _unknown(prediction[label], before.get(label))
        if new is not None:
            fresh.append(measure({label: new}))
            measured |= {(label, number) for number in new.numbers}
    members = list(zip(measures["label"], measures["member"], strict=True))
    known = measures[[member not in measured for member in members]]
    # In the order of the prediction's cells and of their members.
    rows = pd.concat([own for own in (known, *fresh) if len(own)])
    rows.index = pd.MultiIndex.from_arrays([rows["label"], rows["member"]])
    order = [(label, number) for label in prediction for number in prediction.facts(label).numbers]
    table = rows.loc[order].reset_index(drop=True)
    table.attrs = dict(measures.attrs)
    return table


def _unknown(ensemble: Ensemble, before: Ensemble | None) -> Ensemble | None:
    """The new members of a cell as an ensemble; None if there are none."""
    known: dict[int, NDArray[np.float32]] = {}
    if before is not None and np.array_equal(before.grid_to_world, ensemble.grid_to_world):
        known = dict(zip(before.numbers, before.signed_distance, strict=True))
    shapes = zip(ensemble.numbers, ensemble.signed_distance, strict=True)
    new = [i for i, (number, one) in enumerate(shapes)
           if number not in known or not np.array_equal(known[number], one)]  # fmt: skip
    if not new:
        return None
    return replace(ensemble, signed_distance=ensemble.signed_distance[new], numbers=ensemble.numbers_at(new))


def _with_plane(
    table: pd.DataFrame, prediction: Prediction, image: ArrayLike | None, labels: NDArray[Any]
) -> pd.DataFrame:
    """The table with the measures of the imaged plane, the same for all members of a cell."""
    picture = None if image is None else as_array(image, "picture")
    for name, plane in (("label layer", labels), ("picture", picture)):
        if plane is not None and plane.shape != tuple(prediction.image_shape):
            raise InputError(
                f"The {name} has the shape {plane.shape}, but the prediction was made from "
                f"{prediction.image_shape}: give its own."
            )
    pixel = grid.in_plane_scales(prediction.image_to_world)
    boxes, rows = cell_boxes(labels), []
    for label in prediction:
        if label not in boxes:
            raise InputError(f"The labels hold no cell {label}: give those of the prediction.")
        part = tuple(slice(max(side.start - RIM, 0), side.stop + RIM) for side in boxes[label])
        own, seen = labels[part], None if picture is None else picture[part]
        rows.append({"label": label, **measure_plane(own == label, seen, pixel.tolist(), own > 0)})
    measures = MASK_MEASURES | ({} if picture is None else PICTURE_MEASURES)
    planes = pd.DataFrame(rows, columns=["label", *measures])
    result = table.merge(planes, on="label", how="left", sort=False)
    texts = {name: one.column(prediction.unit) for name, one in measures.items()}
    result.attrs["columns"] = {**table.attrs["columns"], **texts}
    return result


def measure_cells(prediction: Prediction, measures: pd.DataFrame | None = None) -> pd.DataFrame:
    """Summarise each cell: estimates, their intervals, ambiguity, and how it is unlike the training data.

    Parameters
    ----------
    measures : DataFrame, optional
        Table of :func:`measure`, if it was measured before.

    Returns
    -------
    DataFrame
        A row for each cell. ``attrs["columns"]`` holds unit and meaning of each column:

        - ``label``, ``members``, ``ambiguity``, ``modes``;
        - ``volume_mean``, ``volume_sd``, and the same for each measure;
        - ``volume_low``, ``volume_high``, if the model is calibrated: the 90 % interval. NaN if members of
          the cell were rejected by hand, since it is not valid then;
        - ``kept``: the chosen shape;
        - ``warning``: how the cell is unlike the training data, or what is doubtful about its mask.
    """
    if measures is None:
        measures = measure(prediction)
    else:
        prediction.check_measures(measures)
    summary = summarise(measures, prediction.intervals_of)
    agreeing = agreement(prediction.agreements)
    table = summary.merge(agreeing, on="label", how="left", sort=False)
    ends = [name for name in table if str(name).endswith(("_low", "_high"))]
    table.loc[table["label"].isin(list(prediction.rejected)), ends] = np.nan
    kept = [prediction.kept.get(int(label), "") for label in table["label"]]
    table["kept"] = [f"member {one}" if isinstance(one, int) else one for one in kept]
    masks = {note.cell: note.text for note in prediction.notes if note.kind == "mask"}
    both = prediction.unlike, masks
    texts = [[of.get(int(label), "") for of in both] for label in table["label"]]
    table["warning"] = ["; ".join(filter(None, own)) for own in texts]
    table.attrs["columns"] = {
        **summary.attrs["columns"],
        **agreeing.attrs["columns"],
        "kept": "no unit: the shape that was chosen: a member, by its number, or consensus; empty: none",
        "warning": "no unit: how the cell is unlike the model's training data, or what is doubtful about its "
        "mask; empty otherwise",
    }
    return table
