"""Write a dataset of simulated red blood cells in the six classes of the paper, at its imbalance.

    python docs/make_simulated_classes.py --out DIR [--share 1.0] [--seed 0]
    napari-dispr classify DIR --out RESULT

As DISPR and SHAPR read it: DIR/train/{obj,image,mask}/NAME.tif. There are 825 cells: 602 SDE
(spherocytes, discocytes, stomatocytes and echinocytes in turn), 69 cell clusters, 12 multilobate cells,
31 keratocytes, 23 knizocytes and 88 acanthocytes; --share takes fewer of each. Two minutes and 20 MB.
"""

import argparse
from pathlib import Path

import numpy as np
from tqdm import tqdm

from napari_dispr import grid
from napari_dispr.cells.folders import CellFile, DatasetNotes, write_dataset
from napari_dispr.synthesis.phantoms import phantom
from napari_dispr.synthesis.red_cell_crops import membrane_picture

#: Classes of the paper: number of cells, and the kinds of simulated cells in turn.
CLASSES = {
    "SDE": (602, ("spherocyte", "discocyte", "stomatocyte I", "echinocyte III")),
    "cell_cluster": (69, ("cluster",)),
    "multilobate_cell": (12, ("multilobate",)),
    "keratocyte": (31, ("keratocyte",)),
    "knizocyte": (23, ("knizocyte",)),
    "acanthocyte": (88, ("acanthocyte",)),
}


def simulated_classes(share: float, seed: int) -> list[CellFile]:
    """The cells; a cell is the same whatever the share."""
    places = [
        (place, name, kinds, number)
        for place, (name, (count, kinds)) in enumerate(CLASSES.items())
        for number in range(max(1, round(share * count)))
    ]
    cells = []
    for place, name, kinds, number in tqdm(places, unit="cell"):
        rng = np.random.default_rng((seed, place, number))
        obj = phantom(kinds[number % len(kinds)], rng)
        mask = obj[grid.IMAGED_PLANE].astype(np.float32) / 255
        cells.append(CellFile(f"{name}_{number:03d}", mask, membrane_picture(obj, rng), obj))
    return cells


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    notes = DatasetNotes(source=[f"simulated in six classes, share {options.share}, seed {options.seed}"])
    write_dataset(options.out, simulated_classes(options.share, options.seed), notes)


if __name__ == "__main__":
    main()
