"""Write a dataset of simulated nuclei of kinds that ``generic`` was not trained on.

    python benchmarks/simulated_nuclei.py --out DIR [--cells 60] [--seed 1]
    napari-dispr evaluate DIR --model generic --methods model,cylinder,ellipsoid --out RESULT

As DISPR and SHAPR read it: DIR/test/{obj,image,mask}/NAME.tif, 8 bit.
"""

import argparse
from pathlib import Path

import numpy as np
import tifffile

from napari_dispr.synthesis.generic import UNSEEN_KINDS, simulated_cell


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cells", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    for number in range(options.cells):
        kind = UNSEEN_KINDS[number % len(UNSEEN_KINDS)]
        obj, mask, image = simulated_cell(kind, np.random.default_rng((options.seed, number)))
        pictures = {"obj": obj, "mask": np.rint(255 * mask), "image": np.rint(255 * image)}
        for part, picture in pictures.items():
            folder = options.out / "test" / part
            folder.mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(folder / f"{kind}_{number:04d}.tif", picture.astype(np.uint8))


if __name__ == "__main__":
    main()
