"""SHAPR: its network, its losses, its file; its training stands in test_rival_training.py."""

from pathlib import Path

import numpy as np
import pytest
import torch
from support.simulated import ball, cell
from torch import nn

from napari_dispr import InputError
from napari_dispr.card import Card
from napari_dispr.evaluation.evaluate import evaluate
from napari_dispr.models.shapr import (
    SHAPR,
    Discriminator,
    SHAPRModel,
    dice_loss,
    discriminator_loss,
    generator_loss,
    planes_of,
    supervised_loss,
)


def card(name, *fingerprints):
    return Card(name=name, rival="shapr", qualities={}, training={"fingerprints": fingerprints})


@pytest.fixture(scope="module")
def untrained():
    torch.manual_seed(0)
    return SHAPRModel(SHAPR(), card("mine", "ab", "cd"))


# --- network ------------------------------------------------------------------------------------------


def test_network_is_the_published_one_but_for_what_is_not_known_of_it():
    network = SHAPR()
    assert sum(p.numel() for p in network.parameters()) == 418_641
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
    assert again.card.seen == {"ab", "cd"} and again.card.rival == "shapr"
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
        path = Path(__file__).parents[2] / "src/napari_dispr/weights/red-blood-cell.safetensors"
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=path.name) as caught:
        SHAPRModel.load(path)
    assert "\n" not in str(caught.value)


def test_image_is_needed(untrained):
    with pytest.raises(InputError, match="needs an image"):
        untrained.probabilities(np.ones((64, 64), np.float32), None)


def test_probabilities_are_cut_by_otsu_after_division_by_their_maximum(untrained, monkeypatch):
    faint = np.where(ball(10), 0.3, 0.01).astype(np.float32)
    monkeypatch.setattr(untrained, "probabilities", lambda mask, image: faint)
    level, surface = untrained.level(cell("a").crop(1))
    np.testing.assert_array_equal(level > surface, ball(10))
    monkeypatch.setattr(untrained, "probabilities", lambda mask, image: np.zeros_like(faint))
    level, surface = untrained.level(cell("a").crop(1))
    assert not (level > surface).any()


def test_is_a_method_of_evaluation(untrained):
    known, new = cell("known"), cell("new", 20)
    model = SHAPRModel(untrained.network, card("shapr", known.fingerprint))
    summary = evaluate([known, new], {"shapr": model}, members=5)
    found = summary["methods"]["shapr"]
    assert found["n"] == 1 and found["trained_on"] == ["known"]
    assert found["provenance"]["model_hash"] == model.hash
