"""A neural surface fitted to silhouettes by differentiable rendering, cut to a volume.

As NeuS (Wang et al., arXiv 2106.10689) in Yilmaz et al.: a small network gives the signed distance of each
point. A logistic density of learned sharpness about its zero level set makes rays opaque. The network is
fitted so that the opacity of parallel rays is the silhouettes. Here distances are positive inside.
"""

from collections.abc import Generator, Sequence
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from napari_dispr import grid, signed_distance
from napari_dispr.synthesis.silhouettes import TRUNCATION, View

#: Fits of a surface: steps, rays in each, points on a ray, and points where the gradient is kept at 1.
STEPS, _RAYS, _ALONG, _EVEN = 240, 256, 40, 800
#: Share of the rays of the first silhouette, which is the given one, and of rays near an edge.
_FIRST, _NEAR = 0.2, 0.7
#: Half the grid is the unit of length.
_UNIT = grid.SIZE / 2
_WIDTH, _FREQUENCIES = 64, 4


class Surface(nn.Module):
    """Signed distance (n,) of points (n, 3), positive inside; at first that of a ball."""

    def __init__(self, radius: float, generator: torch.Generator) -> None:
        super().__init__()
        widths = [3 + 6 * _FREQUENCIES, _WIDTH, _WIDTH, _WIDTH, 1]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        for parameter in self.layers.parameters():
            if parameter.ndim == 2:
                nn.init.kaiming_normal_(parameter, generator=generator)
            else:
                nn.init.zeros_(parameter)
        nn.init.zeros_(next(self.layers[-1].parameters()))
        self.radius = radius
        #: Logarithm of the sharpness of the density, in units of the surface's distances.
        self.log_sharpness = nn.Parameter(torch.tensor(3.5))

    def forward(self, points: Tensor) -> Tensor:
        angles = torch.cat([points * (2**i * np.pi / 2) for i in range(_FREQUENCIES)], dim=-1)
        h = torch.cat([points, angles.sin(), angles.cos()], dim=-1)
        for layer in self.layers[:-1]:
            h = F.silu(layer(h))
        ball = self.radius - (points.square().sum(dim=-1) + 1e-6).sqrt()
        return ball + self.layers[-1](h).squeeze(-1)

    def log_transparency(self, distances: Tensor) -> Tensor:
        """Logarithm of what rays let through, from distances (rays, points) along them (NeuS, Eq. 13)."""
        inside = F.logsigmoid(-self.log_sharpness.exp() * distances)
        return (inside[:, 1:] - inside[:, :-1]).clamp(max=0).sum(dim=1)


def iter_fit_surface(
    silhouettes: NDArray[np.float32], views: Sequence[View], seed: int, steps: int = STEPS
) -> Generator[None, None, NDArray[np.float32]]:
    """Fit a surface to silhouettes, with an event after each step of the optimiser (Adam).

    Parameters
    ----------
    silhouettes : (views, 64, 64)
        Signed distances in pixels, positive inside, centred on the middle of the picture. The first one is
        given, the others are predicted: it counts more.
    seed : int
        Of the choice of rays and of the network's first weights.

    Returns
    -------
    (64, 64, 64) float32
        Signed distances in voxels, positive inside, truncated. The middle of the silhouettes is at the middle
        of the imaged plane.
    """
    generator = torch.Generator().manual_seed(seed)
    rays = _Rays(silhouettes, views, generator)
    extent = float((silhouettes[0] > 0).sum() / np.pi) ** 0.5 / _UNIT
    surface = Surface(extent, generator)
    optimiser = torch.optim.Adam(surface.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps, 2e-4)
    for _ in range(steps):
        points, opacity = rays.some()
        distances = surface(points.flatten(0, 1)).view(points.shape[:2])
        through = surface.log_transparency(distances).clamp(-15, -1e-4)
        rendered = -(opacity * torch.log(-torch.expm1(through)) + (1 - opacity) * through).mean()
        loss = rendered + 0.05 * _eikonal(surface, points.flatten(0, 1), generator)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        yield
    return volume(surface)


def _eikonal(surface: Surface, points: Tensor, generator: torch.Generator) -> Tensor:
    """How far the length of the gradient of a distance is from 1, at some of the points."""
    some = points[torch.randint(len(points), (_EVEN,), generator=generator)].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(surface(some).sum(), some, create_graph=True)
    return ((gradient.square().sum(dim=-1) + 1e-8).sqrt() - 1).square().mean()


def volume(surface: Surface) -> NDArray[np.float32]:
    """The surface's signed distances on the model grid, in voxels, truncated."""
    axes = [
        torch.arange(float(grid.SIZE)) - middle for middle in (grid.IMAGED_PLANE, grid.CENTRE, grid.CENTRE)
    ]
    points = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1) / _UNIT
    with torch.inference_mode():
        planes = [surface(plane.flatten(0, 1)).view(grid.SIZE, grid.SIZE) for plane in points]
    return signed_distance.from_level(torch.stack(planes).numpy() * _UNIT, 0.0, TRUNCATION)


class _Rays:
    """Parallel rays through the pixels of all silhouettes, and their opacity."""

    def __init__(
        self, silhouettes: NDArray[np.float32], views: Sequence[View], generator: torch.Generator
    ) -> None:
        distances = torch.from_numpy(np.ascontiguousarray(silhouettes, dtype=np.float32))
        self.opacity = (distances + 0.5).clamp(0, 1).flatten()  # antialiased
        self.axes = torch.from_numpy(np.stack([view.axes for view in views])).float()
        self.generator = generator
        near = (distances.abs() < 3).flatten()
        size = grid.SIZE**2
        own = torch.full((len(views),), (1 - _FIRST) / max(len(views) - 1, 1))
        own[0] = _FIRST
        of_view = own.repeat_interleave(size)
        self.weights = of_view * (_NEAR * near / near.sum() + (1 - _NEAR) / len(near))

    def some(self) -> tuple[Tensor, Tensor]:
        """Points on random rays, (rays, points, 3) as (z, y, x) in half grids, and the rays' opacity."""
        chosen = torch.multinomial(self.weights, _RAYS, replacement=True, generator=self.generator)
        view, pixel = chosen // grid.SIZE**2, chosen % grid.SIZE**2
        row = (pixel // grid.SIZE - grid.CENTRE) / _UNIT
        column = (pixel % grid.SIZE - grid.CENTRE) / _UNIT
        direction, rows, columns = self.axes[view].unbind(dim=1)
        start = row[:, None] * rows + column[:, None] * columns
        # One random point in each of equal parts of the ray.
        jitter = torch.rand(_RAYS, _ALONG, generator=self.generator)
        along = (torch.arange(_ALONG) + jitter) * (2 / _ALONG) - 1
        return start[:, None] + along[..., None] * direction[:, None], self.opacity[chosen]


def rendered_silhouettes(volume: NDArray[np.float32], views: Sequence[View]) -> NDArray[np.bool_]:
    """Silhouettes (views, 64, 64) of a volume of signed distances, the largest value along each ray."""
    values = torch.from_numpy(np.ascontiguousarray(volume, dtype=np.float32))[None, None]
    pixel = torch.arange(grid.SIZE) - grid.CENTRE
    found = []
    for view in views:
        direction, rows, columns = torch.from_numpy(view.axes).float()
        along = torch.arange(-_UNIT, _UNIT)[:, None, None, None] * direction
        points = along + pixel[:, None, None] * rows + pixel[:, None] * columns
        index = points + torch.tensor([grid.IMAGED_PLANE, grid.CENTRE, grid.CENTRE])
        places = (2 * index + 1) / grid.SIZE - 1
        at = F.grid_sample(values, places.flip(-1)[None], padding_mode="border", align_corners=False)
        found.append((at[0, 0] > 0).any(dim=0).numpy())
    return np.stack(found)
