"""Known shapes, from which sampling starts: cells whose section looks like that of the cell to draw.

At high noise the best denoiser of a set of shapes is known in closed form: it chooses among these shapes
(Scarvelis et al., arXiv 2310.12395). So a member starts from the shape of a known cell with a similar
section, under noise (SDEdit, Meng et al., arXiv 2108.01073), and the network only has to fit it to the
picture. That takes fewer evaluations, and members are as smooth and as folded as cells are.

Shapes and sections are kept as cosines, in the frame in which the long axis of the mask lies along x.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_dispr import grid
from napari_dispr.diffusion.condition import mask_distance, normalise_inside

#: Cosines along each axis of shapes, and of masks and images.
MODES, PLANE_MODES = 16, 12
#: Weight of the squared difference of images against that of the signed distances of masks.
IMAGE_WEIGHT = 2.0
#: As many shapes as this are likely for a cell.
LIKELY = 30.0
#: The time of rectified flow at which a known shape enters, unless a model has another: the second of two
#: evaluations from noise alone.
START = 12 / 13
#: Shapes beyond so many are never likely.
_NEAR = 2000
#: Signed distance, in units of the truncation, outside the square in which a shape is known.
_OUTSIDE = -1.0

Floats = NDArray[np.float32]


class Look(NamedTuple):
    """What a cell looks like in its frame.

    Attributes
    ----------
    angle : float
        Of the long axis of the mask, from x towards y.
    mask, image : (12, 12)
        Cosines (y, x) of the signed distance from the edge of the mask and of the normalised image; None: no
        image.
    """

    angle: float
    mask: Floats
    image: Floats | None


def look_of(mask: Floats, image: Floats | None) -> Look:
    """The look of a mask and an image, (64, 64)."""
    angle = long_axis(mask)
    seen = None if image is None else normalise_inside(image, mask)
    return Look(angle, _flat(mask_distance(mask), angle), None if seen is None else _flat(seen, angle))


def long_axis(mask: Floats) -> float:
    """Angle of the long axis of a mask, from x towards y, radians."""
    y, x = np.nonzero(mask > 0.5)
    if not len(y):
        return 0.0
    (yy, xy), (_, xx) = np.cov(y, x, bias=True) if len(y) > 1 else np.eye(2)
    return float(0.5 * np.arctan2(2 * xy, xx - yy))


@dataclass(frozen=True, eq=False)
class KnownShapes:
    """Shapes of known cells, and the sections that they had.

    Attributes
    ----------
    mean : (4096,) float32
        Cosines (z, y, x) of the mean shape, signed distance in units of the truncation.
    basis : (4096, K) float16
        Principal components of the shapes, orthonormal.
    shapes : (N, K) int8
    shape_unit : (K,) float32
        Of the components.
    masks, images : (N, 144) int8
        Cosines of sections.
    mask_unit, image_unit : (1,) float32
    has_image, sized : (N,) uint8
        Whether there is an image, and whether the cell has its true size; the others have one size.
    farthest : (1,) float32
        Squared difference of masks within which a known cell is alike.
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
        start: float = START,
    ) -> Self:
        """Keep shapes and sections.

        Parameters
        ----------
        shapes : (N, 16, 16, 16)
            Of `coefficients_of`.
        looks : sequence of Look
        sized : (N,) bool
        groups : sequence
            Equal for versions of one cell.
        components : int
            At most as many principal components are kept.
        """
        flat = np.asarray(shapes, np.float32).reshape(len(looks), -1)
        mean = flat.mean(axis=0)
        basis = _principal(flat - mean, components)
        masks = np.stack([look.mask.ravel() for look in looks])
        images = np.stack(
            [np.zeros_like(look.mask.ravel()) if look.image is None else look.image.ravel() for look in looks]
        )
        scores, shape_unit = _eight_bit((flat - mean) @ basis.astype(np.float32), each=True)
        (masks8, mask_unit), (images8, image_unit) = _eight_bit(masks), _eight_bit(images)
        return cls(
            mean,
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
            np.array([start], np.float32),
        )

    # --- files ------------------------------------------------------------------------------------

    def arrays(self) -> dict[str, NDArray[Any]]:
        """For a model file."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """The inverse of `arrays`; a ValueError or KeyError if they are none."""
        return cls(**{field.name: arrays[field.name] for field in fields(cls)})

    # --- use --------------------------------------------------------------------------------------

    def likely(self, look: Look, sized: bool) -> NDArray[np.float64] | None:
        """Probability of each shape for a cell, (4, N): as it is, and mirrored along x, y and both.

        ``sized`` says whether the cell has its true size on the grid. None if no known cell is alike.
        """
        there = self.sized == sized
        if not there.any():
            return None
        apart = np.stack([_squares(self._masks, mirrored(look.mask, way).ravel()) for way in range(4)])
        if apart[:, there].min() > self.farthest[0]:
            return None
        total = apart
        if look.image is not None and self.has_image.any():
            other = np.stack([_squares(self._images, mirrored(look.image, way).ravel()) for way in range(4)])
            with_image = self.has_image > 0
            # Cells without image may have any.
            other[:, ~with_image] = np.median(other[:, with_image])
            total = apart + IMAGE_WEIGHT * other
        total = np.where(there, total, np.inf)
        return _softened(total - total.min())

    def drawn(self, look: Look, likely: NDArray[np.float64], seed: int) -> Floats:
        """A shape (64, 64, 64) of a random known cell, turned as the cell; in units of the truncation."""
        rng = np.random.default_rng((seed, 1))
        way, number = divmod(int(rng.choice(likely.size, p=likely.ravel())), likely.shape[1])
        score = self.shapes[number] * self.shape_unit
        shape = (self.mean + self._basis @ score).reshape((MODES,) * 3)
        return volume_of(mirrored(shape, way), look.angle)

    @cached_property
    def _basis(self) -> Floats:
        return self.basis.astype(np.float32)

    @cached_property
    def _masks(self) -> Floats:
        return self.masks * self.mask_unit

    @cached_property
    def _images(self) -> Floats:
        return self.images * self.image_unit


# --- cosines ---------------------------------------------------------------------------------------


def mirrored(coefficients: Floats, way: int) -> Floats:
    """Coefficients (..., y, x) of a mirrored picture or volume: 1 along x, 2 along y, 3 along both."""
    sign = (1 - 2 * (np.arange(coefficients.shape[-1]) % 2)).astype(np.float32)
    if way & 1:
        coefficients = coefficients * sign
    if way & 2:
        coefficients = coefficients * sign[:, None]
    return coefficients


def coefficients_of(volume: Floats, angle: float) -> Floats:
    """Coefficients (16, 16, 16) of a shape (64, 64, 64), turned so that a line at ``angle`` lies along x."""
    along_z = np.tensordot(_cosines(MODES), volume, 1)
    return _flat(_turned_planes(along_z, angle), 0.0, MODES)


def volume_of(coefficients: Floats, angle: float) -> Floats:
    """The shape (64, 64, 64) of coefficients (16, 16, 16), turned so that its x axis lies at ``angle``."""
    y, x = _turned_places(-angle)
    rows, columns = _cosines_at(MODES, y), _cosines_at(MODES, x)
    planes = np.einsum("zpj,pj->zp", rows @ coefficients, columns, optimize=True)
    volume = (_cosines(MODES).T @ planes).reshape(grid.SHAPE)
    beyond = (np.maximum(np.abs(y - grid.CENTRE), np.abs(x - grid.CENTRE)) > grid.SIZE / 2).reshape(
        grid.SHAPE[1:]
    )
    return np.where(beyond, np.float32(_OUTSIDE), volume).astype(np.float32)


def _flat(planes: Floats, angle: float, modes: int = PLANE_MODES) -> Floats:
    """Coefficients (..., modes, modes) of planes (..., 64, 64), turned."""
    cosines = _cosines(modes)
    return np.asarray(cosines @ (_turned_planes(planes, angle) if angle else planes) @ cosines.T, np.float32)


def _turned_planes(planes: Floats, angle: float) -> Floats:
    """Planes (..., 64, 64) turned so that a line at ``angle`` lies along x; linear between pixels."""
    y, x = (np.clip(one, 0, grid.SIZE - 1) for one in _turned_places(angle))
    above, left = (np.minimum(one.astype(int), grid.SIZE - 2) for one in (y, x))
    down, right = (y - above).astype(np.float32), (x - left).astype(np.float32)
    top = planes[..., above, left] * (1 - right) + planes[..., above, left + 1] * right
    bottom = planes[..., above + 1, left] * (1 - right) + planes[..., above + 1, left + 1] * right
    return (top * (1 - down) + bottom * down).reshape(planes.shape)


def _turned_places(angle: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where the pixels of a turned picture come from: y and x, (4096,)."""
    y, x = (np.indices(grid.SHAPE[1:]) - grid.CENTRE).reshape(2, -1)
    c, s = np.cos(angle), np.sin(angle)
    return s * x + c * y + grid.CENTRE, c * x - s * y + grid.CENTRE


def _cosines(modes: int) -> Floats:
    """The orthonormal cosines of the grid, (modes, 64)."""
    return _cosines_at(modes, np.arange(grid.SIZE)).T


def _cosines_at(modes: int, place: ArrayLike) -> Floats:
    """The same at any places, (places, modes)."""
    k = np.arange(modes)
    unit = np.sqrt(np.where(k == 0, 1, 2) / grid.SIZE)
    return (np.cos(np.pi / grid.SIZE * (np.asarray(place)[:, None] + 0.5) * k) * unit).astype(np.float32)


# --- keeping ---------------------------------------------------------------------------------------


def _principal(flat: Floats, components: int) -> NDArray[np.float16]:
    """Orthonormal principal components (4096, K) of centred shapes (N, 4096)."""
    if len(flat) < flat.shape[1]:
        values, vectors = np.linalg.eigh(flat @ flat.T)
        keep = np.flatnonzero(values > 1e-9 * values[-1])[::-1][:components]
        return (flat.T @ (vectors[:, keep] / np.sqrt(values[keep]))).astype(np.float16)
    _, vectors = np.linalg.eigh(flat.T @ flat)
    return vectors[:, ::-1][:, :components].astype(np.float16)


def _eight_bit(values: Floats, each: bool = False) -> tuple[NDArray[np.int8], Floats]:
    """Values as whole numbers of a unit, of each column or of all."""
    largest = np.abs(values).max(axis=0 if each else None, keepdims=not each).reshape(-1)
    unit = np.maximum(largest / 127, 1e-9).astype(np.float32)
    return np.rint(values / unit).astype(np.int8), unit


def _squares(rows: Floats, one: Floats) -> Floats:
    """Squared difference of each row."""
    return np.maximum((rows**2).sum(axis=1) - 2 * rows @ one + one @ one, 0)


def _usual_distance(masks: Floats, groups: Sequence[Any], sample: int = 400, share: float = 0.9) -> float:
    """Squared difference to the most similar mask of another cell, for this share of the cells."""
    names = np.array([str(group) for group in groups])
    places = np.random.default_rng(0).permutation(len(masks))[:sample]
    nearest = []
    for place in places:
        others = names != names[place]
        if others.any():
            nearest.append(_squares(masks[others], masks[place]).min())
    # With versions of one cell alone, all cells are alike.
    return float(np.quantile(nearest, share)) if nearest else float(np.finfo(np.float32).max)


def _softened(apart: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probabilities that decrease exponentially with the squared difference; `LIKELY` shapes in effect."""
    flat = apart.ravel().astype(np.float64)
    near = np.argsort(flat)[:_NEAR]
    near = near[np.isfinite(flat[near])]
    wanted = min(LIKELY, len(near) / 2)
    low, high = np.log(1e-6), np.log(1e6)
    for _ in range(50):
        weights = np.exp(-flat[near] / np.exp((low + high) / 2))
        effective = weights.sum() ** 2 / (weights**2).sum()
        low, high = ((low + high) / 2, high) if effective < wanted else (low, (low + high) / 2)
    result = np.zeros_like(flat)
    result[near] = weights / weights.sum()
    return result.reshape(apart.shape)
