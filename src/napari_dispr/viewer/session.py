"""What the windows of one viewer share: its predictions, and which prediction, cell and member is selected.

Predict adds predictions, and so do the layers of saved ones; Compare and Morphometry follow. No Qt. Call it
on the GUI thread only.
"""

import weakref
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import chain, count
from pathlib import Path
from typing import Any

from napari.components import ViewerModel
from napari.layers import Layer
from napari.utils.events import EmitterGroup

from napari_dispr.prediction.result import Prediction
from napari_dispr.viewer.content import METADATA_KEY
from napari_dispr.viewer.layers import PredictionHandle, handle_of
from napari_dispr.viewer.opened import OpenPrediction, Shape, unwrapped
from napari_dispr.viewer.scene import make_current


@dataclass(frozen=True, slots=True)
class Selection:
    """The selected cell of the current prediction, and the selected shape of that cell."""

    cell: int | None = None
    shape: Shape = None


@dataclass(eq=False)
class Session:
    """The state that the windows of one viewer share; see `Session.of`.

    Its event ``predictions`` says that the open predictions, the current one or its state have changed,
    ``selected`` that the selected cell or shape has changed.
    """

    _open: dict[object, PredictionHandle] = field(default_factory=dict)
    _current: object = None
    _selection: Selection = field(default_factory=Selection)

    def __post_init__(self) -> None:
        self.events = EmitterGroup(source=self, predictions=None, selected=None)

    @staticmethod
    def of(viewer: ViewerModel) -> "Session":
        """The session of a viewer, made on first use; it ends with the viewer."""
        viewer = unwrapped(viewer)
        if viewer not in _sessions:
            session = _sessions[viewer] = Session()
            session._follow(viewer)
        return _sessions[viewer]

    # --- predictions -----------------------------------------------------------------------------

    @property
    def predictions(self) -> list[OpenPrediction]:
        """The open predictions, the oldest first."""
        return [handle.newest for handle in self._open.values()]

    @property
    def current(self) -> OpenPrediction | None:
        return self.newest(self._current)

    def show(self, opened: OpenPrediction) -> None:
        """Make a prediction the current one: a new one, an open one, or a new state of it."""
        if opened.key in self._open:
            self._open[opened.key].newest = opened
        else:
            self._open[opened.key] = PredictionHandle(opened)
        self._current = opened.key
        self._forget_unseen()
        self._keep_selection()
        self.events.predictions()

    def _forget_unseen(self) -> None:
        """Close predictions of this session that are not current and have no layer any more."""
        for key, handle in list(self._open.items()):
            gone = handle.layers is not None and not handle.layers.in_viewer
            if key != self._current and gone and not handle.newest.growing:
                del self._open[key]

    def newest(self, key: object) -> OpenPrediction | None:
        """The newest state of a prediction; None if it is not open."""
        handle = self._open.get(key)
        return handle.newest if handle else None

    def update(self, opened: OpenPrediction) -> bool:
        """Store a new state of a prediction, current or not; False if it is not open any more."""
        if opened.key not in self._open:
            return False
        self._open[opened.key].newest = opened
        self._keep_selection()
        self.events.predictions()
        return True

    def earlier(self, opened: OpenPrediction) -> list[OpenPrediction]:
        """Other predictions of the same cells of the same label layer, without choices of the user."""
        return [
            one
            for one in self.predictions
            if one.key is not opened.key
            and not one.growing
            and one.plane is not None
            and opened.plane is not None
            and unwrapped(one.labels) is unwrapped(opened.labels)
            and one.plane.index == opened.plane.index
            and set(one.prediction) == set(opened.prediction)
            and not _chosen(one.prediction)
        ]

    def handle(self, opened: OpenPrediction) -> PredictionHandle:
        """The handle of an open prediction, which its layers share."""
        return self._open[opened.key]

    # --- selection -------------------------------------------------------------------------------

    @property
    def selection(self) -> Selection:
        """The selected cell and shape."""
        return self._selection

    def select(self, cell: int | None, shape: Shape = None) -> None:
        """Select a cell of the current prediction, and one of its shapes."""
        wanted = Selection(cell, shape)
        if wanted != self._selection:
            self._selection = wanted
            self.events.selected()

    def _keep_selection(self) -> None:
        """Clear a selection that the current prediction does not contain."""
        cell, shape = self._selection.cell, self._selection.shape
        opened = self.current
        if opened is None or cell is None or cell not in opened.prediction:
            self.select(None)
        elif isinstance(shape, int) and shape not in opened.prediction.facts(cell).numbers:
            self.select(cell)

    # --- predictions from layers ----------------------------------------------------------------

    def _follow(self, viewer: ViewerModel) -> None:
        viewer_of = weakref.ref(viewer)  # a session must not keep its viewer alive
        viewer.layers.events.removing.connect(lambda event: make_current(viewer_of()))
        viewer.layers.events.inserted.connect(self._on_inserted)
        viewer.layers.events.removed.connect(self._on_removed)
        self._open_from(viewer.layers)

    def _on_inserted(self, event: Any) -> None:
        self._open_from([event.value])

    def _open_from(self, layers: Iterable[Layer]) -> None:
        for layer in layers:
            handle = handle_of(layer)
            if handle is not None and handle.newest.key not in self._open:
                if (name := self.free_name(handle.newest)) != handle.newest.name:
                    handle.newest = replace(handle.newest, name=name)
                self._open[handle.newest.key] = handle
                self._current = handle.newest.key
                self._keep_selection()
                self.events.predictions()
            if handle is not None and handle.newest.plane is None:  # from a folder
                layer.name = handle.layer_name(layer.metadata.get(METADATA_KEY, {}))

    def free_name(self, opened: OpenPrediction, others: Iterable[str] = ()) -> str:
        """Its name; if another prediction or one of the ``others`` has it, with its folder or a number."""
        taken = {one.name for one in self.predictions if one.key is not opened.key}.union(others)
        names = [opened.name]
        if folder := opened.prediction.provenance.get("folder"):
            names.append(f"{opened.name} ({Path(folder).name})")
        numbered = (f"{names[-1]} ({number})" for number in count(2))
        return next(name for name in chain(names, numbered) if name not in taken)

    def _on_removed(self, event: Any) -> None:
        """Close a prediction with its last layer, unless it was made here and is current."""
        handle = handle_of(event.value)
        if handle is None or handle.newest.key not in self._open:
            return
        is_current = handle.newest.key == self._current
        made_here = handle.newest.plane is not None
        if any(handle_of(layer) is handle for layer in event.source):
            return
        if made_here and (is_current or handle.newest.growing):
            return
        del self._open[handle.newest.key]
        if is_current:
            self._current = next(reversed(self._open), None)
            self._keep_selection()
        self.events.predictions()


def _chosen(prediction: Prediction) -> bool:
    """Whether the user kept, rejected or added shapes."""
    drawn = (prediction.provenance.get("settings") or {}).get("members")
    added = drawn is not None and prediction.members > drawn
    return added or bool(prediction.kept or prediction.rejected)


_sessions: "weakref.WeakKeyDictionary[ViewerModel, Session]" = weakref.WeakKeyDictionary()
