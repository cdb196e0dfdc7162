"""Files of weights, and checkpoints: the state of a run, from which it continues."""

import io
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save as to_bytes

from napari_dispr.errors import InputError
from napari_dispr.files import written_aside
from napari_dispr.settings import Settings


def write_tensors(
    path: Path, tensors: Mapping[str, torch.Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Write a safetensors file under a temporary name, then rename it."""
    # Copied from channels-last to plain order: files have no strides.
    plain = {
        name: tensor.cpu().contiguous(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    with written_aside(path) as aside:
        aside.write_bytes(to_bytes(plain, metadata))  # safetensors' own writer makes files private


def read_tensors(path: str | os.PathLike[str]) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
    """Metadata and tensors of a safetensors file; it raises what safetensors raises."""
    with safe_open(path, framework="pt") as file:
        # Copied: tensors that stay mapped to the file would prevent its replacement on Windows.
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        return file.metadata() or {}, tensors


def write_checkpoint(path: Path, content: Mapping[str, Any]) -> None:
    """Write to a temporary file, then rename it."""
    whole = io.BytesIO()  # torch's own writer does not report a full disk
    torch.save(dict(content), whole)
    with written_aside(path) as aside:
        aside.write_bytes(whole.getbuffer())


def read_checkpoint(
    path: Path,
    names: Collection[str],
    settings: Settings,
    *,
    free: set[str],
    cells: Sequence[str],
    device: torch.device | None = None,
) -> dict[str, Any]:
    """Read the state that a run continues from.

    Raises an InputError if the file is damaged, or the run has other settings, but for those in ``free``, or
    other cells. No cells: they are not compared.
    """
    try:
        content: dict[str, Any] = torch.load(path, map_location=device or "cpu", weights_only=True)
        before = dict(content["settings"])
        missing = set(names) - content.keys()
    except MemoryError:
        raise
    except Exception as error:  # a damaged file can raise anything
        raise damaged(path) from error
    if missing:
        raise damaged(path)
    own = settings.model_dump(exclude=free)
    # Settings that the checkpoint's version did not have have no effect on its network.
    if other := [name for name, value in own.items() if before.get(name, value) != value]:
        raise InputError(
            f"The run in {path.parent} was started with another {other[0]} ({before.get(other[0])}): "
            "resume it with the same settings."
        )
    if cells and content["cells"] != list(cells):
        raise InputError(
            f"The run in {path.parent} was started with other cells: resume it with the same cells."
        )
    return content


def damaged(path: Path) -> InputError:
    """The error for a checkpoint that cannot be read."""
    return InputError(
        f"The checkpoint {path} is damaged, or another version wrote it: move it away to start again."
    )
