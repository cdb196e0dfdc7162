"""The shape model: network, process, weights and card in one safetensors file.

The file contains only tensors and JSON: loading it cannot run code. `original` reads original checkpoints.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import TypeAdapter
from safetensors import SafetensorError

from napari_dispr import signed_distance
from napari_dispr.card import Card
from napari_dispr.diffusion import condition, devices, eight_bit
from napari_dispr.diffusion.checkpoints import read_tensors, write_tensors
from napari_dispr.diffusion.condition import Condition, Known
from napari_dispr.diffusion.ellipsoids import Ellipsoids, describe
from napari_dispr.diffusion.known_shapes import KnownShapes
from napari_dispr.diffusion.network import NetworkConfig, UNet3D
from napari_dispr.diffusion.process import GaussianDiffusion, RectifiedFlow
from napari_dispr.diffusion.samplers import SAMPLERS, Adjust, Denoiser, FlowDenoiser, GaussianDenoiser
from napari_dispr.diffusion.starts import Start
from napari_dispr.diffusion.upsampling import with_merged_upsampling
from napari_dispr.errors import InputError
from napari_dispr.files import check_readable
from napari_dispr.planes import KnownPlane
from napari_dispr.stereology import Sizes

PROCESSES = {"rectified_flow": RectifiedFlow, "gaussian_diffusion": GaussianDiffusion}

#: Names of the tensors of known shapes in a model file begin so.
_KNOWN = "known shapes."
#: Bytes of a model file, which is read as a whole.
_LARGEST = 2e9

Checked = TypeVar("Checked")


def checked_config(kind: type[Checked], values: dict[str, Any]) -> Checked:
    """An instance of a dataclass; a ValueError if a value has another type or is out of bounds."""
    TypeAdapter(kind).validate_json(json.dumps(values), strict=True)
    return kind(**values)  # the numbers as they are in the file: the hash depends on them


def check_finite(tensors: Mapping[str, torch.Tensor], path: str | os.PathLike[str]) -> None:
    """Raise an InputError if the weights of a model file hold NaN or infinity."""
    if not all(bool(tensor.isfinite().all()) for tensor in tensors.values()):
        raise InputError(f"The weights of {path} hold NaN or infinite values: get or train the model again.")


class Conditioned(Protocol):
    """What a model must know of a cell; a crop has it."""

    @property
    def mask(self) -> NDArray[np.float32]: ...
    @property
    def image(self) -> NDArray[np.float32] | None: ...
    @property
    def known_scale(self) -> float | None: ...
    @property
    def planes(self) -> Sequence[KnownPlane]: ...
    @property
    def picture(self) -> str: ...
    @property
    def sizes(self) -> Sizes | None: ...


@dataclass(eq=False)
class ShapeModel:
    """A network with its weights, its process and its card, and known shapes to start from."""

    network: UNet3D = field(repr=False)
    process: RectifiedFlow | GaussianDiffusion
    card: Card
    known: KnownShapes | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self.network.eval().requires_grad_(False)

    @property
    def name(self) -> str:
        return self.card.name

    @cached_property
    def hash(self) -> str:
        """SHA-256 of everything that determines the voxels: configuration, weights, part of the card."""
        notes = {"name", "description", "licence", "attribution", "limits", "training", "scores"}
        notes |= {"intervals", "plane_intervals", "rival"}
        if self.card.volume is None:  # else novel cells are sampled without the volume regression
            notes |= {"novelty", "volume"}
        if self.card.heights is None:  # as in the versions that did not have it
            notes |= {"heights"}
        parts = [self._configuration(), self.card.model_dump(mode="json", exclude=notes, by_alias=True)]
        digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode())
        for name, tensor in sorted(self.network.state_dict().items()):
            digest.update(name.encode() + tensor.float().cpu().numpy().tobytes())
        for name, array in self._known_arrays().items():
            digest.update(name.encode() + array.tobytes())
        return digest.hexdigest()

    def _known_arrays(self) -> dict[str, NDArray[Any]]:
        """The known shapes, named as in a model file."""
        arrays = {} if self.known is None else self.known.arrays()
        return {f"{_KNOWN}{name}": array for name, array in arrays.items()}

    def _configuration(self) -> dict[str, str]:
        kind = next(name for name, cls in PROCESSES.items() if isinstance(self.process, cls))
        network = asdict(self.network.config)
        if not network["volumes"]:  # as earlier versions wrote it, so that the hash is the same
            del network["volumes"]
        return {
            "format": "napari-dispr 1",
            "network": json.dumps(network),
            "process": json.dumps({"kind": kind, **asdict(self.process)}),
        }

    def save(self, path: str | os.PathLike[str], dtype: torch.dtype = torch.float32) -> None:
        """Write the model file with weights of type ``dtype``, by way of a temporary file."""
        tensors = {name: tensor.to(dtype) for name, tensor in self.network.state_dict().items()}
        tensors |= {name: torch.from_numpy(array) for name, array in self._known_arrays().items()}
        metadata = {**self._configuration(), "card": self.card.model_dump_json(by_alias=True)}
        write_tensors(Path(path), tensors, metadata)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a model file.

        Raises an InputError if the file does not exist, or is not a model file of this package.
        """
        check_readable(path)
        if os.path.getsize(path) > _LARGEST:
            raise InputError(f"{path} is larger than {_LARGEST / 1e9:.0f} GB: choose a smaller model.")
        try:
            metadata, found = read_tensors(path)
            known = {name for name in found if name.startswith(_KNOWN)}
            arrays = {name.removeprefix(_KNOWN): found[name].numpy() for name in known}
            tensors = {name: tensor.float() for name, tensor in found.items() if name not in known}
            process = json.loads(metadata["process"])
            card = Card.model_validate_json(metadata["card"])
            with torch.device("meta"):  # a file that claims to be huge takes no memory
                network = UNet3D(checked_config(NetworkConfig, json.loads(metadata["network"])))
            network.load_state_dict(tensors, assign=True)
            model = cls(network, checked_config(PROCESSES[process.pop("kind")], process), card)
            model.known = KnownShapes.of_arrays(arrays) if arrays else None
        except (
            SafetensorError,
            LookupError,
            TypeError,
            ValueError,
            AttributeError,
            RuntimeError,
            ArithmeticError,
            OSError,
        ) as error:
            raise InputError(
                f"{path} is not a shape model of napari-dispr: choose a .safetensors file of napari-dispr, "
                "or import an original checkpoint first."
            ) from error
        check_finite(tensors, path)
        return model

    # --- sampling ---------------------------------------------------------------------------------

    def condition(self, crops: Sequence[Conditioned]) -> Condition:
        """The conditions of crops, on the CPU."""
        config = self.network.config
        known = [Known.of(crop.mask, crop.image, crop.planes, crop.picture == "projection") for crop in crops]
        volumes = [one.volumes()[: config.volumes] for one in known]
        planes = [
            condition.signed_planes(crop.mask, crop.image, crop.known_scale)[: config.planes]
            if config.planes
            else condition.dispr_planes(crop.mask, crop.image)
            for crop in crops
        ]
        stacked = torch.from_numpy(np.stack(planes)), torch.from_numpy(np.stack(volumes))
        return Condition(*stacked, *condition.filled_up(known))

    def start(self, crop: Conditioned) -> Start | Ellipsoids | None:
        """Where the members of a crop start; None: from noise alone, as for a projection."""
        if self.known is None or crop.picture != "section":
            return None
        sized, truncation = crop.known_scale is not None, self.card.truncation
        ellipsoids = Ellipsoids.of(crop.mask, crop.planes, truncation, crop.sizes)
        if ellipsoids is not None and describe(self.known):
            return ellipsoids
        return Start.of(self.known, crop.mask, crop.image, crop.planes, sized=sized, truncation=truncation)

    def ready(self, device: torch.device) -> UNet3D:
        """A copy of the network on a device, in the fast data type (DISPR's network stays in float32).

        On a CPU convolutions are in 8 bit where that is faster, as it is without AMX.

        The model's own weights keep their precision and take no memory of the device. The copy on the CPU
        is kept, because making it takes longer than sampling a cell.
        """
        return self._on_cpu if device.type == "cpu" else self._copied(device)

    @cached_property
    def _on_cpu(self) -> UNet3D:
        return self._copied(torch.device("cpu"))

    def _copied(self, device: torch.device) -> UNet3D:
        folded = self.network.config.fold > 1
        fast = devices.fast_dtype(device) if folded else torch.float32
        # Vectors of bfloat16 without AMX take twice as long as 8 bit.
        is_slow = folded and device.type == "cpu" and (fast is torch.float32 or not devices.has_tiles())
        in_eight_bit = is_slow and eight_bit.is_available()
        network = deepcopy(self.network)
        if device.type == "cpu":
            network = with_merged_upsampling(network)
        network = devices.channels_last(network.to(device, torch.float32 if in_eight_bit else fast))
        return eight_bit.in_eight_bit(network) if in_eight_bit else network

    def denoiser(
        self, crops: Sequence[Conditioned], network: UNet3D, adjust: Sequence[Adjust] = ()
    ) -> Denoiser:
        """The denoiser of a batch of crops, with a network of `ready`; ``adjust`` as in `FlowDenoiser`."""
        # The members of a cell have the same crop: it is encoded once, and alone, so that the features do not
        # depend on the rest of the batch.
        each = {id(crop): crop for crop in crops}
        places = [list(each).index(id(crop)) for crop in crops]
        weight = next(network.parameters())
        known = self.condition(list(each.values())).to(weight.device)
        if isinstance(self.process, GaussianDiffusion):
            return GaussianDenoiser(network, self.process, known.planes[places])
        planes, volumes = known.planes.to(weight.dtype), known.volumes.to(weight.dtype)
        features = [network.encode(planes[[i]], volumes[[i]]) for i in range(len(each))]
        depths, distances = known.sections(self.card.truncation)
        sections = depths[places], distances[places]
        return FlowDenoiser(network, self.process, torch.cat([features[i] for i in places]), sections, adjust)

    def decode(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Signed distances in voxels of sampled clean shapes, both (B, 64, 64, 64)."""
        if self.card.representation == "signed_distance":
            return x * np.float32(self.card.truncation)
        return np.stack([signed_distance.from_level(v, 0.5, self.card.truncation) for v in x])

    def sampling(self, quality: str, sampler: str | None, steps: int | None) -> tuple[str, int]:
        """Sampler and number of evaluations of a quality; ``sampler`` and ``steps`` override them."""
        known = self.card.qualities
        if quality not in known:
            raise InputError(
                f"The model {self.name!r} has no quality {quality!r}: choose one of {', '.join(known)}."
            )
        name = known[quality].sampler if sampler is None else sampler
        count = steps or known[quality].steps
        if name not in SAMPLERS:
            raise InputError(f"There is no sampler {name!r}: choose one of {', '.join(SAMPLERS)}.")
        if isinstance(self.process, RectifiedFlow):
            if name == "ddpm":
                raise InputError(
                    f"The sampler 'ddpm' needs a Gaussian diffusion, and {self.name!r} is of another kind: "
                    "choose dpm-solver++, ddim or euler."
                )
        elif count > self.process.steps:
            raise InputError(
                f"{count} steps are more than the {self.process.steps} of {self.name!r}: choose fewer."
            )
        return name, count
