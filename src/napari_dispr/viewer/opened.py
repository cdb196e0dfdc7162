"""A prediction that is open in a viewer, with its tables and the layers of its picture. No Qt."""

from dataclasses import dataclass, replace
from typing import Any, Literal

import pandas as pd
import pint
from napari.layers import Image, Labels

from napari_dispr.prediction.result import Prediction
from napari_dispr.viewer.displayed import DisplayedPlane

#: The selected shape of a cell: a member by its number, the consensus, or none.
Shape = int | Literal["consensus"] | None


@dataclass(frozen=True, slots=True, eq=False)
class OpenPrediction:
    """A prediction in a viewer, with the tables of `measure` and `measure_cells`.

    Attributes
    ----------
    key : object
        The same for all states of one prediction: each change makes a new one.
    name : str
        Prefix of the names of its layers.
    plane : DisplayedPlane or None
        The picture; None for a prediction from a folder.
    image, labels : layers or None
        The picture and its segmentation, if they are known.
    growing : bool
        Whether cells are still being added; nothing else may change it then.
    """

    key: object
    name: str
    prediction: Prediction
    measures: pd.DataFrame
    cells: pd.DataFrame
    plane: DisplayedPlane | None = None
    image: Image | None = None
    labels: Labels | None = None
    growing: bool = False

    @property
    def depth(self) -> float:
        """World z of the picture's plane."""
        return self.plane.depth if self.plane else self.prediction.depth

    @property
    def unit(self) -> pint.Unit | str:
        """Unit of the world's axes, for layers."""
        return self.plane.unit if self.plane else self.prediction.unit

    def changed_to(self, prediction: Prediction) -> "OpenPrediction":
        """The next state, after a choice or with other members. Only changed cells are measured.

        Takes about 0.1 s for each of their members: call it in a thread.
        """
        from napari_dispr.prediction.tables import measure_cells, measure_changed

        measures = measure_changed(prediction, self.prediction, self.measures)
        cells = measure_cells(prediction, measures)
        return replace(self, prediction=prediction, measures=measures, cells=cells)


def opened(prediction: Prediction, measures: pd.DataFrame, name: str, **known: Any) -> OpenPrediction:
    """Open a prediction: give it a key, and tables if they are missing."""
    from napari_dispr.prediction.tables import measure_cells

    cells = known.pop("cells", None)
    cells = measure_cells(prediction, measures) if cells is None else cells
    return OpenPrediction(object(), name, prediction, measures, cells, **known)


def unwrapped(thing: Any) -> Any:
    """The viewer or layer itself, if this is napari's proxy of it."""
    return getattr(thing, "__wrapped__", thing)
