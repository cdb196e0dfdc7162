"""Train SHAPR, the rival, on the cells that a shape model is trained on, and evaluate it on the others.

    python benchmarks/train_shapr.py DATASET --out RUN [--epochs 100] [--minutes T]   # every fifth kept apart
    python benchmarks/train_shapr.py DATASET --out RUN --resume                       # goes on exactly
    python benchmarks/train_shapr.py DATASET --out RUN2 --all                         # no cells kept apart

Two thirds of the epochs, or of the minutes, are supervised; the rest fine-tunes the best weights so far
against a discriminator. A tenth of the training cells is only used to lower the learning rate and to
choose the best weights of either part: RUN/supervised.safetensors and, of the last part,
RUN/model.safetensors.
"""

import argparse
import json
import time
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from train_red_blood_cell import split

from napari_dispr.cells.folders import CellFile, read_dataset
from napari_dispr.errors import InputError
from napari_dispr.evaluation import Method, evaluate
from napari_dispr.evaluation_summary import summary_table
from napari_dispr.files import written_aside
from napari_dispr.rivals.shapr import (
    SHAPR,
    Discriminator,
    SHAPRModel,
    discriminator_loss,
    generator_loss,
    planes_of,
    supervised_loss,
)

CHECKPOINT = "checkpoint.pt"
#: Seconds between checkpoints.
SAVE_EVERY = 50.0
#: z -> 64 - z: mirrored about the imaged plane; plane 0 has no partner and stays.
MIRRORED = torch.tensor([0, *range(63, 0, -1)])


@dataclass(frozen=True, slots=True)
class Settings:
    """What a run that goes on must share with the one that was begun."""

    epochs: int = 100
    minutes: float = 0.0
    batch: int = 6
    learning_rate: float = 1e-3
    #: Of generator and discriminator while fine-tuning.
    adversarial_learning_rate: float = 2e-4
    #: Epochs without a better loss after which the learning rate is lowered to a fifth, and after three
    #: times as many the part ends.
    patience: int = 8
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Tensors:
    """Cells as planes (n, 2, 64, 64), mask and image, and antialiased objects (n, 64, 64, 64), in [0, 1]."""

    planes: Tensor
    objects: Tensor

    @classmethod
    def of(cls, cells: list[CellFile]) -> "Tensors":
        planes, objects = [], []
        for cell in cells:
            planes_of(cell.mask, cell.image)  # says so where there is no image
            assert cell.image is not None
            assert cell.obj is not None
            planes.append(np.stack([cell.mask, cell.image]))
            objects.append(cell.obj.astype(np.float32) / 255)
        return cls(torch.from_numpy(np.stack(planes)), torch.from_numpy(np.stack(objects)))

    def batch(self, chosen: Tensor, rng: np.random.Generator | None) -> tuple[Tensor, Tensor]:
        """Input (B, 2, 64, 64) and binary truth (B, 1, 64, 64, 64); turned and mirrored, given a ``rng``."""
        both = torch.cat([self.planes[chosen], self.objects[chosen]], dim=1)
        if rng is not None:
            both = turned(both, rng)
        mask, image = both[:, :1], both[:, 1:2]
        truth = (both[:, 2:] > 0.5).float()[:, None]
        return torch.cat([mask, image * mask], dim=1), truth


def turned(planes: Tensor, rng: np.random.Generator) -> Tensor:
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


def validation_split(cells: list[CellFile]) -> tuple[list[CellFile], list[CellFile]]:
    """Cells to learn from, and of every class each tenth (at least one) to watch."""
    learnt: list[CellFile] = []
    watched: list[CellFile] = []
    kinds: dict[str, list[CellFile]] = {}
    for cell in cells:
        kinds.setdefault(cell.name.rstrip("0123456789"), []).append(cell)
    for kind in kinds.values():
        step = min(10, len(kind))
        for i, cell in enumerate(kind):
            (watched if i % step == step // 2 and len(kind) > 1 else learnt).append(cell)
    return learnt, watched or learnt


class Run:
    """All that changes while training; saved whole, so that a resumed run equals one that went on."""

    def __init__(self, settings: Settings) -> None:
        torch.manual_seed(settings.seed)
        self.settings = settings
        self.network, self.discriminator = SHAPR(), Discriminator()
        self.part = "supervised"
        self.epoch = 0
        self.seconds = 0.0
        self.best_loss = float("inf")
        self.best_epoch = 0
        self.best = deepcopy(self.network.state_dict())
        self.supervised = self.best
        self.history: list[dict[str, Any]] = []
        self._begin(settings.learning_rate)

    def _begin(self, learning_rate: float) -> None:
        self.optimiser = torch.optim.Adam(self.network.parameters(), lr=learning_rate)
        self.opponent = torch.optim.Adam(
            self.discriminator.parameters(), lr=self.settings.adversarial_learning_rate, betas=(0.5, 0.999)
        )
        self.plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
            self.optimiser, factor=0.2, patience=self.settings.patience
        )

    def fine_tune(self) -> None:
        """Begin the second part from the best weights of the first."""
        self.part = "adversarial"
        self.best_epoch = self.epoch
        self.best_loss = float("inf")
        self.network.load_state_dict(self.best)
        self._begin(self.settings.adversarial_learning_rate)

    def part_is_over(self) -> bool:
        """By number of epochs, by minutes, or because nothing got better for long."""
        settings = self.settings
        share = 2 / 3 if self.part == "supervised" else 1.0
        over = self.epoch >= round(share * settings.epochs)
        if settings.minutes:
            over |= self.seconds >= share * 60 * settings.minutes
        return bool(over or self.epoch - self.best_epoch > 3 * settings.patience)

    _TENSORS = ("network", "discriminator", "optimiser", "opponent", "plateau")
    _PLAIN = (
        "part",
        "epoch",
        "seconds",
        "best_loss",
        "best_epoch",
        "best",
        "supervised",
        "history",
    )

    def save(self, path: Path) -> None:
        """Write the whole state aside, then rename."""
        content = {name: getattr(self, name).state_dict() for name in self._TENSORS}
        content |= {name: getattr(self, name) for name in self._PLAIN}
        with written_aside(path) as aside:
            torch.save({**content, "settings": asdict(self.settings)}, aside)

    def load(self, path: Path) -> None:
        """Continue where :meth:`save` was called.

        Raises
        ------
        InputError
            If the run was begun with other settings.
        """
        content = torch.load(path, weights_only=True)
        begun = content["settings"]
        for name, value in asdict(self.settings).items():
            if begun[name] != value:
                raise InputError(
                    f"The run in {path.parent} was begun with {name} {begun[name]}, not {value}: "
                    "resume it with the settings it was begun with."
                )
        for name in self._PLAIN:
            setattr(self, name, content[name])
        for name in self._TENSORS:
            getattr(self, name).load_state_dict(content[name])


def autocast() -> torch.autocast:
    """16-bit convolutions; losses are in float32."""
    return torch.autocast("cpu", torch.bfloat16)


def learn_an_epoch(run: Run, cells: Tensors) -> dict[str, float]:
    """Go through all cells once; returns the mean losses. Depends on seed and epoch alone."""
    rng = np.random.default_rng((run.settings.seed, run.epoch))
    order = torch.from_numpy(rng.permutation(len(cells.planes)))
    run.network.train()
    losses: list[dict[str, float]] = []
    for chosen in order.split(run.settings.batch):
        planes, truth = cells.batch(chosen, rng)
        with autocast():
            logits = run.network(planes)
        supervised = supervised_loss(logits, truth)
        found = {"loss": supervised.item()}
        if run.part == "supervised":
            objective = supervised
        else:
            drawn = logits.float().sigmoid()
            with autocast():
                verdicts = run.discriminator(truth), run.discriminator(drawn.detach())
            opposed = discriminator_loss(*verdicts)
            run.opponent.zero_grad()
            opposed.backward()
            run.opponent.step()
            run.discriminator.requires_grad_(False)
            with autocast():
                verdict = run.discriminator(drawn)
            run.discriminator.requires_grad_(True)
            objective = generator_loss(supervised, verdict)
            found["discriminator"] = opposed.item()
        run.optimiser.zero_grad()
        objective.backward()
        run.optimiser.step()
        losses.append(found)
    return {name: float(np.mean([loss[name] for loss in losses])) for name in losses[0]}


@torch.no_grad()
def watch(run: Run, cells: Tensors) -> tuple[float, float]:
    """Mean supervised loss and IoU of the watched cells as they are."""
    run.network.eval()
    losses, overlaps = [], []
    for i in range(len(cells.planes)):
        planes, truth = cells.batch(torch.tensor([i]), None)
        with autocast():
            logits = run.network(planes)
        losses.append(supervised_loss(logits, truth).item())
        drawn, true = logits > 0, truth > 0.5
        overlaps.append(((drawn & true).sum() / (drawn | true).sum()).item())
    return float(np.mean(losses)), float(np.mean(overlaps))


def train(run: Run, learnt: Tensors, watched: Tensors, out: Path) -> Iterator[dict[str, Any]]:
    """Go on to the end of the run; yields a report an epoch."""
    saved = time.monotonic()
    while True:
        if run.part_is_over():
            if run.part == "adversarial":
                break
            run.supervised = run.best
            run.fine_tune()
            continue
        start = time.monotonic()
        losses = learn_an_epoch(run, learnt)
        watched_loss, watched_iou = watch(run, watched)
        run.plateau.step(watched_loss)
        run.epoch += 1
        if watched_loss < run.best_loss:
            run.best_loss, run.best_epoch = watched_loss, run.epoch
            run.best = deepcopy(run.network.state_dict())
        run.seconds += time.monotonic() - start
        report = {"epoch": run.epoch, "part": run.part}
        report |= {name: round(loss, 4) for name, loss in losses.items()}
        report |= {"watched_loss": round(watched_loss, 4), "watched_iou": round(watched_iou, 4)}
        report |= {"learning_rate": run.optimiser.param_groups[0]["lr"], "seconds": round(run.seconds, 1)}
        run.history.append(report)
        if time.monotonic() - saved > SAVE_EVERY:
            run.save(out / CHECKPOINT)
            saved = time.monotonic()
        yield report
    run.save(out / CHECKPOINT)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--all", action="store_true", help="keep no cells apart")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    for name, default in asdict(Settings()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    options = vars(parser.parse_args())
    torch.set_num_threads(options["threads"])
    out: Path = options["out"]

    cells = read_dataset(options["dataset"], part="train", need_objects=True)
    known, held_out = (cells, []) if options["all"] else split(cells)
    learnt, watched = validation_split(known)
    print(
        f"{len(learnt)} cells to learn from, {len(watched)} watched, {len(held_out)} kept apart", flush=True
    )
    run = Run(Settings(**{name: options[name] for name in asdict(Settings())}))
    if options["resume"]:
        run.load(out / CHECKPOINT)
    for report in train(run, Tensors.of(learnt), Tensors.of(watched), out):
        print(json.dumps(report), flush=True)

    # The watched cells chose the weights: they count as trained on.
    fingerprints = frozenset(cell.fingerprint for cell in known)
    models: dict[str, Method] = {}
    for name, file, weights in (
        ("shapr", "model.safetensors", run.best),
        ("shapr-supervised", "supervised.safetensors", run.supervised),
    ):
        network = SHAPR()
        network.load_state_dict(weights)
        SHAPRModel(network, name, fingerprints, run.history).save(out / file)
        models[name] = SHAPRModel.load(out / file)
    if held_out:
        summary = evaluate(held_out, models, out=out / "held_out", save_shapes=True)
        print(summary_table(summary))


if __name__ == "__main__":
    main()
