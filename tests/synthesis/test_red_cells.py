"""Simulated red blood cells: area and volume as published, marks of each kind, pictures."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from napari_dispr import grid
from napari_dispr.errors import InputError
from napari_dispr.signed_distance import from_level
from napari_dispr.synthesis.discocytes import (
    AREA,
    RADIUS,
    VOLUME,
    WIDEST_CYLINDER,
    area_and_volume,
    measured,
    narrowest_cylinder,
    outline,
    revolved,
)
from napari_dispr.synthesis.implicit import Shape, spread
from napari_dispr.synthesis.red_cell_crops import (
    EDGE,
    VOXEL_SIZE,
    membrane_picture,
    red_cell_training_cells,
    red_cell_volume,
    simulated_red_cell,
)
from napari_dispr.synthesis.red_cells import KINDS, of_volume


def volume_of(shape: Shape) -> float:
    """fL, by counting points 0.12 micrometers apart."""
    axis = np.arange(-5.5, 5.5, 0.12, dtype=np.float32)
    return float((shape(np.stack(np.meshgrid(axis, axis, axis, indexing="ij"))) > 0).sum()) * 0.12**3


def radii(shape: Shape, directions: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far the surface is from the origin, micrometers."""
    far = np.linspace(0, 6.5, 261)
    inside = shape((directions.T[:, :, None] * far).astype(np.float32)) > 0
    return far[len(far) - 1 - np.argmax(inside[:, ::-1], axis=1)]


def test_the_mean_discocyte_is_that_of_evans_and_fung() -> None:
    curve = outline(AREA, VOLUME, 0.81 / 2.57)
    area, volume = measured(curve)
    assert area == pytest.approx(134.1, rel=1e-3) and volume == pytest.approx(94.1, rel=1e-3)
    assert curve[:, 0].max() == pytest.approx(3.91, rel=0.005)
    rho = curve[:60, 0] / RADIUS
    c0, c2, c4 = 0.207161, 2.002558, -1.122762  # Evans and Fung (1972)
    published = RADIUS / 2 * np.sqrt(1 - rho**2) * (c0 + c2 * rho**2 + c4 * rho**4)
    np.testing.assert_allclose(curve[:60, 1], published, atol=0.02)
    assert volume_of(revolved(curve)) == pytest.approx(94.1, rel=0.02)


def test_area_and_volume_of_healthy_cells_vary_together() -> None:
    rng = np.random.default_rng(0)
    area, volume = np.array([area_and_volume(rng) for _ in range(600)]).T
    assert volume.mean() == pytest.approx(VOLUME, rel=0.03) and 10 < volume.std() < 16
    assert area.mean() == pytest.approx(AREA, rel=0.03) and 10 < area.std() < 18
    assert np.corrcoef(area, volume)[0, 1] > 0.9
    widths = [narrowest_cylinder(a, v) for a, v in zip(area, volume, strict=True)]
    assert max(widths) < WIDEST_CYLINDER and 2.8 < np.median(widths) < 3.4


def test_a_ball_passes_no_cylinder_narrower_than_itself() -> None:
    assert narrowest_cylinder(4 * np.pi * 3**2, 4 / 3 * np.pi * 3**3) == pytest.approx(6, rel=1e-3)


@pytest.mark.parametrize("bend", [0.0, 0.7, 1.4])
def test_bending_keeps_area_and_volume(bend: float) -> None:
    curve = outline(130.0, 95.0, 0.7, bend)
    assert measured(curve) == pytest.approx((130.0, 95.0), rel=2e-3)
    middle = (curve[0, 1] + curve[-1, 1]) / 2  # of both sides, on the axis
    assert curve[120, 1] - middle > 1.2 * bend - 0.01  # a cup: its rim lies above


def test_what_no_cell_can_be_is_refused() -> None:
    with pytest.raises(InputError, match="no cell of 60"):
        outline(60.0, 120.0, 0.3)
    with pytest.raises(InputError, match=r"'lymphocyte'.*discocyte.*stomatocyte"):
        red_cell_volume("lymphocyte", np.random.default_rng(0))


def peaks(shape: Shape) -> int:
    """Local maxima of the radius over directions, of those that stand out by 0.15 micrometers."""
    directions = spread(3000, 0.0, np.random.default_rng(0))
    radius = radii(shape, directions)
    tree = cKDTree(directions)
    near, around = (tree.query_ball_point(directions, far) for far in (0.17, 0.45))
    return sum(
        near[i][int(np.argmax(radius[near[i]]))] == i and radius[i] > np.median(radius[around[i]]) + 0.15
        for i in range(len(directions))
    )


@pytest.mark.parametrize(
    ("kind", "least", "most"), [("echinocyte II", 16, 30), ("echinocyte III", 25, 50), ("acanthocyte", 3, 12)]
)
def test_spicules_are_as_many_as_the_kind_has(kind: str, least: int, most: int) -> None:
    cell = KINDS[kind][0](np.random.default_rng(4))
    assert least <= cell.spicules <= most
    assert abs(peaks(cell.shape) - cell.spicules) <= max(1, 0.2 * cell.spicules)


def test_spheres_have_no_spicules_and_are_round() -> None:
    cell = KINDS["spherocyte"][0](np.random.default_rng(0))
    assert cell.spicules == 0 == peaks(cell.shape)
    radius = radii(cell.shape, spread(500, 0.0, np.random.default_rng(0)))
    assert radius.min() > 0.9 * radius.max()


@pytest.mark.parametrize("kind", KINDS)
def test_cells_of_each_kind_have_their_size(kind: str) -> None:
    cell = simulated_red_cell(kind, np.random.default_rng(1))
    inside = cell.obj > 127
    assert cell.volume == pytest.approx(inside.sum() * VOXEL_SIZE**3)
    assert (20 if kind == "keratocyte" else 50) < cell.volume < (230 if kind == "cluster" else 165)
    border = inside.copy()
    border[1:-1, 1:-1, 1:-1] = False
    assert not border.any()
    np.testing.assert_allclose(cell.mask, cell.obj[grid.IMAGED_PLANE] / 255)
    assert (cell.mask > 0.5).sum() >= 200


def test_the_seed_decides_the_cell() -> None:
    first, again, other = (simulated_red_cell("discocyte", np.random.default_rng(s)) for s in (2, 2, 3))
    np.testing.assert_array_equal(first.obj, again.obj)
    np.testing.assert_array_equal(first.image, again.image)
    assert (first.obj != other.obj).any()
    names = [cell.name for cell in red_cell_training_cells(2, 5)]
    assert names == [cell.name for cell in red_cell_training_cells(2, 5)]
    assert [int(name[-6:]) for name in names] == [0, 1]


def test_the_volume_is_the_requested_one() -> None:
    shape = KINDS["knizocyte"][0](np.random.default_rng(0)).shape
    assert volume_of(of_volume(shape, 80.0)) == pytest.approx(80.0, rel=0.02)


def test_the_picture_is_brightest_at_the_membrane_and_dim_at_the_edge() -> None:
    rng = np.random.default_rng(3)
    obj, _ = red_cell_volume("spherocyte", rng, varied=False)
    picture = membrane_picture(obj, rng)
    # The section is round, but not quite: distances are from its own edge.
    away = -from_level(obj, 127.5, 20.0)[grid.IMAGED_PLANE]
    edge, membrane, core, outside = (
        float(picture[(away > low) & (away < high)].mean())
        for low, high in ((-0.7, 0.7), (-5, -2), (-99, -12), (8, 20))
    )
    assert edge == pytest.approx(EDGE, abs=0.1)
    assert outside < 0.3 * edge and edge < 0.8 * membrane and core < membrane
