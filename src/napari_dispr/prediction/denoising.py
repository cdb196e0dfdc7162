"""Sample a member again, and keep its states from noise to shape (`shapes.denoising`)."""

import os
from collections.abc import Generator, Sequence
from contextlib import closing

import numpy as np
import torch
from numpy.typing import NDArray

from napari_dispr.diffusion.model import ShapeModel
from napari_dispr.diffusion.samplers import Denoised, Denoiser
from napari_dispr.events import Step, in_one_go, steps_of
from napari_dispr.models.sampling import Batches, Sampling, cleaned
from napari_dispr.prediction.members import noise_seed
from napari_dispr.prediction.more import as_drawn, crop_of
from napari_dispr.prediction.prior import Prior
from napari_dispr.prediction.result import Prediction
from napari_dispr.settings import PredictSettings, checked_settings
from napari_dispr.shapes.denoising import Denoising

#: Largest number of states that are kept.
MOST_FRAMES = 61


def iter_denoising(
    prediction: Prediction,
    label: int,
    number: int = 0,
    *,
    steps: int | None = None,
    model: ShapeModel | str | os.PathLike[str] | None = None,
    device: str = "auto",
) -> Generator[Step, None, Denoising]:
    """Sample a member again and keep its state after each evaluation.

    Parameters
    ----------
    number : int
        Number of a member, as in ``prediction[label].numbers``, or of a rejected one.
    steps : int, optional
        Another number of evaluations than the member was sampled with: a finer path from the same noise,
        which ends near the member.
    model : ShapeModel, name or path, optional
        By default the model named in the provenance.

    Yields
    ------
    Step
        Closing the generator cancels.

    Returns
    -------
    Denoising
        At most `MOST_FRAMES` states, evenly chosen from a longer path, with its first and last.

    Raises
    ------
    InputError
        If there is no such cell or member, the model is not the one that drew it, or the prediction does not
        hold what the cell was drawn from.

    Notes
    -----
    A state of the sampler, x_t, is decoded like a member (signed distance in voxels). After its last step
    the member was changed a little: specks were removed, it may have been stretched to the expected volume,
    it was rounded. This difference is added to each state in proportion to the signal in it, as if the
    finished member had been noised. So the last frame is exactly the member, even if another device drew it.
    """
    if number not in prediction.rejected.get(label, ()):
        prediction.check_has(label, number)
    sampling, settings = as_drawn(prediction, model, device)
    model, crop, usual = sampling.model, crop_of(prediction, label), sampling.steps
    if steps is not None:
        changed = checked_settings(PredictSettings, {**settings.model_dump(), "steps": steps})
        sampling = Sampling.of(model, changed)
    own_path = sampling.steps != usual
    #: The evaluations before which a state is kept.
    kept = (
        np.rint(np.linspace(0, sampling.steps, min(sampling.steps + 1, MOST_FRAMES)))[:-1]
        .astype(int)
        .tolist()
    )
    attempts: list[_Watched] = []  # the last counts

    def watch(denoiser: Denoiser) -> Denoiser:
        attempts.append(_Watched(denoiser, kept))
        return attempts[-1]

    # A path with other steps may depend on the batch.
    with closing(Batches(sampling, 1 if own_path else None)) as batches:
        seed = noise_seed(settings.seed, prediction, label, number)
        (last,) = yield from steps_of(batches.sample([(crop, seed)], watch))
        visited = sampling.times(batches.starts_from_shape(crop, seed))

    prior = Prior(crop, model.card)
    process = model.process
    times = np.array([*(visited[i] for i in kept), visited[-1]])
    decoded = model.decode(np.stack([*attempts[-1].states, last]))
    end = prior.applied(cleaned(decoded[-1], crop), seed).astype(np.float16).astype(np.float32)
    ensemble = prediction[label]
    is_member = not own_path and number in ensemble.numbers
    if is_member:
        end = ensemble.signed_distance[ensemble.numbers.index(number)]
    signal = np.array([process.signal(t) for t in times], dtype=np.float32)
    frames = decoded + signal[:, None, None, None] * (end - decoded[-1])
    frames[-1] = end
    guesses = [prior.applied(cleaned(one, crop), seed) for one in model.decode(np.stack(attempts[-1].clean))]
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
        sampler=sampling.sampler,
        steps=sampling.steps,
        provenance=dict(prediction.provenance),
        section=ensemble.section,
    )


denoising = in_one_go(iter_denoising, 'denoising(load_prediction("folder"), 7, steps=24)')


class _Watched:
    """A denoiser that keeps the first shape of the batch before some evaluations, and their results."""

    def __init__(self, denoiser: Denoiser, kept: Sequence[int]) -> None:
        self._denoiser, self._kept, self._done = denoiser, kept, 0
        self.process = denoiser.process
        self.states: list[NDArray[np.float32]] = []
        self.clean: list[NDArray[np.float32]] = []

    def __call__(self, x: torch.Tensor, t: float) -> Denoised:
        denoised = self._denoiser(x, t)
        if self._done in self._kept:
            self.states.append(x[0, 0].float().cpu().numpy())
            self.clean.append(denoised.clean[0, 0].float().cpu().numpy())
        self._done += 1
        return denoised
