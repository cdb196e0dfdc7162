"""What a network sees of a crop: mask and image become condition planes on the model grid.

Knows arrays only, so that training, prediction and evaluation make their conditions in one place.
"""

import numpy as np
from numpy.typing import NDArray

from napari_dispr import signed_distance

#: Distances from the mask's edge are cut off here, in voxels, before they are scaled to [-1, 1].
MASK_TRUNCATION = 16.0
#: Logarithms of scales are brought to about [-1, 1] by it.
SCALE_UNIT = 0.15

Plane = NDArray[np.float32]


def normalise_inside(image: Plane, mask: Plane) -> Plane | None:
    """Image with its 1st to 99th percentile inside the mask brought to [0, 1], and 0 outside.

    Neither neighbours nor background nor the gain of the camera change the result. None where the
    image is constant inside the mask: it says nothing then.
    """
    inside = image[mask > 0.5]
    if not inside.size:
        return None
    low, high = np.percentile(inside, (1, 99))
    if high - low <= 1e-6 * max(1.0, abs(high)):
        return None
    return (np.clip((image - low) / (high - low), -0.5, 1.5) * mask).astype(np.float32)


def signed_planes(mask: Plane, image: Plane | None, scale: float | None = None) -> Plane:
    """Condition of our models, shape (6, 64, 64); those with fewer condition planes see the first ones.

    Mask in [0, 1]; signed distance from its edge, positive inside, in units of 16 voxels; image,
    normalised inside the mask; 1 throughout where there is an image, 0 where there is none; logarithm
    of ``scale`` in units of 0.15; 1 throughout where the scale is known, 0 where it is not.

    Parameters
    ----------
    mask : (64, 64) array
    image : (64, 64) array or None
    scale : float or None
        By which the cell stands larger on the grid than cells of the training data did; None: not known.
        How flat a cell is depends on how large it is, as blood cells are of about one volume.
    """
    picture = None if image is None else normalise_inside(image, mask)
    distance = signed_distance.from_level(mask, truncation=MASK_TRUNCATION) / MASK_TRUNCATION
    return np.stack(
        [
            mask,
            distance,
            np.zeros_like(mask) if picture is None else picture,
            np.full_like(mask, picture is not None),
            np.full_like(mask, 0.0 if scale is None else np.log(scale) / SCALE_UNIT),
            np.full_like(mask, scale is not None),
        ]
    ).astype(np.float32)


def dispr_planes(mask: Plane, image: Plane | None) -> Plane:
    """Condition of the original, shape (2, 64, 64): mask, and image times mask, both in [0, 1]."""
    picture = np.zeros_like(mask) if image is None else image * mask
    return np.stack([mask, picture]).astype(np.float32)
