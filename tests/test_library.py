"""The library: shipped models, models by path, and cards that are read without the weights."""

import subprocess
import sys

import pytest
import torch
from test_model import tiny_model

from napari_dispr import InputError, load_model
from napari_dispr.diffusion.model import ShapeModel
from napari_dispr.library import available_models, model_path, read_card, user_folder


def test_shipped_model_is_listed_and_small_enough():
    models = available_models()
    assert "red-blood-cell" in models
    for path in models.values():
        assert path.stat().st_size < 17_000_000


def test_card_of_the_shipped_model():
    card = read_card("red-blood-cell")
    assert card.name == "red-blood-cell"
    assert card.licence and "Simionato" in card.attribution
    assert {"fast", "balanced"} <= card.qualities.keys()
    assert "paper" not in card.qualities
    assert card.qualities["fast"].steps <= 2
    assert card.typical_extent == pytest.approx(50, abs=10)
    # A score is never of cells that the model which it is of was trained on.
    assert card.scores["cells"] and not set(card.scores["cells"]) & set(card.scores["trained_on"])
    assert len(card.training["fingerprints"]) == len(card.training["cells"])


def test_shipped_model_loads():
    model = load_model("red-blood-cell")
    assert model.name == "red-blood-cell"
    assert sum(p.numel() for p in model.network.parameters()) <= 8_000_000
    assert all(torch.isfinite(p).all() for p in model.network.parameters())
    assert model.card == read_card("red-blood-cell")
    assert model.hash == load_model("red-blood-cell").hash


def test_model_by_path(tmp_path):
    path = tmp_path / "mine.safetensors"
    tiny_model(description="mine").save(path)
    assert load_model(path).hash == load_model(str(path)).hash == tiny_model().hash
    assert read_card(path).description == "mine"
    assert model_path(path) == path


def test_users_own_models_come_after_the_shipped_ones():
    user_folder().mkdir(parents=True)
    tiny_model(name="mine").save(user_folder() / "mine.safetensors")
    tiny_model().save(user_folder() / "red-blood-cell.safetensors")
    assert list(available_models()) == ["generic", "red-blood-cell", "mine"]
    assert load_model("mine").name == "mine"
    assert load_model("red-blood-cell").name == "red-blood-cell"


def test_listing_needs_no_torch():
    code = (
        "import sys; from napari_dispr.library import available_models, read_card;"
        "[read_card(name) for name in available_models()]; print('torch' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


@pytest.mark.parametrize("name", ["white-blood-cell", "", "../red-blood-cell", "no/such.safetensors"])
@pytest.mark.parametrize("read", [load_model, read_card])
def test_unknown_model(name, read):
    with pytest.raises(InputError, match=r"There is no model .*red-blood-cell"):
        read(name)


@pytest.mark.parametrize(
    "content",
    [b"", b"short", b"\xff" * 50, b"\x05\0\0\0\0\0\0\0[1,2]", b"\x02\0\0\0\0\0\0\0{}",
     b"\x01\0\0\0\0\0\0\0\xff", b'\x13\0\0\0\0\0\0\0{"__metadata__":{}} ',
     b'\x15\0\0\0\0\0\0\0{"__metadata__":null}'],
)  # fmt: skip
@pytest.mark.parametrize("read", [load_model, read_card])
def test_file_that_is_no_model(tmp_path, content, read):
    path = tmp_path / "m.safetensors"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"m\.safetensors is not a shape model") as caught:
        read(path)
    assert "\n" not in str(caught.value)


def test_folder_is_no_model(tmp_path):
    with pytest.raises(InputError):
        load_model(tmp_path)


def test_original_checkpoint_is_to_be_imported_first(tmp_path):
    torch.save({"a": torch.zeros(2)}, tmp_path / "savedmodel085000.pt")
    with pytest.raises(InputError, match="import an original checkpoint first"):
        load_model(tmp_path / "savedmodel085000.pt")


def test_card_is_read_from_the_head_of_the_file_alone(tmp_path):
    tiny_model().save(tmp_path / "m.safetensors")
    content = (tmp_path / "m.safetensors").read_bytes()
    length = int.from_bytes(content[:8], "little")
    (tmp_path / "head.safetensors").write_bytes(content[: 8 + length])
    assert read_card(tmp_path / "head.safetensors").name == "tiny"
    with pytest.raises(InputError):
        ShapeModel.load(tmp_path / "head.safetensors")
