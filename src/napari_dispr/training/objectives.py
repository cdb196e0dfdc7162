"""The training losses: of our models (flow, then the energy score), and of the paper.

A network trained by squared error predicts the mean of all shapes that fit, so that a good member takes
many evaluations. The last share of the training therefore uses the inputs that the network meets during
sampling, and a score that is lowest if members are distributed as the truth is. Then one evaluation gives
a member, and each further one refines it.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from napari_dispr import grid
from napari_dispr.diffusion import devices
from napari_dispr.diffusion.condition import Condition
from napari_dispr.diffusion.network import DEFAULT, NetworkConfig, UNet3D
from napari_dispr.diffusion.process import GaussianDiffusion, RectifiedFlow, flow_loss
from napari_dispr.diffusion.samplers import agree_with_sections, with_condition
from napari_dispr.settings import TrainSettings

#: Stages of sampling that scored steps train: (evaluations of the whole run, those before). One is chosen at
#: random. Early evaluations are frequent, because they matter most; the last ones are similar.
STAGES = ((1, 0), (2, 0), (2, 1), (4, 1), (4, 2), (4, 3), (8, 1), (8, 3), (8, 5), (8, 7))


class Batch(NamedTuple):
    """The samples of a step that one process works on.

    Attributes
    ----------
    clean : (B, 1, 64, 64, 64)
    noise : (B, members, 64, 64, 64)
        Of standard deviation 1.
    places : (B,) int64
        Positions of these samples among all ``of`` the step, over all processes.
    """

    condition: Condition
    clean: Tensor
    noise: Tensor
    places: Tensor
    of: int

    def parts(self, number: int) -> list["Batch"]:
        """Split into ``number`` batches of the same step, at most one a sample."""
        number = min(number, len(self.clean))
        tensors = (*self.condition, self.clean, self.noise, self.places)
        cut = zip(*(tensor.tensor_split(number) for tensor in tensors), strict=True)
        return [
            Batch(Condition(*condition), clean, noise, places, self.of)
            for *condition, clean, noise, places in cut
        ]


#: The mean loss over the samples of a batch: of the batch, whether the step is scored, and random numbers.
Objective = Callable[[Batch, bool, torch.Generator], Tensor]


class FlowObjective:
    """Our loss: the squared error of the clean shape; in scored steps the energy score of members."""

    def __init__(self, network: UNet3D, settings: TrainSettings) -> None:
        self.network, self.settings = network, settings
        self.process = RectifiedFlow(settings.shift)
        self.device = next(network.parameters()).device
        weight = 1 + settings.plane_weight * torch.exp(-(torch.from_numpy(grid.plane_distance()) ** 2) / 2)
        self.weight = (weight / weight.mean()).view(1, 1, -1, 1, 1).to(self.device)
        # 16 bit only as bfloat16, which needs no scaling of the loss.
        self.mixed = devices.fast_dtype(self.device) is torch.bfloat16

    def __call__(self, batch: Batch, scored: bool, source: torch.Generator) -> Tensor:
        return self._score(batch, source) if scored else self._flow(batch, source)

    def _flow(self, batch: Batch, source: torch.Generator) -> Tensor:
        """Squared error of the clean shape predicted from x_t."""
        t = self.process.training_times(batch.of, source)[batch.places].to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.mixed):
            features = self.network.encode(batch.condition.planes, batch.condition.volumes)
            x = self.process.diffuse(batch.clean, t, batch.noise[:, :1])
            predicted = self.network(x, 1000 * t, features)
        return flow_loss(predicted, batch.clean, self.weight).mean()

    def _score(self, batch: Batch, source: torch.Generator) -> Tensor:
        """Energy score of two members of each cell at a random stage of sampling."""
        condition = Condition(*(torch.cat([kind, kind]) for kind in batch.condition))
        truncation = self.settings.truncation
        noise = torch.cat([batch.noise[:, :1], batch.noise[:, 1:]])
        stage = STAGES[int(torch.randint(len(STAGES), (), generator=source))]
        # Two contexts: autocast caches weights, and those cast without gradients must not be used below.
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.mixed):
            x, t = run_up_to(self.network, self.process, condition, truncation, noise, stage)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.mixed):
            times = torch.full((len(x),), 1000 * t, device=self.device)
            features = self.network.encode(condition.planes, condition.volumes)
            first, second = self.network(x, times, features).float().chunk(2)
        return energy_score(first, second, batch.clean, self.weight, truncation).mean()


class DisprObjective:
    """The paper's loss: squared error of the noise (Eq. 4), and the variational bound of its variance.

    The network has DISPR's topology: condition and x_t are its input channels.
    """

    def __init__(self, network: UNet3D) -> None:
        self.network = network
        self.process = GaussianDiffusion()
        self.device = next(network.parameters()).device

    def __call__(self, batch: Batch, scored: bool, source: torch.Generator) -> Tensor:
        t = torch.randint(self.process.steps, (batch.of,), generator=source)[batch.places]
        return self.at(batch.condition.planes, batch.clean, batch.noise[:, :1], t.to(self.device)).mean()

    def at(self, planes: Tensor, clean: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """The loss of each sample (B,) at integer timesteps (B,).

        The condition is planes (B, 2, H, W), repeated along z, or a volume (B, 2, D, H, W).
        """
        x = self.process.diffuse(clean, t, noise)
        output = self.network(with_condition(planes, x), self.process.network_time(t))
        return self.process.loss(output, clean, x, t, noise)["loss"]


def objective_of(network: UNet3D, settings: TrainSettings) -> Objective:
    """The loss for the settings."""
    return DisprObjective(network) if settings.method == "dispr" else FlowObjective(network, settings)


def topology_of(settings: TrainSettings) -> NetworkConfig:
    """The topology that the settings train from scratch."""
    return NetworkConfig() if settings.method == "dispr" else DEFAULT


# --- the energy score ---------------------------------------------------------------------------------


def shape_distance(first: Tensor, second: Tensor, weight: Tensor, truncation: float) -> Tensor:
    """Distance of shapes, (B,): 1 - IoU of soft voxels, plus the root mean square of signed distances.

    Both terms are distances of negative type (the first as the Jaccard distance, Gower & Legendre 1986; the
    second as a Euclidean norm), which makes the energy score proper.

    The shapes (B, 1, D, H, W) are signed distances in units of ``truncation``, in voxels; ``weight`` (1, 1,
    D, 1, 1), with mean 1, is that of the squared differences.
    """
    volume = (1, 2, 3, 4)
    a, b = torch.sigmoid(truncation * first), torch.sigmoid(truncation * second)
    overlap = (a - b).abs().sum(volume) / torch.maximum(a, b).sum(volume)
    # The small number keeps the gradient of the root finite for equal shapes.
    return overlap + ((weight * (first - second) ** 2).mean(volume) + 1e-6).sqrt()


def energy_score(first: Tensor, second: Tensor, clean: Tensor, weight: Tensor, truncation: float) -> Tensor:
    """Fair energy score of two members of each cell and the truth (B, 1, D, H, W); shape (B,).

    E d(X, y) - E d(X, X') / 2 (Gneiting & Raftery 2007, Eq. 22). For its use as a training loss of
    denoisers see De Bortoli et al., arXiv 2502.02483.
    """

    def distance(a: Tensor, b: Tensor) -> Tensor:
        return shape_distance(a, b, weight, truncation)

    return (distance(first, clean) + distance(second, clean) - distance(first, second)) / 2


def run_up_to(
    network: UNet3D,
    process: RectifiedFlow,
    condition: Condition,
    truncation: float,
    noise: Tensor,
    stage: tuple[int, int],
) -> tuple[Tensor, float]:
    """Run the Euler sampler up to one of `STAGES`, without gradients: x and the time of the next evaluation.

    The noise has the shape (B, 1, 64, 64, 64).
    """
    times = process.times(stage[0])
    x = noise
    with torch.no_grad():
        features = network.encode(condition.planes, condition.volumes)
        sections = condition.sections(truncation)
        for done in range(stage[1]):
            t, s = times[done], times[done + 1]
            clean = network(x, torch.full((len(x),), 1000 * t, device=x.device), features)
            clean = agree_with_sections(clean.float().clamp(-1, 1), *sections)
            x = s / t * x + (1 - s / t) * clean
    return x, times[stage[1]]
