"""Dataset folders: what is read, and what is said when a file is missing or damaged."""

from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_dispr import grid
from napari_dispr.cells.folders import read_dataset
from napari_dispr.errors import InputError

RED_BLOOD_CELLS = Path(__file__).parents[2] / "shared" / "data" / "red_blood_cells"


def write_part(folder: Path, names: tuple[str, ...] = ("a", "b"), kinds=("obj", "image", "mask")) -> None:
    z, y, x = np.indices(grid.SHAPE) - np.array([32, 31.5, 31.5]).reshape(3, 1, 1, 1)
    distance = 20 - np.sqrt(z**2 + y**2 + x**2)
    obj = (255 * np.clip(distance + 0.5, 0, 1)).astype(np.uint8)
    volumes = {"obj": obj, "mask": obj[32], "image": (obj[32] * 0.6 + 20).astype(np.uint8)}
    for kind in kinds:
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for name in names:
            tifffile.imwrite(folder / kind / f"{name}.tif", volumes[kind])


def test_a_part_is_read(tmp_path: Path) -> None:
    write_part(tmp_path)
    (tmp_path / "mask" / "._a.tif").write_bytes(b"left by another system")
    cells = read_dataset(tmp_path, need_objects=True)
    assert [cell.name for cell in cells] == ["a", "b"]
    cell = cells[0]
    assert cell.image is not None and cell.obj is not None
    assert cell.mask.shape == cell.image.shape == (64, 64) and cell.obj.shape == grid.SHAPE
    assert cell.mask.dtype == cell.image.dtype == np.float32 and cell.obj.dtype == np.uint8
    assert cell.mask.max() == 1 and 0 < cell.image.max() < 0.7
    np.testing.assert_array_equal(np.rint(255 * cell.mask), cell.obj[32])


def test_parts_are_chosen(tmp_path: Path) -> None:
    write_part(tmp_path / "train", ("c", "d"))
    write_part(tmp_path / "test", ("a",))
    assert [cell.name for cell in read_dataset(tmp_path)] == ["c", "d", "a"]
    assert [cell.name for cell in read_dataset(tmp_path, "test")] == ["a"]
    assert [cell.name for cell in read_dataset(tmp_path / "train")] == ["c", "d"]


def test_objects_are_read_only_where_needed(tmp_path: Path) -> None:
    write_part(tmp_path, kinds=("image", "mask"))
    assert [cell.obj for cell in read_dataset(tmp_path)] == [None, None]
    with pytest.raises(InputError, match=r"obj.a\.tif is missing"):
        read_dataset(tmp_path, need_objects=True)


def test_a_crop_of_a_dataset_cell_is_not_moved(tmp_path: Path) -> None:
    write_part(tmp_path)
    cell = read_dataset(tmp_path)[1]
    crop = cell.crop(2)
    assert (crop.label, crop.zoom) == (2, 1.0)
    assert crop.mask is cell.mask and crop.image is cell.image
    np.testing.assert_allclose(crop.grid_to_pixel @ (32, 5, 9, 1), (0, 5, 9, 1))


@pytest.mark.parametrize(
    ("mask", "top"),
    [(np.uint8, 1), (bool, True), (np.uint16, 65535), (np.float32, 1.0), (np.uint8, 255)],
)
def test_masks_of_any_type_reach_from_0_to_1(tmp_path: Path, mask: type, top: float) -> None:
    write_part(tmp_path, ("a",))
    expected = tifffile.imread(tmp_path / "mask" / "a.tif") > 127
    tifffile.imwrite(tmp_path / "mask" / "a.tif", (expected * top).astype(mask))
    np.testing.assert_array_equal(read_dataset(tmp_path)[0].mask, expected.astype(np.float32))


def test_binary_objects_have_the_level_of_others(tmp_path: Path) -> None:
    write_part(tmp_path, ("a",))
    binary = (tifffile.imread(tmp_path / "obj" / "a.tif") > 127).astype(np.uint8)
    tifffile.imwrite(tmp_path / "obj" / "a.tif", binary)
    np.testing.assert_array_equal(read_dataset(tmp_path, need_objects=True)[0].obj, binary * 255)


@pytest.mark.parametrize("kind", ["image", "mask", "obj"])
def test_a_missing_partner_is_named(tmp_path: Path, kind: str) -> None:
    write_part(tmp_path)
    (tmp_path / kind / "b.tif").unlink()
    with pytest.raises(InputError) as caught:
        read_dataset(tmp_path, need_objects=True)
    assert str(tmp_path / kind / "b.tif") + " is missing" in str(caught.value)


def test_a_missing_folder_is_a_missing_partner(tmp_path: Path) -> None:
    write_part(tmp_path, kinds=("mask",))
    with pytest.raises(InputError, match=r"image.a\.tif is missing"):
        read_dataset(tmp_path)


@pytest.mark.parametrize("kind", ["image", "mask", "obj"])
def test_a_damaged_file_is_named(tmp_path: Path, kind: str) -> None:
    write_part(tmp_path)
    path = tmp_path / kind / "a.tif"
    for damaged in (path.read_bytes()[:150], b"no picture at all", b""):
        path.write_bytes(damaged)
        with pytest.raises(InputError) as caught:
            read_dataset(tmp_path, need_objects=True)
        assert str(path) in str(caught.value) and "cannot be read" in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "content", "said"),
    [
        ("mask", np.zeros((64, 64), np.uint8), "is empty"),
        ("mask", np.ones((32, 32), np.uint8), r"shape \(32, 32\)"),
        ("image", np.zeros((64, 64, 3), np.uint8), r"shape \(64, 64, 3\)"),
        ("image", np.full((64, 64), 9, np.uint8), "same value"),
        ("image", np.full((64, 64), np.nan, np.float32), "not finite"),
        ("obj", np.ones((32, 64, 64), np.uint8), r"shape \(32, 64, 64\)"),
        ("obj", np.zeros(grid.SHAPE, np.uint8), "is empty"),
    ],
)
def test_wrong_contents_are_named(tmp_path: Path, kind: str, content, said: str) -> None:
    write_part(tmp_path, ("a",))
    tifffile.imwrite(tmp_path / kind / "a.tif", content, photometric="minisblack")
    with pytest.raises(InputError, match=said) as caught:
        read_dataset(tmp_path, need_objects=True)
    text = str(caught.value)
    assert str(tmp_path / kind / "a.tif") in text and text.endswith(".") and "\n" not in text


def test_folders_that_are_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no folder"):
        read_dataset(tmp_path / "nowhere")
    with pytest.raises(InputError, match="is no dataset"):
        read_dataset(tmp_path)
    (tmp_path / "mask").mkdir()
    (tmp_path / "image").mkdir()
    with pytest.raises(InputError, match="holds no TIFF files"):
        read_dataset(tmp_path)
    write_part(tmp_path / "both" / "train")
    with pytest.raises(InputError, match="into its test"):
        read_dataset(tmp_path / "both", "test")


@pytest.mark.skipif(not RED_BLOOD_CELLS.is_dir(), reason="the red blood cells are not beside the repository")
def test_real_cells_are_read() -> None:
    cells = read_dataset(RED_BLOOD_CELLS, "train", need_objects=True)
    assert len(cells) == 108
    for cell in cells:
        assert cell.obj is not None and cell.image is not None
        mask, section = cell.mask > 0.5, cell.obj[grid.IMAGED_PLANE] > 127
        assert (mask & section).sum() >= 0.97 * (mask | section).sum()
