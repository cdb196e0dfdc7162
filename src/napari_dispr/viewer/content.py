"""What the result layers of a prediction show: label volumes and tables, computed in a thread. No Qt."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import pint
from numpy.typing import NDArray

from napari_dispr import grid
from napari_dispr.prediction.result import Prediction
from napari_dispr.shapes.measures import HEADLINE
from napari_dispr.viewer.displayed import DisplayedPlane

#: Key of a layer's metadata; its presence marks a layer as a result of this plugin.
METADATA_KEY = "napari-dispr"

#: Data, settings and type of a layer.
LayerData = tuple[Any, dict[str, Any], str]

#: Feature tables have a row for each label from 0 up to here; with larger labels only for the cells.
_DENSE_ROWS = 100_000


@dataclass(frozen=True, slots=True)
class LayerStyle:
    """Which layers a prediction gets: one 4D layer with an axis for the members, in place of one layer for
    each (``stacked``); also one of the consensus of each cell.
    """

    stacked: bool = False
    consensus: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class ResultContent:
    """All that the result layers show, computed in a thread.

    Attributes
    ----------
    volumes : tuple of (z, y, x) integer arrays
        One for each member, with the labels of the 2D layer.
    affine : (4, 4) float64
        From voxel-centre index to world.
    depth : float
        World z of the picture's plane.
    features : tuple of DataFrame
        One for each member: ``index`` (the label) and its measures.
    metadata : mapping
        Provenance, the picture and its plane, and the units of the measures.
    stack : (member, z, y, x) integer array or None
        All volumes, if they are shown in one layer.
    consensus, kept : ExtraContent or None
        The layers of the consensus and of the kept shapes, if there are any.
    """

    prediction: Prediction
    volumes: tuple[NDArray[Any], ...]
    affine: NDArray[np.float64]
    unit: pint.Unit | str
    depth: float
    features: tuple[pd.DataFrame, ...]
    metadata: Mapping[str, Any]
    stack: NDArray[Any] | None = None
    consensus: "ExtraContent | None" = None
    kept: "ExtraContent | None" = None

    @property
    def style(self) -> LayerStyle:
        return LayerStyle(self.stack is not None, self.consensus is not None)


@dataclass(frozen=True, slots=True, eq=False)
class ExtraContent:
    """A layer with one shape of each cell: 3D labels with the affine of the other layers, and features."""

    volume: NDArray[Any]
    features: pd.DataFrame


def compose(
    prediction: Prediction,
    measures: pd.DataFrame,
    plane: DisplayedPlane | None,
    before: ResultContent | None = None,
    style: LayerStyle | None = None,
) -> ResultContent:
    """Compute the content of the layers of a prediction.

    Parameters
    ----------
    plane : DisplayedPlane or None
        The picture: gives the unit, and the z of its plane in the world. None for a prediction from a folder,
        whose provenance describes the picture.
    before : ResultContent, optional
        Content of an earlier state of the prediction: equal volumes, and by default the style, are taken from
        there.
    """
    picture: Prediction | DisplayedPlane = plane or prediction
    style = style or (before.style if before else LayerStyle())
    largest = max(prediction)
    columns = dict(measures.attrs.get("columns", {}))
    volumes = _volumes(prediction, before)
    stack = np.stack(volumes) if style.stacked else None
    return ResultContent(
        prediction=prediction,
        volumes=volumes if stack is None else tuple(stack),  # views of the stack, not a second copy
        affine=grid.translation((picture.depth, 0.0, 0.0)) @ prediction.frame,
        unit=picture.unit,
        depth=picture.depth,
        features=tuple(_features(rows, largest) for _, rows in measures.groupby("member")),
        metadata={**prediction.provenance, **(origin_of(plane) if plane else {}), "columns": columns},
        stack=stack,
        consensus=_extra(prediction, measures, largest, consensus=True) if style.consensus else None,
        kept=_extra(prediction, measures, largest, consensus=False) if prediction.kept else None,
    )


def origin_of(plane: DisplayedPlane) -> dict[str, Any]:
    """Provenance of the picture: its name, its plane, and the z of that in the world."""
    return {"image": plane.name, "plane": list(plane.index), "depth": plane.depth}


def _volumes(prediction: Prediction, before: ResultContent | None) -> tuple[NDArray[Any], ...]:
    """The label volume of each member; those of an earlier state that are the same."""
    known: dict[int, NDArray[Any]] = {}
    if before is not None and prediction.same_frame(before.prediction):
        for number, volume in zip(before.prediction.numbers, before.volumes, strict=True):
            mine, theirs = (
                {label for label in each if number in each.facts(label).numbers}
                for each in (prediction, before.prediction)
            )
            store = prediction.store
            if mine == theirs and all(store.same_cell(before.prediction.store, label) for label in mine):
                known[number] = volume
    fresh = [number for number in prediction.numbers if number not in known]
    drawn = prediction.label_volumes(fresh) if fresh else []
    known |= {number: volume for number, (volume, _) in zip(fresh, drawn, strict=True)}
    return tuple(known[number] for number in prediction.numbers)


def _extra(prediction: Prediction, measures: pd.DataFrame, largest: int, *, consensus: bool) -> ExtraContent:
    """The layer of the consensus of each cell, or of the kept shapes."""
    from napari_dispr.shapes.one_shape import measure_shape

    if consensus:
        prediction = replace(prediction, kept=dict.fromkeys(prediction, "consensus"))
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
    return ExtraContent(prediction.kept_volume()[0], _features(pd.DataFrame(rows), largest))


def mean_features(content: ResultContent) -> pd.DataFrame:
    """Feature table of the layer with all members: the mean of each measure over the members."""
    return pd.concat(content.features).groupby("index", as_index=False, dropna=False).mean()


def _features(rows: pd.DataFrame, largest: int) -> pd.DataFrame:
    """Feature table of one member: row n is label n, as napari expects; rows without a cell are empty."""
    # napari shows all features in its status bar, which has room for the main measures.
    shown = ["label", *(name for name in ("kept", *HEADLINE) if name in rows)]
    table = rows[shown].rename(columns={"label": "index"}).set_index("index")
    labels = range(largest + 1) if largest <= _DENSE_ROWS else sorted({0, *table.index})
    return table.reindex(pd.Index(labels, name="index")).reset_index()
