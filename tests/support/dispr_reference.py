"""Numbers of the original DISPR code in ``fixtures``, the recipe of their weights, and its network restated.

``original_forward`` follows the original's flags and parameter names as functions of a state dict; it
shares nothing with the package, so that the two can be compared where there are no stored numbers.
"""

import hashlib
import json
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"
META = json.loads((FIXTURES / "meta.json").read_text("utf-8"))
#: What DISPR's README trains, but for the first three: the "small" configuration of the fixtures.
SMALL_FLAGS: dict[str, Any] = {"image_size": 32, "channel_mult": "1,2", "attention_resolutions": "16"}
README_FLAGS: dict[str, Any] = {"image_size": 64, "attention_resolutions": "16", "num_heads": 1}


def stored(name: str) -> dict[str, Any]:
    """One of the ``.pt`` files."""
    return torch.load(FIXTURES / f"{name}.pt", weights_only=True)


# --- the recipe of weights and inputs ---------------------------------------------------------------


def normal(name: str, shape: Iterable[int], scale: float = 1.0) -> Tensor:
    """Normal numbers of a stream of their own."""
    # Not a Generator: NumPy promises the numbers of this one for ever.
    stream = np.random.RandomState(zlib.crc32(name.encode()))
    return torch.from_numpy((stream.standard_normal(tuple(shape)) * scale).astype(np.float32))


def weights(shapes: Mapping[str, Iterable[int]]) -> dict[str, Tensor]:
    """Parameters without zeros, also where the original starts with zeros."""
    made = {}
    for name, dims in shapes.items():
        shape = tuple(dims)
        if name.endswith(".bias"):
            made[name] = normal(name, shape, 0.05)
        elif len(shape) == 1:
            made[name] = 1.0 + normal(name, shape, 0.1)
        else:
            made[name] = normal(name, shape, 0.8 / np.sqrt(np.prod(shape[1:])))
    return made


def weights_of(network: torch.nn.Module) -> dict[str, Tensor]:
    """The recipe's parameters for a network."""
    return weights({name: tensor.shape for name, tensor in network.state_dict().items()})


def digest(state: Mapping[str, Tensor]) -> str:
    """SHA-256 of names and values, as the fixtures state it."""
    sha = hashlib.sha256()
    for name in sorted(state):
        sha.update(name.encode())
        sha.update(state[name].detach().contiguous().numpy().astype("<f4").tobytes())
    return sha.hexdigest()


# --- the original's network, restated -----------------------------------------------------------------

DEFAULT_FLAGS: dict[str, Any] = {
    "image_size": 64,
    "num_channels": 32,
    "num_res_blocks": 1,
    "channel_mult": "1,2,3,4",
    "attention_resolutions": "16",
    "num_heads": 1,
    "num_head_channels": -1,
    "use_new_attention_order": False,
    "use_scale_shift_norm": False,
    "resblock_updown": False,
    "learn_sigma": True,
}


def original_layout(
    flags: Mapping[str, Any],
) -> tuple[list[list[tuple]], list[list[tuple]], list[list[tuple]]]:
    """Input, middle and output blocks as lists of layers ``(kind, channels in, channels out)``."""
    width = flags["num_channels"]
    mult = [float(m) for m in flags["channel_mult"].split(",")]
    attention = {flags["image_size"] // int(r) for r in flags["attention_resolutions"].split(",") if r}
    ch = int(mult[0] * width)
    down: list[list[tuple]] = [[("conv", 3, ch)]]
    skips, ds = [ch], 1
    for level, m in enumerate(mult):
        for _ in range(flags["num_res_blocks"]):
            layers: list[tuple] = [("res", ch, int(m * width))]
            ch = int(m * width)
            if ds in attention:
                layers.append(("attention", ch, ch))
            down.append(layers)
            skips.append(ch)
        if level != len(mult) - 1:
            down.append([("res-down" if flags["resblock_updown"] else "down", ch, ch)])
            skips.append(ch)
            ds *= 2
    middle: list[list[tuple]] = [[("res", ch, ch), ("attention", ch, ch), ("res", ch, ch)]]
    up: list[list[tuple]] = []
    for level, m in list(enumerate(mult))[::-1]:
        for i in range(flags["num_res_blocks"] + 1):
            layers = [("res", ch + skips.pop(), int(m * width))]
            ch = int(m * width)
            if ds in attention:
                layers.append(("attention", ch, ch))
            if level and i == flags["num_res_blocks"]:
                layers.append(("res-up" if flags["resblock_updown"] else "up", ch, ch))
                ds //= 2
            up.append(layers)
    return down, middle, up


def original_shapes(flags: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the original's parameters for its flags."""
    width = flags["num_channels"]
    emb = 4 * width
    shapes: dict[str, tuple[int, ...]] = {}

    def weight_and_bias(name: str, *shape: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = shape, shape[:1]

    weight_and_bias("time_embed.0", emb, width)
    weight_and_bias("time_embed.2", emb, emb)
    down, middle, up = original_layout(flags)
    stages = [(f"input_blocks.{i}.", layers) for i, layers in enumerate(down)]
    stages += [("middle_block.", middle[0])]
    stages += [(f"output_blocks.{i}.", layers) for i, layers in enumerate(up)]
    for prefix, layers in stages:
        for j, (kind, inputs, outputs) in enumerate(layers):
            name = f"{prefix}{j}"
            if kind == "conv":
                weight_and_bias(name, outputs, inputs, 3, 3, 3)
            elif kind == "down":
                weight_and_bias(f"{name}.op", outputs, inputs, 3, 3, 3)
            elif kind == "up":
                weight_and_bias(f"{name}.conv", outputs, inputs, 3, 3, 3)
            elif kind == "attention":
                weight_and_bias(f"{name}.norm", inputs)
                weight_and_bias(f"{name}.qkv", 3 * inputs, inputs, 1)
                weight_and_bias(f"{name}.proj_out", inputs, inputs, 1)
            else:
                weight_and_bias(f"{name}.in_layers.0", inputs)
                weight_and_bias(f"{name}.in_layers.2", outputs, inputs, 3, 3, 3)
                weight_and_bias(f"{name}.emb_layers.1", outputs * (1 + flags["use_scale_shift_norm"]), emb)
                weight_and_bias(f"{name}.out_layers.0", outputs)
                weight_and_bias(f"{name}.out_layers.3", outputs, outputs, 3, 3, 3)
                if inputs != outputs:
                    weight_and_bias(f"{name}.skip_connection", outputs, inputs, 1, 1, 1)
    weight_and_bias("out.0", up[-1][-1][2])
    weight_and_bias("out.2", 1 + flags["learn_sigma"], down[0][0][2], 3, 3, 3)
    return shapes


def original_forward(p: Mapping[str, Tensor], flags: Mapping[str, Any], x: Tensor, t: Tensor) -> Tensor:
    """The original's network as a function of its parameters, its flags, x (B, 3, D, H, W) and t (B,)."""

    def norm(name: str, h: Tensor) -> Tensor:
        return F.group_norm(h, 32, p[f"{name}.weight"], p[f"{name}.bias"], 1e-5)

    def conv(name: str, h: Tensor, **options: Any) -> Tensor:
        return F.conv3d(h, p[f"{name}.weight"], p[f"{name}.bias"], **options)

    def resample(kind: str, h: Tensor) -> Tensor:
        if kind == "res-down":
            return F.avg_pool3d(h, (1, 2, 2), (1, 2, 2))
        if kind.endswith("up"):
            return h.repeat_interleave(2, dim=3).repeat_interleave(2, dim=4)
        return h

    def residual(name: str, kind: str, x: Tensor) -> Tensor:
        h = resample(kind, F.silu(norm(f"{name}.in_layers.0", x)))
        h = conv(f"{name}.in_layers.2", h, padding=1)
        e = F.linear(F.silu(emb), p[f"{name}.emb_layers.1.weight"], p[f"{name}.emb_layers.1.bias"])
        e = e[:, :, None, None, None]
        if flags["use_scale_shift_norm"]:
            scale, shift = torch.chunk(e, 2, dim=1)
            h = norm(f"{name}.out_layers.0", h) * (1 + scale) + shift
        else:
            h = norm(f"{name}.out_layers.0", h + e)
        h = conv(f"{name}.out_layers.3", F.silu(h), padding=1)
        x = resample(kind, x)
        if f"{name}.skip_connection.weight" in p:
            x = conv(f"{name}.skip_connection", x)
        return x + h

    def attention(name: str, x: Tensor) -> Tensor:
        b, c = x.shape[:2]
        tokens = x.reshape(b, c, -1)
        per_head = flags["num_head_channels"]
        heads = flags["num_heads"] if per_head == -1 else c // per_head
        ch = c // heads
        qkv = F.conv1d(norm(f"{name}.norm", tokens), p[f"{name}.qkv.weight"], p[f"{name}.qkv.bias"])
        out = []
        for head in range(heads):
            if flags["use_new_attention_order"]:
                places = [part * c + head * ch for part in range(3)]
            else:
                places = [(head * 3 + part) * ch for part in range(3)]
            q, k, v = (qkv[:, place : place + ch] for place in places)
            shares = torch.einsum("bct,bcs->bts", q * ch**-0.25, k * ch**-0.25).softmax(dim=-1)
            out.append(torch.einsum("bts,bcs->bct", shares, v))
        h = F.conv1d(torch.cat(out, 1), p[f"{name}.proj_out.weight"], p[f"{name}.proj_out.bias"])
        return (tokens + h).reshape(x.shape)

    def run(prefix: str, layers: list[tuple], h: Tensor) -> Tensor:
        for j, (kind, _, _) in enumerate(layers):
            name = f"{prefix}{j}"
            if kind == "conv":
                h = conv(name, h, padding=1)
            elif kind == "down":
                h = conv(f"{name}.op", h, padding=1, stride=(1, 2, 2))
            elif kind == "up":
                h = conv(f"{name}.conv", resample(kind, h), padding=1)
            elif kind == "attention":
                h = attention(name, h)
            else:
                h = residual(name, kind, h)
        return h

    half = flags["num_channels"] // 2
    frequencies = torch.tensor([10000 ** (-i / half) for i in range(half)])
    angles = t[:, None].float() * frequencies
    emb = torch.cat([angles.cos(), angles.sin()], 1)
    emb = F.silu(F.linear(emb, p["time_embed.0.weight"], p["time_embed.0.bias"]))
    emb = F.linear(emb, p["time_embed.2.weight"], p["time_embed.2.bias"])
    down, middle, up = original_layout(flags)
    h, skips = x, []
    for i, layers in enumerate(down):
        h = run(f"input_blocks.{i}.", layers, h)
        skips.append(h)
    h = run("middle_block.", middle[0], h)
    for i, layers in enumerate(up):
        h = run(f"output_blocks.{i}.", layers, torch.cat([h, skips.pop()], 1))
    return conv("out.2", F.silu(norm("out.0", h)), padding=1)
