"""Where and how a network runs: device, data type, batch size, and running out of memory."""

import gc
from typing import TypeVar

import torch
from torch import nn

from napari_dispr.errors import InputError

Module = TypeVar("Module", bound=nn.Module)

#: (cell, member) pairs in one batch. Fixed for each kind of device, so that the voxels of a member do not
#: depend on the other members of its batch.
CPU_BATCH, GPU_BATCH = 5, 40


def available() -> dict[str, str]:
    """The names of the devices of this machine, each with a description."""
    threads = torch.get_num_threads()
    found = {"cpu": f"CPU ({threads} thread{'s' if threads > 1 else ''})"}
    for i in range(torch.cuda.device_count()):
        found[f"cuda:{i}"] = torch.cuda.get_device_name(i)
    if torch.backends.mps.is_available():
        found["mps"] = "Apple GPU"
    return found


def choose(device: str = "auto") -> torch.device:
    """The device of this name; ``auto`` is the first GPU, or else the CPU."""
    found = available()
    if device == "auto":
        return torch.device(next((name for name in found if name != "cpu"), "cpu"))
    name = "cuda:0" if device == "cuda" else device
    if name not in found:
        raise InputError(f"There is no device {device!r} here: choose one of {', '.join(['auto', *found])}.")
    return torch.device(name)


def fast_dtype(device: torch.device) -> torch.dtype:
    """The fastest type that is exact enough: 16 bit if the device computes in it, else float32."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if device.type != "cpu":
        return torch.float32
    native = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return torch.bfloat16 if native() else torch.float32


def has_tiles() -> bool:
    """Whether this processor multiplies matrices of 16 bit in tiles (AMX), and not only vectors."""
    return bool(getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)())


def batch_size(device: torch.device, voxels_per_token: int) -> int:
    """(cell, member) pairs in one batch; one for networks that do not fold the volume."""
    if voxels_per_token == 1:
        return 1
    return CPU_BATCH if device.type == "cpu" else GPU_BATCH


def channels_last(module: Module) -> Module:
    """Store kernels channels last, which makes convolutions faster."""
    planes = any(parameter.ndim == 4 for parameter in module.parameters())
    layout = torch.channels_last if planes else torch.channels_last_3d
    return module.to(memory_format=layout)  # type: ignore[call-overload]


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that the memory of the device is full."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    # PyTorch's messages on MPS, and on the CPU of Windows and Linux.
    words = ("out of memory", "not enough memory", "can't allocate memory")
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)


def release(device: torch.device) -> None:
    """Free the memory of a finished job on a GPU."""
    if device.type == "cpu":
        return  # garbage collection takes longer than sampling a cell
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
