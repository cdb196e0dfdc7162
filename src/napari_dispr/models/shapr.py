"""SHAPR: one shape from mask and image, by a 2D encoder and a 3D decoder; network, losses, model file.

Written from the published description, not from its code, so that it can be trained on the same cells as a
shape model and compared with it. Its file has the same form as a shape model's: weights, and a card that
names the cells that it was trained on.

Reference: Waibel et al. (2022). SHAPR predicts 3D cell shapes from 2D microscopic images. iScience 25(11).
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from safetensors import SafetensorError
from skimage.filters import threshold_otsu
from torch import Tensor, nn

from napari_dispr.card import Card
from napari_dispr.cells.cropping import Crop
from napari_dispr.diffusion.checkpoints import read_tensors, write_tensors
from napari_dispr.diffusion.model import check_finite
from napari_dispr.diffusion.network import seeded
from napari_dispr.errors import InputError
from napari_dispr.files import check_readable
from napari_dispr.models.method import OneShape

FORMAT = "napari-dispr shapr 2"
#: Decoder stages: channels in, channels out, and the factors (z, y, x) by which the volume grows after it.
#: The published list of layers does not say how large the kernels are. The publication's network has 419,720
#: parameters: kernels of (1, 3, 3) and a last one of 3 x 3 x 3 come to 418,641, kernels of 3 x 3 x 3
#: throughout to 1,050,441.
STAGES = (
    (80, 80, (2, 1, 1)),
    (80, 80, (2, 1, 1)),
    (80, 40, (2, 2, 2)),
    (40, 40, (2, 1, 1)),
    (40, 20, (2, 1, 1)),
    (20, 10, (2, 2, 2)),
)


def _block_2d(channels: int, out: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for given in (channels, out):
        layers += [nn.Conv2d(given, out, 3, padding=1), nn.BatchNorm2d(out), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def _block_3d(channels: int, out: int) -> nn.Sequential:
    # Planes exchange nothing here. They differ because the transposed convolutions split each plane into two
    # with different weights, and because of the last convolution.
    layers: list[nn.Module] = []
    for given in (channels, out):
        convolution = nn.Conv3d(given, out, (1, 3, 3), padding=(0, 1, 1))
        layers += [convolution, nn.BatchNorm3d(out), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


class SHAPR(nn.Module):
    """The generator: planes (B, 2, 64, 64), mask and image times mask, to logits (B, 1, 64, 64, 64).

    The decoder's kernels are stored channels last: on a CPU with 16-bit matrices that and
    ``torch.autocast`` make a training step four times as fast.
    """

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            _block_2d(2, 10),
            nn.MaxPool2d(2),
            _block_2d(10, 20),
            nn.MaxPool2d(2),
            _block_2d(20, 40),
            nn.Conv2d(40, 80, 3, padding=1),
            nn.Sigmoid(),
        )
        stages: list[nn.Module] = []
        for channels, out, factors in STAGES:
            stages += [_block_3d(channels, out), nn.ConvTranspose3d(out, out, factors, factors)]
        self.decoder = nn.Sequential(*stages, nn.Conv3d(10, 1, 3, padding=1))
        self.decoder.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]

    def forward(self, planes: Tensor) -> Tensor:
        """Logits; their sigmoid is the probability that a voxel is inside."""
        code = self.encoder(planes)[:, :, None].contiguous(memory_format=torch.channels_last_3d)
        logits: Tensor = self.decoder(code)
        return logits


class Discriminator(nn.Module):
    """Distinguishes true shapes (B, 1, 64, 64, 64) from predicted ones: logits (B,), above 0 for true.

    The widths are the publication's; each convolution halves the volume, down to 2 x 2 x 2.
    """

    def __init__(self) -> None:
        super().__init__()
        widths = (1, 10, 20, 40, 80, 160)
        layers: list[nn.Module] = []
        for channels, out in pairwise(widths):
            layers += [nn.Conv3d(channels, out, 3, stride=2, padding=1), nn.LeakyReLU(0.2, inplace=True)]
        self.layers = nn.Sequential(*layers)
        self.layers.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self.verdict = nn.Linear(widths[-1], 1)

    def forward(self, shapes: Tensor) -> Tensor:
        """Logits of probabilities or of binary shapes."""
        features = self.layers(shapes).mean(dim=(2, 3, 4))
        verdict: Tensor = self.verdict(features)
        return verdict[:, 0]


def dice_loss(probabilities: Tensor, truth: Tensor) -> Tensor:
    """1 - Dice coefficient of each shape, averaged over the batch (first axis)."""
    p, t = probabilities.flatten(1), truth.flatten(1)
    # One voxel is added to numerator and denominator, so that two empty shapes have no error.
    return (1 - (2 * (p * t).sum(1) + 1) / (p.sum(1) + t.sum(1) + 1)).mean()


def supervised_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """Dice and binary cross-entropy of the probabilities, in float32.

    The published code gives the probabilities, after their sigmoid, to a cross-entropy that takes logits.
    This limits the loss of a voxel and pulls probabilities towards 0.5. Here the cross-entropy is computed
    from the logits.
    """
    logits, truth = logits.float(), truth.float()
    return dice_loss(logits.sigmoid(), truth) + F.binary_cross_entropy_with_logits(logits, truth)


def generator_loss(supervised: Tensor, verdict: Tensor) -> Tensor:
    """(10 supervised + adversarial) / 11; the adversarial part is low if predictions pass as true."""
    adversarial = F.binary_cross_entropy_with_logits(verdict.float(), torch.ones_like(verdict).float())
    return (10 * supervised + adversarial) / 11


def discriminator_loss(true_verdict: Tensor, drawn_verdict: Tensor) -> Tensor:
    """Binary cross-entropy of the classified true and predicted shapes, equally weighted."""
    true, drawn = true_verdict.float(), drawn_verdict.float()
    on_true = F.binary_cross_entropy_with_logits(true, torch.ones_like(true))
    return (on_true + F.binary_cross_entropy_with_logits(drawn, torch.zeros_like(drawn))) / 2


def planes_of(mask: ArrayLike, image: ArrayLike | None) -> NDArray[np.float32]:
    """Input (2, 64, 64) of the network: mask, and image times mask, both in [0, 1].

    Raises an InputError if there is no image.
    """
    if image is None:
        raise InputError("SHAPR needs an image and a mask: add the image, or use a method that needs none.")
    mask, image = np.asarray(mask, np.float32), np.asarray(image, np.float32)
    return np.stack([mask, image * mask])


@dataclass(eq=False)
class SHAPRModel(OneShape):
    """A trained SHAPR and its card, whose ``rival`` says which SHAPR it is."""

    network: SHAPR
    card: Card = field(default_factory=lambda: Card(name="shapr", rival="shapr", qualities={}))

    def __post_init__(self) -> None:
        self.network.eval().requires_grad_(False)

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the weights, hexadecimal."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.network.state_dict().items()):
            digest.update(name.encode() + tensor.float().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Name, hash, kind and the version of torch."""
        return {**super().provenance, "torch": torch.__version__}

    def probabilities(self, mask: ArrayLike, image: ArrayLike | None) -> NDArray[np.float32]:
        """Probability (64, 64, 64) that a voxel is inside.

        See `planes_of` for the errors.
        """
        planes = torch.from_numpy(planes_of(mask, image)[None])
        with torch.inference_mode():
            return self.network(planes)[0, 0].sigmoid().contiguous().numpy()

    def level(self, crop: Crop) -> tuple[NDArray[np.float32], float]:
        """Probabilities (64, 64, 64) over their maximum, and Otsu's threshold, as in the published measures.

        See `planes_of` for the errors.
        """
        level = self.probabilities(crop.mask, crop.image)
        if level.min() == level.max():  # the same everywhere: there is no threshold
            return level, 0.5
        level = level / level.max()
        return level, float(threshold_otsu(level))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model file (safetensors) under a temporary name, then rename it."""
        metadata = {"format": FORMAT, "card": self.card.model_dump_json(by_alias=True)}
        write_tensors(Path(path), self.network.state_dict(), metadata)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a model file; that cannot run code.

        Raises an InputError if it is not there, or is no SHAPR of this package.
        """
        check_readable(path)
        try:
            metadata, tensors = read_tensors(path)
            if metadata["format"] != FORMAT:
                raise ValueError(metadata["format"])
            with seeded():
                network = SHAPR()
            network.load_state_dict(tensors)
            model = cls(network, Card.model_validate_json(metadata["card"]))
        except (SafetensorError, LookupError, TypeError, ValueError, RuntimeError, OSError) as error:
            raise InputError(
                f"{path} is not a SHAPR of napari-dispr: choose a .safetensors file that its training wrote."
            ) from error
        check_finite(network.state_dict(), path)
        return model
