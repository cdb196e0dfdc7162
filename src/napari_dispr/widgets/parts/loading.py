"""Keeps the window responsive while a thread loads torch or collects garbage. No Qt.

An import holds the interpreter's lock while the system loads a library: 0.2 s and more for torch. A full
garbage collection holds it too: 0.1 s and more with all objects of napari and torch.
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

#: In the order of their dependencies.
_LIBRARIES = ("torch_global_deps", "c10", "torch_cpu", "c10_cuda", "torch_cuda", "torch", "torch_python")
_RTLD_NOW = 2  # as an import does; os does not have these on every system

#: Import all that measuring and predicting need; the last one needs torch.
_NEEDED = ("napari_dispr.prediction.tables", "napari_dispr.prediction.predict")

#: Other windows of the plugin: they open faster once a thread has imported them.
_LATER = (
    "napari_dispr.viewer.saved",
    "napari_dispr.widgets.morphometry.widget",
    "napari_dispr.widgets.train.widget",
    "napari_dispr.widgets.synthesis.synthesise",
)

_loading = threading.Lock()
_counting = threading.Lock()
_quiet_runs = 0


def load_torch() -> None:
    """Import torch and all that predicting needs. Call it in a worker thread."""
    with _loading:
        if _NEEDED[-1] in sys.modules:
            return
        _load_libraries()
        collecting = gc.isenabled()
        gc.disable()
        try:
            for module in _NEEDED:
                importlib.import_module(module)
        finally:
            with without_full_collections():  # marks the imported objects as old
                pass
            if collecting:
                gc.enable()


@contextmanager
def without_full_collections() -> Iterator[None]:
    """Exclude all existing objects from garbage collections; new ones are collected.

    Afterwards all are included again: unlike a permanent ``gc.freeze`` this leaks no memory.
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
    """Devices of this machine for the setting ``device``, each with its description.

    Loads torch, and then what other windows need: call it in a worker thread.
    """
    load_torch()
    for module in _LATER:
        importlib.import_module(module)
    from napari_dispr.models.library import available_devices

    return available_devices()


def _load_libraries() -> None:
    """Load torch's shared libraries before ``import torch``.

    A foreign call releases the interpreter's lock. The import loads what fails here, or says why it cannot.
    """
    spec = importlib.util.find_spec("torch")
    if sys.platform == "win32" or spec is None or spec.origin is None:  # Windows finds them in another way
        return
    suffix = ".dylib" if sys.platform == "darwin" else ".so"
    dlopen = ctypes.CDLL(None).dlopen
    dlopen.restype, dlopen.argtypes = ctypes.c_void_p, [ctypes.c_char_p, ctypes.c_int]
    for name in _LIBRARIES:
        path = Path(spec.origin).parent / "lib" / f"lib{name}{suffix}"
        if path.exists():
            dlopen(str(path).encode(), ctypes.RTLD_LOCAL | _RTLD_NOW)
