"""An hour of GPU in one command: DISPR as published, our recipes at full length, and the speed of prediction.

    python benchmarks/on_gpu.py DATASET --out OUT --plan short     # 25 minutes
    python benchmarks/on_gpu.py DATASET --out OUT --plan long --nuclei NUCLEI      # hours
    python benchmarks/on_gpu.py --out OUT --plan short --tiny      # a trial on a CPU, with simulated cells

The same command continues a plan: finished jobs are skipped, the others resume. Each job works in
OUT/jobs/JOB. What is worth keeping is copied to OUT/results/JOB, in files of at most 15 MiB
(``cat NAME.part* > NAME`` joins them). With ``--state`` this includes what is needed to resume on another
machine: copy OUT/results there.
"""

import argparse
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from napari_dispr.cells.folders import CellFile, DatasetNotes, read_dataset, write_dataset
from napari_dispr.files import write_json, written_aside
from napari_dispr.synthesis.red_cell_crops import red_cell_training_cells

HERE = Path(__file__).resolve().parent
LARGEST = 15 * 2**20
#: Files that only a resumed job needs.
STATE = ("checkpoint.pt", "simulated.npz", "cells.npz")
#: Seconds for a process to save its state and end.
_SAVING = 60


@dataclass(frozen=True, slots=True)
class Job:
    """A script of this folder with its arguments, and the most minutes that it may take."""

    name: str
    minutes: float
    script: str
    arguments: tuple[str, ...] = ()
    resumes: bool = True


def plan_of(name: str, dataset: Path, nuclei: Path | None, work: Path, tiny: bool) -> list[Job]:
    """The jobs of a plan, in order; without nuclei none trains the model ``generic``."""

    def job(name: str, minutes: float, script: str, *arguments: object, resumes: bool = True) -> Job:
        return Job(name, minutes, script, tuple(str(argument) for argument in arguments), resumes)

    def ours(name: str, minutes: float, *arguments: object) -> Job:
        own = ("--out", work / name, *arguments)
        few = ("--steps", 2, "--batch", 2, "--scored", 0.5, "--simulated", 20) if tiny else ()
        return job(name, minutes, "train_red_blood_cell.py", dataset, *own, *few)

    long = name == "long"
    cells = 2 if tiny else 100
    speed = job("speed", 4, "speed.py", "--cells", cells, resumes=False)
    sampling = ("--sampler", "ddpm" if long else "ddim", "--evaluations", 1000 if long else 50)
    limit: tuple[object, ...] = () if long else ("--minutes", 11)
    if tiny:
        sampling, limit = ("--sampler", "ddim", "--evaluations", 2), ("--steps", 2, "--tiny")
    published = (dataset, "--out", work / "dispr", *limit, *sampling)
    dispr = job("dispr", 240 if long else 15, "train_dispr.py", *published)
    if not long:
        short = ("--minutes", 4, "--scored", 0.6) if not tiny else ()
        return [speed, dispr, ours("red-blood-cell-2", 6, "--start", "generic", "--fold", 2, *short)]
    generic: list[Job] = []
    start: tuple[object, ...] = ("--start", "generic")
    if nuclei is not None:
        few = ("--steps", 2, "--simulated", 3) if tiny else ("--steps", 12_000, "--scored", 0.4)
        generic = [job("generic", 180, "train_generic.py", nuclei, "--out", work / "generic", *few)]
        start = ("--start", work / "generic" / "model.safetensors")
    full = () if tiny else ("--steps", 12_000, "--scored", 0.5)
    folds = [ours(f"red-blood-cell-{fold}", 90, *start, "--fold", fold, *full) for fold in (2, 0, 1, 3, 4)]
    return [speed, dispr, *generic, *folds, ours("red-blood-cell-all", 90, *start, "--all", *full)]


def run(job: Job, work: Path, minutes: float, device: str) -> bool:
    """Run a job for at most so many minutes. Returns whether it finished."""
    folder = work / job.name
    folder.mkdir(parents=True, exist_ok=True)
    resumed = ["--resume"] if job.resumes and (folder / "checkpoint.pt").exists() else []
    command = [sys.executable, str(HERE / job.script), *job.arguments, "--device", device, *resumed]
    with (folder / "output.txt").open("a", encoding="utf-8") as output:
        print(*command, file=output, flush=True)
        process = subprocess.Popen(command, stdout=output, stderr=output)
        try:
            return process.wait(60 * minutes) == 0
        except (subprocess.TimeoutExpired, KeyboardInterrupt) as reason:
            process.send_signal(signal.SIGINT)  # saves its state
            try:
                process.wait(_SAVING)
            except subprocess.TimeoutExpired:
                process.kill()
            if isinstance(reason, KeyboardInterrupt):
                raise
            return False


def keep(folder: Path, results: Path, state: bool) -> None:
    """Copy the results of a job, large files in parts."""
    results.mkdir(parents=True, exist_ok=True)
    for file in sorted(folder.rglob("*")):
        if not file.is_file() or (file.name in STATE and not state):
            continue
        copy = results / file.relative_to(folder)
        copy.parent.mkdir(parents=True, exist_ok=True)
        for old in copy.parent.glob(f"{copy.name}.part*"):
            old.unlink()
        if file.stat().st_size <= LARGEST:
            shutil.copyfile(file, copy)
            continue
        with file.open("rb") as content:
            for number, part in enumerate(iter(lambda: content.read(LARGEST), b"")):
                copy.with_name(f"{copy.name}.part{number:03}").write_bytes(part)


def bring_back(results: Path, folder: Path) -> None:
    """Copy results of a job that another machine started to its folder, parts joined."""
    for file in sorted(results.rglob("*")):
        if file.is_file() and not file.name.rpartition(".part")[0]:
            copy = folder / file.relative_to(results)
            if not copy.exists():
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, copy)
    for first in sorted(results.rglob("*.part000")):
        copy = (folder / first.relative_to(results)).with_suffix("")
        if not copy.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            with written_aside(copy) as aside, aside.open("wb") as whole:
                for part in sorted(first.parent.glob(f"{first.stem}.part*")):
                    whole.write(part.read_bytes())


def run_plan(jobs: Sequence[Job], out: Path, minutes: float, device: str, state: bool) -> bool:
    """Run the jobs that are not finished, for at most so many minutes. Returns whether all are."""
    until, finished = time.monotonic() + 60 * minutes, True
    for job in jobs:
        folder, results = out / "jobs" / job.name, out / "results" / job.name
        done = results / "done.json"
        if done.exists():
            continue
        bring_back(results, folder)
        start = time.monotonic()
        left = min(job.minutes, (until - start) / 60)
        if left > 0.1 and run(job, out / "jobs", left, device):
            write_json(folder / "done.json", {"seconds": round(time.monotonic() - start, 1)})
            print(f"{job.name}: finished after {time.monotonic() - start:.0f} s", flush=True)
        else:
            finished = False
            print(f"{job.name}: not finished, see {folder / 'output.txt'}", flush=True)
        keep(folder, results, state)
    return finished


def tiny_dataset(folder: Path) -> Path:
    """Five simulated cells of one class, of which one is held out."""
    cells = [
        CellFile(f"cell{i}", cell.mask, cell.image, (255 * (cell.signed_distance > 0)).astype("uint8"))
        for i, cell in enumerate(red_cell_training_cells(5, seed=0))
    ]
    if not folder.exists():
        write_dataset(folder, cells, DatasetNotes())
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("dataset", type=Path, nargs="?")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--nuclei", type=Path, help="folder of real nuclei to train generic with")
    parser.add_argument("--plan", choices=("short", "long"), default="short")
    parser.add_argument("--minutes", type=float, help="25 for the short plan, no limit for the long one")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--state", action="store_true", help="keep what is needed to resume elsewhere")
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    out = options.out.absolute()
    if options.tiny:
        options.dataset = tiny_dataset(out / "cells")
    if options.dataset is None:
        parser.error("give a DATASET, or --tiny")
    read_dataset(options.dataset, part="train" if (options.dataset / "train").is_dir() else None)
    nuclei = None if options.nuclei is None else options.nuclei.absolute()
    jobs = plan_of(options.plan, options.dataset.absolute(), nuclei, out / "jobs", options.tiny)
    minutes = options.minutes or (25.0 if options.plan == "short" else float("inf"))
    sys.exit(0 if run_plan(jobs, out, minutes, options.device, options.state) else 1)


if __name__ == "__main__":
    main()
