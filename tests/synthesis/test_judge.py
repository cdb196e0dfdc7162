"""The trial: a table of real, synthetic and both; continuation; refusals."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from imageio.v3 import imread
from support.balls import balls

from napari_dispr.errors import InputError
from napari_dispr.files import folder_locked
from napari_dispr.synthesis.annotated import Annotated
from napari_dispr.synthesis.fields import make_synthesis
from napari_dispr.synthesis.judge import Judged, iter_judge_synthesis, judge_synthesis, lacking, markdown
from napari_dispr.synthesis.populations import make_population
from napari_dispr.synthesis.segmentation import Resized, Trial, examples_of
from napari_dispr.synthesis.settings import JudgeSettings, PopulationSettings

SETTINGS = JudgeSettings(steps=2, batch=2, crop=32, seeds=1, diameter=10)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("judge")
    sizes = PopulationSettings(size=(64, 64), cells=6, cut="none")
    for seed, name in enumerate(("train", "test", "synthetic")):
        make_synthesis(balls(2, noise=True), place / name, 2, sizes, seed)
    return {name: place / name for name in ("train", "test", "synthetic")}


def test_the_table_compares_and_a_stopped_trial_goes_on(folders: dict[str, Path], tmp_path: Path) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    events = []
    table = judge_synthesis(*folders.values(), whole, SETTINGS, progress=events.append)
    assert table["training"].tolist() == ["real", "synthetic", "real + synthetic"]
    assert table["seg"].between(0, 1).all() and table["slices"].tolist() == [2, 2, 4]
    assert np.isfinite(table.loc[1, ["kid_real_real", "kid_real_synthetic"]].astype(float)).all()
    steps = [event.done for event in events if isinstance(event, Trial)]
    assert steps == list(range(1, 7)) and events[-1].total == 6
    rows = pd.read_csv(whole / "seg.csv")
    assert len(rows) == 3 * 2 and set(rows["cells"]) == {6}
    assert (whole / "table.md").read_text("utf-8").startswith("| SEG | real | synthetic | both |")
    assert (whole / "realism.png").stat().st_size > 1000
    assert not lacking(table)
    unknown = table.assign(kid_real_synthetic=np.nan, kid_real_real=np.nan)
    assert "8 real and 4 synthetic cells" in markdown(unknown, 2, SETTINGS)
    margin = imread(whole / "images.png")[:, :40, :3]  # with the name of each row
    assert margin.mean() > 200 and all((half < 100).any() for half in np.array_split(margin, 2))

    with folder_locked(whole), pytest.raises(InputError, match="Another process"):
        judge_synthesis(*folders.values(), whole, SETTINGS)
    shutil.copytree(folders["test"], tmp_path / "test")
    changed = next((tmp_path / "test" / "labels").iterdir())
    changed.write_bytes(changed.read_bytes()[:-1] + b"x")
    with pytest.raises(InputError, match="other inputs"):
        judge_synthesis(folders["train"], tmp_path / "test", folders["synthetic"], whole, SETTINGS)
    with pytest.raises(InputError, match="is a training and a test image"):
        judge_synthesis(folders["train"], folders["test"], folders["test"], tmp_path / "no", SETTINGS)
    with pytest.raises(InputError, match="other inputs"):
        next(iter_judge_synthesis(*folders.values(), whole, SETTINGS, channel=1))
    run = iter_judge_synthesis(*folders.values(), stopped, SETTINGS)
    for event in run:
        if isinstance(event, Judged):
            break
    run.close()
    events = []
    judge_synthesis(*folders.values(), stopped, SETTINGS, progress=events.append)
    assert len([event for event in events if isinstance(event, Trial)]) == 4  # the first was finished
    for name in ("seg.csv", "table.csv", "table.md"):
        assert (stopped / name).read_bytes() == (whole / name).read_bytes()


def test_single_annotated_slices_count_and_several_folders_compare(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    settings = PopulationSettings(size=(10, 40, 40), cells=6, cut="all")
    for seed, name in enumerate(("train", "test", "one", "two")):
        make_synthesis(balls(3), tmp_path / name, 1, settings, seed)
    path = tmp_path / "train" / "labels" / "synthetic_0001.tif"
    labels = tifffile.imread(path)
    labels[[z for z in range(10) if z not in (3, 7)]] = 0
    tifffile.imwrite(path, labels)
    two = SETTINGS.model_copy(update={"seeds": 2, "steps": 1})
    places = [tmp_path / name for name in ("one", "two")]
    table = judge_synthesis(tmp_path / "train", tmp_path / "test", places, tmp_path / "out", two)
    assert table["training"].tolist() == ["real", "one", "two", "real + one", "real + two"]
    assert table["slices"][0] == 2 and table["slices"][1] > 5
    assert table[["seg", "seg_2d"]].notna().all().all() and table["seg_sd"].notna().all()
    assert "| one, slice by slice |" in (tmp_path / "out" / "table.md").read_text("utf-8")


def test_a_single_slice_is_scaled_by_the_grey_values_of_its_stack(tmp_path: Path) -> None:
    """A dim slice must not look bright because it was annotated alone."""
    stack = make_population(balls(3, noise=True), PopulationSettings(size=(14, 48, 48), cells=6), 0)
    alone = np.zeros_like(stack.labels)
    alone[[3, 9]] = stack.labels[[3, 9]]
    resized = Resized(10.0, 10.0)
    few, all_ = (
        examples_of([Annotated("a", stack.image, labels, (1.0,) * 3)], resized)
        for labels in (alone, stack.labels)
    )
    slices = [int(z) for z in np.flatnonzero(stack.labels.any(axis=(1, 2)))]
    assert len(few) == 2 and len(all_) == len(slices)
    for z, one in zip((3, 9), few, strict=True):
        np.testing.assert_array_equal(one.image, all_[slices.index(z)].image)


def test_wrong_folders_are_named(folders: dict[str, Path], tmp_path: Path) -> None:
    train, test, synthetic = folders.values()
    with pytest.raises(InputError, match="is a training and a test image"):
        judge_synthesis(train, train, synthetic, tmp_path / "out", SETTINGS)
    with pytest.raises(InputError, match="is no folder"):
        judge_synthesis(train, test, tmp_path / "missing", tmp_path / "out", SETTINGS)
    with pytest.raises(InputError, match="at least one folder"):
        judge_synthesis(train, test, [], tmp_path / "out", SETTINGS)
    with pytest.raises(InputError, match="Two folders have the name"):
        judge_synthesis(train, test, [synthetic, synthetic], tmp_path / "out", SETTINGS)
    with pytest.raises(InputError, match="holds other files"):
        judge_synthesis(train, test, synthetic, train, SETTINGS)
    empty = tmp_path / "empty"
    shutil.copytree(train, empty)
    for path in (empty / "labels").iterdir():
        tifffile.imwrite(path, np.zeros((64, 64), np.uint16))
    with pytest.raises(InputError, match="training images hold no cell"):
        judge_synthesis(empty, test, synthetic, tmp_path / "a", SETTINGS)
    with pytest.raises(InputError, match="hold no cell: choose a folder with cells"):
        judge_synthesis(train, test, empty, tmp_path / "b", SETTINGS)
    started = iter_judge_synthesis(train, test, synthetic, tmp_path / "b", SETTINGS)
    next(started)
    started.close()
    other = SETTINGS.model_copy(update={"steps": SETTINGS.steps + 1})
    with pytest.raises(InputError, match="a run with other inputs"):
        judge_synthesis(train, test, synthetic, tmp_path / "b", other)
