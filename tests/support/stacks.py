"""Simulated stacks of a few planes."""

import numpy as np

#: Distance of the planes of `two_balls`, in pixels.
STEP = 3


def two_balls():
    """Image and labels (9, 90, 120) of two balls; 2 ends before the last planes."""
    z, y, x = np.ogrid[:9, :90, :120]
    labels = np.zeros((9, 90, 120), np.uint16)
    for label, (cz, cy, cx, radius) in {1: (4, 40, 30, 13.5), 2: (3.4, 45, 85, 10)}.items():
        labels[((z - cz) * STEP) ** 2 + (y - cy) ** 2 + (x - cx) ** 2 < radius**2] = label
    noise = np.random.default_rng(0).random(labels.shape)
    return (labels * 60 + 10 * noise).astype(np.uint8), labels
