"""What Compare changes of a prediction: shapes kept, members rejected and added. For threads; no Qt."""

import threading
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from napari_dispr.prediction.result import Prediction
from napari_dispr.viewer.layers import ResultContent, compose, compose_saved, surface_layers
from napari_dispr.viewer.session import OpenPrediction
from napari_dispr.widgets.parts.loading import load_torch, without_full_collections


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """A new state of a prediction, and what its layers show."""

    opened: OpenPrediction
    content: ResultContent


def changed(
    opened: OpenPrediction, prediction: Prediction, before: ResultContent | None, cancelled: threading.Event
) -> Generator[None, None, Change]:
    """The tables and layers of another state of a prediction; too short to be cancelled.

    Parameters
    ----------
    opened : OpenPrediction
    prediction : Prediction
        The other state.
    before : ResultContent or None
        What the layers show now.
    cancelled : threading.Event
    """
    yield
    return _change(opened, prediction, before)


def _change(opened: OpenPrediction, prediction: Prediction, before: ResultContent | None) -> Change:
    after = opened.changed_to(prediction)
    if after.plane is None:
        return Change(after, compose_saved(prediction, after.measures, before))
    return Change(after, compose(prediction, after.measures, after.plane, before))


def draw_more(
    opened: OpenPrediction,
    cell: int,
    members: int,
    instead_of: int | None,
    before: ResultContent | None,
    cancelled: threading.Event,
) -> Generator[Any, None, Change | None]:
    """Draw further members of a cell; stops within one step once ``cancelled`` is set.

    Parameters
    ----------
    opened : OpenPrediction
    cell, members : int
    instead_of : int or None
        Number of a member that one other is drawn for; None: they are added.
    before : ResultContent or None
    cancelled : threading.Event

    Returns
    -------
    Change or None
        None if it was cancelled.
    """
    load_torch()
    # Here, not above: these need torch, which must not be loaded on the GUI thread.
    from napari_dispr.prediction.more import iter_more_members, iter_redraw_members

    if instead_of is None:
        events = iter_more_members(opened.prediction, cell, members)
    else:
        events = iter_redraw_members(opened.prediction, cell, [instead_of])
    with without_full_collections():
        prediction = yield from _until(cancelled, events)
        return None if prediction is None else _change(opened, prediction, before)


def watch_denoising(
    opened: OpenPrediction, cell: int, number: int, cancelled: threading.Event
) -> Generator[Any, None, tuple[Any, dict[str, Any], str] | None]:
    """How a member came to be, as a layer (data, settings, type); None if it was cancelled.

    Parameters
    ----------
    opened : OpenPrediction
    cell, number : int
    cancelled : threading.Event
    """
    load_torch()
    from napari_dispr.prediction.denoising import iter_denoising
    from napari_dispr.widgets.compare.denoising import denoising_layer

    with without_full_collections():
        path = yield from _until(cancelled, iter_denoising(opened.prediction, cell, number))
        if path is None:
            return None
        layer = denoising_layer(path, name=opened.name, depth=opened.depth, unit=opened.unit)
        return (*layer, "image")


def surfaces(
    opened: OpenPrediction, cell: int, cancelled: threading.Event
) -> Generator[None, None, list[tuple[Any, dict[str, Any], str]]]:
    """The shapes of a cell as surface layers (data, settings, type)."""
    yield
    return surface_layers(opened, cell)


def _until(cancelled: threading.Event, events: Generator[Any, None, Any]) -> Generator[Any, None, Any]:
    """What a verb returns; None, and the verb is closed, once ``cancelled`` is set."""
    while not cancelled.is_set():
        try:
            yield next(events)
        except StopIteration as end:
            return end.value
    events.close()
    return None
