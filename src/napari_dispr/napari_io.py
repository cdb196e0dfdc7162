"""What napari opens through this plugin: sample data. Knows no Qt."""

from pathlib import Path
from typing import Any

import numpy as np

_SAMPLE = Path(__file__).parent / "samples" / "red_blood_cells.npz"


def simulated_red_blood_cells() -> list[tuple[Any, dict[str, Any], str]]:
    """A simulated picture of diseased red blood cells and its segmentation, for File > Open Sample.

    It was simulated by ``docs/make_sample.py`` and is read from a file: napari calls this on the GUI
    thread, where simulating would hold up the window for a second.

    Returns
    -------
    list of layer data tuples
        An image and a label layer, (y, x), 0.1 micrometer a pixel.
    """
    with np.load(_SAMPLE, allow_pickle=False) as field:
        image, labels, pixel_size = field["image"], field["labels"], float(field["pixel_size"])
    place = {"scale": (pixel_size,) * 2, "units": ("micrometer",) * 2}
    bright = float(np.percentile(image, 99.9))
    return [
        (
            image,
            {"name": "red blood cells", "contrast_limits": (float(image.min()), bright), **place},
            "image",
        ),
        (labels, {"name": "segmentation", "opacity": 0.4, **place}, "labels"),
    ]
