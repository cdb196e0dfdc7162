"""The fields of a batch: from a folder, a table or a plate, and plane by plane from a series."""

import os
from dataclasses import replace

import imageio.v3 as iio
import numpy as np
import pytest
import tifffile
import zarr
from support.screens import field, write_screen

from napari_dispr.cells.cropping import check_fields
from napari_dispr.cells.fields import list_fields, read_field
from napari_dispr.cells.pictures import read_plane
from napari_dispr.errors import InputError


def test_pairs_of_a_folder(tmp_path):
    write_screen(tmp_path, 3, 1)
    (tmp_path / "f1_masks.tif").unlink()
    (tmp_path / "notes.txt").touch()
    fields = list_fields(tmp_path)
    assert [one.name for one in fields] == ["f0", "f1", "f2"]
    image, labels, sides = read_field(fields[2])
    np.testing.assert_array_equal(image, field(1, 2)[0])
    np.testing.assert_array_equal(labels, field(1, 2)[1])
    assert sides is None
    with pytest.raises(InputError, match=r"f1\.tif has no labels .* f1_masks"):
        read_field(fields[1])


def test_fields_are_in_the_order_of_their_numbers(tmp_path):
    write_screen(tmp_path, 12, 1)
    assert [one.name for one in list_fields(tmp_path)] == [f"f{number}" for number in range(12)]


def test_folders_of_images_and_of_labels(tmp_path):
    for name, number in (("images", 0), ("masks", 1)):
        (tmp_path / name).mkdir()
        tifffile.imwrite(tmp_path / name / "a b.tif", field(1, 0)[number])
    (one,) = list_fields(tmp_path)
    assert one.name == "a b" and one.image == tmp_path / "images" / "a b.tif"


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_rows_of_a_table(tmp_path, separator):
    write_screen(tmp_path / "screen", 2, 1)
    rows = [
        ["Image", " labels", "pixel_size", "drug", "dose", ""],
        ["screen/f0.tif", "screen/f0_masks.tif", "0.25", "none", "0", ""],
        ["", "screen/f1_masks.tif", "", "taxol", "1.5", ""],
        ["screen/f1.tif", "screen/missing.tif", "", "taxol", "3", ""],
    ]
    text = "\n".join(separator.join(row) for row in rows)
    (tmp_path / "fields.csv").write_text(text, encoding="utf-8-sig")
    fields = list_fields(tmp_path / "fields.csv")[:2]
    assert [one.columns for one in fields] == [
        {"drug": "none", "dose": "0"},
        {"drug": "taxol", "dose": "1.5"},
    ]
    assert read_field(fields[0])[2] == (0.25, 0.25)
    assert read_field(fields[1])[0] is None, "labels alone"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("image,mask\na,b", "needs image and labels"),
        ("", "has no columns: a table of fields needs image and labels"),
        ("image,labels\na.tif,b.tif\na.tif,c.tif", "two fields with the name a: .* in a column name"),
        ("image,labels\na.tif", "Line 2 .* not as many values"),
        ("image,labels\n", "holds no fields"),
        ('image,"pixel\nsize"\na.tif,1', "has the columns image, pixel size: a table"),
        pytest.param(f"image,labels\n{'x' * 200_000},b.tif", "cannot be read as a table", id="long"),
        ("image,labels,dose,dose\n", "two columns 'dose'"),
    ],
)
def test_wrong_tables(tmp_path, text, words):
    (tmp_path / "fields.csv").write_text(text)
    with pytest.raises(InputError, match=words):
        list_fields(tmp_path / "fields.csv")


def test_one_picture_is_no_table(tmp_path):
    with pytest.raises(InputError, match=r"f0\.tif is one image, .* napari-dispr predict"):
        list_fields(write_screen(tmp_path, 1, 1) / "f0.tif")
    zarr.open_group(tmp_path / "a.zarr", mode="w").attrs["ome"] = {"multiscales": []}
    with pytest.raises(InputError, match=r"a\.zarr is one image, .* napari-dispr predict"):
        list_fields(tmp_path / "a.zarr")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "fields.csv")
        with pytest.raises(InputError, match="is a pipe or a device"):
            list_fields(tmp_path / "fields.csv")


def test_wrong_rows_are_fields_that_fail(tmp_path):
    text = (
        'image,labels,pixel_size,unit,note\na.tif,,,,"two\nlines"\n\nb.tif,b.tif,tiny,,\nc.tif,d.tif,,,\n'
        "e.tif,e.tif,90,nm,"
    )
    (tmp_path / "fields.csv").write_text(text)
    fields = list_fields(tmp_path / "fields.csv")
    assert fields[0].columns["note"] == "two\nlines"
    said = (
        "Line 3 .* names no labels",
        "Line 5 .*'tiny micrometer'",
        "no file",
        "'90 nm': give it in micrometer",
    )
    for one, words in zip(fields, said, strict=True):
        with pytest.raises(InputError, match=words):
            read_field(one)


def test_series_and_channels(tmp_path):
    image, labels = field(2, 0)
    series = np.stack([np.zeros_like(labels), labels, labels])
    channels = np.stack([np.stack([image + time, image]) for time in range(3)], dtype=np.uint8)  # T, C
    tifffile.imwrite(tmp_path / "a.ome.tif", channels, metadata={"axes": "TCYX"}, photometric="minisblack")
    tifffile.imwrite(tmp_path / "a_masks.ome.tif", series, metadata={"axes": "TYX"})
    fields = list_fields(tmp_path)
    assert [one.name for one in fields] == ["a_t0", "a_t1", "a_t2"]
    assert fields[2].columns == {"time_point": "2"}
    seen, cells, _ = read_field(fields[2], channel=0)
    np.testing.assert_array_equal(seen, image + 2)
    np.testing.assert_array_equal(cells, labels)
    with pytest.raises(InputError, match="has one channel: leave out --channel 1"):
        read_field(replace(fields[2], image=fields[2].labels), channel=1)
    with pytest.raises(InputError, match=r"2 channels: give .* --channel 0 to 1"):
        read_field(fields[2])


@pytest.mark.parametrize(("axes", "what"), [("TYX", "time points"), ("ZYX", "slices"), ("CYX", "channels")])
def test_several_planes_of_labels_where_one_is_expected(tmp_path, axes, what):
    series = np.zeros((5, 20, 30), np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", series, imagej=True, metadata={"axes": axes})
    with pytest.raises(InputError, match=f"5 {what}, and one was expected: save one"):
        read_plane(tmp_path / "a.tif", labels=True)
    for array in (series[0, 0], series[None, :, None]):
        np.save(tmp_path / "a.npy", array)  # of other axes: checked by what uses it
        assert read_plane(tmp_path / "a.npy").shape == tuple(n for n in array.shape if n > 1)
    np.save(tmp_path / "a.npy", series + np.arange(5, dtype=np.uint16)[:, None, None])
    assert (read_plane(tmp_path / "a.npy", channel=3) == 3).all(), "planes without a name may be channels"
    with pytest.raises(InputError, match=r"5 planes: give the one .* --channel 0 to 4"):
        read_plane(tmp_path / "a.npy")
    np.save(tmp_path / "a.npy", series)  # it does not say that these are time points
    with pytest.raises(InputError, match="5 planes, and one was expected"):
        read_plane(tmp_path / "a.npy", labels=True)


@pytest.mark.parametrize("shape", [(30,), (), (0, 5), (2, 3, 4, 5)])
def test_arrays_of_other_shapes_are_left_to_the_check_of_their_axes(tmp_path, shape):
    np.save(tmp_path / "a.npy", np.zeros(shape))
    assert read_plane(tmp_path / "a.npy").shape == shape
    with pytest.raises(InputError, match=r"shape|empty"):
        check_fields(None, read_plane(tmp_path / "a.npy", labels=True))


def test_files_of_cellpose(tmp_path):
    """Images as PNG, with its masks or its own file; a preview among other files is no field."""
    image, labels = field(2, 0)
    for name in ("a.png", "b.png"):
        iio.imwrite(tmp_path / name, image)
    iio.imwrite(tmp_path / "a_cp_masks.png", labels.astype(np.uint16))
    np.save(tmp_path / "b_seg.npy", np.array({"masks": labels, "outlines": labels > 0}), allow_pickle=True)
    for one in list_fields(tmp_path):
        seen, segmented, _ = read_field(one)
        np.testing.assert_array_equal(seen, image)
        np.testing.assert_array_equal(segmented, labels)
    iio.imwrite(tmp_path / "c.png", image)
    with pytest.raises(InputError, match=r"c\.png has no labels"):
        read_field(list_fields(tmp_path)[2])
    for path in tmp_path.glob("*"):
        path.unlink()
    for name in ("a.tif", "a_masks.tif"):
        tifffile.imwrite(tmp_path / name, labels)
    for name in ("a.png", "preview.png"):
        iio.imwrite(tmp_path / name, image)
    assert [one.image for one in list_fields(tmp_path)] == [tmp_path / "a.tif"]


@pytest.mark.parametrize("kind", ["compressed", "tiled", "contiguous", "imagej", "npy", "zarr"])
def test_of_a_series_one_plane_is_read(tmp_path, kind):
    series = np.random.default_rng(0).integers(0, 255, (5, 20, 30), np.uint16)
    name, zlib = {"npy": "a.npy", "zarr": "a.zarr"}.get(kind, "a.tif"), {"compression": "zlib"}
    path = tmp_path / name
    match kind:
        case "npy":
            np.save(path, series)
        case "zarr":
            group = zarr.open_group(path, mode="w", zarr_format=2)
            group.create_array("0", data=series, chunks=(1, 20, 30))
            group.attrs["multiscales"] = [{"axes": ["t", "y", "x"], "datasets": [{"path": "0"}]}]
            (path / "0" / "0.0.0").write_bytes(b"damaged")
        case "imagej":
            tifffile.imwrite(path, series, imagej=True, metadata={"axes": "TYX"})
        case _:
            more = {"contiguous": {}, "compressed": zlib, "tiled": {**zlib, "tile": (16, 16)}}[kind]
            tifffile.imwrite(path, series, metadata={"axes": "TYX"}, photometric="minisblack", **more)
    if kind in ("compressed", "tiled"):
        with tifffile.TiffFile(path) as tiff, open(path, "rb+") as file:
            file.seek(tiff.pages[0].dataoffsets[0])
            file.write(b"damaged")
    for time in (1, 4):
        np.testing.assert_array_equal(read_plane(path, {"T": time}), series[time])
    if kind in ("compressed", "tiled", "zarr"):
        with pytest.raises(InputError, match=r"a\.\w+ cannot be read"):
            read_plane(path, {"T": 0})


def test_a_plate(tmp_path):
    plate = zarr.open_group(tmp_path / "plate.zarr", mode="w", zarr_format=2)
    plate.attrs["plate"] = {"wells": [{"path": "B/3"}]}
    well = plate.create_group("B").create_group("3")
    well.attrs["well"] = {"images": [{"path": "0"}, {"path": "1"}]}
    axes = [{"name": "y", "unit": "micrometer"}, {"name": "x", "unit": "micrometer"}]
    scale = [{"type": "scale", "scale": [0.5, 0.5]}]
    levels = {"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": scale}]}
    image, labels = field(2, 0)
    for site in ("0", "1"):
        group = well.create_group(site)
        group.attrs["multiscales"] = [levels]
        group.create_array("0", data=image)
    cells = well["0"].create_group("labels")
    cells.attrs["labels"] = ["cells"]
    cells = cells.create_group("cells")
    cells.attrs["multiscales"] = [levels]
    cells.create_array("0", data=labels)
    one, other = list_fields(tmp_path / "plate.zarr")
    assert one.name == "B3_0" and one.columns == {"well": "B3", "row": "B", "column": "3", "site": "0"}
    seen, segmented, sides = read_field(one)
    np.testing.assert_array_equal(seen, image)
    np.testing.assert_array_equal(segmented, labels)
    assert sides == (0.5, 0.5)
    with pytest.raises(InputError, match="has no labels: segment it"):
        read_field(other)


def test_attributes_of_something_else_are_no_plate(tmp_path):
    write_screen(tmp_path, 1, 1)
    (tmp_path / "zarr.json").write_text('{"attributes": {"ome": 5}}')
    assert [one.name for one in list_fields(tmp_path)] == ["f0"]
