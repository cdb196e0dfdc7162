"""The path of a member from noise to shape as a napari layer, to be played along its first axis. No Qt."""

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_dispr import grid
from napari_dispr.shapes.denoising import Denoising
from napari_dispr.widgets.layers import METADATA_KEY, transform_of

if TYPE_CHECKING:
    import pint

#: Steps of the axis along which it is played.
FRAMES = 36


def denoising_layer(
    denoising: Denoising, *, name: str, depth: float = 0.0, unit: "pint.Unit | str | None" = None
) -> tuple[Any, dict[str, Any]]:
    """What an image layer is made with that shows a shape condensing out of noise.

    Parameters
    ----------
    denoising : Denoising
    name : str
        Of the prediction.
    depth : float
        World z of the picture's plane.
    unit : pint.Unit or str, optional
        Of the world's axes; by default that of the prediction.

    Returns
    -------
    frames : (step, z, y, x) float32 array
        Signed distances, `FRAMES` of them; the last one is the finished shape.
    settings : dict
        For ``viewer.add_image(frames, **settings)``. The layer lies where the cell does.
    """
    unit = denoising.unit if unit is None else unit
    affine = np.eye(5)
    affine[1:, 1:] = grid.translation((depth, 0.0, 0.0)) @ denoising.grid_to_world
    frames = denoising.at(np.linspace(1, 0, FRAMES))
    settings = {
        "name": f"{name}: cell {denoising.label}, member {denoising.number + 1}, from noise to shape",
        "metadata": {METADATA_KEY: denoising.description},
        "axis_labels": ("step", "z", "y", "x"),
        "units": ("pixel", unit, unit, unit),
        "rendering": "iso",
        "iso_threshold": 0.0,
        "contrast_limits": (-8.0, 8.0),
        "colormap": "bop blue",
        **transform_of(affine),
    }
    return frames, settings
