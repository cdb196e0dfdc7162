"""3D files: what they say of their voxels, what is no stack, partners in folders, and damaged files."""

import gc
import os
import re
import sys
import warnings
from collections import OrderedDict
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from napari_dispr.cells.file_pairs import pair_files
from napari_dispr.cells.pictures import read_plane
from napari_dispr.cells.stack_files import read_stack, stated_pixel_size
from napari_dispr.errors import InputError
from napari_dispr.viewer.ome_files import read_ome

IMAGE = np.random.default_rng(0).integers(0, 4000, (6, 20, 30), np.uint16)
LABELS = (IMAGE > 2000).astype(np.uint16) * 3
OME = {"axes": "ZYX", "PhysicalSizeZ": 1.2, "PhysicalSizeY": 0.25, "PhysicalSizeX": 0.3}


def write(path: Path, array: np.ndarray = IMAGE, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, array, **options)
    return path


def imagej(path: Path, array: np.ndarray = IMAGE, **metadata: Any) -> Path:
    metadata = {"axes": "ZYX", "unit": "um", **metadata}
    return write(path, array, imagej=True, resolution=(1 / 0.3, 1 / 0.25), metadata=metadata)


def ome_zarr(
    path: Path, array: np.ndarray, version: str = "0.5", unit: str | None = "micrometer", **more
) -> Path:
    names = "tczyx"[-array.ndim :]
    axes = [{"name": name, "type": "space", **({"unit": unit} if unit else {})} for name in names]
    scale = [*[1.0] * (array.ndim - 3), 1.2, 0.25, 0.3]
    transformations = [
        {"type": "scale", "scale": scale},
        {"type": "translation", "translation": [9.0] * array.ndim},
    ]
    image = {"axes": axes, "datasets": [{"path": "s0", "coordinateTransformations": transformations}], **more}
    group = zarr.open_group(path, mode="w", zarr_format=3 if version == "0.5" else 2)
    group.create_array("s0", data=array, chunks=array.shape)
    if version == "0.5":
        group.attrs["ome"] = {"version": version, "multiscales": [image]}
    else:
        group.attrs["multiscales"] = [{"version": version, **image}]
    return path


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    """Labels that say nothing of their voxels."""
    return write(tmp_path / "labels.tif", LABELS)


# --- how large voxels are ---------------------------------------------------------------------------


def test_ome_tiff(tmp_path: Path, labels: Path) -> None:
    stack = read_stack(write(tmp_path / "cells.ome.tif", metadata=OME), labels)
    assert stack.name == "cells" and stack.spacing == (1.2, 0.25, 0.3)
    assert stack.unit == "micrometer" and stack.note == ""
    np.testing.assert_array_equal(stack.image, IMAGE)
    np.testing.assert_array_equal(stack.labels, LABELS)


def test_ome_tiff_in_other_units(tmp_path: Path, labels: Path) -> None:
    units = {"PhysicalSizeZUnit": "mm", "PhysicalSizeYUnit": "nm", "PhysicalSizeXUnit": "µm"}
    sizes = {**OME, "PhysicalSizeZ": 0.0012, "PhysicalSizeY": 250}
    stack = read_stack(write(tmp_path / "cells.ome.tif", metadata={**sizes, **units}), labels)
    assert stack.spacing == pytest.approx((1.2, 0.25, 0.3)) and stack.unit == "micrometer"


def test_imagej_tiff(tmp_path: Path, labels: Path) -> None:
    for number, unit in enumerate(("um", "micron", r"\u00B5m")):
        stack = read_stack(imagej(tmp_path / f"{number}.tif", unit=unit, spacing=1.2), labels)
        assert stack.spacing == pytest.approx((1.2, 0.25, 0.3)) and stack.unit == "micrometer"
        assert stack.note == ""
    stack = read_stack(imagej(tmp_path / "4.tif", unit="nm", spacing=1.2), labels)
    assert stack.spacing == pytest.approx((1.2e-3, 0.25e-3, 0.3e-3))


@pytest.mark.parametrize(
    ("unit", "pixels", "size"),
    [
        ("CENTIMETER", 1e5, 0.1),
        ("INCH", 254_000, 0.1),
        ("INCH", 300, None),
        ("CENTIMETER", 1890, None),
        ("CENTIMETER", 1e9, None),
        ("NONE", 1e5, None),
    ],
)
def test_the_resolution_of_a_plain_tiff_counts_if_a_microscope_has_it(
    tmp_path: Path, unit: str, pixels: float, size: float | None
) -> None:
    path = tmp_path / "cells.tif"
    tifffile.imwrite(path, np.zeros((8, 9), "u1"), resolution=(pixels, pixels), resolutionunit=unit)
    assert stated_pixel_size(path) == (size and pytest.approx((size, size)))


@pytest.mark.parametrize(("unit", "size"), [("um", (0.25, 0.3)), ("inch", None), ("", None)])
def test_inches_are_the_resolution_of_a_screen(
    tmp_path: Path, unit: str, size: tuple[float, float] | None
) -> None:
    stated = stated_pixel_size(imagej(tmp_path / "72dpi.tif", unit=unit))
    assert stated is None if size is None else stated == pytest.approx(size)


def test_imagej_leaves_a_distance_of_one_out(tmp_path: Path, labels: Path) -> None:
    path = imagej(tmp_path / "cells.tif")
    stack = read_stack(path, labels)
    assert stack.spacing == pytest.approx((1.0, 0.25, 0.3)) and stack.unit == "micrometer"
    assert stack.note == f"{path}: the distance of its slices is taken as 1 unit, the default of ImageJ."


@pytest.mark.parametrize(("unit", "side"), [("mm", 2e-4), ("nm", 500.0), ("um", 0.25)])
@pytest.mark.parametrize("axes", ["YX", "TYX"])
def test_the_distance_of_slices_does_not_count_where_there_are_none(tmp_path, unit, side, axes) -> None:
    """ImageJ's default, 1 mm, is 5000 pixels."""
    metadata = {"axes": axes, "unit": unit}
    array = IMAGE[0] if axes == "YX" else IMAGE
    path = write(tmp_path / "a.tif", array, imagej=True, resolution=(1 / side, 1 / side), metadata=metadata)
    micrometer = {"mm": 0.2, "nm": 0.5, "um": 0.25}[unit]
    assert stated_pixel_size(path) == pytest.approx((micrometer, micrometer))


def test_tiff_of_tifffile(tmp_path: Path, labels: Path) -> None:
    options = {"resolution": (1 / 0.3, 1 / 0.25)}
    metadata = {"axes": "ZYX", "unit": "um", "spacing": 1.2}
    stack = read_stack(write(tmp_path / "cells.tif", metadata=metadata, **options), labels)
    assert stack.spacing == pytest.approx((1.2, 0.25, 0.3)) and stack.unit == "micrometer"


@pytest.mark.parametrize("metadata", [{"axes": "ZYX", "unit": "um"}, {"axes": "ZYX", "unit": "pixel"}, None])
def test_sizes_that_are_not_all_known_are_not_guessed(tmp_path: Path, labels: Path, metadata) -> None:
    path = write(tmp_path / "cells.tif", metadata=metadata, resolution=(1 / 0.3, 1 / 0.25))
    stack = read_stack(path, labels)
    assert stack.spacing == (1.0, 1.0, 1.0) and stack.unit == "pixel"
    assert stack.note.startswith(f"{path} does not say how large its voxels are")


def test_ome_tiff_without_z(tmp_path: Path, labels: Path) -> None:
    metadata = {key: value for key, value in OME.items() if key != "PhysicalSizeZ"}
    stack = read_stack(write(tmp_path / "cells.ome.tif", metadata=metadata), labels)
    assert stack.unit == "pixel" and stack.note


@pytest.mark.parametrize("size", ["", "1,5", "nan", "none"])
def test_a_size_that_is_no_number_is_not_known_and_the_picture_is_read(
    tmp_path: Path, labels: Path, size: str
) -> None:
    path = write(tmp_path / "cells.ome.tif", metadata=OME)
    text = tifffile.tiffcomment(path).replace('PhysicalSizeZ="1.2"', f'PhysicalSizeZ="{size}"')
    tifffile.tiffcomment(path, text.encode())
    for file in (path, write(tmp_path / "b.tif", metadata={"axes": "ZYX", "unit": "um", "spacing": size})):
        stack = read_stack(file, labels)
        assert stack.spacing == (1, 1, 1) and stack.note.startswith(f"{file} does not say how large")
    ((_, settings, _),) = read_ome(str(path))
    assert settings["scale"] == pytest.approx([1.0, 0.25, 0.3])


def test_labels_know_what_the_image_does_not(tmp_path: Path) -> None:
    stack = read_stack(write(tmp_path / "cells.tif"), imagej(tmp_path / "labels.tif", LABELS, spacing=1.2))
    assert stack.spacing == pytest.approx((1.2, 0.25, 0.3)) and stack.note == ""


def test_a_given_spacing_wins(tmp_path: Path, labels: Path) -> None:
    path = write(tmp_path / "cells.ome.tif", metadata=OME)
    stack = read_stack(path, labels, (2.0, 0.5, 0.5))
    assert stack.spacing == (2.0, 0.5, 0.5) and stack.unit == "micrometer" and stack.note == ""
    assert read_stack(path, labels, (2000, 500, 500), "nm").spacing == (2.0, 0.5, 0.5)
    assert read_stack(path, labels, (2, 1, 1), "pixel").unit == "pixel"
    with pytest.raises(InputError, match="three lengths"):
        read_stack(path, labels, (0.5, 0.5))


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ome_zarr(tmp_path: Path, version: str) -> None:
    image = ome_zarr(tmp_path / "cells.ome.zarr", IMAGE[None, None], version)
    labels = ome_zarr(tmp_path / "labels.zarr", LABELS, version)
    stack = read_stack(image, labels)
    assert stack.name == "cells" and stack.spacing == pytest.approx((1.2, 0.25, 0.3))
    assert stack.unit == "micrometer"
    np.testing.assert_array_equal(stack.image, IMAGE)
    np.testing.assert_array_equal(stack.labels, LABELS)


def test_ome_zarr_with_a_scale_of_all_and_other_units(tmp_path: Path, labels: Path) -> None:
    more = {"coordinateTransformations": [{"type": "scale", "scale": [1000.0, 500.0, 1000.0]}]}
    image = ome_zarr(tmp_path / "cells.zarr", IMAGE, unit="nanometer", **more)
    assert read_stack(image, labels).spacing == pytest.approx((1.2, 0.125, 0.3))
    image = ome_zarr(tmp_path / "other.zarr", IMAGE, unit=None)
    assert read_stack(image, labels).unit == "pixel"


def test_ome_zarr_without_its_package(tmp_path: Path, labels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = ome_zarr(tmp_path / "cells.zarr", IMAGE)
    monkeypatch.setitem(sys.modules, "zarr", None)  # as if it were not installed
    with pytest.raises(InputError, match=r'pip install "napari-dispr\[zarr\]"') as caught:
        read_stack(image, labels)
    assert str(image) in str(caught.value)


def test_numpy_files_and_labels_alone(tmp_path: Path) -> None:
    np.save(tmp_path / "cells.npy", LABELS)
    stack = read_stack(None, tmp_path / "cells.npy", (1, 0.3, 0.3))
    assert stack.image is None and stack.name == "cells" and stack.spacing == (1.0, 0.3, 0.3)


# --- what is no stack -------------------------------------------------------------------------------


def test_axes_of_length_one_are_dropped(tmp_path: Path, labels: Path) -> None:
    path = write(tmp_path / "cells.ome.tif", IMAGE[None, :, None], metadata={**OME, "axes": "TZCYX"})
    np.testing.assert_array_equal(read_stack(path, labels).image, IMAGE)


@pytest.mark.parametrize("slices", [3, 4])
def test_few_slices_are_no_colours(tmp_path: Path, slices: int) -> None:
    """tifffile writes them as colours, one plane after another."""
    image, labels = ((one[:slices] % 200).astype(np.uint8) for one in (IMAGE, LABELS))
    how = {"photometric": "rgb", "planarconfig": "separate"}
    files = write(tmp_path / "cells.tif", image, **how), write(tmp_path / "labels.tif", labels, **how)
    stack = read_stack(*files)
    np.testing.assert_array_equal(stack.image, image)
    np.testing.assert_array_equal(stack.labels, labels)


@pytest.mark.parametrize(
    ("array", "options", "said"),
    [
        (np.stack([IMAGE] * 2, 1), {"imagej": True, "metadata": {"axes": "ZCYX"}}, "has 2 channels"),
        (np.stack([IMAGE] * 3), {"imagej": True, "metadata": {"axes": "TZYX"}}, "has 3 time points"),
        (IMAGE, {"imagej": True, "metadata": {"axes": "TYX"}}, "has 6 time points"),
        (np.arange(10800).reshape(6, 20, 30, 3).astype(np.uint8), {"photometric": "rgb"}, "has 3 colours"),
        (IMAGE[0], {}, "has the shape 20 x 30 and is not a 3D stack"),
        (np.stack([IMAGE] * 3), {"metadata": None}, "is not a 3D stack"),
    ],
)
def test_more_or_less_than_a_stack(tmp_path: Path, labels: Path, array, options, said: str) -> None:
    path = write(tmp_path / "cells.tif", array, **options)
    if said == "is not a 3D stack":  # pages say nothing of two axes: their shape does not fit the labels
        assert read_stack(path, labels).image.shape != LABELS.shape  # type: ignore[union-attr]
        return
    with pytest.raises(InputError, match=said) as caught:
        read_stack(path, labels)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("axes", ["ZCYX", "ZYXS"])
def test_a_channel_is_chosen(tmp_path: Path, labels: Path, axes: str) -> None:
    image = (IMAGE % 200).astype(np.uint8)
    together = np.stack([image + 2, image, image + 1], axis=1 if axes == "ZCYX" else 3)
    options = {"imagej": True, "metadata": {"axes": axes}} if axes == "ZCYX" else {"photometric": "rgb"}
    path = write(tmp_path / "cells.tif", together, **options)
    np.testing.assert_array_equal(read_stack(path, labels, channel=1).image, image)
    for wrong in (None, 3, -1):
        with pytest.raises(InputError, match=r"has 3 \w+: give the one .* --channel 0 to 2"):
            read_stack(path, labels, channel=wrong)
    with pytest.raises(InputError, match="has one channel: leave out --channel 3"):
        read_stack(labels, labels, channel=3)
    with pytest.raises(InputError, match="save the labels as one channel"):
        read_stack(path, path)


@pytest.mark.parametrize("suffix", [".tif", ".npy"])
def test_two_channels_behind_y_and_x_that_no_file_names(tmp_path: Path, suffix: str) -> None:
    """As arrays of scikit-image; they were taken for 60 planes of 40 x 2 pixels."""
    first = np.arange(2400, dtype=np.float32).reshape(60, 40)
    path = tmp_path / f"cells{suffix}"
    both = np.stack([first, first + 1], axis=-1)
    np.save(path, both) if suffix == ".npy" else tifffile.imwrite(path, both)
    np.testing.assert_array_equal(read_plane(path, channel=1), first + 1)
    with pytest.raises(InputError, match="has 2 colours: give the one"):
        read_plane(path)


def test_colours_one_after_another(tmp_path: Path) -> None:
    first = (IMAGE[0] % 200).astype(np.uint8)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.stack([first, first + 1, first]), photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(read_plane(path, channel=1), first + 1)
    with pytest.raises(InputError, match="has 3 colours: give the one"):
        read_plane(path)


def test_microscopes_whose_files_are_tiff(tmp_path: Path) -> None:
    planes = imagej(tmp_path / "a.tif").rename(tmp_path / "a.lsm")
    stack = read_stack(planes, write(tmp_path / "a_masks.tif", LABELS))
    np.testing.assert_array_equal(stack.image, IMAGE)
    assert stack.spacing[1:] == pytest.approx((0.25, 0.3)) and stack.name == "a"


def test_grey_values_in_colour(tmp_path: Path) -> None:
    """Many programs save grey pictures, and labels, as RGB or RGBA."""
    image, labels = ((one[0] % 200).astype(np.uint8) for one in (IMAGE, LABELS))
    for name in ("cells.png", "cells.tif"):
        opaque = np.full_like(image, 255)
        iio.imwrite(tmp_path / name, np.stack([image, image, image, opaque], -1))
        iio.imwrite(tmp_path / f"labels_{name}", np.stack([labels] * 3, -1))
        np.testing.assert_array_equal(read_plane(tmp_path / name), image)
        np.testing.assert_array_equal(read_plane(tmp_path / f"labels_{name}", labels=True), labels)
    iio.imwrite(tmp_path / "opacity.png", np.stack([image, opaque], -1))
    np.testing.assert_array_equal(read_plane(tmp_path / "opacity.png"), image)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a.czi", "open it in Fiji"),
        ("RoiSet.zip", "unpack it, or, .* export a label image"),
        ("a.npz", "save one of them as NPY"),
        ("a.txt", "save it as TIFF"),
    ],
)
def test_other_formats_name_the_cure(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / name).write_bytes(b"something")
    with pytest.raises(InputError, match=said):
        read_plane(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("cells.tif", {}),
        ("cells.tif", {"compression": "zlib"}),
        ("cells.tif", {"imagej": True, "metadata": {"axes": "ZYX"}}),
        ("cells.ome.tif", {"compression": "zlib", "metadata": OME}),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, labels: Path, name: str, options: dict[str, Any]) -> None:
    path = write(tmp_path / name, **options)
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:100], b"no picture at all", b""):
        path.write_bytes(damaged)
        said = "cannot be read as TIFF" if damaged else "is empty: copy or save it again"
        for pair in ((path, labels), (labels, path)):
            with pytest.raises(InputError, match=said) as caught:
                read_stack(*pair)
            assert str(path) in str(caught.value)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with a name")
@pytest.mark.parametrize("name", ["pipe.tif", "pipe.npy", "pipe.png"])
def test_a_pipe_is_not_waited_for(tmp_path: Path, labels: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    for read in (lambda: read_stack(tmp_path / name, labels), lambda: read_plane(tmp_path / name)):
        with pytest.raises(InputError, match=f"{name} is a pipe or a device, not a file"):
            read()
    assert stated_pixel_size(tmp_path / name) is None


@pytest.mark.parametrize("count", [10, 999_999_999])
def test_planes_that_are_stated_but_missing_are_not_zeros(tmp_path: Path, labels: Path, count: int) -> None:
    path = write(tmp_path / "cut.ome.tif", metadata={"axes": "ZYX"})
    stated = tifffile.tiffcomment(path).replace(f'SizeZ="{len(IMAGE)}"', f'SizeZ="{count}"')
    tifffile.tiffcomment(path, stated)
    for read in (lambda: read_stack(path, labels), lambda: read_plane(path, {"Z": 0})):
        with pytest.raises(InputError, match=r"cut\.ome\.tif says that it has more planes than there are"):
            read()


def test_a_file_that_memory_cannot_hold_is_not_called_damaged(tmp_path: Path) -> None:
    path = tmp_path / "cells.npy"
    shape = (1 << 20, 1 << 20, 1 << 20)
    with path.open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
    with pytest.raises(InputError, match=r"not enough memory to read .*cells\.npy"):
        read_stack(None, path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="this user may read everything")
def test_a_file_that_may_not_be_read_is_not_called_damaged(tmp_path: Path) -> None:
    path = tmp_path / "cells.npy"
    np.save(path, np.zeros((4, 8, 8), np.uint8))
    path.chmod(0)
    with pytest.raises(InputError, match=r"no permission to read .*cells\.npy"):
        read_stack(None, path)


def test_other_damaged_files_are_named(tmp_path: Path, labels: Path) -> None:
    (tmp_path / "cells.npy").write_bytes(b"nothing")
    (tmp_path / "cells.png").write_bytes(b"nothing")
    (tmp_path / "empty.zarr").mkdir()
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty.tif").touch()
    zarr.open_group(tmp_path / "plain.zarr", mode="w")
    for name, said in (
        ("cells.npy", "cannot be read as NPY"),
        ("cells.png", "cannot be read as a picture: save it as TIFF"),
        ("empty.zarr", "cannot be read as an OME-Zarr image"),
        ("empty.tif", "is empty: copy or save it again"),
        ("plain.zarr", "no OME-Zarr image: save it as OME-Zarr or TIFF"),
        ("folder", "is a folder, and a picture was expected"),
        ("nowhere.tif", "There is no file"),
    ):
        with pytest.raises(InputError, match=said) as caught:
            read_stack(tmp_path / name, labels)
        assert str(tmp_path / name) in str(caught.value)


def test_a_damaged_picture_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cells.png").write_bytes(b"nothing")
    unraised: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", unraised.append)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        with pytest.raises(InputError):
            read_plane(tmp_path / "cells.png")
        gc.collect()
    assert not unraised


def test_labels_in_an_ome_zarr_image_are_named(tmp_path: Path) -> None:
    image = ome_zarr(tmp_path / "cells.zarr", IMAGE, "0.4")
    inner = ome_zarr(image / "labels" / "nuclei", LABELS, "0.4")
    np.testing.assert_array_equal(read_stack(image, inner).labels, LABELS)
    said = re.escape(f"{image} is an image: its labels are in it. Give {inner} as the labels.")
    for read in (
        lambda: read_stack(image, image),
        lambda: read_plane(image, {"Z": 1}, labels=True),
        lambda: pair_files(image, image),
    ):
        with pytest.raises(InputError, match=said):
            read()


# --- partners ---------------------------------------------------------------------------------------


def test_two_files_are_a_pair(tmp_path: Path, labels: Path) -> None:
    image = write(tmp_path / "a.tif")
    assert pair_files(image, labels) == [(image, labels)]
    assert pair_files(None, labels) == [(None, labels)]
    volume = ome_zarr(tmp_path / "b.zarr", IMAGE)  # a folder that stands for a file
    assert pair_files(str(volume), str(labels)) == [(volume, labels)]


def test_partners_of_two_folders(tmp_path: Path) -> None:
    images = [write(tmp_path / "images" / name) for name in ("a.tif", "b.ome.tif", "c.tiff")]
    images.append(ome_zarr(tmp_path / "images" / "d.ome.zarr", IMAGE))
    found = [
        write(tmp_path / "labels" / name) for name in ("a.tif", "b_labels.tif", "c_cp_masks.tif", "d.tif")
    ]
    (tmp_path / "images" / "readme.txt").write_text("no image")
    write(tmp_path / "images" / ".hidden.tif")
    assert pair_files(tmp_path / "images", tmp_path / "labels") == list(zip(images, found, strict=True))
    assert [path.name for _, path in pair_files(None, tmp_path / "labels")] == [
        "a.tif", "b_labels.tif", "c_cp_masks.tif", "d.tif",
    ]  # fmt: skip


def test_partners_whose_names_are_written_differently(tmp_path: Path) -> None:
    """Ending in capitals; and an umlaut as macOS writes it, as u with two dots."""
    pairs = [(write(tmp_path / "A.TIF"), write(tmp_path / "A_Masks.TIF"))]
    pairs.append((write(tmp_path / "Zellu\u0308.tif"), write(tmp_path / "Zell\u00fc_Labels.tif")))
    assert pair_files(tmp_path, tmp_path) == pairs


def test_missing_partners_are_named(tmp_path: Path, labels: Path) -> None:
    for name in ("images/a.tif", "images/b.tif", "labels/a.tif"):
        write(tmp_path / name)
    with pytest.raises(InputError, match=r"images.b\.tif has no labels in .* under the name b,"):
        pair_files(tmp_path / "images", tmp_path / "labels")
    write(tmp_path / "labels" / "b.tif")
    write(tmp_path / "labels" / "c.tif")
    with pytest.raises(InputError, match=r"labels.c\.tif has no image with this name"):
        pair_files(tmp_path / "images", tmp_path / "labels")
    write(tmp_path / "labels" / "c.tiff")
    with pytest.raises(InputError, match=r"c\.tiff have the same name"):
        pair_files(tmp_path / "images", tmp_path / "labels")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="has no TIFF"):
        pair_files(None, tmp_path / "empty")
    with pytest.raises(InputError, match="is a folder: give"):
        pair_files(tmp_path / "images", labels)
    with pytest.raises(InputError, match="no file or folder"):
        pair_files(tmp_path / "nowhere", labels)


def test_images_and_labels_in_one_folder(tmp_path: Path) -> None:
    for name in ("a.tif", "a_cp_masks.tif", "b.tif", "b-labels.tif", "a_flows.tif"):
        write(tmp_path / name, LABELS)  # the last one is written by Cellpose when it trains
    np.save(tmp_path / "a_seg.npy", np.array({"masks": LABELS}), allow_pickle=True)
    pairs = pair_files(tmp_path, tmp_path)
    assert [(image.name, labels.name) for image, labels in pairs if image] == [
        ("a.tif", "a_cp_masks.tif"),
        ("b.tif", "b-labels.tif"),
    ]
    (tmp_path / "b-labels.tif").unlink()
    with pytest.raises(InputError, match=r"b\.tif has no labels in .* under the name b_masks"):
        pair_files(tmp_path, tmp_path)
    with pytest.raises(InputError, match="as the image and as its labels"):
        pair_files(tmp_path / "a.tif", tmp_path / "a.tif")


def test_masks_of_cellpose(tmp_path: Path) -> None:
    path = tmp_path / "a_seg.npy"
    others = {"filename": tmp_path, "changes": [datetime.now()], "more": OrderedDict(a=1), "run": os.system}
    np.save(path, np.array({"masks": LABELS, "est_diam": np.float64(3), **others}), allow_pickle=True)
    assert (read_stack(None, path).labels == LABELS).all()
    np.save(path, np.array({"masks": tmp_path}), allow_pickle=True)  # would run code of another package
    with pytest.raises(InputError, match=r"a_seg\.npy holds no masks: segment the picture"):
        read_stack(None, path)
    np.save(path, np.array({"masks": LABELS[0]}), allow_pickle=True)
    np.testing.assert_array_equal(read_plane(path, labels=True), LABELS[0])


# --- compressed files, palettes, units -------------------------------------------------------------------


def test_compressed_tiff_is_read_or_names_the_cure(tmp_path: Path) -> None:
    path = tmp_path / "cells.tif"
    picture = np.kron(np.arange(64, dtype=np.uint8).reshape(8, 8), np.ones((8, 8), np.uint8))
    pages = [Image.fromarray(picture)] * 3
    pages[0].save(path, save_all=True, append_images=pages[1:], compression="tiff_lzw")
    labels = write(tmp_path / "labels.tif", np.stack([picture] * 3), photometric="minisblack")
    if find_spec("imagecodecs"):
        assert (read_stack(path, labels).image == picture).all()
    else:
        with pytest.raises(InputError, match=r"cells\.tif is compressed with LZW.* pip install imagecodecs"):
            read_stack(path, labels)


def test_imagej_with_units_of_their_own_for_y_and_z(tmp_path: Path, labels: Path) -> None:
    path = imagej(tmp_path / "a.tif", unit="mm", yunit="cm", zunit="um", spacing=500)
    assert read_stack(path, labels).spacing == pytest.approx((500, 2500, 300))
    assert read_stack(imagej(tmp_path / "b.tif", yunit="um", spacing=1), labels).spacing[0] == 1


def test_ratio_without_a_unit_is_kept(tmp_path: Path, labels: Path) -> None:
    pixels = {f"PhysicalSize{axis}Unit": "pixel" for axis in "XYZ"}
    files = [
        ome_zarr(tmp_path / "a.zarr", IMAGE, unit=None),
        write(tmp_path / "b.ome.tif", metadata=OME | pixels | {"PhysicalSizeX": 0.3}),
        imagej(tmp_path / "c.tif", unit="pixel", spacing=1.2),
    ]
    for file in files:
        stack = read_stack(file, labels)
        assert stack.spacing == pytest.approx((1.2, 0.25, 0.3)) and stack.unit == "pixel"
        assert stack.note == (
            f"{file} gives its voxels as 1.2 x 0.25 x 0.3 without a unit: give the spacing and its unit."
        )


def test_image_and_labels_that_state_different_sizes(tmp_path: Path) -> None:
    path = write(tmp_path / "cells.ome.tif", metadata=OME)
    stack = read_stack(path, imagej(tmp_path / "labels.tif", LABELS, spacing=2.4))
    assert stack.spacing == pytest.approx((1.2, 0.25, 0.3))
    assert "different voxel sizes, 1.2 x 0.25 x 0.3 and 2.4 x 0.25 x 0.3 micrometer. The first" in stack.note


def test_groups_of_ome_zarr_name_an_image(tmp_path: Path, labels: Path) -> None:
    group = zarr.open_group(tmp_path / "a.zarr" / "labels", mode="w")
    group.attrs["ome"] = {"version": "0.5", "labels": ["nuclei"]}
    image = ome_zarr(tmp_path / "a.zarr" / "labels" / "nuclei", LABELS)
    with pytest.raises(InputError, match=f"choose an image in it, such as {re.escape(str(image))}"):
        read_stack(None, image.parent)
    np.testing.assert_array_equal(read_stack(None, image).labels, LABELS)


def test_folder_of_bioformats2raw(tmp_path: Path, labels: Path) -> None:
    root = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
    root.attrs["bioformats2raw.layout"] = 3
    ome_zarr(tmp_path / "a.zarr" / "0", IMAGE, "0.4")
    assert read_stack(tmp_path / "a.zarr", labels).spacing == (1.2, 0.25, 0.3)
    ome_zarr(tmp_path / "a.zarr" / "1", IMAGE, "0.4")
    with pytest.raises(InputError, match=r"a\.zarr has 2 images: choose one of them, such as .*0\."):
        read_stack(tmp_path / "a.zarr", labels)
