"""What the result layers of a prediction show: label volumes and tables, computed in a thread. No Qt."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from napari_dispr import grid
from napari_dispr.shapes.measures import HEADLINE
from napari_dispr.shapes.one_shape import measure_shape
from napari_dispr.viewer.displayed import DisplayedPlane

if TYPE_CHECKING:
    import pint

    from napari_dispr.prediction.result import Prediction

#: Key of a layer's metadata; its presence marks a layer as a result of this plugin.
METADATA_KEY = "napari-dispr"

#: Feature tables have a row for each label from 0 up to here; with larger labels only for the cells.
_DENSE_ROWS = 100_000


@dataclass(frozen=True, slots=True, eq=False)
class ResultContent:
    """All that the result layers show, computed in a thread.

    Attributes
    ----------
    volumes : tuple of (z, y, x) integer arrays
        One for each member, with the labels of the 2D layer.
    affine : (4, 4) float64
        From voxel-centre index to world.
    unit : pint.Unit, or its name
        Of the world's axes.
    depth : float
        World z of the picture's plane.
    numbers : tuple of int
        Numbers of these members.
    features : tuple of DataFrame
        One for each member: ``index`` (the label) and its measures.
    metadata : mapping
        Provenance, the picture and its plane, and the units of the measures.
    kept : KeptContent or None
        The kept shapes, if there are any.
    """

    prediction: "Prediction"
    volumes: tuple[NDArray[Any], ...]
    affine: NDArray[np.float64]
    unit: "pint.Unit | str"
    depth: float
    numbers: tuple[int, ...]
    features: tuple[pd.DataFrame, ...]
    metadata: Mapping[str, Any]
    kept: "KeptContent | None" = None


@dataclass(frozen=True, slots=True, eq=False)
class KeptContent:
    """The layer of kept shapes: 3D labels with the affine of the other layers, and its features."""

    volume: NDArray[Any]
    features: pd.DataFrame


def compose(
    prediction: "Prediction",
    measures: pd.DataFrame,
    plane: DisplayedPlane,
    before: ResultContent | None = None,
) -> ResultContent:
    """Compute the content of the layers of a prediction.

    Parameters
    ----------
    measures : DataFrame
        From `measure_ensembles`, a row for each cell and member.
    plane : DisplayedPlane
        The picture: gives the unit, and the z of its plane in the world.
    before : ResultContent, optional
        Content of an earlier state of the prediction: equal volumes are taken from there.
    """
    return _content(prediction, measures, plane.unit, plane.depth, origin_of(plane), before)


def compose_saved(
    prediction: "Prediction", measures: pd.DataFrame, before: ResultContent | None = None
) -> ResultContent:
    """As `compose`, of a prediction that was read from a folder: its provenance tells of the picture."""
    return _content(prediction, measures, prediction.unit, prediction.depth, {}, before)


def origin_of(plane: DisplayedPlane) -> dict[str, Any]:
    """Provenance of the picture: its name, its plane, and the z of that in the world."""
    return {"image": plane.name, "plane": list(plane.index), "depth": plane.depth}


def _content(
    prediction: "Prediction",
    measures: pd.DataFrame,
    unit: "pint.Unit | str",
    depth: float,
    origin: Mapping[str, Any],
    before: ResultContent | None,
) -> ResultContent:
    affine = prediction.frame
    largest = max(prediction)
    columns = dict(measures.attrs.get("columns", {}))
    return ResultContent(
        prediction=prediction,
        volumes=tuple(_volume(prediction, number, before) for number in prediction.numbers),
        affine=grid.translation((depth, 0.0, 0.0)) @ affine,
        unit=unit,
        depth=depth,
        numbers=prediction.numbers,
        features=tuple(_features(rows, largest) for _, rows in measures.groupby("member")),
        metadata={**prediction.provenance, **origin, "columns": columns},
        kept=_kept(prediction, measures, largest) if prediction.kept else None,
    )


def _volume(prediction: "Prediction", number: int, before: ResultContent | None) -> NDArray[Any]:
    """The label volume of one member; that of an earlier state if it is the same."""
    if before is not None and number in before.numbers and prediction.same_frame(before.prediction):
        mine, theirs = (
            {label: id(one) for label, one in each.items() if number in one.numbers}
            for each in (prediction, before.prediction)
        )
        if mine == theirs:
            return before.volumes[before.numbers.index(number)]
    return prediction.label_volume(number)[0]


def _kept(prediction: "Prediction", measures: pd.DataFrame, largest: int) -> KeptContent:
    rows: list[dict[str, Any]] = []
    for label, shape in prediction.kept.items():
        if shape == "consensus":
            ensemble = prediction[label]
            row: dict[Any, Any] = dict(
                measure_shape(ensemble.consensus_distance, ensemble.grid_to_world, HEADLINE)
            )
        else:
            own = (measures["label"] == label) & (measures["member"] == shape)
            row = measures.loc[own, list(HEADLINE)].iloc[0].to_dict()
        name = shape if isinstance(shape, str) else f"member {shape + 1}"
        rows.append({"label": label, "kept": name, **row})
    return KeptContent(prediction.kept_volume()[0], _features(pd.DataFrame(rows), largest))


def _features(rows: pd.DataFrame, largest: int) -> pd.DataFrame:
    """Feature table of one member: row n is label n, as napari expects; rows without a cell are empty."""
    # napari shows all features in its status bar, which has room for the main measures.
    shown = ["label", *(name for name in ("kept", *HEADLINE) if name in rows)]
    table = rows[shown].rename(columns={"label": "index"}).set_index("index")
    labels = range(largest + 1) if largest <= _DENSE_ROWS else sorted({0, *table.index})
    return table.reindex(pd.Index(labels, name="index")).reset_index()
