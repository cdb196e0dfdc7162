"""Tiny networks with fixed weights."""

from napari_dispr import ShapeModel
from napari_dispr.card import Card, Quality
from napari_dispr.diffusion.network import NetworkConfig, UNet3D
from napari_dispr.diffusion.process import GaussianDiffusion, RectifiedFlow
from support.dispr_reference import weights_of

#: As ours, but tiny.
TINY = NetworkConfig(
    num_channels=32, channel_mult=(1, 1), attention_downsamplings=(), num_head_channels=32,
    use_scale_shift_norm=True, in_channels=1, out_channels=1, fold=8, isotropic=True, planes=4,
)  # fmt: skip

QUALITIES = {"fast": Quality(sampler="dpm-solver++", steps=2), "balanced": Quality(sampler="euler", steps=8)}


def tiny_model(name="tiny", **card) -> ShapeModel:
    network = UNet3D(TINY)
    network.load_state_dict(weights_of(network))
    return ShapeModel(network, RectifiedFlow(5.0), Card(name=name, qualities=QUALITIES, **card))


def dispr_model(**process) -> ShapeModel:
    network = UNet3D(NetworkConfig(channel_mult=(1,), attention_downsamplings=()))
    network.load_state_dict(weights_of(network))
    card = Card(name="original", representation="occupancy", qualities=QUALITIES)
    return ShapeModel(network, GaussianDiffusion(**process), card)
