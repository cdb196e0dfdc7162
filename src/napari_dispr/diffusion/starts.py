"""Where the members of a cell start: known shapes, made to fit the cell in closed form.

A known shape with a similar section is changed as a local regression of shapes on sections says (approximate
Bayesian computation with regression adjustment, Beaumont et al. 2002, Genetics 162, 2025), and then by the
least change that gives it the cell's own sections, where the prior is Gaussian with the covariance S of the
known shapes: x + S A^T (A S A^T + s)^-1 (d - A x). With several sections, half of S is the covariance of the
nearest shapes, as in a hybrid ensemble Kalman filter (Hamill and Snyder 2000, Monthly Weather Review 128,
2905). Both changes are linear in the principal components, so that a shape stays as smooth as the known ones.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from napari_dispr import grid
from napari_dispr.diffusion.condition import MASK_TRUNCATION
from napari_dispr.diffusion.cosines import (
    MODES,
    Floats,
    all_mirrored,
    cosines,
    cosines_at,
    plane_coefficients,
    turned_planes,
    volume_of,
)
from napari_dispr.diffusion.known_shapes import (
    IMAGE_WEIGHT,
    KnownShapes,
    Likely,
    Look,
    edge_of,
    look_of,
)
from napari_dispr.diffusion.representatives import CANDIDATES, representative
from napari_dispr.diffusion.samplers import section_limits
from napari_dispr.planes import KnownPlane, ends, section_areas

#: A regression uses so many of the nearest shapes. Its ridge, in units of the mean square of a shape's look.
REGRESSED, RIDGE = 800, 10.0
#: Variance of the error of a section, of each cosine, and how often a section is fitted.
ERROR, ROUNDS = 1.0, 3
#: Shapes are fitted to several sections with a mixture of two covariances: this share of that of the nearest
#: shapes, the rest of that of all shapes.
LOCAL = 0.5
#: Weight of the squared differences of further sections when shapes are chosen.
FURTHER_WEIGHT = np.float32(0.3)
#: The same of the waves around the middle: of cells with spicules only such are likely, of smooth ones none.
WAVES_WEIGHT = np.float32(640)
#: Of five consecutive seeds of a cell with several known planes, these start from noise alone: the two kinds
#: of members err differently, so that both together are better than either (docs/planes.md).
FROM_NOISE = (1, 3)
#: What a network changes of a known shape is smoothed by a Gaussian of so many voxels.
DETAIL = 3.0
#: A cell whose middle is farther from the imaged plane than this share of the radius of its section is moved.
OFF_CENTRE = 0.4
_IMAGE = np.float32(np.sqrt(IMAGE_WEIGHT))


def from_noise(planes: Sequence[KnownPlane], seed: int) -> bool:
    """Whether a member of a cell with these further planes starts from noise alone."""
    return bool(planes) and seed % 5 in FROM_NOISE


def off_centre(mask: Floats, planes: Sequence[KnownPlane]) -> float:
    """How far the middle of a cell lies from its imaged plane, in voxels; 0 if not clearly apart."""
    if not planes:
        return 0.0
    middle = sum(ends(*section_areas(mask, planes))) / 2
    return middle if abs(middle) > OFF_CENTRE * np.sqrt(mask.sum() / np.pi) else 0.0


@dataclass(frozen=True, eq=False)
class Start:
    """The known shapes that are likely for a cell, and how they are made to fit it.

    Attributes
    ----------
    sections : Sections
        At the depths of the imaged plane and of all further planes, in the known shapes.
    shift : float
        Known shapes are moved along z by so many voxels, because the imaged plane is not the cell's middle.
    edges : (D, 64, 64)
        Signed distance from the edges of their masks in the frame of the look, in units of the truncation.
    """

    known: KnownShapes
    look: Look
    likely: Likely
    sections: "Sections"
    shift: float
    edges: Floats

    @classmethod
    def of(
        cls,
        known: KnownShapes,
        mask: Floats,
        image: Floats | None,
        planes: Sequence[KnownPlane],
        *,
        sized: bool,
        truncation: float,
    ) -> Self | None:
        """The start for a cell with a section (64, 64) in the imaged plane, and further ones.

        None if no known cell has a similar section in the imaged plane.
        """
        look = look_of(mask, image)
        masks = [mask, *(plane.mask for plane in planes)]
        edges = np.stack([edge_of(one, look.angle, truncation) for one in masks])
        shift = off_centre(mask, planes)
        depths = [depth - shift for depth in (0.0, *(plane.depth for plane in planes))]
        unit = np.float32((truncation / MASK_TRUNCATION) ** 2)
        # The section in the middle of a cell is compared with the look of the known ones.
        further = np.zeros(1, np.float32)
        if known.detailed and not shift:
            further = unit * WAVES_WEIGHT * known.waves_apart(edges[0])
        if planes:
            own = 0 if shift else 1
            further = further + unit * FURTHER_WEIGHT * Sections(known, depths[own:]).apart(edges[own:])
        likely = known.likely(look, sized, further, off_centre=bool(shift))
        sections = Sections.at(known, tuple(depths))
        return None if likely is None else cls(known, look, likely, sections, shift, edges)

    def shape(self, seed: int) -> Floats:
        """A known shape (64, 64, 64), fitted to the cell and turned like it; in units of the truncation.

        Consecutive seeds from a multiple of `CANDIDATES` on take shapes that together represent all likely
        ones. A random seed takes a random shape.
        """
        number, place = divmod(seed, CANDIDATES)
        if len(self.edges) > 1:  # members that start from noise take no candidate
            place = sum(one % 5 not in FROM_NOISE for one in range(place))
        scores = self._members(number)[place]
        scores = scores + self._missing(self.sections.of(scores))
        return volume_of(self.known.coefficients(scores), self.look.angle, shift=self.shift)

    def adjusted(self, shape: Floats, start: Floats) -> Floats:
        """The shape (64, 64, 64) that a network made of ``start``, with the fine details of ``start``.

        A network that learned to draw from noise takes spicules for noise. With several sections the shape
        is fitted to them, too.
        """
        changed = start + _smooth(shape - start) if self.known.detailed else shape
        return self.fitted(changed) if len(self.edges) > 1 else changed

    def fitted(self, shape: Floats) -> Floats:
        """Any shape (64, 64, 64), changed in the same way so that it has the sections of the cell."""
        planes = np.stack([grid.section(shape, depth) for depth in self.sections.depths + self.shift])
        change = self.known.components @ self._missing(turned_planes(planes, self.look.angle))
        change = change.reshape((MODES,) * 3)
        return shape + volume_of(change, self.look.angle, outside=0.0, shift=self.shift)

    def _missing(self, sections: Floats) -> Floats:
        """The least change of the components (K,) that makes sections (D, 64, 64) possible for the edges.

        A surface may be nearer than the edge of the section, see `samplers.section_limits`.
        """
        low, high = self._limits
        change = np.zeros(len(self.known.shape_unit), np.float32)
        for _ in range(ROUNDS):
            missing = np.clip(sections, low, high) - sections
            step = plane_coefficients(missing, 0.0, MODES).ravel() @ self._gain
            change, sections = change + step, sections + self.sections.change(step)
        return change

    @cached_property
    def _limits(self) -> tuple[Floats, Floats]:
        low, high = section_limits(torch.from_numpy(self.edges))
        return low.numpy(), high.numpy()

    @cached_property
    def _gain(self) -> Floats:
        """Change of the components with that of the cosines of the sections, (D * 256, K)."""
        if len(self.edges) == 1:
            return self.sections.gain_of_all
        near, weight = self._near
        scores = _centred(self._scores(near), weight).astype(np.float64)
        return self.sections.gain(LOCAL * scores.T @ scores + (1 - LOCAL) * self.known.covariance)

    @cached_property
    def _by_size(self) -> tuple[NDArray[np.int_], NDArray[np.float64]]:
        """Places of the likely shapes, by their size once they fit, and their cumulative probabilities.

        Size is the mean signed distance.
        """
        looks, near, factor = self._regression
        slopes = _solved(factor, looks.T @ (near @ self.known.components[:1].T))[:, 0]
        change = (self._wanted - self._looks(np.arange(len(self.likely.numbers)))) @ slopes
        order = np.argsort(self.known.sizes[self.likely.numbers] + change, kind="stable")
        return order, self.likely.probability[order].cumsum()

    @cached_property
    def _members(self) -> Callable[[int], Floats]:
        """`_chosen`, which is called with the same number for all members of a cell."""
        return lru_cache(maxsize=1)(self._chosen)

    def _chosen(self, number: int) -> Floats:
        """Components (n, K) of likely shapes, changed by the regression, in the order of members.

        They are candidates at even distances in the distribution of sizes; ``number`` says where they begin.
        """
        order, cumulative = self._by_size
        begin = np.random.default_rng(number).random()
        shares = (np.arange(CANDIDATES) + begin) / CANDIDATES * cumulative[-1]
        places = order[np.minimum(np.searchsorted(cumulative, shares, side="right"), len(order) - 1)]
        looks, near, factor = self._regression
        change = _solved(factor, (self._wanted - self._looks(places)).T).T @ looks.T @ near
        scores = np.asarray(self._scores(places) + change, np.float32)
        return scores[representative(self.known.unlike(scores))]

    def _scores(self, places: NDArray[np.int_]) -> Floats:
        """Components (n, K) of likely shapes, mirrored as they are likely."""
        ways, numbers = self.likely.ways[places], self.likely.numbers[places]
        scores: Floats = self.known.shapes[numbers] * self.known.shape_unit
        return self.known.signs[ways] * scores

    @cached_property
    def _wanted(self) -> Floats:
        """What the cell looks like, in the form of `_looks`."""
        mask, image = self.look.mask.ravel(), self.look.image
        return mask if image is None else np.concatenate([mask, _IMAGE * image.ravel()])

    def _looks(self, places: NDArray[np.int_]) -> Floats:
        """What likely shapes look like, (n, D): the mask and, if the cell has one, the image.

        The image of a shape without image is that of the cell.
        """
        known, ways, numbers = self.known, self.likely.ways[places], self.likely.numbers[places]
        masks = known.plane_signs[ways] * known.mask_cosines[numbers]
        if self.look.image is None:
            return masks
        images = _IMAGE * known.plane_signs[ways] * known.image_cosines[numbers]
        images[known.has_image[numbers] == 0] = _IMAGE * self.look.image.ravel()
        return np.concatenate([masks, images], axis=1)

    @cached_property
    def _regression(self) -> tuple[Floats, Floats, Tensor]:
        """Ridge regression of the components on the look, weighted by nearness, without the last product.

        Looks (n, D) and components (n, K) of the nearest shapes, centred, and the Cholesky factor of a (D, D)
        matrix: a change d of the look changes the components by ``_solved(factor, d) @ looks.T @
        components``. All slopes, (D, K), would take longer than the few changes that are needed.
        """
        near, weight = self._near
        if len(near) < 2 or self.shift:  # known looks are those of the middle
            near, weight = near[:0], weight[:0]
        looks, scores = (_centred(one, weight) for one in (self._looks(near), self._scores(near)))
        spread = float((looks**2).sum()) / max(len(near), 1)
        ridge = RIDGE * spread if spread else 1.0
        matrix = looks.T @ looks + ridge * np.eye(looks.shape[1])
        return looks, scores, torch.linalg.cholesky(torch.from_numpy(matrix))

    @cached_property
    def _near(self) -> tuple[NDArray[np.int_], Floats]:
        """Places of the nearest shapes, and their weights (n, 1), which decrease with the difference."""
        near = np.argsort(self.likely.apart)[:REGRESSED]
        if self.look.image is not None:
            near = near[self.known.has_image[self.likely.numbers[near]] > 0]
        apart = self.likely.apart[near]
        weight = np.maximum(1 - apart / max(apart.max(initial=0), 1e-9), 1e-3).astype(np.float32)[:, None]
        return near, weight / max(weight.sum(), 1e-9)


def _solved(factor: Tensor, values: Floats) -> NDArray[np.float64]:
    """The solutions (D, n) of linear equations with a matrix of this Cholesky factor, (D, D)."""
    return torch.cholesky_solve(torch.from_numpy(values).double(), factor).numpy()


def _smooth(volume: Floats) -> Floats:
    """A volume (64, 64, 64) without details finer than `DETAIL`."""
    blur = gaussian_filter1d(np.eye(grid.SIZE, dtype=np.float32), DETAIL, mode="nearest")
    for _ in range(volume.ndim):
        volume = np.tensordot(volume, blur, (0, 0))  # the next axis is first then
    return volume


def _centred(rows: Floats, weight: Floats) -> Floats:
    """Rows (n, D) less their weighted mean, times the roots of the weights (n, 1)."""
    return np.asarray(np.sqrt(weight) * (rows - (weight * rows).sum(axis=0)), np.float32)


class Sections:
    """The sections of known shapes at some depths from the imaged plane, in voxels."""

    @classmethod
    @lru_cache(maxsize=1)  # most cells have one section, in the imaged plane
    def at(cls, known: KnownShapes, depths: tuple[float, ...]) -> Self:
        return cls(known, depths)

    def __init__(self, known: KnownShapes, depths: Sequence[float]) -> None:
        along_z = cosines_at(MODES, grid.IMAGED_PLANE + np.asarray(depths, np.float64))
        components = known.components.reshape(MODES, MODES**2, -1)
        read = np.einsum("dz,zpk->dpk", along_z, components, optimize=True)
        self.depths = np.asarray(depths, np.float64)
        #: Cosines of the sections of the components, (D * 256, K).
        self.read: Floats = read.reshape(-1, components.shape[-1])
        self._known = known
        self._mean: Floats = (along_z @ known.mean.reshape(MODES, -1)).ravel()

    @cached_property
    def gain_of_all(self) -> Floats:
        """`gain` with the covariance of all known shapes."""
        return self.gain(self._known.covariance)

    def gain(self, covariance: NDArray[np.float64]) -> Floats:
        """Change of the components with that of the cosines of the sections, (D * 256, K)."""
        # S A^T (A S A^T + s)^-1 = (S^-1 + A^T A / s)^-1 A^T / s, which does not grow with the sections.
        precision = np.linalg.inv(covariance) + self.read.T @ self.read / ERROR
        return np.asarray(np.linalg.solve(precision, self.read.T / ERROR).T, np.float32)

    def of(self, scores: Floats) -> Floats:
        """The sections (D, 64, 64) of the shape with components (K,)."""
        return _pictures(self.read @ scores + self._mean)

    def change(self, scores: Floats) -> Floats:
        """Change of the sections with that of the components."""
        return _pictures(self.read @ scores)

    def apart(self, distances: Floats) -> Floats:
        """Squared differences of the cosines of the sections of each shape, mirrored in each way, (4, N).

        ``distances`` (D, 64, 64) are signed distances from the edges of the sections, in units of the
        truncation.
        """
        wanted = all_mirrored(plane_coefficients(distances, 0.0, MODES)) - self._mean
        scores = self._known.shapes * self._known.shape_unit
        norms = np.einsum("nk,nk->n", scores @ (self.read.T @ self.read), scores)
        squares = norms - 2 * (wanted @ self.read) @ scores.T + np.square(wanted).sum(axis=1)[:, None]
        return np.asarray(np.maximum(squares, 0), np.float32)


def _pictures(coefficients: Floats) -> Floats:
    """Pictures (D, 64, 64) of cosines (D * 256,)."""
    waves = cosines(MODES)
    return np.asarray(waves.T @ coefficients.reshape(-1, MODES, MODES) @ waves, np.float32)
