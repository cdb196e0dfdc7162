"""Where the members of a cell start: known shapes, made to fit the cell in closed form.

A known shape with a similar section is changed as a local regression of shapes on sections says (approximate
Bayesian computation with regression adjustment, Beaumont et al. 2002, Genetics 162, 2025), and then by the
least change that gives it the cell's own section, where the prior is Gaussian with the variance of the
known shapes: x + S A^T (A S A^T + s)^-1 (d - A x). Both are linear in the principal components, so that a
shape stays as smooth as the known ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_dispr import grid
from napari_dispr.diffusion.condition import MASK_TRUNCATION
from napari_dispr.diffusion.cosines import (
    MODES,
    Floats,
    cosines,
    cosines_at,
    mirrored,
    plane_coefficients,
    volume_of,
)
from napari_dispr.diffusion.known_shapes import (
    ANSWER_WEIGHT,
    IMAGE_WEIGHT,
    KnownShapes,
    Likely,
    Look,
    edge_of,
    look_of,
)
from napari_dispr.diffusion.samplers import NEARER, NEARER_OF_SEVERAL
from napari_dispr.planes import KnownPlane

#: A regression uses so many of the nearest shapes. Its ridge, in units of the mean square of a shape's look.
REGRESSED, RIDGE = 800, 10.0
#: Variance of the error of a section, of each cosine, and how often a section is fitted.
ERROR, ROUNDS = 1.0, 3
#: Share of the members of a cell with several known planes that start from noise alone: the two kinds of
#: members err differently, so that both together are better than either (docs/planes.md).
FROM_NOISE = 0.5
_IMAGE, _ANSWER = np.sqrt((IMAGE_WEIGHT, ANSWER_WEIGHT)).astype(np.float32)


def from_noise(planes: Sequence[KnownPlane], seed: int) -> bool:
    """Whether a member of a cell with these further planes starts from noise alone."""
    return bool(planes) and float(np.random.default_rng((seed, 2)).random()) < FROM_NOISE


def spread_evenly(number: int) -> float:
    """Van der Corput's sequence in base 5: the digits of the number in reverse order after the point."""
    share, unit = 0.0, 1.0
    while number:
        number, digit = divmod(number, 5)
        unit /= 5
        share += digit * unit
    return share


@dataclass(frozen=True, eq=False)
class Start:
    """The known shapes that are likely for a cell, and how they are made to fit it.

    Attributes
    ----------
    sections : Sections
        At the depths of the imaged plane and of all further planes.
    edges : (D, 64, 64)
        Signed distance from the edges of their masks in the frame of the look, in units of the truncation.
    """

    known: KnownShapes
    look: Look
    likely: Likely
    sections: "Sections"
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
        answer: Floats | None = None,
    ) -> Self | None:
        """For a cell with a section (64, 64) in the imaged plane, and further ones.

        ``answer`` (64, 64, 64) is what the network makes of noise alone. The result is None if no known cell
        has a similar section in the imaged plane.
        """
        look = look_of(mask, image, answer)
        masks = [mask, *(plane.mask for plane in planes)]
        edges = np.stack([edge_of(one, look.angle, truncation) for one in masks])
        sections = Sections(known, [0.0, *(plane.depth for plane in planes)])
        further = None
        if planes:  # the section in the imaged plane is compared with the look of the known ones
            unit = np.float32((truncation / MASK_TRUNCATION) ** 2)
            further = unit * Sections(known, [plane.depth for plane in planes]).apart(edges[1:])
        likely = known.likely(look, sized, further)
        return None if likely is None else cls(known, look, likely, sections, edges)

    def shape(self, seed: int) -> Floats:
        """One of them (64, 64, 64), fitted and turned as the cell; in units of the truncation.

        Of five consecutive seeds each takes one from another fifth of the distribution of the sizes, so that
        few members stand for all. For a random seed it is a random one.
        """
        order, cumulative = self._by_size
        passed = np.searchsorted(cumulative, spread_evenly(seed) * cumulative[-1], side="right")
        place = order[[min(int(passed), len(order) - 1)]]
        change = np.asarray((self._wanted - self._looks(place)) @ self._slopes, np.float32)
        scores = self.sections.fitted(self._scores(place) + change, self.edges)
        return volume_of(self.known.coefficients(scores[0]), self.look.angle)

    @cached_property
    def _by_size(self) -> tuple[NDArray[np.int_], NDArray[np.float64]]:
        """The places of the likely shapes by their mean signed distance when they fit, and probabilities.

        The latter are cumulative.
        """
        places, mean = np.arange(len(self.likely.numbers)), self.known.components[0]
        size = self._scores(places) @ mean + (self._wanted - self._looks(places)) @ (self._slopes @ mean)
        order = np.argsort(size, kind="stable")
        return order, self.likely.probability[order].cumsum()

    def _scores(self, places: NDArray[np.int_]) -> Floats:
        """Components (n, K) of likely shapes, mirrored as they are likely."""
        ways, numbers = self.likely.ways[places], self.likely.numbers[places]
        scores: Floats = self.known.shapes[numbers] * self.known.shape_unit
        return self.known.signs[ways] * scores

    @cached_property
    def _wanted(self) -> Floats:
        """How the cell looks, as `_looks`."""
        parts, image, answer = [self.look.mask.ravel()], self.look.image, self.look.answer
        if image is not None:
            parts.append(_IMAGE * image.ravel())
        if answer is not None:
            parts.append(_ANSWER * self.known.answer_of(answer))
        return np.concatenate(parts)

    def _looks(self, places: NDArray[np.int_]) -> Floats:
        """What likely shapes look like, (n, D): mask, image and answer, of which those that the cell has.

        The image of a shape without image is that of the cell.
        """
        known, ways, numbers = self.known, self.likely.ways[places], self.likely.numbers[places]
        parts = [known.plane_signs[ways] * known.mask_cosines[numbers]]
        if self.look.image is not None:
            images = _IMAGE * known.plane_signs[ways] * known.image_cosines[numbers]
            images[known.has_image[numbers] == 0] = _IMAGE * self.look.image.ravel()
            parts.append(images)
        if self.look.answer is not None:
            parts.append(_ANSWER * known.answer_signs[ways] * known.answer_scores[numbers])
        return np.concatenate(parts, axis=1)

    @cached_property
    def _slopes(self) -> Floats:
        """Change of the components with the look, (D, K), by ridge regression weighted by nearness."""
        near = np.argsort(self.likely.apart)[:REGRESSED]
        if self.look.image is not None:
            near = near[self.known.has_image[self.likely.numbers[near]] > 0]
        if len(near) < 2:
            return np.zeros((len(self._wanted), len(self.known.shape_unit)), np.float32)
        apart = self.likely.apart[near]
        weight = np.maximum(1 - apart / max(apart.max(), 1e-9), 1e-3).astype(np.float32)[:, None]
        weight /= weight.sum()
        looks, scores = self._looks(near), self._scores(near)
        looks, scores = (np.sqrt(weight) * (one - (weight * one).sum(axis=0)) for one in (looks, scores))
        ridge = RIDGE * (looks**2).sum() / len(near)
        return np.asarray(
            np.linalg.solve(looks.T @ looks + ridge * np.eye(looks.shape[1]), looks.T @ scores), np.float32
        )


class Sections:
    """The sections of known shapes at some depths, and the least change that gives them others.

    Parameters
    ----------
    depths : (D,)
        From the imaged plane, in voxels.
    """

    def __init__(self, known: KnownShapes, depths: ArrayLike) -> None:
        along_z = cosines_at(MODES, grid.IMAGED_PLANE + np.asarray(depths, np.float64))
        components = known.components.reshape(MODES, MODES**2, -1)
        read = np.einsum("dz,zpk->dpk", along_z, components, optimize=True)
        self._known = known
        self._read: Floats = read.reshape(-1, components.shape[-1])
        self._mean: Floats = (along_z @ known.mean.reshape(MODES, -1)).ravel()

    @cached_property
    def _products(self) -> Floats:
        """Of the sections of the components, (K, K)."""
        return self._read.T @ self._read

    @cached_property
    def _gain(self) -> Floats:
        """Change of the components with that of the cosines of the sections, (D * 256, K)."""
        # S A^T (A S A^T + s)^-1 = (S^-1 + A^T A / s)^-1 A^T / s, which does not grow with the sections.
        precision = self._products + np.diag(ERROR / np.maximum(self._known.variance, 1e-9))
        return np.asarray(np.linalg.solve(precision, self._read.T).T, np.float32)

    def apart(self, distances: Floats) -> Floats:
        """Squared differences of the cosines of the sections of each shape, mirrored in each way, (4, N).

        ``distances`` as in `fitted`.
        """
        waves = plane_coefficients(distances, 0.0, MODES)
        wanted = np.stack([mirrored(waves, way).ravel() for way in range(4)]) - self._mean
        scores = self._known.shapes * self._known.shape_unit
        norms = np.einsum("nk,nk->n", scores @ self._products, scores)
        squares = norms - 2 * (wanted @ self._read) @ scores.T + np.square(wanted).sum(axis=1)[:, None]
        return np.asarray(np.maximum(squares, 0), np.float32)

    def fitted(self, scores: Floats, distances: Floats) -> Floats:
        """Components (n, K) changed so that the sections are possible for these edges.

        Parameters
        ----------
        distances : (D, 64, 64)
            Signed distance from the edges of the sections, in units of the truncation. A surface may be
            nearer than the edge of the section, see `samplers.agree_with_sections`.
        """
        near = distances / (NEARER if len(distances) == 1 else NEARER_OF_SEVERAL)
        low, high = np.minimum(near, distances), np.maximum(near, distances)
        waves = cosines(MODES)
        for _ in range(ROUNDS):
            planes = (scores @ self._read.T + self._mean).reshape(len(scores), -1, MODES, MODES)
            sections = waves.T @ planes @ waves
            missing = plane_coefficients(np.clip(sections, low, high) - sections, 0.0, MODES)
            scores = scores + missing.reshape(len(scores), -1) @ self._gain
        return scores
