"""A small segmenter, trained from scratch on annotated images: does more training data help?

A 2D U-Net predicts for each pixel whether it lies in a cell and how far it is from the edge; a watershed
makes cells of both. Stacks are predicted slice by slice, and the watershed is in 3D, which links the slices.
"""

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter, label, zoom
from skimage.morphology import local_maxima, reconstruction
from skimage.segmentation import find_boundaries, watershed
from torch import Tensor

from napari_dispr.diffusion.devices import choose, fast_dtype
from napari_dispr.diffusion.network import PlaneNetworkConfig, UNet, seeded
from napari_dispr.diffusion.optimisation import Trained, average_decay, warm_and_decayed
from napari_dispr.errors import InputError
from napari_dispr.synthesis.annotated import Annotated, grey_range
from napari_dispr.synthesis.settings import JudgeSettings

Floats = NDArray[np.float32]

#: Pixels are folded 2 x 2 into channels, so that a step takes a third of a second on one core.
_NETWORK = PlaneNetworkConfig(
    num_channels=32,
    channel_mult=(1, 2, 3),
    attention_downsamplings=(),
    num_head_channels=32,
    in_channels=1,
    out_channels=2,
    fold=2,
)
#: Learning rates of Muon and AdamW; shares of the steps in which they rise and fall.
_RATES, _RISE, _FALL = (0.01, 1e-3), 0.05, 0.5
#: At most this many slices are kept of all images of a set.
_MOST_SLICES = 1500
#: Markers of cells: smoothing as a share of the diameter. Between two of them the distance from the edge
#: falls by this share of a typical radius; between the slices of one cell it falls less.
_SMOOTH, _FALLS = 0.08, 0.2
#: Smaller parts than this share of a typical cell are no cells.
_SMALLEST = 0.05


@dataclass(frozen=True, slots=True)
class Trial:
    """A training step of a segmenter: ``done`` of ``total`` steps, with the loss."""

    what: str
    done: int
    total: int
    loss: float


@dataclass(frozen=True, slots=True)
class Resized:
    """How images are resized for the network: the median ``diameter`` of the cells, in the unit of the
    spacing, is so many ``pixels``.
    """

    diameter: float
    pixels: float

    def zoom(self, spacing: Sequence[float]) -> float:
        """Factor by which planes with this spacing are resized; they are never enlarged."""
        return min(1.0, self.pixels * float(np.mean(spacing[-2:])) / self.diameter)

    def radius(self, spacing: Sequence[float]) -> float:
        """Typical radius of a cell in pixels of a resized plane with this spacing."""
        return self.zoom(spacing) * self.diameter / float(np.mean(spacing[-2:])) / 2


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """A resized slice and what the network shall predict.

    Attributes
    ----------
    image : (y, x) float32
        Normalised by percentiles of the whole image.
    target : (2, y, x) float32
        1 in cells; distance from the edge as a share of a typical radius, from -1 (outside) to 1.
    """

    image: Floats
    target: Floats


def resized_for(images: Sequence[Annotated], pixels: float) -> Resized:
    """How to resize images so that the median cell of these has a diameter of ``pixels``.

    Raises an InputError if the images hold no cell.
    """
    diameters = []
    for one in images:
        areas: dict[int, int] = {}
        for plane in np.atleast_3d(one.labels.T).T:
            values, counts = np.unique(plane[plane > 0], return_counts=True)
            for value, count in zip(values.tolist(), counts.tolist(), strict=True):
                areas[value] = max(areas.get(value, 0), count)
        pixel = float(np.mean(one.spacing[-2:]))
        diameters += [pixel * float(np.sqrt(4 * area / np.pi)) for area in areas.values()]
    if not diameters:
        raise InputError("The labels of the real training images hold no cell: annotate some cells.")
    return Resized(float(np.median(diameters)), pixels)


def normalised(image: NDArray[Any], limits: tuple[float, float]) -> Floats:
    """The image with these grey values at 0 and 1."""
    low, high = limits
    return np.clip((image.astype(np.float32) - low) / max(high - low, 1e-6), -0.5, 2).astype(np.float32)


def examples_of(images: Iterable[Annotated], resized: Resized) -> list[Example]:
    """Training examples from the slices of images that hold labels."""
    found: list[Example] = []
    for one in images:
        factor, radius = resized.zoom(one.spacing), resized.radius(one.spacing)
        image = normalised(one.image, grey_range(one.image))
        volume, labels = np.atleast_3d(image.T).T, np.atleast_3d(one.labels.T).T
        for z in one.slices:
            if labels[z].any():
                found.append(
                    Example(_shrunk(volume[z], factor), _target(_nearest(labels[z], factor), radius))
                )
    if len(found) > _MOST_SLICES:
        chosen = np.random.default_rng(0).permutation(len(found))[:_MOST_SLICES]
        found = [found[i] for i in np.sort(chosen)]
    return found


def _shrunk(plane: Floats, factor: float) -> Floats:
    if factor == 1:
        return plane
    return zoom(gaussian_filter(plane, (1 / factor - 1) / 2), factor, order=1, mode="nearest", grid_mode=True)


def _nearest(labels: NDArray[Any], factor: float) -> NDArray[Any]:
    return labels if factor == 1 else zoom(labels, factor, order=0, mode="nearest", grid_mode=True)


def _target(labels: NDArray[Any], radius: float) -> Floats:
    """What the network shall predict of a labelled plane."""
    cells = labels > 0
    # Where two cells touch, the distance is 0 between them.
    inner = distance_transform_edt(cells & ~find_boundaries(labels, mode="inner", connectivity=1)) + cells
    outer = distance_transform_edt(~cells)
    distance = np.clip((inner - outer) / radius, -1, 1)
    return np.stack([cells, distance]).astype(np.float32)


class Segmenter:
    """A trained network that segments 2D images and stacks."""

    def __init__(self, network: UNet, resized: Resized, crop: int) -> None:
        self.network, self.resized, self.crop = network.eval(), resized, crop

    def maps(
        self, image: NDArray[Any], spacing: Sequence[float], limits: tuple[float, float] | None = None
    ) -> Floats:
        """Probability of a cell and distance from its edge, (2, ...), of an image (z, y, x) or (y, x).

        ``spacing`` is in the unit of the training images; ``limits`` is the `grey_range` of the stack of
        which the image is a slice.
        """
        factor = self.resized.zoom(spacing)
        planes = np.atleast_3d(normalised(image, limits or grey_range(image)).T).T
        maps = np.stack([self._maps(_shrunk(plane, factor)) for plane in planes], axis=1)
        maps = maps.reshape(2, *image.shape[:-2], *maps.shape[-2:])
        if maps.shape[1:] != image.shape:
            back = [1.0] * (maps.ndim - 2) + [image.shape[a] / maps.shape[a] for a in (-2, -1)]
            maps = zoom(maps, back, order=1, mode="nearest", grid_mode=True)
        return maps

    def cells(self, maps: Floats, spacing: Sequence[float]) -> NDArray[np.int32]:
        """The cells of `maps`, which may be those of one slice of a stack."""
        return cells_from(maps[0] > 0.5, maps[1], self.resized.diameter / np.asarray(spacing, float))

    def _maps(self, plane: Floats) -> Floats:
        """Probability of a cell, and distance, (2, y, x): the mean of overlapping tiles."""
        side = self.crop
        height, width = plane.shape
        padded = np.pad(plane, [(0, max(0, side - n)) for n in plane.shape], mode="symmetric")
        starts = [
            sorted({*range(0, n - side, side * 2 // 3), n - side}) for n in padded.shape
        ]  # the last tile ends at the border
        tiles = [(y, x) for y in starts[0] for x in starts[1]]
        ramp = np.minimum(np.arange(side) + 1, side - np.arange(side)).astype(np.float32)
        weight = np.outer(ramp, ramp)
        total = np.zeros((3, *padded.shape), np.float32)
        device = next(self.network.parameters()).device
        for first in range(0, len(tiles), 8):
            group = tiles[first : first + 8]
            batch = np.stack([padded[None, y : y + side, x : x + side] for y, x in group])
            with torch.inference_mode():
                out = self.network(torch.from_numpy(batch).to(device), torch.zeros(len(group), device=device))
            for (y, x), one in zip(group, out.float().cpu().numpy(), strict=True):
                window = total[:, y : y + side, x : x + side]
                window[0] += weight / (1 + np.exp(-one[0]))
                window[1] += weight * one[1]
                window[2] += weight
        return (total[:2] / total[2])[:, :height, :width]


def cells_from(
    foreground: NDArray[np.bool_], distance: Floats, diameter: NDArray[np.float64]
) -> NDArray[np.int32]:
    """Cells by a watershed, from arrays (z, y, x) or (y, x).

    ``diameter`` (ndim,) is the typical one of a cell along each axis, in voxels.
    """
    smooth = gaussian_filter(distance, _SMOOTH * diameter)
    filled = reconstruction(smooth - _FALLS, smooth)
    markers, _ = label(local_maxima(filled) & (filled > -_FALLS), np.ones((3,) * smooth.ndim))
    cells: NDArray[np.int32] = watershed(-smooth, markers, mask=foreground)
    typical = np.prod(diameter) * (np.pi / 6 if cells.ndim == 3 else np.pi / 4)
    sizes = np.bincount(cells.ravel())
    keep = sizes >= _SMALLEST * typical
    keep[0] = False
    numbers = np.where(keep, np.cumsum(keep), 0).astype(np.int32)
    return numbers[cells]


def iter_train_segmenter(
    sets: Sequence[Sequence[Example]], resized: Resized, settings: JudgeSettings, seed: int, what: str = ""
) -> Generator[Trial, None, Segmenter]:
    """Train a segmenter from scratch, with an event after each step.

    Each of the ``sets`` has the same share of every batch. ``seed`` is that of the weights, crops and their
    augmentation.
    """
    device = choose(settings.device)
    with seeded(seed):
        network = UNet(_NETWORK)
    trained = Trained(network.to(device), *_RATES)
    mixed = fast_dtype(device) is torch.bfloat16
    rng = np.random.default_rng((seed, 1))
    for step in range(settings.steps):
        crops = [_crop(sets[i % len(sets)], settings.crop, rng) for i in range(step, step + settings.batch)]
        image, target = (
            torch.from_numpy(np.stack([crop[part] for crop in crops])).to(device) for part in (0, 1)
        )
        with torch.autocast(device.type, torch.bfloat16, enabled=mixed):
            out = trained.network(image, torch.zeros(len(image), device=device))
        loss = _loss(out.float(), target)
        loss.backward()
        rate = warm_and_decayed(step, step / settings.steps, int(_RISE * settings.steps), _FALL)
        trained.apply(rate, 1.0, average_decay(0.98, step))
        yield Trial(what, step + 1, settings.steps, float(loss.detach()))
    return Segmenter(trained.average, resized, settings.crop)


def _loss(out: Tensor, target: Tensor) -> Tensor:
    """Cross entropy of the foreground, and mean absolute error of the distance."""
    entropy = F.binary_cross_entropy_with_logits(out[:, 0], target[:, 0])
    return entropy + F.l1_loss(out[:, 1], target[:, 1])


def _crop(examples: Sequence[Example], side: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """A random crop (1, side, side) and its target, mirrored, turned, and with another contrast."""
    one = examples[int(rng.integers(len(examples)))]
    both = np.concatenate([one.image[None], one.target])
    both = np.pad(both, [(0, 0), *((0, max(0, side - n)) for n in both.shape[1:])], mode="symmetric")
    y, x = (int(rng.integers(n - side + 1)) for n in both.shape[1:])
    both = np.rot90(both[:, y : y + side, x : x + side], int(rng.integers(4)), (1, 2))
    if rng.random() < 0.5:
        both = both[:, ::-1]
    image = both[:1] * np.float32(rng.uniform(0.7, 1.4)) + np.float32(rng.uniform(-0.1, 0.1))
    image = image + np.float32(rng.uniform(0, 0.05)) * rng.standard_normal(image.shape, np.float32)
    return np.ascontiguousarray(image), np.ascontiguousarray(both[1:])


def seg_scores(truth: NDArray[Any], found: NDArray[Any]) -> NDArray[np.float64]:
    """SEG of the Cell Tracking Challenge for each true cell, in the order of their labels; its mean is the
    score of the image.

    A true cell R and a segment S match if ``|R and S| > |R| / 2``. Then the score is their intersection over
    their union, and otherwise 0.
    """
    names, true = np.unique(truth, return_inverse=True)
    others, own = np.unique(found, return_inverse=True)
    counts = np.zeros((len(names), len(others)), np.int64)
    np.add.at(counts, (true.ravel(), own.ravel()), 1)
    of_truth, of_found = counts.sum(axis=1), counts.sum(axis=0)
    scores = []
    for row in np.flatnonzero(names != 0):
        matches = [
            counts[row, column] / (of_truth[row] + of_found[column] - counts[row, column])
            for column in np.flatnonzero(others != 0)
            if 2 * counts[row, column] > of_truth[row]
        ]
        scores.append(float(matches[0]) if matches else 0.0)
    return np.array(scores)
