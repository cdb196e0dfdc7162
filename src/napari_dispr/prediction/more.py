"""Draw on: further members of a prediction's cells, and others for rejected ones.

A saved prediction holds all that is needed but the model, which must be the one that drew it: its hash is
compared. Each verb is a generator, as in ``prediction.py``, and a function that works through it.
"""

import os
from collections.abc import Callable, Generator, Iterable
from dataclasses import replace
from itertools import count, islice
from typing import Any

import numpy as np

from napari_dispr import grid
from napari_dispr.cells.cropping import Crop
from napari_dispr.diffusion.model import ShapeModel
from napari_dispr.errors import InputError
from napari_dispr.events import result_of
from napari_dispr.models.library import load_model
from napari_dispr.prediction.members import CellDone, Event, Step, iter_drawn
from napari_dispr.prediction.prior import note_cut
from napari_dispr.prediction.result import Prediction
from napari_dispr.settings import PredictSettings, checked_settings

__all__ = ["iter_more_members", "iter_redraw_members", "more_members", "redraw_members"]


def iter_more_members(
    prediction: Prediction,
    labels: int | Iterable[int],
    members: int,
    *,
    model: ShapeModel | str | os.PathLike[str] | None = None,
    device: str = "auto",
) -> Generator[Event, None, Prediction]:
    """Draw further members of cells, one event after each step; closing the generator cancels.

    They are drawn as those that are there: with the quality, seed and scale that the provenance tells, and
    with numbers that no member of the cell ever had, rejected ones included. So 3 more after 2 are the same,
    to the last bit on the same device, as 5 at once.

    Parameters
    ----------
    prediction : Prediction
        Also one that was saved and loaded; it stays as it is.
    labels : int or iterable of int
        The cells.
    members : int
        How many more of each.
    model : ShapeModel, name or path, optional
        By default that of the name in the provenance.
    device : str
        As in :class:`~napari_dispr.settings.PredictSettings`.

    Yields
    ------
    Step, CellDone
        With the prediction so far.

    Returns
    -------
    Prediction

    Raises
    ------
    InputError
        If there is no such cell, the model is not the one that drew it, or the cell was saved by a version
        that did not keep its section.
    """
    shape_model, settings = as_drawn(prediction, model, device, members=members)
    crops = [crop_of(prediction, label) for label in _checked_labels(prediction, labels)]
    numbers = {crop.label: _unused(prediction, crop.label, members) for crop in crops}
    begun = replace(prediction, warnings=list(prediction.warnings), unlike=dict(prediction.unlike))
    result = yield from iter_drawn(begun, crops, shape_model, settings, numbers)
    note_cut(result)
    return result


def more_members(
    prediction: Prediction,
    labels: int | Iterable[int],
    members: int,
    *,
    progress: Callable[[Event], None] | None = None,
    **options: Any,
) -> Prediction:
    """Draw further members of cells; see :func:`iter_more_members`.

    Parameters
    ----------
    prediction : Prediction
    labels : int or iterable of int
    members : int
    progress : callable, optional
        Called with each :class:`Step` and :class:`CellDone`.
    **options
        ``model``, ``device``.

    Examples
    --------
    >>> prediction = more_members(load_prediction("folder"), 7, 10)
    >>> prediction.save("folder")
    """
    return result_of(iter_more_members(prediction, labels, members, **options), progress)


def iter_redraw_members(
    prediction: Prediction,
    label: int,
    numbers: Iterable[int],
    *,
    model: ShapeModel | str | os.PathLike[str] | None = None,
    device: str = "auto",
) -> Generator[Event, None, Prediction]:
    """Reject members of a cell and draw as many others; events and errors as :func:`iter_more_members`.

    The others are drawn first, so that all members can be rejected, and nothing is lost if it is cancelled.

    Parameters
    ----------
    prediction : Prediction
    label : int
    numbers : iterable of int
        Of the members that are rejected.
    model : ShapeModel, name or path, optional
    device : str
    """
    rejected = list(dict.fromkeys(int(number) for number in numbers))
    if not rejected:
        raise InputError("No member was named: name at least one to reject.")
    for number in rejected:
        prediction.check_has(label, number)
    events = iter_more_members(prediction, label, len(rejected), model=model, device=device)
    while True:
        try:
            event = next(events)
        except StopIteration as end:
            result: Prediction = end.value
            break
        if isinstance(event, Step):  # the cell is done only when the rejected ones are gone
            yield event
    for number in rejected:
        result = result.reject(label, number)
    note_cut(result)
    yield CellDone(label, result[label], result)
    return result


def redraw_members(
    prediction: Prediction,
    label: int,
    numbers: Iterable[int],
    *,
    progress: Callable[[Event], None] | None = None,
    **options: Any,
) -> Prediction:
    """Reject members of a cell and draw as many others; see :func:`iter_redraw_members`."""
    return result_of(iter_redraw_members(prediction, label, numbers, **options), progress)


def as_drawn(
    prediction: Prediction, model: ShapeModel | str | os.PathLike[str] | None, device: str, **changed: Any
) -> tuple[ShapeModel, PredictSettings]:
    """The model that drew a prediction, and the settings that it drew with.

    Parameters
    ----------
    prediction : Prediction
    model : ShapeModel, name or path, optional
        By default that of the name in the provenance.
    device : str
    **changed
        Settings that are to be others.

    Raises
    ------
    InputError
        If that model is not here, or another than the one that drew.
    """
    made = prediction.provenance
    if made.get("method"):
        raise InputError(
            f"{made.get('model')} draws one shape of a cell and no other: predict with a shape model to have "
            "several."
        )
    if not made.get("settings") or not made.get("model_hash"):
        raise InputError("The prediction does not say how it was drawn: predict again.")
    settings = checked_settings(PredictSettings, {**made["settings"], "device": device, **changed})
    name = str(made.get("model"))
    try:
        wanted = name if model is None else model
        found = load_model(wanted) if isinstance(wanted, str | os.PathLike) else wanted
    except InputError:
        if model is not None:
            raise
        raise InputError(
            f"The model {name!r} that drew this prediction is not here: import it, or name its file as the "
            "model."
        ) from None
    if not isinstance(found, ShapeModel) or found.hash != made["model_hash"]:
        raise InputError(
            f"The model {found.name!r} is another than the {name!r} that drew this prediction: name the file "
            "of that one as the model, or predict again."
        )
    return found, settings


def _checked_labels(prediction: Prediction, labels: int | Iterable[int]) -> list[int]:
    chosen = [labels] if isinstance(labels, int | np.integer) else list(labels)
    if not chosen:
        raise InputError("No cells were named: name at least one.")
    return [int(label) for label in dict.fromkeys(chosen)]


def crop_of(prediction: Prediction, label: int) -> Crop:
    """What a cell was drawn from, as it was cut from the picture.

    Raises
    ------
    InputError
        If there is no such cell, or it was saved by a version that did not keep its section.
    """
    prediction.check_has(label)
    ensemble = prediction[label]
    if ensemble.section is None:
        raise InputError(
            f"Cell {label} was saved without what it was drawn from, by an older version: predict it again."
        )
    to_pixel = np.linalg.inv(grid.pixel_to_world(prediction.image_to_world)) @ ensemble.grid_to_world
    section = ensemble.section
    return Crop(label, section.mask, section.image, ensemble.zoom, to_pixel, section.known_scale)


def _unused(prediction: Prediction, label: int, members: int) -> tuple[int, ...]:
    """Numbers that no member of a cell ever had."""
    used = {*prediction[label].numbers, *prediction.rejected.get(label, ())}
    return tuple(islice((number for number in count() if number not in used), members))
