"""Shape models: files that come back bit for bit, hashes, what is refused, and what a network is given."""

import json
import os
import warnings

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save as to_bytes
from safetensors.torch import save_file
from support.models import dispr_model, tiny_model

from napari_dispr import InputError, ShapeModel, grid
from napari_dispr.cells.cropping import Crop
from napari_dispr.diffusion.process import RectifiedFlow


def same_weights(a: ShapeModel, b: ShapeModel) -> bool:
    a_state, b_state = a.network.state_dict(), b.network.state_dict()
    return a_state.keys() == b_state.keys() and all(torch.equal(a_state[k], b_state[k]) for k in a_state)


# --- files ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [tiny_model, lambda: dispr_model(steps=400, schedule="cosine")])
def test_saved_model_comes_back_bit_for_bit(tmp_path, make):
    model = make()
    model.save(tmp_path / "m.safetensors")
    again = ShapeModel.load(tmp_path / "m.safetensors")
    assert same_weights(model, again)
    assert again.process == model.process
    assert again.network.config == model.network.config
    assert again.card == model.card
    assert again.hash == model.hash
    assert os.listdir(tmp_path) == ["m.safetensors"]


def test_channels_last_weights_are_saved_as_they_are(tmp_path):
    model = tiny_model()
    model.network.to(memory_format=torch.channels_last_3d)
    model.save(tmp_path / "m.safetensors")
    assert same_weights(model, ShapeModel.load(tmp_path / "m.safetensors"))


def test_16_bit_file_keeps_its_hash(tmp_path):
    tiny_model().save(tmp_path / "a.safetensors", torch.float16)
    first = ShapeModel.load(tmp_path / "a.safetensors")
    assert (tmp_path / "a.safetensors").stat().st_size < 2.2 * sum(
        p.numel() for p in first.network.parameters()
    )
    first.save(tmp_path / "b.safetensors", torch.float16)
    second = ShapeModel.load(tmp_path / "b.safetensors")
    assert second.hash == first.hash
    assert same_weights(first, second)
    assert first.hash != tiny_model().hash


def test_hash_is_of_weights_and_configuration_not_of_the_card():
    model = tiny_model()
    assert model.hash == tiny_model(name="other", description="renamed").hash
    assert len(model.hash) == 64
    changed = tiny_model()
    changed.network.out[2].bias[0] += 1e-6
    assert changed.hash != model.hash
    other = ShapeModel(model.network, RectifiedFlow(6.0), model.card)
    assert other.hash != model.hash


def test_drawing_leaves_the_models_own_weights_alone(tmp_path):
    model = tiny_model()
    before = {name: tensor.clone() for name, tensor in model.network.state_dict().items()}
    disc = np.zeros((64, 64), np.float32)
    disc[20:44, 20:44] = 1
    crop = Crop(1, disc, None, 1.0, np.eye(4))
    model.denoiser([crop], model.ready(torch.device("cpu")))(torch.randn(1, 1, 64, 64, 64), 0.9)
    for name, tensor in model.network.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, before[name])
    model.save(tmp_path / "m.safetensors")
    assert ShapeModel.load(tmp_path / "m.safetensors").hash == tiny_model().hash


def test_metadata_is_json_in_strings(tmp_path):
    tiny_model(training={"cells": 3}).save(tmp_path / "m.safetensors")
    with safe_open(tmp_path / "m.safetensors", framework="np") as file:
        metadata = file.metadata()
    assert json.loads(metadata["network"])["fold"] == 8
    assert json.loads(metadata["process"]) == {"kind": "rectified_flow", "shift": 5.0}
    assert json.loads(metadata["card"])["training"] == {"cells": 3}


def test_failed_save_keeps_the_file_that_is_there(tmp_path):
    path = tmp_path / "m.safetensors"
    path.write_bytes(b"before")
    model = tiny_model()
    model.network.out[2].bias = torch.nn.Parameter(torch.zeros(512, device="meta"), requires_grad=False)
    with pytest.raises(NotImplementedError, match="meta tensor"):
        model.save(path)
    assert path.read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["m.safetensors"]


def refusal(path) -> str:
    with pytest.raises(InputError) as caught:
        ShapeModel.load(path)
    text = str(caught.value)
    assert "\n" not in text and str(path) in text
    return text


@pytest.fixture
def saved(tmp_path):
    tiny_model().save(tmp_path / "m.safetensors")
    return tmp_path / "m.safetensors"


def test_missing_model(tmp_path):
    assert "There is no file" in refusal(tmp_path / "none.safetensors")


@pytest.mark.parametrize(
    "content", [b"", b"1234567", b"\xff" * 100, b"PK\x03\x04", b"\x10\0\0\0\0\0\0\0not json, at all"]
)
def test_file_that_is_no_model(tmp_path, content):
    path = tmp_path / "m.safetensors"
    path.write_bytes(content)
    assert "not a shape model" in refusal(path)


def test_folder_is_no_model(tmp_path):
    refusal(tmp_path)


@pytest.mark.parametrize("share", [0.001, 0.5, 0.999])
def test_truncated_model(saved, share):
    saved.write_bytes(saved.read_bytes()[: int(share * saved.stat().st_size)])
    refusal(saved)


def test_safetensors_of_something_else(tmp_path):
    save_file({"weight": torch.zeros(3)}, tmp_path / "m.safetensors")
    refusal(tmp_path / "m.safetensors")


@pytest.mark.parametrize(
    "change",
    [
        {"card": "{}"},
        {"card": "no json"},
        {"network": "{}"},
        {"network": '{"depth": 3}'},
        {"network": "3"},
        {"network": '{"num_channels": 33}'},
        {"network": '{"num_channels": "wide"}'},
        {"network": '{"num_channels": 200000}'},  # would be terabytes
        {"network": '{"num_head_channels": 0}'},
        {"network": '{"fold": 1e308}'},
        {"network": "[" * 100_000},
        {"process": "{}"},
        {"process": "3"},
        {"process": '{"kind": "magic"}'},
        {"process": '{"kind": "rectified_flow", "steps": 3}'},
    ],
)
def test_damaged_configuration(saved, change):
    with safe_open(saved, framework="pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file(tensors, saved, {**metadata, **change})
    refusal(saved)


def test_missing_tensor(saved):
    with safe_open(saved, framework="pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    tensors.popitem()
    save_file(tensors, saved, metadata)
    refusal(saved)


# --- sampling ---------------------------------------------------------------------------------------------


def test_quality_names_sampler_and_steps():
    model = tiny_model()
    assert model.sampling("fast", None, None) == ("dpm-solver++", 2)
    assert model.sampling("balanced", None, None) == ("euler", 8)
    assert model.sampling("balanced", "ddim", None) == ("ddim", 8)
    assert model.sampling("fast", None, 20) == ("dpm-solver++", 20)


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (("paper", None, None), "quality 'paper'"),
        (("fast", "heun", None), "'heun'"),
        (("fast", "ddpm", None), "ddpm"),
    ],
)
def test_sampling_that_a_flow_does_not_know(ask, said):
    with pytest.raises(InputError, match=said):
        tiny_model().sampling(*ask)


def test_sampling_of_a_gaussian_diffusion():
    model = dispr_model(steps=100)
    assert model.sampling("fast", "ddpm", 100) == ("ddpm", 100)
    with pytest.raises(InputError, match="more than the 100"):
        model.sampling("fast", "ddpm", 101)


def test_decode_gives_voxels():
    distance = np.linspace(-1, 1, 64**3, dtype=np.float32).reshape(1, *grid.SHAPE)
    assert np.array_equal(tiny_model(truncation=6.0).decode(distance), 6 * distance)


def test_decode_of_an_occupancy():
    z, y, x = np.indices(grid.SHAPE)
    occupancy = np.clip(20.5 - np.sqrt((z - 32) ** 2 + (y - 31.5) ** 2 + (x - 31.5) ** 2), 0, 1)
    distance = dispr_model().decode(occupancy[None].astype(np.float32))[0]
    assert np.array_equal(distance > 0, occupancy > 0.5)
    assert distance[32, 31, 31] == 8.0 and distance.min() == -8.0


def test_each_network_gets_its_own_planes():
    mask = np.zeros((64, 64), np.float32)
    mask[20:40, 20:40] = 1
    image = np.random.default_rng(0).random((64, 64)).astype(np.float32)
    crop = Crop(1, mask, image, 1.0, np.eye(4))
    assert tiny_model().condition([crop]).planes.shape == (1, 4, 64, 64)
    planes = dispr_model().condition([crop]).planes
    assert np.array_equal(planes[0], np.stack([mask, image * mask]))


@pytest.mark.parametrize(
    ("part", "field", "value"),
    [
        ("network", "num_head_channels", 1.5),
        ("network", "num_head_channels", 1_000_000),
        ("network", "num_res_blocks", 100_000),
        ("network", "channel_mult", []),
        ("network", "channel_mult", [1, 1e-30]),
        ("network", "fold", 3),
        ("process", "shift", float("nan")),
        ("card", "typical_extent", float("inf")),
        ("card", "qualities", {"full": {"sampler": "euler", "steps": 10**9}}),
    ],
)
def test_configuration_out_of_bounds(saved, part, field, value):
    with safe_open(saved, framework="pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    metadata[part] = json.dumps({**json.loads(metadata[part]), field: value})
    saved.write_bytes(to_bytes(tensors, metadata))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch warns of layers without channels
        assert "not a shape model" in refusal(saved)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(saved, value):
    model = tiny_model()
    model.network.out[2].bias.data[0] = value
    model.save(saved)
    assert "hold NaN or infinite values" in refusal(saved)
