"""The steps of a member from noise to shape as a napari layer, along its first axis. No Qt."""

import numpy as np
import pint
from napari.utils import Colormap

from napari_dispr import grid
from napari_dispr.shapes.denoising import Denoising
from napari_dispr.viewer.content import METADATA_KEY, LayerData
from napari_dispr.viewer.layers import transform_of

#: Steps along the first axis, with evenly falling noise.
FRAMES = 36
#: Colours from outside (transparent) to deep inside.
_COLOURS = ((0.1, 0.3, 0.6, 0), (0.1, 0.3, 0.6, 1), (0.55, 0.8, 1, 1), (0.95, 0.98, 1, 1))
_CONTROLS = (0, 0.2, 0.7, 1)


def denoising_layer(denoising: Denoising, name: str, depth: float, unit: pint.Unit | str) -> LayerData:
    """An image layer (step, z, y, x) of `FRAMES` signed distances; the last one is the finished shape.

    ``name`` is that of the prediction, ``depth`` the world z of the picture's plane.
    """
    affine = np.eye(5)
    affine[1:, 1:] = grid.translation((depth, 0.0, 0.0)) @ denoising.grid_to_world
    frames = denoising.at(np.linspace(float(denoising.noise[0]), 0, FRAMES))
    settings = {
        "name": f"{name}: cell {denoising.label}, member {denoising.number + 1}, from noise to shape",
        "metadata": {METADATA_KEY: denoising.description},
        "axis_labels": ("step", "z", "y", "x"),
        "units": ("pixel", unit, unit, unit),
        # This rendering shows both the noise, as grains, and the shape in it.
        "rendering": "attenuated_mip",
        "attenuation": 0.2,
        "blending": "translucent_no_depth",
        "contrast_limits": (0.0, max(1.1 * float(frames[-1].max()), 1.0)),
        "colormap": Colormap(_COLOURS, controls=_CONTROLS, name="noise to shape"),
        **transform_of(affine),
    }
    return frames, settings, "image"
