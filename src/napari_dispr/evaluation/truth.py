"""Compare a shape with the true one: relative errors by two sets of definitions, overlap, surface distances.

All measures are of the binary volumes. So anyone who has the saved shapes can compute the same numbers, and
methods that predict signed distances are measured like methods that predict voxels.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from napari_dispr import grid
from napari_dispr.shapes import scores
from napari_dispr.shapes.label_volumes import level_of
from napari_dispr.shapes.morphometry import iou, relative_error
from napari_dispr.shapes.one_shape import measure_shape
from napari_dispr.shapes.shapr_set import binarise, gaussian_curvature_within, shapr_measures
from napari_dispr.signed_distance import crossings

Shape = NDArray[np.bool_]
Definitions = Literal["ours", "shapr", "both"]


@dataclass(frozen=True, slots=True)
class Compared:
    """A measure whose relative error is reported, by our definition or SHAPR's.

    It is not ``bounded`` if the true value can be near 0: then the relative error has no bound, and its mean
    says nothing.
    """

    label: str
    meaning: str
    definitions: Definitions
    bounded: bool = True


#: Measures by column, in the order of the tables.
COMPARED: dict[str, Compared] = {
    "volume": Compared("volume", "voxels inside", "both"),
    "surface_area": Compared("surface area", "area of the mesh of the smoothed signed distance", "ours"),
    "surface_mesh": Compared(
        "surface area, mesh (SHAPR)", "area of the unsmoothed marching-cubes mesh", "shapr"
    ),
    "surface_voxel": Compared(
        "surface area, voxels (SHAPR)", "voxels with background in their 3 x 3 x 3 neighbourhood", "shapr"
    ),
    "roughness": Compared(
        "roughness", "rms distance along the normal between the surface and its smoothed copy", "ours"
    ),
    "roughness_mesh": Compared(
        "roughness, mesh (SHAPR)", "how far Humphrey's filter moves the vertices of the mesh", "shapr"
    ),
    "roughness_voxel": Compared(
        "roughness, voxels (SHAPR)", "voxels that a Gaussian of sigma 2 changes", "shapr"
    ),
    "curvature": Compared("curvature", "mean curvature averaged over the surface (bounded)", "ours"),
    "curvature_gaussian": Compared(
        "curvature (SHAPR notebooks)",
        "mean discrete Gaussian curvature measure within the maximal tangent sphere (unbounded: near 0, or "
        "below, for many shapes)",
        "shapr",
        bounded=False,
    ),
}
_OURS = {name for name, one in COMPARED.items() if one.definitions == "ours"}

#: Columns of a member in addition to the relative errors.
AGREEMENTS: dict[str, str] = {
    "signed_volume": "(predicted - true volume) / true volume",
    "iou": "intersection over union with the true volume",
    "dice": "twice the intersection over the sum of both volumes",
    "imaged_plane_iou": "intersection over union of plane 32 with the mask",
    "surface_distance": "mean distance between the surfaces, in both directions",
    "hausdorff_95": "95th percentile of the distances between the surfaces, the larger of both directions",
}
#: Columns of a cell: scores of all its members together.
TOGETHER: dict[str, str] = {
    "consensus_iou": "IoU with the truth of the voxels that at least half of the members contain",
    "energy_score": "fair energy score under 1 - IoU; for a single shape it is 1 - IoU",
}
#: Columns in the unit of the voxel size.
LENGTHS = ("surface_distance", "hausdorff_95")
#: Columns in which more is better; in all others less is.
MORE_IS_BETTER = frozenset({"iou", "dice", "imaged_plane_iou", "consensus_iou"})


def compared_by(definitions: Definitions) -> dict[str, Compared]:
    """The measures of `COMPARED` that belong to these definitions."""
    return {
        name: one
        for name, one in COMPARED.items()
        if definitions == "both" or one.definitions in (definitions, "both")
    }


def member_columns(definitions: Definitions) -> dict[str, str]:
    """The columns of a member and what they mean; the relative errors come first."""
    errors = {name: f"relative error of: {one.meaning}" for name, one in compared_by(definitions).items()}
    return errors | AGREEMENTS


def measured(shape: Shape, definitions: Definitions = "both") -> dict[str, float]:
    """Measure a binary volume; all measures of an empty one are 0.

    Our definitions (docs/measures.md) are of the smoothed surface that encloses the volume of the voxels
    (`label_volumes.level_of`). The volume itself is the number of voxels.
    """
    wanted = compared_by(definitions)
    if not shape.any():
        return dict.fromkeys(wanted, 0.0)
    values = {"volume": float(np.count_nonzero(shape))}
    if definitions != "shapr":
        values |= measure_shape(*level_of(shape), only=_OURS)
    if definitions != "ours":
        values |= shapr_measures(shape)
        values["curvature_gaussian"] = gaussian_curvature_within(shape)
    return {name: values[name] for name in wanted}


def surface_points(shape: Shape) -> NDArray[np.float32]:
    """Points of the surface of a binary volume, (n, 3): half-way between voxels inside and outside.

    These are the vertices of its marching-cubes mesh. Everything beyond the array counts as outside.
    """
    # Without the padding, a surface at the border of the array would be missed.
    return crossings(np.pad(shape, 1).astype(np.float32), 0.5) - 1


def surface_distances(
    first: NDArray[np.float32], second: NDArray[np.float32], tree: KDTree | None = None
) -> tuple[float, float]:
    """Distances between two surfaces, given by their points (see `surface_points`).

    Parameters
    ----------
    tree : KDTree, optional
        Tree of ``second``, if there is one already.

    Returns
    -------
    mean, hausdorff_95 : float
        In voxels: the mean over the points of both surfaces (average symmetric surface distance), and the
        larger of the two 95th percentiles. NaN if a surface has no points.

    Notes
    -----
    Distances are from each point to the nearest point of the other surface; all points have the same weight.
    A shape has distance 0 from itself, and flat faces that lie whole voxels apart have exactly that distance.
    The voxels of a ball are not smooth, so that its mean is up to 0.2 voxel too small (see the tests).
    """
    if not len(first) or not len(second):
        return np.nan, np.nan
    there, _ = (KDTree(second) if tree is None else tree).query(first)
    back, _ = KDTree(first).query(second)
    return (
        float(np.concatenate([there, back]).mean()),
        float(max(np.percentile(there, 95), np.percentile(back, 95))),
    )


class Truth:
    """A known shape and its section, measured once for all shapes that are compared with it.

    ``obj`` (64, 64, 64) is binary or antialiased (see `binarise`), neither empty nor full; ``mask`` (64, 64)
    is the cell in the imaged plane, inside above 0.5. Distances have the unit of ``voxel_size``.
    """

    def __init__(
        self,
        obj: NDArray[np.generic],
        mask: NDArray[np.generic],
        definitions: Definitions = "both",
        voxel_size: float = 1.0,
    ) -> None:
        self.definitions, self.voxel_size = definitions, voxel_size
        self.obj = binarise(obj)
        self.section = np.asarray(mask) > 0.5
        self.measures = measured(self.obj, definitions)
        self._points = surface_points(self.obj)
        self._tree = KDTree(self._points)

    def errors(self, shape: Shape, measures: dict[str, float]) -> dict[str, float]:
        """The `member_columns` of a shape with these `measured` values.

        An empty shape has relative errors of 1, overlaps of 0, and no distances (NaN).
        """
        errors = {name: relative_error(measures[name], true) for name, true in self.measures.items()}
        distance, hausdorff = surface_distances(surface_points(shape), self._points, self._tree)
        overlap = iou(shape, self.obj)
        return errors | {
            "signed_volume": measures["volume"] / self.measures["volume"] - 1,
            "iou": overlap,
            "dice": 2 * overlap / (1 + overlap),
            "imaged_plane_iou": iou(grid.section(shape), self.section) if shape.any() else 0.0,
            "surface_distance": distance * self.voxel_size,
            "hausdorff_95": hausdorff * self.voxel_size,
        }

    def together(self, members: NDArray[np.bool_], values: dict[str, list[float]]) -> dict[str, float]:
        """Errors and scores of all members (member, 64, 64, 64) of a cell together, from the `measured`
        values of each.

        For each measure ``true_``, ``estimate_`` (the mean over the members) and ``error_`` (the relative
        error of the estimate); then the columns of `TOGETHER`.
        """
        found: dict[str, float] = {}
        for name, true in self.measures.items():
            estimate = float(np.mean(values[name]))
            found |= {f"true_{name}": true, f"estimate_{name}": estimate}
            found[f"error_{name}"] = relative_error(estimate, true)
        found["consensus_iou"] = scores.consensus_iou(members, self.obj) if members.any() else 0.0
        found["energy_score"] = scores.energy_score(members, self.obj)
        return found
