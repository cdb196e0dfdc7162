"""Where a prediction keeps its ensembles. Predictions never change, so those that follow share cells."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from itertools import islice

from napari_dispr.shapes.ensemble import Ensemble


class EnsembleStore(Mapping[int, Ensemble]):
    """A mapping of label to ensemble that does not change; another store may keep them on disk."""

    @abstractmethod
    def with_cell(self, ensemble: Ensemble, /) -> "EnsembleStore":
        """A store with one more cell, or with another ensemble of a cell."""


class MemoryStore(EnsembleStore):
    """Ensembles in memory, in the order in which they were added.

    A new cell is appended to a list that all stores of one history share; each store shows the first part of
    it. So the time for adding a cell does not depend on their number.
    """

    def __init__(self, ensembles: Mapping[int, Ensemble] | None = None) -> None:
        self._labels = list(ensembles or ())
        self._cells = {label: (i, (ensembles or {})[label]) for i, label in enumerate(self._labels)}
        self._count = len(self._labels)
        # Only the thread that takes the one item may append to the shared list; taking it is atomic.
        self._turn = [True]

    def __getitem__(self, label: int) -> Ensemble:
        place, ensemble = self._cells[label]
        if place >= self._count:
            raise KeyError(label)
        return ensemble

    def __iter__(self) -> Iterator[int]:
        return islice(self._labels, self._count)

    def __len__(self) -> int:
        return self._count

    def with_cell(self, ensemble: Ensemble, /) -> "MemoryStore":
        """A store with one more cell, or with another ensemble of a cell."""
        if ensemble.label in self or not self._turn:
            return MemoryStore({**self, ensemble.label: ensemble})
        try:
            self._turn.pop()
        except IndexError:  # another thread was faster
            return MemoryStore({**self, ensemble.label: ensemble})
        longer = MemoryStore()
        longer._labels, longer._cells, longer._count = self._labels, self._cells, self._count + 1
        longer._cells[ensemble.label] = (self._count, ensemble)
        longer._labels.append(ensemble.label)
        return longer
