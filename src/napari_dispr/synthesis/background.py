"""The background of a microscopy image: its level, its slow variation and its noise, measured and painted."""

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field
from scipy.ndimage import binary_dilation, gaussian_filter, gaussian_filter1d
from scipy.special import ndtr

from napari_dispr.errors import InputError

Floats = NDArray[np.float32]
#: A grey value that can be squared in 32 bit.
Grey = Annotated[float, Field(ge=-1e18, le=1e18)]

#: Number of quantiles of the noise that are kept.
_QUANTILES = 33
#: Standard deviations of Gaussians, in voxels, among which the grain of the noise is looked up.
_GRAINS = np.linspace(0, 3, 61)
#: A Gaussian of this width in voxels changes nothing.
_NONE = 1e-3
#: The slow variation is what a Gaussian of this share of a cell's diameter leaves, at least this many pixels.
_SLOW, _LEAST_SLOW = 0.2, 2.0
#: The grain of the noise is measured where the slow variation is below this quantile: bright places may hold
#: structures.
_DARK = 0.9
#: Parts of the background, from dark to bright, in which the strength of the noise is measured; the least.
_PARTS, _WEAKEST = 10, 0.05
#: The quantile of an image that counts as its darkest grey value.
_FLOOR = 0.001
#: Fewer pixels than this do not show what the background is like.
_LEAST = 50


class Background(BaseModel):
    """Statistics of the background, in grey values of the image: mean level, slow variation (``unevenness``),
    noise.

    Attributes
    ----------
    light : tuple of float
        Quantiles of the slow variation, at the same normal deviates as those of the noise: the light of cells
        above and below a slice is bright in few places. Empty: it is normal.
    length : float
        Standard deviation, in pixels of the plane, of the Gaussian that smooths the slow variation.
    quantiles : tuple of float
        Of the noise, at equal steps of a normal deviate from -3.5 to 3.5; empty: no noise.
    strengths : tuple of (float, float)
        Values of the slow variation (first), and how many times as strong the noise is there (second), since
        noise of photons grows with the light. Interpolated linearly. Empty: 1 everywhere.
    floor : float or None
        The darkest grey value of a camera, which its offset decides.
    grain : tuple of float
        Standard deviation, in voxels along each axis, of the Gaussian that correlates neighbours.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    level: Grey = 0.0
    unevenness: Grey = Field(0.0, ge=0)
    light: tuple[Grey, ...] = Field((), max_length=1000)
    length: float = Field(20.0, gt=0, le=10_000)
    quantiles: tuple[Grey, ...] = Field((), max_length=1000)
    strengths: tuple[tuple[Grey, Annotated[float, Field(ge=0, le=1e6)]], ...] = Field((), max_length=100)
    floor: Grey | None = None
    grain: tuple[Annotated[float, Field(ge=0, le=100)], ...] = Field(
        (0.0, 0.0, 0.0), min_length=2, max_length=3
    )

    def without_glow(self, cells: float) -> "Background":
        """The background without the light of cells above and below a slice.

        Such light makes places brighter, never darker: so the dark half of the slow variation, mirrored, is
        what varies without it. ``cells`` is the grey value of cells; if they are dark, it is the bright half.
        """
        if not self.light:
            return self
        light = np.array(self.light)
        middle = float(np.median(light))
        half = (np.minimum if cells > self.level else np.maximum)(light, middle) - middle
        return self.model_copy(
            update={
                "level": self.level + middle,
                "light": tuple((half - half[::-1]).tolist()),
                "strengths": tuple((value - middle, strength) for value, strength in self.strengths),
            }
        )

    def paint(
        self,
        shape: tuple[int, ...],
        spacing: Sequence[float],
        rng: np.random.Generator,
        glow: Floats | float = 0.0,
    ) -> tuple[Floats, Floats]:
        """A background with these statistics: its level with slow variation and ``glow``, the light of cells
        above and below, and noise of mean 0, to be added to it.
        """
        in_voxels = self.length * spacing[-1] / np.asarray(spacing)
        slow = np.full(shape, self.level, np.float32)
        if self.unevenness:
            normal = _smooth_noise(shape, in_voxels, rng)
            if self.light:
                slow += np.interp(normal, _deviates(len(self.light)), self.light).astype(np.float32)
            else:
                slow += np.float32(self.unevenness) * normal
        slow += glow
        if not self.quantiles:
            return slow, np.zeros(shape, np.float32)
        normal = _smooth_noise(shape, self.grain[-len(shape) :], rng)
        noise = np.interp(normal, _deviates(len(self.quantiles)), self.quantiles)
        return slow, (noise * _strength(slow - self.level, self.strengths)).astype(np.float32)


def _deviates(count: int) -> NDArray[np.float64]:
    """The normal deviates at which quantiles are kept: dense in the middle, and still far in the tails."""
    return np.linspace(-3.5, 3.5, count)


def _strength(slow: NDArray[Any], strengths: Sequence[tuple[float, float]]) -> NDArray[Any]:
    """How strong the noise is, relative to its quantiles, at values of the slow variation."""
    if not strengths:
        return np.ones(slow.shape)
    light, strength = np.array(strengths).T
    # Brighter than all that was measured: the variance of photon noise goes on to grow with the light.
    growth = max(0.0, (strength[-1] ** 2 - strength[0] ** 2) / max(light[-1] - light[0], 1e-9))
    brighter = np.maximum(slow - light[-1], 0)
    return np.sqrt(np.interp(slow, light, strength) ** 2 + growth * brighter)


def _smooth_noise(shape: tuple[int, ...], widths: ArrayLike, rng: np.random.Generator) -> Floats:
    """Gaussian noise with variance 1, smoothed by a Gaussian."""
    sigma = np.maximum(widths, _NONE)
    noise = gaussian_filter(rng.standard_normal(shape, np.float32), sigma, mode="wrap", truncate=3)
    for length, width in zip(shape, sigma, strict=True):
        point = np.zeros(length)
        point[0] = 1
        noise /= np.float32(np.linalg.norm(gaussian_filter1d(point, width, mode="wrap", truncate=3)))
    return noise


def measure_background(pairs: Sequence[tuple[NDArray[Any], NDArray[Any]]]) -> Background:
    """The statistics of the background of annotated images (y, x) or (z, y, x) of the same microscope.

    Pixels close to a cell are left out. All else in a labelled slice is background: light of cells above and
    below it, and whatever else is no cell. Slices of a stack without labels may not be annotated, and do not
    count. Raises an InputError if cells fill the images, so that there is no background.
    """
    found = [
        one for image, labels in pairs for one in _slices(np.atleast_3d(image.T).T, np.atleast_3d(labels.T).T)
    ]
    if not found:
        raise InputError(
            "The cells fill the annotated slices, so that the background cannot be measured: annotate a "
            "slice that shows background, or choose images with fewer cells."
        )
    levels, slow, lengths, noise, correlations = zip(*found, strict=True)
    level = float(np.mean(levels))
    # About the level of all slices: in one with much light from above and below, dark places are no darker.
    light = np.concatenate([one + own - level for own, one in zip(levels, slow, strict=True)])
    values = np.concatenate(noise)
    strengths = _strengths(light, values)
    known = np.array(correlations, float)
    lag = [float(np.nanmean(c)) if np.isfinite(c).any() else 0.0 for c in known.T]
    return Background(
        level=round(level, 4),
        unevenness=round(float(light.std()), 4),
        light=_quantiles(light),
        length=round(float(np.mean(lengths)), 3),
        quantiles=_quantiles(values / _strength(light, strengths)),
        strengths=strengths,
        floor=round(float(np.median([np.quantile(image, _FLOOR) for image, _ in pairs])), 4),
        grain=tuple(round(float(g), 3) for g in np.interp(lag, _lag_one(), _GRAINS)),
    )


def _strengths(slow: NDArray[Any], noise: NDArray[Any]) -> tuple[tuple[float, float], ...]:
    """`Background.strengths`, in parts of equal size."""
    overall = float(noise.std())
    if not overall:
        return ()
    parts = np.array_split(np.argsort(slow), _PARTS)
    found = [(float(slow[part].mean()), max(_WEAKEST, float(noise[part].std()) / overall)) for part in parts]
    return tuple((round(light, 4), round(strength, 4)) for light, strength in found)


def _quantiles(values: NDArray[Any]) -> tuple[float, ...]:
    """Quantiles of values about their mean, at the deviates."""
    found = np.quantile(values, ndtr(_deviates(_QUANTILES))) - values.mean()
    return tuple(round(float(q), 4) for q in found)


def _lag_one() -> NDArray[np.float64]:
    """Correlation of neighbours in noise smoothed by each Gaussian of ``_GRAINS``."""
    point = np.zeros(41)
    point[20] = 1
    kernels = [gaussian_filter1d(point, sigma) for sigma in np.maximum(_GRAINS, _NONE)]
    return np.array([(k[1:] * k[:-1]).sum() / (k**2).sum() for k in kernels])


_Found = tuple[float, NDArray[Any], float, NDArray[Any], tuple[float, float, float]]


def _slices(image: NDArray[Any], labels: NDArray[Any]) -> list[_Found]:
    """Level, slow variation, its length, noise, and correlation of neighbours (z, y, x), of each slice."""
    found = []
    before: tuple[int, NDArray[Any]] | None = None
    for z in np.flatnonzero(labels.any(axis=(1, 2))):
        cells = labels[z] > 0
        across = float(np.sqrt(np.median(np.unique(labels[z][cells], return_counts=True)[1])))
        margin, length = max(2, round(0.25 * across)), max(_LEAST_SLOW, _SLOW * across)
        empty = ~binary_dilation(cells, iterations=margin)
        if empty.sum() < _LEAST:
            empty = ~binary_dilation(cells)
        if empty.sum() < _LEAST:
            continue
        plane = image[z].astype(np.float64)
        level = float(plane[empty].mean())
        share = gaussian_filter(empty.astype(np.float64), length)
        slow = gaussian_filter(np.where(empty, plane - level, 0), length) / np.maximum(share, 1e-3)
        dark = empty & (slow <= np.quantile(slow[empty], _DARK))
        rest = np.where(dark, plane - level - slow, np.nan)
        above = _correlation(before[1], rest) if before is not None and before[0] == z - 1 else np.nan
        lags = above, _correlation(rest[1:], rest[:-1]), _correlation(rest[:, 1:], rest[:, :-1])
        # In a field smoothed by a Gaussian of width L, pixels at a distance d correlate by exp(-d^2 / 4 L^2).
        far = max(2, round(2 * length))
        seen = np.where(empty, slow, np.nan)
        apart = np.nanmean(
            [_correlation(seen[far:], seen[:-far]), _correlation(seen[:, far:], seen[:, :-far])]
        )
        own = far / (2 * np.sqrt(-np.log(np.clip(apart, 0.01, 0.99))))
        own = np.sqrt(np.clip(own**2 - length**2, length**2, (8 * length) ** 2))
        lost = np.sqrt(1 + (length / own) ** 2)  # the Gaussian that found the slow variation lowered it
        found.append((level, lost * slow[empty], float(own), (plane - level - slow)[empty], lags))
        before = int(z), rest
    return found


def _correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    both = np.isfinite(a) & np.isfinite(b)
    if both.sum() < _LEAST:
        return float("nan")
    x, y = a[both] - a[both].mean(), b[both] - b[both].mean()
    scale = float(np.sqrt((x**2).mean() * (y**2).mean()))
    return float((x * y).mean()) / scale if scale > 1e-12 else 0.0
