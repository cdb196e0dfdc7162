"""Draw members of cells with a shape model: each from noise of its own, in batches of one size.

What a member is depends on its seed, cell and number alone, never on what else is drawn, or when. Predict
draws a cell's first members, `redrawing` further ones and old ones again.
"""

import time
import zlib
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from napari_dispr import grid
from napari_dispr.cells.cropping import Crop
from napari_dispr.diffusion import devices
from napari_dispr.diffusion.samplers import SAMPLERS, Denoiser
from napari_dispr.prediction.prior import Opinion, note_unlike
from napari_dispr.prediction.result import Prediction
from napari_dispr.settings import PredictSettings
from napari_dispr.shapes.ensemble import Ensemble, Section, without_debris

if TYPE_CHECKING:
    from napari_dispr.diffusion.model import ShapeModel
    from napari_dispr.diffusion.network import UNet3D


@dataclass(frozen=True, slots=True)
class Step:
    """One evaluation of the network is done.

    Attributes
    ----------
    label : int
        The cell being drawn (the first of the batch).
    done, total : int
        Evaluations, of all cells.
    seconds_left : float or None
        None before the first batch's second step.
    """

    label: int
    done: int
    total: int
    seconds_left: float | None


@dataclass(frozen=True, slots=True, eq=False)
class CellDone:
    """A cell's ensemble is finished; ``prediction`` holds all that are."""

    label: int
    ensemble: Ensemble
    prediction: Prediction


Event = Step | CellDone


def iter_drawn(
    prediction: Prediction,
    crops: Sequence[Crop],
    model: "ShapeModel",
    settings: PredictSettings,
    numbers: Mapping[int, Sequence[int]],
) -> Generator[Event, None, Prediction]:
    """Draw members of cells into a prediction, one event after each step; closing the generator cancels.

    Parameters
    ----------
    prediction : Prediction
        What was drawn before; cells that it holds get further members.
    crops : sequence of Crop
    model : ShapeModel
    settings : PredictSettings
    numbers : mapping of label to sequence of int
        Which members to draw of each cell, by their numbers.

    Yields
    ------
    Step, CellDone

    Returns
    -------
    Prediction
    """
    sampler, steps = model.sampling(settings.quality, settings.sampler, settings.steps)
    device = devices.choose(settings.device)
    to_world = grid.pixel_to_world(prediction.image_to_world)
    opinions: dict[int, Opinion] = {}
    network = model.ready(device)
    pairs = [(crop, number) for crop in crops for number in numbers[crop.label]]
    batch = devices.batch_size(device, model.network.config.fold**3)
    drawn: dict[int, list[NDArray[np.float32]]] = {}
    clock = Clock(steps)
    try:
        while pairs:
            now, rest = pairs[:batch], pairs[batch:]
            batches_left = -(-len(pairs) // batch)
            try:
                shapes = np.empty(0, np.float32)
                noise = [member_noise(settings.seed, crop, number, prediction) for crop, number in now]
                # Not kept in a variable, which would hold memory of the device beyond its release.
                for x in sampled(
                    batch_denoiser(model, network, [crop for crop, _ in now], batch),
                    sampler,
                    steps,
                    noise,
                    batch,
                    device,
                ):
                    shapes = x
                    yield clock.step(now[0][0].label, batches_left)
            except (RuntimeError, MemoryError) as error:
                if not devices.is_out_of_memory(error) or batch == 1:
                    raise
                batch //= 2
                devices.release(device)
                prediction.warnings.append(
                    f"The device ran out of memory: going on with {batch} shapes at once."
                )
                clock.end_batch(finished=False)
                continue
            clock.end_batch(finished=True)
            for (crop, _), distance in zip(now, model.decode(shapes[: len(now), 0]), strict=True):
                members = drawn.setdefault(crop.label, [])
                if not members:
                    opinions[crop.label] = Opinion(crop, model.card)
                members.append(opinions[crop.label].applied(without_debris(distance)))
                if len(members) == len(numbers[crop.label]):
                    ensemble = Ensemble(
                        crop.label,
                        np.stack(drawn.pop(crop.label)),
                        to_world @ crop.grid_to_pixel,
                        prediction.unit,
                        crop.zoom,
                        tuple(numbers[crop.label]),
                        Section(crop.mask, crop.image, crop.known_scale),
                    )
                    if crop.label in prediction:
                        ensemble = prediction[crop.label].joined(ensemble)
                        prediction = prediction.with_cell(ensemble)
                    else:
                        prediction = prediction.with_cell(ensemble)
                        note_unlike(prediction, crop.label, opinions[crop.label].unlike)
                    yield CellDone(crop.label, ensemble, prediction)
            pairs = rest
    finally:
        del network
        devices.release(device)
    return prediction


class Clock:
    """Counts steps, and tells the time left from those so far."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._before = self._in_batch = self._taken = 0
        self._begun = time.monotonic()

    def step(self, label: int, batches_left: int) -> Step:
        """One more step is done, with so many batches left, the present one among them."""
        self._in_batch += 1
        self._taken += 1
        done = self._before + self._in_batch
        left = batches_left * self._steps - self._in_batch
        seconds = (time.monotonic() - self._begun) / self._taken * left if self._taken > 1 else None
        return Step(label, done, done + left, seconds)

    def end_batch(self, *, finished: bool) -> None:
        """The batch is finished, or begins anew."""
        self._before += self._in_batch if finished else 0
        self._in_batch = 0


def batch_denoiser(model: "ShapeModel", network: "UNet3D", crops: Sequence[Crop], batch: int) -> Denoiser:
    """The denoiser of a member a crop, in a batch of fixed size."""
    # Filled up, so that the arithmetic, and with it each voxel, is the same in every batch.
    filled = [*crops, *[crops[-1]] * (batch - len(crops))]
    return model.denoiser(
        [crop.mask for crop in filled],
        [crop.image for crop in filled],
        network,
        [crop.known_scale for crop in filled],
    )


def sampled(
    denoiser: Denoiser,
    sampler: str,
    steps: int,
    sources: Sequence[torch.Generator],
    batch: int,
    device: torch.device,
) -> Iterator[NDArray[np.float32]]:
    """Draw a member a source, each with noise of its own source; yields x after each step."""

    def fresh_noise() -> torch.Tensor:
        # Drawn on the CPU one by one: the same on every device and in every batch.
        noise = [torch.randn((1, *grid.SHAPE), generator=source) for source in sources]
        return torch.stack([*noise, *[noise[-1]] * (batch - len(noise))]).to(device)

    # No inference_mode here: a generator would leave it switched on for its caller between steps. The
    # model's parameters ask for no gradient, so none is recorded.
    times = denoiser.process.times(steps)
    for x in SAMPLERS[sampler](denoiser, fresh_noise(), times, fresh_noise):
        yield x.float().cpu().numpy()


def member_noise(seed: int, crop: Crop, number: int, prediction: Prediction) -> torch.Generator:
    """The source of all noise of one member: depends on seed, cell and number alone.

    A cell is known by its label, or by its name where cells have names and labels only count them.
    """
    name = prediction.names.get(crop.label)
    key = crop.label if name is None else zlib.crc32(name.encode())
    (state,) = np.random.SeedSequence((seed, key, number)).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state) >> 1)
