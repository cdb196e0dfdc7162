"""Simulate the field of cells and the stack of nuclei that are shipped as sample data.

python docs/make_sample.py
"""

from pathlib import Path

import numpy as np

import napari_dispr
from napari_dispr import grid
from napari_dispr.files import written_aside
from napari_dispr.prediction.result import Prediction
from napari_dispr.shapes.ensemble import Ensemble
from napari_dispr.signed_distance import from_level
from napari_dispr.synthesis.phantoms import Field, simulate_field
from napari_dispr.synthesis.stacks import simulate_stack

SAMPLES = Path(napari_dispr.__file__).parent / "samples"
CELLS, SHAPE, SEED = 9, (440, 440), 2
NUCLEI, STACK, SPACING, STACK_SEED = 48, (36, 240, 240), (1.0, 0.32, 0.32), 1


def main() -> None:
    field = simulate_field(cells=CELLS, shape=SHAPE, seed=SEED)
    write(
        "red_blood_cells",
        image=field.image,
        labels=field.labels.astype(np.uint8),
        pixel_size=np.float64(field.pixel_size),
    )
    shapes, to_world = true_shapes(field)
    write("red_blood_cells_3d", labels=shapes.astype(np.uint8), to_world=to_world)
    stack = simulate_stack(NUCLEI, STACK, SPACING, STACK_SEED)
    assert stack.image is not None
    dark, bright = np.percentile(stack.image, (0.5, 99.95))
    image = np.clip(255 * (stack.image - dark) / (bright - dark), 0, 255)
    write(
        "nuclei_3d",
        image=np.rint(image).astype(np.uint8),
        labels=stack.labels.astype(np.uint8),
        spacing=np.array(stack.spacing),
    )


def true_shapes(field: Field) -> tuple[np.ndarray, np.ndarray]:
    """3D labels of the simulated cells, in the frame of the picture, and their affine."""
    to_world = np.diag([field.pixel_size, field.pixel_size, 1.0])
    cells = {
        label: Ensemble(
            label,
            from_level(obj, 127.5)[None],
            grid.pixel_to_world(to_world) @ grid.grid_to_pixel(field.zoom, field.centres[label]),
            "micrometer",
            field.zoom,
        )
        for label, obj in field.objects.items()
    }
    return Prediction(cells, image_to_world=to_world, unit="micrometer").label_volume()


def write(name: str, **arrays: np.ndarray) -> None:
    path = SAMPLES / f"{name}.npz"
    with written_aside(path) as aside:
        np.savez_compressed(aside, **arrays)
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
