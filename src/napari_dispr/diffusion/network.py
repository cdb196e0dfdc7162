"""The U-Net: in 3D with a condition (DISPR's network is one configuration, ours is another), and in 2D.

Parameter names are those of the original (guided_diffusion's ``UNetModel``), so that its checkpoints
load without changes. The meaning of the condition planes is defined in `condition`.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Annotated, ClassVar, Literal, cast

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from napari_dispr import grid
from napari_dispr.diffusion.normalisation import GroupNorm, one_by_one

_Multiple = Annotated[float, Field(gt=0, le=64)]


@dataclass(frozen=True)
class NetworkConfig:
    """Topology of a :class:`UNet`. The fields up to ``resblock_updown`` have the original's names.

    The bounds are checked where a model file is read.

    Attributes
    ----------
    num_res_blocks : int
        Residual blocks per level in the encoder (one more in the decoder).
    channel_mult : tuple of float
        Width of each level as a multiple of ``num_channels``.
    attention_downsamplings : tuple of int
        Downsampling factors of levels with attention (the middle always has it). The original's
        ``attention_resolutions`` are ``image_size // factor``.
    num_heads, num_head_channels : int
        Attention heads, or channels per head if that is not -1.
    use_new_attention_order : bool
        Split q | k | v before the heads instead of after.
    use_scale_shift_norm : bool
        The time embedding scales and shifts the second normalisation instead of being added.
    resblock_updown : bool
        Residual blocks do the down- and upsampling.
    in_channels, out_channels : int
        Channels of ``x`` (before folding) and of the output.
    fold : int
        Blocks of fold^3 voxels are stacked into channels before the first convolution.
    isotropic : bool
        Downsample z too. The original keeps all 64 planes at every level.
    planes : int
        Number of 2D condition planes; 0: the condition is part of the channels of ``x``, as in DISPR. With
        planes, the signed distance of each voxel from the imaged plane is a further input.
    volumes : int
        Number of 3D condition volumes; only with condition planes.
    """

    #: Axes of space. Not a field, so that the files and hashes of 3D networks do not change.
    dimensions: ClassVar[int] = 3

    num_channels: Annotated[int, Field(ge=1, le=2048)] = 32
    num_res_blocks: Annotated[int, Field(ge=1, le=16)] = 1
    channel_mult: Annotated[tuple[_Multiple, ...], Field(min_length=1, max_length=7)] = (1, 2, 3, 4)
    attention_downsamplings: Annotated[tuple[int, ...], Field(max_length=7)] = (4,)
    num_heads: Annotated[int, Field(ge=1, le=1024)] = 1
    num_head_channels: Annotated[int, Field(ge=-1, le=4096)] = -1
    use_new_attention_order: bool = False
    use_scale_shift_norm: bool = False
    resblock_updown: bool = False
    in_channels: Annotated[int, Field(ge=1, le=64)] = 3
    out_channels: Annotated[int, Field(ge=1, le=2)] = 2
    fold: Literal[1, 2, 4, 8] = 1
    isotropic: bool = False
    planes: Annotated[int, Field(ge=0, le=64)] = 0
    volumes: Annotated[int, Field(ge=0, le=64)] = 0

    def __post_init__(self) -> None:
        for field in fields(self):  # JSON has only lists
            if isinstance(value := getattr(self, field.name), list):
                object.__setattr__(self, field.name, tuple(value))

    @property
    def stride(self) -> tuple[int, ...]:
        """Factor along each axis between two levels."""
        return (2,) * self.dimensions if self.isotropic else (1, 2, 2)


@dataclass(frozen=True)
class PlaneNetworkConfig(NetworkConfig):
    """Topology of a :class:`UNet` for pictures (y, x). A condition is part of the channels of ``x``."""

    isotropic: bool = True
    planes: Literal[0] = 0
    volumes: Literal[0] = 0
    dimensions: ClassVar[int] = 2


#: The network of our models: 4 x 4 x 4 voxels folded into channels, attention at 4^3 only.
DEFAULT = NetworkConfig(
    num_channels=32,
    channel_mult=(2, 3, 3),
    attention_downsamplings=(),
    num_head_channels=32,
    use_scale_shift_norm=True,
    in_channels=1,
    out_channels=1,
    fold=4,
    isotropic=True,
    planes=6,
    volumes=4,
)


@contextmanager
def seeded(seed: int = 0) -> Iterator[None]:
    """Random weights that are made inside depend on the seed; torch's own generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def fold(x: Tensor, n: int) -> Tensor:
    """(B, C, D, H, W) -> (B, C n^3, D/n, H/n, W/n): blocks of n^3 voxels (or n^2 pixels) become channels."""
    if x.ndim == 4:
        return F.pixel_unshuffle(x, n)
    b, c, d, h, w = x.shape
    x = x.reshape(b, c, d // n, n, h // n, n, w // n, n).permute(0, 2, 4, 6, 1, 3, 5, 7)
    return x.reshape(b, d // n, h // n, w // n, c * n**3).movedim(-1, 1)  # channels last


def unfold(x: Tensor, n: int) -> Tensor:
    """The inverse of :func:`fold`."""
    if x.ndim == 4:
        return F.pixel_shuffle(x, n)
    b, c, d, h, w = x.shape
    x = x.reshape(b, c // n**3, n, n, n, d, h, w)
    return x.permute(0, 1, 5, 2, 6, 3, 7, 4).reshape(b, c // n**3, d * n, h * n, w * n)


def timestep_embedding(t: Tensor, width: int) -> Tensor:
    """Sinusoids [cos | sin] of (B,) times, shape (B, width), float32."""
    half = width // 2
    # Written as in the original, so that the rounding of large angles is the same.
    exponent = -math.log(1e4) * torch.arange(half, dtype=torch.float32, device=t.device) / half
    angles = t[:, None].float() * torch.exp(exponent)
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def conv(
    inputs: int, outputs: int, dimensions: int, stride: int | tuple[int, ...] = 1, width: int = 3
) -> nn.Conv2d | nn.Conv3d:
    """A convolution with padding, 3 x 3 x 3 or 3 x 3 unless another ``width`` is given."""
    kind = nn.Conv3d if dimensions == 3 else nn.Conv2d
    return kind(inputs, outputs, width, stride=stride, padding=width // 2)  # type: ignore[arg-type]


def zeroed(module: nn.Module) -> nn.Module:
    """Set all parameters to zero, so that a residual branch starts without effect."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


class Downsample(nn.Module):
    """Strided convolution, or mean pooling inside a residual block."""

    def __init__(self, channels: int, stride: tuple[int, ...], learned: bool) -> None:
        super().__init__()
        pool = nn.AvgPool3d if len(stride) == 3 else nn.AvgPool2d
        self.op = (
            conv(channels, channels, len(stride), stride) if learned else pool(stride, stride)  # type: ignore[arg-type]
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)


class Upsample(nn.Module):
    """Nearest-neighbour upsampling, followed by a convolution except inside a residual block."""

    def __init__(self, channels: int, stride: tuple[int, ...], learned: bool) -> None:
        super().__init__()
        self.factor = tuple(float(s) for s in stride)
        self.conv = conv(channels, channels, len(stride)) if learned else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=self.factor, mode="nearest"))


class ResBlock(nn.Module):
    """Residual block with a time embedding; may change width and resolution."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        embedding: int,
        scale_shift: bool,
        resample: nn.Module | None = None,
        dimensions: int = 3,
    ) -> None:
        super().__init__()
        self.scale_shift = scale_shift
        self.resample = resample or nn.Identity()
        self.in_layers = nn.Sequential(GroupNorm(inputs), nn.SiLU(), conv(inputs, outputs, dimensions))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embedding, outputs * (2 if scale_shift else 1)))
        # The third layer is the original's dropout, always 0; it keeps the names of the parameters.
        self.out_layers = nn.Sequential(
            GroupNorm(outputs), nn.SiLU(), nn.Identity(), zeroed(conv(outputs, outputs, dimensions))
        )
        self.skip_connection = (
            nn.Identity() if inputs == outputs else conv(inputs, outputs, dimensions, width=1)
        )

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        norm, activation, first = self.in_layers
        h = first(self.resample(activation(norm(x))))
        e = self.emb_layers(embedding).to(h.dtype)
        e = e.reshape(*e.shape, *[1] * (h.ndim - 2))
        norm, *rest = self.out_layers
        if self.scale_shift:
            scale, shift = e.chunk(2, dim=1)
            h = torch.addcmul(shift, norm(h), 1 + scale)
        else:
            h = norm(h + e)
        for layer in rest:
            h = layer(h)
        return self.skip_connection(self.resample(x)) + h


class AttentionBlock(nn.Module):
    """Self-attention over all voxels of a level, as a residual branch."""

    def __init__(self, channels: int, config: NetworkConfig) -> None:
        super().__init__()
        per_head = config.num_head_channels
        self.heads = config.num_heads if per_head == -1 else channels // per_head
        if self.heads < 1 or channels % self.heads:
            raise ValueError(f"{channels} channels cannot be split into {self.heads} heads")
        self.new_order = config.use_new_attention_order
        self.norm = GroupNorm(channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = zeroed(nn.Conv1d(channels, channels, 1))

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        b, c, *space = x.shape
        tokens = x.reshape(b, c, -1)
        qkv = self.qkv(self.norm(tokens))
        if self.new_order:  # q | k | v, each with its heads
            q, k, v = qkv.reshape(b, 3, self.heads, c // self.heads, -1).unbind(1)
        else:  # heads, each with its q | k | v
            q, k, v = qkv.reshape(b, self.heads, 3, c // self.heads, -1).unbind(2)
        q, k, v = (a.transpose(-1, -2).contiguous() for a in (q, k, v))
        # Scaling by 1/sqrt(c) equals the original's ch^-1/4 on both q and k.
        h = F.scaled_dot_product_attention(q, k, v)
        h = h.transpose(-1, -2).reshape(b, c, -1)
        return (tokens + self.proj_out(h)).reshape(b, c, *space)


class Stage(nn.Sequential):
    """Layers in sequence. Residual blocks and attention also take the time embedding."""

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:  # type: ignore[override]  # as the original
        for layer in self:
            x = layer(x, embedding) if isinstance(layer, (ResBlock, AttentionBlock)) else layer(x)
        return x


class UNet(nn.Module):
    """The denoising network: ``(x, t) -> output``.

    Notes
    -----
    ``forward(x, t, features=None)`` takes x (B, in_channels, D, H, W), or (B, in_channels, H, W) in 2D, and
    t (B,), the original's timesteps 0..999 (ours are the process's time in [0, 1] times 1000), and returns
    (B, out_channels, ...). With condition planes, ``features`` is :meth:`UNet3D.encode` of the condition: the
    part of the first convolution that is the same in every step.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        #: Whether samples pass the levels one by one, which is faster in 8 bit.
        self.apart = False
        width, stride, n, dimensions = config.num_channels, config.stride, config.fold, config.dimensions
        embedding = 4 * width
        self.time_embed = nn.Sequential(
            nn.Linear(width, embedding), nn.SiLU(), nn.Linear(embedding, embedding)
        )

        def block(inputs: int, outputs: int, resample: nn.Module | None = None) -> ResBlock:
            return ResBlock(inputs, outputs, embedding, config.use_scale_shift_norm, resample, dimensions)

        widths = [int(mult * width) for mult in config.channel_mult]
        if not all(widths):
            raise ValueError(f"A level of the network has no channels: {widths}")
        ch = first = widths[0]
        self.input_blocks = nn.ModuleList([Stage(conv(self._stem_channels(), ch, dimensions))])
        skips = [ch]
        downsampling = 1
        last_level = len(widths) - 1
        for level, level_width in enumerate(widths):
            for _ in range(config.num_res_blocks):
                layers: list[nn.Module] = [block(ch, level_width)]
                ch = level_width
                if downsampling in config.attention_downsamplings:
                    layers.append(AttentionBlock(ch, config))
                self.input_blocks.append(Stage(*layers))
                skips.append(ch)
            if level != last_level:
                down = Downsample(ch, stride, learned=not config.resblock_updown)
                self.input_blocks.append(Stage(block(ch, ch, down) if config.resblock_updown else down))
                skips.append(ch)
                downsampling *= 2

        self.middle_block = Stage(block(ch, ch), AttentionBlock(ch, config), block(ch, ch))

        self.output_blocks = nn.ModuleList()
        for level, level_width in reversed(list(enumerate(widths))):
            for i in range(config.num_res_blocks + 1):
                layers = [block(ch + skips.pop(), level_width)]
                ch = level_width
                if downsampling in config.attention_downsamplings:
                    layers.append(AttentionBlock(ch, config))
                if level and i == config.num_res_blocks:
                    up = Upsample(ch, stride, learned=not config.resblock_updown)
                    layers.append(block(ch, ch, up) if config.resblock_updown else up)
                    downsampling //= 2
                self.output_blocks.append(Stage(*layers))
        self.out = nn.Sequential(
            GroupNorm(ch), nn.SiLU(), zeroed(conv(first, config.out_channels * n**dimensions, dimensions))
        )

    def _stem_channels(self) -> int:
        c = self.config
        return c.in_channels * c.fold**c.dimensions + (c.planes * c.fold**2 + c.fold if c.planes else 0)

    @property
    def _stem(self) -> nn.Conv3d:
        return cast(nn.Conv3d, cast(Stage, self.input_blocks[0])[0])

    def forward(self, x: Tensor, t: Tensor, features: Tensor | None = None) -> Tensor:
        stem = self._stem
        embedding = self.time_embed(timestep_embedding(t, self.config.num_channels).to(stem.weight.dtype))
        h = fold(x, self.config.fold) if self.config.fold > 1 else x
        if features is None:
            h = stem(h)
        else:
            h = F.conv3d(h, stem.weight[:, : h.shape[1]], padding=1) + features
        h = one_by_one(self._levels, h, embedding) if self.apart else self._levels(h, embedding)
        h = self.out(h)
        return unfold(h, self.config.fold) if self.config.fold > 1 else h

    def _levels(self, h: Tensor, embedding: Tensor) -> Tensor:
        """All between the first convolution and the last normalisation."""
        skips = [h]
        for stage in self.input_blocks[1:]:
            h = stage(h, embedding)
            skips.append(h)
        h = self.middle_block(h, embedding)
        for stage in self.output_blocks:
            h = stage(torch.cat([h, skips.pop()], dim=1), embedding)
        return h


class UNet3D(UNet):
    """The denoising network of volumes, which can take the condition as planes."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__(config)
        if config.volumes:
            # Apart from the first convolution, so that a wider network starts with exactly the same output.
            self.known = zeroed(
                nn.Conv3d(config.volumes * config.fold**3, self._stem.out_channels, 1, bias=False)
            )

    def with_inputs(self, planes: int, volumes: int) -> "UNet3D":
        """A copy with fewer condition planes and volumes, or with more, whose weights are 0."""
        old, n = self.config, self.config.fold
        with seeded():
            new = UNet3D(replace(old, planes=planes, volumes=volumes))
        weights = self.state_dict()
        stem = weights["input_blocks.0.0.weight"]
        own = old.in_channels * n**3
        noisy, known, distance = stem.split([own, old.planes * n**2, n], dim=1)
        extra = max(0, planes - old.planes) * n**2
        known = F.pad(known[:, : planes * n**2], (0, 0, 0, 0, 0, 0, 0, extra))
        weights["input_blocks.0.0.weight"] = torch.cat([noisy, known, distance], dim=1)
        weight = weights.pop("known.weight", torch.zeros(len(stem), 0, 1, 1, 1))
        if volumes:
            weight = weight[:, : volumes * n**3]
            more = volumes * n**3 - weight.shape[1]
            weights["known.weight"] = F.pad(weight, (0, 0, 0, 0, 0, 0, 0, more))
        new.load_state_dict(weights)
        return new

    @cached_property
    def _distance(self) -> Tensor:
        """Signed distance from the imaged plane in units of half the grid, and 0 beyond, (fold, D + 2)."""
        z = torch.from_numpy(grid.plane_distance()) / grid.IMAGED_PLANE
        return F.pad(z.reshape(-1, self.config.fold).T, (1, 1))

    def encode(self, planes: Tensor, volumes: Tensor | None = None) -> Tensor:
        """Features (B, width, D, H, W) of the condition; computed once per cell.

        ``planes`` have the shape (B, planes, 64, 64) and ``volumes`` (B, volumes, 64, 64, 64); without
        volumes nothing is known but the planes.
        """
        # The first convolution of planes that are the same at each depth and of distances that are the same
        # in each plane, as convolutions of pictures: a sixteenth of the work.
        stem, n = self._stem, self.config.fold
        depth, own, width = grid.SIZE // n, self.config.in_channels * n**3, stem.out_channels
        below, within, above = stem.weight[:, own:-n].unbind(2)
        kernels = torch.cat([within + above, below + within + above, below + within])
        first, middle, last = F.conv2d(F.pixel_unshuffle(planes, n), kernels, padding=1).chunk(3, dim=1)
        alike = torch.stack([first, *[middle] * (depth - 2), last], dim=2)
        near = self._distance.to(planes).unfold(1, 3, 1)  # of each depth the distances below, at and above
        kernels = torch.einsum("fdk,ofkyx->odyx", near, stem.weight[:, -n:]).reshape(-1, 1, 3, 3)
        bias = cast(Tensor, stem.bias).repeat_interleave(depth)
        rows = F.conv2d(torch.ones_like(planes[:1, :1, ::n, ::n]), kernels, bias, padding=1)
        features = alike + rows.view(1, width, depth, *rows.shape[2:])
        if self.config.volumes and volumes is not None:
            kernels = cast(Tensor, self.known.weight).reshape(width, -1, n, n, n)
            features = features + F.conv3d(volumes, kernels, stride=n)  # without folding the volumes
        return features.contiguous(memory_format=torch.channels_last_3d)
