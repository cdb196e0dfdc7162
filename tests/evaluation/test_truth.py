"""Errors against a known shape: all definitions, on shapes whose errors are computed by hand."""

import numpy as np
import pytest
import trimesh

from napari_dispr import grid
from napari_dispr.evaluation.truth import (
    AGREEMENTS,
    COMPARED,
    TOGETHER,
    Truth,
    compared_by,
    measured,
    surface_distances,
    surface_points,
)
from napari_dispr.shapes.shapr_set import gaussian_curvature_within

Z, Y, X = np.indices(grid.SHAPE, dtype=np.float32)


def ball(radius, centre=(32, 32, 32)):
    return (Z - centre[0]) ** 2 + (Y - centre[1]) ** 2 + (X - centre[2]) ** 2 < radius**2


def box(z, y, x, at=(20, 20, 20)):
    shape = np.zeros(grid.SHAPE, dtype=bool)
    shape[at[0] : at[0] + z, at[1] : at[1] + y, at[2] : at[2] + x] = True
    return shape


def errors_of(shape, obj, **options):
    truth = Truth(obj, obj[grid.IMAGED_PLANE], **options)
    return truth.errors(shape, measured(shape, truth.definitions))


def test_a_shape_against_itself_has_no_error():
    shape = ball(11) | box(8, 20, 30)
    errors = errors_of(shape, shape)
    assert errors.keys() == {*COMPARED, *AGREEMENTS}
    one = {"iou", "dice", "imaged_plane_iou"}
    assert errors == {name: float(name in one) for name in errors}


def test_boxes_by_hand():
    """A box of 20 x 24 x 16 voxels drawn as one of 22 x 24 x 16: two more planes on one side."""
    true, drawn = box(20, 24, 16), box(22, 24, 16)
    errors = errors_of(drawn, true, voxel_size=0.5)
    assert (errors["volume"], errors["signed_volume"]) == pytest.approx((0.1, 0.1))
    assert errors["iou"] == pytest.approx(1 / 1.1) and errors["dice"] == pytest.approx(2 / 2.1)
    assert errors["imaged_plane_iou"] == 1

    def shell(z, y, x):
        return z * y * x - (z - 2) * (y - 2) * (x - 2)

    assert errors["surface_voxel"] == pytest.approx(shell(22, 24, 16) / shell(20, 24, 16) - 1)

    def area(z, y, x):
        """Of the mesh: faces between the outermost voxel centres, edges cut off at 45 degrees, corners."""
        a, b, c = z - 1, y - 1, x - 1
        return 2 * (a * b + b * c + c * a) + 4 * (a + b + c) / np.sqrt(2) + np.sqrt(3)

    assert errors["surface_mesh"] == pytest.approx(area(22, 24, 16) / area(20, 24, 16) - 1, rel=1e-3)
    # The smoothed surface of a box is that of the box, with its edges rounded.
    exact = (22 * 24 + 24 * 16 + 16 * 22) / (20 * 24 + 24 * 16 + 16 * 20) - 1
    assert errors["surface_area"] == pytest.approx(exact, abs=0.01)
    # Only the face that moved is away, by two voxels of 0.5. Next to its edges the sides are nearer: half a
    # voxel to the side, and half or one and a half along it.
    one, two = np.hypot(0.5, 0.5), np.hypot(0.5, 1.5)
    from_drawn = 24 * 16 * 2 + 2 * (24 + 16) * (one + two)
    from_true = (24 * 16 - 22 * 14) * one + (22 * 14 - 20 * 12) * two + 20 * 12 * 2
    points = sum(2 * (z * y + y * x + x * z) for z, y, x in ((20, 24, 16), (22, 24, 16)))
    assert errors["surface_distance"] == pytest.approx(0.5 * (from_drawn + from_true) / points, rel=1e-4)
    assert errors["hausdorff_95"] == pytest.approx(0.5 * 2)


def test_two_balls_about_one_centre():
    small, large = ball(12), ball(18)
    errors = errors_of(small, large)
    ratio = np.count_nonzero(small) / np.count_nonzero(large)
    assert errors["volume"] == -errors["signed_volume"] == pytest.approx(1 - ratio)
    assert errors["iou"] == pytest.approx(ratio) and errors["dice"] == pytest.approx(2 * ratio / (1 + ratio))
    assert errors["surface_area"] == pytest.approx(1 - (12 / 18) ** 2, abs=0.01)
    assert errors["surface_mesh"] == pytest.approx(1 - (12 / 18) ** 2, abs=0.02)
    assert errors["curvature"] == pytest.approx(18 / 12 - 1, abs=0.02)
    assert errors["surface_distance"] == pytest.approx(6, abs=0.2)
    assert errors["hausdorff_95"] == pytest.approx(6, abs=0.5)


def test_a_moved_ball_has_the_same_measures_but_agrees_less():
    true, moved = ball(14), ball(14, (32, 32, 38))
    errors = errors_of(moved, true, definitions="shapr")
    assert all(errors[name] == pytest.approx(0, abs=1e-6) for name in compared_by("shapr"))
    # Two balls of radius r, d apart, share pi (4 r + d) (2 r - d)^2 / 12.
    shared = np.pi * (4 * 14 + 6) * (2 * 14 - 6) ** 2 / 12
    volume = 4 / 3 * np.pi * 14**3
    assert errors["iou"] == pytest.approx(shared / (2 * volume - shared), abs=0.01)
    assert errors["dice"] == pytest.approx(shared / volume, abs=0.01)
    # A point whose normal is at the angle t to the way is |sqrt(r^2 + d^2 + 2 r d cos t) - r| away.
    away = np.abs(np.sqrt(14**2 + 6**2 + 2 * 14 * 6 * np.linspace(-1, 1, 10_001)) - 14)
    assert errors["surface_distance"] == pytest.approx(away.mean(), rel=0.05)
    assert errors["hausdorff_95"] == pytest.approx(np.percentile(away, 95), abs=0.4)


def test_surfaces_that_a_plane_moved():
    slab = np.zeros(grid.SHAPE, dtype=bool)
    slab[:20] = True
    moved = np.zeros(grid.SHAPE, dtype=bool)
    moved[:23] = True
    points = [surface_points(shape) for shape in (slab, moved)]
    # The slab is closed where the grid ends.
    assert [p[:, 0].min() for p in points] == [-0.5, -0.5] and [p[:, 0].max() for p in points] == [19.5, 22.5]
    tops = [p[p[:, 0] == p[:, 0].max()] for p in points]
    assert surface_distances(*tops) == (3, 3)
    assert np.isnan(surface_distances(points[0], surface_points(slab & ~slab))).all()


def test_measures_of_ours_are_those_of_the_smoothed_surface():
    values = measured(ball(15), "ours")
    assert values.keys() == compared_by("ours").keys() == {"volume", "surface_area", "roughness", "curvature"}
    assert values["surface_area"] == pytest.approx(4 * np.pi * 15**2, rel=0.01)
    assert values["curvature"] == pytest.approx(1 / 15, rel=0.01)
    assert values["roughness"] < 0.1


def test_curvature_of_the_notebooks_is_the_mean_measure_within_the_tangent_sphere():
    assert gaussian_curvature_within(ball(12)) == pytest.approx(0.6, abs=0.05)
    assert gaussian_curvature_within(np.zeros(grid.SHAPE, dtype=bool)) == 0
    shape = ball(9, (30, 32, 32)) | ball(6, (40, 32, 34)) | box(6, 6, 25, (28, 25, 20))
    from skimage.measure import marching_cubes

    vertices, faces, _, _ = marching_cubes(shape.astype(np.float32), 0.5, gradient_direction="ascent")
    mesh = trimesh.Trimesh(vertices, faces, process=False)
    start = mesh.center_mass
    down = -mesh.face_normals[np.linalg.norm(mesh.triangles_center - start, axis=1).argmin()]
    # The largest sphere that goes through the start, by halving.
    low, high = 0.0, 100.0
    for _ in range(60):
        radius = (low + high) / 2
        empty = (np.linalg.norm(mesh.vertices - (start + radius * down), axis=1) >= radius - 1e-9).all()
        low, high = (radius, high) if empty else (low, radius)
    expected = trimesh.curvature.discrete_gaussian_curvature_measure(mesh, mesh.vertices, low).mean()
    assert gaussian_curvature_within(shape) == pytest.approx(expected, rel=1e-3)


def test_nothing_agrees_with_nothing():
    errors = errors_of(np.zeros(grid.SHAPE, dtype=bool), ball(10))
    assert all(errors[name] == 1 for name in COMPARED)
    assert errors["signed_volume"] == -1
    assert errors["iou"] == errors["dice"] == errors["imaged_plane_iou"] == 0
    assert np.isnan(errors["surface_distance"]) and np.isnan(errors["hausdorff_95"])


def test_the_estimate_is_the_mean_of_the_measures():
    truth = Truth(ball(12), ball(12)[32], "shapr")
    members = np.stack([ball(10), ball(14)])
    values = [measured(member, "shapr") for member in members]
    found = truth.together(members, {name: [value[name] for value in values] for name in values[0]})
    volumes = [np.count_nonzero(shape) for shape in (*members, ball(12))]
    assert found["estimate_volume"] == np.mean(volumes[:2]) and found["true_volume"] == volumes[2]
    assert found["error_volume"] == pytest.approx(abs(np.mean(volumes[:2]) / volumes[2] - 1))
    # Too small and too large: each is further off than both together.
    assert found["error_volume"] < min(
        truth.errors(m, v)["volume"] for m, v in zip(members, values, strict=True)
    )
    assert found["consensus_iou"] == pytest.approx(volumes[2] / volumes[1])  # half of two members hold it
    apart = [1 - volumes[0] / volumes[2], 1 - volumes[2] / volumes[1]]
    assert found["energy_score"] == pytest.approx(np.mean(apart) - (1 - volumes[0] / volumes[1]) / 2)
    assert TOGETHER.keys() <= found.keys()
