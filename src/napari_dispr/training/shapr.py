"""The loop of training SHAPR as a generator: steps, validations, a checkpoint that resumes exactly.

Two parts: supervised, then fine-tuning of its best weights against a discriminator. Topological SHAPR adds
its loss to both. Knows neither folders of cells nor runs.
"""

import time
import zlib
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from napari_dispr.cells.folders import CellFile
from napari_dispr.diffusion import devices
from napari_dispr.errors import InputError
from napari_dispr.models.shapr import (
    discriminator_loss,
    generator_loss,
    planes_of,
    supervised_loss,
)
from napari_dispr.settings import RivalTrainSettings
from napari_dispr.training.loop import Reason, Report, Validated, memory
from napari_dispr.training.shapr_state import RivalState

#: z -> 64 - z: mirrored about the imaged plane; plane 0 has no partner and stays.
MIRRORED = torch.tensor([0, *range(63, 0, -1)])


@dataclass(frozen=True, slots=True)
class Tensors:
    """Cells as planes (n, 2, 64, 64), mask and image in [0, 1], and objects (n, 64, 64, 64), uint8."""

    planes: Tensor
    objects: Tensor

    @classmethod
    def of(cls, cells: Sequence[CellFile]) -> "Tensors":
        """Of cells with objects.

        Raises
        ------
        InputError
            If one has no image.
        """
        planes, objects = [], []
        for cell in cells:
            if cell.image is None:
                raise InputError(f"SHAPR learns from image and mask: add image/{cell.name}.tif.")
            planes_of(cell.mask, cell.image)  # says so where sizes are wrong
            assert cell.obj is not None
            planes.append(np.stack([cell.mask, cell.image]))
            objects.append(cell.obj)
        return cls(torch.from_numpy(np.stack(planes)), torch.from_numpy(np.stack(objects)))

    def batch(self, chosen: Tensor, rng: np.random.Generator | None) -> tuple[Tensor, Tensor]:
        """Input (B, 2, 64, 64) and binary truth (B, 1, 64, 64, 64); turned and mirrored, given a ``rng``."""
        both = torch.cat([self.planes[chosen], self.objects[chosen].float() / 255], dim=1)
        if rng is not None:
            both = _turned(both, rng)
        mask, image = both[:, :1], both[:, 1:2]
        truth = (both[:, 2:] > 0.5).float()[:, None]
        return torch.cat([mask, image * mask], dim=1), truth


def _turned(planes: Tensor, rng: np.random.Generator) -> Tensor:
    """Planes (B, 2 + 64, 64, 64) turned by any angle and mirrored in the plane, and about the imaged one."""
    angles = rng.uniform(0, 2 * np.pi, len(planes))
    mirrors = rng.choice((-1.0, 1.0), len(planes))
    c, s, zero = np.cos(angles), np.sin(angles), np.zeros(len(planes))
    matrices = np.stack([c, -s * mirrors, zero, s, c * mirrors, zero], axis=1).reshape(-1, 2, 3)
    places = F.affine_grid(torch.from_numpy(matrices).float(), list(planes.shape), align_corners=False)
    planes = F.grid_sample(planes, places, align_corners=False)
    for i in np.flatnonzero(rng.random(len(planes)) < 0.5):
        planes[i, 2:] = planes[i, 2:][MIRRORED]
    return planes


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
) -> Generator[Report | Validated, None, Reason]:
    """Train SHAPR; closing the generator saves and ends.

    Parameters
    ----------
    cells : sequence of CellFile
        With objects and images.
    watched : sequence of CellFile
        By which the learning rate falls, parts end and the best weights are chosen: not trained on. Without
        any the training cells are.
    checkpoint : Path
        File that the state is saved to.
    settings : RivalTrainSettings
    resume : bool
        Continue from the checkpoint.
    device : torch.device
    stop : callable
        Whether to save and end, asked after each step.
    report_every : int
        Steps between reports.
    save_every_s : float
        Seconds between checkpoints: the most that a crash loses.

    Yields
    ------
    Report
        Its ``phase`` is "supervised" or "adversarial".
    Validated
        After each epoch and each part; its ``score`` is the supervised loss.

    Returns
    -------
    "finished", "converged" or "stopped"

    Raises
    ------
    InputError
        If a cell has no image, there is nothing to resume, or the loss is not a number any more.
    """
    device = device or torch.device("cpu")
    learnt, apart = Tensors.of(cells), Tensors.of(watched or cells)
    state = RivalState(settings, [_told_apart(cell) for cell in cells], device)
    if resume:
        state.load(checkpoint)
    before = time.monotonic() - state.clock  # so that the clock goes on
    saved = since = time.monotonic()
    losses: list[float] = []
    trained = 0
    try:
        while True:
            if state.is_to_be_watched:
                yield _watch(state, apart)
                state.clock = time.monotonic() - before
            if state.part_is_over:
                if state.part == "adversarial" or not settings.adversarial:
                    return "finished" if state.share >= 1 else "converged"
                state.fine_tune()
                continue
            if time.monotonic() - saved > save_every_s:
                state.save(checkpoint)
                saved = time.monotonic()
            chosen = _samples(state)
            losses.append(_step(state, learnt, chosen))
            trained += len(chosen)
            state.clock = time.monotonic() - before
            if state.step % report_every == 0 or state.part_is_over:
                now = time.monotonic()
                yield Report(
                    step=state.step,
                    share=round(state.share, 5),
                    loss=float(np.mean(losses)),
                    learning_rate=state.optimiser.param_groups[0]["lr"],
                    samples_per_second=round(trained / max(now - since, 1e-9), 2),
                    seconds=round(state.clock, 1),
                    seconds_left=round(state.clock * (1 - state.share) / max(state.share, 1e-9), 1),
                    memory_gb=round(memory(device) / 1e9, 2),
                    phase=state.part,
                )
                losses, trained, since = [], 0, now
            if stop() and state.share < 1:
                return "stopped"
    finally:
        if state.consistent:
            state.save(checkpoint)


def _told_apart(cell: CellFile) -> str:
    assert cell.obj is not None
    return f"{cell.name} {zlib.crc32(cell.obj.tobytes()):08x}"


def _samples(state: RivalState) -> Tensor:
    """The cells of the next step."""
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
    """One optimiser step; returns the supervised loss."""
    rng = np.random.default_rng((state.settings.seed, 1, state.step))
    planes, truth = (tensor.to(state.device) for tensor in cells.batch(chosen, rng))
    state.consistent = False
    state.network.train()
    with _autocast(state.device):
        logits = state.network(planes)
    supervised = _supervised(state, logits.float(), truth)
    if not torch.isfinite(supervised):
        raise InputError("The loss is not a number any more: begin anew at a lower learning rate.")
    objective = supervised if state.part == "supervised" else _against(state, supervised, logits, truth)
    state.optimiser.zero_grad()
    objective.backward()
    state.optimiser.step()
    state.step += 1
    state.place = (state.place + 1) % state.steps_an_epoch
    state.epoch += state.place == 0
    state.consistent = True
    return supervised.item()


def _against(state: RivalState, supervised: Tensor, logits: Tensor, truth: Tensor) -> Tensor:
    """The generator's loss, after a step of the discriminator."""
    drawn = logits.float().sigmoid()
    with _autocast(state.device):
        verdicts = state.discriminator(truth), state.discriminator(drawn.detach())
    state.opponent.zero_grad()
    discriminator_loss(*verdicts).backward()
    state.opponent.step()
    state.discriminator.requires_grad_(False)
    with _autocast(state.device):
        verdict = state.discriminator(drawn)
    state.discriminator.requires_grad_(True)
    return generator_loss(supervised, verdict)


def _watch(state: RivalState, cells: Tensors) -> Validated:
    """Look at the watched cells as they are: by their loss weights are kept and the learning rate falls."""
    table: list[tuple[float, float, float]] = []
    state.network.eval()
    with torch.no_grad():
        for i in range(len(cells.planes)):
            planes, truth = (one.to(state.device) for one in cells.batch(torch.tensor([i]), None))
            with _autocast(state.device):
                logits = state.network(planes).float()
            drawn, true = logits > 0, truth > 0.5
            overlap = (drawn & true).sum() / (drawn | true).sum().clamp(min=1)
            volume = (drawn.sum() / true.sum().clamp(min=1) - 1).abs()
            loss = _supervised(state, logits, truth)
            table.append((loss.item(), 1 - overlap.item(), volume.item()))
    loss, energy_score, volume_error = np.mean(table, axis=0).tolist()
    best = state.watch(loss)
    share, seconds = round(state.share, 5), round(state.clock, 1)
    return Validated(state.step, share, seconds, energy_score, volume_error, loss, best)
