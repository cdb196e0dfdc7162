"""What members agree on, their modes, and files that give the same ensemble back."""

import json
import re
import warnings
import zipfile

import numpy as np
import pytest
import tifffile
from support.geometry import ball

from napari_dispr import grid
from napari_dispr.errors import InputError
from napari_dispr.planes import KnownPlane
from napari_dispr.shapes.ensemble import MODE_DISTANCE, Ensemble, pairwise_iou, without_debris
from napari_dispr.shapes.facts import CellFacts
from napari_dispr.shapes.section import Section
from napari_dispr.stereology import Sizes

Z, Y, X = np.indices(grid.SHAPE, dtype=np.float32)


def ensemble_of(*shapes, **fields):
    return Ensemble(label=7, signed_distance=np.stack(shapes), **{"grid_to_world": np.eye(4), **fields})


def rotated_affine():
    """0.2 um voxels, turned by 30 degrees in the plane, somewhere in a field."""
    angle = np.deg2rad(30)
    affine = np.eye(4)
    affine[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    affine[:3, :3] *= 0.2
    affine[:3, 3] = -6.4, 20, 30
    return affine


def test_members_occupancy_and_consensus():
    ensemble = ensemble_of(ball(8), ball(12), ball(16))
    assert ensemble.members.dtype == bool and ensemble.members.shape == (3, 64, 64, 64)
    assert ensemble.occupancy.dtype == np.float32
    assert ensemble.occupancy[32, 31, 31] == 1 and ensemble.occupancy[0, 0, 0] == 0
    np.testing.assert_array_equal(ensemble.consensus, ball(12) > 0)
    assert ensemble.occupancy[32, 31, 31 + 14] == np.float32(1 / 3)


def test_half_of_the_members_is_enough_for_the_consensus():
    np.testing.assert_array_equal(ensemble_of(ball(8), ball(12)).consensus, ball(12) > 0)


def test_modes_are_the_groups_of_similar_members_most_populous_first():
    left, right = (32, 31.5, 20), (32, 31.5, 44)
    ensemble = ensemble_of(ball(8, left), ball(9, right), ball(9, left), ball(8.5, right), ball(8.4, right))
    assert ensemble.modes == [(1, 3, 4), (0, 2)]


def test_modes_of_equal_size_come_in_the_order_of_their_members():
    ensemble = ensemble_of(ball(8, (32, 32, 20)), ball(8, (32, 32, 44)))
    assert ensemble.modes == [(0,), (1,)]


@pytest.mark.parametrize(("offset", "count"), [(2, 1), (8, 2)])
def test_members_split_where_they_share_less_than_half(offset, count):
    first, second = ball(10), ball(10, (32, 31.5, 31.5 + offset))
    ensemble = ensemble_of(first, second)
    iou = ((first > 0) & (second > 0)).sum() / ((first > 0) | (second > 0)).sum()
    assert (1 - iou <= MODE_DISTANCE) == (count == 1)
    assert len(ensemble.modes) == count


def test_one_member_is_one_mode_and_empty_members_are_alike():
    assert ensemble_of(ball(8)).modes == [(0,)]
    nothing = np.full(grid.SHAPE, -5.0)
    assert ensemble_of(nothing, ball(8), nothing).modes == [(0, 2), (1,)]
    assert not ensemble_of(nothing).consensus.any()


def test_ambiguity_is_the_mean_over_pairs():
    left, right = ball(8, (32, 32, 20)), ball(8, (32, 32, 44))
    assert ensemble_of(left, right).ambiguity == 1
    assert ensemble_of(left, left, left).ambiguity == 0
    assert ensemble_of(left, left, right).ambiguity == pytest.approx(2 / 3)
    assert np.isnan(ensemble_of(left).ambiguity)
    near = ball(8, (32, 32, 22))
    iou = ((left > 0) & (near > 0)).sum() / ((left > 0) | (near > 0)).sum()
    assert ensemble_of(left, near).ambiguity == pytest.approx(1 - iou)


def test_pairwise_iou_is_exact():
    rng = np.random.default_rng(0)
    members = rng.random((3, 20, 20, 20)) > 0.4
    iou = pairwise_iou(members)
    for i in range(3):
        for j in range(3):
            assert iou[i, j] == (members[i] & members[j]).sum() / (members[i] | members[j]).sum()


def test_npz_gives_the_same_ensemble_back_to_the_last_bit(tmp_path):
    rng = np.random.default_rng(3)
    shapes = [ball(9) + rng.normal(0, 1e-3, grid.SHAPE) for _ in range(2)]
    ensemble = ensemble_of(*shapes, grid_to_world=rotated_affine(), unit="micrometer", zoom=0.73)
    ensemble.save_npz(tmp_path / "7.npz")
    again = Ensemble.load_npz(tmp_path / "7.npz")
    assert again.signed_distance.dtype == np.float32
    np.testing.assert_array_equal(again.signed_distance, ensemble.signed_distance)
    np.testing.assert_array_equal(again.grid_to_world, ensemble.grid_to_world)
    assert (again.label, again.unit, again.zoom) == (7, "micrometer", 0.73)
    with np.load(tmp_path / "7.npz", allow_pickle=False) as file:
        assert file["signed_distance"].dtype == np.float16
    with zipfile.ZipFile(tmp_path / "7.npz") as archive:
        (entry,) = [one for one in archive.infolist() if one.filename == "signed_distance.npy"]
        assert entry.compress_size < 0.95 * entry.file_size
        assert {one.date_time[0] for one in archive.infolist()} == {1980}, "the same bytes at any time"
    # Rounding to half precision moves no surface by more than a thousandth of a voxel.
    near = np.abs(shapes[0]) < 1
    assert np.abs(ensemble.signed_distance[0] - shapes[0])[near].max() < 1e-3


@pytest.mark.parametrize(
    "damage", ["missing", "text", "cut", "flipped", "foreign", "wrong shape", "pickle", "bomb"]
)
def test_a_file_that_is_no_ensemble_is_named_in_one_sentence(tmp_path, damage):
    path = tmp_path / "7.npz"
    ensemble_of(ball(9)).save_npz(path)
    whole = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "text":
        path.write_text("not this")
    elif damage == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    elif damage == "flipped":
        with zipfile.ZipFile(path) as file:
            start = file.getinfo("signed_distance.npy").header_offset + 100
        path.write_bytes(
            whole[:start] + bytes(b ^ 255 for b in whole[start : start + 50]) + whole[start + 50 :]
        )
    elif damage == "foreign":
        np.savez(path, something=np.zeros(3))
    elif damage == "wrong shape":
        np.savez(
            path, label=7, signed_distance=np.zeros((64, 64, 64)), grid_to_world=np.eye(4), unit="m", zoom=1
        )
    elif damage == "pickle":
        np.savez(path, label=np.array({}, dtype=object))
    elif damage == "bomb":
        np.savez_compressed(path, signed_distance=np.zeros((300, *grid.SHAPE), "u1"))
    with pytest.raises(InputError, match=re.escape("7.npz")) as caught:
        Ensemble.load_npz(path)
    assert str(caught.value).count(".") == 2  # one sentence, and the dot in the file's name


@pytest.mark.parametrize("name", ["label", "zoom", "numbers", "known_scale", "plane_depths", "sizes"])
def test_numbers_of_a_file_that_are_not_real_are_refused(tmp_path, name):
    plane = np.ones((64, 64), np.float32)
    known = Section(plane, None, 1.0, (KnownPlane(4.0, plane, None),), sizes=Sizes(2.0, 0.1, 0.0, 0.2))
    ensemble_of(ball(9), section=known).save_npz(path := tmp_path / "7.npz")
    with np.load(path) as file:
        arrays = dict(file)
    np.savez(path, **{**arrays, name: arrays[name] + 1j})
    for read in (Ensemble.load_npz, CellFacts.read):
        with warnings.catch_warnings(action="ignore"), pytest.raises(InputError, match=re.escape("7.npz")):
            read(path)


@pytest.mark.parametrize("members", [1, 3])
def test_tiff_is_ome_with_members_as_time_and_physical_sizes(tmp_path, members):
    ensemble = ensemble_of(
        *[ball(8 + i) for i in range(members)], grid_to_world=rotated_affine(), unit="micrometer"
    )
    path = tmp_path / "7.ome.tif"
    ensemble.save_tiff(path, {"model": "red-blood-cell", "seed": 3})
    image = tifffile.imread(path, squeeze=False)
    with tifffile.TiffFile(path) as file:
        assert file.is_ome
        series = file.series[0]
        assert series.get_axes(squeeze=False).startswith("TZ")
        xml = file.ome_metadata
    np.testing.assert_array_equal(image.reshape(members, 64, 64, 64), ensemble.members)
    assert image.shape[:2] == (members, 64) and image.dtype == np.uint8 and image.max() == 1
    (pixels,) = (tifffile.xml2dict(xml)["OME"]["Image"]["Pixels"],)
    for axis in "XYZ":
        assert pixels[f"PhysicalSize{axis}"] == pytest.approx(0.2)
        assert pixels[f"PhysicalSize{axis}Unit"] == "µm"
    description = json.loads(tifffile.xml2dict(xml)["OME"]["Image"]["Description"])
    assert description["model"] == "red-blood-cell" and description["seed"] == 3 and description["label"] == 7
    np.testing.assert_array_equal(description["grid_to_world"], ensemble.grid_to_world)


@pytest.mark.parametrize("what", ["consensus", "occupancy"])
def test_tiff_of_consensus_and_occupancy(tmp_path, what):
    ensemble = ensemble_of(ball(8), ball(10), ball(12), grid_to_world=rotated_affine(), unit="micrometer")
    ensemble.save_tiff(tmp_path / "7.ome.tif", {"seed": 3}, what)
    with tifffile.TiffFile(tmp_path / "7.ome.tif") as file:
        assert file.series[0].axes == "ZYX"
        np.testing.assert_array_equal(file.asarray(), getattr(ensemble, what))
        image = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]
    assert image["Pixels"]["Type"] == {"consensus": "uint8", "occupancy": "float"}[what]
    assert image["Pixels"]["PhysicalSizeZ"] == pytest.approx(0.2)
    assert image["Name"] == f"cell 7: {what}" and json.loads(image["Description"])["content"] == what


def test_tiff_says_where_the_first_voxel_lies(tmp_path):
    ensemble = ensemble_of(ball(8), grid_to_world=rotated_affine(), unit="micrometer")
    ensemble.save_tiff(tmp_path / "7.ome.tif")
    with tifffile.TiffFile(tmp_path / "7.ome.tif") as file:
        planes = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]["Pixels"]["Plane"]
    for axis, place in zip("ZYX", ensemble.grid_to_world[:3, 3], strict=True):
        assert planes[0][f"Position{axis}"] == pytest.approx(place)
    assert planes[5]["PositionZ"] - planes[4]["PositionZ"] == pytest.approx(0.2)
    assert planes[5]["PositionZUnit"] == "µm" and len(planes) == 64


@pytest.mark.parametrize(("unit", "written"), [("pixel", "pixel"), ("parsec", "reference frame")])
def test_tiff_names_only_units_that_ome_knows(tmp_path, unit, written):
    ensemble_of(ball(8), unit=unit).save_tiff(tmp_path / "7.ome.tif")
    with tifffile.TiffFile(tmp_path / "7.ome.tif") as file:
        image = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]
    assert image["Pixels"]["PhysicalSizeZUnit"] == written
    assert json.loads(image["Description"])["unit"] == unit


@pytest.mark.parametrize(
    "distance",
    [
        np.zeros((64, 64, 64)),
        np.zeros((0, 64, 64, 64)),
        np.zeros((1, 64, 64, 32)),
        np.full((1, 64, 64, 64), np.nan),
    ],
)
def test_what_is_no_ensemble_is_refused(distance):
    with pytest.raises(ValueError):
        Ensemble(label=1, signed_distance=distance, grid_to_world=np.eye(4))
    with pytest.raises(ValueError, match="grid_to_world"):
        ensemble_of(ball(8), grid_to_world=np.eye(3))


def test_specks_go_and_parts_of_the_cell_stay():
    z, y, x = np.indices(grid.SHAPE)

    def ball(centre, radius):
        return radius - np.sqrt((z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2)

    body, second = ball((32, 20, 20), 12), ball((12, 46, 46), 8)
    at_the_plane, speck = ball((32, 50, 20), 2), ball((55, 10, 55), 2)
    kept = np.maximum.reduce([body, second, at_the_plane])
    drawn = np.maximum(kept, speck).astype(np.float32)
    cleaned = without_debris(drawn)
    np.testing.assert_array_equal(cleaned > 0, kept > 0)
    assert (cleaned != drawn).sum() == (speck > 0).sum()
    np.testing.assert_array_equal(without_debris(cleaned), cleaned)
    empty = np.full(grid.SHAPE, -1, np.float32)
    np.testing.assert_array_equal(without_debris(empty), empty)
