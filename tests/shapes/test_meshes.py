"""Surface meshes are closed, lie in their frame and look outwards."""

import numpy as np
import pytest
from scipy import ndimage
from support.geometry import ball

from napari_dispr import grid
from napari_dispr.shapes.meshes import surface_mesh, without_creases

Z, Y, X = np.indices(grid.SHAPE, dtype=np.float32)


def is_closed(mesh):
    return mesh.is_watertight and mesh.is_winding_consistent and mesh.volume > 0


def test_vertices_lie_on_the_zero_level_in_grid_coordinates():
    mesh = surface_mesh(ball(20, (30, 29, 34)))
    radius = np.linalg.norm(mesh.vertices - (30, 29, 34), axis=1)
    # Linear interpolation between voxels is off by at most 1 / (8 R) voxel on a sphere.
    np.testing.assert_allclose(radius, 20, atol=0.01)
    assert is_closed(mesh)


def test_normals_look_outwards():
    mesh = surface_mesh(ball(20, (30, 29, 34)))
    outwards = mesh.triangles_center - (30, 29, 34)
    assert (np.einsum("ij,ij->i", mesh.face_normals, outwards) > 0).all()


def test_affine_puts_the_mesh_into_the_world_even_with_a_mirror():
    affine = np.array([[0.2, 0, 0, -6.4], [0, 0, 0.2, 50], [0, 0.2, 0, 20], [0, 0, 0, 1]])  # swaps y and x
    assert np.linalg.det(affine) < 0
    mesh = surface_mesh(ball(20, (32, 20, 40)), affine)
    np.testing.assert_allclose(mesh.center_mass, (0, 58, 24), atol=1e-3)
    np.testing.assert_allclose(mesh.volume, 4 / 3 * np.pi * 4**3, rtol=2e-3)
    assert is_closed(mesh)


def test_spacing_stretches_the_mesh():
    mesh = surface_mesh(ball(20), (0.5, 0.2, 0.1))
    np.testing.assert_allclose(mesh.extents, (20, 8, 4), rtol=1e-3)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("side", [0, 63])
def test_shape_that_leaves_the_grid_is_closed_half_a_voxel_beyond_its_last_voxel(axis, side):
    centre = [31.5, 31.5, 31.5]
    centre[axis] = side
    mesh = surface_mesh(ball(20, centre))
    assert is_closed(mesh)
    border = -0.5 if side == 0 else 63.5
    assert mesh.bounds[0 if side == 0 else 1][axis] == pytest.approx(border, abs=1e-5)
    # Half a ball and a slice of half a voxel; the rim is cut a little round.
    np.testing.assert_allclose(mesh.volume, 2 / 3 * np.pi * 20**3 + 0.5 * np.pi * 20**2, rtol=5e-3)


def test_a_full_grid_is_a_box():
    mesh = surface_mesh(np.full(grid.SHAPE, 5.0))
    assert is_closed(mesh)
    np.testing.assert_allclose(mesh.bounds, [[-0.5] * 3, [63.5] * 3], atol=1e-5)
    np.testing.assert_allclose(mesh.volume, 64**3, rtol=1e-3)


def test_an_empty_shape_has_no_faces():
    assert not len(surface_mesh(np.full(grid.SHAPE, -5.0)).faces)


def test_a_single_voxel_has_a_mesh():
    level = np.full((5, 5, 5), -0.5)
    level[2, 2, 2] = 0.5
    mesh = surface_mesh(level)
    assert is_closed(mesh)
    np.testing.assert_allclose(mesh.center_mass, (2, 2, 2), atol=1e-6)


def test_zeros_on_voxel_centres_leave_no_hole():
    level = ball(20, (32, 32, 32)).round()  # whole layers of voxels that are exactly 0
    assert (level == 0).sum() > 1000
    assert is_closed(surface_mesh(level))


def test_noise_with_ambiguous_corners_is_closed():
    rng = np.random.default_rng(0)
    level = np.minimum(ndimage.gaussian_filter(rng.normal(size=grid.SHAPE), 0.7), ball(28) / 10)
    mesh = surface_mesh(level)
    assert len(mesh.faces) > 100_000
    assert is_closed(mesh)


def test_a_frame_is_a_spacing_or_an_affine():
    with pytest.raises(ValueError, match="frame"):
        surface_mesh(ball(9), np.eye(3))


def test_a_consensus_of_crossing_shapes_has_no_creases_to_look_at_and_keeps_its_volume():
    discs = [ball(radius=18) - 0.7 * np.abs(np.tensordot(tilt, np.indices((64,) * 3) - 31.5, 1)) for tilt in
             ([1, 0, 0], [0.8, 0.6, 0], [0.8, 0, 0.6])]  # fmt: skip
    majority = surface_mesh(np.sort(discs, axis=0)[1])
    smooth = without_creases(majority)
    sharpest = [np.percentile(mesh.face_adjacency_angles, 99) for mesh in (majority, smooth)]
    assert sharpest[1] < 0.7 * sharpest[0]
    assert smooth.volume == pytest.approx(majority.volume, rel=5e-3) and smooth.is_watertight
    assert not len(without_creases(surface_mesh(np.full((8,) * 3, -1.0))).faces)
