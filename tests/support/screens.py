"""Small simulated screens: folders with pairs of a picture and its labels."""

from pathlib import Path

import numpy as np
import tifffile


def field(cells: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Picture and labels of elliptic cells in rows of three."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((44 * -(-cells // 3) + 4, 136), np.uint16)
    image = rng.integers(5, 20, labels.shape).astype(np.uint8)
    y, x = np.ogrid[-20:20, -20:20]
    for number in range(cells):
        row, column = divmod(number, 3)
        half = rng.uniform(7, 17, 2)
        inside = (y / half[0]) ** 2 + (x / half[1]) ** 2 < 1
        place = np.s_[44 * row + 4 : 44 * row + 44, 44 * column + 4 : 44 * column + 44]
        labels[place][inside] = number + 1
        image[place][inside] += 100
    return image, labels


def write_screen(folder: Path, fields: int, cells: int) -> Path:
    """Write ``f0.tif`` and ``f0_masks.tif``, ..."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(fields):
        image, labels = field(cells, number)
        tifffile.imwrite(folder / f"f{number}.tif", image)
        tifffile.imwrite(folder / f"f{number}_masks.tif", labels)
    return folder
