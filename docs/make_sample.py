"""Simulate the field of cells that is shipped as sample data, and write it into the package.

python docs/make_sample.py
"""

from pathlib import Path

import numpy as np

import napari_dispr
from napari_dispr.cells.phantoms import simulate_field
from napari_dispr.files import written_aside

CELLS, SHAPE, SEED = 9, (440, 440), 2


def main() -> None:
    field = simulate_field(cells=CELLS, shape=SHAPE, seed=SEED)
    path = Path(napari_dispr.__file__).parent / "samples" / "red_blood_cells.npz"
    with written_aside(path) as aside:
        np.savez_compressed(
            aside, image=field.image, labels=field.labels.astype(np.uint8), pixel_size=field.pixel_size
        )
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
