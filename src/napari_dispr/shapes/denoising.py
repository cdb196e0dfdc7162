"""The denoising of a member, from pure noise to the final shape, as arrays and as a file.

Knows neither how members are sampled nor how they are shown.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_dispr import grid
from napari_dispr.shapes.ome import OmeImage, write_ome_tiff
from napari_dispr.shapes.section import Section

#: End of the name of the image in a file.
TITLE = "from noise to shape"


@dataclass(frozen=True, slots=True, eq=False)
class Denoising:
    """The steps of one member from noise to shape, frame axis first, on the model grid.

    Parameters
    ----------
    label, number : int
        The cell, and the number of the member.
    frames : (frame, 64, 64, 64) array
        Signed distance in voxels, positive inside, in half precision. The first is pure noise, or a known
        shape under noise; the last is the final shape.
    clean : (frame, 64, 64, 64) array
        The clean shape that the network predicted from each frame. The last is the final shape.
    times : (frame,) array
        Decreasing times of the process: for rectified flow from 1, or less, to 0, for Gaussian
        diffusion down to -1.
    noise : (frame,) array
        Standard deviation of the noise in each frame, down to 0.
    grid_to_world : (4, 4) array
        Affine on (z, y, x, 1) from voxel-centre index to world.
    is_member : bool
        Whether the last frame is a member of the prediction. It is not if it was sampled with another number
        of steps, or was rejected.
    """

    label: int
    number: int
    frames: NDArray[np.float16]
    clean: NDArray[np.float16]
    times: NDArray[np.float64]
    noise: NDArray[np.float64]
    grid_to_world: NDArray[np.float64]
    unit: str = "pixel"
    is_member: bool = True
    sampler: str = ""
    steps: int = 0
    provenance: Mapping[str, Any] = field(default_factory=dict)
    section: Section | None = None

    def __post_init__(self) -> None:
        frames = np.asarray(self.frames, dtype=np.float16)
        clean = np.asarray(self.clean, dtype=np.float16)
        whole = len(frames) >= 2 and frames.shape[1:] == grid.SHAPE
        if not whole or clean.shape != frames.shape:
            raise ValueError(f"a path has shapes (frame, 64, 64, 64), not {frames.shape} and {clean.shape}")
        noise = np.asarray(self.noise, dtype=np.float64)
        if len(self.times) != len(frames) or noise.shape != (len(frames),) or (np.diff(noise) >= 0).any():
            raise ValueError(f"{len(frames)} frames have as many times with falling noise, not {self.noise}")
        for name, value in (("frames", frames), ("clean", clean), ("noise", noise)):
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.frames)

    def at(self, noise: ArrayLike) -> NDArray[np.float32]:
        """The member at noise levels (n,), by linear interpolation between two frames; (n, 64, 64, 64).

        Levels are standard deviations, from 1 (the first frame) to 0 (the last). For the Euler method in
        rectified flow this is the exact path.
        """
        wanted = np.clip(np.asarray(noise, dtype=np.float64), 0, self.noise[0])
        result = np.empty((len(wanted), *grid.SHAPE), np.float32)
        for place, value in zip(result, wanted, strict=True):
            after = min(int(np.searchsorted(-self.noise, -value)), len(self) - 1)
            before = max(after - 1, 0)
            step = self.noise[before] - self.noise[after]
            share = np.float32((self.noise[before] - value) / step if step else 1.0)
            place[:] = self.frames[after]
            if share < 1:
                place *= share
                place += (1 - share) * self.frames[before].astype(np.float32)
        return result

    @property
    def description(self) -> dict[str, Any]:
        """Content and provenance, for JSON."""
        return {
            **self.provenance,
            "content": "denoising",
            "label": self.label,
            "member": self.number,
            "is_member": self.is_member,
            "denoising": {"sampler": self.sampler, "steps": self.steps},
            "times": [float(t) for t in self.times],
            "noise": [float(level) for level in self.noise],
            "grid_to_world": self.grid_to_world.tolist(),
            "unit": self.unit,
        }

    def save_tiff(self, path: str | os.PathLike[str]) -> None:
        """Save the frames as OME-TIFF (``NAME.ome.tif``), float32, axes TZYX with T = frame.

        The description of the image contains `description` as JSON.
        """
        name = f"cell {self.label}, member {self.number}: {TITLE}"
        frames = self.frames.astype(np.float32)
        write_ome_tiff(path, [OmeImage(frames, name, self.grid_to_world, self.unit, self.description)])
