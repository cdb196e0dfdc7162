"""Silhouettes of random bodies: geometry checked with points inside the bodies."""

import numpy as np
import torch
from scipy.ndimage import map_coordinates

from napari_dispr import grid
from napari_dispr.synthesis import silhouettes, views
from napari_dispr.synthesis.silhouettes import EXTENT, FIRST, HIGHEST, TRUNCATION, VIEWS


def points_inside(radii: torch.Tensor) -> np.ndarray:
    """Points (n, 3) inside one body in its own units, from its table of radii."""
    rng = np.random.default_rng(0)
    points = rng.uniform(-3, 3, (400_000, 3))
    length = np.linalg.norm(points, axis=1)
    latitude = np.arccos(points[:, 0] / length) * (48 / np.pi) - 0.5
    longitude = np.arctan2(points[:, 1], points[:, 2]) % (2 * np.pi) * (96 / (2 * np.pi))
    table = np.concatenate([radii.numpy(), radii.numpy()[:, :1]], axis=1)
    return points[length < map_coordinates(table, [latitude, longitude], order=1, mode="nearest")]


def test_silhouettes_hold_the_projected_points_and_little_more() -> None:
    radii, edges = silhouettes.random_outlines(2, torch.Generator().manual_seed(3))
    drawn = silhouettes.drawn(edges)
    zoom, middle = silhouettes.placed(edges)
    for body in range(2):
        points = (points_inside(radii[body]) - middle[body].numpy()) * zoom[body].item()
        for number, view in enumerate((FIRST, *VIEWS)):
            _, rows, columns = view.axes
            places = np.stack([points @ rows, points @ columns]) + grid.CENTRE
            distance = map_coordinates(drawn[body, number], places, order=1)
            assert distance.min() > -0.6
            covered = np.histogram2d(*places, bins=np.arange(65) - 0.5)[0] > 0
            assert abs(covered.sum() / (drawn[body, number] > 0).sum() - 1) < 0.09


def test_bodies_have_their_size_and_fit_on_the_grid() -> None:
    drawn, again = (silhouettes.random_silhouettes(6, torch.Generator().manual_seed(1)) for _ in range(2))
    assert drawn.shape == (6, 17, 64, 64)
    assert drawn.dtype == np.float32
    assert drawn.min() == -TRUNCATION
    for body in drawn > 0:
        rows, columns = np.nonzero(body[0])
        assert abs(max(np.ptp(rows), np.ptp(columns)) + 1 - EXTENT) <= 1.5
        assert np.ptp(np.nonzero(body[1])[0]) <= HIGHEST
    assert np.array_equal(drawn, again)


def test_the_turned_first_silhouette_has_the_columns_of_each_view() -> None:
    drawn = silhouettes.random_silhouettes(3, torch.Generator().manual_seed(2))
    turned = views.turned(torch.from_numpy(drawn[:, 0]))[:, 0].numpy()
    own, given = (drawn[:, 1:] > 0).any(axis=2), (turned > 0).any(axis=2)
    assert own.shape == (3, 16, 64)
    # Parallel views of one body have the same extent along the axis that they share.
    assert (own != given).sum(axis=-1).max() <= 2


def test_spherical_harmonics_have_equal_spread_in_every_direction() -> None:
    spread = silhouettes._basis().square().sum(dim=0)
    assert torch.allclose(spread, torch.ones_like(spread), atol=1e-4)
