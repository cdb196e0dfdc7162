"""``napari-dispr synthesise make`` and ``judge``: synthetic annotated images in a folder, and their worth."""

import argparse
from pathlib import Path
from typing import Any

from napari_dispr.commands import common
from napari_dispr.errors import InputError
from napari_dispr.settings import checked_settings
from napari_dispr.synthesis.settings import CellSettings, JudgeSettings, Microscope, PopulationSettings


def add_make(commands: Any) -> None:
    """Add ``make`` and its options."""
    command = common.add_command(commands, "make", make, "make annotated images from a learned model")
    command.add_argument(
        "source",
        metavar="MODEL",
        help="file of a learned model, sample (that in the package), or simulated cells: nuclei, healthy "
        "blood, hereditary spherocytosis",
    )
    command.add_argument("--out", type=Path, required=True, help="folder for the images")
    command.add_argument("--images", type=int, default=200, help="number of images (200)")
    command.add_argument("--size", metavar="Z,Y,X", help="voxels of each image; Y,X for 2D (32,256,256)")
    command.add_argument(
        "--spacing", metavar="Z,Y,X", help="size of a voxel; Y,X for 2D (default: as in the learned images)"
    )
    common.add_settings(command, PopulationSettings, {"cells", "density", "clustering", "cut"})
    command.add_argument("--seed", type=int, default=0, help="seed of the images (0)")
    common.add_settings(command.add_argument_group("cells of a learned model"), CellSettings)
    command.add_argument(
        "--layout",
        choices=("plain", "cellpose", "stardist"),
        default="plain",
        help="names of folders and files: plain (image, labels), stardist (images, masks), or cellpose "
        "(train, with NAME_masks.tif; a file for each slice)",
    )
    microscope = command.add_argument_group("microscope, only for simulated cells")
    microscope.add_argument("--blur", metavar="Z,Y,X", help=Microscope.about("blur"))
    microscope.add_argument("--photons", type=float, help=Microscope.about("photons"))


def make(options: argparse.Namespace) -> None:
    if options.size is not None:
        options.size = tuple(common.whole_numbers("--size", options.size) or ())
    camera: dict[str, Any] = {}
    if options.blur is not None:
        camera["blur"] = common.lengths("--blur", options.blur, options.blur.count(",") + 1)
    if options.photons is not None:
        camera["photons"] = options.photons
    options.microscope = checked_settings(Microscope, camera) if camera else None
    settings = common.given_settings(options, PopulationSettings)
    spacing = (
        None if options.spacing is None else common.lengths("--spacing", options.spacing, len(settings.size))
    )
    if options.seed < 0:
        raise InputError(f"--seed is {options.seed}: give 0 or a larger number.")
    from napari_dispr.synthesis.fields import iter_make_synthesis, summary
    from napari_dispr.synthesis.sources import cell_source

    cells = common.given_settings(options, CellSettings)
    source = cell_source(options.source, len(settings.size), spacing, cells)

    def say(event: Any) -> None:
        for note in getattr(event, "notes", ()):
            common.warn(f"{event.name}: {note}")

    results = common.run_with_progress(
        iter_make_synthesis(source, options.out, options.images, settings, options.seed, options.layout), say
    )
    print(f"{summary(results, settings.size)}: {options.out}")


def add_judge(commands: Any) -> None:
    """Add ``judge`` and its options."""
    command = common.add_command(
        commands, "judge", judge, "train segmenters on real and synthetic images, and compare them"
    )
    command.add_argument(
        "real_train", metavar="REAL_TRAIN", type=Path, help="folder of real images to train on"
    )
    command.add_argument(
        "real_test", metavar="REAL_TEST", type=Path, help="folder of other real images to test"
    )
    command.add_argument(
        "synthetic", metavar="SYNTHETIC", type=Path, nargs="+", help="one or more folders of synthetic images"
    )
    command.add_argument("--out", type=Path, required=True, help="folder for the table and figures")
    common.add_channel(command)
    common.add_settings(command, JudgeSettings)


def judge(options: argparse.Namespace) -> None:
    settings = common.given_settings(options, JudgeSettings)
    from napari_dispr.synthesis.judge import Judged, iter_judge_synthesis

    def say(event: Any) -> None:
        if isinstance(event, Judged):
            print(f"{event.training}, seed {event.seed}: SEG {event.seg:.3f}", flush=True)

    events = iter_judge_synthesis(
        options.real_train, options.real_test, options.synthetic, options.out, settings, options.channel
    )
    common.run_with_progress(events, say)
    print((options.out / "table.md").read_text(encoding="utf-8"))
