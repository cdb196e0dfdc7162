"""What the widgets of one viewer share: the predictions in it, which one is looked at, which cell and member.

Predict puts predictions in, layers of saved ones bring theirs along; Compare and Morphometry follow. No Qt.
Call it on the GUI thread only.
"""

import weakref
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
from napari.utils.events import EmitterGroup

from napari_dispr.prediction.result import Prediction
from napari_dispr.prediction.tables import measure_cells, measure_changed
from napari_dispr.viewer.displayed import DisplayedPlane

if TYPE_CHECKING:
    import pint
    from napari.components import ViewerModel
    from napari.layers import Image, Labels, Layer

    from napari_dispr.viewer.layers import ResultLayers

#: Key of a result layer's metadata under which the prediction stands that it shows.
PREDICTION_KEY = "napari-dispr prediction"

#: What can be looked at of a cell: a member by its number, the consensus, or nothing in particular.
Shape = int | Literal["consensus"] | None


@dataclass(frozen=True, slots=True, eq=False)
class OpenPrediction:
    """A prediction in a viewer, with its tables; a new one after each change, of the same ``key``.

    Attributes
    ----------
    key : object
        The same for all states of one prediction.
    name : str
        What its layers are named after.
    prediction : Prediction
    measures : DataFrame
        A row a cell and member (`measure`).
    cells : DataFrame
        A row a cell (`measure_cells`).
    plane : DisplayedPlane or None
        The picture that it was drawn from; None of one that was read from a folder.
    image, labels : layers or None
        Of the picture and its segmentation, as far as known.
    growing : bool
        Whether cells are still being added: until then nothing else may change it.
    """

    key: object
    name: str
    prediction: Prediction
    measures: pd.DataFrame
    cells: pd.DataFrame
    plane: DisplayedPlane | None = None
    image: "Image | None" = None
    labels: "Labels | None" = None
    growing: bool = False

    @property
    def depth(self) -> float:
        """World z of the picture's plane."""
        return self.plane.depth if self.plane else self.prediction.depth

    @property
    def unit(self) -> "pint.Unit | str":
        """Of the world's axes, as layers take it."""
        return self.plane.unit if self.plane else self.prediction.unit

    def changed_to(self, prediction: Prediction) -> "OpenPrediction":
        """The same after a choice, or with other members; only cells with other members are measured.

        Takes about 0.1 s a member of these: call it in a thread.
        """
        measures = measure_changed(prediction, self.prediction, self.measures)
        cells = measure_cells(prediction, measures)
        return replace(self, prediction=prediction, measures=measures, cells=cells)


@dataclass(slots=True, eq=False)
class Held:
    """What the metadata of all layers of a prediction hold: its newest state, and who draws them."""

    newest: OpenPrediction
    layers: "ResultLayers | None" = None


@dataclass(frozen=True, slots=True)
class Selection:
    """What is looked at: a cell of the current prediction, and one of its shapes."""

    cell: int | None = None
    shape: Shape = None


@dataclass(eq=False)
class Session:
    """The state that the widgets of one viewer share; `Session.of` gives it.

    Attributes
    ----------
    events : EmitterGroup
        ``predictions``: there are others, or the current one is another or changed;
        ``selected``: another cell or shape is looked at.
    """

    _open: dict[object, Held] = field(default_factory=dict)
    _current: object = None
    _selection: Selection = field(default_factory=Selection)

    def __post_init__(self) -> None:
        self.events = EmitterGroup(source=self, predictions=None, selected=None)

    @staticmethod
    def of(viewer: "ViewerModel") -> "Session":
        """The session of a viewer, made on first use; a viewer that is gone takes it along."""
        viewer = unwrapped(viewer)
        if viewer not in _sessions:
            session = _sessions[viewer] = Session()
            session._follow(viewer)
        return _sessions[viewer]

    # --- predictions -----------------------------------------------------------------------------

    @property
    def predictions(self) -> list[OpenPrediction]:
        """All that are open, the oldest first."""
        return [held.newest for held in self._open.values()]

    @property
    def current(self) -> OpenPrediction | None:
        """The one that is looked at."""
        held = self._open.get(self._current)
        return held.newest if held else None

    def show(self, opened: OpenPrediction) -> None:
        """Look at a prediction: a new one, one of the others, or another state of one."""
        if opened.key in self._open:
            self._open[opened.key].newest = opened
        else:
            self._open[opened.key] = Held(opened)
        self._current = opened.key
        self._forget_unseen()
        self._keep_selection()
        self.events.predictions()

    def _forget_unseen(self) -> None:
        """Let go of predictions that were drawn here, are looked at no more, and have no layer left."""
        for key, held in list(self._open.items()):
            gone = held.layers is not None and not held.layers.in_viewer
            if key != self._current and gone and not held.newest.growing:
                del self._open[key]

    def newest(self, key: object) -> OpenPrediction | None:
        """The newest state of a prediction; None if it is not open."""
        held = self._open.get(key)
        return held.newest if held else None

    def update(self, opened: OpenPrediction) -> bool:
        """Take in another state of a prediction, whichever is looked at; False if it is not open any more."""
        if opened.key not in self._open:
            return False
        self._open[opened.key].newest = opened
        self._keep_selection()
        self.events.predictions()
        return True

    def held(self, opened: OpenPrediction) -> Held:
        """What the metadata of its layers hold under `PREDICTION_KEY`."""
        return self._open[opened.key]

    # --- selection -------------------------------------------------------------------------------

    @property
    def selection(self) -> Selection:
        """The cell and the shape that are looked at."""
        return self._selection

    def select(self, cell: int | None, shape: Shape = None) -> None:
        """Look at a cell of the current prediction, and at one of its shapes."""
        wanted = Selection(cell, shape)
        if wanted != self._selection:
            self._selection = wanted
            self.events.selected()

    def _keep_selection(self) -> None:
        """Drop what the current prediction does not hold."""
        cell, shape = self._selection.cell, self._selection.shape
        opened = self.current
        if opened is None or cell is None or cell not in opened.prediction:
            self.select(None)
        elif isinstance(shape, int) and shape not in opened.prediction[cell].numbers:
            self.select(cell)

    # --- layers bring predictions ----------------------------------------------------------------

    def _follow(self, viewer: "ViewerModel") -> None:
        viewer.layers.events.inserted.connect(self._on_inserted)
        viewer.layers.events.removed.connect(self._on_removed)
        self._take_in(viewer.layers)

    def _on_inserted(self, event: Any) -> None:
        self._take_in([event.value])

    def _take_in(self, layers: "Iterable[Layer]") -> None:
        for layer in layers:
            held = prediction_of(layer)
            if held is not None and held.newest.key not in self._open:
                self._open[held.newest.key] = held
                self._current = held.newest.key
                self._keep_selection()
                self.events.predictions()

    def _on_removed(self, event: Any) -> None:
        """A prediction goes with its last layer; one drawn here may still be looked at without."""
        held = prediction_of(event.value)
        if held is None or held.newest.key not in self._open:
            return
        is_current = held.newest.key == self._current
        drawn_here = held.newest.plane is not None
        if any(prediction_of(layer) is held for layer in event.source):
            return
        if drawn_here and (is_current or held.newest.growing):
            return
        del self._open[held.newest.key]
        if is_current:
            self._current = next(reversed(self._open), None)
            self._keep_selection()
        self.events.predictions()


_sessions: "weakref.WeakKeyDictionary[ViewerModel, Session]" = weakref.WeakKeyDictionary()


def unwrapped(thing: Any) -> Any:
    """The viewer or layer itself, where napari handed a widget a proxy of it."""
    return getattr(thing, "__wrapped__", thing)


def prediction_of(layer: "Layer") -> Held | None:
    """What a result layer shows; None of any other layer."""
    held = unwrapped(layer).metadata.get(PREDICTION_KEY)
    return held if isinstance(held, Held) else None


def opened(prediction: Prediction, measures: pd.DataFrame, name: str, **known: Any) -> OpenPrediction:
    """A prediction that is not open yet."""
    cells = known.pop("cells", None)
    cells = measure_cells(prediction, measures) if cells is None else cells
    return OpenPrediction(object(), name, prediction, measures, cells, **known)
