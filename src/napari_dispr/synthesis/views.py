"""A multi-view diffusion model: 16 mutually consistent silhouettes of a body from one.

As SyncDreamer (Liu et al., arXiv 2309.03453) in the synthesis of annotated images (Yilmaz et al., Cascaded
diffusion models for 2D and 3D microscopy image synthesis): the views of one hypothetical body are denoised
together, so that they agree (Eq. 1), here as signed distances and with a rectified flow. The network is the
U-Net of the shape models with the views along its first axis: its convolutions mix neighbouring views, its
attention spans all views.

It is trained on silhouettes of random bodies only (`silhouettes`).
"""

from collections.abc import Generator, Sequence
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from napari_dispr import grid
from napari_dispr.diffusion.model import ShapeModel
from napari_dispr.diffusion.network import NetworkConfig, UNet3D
from napari_dispr.diffusion.process import RectifiedFlow, flow_loss
from napari_dispr.diffusion.samplers import Denoised, dpm_solver_2m, with_condition
from napari_dispr.errors import InputError
from napari_dispr.synthesis.silhouettes import TRUNCATION, VIEWS

#: Four views and 4 x 4 pixels are folded into channels; attention at 4 x 8 x 8 spans all views.
TOPOLOGY = NetworkConfig(
    num_channels=32,
    channel_mult=(1, 2),
    attention_downsamplings=(2,),
    num_head_channels=32,
    use_scale_shift_norm=True,
    in_channels=2,
    out_channels=1,
    fold=4,
)
PROCESS = RectifiedFlow(shift=8.0)
#: Evaluations of the network for each set of views.
STEPS = 12


@cache
def _turns() -> Tensor:
    """For each view the places (x, y) in the first silhouette of its pixels, (16, 64, 64, 2), in [-1, 1]."""
    pixel = (np.arange(grid.SIZE) - grid.CENTRE) / (grid.SIZE / 2)
    row, column = np.meshgrid(pixel, pixel, indexing="ij")
    places = []
    for view in VIEWS:
        sin, cos = np.sin(view.azimuth), np.cos(view.azimuth)
        # Rows along the azimuth (y: sin, x: cos), columns along the shared axis (y: -cos, x: sin).
        places.append(np.stack([row * cos + column * sin, row * sin - column * cos], axis=-1))
    return torch.from_numpy(np.stack(places)).float()


def turned(first: Tensor) -> Tensor:
    """The given silhouettes (B, 64, 64) as channel of the network, (B, 1, 16, 64, 64).

    For each view they are turned so that their columns are along the axis that both views share. Then the
    relation between the channels of the network does not depend on the azimuth of a view.
    """
    count = len(VIEWS)
    places = _turns().to(first.device).flatten(0, 1)[None].expand(len(first), -1, -1, -1)
    channel = F.grid_sample(first[:, None], places, padding_mode="border", align_corners=False)
    return channel.reshape(len(first), 1, count, grid.SIZE, grid.SIZE)


def views_loss(network: UNet3D, silhouettes: Tensor, generator: torch.Generator) -> Tensor:
    """Mean squared error of the views predicted together, Eq. 1 in the form of a rectified flow.

    ``silhouettes`` (B, 17, 64, 64) are those of `random_silhouettes`, in pixels.
    """
    scaled = silhouettes / TRUNCATION
    clean = scaled[:, None, 1:]
    t = PROCESS.training_times(len(clean), generator)
    x = PROCESS.diffuse(clean, t, torch.randn(clean.shape, generator=generator))
    predicted = network(with_condition(turned(scaled[:, 0]), x), 1000 * t)
    return flow_loss(predicted, clean, torch.ones(())).mean()


class ViewsDenoiser:
    """The views' network, with the given silhouettes (B, 64, 64) as condition."""

    def __init__(self, network: UNet3D, process: RectifiedFlow, first: Tensor) -> None:
        self.network, self.process = network, process
        self.dtype = next(network.parameters()).dtype
        self.condition = turned(first)

    def __call__(self, x: Tensor, t: float) -> Denoised:
        times = torch.full((len(x),), 1000.0 * t, device=x.device)
        channels = with_condition(self.condition, x).to(self.dtype)
        return Denoised(self.network(channels, times).float().clamp(-1, 1))


def views_model(path: str) -> ShapeModel:
    """Read the model that `learn_views` has trained."""
    if not path:
        raise InputError(
            "The way views needs a multi-view model: train one with napari-dispr synthesise views --out "
            "VIEWS.safetensors and give its file as views_model, or choose the way model."
        )
    model = ShapeModel.load(path)
    if model.network.config != TOPOLOGY or not isinstance(model.process, RectifiedFlow):
        raise InputError(f"{path} is no multi-view model: give the file from napari-dispr synthesise views.")
    return model


def iter_views(
    model: ShapeModel, first: NDArray[np.float32], seeds: Sequence[int], steps: int = STEPS
) -> Generator[None, None, NDArray[np.float32]]:
    """Sample the views of one hypothetical body for each silhouette, with a model of `views_model`.

    The given silhouettes (B, 64, 64) are signed distances in pixels, positive inside. The larger side of the
    box is 40 pixels, and its middle in the middle of the picture. Returns those of the views, (B, 16, 64,
    64), truncated; an event comes after each of the ``steps`` evaluations.
    """
    shape = (1, 1, len(VIEWS), grid.SIZE, grid.SIZE)
    noise = [torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    network = model.ready(torch.device("cpu"))
    given = torch.from_numpy(np.ascontiguousarray(first, dtype=np.float32) / TRUNCATION).clamp(-1, 1)
    assert isinstance(model.process, RectifiedFlow)
    denoiser = ViewsDenoiser(network, model.process, given)
    start = torch.cat(noise)
    # No inference_mode here: see models/sampling.py.
    for x in dpm_solver_2m(denoiser, start, model.process.times(steps), lambda: start):
        views = x
        yield
    return (views[:, 0] * TRUNCATION).numpy()
