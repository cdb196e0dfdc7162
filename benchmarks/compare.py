"""The benchmark that decides: models, qualities and rivals on real cells that they were not trained on.

    python benchmarks/compare.py DATASET --models red-blood-cell RUN/model.safetensors --fits --out DIR
    python benchmarks/compare.py DATASET --models RUN/model.safetensors --steps 1,2,4,8,16,32 --out DIR

Writes DIR/compare.md (which it prints), compare.json, members.csv, cells.csv and, with --steps, steps.png.

A folder among the models stands for one model that was cross-validated: it holds a model file a fold, and
each cell is drawn by the first of them that has not seen it.
"""

import argparse
import json
import os
import platform
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
from compare_drawing import REPORT, Drawn, Run, Task, draw, load_members
from compare_report import report, steps_plot
from compare_scores import (
    FOLD,
    INTERVALS,
    LEVELS,
    MEASURES,
    Truth,
    cell_row,
    intervals_of,
    member_row,
    paired,
    summary,
    without_picture,
)

from napari_dispr.cells.folders import CellFile, read_dataset
from napari_dispr.errors import InputError
from napari_dispr.files import write_json, written_aside
from napari_dispr.models.fits import FITS
from napari_dispr.models.library import model_path, read_card
from napari_dispr.shapes import scores

HERE = Path(__file__).resolve().parent


# --- which methods, and on which cells --------------------------------------------------------------


def files_of(name: str, suffix: str = ".safetensors") -> tuple[str, ...]:
    """The file of a model by name or path, or those of the folds in a folder."""
    if Path(name).is_dir():
        files = sorted(str(path) for path in Path(name).glob(f"*{suffix}"))
        if not files:
            raise InputError(f"The folder {name} holds no {suffix} files: put a model file a fold into it.")
        return tuple(files)
    return (str(model_path(name)),)


def labels_of(names: Sequence[str]) -> list[str]:
    """Short names of models for the tables: the file's, with its folder's where two are alike."""
    paths = [Path(name) for name in names]
    plain = [path.name.removesuffix(".safetensors") for path in paths]
    return [
        label if plain.count(label) == 1 else f"{path.resolve().parent.name}/{label}"
        for label, path in zip(plain, paths, strict=True)
    ]


def runs_of(options: argparse.Namespace) -> list[Run]:
    """All methods that are asked for.

    Raises
    ------
    InputError
        A model is not there, has none of the qualities, or two have one name.
    """
    runs: list[Run] = []
    for name, label in zip(options.models, labels_of(options.models), strict=True):
        files = files_of(name)
        known = read_card(files[0]).qualities
        if options.steps:
            runs += [
                Run(f"{label} {sampler} {steps}", "model", files, label, next(iter(known)), sampler, steps)
                for sampler in options.samplers
                for steps in options.steps
            ]
            continue
        wanted = [quality for quality in options.qualities if quality in known]
        if not wanted:
            raise InputError(
                f"The model {name} has none of the qualities asked for: choose of {', '.join(known)}."
            )
        runs += [Run(f"{label} {quality}", "model", files, label, quality) for quality in wanted]
    for name, label in zip(options.shapr, labels_of(options.shapr), strict=True):
        runs.append(Run("SHAPR" if len(options.shapr) == 1 else f"SHAPR {label}", "shapr", files_of(name)))
    runs += [Run(name, "fit", (name,)) for name in FITS] if options.fits else []
    names = [run.name for run in runs]
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise InputError(f"Two methods are called {twice[0]}: give each file once, under a name of its own.")
    if not runs:
        raise InputError("There is nothing to compare: name models, or a SHAPR file, or ask for the fits.")
    return runs


@cache
def trained_on(kind: str, file: str) -> frozenset[str]:
    """Fingerprints of the cells that a method was trained on."""
    if kind == "fit":
        return frozenset()
    if kind == "shapr":
        from napari_dispr.models.shapr import SHAPRModel

        return SHAPRModel.load(Path(file)).trained_on
    training = read_card(file).training
    if training.get("cells") and not training.get("fingerprints"):
        raise InputError(f"The model {file} names its training cells without fingerprints: train it anew.")
    return frozenset(training.get("fingerprints", ()))


def drawn_by(run: Run, cells: Sequence[CellFile]) -> dict[str, str]:
    """The file of a run that draws each cell: the first that was not trained on it; others are left out."""
    unseen = {
        cell.name: [file for file in run.files if cell.fingerprint not in trained_on(run.kind, file)]
        for cell in cells
    }
    return {name: files[0] for name, files in unseen.items() if files}


def chosen_cells(options: argparse.Namespace, runs: Sequence[Run]) -> tuple[list[CellFile], list[CellFile]]:
    """The cells to compare on, and the others of the dataset.

    Raises
    ------
    InputError
        No cell is left, or two have one name.
    """
    cells = read_dataset(options.dataset, need_objects=True)
    names = [cell.name for cell in cells]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"Two cells are named {name}: compare on train and test one after the other.")
    if options.cells == "held-out":
        from train_red_blood_cell import split

        chosen = split(cells)[1]
    elif options.cells == "out-of-fold":
        unseen = [drawn_by(run, cells).keys() for run in runs]
        chosen = [cell for cell in cells if all(cell.name in names for names in unseen)]
    else:
        chosen = cells
    if options.limit:
        chosen = chosen[:: max(len(chosen) // options.limit, 1)][: options.limit]
    if not chosen:
        raise InputError(
            f"No cell of {options.dataset} is left to compare on with --cells {options.cells}: "
            "choose other cells, or models that were not trained on them all."
        )
    kept = {cell.name for cell in chosen}
    return chosen, [cell for cell in cells if cell.name not in kept]


# --- one method -------------------------------------------------------------------------------------


def drawn_apart(task: Task) -> Drawn:
    """Draw a task's cells in a process of its own; fits, whose memory is nobody's concern, in this one.

    Raises
    ------
    InputError
        The method cannot be drawn as asked for.
    """
    if task.run.kind == "fit":
        return draw(task)
    order = Path(task.folder) / "task.json"
    write_json(order, asdict(task))
    threads = {name: str(task.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    command = [sys.executable, str(HERE / "compare_drawing.py"), str(order)]
    done = subprocess.run(command, env={**os.environ, **threads}, stderr=subprocess.PIPE, text=True)
    if done.returncode == 2:
        raise InputError(done.stderr.strip().splitlines()[-1])
    if done.returncode:
        raise RuntimeError(f"drawing {task.run.name} failed:\n{done.stderr}")
    return Drawn(**json.loads((Path(task.folder) / REPORT).read_text("utf-8")))


def scored(
    run: Run, folder: Path, by: Mapping[str, str], truths: Mapping[str, Truth], drawn: Drawn
) -> Iterator[tuple[list[dict[str, Any]], dict[str, Any], scores.FoldError]]:
    """For each cell the rows of its members, its own row, and its errors by index modulo the fold."""
    for name, file in by.items():
        members, before = load_members(folder / f"{name}.npz")
        truth, failed = truths[name], drawn.failed.get(name, "")
        both = [member_row(*shapes, truth) for shapes in zip(members, before, strict=True)]
        measures = pd.DataFrame([measured for measured, _ in both])
        intervals = {} if failed or run.kind != "model" else intervals_of(read_card(file), measures)
        head = {"cell": name, "method": run.name}
        rows = [{**head, "member": i, **measured, **row} for i, (measured, row) in enumerate(both)]
        empty = next((f"Member {i} is empty." for i, member in enumerate(members) if not member.any()), "")
        cell = {
            **head,
            "file": Path(file).name,
            "failed": failed or empty,
            "seconds": drawn.seconds[name],
            "iou": sum(row["iou"] for _, row in both) / len(both),
            **cell_row(members, measures, truth, intervals),
        }
        yield rows, cell, scores.fold_error(members, truth.obj, FOLD)


def compared(
    run: Run, options: argparse.Namespace, cells: Sequence[CellFile], truths: Mapping[str, Truth]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], dict[str, Any]]:
    """Draw and score one method: the rows of its members, those of its cells, its summary."""
    by = drawn_by(run, cells)
    left_out = [cell.name for cell in cells if cell.name not in by]
    say(f"{run.name}: {len(by)} cells" + (f", {len(left_out)} left out" if left_out else ""))
    told: dict[str, Any] = {**asdict(run), "left_out": left_out, "n": len(by)}
    told["files"] = [Path(file).name for file in run.files]
    if not by:
        return [], [], told
    with tempfile.TemporaryDirectory() as folder:
        task = Task(
            run,
            str(options.dataset),
            folder,
            by,
            options.members,
            options.seed,
            options.threads,
            options.device,
        )
        drawn = drawn_apart(task)
        member_rows: list[dict[str, Any]] = []
        cell_rows: list[dict[str, Any]] = []
        fold_error = None
        for rows, cell, errors in scored(run, Path(folder), by, truths, drawn):
            member_rows += rows
            cell_rows.append(cell)
            fold_error = errors if fold_error is None else fold_error + errors
    assert fold_error is not None
    told |= summary(pd.DataFrame(member_rows), pd.DataFrame(cell_rows), fold_error)
    told |= {
        "base_memory": drawn.base_memory,
        "peak_memory": drawn.peak_memory,
        "provenance": {Path(file).name: told for file, told in drawn.provenance.items()},
    }
    return member_rows, cell_rows, told


def pairs_of(runs: Sequence[Run]) -> list[tuple[str, str]]:
    """Each method with all that come after it; the fits are not compared with one another."""
    return [
        (first.name, second.name)
        for i, first in enumerate(runs)
        for second in runs[i + 1 :]
        if first.kind != "fit"
    ]


# --- all of them ------------------------------------------------------------------------------------


def say(text: str) -> None:
    """Progress, beside what is printed."""
    print(text, file=sys.stderr, flush=True)


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor() -> str:
    """The CPU's model."""
    listing = Path("/proc/cpuinfo")
    lines = listing.read_text("utf-8").splitlines() if listing.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def commit() -> str:
    """Of the repository that this stands in, and whether files differ from it."""

    def git(*arguments: str) -> str:
        found = subprocess.run(["git", *arguments], cwd=HERE, capture_output=True, text=True)
        return found.stdout.strip()

    try:
        known = git("rev-parse", "--short", "HEAD")
        changed = git("status", "--porcelain", "--untracked-files=no", "..")
    except OSError:
        return "unknown"
    return f"{known} with changes" if known and changed else known or "unknown"


def head_of(
    options: argparse.Namespace, cells: Sequence[CellFile], others: Sequence[CellFile]
) -> dict[str, Any]:
    """What is needed to repeat the comparison."""
    return {
        "date": datetime.now().astimezone().isoformat(timespec="minutes"),
        # Where things lie on this machine is nobody's concern.
        "command": shlex.join(["python", *(Path(a).name if Path(a).is_absolute() else a for a in sys.argv)]),
        "commit": commit(),
        "machine": {
            "processor": processor(),
            "cores": os.cpu_count(),
            "usable_cores": usable_cores(),
            "threads": options.threads,
            "device": options.device,
            "system": platform.platform(),
        },
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("napari-dispr", "torch", "numpy", "scikit-image", "trimesh")},
        },
        "seed": options.seed,
        "members": options.members,
        "dataset": {
            "folder": Path(options.dataset).resolve().name,
            "cells": len(cells) + len(others),
            "compared_on": [cell.name for cell in cells],
            "chosen": options.cells,
        },
        "measures": MEASURES,
        "levels": [f"{level:.0%}" for level in LEVELS],
        "intervals_of": list(INTERVALS),
    }


def compare(options: argparse.Namespace) -> str:
    """Do it all and write the files; returns the text of compare.md."""
    runs = runs_of(options)
    cells, others = chosen_cells(options, runs)
    truths = {cell.name: Truth(cell) for cell in cells}
    result: dict[str, Any] = {
        "head": head_of(options, cells, others),
        "steps": bool(options.steps),
        "methods": {},
    }
    member_rows, cell_rows = [], []
    for run in runs:
        of_members, of_cells, told = compared(run, options, cells, truths)
        member_rows += of_members
        cell_rows += of_cells
        result["methods"][run.name] = told
    if not cell_rows:
        raise InputError("Every method was trained on all of these cells: choose other cells or models.")
    table = pd.DataFrame(cell_rows)
    result["without_picture"] = without_picture(list(truths.values()), others)
    able = [run for run in runs if result["methods"][run.name]["n"]]
    result["paired"] = [] if options.steps else paired(table, pairs_of(able), options.seed)
    text = report(result)
    out = Path(options.out)
    for name, rows in (("members.csv", pd.DataFrame(member_rows)), ("cells.csv", table)):
        with written_aside(out / name) as temporary:
            rows.to_csv(temporary, index=False, float_format="%.6g")
    write_json(out / "compare.json", result)
    if options.steps:
        steps_plot(result, out / "steps.png")
    with written_aside(out / "compare.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    return text


def arguments() -> argparse.ArgumentParser:
    """The command line."""

    def numbers(text: str) -> list[int]:
        return [int(number) for number in text.split(",")]

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("dataset", type=Path, help="folder with obj, image and mask in train or test")
    parser.add_argument(
        "--models", nargs="+", default=[], metavar="MODEL", help="names, files, folders of folds"
    )
    parser.add_argument("--qualities", nargs="+", default=["fast", "balanced"], metavar="QUALITY")
    parser.add_argument(
        "--shapr", nargs="+", default=[], metavar="FILE", help="SHAPR files, or folders of folds"
    )
    parser.add_argument("--fits", action="store_true", help="also cylinder and ellipsoid fits")
    parser.add_argument(
        "--steps", type=numbers, help="numbers of evaluations, such as 1,2,4,8: quality against them"
    )
    parser.add_argument(
        "--samplers", type=lambda text: text.split(","), default=["euler", "dpm-solver++"], help="for --steps"
    )
    parser.add_argument(
        "--cells",
        choices=["held-out", "all", "out-of-fold"],
        default="held-out",
        help="held-out: those that train_red_blood_cell.py keeps apart (the default);\n"
        "all: each method on all cells that it was not trained on;\n"
        "out-of-fold: all cells that no method was trained on, folds counted one by one",
    )
    parser.add_argument("--limit", type=int, help="only so many of the cells, evenly spread")
    parser.add_argument("--members", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=usable_cores(), help="of the CPU (all usable cores)")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, required=True)
    return parser


def main() -> int:
    """Exit status 0, or 2 for bad input."""
    try:
        print(compare(arguments().parse_args()))
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
