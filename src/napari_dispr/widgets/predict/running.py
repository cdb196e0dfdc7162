"""One run of Predict as a generator that a thread works through; no Qt.

Everything slow happens here, so that the GUI thread only draws: reading and checking pixels, loading
the model, sampling, measuring, composing the label volumes.
"""

import threading
import time
from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pandas as pd

from napari_dispr.errors import InputError
from napari_dispr.prediction.tables import measure_cells
from napari_dispr.shapes.morphometry import measure_ensembles
from napari_dispr.viewer.displayed import DisplayedPlane
from napari_dispr.viewer.layers import ResultContent, compose, origin_of
from napari_dispr.widgets.parts.loading import load_torch, without_full_collections
from napari_dispr.widgets.predict.request import PredictRequest, inspect

if TYPE_CHECKING:
    from napari_dispr.prediction.result import Prediction
    from napari_dispr.shapes.ensemble import Ensemble

#: Layers are brought up to date at most this often, in seconds.
REFRESH = 1.0
#: ... and so seldom that composing them takes at most this share of the time.
_COMPOSING_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands.

    Attributes
    ----------
    cell : int
        Label of the cell being drawn.
    finished, cells : int
        Cells finished, and chosen.
    done, total : int
        Sampler steps over all cells.
    seconds_left : float or None
        None while nothing is known.
    """

    cell: int
    finished: int
    cells: int
    done: int
    total: int
    seconds_left: float | None


@dataclass(frozen=True, slots=True, eq=False)
class Results:
    """All cells finished so far: a prediction, its tables, and what the layers show.

    Attributes
    ----------
    prediction : Prediction
    measures : DataFrame
        A row a cell and member.
    cells : DataFrame
        A row a cell.
    content : ResultContent
    """

    prediction: "Prediction"
    measures: pd.DataFrame
    cells: pd.DataFrame
    content: ResultContent

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user should know of the run and of its layers."""
        coarse = self.prediction.step
        if coarse == 1:
            return tuple(self.prediction.warnings)
        text = f"To save memory a voxel of the layers takes {coarse} pixels; tables are measured in full."
        return (*self.prediction.warnings, text)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended.

    Attributes
    ----------
    finished, cells : int
        Cells finished, and chosen.
    problem : str
        What was wrong with the inputs, in words; empty if nothing.
    cancelled : bool
    error : Exception or None
        What went wrong otherwise. Not raised: of a `RuntimeError` in its thread, which is what torch
        raises, superqt makes a worker that never ends.
    warnings : tuple of str
    """

    finished: int = 0
    cells: int = 0
    problem: str = ""
    cancelled: bool = False
    error: Exception | None = None
    warnings: tuple[str, ...] = ()


def run(request: PredictRequest, cancelled: threading.Event) -> Generator[Progress | Results, None, Outcome]:
    """Predict; stops within one sampler step once ``cancelled`` is set and keeps the finished cells.

    Yields
    ------
    Progress
        After each sampler step.
    Results
        All cells finished so far, at most once a second, and at the end.
    """
    try:
        with without_full_collections():
            return (yield from _run(request, cancelled))
    except InputError as wrong:
        return Outcome(problem=str(wrong))
    except Exception as error:
        return Outcome(error=error)


def _run(request: PredictRequest, cancelled: threading.Event) -> Generator[Progress | Results, None, Outcome]:
    inspection = inspect(request)
    load_torch()
    # Here, not above: these need torch, which must not be loaded on the GUI thread.
    from napari_dispr.models.library import load_model
    from napari_dispr.prediction.predict import CellDone, iter_predict

    settings = request.settings
    model = load_model(settings.model)
    events = iter_predict(
        inspection.image.copy(),  # the user may paint on
        inspection.labels.copy(),
        model=model,
        cells=inspection.cells,
        members=settings.members,
        quality=settings.quality,
        sampler=settings.sampler,
        steps=settings.steps,
        scale=settings.scale,
        pixel_size=request.image.pixel_size(model.card.unit),
        seed=settings.seed,
        device=settings.device,
        image_to_world=request.image.to_world,
        unit=str(request.image.unit),
    )
    gathered = _Gathered(request.image, request.labels.name)
    progress = Progress(inspection.cells[0], 0, len(inspection.cells), 0, 0, None)
    complete, error = False, None
    while not cancelled.is_set():
        try:
            event = next(events)
        except StopIteration as end:
            gathered.keep(end.value)
            complete = True
            break
        except InputError:
            raise
        except Exception as failure:
            error = failure
            break
        if isinstance(event, CellDone):
            gathered.add(event.ensemble, event.prediction)
        else:
            progress = Progress(
                event.label, gathered.finished, progress.cells, event.done, event.total, event.seconds_left
            )
            yield progress
        if gathered.is_due:
            yield gathered.results()
    events.close()
    warnings: tuple[str, ...] = ()
    if gathered.prediction is not None:
        results = gathered.results()
        yield results
        warnings = results.warnings
    return Outcome(
        finished=gathered.finished,
        cells=progress.cells,
        cancelled=not complete and error is None,
        error=error,
        warnings=warnings,
    )


class _Gathered:
    """The cells finished so far, and when to show them."""

    def __init__(self, plane: DisplayedPlane, labels: str) -> None:
        self.prediction: Prediction | None = None
        self._plane = plane
        # Saved with it, so that a folder opens as the layers that these were.
        self._origin = {**origin_of(plane), "labels": labels}
        self._tables: list[pd.DataFrame] = []
        self._cells: list[pd.DataFrame] = []
        self._content: ResultContent | None = None
        self._shown = 0
        self._next_refresh = 0.0

    @property
    def finished(self) -> int:
        return len(self._tables)

    def add(self, ensemble: "Ensemble", prediction: "Prediction") -> None:
        self.keep(prediction)
        alone = {ensemble.label: ensemble}
        self._tables.append(measure_ensembles(alone))
        self._cells.append(measure_cells(replace(prediction, ensembles=alone), self._tables[-1]))

    def keep(self, prediction: "Prediction") -> None:
        self.prediction = replace(prediction, provenance={**prediction.provenance, **self._origin})

    @property
    def is_pending(self) -> bool:
        """Whether cells are finished that were not shown yet."""
        return self._shown < self.finished

    @property
    def is_due(self) -> bool:
        return self.is_pending and time.monotonic() >= self._next_refresh

    def results(self) -> Results:
        assert self.prediction is not None
        started = time.monotonic()
        measures = pd.concat(self._tables, ignore_index=True)
        measures.attrs = self._tables[0].attrs
        cells = pd.concat(self._cells, ignore_index=True)
        cells.attrs = self._cells[0].attrs
        content = self._content = compose(self.prediction, measures, self._plane, self._content)
        self._shown = self.finished
        cost = time.monotonic() - started
        self._next_refresh = started + max(REFRESH, cost / _COMPOSING_SHARE)
        return Results(self.prediction, measures, cells, content)


def number_of_cells(number: int) -> str:
    """Such as ``3 cells``."""
    return "1 cell" if number == 1 else f"{number} cells"


def progress_text(progress: Progress) -> str:
    """Such as ``cell 7 (2 of 3), 12 s left``."""
    text = f"cell {progress.cell} ({min(progress.finished + 1, progress.cells)} of {progress.cells}), %p %"
    if progress.seconds_left is None:
        return text
    seconds = round(progress.seconds_left)
    left = f"{seconds} s" if seconds < 100 else f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{text}, {left} left"
