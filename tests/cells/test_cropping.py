"""Crops hold the cell that they were cut from, and nothing else; wrong inputs are said in one sentence."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates

from napari_dispr import grid
from napari_dispr.cells.cropping import Scaling, check_fields, crop_cell, crop_cells, cut_by_border
from napari_dispr.errors import InputError
from napari_dispr.labels import cell_box, cell_boxes
from napari_dispr.shapes.morphometry import iou


def blob(
    shape: tuple[int, int], centre: tuple[float, float], radius: float, seed: int = 0
) -> NDArray[np.bool_]:
    """A smooth, irregular shape."""
    rng = np.random.default_rng(seed)
    y, x = np.indices(shape)
    angle = np.arctan2(y - centre[0], x - centre[1])
    wave = sum(rng.uniform(-0.12, 0.12) * np.cos(k * angle + rng.uniform(0, 6)) for k in (2, 3, 4))
    return np.asarray(np.hypot(y - centre[0], x - centre[1]) < radius * (1 + wave))


def back_to_pixels(mask: NDArray[np.float32], grid_to_pixel: NDArray[np.float64], shape: tuple[int, int]):
    """The crop's mask read at the pixels' centres, by the stored affine alone."""
    pixel = np.indices(shape).reshape(2, -1)
    points = np.stack([np.zeros(pixel.shape[1]), *pixel, np.ones(pixel.shape[1])])
    z, y, x, _ = np.linalg.inv(grid_to_pixel) @ points
    np.testing.assert_allclose(z, grid.IMAGED_PLANE)
    return map_coordinates(mask, [y, x], order=1).reshape(shape) > 0.5


@pytest.mark.parametrize("zoom", [0.31, 0.5, 0.77, 1.0, 1.3, 2.0])
@pytest.mark.parametrize("centre", [(60.0, 75.0), (60.5, 75.5), (61.3, 74.8)])
def test_mask_comes_back_unchanged(zoom: float, centre: tuple[float, float]) -> None:
    labels = np.where(blob((130, 150), centre, 20 / zoom if zoom > 0.4 else 50), 7, 0)
    crop = crop_cell(None, labels, 7, zoom=zoom)
    assert crop.mask.shape == (64, 64) and crop.mask.dtype == np.float32
    assert iou(back_to_pixels(crop.mask, crop.grid_to_pixel, labels.shape), labels == 7) >= 0.97
    area = crop.mask.sum(dtype=float) / zoom**2
    assert area == pytest.approx((labels == 7).sum(), rel=1e-6 if zoom <= 1 else 0.01)


@pytest.mark.parametrize("shape", [(40, 40), (41, 41), (40, 41)])
def test_mask_of_odd_and_even_size_is_centred(shape: tuple[int, int]) -> None:
    labels = np.zeros((80, 90), int)
    labels[13 : 13 + shape[0], 21 : 21 + shape[1]] = 1
    crop = crop_cell(None, labels, 1, zoom=Scaling("auto", 50).zoom(cell_box(labels, 1)))
    np.testing.assert_allclose(crop.mask, crop.mask[::-1, ::-1], atol=1e-6)
    middle = (*grid.MIDDLE, 1)
    np.testing.assert_allclose(
        crop.grid_to_pixel @ middle, (0, 13 + (shape[0] - 1) / 2, 21 + (shape[1] - 1) / 2, 1), atol=1e-9
    )
    assert iou(back_to_pixels(crop.mask, crop.grid_to_pixel, labels.shape), labels == 1) >= 0.97


def test_auto_brings_the_larger_side_to_the_typical_extent() -> None:
    labels = np.zeros((200, 200), int)
    labels[20:140, 30:90] = 5
    zoom = Scaling("auto", 50).zoom(cell_box(labels, 5))
    assert zoom == pytest.approx(50 / 120)
    rows = np.flatnonzero((crop_cell(None, labels, 5, zoom=zoom).mask > 0.5).any(axis=1))
    assert len(rows) == 50


def test_one_pixel_next_to_the_border_is_enough() -> None:
    labels = np.zeros((30, 30), int)
    labels[1:13, 1:9] = 1
    image = np.full((30, 30), 100, np.uint8)
    crop = crop_cell(image, labels, 1, zoom=4.0)
    assert crop.image is not None
    assert iou(back_to_pixels(crop.mask, crop.grid_to_pixel, labels.shape), labels == 1) == 1
    pixel = crop.grid_to_pixel[1:3, 1:3] @ np.indices((64, 64)).reshape(2, -1) + crop.grid_to_pixel[1:3, 3:]
    outside = (pixel < -1.5).any(axis=0).reshape(64, 64)
    assert outside.any() and not crop.mask[outside].any() and not crop.image[outside].any()
    np.testing.assert_allclose(crop.image[crop.mask > 0], 100 / 255, rtol=1e-6)


def test_holes_and_parts_stay() -> None:
    labels = np.zeros((60, 60), int)
    labels[5:25, 5:25] = 3
    labels[11:16, 12:17] = 0
    labels[35:50, 30:48] = 3
    crop = crop_cell(None, labels, 3, zoom=1.2)
    np.testing.assert_array_equal(back_to_pixels(crop.mask, crop.grid_to_pixel, labels.shape), labels == 3)


def test_mask_is_interpolated_when_made_larger() -> None:
    labels = blob((30, 30), (15, 15), 6).astype(int)
    crop = crop_cell(None, labels, 1, zoom=4.0)
    points = crop.grid_to_pixel[1:3, 1:3] @ np.indices((64, 64)).reshape(2, -1) + crop.grid_to_pixel[1:3, 3:]
    expected = map_coordinates(labels.astype(float), points, order=1).reshape(64, 64)
    np.testing.assert_allclose(crop.mask, expected, atol=1e-6)


def test_mask_is_antialiased_when_made_smaller() -> None:
    labels = blob((260, 260), (130, 130), 100).astype(int)
    crop = crop_cell(None, labels, 1, zoom=0.25)
    edge = (crop.mask > 0.02) & (crop.mask < 0.98)
    assert edge.sum() > 80
    assert crop.mask.sum(dtype=float) * 16 == pytest.approx(labels.sum(), rel=1e-5)


@pytest.mark.parametrize("zoom", [0.4, 1.0, 1.7])
def test_neighbours_do_not_reach_the_cell(zoom: float) -> None:
    rng = np.random.default_rng(3)
    image = rng.integers(0, 4096, (80, 80), dtype=np.uint16)
    labels = np.zeros((80, 80), np.uint16)
    labels[25:50, 25:45] = 1
    labels[25:50, 45:70] = 2
    other = np.where(labels == 1, image, 65535 - image).astype(np.uint16)
    a, b = (crop_cell(picture, labels, 1, zoom=zoom) for picture in (image, other))
    c = crop_cell(image, np.where(labels == 1, labels, 0), 1, zoom=zoom)
    assert a.image is not None and b.image is not None and c.image is not None
    assert all(one.image.min() >= 0 and one.image.max() <= 1 for one in (a, b, c))  # the other cell is bright
    np.testing.assert_array_equal(a.image * a.mask, b.image * b.mask)
    np.testing.assert_array_equal(a.image * a.mask, c.image * c.mask)
    assert not np.allclose(a.image, b.image)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32, np.float64])
def test_image_of_any_type_keeps_its_pattern(dtype: type) -> None:
    labels = blob((100, 100), (50, 50), 30).astype(int)
    pattern = gaussian_filter(np.random.default_rng(1).normal(size=(100, 100)), 4)
    pattern = (pattern - pattern.min()) / np.ptp(pattern)
    top = {np.uint8: 255, np.uint16: 65535}.get(dtype, 3000)
    crop = crop_cell((pattern * top).astype(dtype), labels, 1, zoom=0.8)
    points = crop.grid_to_pixel[1:3, 1:3] @ np.indices((64, 64)).reshape(2, -1) + crop.grid_to_pixel[1:3, 3:]
    # The range of 8 bit is what the original divides by; other types go up to the cell's brightest pixel.
    brightest = 1.0 if dtype == np.uint8 else pattern[labels == 1].max()
    expected = map_coordinates(pattern / brightest, points, order=1).reshape(64, 64)
    assert crop.image is not None and crop.image.dtype == np.float32
    inside = crop.mask > 0.99
    assert np.abs(crop.image - expected)[inside].max() < 0.02


def test_physical_scale_and_numbers() -> None:
    box = cell_box(blob((100, 100), (50, 50), 30).astype(int), 1)
    assert Scaling("physical", 50, pixel_size=0.1, voxel_size=0.2).zoom(box) == pytest.approx(0.5)
    assert Scaling(0.9, 50).zoom(box) == 0.9


@pytest.mark.parametrize(
    ("scale", "pixel_size", "voxel_size", "said"),
    [
        ("physical", None, 0.2, "size of a pixel"),
        ("physical", float("nan"), 0.2, "size of a pixel"),
        ("physical", 0.1, None, "voxel size"),
        ("large", 0.1, 0.1, "'large'"),
        (0.0, 0.1, 0.1, "above 0"),
        (float("inf"), 0.1, 0.1, "above 0"),
    ],
)
def test_scales_that_cannot_be_used(scale, pixel_size, voxel_size, said: str) -> None:
    with pytest.raises(InputError, match=said):
        Scaling(scale, 50, pixel_size, voxel_size).zoom(np.s_[0:3, 0:3])


GOOD = np.pad(np.ones((6, 6), np.uint8), 3)
PICTURE = np.arange(144, dtype=np.uint8).reshape(12, 12)


@pytest.mark.parametrize(
    ("image", "labels", "said"),
    [
        (np.dstack([PICTURE] * 3), GOOD, "RGB"),
        (np.dstack([PICTURE] * 4)[None], GOOD, "RGB"),
        (np.stack([PICTURE] * 5), GOOD, "one plane"),
        (PICTURE[:-1], GOOD, "made from this image"),
        (PICTURE * 1j, GOOD, "complex"),
        (np.where(GOOD, np.nan, PICTURE), GOOD * 4, "NaN or infinite values in cells, such as 4: replace"),
        (np.where(GOOD, -np.inf, PICTURE), GOOD, "infinite"),
        (np.full_like(PICTURE, 7), GOOD, "same value"),
        (GOOD * 4.0, GOOD * 4, "the labels themselves"),
        (PICTURE, GOOD * 0.5, "fractions"),
        (PICTURE, np.where(GOOD, 1, np.nan), "NaN"),
        (PICTURE, GOOD * 0, "empty"),
        (PICTURE, -GOOD.astype(int), "negative"),
        (PICTURE, GOOD.astype(str), "whole numbers"),
        (PICTURE, np.dstack([GOOD] * 3), "one plane"),
        (None, np.zeros((0, 0), int), "empty"),
        ("picture.tif", GOOD, "picture is the path picture.tif: read the file first"),
        (PICTURE, Path("masks.tif"), "segmentation is the path masks.tif: read"),
    ],
)
def test_wrong_fields_are_named_in_one_sentence(image, labels, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        check_fields(image, labels)
    text = str(caught.value)
    assert text.endswith(".") and "\n" not in text and ": " in text


def test_only_cells_need_finite_numbers() -> None:
    picture = PICTURE.astype(np.float32)
    gaps = np.where(GOOD, picture, np.resize([np.nan, np.inf, -np.inf], picture.shape))
    crops = [
        crop_cells(*check_fields(image, GOOD), [1], Scaling("auto", 50))[0][0] for image in (picture, gaps)
    ]
    inside = crops[0].mask > 0
    np.testing.assert_array_equal(crops[1].image[inside], crops[0].image[inside])
    assert np.isfinite(crops[1].image).all()


def test_good_fields_pass() -> None:
    image, labels = check_fields(PICTURE[None, :, :, None], GOOD[None].astype(np.float32) * 3)
    assert image is not None
    np.testing.assert_array_equal(image, PICTURE)
    assert labels.dtype.kind == "i" and list(cell_boxes(labels)) == [3]
    assert list(cell_boxes(check_fields(None, GOOD.astype(bool))[1])) == [1]
    np.testing.assert_array_equal(check_fields(PICTURE[:1], GOOD[4:5])[1], GOOD[4:5])


def test_cells_that_cannot_be_cut() -> None:
    labels = np.zeros((100, 100), int)
    labels[0:10, 20:30] = 1
    labels[20:30, 90:100] = 2
    labels[40:90, 5:85] = 4
    labels[15, 20:80] = 5
    assert [label for label in cell_boxes(labels) if cut_by_border(labels, label)] == [1, 2]
    for label in (1, 2):
        with pytest.raises(InputError, match=f"Cell {label} is cut by the border"):
            crop_cell(None, labels, label, zoom=1.0)
    with pytest.raises(InputError, match=r"50 x 80 pixels.* at most 0.8"):
        crop_cell(None, labels, 4, zoom=1.0)
    assert crop_cell(None, labels, 4, zoom=0.8).mask.max() == 1
    wide = np.zeros((10, 102), int)
    wide[3:7, 2:99] = 1
    with pytest.raises(InputError, match="at most") as caught:
        crop_cell(None, wide, 1, zoom=1.0)
    assert crop_cell(None, wide, 1, zoom=float(str(caught.value).split()[-1][:-1])).mask.max() > 0.9
    with pytest.raises(InputError, match="less than a voxel thick"):
        crop_cell(None, labels, 5, zoom=0.4)
    for label in (3, 0):
        with pytest.raises(InputError, match=f"no cell {label}"):
            crop_cell(None, labels, label, zoom=1.0)


@pytest.mark.parametrize("sides", [(0.2, 0.1), (0.1, 0.4)])
def test_pixels_that_are_not_square_are_resampled(sides: tuple[float, float]) -> None:
    """A disc of radius 1.8 is round on the grid, and lies where it is in the picture."""
    y, x = (side * (np.arange(8 / side) + 0.5) for side in sides)
    labels = (np.hypot(y[:, None] - 4, x - 3.6) < 1.8).astype(np.uint8)
    to_world = np.diag([*sides, 1.0])
    (crop,), _ = crop_cells(None, labels, None, Scaling("auto", 50, sides=grid.pixel_sides(to_world)))
    to_grid = grid.pixel_to_world(to_world) @ crop.grid_to_pixel
    voxel = grid.spacing(to_grid)
    np.testing.assert_allclose(voxel, voxel[0])
    assert crop.mask.sum() * voxel[0] ** 2 == pytest.approx(np.pi * 1.8**2, rel=0.05)
    rows, columns = (np.ptp(np.flatnonzero((crop.mask > 0.5).any(axis=axis))) for axis in (1, 0))
    assert abs(rows - columns) <= 1 + max(sides) / voxel[0]  # a pixel
    centre = to_grid @ [grid.IMAGED_PLANE, *np.argwhere(crop.mask > 0.5).mean(axis=0), 1]
    np.testing.assert_allclose(centre[:3], [0, 4 - sides[0] / 2, 3.6 - sides[1] / 2], atol=0.1)
