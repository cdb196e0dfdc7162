"""The learned model of synthesis: the networks of masks and textures and a card, in one safetensors file."""

import hashlib
import json
import os
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal, Self

import torch
from safetensors import SafetensorError

from napari_dispr.diffusion import devices
from napari_dispr.diffusion.checkpoints import read_tensors, write_tensors
from napari_dispr.diffusion.model import check_finite, checked_config
from napari_dispr.diffusion.network import PlaneNetworkConfig, UNet
from napari_dispr.synthesis.learned_card import FORMAT, SynthesisCard, no_model, read_card

#: The two networks of a model.
PARTS = ("masks", "textures")


@dataclass(eq=False)
class LearnedSynthesis:
    """The networks of masks and textures, and their card."""

    masks: UNet = field(repr=False)
    textures: UNet = field(repr=False)
    card: SynthesisCard

    def __post_init__(self) -> None:
        for part in PARTS:
            getattr(self, part).eval().requires_grad_(False)

    @cached_property
    def hash(self) -> str:
        """SHA-256 of all that decides what is made: topologies, weights, and part of the card."""
        notes = {"name", "description", "licence", "attribution", "training"}
        digest = hashlib.sha256(self.card.model_dump_json(exclude=notes).encode())
        for name, tensor in self._tensors().items():
            digest.update(name.encode() + tensor.numpy().tobytes())
        return digest.hexdigest()

    def _networks(self) -> dict[str, UNet]:
        return {part: getattr(self, part) for part in PARTS}

    def _tensors(self) -> dict[str, torch.Tensor]:
        return {
            f"{part}.{name}": tensor.to("cpu", torch.float16).contiguous(
                memory_format=torch.contiguous_format
            )
            for part, network in self._networks().items()
            for name, tensor in network.state_dict().items()
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model file, with weights of 16 bit, by way of a temporary file."""
        topologies = {part: json.dumps(asdict(network.config)) for part, network in self._networks().items()}
        metadata = {"format": FORMAT, "card": self.card.model_dump_json(), **topologies}
        write_tensors(Path(path), self._tensors(), metadata)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a model file; that cannot run code.

        Raises an InputError if the file does not exist, or is no learned model of synthesis.
        """
        card = read_card(path)
        try:
            metadata, found = read_tensors(path)
            tensors = {name: tensor.float() for name, tensor in found.items()}
            networks = {}
            for part in PARTS:
                config = checked_config(PlaneNetworkConfig, json.loads(metadata[part]))
                own = {
                    name.removeprefix(f"{part}."): tensor
                    for name, tensor in tensors.items()
                    if name.startswith(f"{part}.")
                }
                with torch.device("meta"):  # a file that claims to be huge takes no memory
                    network = UNet(config)
                network.load_state_dict(own, assign=True)
                networks[part] = network
            model = cls(card=card, **networks)
        except (SafetensorError, LookupError, TypeError, ValueError, RuntimeError, OSError) as error:
            raise no_model(path) from error
        check_finite(tensors, path)
        return model

    def ready(self, part: Literal["masks", "textures"], device: torch.device) -> UNet:
        """A copy of one of the networks on a device, in the fast data type."""
        return ready(getattr(self, part), device)


def ready(network: UNet, device: torch.device) -> UNet:
    """A copy of a network on a device for sampling, in the fast data type."""
    copy = deepcopy(network).eval().requires_grad_(False)
    return devices.channels_last(copy.to(device, devices.fast_dtype(device)))
