"""Further members of cells that were drawn, others for rejected ones, and how a member came to be."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import tifffile
import torch

import napari_dispr as nd
from napari_dispr import grid
from napari_dispr.card import Card, Quality
from napari_dispr.commands.cli import main
from napari_dispr.diffusion import devices
from napari_dispr.diffusion.known_shapes import START
from napari_dispr.diffusion.model import ShapeModel
from napari_dispr.diffusion.network import NetworkConfig, UNet3D
from napari_dispr.diffusion.process import GaussianDiffusion
from napari_dispr.errors import InputError
from napari_dispr.prediction import denoising as replaying
from napari_dispr.prediction.members import CellDone, Step
from napari_dispr.prediction.more import crop_of, iter_more_members
from napari_dispr.prediction.predict import iter_predict_crops
from napari_dispr.prediction.saving import load_measures, load_prediction
from napari_dispr.prediction.tables import measure, measure_cells, measure_changed
from napari_dispr.settings import PredictSettings
from napari_dispr.shapes.ensemble import Section
from napari_dispr.synthesis.phantoms import simulate_field

EMPTY = Section(np.zeros(grid.SHAPE[1:], np.float32))
QUICK = {"quality": "fast", "device": "cpu", "pixel_size": 0.1, "seed": 3}


@pytest.fixture(scope="module")
def field():
    return simulate_field(cells=2, shape=(160, 160), seed=3)


@pytest.fixture(scope="module")
def at_once(field, model):
    return nd.predict(field.image, field.labels, model=model, members=4, **QUICK)


@pytest.fixture(scope="module")
def folder(field, model, tmp_path_factory):
    """A saved prediction of two members."""
    folder = tmp_path_factory.mktemp("prediction")
    nd.predict(field.image, field.labels, model=model, members=2, **QUICK).save(folder)
    return folder


@pytest.fixture(scope="module")
def few(folder):
    return load_prediction(folder)


# --- more members -----------------------------------------------------------------------------------


def test_members_drawn_later_are_those_drawn_at_once(few, at_once, model):
    before = list(few.warnings)
    events = list(iter_more_members(few, [2, 1], 2))
    done = [event for event in events if isinstance(event, CellDone)]
    assert [event.label for event in done] == [2, 1] and isinstance(events[0], Step)
    assert len(done[0].prediction[1]) == 2, "a cell comes as soon as it is finished"
    more = done[-1].prediction
    for label in (1, 2):
        assert more[label].numbers == (0, 1, 2, 3) and len(few[label]) == 2
        np.testing.assert_array_equal(more[label].signed_distance, at_once[label].signed_distance)
        np.testing.assert_array_equal(more[label].grid_to_world, few[label].grid_to_world)
    assert few.warnings == before and more.provenance == few.provenance
    again = nd.more_members(nd.more_members(few, 1, 1, model=model), 1, 1)
    np.testing.assert_array_equal(again[1].signed_distance, at_once[1].signed_distance)


def test_others_are_drawn_for_rejected_members(few, at_once, folder):
    seen = []
    other = nd.redraw_members(few, 1, [0, 1], progress=seen.append)
    assert other[1].numbers == (2, 3) and other.rejected == {1: (0, 1)} and other[2] is few[2]
    np.testing.assert_array_equal(other[1].signed_distance, at_once[1].signed_distance[2:4])
    (done,) = [event for event in seen if isinstance(event, CellDone)]
    assert done.prediction[1].numbers == (2, 3), "the rejected ones are never shown again"
    assert nd.more_members(other, 1, 1)[1].numbers == (2, 3, 4)
    known = load_measures(folder, few)
    table = measure_changed(other, few, known)
    assert list(zip(table["label"], table["member"], strict=True)) == [(1, 2), (1, 3), (2, 0), (2, 1)]
    for label, expected in ((1, measure({1: other[1]})), (2, known[known["label"] == 2])):
        np.testing.assert_array_equal(table[table["label"] == label], expected)
    assert measure_cells(other, table)["volume_low"].isna().tolist() == [True, False]
    marked = known.assign(volume=-1.0)
    assert measure_changed(few.reject(1, 0), few, marked)["volume"].eq(-1).all(), "none of these is new"
    with pytest.raises(InputError, match="no member 7"):
        nd.redraw_members(few, 1, [7])
    for cells in ("12", 1.5, [1, "2"], [[1, 2]]):  # "12" was read as the cells 1 and 2
        with pytest.raises(InputError, match="as a list of whole numbers"):
            nd.more_members(few, cells, 1)
    for numbers in ("01", [0.5], b"1"):
        with pytest.raises(InputError, match=r"members are .* whole numbers"):
            nd.redraw_members(few, 1, numbers)
    with pytest.raises(InputError, match="No cells were given"):
        nd.more_members(few, (), 1)
    with pytest.raises(InputError, match="No members were given"):
        nd.redraw_members(few, 1, [])


def test_cells_with_names_keep_their_noise(few, model, tmp_path):
    # The name of the first happens to be its label: names decide the noise all the same.
    crops, names = [crop_of(few, label) for label in (1, 2)], {1: "1", 2: "b"}
    settings = PredictSettings(members=2, **QUICK)
    *_, last = iter_predict_crops(crops, model, settings, image_to_world=few.image_to_world, names=names)
    three = last.prediction
    assert (three[1].members != few[1].members).any()
    replace(three, ensembles={label: one.without(1) for label, one in three.items()}).save(tmp_path)
    more = nd.more_members(load_prediction(tmp_path), [1, 2], 1)
    for label in (1, 2):
        np.testing.assert_array_equal(more[label].signed_distance, three[label].signed_distance)


def changed(prediction, **values):
    return replace(prediction, provenance={**prediction.provenance, **values})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda p: changed(p, model="lost"), "'lost' .* not installed: import it"),
        (lambda p: changed(p, model="generic"), "differs from the 'generic'"),
        (lambda p: changed(p, model_hash="0"), "differs from"),
        (lambda p: changed(p, method="cylinder"), "one shape of a cell and no other"),
        (lambda p: changed(p, settings=None), "does not say how it was drawn"),
        (lambda p: replace(p, ensembles={1: replace(p[1], section=None)}), "drawn from: predict it again"),
        (lambda p: replace(p, ensembles={1: replace(p[1], section=EMPTY)}), "drawn from: predict it again"),
        (lambda p: replace(p, ensembles={2: p[2]}), "no cell 1"),
    ],
)
def test_what_cannot_be_drawn_again_is_one_sentence(few, change, words):
    for draw in (lambda p: nd.more_members(p, 1, 1), lambda p: nd.denoising(p, 1)):
        with pytest.raises(InputError, match=words) as error:
            draw(change(few))
        assert "\n" not in str(error.value) and str(error.value).endswith(".")


# --- how a member came to be --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def path(few):
    """From noise to member 1 of cell 2, in the steps that it was drawn with."""
    return nd.denoising(few, 2, 1)


def test_a_path_begins_with_a_known_shape_under_noise_and_ends_in_the_member(few, path):
    assert path.is_member and (path.label, path.number, len(path)) == (2, 1, 2)
    np.testing.assert_array_equal(path.frames[-1].astype(np.float32), few[2].signed_distance[1])
    np.testing.assert_array_equal(path.clean[-1], path.frames[-1])
    noise = path.frames[0].astype(np.float64) / 8  # in units of the truncation
    inside = path.frames[-1] > 0
    assert noise[inside].mean() > noise[~inside].mean() + 0.05, "the known shape shows through"
    # The member is nearly the known shape. Without it noise is left: voxels hardly depend on each other.
    noise -= (1 - START) * path.frames[-1] / 8
    assert path.noise[0] == pytest.approx(START) and noise.std() == pytest.approx(START, abs=0.01)
    neighbours = np.corrcoef(noise[:-1].ravel(), noise[1:].ravel())[0, 1]
    assert abs(neighbours) < 0.02
    other = nd.denoising(few, 2, 0)
    assert (other.frames[0] != path.frames[0]).mean() > 0.9


def test_between_two_frames_there_is_a_straight_line(path):
    first, half, last = path.at([path.noise[0], path.noise[0] / 2, 0.0])
    np.testing.assert_array_equal(first, path.frames[0].astype(np.float32))
    np.testing.assert_array_equal(last, path.frames[-1].astype(np.float32))
    np.testing.assert_allclose(half, (first + last) / 2, atol=1e-5)


def test_a_finer_path_ends_near_the_member(few, path):
    seen = []
    fine = nd.denoising(few, 2, 1, steps=3, progress=seen.append)
    assert not fine.is_member and len(fine) == 4 and fine.steps == 3
    assert [(step.done, step.total) for step in seen] == [(1, 3), (2, 3), (3, 3)]
    # Only the corrections of the end differ, in proportion to the signal, such as the stretching.
    apart = np.abs(fine.frames[0].astype(np.float32) - path.frames[0])
    assert apart.mean() < 0.05 and apart.max() < 1
    assert fine.noise[0] == path.noise[0] and fine.noise[-1] == 0 and (np.diff(fine.noise) < 0).all()
    end, member = fine.frames[-1] > 0, path.frames[-1] > 0
    assert (end & member).sum() / (end | member).sum() > 0.8
    likeness = [np.corrcoef(frame.ravel(), fine.frames[-1].ravel())[0, 1] for frame in fine.frames[1:]]
    assert (np.diff(likeness) > 0).all(), "each frame is more like the end than the one before"
    with pytest.raises(InputError, match="steps"):
        nd.denoising(few, 2, 1, steps=0)


def test_a_rejected_member_can_still_be_looked_at(few, path):
    rejected = few.reject(2, 1)
    again = nd.denoising(rejected, 2, 1)
    assert not again.is_member
    np.testing.assert_array_equal(again.frames[-1], path.frames[-1])
    with pytest.raises(InputError, match="no member 4"):
        nd.denoising(few, 2, 4)


def test_of_a_long_path_some_frames_are_kept(few, monkeypatch):
    """With the paper's process, whose occupancies become distances, and whose sampler draws fresh noise."""
    monkeypatch.setattr(replaying, "MOST_FRAMES", 3)
    monkeypatch.setattr(devices, "fast_dtype", lambda device: torch.float32)
    torch.manual_seed(0)
    network = UNet3D(NetworkConfig(channel_mult=(1,), attention_downsamplings=(), fold=8, isotropic=True))
    card = Card(name="tiny", representation="occupancy", qualities={"fast": Quality(sampler="ddpm", steps=4)})
    model = ShapeModel(network, GaussianDiffusion(100), card)
    settings = PredictSettings(members=1, quality="fast", device="cpu")
    events = iter_predict_crops([crop_of(few, 1)], model, settings, image_to_world=few.image_to_world)
    prediction = next(event.prediction for event in events if isinstance(event, CellDone))
    path = nd.denoising(prediction, 1, model=model, device="cpu")
    assert path.is_member and len(path) == 3 and tuple(path.times) == model.process.times(4)[::2]
    np.testing.assert_array_equal(path.frames[-1], prediction[1].signed_distance[0])
    with pytest.raises(InputError, match="not installed"):
        nd.denoising(prediction, 1)


def test_a_path_as_a_file(path, tmp_path):
    path.save_tiff(tmp_path / "path.ome.tif")
    with tifffile.TiffFile(tmp_path / "path.ome.tif") as file:
        assert file.series[0].axes == "TZYX" and file.series[0].dtype == np.float32
        np.testing.assert_array_equal(file.asarray(), path.frames.astype(np.float32))
        description = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]["Description"]
    found = json.loads(description)
    assert (
        found["noise"] == pytest.approx([START, 0.0], abs=1e-3)
        and found["member"] == 1
        and found["model"] == "red-blood-cell"
    )
    assert found["unit"] == "micrometer" and np.shape(found["grid_to_world"]) == (4, 4)


# --- on the command line ------------------------------------------------------------------------------


def test_commands(at_once, folder, tmp_path, capsys):
    out = tmp_path / "copy"
    shutil.copytree(folder, out)
    other = (out / "cells" / "2.npz").read_bytes()
    assert main(["more", str(out), "--cells", "1", "--members", "1", "--device", "cpu"]) == 0
    assert capsys.readouterr().out == "cell 1: members 0, 1, 2\n"
    assert main(["more", str(out), "--cells", "1", "--reject", "0", "--device", "cpu"]) == 0
    loaded = load_prediction(out)
    assert loaded[1].numbers == (1, 2, 3) and loaded.rejected == {1: (0,)}
    np.testing.assert_array_equal(loaded[1].signed_distance, at_once[1].signed_distance[1:4])
    assert (out / "cells" / "2.npz").read_bytes() == other
    rows = [tuple(row) for row in np.genfromtxt(out / "morphometry.csv", delimiter=",", names=True)]
    assert [(int(row[0]), int(row[1])) for row in rows] == [(1, 1), (1, 2), (1, 3), (2, 0), (2, 1)]
    picture, volume = tmp_path / "path.png", tmp_path / "path.ome.tif"
    for file in (picture, volume) * 2:  # a second run replaces its own file
        assert main(["denoise", str(out), "--cell", "1", "--member", "2", "--out", str(file)]) == 0
    assert tifffile.imread(volume).shape == (2, *grid.SHAPE) and picture.stat().st_size > 10_000
    capsys.readouterr()
    for arguments, words in (
        (["more", str(out), "--reject", "1"], "one cell"),
        (["more", str(out), "--cells", "x"], "--cells is 'x'"),
        (["more", str(out), "--members", "0"], "members"),
        (["denoise", str(out), "--cell", "1", "--out", str(tmp_path / "a.txt")], "has the wrong file type"),
        (["denoise", str(out), "--cell", "1", "--out", str(out / "cells" / "1.ome.tif")], "already exists"),
        (["denoise", str(out), "--cell", "9", "--out", str(tmp_path / "9.png")], "no cell 9"),
    ):
        assert main(arguments) == 2
        error = capsys.readouterr().err
        assert words in error and error.count("\n") == 1
