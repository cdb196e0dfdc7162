"""What the scripts that train models share: options, simulated cells in a file, the run itself."""

import argparse
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from napari_dispr.cells.training_cells import TrainingCell
from napari_dispr.diffusion import devices
from napari_dispr.diffusion.network import DEFAULT, NetworkConfig
from napari_dispr.files import written_aside
from napari_dispr.settings import TrainSettings
from napari_dispr.training.loop import iter_optimise
from napari_dispr.training.state import State

#: Settings of a training that are options of a script.
FREE = (
    *("steps", "minutes", "batch", "scored", "learning_rate", "adam_learning_rate", "warmup", "decay", "ema"),
    "seed",
)
_ARRAYS = ("mask", "image", "signed_distance", "surface")


def add_options(parser: argparse.ArgumentParser, settings: Iterable[str]) -> None:
    """Add the options of a run, and those for ``settings``."""
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cells", type=Path, help="file for the simulated cells (OUT/simulated.npz)")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    for name in settings:
        default = TrainSettings.model_fields[name].default
        kind = float if default is None else type(default)
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, default=default)


def saved_cells(file: Path, make: Callable[[], Iterable[TrainingCell]] | None = None) -> list[TrainingCell]:
    """Training cells from a file, which is written with those of ``make`` where it is missing."""
    if make is not None and not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        cells = list(make())
        with written_aside(file) as aside, aside.open("wb") as out:
            arrays = {f"{i}.{name}": getattr(cell, name) for i, cell in enumerate(cells) for name in _ARRAYS}
            np.savez(out, allow_pickle=False, **arrays, names=np.array([cell.name for cell in cells]))
    with np.load(file) as arrays:
        return [
            TrainingCell(str(name), *(arrays[f"{i}.{array}"] for array in _ARRAYS))
            for i, name in enumerate(arrays["names"])
        ]


def trained(
    cells: list[TrainingCell],
    settings: TrainSettings,
    options: argparse.Namespace,
    config: NetworkConfig = DEFAULT,
    **how: Any,
) -> State:
    """The state at the end of a run in the folder ``options.out``; prints its reports."""
    options.out.mkdir(parents=True, exist_ok=True)
    checkpoint, device = options.out / "checkpoint.pt", devices.choose(options.device)
    for report in iter_optimise(
        cells, checkpoint, settings, config=config, resume=options.resume, device=device, **how
    ):
        print(json.dumps(asdict(report)), flush=True)
    state = State(settings, config, torch.device("cpu"))
    state.load(checkpoint)
    return state
