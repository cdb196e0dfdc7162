"""Denoisers: a network, its process and the condition of a batch, as the one call that samplers make."""

import torch
from torch import Tensor

from napari_dispr import grid
from napari_dispr.diffusion.network import UNet3D
from napari_dispr.diffusion.process import GaussianDiffusion, RectifiedFlow
from napari_dispr.diffusion.samplers import Denoised

#: How far, in voxels (standard deviation along z), a correction of the imaged plane is felt.
CORRECTION_DEPTH = 3.0


class FlowDenoiser:
    """Rectified flow on signed distances, conditioned on planes (B, planes, 64, 64).

    Parameters
    ----------
    network : UNet3D
    process : RectifiedFlow
    planes : (B, planes, 64, 64)
        The second plane is the signed distance of the mask.
    mask_distance : (B, 64, 64) or None
        The mask's signed distance in units of the truncation. Where given, each clean shape is made
        to agree with the mask in the imaged plane, see :func:`agree_with_mask`.
    """

    def __init__(
        self, network: UNet3D, process: RectifiedFlow, planes: Tensor, mask_distance: Tensor | None
    ) -> None:
        self.network, self.process, self.mask_distance = network, process, mask_distance
        self.dtype = next(network.parameters()).dtype
        self.features = network.encode(planes.to(self.dtype))

    def __call__(self, x: Tensor, t: float) -> Denoised:
        times = torch.full((len(x),), 1000.0 * t, device=x.device)
        clean = self.network(x.to(self.dtype), times, self.features).float().clamp(-1, 1)
        if self.mask_distance is not None:
            clean = agree_with_mask(clean, self.mask_distance)
        return Denoised(clean)


class GaussianDenoiser:
    """The paper's diffusion, conditioned on planes (B, C, H, W) repeated along z (or on a volume).

    Parameters
    ----------
    network : UNet3D
    process : GaussianDiffusion
    condition : (B, C, H, W) or (B, C, D, H, W)
        Goes in front of x_t, which is the last channel.
    clip : bool
        Clamp predicted clean shapes to [-1, 1], as the original does.
    """

    def __init__(
        self, network: UNet3D, process: GaussianDiffusion, condition: Tensor, clip: bool = True
    ) -> None:
        self.network, self.process, self.condition, self.clip = network, process, condition, clip

    def __call__(self, x: Tensor, t: float) -> Denoised:
        times = torch.full((len(x),), int(t), device=x.device)
        condition = self.condition
        if condition.ndim == 4:
            condition = condition[:, :, None].expand(-1, -1, x.shape[2], -1, -1)
        output = self.network(torch.cat([condition, x], dim=1), self.process.network_time(times))
        clean = self.process.clean_shape(x, times, output[:, :1])
        fraction = output[:, 1:] if output.shape[1] > 1 else None
        return Denoised(clean.clamp(-1, 1) if self.clip else clean, fraction)


def agree_with_mask(clean: Tensor, mask_distance: Tensor) -> Tensor:
    """Clean shapes whose imaged plane has the mask for its section, without a seam.

    In the imaged plane a voxel's distance from the surface is at most its distance from the section's
    edge and has the same sign. What a prediction violates of that is added to the volume with a
    weight that falls off smoothly with the distance from the plane.

    Parameters
    ----------
    clean : (B, 1, 64, 64, 64)
        Signed distance in units of the truncation.
    mask_distance : (B, 64, 64)
        Signed distance from the mask's edge, in the same units.
    """
    section = clean[:, 0, grid.IMAGED_PLANE]
    # A surface that leans is nearer than the section's edge; one that lies flatter than 3 in 1 is rare.
    near = mask_distance / 3
    low, high = torch.minimum(near, mask_distance), torch.maximum(near, mask_distance)
    missing = torch.minimum(torch.maximum(section, low), high) - section
    z = torch.from_numpy(grid.plane_distance()).to(clean)
    weight = torch.exp(-0.5 * (z / CORRECTION_DEPTH) ** 2).view(1, -1, 1, 1)
    return clean + (weight * missing[:, None])[:, None]
