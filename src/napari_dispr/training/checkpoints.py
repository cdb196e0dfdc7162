"""Checkpoints of trainings: written whole, read without running code, and only gone on with as begun."""

import io
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from napari_dispr.errors import InputError
from napari_dispr.files import written_aside
from napari_dispr.settings import Settings


def write_checkpoint(path: Path, content: Mapping[str, Any]) -> None:
    """Write it aside, then rename."""
    whole = io.BytesIO()  # torch's own writer does not say that a disk is full
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
    """What a training goes on from.

    Parameters
    ----------
    path : Path
    names : collection of str
        What has to be in it, ``cells`` among it: names of the training cells and what tells their shapes
        apart.
    settings : Settings
        Of the training that is to go on.
    free : set of str
        Settings that may have changed since it was begun.
    cells : sequence of str
        The training cells that there are now; empty: whichever it was begun with.
    device : torch.device, optional
        Where tensors are wanted; the CPU by default.

    Raises
    ------
    InputError
        If the file is none of ours, or the training was begun with other settings or cells.
    """
    try:
        content: dict[str, Any] = torch.load(path, map_location=device or "cpu", weights_only=True)
        begun = dict(content["settings"])
        missing = set(names) - content.keys()
    except MemoryError:
        raise
    except Exception as error:  # the reader raises whatever a broken file makes it meet
        raise _damaged(path) from error
    if missing:
        raise _damaged(path)
    own = settings.model_dump(exclude=free)
    if other := [name for name, value in own.items() if begun.get(name) != value]:
        raise InputError(
            f"The run in {path.parent} was begun with another {other[0]} "
            f"({begun.get(other[0])}): resume it with the settings it was begun with."
        )
    if cells and content["cells"] != list(cells):
        raise InputError(
            f"The run in {path.parent} was begun with other cells: resume it with the same ones."
        )
    return content


def _damaged(path: Path) -> InputError:
    return InputError(
        f"The checkpoint {path} is damaged, or another version wrote it: move it away to begin the run anew."
    )
