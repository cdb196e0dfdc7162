"""Simulated pictures of one plane of a cell or nucleus, by several stains and microscopes.

The picture does not depend on how the shape was made. Uses no data.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, gaussian_gradient_magnitude, zoom

from napari_dispr import grid
from napari_dispr.synthesis.implicit import Floats

#: Stained parts, and their frequencies.
STAINS = {"nucleus": 0.4, "cytosol": 0.25, "membrane": 0.15, "both": 0.2}
#: Microscopes, and their frequencies.
MICROSCOPES = {"confocal": 0.55, "widefield": 0.3, "projection": 0.15}


def picture(obj: NDArray[np.uint8], rng: np.random.Generator) -> Floats:
    """A picture of an antialiased object at the imaged plane, with a random stain, microscope and camera.

    Intensities (64, 64), 0 to 1, of the whole plane: the cell, its surroundings, background, shot noise and
    noise of the camera.
    """
    stain = str(rng.choice(list(STAINS), p=list(STAINS.values())))
    microscope = str(rng.choice(list(MICROSCOPES), p=list(MICROSCOPES.values())))
    occupancy = obj.astype(np.float32) / np.float32(255)
    light = _gathered(_dye(occupancy, stain, rng), microscope, rng)
    inside = grid.section(occupancy) > 0.5
    level = float(light[inside].mean()) if inside.any() else float(light.max())
    light /= max(level, 1e-6)
    return _recorded(_surroundings(light, rng), rng)


def _noise(rng: np.random.Generator, length: float) -> Floats:
    """Smooth noise on the grid with mean 0 and standard deviation 1; blobs of about ``length`` voxels."""
    if length > 3:  # coarse noise need not be drawn finely
        half = gaussian_filter(rng.normal(size=(32, 32, 32)).astype(np.float32), length / 2, mode="wrap")
        field = zoom(half, 2, order=1, mode="grid-wrap", grid_mode=True)
    else:
        field = gaussian_filter(
            rng.normal(size=grid.SHAPE).astype(np.float32), length, mode="wrap", truncate=3
        )
    return (field - field.mean()) / field.std()


def _dye(occupancy: Floats, stain: str, rng: np.random.Generator) -> Floats:
    """Dye in each voxel, about 1 where it is dense."""
    inside = np.zeros_like(occupancy)
    if stain != "membrane":
        texture = 1 + rng.uniform(0.03, 0.3) * _noise(rng, rng.uniform(1.2, 4.5))
        if stain == "nucleus":
            texture *= _without_nucleoli(occupancy, rng)
        inside = occupancy * np.maximum(texture, 0.05)
    if stain == "nucleus" and rng.random() < 0.6:
        return inside
    membrane = 2.5 * gaussian_gradient_magnitude(occupancy, 1.0, truncate=3)
    share = {"nucleus": rng.uniform(0, 0.25), "cytosol": 0.0, "membrane": 1.0}.get(
        stain, rng.uniform(0.2, 0.75)
    )
    if stain == "membrane":  # rarely no dye inside
        inside, share = occupancy, rng.uniform(0.8, 1.0)
    return (1 - share) * inside + share * membrane


def _without_nucleoli(occupancy: Floats, rng: np.random.Generator) -> Floats:
    """Concentration of a DNA dye: 1, and less in one to four dark spots near the imaged plane."""
    keep = np.ones_like(occupancy)
    depth = np.abs(grid.plane_distance()) <= 8
    places = np.argwhere((occupancy > 0.99) & depth[:, None, None])
    if not len(places) or rng.random() < 0.3:
        return keep
    size = np.sqrt((grid.section(occupancy) > 0.5).sum() / np.pi)
    index = np.indices(grid.SHAPE, dtype=np.float32, sparse=True)
    for place in rng.choice(places, int(rng.integers(1, 5))):
        radius = size * rng.uniform(0.1, 0.22)
        far = sum(np.square((i - p) / radius) for i, p in zip(index, place, strict=True))
        keep *= 1 - np.float32(rng.uniform(0.3, 0.8)) * np.exp(-(far**2))
    return keep


def _gathered(dye: Floats, microscope: str, rng: np.random.Generator) -> Floats:
    """The light of all planes in the imaged one: Gaussian beams that widen away from the focus."""
    height = grid.plane_distance()
    lateral = rng.uniform(0.7, 1.5)
    if microscope == "confocal":
        axial = rng.uniform(1.5, 4.5)
        weight = np.exp(-(height**2) / (2 * axial**2))
        halo, wide = rng.uniform(0, 0.1), 6.0
        light = gaussian_filter(np.tensordot(weight / weight.sum(), dye, 1), lateral)
        return ((1 - halo) * light + halo * gaussian_filter(light, wide)).astype(np.float32)
    if microscope == "projection":  # equal light of all planes: thick places are bright
        return gaussian_filter(dye.mean(axis=0), lateral).astype(np.float32)
    axial = rng.uniform(5, 16)
    weight = 1 / (1 + (height / axial) ** 2)
    light = np.zeros(dye.shape[1:], np.float32)
    # Planes that are about as far out of focus are blurred together.
    blur = np.hypot(lateral, rng.uniform(0.15, 0.4) * np.abs(height))
    group = np.digitize(np.abs(height), (2, 5, 9, 14, 20))
    for number in range(group.max() + 1):
        planes = group == number
        light += gaussian_filter(np.tensordot(weight[planes], dye[planes], 1), blur[planes].mean())
    return (light / weight.sum()).astype(np.float32)


def _surroundings(light: Floats, rng: np.random.Generator) -> Floats:
    """Another cell next to this one (in half of the pictures), uneven light, and background."""
    rows, columns = np.nonzero(light > 0.3)
    if len(rows) and rng.random() < 0.5:
        angle = rng.uniform(0, 2 * np.pi)
        reach = rng.uniform(0.95, 1.2) * np.array(
            [np.ptp(rows) * np.sin(angle), np.ptp(columns) * np.cos(angle)]
        )
        light = light + rng.uniform(0.5, 1.3) * _moved(light, np.rint(reach).astype(int))
    slope = rng.normal(0, 0.1, 2)
    y, x = np.meshgrid(*[np.linspace(-1, 1, grid.SIZE)] * 2, indexing="ij")
    # White noise smoothed over 8 voxels has a standard deviation of 1 / 28; 14 makes it 0.5.
    background = rng.uniform(0, 0.25) * (1 + 0.3 * gaussian_filter(rng.normal(size=light.shape), 8) * 14)
    return (light * np.exp(slope[0] * y + slope[1] * x) + np.maximum(background, 0)).astype(np.float32)


def _moved(light: Floats, offset: NDArray[np.int_]) -> Floats:
    """The light, mirrored, at another place; light outside the picture is lost."""
    padded = np.pad(light[::-1, ::-1], grid.SIZE)
    start = grid.SIZE - np.clip(offset, -grid.SIZE, grid.SIZE)
    return padded[start[0] : start[0] + grid.SIZE, start[1] : start[1] + grid.SIZE]


def _recorded(light: Floats, rng: np.random.Generator) -> Floats:
    """Shot noise, the camera's own, its gain and offset; clipped to 0 to 1."""
    photons = np.exp(rng.uniform(np.log(25), np.log(1000)))
    counts = rng.poisson(photons * np.maximum(light, 0)) / photons
    if rng.random() < 0.2:  # slightly smoothed or deconvolved before it was saved
        counts = gaussian_filter(counts, rng.uniform(0.4, 0.8))
    gain = rng.uniform(0.3, 0.75)
    recorded = gain * counts + rng.uniform(0, 0.08) + rng.normal(0, rng.uniform(0.002, 0.02), light.shape)
    return np.clip(recorded, 0, 1).astype(np.float32)
