"""The workers of a batch: processes that Dask starts on this machine, or those of a user's own cluster.

Dask sends fields to workers, and sends those of a worker that died to others. The workers write the files
themselves, into the folder of the batch.
"""

import ctypes
import logging
import os
import queue
import secrets
import signal
import sys
import time
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from itertools import count
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING, Any

import psutil

from napari_dispr.cells.fields import Field
from napari_dispr.errors import InputError
from napari_dispr.events import Running
from napari_dispr.prediction.field_run import CellsDone, FieldResult, Job, iter_field

if TYPE_CHECKING:
    from distributed import Client, LocalCluster

#: Memory of a worker in bytes: Python with torch and a model, a field, and a batch of shapes.
WORKER_MEMORY = 1.2e9
#: ... and its memory on a GPU.
WORKER_GPU_MEMORY = 4e9
#: A field counts as failed after so many starts at which its worker died without a further cell.
_MOST_STARTS = 4
#: How often Dask may give a field up without a further cell: it does so, too, with fields that waited for a
#: worker that died.
_MOST_GIVEN_UP = 5
#: Seconds without a worker after which that is reported.
PATIENCE = 60
#: ... and after which those of this machine will not come back. One that is started again takes a while.
_GONE = 300


@dataclass(frozen=True, slots=True)
class Idle:
    """Nothing happened for a second. ``alone`` is for how many seconds there has been no worker."""

    alone: float = 0.0


def workers_that_pay() -> int:
    """How many workers to start on this machine: as its cores and its memory allow."""
    allowed = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()
    cores = min(allowed or 1, psutil.cpu_count(logical=False) or 1)
    memory = psutil.virtual_memory().available / WORKER_MEMORY
    most = [cores, int(memory)]
    if gpus := _gpu_memory():
        most.append(int(sum(gpus) / WORKER_GPU_MEMORY))
    return max(1, min(most))


def _gpu_memory() -> list[int]:
    """Memory of each GPU of this machine."""
    import torch

    count = torch.cuda.device_count()
    return [torch.cuda.get_device_properties(index).total_memory for index in range(count)]


def run_here(fields: Sequence[Field], job: Job) -> Generator[CellsDone | FieldResult, None, None]:
    """Predict fields one after another in this process."""
    for one in fields:
        with closing(iter_field(one, job)) as events:
            for event in (running := Running(events)):
                if isinstance(event, CellsDone):
                    yield event
        yield running.result


@contextmanager
def started(workers: int, scheduler: str | None) -> Iterator["Client"]:
    """A client of the user's scheduler, or of a cluster on this machine that ends with the block.

    Raises an InputError if Dask is not installed, workers do not start, or nothing answers at the address of
    the scheduler.
    """
    try:
        import dask
        from distributed import Client
    except ImportError:
        raise InputError(
            'A batch needs one more package: run pip install "napari-dispr[batch]", or use --workers 0.'
        ) from None
    # Lost workers are no news, since their fields are computed again; a lost scheduler is reported here.
    for name in ("distributed", "distributed.client"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    if scheduler is not None:
        try:
            client = Client(scheduler, timeout=5)
        except (OSError, ValueError) as error:
            raise InputError(
                f"No Dask scheduler answers at {scheduler!r}: start one, or correct the address."
            ) from error
        with client:
            yield client
        return
    choices = {
        # PyTorch fails in forked processes, and daemons cannot have children.
        "distributed.worker.multiprocessing-method": "spawn",
        "distributed.worker.daemon": False,
        # Fields that wait are not memory: no worker is paused or restarted for what it holds.
        "distributed.worker.memory.spill": False,
        "distributed.worker.memory.target": False,
        "distributed.worker.memory.pause": False,
        "distributed.worker.memory.terminate": False,
        # To watch processes many times a second costs more than all else that Dask does here.
        "distributed.worker.profile.enabled": False,
        "distributed.admin.tick.interval": "1s",
        "distributed.admin.system-monitor.interval": "5s",
    }
    with dask.config.set(choices):
        with _without_interrupts():
            cluster = _local_cluster(workers)
        with cluster, Client(cluster) as client:
            yield client


def _local_cluster(workers: int, left: int = _MOST_STARTS) -> "LocalCluster":
    """Start workers on this machine; again, if one is killed while it starts, which ends all."""
    from distributed import LocalCluster

    try:
        return LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            memory_limit=0,
            dashboard_address=":0",
            silence_logs=logging.CRITICAL,
        )
    except RuntimeError as error:
        if left <= 1:
            raise InputError(_NOT_STARTED) from error
    return _local_cluster(workers, left - 1)


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Processes and threads started inside never get Ctrl-C, which a terminal sends to all processes;
    this one gets it at the end of the block.
    """
    if sys.platform == "win32":
        yield
        return
    resource_tracker.ensure_running()  # its start would let the signal through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def run_on_workers(
    client: "Client", fields: Sequence[Field], job: Job
) -> Generator[CellsDone | FieldResult | Idle, None, None]:
    """Predict fields on the workers of a client; closing the generator cancels them.

    Events come in any order, and `Idle` after each second without news. Raises an InputError if the scheduler
    is lost, or the workers of this machine are. The finished fields are kept.
    """
    from distributed.client import FutureCancelledError
    from distributed.scheduler import KilledWorker

    topic = f"napari-dispr-{secrets.token_hex(8)}"
    events: queue.SimpleQueue[Any] = queue.SimpleQueue()
    gpus = len(_gpu_memory()) if client.cluster is not None else 0
    client.subscribe_topic(topic, lambda event: events.put(CellsDone(*event[1])))
    by_name = {one.name: one for one in fields}
    starts, given_up = Counter[str](), Counter[str]()
    futures: dict[Any, str] = {}
    keys = (f"{topic}-{number}" for number in count())

    def submit(name: str) -> None:
        future = client.submit(_on_worker, by_name[name], job, topic, gpus, key=next(keys), pure=False)
        futures[future] = name
        future.add_done_callback(events.put)

    for name in by_name:
        submit(name)
    seen = time.monotonic()
    try:
        while futures:
            try:
                event = events.get(timeout=1.0)
            except queue.Empty:
                seen = _last_seen(client, seen)
                yield Idle(time.monotonic() - seen)
                continue
            seen = time.monotonic()
            if isinstance(event, CellsDone):
                if not event.cells:
                    starts[event.field] += 1
                    continue
                starts[event.field] = given_up[event.field] = 0
                yield event
                continue
            name = futures.pop(event)
            try:
                result: FieldResult = event.result()
            except KilledWorker:
                given_up[name] += 1
                if job.folder(name).exists():  # only the message was lost
                    result = FieldResult(name)
                elif starts[name] < _MOST_STARTS and given_up[name] < _MOST_GIVEN_UP:
                    submit(name)
                    continue
                else:
                    result = FieldResult(name, reason=_KILLED)
            except (FutureCancelledError, OSError):
                raise InputError(_LOST) from None
            except Exception as error:
                result = FieldResult(name, reason=f"Its worker failed, {type(error).__name__}: {error}")
            event.release()
            yield result
    finally:
        client.cancel(list(futures), force=True)
        client.unsubscribe_topic(topic)


def _last_seen(client: "Client", before: float) -> float:
    """When the client had a worker last, as `time.monotonic`; ``before``: as far as it was known.

    Raises an InputError if the scheduler is lost, or the workers of this machine do not come back.
    """
    if client.status not in ("running", "connecting"):
        raise InputError(_LOST)
    with suppress(OSError):  # the next second tells whether the scheduler is lost
        if client.nthreads():
            return time.monotonic()
    if time.monotonic() - before > _GONE and client.cluster is not None:
        raise InputError(_NO_WORKERS)
    return before


_KILLED = (
    "Its worker was killed again and again, as when there is not enough memory: run the same again with "
    "fewer workers, or with more memory for each."
)
_NOT_STARTED = (
    "The workers do not start, as when there is not enough memory: run the same again with fewer workers, or "
    "with 0 for this process alone."
)
_NO_WORKERS = "All workers of this machine have ended: run the same command again to go on."
_LOST = "The connection to the Dask scheduler is lost: run the same command again to go on."


@cache
def _keep_freed_memory() -> None:
    """Let glibc keep freed memory, as it does by default.

    Dask has set it to give memory back at once (MALLOC_TRIM_THRESHOLD_), which is good for large tables. Here
    arrays of some MB come and go, and to get fresh pages for each takes longer than to compute with them.
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # another C library
            library = ctypes.CDLL(None)
            library.mallopt(_M_TRIM_THRESHOLD, 2**27)
            library.mallopt(_M_MMAP_THRESHOLD, 2**25)


#: Parameters of mallopt, from malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def _on_worker(one: Field, job: Job, topic: str, gpus: int) -> FieldResult:
    """Predict a field on a worker, and report its cells."""
    from distributed import get_worker

    _keep_freed_memory()
    worker = get_worker()
    key = worker.get_current_task()
    if gpus > 1 and str(worker.name).isdecimal():  # before torch looks for GPUs
        os.environ["CUDA_VISIBLE_DEVICES"] = str(int(worker.name) % gpus)
    worker.log_event(topic, [one.name, 0, 0])
    with closing(iter_field(one, job)) as events:
        for event in (running := Running(events)):
            task = worker.state.tasks.get(key)
            if task is None or task.state == "cancelled":
                return FieldResult(one.name, reason="cancelled")
            if isinstance(event, CellsDone):
                worker.log_event(topic, [event.field, event.cells, event.total])
    return running.result
