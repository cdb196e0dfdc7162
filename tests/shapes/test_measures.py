"""The measures beyond the first ones against known answers, at resolutions, rotations and spacings."""

import warnings

import numpy as np
import pytest
from scipy.stats import special_ortho_group

from napari_dispr import grid
from napari_dispr.errors import InputError
from napari_dispr.prediction.result import Prediction
from napari_dispr.prediction.tables import measure, measure_cells
from napari_dispr.shapes.ensemble import Ensemble
from napari_dispr.shapes.label_volumes import (
    LARGEST_GRID,
    level_of,
    measure_labels,
    measure_mask,
    without_surface,
)
from napari_dispr.shapes.measures import HEADLINE, MASK_MEASURES, MEASURES, PICTURE_MEASURES
from napari_dispr.shapes.mesh_files import meshes_of_labels
from napari_dispr.shapes.morphometry import SETS, measure_ensembles
from napari_dispr.shapes.one_shape import measure_shape
from napari_dispr.shapes.planes import measure_plane
from napari_dispr.shapes.shapr_set import SHAPR_FEATURES, shapr_features

Z, Y, X = np.indices(grid.SHAPE) - np.array([32, 31.5, 31.5]).reshape(3, 1, 1, 1)


def turned(seed, spacing=(1, 1, 1), reach=30):
    """Coordinates in a frame of their own, turned at random and off the voxels' centres."""
    rng = np.random.default_rng(seed)
    halves = [int(np.ceil(reach / step)) for step in spacing]
    index = np.meshgrid(*(np.arange(-n, n + 1) for n in halves), indexing="ij")
    place = np.stack([i * step for i, step in zip(index, spacing, strict=True)], axis=-1)
    place = (place + rng.uniform(-0.5, 0.5, 3) * spacing) @ special_ortho_group.rvs(3, random_state=rng)
    return np.moveaxis(place, -1, 0)


def ball(radius, z=Z, y=Y, x=X):
    return radius - np.sqrt(z**2 + y**2 + x**2)


def ellipsoid(axes, z=Z, y=Y, x=X):
    a, b, c = axes
    return (1 - np.sqrt((z / a) ** 2 + (y / b) ** 2 + (x / c) ** 2)) * min(axes)


def torus(ring, tube, z=Z, y=Y, x=X):
    return tube - np.hypot(np.hypot(y, x) - ring, z)


def bent(z, y, x):
    """A ball with two bumps and a dent: no symmetry that could hide a mistake."""
    shape = np.maximum(ball(16, z, y, x), ball(8, z - 14, y, x))
    shape = np.maximum(shape, ball(6, z, y - 17, x + 3))
    return np.minimum(shape, -ball(9, z, y, x - 18))


# --- signed distances -----------------------------------------------------------------------------


@pytest.mark.parametrize("radius", [6, 12, 24])
def test_sphere(radius):
    found = measure_shape(ball(radius, *turned(radius)))
    # A polyhedron with corners on a sphere is too small; the error falls with the square of the radius.
    volume, area = 4 / 3 * np.pi * radius**3, 4 * np.pi * radius**2
    for name, value in zip(HEADLINE, (volume, area, 1, None, 1 / radius, 2 * radius), strict=True):
        assert value is None or found[name] == pytest.approx(value, rel=0.6 / radius**2), name
    assert found["roughness"] < 0.07  # voxels, at any size
    near = {"rel": 1 / radius**2 + 0.003}
    for name in ("largest_diameter", "least_width", "mean_width", "major_axis", "minor_axis", "box_z"):
        assert found[name] == pytest.approx(2 * radius, **near), name
    for name in ("thickness", "thickness_max"):
        assert found[name] == pytest.approx(2 * radius, rel=0.01 + 0.15 / radius), name
    for name in ("curvature_low", "curvature_median", "curvature_high"):
        assert found[name] == pytest.approx(1 / radius, rel=0.04), name
    for name in ("low", "median", "high"):
        assert found[f"gaussian_curvature_{name}"] == pytest.approx(1 / radius**2, rel=0.08), name
    assert found["bending_energy"] == pytest.approx(1, rel=0.01)
    assert found["harmonic_0"] == pytest.approx(1, abs=0.01)
    assert max(found[f"harmonic_{degree}"] for degree in range(1, 9)) < 0.005
    assert found["box_fill"] == pytest.approx(np.pi / 6, rel=0.02)
    assert found["solidity"] == pytest.approx(1, abs=0.005) and found["convexity"] == pytest.approx(
        1, abs=0.005
    )
    assert (found["parts"], found["euler_number"], found["concave_share"]) == (1, 1, 0)


@pytest.mark.parametrize("seed", range(3))
def test_ellipsoid(seed):
    axes = (9, 14, 22)
    found = measure_shape(ellipsoid(axes, *turned(seed)))
    for name, value in zip(("minor_axis", "middle_axis", "major_axis"), axes, strict=True):
        assert found[name] == pytest.approx(2 * value, rel=0.005), name
    assert found["elongation"] == pytest.approx(22 / 14, rel=0.005)
    assert found["flatness"] == pytest.approx(14 / 9, rel=0.005)
    assert found["largest_diameter"] == pytest.approx(44, rel=0.005)
    assert found["least_width"] == pytest.approx(18, rel=0.005)
    # The Gaussian curvature is lowest at the ends of the minor axis, highest at those of the major axis.
    lowest, highest = (9 / (14 * 22)) ** 2, (22 / (9 * 14)) ** 2
    assert lowest < found["gaussian_curvature_low"] < found["gaussian_curvature_high"] < highest
    # The largest curvatures are at the tips: principal ones a / b^2 and a / c^2.
    assert found["curvature_high"] < (22 / 9**2 + 22 / 14**2) / 2


def test_torus():
    ring, tube = 18, 8
    found = measure_shape(torus(ring, tube, *turned(3)))
    assert (found["euler_number"], found["parts"]) == (0, 1)
    assert found["volume"] == pytest.approx(2 * np.pi**2 * ring * tube**2, rel=0.005)
    assert found["surface_area"] == pytest.approx(4 * np.pi**2 * ring * tube, rel=0.002)
    # Mean curvature integrates to 2 pi^2 R over an area of 4 pi^2 R r: the hole counts against the rim.
    assert found["curvature"] == pytest.approx(1 / (2 * tube), rel=0.002)
    # Principal curvatures 1 / r and 1 / (R + r) outside, -1 / (R - r) inside.
    outside, inside = 1 / (tube * (ring + tube)), -1 / (tube * (ring - tube))
    assert inside < found["gaussian_curvature_low"] < 0 < found["gaussian_curvature_high"] < 1.05 * outside
    # The inner half is a saddle: its share of the area is 1/2 - r / (pi R).
    assert found["saddle_share"] == pytest.approx(0.5 - tube / (np.pi * ring), abs=0.01)
    energy = np.pi / 4 * (ring / tube) ** 2 / np.sqrt((ring / tube) ** 2 - 1)
    assert found["bending_energy"] == pytest.approx(energy, rel=0.01)
    assert found["thickness"] == pytest.approx(2 * tube, rel=0.025)
    assert found["solidity"] < 0.8


def test_hollows_tunnels_and_parts():
    hollow = np.minimum(ball(24), -ball(10))
    assert measure_shape(hollow)["euler_number"] == 2
    two = np.maximum(ball(8, Z, Y, X - 15), ball(8, Z, Y, X + 15))
    assert (measure_shape(two)["euler_number"], measure_shape(two)["parts"]) == (2, 2)
    double = np.maximum(torus(9, 4, Z, Y, X - 9), torus(9, 4, Z, Y, X + 9))
    assert measure_shape(double)["euler_number"] == -1


@pytest.mark.parametrize("seed", range(2))
def test_cylinder_and_plate(seed):
    z, y, x = turned(seed)
    rod = np.minimum(8 - np.hypot(y, x), 20 - abs(z))
    found = measure_shape(rod)
    assert found["volume"] == pytest.approx(np.pi * 64 * 40, rel=0.01)
    assert found["surface_area"] == pytest.approx(2 * np.pi * 8 * 48, rel=0.03)
    assert found["least_width"] == pytest.approx(16, rel=0.01)
    assert found["major_axis"] == pytest.approx(2 * np.sqrt(5 * 40**2 / 12), rel=0.01)
    assert found["curvature_median"] == pytest.approx(1 / 16, rel=0.03)
    plate = np.minimum(24 - np.hypot(y, x), 3 - abs(z))
    # Towards the rim the balls are smaller: the mean is a little less than the plate's thickness.
    assert 5.4 < measure_shape(plate)["thickness"] < 6.05


def test_tilts_and_box_lie_as_the_picture_does():
    found = measure_shape(ellipsoid((6, 12, 24)), (0.5, 0.5, 0.5))
    assert (found["major_axis_tilt"], found["minor_axis_tilt"]) == pytest.approx((0, 90), abs=0.5)
    assert (found["box_z"], found["box_y"], found["box_x"]) == pytest.approx((6, 12, 24), rel=0.01)
    angle = np.deg2rad(30)
    up = ellipsoid(
        (6, 12, 24), np.cos(angle) * Z - np.sin(angle) * X, Y, np.sin(angle) * Z + np.cos(angle) * X
    )
    assert measure_shape(up)["major_axis_tilt"] == pytest.approx(30, abs=0.5)


def test_harmonics_and_form_do_not_depend_on_rotation_size_or_mirror():
    free = [n for n, m in MEASURES.items() if m.group == "harmonics"] + [
        "solidity",
        "convexity",
        "elongation",
    ]
    first = measure_shape(bent(*turned(0)))
    assert first["harmonic_2"] + first["harmonic_3"] > 0.02
    for seed in (1, 2):
        other = measure_shape(bent(*turned(seed)))
        assert other["volume"] == pytest.approx(first["volume"], rel=0.003)
        for name in free:
            assert other[name] == pytest.approx(first[name], rel=0.03, abs=0.003), name
    z, y, x = turned(1)
    mirrored, half = measure_shape(bent(z, y, x)[::-1]), measure_shape(bent(2 * z, 2 * y, 2 * x) / 2)
    for name in free:
        assert mirrored[name] == pytest.approx(first[name], rel=0.03, abs=0.003), name
        assert half[name] == pytest.approx(first[name], rel=0.1, abs=0.02), name


def test_curvature_is_bounded_whatever_the_shape():
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(40, 40, 40)).astype(np.float32)
    found = measure_shape(noise, (0.1, 0.1, 0.1))
    assert -10 <= found["curvature_low"] <= found["curvature_high"] <= 10
    assert abs(found["gaussian_curvature_low"]) <= 100 and abs(found["gaussian_curvature_high"]) <= 100
    assert np.isfinite(list(found.values())).all()


@pytest.mark.parametrize("value", [2e-3, 0.1, 5.0])
def test_one_voxel_gives_numbers_without_warnings(value):
    shape = np.full((9, 9, 9), -1.0, np.float32)
    shape[4, 4, 4] = value
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = measure_shape(shape)
        features = shapr_features(np.pad(shape > 0, (20, 35)))
    assert np.isfinite(list(found.values())).all() and found["euler_number"] == 1
    assert features["shapr_volume"] == 1


def test_nothing_gives_nothing_without_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = measure_mask(np.zeros((4, 5, 6), bool))
        assert measure_shape(np.full((2, 3, 4), 1.0))["volume"] == pytest.approx(24, rel=0.2)
        features = shapr_features(np.zeros(grid.SHAPE, bool))
        plane = measure_plane(np.zeros((5, 5), bool), np.ones((5, 5)))
    assert found.pop("volume") == found.pop("parts") == 0 and np.isnan(list(found.values())).all()
    assert features["shapr_volume"] == 0 and np.isnan(features["shapr_mesh_volume"])
    assert list(plane) == [*MASK_MEASURES, *PICTURE_MEASURES] and np.isnan(list(plane.values())).all()


def test_a_few_measures_are_those_of_all():
    shape = bent(*turned(0))
    everything = measure_shape(shape)
    assert list(everything) == list(MEASURES) and list(MEASURES)[:6] == list(HEADLINE)
    for name in MEASURES:
        assert measure_shape(shape, only={name}) == {name: everything[name]}


# --- label volumes --------------------------------------------------------------------------------


@pytest.mark.parametrize(("spacing", "error"), [((1, 1, 1), 0.01), ((2, 1, 1), 0.015), ((3, 1, 1), 0.03)])
@pytest.mark.parametrize("seed", range(2))
def test_voxels_of_a_smooth_shape(spacing, error, seed):
    from support.geometry import ellipsoid_area, mean_width

    axes = (10, 16, 24)
    mask = ellipsoid(axes, *turned(seed, spacing)) > 0
    unit = np.array(spacing) * 0.2
    found = measure_mask(mask, unit)
    assert found["volume"] == pytest.approx(mask.sum() * unit.prod(), rel=0.005), "that of its voxels"
    area = ellipsoid_area(*axes) * 0.2**2
    assert found["surface_area"] == pytest.approx(area, rel=error)
    expected = 2 * np.pi * mean_width(*axes) * 0.2 / area
    assert found["curvature"] == pytest.approx(expected, rel=error)
    assert found["major_axis"] == pytest.approx(48 * 0.2, rel=0.02)
    assert found["euler_number"] == 1


SPECKS = {
    "one voxel": (np.ones((1, 1, 1)), 1),
    "two": (np.ones((1, 1, 2)), 1),
    "four": (np.ones((1, 2, 2)), 1),
    "six": (np.ones((1, 2, 3)), 1),
    "eight": (np.ones((2, 2, 2)), 1),
    "two apart": (np.pad(np.ones((1, 1, 1)), (0, 9)) + np.pad(np.ones((1, 1, 1)), (9, 0)), 2),
}


@pytest.mark.parametrize("spacing", [(1, 1, 1), (1.1, 1, 1), (2, 1, 1)])
def test_specks_have_a_volume_and_are_named(spacing):
    labels = np.zeros((12, 12, 12 * len(SPECKS)), int)
    for number, (speck, _) in enumerate(SPECKS.values()):
        z, y, x = speck.shape
        labels[1 : 1 + z, 1 : 1 + y, 12 * number + 1 : 12 * number + 1 + x][speck > 0] = number + 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = measure_labels(labels, spacing)
        meshes = meshes_of_labels(labels, np.diag([*spacing, 1.0]))
    volumes = [speck.sum() * spacing[0] for speck, _ in SPECKS.values()]
    np.testing.assert_allclose(table["volume"], volumes)
    assert table["parts"].tolist() == [parts for _, parts in SPECKS.values()]
    assert table["surface_area"].isna().all()
    assert without_surface(table).startswith("Cells 1, 2, 3, 4, 5, 6: too small")
    np.testing.assert_allclose([mesh.volume for mesh in meshes.values()], volumes, rtol=0.01)


def test_thin_masks_keep_their_volume():
    line, sheet = np.ones((40, 1, 1), bool), np.ones((1, 30, 30), bool)
    for mask in (line, sheet, np.random.default_rng(0).random((16, 16, 16)) < 0.03):
        assert measure_mask(mask)["volume"] == pytest.approx(mask.sum(), rel=0.01)


def test_large_and_long_voxels_are_measured_on_a_bounded_grid():
    mask = ellipsoid((20, 75, 75), *np.ogrid[-21:22, -76:77, -76:77]) > 0
    found = measure_mask(mask, (10, 0.1, 0.1))
    assert found["volume"] == pytest.approx(mask.sum() * 0.1, rel=0.01)
    assert level_of(mask, (10, 0.1, 0.1))[0].size <= 1.2 * LARGEST_GRID
    ball_mask = ball(80, *np.ogrid[-82:83, -82:83, -82:83]) > 0
    level, _ = level_of(ball_mask)
    assert level.size < LARGEST_GRID
    assert measure_mask(ball_mask)["sphericity"] == pytest.approx(1, abs=0.005)


@pytest.mark.parametrize(
    ("spacing", "words"),
    [
        ((100, 0.1, 0.1), "1000 times as long"),
        ((1e160, 1, 1), "check the spacing"),
        ((0, 1, 1), "check the spacing"),
        ((np.nan, 1, 1), "check the spacing"),
        *((spacing, r"The spacing is .*: give three numbers") for spacing in ((2, 1), 1.0, None, "abc")),
    ],
)
def test_spacings_that_no_microscope_has(spacing, words):
    with pytest.raises(InputError, match=words):
        measure_labels(np.ones((3, 3, 3), int), spacing)


def test_labels_in_a_table_like_that_of_a_prediction():
    labels = np.zeros((20, 60, 60), np.int64)
    z, y, x = np.indices(labels.shape) * np.array([2, 1, 1]).reshape(3, 1, 1, 1)
    labels[np.sqrt((z - 20) ** 2 + (y - 15) ** 2 + (x - 15) ** 2) < 10] = 3
    labels[np.sqrt((z - 20) ** 2 + (y - 40) ** 2 + (x - 40) ** 2) < 13] = 2**40
    labels[0, 0, 0] = 7
    seen = []
    table = measure_labels(labels, (0.4, 0.2, 0.2), "micrometer", progress=lambda *at: seen.append(at))
    assert list(table.columns) == ["label", "member", *MEASURES] and table["label"].tolist() == [3, 7, 2**40]
    assert seen == [(1, 3), (2, 3), (3, 3)]
    voxels = np.array([(labels == label).sum() for label in table["label"]])
    np.testing.assert_allclose(table["volume"][[0, 2]], voxels[[0, 2]] * 0.4 * 0.2**2, rtol=0.005)
    assert table["equivalent_diameter"][2] == pytest.approx(5.2, rel=0.01)
    assert table["sphericity"][2] == pytest.approx(1, abs=0.03)
    columns = table.attrs["columns"]
    assert set(columns) == set(table.columns) and columns["volume"].startswith("micrometer^3: ")
    assert (
        columns
        == measure_ensembles({1: Ensemble(1, ball(9)[None], np.eye(4), "micrometer")}).attrs["columns"]
    )


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (np.zeros((3, 3, 3), int), "are empty"),
        (np.ones((0, 3, 3), int), "are empty"),
        (np.ones((3, 3), int), "3D stack"),
        (np.full((3, 3, 3), 0.5), "fractions"),
        (np.full((3, 3, 3), np.nan), "NaN"),
        (np.full((3, 3, 3), -1), "negative"),
        (np.full((3, 3, 3), "a"), "data type"),
    ],
)
def test_labels_that_are_none(labels, words):
    with pytest.raises(InputError, match=words):
        measure_labels(labels)


@pytest.mark.parametrize(("set", "words"), [("last", "no set 'last' of measures"), ("shapr", "model grid")])
def test_wrong_sets(set, words):
    with pytest.raises(InputError, match=words):
        measure_labels(np.ones((9, 9, 9), bool), set=set)


# --- the SHAPR set --------------------------------------------------------------------------------


def test_shapr_features_by_hand():
    cube = np.zeros(grid.SHAPE, bool)
    cube[20:30, 20:34, 20:38] = True  # 10 x 14 x 18
    found = shapr_features(cube)
    assert list(found) == list(SHAPR_FEATURES)
    assert np.isfinite(list(found.values())).all()
    assert found["shapr_volume"] == 10 * 14 * 18
    assert [found[f"shapr_projection_{a}_area"] for a in "zyx"] == [14 * 18, 10 * 18, 10 * 14]
    assert [found[f"shapr_projection_{a}_convexity"] for a in "zyx"] == pytest.approx([1, 1, 1])
    assert found["shapr_mesh_convexity"] == pytest.approx(1, abs=1e-3)
    # Least inertia is about the longest axis, which is x.
    assert found["shapr_principal_axis_0_x"] == pytest.approx(1, abs=1e-6)
    assert found["shapr_moment_200"] == pytest.approx((10**2 - 1) / 12 / 2520 ** (2 / 3))
    assert found["shapr_moment_111"] == pytest.approx(0, abs=1e-12)
    assert (found["shapr_z_sum_mean"], found["shapr_z_sum_sd"], found["shapr_z_sum_max"]) == (10, 0, 10)
    gabor = np.array([found[f"shapr_gabor_{z:02d}"] for z in range(64)])
    assert (gabor[20:30] > 0).all() and gabor[:20].max() == gabor[30:].max() == 0
    assert SHAPR_FEATURES["shapr_mesh_volume"].unit("voxel") == "voxel^3"


def test_shapr_set_as_a_table():
    table = measure_ensembles({4: Ensemble(4, np.stack([ball(9), ball(12)]), np.eye(4))}, set="shapr")
    assert list(table.columns) == ["label", "member", *SETS["shapr"]] and len(table) == 2
    assert table["shapr_volume"].tolist() == [(ball(9) > 0).sum(), (ball(12) > 0).sum()]
    assert set(table.attrs["columns"]) == set(table.columns)


# --- the imaged plane -----------------------------------------------------------------------------


def test_mask_and_picture_of_a_disc():
    y, x = np.indices((80, 80)) - 39.5
    radius = np.hypot(y, x)
    mask = radius < 25
    picture = np.where(mask, 100 + 2 * x, 20.0)
    found = measure_plane(mask, picture, (0.1, 0.1))
    assert found["mask_area"] == pytest.approx(np.pi * 2.5**2, rel=0.01)
    assert found["mask_perimeter"] == pytest.approx(2 * np.pi * 2.5, rel=0.01)
    assert found["mask_circularity"] == pytest.approx(1, abs=0.02)
    assert found["mask_major_axis"] == pytest.approx(5, rel=0.01)
    assert found["mask_euler_number"] == 1
    assert found["picture_mean"] == pytest.approx(100) and found["picture_median"] == pytest.approx(
        100, abs=1
    )
    assert found["picture_sd"] == pytest.approx(25, rel=0.01)  # of x in a disc: r / 2
    assert found["picture_contrast"] == pytest.approx((100 - 20) / 120)
    assert found["picture_correlation"] > 0.99
    # Along y neighbours are equal, along x they differ by 2.
    assert found["picture_dissimilarity"] == pytest.approx(1 / 25, rel=0.02)
    hole = measure_plane(mask & (radius > 8), picture)
    assert hole["mask_euler_number"] == 0 and hole["mask_solidity"] < 0.95


def test_pixels_that_are_not_square():
    y, x = np.indices((50, 100)) - np.array([24.5, 49.5]).reshape(2, 1, 1)
    found = measure_plane(np.hypot(2 * y, x) < 40, pixel=(0.2, 0.1))
    assert list(found) == list(MASK_MEASURES)
    assert found["mask_area"] == pytest.approx(np.pi * 4**2, rel=0.01)
    assert found["mask_perimeter"] == pytest.approx(2 * np.pi * 4, rel=0.02)
    assert found["mask_eccentricity"] < 0.15


def test_small_masks_and_flat_pictures_give_no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for mask in (np.eye(1, dtype=bool), np.ones((1, 4), bool), np.ones((3, 3), bool)):
            found = measure_plane(mask, np.zeros(mask.shape))
            assert found["mask_area"] == mask.sum() and found["picture_sd"] == found["picture_entropy"] == 0


def test_table_with_the_picture():
    affine = grid.pixel_to_world(np.diag([0.2, 0.2, 1])) @ grid.grid_to_pixel(0.5, (60, 60))
    ensemble = Ensemble(3, np.stack([ball(12), ball(14)]), affine, "micrometer", 0.5)
    prediction = Prediction(
        {3: ensemble}, image_to_world=np.diag([0.2, 0.2, 1]), image_shape=(120, 120), unit="micrometer"
    )
    y, x = np.indices((120, 120)) - 60.0
    labels = np.where(np.hypot(y, x) < 24, 3, 0)
    table = measure(prediction, 10.0 + labels, labels)
    assert list(table.columns) == ["label", "member", *MEASURES, *MASK_MEASURES, *PICTURE_MEASURES]
    assert table["mask_area"].to_numpy() == pytest.approx(np.pi * 4.8**2, rel=0.02)
    assert table["picture_mean"].tolist() == [13, 13]
    assert table.attrs["columns"]["mask_area"].startswith("micrometer^2: ")
    assert table.attrs["columns"]["picture_mean"].startswith("grey value: ")
    assert "picture_mean" not in measure(prediction, labels=labels)
    summary = measure_cells(prediction, table)
    assert summary["mask_area_sd"][0] == pytest.approx(0, abs=1e-9) and "harmonic_2_mean" in summary
    with pytest.raises(InputError, match="shape"):
        measure(prediction, labels=labels[:50])
    with pytest.raises(InputError, match="no cell 3"):
        measure(prediction, labels=labels // 3)
    with pytest.raises(InputError, match="The picture needs labels"):
        measure(prediction, image=labels)
    with pytest.raises(InputError, match="no set"):
        measure(prediction, set="all")  # type: ignore[arg-type]


def test_a_sheared_picture_has_the_mask_area_of_its_world():
    """A pixel of a sheared picture is a parallelogram: its area is less than the product of its sides."""
    to_world = np.array([[0.2, 0.15, 0], [0, 0.2, 0], [0, 0, 1]])
    affine = grid.pixel_to_world(to_world) @ grid.grid_to_pixel(0.5, (60, 60))
    prediction = Prediction(
        {1: Ensemble(1, ball(12)[None], affine)}, image_to_world=to_world, image_shape=(120, 120)
    )
    labels = np.zeros((120, 120), int)
    labels[40:80, 40:80] = 1
    table = measure(prediction, labels=labels)
    assert table["mask_area"].tolist() == pytest.approx([40 * 40 * 0.2 * 0.2])
