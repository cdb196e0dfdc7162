"""What Compare shows for one cell: surfaces of its shapes, their disagreement, the picture. No Qt.

Coordinates of the view are (x, y, z) in the unit of the world, about the cell's middle in the imaged plane:
x to the right in the picture, y upwards, z towards the viewer. Nothing is mirrored, and a picture that is
rotated in its world is upright here.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Labels
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from napari_dispr import grid
from napari_dispr.shapes.ensemble import Ensemble
from napari_dispr.shapes.mesh_files import meshes_of_labels
from napari_dispr.shapes.meshes import surface_mesh, without_creases
from napari_dispr.viewer.displayed import DisplayedPlane, finest
from napari_dispr.viewer.opened import OpenPrediction
from napari_dispr.viewer.world import layer_to_world
from napari_dispr.widgets.compare.sheets import (
    SMALL_DISC,
    Sheet,
    known_sheets,
    picture_sheet,
    places_on_grid,
)

if TYPE_CHECKING:
    import trimesh

#: How much more than the shapes the picture shows around them.
_MARGIN = 1.12
#: Middle of a cell on the grid, (z, y, x).
_MIDDLE = np.array(grid.MIDDLE)


@dataclass(frozen=True, slots=True, eq=False)
class Surface:
    """A closed surface in the coordinates of the view.

    ``values`` are for the consensus: the spread of the members' surfaces at each vertex, in the unit of the
    world.
    """

    vertices: NDArray[np.float32]
    faces: NDArray[np.uint32]
    values: NDArray[np.float32] | None = None

    @property
    def volume(self) -> float:
        """Volume by the divergence theorem."""
        a, b, c = self.vertices[self.faces].astype(np.float64).transpose(1, 0, 2)
        return float(np.einsum("ij,ij->", a, np.cross(b, c)) / 6)


@dataclass(frozen=True, slots=True, eq=False)
class Mode:
    """A group of similar members: A, B, ..., the largest first, and its share of all members of the cell."""

    letter: str
    numbers: tuple[int, ...]
    share: float


@dataclass(frozen=True, slots=True, eq=False)
class CellShapes:
    """The shapes of one cell, ready for painting. All lengths are in ``unit``.

    Attributes
    ----------
    members, coarse : dict of int to Surface
        By number; coarse ones have half the resolution, for small tiles.
    consensus : Surface or None
        With values; None if no voxel lies in half of the members.
    occupancy : (z, y, x) float32
        Planes upwards, rows upwards: in the directions of the view.
    voxel, first : float, (3,) float
        Side of a voxel of the occupancy; centre of its first one, (x, y, z).
    radius, half : float
        Radius of a ball around the centre that contains all shapes; half of the side of the sheets.
    sheets : tuple of Sheet
        The known planes of a cell that has several; else the picture, if there is one.
    """

    label: int
    unit: str
    members: dict[int, Surface]
    coarse: dict[int, Surface]
    consensus: Surface | None
    truth: Surface | None
    modes: tuple[Mode, ...]
    occupancy: NDArray[np.float32]
    voxel: float
    first: tuple[float, float, float]
    radius: float
    half: float
    sheets: tuple[Sheet, ...]

    def mode_of(self, number: int) -> Mode:
        """The group that a member belongs to."""
        return next(mode for mode in self.modes if number in mode.numbers)


def modes_of(ensemble: Ensemble) -> tuple[Mode, ...]:
    """The groups of similar members of an ensemble, the largest first."""
    return tuple(
        Mode(
            f"A{i}" if i > 25 else chr(ord("A") + i),
            ensemble.numbers_at(members),
            len(members) / len(ensemble),
        )
        for i, members in enumerate(ensemble.modes)
    )


def modes_in_words(modes: tuple[Mode, ...]) -> str:
    """Such as ``2 shapes fit: A 60 %, B 40 %``."""
    if len(modes) == 1:
        return "one kind of shape fits" if len(modes[0].numbers) > 1 else "one shape"
    shares = ", ".join(f"{mode.letter} {mode.share:.0%}".replace("%", " %") for mode in modes)
    return f"{len(modes)} kinds of shape fit: {shares}"


def cell_shapes(
    opened: OpenPrediction,
    label: int,
    truth: "Truth | None" = None,
    contrast: tuple[float, float] | None = None,
) -> CellShapes:
    """All shapes of a cell; takes about 10 ms for each member: call it in a thread.

    Parameters
    ----------
    truth : Truth, optional
        3D labels that may contain the cell's true shape, with the same label.
    contrast : (float, float), optional
        Values of the picture that are black and white; by default its own range around the cell.
    """
    ensemble = opened.prediction[label]
    members, coarse = {}, {}
    for number, distance in zip(ensemble.numbers, ensemble.signed_distance, strict=True):
        members[number] = _seen(surface_mesh(distance), ensemble)
        coarse[number] = _seen(surface_mesh(_halved(distance)), ensemble, step=2)
    consensus = _consensus(ensemble)
    true = _true_surface(ensemble, label, truth, opened.depth)
    surfaces = [one for one in (*members.values(), consensus, true) if one is not None]
    reach = [np.abs(one.vertices).max(axis=0) for one in surfaces if len(one.vertices)]
    half = _MARGIN * float(max((r[:2].max() for r in reach), default=grid.SIZE / 4))
    radius = max((float(np.linalg.norm(one.vertices, axis=1).max()) for one in surfaces
                  if len(one.vertices)), default=half)  # fmt: skip
    voxel = float(ensemble.spacing.mean())
    sheets = known_sheets(ensemble, half, radius) or _picture(opened, ensemble, half, contrast)
    # Seen obliquely, a disc above or below the shapes reaches beyond its centre.
    tallest = max((abs(sheet.height) + 0.6 * SMALL_DISC * half for sheet in sheets), default=0.0)
    # Axes z and y of the grid are opposite to those of the view.
    first = -(np.array([grid.SIZE - 1, grid.SIZE - 1, 0]) - _MIDDLE) * [1, 1, -1] * voxel
    return CellShapes(
        label=label,
        unit=opened.prediction.unit,
        members=members,
        coarse=coarse,
        consensus=consensus,
        truth=true,
        modes=modes_of(ensemble),
        occupancy=np.ascontiguousarray(ensemble.occupancy[::-1, ::-1]),
        voxel=voxel,
        first=(float(first[2]), float(first[1]), float(first[0])),
        radius=max(radius, half, tallest),
        half=half,
        sheets=sheets,
    )


def _halved(distance: NDArray[np.float32]) -> NDArray[np.float32]:
    """At half the resolution; distances in the new voxels matter only by their sign and ratios."""
    blocks = distance.reshape(32, 2, 32, 2, 32, 2)
    return np.asarray(blocks.mean(axis=(1, 3, 5)))


def _seen(
    mesh: "trimesh.Trimesh", ensemble: Ensemble, step: int = 1, values: NDArray[np.float32] | None = None
) -> Surface:
    """A mesh in voxels (z, y, x) of the grid, or of ``step`` of its voxels, as a surface of the view."""
    index = np.asarray(mesh.vertices, dtype=np.float64).reshape(-1, 3) * step + (step - 1) / 2
    place = (index - _MIDDLE) * ensemble.spacing
    vertices = np.ascontiguousarray(place[:, ::-1] * [1, -1, -1], dtype=np.float32)
    # Three axes in reverse order and two of them flipped: the handedness changes.
    faces = np.asarray(mesh.faces, dtype=np.uint32).reshape(-1, 3)[:, ::-1]
    return Surface(vertices, np.ascontiguousarray(faces), values)


def _consensus(ensemble: Ensemble) -> Surface | None:
    mesh = without_creases(surface_mesh(ensemble.consensus_distance))
    if not len(mesh.vertices):
        return None
    # How far apart the members' surfaces are: their signed distances along the consensus' surface.
    at = np.asarray(mesh.vertices).T
    distances = [map_coordinates(one, at, order=1, mode="nearest") for one in ensemble.signed_distance]
    spread = np.std(distances, axis=0, ddof=1) if len(distances) > 1 else np.zeros(len(mesh.vertices))
    return _seen(mesh, ensemble, values=(spread * ensemble.spacing.mean()).astype(np.float32))


# --- the truth ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """3D labels (z, y, x), perhaps lazy, in the world of a prediction: ``to_world`` is from voxel-centre
    index.
    """

    array: Any
    to_world: NDArray[np.float64]

    @classmethod
    def of(cls, layer: Labels, opened: OpenPrediction) -> "Truth":
        """A 3D labels layer, not read yet; the finest level of a multiscale one."""
        return cls(finest(layer), layer_to_world(layer, opened.unit))


def _true_surface(ensemble: Ensemble, label: int, truth: Truth | None, depth: float) -> Surface | None:
    if truth is None:
        return None
    labels = np.asarray(truth.array)
    box = grid.box_of(labels == label)
    if box is None:
        return None
    start = np.array([side.start for side in box], dtype=np.float64)
    # From voxels of the truth to those of the grid, whose world does not include the picture's depth.
    from_world = np.linalg.inv(ensemble.grid_to_world) @ grid.translation((-depth, 0.0, 0.0))
    to_grid = from_world @ truth.to_world @ grid.translation((start[0], start[1], start[2]))
    meshes = meshes_of_labels((labels[box] == label).astype(np.uint8), to_grid)
    return _seen(meshes[1], ensemble) if 1 in meshes else None


# --- the picture ----------------------------------------------------------------------------------------


def _picture(
    opened: OpenPrediction, ensemble: Ensemble, half: float, contrast: tuple[float, float] | None
) -> tuple[Sheet, ...]:
    """The picture around a cell; if it is not open, the model's input; nothing if that is unknown, too."""
    index = places_on_grid(ensemble, half)
    if opened.plane is not None and "depths" not in opened.prediction.provenance:
        sampled = _of_picture(opened.plane, opened.prediction.image_to_world, ensemble, index)
    elif ensemble.section is not None and ensemble.section.image is not None:
        seen = ensemble.section.image * (ensemble.section.mask > 0)
        sampled, contrast = map_coordinates(seen, index, order=1, mode="constant"), None
    else:
        return ()
    low, high = contrast if contrast is not None else (float(sampled.min()), float(sampled.max()))
    return (picture_sheet(np.clip((sampled - low) / max(high - low, 1e-12), 0, 1), half),)


def _of_picture(
    plane: DisplayedPlane, image_to_world: NDArray[np.float64], ensemble: Ensemble, index: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The picture's values at grid indices (2, h, w); reads only the needed part."""
    to_pixel = np.linalg.inv(grid.pixel_to_world(image_to_world)) @ ensemble.grid_to_world
    pixel = np.einsum("ij,jhw->ihw", to_pixel[1:3, 1:3], index)
    pixel += (to_pixel[1:3, 0] * grid.IMAGED_PLANE + to_pixel[1:3, 3])[:, None, None]
    low = np.maximum(np.floor(pixel.min(axis=(1, 2))).astype(int), 0)
    high = np.minimum(np.ceil(pixel.max(axis=(1, 2))).astype(int) + 1, plane.shape)
    part = np.asarray(plane.array[low[0] : high[0], low[1] : high[1]], dtype=np.float64)
    return np.asarray(map_coordinates(part, pixel - low[:, None, None], order=1, mode="nearest"))
