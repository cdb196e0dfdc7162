"""``napari-dispr train``: a shape model of one's own cells, here or under ``torchrun``."""

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from napari_dispr.commands.common import add_command, add_settings, asked_to_stop
from napari_dispr.errors import InputError
from napari_dispr.settings import PRESETS, RIVAL_PRESETS, RivalTrainSettings, TrainSettings

#: What of rivals is not set of shape models too.
_OF_RIVALS = RivalTrainSettings.model_fields.keys() - TrainSettings.model_fields.keys()
_TOLD = "description", "licence", "data_note"


def add(commands: Any) -> None:
    """Add the command and its options."""
    command = add_command(
        commands, "train", train, "train a shape model, or a rival, on cells with known 3D shapes"
    )
    command.add_argument("dataset", type=Path, nargs="?", help="folder of train/{obj,image,mask}")
    command.add_argument(
        "--out", type=Path, help="model file to write, NAME.safetensors; its run is NAME.training"
    )
    command.add_argument(
        "--preset", default=None, help=f"{', '.join(PRESETS)}; rivals: {', '.join(RIVAL_PRESETS)} (standard)"
    )
    command.add_argument("--init", help="model to begin from, a name or a file; none: from scratch (generic)")
    command.add_argument(
        "--resume",
        nargs="?",
        const="",
        metavar="RUN",
        help="go on with the run beside --out, or in the folder RUN, exactly where it ended",
    )
    command.add_argument("--finish", action="store_true", help="with --resume: make a model of what there is")
    command.add_argument("--description", help="for the model's card: which cells it is for")
    command.add_argument("--licence", help="for the model's card: under which others may use it")
    command.add_argument("--data-note", help="for the model's card: where the cells come from")
    add_settings(command, TrainSettings)
    rivals = command.add_argument_group("options for rivals, which share some of the others")
    add_settings(rivals, RivalTrainSettings, set(_OF_RIVALS))


def train(options: argparse.Namespace) -> None:
    """``napari-dispr train``."""
    with asked_to_stop() as signals:
        _train(options, signals)


def _train(options: argparse.Namespace, signals: list[int]) -> None:
    from napari_dispr.training.run import Run

    given = {name: getattr(options, name) for name in (*TrainSettings.model_fields, *_OF_RIVALS)}
    given = {n: None if value == "none" else value for n, value in given.items() if value is not None}
    if options.resume is not None:
        given.update(
            {name: value for name in ("preset", "init", *_TOLD) if (value := getattr(options, name))}
        )
        if given or options.dataset:
            other = next(iter(given), "dataset")
            raise InputError(f"A run goes on as it was begun: leave {other} out beside --resume.")
        if not options.resume and not options.out:
            raise InputError("--resume needs to know which run: give --out as before, or its folder.")
    elif options.dataset is None or options.out is None:
        raise InputError("There is nothing to train: give a dataset folder and --out NAME.safetensors.")
    elif options.finish:
        raise InputError("There is no run to finish yet: give --finish together with --resume.")
    leads = int(os.environ.get("RANK", 0)) == 0
    from napari_dispr.training.plan import DEFAULT_START, planned, run_for
    from napari_dispr.training.train import as_line, iter_train

    if options.resume is not None:
        run = Run.open(options.resume) if options.resume else run_for(options.out)
        if leads and not run.is_running:  # else a window has started this and may want it to stop by now
            run.clear_stop_request()
    elif not leads:
        run = _once_planned(options.out)
    else:
        told: dict[str, Any] = {name: getattr(options, name) or "" for name in _TOLD}
        init = {"none": None, None: DEFAULT_START}.get(options.init, options.init)
        run = planned(
            options.dataset, options.out, start=init, preset=options.preset or "standard", **told, **given
        )
    last: dict[str, Any] = {}
    for event in iter_train(run, finish=options.finish, stop=lambda: bool(signals)):
        if leads:
            last = as_line(event)
            print(json.dumps(last), flush=True)
            for doubt in last.get("doubts", ()):
                print(f"napari-dispr: {doubt}", file=sys.stderr)
    if signals and last.get("reason") == "stopped":
        print(f"napari-dispr: saved; go on with --resume {run.folder}.", file=sys.stderr)
        raise KeyboardInterrupt


def _once_planned(out: Path) -> Any:
    """The run that the first process of ``torchrun`` is planning."""
    from napari_dispr.training.plan import run_for

    until = time.monotonic() + 60
    while True:
        try:
            return run_for(out)
        except InputError:
            if time.monotonic() > until:
                raise
            time.sleep(0.2)
