"""Train the multi-view model of `views` on silhouettes of random bodies, without any cell."""

import os
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import torch

from napari_dispr.card import Card, Quality
from napari_dispr.diffusion import devices
from napari_dispr.diffusion.checkpoints import read_checkpoint, write_checkpoint
from napari_dispr.diffusion.model import ShapeModel
from napari_dispr.diffusion.network import UNet3D, seeded
from napari_dispr.diffusion.optimisation import Trained, average_decay, warm_and_decayed
from napari_dispr.events import in_one_go
from napari_dispr.files import folder_locked
from napari_dispr.models.library import check_new_file
from napari_dispr.settings import checked_settings
from napari_dispr.synthesis.learn import folder_of
from napari_dispr.synthesis.settings import ViewsSettings
from napari_dispr.synthesis.silhouettes import DECLINE, DEGREE, EXTENT, TRUNCATION, random_silhouettes
from napari_dispr.synthesis.views import PROCESS, STEPS, TOPOLOGY, views_loss

#: Steps of the rise of the learning rate, and share of the budget of its fall.
WARMUP, DECAY = 50, 0.5
#: Peak learning rates, decay of the average of the weights, and largest norm of a gradient.
RATES, AVERAGE, CLIP = (0.01, 5e-4), 0.995, 1.0
#: Seconds between checkpoints.
SAVE_EVERY = 45.0


@dataclass(frozen=True, slots=True)
class ViewsStep:
    """``done`` of ``total`` steps are done; ``loss`` is that of the last one."""

    done: int
    total: int
    loss: float


def iter_learn_views(out: str | os.PathLike[str], **settings: int) -> Generator[ViewsStep, None, ShapeModel]:
    """Train a multi-view model; ``settings`` are fields of `ViewsSettings`.

    The model file ``out`` is NAME.safetensors. The state is saved in NAME.learning, also when the generator
    is closed, and the same call continues it. Raises an InputError if the file exists, its state has other
    settings, or another process works on it.
    """
    chosen = checked_settings(ViewsSettings, settings)
    check_new_file(Path(out).absolute())
    with seeded(chosen.seed):
        trained = Trained(UNet3D(TOPOLOGY), *RATES)
    with folder_locked(folder_of(out)):
        checkpoint, step = folder_of(out) / "checkpoint.pt", 0
        if checkpoint.exists():
            content = read_checkpoint(checkpoint, ("trained", "step"), chosen, free=set(), cells=())
            trained.restore(content["trained"], checkpoint)
            step = content["step"]
        mixed = devices.fast_dtype(torch.device("cpu")) is torch.bfloat16
        saved, whole = monotonic(), True
        try:
            while step < chosen.steps:
                source = torch.Generator().manual_seed(chosen.seed * 1_000_003 + step)
                silhouettes = torch.from_numpy(random_silhouettes(chosen.batch, source))
                with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
                    loss = views_loss(trained.network, silhouettes, source)
                whole = False
                loss.backward()
                rate = warm_and_decayed(step, step / chosen.steps, WARMUP, DECAY)
                step += 1
                trained.apply(rate, CLIP, average_decay(AVERAGE, step))
                whole = True
                yield ViewsStep(step, chosen.steps, loss.item())
                if monotonic() - saved > SAVE_EVERY:
                    _save(checkpoint, trained, step, chosen)
                    saved = monotonic()
        finally:
            if whole:
                _save(checkpoint, trained, step, chosen)
        model = ShapeModel(trained.average, PROCESS, _card(chosen))
        model.save(out, dtype=torch.float16)
        return model


learn_views = in_one_go(iter_learn_views)


def _save(path: Path, trained: Trained[UNet3D], step: int, settings: ViewsSettings) -> None:
    content = {"trained": trained.content(), "step": step, "settings": settings.model_dump()}
    write_checkpoint(path, content)


def _card(settings: ViewsSettings) -> Card:
    bodies = settings.steps * settings.batch
    return Card(
        name="views",
        description="Sixteen silhouettes of a body from one.",
        licence="BSD-3-Clause",
        attribution=f"Trained on {bodies:,} random bodies of this package, each used once.",
        limits=f"Bodies of spherical harmonics up to degree {DEGREE}, power falling as degree^-{DECLINE:g}.",
        truncation=TRUNCATION,
        typical_extent=EXTENT,
        qualities={"balanced": Quality(sampler="dpm-solver++", steps=STEPS)},
        training={"bodies": bodies, "settings": settings.model_dump()},
    )
