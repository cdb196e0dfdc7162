"""Do synthetic stacks help a segmenter? The table of the paper and its ablations, by the shipped commands.

    python benchmarks/synthetic_help.py DATA --train NAME,NAME --test NAME --spacing 1.75,0.8,0.8 --out FOLDER
        [--slices 2] [--copies 5] [--learn-steps 100] [--sets synthetic,harmonics,even] ...

DATA holds image/NAME.tif and labels/NAME.tif. Of the training stacks only some slices are annotated. Copies
of a stack, mirrored, with other exposures and other annotated slices, stand for several stacks. A model
learns from them (`synthesise learn`), makes stacks (`synthesise make`), and `synthesise judge` trains
segmenters on the slices, on the made stacks and on both, and tests them on other stacks. The ablations
replace a part: `harmonics` are random bodies in place of volumes by the shape model, `ellipsoids` are
ellipsoids fitted to the masks, `even` has no texture model. A stopped run continues with the same command.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import tifffile

from napari_dispr.labels import cell_boxes
from napari_dispr.synthesis.annotated import write_image

#: What each set of synthetic stacks adds to the command.
SETS = {
    "synthetic": [],
    "harmonics": ["--way", "harmonics"],
    "ellipsoids": ["--shape-model", "ellipsoid"],
    "even": ["--texture-steps", "0"],
}


#: Gain and offset of the copies of a stack.
EXPOSURES = ((1, 0), (0.6, 60), (1.6, -30), (0.8, 20), (1.25, 100))


def write_pair(data: Path, name: str, spacing: tuple[float, ...], folder: Path) -> None:
    """A stack with its labels as OME-TIFF with a scale."""
    for kind in ("image", "labels"):
        path = folder / kind / f"{name}.tif"
        if not path.exists():
            write_image(path, tifffile.imread(data / kind / f"{name}.tif"), spacing, "micrometer")


def write_sparse(
    data: Path, name: str, spacing: tuple[float, ...], folder: Path, slices: int, copies: int
) -> None:
    """Copies of a stack; of the labels of each only some slices, all together evenly over the stack."""
    image, marks = (tifffile.imread(data / kind / f"{name}.tif") for kind in ("image", "labels"))
    used, count = np.flatnonzero(marks.any(axis=(1, 2))), slices * copies
    places = np.quantile(used, (np.arange(count) + 1) / (count + 1)).round().astype(int)
    for number in range(copies):
        own = places[number::copies]
        kept = np.zeros_like(marks)
        kept[own] = marks[own]
        sections = sum(len(np.unique(plane[plane > 0])) for plane in kept)
        print(f"{name}: {len(np.unique(kept)) - 1} cells, {sections} sections, slices {own.tolist()}")
        gain, offset = EXPOSURES[number % len(EXPOSURES)]
        dark = float(image.min())
        exposed = np.clip(np.rint((image - dark) * gain + dark + offset), 0, 65535).astype(np.uint16)
        turned = (slice(None), slice(None, None, (-1) ** number), slice(None, None, (-1) ** (number // 2)))
        path = f"{name}.tif" if copies == 1 else f"{name}_{number + 1}.tif"
        for kind, array in (("image", exposed), ("labels", kept)):
            if not (folder / kind / path).exists():
                write_image(folder / kind / path, np.ascontiguousarray(array[turned]), spacing, "micrometer")


def print_sizes(folder: Path, spacing: tuple[float, ...]) -> None:
    """Quartiles of sections that the sides do not cut, and of whole cells, over the stacks of a folder."""
    sections, heights, voxels = [], [], []
    for path in sorted((folder / "labels").glob("*.tif")):
        marks = tifffile.imread(path)
        for label, (depth, *box) in cell_boxes(marks).items():
            if any(side.start == 0 or side.stop == n for side, n in zip(box, marks.shape[1:], strict=True)):
                continue
            areas = (marks[(depth, *box)] == label).sum(axis=(1, 2))
            diameters = 2 * np.sqrt(areas / np.pi)
            sections += diameters.tolist()
            if depth.start > 0 and depth.stop < len(marks):
                heights.append(len(areas) * spacing[0] / (spacing[2] * diameters.max()))
                voxels.append(areas.sum())
    names = ("diameter of sections, pixels", "height / diameter", "voxels")
    for name, values in zip(names, (sections, heights, voxels), strict=True):
        found = np.quantile(values, (0.25, 0.5, 0.75)).round(2).tolist() if values else "no whole cell"
        print(f"{folder}: {name}: {found} of {len(values)}")


def print_light(folder: Path) -> None:
    """Light of whole cells above the background, relative to their middle, from it (0) to their ends (1).

    Medians over the cells that no side of a stack cuts, at five depths, and their number.
    """
    depths, found = np.linspace(0, 1, 5), []
    for path in sorted((folder / "labels").glob("*.tif")):
        marks, image = tifffile.imread(path), tifffile.imread(folder / "image" / path.name)
        level = np.median(image[marks == 0])
        for label, box in cell_boxes(marks).items():
            own = marks[box] == label
            is_cut = any(side.start == 0 or side.stop == n for side, n in zip(box, marks.shape, strict=True))
            if is_cut or len(own) < 6 or not own.any(axis=(1, 2)).all():
                continue
            light = [plane[mask].mean() - level for plane, mask in zip(image[box], own, strict=True)]
            places = np.linspace(-1, 1, 2 * len(own) + 1)[1::2]
            found.append(np.interp([depths, -depths], places, light).mean(axis=0))
    if found:
        light = np.median([one / one[0] for one in found], axis=0).round(2)
        print(f"{folder}: light at depths {depths.tolist()}: {light.tolist()} of {len(found)} cells")


def synthesise(*arguments: object) -> None:
    start = time.perf_counter()
    command = [sys.executable, "-m", "napari_dispr", "synthesise", *map(str, arguments)]
    subprocess.run(command, check=True)
    print(f"{arguments[0]}: {time.perf_counter() - start:.0f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--train", required=True, help="names of the training stacks")
    parser.add_argument("--test", required=True, help="names of the test stacks")
    parser.add_argument("--spacing", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--slices", type=int, default=2, help="annotated slices of each training stack")
    parser.add_argument("--copies", type=int, default=1, help="of each training stack, to stand for several")
    parser.add_argument("--size", default="20,96,96")
    parser.add_argument("--images", type=int, default=10)
    parser.add_argument("--learn-steps", type=int, default=100)
    parser.add_argument("--judge-steps", type=int, default=150)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--crop", type=int, default=64)
    parser.add_argument("--sets", default="synthetic", help=f"of {', '.join(SETS)}")
    options = parser.parse_args()
    z, y, x = map(float, options.spacing.split(","))
    train, test = options.out / "train", options.out / "test"
    for name in options.train.split(","):
        write_sparse(options.data, name, (z, y, x), train, options.slices, options.copies)
    for name in options.test.split(","):
        write_pair(options.data, name, (z, y, x), test)
    print_light(test)
    model = options.out / "learned.safetensors"
    if not model.exists():
        synthesise("learn", train, "--out", model, "--steps", options.learn_steps)
    names = options.sets.split(",")
    for name in names:
        folder = options.out / name
        more = ("--images", options.images, "--size", options.size, *SETS[name])
        synthesise("make", model, "--out", folder, *more)
        print_sizes(folder, (z, y, x))
        print_light(folder)
    made = [options.out / name for name in names]
    settings = ("--steps", options.judge_steps, "--seeds", options.seeds, "--crop", options.crop)
    synthesise("judge", train, test, *made, "--out", options.out / "judged", *settings)


if __name__ == "__main__":
    main()
