"""How a member came to be: draw it again, and keep what it was on the way from noise to shape.

A generator, as in ``prediction.py``, and a function that works through it. The path itself, and its file, are
`shapes.denoising`.
"""

import os
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from napari_dispr.diffusion import devices
from napari_dispr.diffusion.samplers import Denoised, Denoiser
from napari_dispr.events import result_of
from napari_dispr.prediction.members import Clock, Step, batch_denoiser, member_noise, sampled
from napari_dispr.prediction.more import as_drawn, crop_of
from napari_dispr.prediction.prior import Opinion
from napari_dispr.prediction.result import Prediction
from napari_dispr.settings import PredictSettings, checked_settings
from napari_dispr.shapes.denoising import Denoising
from napari_dispr.shapes.ensemble import without_debris

if TYPE_CHECKING:
    from napari_dispr.diffusion.model import ShapeModel

__all__ = ["denoising", "iter_denoising"]

#: At most as many states of a shape are kept; of a longer path as many, evenly chosen.
MOST_FRAMES = 61


def iter_denoising(
    prediction: Prediction,
    label: int,
    number: int = 0,
    *,
    steps: int | None = None,
    model: "ShapeModel | str | os.PathLike[str] | None" = None,
    device: str = "auto",
) -> Generator[Step, None, Denoising]:
    """Draw a member again and keep what it was after each evaluation; one event a step.

    Parameters
    ----------
    prediction : Prediction
        Also one that was saved and loaded.
    label : int
    number : int
        Of the member, as in ``prediction[label].numbers``; or of a rejected one.
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
        If there is no such cell or member, the model is not the one that drew it, or the cell was saved by a
        version that did not keep its section.

    Notes
    -----
    A state of the sampler, x_t, is decoded as a member is (signed distance in voxels). The member was moved
    a little after its last step: specks were taken out, it may have been stretched to the volume that is
    expected, it was rounded. The difference that this made is added to each state in proportion to the
    signal in it: as if the finished member itself had been under the same noise. So the last frame is the
    member to the last bit, also where another device drew it.
    """
    if number not in prediction.rejected.get(label, ()):
        prediction.check_has(label, number)
    shape_model, settings = as_drawn(prediction, model, device)
    crop = crop_of(prediction, label)
    _, usual = shape_model.sampling(settings.quality, settings.sampler, settings.steps)
    if steps is not None:
        settings = checked_settings(PredictSettings, {**settings.model_dump(), "steps": steps})
    sampler, evaluations = shape_model.sampling(settings.quality, settings.sampler, settings.steps)
    own_path = evaluations != usual
    place = devices.choose(settings.device)
    network = shape_model.ready(place)
    # A path of its own need not be the same in every batch.
    batch = 1 if own_path else devices.batch_size(place, shape_model.network.config.fold**3)
    clock = Clock(evaluations)
    try:
        while True:
            record = _Record(evaluations)
            source = member_noise(settings.seed, crop, number, prediction)
            try:
                for x in sampled(
                    _Watched(batch_denoiser(shape_model, network, [crop], batch), record),
                    sampler,
                    evaluations,
                    [source],
                    batch,
                    place,
                ):
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
    times = np.array([*(visited[i] for i in record.kept), visited[-1]])
    decoded = shape_model.decode(np.stack([*record.states, last]))
    end = opinion.applied(without_debris(decoded[-1])).astype(np.float16).astype(np.float32)
    ensemble = prediction[label]
    is_member = not own_path and number in ensemble.numbers
    if is_member:
        end = ensemble.signed_distance[ensemble.numbers.index(number)]
    signal = np.array([process.signal(t) for t in times], dtype=np.float32)
    frames = decoded + signal[:, None, None, None] * (end - decoded[-1])
    frames[-1] = end
    guesses = [opinion.applied(without_debris(one)) for one in shape_model.decode(np.stack(record.clean))]
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
    return result_of(iter_denoising(prediction, label, number, **options), progress)


class _Record:
    """What is kept of a path of so many evaluations; the finished shape comes on top."""

    def __init__(self, steps: int) -> None:
        frames = min(steps + 1, MOST_FRAMES)
        #: The evaluations before which a state is kept.
        self.kept = np.rint(np.linspace(0, steps, frames)).astype(int)[:-1].tolist()
        self.done = 0
        self.states: list[NDArray[np.float32]] = []
        self.clean: list[NDArray[np.float32]] = []


class _Watched:
    """A denoiser that records the first shape of the batch before each evaluation, and its answer."""

    def __init__(self, denoiser: Denoiser, record: _Record) -> None:
        self._denoiser, self._record = denoiser, record
        self.process = denoiser.process

    def __call__(self, x: torch.Tensor, t: float) -> Denoised:
        denoised, record = self._denoiser(x, t), self._record
        if record.done in record.kept:
            record.states.append(x[0, 0].float().cpu().numpy())
            record.clean.append(denoised.clean[0, 0].float().cpu().numpy())
        record.done += 1
        return denoised
