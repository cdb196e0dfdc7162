"""A shape against the known one: relative errors by two sets of definitions, overlap, surface distances.

Everything is of the binary volumes, so that who has the saved shapes computes the same, and methods that know
a signed distance are measured as those that do not.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from napari_dispr import grid
from napari_dispr.evaluation.surface_distances import surface_distances, surface_points
from napari_dispr.shapes import scores
from napari_dispr.shapes.label_volumes import level_of
from napari_dispr.shapes.morphometry import binarise, iou, measure_shape, relative_error, shapr_measures
from napari_dispr.shapes.shapr_set import gaussian_curvature_within

Shape = NDArray[np.bool_]
Definitions = Literal["ours", "shapr", "both"]


@dataclass(frozen=True, slots=True)
class Compared:
    """A measure of which the relative error is told.

    Attributes
    ----------
    row : str
        Of the paper's Table 1: volume, surface area, roughness or curvature.
    label : str
        In tables and figures.
    meaning : str
    definitions : str
        Whose definition it is: ours, shapr, or both.
    bounded : bool
        Whether the truth stays away from 0, so that means of the relative error tell something.
    """

    row: str
    label: str
    meaning: str
    definitions: Definitions
    bounded: bool = True


#: Measures by their columns, in the order of tables.
COMPARED: dict[str, Compared] = {
    "volume": Compared("volume", "volume", "voxels inside", "both"),
    "surface_area": Compared(
        "surface area", "surface area", "area of the mesh of the smoothed signed distance", "ours"
    ),
    "surface_mesh": Compared(
        "surface area", "surface area, mesh (SHAPR)", "area of the unsmoothed marching-cubes mesh", "shapr"
    ),
    "surface_voxel": Compared(
        "surface area",
        "surface area, voxels (SHAPR)",
        "voxels with background in their 3 x 3 x 3 neighbourhood",
        "shapr",
    ),
    "roughness": Compared(
        "roughness",
        "roughness",
        "rms distance along the normal between the surface and its smoothed self",
        "ours",
    ),
    "roughness_mesh": Compared(
        "roughness", "roughness, mesh (SHAPR)", "what Humphrey's filter moves the mesh by", "shapr"
    ),
    "roughness_voxel": Compared(
        "roughness", "roughness, voxels (SHAPR)", "voxels that a Gaussian of sigma 2 changes", "shapr"
    ),
    "curvature": Compared(
        "curvature", "curvature", "mean curvature averaged over the surface (bounded)", "ours"
    ),
    "curvature_gaussian": Compared(
        "curvature",
        "curvature (SHAPR notebooks)",
        "mean discrete Gaussian curvature measure within the maximal tangent sphere (unbounded: near 0, or "
        "below, for many shapes)",
        "shapr",
        bounded=False,
    ),
}
_OURS = {name for name, one in COMPARED.items() if one.definitions == "ours"}

#: Of a member, beside the relative errors.
AGREEMENTS: dict[str, str] = {
    "signed_volume": "(predicted - true volume) / true volume",
    "iou": "intersection over union with the true volume",
    "dice": "twice the intersection over the sum of both volumes",
    "imaged_plane_iou": "intersection over union of plane 32 with the mask",
    "surface_distance": "mean distance between the surfaces, both ways",
    "hausdorff_95": "95th percentile of the distances between the surfaces, the larger way",
}
#: Of the members of a cell together.
TOGETHER: dict[str, str] = {
    "consensus_iou": "IoU with the truth of the voxels that at least half of the members hold",
    "energy_score": "fair energy score under 1 - IoU; of a single shape it is 1 - IoU",
}
#: What is in a length, and so in the unit of the voxel size.
LENGTHS = ("surface_distance", "hausdorff_95")
#: Less is better but of these.
MORE_IS_BETTER = frozenset({"iou", "dice", "imaged_plane_iou", "consensus_iou"})


def compared_by(definitions: Definitions) -> dict[str, Compared]:
    """Those of `COMPARED` that belong to definitions: ours, shapr, or both."""
    return {
        name: one
        for name, one in COMPARED.items()
        if definitions == "both" or one.definitions in (definitions, "both")
    }


def member_columns(definitions: Definitions) -> dict[str, str]:
    """What is told of a member, column by column, with its meaning; relative errors come first."""
    errors = {name: f"relative error of: {one.meaning}" for name, one in compared_by(definitions).items()}
    return errors | AGREEMENTS


def measured(shape: Shape, definitions: Definitions = "both") -> dict[str, float]:
    """The measures of a binary volume; 0 throughout for an empty one.

    ``ours`` are those of docs/measures.md, on the smoothed surface about the voxels that has their volume
    (`label_volumes.level_of`); the volume itself is that of the voxels.
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


class Truth:
    """A known shape and its section, measured once for all that is compared with it.

    Parameters
    ----------
    obj : (64, 64, 64) array
        Binary or antialiased (see `binarise`), with a surface.
    mask : (64, 64) array
        The cell in the imaged plane, inside above 0.5.
    definitions : {"ours", "shapr", "both"}
    voxel_size : float
        Side of a voxel, in the unit in which distances are wanted.
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
        """All of `member_columns` of a shape whose `measured` values are known.

        An empty shape has relative errors of 1, as if there were nothing, agrees with nothing, and has no
        distance (NaN).
        """
        errors = {name: relative_error(measures[name], true) for name, true in self.measures.items()}
        distances = surface_distances(surface_points(shape), self._points, self._tree)
        overlap = iou(shape, self.obj)
        return errors | {
            "signed_volume": measures["volume"] / self.measures["volume"] - 1,
            "iou": overlap,
            "dice": 2 * overlap / (1 + overlap),
            "imaged_plane_iou": iou(shape[grid.IMAGED_PLANE], self.section) if shape.any() else 0.0,
            "surface_distance": distances.mean * self.voxel_size,
            "hausdorff_95": distances.hausdorff_95 * self.voxel_size,
        }

    def together(self, members: NDArray[np.bool_], values: dict[str, list[float]]) -> dict[str, float]:
        """What the members of a cell tell together.

        Parameters
        ----------
        members : (member, 64, 64, 64) bool array
        values : dict of measure to list
            The `measured` values of each member.

        Returns
        -------
        dict
            For each measure ``true_``, ``estimate_`` (the mean over the members) and ``error_`` (the
            estimate's relative error), then `TOGETHER`.
        """
        found: dict[str, float] = {}
        for name, true in self.measures.items():
            estimate = float(np.mean(values[name]))
            found |= {f"true_{name}": true, f"estimate_{name}": estimate}
            found[f"error_{name}"] = relative_error(estimate, true)
        found["consensus_iou"] = scores.consensus_iou(members, self.obj) if members.any() else 0.0
        found["energy_score"] = scores.energy_score(members, self.obj)
        return found
