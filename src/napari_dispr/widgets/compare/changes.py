"""What Compare changes in a prediction: shapes kept, members rejected and added. For threads; no Qt."""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from napari_dispr.events import mapped, steps_of
from napari_dispr.prediction.result import Prediction
from napari_dispr.viewer.content import LayerData, ResultContent, compose
from napari_dispr.viewer.opened import OpenPrediction
from napari_dispr.widgets.parts.loading import load_torch
from napari_dispr.widgets.parts.threads import Progress


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """A new state of a prediction, and the content of its layers."""

    opened: OpenPrediction
    content: ResultContent


def changed(opened: OpenPrediction, prediction: Prediction, before: ResultContent | None) -> Change:
    """Compute the tables and layers of another state of a prediction."""
    after = opened.changed_to(prediction)
    return Change(after, compose(prediction, after.measures, after.plane, before))


def draw_more(
    opened: OpenPrediction, cell: int, members: int, replaced: int | None, before: ResultContent | None
) -> Generator[Progress, None, Change]:
    """Sample further members of a cell. A new one may replace the member number ``replaced``."""
    load_torch()
    # Imported here: these need torch, which must not be loaded on the GUI thread.
    from napari_dispr.prediction.more import iter_more_members, iter_redraw_members

    if replaced is None:
        events = iter_more_members(opened.prediction, cell, members)
    else:
        events = iter_redraw_members(opened.prediction, cell, [replaced])
    prediction = yield from _with_progress(events)
    return changed(opened, prediction, before)


def replay_denoising(opened: OpenPrediction, cell: int, number: int) -> Generator[Progress, None, LayerData]:
    """Sample a member again and make a layer of its steps from noise to shape."""
    load_torch()
    from napari_dispr.prediction.denoising import iter_denoising
    from napari_dispr.widgets.compare.denoising import denoising_layer

    path = yield from _with_progress(iter_denoising(opened.prediction, cell, number))
    return denoising_layer(path, opened.name, opened.depth, opened.unit)


def _with_progress(events: Generator[Any, None, Any]) -> Generator[Progress, None, Any]:
    """The same generator with its steps as `Progress`."""
    return mapped(steps_of(events), lambda step: Progress(step.done, step.total, "%v of %m steps"))
