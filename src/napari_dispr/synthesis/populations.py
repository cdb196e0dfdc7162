"""One image with many cells: cells are placed one by one where there is room, and lie in a background.

After Svoboda and Ulman (ICIAR 2013): each cell is placed next to an earlier one with a given probability,
and anywhere otherwise. Here all positions are tested at once, by a convolution.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, distance_transform_edt, gaussian_filter
from scipy.signal import fftconvolve
from skimage.measure import block_reduce

from napari_dispr import grid
from napari_dispr.errors import InputError
from napari_dispr.events import in_one_go
from napari_dispr.labels import Box, windows
from napari_dispr.synthesis.cell_sources import GAP, LEAST_VOXELS, CellSource, TexturedCell
from napari_dispr.synthesis.glow import GLOW_DEPTHS, Glow
from napari_dispr.synthesis.settings import Microscope, PopulationSettings

Floats = NDArray[np.float32]

#: Earlier cells next to which a place is looked for.
_NEIGHBOURS = 6
#: Places that are tried until enough of a cell is inside the image, and the share that is enough.
_TRIES, _VISIBLE = 20, 0.05
#: The image is full after this number of cells in a row without a place.
_FAILURES = 3
#: Cells in an image if neither their number nor their density is known.
_USUAL = 20
#: Most voxels of a cell: larger ones do not fit into the memory.
_MOST_VOXELS = 2**23
#: Larger images are searched at a lower resolution in the plane.
_SEARCHED = 1_000_000


@dataclass(frozen=True, slots=True)
class PlacedCell:
    """A cell of a population.

    Attributes
    ----------
    source : str
        The mask and the seed that made it.
    centre : tuple of float
        Centre of its visible voxels along (z, y, x) or (y, x), in the unit of the spacing; 0 is the centre of
        the first voxel, as in the files and in napari.
    voxels : int
        Those in the image.
    volume : float
        Volume (3D) or area (2D) of the whole cell, in powers of the unit.
    whole : bool
        Whether the border of the image cuts nothing off.
    clustered : bool
        Whether it was placed next to an earlier cell.
    """

    label: int
    source: str
    centre: tuple[float, ...]
    voxels: int
    volume: float
    whole: bool
    clustered: bool


@dataclass(frozen=True, slots=True, eq=False)
class Population:
    """A synthetic image of the source's data type, (z, y, x) or (y, x), with its labels; each placed voxel
    belongs to its cell.

    ``notes`` are sentences for the user, such as that not all cells fit.
    """

    image: NDArray[Any]
    labels: NDArray[np.uint16]
    cells: tuple[PlacedCell, ...]
    spacing: tuple[float, ...]
    unit: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Placed:
    """A cell has its place: ``done`` of ``total`` cells (an estimate, if a density is wanted)."""

    done: int
    total: int


def iter_make_population(
    source: CellSource, settings: PopulationSettings | None = None, seed: int = 0, number: int = 0
) -> Generator[Any, None, Population]:
    """Make one synthetic image with its labels.

    Parameters
    ----------
    number : int
        Of the image. It depends on (seed, number), the source and the settings, and on nothing else.

    Yields
    ------
    Placed, and the events of the source

    Raises
    ------
    InputError
        If the size has other axes than the cells, the spacing does not suit them, no cell fits into the
        image, or a microscope is wanted for cells that are blurred already.
    """
    settings = settings or PopulationSettings()
    check_population(source, settings)
    drawing, placing, painting = np.random.default_rng((seed, number)).spawn(3)
    canvas = _Canvas(settings.size, source.spacing, source.background.level, source.glow)
    notes = yield from _fill(canvas, source, settings, drawing, placing)
    if settings.cut == "all":
        canvas.add_glow_from_outside(painting)
    slow, noise = source.background.paint(settings.size, source.spacing, painting, canvas.glow)
    # A cell's own image holds the light of its surroundings and the noise: `weight` is its squared weight.
    bare = np.maximum(0, 1 - canvas.weight)
    level = np.float32(source.background.level)
    image = level + (slow - level) * (1 - np.sqrt(1 - bare)) + canvas.light + noise * np.sqrt(bare)
    if source.background.floor is not None:
        image = np.maximum(image, np.float32(source.background.floor))
    microscope = settings.microscope or source.microscope
    if microscope is not None:
        image = _recorded(image, microscope, source.spacing, painting)
    return Population(
        _as_type(image, source.dtype), canvas.labels, tuple(canvas.cells), source.spacing, source.unit, notes
    )


make_population = in_one_go(iter_make_population)


def check_population(source: CellSource, settings: PopulationSettings) -> None:
    """Raise an InputError if these settings do not suit the cells of the source."""
    if len(settings.size) != source.ndim:
        axes = "z,y,x" if source.ndim == 3 else "y,x"
        raise InputError(
            f"The size {settings.size} has {len(settings.size)} numbers, but {source.name} makes "
            f"{source.ndim}D cells: give the size as {axes}."
        )
    voxels = source.volume / float(np.prod(source.spacing))
    if not LEAST_VOXELS <= voxels <= _MOST_VOXELS:
        raise InputError(
            f"The cells of {source.name} have about {voxels:.2g} voxels of {_by(source.spacing)} "
            f"{source.unit}: give a {'finer' if voxels < LEAST_VOXELS else 'coarser'} spacing."
        )
    if settings.microscope is not None and source.blurred:
        raise InputError(f"{source.blurred} Leave the microscope out.")


def _fill(
    canvas: "_Canvas",
    source: CellSource,
    settings: PopulationSettings,
    drawing: np.random.Generator,
    placing: np.random.Generator,
) -> Generator[Any, None, tuple[str, ...]]:
    """Place cells until there are enough, or no room is left; returns notes."""
    density = settings.density
    if settings.cells is None and density is None:
        density = source.density
    clustering = source.clustering if settings.clustering is None else settings.clustering
    wanted = settings.cells or _USUAL
    if density is not None:  # an estimate, so that few cells are drawn in vain
        space = float(np.prod(settings.size) * np.prod(source.spacing))
        wanted = max(1, ceil(density * space / source.volume))
    failures = 0
    for cell in source.draw(drawing, wanted):
        if not isinstance(cell, TexturedCell):
            yield cell
            continue
        mask = cell.mask[grid.box_of(cell.mask)]
        clustered = bool(canvas.cells) and placing.random() < clustering
        found = _place(canvas, mask, clustered, settings.cut, placing)
        if found is None:
            failures += 1
            if failures == _FAILURES:
                break
            continue
        failures = 0
        corner, clustered = found
        canvas.add(cell, corner, clustered)
        if density is not None:
            filled = np.count_nonzero(canvas.labels) / canvas.labels.size
            wanted = max(len(canvas.cells), round(len(canvas.cells) * density / filled))
        yield Placed(len(canvas.cells), wanted)
        if len(canvas.cells) >= wanted:
            return ()
    count = len(canvas.cells)
    if not count:
        raise InputError(
            f"No cell of {source.name} fits into an image of {_by(settings.size)} voxels: take a larger one"
            + (", or let the border cut cells." if settings.cut == "none" else ".")
        )
    filled = np.count_nonzero(canvas.labels) / canvas.labels.size
    if density is not None:
        return (f"{count} cells fill {filled:.0%} of the image, not {density:.0%}: no more fit.",)
    return (f"Only {count} of {wanted} cells fit into the image; they fill {filled:.0%} of it.",)


def _by(size: Sequence[float]) -> str:
    return " x ".join(f"{length:.6g}" for length in size)


class _Canvas:
    """Labels and light of an image to which cells are added."""

    def __init__(
        self, size: tuple[int, ...], spacing: tuple[float, ...], level: float, glow: tuple[float, ...]
    ) -> None:
        self.labels = np.zeros(size, np.uint16)
        self.light = np.zeros(size, np.float32)
        #: Sum of the squared weights of the cells' images, which bring noise of their own.
        self.weight = np.zeros(size, np.float32)
        #: Light above and below the cells, without noise; then the glow of each cell.
        self.glow = np.zeros(size, np.float32)
        self._glows: list[Glow] = []
        self._glow_shares = glow
        self.cells: list[PlacedCell] = []
        #: Corner and lengths of the box of each cell, of which a part may be outside.
        self.boxes: list[tuple[NDArray[np.int_], NDArray[np.int_]]] = []
        self.spacing, self.level = spacing, level

    def add(self, cell: TexturedCell, corner: NDArray[np.int_], clustered: bool) -> None:
        """Add a cell; the box of its mask starts at ``corner``. Its light is added to the light there."""
        box = grid.box_of(cell.mask)
        assert box is not None
        first = [side.start for side in box]
        there, here = windows(corner - first, cell.mask.shape, self.labels.shape)
        weight = _fading(cell.mask, box)[here]
        self.light[there] += weight * (cell.image[here] - np.float32(self.level))
        self.weight[there] += weight**2
        if self._glow_shares:
            glow = Glow.of(cell, box, self.level)
            self._glows.append(glow)
            glow.add_to(self.glow, corner, self._glow_shares)
        inside = cell.mask[here]
        label = len(self.cells) + 1
        self.labels[there][inside] = label
        places = np.argwhere(inside) + [side.start for side in there]
        centre = places.mean(axis=0) * self.spacing
        whole = int(cell.mask.sum())
        self.cells.append(
            PlacedCell(
                label=label,
                source=cell.source,
                centre=tuple(float(f"{c:.6g}") for c in centre),
                voxels=len(places),
                volume=float(f"{whole * np.prod(self.spacing):.6g}"),
                whole=len(places) == whole,
                clustered=clustered,
            )
        )
        self.boxes.append((corner, np.array([side.stop - side.start for side in box])))

    def add_glow_from_outside(self, rng: np.random.Generator) -> None:
        """Add the light of cells above and below the image, which is as dense there as inside."""
        for glow in self._glows:
            reach = (GLOW_DEPTHS[-1] - 1) * glow.height / 2
            for _ in range(rng.poisson(2 * reach / len(self.glow))):
                away = rng.uniform(0, reach)
                top = len(self.glow) + away if rng.random() < 0.5 else -glow.height - away
                place = [
                    rng.uniform(-n, size)
                    for n, size in zip(glow.plane.shape, self.glow.shape[1:], strict=True)
                ]
                glow.add_to(self.glow, np.rint([top, *place]).astype(int), self._glow_shares)


def _fading(mask: NDArray[np.bool_], box: Box) -> Floats:
    """The weight of a cell's image: 1 in the cell, falling smoothly to 0 just outside its margin.

    In a stack it is 1 in the whole column of the cell: its light is as wide at its ends as in its middle.
    """
    margins = [min(side.start, length - side.stop) + 1 for side, length in zip(box, mask.shape, strict=True)]
    column = mask.copy()
    if mask.ndim == 3:
        column[box[0]] = mask.any(axis=0)
    outside = distance_transform_edt(~column, sampling=[1 / margin for margin in margins])
    return np.cos(np.pi / 2 * np.minimum(outside, 1)).astype(np.float32) ** 2


def _place(
    canvas: _Canvas, mask: NDArray[np.bool_], clustered: bool, cut: str, rng: np.random.Generator
) -> tuple[NDArray[np.int_], bool] | None:
    """A corner for a mask (without margin) and whether it is next to an earlier cell; None: no room."""
    taken = canvas.labels > 0
    size, shape = np.array(taken.shape), np.array(mask.shape)
    in_plane = np.arange(taken.ndim) >= taken.ndim - 2
    # Of a cell that the border cuts, at least a quarter of each side of its box is inside.
    over = np.where((cut == "all") | ((cut == "sides") & in_plane), shape * 3 // 4, 0)
    low, high = -over, size - shape + over
    if (high < low).any():
        return None
    if clustered:
        gap = int(rng.integers(1, GAP + 1))
        near = binary_dilation(np.pad(mask, gap), iterations=gap)
        for number in rng.permutation(len(canvas.boxes))[:_NEIGHBOURS]:
            corner, lengths = canvas.boxes[number]
            first = np.maximum(corner - shape - gap, low)
            last = np.minimum(corner + lengths + gap, high)
            free = _overlap(taken, mask, first, last) < 0.5
            free &= _overlap(taken, near, first - gap, last - gap) > 0.5
            if (found := _chosen(free, mask, first, 1, size, rng)) is not None:
                return found, True
    step = int(np.ceil(np.sqrt(max(1, taken.size / _SEARCHED))))
    steps = np.where(in_plane, step, 1)
    coarse = [block_reduce(array, tuple(steps), np.max) for array in (taken, mask)]
    first, last = -(-low // steps), high // steps
    free = _overlap(coarse[0], coarse[1], first, last) < 0.5
    found = _chosen(free, mask, first, steps, size, rng)
    return None if found is None else (found, False)


def _overlap(
    taken: NDArray[np.bool_], mask: NDArray[np.bool_], low: NDArray[np.int_], high: NDArray[np.int_]
) -> Floats:
    """Number of taken voxels under a mask, for each corner of the mask from ``low`` to ``high``."""
    shape = np.array(mask.shape)
    if (high < low).any():
        return np.zeros(np.maximum(high - low + 1, 0), np.float32)
    there, _ = windows(low, high - low + shape, taken.shape)
    flipped = mask[tuple(slice(None, None, -1) for _ in shape)].astype(np.float32)
    counts = fftconvolve(taken[there].astype(np.float32), flipped)
    start = low - np.array([side.start for side in there]) + shape - 1
    return counts[tuple(slice(int(a), int(a + n)) for a, n in zip(start, high - low + 1, strict=True))]


def _chosen(
    free: NDArray[np.bool_],
    mask: NDArray[np.bool_],
    first: NDArray[np.int_],
    steps: NDArray[np.int_] | int,
    size: NDArray[np.int_],
    rng: np.random.Generator,
) -> NDArray[np.int_] | None:
    """One of the free corners at which enough of the mask is inside the image."""
    places = np.flatnonzero(free)
    for _ in range(_TRIES if len(places) else 0):
        index = np.unravel_index(int(places[rng.integers(len(places))]), free.shape)
        corner: NDArray[np.int_] = (np.array(index) + first) * steps
        inside = mask[windows(corner, mask.shape, size)[1]]
        if inside.sum() >= max(1, _VISIBLE * mask.sum()):
            return corner
    return None


def _recorded(
    light: Floats, microscope: Microscope, spacing: Sequence[float], rng: np.random.Generator
) -> Floats:
    """Grey values of a camera behind a microscope: blurred, with shot noise and read noise."""
    sigma = np.asarray(microscope.blur[-len(spacing) :]) / spacing
    blurred = np.maximum(gaussian_filter(light, sigma), 0)
    counts = rng.poisson(microscope.photons * blurred) + rng.normal(0, microscope.read_noise, light.shape)
    return (microscope.offset + counts).astype(np.float32)


def _as_type(image: Floats, dtype: str) -> NDArray[Any]:
    kind = np.dtype(dtype)
    if kind.kind not in "ui":
        return image.astype(kind)
    limits = np.iinfo(kind)
    return np.clip(np.rint(image), limits.min, limits.max).astype(kind)
