"""The training loop as a generator: steps, validations, and a checkpoint that resumes exactly.

Knows neither dataset folders nor model cards.
"""

import time
import zlib
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from napari_dispr.cells.training_cells import TrainingCell
from napari_dispr.diffusion import devices
from napari_dispr.diffusion.network import NetworkConfig, UNet3D
from napari_dispr.errors import InputError
from napari_dispr.settings import TrainSettings
from napari_dispr.training.objectives import Batch, objective_of, topology_of
from napari_dispr.training.process_group import ProcessGroup
from napari_dispr.training.samples import Samples, Units, check_processes, joined
from napari_dispr.training.state import State

Scores = NDArray[np.float64]
#: Gives the time in seconds, as `time.monotonic`.
Clock = Callable[[], float]
#: With a budget in minutes, the least time between the starts of two validations, as a multiple of the
#: duration of a validation.
_PER_VALIDATION = 6.0
Reason = Literal["finished", "converged", "stopped"]
#: Scores the validation cells: (cell, 2), energy score and volume error. All processes call it at once with
#: the averaged network. A stopped validation returns NaN.
Validator = Callable[[UNet3D, ProcessGroup], Scores]


@dataclass(frozen=True, slots=True)
class Report:
    """The progress of a training run.

    ``share`` is the used part of the budget. ``loss`` (a mean) and ``samples_per_second`` (cells, over
    all processes) are measured since the last report. ``seconds_left`` is the time to the end of the budget
    at this speed. ``memory_gb`` counts all processes on this machine, and its GPU. ``phase`` is "flow" or
    "scored"; for SHAPR "supervised" or "adversarial".
    """

    step: int
    share: float
    loss: float
    learning_rate: float
    samples_per_second: float
    seconds: float
    seconds_left: float
    memory_gb: float
    phase: str


@dataclass(frozen=True, slots=True)
class Validated:
    """Scores of the validation cells; less is better.

    ``energy_score`` is the mean over the cells for the distance 1 - IoU, ``volume_error`` the mean relative
    error of the members' mean volume. Their sum, ``score``, decides whether these weights are kept
    (``best``, see `iter_optimise`).
    """

    step: int
    share: float
    seconds: float
    energy_score: float
    volume_error: float
    score: float
    best: bool


class Progress(Protocol):
    """The part of a training state that a report shows."""

    step: int
    clock: float

    @property
    def share(self) -> float: ...


class Meter:
    """Losses and speed since the last report."""

    def __init__(self, device: torch.device, clock: Clock) -> None:
        self.device, self.clock = device, clock
        self._losses: list[float] = []
        self._samples, self._since = 0, clock()

    def add(self, loss: float, samples: int) -> None:
        """Count one step; a loss that is not finite is left out of the mean."""
        if np.isfinite(loss):
            self._losses.append(loss)
        self._samples += samples

    def report(self, state: Progress, learning_rate: float, phase: str) -> Report:
        now = self.clock()
        report = Report(
            step=state.step,
            share=round(state.share, 5),
            loss=float(np.mean(self._losses)) if self._losses else float("nan"),
            learning_rate=learning_rate,
            samples_per_second=round(self._samples / max(now - self._since, 1e-9), 2),
            seconds=round(state.clock, 1),
            seconds_left=round(state.clock * (1 - state.share) / max(state.share, 1e-9), 1),
            memory_gb=round(_memory(self.device) / 1e9, 2),
            phase=phase,
        )
        self._losses, self._samples, self._since = [], 0, now
        return report


def iter_optimise(
    cells: Sequence[TrainingCell],
    checkpoint: Path,
    settings: TrainSettings | None = None,
    *,
    config: NetworkConfig | None = None,
    start: UNet3D | None = None,
    resume: bool = False,
    device: torch.device | None = None,
    group: ProcessGroup | None = None,
    validator: Validator | None = None,
    keep_best: Callable[[UNet3D], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
    report_every: int = 25,
    save_every_s: float = 45.0,
    clock: Clock = time.monotonic,
) -> Generator[Report | Validated, None, Reason]:
    """Train a network. Closing the generator saves the state and ends.

    The loss is that of rectified flow of signed distances and, in the last share of the budget
    (``settings.scored``), the energy score; or the paper's loss (``settings.method``). All processes of
    ``group`` iterate.

    Parameters
    ----------
    config : NetworkConfig
        Topology, if there is no network to ``start`` from.
    validator : Validator
        Called ``settings.validations`` times over the budget, and before the first step of a ``start``.
    keep_best : callable
        Takes the averaged network when it is the best so far. Only rank 0 calls it.
    stop : callable
        Called after each step: whether to save and end.
    save_every_s : float
        Seconds between checkpoints: the most that a crash loses.

    Returns
    -------
    "finished", "converged" or "stopped"
        Why it ended: the budget was used, ``settings.patience`` was exceeded, or ``stop``.

    Notes
    -----
    The scores of a dozen cells are noisy, and the last weights were trained longest, at the lowest learning
    rate. So new weights are kept unless the validation with the lowest score so far was better by more than
    the standard error of the paired difference (the one-standard-error rule, Breiman et al. 1984).
    """
    settings, group = settings or TrainSettings(), group or ProcessGroup()
    if not cells:
        raise InputError("There are no cells to train on: give a dataset with at least one cell.")
    if resume and not checkpoint.exists():
        raise InputError(f"There is no checkpoint {checkpoint}: start the run without resuming.")
    if checkpoint.exists() and not resume:
        raise InputError(f"{checkpoint.parent} already holds a training run: resume it, or choose another.")
    device = device or torch.device("cpu")
    config = start.config if start else config or topology_of(settings)
    state = State(settings, config, device)
    if start is not None and not resume:
        state.start_from(start)
    state.cells = [f"{cell.name} {zlib.crc32(cell.signed_distance.tobytes()):08x}" for cell in cells]
    if resume:
        state.load(checkpoint)
    check_processes(group.size, settings)
    loop = _Loop(state, cells, Units(settings, group, state.taken), group, device, clock)
    validations = _Validations(state, validator, keep_best, group, started=start is not None)
    saved = clock()
    try:
        while True:
            if group.rank == 0 and (validations.is_due or clock() - saved > save_every_s):
                state.save(checkpoint)  # before a validation, so that a stop during it loses nothing
                saved = clock()
            yield from validations.validate()
            if validations.stopped:
                return "stopped"
            if state.share >= 1:
                return "finished"
            if settings.patience and state.since_lowest >= settings.patience:
                return "converged"
            stopping = loop.step(stop())
            if state.step % report_every == 0 or state.share >= 1:
                rate = state.learning_rate_share * settings.learning_rate
                yield loop.meter.report(state, rate, loop.phase)
            if stopping and state.share < 1:
                return "stopped"
    finally:
        if state.consistent and group.rank == 0:
            state.save(checkpoint)


class _Loop:
    """The steps of a run."""

    def __init__(
        self,
        state: State,
        cells: Sequence[TrainingCell],
        units: Units,
        group: ProcessGroup,
        device: torch.device,
        clock: Clock,
    ) -> None:
        self.state, self.group, self.device, self.clock = state, group, device, clock
        self.objective = objective_of(state.network, state.settings)
        config = state.network.config
        samples = Samples(cells, state.settings, config.planes, config.volumes)
        # It takes a number from its generator, by default torch's own, which is the user's.
        own, workers = torch.Generator(), state.settings.workers
        loader = DataLoader(
            samples, batch_sampler=units, num_workers=workers, collate_fn=joined, generator=own
        )
        self.units, self.unit_size = iter(loader), units.size
        self._started = clock() - state.clock
        self.meter = Meter(device, clock)
        self.phase = "flow"
        self._parts = 1

    def step(self, stop: bool) -> bool:
        """Make one optimiser step. Returns whether any process asks to stop.

        Raises what `Trained.check_finite` raises.
        """
        state, scored = self.state, self.state.scored
        batch = self._batch(1 if scored or not state.settings.scored else 2)
        shared = torch.zeros(3, device=self.device)
        shared[0] = self._backward(batch, scored)
        shared[1] = stop
        if self.group.rank == 0:
            shared[2] = self.clock() - self._started
        self.group.all_reduce([state.gradient, shared])
        loss, stops, state.clock = shared.tolist()
        state.update(batch.of)
        state.check_finite()
        self.meter.add(loss, batch.of)
        self.phase = "scored" if scored else "flow"
        return stops > 0

    def _backward(self, batch: Batch, scored: bool) -> float:
        """Add this process's share of the mean gradient over all samples. Returns its share of the loss."""
        while True:
            try:
                total = 0.0
                for part in batch.parts(self._parts):
                    seed = self.state.settings.seed * 1_000_003 + self.state.step
                    source = torch.Generator().manual_seed(seed)
                    loss = self.objective(part, scored, source) * (len(part.clean) / batch.of)
                    loss.backward()
                    total += loss.item()
                return total
            except (RuntimeError, MemoryError) as error:
                if not devices.is_out_of_memory(error) or self._parts >= len(batch.clean):
                    raise
            # The sum over the parts does not depend on their number.
            self.state.gradient.zero_()
            devices.release(self.device)
            self._parts *= 2

    def _batch(self, units: int) -> Batch:
        parts, places, size = [], [], self.unit_size
        for unit in range(units):
            parts.append(next(self.units))
            places += [unit * size + place for place in self.group.share(range(size))]
        condition, clean, noise = joined(parts)
        tensors = condition.to(self.device), clean.to(self.device), noise.to(self.device)
        return Batch(*tensors, torch.tensor(places), units * size)


class _Validations:
    """Decides when to validate, and which weights are the best."""

    def __init__(
        self,
        state: State,
        validator: Validator | None,
        keep_best: Callable[[UNet3D], None] | None,
        group: ProcessGroup,
        started: bool,
    ) -> None:
        self.state, self.validator, self.keep_best, self.group = state, validator, keep_best, group
        self.stopped = False
        #: When the last validation started, by the run's clock, and how long it took.
        self._began, self._cost = state.clock, 0.0
        if not started:  # random weights are not validated
            state.validated = max(state.validated, 1)

    @property
    def _number(self) -> int:
        """Number of validations that are due; one of them is before the first step."""
        return 1 + int(self.state.share * self.state.settings.validations + 1e-9)

    @property
    def is_due(self) -> bool:
        # The clock of the state, which all processes share, does not move between a validation and a step.
        self._cost = self._cost or self.state.clock - self._began
        if self.validator is None or self._number <= self.state.validated:
            return False
        if self.state.settings.minutes is None or self.state.share in (0, 1):
            return True
        # Validations must not use up the budget.
        return self.state.clock - self._began > _PER_VALIDATION * self._cost

    def validate(self) -> Iterator[Validated]:
        """Validate if it is time."""
        if self.validator is None or not self.is_due:
            return
        state, number = self.state, self._number
        self._began, self._cost = state.clock, 0.0
        table = self.validator(state.average, self.group)
        if not np.isfinite(table).all():
            self.stopped = True
            return
        scores = table.sum(axis=1)
        keep = not state.lowest or _not_clearly_worse(scores, np.array(state.lowest))
        if not state.lowest or scores.mean() < np.mean(state.lowest):
            state.lowest, state.since_lowest = scores.tolist(), 0
        elif state.settling:  # earlier, scores of few evaluations may rise for a while
            state.since_lowest += 1
        state.validated = number
        if keep and self.keep_best is not None and self.group.rank == 0:
            self.keep_best(state.average)
        energy_score, volume_error = table.mean(axis=0).tolist()
        share, seconds = round(state.share, 5), round(state.clock, 1)
        score = energy_score + volume_error
        yield Validated(state.step, share, seconds, energy_score, volume_error, score, keep)


def _not_clearly_worse(scores: Scores, lowest: Scores) -> bool:
    """Whether the mean of the paired differences is at most their standard error."""
    differences = scores - lowest
    error = differences.std(ddof=1) / np.sqrt(len(differences)) if len(differences) > 1 else 0.0
    return bool(differences.mean() <= error)


def _memory(device: torch.device) -> float:
    """Bytes in use by this process, by those that it started, and on the GPU."""
    own = psutil.Process()
    total = 0
    for process in (own, *own.children(recursive=True)):
        try:
            total += process.memory_info().rss
        except psutil.Error:  # it has ended
            continue
    return total + (torch.cuda.memory_reserved(device) if device.type == "cuda" else 0)
