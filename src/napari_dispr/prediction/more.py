"""Draw further members of a prediction's cells, and replace rejected ones.

A saved prediction holds everything that is needed except the model, which must be the one that drew it.
"""

import os
from collections.abc import Generator, Iterable
from itertools import count, islice

import numpy as np

from napari_dispr import grid
from napari_dispr.cells.cropping import INSIDE, Crop
from napari_dispr.diffusion.model import ShapeModel
from napari_dispr.errors import InputError
from napari_dispr.events import in_one_go, steps_of
from napari_dispr.models.library import load_model
from napari_dispr.models.sampling import Sampling
from napari_dispr.prediction.members import CellDone, Event, checked_numbers, iter_members
from napari_dispr.prediction.result import Prediction
from napari_dispr.settings import PredictSettings, checked_settings


def iter_more_members(
    prediction: Prediction,
    labels: int | Iterable[int],
    members: int,
    *,
    model: ShapeModel | str | os.PathLike[str] | None = None,
    device: str = "auto",
) -> Generator[Event, None, Prediction]:
    """Draw further members of cells.

    Quality, seed and scale are those of the prediction, and numbers are used that no member of the cell ever
    had. So 3 more after 2 are the same voxels, on the same device, as 5 at once.

    Parameters
    ----------
    prediction : Prediction
        It may have been saved and loaded; it does not change.
    labels : int or iterable of int
        The cells.
    members : int
        Number of new members of each cell.
    model : ShapeModel, name or path, optional
        By default the model named in the provenance.
    device : str
        As in :class:`~napari_dispr.settings.PredictSettings`.

    Yields
    ------
    Step, CellDone
        With the prediction so far. Closing the generator cancels.

    Raises
    ------
    InputError
        If there is no such cell, the model is not the one that drew it, or the prediction does not hold what
        the cell was drawn from.
    """
    method, settings = as_drawn(prediction, model, device)
    crops = [crop_of(prediction, label) for label in checked_numbers(labels)]
    members = checked_settings(PredictSettings, {"members": members}).members
    numbers = {crop.label: _unused(prediction, crop.label, members) for crop in crops}
    return (yield from iter_members(prediction, crops, method, numbers, settings.seed))


more_members = in_one_go(iter_more_members, 'more_members(load_prediction("folder"), 7, 10)')


def iter_redraw_members(
    prediction: Prediction,
    label: int,
    numbers: Iterable[int],
    *,
    model: ShapeModel | str | os.PathLike[str] | None = None,
    device: str = "auto",
) -> Generator[Event, None, Prediction]:
    """Reject members of a cell and draw the same number of new ones; see :func:`iter_more_members`.

    The new ones are drawn first, so that all members can be rejected, and nothing is lost on cancelling.

    Parameters
    ----------
    numbers : iterable of int
        Of the members that are rejected.
    """
    rejected = checked_numbers(numbers, "members")
    for number in rejected:
        prediction.check_has(label, number)
    # The cell is done only when the rejected members are gone.
    result = yield from steps_of(
        iter_more_members(prediction, label, len(rejected), model=model, device=device)
    )
    for number in rejected:
        result = result.reject(label, number)
    yield CellDone(label, result[label], result)
    return result


redraw_members = in_one_go(iter_redraw_members)


def as_drawn(
    prediction: Prediction, model: ShapeModel | str | os.PathLike[str] | None, device: str
) -> tuple[Sampling, PredictSettings]:
    """The method that drew a prediction, and its settings without the device.

    Raises an InputError if the model is not installed, or is not the one that drew the prediction.
    """
    made = prediction.provenance
    if made.get("method"):
        raise InputError(
            f"{made.get('model')} draws one shape of a cell and no other: predict with a shape model to get "
            "several."
        )
    if not made.get("settings") or not made.get("model_hash"):
        raise InputError("The prediction does not say how it was drawn: predict again.")
    settings = checked_settings(PredictSettings, {**made["settings"], "device": device})
    name = str(made.get("model"))
    try:
        wanted = name if model is None else model
        found = load_model(wanted) if isinstance(wanted, str | os.PathLike) else wanted
    except InputError:
        if model is not None:
            raise
        raise InputError(
            f"The model {name!r} that drew this prediction is not installed: import it, or give its file "
            "as the model."
        ) from None
    if not isinstance(found, ShapeModel) or found.hash != made["model_hash"]:
        raise InputError(
            f"The model {found.name!r} differs from the {name!r} that drew this prediction: give the file of "
            "that model, or predict again."
        )
    return Sampling.of(found, settings), settings


def crop_of(prediction: Prediction, label: int) -> Crop:
    """The crop that a cell was drawn from.

    Raises an InputError if there is no such cell, or the prediction does not hold its section.
    """
    prediction.check_has(label)
    section, facts = prediction.store.cell(label).section, prediction.facts(label)
    if section is None or not (section.mask > INSIDE).any():
        raise InputError(f"The prediction does not hold what cell {label} was drawn from: predict it again.")
    to_pixel = np.linalg.inv(grid.pixel_to_world(prediction.image_to_world)) @ facts.grid_to_world
    return Crop(
        label,
        section.mask,
        section.image,
        facts.zoom,
        to_pixel,
        section.known_scale,
        section.planes,
        section.picture,
        section.sizes,
    )


def _unused(prediction: Prediction, label: int, members: int) -> tuple[int, ...]:
    """Numbers that were never used for a member of the cell."""
    used = {*prediction.facts(label).numbers, *prediction.rejected.get(label, ())}
    return tuple(islice((number for number in count() if number not in used), members))
