"""What commands share: reading pictures and labels, splitting masks."""

from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import zarr
from PIL import Image

from napari_dispr.cells.folders import read_dataset
from napari_dispr.cells.pictures import read_plane
from napari_dispr.commands.common import split_labels
from napari_dispr.errors import InputError

LABELS = np.zeros((40, 40), np.uint8)
LABELS[5:15, 5:15], LABELS[20:30, 20:30] = 1, 2


@pytest.mark.parametrize("suffix", ["png", "gif", "bmp"])
def test_labels_in_a_palette_are_its_indices(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"labels.{suffix}"
    image = Image.fromarray(LABELS, mode="L").convert("P")
    image.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0] + [9] * 759)
    image.putdata(LABELS.ravel().tolist())
    image.save(path)
    assert (read_plane(path, labels=True) == LABELS).all()
    with pytest.raises(InputError, match="has 3 colours: give the one that shows the cells"):
        read_plane(path)
    assert (read_plane(path, channel=1) == np.where(LABELS == 2, 255, 0)).all()


def test_pictures_in_zarr(tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
    group.create_array("0", data=LABELS[None], chunks=(1, 40, 40))
    group.attrs["multiscales"] = [{"version": "0.4", "axes": list("zyx"), "datasets": [{"path": "0"}]}]
    assert (read_plane(tmp_path / "a.zarr") == LABELS).all()
    with pytest.raises(
        InputError, match="is an image, not a dataset: cut its cells with napari-dispr dataset"
    ):
        read_dataset(tmp_path / "a.zarr")


def test_masks_are_split_or_named(capsys: pytest.CaptureFixture[str]) -> None:
    mask = LABELS > 0
    assert split_labels(mask, Namespace(split=False), Path("a.tif")) is mask
    assert "counts as one cell with 2 separate parts: use --split" in capsys.readouterr().err
    assert (split_labels(mask, Namespace(split=True), Path("a.tif")) == LABELS).all()
