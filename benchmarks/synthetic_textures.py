"""Textures of a learned model against the real ones, in the masks of the real cells.

    python benchmarks/synthetic_textures.py MODEL.safetensors IMAGE LABELS [--spacing 0.29,0.26,0.26]
        [--rho 0.7] [--as-published]

For real and made cells: how far from the edge of the label the edge of the image is (where the light is half
way between inside and outside); mean and standard deviation of the light in the cell, in thirds from its
middle slice to its ends; the strength of details by their size, between Gaussians of these widths in pixels;
and how neighbouring slices correlate in the cell, in all their light and in its smallest details, which
follow the start noise. All slices should be annotated.
"""

import argparse
import time
from collections import defaultdict
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion, gaussian_filter

from napari_dispr import signed_distance
from napari_dispr.labels import cell_boxes
from napari_dispr.synthesis.annotated import read_annotated
from napari_dispr.synthesis.learned import LearnedSynthesis
from napari_dispr.synthesis.sources import learned_file
from napari_dispr.synthesis.textures import iter_textures

#: Widths of Gaussians that separate details by size, in pixels.
_WIDTHS = (0.7, 1.4, 2.8)
#: Pixels of a section that is counted; slices of a cell that is counted.
_LEAST_PIXELS, _LEAST_SLICES = 80, 4


def edge_offset(image: NDArray[np.float32], mask: NDArray[np.bool_]) -> float:
    """Where the light is half way between inside and outside: pixels from the label's edge, positive inside.

    NaN where the cell is too small, or not brighter than what surrounds it.
    """
    distance = signed_distance.from_level(mask, truncation=8.0)
    place = np.arange(-5.5, 6)
    rings = [image[np.abs(distance - middle) <= 0.5] for middle in place]
    if min(map(len, rings)) < 6:
        return float("nan")
    light = np.array([ring.mean() for ring in rings])
    half = (light[:3].mean() + light[-3:].mean()) / 2
    rises = np.flatnonzero((light[:-1] < half) & (light[1:] >= half))
    if not len(rises) or light[-3:].mean() <= light[:3].mean():
        return float("nan")
    k = rises[np.abs(place[rises] + 0.5).argmin()]
    return float(place[k] + (half - light[k]) / (light[k + 1] - light[k]))


def measures(stacks: list[NDArray[np.float32]], masks: list[NDArray[np.bool_]]) -> dict[str, float]:
    """Means over all cells."""
    found = defaultdict(list)
    for image, mask in zip(stacks, masks, strict=True):
        depth = len(mask)
        for z in range(depth):
            if mask[z].sum() < _LEAST_PIXELS:
                continue
            third = ("middle", "between", "ends")[min(2, int(6 * abs(z - depth // 2) / depth))]
            inside = image[z][mask[z]]
            found[f"mean {third}"].append(inside.mean())
            found[f"sd {third}"].append(inside.std())
            found["edge"].append(edge_offset(image[z], mask[z]))
            levels = [image[z], *(gaussian_filter(image[z], width) for width in _WIDTHS)]
            core = binary_erosion(mask[z], iterations=3)
            for width, (fine, coarse) in zip(_WIDTHS, pairwise(levels), strict=True):
                if core.sum() >= _LEAST_PIXELS:
                    found[f"details < {width}"].append((fine - coarse)[core].std())
            both = mask[z] & mask[z + 1] if z + 1 < depth else mask[z] & False
            if both.sum() >= _LEAST_PIXELS:
                pair = image[z : z + 2]
                noise = pair - gaussian_filter(pair, (0, _WIDTHS[0], _WIDTHS[0]))
                found["next slice"].append(np.corrcoef(*pair[:, both])[0, 1])
                found["next, noise"].append(np.corrcoef(*noise[:, both])[0, 1])
    edges = np.array(found.pop("edge"))
    values = {name: float(np.mean(several)) for name, several in found.items()}
    return values | {"edge": float(np.nanmedian(edges)), "|edge|": float(np.nanmedian(np.abs(edges)))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", help="file of a learned model, or sample")
    parser.add_argument("image")
    parser.add_argument("labels")
    parser.add_argument("--spacing", type=lambda text: tuple(map(float, text.split(","))))
    parser.add_argument("--rho", type=float)
    parser.add_argument("--sampler", default="dpm-solver++")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--cells", type=int, default=6)
    parser.add_argument("--as-published", action="store_true")
    options = parser.parse_args()
    learned = LearnedSynthesis.load(learned_file(options.model))
    card, side = learned.card, learned.card.side
    real, masks = [], []
    for field in read_annotated(options.image, options.labels, options.spacing):
        for label, box in cell_boxes(field.labels).items():
            corner = [(span.start + span.stop - side) // 2 for span in box[1:]]
            window = (box[0], *(slice(start, start + side) for start in corner))
            mask = field.labels[window] == label
            if min(corner) >= 0 and mask.shape[1:] == (side, side) and len(mask) >= _LEAST_SLICES:
                masks.append(mask)
                real.append((field.image[window].astype(np.float32) - card.offset) / card.scale)
    masks, real = masks[: options.cells], real[: options.cells]
    network = learned.ready("textures", torch.device("cpu"))
    start = time.perf_counter()
    *_, made = iter_textures(
        network,
        masks,
        range(len(masks)),
        sampler=options.sampler,
        steps=options.steps,
        rho=options.rho,
        with_neighbours=not options.as_published,
    )
    assert made is not None
    seconds = time.perf_counter() - start
    ours, truth = measures(made, masks), measures(real, masks)
    print(f"{len(masks)} cells, {sum(map(len, masks))} slices in {seconds:.1f} s; grey values of the network")
    print(f"{'':14}{'real':>8}{'made':>8}")
    for name, value in truth.items():
        print(f"{name:14}{value:8.3f}{ours.get(name, float('nan')):8.3f}")


if __name__ == "__main__":
    main()
