"""Draw on: further members of a prediction's cells, others for rejected ones, and how one came to be.

A saved prediction holds all that is needed but the model, which must be the one that drew it: its hash is
compared. Each verb is a generator, as in ``prediction.py``, and a function that works through it.
"""

import os
from collections.abc import Callable, Generator, Iterable
from dataclasses import replace
from itertools import count, islice
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from napari_dispr import grid
from napari_dispr.cells.cropping import Crop
from napari_dispr.diffusion import devices
from napari_dispr.diffusion.model import ShapeModel
from napari_dispr.diffusion.samplers import Denoised, Denoiser
from napari_dispr.drawing import (
    CellDone,
    Clock,
    Event,
    Step,
    batch_denoiser,
    iter_drawn,
    member_noise,
    sampled,
)
from napari_dispr.errors import InputError
from napari_dispr.library import load_model
from napari_dispr.opinion import Opinion, note_cut
from napari_dispr.results import Prediction
from napari_dispr.settings import PredictSettings, checked_settings
from napari_dispr.shapes.denoising import Denoising
from napari_dispr.shapes.ensemble import without_debris

__all__ = [
    "denoising",
    "iter_denoising",
    "iter_more_members",
    "iter_redraw_members",
    "more_members",
    "redraw_members",
]

#: At most as many states of a shape are kept; of a longer path as many, evenly chosen.
MOST_FRAMES = 61

Result = TypeVar("Result")


# --- more members ---------------------------------------------------------------------------------------


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
    shape_model, settings = _as_drawn(prediction, model, device, members=members)
    crops = [_crop(prediction, label) for label in _checked_labels(prediction, labels)]
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
    return _result(iter_more_members(prediction, labels, members, **options), progress)


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
    return _result(iter_redraw_members(prediction, label, numbers, **options), progress)


# --- how a member came to be ----------------------------------------------------------------------------


def iter_denoising(
    prediction: Prediction,
    label: int,
    number: int = 0,
    *,
    steps: int | None = None,
    model: ShapeModel | str | os.PathLike[str] | None = None,
    device: str = "auto",
) -> Generator[Step, None, Denoising]:
    """Draw a member again and keep what it was after each evaluation; one event a step.

    Parameters
    ----------
    prediction : Prediction
        Also one that was saved and loaded.
    label : int
    number : int
        Of the member, as in ``prediction[label].numbers``; or of one that is not there (any more).
    steps : int, optional
        Evaluations, in place of those that the member was drawn with: a finer path from the same noise. It
        ends near the member but not in it.
    model : ShapeModel, name or path, optional
        By default that of the name in the provenance.
    device : str

    Yields
    ------
    Step

    Returns
    -------
    Denoising
        At most `MOST_FRAMES` states; of a longer path as many, evenly chosen, its two ends among them.

    Raises
    ------
    InputError
        As :func:`iter_more_members`.

    Notes
    -----
    A state of the sampler, x_t, is decoded as a member is (signed distance in voxels). The member was moved
    a little after its last step: specks were taken out, it may have been stretched to the volume that is
    expected, it was rounded. The difference that this made is added to each state in proportion to the
    signal in it: as if the finished member itself had been under the same noise. So the last frame is the
    member to the last bit, also where another device drew it.
    """
    shape_model, settings = _as_drawn(prediction, model, device)
    crop = _crop(prediction, label)
    sampler, usual = shape_model.sampling(settings.quality, settings.sampler, settings.steps)
    evaluations = steps or usual
    shape_model.sampling(settings.quality, sampler, evaluations)  # or says why not
    place = devices.choose(settings.device)
    network = shape_model.ready(place)
    # A path of its own need not be the same in every batch.
    own_path = evaluations != usual
    batch = 1 if own_path else devices.batch_size(place, shape_model.network.config.fold**3)
    clock = Clock(evaluations)
    try:
        while True:
            watched = _Watched(batch_denoiser(shape_model, network, [crop], batch), evaluations)
            source = member_noise(settings.seed, crop, number, prediction)
            try:
                for x in sampled(watched, sampler, evaluations, [source], batch, place):
                    last = x[0, 0]
                    yield clock.step(label, 1)
                break
            except (RuntimeError, MemoryError) as error:
                if not devices.is_out_of_memory(error) or batch == 1:
                    raise
                batch //= 2
                devices.release(place)
                clock.end_batch(finished=False)
    finally:
        del network
        devices.release(place)

    opinion = Opinion(crop, shape_model.card)
    process = shape_model.process
    visited = process.times(evaluations)
    times = np.array([*(visited[i] for i in watched.kept), visited[-1]])
    decoded = shape_model.decode(np.stack([*watched.states, last]))
    end = opinion.applied(without_debris(decoded[-1])).astype(np.float16).astype(np.float32)
    ensemble = prediction[label]
    is_member = not own_path and number in ensemble.numbers
    if is_member:
        end = ensemble.signed_distance[ensemble.numbers.index(number)]
    signal = np.array([process.signal(t) for t in times], dtype=np.float32)
    frames = decoded + signal[:, None, None, None] * (end - decoded[-1])
    frames[-1] = end
    guesses = [opinion.applied(without_debris(one)) for one in shape_model.decode(np.stack(watched.clean))]
    return Denoising(
        label=label,
        number=number,
        frames=frames,
        clean=np.stack([*guesses, end]),
        times=times,
        noise=np.array([process.noise(t) for t in times]),
        grid_to_world=ensemble.grid_to_world,
        unit=ensemble.unit,
        is_member=is_member,
        sampler=sampler,
        steps=evaluations,
        provenance=dict(prediction.provenance),
        section=ensemble.section,
    )


def denoising(
    prediction: Prediction,
    label: int,
    number: int = 0,
    *,
    progress: Callable[[Step], None] | None = None,
    **options: Any,
) -> Denoising:
    """How a member came to be, from noise to shape; see :func:`iter_denoising`.

    Parameters
    ----------
    prediction : Prediction
    label : int
    number : int
    progress : callable, optional
        Called with each :class:`Step`.
    **options
        ``steps``, ``model``, ``device``.

    Examples
    --------
    >>> path = denoising(load_prediction("folder"), 7, steps=24)
    >>> path.save_tiff("cell7.ome.tif")
    """
    return _result(iter_denoising(prediction, label, number, **options), progress)


class _Watched:
    """A denoiser that keeps what the first shape of the batch was before each evaluation, and its answer."""

    def __init__(self, denoiser: Denoiser, steps: int) -> None:
        self._denoiser = denoiser
        self.process = denoiser.process
        frames = min(steps + 1, MOST_FRAMES)
        #: Evaluations before which a state is kept; the finished shape comes on top.
        self.kept = np.rint(np.linspace(0, steps, frames)).astype(int)[:-1].tolist()
        self._done = 0
        self.states: list[NDArray[np.float32]] = []
        self.clean: list[NDArray[np.float32]] = []

    def __call__(self, x: torch.Tensor, t: float) -> Denoised:
        denoised = self._denoiser(x, t)
        if self._done in self.kept:
            self.states.append(x[0, 0].float().cpu().numpy())
            self.clean.append(denoised.clean[0, 0].float().cpu().numpy())
        self._done += 1
        return denoised


# --- what both need -------------------------------------------------------------------------------------


def _as_drawn(
    prediction: Prediction, model: ShapeModel | str | os.PathLike[str] | None, device: str, **changed: Any
) -> tuple[ShapeModel, PredictSettings]:
    """The model that drew a prediction, and the settings that it drew with."""
    made = prediction.provenance
    if made.get("method"):
        raise InputError(
            f"{made.get('model')} draws one shape of a cell and no other: predict with a shape model to have "
            "several."
        )
    if not made.get("settings") or not made.get("model_hash"):
        raise InputError("The prediction does not say how it was drawn: predict again.")
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
    settings = checked_settings(PredictSettings, {**made["settings"], "device": device, **changed})
    return found, settings


def _checked_labels(prediction: Prediction, labels: int | Iterable[int]) -> list[int]:
    chosen = [labels] if isinstance(labels, int | np.integer) else list(labels)
    if not chosen:
        raise InputError("No cells were named: name at least one.")
    return [int(label) for label in dict.fromkeys(chosen)]


def _crop(prediction: Prediction, label: int) -> Crop:
    """What a cell was drawn from, as it was cut from the picture."""
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


def _result(events: Generator[Any, None, Result], progress: Callable[[Any], None] | None) -> Result:
    """What a verb's events end in."""
    while True:
        try:
            event = next(events)
        except StopIteration as end:
            value: Result = end.value
            return value
        if progress is not None:
            progress(event)
