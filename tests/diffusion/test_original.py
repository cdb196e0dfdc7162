"""Import of original checkpoints: every topology that its flags make, what must be said, and bad files."""

import itertools
import os
import pickle
from collections import OrderedDict

import pytest
import torch
from support.dispr_reference import DEFAULT_FLAGS, original_forward, original_shapes, stored, weights

from napari_dispr import InputError, import_dispr_checkpoint
from napari_dispr.diffusion.model import ShapeModel
from napari_dispr.diffusion.process import GaussianDiffusion

#: What a checkpoint reveals: these need not be said.
REVEALED = {
    "num_channels", "num_res_blocks", "channel_mult", "attention_resolutions", "use_scale_shift_norm",
    "resblock_updown", "learn_sigma", "image_size",
}  # fmt: skip


def flags_with(**changed):
    return {**DEFAULT_FLAGS, "channel_mult": "1,2", "image_size": 32, **changed}


def checkpoint(flags):
    return OrderedDict(weights(original_shapes(flags)))


def required(flags):
    """The flags that must be said."""
    return {name: value for name, value in flags.items() if name not in REVEALED}


CASES = {
    "readme": {},
    "two blocks": {"num_res_blocks": 2},
    "three blocks, three levels": {"num_res_blocks": 3, "channel_mult": "1,1,2"},
    "one level": {"channel_mult": "2"},
    "wide": {"num_channels": 64, "channel_mult": "0.5,1"},
    "width that is no multiple of 32": {"num_channels": 48, "channel_mult": "2,4"},
    "same width throughout": {"channel_mult": "2,2,2"},
    "narrower below": {"channel_mult": "3,1"},
    "scale and shift": {"use_scale_shift_norm": True},
    "resampling blocks": {"resblock_updown": True},
    "resampling blocks, deep": {"resblock_updown": True, "num_res_blocks": 2, "channel_mult": "1,2,2"},
    "attention nowhere": {"attention_resolutions": ""},
    "attention at the top": {"attention_resolutions": "32", "channel_mult": "1,1"},
    "attention everywhere": {"attention_resolutions": "32,16"},
    "attention below the deepest level": {"attention_resolutions": "16,4"},
    "heads": {"num_heads": 4, "attention_resolutions": "16"},
    "heads, new order": {"num_heads": 4, "use_new_attention_order": True},
    "channels per head": {"num_head_channels": 16},
    "channels per head, new order": {"num_head_channels": 8, "use_new_attention_order": True},
    "variance not learned": {"learn_sigma": False},
    "all": {
        "num_res_blocks": 2, "num_heads": 2, "use_new_attention_order": True, "use_scale_shift_norm": True,
        "resblock_updown": True, "learn_sigma": False, "channel_mult": "1,2,2",
        "attention_resolutions": "16,8",
    },
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_every_topology(case):
    flags = flags_with(**CASES[case])
    state = checkpoint(flags)
    model = import_dispr_checkpoint(state, **required(flags))
    shapes = {name: tuple(tensor.shape) for name, tensor in model.network.state_dict().items()}
    assert shapes == original_shapes(flags)
    x = torch.randn(2, 3, 4, 16, 16, generator=torch.Generator().manual_seed(1))
    t = torch.tensor([3, 771])
    with torch.inference_mode():
        found, expected = model.network(x, t), original_forward(state, flags, x, t)
    assert found.shape == (2, 1 + flags["learn_sigma"], 4, 16, 16)
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-5)
    # Said as well, all flags are found to agree.
    again = import_dispr_checkpoint(state, **flags)
    assert again.hash == model.hash


def test_restated_original_agrees_with_its_numbers():
    # What the sweep above compares with is held to the stored numbers itself.
    flags = flags_with()
    numbers = stored("small_forward")
    found = original_forward(checkpoint(flags), flags, numbers["x"], numbers["x_batch2_t"])
    torch.testing.assert_close(found, numbers["out_batch2"], atol=2e-5, rtol=0)


def test_what_checkpoints_do_not_tell_changes_the_output():
    state = checkpoint(flags_with())
    x, t = torch.randn(1, 3, 4, 16, 16, generator=torch.Generator().manual_seed(0)), torch.tensor([5])
    ways = [
        {"num_heads": 1},
        {"num_heads": 4},
        {"num_heads": 4, "use_new_attention_order": True},
        {"num_head_channels": 8},
    ]
    with torch.inference_mode():
        outputs = [import_dispr_checkpoint(state, **way).network(x, t) for way in ways]
    for a, b in itertools.combinations(outputs, 2):
        assert (a - b).abs().max() > 1e-5


def test_options_describe_the_process():
    state = checkpoint(flags_with())
    model = import_dispr_checkpoint(state, num_heads=1)
    assert model.process == GaussianDiffusion()
    assert model.card.qualities["paper"].steps == 1000
    assert model.card.representation == "occupancy"
    model = import_dispr_checkpoint(
        state, num_heads=1, name="mine", diffusion_steps=400, noise_schedule="cosine", rescale_timesteps=True
    )
    assert model.process == GaussianDiffusion(400, "cosine", "learned_range", True)
    assert model.card.qualities["paper"].steps == 400
    assert model.name == "mine"


@pytest.mark.parametrize(("small", "variance"), [(False, "fixed_large"), (True, "fixed_small")])
def test_variance_that_was_not_learned(small, variance):
    state = checkpoint(flags_with(learn_sigma=False))
    model = import_dispr_checkpoint(state, num_heads=1, sigma_small=small, predict_xstart=True)
    assert model.process.variance == variance
    assert model.process.predicts == "shape"


def test_flags_without_effect_are_taken():
    flags = {"dropout": 0.1, "use_checkpoint": True, "use_fp16": False, "class_cond": False, "use_kl": False,
             "rescale_learned_sigmas": False, "timestep_respacing": "", "num_heads_upsample": -1}  # fmt: skip
    import_dispr_checkpoint(checkpoint(flags_with()), num_heads=1, **flags)


def test_channel_mult_left_to_the_image_size():
    state = checkpoint({**DEFAULT_FLAGS, "num_channels": 32})
    import_dispr_checkpoint(state, num_heads=1, channel_mult="", image_size=64)
    with pytest.raises(InputError, match="channel_mult"):
        import_dispr_checkpoint(state, num_heads=1, channel_mult="", image_size=128)


def test_imported_file_is_used_like_any_model(tmp_path):
    state = checkpoint(flags_with())
    torch.save(state, tmp_path / "emasavedmodel_0.9999_085000.pt")
    model = import_dispr_checkpoint(tmp_path / "emasavedmodel_0.9999_085000.pt", num_heads=1)
    model.save(tmp_path / "m.safetensors")
    again = ShapeModel.load(tmp_path / "m.safetensors")
    assert again.hash == model.hash
    for name, tensor in state.items():
        assert torch.equal(again.network.state_dict()[name], tensor)


# --- what is refused ------------------------------------------------------------------------------------


def refusal(*arguments, **flags):
    with pytest.raises(InputError) as caught:
        import_dispr_checkpoint(*arguments, **flags)
    text = str(caught.value)
    assert "\n" not in text and text.endswith((".", ")."))
    return text


def test_the_number_of_heads_is_required():
    assert "num_heads" in refusal(checkpoint(flags_with()))


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("num_channels", 64),
        ("num_res_blocks", 2),
        ("channel_mult", "1,2,3"),
        ("attention_resolutions", "8,16,32"),
        ("use_scale_shift_norm", True),
        ("resblock_updown", True),
        ("learn_sigma", False),
        ("class_cond", True),
        ("num_heads_upsample", 4),
        ("num_chanels", 32),
        ("noise_schedule", "quadratic"),
        ("num_heads", 0),
        ("num_heads", 5),
        ("num_head_channels", 7),
        ("num_head_channels", 0),
        ("diffusion_steps", 0),
        ("channel_mult", "one,two"),
        ("attention_resolutions", "0"),
    ],
)
def test_flags_that_disagree_or_are_none(flag, value):
    text = refusal(checkpoint(flags_with()), **{"num_heads": 1, "image_size": 32, flag: value})
    assert flag in text


def test_class_conditional_checkpoint():
    state = checkpoint(flags_with()) | {"label_emb.weight": torch.zeros(3, 128)}
    assert "class-conditional" in refusal(state, num_heads=1)


def test_parameters_of_another_network():
    state = checkpoint(flags_with())
    del state["middle_block.1.qkv.weight"]
    refusal(state, num_heads=1)
    refusal({"weight": torch.zeros(3)}, num_heads=1)
    refusal({}, num_heads=1)
    flat = {name: torch.zeros(3) for name in checkpoint(flags_with())}
    refusal(flat, num_heads=1)


def test_missing_file(tmp_path):
    assert "There is no file" in refusal(tmp_path / "none.pt", num_heads=1)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.pt")  # which torch would wait for
        assert "is a pipe or a device" in refusal(tmp_path / "pipe.pt", num_heads=1)


def test_folder(tmp_path):
    refusal(tmp_path, num_heads=1)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 and no more", b"\x80\x04garbage", b"text\n" * 100])
def test_file_that_is_no_checkpoint(tmp_path, content):
    (tmp_path / "savedmodel.pt").write_bytes(content)
    assert "savedmodel.pt" in refusal(tmp_path / "savedmodel.pt", num_heads=1)


@pytest.mark.parametrize("share", [0.02, 0.5, 0.98])
def test_truncated_file(tmp_path, share):
    path = tmp_path / "savedmodel085000.pt"
    torch.save(checkpoint(flags_with()), path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    assert path.name in refusal(path, num_heads=1)


def test_state_of_an_optimiser(tmp_path):
    parameter = torch.nn.Parameter(torch.zeros(3))
    optimiser = torch.optim.AdamW([parameter])
    parameter.sum().backward()
    optimiser.step()
    torch.save(optimiser.state_dict(), tmp_path / "optsavedmodel085000.pt")
    assert "optimiser" in refusal(tmp_path / "optsavedmodel085000.pt", num_heads=1)


class Attack:
    """Pickled, it writes a file when it is loaded."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return open, (self.target, "w")


@pytest.mark.parametrize("write", [torch.save, lambda data, path: path.write_bytes(pickle.dumps(data))])
def test_code_in_a_file_is_not_run(tmp_path, write):
    target = tmp_path / "written"
    write({**checkpoint(flags_with()), "more": Attack(str(target))}, tmp_path / "savedmodel.pt")
    refusal(tmp_path / "savedmodel.pt", num_heads=1)
    assert not target.exists()
