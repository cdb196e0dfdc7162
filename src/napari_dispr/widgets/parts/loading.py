"""Keeps heavy work in a worker thread from holding up the window: loading torch, garbage collections. No Qt.

An import holds the interpreter's lock while the system loads and initialises a library, 0.2 s and more for
torch. A full garbage collection holds it too: 0.1 s and more with all the objects of napari and torch.
"""

import ctypes
import gc
import importlib
import importlib.util
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: In the order in which they need one another.
_LIBRARIES = ("torch_global_deps", "c10", "torch_cpu", "c10_cuda", "torch_cuda", "torch", "torch_python")
_RTLD_NOW = 2  # as an import does; not in os on every system

#: Brings with it all that predicting needs.
_NEEDED = "napari_dispr.prediction.predict"

_loading = threading.Lock()
_counting = threading.Lock()
_quiet_runs = 0


def load_torch() -> None:
    """Import torch and all that predicting needs. Call it in a worker thread."""
    with _loading:
        if _NEEDED in sys.modules:
            return
        _load_libraries()
        collecting = gc.isenabled()
        gc.disable()
        try:
            importlib.import_module(_NEEDED)
        finally:
            with without_full_collections():  # what was imported counts as old now, as if collected
                pass
            if collecting:
                gc.enable()


@contextmanager
def without_full_collections() -> Iterator[None]:
    """Leave all objects that there are out of garbage collections; those made from now on are collected.

    Afterwards all take part again: unlike a lasting ``gc.freeze`` this loses no memory.
    """
    global _quiet_runs
    with _counting:
        _quiet_runs += 1
        gc.freeze()
    try:
        yield
    finally:
        with _counting:
            _quiet_runs -= 1
            if not _quiet_runs:
                gc.unfreeze()


def devices_found() -> dict[str, str]:
    """Names that the setting ``device`` takes on this machine, each with what it is.

    Loads torch: call it in a worker thread.
    """
    load_torch()
    from napari_dispr.models.library import available_devices

    return available_devices()


def _load_libraries() -> None:
    """Load torch's shared libraries, so that ``import torch`` finds them loaded already.

    A foreign call gives the interpreter's lock away. What cannot be loaded here is left to the import,
    which then says why.
    """
    spec = importlib.util.find_spec("torch")
    if sys.platform == "win32" or spec is None or spec.origin is None:  # Windows looks elsewhere for them
        return
    suffix = ".dylib" if sys.platform == "darwin" else ".so"
    dlopen = ctypes.CDLL(None).dlopen
    dlopen.restype, dlopen.argtypes = ctypes.c_void_p, [ctypes.c_char_p, ctypes.c_int]
    for name in _LIBRARIES:
        path = Path(spec.origin).parent / "lib" / f"lib{name}{suffix}"
        if path.exists():
            dlopen(str(path).encode(), ctypes.RTLD_LOCAL | _RTLD_NOW)
