"""The grid's affines: where voxels lie in the picture and in the world."""

import numpy as np
import pytest

from napari_dispr import grid
from napari_dispr.errors import InputError


def at(affine, *point):
    return affine @ [*point, 1.0]


def test_imaged_plane_is_not_the_middle():
    distance = grid.plane_distance()
    assert distance[grid.IMAGED_PLANE] == 0
    assert distance[0] == -32 and distance[-1] == 31
    assert grid.CENTRE == 31.5


@pytest.mark.parametrize("zoom", [0.5, 1.0, 2.3])
def test_grid_to_pixel(zoom):
    affine = grid.grid_to_pixel(zoom, (100.0, 40.5))
    np.testing.assert_allclose(at(affine, 32, 31.5, 31.5)[:3], [0, 100, 40.5], atol=1e-12)
    step = at(affine, 33, 32.5, 31.5) - at(affine, 32, 31.5, 31.5)
    np.testing.assert_allclose(step[:3], [1 / zoom, 1 / zoom, 0], atol=1e-12)


def test_cells_of_a_dataset_are_where_they_are():
    np.testing.assert_allclose(
        grid.grid_to_pixel(1.0, (31.5, 31.5)), grid.translation((-32.0, 0.0, 0.0)), atol=1e-12
    )


def test_world_of_pixels_continues_the_images_affine():
    c, s = np.cos(0.4), np.sin(0.4)
    image = np.array([[0.2 * c, -0.3 * s, 5], [0.2 * s, 0.3 * c, -7], [0, 0, 1.0]])
    affine = grid.pixel_to_world(image)
    y, x = 3.0, 8.0
    np.testing.assert_allclose(at(affine, 0, y, x)[1:], image @ [y, x, 1])
    assert at(affine, 0, y, x)[0] == 0
    assert grid.in_plane_scale(image) == pytest.approx(0.25)
    assert at(affine, 4, y, x)[0] == pytest.approx(1.0)
    np.testing.assert_allclose(grid.spacing(affine), [0.25, 0.2, 0.3])


def test_spacing_of_a_turned_grid():
    image = 0.1 * np.array([[0, -1, 0], [1, 0, 0], [0, 0, 10]])
    to_world = grid.pixel_to_world(image) @ grid.grid_to_pixel(2.0, (10.0, 10.0))
    np.testing.assert_allclose(grid.spacing(to_world), [0.05, 0.05, 0.05])


def test_sizes_have_the_same_bounds_everywhere():
    for size in (1e-10, 1e10):
        with pytest.raises(InputError, match="from 1e-09 to 1e\\+09"):
            grid.check_spacing([size] * 3)
        with pytest.raises(ValueError, match="from 1e-09 to 1e\\+09"):
            grid.check_affine(np.diag([size, size, 1]))
    with pytest.raises(InputError, match=r"from 0\.0001 to 10000"):
        grid.check_spacing([1e-5] * 3, "micrometer")


def test_translation():
    np.testing.assert_array_equal(at(grid.translation((1.0, -2.0, 3.0)), 0, 0, 0), [1, -2, 3, 1])


def test_box_of_what_is_inside():
    inside = np.zeros((5, 6, 7), bool)
    assert grid.box_of(inside) is None
    inside[1, 2, 3] = inside[3, 2, 5] = True
    assert grid.box_of(inside) == np.s_[1:4, 2:3, 3:6]
    assert grid.box_of(inside, 2) == np.s_[0:5, 0:5, 1:7], "the margin ends with the array"
