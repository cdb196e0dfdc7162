"""Training for few evaluations: the energy score of members that the sampler itself draws.

A network trained by squared error predicts the mean of all shapes that fit; a good member then takes
many evaluations. Here it is trained at the very inputs that it meets while sampling, by a score that
is lowest if members are distributed as the truth is, so that a member may be drawn in one evaluation
and each further one refines it.
"""

import torch
from torch import Tensor

from napari_dispr.diffusion.denoisers import agree_with_mask
from napari_dispr.diffusion.network import UNet3D
from napari_dispr.diffusion.process import RectifiedFlow

#: (evaluations of a whole run, those done before) that training draws from; each as likely as its place
#: here is frequent. Early evaluations decide most, and the last ones are alike.
STAGES = ((1, 0), (2, 0), (2, 1), (4, 1), (4, 2), (4, 3), (8, 1), (8, 3), (8, 5), (8, 7))


def shape_distance(first: Tensor, second: Tensor, weight: Tensor, truncation: float) -> Tensor:
    """How far shapes are apart: 1 - IoU of soft voxels, plus the root mean square of signed distances.

    Both terms are distances of negative type (the first as the Jaccard distance is, Gower & Legendre
    1986; the second as a Euclidean norm), which makes the energy score proper.

    Parameters
    ----------
    first, second : (B, 1, D, H, W)
        Signed distances in units of ``truncation``.
    weight : (1, 1, D, 1, 1)
        Of the squared differences, of mean 1.
    truncation : float
        Voxels.

    Returns
    -------
    (B,)
    """
    volume = (1, 2, 3, 4)
    a, b = torch.sigmoid(truncation * first), torch.sigmoid(truncation * second)
    overlap = (a - b).abs().sum(volume) / torch.maximum(a, b).sum(volume)
    # The small number keeps the slope of the root finite where both shapes are one.
    return overlap + ((weight * (first - second) ** 2).mean(volume) + 1e-6).sqrt()


def energy_score(first: Tensor, second: Tensor, clean: Tensor, weight: Tensor, truncation: float) -> Tensor:
    """Fair energy score of two members of each cell against the truth (B, 1, D, H, W), a value a cell (B,).

    E d(X, y) - E d(X, X') / 2 (Gneiting & Raftery 2007, Eq. 22); as a training loss of denoisers see
    De Bortoli et al., arXiv 2502.02483.
    """

    def apart(a: Tensor, b: Tensor) -> Tensor:
        return shape_distance(a, b, weight, truncation)

    return (apart(first, clean) + apart(second, clean) - apart(first, second)) / 2


def run_up_to(
    network: UNet3D,
    process: RectifiedFlow,
    planes: Tensor,
    mask_distance: Tensor,
    noise: Tensor,
    stage: tuple[int, int],
) -> tuple[Tensor, float]:
    """Where a run of the Euler sampler makes its next evaluation: x and time; without gradients.

    Parameters
    ----------
    network : UNet3D
    process : RectifiedFlow
    planes : (B, planes, 64, 64)
    mask_distance : (B, 64, 64)
        As in :class:`~napari_dispr.diffusion.denoisers.FlowDenoiser`.
    noise : (B, 1, 64, 64, 64)
    stage : (int, int)
        Evaluations of the whole run, and those done before.
    """
    times = process.times(stage[0])
    x = noise
    with torch.no_grad():
        features = network.encode(planes)
        for done in range(stage[1]):
            t, s = times[done], times[done + 1]
            clean = network(x, torch.full((len(x),), 1000 * t, device=x.device), features)
            clean = agree_with_mask(clean.float().clamp(-1, 1), mask_distance)
            x = s / t * x + (1 - s / t) * clean
    return x, times[stage[1]]
