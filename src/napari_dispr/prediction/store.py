"""Where a prediction keeps its ensembles: in memory, or in files from which they are read when asked for.

Predictions never change, so those that follow share their cells.
"""

import tempfile
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import count, islice
from pathlib import Path

from napari_dispr.shapes.ensemble import Ensemble
from napari_dispr.shapes.facts import Agreement, CellFacts

#: Ensembles of one history that are held in memory, in bytes of signed distances. Older ones go to files.
MOST_HELD = 512 * 2**20
#: Ensembles that were read from files and stay in memory, of all predictions, in the same bytes.
MOST_RECENT = 192 * 2**20

#: Reads an ensemble from its file.
Read = Callable[[], Ensemble]


class EnsembleStore(Mapping[int, Ensemble]):
    """A mapping of label to ensemble that does not change, in the order in which cells were added.

    A new cell is appended to a list that all stores of one history share; each store shows the first part of
    it. So the time for adding a cell does not depend on their number.

    Parameters
    ----------
    saved : mapping of int to (CellFacts, callable)
        Cells in files: what is known of them, and what reads them.
    """

    def __init__(
        self,
        ensembles: Mapping[int, Ensemble] | None = None,
        saved: Mapping[int, tuple[CellFacts, Read]] | None = None,
    ) -> None:
        cells = {label: _Cell(held=ensemble) for label, ensemble in (ensembles or {}).items()}
        cells |= {label: _Cell(facts=facts, read=read) for label, (facts, read) in (saved or {}).items()}
        self._overflow = _Overflow()
        self._set(cells)

    def _set(self, cells: Mapping[int, "_Cell"]) -> None:
        self._labels = list(cells)
        self._cells = {label: (place, cell) for place, (label, cell) in enumerate(cells.items())}
        self._count = len(cells)
        # Only the thread that takes the one item may append to the shared list; taking it is atomic.
        self._turn = [True]

    def _cell(self, label: int) -> "_Cell":
        place, cell = self._cells[label]
        if place >= self._count:
            raise KeyError(label)
        return cell

    def __getitem__(self, label: int) -> Ensemble:
        return self._cell(label).ensemble

    def __contains__(self, label: object) -> bool:
        return isinstance(label, int) and label in self._cells and self._cells[label][0] < self._count

    def __iter__(self) -> Iterator[int]:
        return islice(self._labels, self._count)

    def __len__(self) -> int:
        return self._count

    def facts(self, label: int) -> CellFacts:
        """What is known of a cell without reading its shapes; its ``agreement`` may be None."""
        return self._cell(label).facts

    def agreement(self, label: int) -> Agreement:
        """How much the members of a cell agree; computed from the shapes if it is not known yet."""
        return self._cell(label).agreement

    def same_cell(self, other: "EnsembleStore", label: int) -> bool:
        """Whether two stores share a cell, so that its shapes are equal."""
        return label in self and label in other and self._cell(label) is other._cell(label)

    def chosen(self, labels: Iterable[int]) -> "EnsembleStore":
        """A store with some of the cells, in another order."""
        return self._with({label: self._cell(label) for label in labels})

    def with_cell(self, ensemble: Ensemble) -> "EnsembleStore":
        """A store with one more cell, or with another ensemble of a cell."""
        cell = _Cell(held=ensemble)
        self._overflow.add(cell)
        if ensemble.label in self or not self._turn:
            return self._with({**{label: self._cell(label) for label in self}, ensemble.label: cell})
        try:
            self._turn.pop()
        except IndexError:  # another thread was faster
            return self._with({**{label: self._cell(label) for label in self}, ensemble.label: cell})
        longer = self._with({})
        longer._labels, longer._cells, longer._count = self._labels, self._cells, self._count + 1
        longer._cells[ensemble.label] = (self._count, cell)
        longer._labels.append(ensemble.label)
        return longer

    def _with(self, cells: Mapping[int, "_Cell"]) -> "EnsembleStore":
        store = EnsembleStore()
        store._overflow = self._overflow
        store._set(cells)
        return store

    def saved_as(self, label: int, read: Read) -> None:
        """The cell is in a file now, from which ``read`` reads it: its memory is given back."""
        self._cell(label).saved_as(read)


class _Cell:
    """One cell. What it holds does not change; where it lies may."""

    __slots__ = ("_facts", "_held", "_read")

    def __init__(
        self, held: Ensemble | None = None, facts: CellFacts | None = None, read: Read | None = None
    ) -> None:
        self._held, self._facts, self._read = held, facts, read

    @property
    def held(self) -> bool:
        """Whether it is in memory and nowhere else."""
        return self._held is not None

    @property
    def ensemble(self) -> Ensemble:
        held = self._held
        if held is not None:
            return held
        assert self._read is not None
        return _RECENT.get(self, self._read)

    @property
    def facts(self) -> CellFacts:
        if self._facts is None:
            self._facts = CellFacts.of(self.ensemble)
        return self._facts

    @property
    def agreement(self) -> Agreement:
        facts = self.facts
        if facts.agreement is None:
            facts = self._facts = replace(facts, agreement=Agreement.of(self.ensemble))
        assert facts.agreement is not None
        return facts.agreement

    def saved_as(self, read: Read) -> None:
        _ = self.agreement
        self._read = read  # before the memory is given back: another thread may be reading
        self._held = None


class _Recent:
    """The ensembles that were read last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ensembles: OrderedDict[_Cell, Ensemble] = OrderedDict()
        self._bytes = 0

    def get(self, cell: _Cell, read: Read) -> Ensemble:
        with self._lock:
            if cell in self._ensembles:
                self._ensembles.move_to_end(cell)
                return self._ensembles[cell]
        ensemble = read()
        with self._lock:
            if cell not in self._ensembles:
                self._ensembles[cell] = ensemble
                self._bytes += ensemble.signed_distance.nbytes
            while self._bytes > MOST_RECENT and len(self._ensembles) > 1:
                _, oldest = self._ensembles.popitem(last=False)
                self._bytes -= oldest.signed_distance.nbytes
        return ensemble


_RECENT = _Recent()


class _Overflow:
    """Writes the oldest cells of a history to a temporary folder when too many are held in memory."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: deque[tuple[_Cell, int]] = deque()
        self._bytes = 0
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._names = count()

    def add(self, cell: _Cell) -> None:
        size = cell.ensemble.signed_distance.nbytes
        with self._lock:
            self._held.append((cell, size))
            self._bytes += size
            while self._held and (self._bytes > MOST_HELD or not self._held[0][0].held):
                oldest, size = self._held.popleft()
                self._bytes -= size
                if oldest.held:
                    self._write(oldest)

    def _write(self, cell: _Cell) -> None:
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="napari-dispr-", ignore_cleanup_errors=True)
        folder, path = self._folder, Path(self._folder.name) / f"{next(self._names)}.npz"
        cell.ensemble.save_npz(path)

        def read() -> Ensemble:
            _ = folder  # the files live as long as the cells that need them
            return Ensemble.load_npz(path)

        cell.saved_as(read)
