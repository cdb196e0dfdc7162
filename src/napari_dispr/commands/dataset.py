"""``napari-dispr dataset``: cells to train on, cut from 3D stacks and their segmentations."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_dispr.commands.common import add_command, check_folder, lengths
from napari_dispr.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_dispr.cells.stacks import CutCells, Plane, Stack

#: Of the spacing that is given.
_UNIT = "micrometer"


def add(commands: Any) -> None:
    """Add the command and its options."""
    command = add_command(commands, "dataset", dataset, "cut cells to train on from 3D stacks")
    command.usage = (
        "napari-dispr dataset IMAGES LABELS --out DIR [options]\n"
        "       napari-dispr dataset --no-image LABELS --out DIR [options]"
    )
    command.add_argument(
        "stacks",
        type=Path,
        nargs="+",
        metavar="IMAGES LABELS",
        help="a 3D image and its segmentation (a value a cell), or two folders of partners of one name; "
        "TIFF, OME-TIFF, OME-Zarr or NPY",
    )
    command.add_argument("--no-image", action="store_true", help="cells without images: give LABELS alone")
    command.add_argument("--out", type=Path, required=True, help="folder to write to")
    command.add_argument("--spacing", metavar="Z,Y,X", help="from voxel to voxel (what the files say)")
    command.add_argument("--unit", help=f"of --spacing and --voxel-size ({_UNIT})")
    command.add_argument(
        "--plane", default="middle", metavar="middle|Z", help="slice that is imaged (middle)"
    )
    command.add_argument(
        "--voxel-size", metavar="V", help="side of a voxel of the grid (so that cells fill most of it)"
    )


def dataset(options: argparse.Namespace) -> None:
    """``napari-dispr dataset``."""
    images, labels = _sources(options)
    spacing = None if options.spacing is None else lengths("--spacing", options.spacing, 3)
    voxel_size = None if options.voxel_size is None else lengths("--voxel-size", options.voxel_size, 1)[0]
    plane = _plane(options.plane)
    if options.unit is not None and spacing is None:
        raise InputError("--unit is the unit of --spacing: give both, or neither.")
    check_folder(options.out)
    from napari_dispr.cells.folders import DatasetNotes, check_no_dataset, write_dataset
    from napari_dispr.cells.splits import check_cells
    from napari_dispr.cells.stack_files import micrometers, pair_files, read_stack
    from napari_dispr.cells.stacks import in_words
    from napari_dispr.export.pictures import montage
    from napari_dispr.files import written_aside

    check_no_dataset(options.out)
    pairs = pair_files(images, labels)
    unit = options.unit or _UNIT
    stacks = [read_stack(*pair, spacing, unit=unit) for pair in pairs]
    for stack in stacks:
        if stack.note:
            print(f"napari-dispr: {stack.note}", file=sys.stderr)
    if voxel_size is not None:
        voxel_size *= micrometers(unit) or 1.0
    cut = _cut(stacks, plane, voxel_size)
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

    print(f"{len(cut.cells)} cells: {options.out}")
    steps = dict.fromkeys(" x ".join(f"{step:.4g}" for step in stack.spacing) for stack in stacks)
    print(
        f"voxels of the stacks: {', '.join(steps)} {cut.unit}; of the cells: {cut.voxel_size:.4g} {cut.unit}"
    )
    if cut.left_out:
        print(f"left out: {in_words(cut.left_out)}")
    for doubt in check_cells(cut.cells):
        print(f"napari-dispr: {doubt}", file=sys.stderr)


def _sources(options: argparse.Namespace) -> tuple[Path | None, Path]:
    """Images, if any, and labels."""
    paths = options.stacks
    if options.no_image:
        if len(paths) != 1:
            raise InputError("--no-image takes one file or folder, the labels: leave the images out.")
        return None, paths[0]
    if len(paths) == 1:
        raise InputError(f"{paths[0]} comes alone: give IMAGES and LABELS, or --no-image and LABELS.")
    if len(paths) > 2:
        raise InputError(f"There are {len(paths)} paths: give two, IMAGES and LABELS; folders for many.")
    return paths[0], paths[1]


def _plane(text: str) -> "Plane":
    if text == "middle":
        return "middle"
    try:
        return int(text)
    except ValueError:
        raise InputError(f"--plane is {text!r}: give middle, or the number of a slice, from 0.") from None


def _cut(stacks: "Sequence[Stack]", plane: "Plane", voxel_size: float | None) -> "CutCells":
    """With a progress bar."""
    from tqdm import tqdm

    from napari_dispr.cells.stacks import cut_stacks

    with tqdm(unit="cell", disable=None, leave=False) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        return cut_stacks(stacks, plane=plane, voxel_size=voxel_size, progress=show)
