"""Names, units and meanings of the measures in morphometry tables.

docs/measures.md has their formulas and sources.
"""

from dataclasses import dataclass

import pandas as pd

#: Number of degrees of the spherical harmonics, from 0.
DEGREES = 9


@dataclass(frozen=True, slots=True)
class Measure:
    """A column of the morphometry table.

    ``unit_power`` is the power of the unit of length: 3 for a volume, 1 for a length, 0 for a number, -1 for
    a curvature. ``other_unit`` is a unit that is not a power of a length, as "degree" or "grey value".
    ``group`` is size, form, surface, curvature, axes, box, thickness, harmonics, mask or picture.
    """

    name: str
    unit_power: int
    description: str
    group: str = "size"
    other_unit: str = ""

    def unit(self, length: str) -> str:
        """The unit, such as ``micrometer^3``, for a unit of length such as ``micrometer``."""
        if self.unit_power == 0:
            return self.other_unit or "no unit"
        return length if self.unit_power == 1 else f"{length}^{self.unit_power}"

    def column(self, length: str) -> str:
        """The unit and the meaning, as in a column dictionary."""
        return f"{self.unit(length)}: {self.description}"


#: Symbols of units of length.
_SIGNS = (
    ("micrometer", "µm"),
    ("nanometer", "nm"),
    ("millimeter", "mm"),
    ("centimeter", "cm"),
    ("meter", "m"),
)


def unit_sign(text: str) -> str:
    """``micrometer^3`` as µm³; "no unit" as an empty text."""
    if text == "no unit":
        return ""
    for long, short in _SIGNS:
        text = text.replace(long, short)
    for power, sign in (("^3", "³"), ("^2", "²"), ("^-1", "⁻¹"), ("^-2", "⁻²")):
        text = text.replace(power, sign)
    return text


def _by_name(*measures: Measure) -> dict[str, Measure]:
    return {measure.name: measure for measure in measures}


#: The first measures of every table; small tables show only these.
HEADLINE: dict[str, Measure] = _by_name(
    Measure("volume", 3, "space inside the surface"),
    Measure("surface_area", 2, "area of the surface"),
    Measure(
        "sphericity",
        0,
        "area of a sphere of the same volume divided by the surface area; 1 for a sphere",
        "form",
    ),
    Measure(
        "roughness",
        1,
        "standard deviation of the distance along the normal between the surface and its smoothed version "
        "(as by a Gaussian of 2 grid voxels); 0 for a sphere",
        "surface",
    ),
    Measure(
        "curvature", -1, "mean curvature averaged over the surface; 1 / radius for a sphere", "curvature"
    ),
    Measure("equivalent_diameter", 1, "diameter of a sphere of the same volume"),
)

#: The measures of the table in order, by name.
MEASURES: dict[str, Measure] = HEADLINE | _by_name(
    Measure("convexity", 0, "area of the convex hull per surface area; 1 for a convex shape", "form"),
    Measure("solidity", 0, "volume divided by that of the convex hull; 1 for a convex shape", "form"),
    Measure("euler_number", 0, "parts minus tunnels plus cavities; 1 for a ball, 0 for a torus", "form"),
    Measure("parts", 0, "number of separate pieces", "form"),
    Measure("largest_diameter", 1, "largest distance between two points of the surface (Feret)"),
    Measure("least_width", 1, "least distance between two parallel planes that enclose the shape"),
    Measure("mean_width", 1, "mean distance between two parallel planes that enclose the shape"),
    Measure("major_axis", 1, "longest axis of the ellipsoid with the same second moments", "axes"),
    Measure("middle_axis", 1, "middle axis of the ellipsoid with the same second moments", "axes"),
    Measure("minor_axis", 1, "shortest axis of the ellipsoid with the same second moments", "axes"),
    Measure("elongation", 0, "major axis divided by middle axis; 1 if they are equal", "axes"),
    Measure("flatness", 0, "middle axis divided by minor axis; 1 if they are equal", "axes"),
    Measure(
        "major_axis_tilt", 0, "angle between the major axis and the imaged plane, 0 to 90", "axes", "degree"
    ),
    Measure(
        "minor_axis_tilt", 0, "angle between the minor axis and the imaged plane, 0 to 90", "axes", "degree"
    ),
    Measure("box_z", 1, "extent across the imaged plane", "box"),
    Measure("box_y", 1, "extent along the rows of the picture's pixels (its axis y)", "box"),
    Measure("box_x", 1, "extent along the picture's axis x", "box"),
    Measure("box_fill", 0, "volume divided by that of the box with these three sides", "box"),
    Measure("thickness", 1, "mean diameter of the largest inscribed ball that contains a point", "thickness"),
    Measure("thickness_sd", 1, "standard deviation of that diameter over the shape", "thickness"),
    Measure("thickness_max", 1, "diameter of the largest inscribed ball", "thickness"),
    Measure("curvature_sd", -1, "standard deviation of the mean curvature over the surface", "curvature"),
    Measure("curvature_low", -1, "5 % quantile of the mean curvature over the surface", "curvature"),
    Measure("curvature_median", -1, "median of the mean curvature over the surface", "curvature"),
    Measure("curvature_high", -1, "95 % quantile of the mean curvature over the surface", "curvature"),
    Measure("gaussian_curvature_sd", -2, "standard deviation of the Gaussian curvature", "curvature"),
    Measure("gaussian_curvature_low", -2, "5 % quantile of the Gaussian curvature", "curvature"),
    Measure(
        "gaussian_curvature_median", -2, "median of the Gaussian curvature", "curvature"
    ),
    Measure(
        "gaussian_curvature_high", -2, "95 % quantile of the Gaussian curvature", "curvature"
    ),
    Measure("concave_share", 0, "share of the surface with negative mean curvature", "curvature"),
    Measure("saddle_share", 0, "share of the surface with negative Gaussian curvature", "curvature"),
    Measure(
        "bending_energy", 0, "integral of the squared mean curvature divided by 4 pi; 1 for a sphere",
        "curvature",
    ),
    *(
        Measure(
            f"harmonic_{degree}",
            0,
            f"share of the shape in spherical harmonics of degree {degree} about its centroid; "
            "independent of size and rotation" + ("; 1 for a sphere" if degree == 0 else "; 0 for a sphere"),
            "harmonics",
        )
        for degree in range(DEGREES)
    ),
)  # fmt: skip

#: Measures of the mask.
MASK_MEASURES: dict[str, Measure] = _by_name(
    Measure("mask_area", 2, "area of the cell's mask in the picture", "mask"),
    Measure("mask_perimeter", 1, "length of the mask's outline, holes included (Crofton)", "mask"),
    Measure("mask_circularity", 0, "4 pi area divided by the squared perimeter; 1 for a disc", "mask"),
    Measure("mask_major_axis", 1, "longer axis of the ellipse with the mask's second moments", "mask"),
    Measure("mask_minor_axis", 1, "shorter axis of the ellipse with the mask's second moments", "mask"),
    Measure("mask_eccentricity", 0, "eccentricity of that ellipse; 0 for a circle", "mask"),
    Measure("mask_solidity", 0, "area of the mask divided by that of its convex hull", "mask"),
    Measure("mask_largest_diameter", 1, "largest distance between two points of the mask (Feret)", "mask"),
    Measure("mask_euler_number", 0, "parts of the mask minus its holes", "mask"),
)

_GREY = "grey value"
#: Measures of the image inside the mask.
PICTURE_MEASURES: dict[str, Measure] = _by_name(
    Measure("picture_mean", 0, "mean of the picture inside the mask", "picture", _GREY),
    Measure("picture_sd", 0, "standard deviation of the picture inside the mask", "picture", _GREY),
    Measure("picture_min", 0, "least value of the picture inside the mask", "picture", _GREY),
    Measure("picture_median", 0, "median of the picture inside the mask", "picture", _GREY),
    Measure("picture_max", 0, "largest value of the picture inside the mask", "picture", _GREY),
    Measure("picture_sum", 0, "sum of the picture over the mask's pixels", "picture", _GREY),
    Measure("picture_skewness", 0, "skewness of the values inside the mask", "picture"),
    Measure("picture_kurtosis", 0, "excess kurtosis of the values inside the mask", "picture"),
    Measure("picture_entropy", 0, "entropy of the values inside the mask, 32 bins", "picture", "bit"),
    Measure("picture_contrast", 0, "(mean inside - mean of a rim outside) divided by their sum", "picture"),
    Measure("picture_correlation", 0, "correlation of neighbouring pixels inside the mask", "picture"),
    Measure(
        "picture_dissimilarity",
        0,
        "mean difference of neighbouring pixels inside the mask, divided by the standard deviation",
        "picture",
    ),
)


def without_attrs(table: pd.DataFrame) -> pd.DataFrame:
    """The table without its column dictionary, which pandas copies deeply in each step of a computation."""
    bare = pd.DataFrame(table)
    bare.attrs = {}
    return bare
