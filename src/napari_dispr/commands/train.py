"""``napari-dispr train``: train a model, in this process or under ``torchrun``."""

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

from napari_dispr.commands import common
from napari_dispr.errors import InputError
from napari_dispr.settings import PRESETS, RIVAL_PRESETS, RivalTrainSettings, TrainSettings

#: Settings of rivals that shape models do not have.
_RIVAL_ONLY = RivalTrainSettings.model_fields.keys() - TrainSettings.model_fields.keys()
#: Texts for the card of the model.
_CARD_TEXTS = "description", "licence", "data_note"


def add(commands: Any) -> None:
    command = common.add_command(
        commands,
        "train",
        train,
        "train a shape model, or SHAPR, on cells with known 3D shapes; then use `models import`",
    )
    command.add_argument(
        "dataset", type=Path, nargs="?", help="folder with train/{obj,image,mask}, as `dataset` writes it"
    )
    command.add_argument(
        "--out", type=Path, help="model file to write, NAME.safetensors; the run is saved in NAME.training"
    )
    command.add_argument(
        "--preset",
        default=None,
        help=f"settings to start with: {', '.join([*PRESETS, *RIVAL_PRESETS])} (standard)",
    )
    command.add_argument("--init", help="model to start from: a name, a file, or none (generic)")
    command.add_argument(
        "--resume",
        nargs="?",
        const="",
        metavar="RUN",
        help="continue the run of --out, or the run in the folder RUN, from its last state",
    )
    command.add_argument(
        "--finish",
        action="store_true",
        help="with --resume: make a model of the current state, without more training",
    )
    command.add_argument("--description", help="text for the card: which cells the model is for")
    command.add_argument("--licence", help="text for the card: licence of the model")
    command.add_argument("--data-note", help="text for the card: where the cells come from")
    common.add_settings(command, TrainSettings)
    rivals = command.add_argument_group(
        "options for shapr and topo-shapr; these also use some of the other options"
    )
    common.add_settings(rivals, RivalTrainSettings, set(_RIVAL_ONLY))


def train(options: argparse.Namespace) -> None:
    with common.stop_signals() as signals:
        _train(options, signals)


def _train(options: argparse.Namespace, signals: list[int]) -> None:
    from napari_dispr.training.run import Run

    given = {name: getattr(options, name) for name in (*TrainSettings.model_fields, *_RIVAL_ONLY)}
    given = {n: None if value == "none" else value for n, value in given.items() if value is not None}
    if options.resume is not None:
        given.update(
            {name: value for name in ("preset", "init", *_CARD_TEXTS) if (value := getattr(options, name))}
        )
        if given or options.dataset:
            other = next(iter(given), "dataset")
            raise InputError(f"A resumed run keeps its settings: leave out {other}.")
        if not options.resume and not options.out:
            raise InputError("--resume needs a run: give --out as before, or the folder of the run.")
    elif options.dataset is None or options.out is None:
        raise InputError("There is nothing to train: give a dataset folder and --out NAME.safetensors.")
    elif options.finish:
        raise InputError("--finish needs a run: give it together with --resume.")
    leads = int(os.environ.get("RANK", 0)) == 0
    from napari_dispr.training.plan import DEFAULT_START, planned, run_for
    from napari_dispr.training.train import as_line, iter_train

    if options.resume is not None:
        run = Run.open(options.resume) if options.resume else run_for(options.out)
        if leads and not run.is_running:  # otherwise a window started it and may already request a stop
            run.clear_stop_request()
    elif not leads:
        run = _once_planned(options.out)
    else:
        texts: dict[str, Any] = {name: getattr(options, name) or "" for name in _CARD_TEXTS}
        init = {"none": None, None: DEFAULT_START}.get(options.init, options.init)
        run = planned(
            options.dataset, options.out, start=init, preset=options.preset or "standard", **texts, **given
        )
    last: dict[str, Any] = {}
    for event in iter_train(run, finish=options.finish, stop=lambda: bool(signals)):
        if leads:
            last = as_line(event)
            print(json.dumps(last), flush=True)
            for warning in last.get("warnings", ()):
                common.warn(warning)
    if signals and last.get("reason") == "stopped":
        common.warn(f"saved; continue with --resume {run.folder}.")
        raise KeyboardInterrupt


def _once_planned(out: Path) -> Any:
    """Wait for the run that the first process of ``torchrun`` plans, and open it."""
    from napari_dispr.training.plan import run_for

    until = time.monotonic() + 60
    while True:
        try:
            return run_for(out)
        except InputError:
            if time.monotonic() > until:
                raise
            time.sleep(0.2)
