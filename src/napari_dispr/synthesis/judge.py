"""Do synthetic images help? Segmenters are trained on real, synthetic and both, and tested on real images.

The table has the form of Table 1 of Yilmaz et al. (2024).
"""

import os
import zlib
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from napari_dispr.errors import InputError, counted
from napari_dispr.events import in_one_go, mapped
from napari_dispr.files import read_rows, write_json, write_rows, written_aside
from napari_dispr.synthesis.annotated import Annotated, annotated_files, grey_range, read_annotated
from napari_dispr.synthesis.fields import tile
from napari_dispr.synthesis.realism import (
    NEEDED,
    Distance,
    cell_features,
    kernel_distances,
    save_panels,
)
from napari_dispr.synthesis.run_folder import run_folder
from napari_dispr.synthesis.segmentation import (
    Example,
    Resized,
    Segmenter,
    Trial,
    examples_of,
    iter_train_segmenter,
    resized_for,
    seg_scores,
)
from napari_dispr.synthesis.settings import JudgeSettings
from napari_dispr.version import __version__

#: The settings of the run, which decide whether it can be continued, and its results.
JUDGE_FILE = "judge.json"
#: SEG of each test image, set and seed; the table of means; figures.
SEG_FILE, TABLE_FILE, PANELS_FILE, PREVIEW_FILE = "seg.csv", "table", "realism.png", "images.png"
REAL = "real"
#: Images of each kind in the preview.
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Judged:
    """A segmenter is trained and tested; ``seg`` is its mean SEG over the test images."""

    training: str
    seed: int
    seg: float
    done: int
    total: int


def iter_judge_synthesis(
    real_train: str | os.PathLike[str],
    real_test: str | os.PathLike[str],
    synthetic: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    settings: JudgeSettings | None = None,
    channel: int | None = None,
) -> Generator[Any, None, pd.DataFrame]:
    """Train segmenters on real images, on synthetic ones and on both, and compare them on other real images.

    Parameters
    ----------
    real_train, real_test : path
        Folders of annotated images, as `annotated_files` reads them. Of stacks only slices with labels count
        for training. A test stack of which only single slices are annotated is tested on these slices.
    synthetic : path or sequence of paths
        Folders of synthetic images; several are compared with one another, for instance with and without a
        step of their making.
    out : path
        A new or empty folder, or that of an interrupted run with the same images and settings, which is
        continued.
    channel : int, optional
        Of real images with several channels, that which shows the cells, from 0.

    Yields
    ------
    Trial, Judged

    Returns
    -------
    DataFrame
        A row for each training set with its SEG (mean and standard deviation over the seeds) and, for
        synthetic ones, the kernel distances. Saved as ``table.csv`` and ``table.md``; ``seg.csv`` has the
        score of each image, ``realism.png`` and ``images.png`` are figures.

    Raises
    ------
    InputError
        If images cannot be read or hold no cells, the test images are among the training images, the folder
        holds other files or another run, or another process writes into it.
    """
    settings = settings or JudgeSettings()
    folder = Path(out)
    many = [synthetic] if isinstance(synthetic, str | os.PathLike) else list(synthetic)
    places = {REAL: Path(real_train), **_named(many)}
    files = {name: annotated_files(place) for name, place in places.items()}
    test_files = annotated_files(real_test)
    for own in files.values():
        _check_apart(own, test_files)
    request = _request(files, test_files, settings) | ({} if channel is None else {"channel": channel})
    with run_folder(folder, JUDGE_FILE, request) as before:
        train, tests = (list(read_annotated(place, channel=channel)) for place in (real_train, real_test))
        for what, images in (("training", train), ("test", tests)):
            if not any(one.labels.any() for one in images):
                raise InputError(f"The labels of the real {what} images hold no cell: annotate some cells.")
        resized = resized_for(train, settings.diameter)
        examples = {REAL: examples_of(train, resized)}
        real_cells = cell_features([*train, *tests])
        distances: dict[str, tuple[Distance, Distance]] = {}
        tables, shown = {REAL: real_cells}, {REAL: train[:_SHOWN]}
        for name in list(places)[1:]:
            examples[name] = examples_of(read_annotated(places[name]), resized)
            if not examples[name]:
                raise InputError(f"The labels in {places[name]} hold no cell: choose a folder with cells.")
            tables[name] = cell_features(read_annotated(places[name]))
            distances[name] = kernel_distances(real_cells, tables[name])
            shown[name] = list(islice(read_annotated(places[name]), _SHOWN))
        if before is None:  # not before: wrong images leave no folder
            write_json(folder / JUDGE_FILE, {"software": f"napari-dispr {__version__}", "request": request})
        save_panels(folder / PANELS_FILE, tables, train[0].unit)
        _save_images(folder / PREVIEW_FILE, shown)
        sets = _training_sets(examples)
        scores = yield from _trials(folder, sets, tests, resized, settings)
        table = _table(scores, sets, distances)
        _save_table(folder, table, len(tests), settings)
        return table


judge_synthesis = in_one_go(iter_judge_synthesis)


def _named(folders: Sequence[str | os.PathLike[str]]) -> dict[str, Path]:
    """The synthetic folders by their names, which differ from each other and from "real"."""
    if not folders:
        raise InputError("There are no synthetic images: give at least one folder of them.")
    if len(folders) == 1:
        return {"synthetic": Path(folders[0])}
    named: dict[str, Path] = {}
    for place in map(Path, folders):
        name = place.resolve().name
        if name in named or name == REAL:
            raise InputError(f"Two folders have the name {name}: rename one, since the table needs names.")
        named[name] = place
    return named


def _training_sets(examples: dict[str, list[Example]]) -> dict[str, list[list[Example]]]:
    """What each segmenter is trained on: real, each synthetic set, and real with each synthetic set."""
    names = [name for name in examples if name != REAL]
    alone = {name: [examples[name]] for name in examples}
    both = {_both(name): [examples[REAL], examples[name]] for name in names}
    return alone | both


def _both(name: str) -> str:
    return f"{REAL} + {name}"


def _check_apart(train: Sequence[tuple[Path, Path]], test: Sequence[tuple[Path, Path]]) -> None:
    own = {image.resolve() for image, _ in train}
    for image, _ in test:
        if image.resolve() in own:
            raise InputError(f"{image} is a training and a test image: keep test images apart.")


def _request(
    files: dict[str, list[tuple[Path, Path]]], test_files: list[tuple[Path, Path]], settings: JudgeSettings
) -> dict[str, Any]:
    """What a run depends on: names and checksums of the files, and the settings."""
    named = {
        name: [[path.name, _checksum(path)] for pair in pairs for path in pair]
        for name, pairs in {**files, "test": test_files}.items()
    }
    return {"images": named, "settings": settings.model_dump(mode="json", exclude={"device"})}


def _checksum(path: Path) -> int:
    """Of a file, or of all files of an OME-Zarr."""
    value = 0
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        value = zlib.crc32(file.read_bytes(), value) if file.is_file() else value
    return value


def _dense(one: Annotated) -> list[Annotated]:
    """The parts that are annotated throughout: of a stack with single annotated slices, each of them."""
    slices = one.slices
    if one.labels.ndim == 2 or (len(slices) > 2 and slices[-1] - slices[0] + 1 == len(slices)):
        return [one]
    return [
        Annotated(f"{one.name}_z{z}", one.image[z], one.labels[z], one.spacing[1:], one.unit) for z in slices
    ]


def _save_images(path: Path, shown: dict[str, list[Annotated]]) -> None:
    """Some images of each kind, a row with its name for each, next to the same images with outlines."""
    from matplotlib.figure import Figure

    rows = {}
    for name, images in shown.items():
        tiles = [tile(one.image, one.labels, 160) for one in images]
        height = max(one.shape[0] for one in tiles)
        space = [((0, height - one.shape[0]), (0, 4), (0, 0)) for one in tiles]
        padded = [np.pad(one, pad, constant_values=255) for one, pad in zip(tiles, space, strict=True)]
        rows[name] = np.concatenate(padded, axis=1)
    heights = [len(row) for row in rows.values()]
    width = max(row.shape[1] for row in rows.values())
    figure = Figure(figsize=(0.4 + width / 100, 0.1 + sum(heights) / 100), layout="constrained")
    axes = figure.subplots(len(rows), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axis, (name, row) in zip(axes, rows.items(), strict=True):
        axis.imshow(row, interpolation="nearest", extent=(0, row.shape[1], len(row), 0))
        axis.set(xlim=(0, width), xticks=[], yticks=[], ylabel=name)
        axis.spines[:].set_visible(False)
    with written_aside(path) as aside:
        figure.savefig(aside, dpi=150)


_SEG_COLUMNS = ["training", "seed", "image", "cells", "seg", "sections", "seg_2d"]
_SEG_TYPES = {"seed": int, "cells": int, "seg": float, "sections": int, "seg_2d": float}
#: Columns of the kernel distances.
_KID = ("kid_real_real", "kid_real_synthetic")


def _trials(
    folder: Path,
    sets: dict[str, list[list[Example]]],
    tests: Sequence[Annotated],
    resized: Resized,
    settings: JudgeSettings,
) -> Generator[Any, None, pd.DataFrame]:
    """Train and test a segmenter for each training set and seed; finished ones are read from the folder."""
    path = folder / SEG_FILE
    rows: list[dict[str, Any]] = [
        row | {name: kind(row[name]) for name, kind in _SEG_TYPES.items()}
        for row in read_rows(path, _SEG_COLUMNS)
    ]
    runs = [(name, seed) for seed in range(settings.seed, settings.seed + settings.seeds) for name in sets]
    total = len(runs) * settings.steps
    for number, (name, seed) in enumerate(runs):
        if not _of_run(rows, name, seed):
            events = iter_train_segmenter(sets[name], resized, settings, seed, name)
            segmenter = yield from _counted(events, number * settings.steps, total)
            rows += [
                {"training": name, "seed": seed, **_tested(segmenter, one)}
                for one in tests
                if one.labels.any()
            ]
            write_rows(path, _SEG_COLUMNS, rows)
        of_run = [row["seg"] for row in _of_run(rows, name, seed)]
        yield Judged(name, seed, float(np.mean(of_run)), (number + 1) * settings.steps, total)
    return pd.DataFrame(rows, columns=_SEG_COLUMNS)


def _of_run(rows: list[dict[str, Any]], name: str, seed: int) -> list[dict[str, Any]]:
    return [row for row in rows if (row["training"], row["seed"]) == (name, seed)]


def _counted(
    events: Generator[Trial, None, Segmenter], before: int, total: int
) -> Generator[Trial, None, Segmenter]:
    """The steps of one training, counted among those of all."""
    return mapped(events, lambda event: Trial(event.what, before + event.done, total, event.loss))


def _tested(segmenter: Segmenter, one: Annotated) -> dict[str, Any]:
    limits = grey_range(one.image)
    scores, of_slices = [], [np.zeros(0)]
    for part in _dense(one):
        maps = segmenter.maps(part.image, part.spacing, limits)
        scores.append(seg_scores(part.labels, segmenter.cells(maps, part.spacing)))
        for z in part.slices if part.labels.ndim == 3 else ():
            found = segmenter.cells(maps[:, z], part.spacing[1:])
            of_slices.append(seg_scores(part.labels[z], found))
    cells, sections = np.concatenate(scores), np.concatenate(of_slices)
    return {
        "image": one.name,
        "cells": len(cells),
        "seg": float(cells.mean()),
        "sections": len(sections),
        "seg_2d": float(sections.mean()) if len(sections) else float("nan"),
    }


def _table(
    scores: pd.DataFrame,
    sets: dict[str, list[list[Example]]],
    distances: dict[str, tuple[Distance, Distance]],
) -> pd.DataFrame:
    """A row for each training set. SEG is the mean over all true cells, then over the seeds."""
    means = {
        column: scores.assign(sum=scores[column] * scores[count]).groupby(["training", "seed"])
        for column, count in (("seg", "cells"), ("seg_2d", "sections"))
    }
    rows = []
    for name in sets:
        row: dict[str, Any] = {"training": name, "slices": sum(len(part) for part in sets[name])}
        for column, count in (("seg", "cells"), ("seg_2d", "sections")):
            values = (means[column]["sum"].sum() / means[column][count].sum())[name].to_numpy(np.float64)
            row[column] = float(values.mean())
            row[f"{column}_sd"] = float(values.std(ddof=1)) if len(values) > 1 else np.nan
        for column, distance in zip(_KID, distances.get(name, (None, None)), strict=True):
            row[column] = np.nan if distance is None else distance.mean
            row[f"{column}_sd"] = np.nan if distance is None else distance.sd
        rows.append(row)
    return pd.DataFrame(rows)


def _save_table(folder: Path, table: pd.DataFrame, tests: int, settings: JudgeSettings) -> None:
    """The table as CSV, and as Markdown with a row for each synthetic set, as in the paper."""
    with written_aside(folder / f"{TABLE_FILE}.csv") as aside:
        table.to_csv(aside, index=False)
    with written_aside(folder / f"{TABLE_FILE}.md") as aside:
        aside.write_text(markdown(table, tests, settings), encoding="utf-8")


def lacking(table: pd.DataFrame) -> list[str]:
    """Why a kernel distance is missing in the table, in a sentence; empty if none is."""
    is_synthetic = (table["training"] != REAL) & ~table["training"].str.startswith(_both(""))
    return [NEEDED] if table.loc[is_synthetic, _KID[1]].isna().any() else []


def markdown(table: pd.DataFrame, tests: int, settings: JudgeSettings) -> str:
    """The table in the form of the paper's Table 1."""
    by_name = table.set_index("training")

    def value(name: str, column: str, digits: int) -> str:
        mean, sd = (by_name[kind].astype(float)[name] for kind in (column, f"{column}_sd"))
        if np.isnan(mean):
            return "-"
        return f"{mean:.{digits}f}" + ("" if np.isnan(sd) else f" ± {sd:.{digits}f}")

    lines = [
        "| SEG | real | synthetic | both | KID real-real | KID real-synthetic |",
        "|---|---|---|---|---|---|",
    ]
    for column, words in (("seg", ""), ("seg_2d", ", slice by slice")):
        for name in (name for name in by_name.index if _both(name) in by_name.index):
            if value(name, column, 3) != "-":
                segs = [value(each, column, 3) for each in (REAL, name, _both(name))]
                kids = ["", ""] if words else [value(name, kid, 2) for kid in _KID]
                lines.append(f"| {name}{words} | {' | '.join([*segs, *kids])} |")
    lines += [
        "",
        f"SEG: mean over the true cells of {counted(tests, 'test image')}; slice by slice: over the sections "
        f"of these cells in stacks, each slice segmented as a 2D image (mean ± standard deviation over "
        f"{counted(settings.seeds, 'seed')}). Each segmenter was trained from scratch for "
        f"{counted(settings.steps, 'step')} of {settings.batch} crops. KID: a kernel distance of our own "
        "features of cells (mean ± standard deviation over random subsets).",
        *lacking(table),
    ]
    return "\n".join(lines) + "\n"
