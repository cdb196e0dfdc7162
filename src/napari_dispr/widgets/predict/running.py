"""One run of Predict as a generator for a thread; no Qt.

Everything slow happens here, so that the GUI thread only paints: reading and checking pixels, loading
the model, sampling, measuring, composing the label volumes.
"""

import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace

import pandas as pd
from napari.layers import Layer

from napari_dispr.errors import counted, duration
from napari_dispr.events import Running
from napari_dispr.prediction.result import Prediction
from napari_dispr.shapes.ensemble import Ensemble
from napari_dispr.viewer.content import ResultContent, compose, origin_of
from napari_dispr.viewer.layers import ResultLayers
from napari_dispr.widgets.parts.loading import load_torch
from napari_dispr.widgets.parts.threads import Progress
from napari_dispr.widgets.predict.request import Inspection, PredictRequest, inspect

#: Layers are updated at most this often, in seconds.
REFRESH = 1.0
#: ... and so rarely that composing them takes at most this share of the time.
_COMPOSING_SHARE = 0.2


@dataclass(frozen=True, slots=True, eq=False)
class Results:
    """All cells finished so far of the ``chosen`` ones: a prediction, its tables, and the content of its
    layers.
    """

    prediction: Prediction
    measures: pd.DataFrame
    cells: pd.DataFrame
    content: ResultContent
    chosen: int

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings about the prediction and its layers."""
        if self.prediction.step == 1:
            return tuple(self.prediction.warnings)
        share = "half" if self.prediction.step == 2 else f"1/{self.prediction.step}"
        text = f"Layers shown at {share} resolution to save memory; measures use full resolution."
        return (*self.prediction.warnings, text)


def run(
    request: PredictRequest,
    inspection: Inspection | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Generator[Progress | Results, None, Results]:
    """Predict; when it is cancelled or fails, the cells that are finished come before the exception.

    ``inspection`` is that of the same request; without it the request is inspected first. Yields `Progress`
    after each sampler step, and all cells finished so far at most once in `REFRESH` seconds.
    """
    inspection = inspection or inspect(request)
    load_torch()
    # Imported here: these need torch, which must not be loaded on the GUI thread.
    from napari_dispr.models.library import load_model
    from napari_dispr.prediction.predict import CellDone, iter_predict_crops

    model = load_model(request.settings.model)
    pixel_size = request.image.pixel_size(model.card.unit)
    events = iter_predict_crops(
        inspection.crops,
        model,
        request.settings.model_copy(update={"pixel_size": pixel_size}),
        image_to_world=request.image.to_world,
        unit=str(request.image.unit),
        image_shape=request.image.shape,
        notes=inspection.notes,
        provenance={"depths": list(inspection.depths)} if inspection.depths else None,
    )
    gathered = _Gathered(request, len(inspection.crops), clock)
    try:
        for event in (running := Running(events)):
            if isinstance(event, CellDone):
                gathered.add(event.ensemble, event.prediction)
            else:
                number = min(gathered.finished + 1, gathered.chosen)
                text = progress_text(event.label, number, gathered.chosen, event.seconds_left)
                yield Progress(event.done, event.total, text)
            if gathered.is_due:
                yield gathered.results()
        gathered.set_prediction(running.result)
        return gathered.results()
    except Exception:  # cancelled, or failed
        events.close()
        if gathered.is_pending:
            yield gathered.results()
        raise


class _Gathered:
    """The cells finished so far, and when to show them."""

    def __init__(self, request: PredictRequest, chosen: int, clock: Callable[[], float]) -> None:
        self.chosen = chosen
        self._prediction: Prediction | None = None
        self._plane, self._style, self._clock = request.origin, request.style, clock
        # Saved with the prediction, so that a folder opens as the same layers.
        self._origin = {**origin_of(request.origin), "labels": request.labels.name}
        self._tables: list[pd.DataFrame] = []
        self._cells: list[pd.DataFrame] = []
        self._content: ResultContent | None = None
        self._shown = 0
        self._next_refresh = 0.0

    @property
    def finished(self) -> int:
        return len(self._tables)

    def add(self, ensemble: Ensemble, prediction: Prediction) -> None:
        from napari_dispr.prediction.tables import measure_cells
        from napari_dispr.shapes.morphometry import measure_ensembles

        self.set_prediction(prediction)
        alone = {ensemble.label: ensemble}
        self._tables.append(measure_ensembles(alone))
        self._cells.append(measure_cells(replace(prediction, ensembles=alone), self._tables[-1]))

    def set_prediction(self, prediction: Prediction) -> None:
        self._prediction = replace(prediction, provenance={**prediction.provenance, **self._origin})

    @property
    def is_pending(self) -> bool:
        """Whether some finished cells were not shown yet."""
        return self._shown < self.finished

    @property
    def is_due(self) -> bool:
        return self.is_pending and self._clock() >= self._next_refresh

    def results(self) -> Results:
        assert self._prediction is not None
        started = self._clock()
        measures, cells = (_joined(tables) for tables in (self._tables, self._cells))
        self._content = compose(self._prediction, measures, self._plane, self._content, self._style)
        self._shown = self.finished
        cost = self._clock() - started
        self._next_refresh = started + max(REFRESH, cost / _COMPOSING_SHARE)
        return Results(self._prediction, measures, cells, self._content, self.chosen)


def _joined(tables: list[pd.DataFrame]) -> pd.DataFrame:
    table = pd.concat(tables, ignore_index=True)
    table.attrs = tables[0].attrs
    return table


def progress_text(cell: int, number: int, cells: int, seconds_left: float | None) -> str:
    """Such as ``cell 7 (2 of 3), 40 %, 12 s left``, with ``%p`` for the share."""
    text = f"cell {cell} ({number} of {cells}), %p %"
    return text if seconds_left is None else f"{text}, {duration(seconds_left)} left"


def summary(results: Results, finished: bool, said: str) -> str:
    """The result in words, ``3 cells predicted.`` or, if the run ended early, ``1 of 3 cells finished.``

    Warnings in ``said``, which the window shows already, are not repeated.
    """
    done = len(results.prediction)
    text = (
        f"{counted(done, 'cell')} predicted."
        if finished
        else f"{done} of {counted(results.chosen, 'cell')} finished."
    )
    return " ".join([text, *(warning for warning in results.warnings if warning not in said)])


def removed_text(inputs: Sequence[Layer], made: ResultLayers | None) -> str:
    """Where the shapes are, if the user has removed picture or labels (``inputs``), or all result layers."""
    text = ""
    if inputs:
        names, several = " and ".join(f'"{layer.name}"' for layer in inputs), len(inputs) > 1
        text = f" {names} {'were' if several else 'was'} removed during the run: the shapes lie where "
        text += "they were." if several else "it was."
    if made is not None and made.layers and not made.in_viewer:
        text += (
            " You removed the layers of the results: Compare and Morphometry still show the shapes, and "
            "Export in Morphometry saves them."
        )
    return text
