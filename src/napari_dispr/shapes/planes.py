"""Measures of a cell in the image: of its mask, and of the intensities inside the mask."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage, stats
from skimage.measure import regionprops

from napari_dispr import grid, signed_distance
from napari_dispr.shapes.measures import MASK_MEASURES, PICTURE_MEASURES

#: Bins of the histogram for the entropy.
_BINS = 32
#: Width in pixels of the rim outside the mask, for the contrast: what lies farther away does not matter.
RIM = 3

_Mask = NDArray[np.bool_]


def measure_plane(
    mask: ArrayLike,
    picture: ArrayLike | None = None,
    pixel: Sequence[float] = (1.0, 1.0),
    others: ArrayLike | None = None,
) -> dict[str, float]:
    """Measures of one cell in the imaged plane: all `MASK_MEASURES` and, with a picture, `PICTURE_MEASURES`.

    Parameters
    ----------
    mask : (y, x) bool array
        May have holes and several parts, which are measured together. All measures of an empty mask are NaN.
    picture : (y, x) array, optional
        Intensities of the same pixels.
    pixel : (float, float)
        Sides of a pixel along y and x.
    others : (y, x) bool array, optional
        Pixels of other cells, which are not part of the rim around the mask.
    """
    mask = np.asarray(mask, dtype=bool)
    names = [*MASK_MEASURES, *(PICTURE_MEASURES if picture is not None else ())]
    if not mask.any():
        return dict.fromkeys(names, float("nan"))
    box = grid.box_of(mask, RIM)
    found = _of_mask(mask[box], (float(pixel[0]), float(pixel[1])))
    if picture is not None:
        free = ~mask[box] if others is None else ~mask[box] & ~np.asarray(others, dtype=bool)[box]
        found |= _of_picture(mask[box], np.asarray(picture, dtype=np.float64)[box], free)
    return {name: float(found[name]) for name in names}


def _of_mask(mask: _Mask, pixel: tuple[float, float]) -> dict[str, float]:
    area = np.count_nonzero(mask) * pixel[0] * pixel[1]
    side = min(pixel)
    if max(pixel) > 1.01 * side:  # perimeters need square pixels
        factors = [length / side for length in pixel]
        distance = signed_distance.from_level(np.pad(mask, 2).astype(np.float32), spacing=pixel)
        distance = ndimage.gaussian_filter(distance, 1)  # smooths the stairs
        finer = ndimage.zoom(distance, factors, order=1, grid_mode=True, mode="nearest") > 0
        mask = finer if finer.any() else np.pad(mask, 2)
    region = regionprops(np.pad(mask, 2).astype(np.uint8))[0]
    perimeter = region.perimeter_crofton * side
    return {
        "mask_area": area,
        "mask_perimeter": perimeter,
        "mask_circularity": 4 * np.pi * area / perimeter**2 if perimeter > 0 else float("nan"),
        "mask_major_axis": region.axis_major_length * side,
        "mask_minor_axis": region.axis_minor_length * side,
        "mask_eccentricity": region.eccentricity,
        "mask_solidity": region.solidity,
        "mask_largest_diameter": region.feret_diameter_max * side,
        "mask_euler_number": region.euler_number,
    }


def _of_picture(mask: _Mask, picture: NDArray[np.float64], free: _Mask) -> dict[str, float]:
    values = picture[mask]
    mean, sd, low, high = values.mean(), values.std(), values.min(), values.max()
    nan = float("nan")
    varied = sd > 1e-12 * max(abs(low), abs(high))
    found = {
        "picture_mean": mean,
        "picture_sd": sd,
        "picture_min": low,
        "picture_median": np.median(values),
        "picture_max": high,
        "picture_sum": values.sum(),
        "picture_skewness": stats.skew(values) if varied else nan,
        "picture_kurtosis": stats.kurtosis(values) if varied else nan,
    }
    share = np.histogram(values, _BINS, (low, high) if varied else None)[0] / len(values)
    share = share[share > 0]
    found["picture_entropy"] = -(share * np.log2(share)).sum() + 0.0

    rim = ndimage.binary_dilation(mask, iterations=RIM) & free
    outside = picture[rim].mean() if rim.any() else nan
    found["picture_contrast"] = (mean - outside) / (mean + outside) if mean + outside > 0 else nan

    one, other = np.empty((2, 0))
    for plane, inside in ((picture, mask), (picture.T, mask.T)):
        pair = inside[:-1] & inside[1:]
        one, other = np.append(one, plane[:-1][pair]), np.append(other, plane[1:][pair])
    both = varied and len(one) > 1
    found["picture_dissimilarity"] = np.abs(one - other).mean() / sd if both else nan
    # The co-occurrence matrix is symmetric: each pair counts in both directions.
    one, other = np.concatenate([one, other]), np.concatenate([other, one])
    variance = one.var() if both else 0.0
    found["picture_correlation"] = (
        np.mean((one - one.mean()) * (other - one.mean())) / variance if variance else nan
    )
    return found
