"""Cells from a learned model: a mask, its volume, the slices of the volume, and their texture."""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates

from napari_dispr.diffusion import devices
from napari_dispr.errors import InputError
from napari_dispr.events import Step
from napari_dispr.grid import check_spacing
from napari_dispr.synthesis.cell_ends import inner_half
from napari_dispr.synthesis.cell_sources import LEAST_VOXELS, TexturedCell
from napari_dispr.synthesis.learned import LearnedSynthesis
from napari_dispr.synthesis.learned_card import LIGHT_RANKS
from napari_dispr.synthesis.masks import iter_masks
from napari_dispr.synthesis.settings import CellSettings
from napari_dispr.synthesis.textures import MULTIPLE, iter_textures
from napari_dispr.synthesis.volumes import WAYS, Volume

#: Cells whose networks run in one batch.
BATCH = 12
Sampled = TypeVar("Sampled")
#: Softness of the edge of cells without texture, in pixels.
EDGE = 0.7
#: The light of a made cell is changed by at most this factor.
MOST_GAIN = 4.0


def iter_textured_cells(
    learned: LearnedSynthesis,
    seed: int,
    spacing: tuple[float, ...],
    count: int,
    settings: CellSettings,
) -> Iterator[TexturedCell | Step]:
    """Make cells without end, in batches for the ``count`` that will be used; a step after each evaluation of
    a network.

    All depends on ``seed``. ``spacing`` is in the unit of the model. Slices above and below the cell are part
    of it only if the model learned them. Raises an InputError if the spacing is not possible, or the cells
    would have only a few voxels.
    """
    check_spacing((spacing[0], *spacing)[-3:], learned.card.unit)
    maker = _Maker(learned, spacing, settings)
    batch = ceil(count / max(1, ceil(count / BATCH)))
    first = 0
    while True:
        cells = yield from maker.batch(seed, range(first, first + batch))
        if not cells:
            raise InputError(
                f"The cells of {learned.card.name!r} have only a few voxels of {_text(spacing)} "
                f"{learned.card.unit}: give a finer spacing, or let it learn longer."
            )
        yield from cells
        first += batch


@dataclass(frozen=True, slots=True, eq=False)
class _Grid:
    """The grid of a texture: masks on it, the shift of its centre from that of the volume, and the depths of
    its slices, from 0 in the middle of the cell to 1 at its end.
    """

    masks: NDArray[np.bool_]
    shift: list[float]
    depths: list[float]


class _Maker:
    """Makes batches of cells with the networks of a learned model."""

    def __init__(self, learned: LearnedSynthesis, spacing: tuple[float, ...], settings: CellSettings) -> None:
        self.card, self.spacing, self.settings = learned.card, spacing, settings
        device = devices.choose(settings.device)
        self._masks, self._textures = (learned.ready(part, device) for part in ("masks", "textures"))
        self._flat = len(spacing) == 2
        card = learned.card
        depth = card.spacing[:1] if card.dimensions == 3 else spacing[:1]
        #: The grid of the textures; that of the cells, if it is nearly the same.
        self._drawn: tuple[float, ...] = card.picture_pixel if self._flat else (*depth, *card.picture_pixel)
        if np.allclose(self._drawn, spacing, rtol=0.02):
            self._drawn = spacing
        self._evaluations = 0
        self._with_neighbours = card.neighbours and not settings.as_published and not self._flat

    def batch(self, base: int, numbers: Sequence[int]) -> Generator[Step, None, list[TexturedCell]]:
        """The cells with these numbers; cells of only a few voxels are left out."""
        settings = self.settings
        seeds = np.array([np.random.SeedSequence((base, n)).generate_state(5) for n in numbers]).tolist()
        sampler = settings.mask_sampler, settings.mask_steps
        masks = yield from self._last(iter_masks(self._masks, [own[0] for own in seeds], *sampler))
        kept = [i for i, mask in enumerate(masks) if _is_whole(mask)]
        volumes = yield from self._volumes([masks[i] for i in kept], [seeds[i][1] for i in kept])
        made = [(i, one) for i, one in zip(kept, volumes, strict=True) if one and self._is_seen(one)]
        grids = [(i, volume, self._grid(volume, seeds[i][2])) for i, volume in made]
        whole = [(i, volume, grid) for i, volume, grid in grids if grid.masks.any()]
        images = yield from self._images([grid for *_, grid in whole], [seeds[i][3] for i, *_ in whole])
        images = self._lit([grid for *_, grid in whole], images, [seeds[i][4] for i, *_ in whole])
        cells = [
            self._cell(volume, grid, image, f"mask {numbers[i]} of seed {base}")
            for (i, volume, grid), image in zip(whole, images, strict=True)
        ]
        return [cell for cell in cells if cell is not None]

    def _last(self, events: Iterator[Sampled | None]) -> Generator[Step, None, Sampled]:
        """What a sampler yields at its end; before it a step for each evaluation of the network."""
        found: Sampled | None = None
        for found in events:
            if found is None:
                self._evaluations += 1
                yield Step(0, self._evaluations, self._evaluations, None)
        assert found is not None
        return found

    def _images(
        self, grids: Sequence[_Grid], seeds: Sequence[int]
    ) -> Generator[Step, None, list[NDArray[np.float32]]]:
        """Grey values on the grids of the textures. Cells of one size run in one batch."""
        if self.settings.texture_steps == 0:
            return [self._even(grid.masks, seed) for grid, seed in zip(grids, seeds, strict=True)]
        sides = [MULTIPLE * max(2, ceil(max(grid.masks.shape[1:]) / MULTIPLE)) for grid in grids]
        scale, offset = np.float32(self.card.scale), np.float32(self.card.offset)
        images: dict[int, NDArray[np.float32]] = {}
        for side in sorted(set(sides)):
            alike = [i for i, own in enumerate(sides) if own == side]
            pictures = yield from self._last(
                iter_textures(
                    self._textures,
                    [_square(grids[i].masks, side) for i in alike],
                    [seeds[i] for i in alike],
                    [grids[i].depths for i in alike] if self.card.depths else None,
                    sampler=self.settings.texture_sampler,
                    steps=self.settings.texture_steps,
                    rho=self.settings.rho,
                    with_neighbours=self._with_neighbours,
                )
            )
            for i, picture in zip(alike, pictures, strict=True):
                images[i] = _middle(picture, grids[i].masks.shape) * scale + offset
        return [images[i] for i in range(len(grids))]

    def _even(self, masks: NDArray[np.bool_], seed: int) -> NDArray[np.float32]:
        """Grey values without texture: light that is even in the cell, and the noise of the background."""
        rng = np.random.default_rng(seed)
        background = self.card.background
        contrast = rng.normal(*self.card.light) - background.level
        inside = gaussian_filter(masks.astype(np.float32), (0, EDGE, EDGE))
        noise = background.paint(masks.shape, self._drawn, rng)[1]
        return np.float32(background.level) + np.float32(contrast) * inside + noise

    def _lit(
        self, grids: Sequence[_Grid], images: list[NDArray[np.float32]], seeds: Sequence[int]
    ) -> list[NDArray[np.float32]]:
        """The images with the light of real cells in their middles: that of the network varies too little.

        The brightest cell of a batch stays the brightest: its edge and its size may depend on its light.
        """
        card = self.card
        if not card.lights or (self._flat and card.dimensions == 3):
            return images
        level = card.background.without_glow(card.light[0]).level
        own = np.array([_middle_light(*pair) - level for pair in zip(grids, images, strict=True)])
        places = np.argsort(np.argsort(own))
        lit = []
        for place, light, image, seed in zip(places, own, images, seeds, strict=True):
            rank = (place + np.random.default_rng(seed).random()) / len(own)
            wanted = np.interp(rank, LIGHT_RANKS, card.lights)
            gain = np.float32(np.clip(wanted / light, 1 / MOST_GAIN, MOST_GAIN) if light else 1)
            even = gaussian_filter(image, (0, 1, 1))
            # The noise of photons grows as the root of the light.
            lit.append(np.float32(level) + gain * (even - np.float32(level)) + gain**0.5 * (image - even))
        return lit

    def _volumes(
        self, masks: list[NDArray[np.float32]], seeds: list[int]
    ) -> Generator[Step, None, list[Volume | None]]:
        if self._flat:
            # A slice of a stack cuts a cell anywhere, and an ellipsoid at this depth is so much narrower.
            depths = [np.random.default_rng(seed).random() for seed in seeds]
            shares = [(1 - depth**2) ** 0.5 if self.card.dimensions == 3 else 1.0 for depth in depths]
            return [
                Volume(mask, self.card.mask_pixel * share, depth=depth)
                for mask, share, depth in zip(masks, shares, depths, strict=True)
            ]
        if not masks:
            return []
        volumes = yield from WAYS[self.settings.way](masks, self.card.mask_pixel, seeds, self.settings)
        if not (heights := self.card.heights):
            return volumes
        # Cells as high as those of the images: the shape model knows cells of many kinds.
        ranks = [np.random.default_rng(seed).random() for seed in seeds]
        wanted = np.interp(ranks, np.linspace(0, 1, len(heights)), heights)
        return [
            volume and replace(volume, stretch=height / volume.height)
            for volume, height in zip(volumes, wanted.tolist(), strict=True)
        ]

    def _is_seen(self, volume: Volume) -> bool:
        """Whether a cell has enough voxels at the spacing that is wanted."""
        own = np.count_nonzero(volume.signed_distance > 0) * np.prod(volume.sides)
        return bool(own >= LEAST_VOXELS * np.prod(self.spacing))

    def _grid(self, volume: Volume, seed: int) -> _Grid:
        """Where the texture is drawn: the slices of the cell, and a margin."""
        shift = np.random.default_rng(seed).uniform(-0.5, 0.5, len(self._drawn)) * self._drawn
        _, size = volume.box
        size = size / (1 - volume.depth**2) ** 0.5  # the light of a cap is as wide as its cell
        margin = 2 * self.card.margin
        shape = [ceil(n / step + margin) for n, step in zip(size[-2:], self._drawn[-2:], strict=True)]
        if self._flat:
            mask = volume.sampled(self._drawn, shape, shift.tolist()) > 0
            return _Grid(mask[None], shift.tolist(), [volume.depth])
        # One slice more on both sides, since the cell is moved by up to half a slice.
        shape.insert(0, ceil(size[0] / self._drawn[0]) + 2)
        masks = volume.sampled(self._drawn, shape, shift.tolist()) > 0
        used = np.flatnonzero(masks.any(axis=(1, 2)))
        if not len(used):
            return _Grid(masks, shift.tolist(), [])
        more = int(self.card.beyond)
        first, last = max(0, used[0] - more), min(len(masks) - 1, used[-1] + more)
        places = (np.arange(len(masks)) - (len(masks) - 1) / 2) * self._drawn[0] + shift[0]
        depths = np.abs(places[first : last + 1]) / (size[0] / 2)
        shift[0] += ((first + last) / 2 - (len(masks) - 1) / 2) * self._drawn[0]
        return _Grid(masks[first : last + 1], shift.tolist(), depths.tolist())

    def _cell(
        self, volume: Volume, grid: _Grid, image: NDArray[np.float32], source: str
    ) -> TexturedCell | None:
        """The cell at the spacing that is wanted; None if it is only a few voxels."""
        masks = grid.masks
        if self._flat:
            image, masks = image[0], masks[0]
        if self._drawn == self.spacing:
            return TexturedCell(masks, image, source) if masks.sum() >= LEAST_VOXELS else None
        ratio = np.array(self.spacing) / self._drawn
        shape = [max(1, round(n / r)) for n, r in zip(masks.shape, ratio, strict=True)]
        mask = volume.sampled(self.spacing, shape, grid.shift) > 0
        if mask.sum() < LEAST_VOXELS:
            return None
        places = [
            (np.arange(n) - (n - 1) / 2) * r + (m - 1) / 2
            for n, r, m in zip(shape, ratio, masks.shape, strict=True)
        ]
        points = np.stack(np.meshgrid(*places, indexing="ij"))
        return TexturedCell(
            mask, map_coordinates(image, points, order=1, mode="nearest").astype(np.float32), source
        )


def _is_whole(mask: NDArray[np.float32]) -> bool:
    """Whether a mask holds a cell that its border does not cut."""
    inside = mask > 0
    edge = np.concatenate([inside[0], inside[-1], inside[:, 0], inside[:, -1]])
    return bool(inside.sum() >= 16 and not edge.any())


def _middle_light(grid: _Grid, image: NDArray[np.float32]) -> float:
    """Mean grey value of the inner half of the middle section."""
    used = np.flatnonzero(grid.masks.any(axis=(1, 2)))
    middle = (used[0] + used[-1]) // 2
    return float(image[middle][inner_half(grid.masks[middle])].mean())


def _square(masks: NDArray[np.bool_], side: int) -> NDArray[np.bool_]:
    """The masks in the middle of squares, which the network can take."""
    square = np.zeros((len(masks), side, side), bool)
    _middle(square, masks.shape)[...] = masks
    return square


def _middle(square: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """The middle of the squares, with the height and width of ``shape``."""
    top, left = ((a - b) // 2 for a, b in zip(square.shape[1:], shape[1:], strict=True))
    return square[:, top : top + shape[1], left : left + shape[2]]


def _text(spacing: Sequence[float]) -> str:
    return " x ".join(f"{step:g}" for step in spacing)
