"""Do synthetic stacks help a segmenter? The table of the paper and its ablations, by the shipped commands.

    python benchmarks/synthetic_help.py TRAIN_IMAGE TRAIN_LABELS TEST_IMAGE TEST_LABELS --spacing 1.75,0.8,0.8
        --out FOLDER [--slices 12,20,28,36] [--learn-steps 100] [--sets synthetic,harmonics,even] ...

Of the training stack only some slices are annotated. A model learns from them (`synthesise learn`), makes
stacks (`synthesise make`), and `synthesise judge` trains segmenters on the slices, on the made stacks and on
both, and tests them on the other stack. The ablations replace a part: `harmonics` are random bodies in place
of volumes by the shape model, `ellipsoids` are ellipsoids fitted to the masks, `even` has no texture model.
A stopped run continues with the same command.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import tifffile

from napari_dispr.grid import translation
from napari_dispr.shapes.ome import OmeImage, write_ome_tiff

#: What each set of synthetic stacks adds to the command.
SETS = {
    "synthetic": [],
    "harmonics": ["--way", "harmonics"],
    "ellipsoids": ["--shape-model", "ellipsoid"],
    "even": ["--texture-steps", "0"],
}


def write_pair(
    folder: Path, image: Path, labels: Path, spacing: tuple[float, ...], slices: list[int] | None
) -> None:
    """A stack with its labels as OME-TIFF with a scale; without the labels of other slices."""
    if (folder / "labels" / "stack.tif").exists():
        return
    affine = translation((0.0, 0.0, 0.0))
    affine[:3, :3] = np.diag(spacing)
    marks = tifffile.imread(labels)
    if slices is not None:
        kept = np.zeros_like(marks)
        kept[slices] = marks[slices]
        marks = kept
        sections = sum(len(np.unique(plane[plane > 0])) for plane in marks)
        print(f"{len(np.unique(marks)) - 1} cells in {sections} sections of {len(slices)} slices")
    for kind, array in (("image", tifffile.imread(image)), ("labels", marks)):
        write_ome_tiff(folder / kind / "stack.tif", [OmeImage(array, "stack", affine, "micrometer", {})])


def synthesise(*arguments: object) -> None:
    start = time.perf_counter()
    command = [sys.executable, "-m", "napari_dispr", "synthesise", *map(str, arguments)]
    subprocess.run(command, check=True)
    print(f"{arguments[0]}: {time.perf_counter() - start:.0f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    for name in ("train_image", "train_labels", "test_image", "test_labels"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--spacing", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--slices", help="annotated slices (four, evenly between the first and the last)")
    parser.add_argument("--size", default="20,96,96")
    parser.add_argument("--images", type=int, default=10)
    parser.add_argument("--learn-steps", type=int, default=100)
    parser.add_argument("--judge-steps", type=int, default=150)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--crop", type=int, default=64)
    parser.add_argument("--sets", default="synthetic", help=f"of {', '.join(SETS)}")
    options = parser.parse_args()
    z, y, x = map(float, options.spacing.split(","))
    if options.slices:
        slices = [int(number) for number in options.slices.split(",")]
    else:
        used = np.flatnonzero(tifffile.imread(options.train_labels).any(axis=(1, 2)))
        slices = np.quantile(used, (0.2, 0.4, 0.6, 0.8)).round().astype(int).tolist()
    train, test = options.out / "train", options.out / "test"
    write_pair(train, options.train_image, options.train_labels, (z, y, x), slices)
    write_pair(test, options.test_image, options.test_labels, (z, y, x), None)
    model = options.out / "learned.safetensors"
    if not model.exists():
        synthesise("learn", train, "--out", model, "--steps", options.learn_steps)
    names = options.sets.split(",")
    for name in names:
        folder = options.out / name
        more = ("--images", options.images, "--size", options.size, *SETS[name])
        synthesise("make", model, "--out", folder, *more)
    made = [options.out / name for name in names]
    settings = ("--steps", options.judge_steps, "--seeds", options.seeds, "--crop", options.crop)
    synthesise("judge", train, test, *made, "--out", options.out / "judged", *settings)


if __name__ == "__main__":
    main()
