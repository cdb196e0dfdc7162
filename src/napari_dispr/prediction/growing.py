"""A prediction that is written to a folder cell by cell, so that a run that is killed can go on.

Each finished cell is two files and one line of an index. So the work for a cell does not depend on how many
there are, its shapes need no memory any more, and nothing is measured twice. A thread measures and saves,
while the next cells are drawn. At the end the index becomes ``prediction.json`` and the tables.
"""

import os
from collections import deque
from collections.abc import Generator, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from napari_dispr.events import Running
from napari_dispr.files import folder_locked, remove_temporary
from napari_dispr.prediction.index import INDEX_FILE, add_to_index, remove_torn_line
from napari_dispr.prediction.members import CellDone, Event
from napari_dispr.prediction.result import Prediction
from napari_dispr.prediction.saving import (
    CELLS,
    load_measures,
    save_cell,
    save_tables,
    start_index,
)
from napari_dispr.prediction.tables import measure_changed
from napari_dispr.shapes.measures import MEASURES
from napari_dispr.shapes.morphometry import measure_members, table_of_cells, values_of

#: Drawn cells that may wait to be measured and saved: as many as a batch of a GPU holds with five members.
_AHEAD = 8

#: The measures of a cell, a row a member.
_Rows = list[dict[str, Any]]


def iter_saved(
    events: Generator[Event, None, Prediction],
    folder: str | os.PathLike[str],
    inputs: Mapping[str, Any] | None = None,
    *,
    added_to: Prediction | None = None,
) -> Generator[Event, None, Prediction]:
    """Run a prediction and save each finished cell; the tables follow at the end, or when it is cancelled.

    Parameters
    ----------
    events : generator
        Of `iter_predict` or similar; it is closed. Its events are passed on: a cell when it is saved.
    inputs : mapping, optional
        The input files, and how they were read, for the provenance.
    added_to : Prediction, optional
        The prediction in the folder, to which the cells are added. Without it, the folder is replaced.
    """
    with folder_locked(folder):
        return (yield from _iter_saved(events, Path(folder), inputs, added_to))


def _iter_saved(
    events: Generator[Event, None, Prediction],
    folder: Path,
    inputs: Mapping[str, Any] | None,
    added_to: Prediction | None,
) -> Generator[Event, None, Prediction]:
    growing = _Growing(folder, added_to)
    writer = ThreadPoolExecutor(1)
    #: Cells that are drawn, each with its saving.
    waiting: deque[tuple[CellDone, Future[None]]] = deque()

    def saved(most: int) -> Iterator[CellDone]:
        """The cells that are saved, until at most so many wait."""
        while waiting and (len(waiting) > most or waiting[0][1].done()):
            cell, saving = waiting.popleft()
            saving.result()
            yield cell

    try:
        with closing(events):
            for event in (running := Running(events)):
                if isinstance(event, CellDone):
                    now = event.prediction.with_provenance(**inputs or {})
                    waiting.append((event, writer.submit(growing.add, now, event.label)))
                else:
                    yield event
                yield from saved(_AHEAD)
            prediction = running.result.with_provenance(**inputs or {})
            yield from saved(0)
    except BaseException:  # cancelled, interrupted or failed: what is saved is kept
        writer.shutdown(cancel_futures=True)
        growing.finish()
        raise
    writer.shutdown()
    growing.finish(prediction)
    return prediction


class _Growing:
    """The folder of a prediction to which cells are added."""

    def __init__(self, folder: Path, added_to: Prediction | None) -> None:
        self._folder, self._added_to = folder, added_to
        self._values: dict[int, NDArray[np.float64]] = {}
        for place in (folder, folder / CELLS):
            remove_temporary(place)
        if added_to is not None:
            values = load_measures(folder, added_to)[list(MEASURES)].to_numpy(float)
            ends = np.cumsum([len(added_to.facts(label).numbers) for label in added_to])
            self._values = dict(zip(added_to, np.split(values, ends[:-1]), strict=True))
            remove_torn_line(folder)
        #: The newest state whose cells are all saved; and whether a cell could not be saved completely.
        self._latest: Prediction | None = None
        self._torn = False

    def add(self, prediction: Prediction, label: int) -> None:
        """Save a finished cell, and give back its memory; nothing after a cell that could not be saved."""
        if self._torn:
            return
        self._torn = True
        if self._latest is None and self._added_to is None:
            start_index(prediction, self._folder)
        rows = self._measured(prediction, label)
        self._values[label] = values_of(rows)
        save_cell(prediction, self._folder, label)
        notes = [note for note in prediction.notes if (note.cell == label and note.kind in ("unlike", "cut"))]
        add_to_index(prediction, self._folder, label, notes, rows)
        path = self._folder.absolute() / CELLS / f"{prediction.stem(label)}.npz"
        prediction.store.cell(label).saved_as(path)
        self._latest, self._torn = prediction, False

    def _measured(self, prediction: Prediction, label: int) -> _Rows:
        """The measures of a cell; members that were measured before are not measured again."""
        before = self._added_to
        if before is None or label not in before:
            return measure_members(prediction[label])
        now, then = (replace(one, ensembles=one.store.chosen([label])) for one in (prediction, before))
        changed = measure_changed(now, then, self._table(then))
        return [{str(name): value for name, value in row.items()} for row in changed.to_dict("records")]

    def _table(self, prediction: Prediction) -> pd.DataFrame:
        """The table of a prediction whose cells are all measured."""
        numbers = {label: prediction.facts(label).numbers for label in prediction}
        return table_of_cells({label: self._values[label] for label in numbers}, numbers, prediction.unit)

    def finish(self, prediction: Prediction | None = None) -> None:
        """Write the tables and ``prediction.json``: of the whole prediction, or of the cells so far."""
        if prediction is None:
            if self._latest is None:
                return
            prediction = self._latest
        save_tables(prediction, self._folder, self._table(prediction))
        (self._folder / INDEX_FILE).unlink(missing_ok=True)
