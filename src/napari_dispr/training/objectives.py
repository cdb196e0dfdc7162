"""What training minimises: of our models (flow, then the energy score), and of the paper's."""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from napari_dispr import grid
from napari_dispr.diffusion import devices
from napari_dispr.diffusion.condition import MASK_TRUNCATION
from napari_dispr.diffusion.network import DEFAULT, NetworkConfig, UNet3D
from napari_dispr.diffusion.process import GaussianDiffusion, RectifiedFlow, flow_loss
from napari_dispr.settings import TrainSettings
from napari_dispr.training.few_steps import STAGES, energy_score, run_up_to


class Batch(NamedTuple):
    """The samples of a step that one process works on.

    Attributes
    ----------
    planes : (B, C, 64, 64)
    clean : (B, 1, 64, 64, 64)
    noise : (B, members, 64, 64, 64)
        Of standard deviation 1.
    places : (B,) int64
        Of these samples among all of the step.
    of : int
        Samples of the step, over all processes.
    """

    planes: Tensor
    clean: Tensor
    noise: Tensor
    places: Tensor
    of: int

    def parts(self, number: int) -> list["Batch"]:
        """Cut into ``number`` batches of the same step, or as many as there are samples."""
        number = min(number, len(self.clean))
        tensors = (self.planes, self.clean, self.noise, self.places)
        cut = zip(*(tensor.tensor_split(number) for tensor in tensors), strict=True)
        return [Batch(planes, clean, noise, places, self.of) for planes, clean, noise, places in cut]


class Objective(Protocol):
    """A loss of a batch: the mean over the samples at hand."""

    def __call__(self, batch: Batch, scored: bool, source: torch.Generator) -> Tensor: ...


class FlowObjective:
    """Our loss: squared error of the clean shape, later the energy score of members.

    Parameters
    ----------
    network : UNet3D
    settings : TrainSettings
    """

    def __init__(self, network: UNet3D, settings: TrainSettings) -> None:
        self.network, self.settings = network, settings
        self.process = RectifiedFlow(settings.shift)
        self.device = next(network.parameters()).device
        weight = 1 + settings.plane_weight * torch.exp(-(torch.from_numpy(grid.plane_distance()) ** 2) / 2)
        self.weight = (weight / weight.mean()).view(1, 1, -1, 1, 1).to(self.device)
        # 16 bit where it needs no scaling of the loss.
        self.mixed = devices.fast_dtype(self.device) is torch.bfloat16

    def __call__(self, batch: Batch, scored: bool, source: torch.Generator) -> Tensor:
        return self._score(batch, source) if scored else self._flow(batch, source)

    def _flow(self, batch: Batch, source: torch.Generator) -> Tensor:
        """Squared error of the clean shape predicted from x_t."""
        t = self.process.training_times(batch.of, source)[batch.places].to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.mixed):
            features = self.network.encode(batch.planes)
            x = self.process.diffuse(batch.clean, t, batch.noise[:, :1])
            predicted = self.network(x, 1000 * t, features)
        return flow_loss(predicted, batch.clean, self.weight).mean()

    def _score(self, batch: Batch, source: torch.Generator) -> Tensor:
        """Energy score of two members of each cell at some stage of sampling them."""
        planes = batch.planes.repeat(2, 1, 1, 1)
        truncation = self.settings.truncation
        mask_distance = (planes[:, 1] * (MASK_TRUNCATION / truncation)).clamp(-1, 1)
        noise = torch.cat([batch.noise[:, :1], batch.noise[:, 1:]])
        stage = STAGES[int(torch.randint(len(STAGES), (), generator=source))]
        # A context of its own: weights that autocast casts without gradients must not be found again below.
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.mixed):
            x, t = run_up_to(self.network, self.process, planes, mask_distance, noise, stage)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.mixed):
            times = torch.full((len(x),), 1000 * t, device=self.device)
            first, second = self.network(x, times, self.network.encode(planes)).float().chunk(2)
        return energy_score(first, second, batch.clean, self.weight, truncation).mean()


class DisprObjective:
    """The paper's loss: squared error of the noise (Eq. 4) and the variational bound of its variance.

    Parameters
    ----------
    network : UNet3D
        Of DISPR's topology: condition and x_t are its channels.
    """

    def __init__(self, network: UNet3D) -> None:
        self.network = network
        self.process = GaussianDiffusion()
        self.device = next(network.parameters()).device

    def __call__(self, batch: Batch, scored: bool, source: torch.Generator) -> Tensor:
        t = torch.randint(self.process.steps, (batch.of,), generator=source)[batch.places]
        return self.at(batch.planes, batch.clean, batch.noise[:, :1], t.to(self.device)).mean()

    def at(self, planes: Tensor, clean: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """The loss of each sample (B,) at whole timesteps (B,).

        The condition is planes (B, 2, H, W), repeated along z, or a volume (B, 2, D, H, W).
        """
        x = self.process.diffuse(clean, t, noise)
        condition = planes
        if planes.ndim == 4:
            condition = planes[:, :, None].expand(-1, -1, x.shape[2], -1, -1)
        output = self.network(torch.cat([condition, x], dim=1), self.process.network_time(t))
        return self.process.loss(output, clean, x, t, noise)["loss"]


def objective_of(network: UNet3D, settings: TrainSettings) -> Objective:
    """The loss that the settings ask for."""
    return DisprObjective(network) if settings.method == "dispr" else FlowObjective(network, settings)


def topology_of(settings: TrainSettings) -> NetworkConfig:
    """The network that the settings train from scratch."""
    return NetworkConfig() if settings.method == "dispr" else DEFAULT
