"""Measures against shapes with known answers, tables with units, and SHAPR's measures by hand."""

import numpy as np
import pytest
import tifffile
from scipy import ndimage
from support.geometry import ellipsoid_area, mean_width

from napari_dispr import grid
from napari_dispr.shapes.ensemble import Ensemble
from napari_dispr.shapes.measures import HEADLINE, MEASURES
from napari_dispr.shapes.morphometry import iou, measure_ensembles, relative_error, summarise
from napari_dispr.shapes.one_shape import measure_shape
from napari_dispr.shapes.shapr_set import binarise, shapr_measures
from napari_dispr.signed_distance import from_level

Z, Y, X = np.indices(grid.SHAPE, dtype=np.float32)
Z, Y, X = Z - 32, Y - 31.5, X - 31.5
RADIUS = np.sqrt(Z**2 + Y**2 + X**2)
EMPTY = np.full(grid.SHAPE, -5.0, np.float32)


def ellipsoid(a, b, c):
    """Signed distance to first order; its zero level is the ellipsoid exactly."""
    return (1 - np.sqrt((Z / a) ** 2 + (Y / b) ** 2 + (X / c) ** 2)) * min(a, b, c)


def spiky(count, height, width, radius=20):
    """Ball with spicules, spread evenly."""
    i = np.arange(count) + 0.5
    polar, azimuth = np.arccos(1 - 2 * i / count), np.pi * (1 + 5**0.5) * i
    tips = np.stack([np.cos(polar), np.sin(polar) * np.sin(azimuth), np.sin(polar) * np.cos(azimuth)])
    cosine = np.stack([Z, Y, X], axis=-1) / RADIUS[..., None] @ tips.astype(np.float32)
    return radius + height * np.exp((cosine - 1) / width**2).sum(axis=-1) - RADIUS


@pytest.mark.parametrize("axes", [(8, 16, 25), (20, 14, 10), (25, 25, 6)])
def test_ellipsoid(axes):
    measures = measure_shape(ellipsoid(*axes))
    area = ellipsoid_area(*axes)
    volume = 4 / 3 * np.pi * np.prod(axes)
    assert measures["volume"] == pytest.approx(volume, rel=0.01)
    assert measures["surface_area"] == pytest.approx(area, rel=0.01)
    assert measures["sphericity"] == pytest.approx(
        np.pi ** (1 / 3) * (6 * volume) ** (2 / 3) / area, rel=0.01
    )
    # The integral of the mean curvature of a convex body is 2 pi times its mean width.
    assert measures["curvature"] == pytest.approx(2 * np.pi * mean_width(*axes) / area, rel=0.01)


def test_curvature_of_a_hollowed_shape_is_negative_and_bounded():
    shell = np.minimum(26 - RADIUS, RADIUS - 25)  # the outer and the inner sphere nearly cancel
    opened = np.where(Z > 20, -2, shell)
    assert abs(measure_shape(opened)["curvature"]) < 0.1
    # A box with a hollow ball in it: only the box's edges are convex.
    box = np.minimum(28 - np.maximum(np.maximum(abs(Z), abs(Y)), abs(X)), RADIUS - 24)
    edges = np.pi / 4 * 2 * 56 * 12 / 2  # half of length times angle, twelve edges
    expected = (edges - 4 * np.pi * 24) / (6 * 56**2 + 4 * np.pi * 24**2)
    assert measure_shape(box)["curvature"] == pytest.approx(expected, rel=0.02)


def test_sub_voxel_differences_count():
    volumes = [measure_shape(r - RADIUS)["volume"] for r in (12, 12.05, 12.1)]
    np.testing.assert_allclose(np.diff(volumes), 4 * np.pi * 12**2 * 0.05, rtol=0.03)


def test_roughness_tells_spicules_and_noise_from_smooth_shapes():
    def roughness(shape):
        return measure_shape(shape)["roughness"]

    smooth = roughness(20 - RADIUS)
    noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=grid.SHAPE), 1)
    assert roughness(spiky(30, 1.5, 0.2)) > 3 * smooth
    assert roughness(spiky(30, 3, 0.2)) > 1.5 * roughness(spiky(30, 1.5, 0.2))
    assert roughness(20 - RADIUS + 2 * noise) > 5 * smooth
    assert roughness(20 - RADIUS + 4 * noise) > 1.5 * roughness(20 - RADIUS + 2 * noise)


def test_measures_scale_with_their_unit():
    shape = ellipsoid(8, 16, 24)
    voxels, micrometres = measure_shape(shape), measure_shape(shape, (0.1, 0.1, 0.1))
    for name, measure in MEASURES.items():
        expected = voxels[name] * 0.1**measure.unit_power
        assert micrometres[name] == pytest.approx(expected, rel=1e-3, abs=1e-6), name


def test_unequal_spacing_makes_a_sphere_of_an_ellipsoid():
    measures = measure_shape(ellipsoid(10, 20, 24), (2.4, 1.2, 1))
    assert measures["volume"] == pytest.approx(4 / 3 * np.pi * 24**3, rel=0.01)
    assert measures["surface_area"] == pytest.approx(4 * np.pi * 24**2, rel=0.01)
    assert measures["curvature"] == pytest.approx(1 / 24, rel=0.01)


def test_measures_do_not_depend_on_where_and_how_the_image_lies():
    angle = np.deg2rad(30)
    affine = np.eye(4)
    affine[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    affine[:3, :3] *= 0.2
    affine[:3, 3] = 5, -300, 8000
    plain = measure_shape(ellipsoid(8, 16, 24), (0.2, 0.2, 0.2))
    turned = measure_shape(ellipsoid(8, 16, 24), affine)
    mirrored = measure_shape(ellipsoid(8, 16, 24), affine @ np.diag([1, 1, -1, 1]))
    for name in MEASURES:
        # Widths are looked for along directions of the world: they find the same to some 1e-3.
        near = {"rel": 1e-4 if name in HEADLINE else 5e-3, "abs": 1e-3}
        assert turned[name] == pytest.approx(plain[name], **near), name
        assert mirrored[name] == pytest.approx(plain[name], **near), name


def test_parts_add_up():
    def part(x):
        return 9 - np.sqrt(Z**2 + Y**2 + (X - x) ** 2)

    one, two = measure_shape(part(-15)), measure_shape(np.maximum(part(-15), part(15)))
    assert two["volume"] == pytest.approx(2 * one["volume"], rel=1e-4)
    assert two["surface_area"] == pytest.approx(2 * one["surface_area"], rel=1e-4)
    assert two["curvature"] == pytest.approx(one["curvature"], rel=1e-3)


def test_shape_that_touches_the_border_is_measured_as_a_closed_one():
    measures = measure_shape(20 - np.sqrt((Z + 32) ** 2 + Y**2 + X**2))
    assert measures["volume"] == pytest.approx(2 / 3 * np.pi * 20**3 + 0.5 * np.pi * 20**2, rel=0.005)
    assert measures["surface_area"] == pytest.approx(3 * np.pi * 20**2 + np.pi * 20, rel=0.01)


def test_real_cells_have_measures_within_reason(red_blood_cells):
    paths = sorted((red_blood_cells / "train" / "obj").glob("*.tif"))[::40]
    assert paths
    for path in paths:
        obj = tifffile.imread(path)
        measures = measure_shape(from_level(obj, 127.5, truncation=8))
        assert measures["volume"] == pytest.approx((obj > 127).sum(), rel=0.02)
        assert 0.4 < measures["sphericity"] < 1
        assert 0.1 < measures["roughness"] < 0.5
        assert 0 < measures["curvature"] < 0.1


@pytest.fixture
def ensembles():
    first = np.stack([12 - RADIUS, 14 - RADIUS, EMPTY])
    second = np.stack([ellipsoid(8, 16, 24)])
    frame = np.diag([0.1, 0.1, 0.1, 1])
    return {
        9: Ensemble(9, first, frame, "micrometer"),
        4: Ensemble(4, second, np.diag([0.2, 0.2, 0.2, 1]), "micrometer"),
    }


def test_table_has_a_row_a_cell_and_member_and_says_its_units(ensembles):
    table = measure_ensembles(ensembles)
    assert list(table.columns) == ["label", "member", *MEASURES]
    assert table[["label", "member"]].to_numpy().tolist() == [[9, 0], [9, 1], [9, 2], [4, 0]]
    assert table["volume"][0] == pytest.approx(4 / 3 * np.pi * 1.2**3, rel=0.01)
    assert table["volume"][3] == pytest.approx(4 / 3 * np.pi * 8 * 16 * 24 * 0.2**3, rel=0.01)
    units = {name: text.split(":")[0] for name, text in table.attrs["columns"].items()}
    assert set(units) == set(table.columns)
    assert {name: units[name] for name in ("label", "member", *HEADLINE)} == {
        "label": "no unit",
        "member": "no unit",
        "volume": "micrometer^3",
        "surface_area": "micrometer^2",
        "sphericity": "no unit",
        "roughness": "micrometer",
        "curvature": "micrometer^-1",
        "equivalent_diameter": "micrometer",
    }
    assert units["gaussian_curvature_sd"] == "micrometer^-2" and units["major_axis_tilt"] == "degree"


def test_summary_is_mean_and_sample_deviation_of_the_members(ensembles):
    table = measure_ensembles(ensembles)
    summary = summarise(table)
    assert summary["label"].tolist() == [9, 4]
    assert summary["members"].tolist() == [3, 1]
    volumes = table["volume"][:3]
    assert summary["volume_mean"][0] == pytest.approx(volumes.mean())
    assert summary["volume_sd"][0] == pytest.approx(np.sqrt(((volumes - volumes.mean()) ** 2).sum() / 2))
    assert np.isnan(summary["volume_sd"][1])
    # The empty member has no curvature to take part with.
    assert summary["curvature_mean"][0] == pytest.approx(table["curvature"][:2].mean())
    assert set(summary.columns) == set(summary.attrs["columns"])
    assert summary.attrs["columns"]["volume_sd"].startswith("micrometer^3: ")


def test_table_of_no_cells_is_empty_and_of_two_units_is_refused(ensembles):
    empty = measure_ensembles({})
    assert list(empty.columns) == ["label", "member", *MEASURES]
    assert len(empty) == len(summarise(empty)) == 0
    other = Ensemble(5, np.stack([12 - RADIUS]), np.eye(4), "pixel")
    with pytest.raises(ValueError, match="micrometer, pixel"):
        measure_ensembles({**ensembles, 5: other})


def test_reloaded_ensemble_gives_the_same_table(ensembles, tmp_path):
    rng = np.random.default_rng(0)
    noisy = np.stack([12 - RADIUS + rng.normal(0, 0.2, grid.SHAPE)])
    ensemble = Ensemble(1, noisy, np.diag([0.3, 0.3, 0.3, 1]), "micrometer")
    ensemble.save_npz(tmp_path / "1.npz")
    again = Ensemble.load_npz(tmp_path / "1.npz")
    assert measure_ensembles({1: again}).equals(measure_ensembles({1: ensemble}))


def test_binarise_takes_otsu_of_the_share_of_the_maximum():
    level = np.zeros((4, 4, 4), np.uint8)
    level[1:3, 1:3, 1:3] = 200
    level[1, 1, 1] = 40  # an antialiased edge, nearer to the background
    obj = binarise(level)
    assert obj.sum() == 7 and not obj[1, 1, 1]
    np.testing.assert_array_equal(binarise(obj), obj)
    np.testing.assert_array_equal(binarise(obj.astype(np.float32) * 7), obj)
    assert not binarise(np.zeros((4, 4, 4), np.uint8)).any()
    assert binarise(np.full((4, 4, 4), 3, np.uint8)).all()


def test_shapr_measures_of_a_cube_by_hand():
    cube = np.zeros((20, 20, 20), dtype=bool)
    cube[5:15, 5:15, 5:15] = True
    measures = shapr_measures(cube)
    assert measures["volume"] == 1000
    assert measures["surface_voxel"] == 1000 - 8**3
    # Six faces between outermost voxel centres, twelve bevelled edges, eight corners.
    corner = np.sqrt(3) / 4 * 0.5
    assert measures["surface_mesh"] == pytest.approx(6 * 81 + 12 * 9 * np.sqrt(0.5) + 8 * corner, rel=1e-5)
    # A Gaussian cut at one half takes away corners and edges and adds nothing.
    taken = cube & ~(ndimage.gaussian_filter(cube.astype(float), 2) > 0.5)
    assert measures["roughness_voxel"] == taken.sum() > 0


def test_shapr_surface_voxels_include_diagonal_neighbours_of_background():
    obj = np.ones((7, 7, 7), dtype=bool)
    obj[3, 3, 3] = False
    assert shapr_measures(obj)["surface_voxel"] == 26
    assert shapr_measures(np.ones((7, 7, 7), dtype=bool))["surface_voxel"] == 0  # beyond the grid is unknown


@pytest.mark.parametrize("whole", [True, False])
def test_shapr_roughness_of_the_mesh_is_what_humphrey_moves(whole):
    from skimage.measure import marching_cubes
    from trimesh import Trimesh
    from trimesh.smoothing import filter_humphrey

    obj = RADIUS < 12 if whole else np.hypot(Y, X) < 12 + Z / 9  # open at the grid's border
    vertices, faces, _, _ = marching_cubes(obj.astype(np.uint8))
    mesh = Trimesh(vertices, faces[:, ::-1], process=False)  # seen from outside, which counts at a border
    before = mesh.vertices.copy()
    filter_humphrey(mesh)
    expected = np.sqrt(((before - mesh.vertices) ** 2).sum())
    assert shapr_measures(obj)["roughness_mesh"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("full", [False, True])
def test_shapr_measures_of_nothing_and_of_everything_are_numbers(full):
    measures = shapr_measures(np.full((8, 8, 8), full))
    assert measures == {
        "volume": 512 * full,
        "surface_mesh": 0,
        "surface_voxel": 0,
        "roughness_mesh": 0,
        "roughness_voxel": 0,
    }


def test_relative_error_and_iou():
    assert relative_error(3, 4) == relative_error(5, 4) == relative_error(-3, -4) == 0.25
    assert relative_error(0, 0) == 0
    assert relative_error(1, 0) == np.inf
    first, second = np.zeros((2, 4), dtype=bool)
    assert iou(first, second) == 1
    first[:3] = second[2:] = True
    assert iou(first, second) == 0.25
