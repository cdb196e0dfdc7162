"""Fits of a mask: their sizes by the ellipse's axes, and their errors on real cells near published ones."""

import warnings

import numpy as np
import pytest

from napari_dispr.cells.folders import read_dataset
from napari_dispr.errors import InputError
from napari_dispr.models.fits import FITS, cylinder, ellipsoid, fit_ellipse
from napari_dispr.shapes.morphometry import iou, relative_error
from napari_dispr.shapes.shapr_set import binarise, shapr_measures

Y, X = np.indices((64, 64), dtype=np.float32)


def elliptic(a=20, b=10, angle=0.0, centre=(31.5, 31.5)):
    """Mask, with the first semi-axis turned from x towards y."""
    y, x = Y - centre[0], X - centre[1]
    first = (np.cos(angle) * x + np.sin(angle) * y) / a
    second = (np.cos(angle) * y - np.sin(angle) * x) / b
    return (first**2 + second**2 <= 1).astype(np.float32)


@pytest.mark.parametrize("angle", [0, 0.5, 2.5])
def test_ellipse_of_an_ellipse(angle):
    ellipse = fit_ellipse(elliptic(20, 10, angle, (30, 34)))
    assert ellipse.centre == pytest.approx((30, 34), abs=0.1)
    assert sorted(ellipse.semi_axes) == pytest.approx([10, 20], abs=0.25)
    longer = ellipse.angle + (ellipse.semi_axes[0] < ellipse.semi_axes[1]) * np.pi / 2
    assert np.sin(longer - angle) == pytest.approx(0, abs=0.02)


def test_holes_are_filled_for_the_ellipse_and_kept_in_the_cylinder():
    mask = elliptic()
    mask[28:34, 25:40] = 0
    assert fit_ellipse(mask) == fit_ellipse(elliptic())
    np.testing.assert_array_equal(cylinder(mask)[32], mask > 0.5)


def test_ellipse_is_of_the_largest_part_wherever_it_stands():
    small = elliptic(4, 4, centre=(6, 6))  # its contour is found first
    large = elliptic(14, 9, centre=(40, 36))
    assert fit_ellipse(np.maximum(small, large)) == fit_ellipse(large)
    # ... and a long winding rim around little is not large.
    assert fit_ellipse(np.maximum(elliptic(12, 12), (X == 2) & (Y > 1))) == fit_ellipse(elliptic(12, 12))


def test_mask_at_the_border_has_a_closed_contour():
    ellipse = fit_ellipse(elliptic(12, 8, centre=(31.5, 11.5)))
    assert ellipse.centre == pytest.approx((31.5, 11.5), abs=0.1)


@pytest.mark.parametrize(("fit", "height"), [("cylinder", 30), ("cylinder-code", 15)])
def test_cylinder_is_the_mask_over_its_height_about_the_imaged_plane(fit, height):
    mask = elliptic(20, 10)
    shape = FITS[fit].shape(mask)
    planes = np.flatnonzero(shape.any(axis=(1, 2)))
    assert len(planes) == pytest.approx(height, abs=1)
    assert abs(planes.mean() - 32) <= 0.5
    assert (shape[planes] == (mask > 0.5)).all()


@pytest.mark.parametrize(("fit", "radius"), [("ellipsoid", 15), ("ellipsoid-code", 7.5)])
def test_ellipsoid_has_the_ellipse_in_the_imaged_plane_and_its_radius_across(fit, radius):
    mask = elliptic(20, 10, 0.5)
    shape = FITS[fit].shape(mask)
    assert iou(shape[32], mask > 0.5) > 0.97
    assert shape.sum() == pytest.approx(4 / 3 * np.pi * 20 * 10 * radius, rel=0.02)
    planes = np.flatnonzero(shape.any(axis=(1, 2)))
    assert planes.mean() == 32
    assert len(planes) == pytest.approx(2 * radius, abs=1.1)


def test_shapes_higher_than_the_grid_are_cut_off():
    for fit in FITS.values():
        shape = fit.shape(np.ones((64, 64)))
        assert shape.shape == (64, 64, 64) and shape.dtype == bool
        assert shape[32].mean() > 0.9
    assert cylinder(np.ones((64, 64)))[[0, -1]].any()


@pytest.mark.parametrize("fit", FITS.values(), ids=FITS)
def test_an_empty_mask_is_bad_input(fit):
    with pytest.raises(InputError, match="The mask is empty"):
        fit.shape(np.zeros((64, 64)))
    with pytest.raises(InputError, match="The mask is empty"):
        fit.shape(np.full((64, 64), 0.5))  # nowhere above one half


def test_an_exact_circle_has_an_angle_and_a_shape_without_warnings():
    mask = np.zeros((64, 64))
    mask[0, 0] = 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fit_ellipse(mask).angle == 0 and ellipsoid(mask).any()


def test_a_mask_of_one_pixel_or_one_line_is_a_small_shape():
    pixel, line = np.zeros((2, 64, 64))
    pixel[30, 30] = 1
    line[30, 20:40] = 1
    for mask in (pixel, line):
        for fit in FITS.values():
            assert 0 < fit.shape(mask).sum() < 600


def test_errors_on_real_cells_are_near_those_measured_on_others(red_blood_cells):
    """Medians on 27 of these cells compared with 27 others; the tolerance is twice the standard error."""
    known = {  # volume, surface of the mesh, roughness of the voxels and of the mesh, IoU (mean)
        "cylinder-code": (0.330, 0.285, 0.348, 0.408, 0.501),
        "ellipsoid-code": (0.554, 0.507, 0.523, 0.329, 0.387),
        "cylinder": (0.415, 0.175, 0.203, 0.199, 0.513),
        "ellipsoid": (0.234, 0.284, 0.462, 0.175, 0.512),
    }
    errors = {name: [] for name in known}
    for cell in read_dataset(red_blood_cells, "train", need_objects=True)[::4]:
        truth = binarise(cell.obj)
        true = shapr_measures(truth)
        for name, fit in FITS.items():
            shape = fit.shape(cell.mask)
            drawn = shapr_measures(shape)
            names = ("volume", "surface_mesh", "roughness_voxel", "roughness_mesh")
            errors[name].append([*(relative_error(drawn[n], true[n]) for n in names), iou(shape, truth)])
    for name, expected in known.items():
        rows = np.array(errors[name])
        np.testing.assert_allclose(np.median(rows[:, :4], axis=0), expected[:4], atol=0.1, err_msg=name)
        np.testing.assert_allclose(rows[:, 4].mean(), expected[4], atol=0.06, err_msg=name)
