"""The job that calibrates a model with the chosen cells; no Qt objects, and torch only in its thread."""

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from napari_dispr.events import mapped
from napari_dispr.models.library import load_model, new_model_path
from napari_dispr.widgets.parts.loading import load_torch
from napari_dispr.widgets.parts.threads import Progress
from napari_dispr.widgets.train.request import ModelRequest, TrainingData, new_name


@dataclass(frozen=True, slots=True)
class Calibrated:
    """A calibrated model: its file, its errors in a sentence, and what may be wrong with it."""

    path: Path
    summary: str
    warnings: tuple[str, ...]


def calibrate(data: TrainingData, request: ModelRequest) -> Generator[Progress, None, Calibrated]:
    """Calibrate the start model with the cells, and save the result among the user's models.

    Raises an InputError if the name is taken, or the model or the cells cannot be used.
    """
    load_torch()
    from napari_dispr.training import calibrate as training

    name = new_name(request.name)
    assert request.start is not None
    events = training.iter_calibrate_cells(
        load_model(request.start),
        data.cells,
        data.notes,
        name,
        device=request.settings.device,
        licence=request.licence,
        data_note=request.data_note,
    )
    model = yield from mapped(events, lambda step: Progress(step.done, step.total, "calibrating, %p %"))
    path = new_model_path(name)
    training.save_unchanged(model, path)
    card = model.card
    return Calibrated(path, training.in_words(card), tuple(training.warnings_of(card)))
