"""Known shapes, from which sampling starts: cells whose section looks like that of the cell to draw.

At high noise the best denoiser of a set of shapes is known in closed form: it chooses among these shapes
(Scarvelis et al., arXiv 2310.12395). So a member starts from the shape of a known cell with a similar
section, under noise (SDEdit, Meng et al., arXiv 2108.01073), and the network only has to fit it to the
picture. That takes fewer evaluations, and members are as smooth and as folded as cells are.

Cells are compared by mask and image. Shapes and sections are kept as cosines, in the frame in which the long
axis of the mask lies along x.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property, lru_cache
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_dispr import grid
from napari_dispr.diffusion.condition import MASK_TRUNCATION, mask_distance, normalise_inside
from napari_dispr.diffusion.cosines import (
    MODES,
    PLANE_MODES,
    Floats,
    all_mirrored,
    cosines_at,
    plane_coefficients,
    turned_planes,
)

#: Weight of the squared difference of images against that of masks.
IMAGE_WEIGHT = 2.0
#: Nine tenths of the known cells are within some distance of another known cell. A known cell is similar to a
#: new one within this many times that distance.
FAR = 2.0
#: So many of the nearest shapes are likely for a cell, in effect; this share of them if there are few.
LIKELY, LIKELY_SHARE = 100.0, 0.05
#: The time of rectified flow at which a known shape enters, unless a model has another. Later ones are
#: smoother and look more like cells; earlier ones leave more to the network.
START = 0.6
#: Only this many of the nearest shapes can be likely.
_NEAR = 2000

#: Width of the soft edge of shapes that are compared voxel by voxel, in units of the truncation.
_EDGE = 0.5

#: Radii, in voxels, of the circles around the middle of a section on which its waves are read, and numbers
#: of waves on a circle. Fewer make up the whole outline, which is compared voxel by voxel.
_CIRCLES, _WAVES = np.arange(4.0, 30.0, 2.0), np.arange(3, 17)
#: Shapes have details if the amplitude of seven and more waves is larger, at the median: .24 in
#: `red-blood-cell`, .12 in `generic`, whose nuclei are smooth.
_FINE, _DETAILED = 7, 0.18

#: The cosines (16, 16) that are odd in y, and in x.
_ODD = np.indices((MODES, MODES)) % 2 == 1


class Look(NamedTuple):
    """What a cell looks like in its frame.

    ``angle`` is that of the long axis of the mask, from x towards y. ``mask`` and ``image`` (12, 12) are
    cosines (y, x) of the signed distance from the edge of the mask, and of the normalised image.
    """

    angle: float
    mask: Floats
    image: Floats | None


def look_of(mask: Floats, image: Floats | None) -> Look:
    """The look of a mask and an image, (64, 64)."""
    angle = long_axis(mask)
    seen = normalise_inside(image, mask)
    return Look(
        angle,
        plane_coefficients(mask_distance(mask), angle),
        None if seen is None else plane_coefficients(seen, angle),
    )


def waves_of(sections: Floats) -> Floats:
    """Amplitudes (N, 14) of the waves of sections around their middle, from their cosines (N, 256).

    They do not depend on where around a cell its spicules and folds are. Compared voxel by voxel, a section
    with spicules is more similar to a smooth one than to one with spicules elsewhere.
    """
    found = np.abs(sections @ _circular().reshape(-1, sections.shape[-1]).T)
    return np.asarray(np.sqrt((found.reshape(len(sections), len(_CIRCLES), -1) ** 2).sum(axis=1)), np.float32)


@lru_cache(maxsize=1)
def _circular() -> NDArray[np.complex64]:
    """Products of cosines of y and x with waves on the circles, (circle, wave, 256)."""
    angle = np.arange(64) * 2 * np.pi / 64
    y, x = (
        cosines_at(MODES, grid.CENTRE + (_CIRCLES[:, None] * along).ravel()).reshape(len(_CIRCLES), -1, MODES)
        for along in (np.sin(angle), np.cos(angle))
    )
    turning = np.exp(1j * _WAVES[:, None] * angle).astype(np.complex64) / len(angle)
    products = np.einsum("ka,raj,rai->rkji", turning, y, x, optimize=True)
    return products * np.sqrt(_CIRCLES, dtype=np.float32)[:, None, None, None]


def edge_of(mask: Floats, angle: float, truncation: float) -> Floats:
    """Signed distance (64, 64) from the edge of a mask, turned, in units of a truncation, from -1 to 1."""
    distance = mask_distance(mask) * np.float32(MASK_TRUNCATION / truncation)
    return np.asarray(turned_planes(np.clip(distance, -1, 1), angle), np.float32)


def long_axis(mask: Floats) -> float:
    """Angle of the long axis of a mask, from x towards y, radians."""
    y, x = np.nonzero(mask > 0.5)
    if not len(y):
        return 0.0
    (yy, xy), (_, xx) = np.cov(y, x, bias=True) if len(y) > 1 else np.eye(2)
    return float(0.5 * np.arctan2(2 * xy, xx - yy))


class Likely(NamedTuple):
    """The known shapes that are nearest to a cell, by their numbers, each with its probability.

    ``ways`` says how a shape is mirrored: 1 along x, 2 along y, 3 along both; ``apart`` is the squared
    difference of its look, above the least.
    """

    ways: NDArray[np.int_]
    numbers: NDArray[np.int_]
    apart: Floats
    probability: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class KnownShapes:
    """Shapes of known cells, and the sections that they had; N shapes of K components, in 8 bit, with their
    units.

    Attributes
    ----------
    mean : (4096,) float32
        Cosines (z, y, x) of the mean shape, signed distance in units of the truncation.
    basis : (4096, K) float16
        Principal components of the shapes, orthonormal, each even or odd in y and in x.
    masks, images : (N, 144) int8
        Cosines of sections.
    has_image, sized : (N,) uint8
        Whether there is an image, and whether the cell has its true size; the others have one size.
    farthest : (1,) float32
        Squared difference of masks within which a known cell is similar enough to be fitted.
    start : (1,) float32
        The time at which a shape enters. The smaller it is, the less of the shape changes.
    """

    mean: Floats
    basis: NDArray[np.float16]
    shapes: NDArray[np.int8]
    shape_unit: Floats
    masks: NDArray[np.int8]
    mask_unit: Floats
    images: NDArray[np.int8]
    image_unit: Floats
    has_image: NDArray[np.uint8]
    sized: NDArray[np.uint8]
    farthest: Floats
    start: Floats

    def __post_init__(self) -> None:
        number, size = self.shapes.shape
        wanted: dict[str, tuple[tuple[int, ...], str]] = {
            "mean": ((MODES**3,), "float32"),
            "basis": ((MODES**3, size), "float16"),
            "shapes": ((number, size), "int8"),
            "shape_unit": ((size,), "float32"),
            "masks": ((number, PLANE_MODES**2), "int8"),
            "mask_unit": ((1,), "float32"),
            "images": ((number, PLANE_MODES**2), "int8"),
            "image_unit": ((1,), "float32"),
            "has_image": ((number,), "uint8"),
            "sized": ((number,), "uint8"),
            "farthest": ((1,), "float32"),
            "start": ((1,), "float32"),
        }
        for name, (shape, kind) in wanted.items():
            array = getattr(self, name)
            if array.shape != shape or array.dtype != kind or not number:
                raise ValueError(f"{name} of the known shapes has the wrong form")
            if kind.startswith("float") and not np.isfinite(array).all():
                raise ValueError(f"{name} of the known shapes is not finite")
        if not 0 < self.start[0] <= 1:
            raise ValueError("the start of the known shapes is no time")

    @classmethod
    def of(
        cls,
        shapes: ArrayLike,
        looks: Sequence[Look],
        sized: ArrayLike,
        groups: Sequence[Any],
        components: int = 512,
    ) -> Self:
        """Compress the shapes (N, 16, 16, 16) of `coefficients_of`, and the looks, of cells.

        ``sized`` says whether a cell has its true size; ``groups`` are equal for versions of one cell. Of the
        principal ``components`` no more than this number is kept.
        """
        centred = np.asarray(shapes, np.float32).reshape((-1, *(MODES,) * 3))
        # The mirrored shapes are known, too: their mean is even in y and x.
        mean = np.where(_ODD[0] | _ODD[1], np.float32(0), centred.mean(axis=0))
        centred = centred - mean
        basis = _principal(centred, components)
        masks = np.stack([look.mask.ravel() for look in looks])
        images = np.stack(
            [np.zeros_like(look.mask.ravel()) if look.image is None else look.image.ravel() for look in looks]
        )
        scores, shape_unit = _eight_bit(centred.reshape(len(looks), -1) @ basis.astype(np.float32), each=True)
        (masks8, mask_unit), (images8, image_unit) = _eight_bit(masks), _eight_bit(images)
        return cls(
            mean.ravel(),
            basis,
            scores,
            shape_unit,
            masks8,
            mask_unit,
            images8,
            image_unit,
            np.array([look.image is not None for look in looks], np.uint8),
            np.asarray(sized).astype(np.uint8),
            np.array([_usual_distance(masks, groups)], np.float32),
            np.array([START], np.float32),
        )

    # --- files ------------------------------------------------------------------------------------

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All fields by name, for a model file."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """The inverse of `arrays`; a ValueError or KeyError if they are none. Other arrays are ignored."""
        return cls(**{field.name: arrays[field.name] for field in fields(cls)})

    # --- use --------------------------------------------------------------------------------------

    def likely(
        self, look: Look, sized: bool, further: ArrayLike = 0.0, off_centre: bool = False
    ) -> Likely | None:
        """The shapes that are most likely for a cell; None if no known cell is similar.

        Parameters
        ----------
        sized : bool
            Whether the cell has its true size on the grid.
        further : (4, N) or (N,), optional
            Squared differences in other respects.
        off_centre : bool
            The look is not that of the middle of the cell, as those of the shapes are: only ``further``
            decides.
        """
        there = self.sized == sized
        if not there.any():
            return None
        apart = _squares(self.mask_cosines, all_mirrored(look.mask))
        if apart[:, there].min() > self.farthest[0]:
            return None
        if off_centre:
            apart[:] = 0
        elif look.image is not None and self.has_image.any():
            other = _squares(self.image_cosines, all_mirrored(look.image))
            with_image = self.has_image > 0
            # Cells without image may have any.
            other[:, ~with_image] = np.median(other[:, with_image])
            apart += IMAGE_WEIGHT * other
        apart += np.asarray(further, np.float32)
        apart[:, ~there] = np.inf
        apart = apart.ravel()
        near = np.argpartition(apart, _NEAR)[:_NEAR] if len(apart) > _NEAR else np.arange(len(apart))
        near = near[np.isfinite(apart[near])]
        ways, numbers = np.divmod(near, len(self.sized))
        apart = apart[near] - apart[near].min()
        return Likely(ways, numbers, apart, _softened(apart))

    def waves_apart(self, section: Floats) -> Floats:
        """Squared differences (N,) of the waves of each shape's section from those of a section (64, 64)."""
        own = waves_of(plane_coefficients(section, 0.0, MODES).reshape(1, -1))
        return np.square(self._waves - own).sum(axis=1)

    @cached_property
    def detailed(self) -> bool:
        """Whether many of the shapes have spicules or folds."""
        fine = np.linalg.norm(self._waves[:, _WAVES >= _FINE], axis=1)
        return float(np.median(fine)) > _DETAILED

    @cached_property
    def _waves(self) -> Floats:
        """Waves of the imaged plane of each shape, (N, 14)."""
        along_z = cosines_at(MODES, [grid.IMAGED_PLANE])[0]
        mean, components = (
            np.tensordot(along_z, one.reshape(MODES, MODES**2, -1), 1) for one in (self.mean, self.components)
        )
        return waves_of((self.shapes * self.shape_unit) @ components.T + mean.T)

    def coefficients(self, scores: Floats) -> Floats:
        """Coefficients (16, 16, 16) of the shape with components (K,)."""
        return (self.mean + self.components @ scores).reshape((MODES,) * 3)

    def unlike(self, scores: Floats) -> Floats:
        """How different the shapes with components (n, K) are, (n, n), from 0 to 1.

        1 - Tanimoto coefficient, an IoU of shapes with soft edges, at every fourth voxel.
        """
        waves = cosines_at(MODES, np.arange(1.5, grid.SIZE, 4))
        inside = (self.mean[:, None] + self.components @ scores.T).reshape(*(MODES,) * 3, -1)
        for _ in range(3):  # the next axis is first then
            inside = np.tensordot(inside, waves, (0, 1))
        inside = np.clip(inside.reshape(len(scores), -1) / _EDGE + 0.5, 0, 1)
        both = inside @ inside.T
        sizes = both.diagonal()
        either = np.maximum(sizes + sizes[:, None] - both, 1e-9)  # two empty shapes are unlike
        return np.asarray(1 - both / either, np.float32)

    @cached_property
    def components(self) -> Floats:
        """The principal components, (4096, K)."""
        return self.basis.astype(np.float32)

    @property
    def covariance(self) -> NDArray[np.float64]:
        """Covariance of the components, (K, K): diagonal, without zeros on the diagonal."""
        variance = np.square(self.shapes, dtype=np.float32).mean(axis=0) * self.shape_unit**2
        return np.diag(np.maximum(variance.astype(np.float64), 1e-9))

    @cached_property
    def sizes(self) -> Floats:
        """Mean signed distance of each shape (N,), less that of the mean shape, times a constant."""
        return self.shapes @ (self.shape_unit * self.components[0])

    @cached_property
    def signs(self) -> Floats:
        """The sign that each component gets when a shape is mirrored in each way, (4, K)."""
        weight = (self.components**2).reshape((MODES,) * 3 + (-1,)).sum(axis=0)
        y, x = (1 - 2 * weight[odd].reshape(-1, weight.shape[-1]).sum(axis=0) for odd in _ODD)
        return np.stack([np.ones_like(x), x, y, x * y]).round()

    @cached_property
    def plane_signs(self) -> Floats:
        """The same for each cosine of a section, (4, 144)."""
        return all_mirrored(np.ones((PLANE_MODES, PLANE_MODES), np.float32))

    @cached_property
    def mask_cosines(self) -> Floats:
        """Cosines of the masks, (N, 144)."""
        return self.masks * self.mask_unit

    @cached_property
    def image_cosines(self) -> Floats:
        """Cosines of the images, (N, 144); 0 for cells without an image."""
        return self.images * self.image_unit


# --- keeping ---------------------------------------------------------------------------------------


def _principal(shapes: Floats, components: int) -> NDArray[np.float16]:
    """Orthonormal principal components (4096, K) of centred shapes (N, 16, 16, 16).

    Each is even or odd in y and in x, so that mirroring a shape only changes signs.
    """
    found = []
    for is_odd in ((~_ODD[0] & ~_ODD[1]), (~_ODD[0] & _ODD[1]), (_ODD[0] & ~_ODD[1]), (_ODD[0] & _ODD[1])):
        own = shapes[:, :, is_odd].reshape(len(shapes), -1)
        if is_few := len(own) < own.shape[1]:
            own = own.T
        values, vectors = np.linalg.eigh(own.T @ own)
        if is_few:
            vectors = own @ vectors / np.sqrt(np.maximum(values, 1e-9 * values[-1]))
        whole = np.zeros((MODES, MODES, MODES, len(values)), np.float32)
        whole[:, is_odd] = vectors.reshape(MODES, -1, len(values))
        found.append((values, whole.reshape(MODES**3, -1)))
    values, vectors = (np.concatenate(one, axis=-1) for one in zip(*found, strict=True))
    order = np.argsort(values)[::-1][:components]
    kept = vectors[:, order[values[order] > 1e-9 * values.max()]]
    return np.ascontiguousarray(kept, np.float16)


def _eight_bit(values: Floats, each: bool = False) -> tuple[NDArray[np.int8], Floats]:
    """Values as whole numbers of a unit, of each column or of all."""
    largest = np.abs(values).max(axis=0 if each else None, keepdims=not each, initial=0).reshape(-1)
    unit = np.maximum(largest / 127, 1e-9).astype(np.float32)
    return np.rint(values / unit).astype(np.int8), unit


def _squares(rows: Floats, others: Floats) -> Floats:
    """Squared differences of all rows (N, D) from others (M, D), (M, N)."""
    norms, own = (np.einsum("nd,nd->n", one, one) for one in (rows, others))
    return np.maximum(norms - 2 * others @ rows.T + own[:, None], 0)


def _usual_distance(masks: Floats, groups: Sequence[Any]) -> float:
    """90 % quantile of the squared difference to the most similar mask of another cell, times ``FAR**2``."""
    names = np.array([str(group) for group in groups])
    places = np.random.default_rng(0).permutation(len(masks))[:400]
    nearest = []
    for place in places:
        others = names != names[place]
        if others.any():
            nearest.append(_squares(masks[others], masks[place, None]).min())
    # With versions of only one cell, all cells are similar.
    return FAR**2 * float(np.quantile(nearest, 0.9)) if nearest else float(np.finfo(np.float32).max)


def _softened(apart: Floats) -> NDArray[np.float64]:
    """Probabilities that decrease exponentially with the squared difference; `LIKELY` shapes in effect."""
    differences = apart.astype(np.float64)
    wanted = min(LIKELY, max(LIKELY_SHARE * len(differences), 1.0))
    low, high = np.log(1e-6), np.log(1e6)
    for _ in range(50):
        weights = np.exp(-differences / np.exp((low + high) / 2))
        effective = weights.sum() ** 2 / (weights**2).sum()
        low, high = ((low + high) / 2, high) if effective < wanted else (low, (low + high) / 2)
    return np.asarray(weights / weights.sum())
