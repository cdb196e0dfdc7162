"""Measures of one shape in the image's units, tables of them, and errors between two shapes.

Knows neither how shapes are drawn nor how tables are shown.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import trimesh
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from skimage.filters import threshold_otsu
from skimage.measure import marching_cubes

from napari_dispr.card import Calibration
from napari_dispr.shapes.ensemble import MODE_DISTANCE, Ensemble
from napari_dispr.shapes.intervals import LEVEL, read_interval
from napari_dispr.shapes.meshes import surface_mesh

#: Laplacian steps of `roughness`; on a marching-cubes mesh, whose edges are about 0.7 voxel long, they
#: do what a Gaussian of 2 voxels does to a volume.
_SMOOTHING_STEPS = 20


@dataclass(frozen=True, slots=True)
class Measure:
    """What a column of the morphometry table holds.

    Parameters
    ----------
    name : str
        Column of the table.
    unit_power : int
        Power of the unit of length: 3 for a volume, 2 for an area, 1 for a length, 0 for a plain
        number, -1 for a curvature.
    description : str
        What it is, in words that stand beside the table.
    """

    name: str
    unit_power: int
    description: str

    def unit(self, length: str) -> str:
        """Return the unit, such as ``micrometer^3``, for a unit of length such as ``micrometer``."""
        if self.unit_power == 0:
            return "no unit"
        return length if self.unit_power == 1 else f"{length}^{self.unit_power}"


_MEASURES = (
    Measure("volume", 3, "space inside the surface"),
    Measure("surface_area", 2, "area of the surface"),
    Measure("sphericity", 0, "area of a sphere of the same volume over the surface area; 1 for a sphere"),
    Measure(
        "roughness",
        1,
        "rms distance along the normal between the surface and its smoothed self (as by a Gaussian of 2 grid "
        "voxels), less the mean distance; 0 for a sphere",
    ),
    Measure("curvature", -1, "mean curvature averaged over the surface; 1 / radius for a sphere"),
    Measure("equivalent_diameter", 1, "diameter of a sphere of the same volume"),
)
#: Measures of the table by their names, in its order.
MEASURES: dict[str, Measure] = {measure.name: measure for measure in _MEASURES}


def measure_shape(signed_distance: ArrayLike, frame: ArrayLike = (1.0, 1.0, 1.0)) -> dict[str, float]:
    """Measure one shape by its surface mesh, so that measures vary smoothly below the size of a voxel.

    Parameters
    ----------
    signed_distance : (64, 64, 64) array
        In voxels, positive inside.
    frame : (3,) or (4, 4) array
        Size of a voxel along (z, y, x), or the affine from voxel-centre index to world. Only lengths
        and angles matter, not where the shape lies.

    Returns
    -------
    dict
        A value for every name in `MEASURES`, in the frame's unit to the measure's power. A shape
        without a voxel inside has volume 0 and NaN for all else.

    Notes
    -----
    With V the volume and A the area of the closed mesh (`surface_mesh`):

    - sphericity ``pi^(1/3) (6 V)^(2/3) / A`` [1]_;
    - curvature ``M / A``, where M, the integral of the mean curvature, is the sum over the mesh's edges
      of half the length times the signed angle between the faces that meet there [2]_. The angles that
      voxels put into a mesh cancel in this sum. It is bounded as M and A are, negative for a shape that
      is mostly hollowed out, and for a convex shape M is 2 pi times its mean width;
    - roughness: each vertex moves under 20 Laplacian steps (half of the way to the mean of its
      neighbours [3]_) by some distance along its normal; roughness is the area-weighted standard
      deviation of that distance. Smoothing moves a sphere everywhere alike, so that spheres of all sizes
      have 0. It is the sub-voxel relative of SHAPR's voxel roughness (Gaussian of sigma 2), which grows
      as a smooth object shrinks. What is finer than 2 voxels counts in full, what is much coarser hardly.

    References
    ----------
    .. [1] Wadell (1935). Volume, shape, and roundness of quartz particles. Journal of Geology 43(3).
    .. [2] Cohen-Steiner and Morvan (2003). Restricted Delaunay triangulations and normal cycle.
       Symposium on Computational Geometry.
    .. [3] Vollmer et al. (1999). Improved Laplacian smoothing of noisy surface meshes. Computer Graphics
       Forum 18(3).

    Examples
    --------
    >>> z, y, x = np.indices((64, 64, 64)) - 31.5
    >>> ball = measure_shape(20 - np.sqrt(z**2 + y**2 + x**2), (0.1, 0.1, 0.1))
    >>> round(ball["equivalent_diameter"], 2), round(ball["curvature"], 2)
    (4.0, 0.5)
    """
    mesh = surface_mesh(signed_distance, frame)
    if not len(mesh.faces):
        return {name: 0.0 if name == "volume" else np.nan for name in MEASURES}
    volume, area = float(mesh.volume), float(mesh.area)
    return {
        "volume": volume,
        "surface_area": area,
        "sphericity": np.pi ** (1 / 3) * (6 * volume) ** (2 / 3) / area,
        "roughness": _roughness(mesh),
        "curvature": float(mesh.integral_mean_curvature) / area,
        "equivalent_diameter": (6 * volume / np.pi) ** (1 / 3),
    }


def _roughness(mesh: trimesh.Trimesh) -> float:
    smooth = mesh.copy()
    trimesh.smoothing.filter_laplacian(smooth, lamb=0.5, iterations=_SMOOTHING_STEPS, volume_constraint=False)
    moved = np.einsum("ij,ij->i", mesh.vertices - smooth.vertices, mesh.vertex_normals)
    area = np.bincount(mesh.faces.ravel(), np.repeat(mesh.area_faces, 3), len(mesh.vertices))
    return float(np.sqrt(np.average((moved - np.average(moved, weights=area)) ** 2, weights=area)))


def measure_ensembles(ensembles: Mapping[int, Ensemble]) -> pd.DataFrame:
    """Morphometry table of a prediction.

    Parameters
    ----------
    ensembles : mapping of label to Ensemble

    Returns
    -------
    DataFrame
        A row a cell and member, columns ``label``, ``member`` and those of `MEASURES`.
        ``attrs["columns"]`` maps each column to its unit and meaning.

    Raises
    ------
    ValueError
        The ensembles are in different units.
    """
    rows = [
        {"label": ensemble.label, "member": member, **measure_shape(distance, ensemble.grid_to_world)}
        for ensemble in ensembles.values()
        for member, distance in enumerate(ensemble.signed_distance)
    ]
    table = pd.DataFrame(rows, columns=["label", "member", *MEASURES])
    units = {ensemble.unit for ensemble in ensembles.values()} or {"pixel"}
    if len(units) > 1:
        raise ValueError(
            f"ensembles in different units ({', '.join(sorted(units))}) do not go into one table"
        )
    unit = units.pop()
    table.attrs["columns"] = {
        "label": "no unit: value of the cell in the label layer",
        "member": "no unit: index of the member in the cell's ensemble, from 0",
        **{name: f"{measure.unit(unit)}: {measure.description}" for name, measure in MEASURES.items()},
    }
    return table


def summarise(table: pd.DataFrame, intervals: Mapping[str, Calibration] | None = None) -> pd.DataFrame:
    """Mean, standard deviation and interval of each measure over the members of each cell.

    Parameters
    ----------
    table : DataFrame
        From `measure_ensembles`.
    intervals : mapping of measure to Calibration, optional
        What intervals are read from (a model's card has them).

    Returns
    -------
    DataFrame
        A row a cell, in the table's order: ``label``, ``members`` (their number), then ``volume_mean``,
        ``volume_sd`` and, where there is a calibration, ``volume_low`` and ``volume_high``, between which
        the true value lies with a probability of 90 %; and so on. The standard deviation is the sample's
        (n - 1), NaN for one member; members without a value (empty shapes) are left out of all but the
        volume. ``attrs["columns"]`` maps each column to its unit and meaning.
    """
    cells = table.groupby("label", sort=False)
    columns: dict[str, pd.Series] = {"members": cells.size()}
    texts = {
        "label": "no unit: value of the cell in the label layer",
        "members": "no unit: number of members",
    }
    for name in MEASURES:
        text = table.attrs.get("columns", {}).get(name, MEASURES[name].description)
        columns |= {f"{name}_mean": cells[name].mean(), f"{name}_sd": cells[name].std()}
        texts |= {
            f"{name}_mean": f"{text} (mean over the members)",
            f"{name}_sd": f"{text} (standard deviation over the members)",
        }
        if calibration := (intervals or {}).get(name):
            ends = np.array([read_interval(values, calibration) for _, values in cells[name]]).reshape(-1, 2)
            if name == "sphericity":  # nothing is rounder than a sphere
                ends = np.minimum(ends, 1)
            said = f"end of the {LEVEL:.0%} interval, calibrated on {len(calibration.scores)} cells"
            for end, word, values in zip(("low", "high"), ("lower", "upper"), ends.T, strict=True):
                columns[f"{name}_{end}"] = pd.Series(values, index=columns["members"].index)
                texts[f"{name}_{end}"] = f"{text} ({word} {said})"
    summary = pd.DataFrame(columns).reset_index()
    summary.attrs["columns"] = texts
    return summary


def agreement(ensembles: Mapping[int, Ensemble]) -> pd.DataFrame:
    """How much the members of each cell agree.

    Parameters
    ----------
    ensembles : mapping of label to Ensemble

    Returns
    -------
    DataFrame
        A row a cell: ``label``, ``ambiguity`` (mean of 1 - IoU over pairs of members; NaN for one member)
        and ``modes`` (groups of similar members). ``attrs["columns"]`` as in `summarise`.
    """
    rows = [(ensemble.label, ensemble.ambiguity, len(ensemble.modes)) for ensemble in ensembles.values()]
    table = pd.DataFrame(rows, columns=["label", "ambiguity", "modes"])
    table.attrs["columns"] = {
        "ambiguity": "no unit: 1 - IoU, mean over all pairs of members; 0 where all are the same shape",
        "modes": "no unit: groups of similar members (average linkage on 1 - IoU, cut at "
        f"{MODE_DISTANCE}); more than one: the picture fits quite different shapes",
    }
    return table


def binarise(volume: ArrayLike) -> NDArray[np.bool_]:
    """Object voxels as SHAPR's measures take them: divided by the maximum, above Otsu's threshold.

    A bool volume is taken as it is; of a volume without anything above 0 no voxel is object.
    """
    volume = np.asarray(volume)
    if volume.dtype == bool:
        return volume
    if not volume.max() > 0:
        return np.zeros(volume.shape, dtype=bool)
    level = volume / volume.max()
    if level.min() == 1:  # object throughout, where no threshold is below anything
        return np.ones(volume.shape, dtype=bool)
    return np.asarray(level > threshold_otsu(level.ravel()))


def _binary_mesh(obj: NDArray[np.bool_]) -> trimesh.Trimesh:
    # As SHAPR does, without closing an object that touches the border.
    if obj.all() or not obj.any():
        return trimesh.Trimesh()
    vertices, faces, _, _ = marching_cubes(obj.astype(np.float32), 0.5, gradient_direction="ascent")
    return trimesh.Trimesh(vertices, faces, process=False)


def volume_voxels(obj: NDArray[np.bool_]) -> float:
    """Object voxels."""
    return float(np.count_nonzero(obj))


def surface_mesh_area(obj: NDArray[np.bool_]) -> float:
    """Area of the unsmoothed marching-cubes mesh of the binary volume, in squared voxels."""
    return float(_binary_mesh(obj).area)


def surface_voxel(obj: NDArray[np.bool_]) -> float:
    """Object voxels with background in their 3 x 3 x 3 neighbourhood; beyond the border is no background."""
    inner = ndimage.binary_erosion(obj, np.ones((3, 3, 3)), border_value=1)
    return float(np.count_nonzero(obj & ~inner))


def roughness_voxel(obj: NDArray[np.bool_]) -> float:
    """Voxels that a Gaussian of sigma 2, cut at 0.5, adds or takes away."""
    smooth = ndimage.gaussian_filter(obj.astype(np.float32), 2) > 0.5
    return float(np.count_nonzero(smooth != obj))


def roughness_mesh(obj: NDArray[np.bool_]) -> float:
    """Root of the summed squares of what Humphrey's filter moves the mesh's vertices by, in voxels.

    The filter is trimesh's `filter_humphrey` with its defaults, after Vollmer et al. (1999).
    """
    mesh = _binary_mesh(obj)
    if not len(mesh.faces):
        return 0.0
    smooth = trimesh.smoothing.filter_humphrey(mesh.copy())
    return float(np.linalg.norm(mesh.vertices - smooth.vertices))


#: The measures by which SHAPR and DISPR compare a shape with the truth, of binary volumes.
SHAPR_MEASURES: dict[str, Callable[[NDArray[np.bool_]], float]] = {
    "volume": volume_voxels,
    "surface_mesh": surface_mesh_area,
    "surface_voxel": surface_voxel,
    "roughness_mesh": roughness_mesh,
    "roughness_voxel": roughness_voxel,
}


def shapr_measures(obj: NDArray[np.bool_]) -> dict[str, float]:
    """Every one of `SHAPR_MEASURES` of a binary volume (see `binarise`)."""
    return {name: measure(obj) for name, measure in SHAPR_MEASURES.items()}


def relative_error(predicted: float, true: float) -> float:
    """``|predicted - true| / |true|``; infinite where the truth is 0 and the prediction is not."""
    if true == 0:
        return 0.0 if predicted == 0 else np.inf
    return abs(predicted - true) / abs(true)


def iou(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """Voxels that both hold as a share of those that either holds; 1 where both are empty."""
    either = np.count_nonzero(first | second)
    return np.count_nonzero(first & second) / either if either else 1.0
