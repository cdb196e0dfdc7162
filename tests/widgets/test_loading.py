"""Torch is loaded, and runs are made, without garbage collections that hold up the window."""

import gc
import subprocess
import sys
import textwrap
import weakref

from napari_dispr.widgets.parts.loading import without_full_collections


def test_load_torch_loads_all_that_predicting_needs_without_a_collection() -> None:
    script = """
        import gc, sys, threading
        from napari_dispr.widgets.parts.loading import load_torch

        collections = []
        gc.callbacks.append(lambda phase, info: collections.append(info["generation"]))
        thread = threading.Thread(target=load_torch)
        thread.start()
        thread.join()
        assert "torch" in sys.modules and "napari_dispr.diffusion.samplers" in sys.modules
        assert 2 not in collections
        assert gc.isenabled() and gc.get_freeze_count() == 0
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


class Ring:
    """Garbage that only a collection finds."""

    def __init__(self) -> None:
        self.itself = self


def test_garbage_of_before_waits_and_that_of_now_does_not() -> None:
    gc.collect()
    old = weakref.ref(Ring())
    with without_full_collections():
        with without_full_collections():  # two windows predict at once
            new = weakref.ref(Ring())
        gc.collect()
        assert old() is not None
        assert new() is None
    gc.collect()
    assert old() is None
    assert gc.get_freeze_count() == 0
