"""Train the shipped multi-view model on silhouettes of random bodies (spherical harmonics), without any cell.

    python benchmarks/train_views.py --out RUN              # continues where an earlier run ended

Writes RUN/checkpoint.pt, RUN/log.jsonl and, at the end, RUN/views.safetensors.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch

from napari_dispr.card import Card, Quality
from napari_dispr.diffusion import devices
from napari_dispr.diffusion.model import ShapeModel
from napari_dispr.settings import TrainSettings
from napari_dispr.synthesis.silhouettes import DECLINE, DEGREE, EXTENT, TRUNCATION, random_silhouettes
from napari_dispr.synthesis.views import PROCESS, STEPS, TOPOLOGY, views_loss
from napari_dispr.training.state import State


def card(state: State) -> Card:
    return Card(
        name="views",
        description="Sixteen silhouettes of a body from one.",
        licence="BSD-3-Clause",
        attribution=f"Trained on {state.taken} random bodies of this package, each used once.",
        limits=f"Bodies of spherical harmonics up to degree {DEGREE}, power falling as degree^-{DECLINE:g}.",
        truncation=TRUNCATION,
        typical_extent=EXTENT,
        qualities={"balanced": Quality(sampler="dpm-solver++", steps=STEPS)},
        training={"bodies": state.taken, "seconds": state.clock, "settings": state.settings.model_dump()},
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    for name, value in {"minutes": 18.0, "batch": 16, "seed": 0, "threads": torch.get_num_threads()}.items():
        parser.add_argument(f"--{name}", type=type(value), default=value)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    settings = TrainSettings(
        minutes=options.minutes, batch=options.batch, seed=options.seed, scored=0.0, warmup=50, decay=0.5
    )
    state = State(settings, TOPOLOGY, torch.device("cpu"))
    checkpoint = options.out / "checkpoint.pt"
    if checkpoint.exists():
        state.load(checkpoint)
    options.out.mkdir(parents=True, exist_ok=True)
    losses: list[float] = []
    fast = devices.fast_dtype(torch.device("cpu")) == torch.bfloat16
    last, saved = time.monotonic(), time.monotonic()
    with (options.out / "log.jsonl").open("a", encoding="utf-8") as log:
        while state.share < 1:
            number = settings.seed * 1_000_003 + state.step
            silhouettes = torch.from_numpy(random_silhouettes(settings.batch, number))
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=fast):
                loss = views_loss(state.network, silhouettes, torch.Generator().manual_seed(number))
            loss.backward()
            state.update(settings.batch)
            losses.append(loss.item())
            state.clock += time.monotonic() - last
            last = time.monotonic()
            if state.step % 25 == 0:
                line = {"step": state.step, "loss": float(np.mean(losses)), "seconds": round(state.clock, 1)}
                print(json.dumps(line), file=log, flush=True)
                losses.clear()
            if last - saved > 45 or state.share >= 1:
                state.save(checkpoint)
                saved = last
    model = ShapeModel(state.average, PROCESS, card(state))
    model.save(options.out / "views.safetensors", dtype=torch.float16)


if __name__ == "__main__":
    main()
