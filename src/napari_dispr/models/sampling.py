"""A shape model as a method: members are sampled from noise in batches of one size.

A member depends on its crop and its seed alone, never on what else is sampled.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import takewhile
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from napari_dispr import grid
from napari_dispr.card import Card
from napari_dispr.cells.cropping import Crop
from napari_dispr.diffusion import devices
from napari_dispr.diffusion.model import ShapeModel
from napari_dispr.diffusion.process import RectifiedFlow
from napari_dispr.diffusion.samplers import SAMPLERS, Denoiser, FlowDenoiser
from napari_dispr.diffusion.starts import Start, from_noise
from napari_dispr.errors import InputError
from napari_dispr.events import Clock, Step
from napari_dispr.models.method import Members, Method, MethodEvent, OutOfMemory, Task
from napari_dispr.settings import PredictSettings
from napari_dispr.shapes.ensemble import without_debris

#: What predict takes: a shape model, which is sampled by the settings, or any other method.
Model = ShapeModel | Method


def as_method(model: Model, settings: PredictSettings | None = None) -> Method:
    """A model of the library as a method; ``settings`` say how a shape model is sampled.

    Raises an InputError if the model has no such quality, sampler or number of evaluations, or there is no
    such device.
    """
    if isinstance(model, ShapeModel):
        return Sampling.of(model, settings or PredictSettings())
    return model


def unused_settings(method: Method, settings: PredictSettings) -> str:
    """A sentence on settings that were given and mean nothing to a method; empty if there are none."""
    if isinstance(method, Sampling):
        return ""
    usual = PredictSettings()
    chosen = {name: getattr(settings, name) for name in ("quality", "sampler", "steps", "device")}
    unused = [
        name
        for name, value in chosen.items()
        if value not in (getattr(usual, name), method.provenance.get(name))
    ]
    text = f"{method.name} makes no use of {', '.join(unused)}: leave out what has no effect."
    return text if unused else ""


@dataclass(frozen=True, eq=False)
class Sampling:
    """A shape model, and how it is sampled."""

    model: ShapeModel
    quality: str
    sampler: str
    steps: int
    device: torch.device

    @classmethod
    def of(cls, model: ShapeModel, settings: PredictSettings) -> Self:
        """With quality, sampler, steps and device of the settings."""
        sampler, steps = model.sampling(settings.quality, settings.sampler, settings.steps)
        return cls(model, settings.quality, sampler, steps, devices.choose(settings.device))

    @property
    def name(self) -> str:
        return self.model.name

    @property
    def card(self) -> Card:
        return self.model.card

    @property
    def hash(self) -> str:
        return self.model.hash

    @property
    def members(self) -> None:
        """Any number."""
        return

    @property
    def uses_planes(self) -> bool:
        """Whether the network was trained with further planes."""
        return self.model.network.config.volumes > 0

    @property
    def provenance(self) -> dict[str, Any]:
        return {
            "model": self.name,
            "model_hash": self.hash,
            "torch": torch.__version__,
            "quality": self.quality,
            "sampler": self.sampler,
            "steps": self.steps,
            "device": str(self.device),
            **{name: text for name, text in self.card.training.items() if name == "undertrained"},
        }

    def times(self, from_shape: bool) -> tuple[float, ...]:
        """The times that the sampler visits, from a shape or from noise alone."""
        process, known = self.model.process, self.model.known
        if from_shape and known is not None and isinstance(process, RectifiedFlow):
            return process.times(self.steps, float(known.start[0]))
        return process.times(self.steps)

    def draw(self, tasks: Sequence[Task], /) -> Generator[MethodEvent, None, None]:
        # Every other cell begins with the members that start from noise, so that batches are full.
        orders = {id(task): _order(task, bool(number % 2)) for number, task in enumerate(tasks)}
        pairs = [(task.crop, task.seeds[place]) for task in tasks for place in orders[id(task)]]
        waiting = deque(task for task in tasks if task.seeds)
        shapes: list[NDArray[np.float32]] = []
        with closing(Batches(self)) as batches:
            while pairs:
                x = yield from batches.sample(pairs)
                pairs = pairs[len(x) :]
                if not np.isfinite(x).all():
                    raise InputError(
                        f"The model {self.name!r} draws shapes that are not finite, so its weights are "
                        "damaged: get or train it again."
                    )
                for distance in self.model.decode(x):
                    shapes.append(cleaned(distance, waiting[0].crop))
                    if len(shapes) == len(waiting[0].seeds):
                        task = waiting.popleft()
                        yield Members(task.crop, np.stack(shapes)[np.argsort(orders[id(task)])])
                        shapes = []


def _order(task: Task, noise_first: bool) -> list[int]:
    """Places of the seeds in the order of sampling: a batch holds members that start in one way."""
    crop, seeds = task.crop, task.seeds
    return sorted(range(len(seeds)), key=lambda place: from_noise(crop.planes, seeds[place]) != noise_first)


def cleaned(distance: NDArray[np.float32], crop: Crop) -> NDArray[np.float32]:
    """A member of a crop without the small parts that sampling sometimes leaves."""
    if crop.picture == "projection":  # a small part may be all of the shape in its columns
        return distance
    return without_debris(distance, [plane.depth for plane in crop.planes])


class Batches:
    """Samples batches of one size on a device; halves the size when the device runs out of memory.

    ``size`` is the number of members in a batch, by default what suits the device.
    """

    def __init__(self, sampling: Sampling, size: int | None = None) -> None:
        model, self._device = sampling.model, sampling.device
        self._sampling = sampling
        self._network = model.ready(self._device)
        self._size = size or devices.batch_size(self._device, model.network.config.fold**3)
        self._clock = Clock(sampling.steps)
        # Kept for the crops that came last, because members follow.
        self._start = lru_cache(maxsize=4)(model.start)

    def close(self) -> None:
        """Free the device's memory."""
        del self._network, self._start
        devices.release(self._device)

    def sample(
        self, pairs: Sequence[tuple[Crop, int]], watch: Callable[[Denoiser], Denoiser] = lambda it: it
    ) -> Generator[Step | OutOfMemory, None, NDArray[np.float32]]:
        """Sample the first pairs of crop and seed, as many as a batch holds, of all that are left.

        ``watch`` wraps the denoiser of each attempt. Returns clean shapes (pair, 64, 64, 64), to be decoded
        by the model.
        """
        while True:
            now = self._alike(pairs)
            try:
                for x in self._steps(now, watch):
                    last = x
                    yield self._clock.step(now[0][0].label, -(-len(pairs) // self._size))
                self._clock.end_batch(finished=True)
                return last[: len(now), 0]
            except (RuntimeError, MemoryError) as error:
                if not devices.is_out_of_memory(error) or self._size == 1:
                    raise
            self._size //= 2
            devices.release(self._device)
            self._clock.end_batch(finished=False)
            yield OutOfMemory(self._size)

    def _alike(self, pairs: Sequence[tuple[Crop, int]]) -> list[tuple[Crop, int]]:
        """The first pairs, which all start from shapes, or all from noise alone."""
        from_shape = self.starts_from_shape(*pairs[0])
        return list(takewhile(lambda pair: self.starts_from_shape(*pair) == from_shape, pairs[: self._size]))

    def starts_from_shape(self, crop: Crop, seed: int) -> bool:
        """Whether a member of a crop starts from a known shape or an ellipsoid."""
        match self._start(crop):
            case Start():
                return not from_noise(crop.planes, seed)
            case start:
                return start is not None

    def _steps(
        self, now: Sequence[tuple[Crop, int]], watch: Callable[[Denoiser], Denoiser]
    ) -> Iterator[NDArray[np.float32]]:
        """The batch after each evaluation, (size, 1, 64, 64, 64)."""
        # Filled up, so that the arithmetic, and with it each voxel, is the same in every batch.
        missing = self._size - len(now)
        crops = [crop for crop, _ in [*now, *[now[-1]] * missing]]
        sources = [torch.Generator().manual_seed(seed) for _, seed in now]

        def fresh_noise() -> torch.Tensor:
            # Drawn on the CPU one by one: the same on every device and in every batch.
            noise = [torch.randn((1, *grid.SHAPE), generator=source) for source in sources]
            return torch.stack([*noise, *[noise[-1]] * missing]).to(self._device)

        model, sampling = self._sampling.model, self._sampling
        starts = [self._start(crop) for crop, _ in now] if self.starts_from_shape(*now[0]) else []
        shapes = [start.shape(seed) for (_, seed), start in zip(now, starts, strict=False) if start]
        # Members from noise alone are only corrected near the sections: so they err differently.
        adjust = [
            partial(start.adjusted, start=shape)
            for start, shape in zip((start for start in starts if start), shapes, strict=True)
        ]
        denoiser = model.denoiser(crops, self._network, adjust=adjust)
        first = fresh_noise()
        times = sampling.times(bool(starts))
        if shapes and isinstance(denoiser, FlowDenoiser):
            known = torch.from_numpy(np.stack([*shapes, *[shapes[-1]] * missing]))[:, None].to(self._device)
            first = denoiser.process.diffuse(
                denoiser.agreeing(known), torch.full((len(crops),), times[0], device=self._device), first
            )
        # No inference_mode here: a generator would leave it switched on for its caller between steps. The
        # model's parameters need no gradient, so none is recorded.
        for x in SAMPLERS[sampling.sampler](watch(denoiser), first, times, fresh_noise):
            yield x.float().cpu().numpy()
