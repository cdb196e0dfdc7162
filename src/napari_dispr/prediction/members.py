"""Draw members of cells into a prediction, with any method.

The noise of a member depends only on the seed, the cell and the member's number, not on what else is drawn.
"""

import zlib
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from napari_dispr import grid
from napari_dispr.cells.cropping import Crop
from napari_dispr.diffusion.representatives import CANDIDATES
from napari_dispr.errors import InputError
from napari_dispr.events import Step
from napari_dispr.models.method import Members, Method, NotDrawn, OutOfMemory, Task
from napari_dispr.prediction.notes import Note
from napari_dispr.prediction.prior import Prior
from napari_dispr.prediction.result import Prediction
from napari_dispr.shapes.ensemble import Ensemble
from napari_dispr.shapes.section import Section


@dataclass(frozen=True, slots=True, eq=False)
class CellDone:
    """A cell's ensemble is finished; ``prediction`` holds all that are."""

    label: int
    ensemble: Ensemble
    prediction: Prediction


Event = Step | CellDone


def checked_numbers(given: int | Iterable[int], what: str = "cells") -> list[int]:
    """The labels of cells, or the numbers of members, in their order, each once.

    Raises an InputError if there are none, or other values.
    """
    listed = given
    if isinstance(given, Iterable) and not isinstance(given, np.ndarray | str | bytes):
        listed = list(given)
    values = np.atleast_1d(np.asarray(listed))
    if not values.size:
        raise InputError(f"No {what} were given: give at least one.")
    if values.ndim != 1 or values.dtype.kind not in "ui":
        raise InputError(f"The {what} are {given!r}: give them as a list of whole numbers.")
    return [int(number) for number in dict.fromkeys(values.tolist())]


def iter_members(
    prediction: Prediction,
    crops: Sequence[Crop],
    method: Method,
    numbers: Mapping[int, Sequence[int]],
    seed: int,
) -> Generator[Event, None, Prediction]:
    """Draw members of cells into a prediction, one event after each step; closing the generator cancels.

    Cells that the prediction holds get further members; ``numbers`` says which members to draw of each cell.
    Raises an InputError if the prediction would hold no cell, since the method cannot draw any.
    """
    seeds = {
        crop.label: [noise_seed(seed, prediction, crop.label, number) for number in numbers[crop.label]]
        for crop in crops
    }
    tasks = [Task(crop, seeds[crop.label]) for crop in crops]
    reason: InputError | None = None
    with closing(method.draw(tasks)) as events:
        for event in events:
            match event:
                case Step():
                    yield event
                case Members():
                    label = event.crop.label
                    prediction = _added(prediction, event, method, numbers[label], seeds[label])
                    yield CellDone(label, prediction[label], prediction)
                case NotDrawn(crop, why):
                    reason = why
                    text = f"cell {prediction.stem(crop.label)}: {why}"
                    prediction = prediction.noted(Note("left out", crop.label, text, why=str(why)))
                case OutOfMemory(batch):
                    text = f"The device ran out of memory: from then on {batch} shapes were computed at once."
                    prediction = prediction.noted(Note("general", None, text))
    if reason is not None and not prediction:
        raise reason
    return prediction


def _added(
    prediction: Prediction, drawn: Members, method: Method, numbers: Sequence[int], seeds: Sequence[int]
) -> Prediction:
    """The prediction with the members of a cell."""
    crop, prior = drawn.crop, Prior(drawn.crop, method.card)
    if len(drawn.signed_distance) != len(seeds):
        raise ValueError(f"{method.name} drew {len(drawn.signed_distance)} members, not {len(seeds)}")
    ensemble = Ensemble(
        crop.label,
        np.stack([prior.applied(one, seed) for one, seed in zip(drawn.signed_distance, seeds, strict=True)]),
        grid.pixel_to_world(prediction.image_to_world) @ crop.grid_to_pixel,
        prediction.unit,
        crop.zoom,
        tuple(numbers),
        section_of(crop),
    )
    if crop.label in prediction:
        return prediction.with_cell(prediction[crop.label].joined(ensemble))
    notes = () if prior.unlike is None else (Note("unlike", crop.label, prior.unlike),)
    return prediction.with_cell(ensemble, *notes)


def section_of(crop: Crop) -> Section:
    """What a cell is drawn from, as its ensemble holds it."""
    return Section(crop.mask, crop.image, crop.known_scale, crop.planes, crop.picture, crop.sizes)


def noise_seed(seed: int, prediction: Prediction, label: int, number: int) -> int:
    """Seed of all noise of one member; those of a cell are consecutive, from a multiple of `CANDIDATES` on.

    A cell is identified by its name if cells have names, and labels only count them; otherwise by its label.
    """
    name = prediction.names.get(label)
    key = label if name is None else zlib.crc32(name.encode())
    (state,) = np.random.SeedSequence((seed, key)).generate_state(1, np.uint64)
    first = int(state) >> 2
    return first - first % CANDIDATES + number
