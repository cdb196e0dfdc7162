"""Layers saved as OME-TIFF come back as they were; files of other programs keep their scale."""

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import tifffile
from napari.components import ViewerModel
from napari.layers import Image, Labels, Layer

from napari_dispr.errors import InputError
from napari_dispr.viewer.content import METADATA_KEY
from napari_dispr.viewer.files import write_volumes
from napari_dispr.viewer.ome_files import ome_reader, read_ome

PLACES: dict[str, dict[str, Any]] = {
    "nothing stated": {},
    "micrometers": {"scale": (2, 0.1, 0.1), "units": ("micrometer",) * 3, "translate": (1, -2, 3)},
    "two lengths": {"scale": (2, 100, 100), "units": ("micrometer", "nanometer", "nanometer")},
    "a pixel first": {"scale": (2, 0.1, 0.1), "units": ("pixel", "micrometer", "micrometer")},
    "a pixel last": {"scale": (2, 0.1, 0.1), "units": ("micrometer", "micrometer", "pixel")},
    "a mirror": {"scale": (1, -1, 1), "units": ("mm",) * 3},
    "turned": {"rotate": 30.0, "scale": (1, 2, 3), "shear": (0.1, 0, 0.2)},
    "affine": {"affine": np.array([[1, 0.5, 0, 3], [0, 2, 0, 4], [0, 0.1, 1, 5], [0, 0, 0, 1]])},
}


def again(layers: list[Layer], path: Path) -> list[Layer]:
    """The layers after writing and reading."""
    (written,) = write_volumes(
        str(path / "layers.ome.tif"), [layer.as_layer_data_tuple() for layer in layers]
    )
    reader = ome_reader(written)
    assert reader is not None
    return [Layer.create(*found) for found in reader(written)]


def assert_same(one: Layer, other: Layer) -> None:
    assert type(one) is type(other) and one.name == other.name
    assert one.units == other.units
    np.testing.assert_array_equal(one.data, other.data)
    corners = np.random.default_rng(0).uniform(-9, 9, (5, one.ndim))
    for corner in corners:
        np.testing.assert_allclose(one.data_to_world(corner), other.data_to_world(corner), atol=1e-9)


@pytest.mark.parametrize("place", PLACES)
def test_layers_come_back_as_they_were(place: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = Labels(rng.integers(0, 5, (2, 3, 4)).astype(np.uint16), name="my cells", **PLACES[place])
    image = Image(rng.random((2, 3, 4)).astype(np.float32), name="stain", **PLACES[place])
    for before, after in zip([labels, image], again([labels, image], tmp_path), strict=True):
        assert_same(before, after)


@pytest.mark.parametrize("shape", [(1, 4), (3, 4), (1, 3, 4), (2, 1, 3, 4), (2, 3, 1, 1)])
def test_axes_of_length_one_and_time_come_back(shape: tuple[int, ...], tmp_path: Path) -> None:
    scale, units = (5, 2, 0.1, 0.1)[-len(shape) :], ("second", "um", "um", "um")[-len(shape) :]
    layer = Image(np.arange(np.prod(shape), dtype=np.float32).reshape(shape), scale=scale, units=units)
    (after,) = again([layer], tmp_path)
    assert_same(layer, after)


def test_members_come_back_with_their_names_and_metadata(tmp_path: Path) -> None:
    volume = np.zeros((3, 4, 5), np.uint8)
    members = [
        Labels(
            volume + number,
            name=f"cells: member {number + 1}",
            metadata={METADATA_KEY: {"model": "balls", "member": number}, "note": "mine", "object": object()},
            scale=(0.1,) * 3,
            units=("micrometer",) * 3,
        )
        for number in range(3)
    ]
    after = again(members, tmp_path)
    assert tifffile.imread(tmp_path / "layers.ome.tif").shape == (3, 3, 4, 5)  # one image
    for number, (one, other) in enumerate(zip(members, after, strict=True)):
        assert_same(one, other)
        assert other.metadata == {METADATA_KEY: {"model": "balls", "member": number}, "note": "mine"}


def test_files_of_other_programs_keep_their_scale(tmp_path: Path) -> None:
    path = str(tmp_path / "microscope.ome.tif")
    sizes = {
        "PhysicalSizeX": 65.0,
        "PhysicalSizeXUnit": "nm",
        "PhysicalSizeY": 65.0,
        "PhysicalSizeYUnit": "nm",
    }
    metadata = {"axes": "ZCYX", "Name": "field 1", "PhysicalSizeZ": 0.3, **sizes}
    tifffile.imwrite(path, np.arange(2 * 3 * 4 * 5, dtype=np.uint16).reshape(2, 3, 4, 5), metadata=metadata)
    viewer = ViewerModel()
    for data, settings, kind in read_ome(path):
        assert kind == "image"
        viewer.add_image(data, **settings)
    assert len(viewer.layers) == 3  # the channels
    for layer in viewer.layers:
        assert layer.data.shape == (2, 4, 5) and str(layer.units[0]) == "micrometer"
        np.testing.assert_allclose(layer.scale, (0.3, 0.065, 0.065))


def test_colours_and_unknown_sizes(tmp_path: Path) -> None:
    path = str(tmp_path / "colours.ome.tif")
    tifffile.imwrite(path, np.zeros((6, 7, 3), np.uint8), photometric="rgb", metadata={"axes": "YXS"})
    ((data, settings, _),) = read_ome(path)
    layer = Image(data, **settings)
    assert layer.rgb and layer.data.shape == (6, 7, 3)
    assert [str(unit) for unit in layer.units] == ["pixel", "pixel"]


def test_other_files_are_left_to_other_readers(tmp_path: Path) -> None:
    plain, text = tmp_path / "plain.ome.tif", tmp_path / "text.ome.tif"
    tifffile.imwrite(plain, np.zeros((4, 5), np.uint8), ome=False)
    text.write_text("no picture")
    pipe = tmp_path / "pipe.ome.tif"
    if hasattr(os, "mkfifo"):
        os.mkfifo(pipe)  # which napari would wait for
    for path in (plain, text, pipe, tmp_path / "missing.ome.tif"):
        assert ome_reader(str(path)) is None
    assert ome_reader([str(plain), str(text)]) is None


def test_a_damaged_file_is_one_sentence(tmp_path: Path) -> None:
    layer = Image(np.random.default_rng(0).random((40, 50)))
    (path,) = write_volumes(str(tmp_path / "cut.ome.tif"), [layer.as_layer_data_tuple()])
    content = Path(path).read_bytes()
    Path(path).write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"^The file cut\.ome\.tif cannot be read as OME-TIFF: save"):
        read_ome(path)


@pytest.mark.skipif(find_spec("imagecodecs") is not None, reason="with imagecodecs the file can be read")
def test_a_file_whose_compression_needs_a_package_is_not_called_damaged(tmp_path: Path) -> None:
    plain, path = tmp_path / "plain.ome.tif", str(tmp_path / "cells.ome.tif")
    tifffile.imwrite(plain, np.zeros((4, 5), np.uint8), metadata={"axes": "YX"})
    with tifffile.TiffFile(plain) as file:
        about = file.ome_metadata
    picture = PIL.Image.fromarray(np.zeros((4, 5), np.uint8))
    picture.save(path, compression="tiff_lzw", tiffinfo={270: about})
    assert ome_reader(path) is read_ome
    with pytest.raises(InputError, match=r"^cells\.ome\.tif is compressed with LZW.*imagecodecs"):
        read_ome(path)
