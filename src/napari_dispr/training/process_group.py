"""The processes that share each training step: several GPUs, several machines, or the cores of a CPU.

Plain ``torch.distributed``: the processes share one sum of gradients per step. On a CPU with several cores
one process per core is faster than one process with several threads.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from napari_dispr.errors import InputError

Item = TypeVar("Item")

#: How long to wait for a process that is still loading or validating.
_PATIENCE = timedelta(minutes=30)
#: Environment variable with the port where processes of `process_group` meet.
_PORT = "NAPARI_DISPR_MEETING"


@dataclass(frozen=True, slots=True)
class ProcessGroup:
    """The place of this process in its group. Rank 0 saves and reports."""

    rank: int = 0
    size: int = 1

    def share(self, items: Sequence[Item]) -> list[Item]:
        """The items for this process: every ``size``-th."""
        return list(items[self.rank :: self.size])

    def all_reduce(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over all processes; an InputError if one of them has ended."""
        if self.size == 1:
            return
        try:
            for tensor in tensors:
                dist.all_reduce(tensor)
        except RuntimeError as error:
            raise InputError(
                "A process that shared the training has ended: resume the run from its last checkpoint."
            ) from error


def process_count(device: torch.device, batch: int, scored: bool) -> int:
    """The fastest number of processes: on a CPU one per core, if each gets at least one shape per step.

    Outside Linux, where this was not measured, it is one.
    """
    if device.type != "cpu" or sys.platform != "linux":
        return 1
    return max(1, min(torch.get_num_threads(), batch // 2 if scored else batch))


@contextmanager
def process_group(processes: int, device: torch.device, command: Sequence[str]) -> Iterator[ProcessGroup]:
    """Join the group that ``torchrun`` or another process has started, or start the other processes.

    ``command`` is that of the other processes. They find their rank in the environment, as with ``torchrun``.
    """
    backend = "nccl" if device.type == "cuda" else "gloo"
    size = int(os.environ.get("WORLD_SIZE", 1))
    if size > 1:
        if _PORT in os.environ:
            rank = int(os.environ["RANK"])
            store = _store(int(os.environ[_PORT]), size, master=False)
            store.set(_ready(rank), "1")
            _join(backend, store, rank, size)
        else:
            dist.init_process_group(backend, timeout=_PATIENCE)
        try:
            yield ProcessGroup(dist.get_rank(), size)
        finally:
            dist.destroy_process_group()
        return
    if processes <= 1:
        yield ProcessGroup()
        return
    if device.type != "cpu" and processes > (torch.cuda.device_count() if device.type == "cuda" else 1):
        raise InputError(f"There are fewer GPUs than {processes} processes: set processes to their number.")
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, threads // processes))
    store = _store(0, processes, master=True)
    others: list[subprocess.Popen[bytes]] = []
    try:
        for rank in range(1, processes):
            others.append(_started(command, rank, processes, store.port))
        _wait_for(store, others)
        _join(backend, store, 0, processes)
        yield ProcessGroup(0, processes)
    finally:
        for other in others:
            with suppress(subprocess.TimeoutExpired):
                other.wait(0.2)
            other.kill()  # rank 0 has the state: nothing is lost
            other.wait()
        if dist.is_initialized():
            dist.destroy_process_group()
        torch.set_num_threads(threads)


def local_device(device: torch.device, processes: int) -> torch.device:
    """The GPU of this process, if each process has its own; else the given device."""
    if device.type == "cuda" and max(processes, int(os.environ.get("WORLD_SIZE", 1))) > 1:
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count())
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return device


def _store(port: int, size: int, master: bool) -> TCPStore:
    # The wheels for Windows are built without libuv.
    uv = sys.platform != "win32"
    return TCPStore("127.0.0.1", port, size, master, wait_for_workers=False, use_libuv=uv)


def _ready(rank: int) -> str:
    return f"here/{rank}"


def _wait_for(store: TCPStore, others: Sequence[subprocess.Popen[bytes]]) -> None:
    """Wait until all other processes have loaded; `init_process_group` alone could not be interrupted."""
    while not all(store.check([_ready(rank)]) for rank in range(1, len(others) + 1)):
        if any(other.poll() is not None for other in others):
            raise InputError(
                "A process that shares the training ended while it was loading: set processes to 1, "
                "or free memory and try again."
            )
        time.sleep(0.1)


def _join(backend: str, store: TCPStore, rank: int, size: int) -> None:
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=_PATIENCE)


def _started(command: Sequence[str], rank: int, size: int, port: int) -> subprocess.Popen[bytes]:
    environment: Mapping[str, str] = {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(size),
        _PORT: str(port),
        "OMP_NUM_THREADS": str(torch.get_num_threads()),
    }
    # A new session: Ctrl-C reaches rank 0 alone, which then stops all.
    session: dict[str, Any] = {"start_new_session": sys.platform != "win32"}
    return subprocess.Popen(command, env={**os.environ, **environment}, stdin=subprocess.DEVNULL, **session)
