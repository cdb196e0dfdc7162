"""Cylinder and ellipsoid fitted to a mask: simple shapes to compare models with.

Each takes a mask on the model grid and returns a shape on it. There are two versions of each, because SHAPR's
code and its text differ: with semi-axes a and b of the fitted ellipse, the code takes the mean semi-axis as
height or diameter, which makes cells half as high as they are wide; the other version takes full axes. The
true height of a red blood cell lies between them.

Reference: Waibel et al. (2022). SHAPR predicts 3D cell shapes from 2D microscopic images. iScience 25(11).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from napari_dispr import grid
from napari_dispr.card import Card
from napari_dispr.cells.cropping import Crop
from napari_dispr.errors import InputError
from napari_dispr.models.method import OneShape


@dataclass(frozen=True, slots=True)
class Ellipse:
    """An ellipse in the imaged plane: centre (y, x), semi-axes and angle of the first from x towards y."""

    centre: tuple[float, float]
    semi_axes: tuple[float, float]
    angle: float


def fit_ellipse(mask: ArrayLike) -> Ellipse:
    """Fit an ellipse to the contour of a filled mask by least squares.

    Parameters
    ----------
    mask : (64, 64) array
        In [0, 1] or bool; inside where it is above 0.5. Of several parts the one whose contour
        encloses the largest area is taken.

    Returns
    -------
    Ellipse
        In voxels.

    Raises
    ------
    InputError
        The mask is empty, too small or too thin for an ellipse.

    Notes
    -----
    The fit is scikit-image's, after Halir and Flusser (1998). Numerically stable direct least squares
    fitting of ellipses.
    """
    # Imported here: windows list the fits long before one is used.
    from skimage.measure import EllipseModel, find_contours

    # A rim of background, so that a mask at the border of the grid has a closed contour too.
    filled = np.pad(ndimage.binary_fill_holes(np.asarray(mask) > 0.5), 1).astype(np.float32)
    contours = find_contours(filled, 0.5)
    if not contours:
        raise InputError("The mask is empty: an ellipse needs a mask with pixels above one half.")
    contour = max(contours, key=_enclosed_area) - 1
    # The angle of a circle is 0 / 0, and no ellipse fits a line: both are checked below.
    with np.errstate(divide="ignore", invalid="ignore"):
        ellipse = EllipseModel.from_estimate(contour[:, ::-1])
    if not ellipse or not np.isfinite([*ellipse.center, *ellipse.axis_lengths]).all():
        raise InputError("The mask is too small or too thin for an ellipse: give a larger mask.")
    x, y = ellipse.center
    first, second = ellipse.axis_lengths
    return Ellipse((float(y), float(x)), (float(first), float(second)), float(np.nan_to_num(ellipse.theta)))


def _enclosed_area(contour: NDArray[np.float64]) -> float:
    y, x = contour.T
    return float(abs(np.dot(y[:-1], x[1:]) - np.dot(y[1:], x[:-1])) / 2)


def cylinder(mask: ArrayLike, share: float = 1.0) -> NDArray[np.bool_]:
    """Extrude the mask (64, 64) over a share of the ellipse's mean full axis, a + b voxels.

    Returns (64, 64, 64), about the imaged plane, cut off at the border of the grid; holes and parts of the
    mask are kept. Raises what `fit_ellipse` raises, as the other fit does.
    """
    planes = max(round(share * sum(fit_ellipse(mask).semi_axes)), 1)
    first = grid.IMAGED_PLANE - planes // 2
    shape = np.zeros(grid.SHAPE, dtype=bool)
    shape[max(first, 0) : first + planes] = np.asarray(mask) > 0.5
    return shape


def ellipsoid(mask: ArrayLike, share: float = 1.0) -> NDArray[np.bool_]:
    """Ellipsoid about the fitted ellipse; across the imaged plane, a share of its mean semi-axis."""
    ellipse = fit_ellipse(mask)
    z, y, x = np.ogrid[: grid.SIZE, : grid.SIZE, : grid.SIZE]
    y, x = y - ellipse.centre[0], x - ellipse.centre[1]
    cos, sin = np.cos(ellipse.angle), np.sin(ellipse.angle)
    first = (cos * x + sin * y) / ellipse.semi_axes[0]
    second = (cos * y - sin * x) / ellipse.semi_axes[1]
    third = (z - grid.IMAGED_PLANE) / (sum(ellipse.semi_axes) * (share / 2))
    return np.asarray(first**2 + second**2 + third**2 <= 1)


@dataclass(frozen=True)
class Fit(OneShape):
    """A fit of the mask as a method; it uses neither image nor seed. ``shape`` makes (64, 64, 64) of the mask
    (64, 64).
    """

    card: Card
    shape: Callable[[ArrayLike], NDArray[np.bool_]]

    def level(self, crop: Crop) -> tuple[NDArray[np.bool_], float]:
        """The shape and 0.5."""
        return self.shape(crop.mask), 0.5


def _fit(name: str, shape: Callable[[ArrayLike], NDArray[np.bool_]], description: str) -> Fit:
    description += ". A fit, for comparison: one shape for each cell."
    return Fit(Card(name=name, description=description, rival="fit", qualities={}), shape)


_HALF = "at half its height, as the code of SHAPR draws it"
#: The fits of one section, by name.
FITS: dict[str, Fit] = {
    fit.name: fit
    for fit in (
        _fit("cylinder", cylinder, "The mask extruded over the mean full axis of the fitted ellipse"),
        _fit("ellipsoid", ellipsoid, "An ellipsoid about the fitted ellipse, with their mean as third axis"),
        _fit("cylinder-code", partial(cylinder, share=0.5), f"The cylinder {_HALF}"),
        _fit("ellipsoid-code", partial(ellipsoid, share=0.5), f"The ellipsoid {_HALF}"),
    )
}
