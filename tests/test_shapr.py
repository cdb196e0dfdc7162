"""SHAPR: its network, its losses, its file, and its training on the cells that a shape model learns from."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from torch import nn

from napari_dispr import InputError
from napari_dispr.cells.folders import CellFile, read_dataset
from napari_dispr.evaluation import evaluate
from napari_dispr.rivals.shapr import (
    PUBLISHED_PARAMETERS,
    SHAPR,
    Discriminator,
    SHAPRModel,
    dice_loss,
    discriminator_loss,
    generator_loss,
    planes_of,
    supervised_loss,
)

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
Z, Y, X = np.ogrid[:64, :64, :64]


def ball(radius, centre=(32, 31.5, 31.5)):
    return (Z - centre[0]) ** 2 + (Y - centre[1]) ** 2 + (X - centre[2]) ** 2 < radius**2


def cell(name, radius=16, centre=(32, 31.5, 31.5)):
    obj = ball(radius, centre)
    mask = obj[32].astype(np.float32)
    return CellFile(name, mask, (0.2 + 0.6 * mask).astype(np.float32), obj.astype(np.uint8) * 255)


@pytest.fixture(scope="module")
def training():
    """The training script as a module."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        return importlib.import_module("train_shapr")
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def untrained():
    torch.manual_seed(0)
    return SHAPRModel(SHAPR(), "mine", frozenset({"ab", "cd"}), [{"epoch": 1, "loss": 0.5, "part": "x"}])


# --- network ------------------------------------------------------------------------------------------


def test_network_is_the_published_one_but_for_what_is_not_known_of_it():
    network = SHAPR()
    assert sum(p.numel() for p in network.parameters()) == 418_641
    assert abs(418_641 / PUBLISHED_PARAMETERS - 1) < 0.003
    blocks = [len([m for m in part.modules() if isinstance(m, nn.BatchNorm2d | nn.BatchNorm3d)])
              for part in (network.encoder, network.decoder)]  # fmt: skip
    assert blocks == [2 * 3, 2 * 6]
    assert [tuple(m.kernel_size) for m in network.decoder if isinstance(m, nn.ConvTranspose3d)] == [
        (2, 1, 1), (2, 1, 1), (2, 2, 2), (2, 1, 1), (2, 1, 1), (2, 2, 2),
    ]  # fmt: skip
    with torch.inference_mode():
        planes = torch.rand(1, 2, 64, 64)
        assert network.encoder(planes).shape == (1, 80, 16, 16)
        assert network(planes).shape == (1, 1, 64, 64, 64)


def test_discriminator_has_the_published_widths_and_one_verdict_a_shape():
    discriminator = Discriminator()
    convolutions = [m for m in discriminator.modules() if isinstance(m, nn.Conv3d)]
    assert [m.out_channels for m in convolutions] == [10, 20, 40, 80, 160]
    with torch.inference_mode():
        assert discriminator(torch.rand(3, 1, 64, 64, 64)).shape == (3,)


def test_planes_are_mask_and_image_within_it():
    mask = np.zeros((64, 64), np.float32)
    mask[20:40, 20:40] = 0.5
    image = np.full((64, 64), 0.8, np.float32)
    planes = planes_of(mask, image)
    assert planes.shape == (2, 64, 64) and planes.dtype == np.float32
    np.testing.assert_array_equal(planes[0], mask)
    np.testing.assert_allclose(planes[1], 0.8 * mask)


# --- losses -------------------------------------------------------------------------------------------


def test_dice_loss_of_known_overlaps():
    truth = torch.zeros(2, 1, 4, 4, 4)
    truth[:, :, :2] = 1
    half = torch.zeros_like(truth)
    half[:, :, 1:3] = 1
    assert dice_loss(truth, truth).item() == pytest.approx(0, abs=1e-6)
    assert dice_loss(half, truth).item() == pytest.approx(1 - (2 * 16 + 1) / 65)
    assert dice_loss(torch.zeros(1, 8), torch.zeros(1, 8)).item() == 0
    # Each shape counts the same, however large it is: not one coefficient of the whole batch.
    small = torch.zeros(2, 1, 4, 4, 4)
    small[0] = 1
    small[1, 0, 0, 0, 0] = 1
    drawn = small.clone()
    drawn[1] = 0
    assert dice_loss(drawn, small).item() == pytest.approx((1 - 1 / 2) / 2)


def test_cross_entropy_is_that_of_the_probabilities():
    logits = torch.tensor([-3.0, -0.5, 0.2, 4.0]).reshape(1, 1, 1, 2, 2)
    truth = torch.tensor([0.0, 1.0, 1.0, 1.0]).reshape(1, 1, 1, 2, 2)
    p = logits.sigmoid()
    expected = dice_loss(p, truth) - (truth * p.log() + (1 - truth) * (1 - p).log()).mean()
    assert supervised_loss(logits, truth).item() == pytest.approx(expected.item(), rel=1e-5)
    # The published code's error would leave ln 2 where the answer is surely right.
    assert supervised_loss(torch.full((1, 1, 4), 30.0), torch.ones(1, 1, 4)).item() < 1e-5


def test_adversarial_losses():
    sure = torch.full((2,), 20.0)
    assert discriminator_loss(sure, -sure).item() < 1e-6
    assert discriminator_loss(sure, sure).item() == pytest.approx(10, rel=1e-4)
    assert generator_loss(torch.tensor(1.1), sure).item() == pytest.approx(1.0, rel=1e-4)
    assert generator_loss(torch.tensor(0.0), -sure).item() == pytest.approx(20 / 11, rel=1e-4)


# --- model --------------------------------------------------------------------------------------------


def test_model_file_keeps_all_and_draws_the_same(untrained, tmp_path):
    path = tmp_path / "new" / "shapr.safetensors"
    untrained.save(path)
    assert [file.name for file in path.parent.iterdir()] == ["shapr.safetensors"]
    again = SHAPRModel.load(path)
    assert again.name == "mine" and again.hash == untrained.hash
    assert again.trained_on == {"ab", "cd"} and again.history == untrained.history
    one = cell("one")
    np.testing.assert_array_equal(
        untrained.probabilities(one.mask, one.image), again.probabilities(one.mask, one.image)
    )
    other = SHAPRModel(SHAPR())
    assert other.hash != untrained.hash


@pytest.mark.parametrize("content", [None, b"no model at all", "dispr"])
def test_wrong_model_file_is_one_sentence(content, tmp_path):
    path = tmp_path / "model.safetensors"
    if content == "dispr":
        path = Path(__file__).parent.parent / "src/napari_dispr/weights/red-blood-cell.safetensors"
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=path.name) as caught:
        SHAPRModel.load(path)
    assert "\n" not in str(caught.value)


def test_image_is_needed(untrained):
    with pytest.raises(InputError, match="needs an image"):
        untrained(np.ones((64, 64), np.float32), None, 1, 0)
    with pytest.raises(InputError, match="64 x 64"):
        untrained(np.ones((32, 32), np.float32), np.ones((32, 32), np.float32), 1, 0)


def test_probabilities_are_cut_by_otsu_after_division_by_their_maximum(untrained, monkeypatch):
    faint = np.where(ball(10), 0.3, 0.01).astype(np.float32)
    monkeypatch.setattr(untrained, "probabilities", lambda mask, image: faint)
    np.testing.assert_array_equal(untrained(None, None, 1, 0), ball(10)[None])
    monkeypatch.setattr(untrained, "probabilities", lambda mask, image: np.zeros_like(faint))
    assert not untrained(None, None, 1, 0).any()


def test_is_a_method_of_evaluation(untrained):
    known, new = cell("known"), cell("new", 20)
    model = SHAPRModel(untrained.network, "shapr", frozenset({known.fingerprint}))
    summary = evaluate([known, new], {"shapr": model}, members=5)
    found = summary["methods"]["shapr"]
    assert found["n"] == 1 and found["trained_on"] == ["known"]
    assert found["provenance"]["model_hash"] == model.hash


# --- training -----------------------------------------------------------------------------------------


def test_training_sees_turned_and_mirrored_cells(training):
    # A ball off the axis and above the imaged plane, whose mask is its section there.
    tensors = training.Tensors.of([cell("a", 12, (38, 31.5, 42))] * 8)
    planes, truth = tensors.batch(torch.arange(8), np.random.default_rng(0))
    assert planes.shape == (8, 2, 64, 64) and truth.shape == (8, 1, 64, 64, 64)
    assert set(truth.unique().tolist()) == {0, 1}
    places = np.stack([np.argwhere(t.numpy()).mean(axis=0) for t in truth[:, 0]])
    # Mirrored about plane 32, not about the grid's middle.
    assert set(np.round(places[:, 0], 2)) == {38.0, 26.0}
    np.testing.assert_allclose(np.hypot(places[:, 1] - 31.5, places[:, 2] - 31.5), 10.5, atol=0.1)
    assert np.ptp(places[:, 1]) > 5
    for section, plane, volume in zip(truth[:, 0, 32], planes[:, 0], truth, strict=True):
        agree = ((plane > 0.5) & (section > 0.5)).sum() / ((plane > 0.5) | (section > 0.5)).sum()
        assert agree > 0.95
        assert abs(volume.sum() / ball(12).sum() - 1) < 0.02
    same, as_it_is = tensors.batch(torch.arange(1), None)
    np.testing.assert_array_equal(as_it_is[0, 0].numpy(), ball(12, (38, 31.5, 42)))
    np.testing.assert_array_equal(same[0], planes_of(cell("a", 12, (38, 31.5, 42)).mask, same[0, 1] + 0))


def test_watched_cells_are_of_every_class(training):
    cells = [cell(f"A_{i:03}") for i in range(20)] + [cell(f"B_{i}") for i in range(4)] + [cell("C_0")]
    learnt, watched = training.validation_split(cells)
    assert [c.name for c in watched] == ["A_005", "A_015", "B_2"]
    assert len(learnt) == 22 and not {c.name for c in learnt} & {c.name for c in watched}


def dataset(folder, radii):
    for i, radius in enumerate(radii):
        one = cell(f"A_{i}", radius)
        planes = {"mask": one.mask, "image": one.image, "obj": one.obj / 255}
        for kind, plane in planes.items():
            path = folder / "train" / kind / f"{one.name}.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(path, np.round(255 * plane).astype(np.uint8))


def run_of(training, **settings):
    return training.Run(training.Settings(**{"epochs": 3, "batch": 2, **settings}))


def test_resumed_training_equals_one_that_went_on(training, tmp_path):
    tensors = training.Tensors.of([cell("a", 14), cell("b", 18)])
    whole = run_of(training)
    reports = list(training.train(whole, tensors, tensors, tmp_path))
    assert [report["part"] for report in reports] == ["supervised", "supervised", "adversarial"]
    assert reports[2]["discriminator"] > 0
    first = run_of(training)
    next(training.train(first, tensors, tensors, tmp_path))
    first.save(tmp_path / "stopped.pt")
    second = run_of(training, seed=0)
    second.load(tmp_path / "stopped.pt")
    rest = list(training.train(second, tensors, tensors, tmp_path))
    plain = [{k: v for k, v in r.items() if k != "seconds"} for r in rest]
    assert plain == [{k: v for k, v in r.items() if k != "seconds"} for r in reports[1:]]
    for name, tensor in whole.network.state_dict().items():
        assert torch.equal(tensor, second.network.state_dict()[name])
    with pytest.raises(InputError, match="begun with batch 2"):
        run_of(training, batch=1).load(tmp_path / "stopped.pt")


def test_training_learns(training):
    tensors = training.Tensors.of([cell("a", 14), cell("b", 18)])
    run = run_of(training, learning_rate=0.01)
    losses = [training.learn_an_epoch(run, tensors)["loss"] for _ in range(12)]
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.slow
def test_script_trains_saves_and_evaluates_cells_kept_apart(tmp_path):
    dataset(tmp_path / "data", [12, 14, 16, 18])
    command = [sys.executable, str(BENCHMARKS / "train_shapr.py"), str(tmp_path / "data"), "--out"]
    command += [str(tmp_path / "run"), "--epochs", "2", "--batch", "3", "--threads", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "2 cells to learn from, 1 watched, 1 kept apart"
    assert [json.loads(line)["epoch"] for line in lines[1:3]] == [1, 2]
    model = SHAPRModel.load(tmp_path / "run" / "model.safetensors")
    assert len(model.trained_on) == 3 and len(model.history) == 2
    summary = json.loads((tmp_path / "run" / "held_out" / "summary.json").read_text())
    assert list(summary["methods"]) == ["shapr", "shapr-supervised"]
    assert SHAPRModel.load(tmp_path / "run" / "supervised.safetensors").hash != model.hash
    assert summary["cells"] == 1 and summary["methods"]["shapr"]["trained_on"] == []


def test_real_cells_split_as_for_the_shape_model(training, red_blood_cells):
    known, held_out = training.split(read_dataset(red_blood_cells, need_objects=True))
    learnt, watched = training.validation_split(known)
    assert (len(learnt), len(watched), len(held_out)) == (78, 8, 22)
    assert len({c.name.rstrip("0123456789") for c in watched}) == 4
