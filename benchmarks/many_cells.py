"""Time and peak memory of predicting, measuring and placing many cells with a fit, without a network.

    python benchmarks/many_cells.py [--cells 400] [--method ellipsoid]

The reference is one marching-cubes mesh of a shape on the model grid, by scikit-image, measured in the same
run: other programs that run on the machine change both.
"""

import argparse
import time

import numpy as np
from skimage.measure import marching_cubes
from speed import peak_memory, seconds

import napari_dispr as nd


def many_cells(count: int) -> np.ndarray:
    """Labels (y, x) of ellipses of many sizes, in rows."""
    rng, across = np.random.default_rng(0), int(np.ceil(np.sqrt(count)))
    labels = np.zeros((40 * across, 40 * across), np.int32)
    y, x = np.ogrid[-20:20, -20:20]
    for number in range(count):
        row, column = divmod(number, across)
        half = rng.uniform(7, 17, 2)
        tile = labels[40 * row : 40 * row + 40, 40 * column : 40 * column + 40]
        tile[(y / half[0]) ** 2 + (x / half[1]) ** 2 < 1] = number + 1
    return labels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--cells", type=int, default=400)
    parser.add_argument("--method", default="ellipsoid")
    options = parser.parse_args()
    labels = many_cells(options.cells)
    method = nd.load_model(options.method)
    (shape,) = nd.predict(None, labels, model=method, cells=[1]).values()
    reference = seconds(lambda: marching_cubes(shape.signed_distance[0], 0), 20)
    start = time.perf_counter()
    prediction = nd.predict(None, labels, model=method)
    predicted = time.perf_counter()
    nd.measure_cells(prediction, nd.measure(prediction))
    measured = time.perf_counter()
    prediction.label_volumes()
    placed = time.perf_counter()
    print(f"reference, one mesh: {reference * 1000:.1f} ms")
    for name, taken in (
        ("predict", predicted - start),
        ("measure", measured - predicted),
        ("place", placed - measured),
        ("all", placed - start),
    ):
        each = taken / options.cells / reference
        print(f"{name}: {taken:.1f} s for {options.cells} cells, {each:.1f} references a cell")
    print(f"peak memory: {peak_memory():.0f} MiB")


if __name__ == "__main__":
    main()
