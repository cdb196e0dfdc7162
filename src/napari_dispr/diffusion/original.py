"""Import checkpoints of the original DISPR code: topology from the parameters, the rest from flags."""

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor

from napari_dispr.card import Card, Quality
from napari_dispr.diffusion.model import ShapeModel
from napari_dispr.diffusion.network import NetworkConfig, UNet3D, seeded
from napari_dispr.diffusion.process import GaussianDiffusion
from napari_dispr.errors import InputError
from napari_dispr.files import reading

State = Mapping[str, Tensor]

#: Flags of the original that change neither the network nor the sampling here.
_WITHOUT_EFFECT = {"dropout", "use_checkpoint", "use_fp16", "use_kl", "rescale_learned_sigmas",
                   "timestep_respacing", "use_ddim", "clip_denoised", "batch_size"}  # fmt: skip
#: Default ``channel_mult`` of the original for an image size.
_CHANNEL_MULT = {512: "0.5,1,1,2,2,4,4", 256: "1,1,2,2,4,4", 128: "1,1,2,3,4", 64: "1,2,3,4"}


def import_dispr_checkpoint(
    checkpoint: str | os.PathLike[str] | State,
    *,
    name: str = "dispr",
    image_size: int = 64,
    num_heads: int | None = None,
    num_head_channels: int = -1,
    use_new_attention_order: bool = False,
    diffusion_steps: int = 1000,
    noise_schedule: str = "linear",
    rescale_timesteps: bool = False,
    sigma_small: bool = False,
    predict_xstart: bool = False,
    **flags: Any,
) -> ShapeModel:
    """Make a shape model from an original ``savedmodel*.pt`` or ``emasavedmodel*.pt``.

    The parameters reveal widths, depth, attention, scale-shift, resampling blocks and learned variance. The
    rest are keywords with the original's names and defaults.

    Parameters
    ----------
    name : str
        For the card.
    image_size : int
        Of the training data. Only the meaning of ``attention_resolutions`` depends on it.
    num_heads, num_head_channels : int
        Attention heads, or channels per head. The parameters do not reveal them: give one of the two.
    use_new_attention_order, diffusion_steps, noise_schedule, rescale_timesteps, sigma_small, predict_xstart
        As in the original.
    **flags
        Other flags of the original (``num_channels``, ``num_res_blocks``, ``channel_mult``,
        ``attention_resolutions``, ``use_scale_shift_norm``, ``resblock_updown``, ``learn_sigma``, ...).
        Those of the topology must agree with the parameters.

    Returns
    -------
    ShapeModel
        Its ``network(x, t)`` takes (B, 3, D, H, W) and (B,), and returns (B, 2, D, H, W).

    Raises
    ------
    InputError
        If the file is not such a checkpoint, a flag disagrees with it, or a required flag is missing.
    """
    state = checkpoint if isinstance(checkpoint, Mapping) else _read(checkpoint)
    source = "The state dict" if isinstance(checkpoint, Mapping) else str(checkpoint)
    _check_given(num_heads, num_head_channels, noise_schedule, diffusion_steps)
    try:
        revealed = _revealed(state)
        _check_heads(state, num_heads, num_head_channels)
        config = NetworkConfig(
            **revealed,
            num_heads=num_heads or 1,
            num_head_channels=num_head_channels,
            use_new_attention_order=use_new_attention_order,
        )
        _check_flags(flags, config, image_size, num_heads)
        if config.in_channels != 3 or config.out_channels not in (1, 2):
            raise InputError(
                f"The checkpoint takes {config.in_channels} channels and gives {config.out_channels}, where "
                "DISPR's takes 3 (mask, image, shape) and gives 1 or 2: choose a checkpoint of DISPR."
            )
        with seeded():
            network = UNet3D(config)
        network.load_state_dict(dict(state))
    except InputError:
        raise
    except (KeyError, IndexError, ValueError, RuntimeError, ZeroDivisionError) as error:
        raise InputError(
            f"{source} is not a checkpoint of DISPR's network: choose a savedmodel*.pt or emasavedmodel*.pt."
        ) from error
    variance: Literal["learned_range", "fixed_small", "fixed_large"] = "learned_range"
    if config.out_channels == 1:
        variance = "fixed_small" if sigma_small else "fixed_large"
    process = GaussianDiffusion(
        diffusion_steps,
        cast(Literal["linear", "cosine"], noise_schedule),
        variance,
        rescale_timesteps,
        "shape" if predict_xstart else "noise",
    )
    card = Card(
        name=name,
        description="Imported from a checkpoint of the original DISPR code.",
        representation="occupancy",
        qualities=dispr_qualities(diffusion_steps),
    )
    return ShapeModel(network, process, card)


def dispr_qualities(steps: int) -> dict[str, Quality]:
    """The qualities of a model of the paper's process with T = ``steps``."""
    return {
        "fast": Quality(sampler="ddim", steps=min(2, steps)),
        "balanced": Quality(sampler="ddim", steps=min(10, steps)),
        "paper": Quality(sampler="ddpm", steps=steps),
    }


def _read(path: str | os.PathLike[str]) -> State:
    cure = "choose a savedmodel*.pt or emasavedmodel*.pt that DISPR wrote"
    with reading(Path(path), "a PyTorch checkpoint of plain tensors", cure), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # other files may cause warnings
        state = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise InputError(
            f"{path} contains something other than a network's parameters (an optimiser's state?): "
            "choose a savedmodel*.pt or emasavedmodel*.pt."
        )
    return state


def _revealed(state: State) -> dict[str, Any]:
    """The topology from the names and shapes of the parameters.

    Read from the output blocks, where the end of a level looks the same for both kinds of upsampling.
    """
    if "label_emb.weight" in state:
        raise InputError(
            "The checkpoint is class-conditional, which DISPR is not: choose one without classes."
        )
    width = state["time_embed.0.weight"].shape[1]
    widths, blocks, attention = [], [0], set()
    stages = 1 + max(int(key.split(".")[1]) for key in state if key.startswith("output_blocks."))
    updown = False
    for i in range(stages):
        stage = f"output_blocks.{i}."
        later = {key.removeprefix(stage) for key in state if key.startswith(stage)} - {"0"}
        blocks[-1] += 1
        if blocks[-1] == 1:
            widths.append(state[stage + "0.out_layers.3.weight"].shape[0])
        if any(key.endswith("qkv.weight") for key in later):
            attention.add(len(widths))
        up_block = any(key.split(".")[0] != "0" and "in_layers.2.weight" in key for key in later)
        updown |= up_block
        if up_block or any(key.endswith(".conv.weight") for key in later):
            blocks.append(0)
    levels = len(widths)
    first = state["input_blocks.0.0.weight"]
    embedded = state["middle_block.0.emb_layers.1.weight"].shape[0]
    return {
        "num_channels": width,
        "num_res_blocks": blocks[0] - 1,
        "channel_mult": tuple(w / width for w in reversed(widths)),
        "attention_downsamplings": tuple(sorted(2 ** (levels - level) for level in attention)),
        "use_scale_shift_norm": embedded == 2 * widths[0],
        "resblock_updown": updown,
        "in_channels": first.shape[1],
        "out_channels": state["out.2.weight"].shape[0],
    }


def _check_given(
    num_heads: int | None, num_head_channels: int, noise_schedule: str, diffusion_steps: int
) -> None:
    """What the parameters do not reveal must be given, and be possible."""
    if num_heads is None and num_head_channels == -1:
        raise InputError(
            "A checkpoint does not contain its number of attention heads: give num_heads "
            "(1 with the flags of DISPR's README, 4 without flags)."
        )
    if noise_schedule not in ("linear", "cosine"):
        raise InputError(f"There is no noise_schedule {noise_schedule!r}: choose linear or cosine.")
    fewest = 21 if noise_schedule == "linear" else 1  # with fewer the betas reach 1
    if diffusion_steps < fewest:
        raise InputError(f"diffusion_steps is {diffusion_steps}: give {fewest} or more.")


def _check_heads(state: State, num_heads: int | None, num_head_channels: int) -> None:
    """The number of heads must divide the channels of every level with attention."""
    flag, value = (
        ("num_heads", num_heads) if num_head_channels == -1 else ("num_head_channels", num_head_channels)
    )
    widths = {tensor.shape[1] for name, tensor in state.items() if name.endswith("qkv.weight")}
    if value is None or value < 1 or any(width % value for width in widths):
        channels = ", ".join(map(str, sorted(widths)))
        raise InputError(
            f"{flag} is {value}: give one that divides the channels of the attention ({channels})."
        )


def _numbers(flag: str, text: str) -> list[float]:
    try:
        return [float(number) for number in text.split(",") if number]
    except ValueError:
        raise InputError(
            f"{flag} is {text!r}: give numbers separated by commas, as in the original."
        ) from None


def _check_flags(
    flags: Mapping[str, Any], config: NetworkConfig, image_size: int, num_heads: int | None
) -> None:
    """Given flags of the topology must agree with the parameters."""
    revealed: dict[str, Any] = {
        "num_channels": config.num_channels,
        "num_res_blocks": config.num_res_blocks,
        "use_scale_shift_norm": config.use_scale_shift_norm,
        "resblock_updown": config.resblock_updown,
        "learn_sigma": config.out_channels == 2,
        "class_cond": False,
        "channel_mult": config.channel_mult,
        "attention_resolutions": config.attention_downsamplings,
        "num_heads_upsample": num_heads,
    }
    for flag, value in flags.items():
        if flag in _WITHOUT_EFFECT:
            continue
        if flag not in revealed:
            raise InputError(f"DISPR has no flag {flag!r}: check its spelling.")
        given = value
        if flag == "channel_mult":
            given = tuple(_numbers(flag, str(value or _CHANNEL_MULT.get(image_size, ""))))
        elif flag == "attention_resolutions":
            factors = {image_size // int(r) for r in _numbers(flag, str(value)) if r >= 1}
            deepest = 2 ** (len(config.channel_mult) - 1)
            given = tuple(sorted(f for f in factors if f <= deepest))
        elif flag == "num_heads_upsample" and value == -1:
            continue
        if given != revealed[flag]:
            raise InputError(
                f"The flag {flag}={value} disagrees with the checkpoint: leave it out or correct it."
            )
