"""Dataset folders: what is read, and what is said when a file is missing or damaged."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_dispr import grid
from napari_dispr.cells.folders import (
    CellFile,
    DatasetNotes,
    check_no_dataset,
    read_dataset,
    read_notes,
    write_dataset,
)
from napari_dispr.cells.stacks import Stack, cut_stacks
from napari_dispr.errors import InputError
from napari_dispr.synthesis.stacks import simulate_stack

RED_BLOOD_CELLS = Path(__file__).parents[3] / "shared" / "data" / "red_blood_cells"


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
    write_part(tmp_path, kinds=("image", "obj"))
    with pytest.raises(InputError, match=r"mask.a\.tif is missing"):
        read_dataset(tmp_path)


def test_a_folder_of_masks_alone_is_read(tmp_path: Path) -> None:
    write_part(tmp_path, kinds=("mask", "obj"))
    cells = read_dataset(tmp_path, need_objects=True)
    assert [cell.image for cell in cells] == [None, None] and cells[0].obj is not None
    assert cells[0].fingerprint == cells[1].fingerprint
    (tmp_path / "image").mkdir()  # a folder for images promises them
    with pytest.raises(InputError, match=r"image.a\.tif is missing"):
        read_dataset(tmp_path)


def test_partners_are_looked_for_before_anything_is_read(tmp_path: Path) -> None:
    write_part(tmp_path / "train")
    write_part(tmp_path / "test")
    (tmp_path / "train" / "mask" / "a.tif").write_bytes(b"damaged")
    (tmp_path / "test" / "image" / "b.tif").unlink()
    with pytest.raises(InputError, match=r"test.image.b\.tif is missing"):
        read_dataset(tmp_path)


def test_two_files_of_one_cell(tmp_path: Path) -> None:
    write_part(tmp_path)
    path = tmp_path / "mask" / "a.tif"
    path.with_suffix(".tiff").write_bytes(path.read_bytes())
    with pytest.raises(InputError, match=r"a\.tiff are of the same cell"):
        read_dataset(tmp_path)


def test_images_of_12_bit_have_their_own_range(tmp_path: Path) -> None:
    write_part(tmp_path, ("a",))
    path = tmp_path / "image" / "a.tif"
    image = tifffile.imread(path).astype(np.uint16) * 20
    tifffile.imwrite(path, image)
    read = read_dataset(tmp_path)[0].image
    assert read is not None
    np.testing.assert_allclose(read, image / image.max(), rtol=1e-6)


@pytest.mark.parametrize("label", [1, 2, 7, 4095])
def test_masks_and_objects_of_a_label_are_binary(tmp_path: Path, label: int) -> None:
    write_part(tmp_path, ("a",))
    expected = tifffile.imread(tmp_path / "obj" / "a.tif") > 127
    tifffile.imwrite(tmp_path / "obj" / "a.tif", expected.astype(np.uint16) * label)
    tifffile.imwrite(tmp_path / "mask" / "a.tif", expected[32].astype(np.uint16) * label)
    (cell,) = read_dataset(tmp_path, need_objects=True)
    np.testing.assert_array_equal(cell.obj, expected * np.uint8(255))
    np.testing.assert_array_equal(cell.mask, expected[32])


@pytest.mark.parametrize("kind", ["image", "mask", "obj"])
def test_a_damaged_file_is_named(tmp_path: Path, kind: str) -> None:
    write_part(tmp_path)
    path = tmp_path / kind / "a.tif"
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:150], b"no picture at all", b""):
        path.write_bytes(damaged)
        with pytest.raises(InputError) as caught:
            read_dataset(tmp_path, need_objects=True)
        said = "cannot be read" if damaged else "is empty: copy or save it again"
        assert str(path) in str(caught.value) and said in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "content", "said"),
    [
        ("mask", np.zeros((64, 64), np.uint8), "is empty"),
        ("mask", np.ones((32, 32), np.uint8), r"shape \(32, 32\)"),
        ("image", np.zeros((64, 64, 3), np.uint8), r"shape \(64, 64, 3\)"),
        ("image", np.full((64, 64), 9, np.uint8), "same value"),
        ("image", np.full((64, 64), np.nan, np.float32), "infinite values or NaN"),
        ("obj", np.ones((32, 64, 64), np.uint8), r"shape \(32, 64, 64\)"),
        ("obj", np.zeros(grid.SHAPE, np.uint8), "is empty"),
        ("obj", np.full(grid.SHAPE, 255, np.uint8), "fills the grid"),
        ("obj", -np.ones(grid.SHAPE, np.int8), "has negative"),
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
    with pytest.raises(InputError, match="is not a dataset"):
        read_dataset(tmp_path)
    (tmp_path / "mask").mkdir()
    (tmp_path / "image").mkdir()
    with pytest.raises(InputError, match="has no TIFF files"):
        read_dataset(tmp_path)
    write_part(tmp_path / "both" / "train")
    with pytest.raises(InputError, match="into its test"):
        read_dataset(tmp_path / "both", "test")


# --- written datasets -------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["uint8", "uint16", "no image"])
def cells(request: pytest.FixtureRequest) -> list[CellFile]:
    stack = simulate_stack(8, (34, 160, 160), seed=1)
    assert stack.image is not None
    image = {
        "uint8": (stack.image // 4).clip(0, 255).astype(np.uint8),
        "uint16": stack.image,
        "no image": None,
    }[request.param]
    return cut_stacks([Stack("nuclei", image, stack.labels, stack.spacing, stack.unit)]).cells


NOTES = DatasetNotes(
    voxel_size=0.25, unit="micrometer", source=["a.tif"], plane=7, left_out={"cut by the border": 2}
)


def test_written_cells_are_read_as_they_were(tmp_path: Path, cells: list[CellFile]) -> None:
    write_dataset(tmp_path / "new" / "cells", cells, NOTES)
    assert {path.name for path in (tmp_path / "new" / "cells").iterdir()} == {"train", "dataset.json"}
    again = read_dataset(tmp_path / "new" / "cells", need_objects=True)
    assert len(again) >= 5
    by_name = {cell.name: cell for cell in again}
    for cell in cells:
        other = by_name[cell.name]
        assert other.fingerprint == cell.fingerprint
        np.testing.assert_array_equal(other.obj, cell.obj)
        np.testing.assert_allclose(other.mask, cell.mask, atol=0.5 / 255 + 1e-6)
        if cell.image is None:
            assert other.image is None
        else:
            np.testing.assert_allclose(other.image, cell.image, atol=0.5 / 255 + 1e-6)
    folders = {path.name for path in (tmp_path / "new" / "cells" / "train").iterdir()}
    assert folders == {"obj", "mask"} | ({"image", "stack"} if cells[0].image is not None else set())
    # What was read is written without any change.
    write_dataset(tmp_path / "twice", again, NOTES)
    for one, two in zip(again, read_dataset(tmp_path / "twice", need_objects=True), strict=True):
        assert one.fingerprint == two.fingerprint
        np.testing.assert_array_equal(one.mask, two.mask)
        np.testing.assert_array_equal(one.obj, two.obj)


def test_pictures_at_all_depths_come_back_and_may_be_missing(tmp_path: Path) -> None:
    write_part(tmp_path / "old")
    first, second = read_dataset(tmp_path / "old", need_objects=True)
    assert first.stack is None and first.obj is not None
    stack = np.where(first.obj > 127, 90, 0).astype(np.uint8)
    stack[:20] = 0
    stack[32, 32, 32] = 255
    write_dataset(tmp_path / "new", [replace(first, stack=stack), second], DatasetNotes())
    one, other = read_dataset(tmp_path / "new", need_objects=True)
    np.testing.assert_array_equal(one.stack, stack)
    assert other.stack is None and one.fingerprint == first.fingerprint
    assert read_dataset(tmp_path / "new")[0].stack is None
    tifffile.imwrite(tmp_path / "new" / "train" / "stack" / "b.tif", stack[:5])
    with pytest.raises(InputError, match=r"b\.tif has the shape \(5, 64, 64\)"):
        read_dataset(tmp_path / "new", need_objects=True)


def test_predicted_objects_are_marked(tmp_path: Path, cells: list[CellFile], monkeypatch) -> None:
    one, *others = [replace(cell, predicted=place == 0) for place, cell in enumerate(cells)]
    write_dataset(tmp_path, [one, *others], NOTES)
    monkeypatch.chdir(tmp_path / "train")
    for folder in (tmp_path, tmp_path / "train", "."):
        assert [cell.name for cell in read_dataset(folder) if cell.predicted] == [one.name]
    write_dataset(tmp_path / "real", others, NOTES)
    assert not (tmp_path / "real" / "cells.csv").exists()
    # A table of something else says nothing of this.
    (tmp_path / "real" / "cells.csv").write_bytes("cell;gr\xf6\xdfe\n".encode("latin-1"))
    assert not any(cell.predicted for cell in read_dataset(tmp_path / "real"))
    assert one.is_among({one.fingerprint}) and one.is_among({one.shape_fingerprint, "x"})
    assert not one.is_among({others[0].fingerprint}) and not replace(one, obj=None).is_among({""})


def test_notes_come_back(tmp_path: Path, cells: list[CellFile]) -> None:
    write_dataset(tmp_path, cells, NOTES)
    assert read_notes(tmp_path) == read_notes(str(tmp_path / "train")) == NOTES
    assert read_notes(tmp_path / "nowhere") == DatasetNotes()
    assert DatasetNotes().voxel_size is None and DatasetNotes().unit == "pixel"


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"voxel_size": -1}', '{"voxel_size": "large"}', '{"unit": 3}']
)
def test_damaged_notes_are_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(InputError) as caught:
        read_notes(tmp_path)
    assert str(tmp_path / "dataset.json") in str(caught.value) and "\n" not in str(caught.value)


def test_notes_of_a_later_version_are_read(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text('{"voxel_size": 0.5, "microscope": "light sheet"}')
    assert read_notes(tmp_path).voxel_size == 0.5


def test_a_dataset_is_never_overwritten(tmp_path: Path, cells: list[CellFile]) -> None:
    for taken in ("train", "test", "mask"):
        folder = tmp_path / taken
        (folder / taken).mkdir(parents=True)
        for refuse in (lambda f: write_dataset(f, cells, NOTES), check_no_dataset):
            with pytest.raises(InputError, match=f"{taken} already exists"):
                refuse(folder)
        assert not (folder / "dataset.json").exists()
    check_no_dataset(tmp_path / "nowhere")


def test_cells_that_no_folder_can_hold(tmp_path: Path, cells: list[CellFile]) -> None:
    one, two = cells[:2]
    image = None if one.image is not None else one.mask
    for wrong, said in (
        ([], "no cells"),
        ([one, one], f"Two cells have the name {one.name}"),
        ([one, CellFile(one.name.upper(), two.mask, two.image, two.obj)], "Two cells have the name"),
        ([CellFile("a/b", one.mask, one.image, one.obj)], "name 'a/b' cannot be used for a file"),
        ([CellFile("a", one.mask, one.image, None)], "a has no object"),
        ([one, CellFile("a", two.mask, image, two.obj)], "has no image, but others have one"),
    ):
        with pytest.raises(InputError, match=said):
            write_dataset(tmp_path, wrong, NOTES)
        assert not list(tmp_path.iterdir())


def test_an_interrupted_dataset_is_none(
    tmp_path: Path, cells: list[CellFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    written = tifffile.imwrite
    count = 0

    def interrupted(*args, **options) -> None:
        nonlocal count
        count += 1
        if count > 3:
            raise KeyboardInterrupt
        written(*args, **options)

    monkeypatch.setattr(tifffile, "imwrite", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_dataset(tmp_path, cells, NOTES)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not RED_BLOOD_CELLS.is_dir(), reason="the red blood cells are not next to the repository")
def test_real_cells_are_read() -> None:
    cells = read_dataset(RED_BLOOD_CELLS, "train", need_objects=True)
    assert len(cells) == 108
    for cell in cells:
        assert cell.obj is not None and cell.image is not None
        mask, section = cell.mask > 0.5, cell.obj[grid.IMAGED_PLANE] > 127
        assert (mask & section).sum() >= 0.97 * (mask | section).sum()
