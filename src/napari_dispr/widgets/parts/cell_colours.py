"""Colours of the cells in the labels layers: the selected cell stands out, cells that the filter hides are
dimmed, and the others may show a measure. At the end the layers get their own colours back.
"""

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any, ClassVar
from weakref import WeakKeyDictionary, WeakSet, ref

import numpy as np
from napari.components import ViewerModel
from napari.layers import Labels
from napari.utils.colormaps import DirectLabelColormap, ensure_colormap
from numpy.typing import NDArray
from qtpy.QtCore import QTimer

from napari_dispr.viewer.layers import COLOURED, own_colormap
from napari_dispr.viewer.link import PictureLink, linked_layers
from napari_dispr.viewer.opened import unwrapped
from napari_dispr.viewer.session import Session

#: Colour of the selected cell, and of cells that are filtered out.
_SELECTED, _DIMMED = (1.0, 0.85, 0.1, 1.0), (0.5, 0.5, 0.5, 0.15)
#: Factor for the opacity of the other cells while one cell is selected.
_BEHIND = 0.5
#: Labels up to this one keep their own colours, even if they were not predicted.
_MOST = 2000
#: In larger layers, in bytes, the largest label is not looked for: it would take as long as a click may take.
_LARGE = 2**28


class _Colormap(DirectLabelColormap):
    """Takes labels of any size; without numba, those of napari end at 2^16."""

    @cached_property
    def _array_map(self) -> "_ArrayMap":
        return _ArrayMap(self._values_mapping_to_minimum_values_set()[0])


class _ArrayMap:
    """Stands for an array with a value for each label, which large labels would make too long."""

    def __init__(self, values: Mapping[int | None, int]) -> None:
        known = sorted((label, value) for label, value in values.items() if label is not None)
        self._labels, numbers = np.array(known, dtype=np.int64).T
        self._values = numbers.astype(np.uint8 if numbers.max() < 254 else np.uint16)
        self.shape = (int(self._labels[-1]) + 2,)

    def __getitem__(self, labels: Any) -> Any:
        labels = np.asarray(labels).astype(np.int64)
        places = np.searchsorted(self._labels, labels).clip(max=len(self._labels) - 1)
        return np.where(self._labels[places] == labels, self._values[places], self._values.dtype.type(0))[()]


class CellColours:
    """The colours of the cells in one viewer; see `CellColours.of`."""

    _known: ClassVar["WeakKeyDictionary[ViewerModel, CellColours]"] = WeakKeyDictionary()

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer, self._session = ref(viewer), Session.of(viewer)
        self._users = 0
        #: Layers that are coloured; `COLOURED` has their own colours, and ours.
        self._coloured: WeakSet[Labels] = WeakSet()
        self._measured: Labels | None = None
        self._alone: int | None = None
        self._colours: Mapping[int, NDArray[np.float32]] = {}
        self._dimmed: frozenset[int] = frozenset()
        self._waiting: list[Labels] = []
        # One layer in each turn of the event loop: it takes some 50 ms.
        self._next = QTimer(singleShot=True, interval=0)
        self._next.timeout.connect(self._colour_one)

    @staticmethod
    def of(viewer: ViewerModel) -> "CellColours":
        """The colours of a viewer, shared by its widgets; each of them calls `release` at its end."""
        viewer = unwrapped(viewer)
        if viewer not in CellColours._known:
            CellColours._known[viewer] = CellColours(viewer)
        colours = CellColours._known[viewer]
        colours._users += 1
        if colours._users == 1:
            for event in ("selected", "predictions"):
                getattr(colours._session.events, event).connect(colours.refresh)
            colours.refresh()
        return colours

    def release(self) -> None:
        """Stop using the colours; after the last widget, the layers get their own colours again."""
        self._users -= 1
        if self._users == 0:
            for event in ("selected", "predictions"):
                getattr(self._session.events, event).disconnect(self.refresh)
            self._next.stop()
            self._waiting, self._colours, self._dimmed = [], {}, frozenset()
            self._measured = self._alone = None
            for layer in list(self._coloured):
                self._give_back(layer)

    def show(self, colours: Mapping[int, NDArray[np.float32]], dimmed: Iterable[int]) -> None:
        """Give cells these colours, RGBA, and dim others."""
        dimmed = frozenset(dimmed)
        if colours or self._colours or dimmed != self._dimmed:
            self._colours, self._dimmed = colours, dimmed
            self.refresh()

    def select_alone(self, layer: Labels | None, cell: int | None) -> None:
        """Mark a cell of a measured layer that has no prediction."""
        if (layer, cell) != (self._measured, self._alone):
            self._measured, self._alone = layer, cell
            self.refresh()

    @property
    def selected(self) -> int | None:
        """The cell that stands out."""
        return self._session.selection.cell if self._alone is None else self._alone

    def refresh(self, event: object = None) -> None:
        """Colour the layers again, those on screen first."""
        viewer = self._viewer()
        if viewer is None or not self._users:
            return
        wanted = linked_layers(viewer, self._measured)
        plain = self.selected is None and not self._colours and not self._dimmed
        for layer in list(self._coloured):
            if plain or layer not in wanted:
                self._give_back(layer)
        self._waiting = [] if plain else sorted(wanted, key=lambda layer: not layer.visible)
        self._next.start()

    @property
    def busy(self) -> bool:
        """Whether some layers wait for their colours."""
        return bool(self._waiting)

    def _colour_one(self) -> None:
        if not self._waiting:
            return
        layer = self._waiting.pop(0)
        own = own_colormap(layer)
        with PictureLink.quiet():
            layer.colormap = self._colormap(layer, own)
        COLOURED[layer] = own, layer.colormap
        self._coloured.add(layer)
        self._next.start()

    def _colormap(self, layer: Labels, own: Any) -> DirectLabelColormap:
        labels = self._labels(layer)
        colours = np.array(own.map(labels), dtype=np.float32)
        for row, label in enumerate(labels.tolist()):
            if label in self._colours:
                colours[row] = self._colours[label]
        if self.selected is not None:
            colours[:, 3] *= _BEHIND
        for row, label in enumerate(labels.tolist()):
            if label in self._dimmed:
                colours[row] = _DIMMED
            if label == self.selected:
                colours[row] = _SELECTED
        named = dict(zip(labels.tolist(), colours, strict=True))
        return _Colormap(color_dict={None: np.array(_DIMMED), 0: np.zeros(4), **named})

    def _labels(self, layer: Labels) -> NDArray[Any]:
        """The labels of a layer that need a colour, without reading a layer from disk."""
        opened = self._session.current
        known = {*self._colours, *self._dimmed, *(() if opened is None else opened.prediction)}
        known |= set() if self.selected is None else {self.selected}
        if isinstance(layer.data, np.ndarray) and layer.data.size:
            largest = _MOST if layer.data.nbytes > _LARGE else min(int(layer.data.max()), _MOST)
            known |= set(range(1, largest + 1))
        dtype = np.dtype(layer.data.dtype if hasattr(layer.data, "dtype") else np.int64)
        fits = np.iinfo(dtype).max - (dtype.itemsize > 2)  # napari counts to one more than the largest
        return np.array(sorted(label for label in known if label <= fits), dtype=np.int64)

    def _give_back(self, layer: Labels) -> None:
        self._coloured.discard(layer)
        own, ours = COLOURED.pop(layer)
        if layer.colormap is ours:
            with PictureLink.quiet():
                layer.colormap = own


def colours_of(cells: NDArray[np.int64], values: NDArray[np.float64]) -> dict[int, NDArray[np.float32]]:
    """A colour, RGBA, for each cell with a value: dark for the smallest values, bright for the largest."""
    there = np.isfinite(values)
    if not there.any():
        return {}
    low, high = np.percentile(values[there], [2, 98])
    shares = np.clip((values[there] - low) / max(high - low, 1e-12), 0, 1)
    # Up to green: the yellow end would look like the selected cell.
    colours = ensure_colormap("viridis").map(0.8 * shares)
    return dict(zip(cells[there].tolist(), colours.astype(np.float32), strict=True))
