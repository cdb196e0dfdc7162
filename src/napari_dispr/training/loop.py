"""The loop of training as a generator: steps, validations, a checkpoint that resumes exactly.

Composes cells and diffusion; knows neither folders of cells nor model cards, nor napari.
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

from napari_dispr.cells.augmentation import TrainingCell
from napari_dispr.diffusion import devices
from napari_dispr.diffusion.network import NetworkConfig, UNet3D
from napari_dispr.errors import InputError
from napari_dispr.settings import TrainSettings
from napari_dispr.training.crew import Crew
from napari_dispr.training.objectives import Batch, objective_of, topology_of
from napari_dispr.training.samples import Samples, Units
from napari_dispr.training.state import State

Scores = NDArray[np.float64]
#: Steps in a row without a finite loss that end a run.
_MOST_LOST = 20
#: In a budget of minutes there is at least so much time between the beginnings of two validations, in units
#: of what one takes.
_PER_VALIDATION = 6.0
Reason = Literal["finished", "converged", "stopped"]


@dataclass(frozen=True, slots=True)
class Report:
    """Where a training run stands.

    Attributes
    ----------
    step : int
    share : float
        Of the budget that is used up.
    loss : float
        Mean since the last report.
    learning_rate : float
    samples_per_second : float
        Cells, over all processes, since the last report.
    seconds, seconds_left : float
        Of training so far, and until the budget is used up at this speed.
    memory_gb : float
        That all processes of this machine, and its GPU, hold.
    phase : "flow" or "scored"
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
    """How members of cells that are not trained on do; less is better.

    Attributes
    ----------
    step : int
    share, seconds : float
        As in `Report`.
    energy_score : float
        Mean over the cells, of the distance 1 - IoU.
    volume_error : float
        Mean relative error of the members' mean volume.
    score : float
        Their sum, by which weights are kept.
    best : bool
        Whether these weights are kept: no earlier ones were clearly better, see `iter_optimise`.
    """

    step: int
    share: float
    seconds: float
    energy_score: float
    volume_error: float
    score: float
    best: bool


class Validator(Protocol):
    """Draws members of cells kept apart and scores them: (cell, 2), energy score and volume error.

    Called by all processes of a crew at once with the averaged network. Not finite where it was stopped.
    """

    def __call__(self, network: UNet3D, crew: Crew) -> Scores: ...


def iter_optimise(
    cells: Sequence[TrainingCell],
    checkpoint: Path,
    settings: TrainSettings | None = None,
    *,
    config: NetworkConfig | None = None,
    start: UNet3D | None = None,
    resume: bool = False,
    device: torch.device | None = None,
    crew: Crew | None = None,
    validator: Validator | None = None,
    keep_best: Callable[[UNet3D], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
    report_every: int = 25,
    save_every_s: float = 45.0,
) -> Generator[Report | Validated, None, Reason]:
    """Train a network; closing the generator saves and ends.

    By rectified flow of signed distances and, at the end, for few evaluations (``settings.scored``), see
    :mod:`~napari_dispr.training.few_steps`; or by the paper's loss (``settings.method``).

    Parameters
    ----------
    cells : sequence of TrainingCell
    checkpoint : Path
        File that the state is saved to.
    settings : TrainSettings
    config : NetworkConfig
        Topology, where there is no ``start``.
    start : UNet3D
        Network to begin from.
    resume : bool
        Continue from the checkpoint with the same settings.
    device : torch.device
    crew : Crew
        The processes that share each step; all of them iterate.
    validator : Validator
        Called ``settings.validations`` times over the budget, and before the first step of a ``start``.
    keep_best : callable
        Takes the averaged network whenever it is the best so far. Called by rank 0 alone.
    stop : callable
        Whether to save and end, asked after each step.
    report_every : int
        Steps between reports.
    save_every_s : float
        Seconds between checkpoints: the most that a crash loses.

    Yields
    ------
    Report, Validated
        In all processes.

    Returns
    -------
    "finished", "converged" or "stopped"
        Why it ended: the budget is used up, ``settings.patience`` is at its end, or ``stop``.

    Raises
    ------
    InputError
        If there are no cells, there is nothing to resume, or something to overwrite.

    Notes
    -----
    Scores of a dozen cells are noisy, and the last weights have learned longest at the smallest rate. So
    weights are kept unless the validation of the lowest score so far was better by more than the standard
    error of the difference, cell by cell (the rule of one standard error, Breiman et al. 1984).
    """
    settings, crew = settings or TrainSettings(), crew or Crew()
    if not cells:
        raise InputError("There are no cells to train on: give a dataset with at least one cell.")
    if resume and not checkpoint.exists():
        raise InputError(f"There is no checkpoint {checkpoint}: start the run without resuming.")
    if checkpoint.exists() and not resume:
        raise InputError(f"{checkpoint.parent} holds a training run already: resume it, or choose another.")
    device = device or torch.device("cpu")
    state = State(settings, start.config if start else config or topology_of(settings), device)
    if start is not None:
        state.begin_with(start)
    state.cells = [f"{cell.name} {zlib.crc32(cell.signed_distance.tobytes()):08x}" for cell in cells]
    if resume:
        state.load(checkpoint)
    units = Units(settings, crew, state.taken)
    if crew.size > units.size:
        raise InputError(f"{crew.size} processes need a batch of {crew.size} shapes or more: enlarge batch.")
    loop = _Loop(state, cells, units, crew, device)
    check = _Validations(state, validator, keep_best, crew, started=start is not None)
    saved = time.monotonic()
    try:
        while True:
            if crew.rank == 0 and (check.is_due or time.monotonic() - saved > save_every_s):
                state.save(checkpoint)  # before a validation, so that whoever ends it loses nothing
                saved = time.monotonic()
            yield from check.now()
            if check.stopped:
                return "stopped"
            if state.share >= 1:
                return "finished"
            if settings.patience and state.since_lowest >= settings.patience:
                return "converged"
            stopping = loop.step(stop())
            if state.step % report_every == 0 or state.share >= 1:
                yield loop.report()
            if stopping and state.share < 1:
                return "stopped"
    finally:
        if state.consistent and crew.rank == 0:
            state.save(checkpoint)


class _Loop:
    """Steps of a state, and what is told of them."""

    def __init__(
        self, state: State, cells: Sequence[TrainingCell], units: Units, crew: Crew, device: torch.device
    ) -> None:
        self.state, self.crew, self.device = state, crew, device
        self.objective = objective_of(state.network, state.settings)
        samples = Samples(cells, state.settings, state.network.config.planes)
        loader = DataLoader(samples, batch_sampler=units, num_workers=state.settings.workers)
        self.units, self.unit_size = iter(loader), units.size
        self._before = time.monotonic() - state.clock  # so that the clock goes on
        self._losses: list[float] = []
        self._trained, self._since = 0, time.monotonic()
        self._phase = "flow"
        self._parts, self._lost = 1, 0

    def step(self, stop: bool) -> bool:
        """One optimiser step; whether any process wants to stop.

        Raises
        ------
        InputError
            If losses are not finite again and again. The state is as before the first of them.
        """
        state, scored = self.state, self.state.scored
        batch = self._batch(1 if scored or not state.settings.scored else 2)
        told = torch.zeros(3, device=self.device)
        told[0] = self._backward(batch, scored)
        told[1] = stop
        if self.crew.rank == 0:
            told[2] = time.monotonic() - self._before
        self.crew.add_up([state.gradient, told])
        loss, stops, state.clock = told.tolist()
        if np.isfinite(loss):
            state.update(batch.of)
            self._losses.append(loss)
            self._lost = 0
        else:  # these samples are passed over
            state.gradient.zero_()
            state.taken += batch.of
            self._lost += 1
            if self._lost >= _MOST_LOST:
                raise InputError("The loss is not a number any more: begin anew at lower learning rates.")
        self._trained += batch.of
        self._phase = "scored" if scored else "flow"
        return stops > 0

    def _backward(self, batch: Batch, scored: bool) -> float:
        """Gradients of this process's share of the mean over all samples, and that share of the loss."""
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
            # What the sum over the parts is does not depend on how many there are.
            self.state.gradient.zero_()
            devices.release(self.device)
            self._parts *= 2

    def _batch(self, units: int) -> Batch:
        parts, places, size = [], [], self.unit_size
        for unit in range(units):
            parts.append(next(self.units))
            places += [unit * size + place for place in self.crew.share(range(size))]
        planes, clean, noise = (torch.cat(kind).to(self.device) for kind in zip(*parts, strict=True))
        return Batch(planes, clean, noise, torch.tensor(places), units * size)

    def report(self) -> Report:
        state, now = self.state, time.monotonic()
        report = Report(
            step=state.step,
            share=round(state.share, 5),
            loss=float(np.mean(self._losses)) if self._losses else float("nan"),
            learning_rate=state.learning_rate_share * state.settings.learning_rate,
            samples_per_second=round(self._trained / max(now - self._since, 1e-9), 2),
            seconds=round(state.clock, 1),
            seconds_left=round(state.clock * (1 - state.share) / max(state.share, 1e-9), 1),
            memory_gb=round(memory(self.device) / 1e9, 2),
            phase=self._phase,
        )
        self._losses, self._trained, self._since = [], 0, now
        return report


class _Validations:
    """When cells kept apart are drawn, and which weights were best."""

    def __init__(
        self,
        state: State,
        validator: Validator | None,
        keep_best: Callable[[UNet3D], None] | None,
        crew: Crew,
        started: bool,
    ) -> None:
        self.state, self.validator, self.keep_best, self.crew = state, validator, keep_best, crew
        self.stopped = False
        #: When the last one began, by the run's clock, and how long it took.
        self._begun, self._cost = state.clock, 0.0
        if not started:  # what nobody has trained need not be looked at
            state.validated = max(state.validated, 1)

    @property
    def _number(self) -> int:
        """Validations that the share of the budget asks for; one before the first step."""
        return 1 + int(self.state.share * self.state.settings.validations + 1e-9)

    @property
    def is_due(self) -> bool:
        # By the clock that all processes share, which stands still until the step after a validation.
        self._cost = self._cost or self.state.clock - self._begun
        if self.validator is None or self._number <= self.state.validated:
            return False
        if self.state.settings.minutes is None or self.state.share in (0, 1):
            return True
        # Not so often that the budget goes into it.
        return self.state.clock - self._begun > _PER_VALIDATION * self._cost

    def now(self) -> Iterator[Validated]:
        """Validate, if it is time."""
        if self.validator is None or not self.is_due:
            return
        state, number = self.state, self._number
        self._begun, self._cost = state.clock, 0.0
        table = self.validator(state.average, self.crew)
        if not np.isfinite(table).all():
            self.stopped = True
            return
        scores = table.sum(axis=1)
        keep = not state.lowest or _not_clearly_worse(scores, np.array(state.lowest))
        if not state.lowest or scores.mean() < np.mean(state.lowest):
            state.lowest, state.since_lowest = scores.tolist(), 0
        elif state.settling:  # before, few-step scores may rise for a while
            state.since_lowest += 1
        state.validated = number
        if keep and self.keep_best is not None and self.crew.rank == 0:
            self.keep_best(state.average)
        energy_score, volume_error = table.mean(axis=0).tolist()
        share, seconds = round(state.share, 5), round(state.clock, 1)
        score = energy_score + volume_error
        yield Validated(state.step, share, seconds, energy_score, volume_error, score, keep)


def _not_clearly_worse(scores: Scores, lowest: Scores) -> bool:
    """Whether the mean is within a standard error of the lowest one, of the same cells."""
    apart = scores - lowest
    error = apart.std(ddof=1) / np.sqrt(len(apart)) if len(apart) > 1 else 0.0
    return bool(apart.mean() <= error)


def memory(device: torch.device) -> float:
    """Bytes that this process and those that it started hold, and the GPU's."""
    own = psutil.Process()
    family = [own, *own.children(recursive=True)]
    held = 0
    for process in family:
        try:
            held += process.memory_info().rss
        except psutil.Error:  # ended in the meantime
            continue
    return held + (torch.cuda.memory_reserved(device) if device.type == "cuda" else 0)
