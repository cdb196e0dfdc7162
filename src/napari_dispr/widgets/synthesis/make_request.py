"""Makes and reads annotated images for "Synthesise annotated images", in threads. No Qt widgets."""

import json
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_dispr.errors import InputError, counted
from napari_dispr.events import mapped
from napari_dispr.settings import checked_settings
from napari_dispr.synthesis.annotated import Annotated, annotated_files, read_annotated
from napari_dispr.synthesis.fields import LAYOUTS, FieldMade, iter_make_synthesis, tile
from napari_dispr.synthesis.learned_card import read_card
from napari_dispr.synthesis.populations import Placed, Population, iter_make_population
from napari_dispr.synthesis.settings import CellSettings, Layout, PopulationSettings
from napari_dispr.synthesis.simulated_sources import SIMULATED
from napari_dispr.synthesis.sources import SAMPLE, cell_source, learned_file
from napari_dispr.widgets.parts.loading import load_torch
from napari_dispr.widgets.parts.threads import Progress

if TYPE_CHECKING:
    from napari_dispr.synthesis.cell_sources import CellSource

#: Largest size of a preview along z and in the plane.
_DEPTH, _SIDE = 24, 128
#: Side of the pictures in the browser, and the most of them.
THUMB, MOST_THUMBS = 96, 500
#: The most images that are made into layers at once.
MOST_LAYERS = 20

Picture = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class MakeRequest:
    """What to make.

    Attributes
    ----------
    source : str
        A learned model's file, or the name of simulated cells.
    density, clustering : float
        Share of the image that cells fill; probability that a cell is next to another.
    cell_size : float
        1: as learned; 2: twice the diameter.
    consistency : float
        Common noise of the slices of a texture relative to their own noise (rho). 0: as learned.
    """

    source: str
    size: tuple[int, ...]
    density: float
    clustering: float
    cell_size: float = 1.0
    consistency: float = 0.0
    seed: int = 0

    @property
    def settings(self) -> PopulationSettings:
        """The settings of a population; `InputError` if a value is out of range."""
        values = {"size": self.size, "density": self.density, "clustering": self.clustering}
        return checked_settings(PopulationSettings, values)

    @property
    def small(self) -> "MakeRequest":
        """The request of a preview: a smaller image."""
        limits = (_DEPTH, _SIDE, _SIDE)[-len(self.size) :]
        return replace(self, size=tuple(map(min, self.size, limits)))


def sources() -> dict[str, str]:
    """Names of the sources of the package, each with how it is shown."""
    return {SAMPLE: "sample: nuclei"} | {name: f"simulated: {name}" for name in SIMULATED}


def usual(source: str, ndim: int) -> tuple[float, float] | None:
    """Density and clustering of the images from which a model learned, to begin with; None: not known."""
    if source in SIMULATED:
        return None
    try:
        card = read_card(learned_file(source))
    except InputError:  # making says so
        return None
    return card.usual_density(ndim) or 0.1, card.clustering


def source_of(request: MakeRequest) -> "CellSource":
    """The cells of a request. Loads a learned model: for a thread.

    Larger cells are those of a finer spacing, placed voxel by voxel.
    """
    settings, ndim = None, len(request.size)
    if request.source not in SIMULATED:
        load_torch()
        file = learned_file(request.source)
        if file.is_file() and read_card(file).dimensions < ndim:
            raise InputError(
                f"{file.stem} was learned from 2D images: make 2D images. (The command "
                "napari-dispr synthesise make can make 3D ones, with --spacing.)"
            )
        settings = CellSettings(rho=request.consistency or None)
    source = cell_source(request.source, ndim, None, settings)
    if request.cell_size == 1:
        return source
    finer = tuple(step / request.cell_size for step in source.spacing)
    larger = cell_source(request.source, ndim, finer, settings)
    return replace(source, draw=larger.draw, card={**source.card, "cell_size": request.cell_size})


@dataclass(frozen=True, slots=True, eq=False)
class Thumb:
    """An annotated image in a folder: its name, its files, and a small picture (y, x, 3) of it."""

    name: str
    image: Path
    labels: Path
    picture: Picture


def iter_preview(request: MakeRequest) -> Generator[Progress, None, tuple[Picture, tuple[str, ...]]]:
    """Make one small image; returns it next to its outlines, and notes."""
    small = request.small
    yield Progress(0, 1, "loading")
    population = yield from _counted(iter_make_population(source_of(small), small.settings, small.seed, 1))
    return tile(population.image, population.labels, 2 * _SIDE), population.notes


def iter_layers(request: MakeRequest, images: int) -> Generator[Any, None, str]:
    """Make images one by one and yield each `Population`."""
    yield Progress(0, images, "loading")
    source, settings, cells = source_of(request), request.settings, 0
    for number in range(1, images + 1):
        population = yield from _counted(
            iter_make_population(source, settings, request.seed, number), number - 1, images
        )
        cells += len(population.cells)
        yield population
    return f"Made {counted(images, 'image')} with {counted(cells, 'cell')}."


def iter_folder(request: MakeRequest, out: Path, images: int, layout: Layout) -> Generator[Any, None, str]:
    """Make images in a folder, and yield a small picture of each."""
    yield Progress(0, images, "loading")
    settings = request.settings
    events = iter_make_synthesis(source_of(request), out, images, settings, request.seed, layout)
    done, steps = 0, count(1)

    def shown(event: Any) -> Progress | Thumb | None:
        nonlocal done
        if isinstance(event, FieldMade):
            done = event.done
            return _thumb_of(out, layout, event.name) if done <= MOST_THUMBS else None
        return _progress(event, steps, done, images)

    made = yield from mapped(events, shown)
    text = f"{out} holds {counted(made['images'], 'image')} with {counted(made['cells'], 'cell')}."
    notes = len(made["notes"])
    return text + (f" {counted(notes, 'image')} had no room for all cells." if notes else "")


def iter_browse(folder: Path) -> Generator[Thumb | Progress, None, str]:
    """Yield a small picture of each annotated image of a folder."""
    pairs = annotated_files(folder)
    for number, (image, labels) in enumerate(pairs[:MOST_THUMBS], start=1):
        yield _thumb(image, labels)
        yield Progress(number, min(len(pairs), MOST_THUMBS))
    left = max(0, len(pairs) - MOST_THUMBS)
    return f"{counted(len(pairs), 'image')} in {folder}." + (
        f" The last {left} are not shown." if left else ""
    )


def read_pair(image: Path, labels: Path) -> Annotated:
    """An annotated image from its two files."""
    return next(iter(read_annotated(image, labels)))


def made_with(folder: Path) -> str:
    """From which cells the images of a folder were made; empty if it does not say so."""
    try:
        card = json.loads((folder / "synthesis.json").read_text("utf-8"))
        return f"Made from {card['request']['source']['name']}, seed {card['request']['seed']}."
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _thumb_of(out: Path, layout: Layout, name: str) -> Thumb:
    images, labels, ending = LAYOUTS[layout]
    image = out / images / f"{name}.tif"
    if not image.exists():  # of a stack in slices the middle one
        slices = [path for path in sorted((out / images).glob(f"{name}_z*.tif")) if ending not in path.stem]
        image = slices[len(slices) // 2]
    return _thumb(image, out / labels / f"{image.stem}{ending}.tif")


def _thumb(image: Path, labels: Path) -> Thumb:
    annotated = read_pair(image, labels)
    return Thumb(image.stem, image, labels, tile(annotated.image, annotated.labels, THUMB))


def _counted(
    events: Generator[Any, None, Population], before: int = 0, total: int = 1
) -> Generator[Progress, None, Population]:
    """The progress of a population, the images before it counted."""
    steps = count(1)
    return mapped(events, lambda event: _progress(event, steps, before, total))


def _progress(event: Any, steps: Iterator[int], before: int, images: int) -> Progress:
    """Cells that are placed are counted; making them takes an unknown number of steps."""
    text = f"image {before + 1} of {images}:"
    if isinstance(event, Placed):
        share = min(1.0, event.done / max(event.total, 1))
        return Progress(round(100 * (before + share)), 100 * images, f"{text} placing cells")
    return Progress(100 * before, 100 * images, f"{text} step {next(steps)}")
