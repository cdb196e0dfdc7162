"""``napari-dispr dataset``: cells to train on, cut from 3D stacks and their segmentations."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_dispr.commands import common
from napari_dispr.errors import InputError, counted

if TYPE_CHECKING:
    from napari_dispr.cells.stacks import Plane


def add(commands: Any) -> None:
    command = common.add_command(commands, "dataset", dataset, "cut cells from 3D stacks; then use `train`")
    command.usage = (
        "napari-dispr dataset IMAGES LABELS --out DIR [options]\n"
        "       napari-dispr dataset --no-image LABELS --out DIR [options]"
    )
    command.add_argument(
        "stacks",
        type=Path,
        nargs="+",
        metavar="IMAGES LABELS",
        help="a 3D image and its segmentation (one value per cell), or two folders with files of the "
        "same names; TIFF, OME-TIFF, OME-Zarr or NPY",
    )
    command.add_argument("--no-image", action="store_true", help="cells without images: give only LABELS")
    common.add_channel(command)
    common.add_split(command)
    command.add_argument("--out", type=Path, required=True, help="folder for the dataset")
    common.add_spacing(command, "--spacing and --voxel-size")
    command.add_argument(
        "--plane",
        default="middle",
        metavar="middle|Z",
        help="slice to use as the 2D picture (middle: of each cell)",
    )
    command.add_argument(
        "--voxel-size", metavar="V", help="voxel size of the cells (default: the cells fill most of the grid)"
    )


def dataset(options: argparse.Namespace) -> None:
    images, labels = _sources(options)
    spacing, unit = common.given_spacing(options)
    voxel_size = (
        None if options.voxel_size is None else common.lengths("--voxel-size", options.voxel_size, 1)[0]
    )
    plane = _plane(options.plane)
    common.check_folder(options.out)
    from napari_dispr.cells.file_pairs import pair_files
    from napari_dispr.cells.folders import DatasetNotes, check_no_dataset, write_dataset
    from napari_dispr.cells.splits import check_cells
    from napari_dispr.cells.stack_files import read_stack
    from napari_dispr.cells.stacks import cut_stacks, in_words
    from napari_dispr.cells.stated_sizes import micrometers
    from napari_dispr.export.pictures import montage
    from napari_dispr.files import written_aside

    check_no_dataset(options.out)
    pairs = pair_files(images, labels)
    stacks = [read_stack(*pair, spacing, unit=unit, channel=options.channel) for pair in pairs]
    stacks = [
        replace(stack, labels=common.split_labels(stack.labels, options, path))
        for stack, (_, path) in zip(stacks, pairs, strict=True)
    ]
    for stack in stacks:
        if stack.note:
            common.warn(stack.note)
    if voxel_size is not None:
        voxel_size *= micrometers(unit) or 1.0
    with common.progress_bar("cell") as show:
        cut = cut_stacks(stacks, plane=plane, voxel_size=voxel_size, progress=show)
    notes = DatasetNotes(
        voxel_size=cut.voxel_size,
        unit=cut.unit,
        source=[path.name for _, path in pairs]
        if images is None
        else [path.name for path, _ in pairs if path],
        plane=cut.plane,
        left_out=cut.left_out,
    )
    write_dataset(options.out, cut.cells, notes)
    from skimage.io import imsave

    with written_aside(options.out / "preview.png") as aside:
        imsave(aside, montage(cut.cells), check_contrast=False)

    print(f"{counted(len(cut.cells), 'cell')}: {options.out}")
    steps = dict.fromkeys(" x ".join(f"{step:.4g}" for step in stack.spacing) for stack in stacks)
    print(
        f"voxels of the stacks: {', '.join(steps)} {cut.unit}; of the cells: {cut.voxel_size:.4g} {cut.unit}"
    )
    if cut.left_out:
        print(f"left out: {in_words(cut.left_out)}")
    for warning in check_cells(cut.cells):
        common.warn(warning)


def _sources(options: argparse.Namespace) -> tuple[Path | None, Path]:
    """Paths of the images, if any, and of the labels."""
    paths = options.stacks
    if options.no_image:
        if len(paths) != 1:
            raise InputError("--no-image takes only one file or folder, the labels: leave out the images.")
        return None, paths[0]
    if len(paths) == 1:
        raise InputError(f"There is only {paths[0]}: give IMAGES and LABELS, or --no-image and LABELS.")
    if len(paths) > 2:
        raise InputError(
            f"There are {len(paths)} paths: give two, IMAGES and LABELS. For many files give folders."
        )
    return paths[0], paths[1]


def _plane(text: str) -> "Plane":
    if text == "middle":
        return "middle"
    try:
        return int(text)
    except ValueError:
        raise InputError(
            f"--plane is {text!r}: give middle, or the number of a slice, counted from 0."
        ) from None
