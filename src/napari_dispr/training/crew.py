"""Processes that share each training step: several GPUs, several machines, or the cores of a CPU.

Plain ``torch.distributed``, which comes with torch and is what ``torchrun`` and Lightning Fabric stand on:
all that training shares is one sum of gradients a step, and a CPU of some cores does more with a process a
core than with one process of several threads.
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
#: Port where those that were started here meet.
_MEETING = "NAPARI_DISPR_MEETING"


@dataclass(frozen=True, slots=True)
class Crew:
    """This process among those that train together.

    Attributes
    ----------
    rank : int
        0 is the one that saves and reports.
    size : int
    """

    rank: int = 0
    size: int = 1

    def share(self, items: Sequence[Item]) -> list[Item]:
        """What of some items this process works on: every ``size``-th."""
        return list(items[self.rank :: self.size])

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over all processes.

        Raises
        ------
        InputError
            If one of the others has ended.
        """
        if self.size == 1:
            return
        try:
            for tensor in tensors:
                dist.all_reduce(tensor)
        except RuntimeError as error:
            raise InputError(
                "A process that shared the training has ended: resume the run, which lost little."
            ) from error


def processes_for(device: torch.device, batch: int, scored: bool) -> int:
    """As many as are fastest: on a CPU one a core, as long as each has a shape of each step.

    One elsewhere than on Linux, where nobody has measured it.
    """
    if device.type != "cpu" or sys.platform != "linux":
        return 1
    return max(1, min(torch.get_num_threads(), batch // 2 if scored else batch))


@contextmanager
def gathered(processes: int, device: torch.device, command: Sequence[str]) -> Iterator[Crew]:
    """The crew of this process: one that ``torchrun`` started, or one whose others are started here.

    Parameters
    ----------
    processes : int
        Where nothing else has started this process as one of several.
    device : torch.device
    command : sequence of str
        What the others run; they find their place in it in the environment, as with ``torchrun``.
    """
    backend = "nccl" if device.type == "cuda" else "gloo"
    size = int(os.environ.get("WORLD_SIZE", 1))
    if size > 1:
        if _MEETING in os.environ:
            rank = int(os.environ["RANK"])
            store = _store(int(os.environ[_MEETING]), size, master=False)
            store.set(_here(rank), "1")
            _join(backend, store, rank, size)
        else:
            dist.init_process_group(backend, timeout=_PATIENCE)
        try:
            yield Crew(dist.get_rank(), size)
        finally:
            dist.destroy_process_group()
        return
    if processes <= 1:
        yield Crew()
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
        _await(store, others)
        _join(backend, store, 0, processes)
        yield Crew(0, processes)
    finally:
        for other in others:
            with suppress(subprocess.TimeoutExpired):
                other.wait(0.2)
            other.kill()  # nothing of it is lost: rank 0 has the state
            other.wait()
        if dist.is_initialized():
            dist.destroy_process_group()
        torch.set_num_threads(threads)


def local_device(device: torch.device, processes: int) -> torch.device:
    """The device of this process, where each has one of its own."""
    if device.type == "cuda" and max(processes, int(os.environ.get("WORLD_SIZE", 1))) > 1:
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count())
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return device


def _store(port: int, size: int, master: bool) -> TCPStore:
    # The wheels for Windows are built without libuv.
    uv = sys.platform != "win32"
    return TCPStore("127.0.0.1", port, size, master, wait_for_workers=False, use_libuv=uv)


def _here(rank: int) -> str:
    return f"here/{rank}"


def _await(store: TCPStore, others: Sequence[subprocess.Popen[bytes]]) -> None:
    """Wait until all others have loaded what they need. Joining them could not be interrupted."""
    while not all(store.check([_here(rank)]) for rank in range(1, len(others) + 1)):
        if any(other.poll() is not None for other in others):
            raise InputError(
                "A process that shares the training ended while it was loading: set processes to 1, "
                "or free memory and try again."
            )
        time.sleep(0.1)


def _join(backend: str, store: TCPStore, rank: int, size: int) -> None:
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=_PATIENCE)


def _started(command: Sequence[str], rank: int, size: int, port: int) -> subprocess.Popen[bytes]:
    place: Mapping[str, str] = {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(size),
        _MEETING: str(port),
        "OMP_NUM_THREADS": str(torch.get_num_threads()),
    }
    # In a session of its own, so that Ctrl-C asks rank 0 alone, which then stops all.
    apart: dict[str, Any] = {"start_new_session": sys.platform != "win32"}
    return subprocess.Popen(command, env={**os.environ, **place}, stdin=subprocess.DEVNULL, **apart)
