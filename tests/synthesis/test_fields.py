"""Synthetic images in a folder: layouts, continuation byte by byte, table, refusals."""

import time
from collections.abc import Iterable, Mapping
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile
from support.balls import balls

from napari_dispr.cells.stack_files import read_stack
from napari_dispr.errors import InputError
from napari_dispr.synthesis import fields
from napari_dispr.synthesis.annotated import annotated_files, read_annotated
from napari_dispr.synthesis.fields import FieldMade, iter_make_synthesis, make_synthesis
from napari_dispr.synthesis.settings import Layout, PopulationSettings

FLAT = PopulationSettings(size=(64, 80), cells=5)
DEEP = PopulationSettings(size=(14, 40, 40), cells=4, cut="all")


def content(folder: Path) -> dict[str, str]:
    """The hash of each file."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize("layout", ["plain", "stardist", "cellpose"])
@pytest.mark.parametrize(("ndim", "settings"), [(2, FLAT), (3, DEEP)])
def test_images_have_labels_in_each_layout(
    tmp_path: Path, layout: Layout, ndim: int, settings: PopulationSettings
) -> None:
    results = make_synthesis(balls(ndim), tmp_path, 2, settings, layout=layout)
    table = pd.read_csv(tmp_path / "cells.csv")
    assert results["images"] == 2 and results["cells"] == len(table) == 2 * settings.cells
    pairs = annotated_files(tmp_path)
    images = list(read_annotated(tmp_path))
    if layout == "cellpose":
        assert all(path.name == f"{image.stem}_masks.tif" for image, path in pairs)
        assert all(one.image.ndim == 2 and one.labels.any() for one in images)
    else:
        folders = {"plain": ("image", "labels"), "stardist": ("images", "masks")}[layout]
        assert (pairs[0][0].parent.name, pairs[0][1].parent.name) == folders
        for name, of_image in table.groupby("image"):
            labels = next(one.labels for one in images if one.name == name)
            counts = np.bincount(labels.ravel())
            assert of_image["voxels"].tolist() == counts[of_image["label"]].tolist()
    assert all(one.spacing == (1.0, 0.5, 0.5)[-one.image.ndim :] for one in images)
    assert images[0].unit == "micrometer"
    assert (tmp_path / "preview.png").stat().st_size > 500


def test_a_stack_opens_with_its_spacing(tmp_path: Path) -> None:
    make_synthesis(balls(3), tmp_path, 1, DEEP)
    name = "synthetic_0001.tif"
    stack = read_stack(tmp_path / "image" / name, tmp_path / "labels" / name)
    assert stack.spacing == (1.0, 0.5, 0.5) and stack.unit == "micrometer"
    with tifffile.TiffFile(tmp_path / "labels" / name) as tiff:
        assert tiff.is_ome and tiff.series[0].axes == "ZYX"


def test_an_interrupted_run_goes_on_and_writes_the_same_bytes(tmp_path: Path) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    make_synthesis(balls(2, noise=True), whole, 4, FLAT, seed=3)
    events = iter_make_synthesis(balls(2, noise=True), stopped, 4, FLAT, seed=3)
    made = (event for event in events if isinstance(event, FieldMade))
    assert [event.name for event in islice(made, 2)] == ["synthetic_0001", "synthetic_0002"]
    events.close()
    (stopped / "image" / "synthetic_0003.tif").write_bytes(b"half a file")
    before = (stopped / "image" / "synthetic_0001.tif").stat().st_mtime_ns
    make_synthesis(balls(2, noise=True), stopped, 4, FLAT, seed=3)
    assert content(stopped) == content(whole)
    assert (stopped / "image" / "synthetic_0001.tif").stat().st_mtime_ns == before  # not made again


def test_a_long_table_is_written_rarely(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []

    def slow(path: Path, columns: Iterable[str], rows: Iterable[Mapping[str, Any]]) -> None:
        time.sleep(0.1)
        written.append(len({row["image"] for row in rows}))

    monkeypatch.setattr(fields, "write_rows", slow)
    make_synthesis(balls(2), tmp_path, 4, FLAT)
    assert written == [1, 4]


def test_a_finished_run_takes_more_images(tmp_path: Path) -> None:
    make_synthesis(balls(2), tmp_path, 1, FLAT)
    before = content(tmp_path)
    make_synthesis(balls(2), tmp_path, 2, FLAT)
    assert len(annotated_files(tmp_path)) == 2
    assert content(tmp_path)["image/synthetic_0001.tif"] == before["image/synthetic_0001.tif"]


def test_notes_are_kept(tmp_path: Path) -> None:
    settings = PopulationSettings(size=(30, 30), cells=99)
    results = make_synthesis(balls(2), tmp_path, 1, settings)
    assert "of 99 cells fit" in results["notes"]["synthetic_0001"][0]
    assert make_synthesis(balls(2), tmp_path, 1, settings) == results


def test_folders_of_others_are_refused(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.docx").write_text("do not lose me")
    with pytest.raises(InputError, match=r"holds other files, such as thesis\.docx"):
        make_synthesis(balls(2), other, 1, FLAT)
    run = tmp_path / "run"
    make_synthesis(balls(2), run, 1, FLAT)
    with pytest.raises(InputError, match="a run with other inputs, another seed"):
        make_synthesis(balls(2), run, 1, FLAT, seed=1)
    (run / "image" / "synthetic_0001.tif").write_bytes(b"")
    with pytest.raises(InputError, match=r"synthetic_0001\.tif"):
        make_synthesis(balls(2), run, 1, FLAT)
    with pytest.raises(InputError, match="is a file"):
        make_synthesis(balls(2), other / "thesis.docx", 1, FLAT)
    with pytest.raises(InputError, match="make at least 1"):
        make_synthesis(balls(2), tmp_path / "none", 0, FLAT)
    with pytest.raises(InputError, match="No cell of balls fits"):
        make_synthesis(balls(3), tmp_path / "none", 1, PopulationSettings(size=(4, 64, 64), cut="none"))
    assert not (tmp_path / "none").exists()


def test_folders_that_hold_no_annotated_images_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no folder"):
        annotated_files(tmp_path / "missing")
    for name, shape in (("image", (20, 20)), ("labels", (20, 21))):
        (tmp_path / name).mkdir()
        tifffile.imwrite(
            tmp_path / name / "a.tif", np.arange(np.prod(shape)).reshape(shape).astype(np.uint16)
        )
    with pytest.raises(InputError, match="labels that were made from this image"):
        list(read_annotated(tmp_path))
