"""Silhouettes of random smooth bodies from known directions: the training data of `views`.

The bodies are star-shaped: along each direction u from an inner point their surface has the radius
exp(f(u)), and f is a random sum of spherical harmonics. All projections are parallel.

Frame: pixels of a silhouette and voxels of the model grid have the same size. The first silhouette is seen
along z; its axes are (y, x). The middle of the body's box lies in the middle of every silhouette.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates
from torch import Tensor

from napari_dispr import grid, signed_distance
from napari_dispr.shapes.descriptors import real_harmonics

#: Signed distances of silhouettes are truncated at this number of pixels.
TRUNCATION = 10.0
#: Larger side of the first silhouette's box, in pixels, and the greatest height of a body.
EXTENT, HIGHEST = 40.0, 58.0
#: Highest degree of the spherical harmonics, and how their power falls with the degree l: l ** -DECLINE.
DEGREE, DECLINE = 20, 5.0
#: Standard deviation of f: least and greatest.
ROUGHNESS = (0.05, 0.35)
#: Latitudes and longitudes of the table of radii; angles around a silhouette, and directions for each.
_TABLE, _AROUND, _ACROSS = (48, 96), 96, 40


@dataclass(frozen=True)
class View:
    """A direction from which a body is seen, and the axes of its picture.

    ``polar`` is the angle to z in radian, ``azimuth`` that of its projection to x (towards y).
    """

    polar: float
    azimuth: float

    @property
    def axes(self) -> NDArray[np.float64]:
        """Unit vectors (direction, rows, columns), each as (z, y, x), shape (3, 3).

        The columns' axis lies in the imaged plane, so that this view and the first one share it.
        """
        sin, cos = np.sin(self.azimuth), np.cos(self.azimuth)
        aside = np.array([0.0, sin, cos])
        up = np.array([1.0, 0.0, 0.0])
        direction = np.cos(self.polar) * up + np.sin(self.polar) * aside
        rows = np.cos(self.polar) * aside - np.sin(self.polar) * up
        return np.stack([direction, rows, np.array([0.0, -cos, sin])])


def _views() -> tuple[View, ...]:
    views = []
    for i in range(4):  # each group of four is the group before it, turned by 45 degrees about z
        turn = i * np.pi / 4
        views += [View(np.pi / 2, turn), View(np.pi / 2, turn + np.pi / 8)]
        views += [View(np.pi / 4, turn), View(np.pi / 4, turn + np.pi)]
    return tuple(views)


#: The view along z, with rows y and columns x, and the N = 16 views that are predicted from it: 8 from
#: the side and 8 from 45 degrees above. (The silhouette from the opposite direction is the mirror image.)
FIRST = View(0.0, np.pi / 2)
VIEWS = _views()


@cache
def _basis() -> Tensor:
    """Real spherical harmonics of degree 2 to 20 on the table, scaled to their power, shape (n, lat x long).

    Degree 1 is left out: it moves a body rather than changing its shape.
    """
    polar = (np.arange(_TABLE[0]) + 0.5) * np.pi / _TABLE[0]
    around = np.arange(_TABLE[1]) * 2 * np.pi / _TABLE[1]
    degrees = np.arange(2, DEGREE + 1)
    power = degrees**-DECLINE
    # The power of a degree l is shared by its 2 l + 1 orders.
    scales = np.sqrt(power / power.sum() * 4 * np.pi / (2 * degrees + 1))
    rows = [
        scale * real_harmonics(degree, polar[:, None], around).reshape(2 * degree + 1, -1)
        for degree, scale in zip(degrees.tolist(), scales, strict=True)
    ]
    return torch.from_numpy(np.concatenate(rows)).float()


@cache
def _lookups() -> tuple[Tensor, Tensor]:
    """Places in the table of the half circles of all views, (1, views x across, around, 2); sin, (across,).

    The silhouette's radius at the angle psi is the greatest r(u) sin(a) over the half circle
    u = cos(a) direction + sin(a) (cos(psi) columns + sin(psi) rows).
    """
    across = (np.arange(_ACROSS) + 0.5) * np.pi / _ACROSS
    around = np.arange(_AROUND) * 2 * np.pi / _AROUND
    places = []
    for view in (FIRST, *VIEWS):
        direction, rows, columns = view.axes
        edge = np.cos(around)[:, None] * columns + np.sin(around)[:, None] * rows
        u = np.cos(across)[:, None, None] * direction + np.sin(across)[:, None, None] * edge
        latitude = np.arccos(np.clip(u[..., 0], -1, 1)) * (2 / np.pi) - 1
        longitude = np.arctan2(u[..., 1], u[..., 2]) % (2 * np.pi) / np.pi - 1
        # The table is padded by its first column, so that longitude 2 pi lies in the middle of a column.
        count = _TABLE[1]
        places.append(np.stack([(longitude * count + 1 + count) / (count + 1) - 1, latitude], axis=-1))
    return torch.from_numpy(np.concatenate(places)).float()[None], torch.from_numpy(np.sin(across)).float()


def random_radii(count: int, generator: torch.Generator) -> Tensor:
    """Radii of random bodies on the table of latitudes and longitudes, shape (count, 48, 96)."""
    basis = _basis()
    low, high = ROUGHNESS
    roughness = low + (high - low) * torch.rand(count, 1, generator=generator)
    f = (roughness * torch.randn(count, len(basis), generator=generator)) @ basis
    return f.exp().reshape(count, *_TABLE)


def outlines(radii: Tensor) -> Tensor:
    """Radii (B, 17, 96) of the silhouettes of the first view and of ``VIEWS``, around each one's origin."""
    places, sine = _lookups()
    table = torch.cat([radii, radii[..., :1]], dim=-1)[:, None]
    at = F.grid_sample(
        table, places.expand(len(radii), -1, -1, -1), padding_mode="border", align_corners=False
    )
    at = at.reshape(len(radii), 1 + len(VIEWS), _ACROSS, _AROUND)
    return (at * sine[:, None]).amax(dim=2)


def placed(edges: Tensor) -> tuple[Tensor, Tensor]:
    """Size in pixels of one unit, (B,), and the middle (z, y, x) of each box, (B, 3), of `outlines`.

    The larger side of the first silhouette becomes ``EXTENT``.
    """
    around = torch.arange(_AROUND) * (2 * np.pi / _AROUND)
    x, y = edges[:, 0] * around.cos(), edges[:, 0] * around.sin()
    z = -edges[:, 1] * around.sin()  # the second view is from the side, and its rows run down
    middle = torch.stack([(a.amax(1) + a.amin(1)) / 2 for a in (z, y, x)], dim=1)
    side = torch.maximum(x.amax(1) - x.amin(1), y.amax(1) - y.amin(1))
    return EXTENT / side, middle


def height(edges: Tensor) -> Tensor:
    """Heights along z in pixels, (B,), after `placed`."""
    around = torch.arange(_AROUND) * (2 * np.pi / _AROUND)
    z = edges[:, 1] * around.sin()
    return placed(edges)[0] * (z.amax(1) - z.amin(1))


def drawn(edges: Tensor) -> NDArray[np.float32]:
    """Signed distances in pixels of the silhouettes (B, 17, 64, 64), truncated."""
    zoom, middle = placed(edges)
    axes = torch.from_numpy(np.stack([view.axes[1:] for view in (FIRST, *VIEWS)])).float()
    moved = torch.einsum("nac,bc->bna", axes, middle)  # (B, 17, 2): the box's middle in each picture
    pixel = torch.arange(grid.SIZE) - grid.CENTRE
    row = pixel[:, None] / zoom[:, None, None, None] + moved[:, :, 0, None, None]
    column = pixel / zoom[:, None, None, None] + moved[:, :, 1, None, None]
    row, column = torch.broadcast_tensors(row, column)
    angle = torch.atan2(row, column) * (_AROUND / (2 * np.pi)) % _AROUND
    before = angle.floor().long() % _AROUND
    flat = before.flatten(2)
    low = edges.gather(2, flat).view_as(row)
    high = edges.gather(2, (flat + 1) % _AROUND).view_as(row)
    radius = low + (angle - angle.floor()) * (high - low)
    level = ((radius - torch.hypot(row, column)) * zoom[:, None, None, None]).numpy()
    stack = level.reshape(-1, grid.SIZE, grid.SIZE)
    # Silhouettes are so far from each other that none is near the next one's pixels.
    apart = (10 * TRUNCATION, 1.0, 1.0)
    return signed_distance.from_level(stack, 0.0, TRUNCATION, apart).reshape(level.shape)


def random_silhouettes(count: int, generator: torch.Generator) -> NDArray[np.float32]:
    """Silhouettes of random bodies: (count, 17, 64, 64) signed distances in pixels, the first view first.

    Bodies that are taller than the grid are left out.
    """
    return drawn(random_outlines(count, generator)[1])


def random_outlines(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Radii of random bodies that fit on the grid, and the outlines of their silhouettes."""
    radii, edges = [], []
    found = 0
    while found < count:
        some = random_radii(count + 4, generator)
        seen = outlines(some)
        keep = height(seen) <= HIGHEST
        radii.append(some[keep])
        edges.append(seen[keep])
        found += int(keep.sum())
    return torch.cat(radii)[:count], torch.cat(edges)[:count]


def random_body(seed: int) -> NDArray[np.bool_]:
    """A random body on the model grid, (64, 64, 64); its box is in the middle."""
    radii, edges = random_outlines(1, torch.Generator().manual_seed(seed))
    zoom, middle = placed(edges)
    pixel = np.arange(grid.SIZE) - grid.CENTRE
    index = np.stack(np.meshgrid(pixel, pixel, pixel, indexing="ij"), axis=-1)
    points = index / zoom.item() + middle[0].numpy()
    length = np.linalg.norm(points, axis=-1)
    latitude = np.arccos(points[..., 0] / length) * (_TABLE[0] / np.pi) - 0.5
    longitude = np.arctan2(points[..., 1], points[..., 2]) % (2 * np.pi) * (_TABLE[1] / (2 * np.pi))
    closed = np.concatenate([radii[0], radii[0, :, :1]], axis=1)
    return np.asarray(length < map_coordinates(closed, [latitude, longitude], order=1, mode="nearest"))
