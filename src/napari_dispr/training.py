"""Training as a generator: one report a while, a checkpoint that resumes exactly, files written aside.

Composes cells and diffusion; knows neither napari nor Qt.
"""

import json
import time
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler

from napari_dispr import grid
from napari_dispr.cells.augmentation import TrainingCell, augmented
from napari_dispr.diffusion.condition import MASK_TRUNCATION, signed_planes
from napari_dispr.diffusion.devices import channels_last
from napari_dispr.diffusion.few_steps import STAGES, energy_score, run_up_to
from napari_dispr.diffusion.network import DEFAULT, NetworkConfig, UNet3D
from napari_dispr.diffusion.process import RectifiedFlow, flow_loss
from napari_dispr.errors import InputError
from napari_dispr.files import written_aside
from napari_dispr.settings import TrainSettings

CHECKPOINT = "checkpoint.pt"
LOG = "log.jsonl"


@dataclass(frozen=True, slots=True)
class Report:
    """Where a training run stands: mean loss since the last report, and samples a second."""

    step: int
    steps: int
    loss: float
    learning_rate: float
    samples_per_second: float


class Samples(Dataset[tuple[Tensor, Tensor]]):
    """Sample ``i`` of a run: which cell, and what becomes of it, depend on (seed, i) alone."""

    def __init__(self, cells: Sequence[TrainingCell], settings: TrainSettings, planes: int) -> None:
        self.cells, self.settings, self.planes = cells, settings, planes

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        """Condition planes (planes, 64, 64) and the clean shape (1, 64, 64, 64), in [-1, 1]."""
        settings = self.settings
        epoch, place = divmod(i, len(self.cells))
        order = np.random.default_rng((settings.seed, 0, epoch)).permutation(len(self.cells))
        rng = np.random.default_rng((settings.seed, 1, i))
        sample = augmented(
            self.cells[order[place]],
            rng,
            resliced=settings.resliced,
            blended=settings.blended,
            partner=self.cells[int(rng.integers(len(self.cells)))],
            image_dropout=settings.image_dropout,
        )
        scale = None if rng.random() < settings.scale_dropout else sample.scale
        clean = np.clip(sample.signed_distance / settings.truncation, -1, 1)[None]
        planes = signed_planes(sample.mask, sample.image, scale)[: self.planes]
        return torch.from_numpy(planes), torch.from_numpy(clean.astype(np.float32))


class Batches(Sampler[list[int]]):
    """Indices of the samples of each step from ``first_step`` on.

    Steps trained by the energy score take half as many cells, as they draw two members of each.
    """

    def __init__(self, settings: TrainSettings, first_step: int) -> None:
        self.settings, self.first_step = settings, first_step

    def __iter__(self) -> Iterator[list[int]]:
        batch, flow = self.settings.batch, self.settings.flow_steps
        for step in range(self.first_step, self.settings.steps):
            if step < flow:
                yield list(range(step * batch, (step + 1) * batch))
            else:
                begin = flow * batch + (step - flow) * (batch // 2)
                yield list(range(begin, begin + batch // 2))

    def __len__(self) -> int:
        return self.settings.steps - self.first_step


def _as_matrix(kernel: Tensor) -> Tensor:
    """Kernels (O, I, 3, 3, 3) as (O, 27 I); a view, where they are stored channels last."""
    return kernel.permute(0, 2, 3, 4, 1).flatten(1)


class State:
    """All that changes while training; saved whole, so that a resumed run equals one that went on."""

    def __init__(self, settings: TrainSettings, config: NetworkConfig, device: torch.device) -> None:
        torch.manual_seed(settings.seed)
        self.network = channels_last(UNet3D(config).to(device))
        self.average = deepcopy(self.network).requires_grad_(False)
        self.step = 0
        #: Names of the training cells, in their order; a run is resumed with the same.
        self.cells: list[str] = []
        # Muon takes matrices: each kernel is seen as one, through a view of the same (channels-last) storage.
        self._kernels = [p for p in self.network.parameters() if p.ndim == 5 and p.shape[-1] == 3]
        ids = {id(p) for p in self._kernels}
        self._matrices = [nn.Parameter(_as_matrix(p.data)) for p in self._kernels]
        others = [p for p in self.network.parameters() if id(p) not in ids]
        self.optimisers = [
            torch.optim.Muon(self._matrices, lr=settings.learning_rate, weight_decay=0.0),
            torch.optim.AdamW(others, lr=settings.adam_learning_rate, weight_decay=0.0),
        ]
        self._peaks = (settings.learning_rate, settings.adam_learning_rate)
        #: What a run that goes on must share with the one that was saved; workers change nothing.
        self._settings = settings.model_dump(exclude={"workers"})
        #: False in the middle of an update, where an interrupted run must not be saved.
        self.consistent = True

    def update(self, share: float, decay: float) -> None:
        """One optimiser step with the gradients at hand, at ``share`` of the peak learning rates."""
        self.consistent = False
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        for kernel, matrix in zip(self._kernels, self._matrices, strict=True):
            matrix.grad = None if kernel.grad is None else _as_matrix(kernel.grad)
        for optimiser, peak in zip(self.optimisers, self._peaks, strict=True):
            for group in optimiser.param_groups:
                group["lr"] = share * peak
            optimiser.step()
        self.network.zero_grad()
        self.step += 1
        # Early averages are short, so that they forget the first weights.
        decay = min(decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for mean, now in zip(self.average.parameters(), self.network.parameters(), strict=True):
                mean.lerp_(now, 1 - decay)
        self.consistent = True

    def save(self, path: Path) -> None:
        """Write the whole state aside, then rename."""
        content = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "step": self.step,
            "settings": self._settings,
            "cells": self.cells,
        }
        with written_aside(path) as aside:
            torch.save(content, aside)

    def load(self, path: Path) -> None:
        """Continue where :meth:`save` was called.

        Raises
        ------
        InputError
            If the run was begun with other settings.
        """
        content = torch.load(path, weights_only=True)
        begun = content["settings"]
        if other := [name for name, value in self._settings.items() if begun.get(name) != value]:
            raise InputError(
                f"The run in {path.parent} was begun with another {other[0]} "
                f"({begun.get(other[0])}): resume it with the settings it was begun with."
            )
        if self.cells and content.get("cells", self.cells) != self.cells:
            raise InputError(
                f"The run in {path.parent} was begun with other cells: resume it with the same ones."
            )
        self.network.load_state_dict(content["network"])
        self.average.load_state_dict(content["average"])
        for optimiser, state in zip(self.optimisers, content["optimisers"], strict=True):
            optimiser.load_state_dict(state)
        self.step = content["step"]


def learning_rate_share(step: int, settings: TrainSettings) -> float:
    """Of the peak: a linear rise, a plateau, and a linear fall to 0 at the end."""
    rise = (step + 1) / settings.warmup if settings.warmup else 1.0
    fall = (settings.steps - step) / max(1.0, settings.decay * settings.steps)
    return min(1.0, rise, fall)


class Objective:
    """The two losses of a network, each of a batch of condition planes and clean shapes."""

    def __init__(self, network: UNet3D, settings: TrainSettings) -> None:
        self.network, self.settings = network, settings
        self.process = RectifiedFlow(settings.shift)
        weight = 1 + settings.plane_weight * torch.exp(-(torch.from_numpy(grid.plane_distance()) ** 2) / 2)
        self.weight = (weight / weight.mean()).view(1, 1, -1, 1, 1)

    def flow(self, planes: Tensor, clean: Tensor, source: torch.Generator) -> Tensor:
        """Squared error of the clean shape predicted from x_t, the mean over the batch."""
        t = self.process.training_times(len(clean), source)
        noise = torch.randn(clean.shape, generator=source)
        with torch.autocast("cpu", torch.bfloat16):
            features = self.network.encode(planes)
            predicted = self.network(self.process.diffuse(clean, t, noise), 1000 * t, features)
        return flow_loss(predicted, clean, self.weight).mean()

    def score(self, planes: Tensor, clean: Tensor, source: torch.Generator) -> Tensor:
        """Energy score of two members of each cell at some stage of sampling them, the mean over cells."""
        planes = planes.repeat(2, 1, 1, 1)
        mask_distance = (planes[:, 1] * (MASK_TRUNCATION / self.settings.truncation)).clamp(-1, 1)
        noise = torch.randn((len(planes), *clean.shape[1:]), generator=source)
        stage = STAGES[int(torch.randint(len(STAGES), (), generator=source))]
        with torch.autocast("cpu", torch.bfloat16):
            x, t = run_up_to(self.network, self.process, planes, mask_distance, noise, stage)
            times = torch.full((len(x),), 1000 * t)
            first, second = self.network(x, times, self.network.encode(planes)).float().chunk(2)
        return energy_score(first, second, clean, self.weight, self.settings.truncation).mean()


def iter_train(
    cells: Sequence[TrainingCell],
    out: Path,
    settings: TrainSettings | None = None,
    *,
    config: NetworkConfig = DEFAULT,
    start: UNet3D | None = None,
    resume: bool = False,
    report_every: int = 25,
    save_every_s: float = 50.0,
) -> Iterator[Report]:
    """Train a network of signed distances; closing the generator saves and ends.

    By rectified flow, and at the end for few evaluations (``settings.scored``), see
    :mod:`~napari_dispr.diffusion.few_steps`.

    Parameters
    ----------
    cells : sequence of TrainingCell
    out : Path
        Folder of the checkpoint and of ``log.jsonl``, one line a report.
    settings : TrainSettings
    config : NetworkConfig
        Topology, where there is no ``start``.
    start : UNet3D
        Network to begin from.
    resume : bool
        Continue from the checkpoint in ``out`` with the same settings.
    report_every : int
        Steps between reports.
    save_every_s : float
        Seconds between checkpoints: the most that a crash loses.

    Yields
    ------
    Report

    Raises
    ------
    InputError
        If there are no cells, or there is nothing to resume.
    """
    settings = settings or TrainSettings()
    if not cells:
        raise InputError("There are no cells to train on: give a dataset with at least one cell.")
    checkpoint = out / CHECKPOINT
    if resume and not checkpoint.exists():
        raise InputError(f"There is no checkpoint in {out}: start the run without resuming.")
    if checkpoint.exists() and not resume:
        raise InputError(f"{out} holds a training run already: resume it, or give another folder.")
    out.mkdir(parents=True, exist_ok=True)
    state = State(settings, start.config if start else config, torch.device("cpu"))
    if start is not None:
        for network in (state.network, state.average):
            network.load_state_dict(start.state_dict())
    state.cells = [cell.name for cell in cells]
    if resume:
        state.load(checkpoint)
    objective = Objective(state.network, settings)
    samples = Samples(cells, settings, state.network.config.planes)
    loader = DataLoader(samples, batch_sampler=Batches(settings, state.step), num_workers=settings.workers)
    losses, trained, begun, saved = [], 0, time.monotonic(), time.monotonic()
    try:
        for planes, clean in loader:
            noise_source = torch.Generator().manual_seed(settings.seed * 1_000_003 + state.step)
            scored = state.step >= settings.flow_steps
            loss = (objective.score if scored else objective.flow)(planes, clean, noise_source)
            loss.backward()
            share = learning_rate_share(state.step, settings)
            state.update(share, settings.ema)
            losses.append(loss.item())
            trained += len(clean)
            if state.step % report_every == 0 or state.step == settings.steps:
                rate = trained / (time.monotonic() - begun)
                report = Report(
                    state.step, settings.steps, float(np.mean(losses)), share * settings.learning_rate, rate
                )
                with (out / LOG).open("a") as log:
                    log.write(json.dumps(asdict(report)) + "\n")
                losses, trained, begun = [], 0, time.monotonic()
                yield report
            if time.monotonic() - saved > save_every_s:
                state.save(checkpoint)
                saved = time.monotonic()
    finally:
        if state.consistent:
            state.save(checkpoint)
