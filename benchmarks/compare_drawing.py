"""Draws the shapes of one method for ``compare.py``, in a process whose peak memory is that method's.

Leaves a file a cell (the members, packed to bits) and ``drawn.json`` (seconds, memory, failures) in a
folder; knows nothing of the truth or of scores.
"""

import json
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_dispr import grid
from napari_dispr.cells.folders import CellFile, read_dataset
from napari_dispr.errors import InputError
from napari_dispr.evaluation.evaluate import iter_shapes, seed_of
from napari_dispr.events import result_of
from napari_dispr.files import write_json
from napari_dispr.models.fits import FITS
from napari_dispr.models.library import load_model
from napari_dispr.models.method import Method
from napari_dispr.models.sampling import as_method
from napari_dispr.settings import PredictSettings

REPORT = "drawn.json"


@dataclass(frozen=True, slots=True)
class Run:
    """One method as it is compared: a model at a quality (or a sampler and a number of steps), or a rival.

    ``files`` are model files, more than one where the folds of a cross-validation stand together for one
    method, or the name of a fit.
    """

    name: str
    kind: Literal["model", "shapr", "fit"]
    files: tuple[str, ...]
    model: str = ""
    quality: str = ""
    sampler: str | None = None
    steps: int | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """A run, and which cells of a dataset it draws: each by the one of its files that has not seen it."""

    run: Run
    dataset: str
    folder: str
    cells: dict[str, str]
    members: int = 5
    seed: int = 0
    threads: int = 1
    device: str = "auto"


@dataclass(slots=True)
class Drawn:
    """What a task leaves beside the shapes. Memory in MiB, None where this system does not tell it."""

    seconds: dict[str, float] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    base_memory: float | None = None
    peak_memory: float | None = None


def shapes_of(method: Method, cell: CellFile, members: int, seed: int) -> NDArray[np.bool_]:
    """The members that a method draws, (member, 64, 64, 64)."""
    return result_of(iter_shapes(cell, method, method.members or members, seed_of(cell.name, seed)))


def methods_of(run: Run, file: str, device: str) -> tuple[Method, Method | None]:
    """The method of one of a run's files, and without its correction of the imaged plane if it has one."""
    from napari_dispr.diffusion.model import ShapeModel
    from napari_dispr.diffusion.process import RectifiedFlow

    class Uncorrected(ShapeModel):
        """Shapes as the network draws them."""

        def denoiser(self, *args: Any, **kwargs: Any) -> Any:
            return ShapeModel.denoiser(self, *args, **{**kwargs, "agree": False})

    if run.kind == "fit":
        return FITS[file], None
    model = load_model(file)
    settings = PredictSettings(
        quality=run.quality or "balanced", sampler=run.sampler, steps=run.steps, device=device
    )
    method = as_method(model, settings)
    if not isinstance(model, ShapeModel) or not isinstance(model.process, RectifiedFlow):
        return method, None
    return method, as_method(Uncorrected(model.network, model.process, model.card), settings)


def save_members(path: Path, members: NDArray[np.bool_], before: NDArray[np.bool_]) -> None:
    """A cell's members, and the imaged planes that they had before the correction."""
    with path.open("wb") as file:
        np.savez(file, members=np.packbits(members), before=np.packbits(before))


def load_members(path: Path) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """What `save_members` saved: (member, 64, 64, 64) and (member, 64, 64)."""
    with np.load(path) as file:
        members = np.unpackbits(file["members"]).astype(bool).reshape(-1, *grid.SHAPE)
        return members, np.unpackbits(file["before"]).astype(bool).reshape(-1, *grid.SHAPE[1:])


def draw(task: Task) -> Drawn:
    """Draw all cells of a task. A cell that the method cannot draw is an empty shape, and has failed."""
    cells = {cell.name: cell for cell in read_dataset(task.dataset) if cell.name in task.cells}
    drawn = Drawn()
    if task.run.kind != "fit":
        # What any such process holds before it has a model: the libraries.
        import torch

        import napari_dispr.prediction.predict  # noqa: F401

        torch.set_num_threads(task.threads)
        drawn.base_memory = peak_memory()
    members: dict[str, NDArray[np.bool_]] = {}
    planes: dict[str, NDArray[np.bool_]] = {}
    uncorrected: dict[str, Method | None] = {}
    for file in dict.fromkeys(task.cells.values()):
        method, uncorrected[file] = methods_of(task.run, file, task.device)
        drawn.provenance[file] = method.provenance
        own = [cells[name] for name, by in task.cells.items() if by == file]
        if task.run.kind != "fit":
            _tried(method, own[0], task)  # the first time is slower
        for cell in own:
            begun = time.perf_counter()
            members[cell.name], failed = _tried(method, cell, task)
            drawn.seconds[cell.name] = time.perf_counter() - begun
            if failed:
                drawn.failed[cell.name] = failed
            planes[cell.name] = members[cell.name][:, grid.IMAGED_PLANE]
    if task.run.kind != "fit":
        drawn.peak_memory = peak_memory()  # before the corrections are left out, which users never do
    for name, file in task.cells.items():
        other = uncorrected[file]
        if other is not None and name not in drawn.failed:
            planes[name] = shapes_of(other, cells[name], task.members, task.seed)[:, grid.IMAGED_PLANE]
        save_members(Path(task.folder) / f"{name}.npz", members[name], planes[name])
    return drawn


def _tried(method: Method, cell: CellFile, task: Task) -> tuple[NDArray[np.bool_], str]:
    """The members, and an empty sentence; or one empty shape and the sentence that says why."""
    try:
        return shapes_of(method, cell, task.members, task.seed), ""
    except InputError as error:
        return np.zeros((1, *grid.SHAPE), dtype=bool), str(error)


def peak_memory() -> float | None:
    """The most memory that this process has held, in MiB."""
    # Not getrusage on Linux: its mark outlives exec, so that a child's begins at its parent's.
    status = Path("/proc/self/status")
    if status.exists():
        lines = dict(line.split(":", 1) for line in status.read_text("utf-8").splitlines() if ":" in line)
        return int(lines["VmHWM"].split()[0]) / 1024
    if sys.platform == "win32":
        return None
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def main() -> int:
    """Do the task that stands as JSON in the file named by the first argument."""
    order = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    run = order.pop("run")
    task = Task(Run(**{**run, "files": tuple(run["files"])}), **order)
    try:
        drawn = draw(task)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    write_json(Path(task.folder) / REPORT, asdict(drawn))
    return 0


if __name__ == "__main__":
    sys.exit(main())
