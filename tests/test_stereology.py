"""Sizes of cells from sections at any height."""

import numpy as np
import pytest

from napari_dispr.stereology import Sizes, usual_sizes

RADIUS, TALL = 10.0, 1.4


def stack(apart: float, cells: int, spread: float = 0.1) -> tuple[np.ndarray, list[np.ndarray]]:
    """Depths of planes, and the areas of the sections of ellipsoids that they hit."""
    rng, areas = np.random.default_rng(0), []
    depths = 2000 + apart * np.arange(30.0)
    while len(areas) < cells:
        radius, tall = (RADIUS, TALL) * np.exp(spread * rng.standard_normal(2))
        centre = rng.uniform(depths[4], depths[-5])
        area = np.pi * np.maximum(radius**2 - ((depths - centre) / tall) ** 2, 0)
        areas += [area] if area.any() else []
    return depths, areas


@pytest.mark.parametrize("apart", [8, 14, 20])
def test_sizes_are_found_from_few_sections_of_each_cell(apart):
    """The cells are 28 high; most have one or two sections of 14 or 20 voxels apart."""
    sizes = usual_sizes(*stack(apart, 40))
    assert np.exp(sizes.radius) == pytest.approx(RADIUS, rel=0.05)
    assert np.exp(sizes.tall) == pytest.approx(TALL, rel=0.1)
    assert 0.08 < sizes.radius_sd < 0.2 and 0.08 < sizes.tall_sd < 0.25


def test_sections_far_apart_say_how_wide_cells_are_but_not_how_tall():
    sizes = usual_sizes(*stack(60, 100))
    assert np.exp(sizes.radius) == pytest.approx(RADIUS, rel=0.05)
    assert abs(sizes.tall) < 0.05 and sizes.tall_sd == pytest.approx(0.2, abs=0.02)


def test_cells_that_may_go_on_do_not_count():
    depths, areas = stack(14, 12)
    assert usual_sizes(depths, areas[:4]) is None
    first, gap = np.zeros(30), np.zeros(30)
    first[:2], gap[[9, 11]] = 500, 500
    assert usual_sizes(depths, [*areas, first, gap]) == usual_sizes(depths, areas)


def test_sizes_scale_with_the_unit():
    depths, areas = stack(14, 20)
    sizes, halved = usual_sizes(depths, areas), usual_sizes(depths / 2, [area / 4 for area in areas])
    np.testing.assert_allclose(
        (halved.radius, halved.radius_sd, halved.tall, halved.tall_sd),
        (sizes.radius - np.log(2), sizes.radius_sd, sizes.tall, sizes.tall_sd),
        atol=1e-6,
    )
    assert sizes.zoomed(0.5).radius == pytest.approx(halved.radius, abs=1e-6)


@pytest.mark.parametrize("wrong", [(np.nan, 0.1, 0, 0.1), (1, 0, 0, 0.1), (1, 0.1, 0, -1)])
def test_sizes_are_numbers(wrong):
    with pytest.raises(ValueError, match="sizes"):
        Sizes(*wrong)
