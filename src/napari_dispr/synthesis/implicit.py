"""Building blocks of simulated cells: smooth implicit functions, how they are combined, and their voxels.

Uses no data.
"""

from collections.abc import Callable, Sequence
from functools import reduce

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

from napari_dispr import grid

Floats = NDArray[np.float32]
#: Rough signed distance of points, axis first (3, ...), in the cell's own frame, where its radius is
#: about 1; positive inside.
Shape = Callable[[Floats], Floats]


def union(a: Floats, b: Floats, blend: float) -> Floats:
    """The larger of two distances, rounded where they are within ``blend`` of each other."""
    share = np.clip(0.5 + 0.5 * (a - b) / blend, 0, 1)
    return b + (a - b) * share + blend * share * (1 - share)


def united(shapes: Sequence[Shape], blend: float) -> Shape:
    """The union of shapes, rounded where two meet."""
    return lambda points: reduce(lambda a, b: union(a, b, blend), (shape(points) for shape in shapes))


def difference(a: Floats, b: Floats, blend: float) -> Floats:
    """The first without the second; the new edge is rounded over ``blend``."""
    return -union(-a, b, blend)


def ellipsoid(axes: ArrayLike, centre: ArrayLike = (0, 0, 0), turn: Rotation | None = None) -> Shape:
    """An ellipsoid with these half axes along (z, y, x) before ``turn`` rotates it."""
    half = np.asarray(axes, np.float32).reshape(3, 1)

    def distance(points: Floats) -> Floats:
        own = points.reshape(3, -1) - np.asarray(centre, np.float32).reshape(3, 1)
        if turn is not None:
            own = turn.as_matrix().T.astype(np.float32) @ own
        radius = np.linalg.norm(own / half, axis=0)
        slope = np.linalg.norm(own / half**2, axis=0)
        return (radius * (1 - radius) / np.maximum(slope, 1e-6)).reshape(points.shape[1:])

    return distance


def spread(count: int, jitter: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Directions spread over the sphere (Fibonacci lattice), each moved a little."""
    step = np.arange(count) + 0.5
    z, turn = 1 - 2 * step / count, step * np.pi * (3 - np.sqrt(5))
    even = np.stack([z, np.sqrt(1 - z**2) * np.cos(turn), np.sqrt(1 - z**2) * np.sin(turn)], axis=1)
    moved = even + rng.normal(0, jitter / np.sqrt(count), even.shape)
    return moved / np.linalg.norm(moved, axis=1, keepdims=True)


def random_turn(rng: np.random.Generator) -> Rotation:
    """A random rotation in space; all are equally likely."""
    return Rotation.from_quat(rng.normal(size=4))


def scaled(shape: Shape, factor: float) -> Shape:
    """The shape enlarged by a factor."""
    return lambda points: np.float32(factor) * shape(points / np.float32(factor))


def stretched(shape: Shape, factors: tuple[float, float, float]) -> Shape:
    """The shape stretched along (z, y, x) by factors."""
    factor = np.array(factors, np.float32).reshape(3, 1)
    least = np.float32(min(factors))
    return lambda points: least * shape((points.reshape(3, -1) / factor).reshape(points.shape))


def turned(shape: Shape, turn: Rotation) -> Shape:
    """The shape turned about its origin."""
    back = turn.as_matrix().T.astype(np.float32)
    return lambda points: shape((back @ points.reshape(3, -1)).reshape(points.shape))


def voxels(
    shape: Shape,
    zoom: float,
    centre: NDArray[np.float64],
    place: NDArray[np.float64],
    least_slope: float = 0.1,
) -> NDArray[np.uint8]:
    """The shape on the model grid, its point ``centre`` at the voxel ``place``; edges one voxel wide.

    ``zoom`` is in voxels per unit of the shape. Flatter slopes of its distance than ``least_slope``, as at
    ridges and hollows, count as this slope.
    """
    index = np.arange(grid.SIZE)
    axes = [(index - p) / zoom + c for p, c in zip(place, centre, strict=True)]
    value = shape(np.stack(np.meshgrid(*axes, indexing="ij")).astype(np.float32))
    slope = np.sqrt(sum(np.square(along) for along in np.gradient(value)))
    level = np.clip(0.5 + value / np.maximum(slope, least_slope / zoom), 0, 1)
    return np.rint(255 * level).astype(np.uint8)
