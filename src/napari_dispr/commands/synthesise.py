"""``napari-dispr synthesise``: learn from annotated images, make annotated images, judge them."""

import argparse
from collections.abc import Generator
from pathlib import Path
from typing import Any

from napari_dispr.commands import common
from napari_dispr.commands.synthesise_fields import add_judge, add_make
from napari_dispr.errors import InputError
from napari_dispr.synthesis.settings import LearnSettings, ViewsSettings


def add(commands: Any) -> None:
    text = "learn from few annotated images, make many, and judge whether they help"
    parts = common.add_group(commands, "synthesise", text)
    command = common.add_command(
        parts, "learn", learn, "learn masks and textures of cells from annotated images, 2D or 3D"
    )
    command.add_argument(
        "sources",
        metavar="IMAGE LABELS",
        type=Path,
        nargs="+",
        help="image and its labels, of which few labelled slices are enough; then more such pairs. Or two "
        "folders with the same file names, or one folder with the folders image and labels",
    )
    command.add_argument(
        "--out",
        type=Path,
        required=True,
        help="model file to write, NAME.safetensors; the run is saved in NAME.learning, and the same command "
        "continues it",
    )
    command.add_argument(
        "--spacing", metavar="Z,Y,X", help="size of a voxel; Y,X for 2D (default: as in the files)"
    )
    common.add_channel(command)
    command.add_argument("--unit", help=f"unit of --spacing ({common.UNIT})")
    command.add_argument(
        "--finish", action="store_true", help="make a model of what the run has learned so far"
    )
    common.add_settings(command, LearnSettings)
    for name in ("description", "licence", "attribution"):
        command.add_argument(f"--{name}", default="", help=f"{name} for the card of the model")
    command = common.add_command(
        parts, "views", views, "train the model that `make --way views` needs, on random bodies"
    )
    command.add_argument(
        "--out",
        type=Path,
        required=True,
        help="model file to write, NAME.safetensors; the state is saved in NAME.learning, and the same "
        "command continues it",
    )
    common.add_settings(command, ViewsSettings)
    add_make(parts)
    add_judge(parts)


def learn(options: argparse.Namespace) -> None:
    settings = common.given_settings(options, LearnSettings)
    spacing, unit = common.given_spacing(options, 2 if (options.spacing or "").count(",") < 2 else 3)
    paths: list[Path] = options.sources
    if len(paths) > 1 and len(paths) % 2:
        raise InputError(
            f"{len(paths)} paths are given: give each image with its labels, IMAGE LABELS IMAGE LABELS, or "
            "one folder with the folders image and labels."
        )
    from napari_dispr.synthesis.learn import iter_learn_synthesis

    events = iter_learn_synthesis(
        paths[0] if len(paths) == 1 else paths[::2],
        None if len(paths) == 1 else paths[1::2],
        options.out,
        spacing=spacing,
        unit=unit,
        channel=options.channel,
        finish=options.finish,
        description=options.description,
        licence=options.licence,
        attribution=options.attribution,
        **settings.model_dump(),
    )
    model = _run(events, options.out)
    made = model.card.training
    print(f"learned from {made['cells']} cells in {made['pictures']} sections: {options.out}")
    if "overlap_with_held_out" in made:
        known, other = made["overlap_with_training"], made["overlap_with_held_out"]
        print(
            f"overlap (IoU, median) of made masks with the most similar mask of the training: {known:.2f}; "
            f"with the most similar of as many masks that were not trained on: {other:.2f}"
        )


def views(options: argparse.Namespace) -> None:
    settings = common.given_settings(options, ViewsSettings)
    from napari_dispr.synthesis.learn_views import iter_learn_views

    _run(iter_learn_views(options.out, **settings.model_dump()), options.out)
    print(f"multi-view model: {options.out}")


def _run(events: Generator[Any, None, Any], out: Path) -> Any:
    """Run a training, which saves its state when it is interrupted; returns its model."""
    from napari_dispr.synthesis.learn import folder_of

    with common.stop_signals() as signals:

        def note(event: Any) -> None:
            for warning in getattr(event, "warnings", ()):
                common.warn(warning)
            if signals:
                raise KeyboardInterrupt

        try:
            return common.run_with_progress(events, note)
        except KeyboardInterrupt:
            common.warn(f"saved in {folder_of(out)}; the same command continues.")
            raise
