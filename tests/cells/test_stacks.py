"""Cells cut from stacks: pictures as Predict crops them, shapes as they are, what is left out and why."""

import tracemalloc

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion

from napari_dispr import grid
from napari_dispr.cells.cropping import Scaling, check_fields, crop_cell, crop_cells
from napari_dispr.cells.stacks import CutCells, Stack, cut_stacks
from napari_dispr.errors import InputError
from napari_dispr.shapes.morphometry import iou
from napari_dispr.signed_distance import crossings
from napari_dispr.synthesis.stacks import simulate_stack

Spacing = tuple[float, float, float]


def ellipsoid(
    spacing: Spacing,
    half: tuple[float, float, float] = (5.0, 5.0, 5.0),
    size: float = 18.0,
    centre: tuple[float, float, float] = (9.2, 8.9, 9.1),
) -> NDArray[np.bool_]:
    """Voxels whose centre is in an ellipsoid; all lengths in micrometer."""
    axes = [np.arange(round(size / step)) * step for step in spacing]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    parts = ((p - c) / h for p, c, h in zip((z, y, x), centre, half, strict=True))
    return np.asarray(sum(part**2 for part in parts) < 1)


def box(*sides: slice, shape: tuple[int, int, int] = (24, 60, 60)) -> NDArray[np.uint8]:
    labels = np.zeros(shape, np.uint8)
    labels[sides] = 1
    return labels


def sections_agree(cut: CutCells, least: float) -> bool:
    pairs = [
        (cell.obj[grid.IMAGED_PLANE] > 127, cell.mask > 0.5) for cell in cut.cells if cell.obj is not None
    ]
    assert len(pairs) == len(cut.cells)
    return all(iou(*pair) >= least for pair in pairs)


@pytest.fixture(scope="module")
def stack() -> Stack:
    return simulate_stack(14, (34, 200, 200), seed=3)


# --- masks and images --------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, None])
def test_mask_and_image_are_those_that_predict_crops(stack: Stack, dtype: type | None) -> None:
    image = None if dtype is None or stack.image is None else (stack.image // 4).clip(0, 255).astype(dtype)
    cut = cut_stacks([Stack("nuclei", image, stack.labels, stack.spacing, stack.unit)])
    assert len(cut.cells) >= 10
    for cell in cut.cells:
        label = int(cell.name.removeprefix("nuclei-"))
        slices = np.flatnonzero((stack.labels == label).any(axis=(1, 2)))
        z = int(slices[(len(slices) - 1) // 2])
        # Line by line what iter_predict does at scale "physical".
        picture, labels = check_fields(None if image is None else image[z], stack.labels[z])
        crops, _ = crop_cells(
            picture, labels, [label], Scaling("physical", 50.0, stack.spacing[1], cut.voxel_size)
        )
        np.testing.assert_array_equal(cell.mask, crops[0].mask)
        if cell.image is None:
            assert image is None
        else:
            assert crops[0].image is not None and cell.image.min() >= 0 and cell.image.max() <= 1
            inside = crops[0].mask > 0
            np.testing.assert_array_equal(cell.image[inside], crops[0].image[inside])


def test_pixels_that_are_not_square_are_made_so() -> None:
    """As Predict does it."""
    spacing = (1.0, 0.6, 0.3)
    labels = ellipsoid(spacing, (4.0, 3.0, 6.0)).astype(np.uint8)
    y, x = np.indices(labels.shape[1:])
    image = np.broadcast_to(20 + 2 * y + x, labels.shape).astype(np.uint8)
    (cell,) = cut_stacks([Stack("a", image, labels, spacing)], voxel_size=0.25).cells
    mask = cell.mask > 0.5
    height, width = (np.ptp(np.flatnonzero(mask.any(axis=axis))) + 1 for axis in (1, 0))
    assert width == pytest.approx(12 / 0.25, abs=2) and height == pytest.approx(6 / 0.25, abs=3)
    assert cell.image is not None
    sides = grid.pixel_sides(np.diag(spacing[1:]))
    crop = crop_cell(image[9], labels[9], 1, zoom=0.45 / 0.25, sides=sides)
    assert crop.image is not None
    np.testing.assert_array_equal(cell.mask, crop.mask)
    np.testing.assert_allclose(cell.image[mask], crop.image[mask], atol=1e-6)
    within = binary_erosion(mask, iterations=3)  # the outermost pixels are not mixed with those outside
    slopes = [np.gradient(cell.image * 255, axis=axis)[within].mean() for axis in (0, 1)]
    np.testing.assert_allclose(slopes, (2 * 0.25 / 0.6, 0.25 / 0.3), rtol=0.05)
    assert cell.obj is not None
    assert iou(cell.obj[grid.IMAGED_PLANE] > 127, mask) >= 0.999


def test_pixels_100_times_as_long_as_wide_take_no_more_memory() -> None:
    labels = box(slice(3, 9), slice(190, 194), slice(50, 350), shape=(12, 400, 400))
    tracemalloc.start()
    (cell,) = cut_stacks([Stack("a", 100 * labels, labels, (1.0, 1.0, 0.01))]).cells
    assert tracemalloc.get_traced_memory()[1] < 60e6  # a slice with square pixels would have 130 MB
    tracemalloc.stop()
    height, width = (np.ptp(np.flatnonzero((cell.mask > 0.5).any(axis=axis))) + 1 for axis in (1, 0))
    assert height / width == pytest.approx(4 / 3, abs=0.1)


def test_pixels_that_are_nearly_square_count_as_square() -> None:
    labels = ellipsoid((1.0, 0.3, 0.3)).astype(np.uint8)
    cut = cut_stacks([Stack("a", None, labels, (1.0, 0.3, 0.3024))], voxel_size=0.25)
    slices = np.flatnonzero(labels.any(axis=(1, 2)))
    middle = int(slices[(len(slices) - 1) // 2])
    crop = crop_cell(None, labels[middle], 1, zoom=0.3012 / 0.25)
    np.testing.assert_array_equal(cut.cells[0].mask, crop.mask)


# --- shapes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spacing", "error"),
    [((0.3, 0.3, 0.3), 0.01), ((0.1, 0.2, 0.2), 0.01), ((1.0, 0.3, 0.3), 0.015), ((1.0, 0.3, 0.25), 0.015)],
)
@pytest.mark.parametrize("half", [(5.0, 5.0, 5.0), (3.5, 6.0, 4.5), (6.0, 4.0, 5.0)])
def test_volume_is_that_of_the_label(
    spacing: Spacing, error: float, half: tuple[float, float, float]
) -> None:
    label = ellipsoid(spacing, half)
    cut = cut_stacks([Stack("a", None, label.astype(np.uint8), spacing, "micrometer")])
    (cell,) = cut.cells
    assert cell.obj is not None and cell.obj.dtype == np.uint8 and cell.obj.shape == grid.SHAPE
    volume = np.count_nonzero(cell.obj > 127) * cut.voxel_size**3
    assert volume == pytest.approx(label.sum() * np.prod(spacing), rel=error)
    assert volume == pytest.approx(4 / 3 * np.pi * np.prod(half), rel=error + 0.01)
    assert sections_agree(cut, 0.999)


def test_surface_of_a_ball_has_no_terraces() -> None:
    spacing, voxel = (1.0, 0.25, 0.25), 0.25
    (cell,) = cut_stacks(
        [Stack("a", None, ellipsoid(spacing).astype(np.uint8), spacing)], voxel_size=voxel
    ).cells
    assert cell.obj is not None
    points = crossings(cell.obj.astype(np.float32), 127.5)
    # The slice is at z = 9, the ball's middle at 9.2; the box's centre is at most half a pixel off.
    middle = np.array([grid.IMAGED_PLANE + 0.2 / voxel, grid.CENTRE, grid.CENTRE])
    radius = np.linalg.norm(points - middle, axis=1)
    assert radius.mean() == pytest.approx(5 / voxel, abs=0.3)
    # The distance to the surface of all slices gives 0.34: flat steps of four voxels.
    assert radius.std() < 0.31


def test_objects_are_signed_distances_in_voxels() -> None:
    (cell,) = cut_stacks(
        [Stack("a", None, ellipsoid((0.2, 0.2, 0.2)).astype(np.uint8), (0.2, 0.2, 0.2))]
    ).cells
    assert cell.obj is not None
    edge = np.abs(np.gradient(cell.obj.astype(float))).max(axis=0)
    assert np.percentile(edge[(cell.obj > 60) & (cell.obj < 195)], 95) < 255  # one voxel wide, not a step
    assert 100 < np.count_nonzero((cell.obj > 0) & (cell.obj < 255)) / cell.mask.sum() * 100 < 700


def test_up_is_up_and_the_imaged_plane_is_where_the_slice_was() -> None:
    spacing = (0.5, 0.3, 0.3)
    z = np.arange(40)[:, None, None]
    y, x = np.indices((70, 70)) - 34.5
    # A cone that widens with z from slice 8 to slice 31.
    labels = ((np.hypot(y, x) < 4 + (z - 8) * 0.8) & (z >= 8) & (z <= 31)).astype(np.uint8)
    for plane in (12, 20, 28):
        cut = cut_stacks([Stack("a", None, labels, spacing)], plane=plane, voxel_size=0.4)
        (cell,) = cut.cells
        assert cell.obj is not None and cut.plane == plane and sections_agree(cut, 0.999)
        for other in range(10, 31, 4):
            index = grid.IMAGED_PLANE + (other - plane) * spacing[0] / cut.voxel_size
            if abs(index - round(index)) < 1e-6 and 0 <= index < grid.SIZE:
                area = np.count_nonzero(cell.obj[round(index)] > 127) * cut.voxel_size**2
                assert area == pytest.approx(labels[other].sum() * 0.3**2, rel=0.05)


def test_holes_parts_and_slices_without_the_label_stay() -> None:
    labels = box(slice(4, 20), slice(10, 50), slice(10, 50))
    labels[:, 25:35, 25:35] = 0  # a hole along z
    labels[11:13] = 0  # the middle slices are missing
    (cell,) = cut_stacks([Stack("a", None, labels)]).cells
    assert cell.obj is not None and cell.obj[grid.IMAGED_PLANE, 32, 32] == 0
    assert cell.mask[32, 32] == 0 and cell.mask.max() == 1
    inside = np.flatnonzero((cell.obj > 127).any(axis=(1, 2)))
    assert (np.diff(inside) > 1).sum() == 1
    assert inside[0] < grid.IMAGED_PLANE < inside[-1]


def test_a_part_that_ends_goes_on_for_about_half_the_way() -> None:
    spacing = (2.0, 0.25, 0.25)
    labels = np.zeros((14, 80, 80), np.uint8)
    labels[3:11, 20:60, 20:36] = 1
    labels[3:7, 20:60, 40:60] = 1  # ends in the middle of the cell
    voxel = 0.4
    (cell,) = cut_stacks([Stack("a", None, labels, spacing)], voxel_size=voxel).cells
    assert cell.obj is not None
    # The imaged slice is the sixth; the last that holds the part the sixth, too.
    column = round(grid.CENTRE + (50 - 39.5) * 0.25 / voxel)
    inside = np.flatnonzero(cell.obj[:, 32, column] > 127)
    beyond = (inside[-1] + 0.5 - grid.IMAGED_PLANE) * voxel / spacing[0]
    assert 0.3 < beyond < 0.8
    assert len(inside) == inside[-1] - inside[0] + 1


# --- the voxel size ---------------------------------------------------------------------------------


def test_voxel_size_brings_the_median_mask_to_the_extent() -> None:
    labels = np.zeros((30, 200, 200), np.int32)
    for number, side in enumerate((16, 20, 22, 24, 30), start=1):
        labels[8:22, 20:40, 10 + 36 * (number - 1) :][..., :side] = number
    cut = cut_stacks([Stack("a", None, labels, (1.0, 1.0, 1.0), "micrometer")], extent=44.0)
    assert cut.voxel_size == 0.5 and cut.unit == "micrometer" and len(cut.cells) == 5
    assert cut_stacks([Stack("a", None, labels)], extent=22.0).voxel_size == 1.0


def test_voxel_size_leaves_room_for_high_cells() -> None:
    labels = box(slice(2, 58), slice(20, 30), slice(20, 30), shape=(60, 60, 60))
    cut = cut_stacks([Stack("a", None, labels)])
    assert 28 / 31 <= cut.voxel_size < 1 and len(cut.cells) == 1
    with pytest.raises(InputError, match="1 larger than the grid"):
        cut_stacks([Stack("a", None, labels)], voxel_size=0.5)


def test_stacks_have_one_voxel_size() -> None:
    small, large = (ellipsoid((0.5, 0.3, 0.3), (r,) * 3).astype(np.uint8) for r in (3.0, 6.0))
    stacks = [Stack(name, None, labels, (0.5, 0.3, 0.3)) for name, labels in (("b", small), ("a", large))]
    cut = cut_stacks(stacks, voxel_size=0.3)
    assert [cell.name for cell in cut.cells] == ["b-1", "a-1"] and cut.voxel_size == 0.3
    volumes = [np.count_nonzero(cell.obj > 127) for cell in cut.cells if cell.obj is not None]
    assert volumes[1] == pytest.approx(8 * volumes[0], rel=0.03)


# --- what is left out -------------------------------------------------------------------------------


def test_what_is_left_out_is_counted() -> None:
    labels = np.zeros((30, 120, 120), np.int64)
    labels[8:22, 10:30, 10:30] = 5
    labels[8:22, 0:20, 40:60] = 7  # cut by the first row
    labels[8:22, 40:60, 100:] = 8  # ... by the last column
    labels[:15, 40:60, 40:60] = 9  # ... by the first slice
    labels[10:12, 80:100, 80:100] = 3_000_000  # sparse labels are no problem
    labels[20:26, 34:36, 34:36] = 12
    done: list[tuple[int, int]] = []
    cut = cut_stacks([Stack("a", None, labels)], progress=lambda *count: done.append(count))
    assert [cell.name for cell in cut.cells] == ["a-5"]
    assert cut.left_out == {
        "cut by the border of the stack": 3,
        "in fewer than 3 slices": 1,
        "smaller than 8 voxels of the grid": 1,
    }
    assert done == [(1, 2), (2, 2)]


def test_only_labels_of_the_given_slice_are_taken() -> None:
    labels = np.zeros((30, 120, 60), np.uint8)
    labels[4:14, 10:30, 10:30] = 1
    labels[12:26, 50:70, 10:30] = 2
    cut = cut_stacks([Stack("a", None, labels)], plane=20)
    assert [cell.name for cell in cut.cells] == ["a-2"] and cut.left_out == {"not in slice 20": 1}
    with pytest.raises(InputError, match="2 not in slice 28"):
        cut_stacks([Stack("a", None, labels)], plane=28)


def test_nothing_left_says_why() -> None:
    with pytest.raises(InputError, match=r"No cell of a can be used \(1 cut by the border of the stack\)"):
        cut_stacks([Stack("a", None, box(slice(0, 24), slice(5, 20), slice(5, 20)))])
    with pytest.raises(InputError, match="1 in fewer than 3 slices"):
        cut_stacks([Stack("a", None, box(slice(0, 1), slice(5, 20), slice(5, 20), shape=(1, 60, 60)))])


def test_a_black_cell_is_left_out() -> None:
    labels = box(slice(4, 20), slice(5, 25), slice(5, 25))
    labels[4:20, 30:50, 5:25] = 2
    image = np.where(labels == 2, 200, 0).astype(np.uint8)
    cut = cut_stacks([Stack("a", image, labels)])
    assert [cell.name for cell in cut.cells] == ["a-2"] and cut.left_out == {"without light in the image": 1}


def test_names_are_those_of_files() -> None:
    labels = box(slice(4, 20), slice(5, 25), slice(5, 25))
    assert cut_stacks([Stack("a/b: c ", None, labels)]).cells[0].name == "a_b_ c-1"
    with pytest.raises(InputError, match="two stacks with the name a_b"):
        cut_stacks([Stack("a/b", None, labels), Stack("A:b", None, labels)])


# --- bad input --------------------------------------------------------------------------------------

GOOD = box(slice(4, 20), slice(5, 25), slice(5, 25))
IMAGE = np.arange(GOOD.size, dtype=np.uint16).reshape(GOOD.shape)


@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.int32, np.uint32, np.int64, np.uint64, np.float64])
def test_labels_of_any_whole_numbers(dtype: type) -> None:
    cut = cut_stacks([Stack("a", IMAGE, (GOOD * 100).astype(dtype))])
    assert [cell.name for cell in cut.cells] == ["a-100"]


@pytest.mark.parametrize(
    ("image", "labels", "said"),
    [
        (None, GOOD[4], r"labels of nuclei have the shape \(60, 60\)"),
        (None, GOOD > 0, "labels of nuclei are true or false"),
        (None, np.where(GOOD, np.nan, 0), "labels of nuclei hold NaN"),
        (None, GOOD * 0.5, "labels of nuclei hold fractions"),
        (None, -GOOD.astype(int), "labels of nuclei hold negative"),
        (None, GOOD * 1j, "labels of nuclei have the data type complex128"),
        (None, GOOD * 0, "labels of nuclei are empty"),
        (IMAGE[:, :50], GOOD, r"shape \(24, 50, 60\) and its labels \(24, 60, 60\)"),
        (np.stack([IMAGE] * 3, -1), GOOD, r"shape \(24, 60, 60, 3\)"),
        (np.where(GOOD, np.inf, 0), GOOD, "image of nuclei has NaN"),
        (np.full(GOOD.shape, 3), GOOD, "image of nuclei has the same value"),
        (IMAGE * 1j, GOOD, "image of nuclei has the data type"),
    ],
)
def test_wrong_arrays_are_named(image, labels, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        cut_stacks([Stack("nuclei", image, labels)])
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


@pytest.mark.parametrize("spacing", [(0.0, 1.0, 1.0), (1.0, float("nan"), 1.0), (1.0, 1.0), (1e-3, 1.0, 0.3)])
def test_wrong_spacings_are_named(spacing) -> None:
    with pytest.raises(InputError, match="nuclei: The spacing is"):
        cut_stacks([Stack("nuclei", None, GOOD, spacing)])


def test_wrong_requests() -> None:
    with pytest.raises(InputError, match="no stack"):
        cut_stacks([])
    for plane in ("top", -1, True, 2.0):
        with pytest.raises(InputError, match="plane is"):
            cut_stacks([Stack("a", None, GOOD)], plane=plane)  # type: ignore[arg-type]
    for size in (0.0, -1.0, float("inf")):
        with pytest.raises(InputError, match="voxel size"):
            cut_stacks([Stack("a", None, GOOD)], voxel_size=size)
    with pytest.raises(InputError, match="of a is in pixel and that of b in micrometer"):
        cut_stacks([Stack("a", None, GOOD), Stack("b", None, GOOD, unit="micrometer")])


# --- pictures at all depths ---------------------------------------------------------------------------


@pytest.mark.parametrize("spacing", [(0.5, 0.25, 0.25), (0.9, 0.25, 0.3)])
def test_pictures_at_all_depths_lie_where_the_slices_were(spacing: Spacing) -> None:
    """Each slice has a brightness of its own, and a gradient along x."""
    inside = ellipsoid(spacing)
    z, _, x = np.indices(inside.shape)
    image = (40 + 4 * z + x).astype(np.uint8)
    (cell,) = cut_stacks([Stack("one", image, inside.astype(np.uint8), spacing, "micrometer")]).cells
    assert cell.stack is not None and cell.obj is not None and cell.image is not None
    mask = cell.mask > 0.99
    assert np.abs(cell.stack[grid.IMAGED_PLANE][mask] / 255 - cell.image[mask]).max() < 0.02
    light = np.array([plane[mask].mean() for plane in cell.stack])
    seen = np.flatnonzero(light > 0)
    tall = np.flatnonzero((cell.obj > 127).any(axis=(1, 2)))
    assert abs(seen[0] - tall[0]) <= 2 and abs(seen[-1] - tall[-1]) <= 2
    # Brighter by 4 a slice, as long as both are slices of the cell.
    voxel = cut_stacks([Stack("one", image, inside.astype(np.uint8), spacing, "micrometer")]).voxel_size
    middle = slice(seen[0] + 6, seen[-1] - 6)
    np.testing.assert_allclose(np.diff(light[middle]), 4 * voxel / spacing[0], atol=0.5)
    along = cell.stack[grid.IMAGED_PLANE + 3][31, 24:40].astype(float)
    np.testing.assert_allclose(np.diff(along).mean(), voxel / spacing[2], rtol=0.1)
