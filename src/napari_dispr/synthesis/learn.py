"""Learn masks and textures from annotated images, step by step; a stopped run goes on where it was."""

import os
import time
import zlib
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_dispr.cells.stated_sizes import UNIT
from napari_dispr.diffusion import devices
from napari_dispr.diffusion.checkpoints import read_checkpoint, write_checkpoint
from napari_dispr.diffusion.network import PlaneNetworkConfig, UNet, seeded
from napari_dispr.diffusion.optimisation import Trained, average_decay, warm_and_decayed
from napari_dispr.diffusion.samplers import with_condition
from napari_dispr.errors import InputError
from napari_dispr.events import in_one_go
from napari_dispr.files import append_json, folder_locked
from napari_dispr.models.library import check_new_file
from napari_dispr.settings import checked_settings
from napari_dispr.synthesis import masks, textures
from napari_dispr.synthesis.annotated import Source, all_annotated
from napari_dispr.synthesis.examples import Examples, examples_of
from napari_dispr.synthesis.learn_preview import write_preview
from napari_dispr.synthesis.learned import LearnedSynthesis, ready
from napari_dispr.synthesis.learned_card import LIGHT_RANKS, SynthesisCard
from napari_dispr.synthesis.settings import LearnSettings
from napari_dispr.synthesis.sources import learned_file

#: Steps of the rise of the learning rate, and share of the budget of its fall.
WARMUP, DECAY = 50, 0.4
#: Decay of the moving average of the weights, and largest norm of a gradient.
AVERAGE, CLIP = 0.995, 1.0
#: Steps between lines of the log, seconds between checkpoints.
REPORT_EVERY, SAVE_EVERY = 10, 45.0
#: Pictures of the progress in a run, and least seconds between two: each takes as long as some steps.
PREVIEWS, PREVIEW_EVERY = 12, 30.0
#: Masks that are made at the end and compared with those of the training.
COMPARED = 24
PROCESSES = {"masks": masks.PROCESS, "textures": textures.PROCESS}
#: Settings that may change when a run goes on.
_FREE = {"device"}
#: Files of a run that was killed before it saved; it may also have temporary ones, which are hidden.
_OWN = {"log.jsonl", "preview.png"}
_COUNTERS = ("step", "clock", "previews")
#: Fields of the card that are copied from the examples.
_MEASURED = (
    *("spacing", "unit", "dtype", "limits", "background", "mask_pixel", "picture_pixel", "margin", "beyond"),
    *("light", "density", "clustering"),
)


@dataclass(frozen=True, slots=True)
class LearnStep:
    """Progress of a run: thousandths of the budget are done; the losses are means of the last 10 steps."""

    done: int
    total: int
    step: int
    mask_loss: float
    texture_loss: float
    seconds: float
    seconds_left: float


@dataclass(frozen=True, slots=True)
class Warned:
    """What may be wrong with single images, in sentences. It is the first event, if there is anything."""

    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Previewed:
    """A new picture of real and made masks and textures is in the file ``path``."""

    path: Path


def folder_of(out: str | os.PathLike[str]) -> Path:
    """The folder of the run that makes the model file ``out``."""
    return Path(out).absolute().with_suffix(".learning")


def iter_learn_synthesis(
    images: Source,
    labels: Source | None,
    out: str | os.PathLike[str],
    *,
    spacing: Sequence[float] | None = None,
    unit: str = UNIT,
    channel: int | None = None,
    description: str = "",
    licence: str = "",
    attribution: str = "",
    finish: bool = False,
    clock: Callable[[], float] = time.monotonic,
    **settings: Any,
) -> Generator[Warned | LearnStep | Previewed, None, LearnedSynthesis]:
    """Learn to make annotated images like given ones: masks of cells, and their textures.

    Parameters
    ----------
    images, labels : path, array or sequence of either
        Images of one microscope and the labels of their cells, all (y, x) or all (z, y, x). A slice of a
        stack without any label counts as not annotated, so that a few annotated slices are enough. Paths are
        those of files, or of two folders with the same names; or of one folder with both, and no ``labels``.
    out : path
        Model file to write, NAME.safetensors. The run is saved in the folder NAME.learning, with a log
        (``log.jsonl``) and a picture of its progress (``preview.png``). The same call again continues a run
        that was stopped.
    spacing : (z, y, x) or (y, x), optional
        Size of a voxel in ``unit``; by default that in the files, or else 1 pixel.
    channel : int, optional
        Of files with several channels, that which shows the cells, from 0.
    description, licence, attribution : str
        For the card of the model.
    finish : bool
        Make a model of what is learned so far.
    clock : callable
        Gives the time in seconds.
    **settings
        Fields of :class:`~napari_dispr.synthesis.settings.LearnSettings`.

    Yields
    ------
    Warned, LearnStep, Previewed
        Closing the generator saves the state.

    Returns
    -------
    LearnedSynthesis
        It is in the file.

    Raises
    ------
    InputError
        If image and labels do not fit together, no image shows its cells, there are fewer than 5 cells, the
        model exists, the folder holds a run with other settings or cells, or another process works on it.
    """
    chosen = checked_settings(LearnSettings, settings)
    out = Path(out).absolute()
    check_new_file(out)
    folder = folder_of(out)
    examples = examples_of(all_annotated(images, labels, spacing, unit, channel), chosen.seed)
    learner = Learner(examples, chosen, devices.choose(chosen.device))
    with folder_locked(folder):
        checkpoint = folder / "checkpoint.pt"
        if checkpoint.exists():
            learner.load(checkpoint)
        elif finish:
            raise InputError(f"{folder} holds no saved run: learn first, without --finish.")
        elif folder.exists() and any(path.name not in _OWN for path in folder.glob("[!.]*")):
            raise InputError(f"{folder} holds files of something else: choose another name for the model.")
        cells = len({mask.cell for mask in examples.masks})
        _log(folder, "begin", step=learner.step, cells=cells, warnings=examples.warnings)
        if examples.warnings:
            yield Warned(examples.warnings)
        if not finish:
            yield from _iter_steps(learner, folder, clock)
        texts = {"name": out.stem, "description": description, "licence": licence, "attribution": attribution}
        model = learner.model(texts)
        model.save(out)
        _log(folder, "end", model=str(out), **model.card.training)
        return model


def _iter_steps(
    learner: "Learner", folder: Path, clock: Callable[[], float]
) -> Generator[LearnStep | Previewed, None, None]:
    started = clock() - learner.clock
    saved = drawn = clock()
    losses: deque[tuple[float, float]] = deque(maxlen=REPORT_EVERY)
    try:
        while learner.share < 1:
            losses.append(learner.update())
            learner.clock = clock() - started
            mask_loss, texture_loss = np.ma.masked_invalid(losses).mean(axis=0).filled(np.nan).tolist()
            left = learner.clock * (1 - learner.share) / max(learner.share, 1e-9)
            report = LearnStep(
                done=int(1000 * learner.share),
                total=1000,
                step=learner.step,
                mask_loss=mask_loss,
                texture_loss=texture_loss,
                seconds=round(learner.clock, 1),
                seconds_left=round(left, 1),
            )
            if learner.step % REPORT_EVERY == 0 or learner.share >= 1:
                _log(folder, "step", **asdict(report))
            yield report
            is_due = clock() - drawn > PREVIEW_EVERY and learner.share * PREVIEWS >= learner.previews + 1
            if is_due or learner.share >= 1:
                learner.previews = int(learner.share * PREVIEWS)
                write_preview(folder / "preview.png", learner)
                drawn = clock()
                yield Previewed(folder / "preview.png")
            if clock() - saved > SAVE_EVERY:
                learner.save(folder / "checkpoint.pt")
                saved = clock()
    finally:
        if learner.consistent:
            learner.save(folder / "checkpoint.pt")


def _log(folder: Path, kind: str, **content: Any) -> None:
    append_json(folder / "log.jsonl", {"kind": kind, **content})


learn_synthesis = in_one_go(iter_learn_synthesis)


class Learner:
    """Two networks in training, the examples they learn from, and the counters of the run.

    ``clock`` counts seconds of training; the masks ``held_out`` are not trained on.
    """

    def __init__(self, examples: Examples, settings: LearnSettings, device: torch.device) -> None:
        self.examples, self.settings, self.device = examples, settings, device
        with seeded(settings.seed):
            self._trained = {
                part: Trained(UNet(topology).to(device), settings.learning_rate, settings.adam_learning_rate)
                for part, topology in (("masks", masks.TOPOLOGY), ("textures", textures.TOPOLOGY))
            }
        if settings.start != "none":
            self._start_from(LearnedSynthesis.load(learned_file(settings.start)))
        images = np.stack([picture.image for picture in examples.pictures])
        self.offset, self.scale = float(images.mean()), float(images.std()) or 1.0
        self.pictures = textures.Pictures.of(examples.pictures, self.offset, self.scale)
        names = sorted({mask.cell for mask in examples.masks})
        aside = set(
            np.random.default_rng(settings.seed).permutation(names)[: int(settings.held_out * len(names))]
        )
        self.held_out = [mask for mask in examples.masks if mask.cell in aside]
        self.masks = [mask for mask in examples.masks if mask.cell not in aside]
        #: The masks by cell: all cells count the same.
        self._sections = [
            [mask for mask in self.masks if mask.cell == name] for name in names if name not in aside
        ]
        self._cells = [
            *(f"{mask.cell} {zlib.crc32(mask.distance.tobytes()):08x}" for mask in examples.masks),
            f"{zlib.crc32(images.tobytes()):08x}",
        ]
        self.mixed = devices.fast_dtype(device) is torch.bfloat16
        self.step = self.previews = 0
        self.clock = 0.0
        #: False during an update: then the state must not be saved.
        self.consistent = True

    def _start_from(self, start: LearnedSynthesis) -> None:
        for part, trained in self._trained.items():
            network = getattr(start, part)
            if network.config != trained.network.config:
                raise InputError(
                    f"The networks of {self.settings.start} are not those that are trained here: start from "
                    "another model, or from none."
                )
            trained.start_from(network)

    @property
    def share(self) -> float:
        """Share of the budget that is used, from 0 to 1."""
        if self.settings.steps is not None:
            return min(1.0, self.step / self.settings.steps)
        return min(1.0, self.clock / (60 * self.settings.minutes))

    def network(self, part: str) -> UNet:
        """The averaged network of masks or textures, ready for sampling."""
        return ready(self._trained[part].average, self.device)

    def update(self) -> tuple[float, float]:
        """Make one step with each network; returns the losses. Raises what `Trained.check_finite` raises."""
        rng = np.random.default_rng((self.settings.seed, self.step))
        source = torch.Generator().manual_seed(int(rng.integers(2**62)))
        self.consistent = False
        losses = [
            self._updated("masks", *self._mask_batch(rng), source),
            self._updated("textures", *self._texture_batch(rng), source),
        ]
        self.step += 1
        self.consistent = True
        for trained in self._trained.values():
            trained.check_finite()
        return losses[0], losses[1]

    def _mask_batch(self, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        cells = [self._sections[i] for i in rng.integers(len(self._sections), size=self.settings.batch)]
        chosen = [sections[int(rng.integers(len(sections)))] for sections in cells]
        clean = masks.encoded([masks.augmented(mask.distance, rng) for mask in chosen])
        return clean[:, :0], clean, torch.ones(1)

    def _texture_batch(self, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        which = rng.integers(len(self.pictures.images), size=self.settings.batch)
        samples = [self.pictures.sample(int(i), rng) for i in which]
        condition, clean, weight = (torch.from_numpy(np.stack(kind)) for kind in zip(*samples, strict=True))
        return condition, clean, weight

    def _updated(
        self, part: str, condition: Tensor, clean: Tensor, weight: Tensor, source: torch.Generator
    ) -> float:
        trained, process = self._trained[part], PROCESSES[part]
        t = torch.randint(process.steps, (len(clean),), generator=source)
        noise = torch.randn(clean.shape, generator=source)
        condition, clean, weight, t, noise = (
            one.to(self.device) for one in (condition, clean, weight, t, noise)
        )
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.mixed):
            x = with_condition(condition, process.diffuse(clean, t, noise))
            predicted = trained.network(x, process.network_time(t))
        error = (predicted.float() - process.target(clean, t, noise)) ** 2
        loss = (weight * error).mean() / weight.mean()
        loss.backward()
        rate = warm_and_decayed(self.step, self.share, WARMUP, DECAY)
        trained.apply(rate, CLIP, average_decay(AVERAGE, self.step + 1))
        return loss.item()

    def save(self, path: Path) -> None:
        """Write the checkpoint."""
        counters = {name: getattr(self, name) for name in _COUNTERS}
        parts = {part: trained.content() for part, trained in self._trained.items()}
        write_checkpoint(
            path, {**parts, **counters, "settings": self.settings.model_dump(), "cells": self._cells}
        )

    def load(self, path: Path) -> None:
        """Continue from a checkpoint; see `read_checkpoint` for the errors."""
        names = (*self._trained, *_COUNTERS)
        content = read_checkpoint(path, names, self.settings, free=_FREE, cells=self._cells)
        for part, trained in self._trained.items():
            trained.restore(content[part], path)
        for name in _COUNTERS:
            setattr(self, name, content[name])

    def model(self, texts: dict[str, str]) -> LearnedSynthesis:
        """The learned model of the state; ``texts`` are name, description, licence and attribution."""
        examples = self.examples
        card = SynthesisCard(
            **texts,
            dimensions=3 if len(examples.spacing) == 3 else 2,
            **{name: getattr(examples, name) for name in _MEASURED},
            side=self.pictures.images.shape[-1],
            offset=self.offset,
            scale=self.scale,
            neighbours=any(self.pictures.neighbours),
            depths=any(picture.depth is not None for picture in examples.pictures),
            heights=_quantiles(examples.heights),
            lights=_quantiles(examples.lights, LIGHT_RANKS),
            glow=tuple(examples.glow.tolist()),
            diameters=_quantiles(examples.diameters),
            training={
                "cells": len({mask.cell for mask in examples.masks}),
                "masks": len(self.masks),
                "pictures": len(examples.pictures),
                "steps": self.step,
                "seconds": round(self.clock),
                "settings": self.settings.model_dump(exclude={"device"}),
                **self._copies(),
            },
        )
        networks = {part: _finished(trained.average) for part, trained in self._trained.items()}
        return LearnedSynthesis(networks["masks"], networks["textures"], card)

    def _copies(self) -> dict[str, float]:
        """How similar made masks are to the most similar ones of the training, and to those held out.

        Equal numbers of both, since the most similar of many is more similar.
        """
        *_, made = masks.iter_masks(self.network("masks"), range(COMPARED))
        assert made is not None
        whole = [mask for mask in made if (mask > 0).any()]
        if not whole:
            return {}
        known = [mask.distance for mask in self.masks]
        count = min(len(known), len(self.held_out) or COMPARED, 2 * COMPARED)
        order = np.random.default_rng(self.settings.seed).permutation(len(known))[:count]
        found = {"overlap_with_training": masks.nearest_overlap(whole, [known[i] for i in order])}
        if self.held_out:
            others = [mask.distance for mask in self.held_out[:count]]
            found["overlap_with_held_out"] = masks.nearest_overlap(whole, others)
        return {name: round(float(np.median(values)), 3) for name, values in found.items()}


def _quantiles(
    values: NDArray[np.float64], ranks: Sequence[float] = (0, 0.25, 0.5, 0.75, 1)
) -> tuple[float, ...]:
    return tuple(np.quantile(values, ranks).tolist()) if len(values) else ()


def _finished(average: UNet) -> UNet:
    """A copy with the weights of 16 bit that the file holds, so that it makes what the file makes."""
    with seeded():
        network = UNet(PlaneNetworkConfig(**asdict(average.config)))
    network.load_state_dict({k: v.half().float().cpu() for k, v in average.state_dict().items()})
    return network
