"""Training cells, and the ways in which one real cell becomes many: turned, mirrored, scaled, cut anew.

Signed distances are turned as fields and then truncated, never recomputed for each sample. What a
sample becomes depends on its random generator alone, so that a resumed run sees the same samples.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import affine_transform, gaussian_filter
from scipy.spatial.transform import Rotation

from napari_dispr import grid, signed_distance
from napari_dispr.errors import InputError

#: Distances are kept to this many voxels, so that shrinking a shape leaves enough of them.
STORED_TRUNCATION = 14.0
#: In-plane centre of rotation and of mirrors; z turns about the imaged plane.
PIVOT = np.array([grid.IMAGED_PLANE, grid.CENTRE, grid.CENTRE])


@dataclass(frozen=True, slots=True, eq=False)
class TrainingCell:
    """One cell with its 3D truth, on the model grid.

    Attributes
    ----------
    name : str
    mask : (64, 64) float32 in [0, 1]
    image : (64, 64) float32 in [0, 1] or None
    signed_distance : (64, 64, 64) float16, voxels, positive inside, truncated at 14
    surface : (n, 3) float32
        Points of the surface, to know what would be clipped.
    """

    name: str
    mask: NDArray[np.float32]
    image: NDArray[np.float32] | None
    signed_distance: NDArray[np.float16]
    surface: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """A training pair: mask and image (None: without), and signed distance (64, 64, 64) in voxels."""

    mask: NDArray[np.float32]
    image: NDArray[np.float32] | None
    signed_distance: NDArray[np.float32]


def training_cell(
    name: str, mask: NDArray[np.float32], image: NDArray[np.float32] | None, obj: NDArray[np.uint8]
) -> TrainingCell:
    """Prepare a cell from its antialiased object (64, 64, 64), uint8, inside where above 127.

    Raises
    ------
    InputError
        If the object is empty, or fills the grid.
    """
    surface = signed_distance.crossings(obj.astype(np.float32), 127.5)
    if not len(surface):
        raise InputError(f"The object of cell {name} has no surface: leave the cell out or segment it anew.")
    distance = signed_distance.from_level(obj, 127.5, STORED_TRUNCATION)
    return TrainingCell(name, mask, image, distance.astype(np.float16), surface)


def augmented(
    cell: TrainingCell, rng: np.random.Generator, *, resliced: float = 0.1, image_dropout: float = 0.1
) -> Sample:
    """Draw one sample from a cell.

    Parameters
    ----------
    cell : TrainingCell
    rng : numpy Generator
    resliced : float
        Share of samples whose volume is turned in space and cut anew. Their image is left out. The
        cut goes through the middle of the cell: off-centre cuts teach that a section is small for
        its volume.
    image_dropout : float
        Share of the other samples that come without their image.
    """
    if rng.random() < resliced:
        return _cut_anew(cell, rng)
    turn = _in_plane_turn(rng)
    matrix = _fitting_scale(turn, cell.surface, PIVOT, rng) * turn
    shift = np.array([0.0, *rng.uniform(-1.5, 1.5, 2)])
    distance = _turned(cell.signed_distance, matrix, PIVOT, PIVOT + shift)
    mask = _turned_plane(cell.mask, matrix, shift)
    image = None
    if cell.image is not None and rng.random() >= image_dropout:
        image = _other_optics(_turned_plane(cell.image, matrix, shift), rng)
    return Sample(mask, image, distance)


def unaugmented(cell: TrainingCell) -> Sample:
    """The cell as it is."""
    return Sample(cell.mask, cell.image, cell.signed_distance.astype(np.float32))


def _cut_anew(cell: TrainingCell, rng: np.random.Generator) -> Sample:
    """Turn the volume in space about its middle, so that another section is the imaged one."""
    turn = Rotation.random(random_state=rng).as_matrix()
    middle = (cell.surface.min(axis=0) + cell.surface.max(axis=0)) / 2
    matrix = _fitting_scale(turn, cell.surface, middle, rng) * turn
    distance = _turned(cell.signed_distance, matrix, middle, PIVOT)
    section = np.clip(distance[grid.IMAGED_PLANE] + 0.5, 0, 1).astype(np.float32)
    if not (section > 0.5).any():  # hollow in the middle: that cut shows nothing
        return unaugmented(cell)
    return Sample(section, None, distance)


def _in_plane_turn(rng: np.random.Generator) -> NDArray[np.float64]:
    """A rotation in the plane, mirrored in the plane and about the imaged plane half of the time each."""
    angle = rng.uniform(0, 2 * np.pi)
    mirror_z, mirror_x = rng.choice((-1.0, 1.0), 2)
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[mirror_z, 0, 0], [0, c, -s * mirror_x], [0, s, c * mirror_x]])


def _fitting_scale(
    turn: NDArray[np.float64],
    surface: NDArray[np.float32],
    pivot: NDArray[np.float64],
    rng: np.random.Generator,
) -> float:
    """A random scale, shrunk where the turned shape would leave the grid."""
    reach = np.abs((surface - pivot) @ turn.T).max(axis=0)
    room = np.array([grid.IMAGED_PLANE - 1.0, grid.CENTRE - 1.5, grid.CENTRE - 1.5])
    return float(min(rng.uniform(0.85, 1.15), (room / reach).min()))


def _turned(
    distance: NDArray[np.float16],
    matrix: NDArray[np.float64],
    source: NDArray[np.float64],
    target: NDArray[np.float64],
) -> NDArray[np.float32]:
    """The field with ``matrix`` (a scaled rotation) applied to it, ``source`` moved to ``target``."""
    inverse = np.linalg.inv(matrix)
    scale = np.cbrt(abs(np.linalg.det(matrix)))
    field = affine_transform(
        distance.astype(np.float32), inverse, source - inverse @ target, order=1, mode="nearest"
    )
    return field * np.float32(scale)


def _turned_plane(
    plane: NDArray[np.float32], matrix: NDArray[np.float64], shift: NDArray[np.float64]
) -> NDArray[np.float32]:
    inverse = np.linalg.inv(matrix[1:, 1:])
    pivot = PIVOT[1:]
    return affine_transform(plane, inverse, pivot - inverse @ (pivot + shift[1:]), order=1, mode="constant")


def _other_optics(image: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """The picture as another microscope might have taken it: gamma, blur and noise."""
    image = np.clip(image, 0, None) ** rng.uniform(0.8, 1.25)
    if rng.random() < 0.3:
        image = gaussian_filter(image, rng.uniform(0.3, 1.0))
    noise = rng.normal(0, rng.uniform(0, 0.03), image.shape)
    return (image + noise * image.max()).astype(np.float32)
