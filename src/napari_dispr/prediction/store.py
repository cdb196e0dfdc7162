"""Where a prediction keeps its ensembles: in memory, or in files from which they are read when asked for.

Predictions never change, so those that follow share their cells.
"""

import tempfile
import threading
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import numpy as np

from napari_dispr.errors import InputError
from napari_dispr.shapes.ensemble import Ensemble, arrays_of
from napari_dispr.shapes.facts import Agreement, CellFacts
from napari_dispr.shapes.section import Section

#: Ensembles of one history that are held in memory, in bytes of signed distances. Older ones go to files.
MOST_HELD = 512 * 2**20
#: Ensembles that were read from files and stay in memory, of all predictions, in the same bytes.
MOST_RECENT = 192 * 2**20


@dataclass(frozen=True, slots=True, eq=False)
class CellFile:
    """A file of `Ensemble.save_npz`, and the facts of the cell in it.

    ``folder`` is a temporary one, which lives as long as its files are needed.
    """

    path: Path
    facts: CellFacts
    folder: "tempfile.TemporaryDirectory[str] | None" = None

    def ensemble(self) -> Ensemble:
        """Read all.

        Raises an InputError if the file is missing, damaged, or was replaced since the facts were read.
        """
        ensemble, facts = Ensemble.load_npz(self.path), self.facts
        same = ensemble.label == facts.label and ensemble.numbers == facts.numbers
        if not same or not np.array_equal(ensemble.grid_to_world, facts.grid_to_world):
            raise InputError(
                f"{self.path} was replaced after the prediction was opened: open the prediction again."
            )
        return ensemble

    def section(self) -> Section | None:
        """Read what the members were sampled from, which takes a twentieth of the time."""
        with arrays_of(self.path) as arrays:
            return Section.of_arrays(arrays)


class EnsembleStore(Mapping[int, Ensemble]):
    """A mapping of label to ensemble that does not change, in the order in which cells were added."""

    def __init__(
        self,
        ensembles: Mapping[int, Ensemble] | None = None,
        saved: Mapping[int, CellFile] | None = None,
    ) -> None:
        self._cells = {label: StoredCell(ensemble) for label, ensemble in (ensembles or {}).items()}
        self._cells |= {label: StoredCell(file=file) for label, file in (saved or {}).items()}
        self._overflow = _Overflow()

    def __getitem__(self, label: int) -> Ensemble:
        return self._cells[label].ensemble

    def __contains__(self, label: object) -> bool:
        return label in self._cells

    def __iter__(self) -> Iterator[int]:
        return iter(self._cells)

    def __len__(self) -> int:
        return len(self._cells)

    def cell(self, label: int) -> "StoredCell":
        """Where a cell lies, and what is known of it without reading its shapes."""
        return self._cells[label]

    def same_cell(self, other: "EnsembleStore", label: int) -> bool:
        """Whether two stores share a cell, so that its shapes are equal."""
        return label in self and self._cells[label] is other._cells.get(label)

    def chosen(self, labels: Iterable[int]) -> "EnsembleStore":
        """A store with some of the cells, in another order."""
        return self._with({label: self._cells[label] for label in labels})

    def with_cell(self, ensemble: Ensemble) -> "EnsembleStore":
        """A store with one more cell, or with another ensemble of a cell."""
        cell = StoredCell(ensemble)
        self._overflow.add(cell)
        return self._with({**self._cells, ensemble.label: cell})

    def _with(self, cells: dict[int, "StoredCell"]) -> "EnsembleStore":
        store = EnsembleStore()
        store._overflow, store._cells = self._overflow, cells
        return store


class StoredCell:
    """One cell. What it holds does not change; where it lies may."""

    __slots__ = ("_facts", "_file", "_held")

    def __init__(self, held: Ensemble | None = None, file: CellFile | None = None) -> None:
        self._held, self._file = held, file
        self._facts = None if file is None else file.facts

    @property
    def held(self) -> bool:
        """Whether it is in memory and nowhere else."""
        return self._held is not None

    @property
    def ensemble(self) -> Ensemble:
        held = self._held
        if held is not None:
            return held
        assert self._file is not None
        return _RECENT.get(self, self._file)

    @property
    def section(self) -> Section | None:
        """What the members were sampled from."""
        held = self._held
        if held is not None:
            return held.section
        assert self._file is not None
        return self._file.section()

    @property
    def facts(self) -> CellFacts:
        """Their ``agreement`` may be None."""
        if self._facts is None:
            self._facts = CellFacts.of(self.ensemble)
        return self._facts

    @property
    def agreement(self) -> Agreement:
        """How much the members agree; computed from the shapes if it is not known yet."""
        facts = self.facts
        if facts.agreement is None:
            facts = self._facts = replace(facts, agreement=Agreement.of(self.ensemble))
        assert facts.agreement is not None
        return facts.agreement

    def saved_as(self, path: Path, folder: "tempfile.TemporaryDirectory[str] | None" = None) -> None:
        """The cell is in a file now: its memory is given back."""
        _ = self.agreement
        # Before the memory is given back: another thread may be reading.
        self._file = CellFile(path, self.facts, folder)
        self._held = None


class _Recent:
    """The ensembles that were read last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ensembles: OrderedDict[StoredCell, Ensemble] = OrderedDict()
        self._bytes = 0

    def get(self, cell: StoredCell, file: CellFile) -> Ensemble:
        with self._lock:
            if cell in self._ensembles:
                self._ensembles.move_to_end(cell)
                return self._ensembles[cell]
        ensemble = file.ensemble()
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
        self._held: deque[tuple[StoredCell, int]] = deque()
        self._bytes = 0
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._names = count()

    def add(self, cell: StoredCell) -> None:
        size = cell.ensemble.signed_distance.nbytes
        with self._lock:
            self._held.append((cell, size))
            self._bytes += size
            while self._held and (self._bytes > MOST_HELD or not self._held[0][0].held):
                oldest, size = self._held.popleft()
                self._bytes -= size
                if oldest.held:
                    self._write(oldest)

    def _write(self, cell: StoredCell) -> None:
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="napari-dispr-", ignore_cleanup_errors=True)
        path = Path(self._folder.name) / f"{next(self._names)}.npz"
        cell.ensemble.save_npz(path)
        cell.saved_as(path, self._folder)
