"""Train SHAPR, and topological SHAPR, as a generator: steps, validations, checkpoints that resume exactly.

Two parts: supervised training, then adversarial training that starts from the best supervised weights.
Topological SHAPR adds its loss to both. Knows neither dataset folders nor runs.
"""

import time
import zlib
from collections.abc import Callable, Generator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from napari_dispr.cells.folders import CellFile
from napari_dispr.diffusion import devices
from napari_dispr.diffusion.checkpoints import damaged, read_checkpoint, write_checkpoint
from napari_dispr.diffusion.network import seeded
from napari_dispr.errors import InputError
from napari_dispr.models.shapr import (
    SHAPR,
    Discriminator,
    discriminator_loss,
    generator_loss,
    supervised_loss,
)
from napari_dispr.settings import RivalTrainSettings
from napari_dispr.training.loop import Meter, Reason, Report, Validated

#: z -> 64 - z: mirrored about the imaged plane. Plane 0 has no partner and stays.
MIRRORED = torch.tensor([0, *range(63, 0, -1)])
#: Settings that may change when a run is resumed.
_FREE = {"device"}
#: Without progress the learning rate is multiplied by the first number. After the second number of such
#: falls the part ends.
_FALL, _FALLS = 0.2, 3
_COUNTERS = (
    *("part", "step", "epoch", "place", "watched", "clock"),
    *("best_loss", "best_epoch", "best_step", "best", "cells"),
)
_MODULES = ("network", "discriminator", "optimiser", "opponent", "plateau")


# --- the data -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tensors:
    """Cells as planes (n, 2, 64, 64), mask and image in [0, 1], and objects (n, 64, 64, 64), uint8."""

    planes: Tensor
    objects: Tensor

    @classmethod
    def of(cls, cells: Sequence[CellFile]) -> "Tensors":
        """Stack cells that have objects; an InputError if one has no image."""
        planes, objects = [], []
        for cell in cells:
            if cell.image is None:
                raise InputError(f"SHAPR learns from image and mask: add image/{cell.name}.tif.")
            planes.append(np.stack([cell.mask, cell.image]))
            objects.append(cell.known_object)
        return cls(torch.from_numpy(np.stack(planes)), torch.from_numpy(np.stack(objects)))

    def batch(self, chosen: Tensor, rng: np.random.Generator | None) -> tuple[Tensor, Tensor]:
        """Input (B, 2, 64, 64) and binary truth (B, 1, 64, 64, 64), augmented if ``rng`` is given."""
        both = torch.cat([self.planes[chosen], self.objects[chosen].float() / 255], dim=1)
        if rng is not None:
            both = _turned(both, rng)
        mask, image = both[:, :1], both[:, 1:2]
        truth = (both[:, 2:] > 0.5).float()[:, None]
        return torch.cat([mask, image * mask], dim=1), truth


def _turned(planes: Tensor, rng: np.random.Generator) -> Tensor:
    """Rotate and mirror planes (B, 2 + 64, 64, 64) at random in the plane and about the imaged plane."""
    angles = rng.uniform(0, 2 * np.pi, len(planes))
    mirrors = rng.choice((-1.0, 1.0), len(planes))
    c, s, zero = np.cos(angles), np.sin(angles), np.zeros(len(planes))
    matrices = np.stack([c, -s * mirrors, zero, s, c * mirrors, zero], axis=1).reshape(-1, 2, 3)
    places = F.affine_grid(torch.from_numpy(matrices).float(), list(planes.shape), align_corners=False)
    planes = F.grid_sample(planes, places, align_corners=False)
    for i in np.flatnonzero(rng.random(len(planes)) < 0.5):
        planes[i, 2:] = planes[i, 2:][MIRRORED]
    return planes


# --- the state ----------------------------------------------------------------------------------------


class RivalState:
    """All that changes during training. It is saved whole, so that a resumed run equals an unbroken one.

    Random numbers need no state: those of a step depend on the seed and the number of the step.

    Attributes
    ----------
    step, epoch, place : int
        Optimiser steps, complete epochs, and steps of the current epoch.
    watched : int
        The step of the last validation.
    best : dict
        The weights with the lowest validation loss of this part (``best_loss``, ``best_epoch``,
        ``best_step``).
    cells : list of str
        Name and checksum of each training cell, in order.
    """

    def __init__(self, settings: RivalTrainSettings, cells: Sequence[str], device: torch.device) -> None:
        self.settings, self.device = settings, device
        with seeded(settings.seed):
            self.network, self.discriminator = SHAPR().to(device), Discriminator().to(device)
        self.part = "supervised"
        self.step = self.epoch = self.place = self.watched = self.best_epoch = self.best_step = 0
        self.clock = 0.0
        self.best_loss = float("inf")
        self.best = deepcopy(self.network.state_dict())
        self.cells = list(cells)
        self.steps_an_epoch = -(-len(cells) // settings.batch)
        #: False during a step: then the state must not be saved.
        self.consistent = True
        self._make_optimisers(settings.learning_rate)

    def _make_optimisers(self, learning_rate: float) -> None:
        self.optimiser = torch.optim.Adam(self.network.parameters(), lr=learning_rate)
        self.opponent = torch.optim.Adam(
            self.discriminator.parameters(), lr=self.settings.adversarial_learning_rate, betas=(0.5, 0.999)
        )
        self.plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
            self.optimiser, factor=_FALL, patience=self.settings.patience
        )

    def start_adversarial_part(self) -> None:
        """Start the second part from the best weights of the first."""
        self.part = "adversarial"
        self.best_epoch = self.epoch
        self.best_loss = float("inf")
        self.network.load_state_dict(self.best)
        self._make_optimisers(self.settings.adversarial_learning_rate)

    @property
    def share(self) -> float:
        """Share of the budget that is used, from 0 to 1."""
        if self.settings.minutes is not None:
            return min(1.0, self.clock / (60 * self.settings.minutes))
        return min(1.0, self.step / (self.settings.steps or self.settings.epochs * self.steps_an_epoch))

    @property
    def part_is_over(self) -> bool:
        """Whether this part has used its share of the budget, or has made no progress for too long."""
        end = 1 - self.settings.adversarial if self.part == "supervised" else 1.0
        is_stuck = self.epoch - self.best_epoch > _FALLS * self.settings.patience
        return self.share >= end - 1e-9 or is_stuck

    @property
    def validation_is_due(self) -> bool:
        """Whether an epoch or a part has ended since the last validation."""
        return self.step > self.watched and (self.place == 0 or self.part_is_over)

    def validated(self, loss: float) -> bool:
        """Record a validation loss. Returns whether it is the lowest of this part."""
        self.plateau.step(loss)
        self.watched = self.step
        if loss >= self.best_loss:
            return False
        self.best_loss, self.best_epoch, self.best_step = loss, self.epoch, self.step
        self.best = deepcopy(self.network.state_dict())
        return True

    def save(self, path: Path) -> None:
        content = {name: getattr(self, name).state_dict() for name in _MODULES}
        content |= {name: getattr(self, name) for name in _COUNTERS}
        write_checkpoint(path, {**content, "settings": self.settings.model_dump()})

    def load(self, path: Path) -> None:
        """Continue from a saved state; see `read_checkpoint` for the errors."""
        names, cells = (*_MODULES, *_COUNTERS), self.cells
        content = read_checkpoint(path, names, self.settings, free=_FREE, cells=cells, device=self.device)
        for name in _COUNTERS:
            setattr(self, name, content[name])
        for name in _MODULES:
            getattr(self, name).load_state_dict(content[name])


def best_weights(checkpoint: Path) -> tuple[dict[str, Any], int]:
    """The best weights of a run, and the number of steps that they were trained for."""
    try:
        content = torch.load(checkpoint, map_location="cpu", weights_only=True)
        step = int(content["best_step"])
        return (content["best"], step) if step else (content["network"], int(content["step"]))
    except FileNotFoundError:
        raise InputError("The run has not made a step yet: train it first.") from None
    except MemoryError:
        raise
    except Exception as error:
        raise damaged(checkpoint) from error


# --- the loop -----------------------------------------------------------------------------------------


def iter_train_rival(
    cells: Sequence[CellFile],
    watched: Sequence[CellFile],
    checkpoint: Path,
    settings: RivalTrainSettings,
    *,
    resume: bool = False,
    device: torch.device | None = None,
    stop: Callable[[], bool] = lambda: False,
    report_every: int = 5,
    save_every_s: float = 45.0,
    clock: Callable[[], float] = time.monotonic,
) -> Generator[Report | Validated, None, Reason]:
    """Train SHAPR on cells with objects and images. Arguments, yields and returns are as in `iter_optimise`.

    The validation cells ``watched`` (without any, the training cells) lower the learning rate, end the parts
    and choose the best weights, after each epoch and each part; the ``score`` is the supervised loss.
    """
    device = device or torch.device("cpu")
    learnt, validation = Tensors.of(cells), Tensors.of(watched or cells)
    checksums = [f"{cell.name} {zlib.crc32(cell.known_object.tobytes()):08x}" for cell in cells]
    state = RivalState(settings, checksums, device)
    if resume:
        state.load(checkpoint)
    started = clock() - state.clock
    saved = clock()
    meter = Meter(device, clock)
    try:
        while True:
            if state.validation_is_due:
                yield _validate(state, validation)
                state.clock = clock() - started
            if state.part_is_over:
                if state.part == "adversarial" or not settings.adversarial:
                    return "finished" if state.share >= 1 else "converged"
                state.start_adversarial_part()
                continue
            if clock() - saved > save_every_s:
                state.save(checkpoint)
                saved = clock()
            chosen = _samples(state)
            meter.add(_step(state, learnt, chosen), len(chosen))
            state.clock = clock() - started
            if state.step % report_every == 0 or state.part_is_over:
                yield meter.report(state, state.optimiser.param_groups[0]["lr"], state.part)
            if stop() and state.share < 1:
                return "stopped"
    finally:
        if state.consistent:
            state.save(checkpoint)


def _samples(state: RivalState) -> Tensor:
    """Indices of the cells of the next step."""
    order = np.random.default_rng((state.settings.seed, 0, state.epoch)).permutation(len(state.cells))
    return torch.from_numpy(order).split(state.settings.batch)[state.place]


def _autocast(device: torch.device) -> torch.autocast:
    """16-bit convolutions where the device is fast with them; losses are in float32."""
    return torch.autocast(device.type, torch.bfloat16, devices.fast_dtype(device) == torch.bfloat16)


def _supervised(state: RivalState, logits: Tensor, truth: Tensor) -> Tensor:
    settings, loss = state.settings, supervised_loss(logits, truth)
    if settings.method == "topo-shapr":
        from napari_dispr.training.topology import topological_loss

        loss = loss + settings.topology * topological_loss(logits.sigmoid(), truth, settings.dimension)
    return loss


def _step(state: RivalState, cells: Tensors, chosen: Tensor) -> float:
    """Make one optimiser step. Returns the supervised loss."""
    rng = np.random.default_rng((state.settings.seed, 1, state.step))
    planes, truth = (tensor.to(state.device) for tensor in cells.batch(chosen, rng))
    state.consistent = False
    state.network.train()
    with _autocast(state.device):
        logits = state.network(planes)
    supervised = _supervised(state, logits.float(), truth)
    if not torch.isfinite(supervised):
        raise InputError("The loss is no longer finite: start a new run with a lower learning rate.")
    objective = supervised if state.part == "supervised" else _adversarial(state, supervised, logits, truth)
    state.optimiser.zero_grad()
    objective.backward()
    state.optimiser.step()
    state.step += 1
    state.place = (state.place + 1) % state.steps_an_epoch
    state.epoch += state.place == 0
    state.consistent = True
    return supervised.item()


def _adversarial(state: RivalState, supervised: Tensor, logits: Tensor, truth: Tensor) -> Tensor:
    """Make a step of the discriminator. Returns the loss of the generator."""
    predicted = logits.float().sigmoid()
    with _autocast(state.device):
        verdicts = state.discriminator(truth), state.discriminator(predicted.detach())
    state.opponent.zero_grad()
    discriminator_loss(*verdicts).backward()
    state.opponent.step()
    state.discriminator.requires_grad_(False)
    with _autocast(state.device):
        verdict = state.discriminator(predicted)
    state.discriminator.requires_grad_(True)
    return generator_loss(supervised, verdict)


def _validate(state: RivalState, cells: Tensors) -> Validated:
    """Score the validation cells without augmentation."""
    table: list[tuple[float, float, float]] = []
    state.network.eval()
    with torch.no_grad():
        for i in range(len(cells.planes)):
            planes, truth = (one.to(state.device) for one in cells.batch(torch.tensor([i]), None))
            with _autocast(state.device):
                logits = state.network(planes).float()
            predicted, true = logits > 0, truth > 0.5
            overlap = (predicted & true).sum() / (predicted | true).sum().clamp(min=1)
            volume = (predicted.sum() / true.sum().clamp(min=1) - 1).abs()
            loss = _supervised(state, logits, truth)
            table.append((loss.item(), 1 - overlap.item(), volume.item()))
    loss, energy_score, volume_error = np.mean(table, axis=0).tolist()
    best = state.validated(loss)
    share, seconds = round(state.share, 5), round(state.clock, 1)
    return Validated(state.step, share, seconds, energy_score, volume_error, loss, best)
