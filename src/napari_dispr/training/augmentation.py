"""Augment training cells: rotate, mirror, scale, bend, reslice and blend.

Signed distances are resampled as fields and then truncated; they are not computed again for each sample. A
sample depends only on its random generator, so that a resumed run gets the same samples.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.ndimage import zoom
from scipy.spatial.transform import Rotation

from napari_dispr import grid
from napari_dispr.cells.novelty import other_optics
from napari_dispr.cells.training_cells import TrainingCell

#: Centre of rotations and mirrors: the imaged plane, and in the plane the centre of the grid.
PIVOT = np.array(grid.MIDDLE)
#: Nodes of a map along an axis. Between them it is linear, as rotations and scalings are.
NODES = 9
#: Standard deviation, in voxels, of the long waves that bend a cell.
BEND = 0.9
#: Sizes vary by at most this share.
SIZE_SPREAD = 0.15

Map = NDArray[np.float32]
#: The least and the largest size relative to the true size.
_Sizes = tuple[float, float]


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """A training pair: mask and image (64, 64), and the signed distance in voxels.

    ``scale`` is the size of the cell relative to its true size. ``stack`` are pictures at all depths,
    (64, 64, 64) in [0, 1], 0 where there is none.
    """

    mask: NDArray[np.float32]
    image: NDArray[np.float32] | None
    signed_distance: NDArray[np.float32]
    scale: float = 1.0
    stack: NDArray[np.float32] | None = None


def augmented(
    cell: TrainingCell,
    rng: np.random.Generator,
    *,
    scale: float = 1.0,
    resliced: float = 0.1,
    blended: float = 0.0,
    partner: TrainingCell | None = None,
    bent: bool = True,
    size_spread: float = SIZE_SPREAD,
    image_dropout: float = 0.1,
    with_stack: bool = False,
) -> Sample:
    """Make a random sample of a cell.

    Parameters
    ----------
    scale : float
        Mean size relative to the true size.
    resliced : float
        Share of samples whose volume is rotated in space, which gives a new section, without image. The
        section goes through the middle of the cell: off-centre sections are too small for their volume.
    blended : float
        Share of samples that are a shape between the cell and its ``partner``, without image.
    bent : bool
        Bend all samples slightly by long random waves. The imaged plane stays flat to a tenth of a voxel.
    size_spread : float
        Sizes vary at random by at most this share.
    image_dropout : float
        Share of the other samples without image.
    with_stack : bool
        Whether samples with image get the pictures at all depths, if the cell has them.
    """
    kind = rng.random()
    sizes = scale * (1 - size_spread), scale * (1 + size_spread)
    if kind < resliced:
        return _resliced(cell, rng, bent, sizes)
    if partner is not None and kind < resliced + blended:
        return _blend(cell, partner, rng, bent, sizes)
    move = _in_plane_map(cell, rng, bent, sizes)
    distance = _moved(cell.signed_distance, move)
    mask = _moved_plane(cell.mask, move)
    image = stack = None
    if cell.image is not None and rng.random() >= image_dropout:
        image = other_optics(_moved_plane(cell.image, move), rng)
        if with_stack and cell.stack is not None:
            stack = _resampled((cell.stack / 255).astype(np.float32), move)
    return Sample(mask, image, distance, move.scale, stack)


def unaugmented(cell: TrainingCell) -> Sample:
    """The cell without augmentation."""
    return Sample(cell.mask, cell.image, cell.signed_distance.astype(np.float32))


@dataclass(frozen=True, slots=True, eq=False)
class _Move:
    """The source of each voxel of a sample, (64, 64, 64, 3) as (x, y, z) in [-1, 1], and its scale."""

    source: torch.Tensor
    scale: float


def _in_plane_map(cell: TrainingCell, rng: np.random.Generator, bent: bool, sizes: _Sizes) -> _Move:
    turn = _in_plane_turn(rng)
    scale = _fitting_scale(turn, cell.surface, PIVOT, rng, sizes)
    shift = np.array([0.0, *rng.uniform(-1.5, 1.5, 2)])
    return _move(scale * turn, PIVOT, PIVOT + shift, _waves(rng) if bent else None, scale)


def _resliced(cell: TrainingCell, rng: np.random.Generator, bent: bool, sizes: _Sizes) -> Sample:
    """Rotate the volume in space about its middle, so that another section is imaged."""
    turn = Rotation.random(random_state=rng).as_matrix()
    middle = (cell.surface.min(axis=0) + cell.surface.max(axis=0)) / 2
    scale = _fitting_scale(turn, cell.surface, middle, rng, sizes)
    move = _move(scale * turn, middle, PIVOT, _waves(rng) if bent else None, scale)
    distance = _moved(cell.signed_distance, move)
    section = _section(distance)
    if not (section > 0.5).any():  # hollow in the middle: the section is empty
        return unaugmented(cell)
    return Sample(section, None, distance, scale)


def _blend(
    cell: TrainingCell, partner: TrainingCell, rng: np.random.Generator, bent: bool, sizes: _Sizes
) -> Sample:
    """A shape between two cells: a randomly weighted mean of their signed distances."""
    moves = [_in_plane_map(one, rng, bent, sizes) for one in (cell, partner)]
    share = np.float32(rng.uniform(0.2, 0.8))
    first, second = (
        _moved(one.signed_distance, move) for one, move in zip((cell, partner), moves, strict=True)
    )
    distance = share * first + (1 - share) * second
    section = _section(distance)
    if not (section > 0.5).any():
        return unaugmented(cell)
    return Sample(section, None, distance, float(moves[0].scale * share + moves[1].scale * (1 - share)))


def _section(distance: NDArray[np.float32]) -> NDArray[np.float32]:
    """The antialiased section of a signed distance in the imaged plane."""
    return np.clip(grid.section(distance) + 0.5, 0, 1).astype(np.float32)


def _in_plane_turn(rng: np.random.Generator) -> NDArray[np.float64]:
    """A random rotation in the plane, with random mirrors in the plane and about the imaged plane."""
    angle = rng.uniform(0, 2 * np.pi)
    mirror_z, mirror_x = rng.choice((-1.0, 1.0), 2)
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[mirror_z, 0, 0], [0, c, -s * mirror_x], [0, s, c * mirror_x]])


def _fitting_scale(
    turn: NDArray[np.float64],
    surface: NDArray[np.float32],
    pivot: NDArray[np.float64],
    rng: np.random.Generator,
    sizes: _Sizes,
) -> float:
    """A random scale within the given ones, reduced if the rotated shape would leave the grid."""
    reach = np.abs((surface - pivot) @ turn.T).max(axis=0)
    room = np.array([grid.IMAGED_PLANE - 1.0, grid.CENTRE - 1.5, grid.CENTRE - 1.5])
    return float(min(rng.uniform(*sizes), (room / reach).min()))


def _waves(rng: np.random.Generator) -> Map:
    """Smooth displacements (z, y, x) at the nodes, (3, n, n, n), in voxels; near 0 along z in the plane."""
    waves = np.stack([zoom(rng.normal(0, 1, (4, 4, 4)), NODES / 4, order=3) for _ in range(3)])
    waves *= BEND / waves.std()
    height = np.linspace(0, grid.SIZE - 1, NODES) - grid.IMAGED_PLANE
    waves[0] *= np.minimum(1, np.abs(height) / 12)[:, None, None]
    edge = np.minimum(1, np.arange(NODES) * (NODES - 1 - np.arange(NODES)) / (NODES - 1))
    for axis in range(3):  # the border of the grid does not move, so that nothing leaves the grid
        waves *= np.moveaxis(edge[:, None, None], 0, axis)
    return waves.astype(np.float32)


def _move(
    matrix: NDArray[np.float64],
    source: NDArray[np.float64],
    target: NDArray[np.float64],
    waves: Map | None,
    scale: float,
) -> _Move:
    """The map that applies ``matrix``, moves ``source`` to ``target``, and bends the result."""
    inverse = np.linalg.inv(matrix)
    node = np.linspace(0, grid.SIZE - 1, NODES)
    nodes = np.stack(np.meshgrid(node, node, node, indexing="ij"))
    if waves is not None:
        nodes = nodes + waves
    origin = np.tensordot(inverse, nodes - target[:, None, None, None], 1) + source[:, None, None, None]
    unit = torch.from_numpy((2 * origin[::-1] / (grid.SIZE - 1) - 1).astype(np.float32))
    full = F.interpolate(unit[None], size=grid.SHAPE, mode="trilinear", align_corners=True)
    return _Move(full[0].permute(1, 2, 3, 0), scale)


def _moved(distance: NDArray[np.float16], move: _Move) -> NDArray[np.float32]:
    return _resampled(distance.astype(np.float32), move) * np.float32(move.scale)


def _resampled(volume: NDArray[np.float32], move: _Move) -> NDArray[np.float32]:
    field = torch.from_numpy(volume)[None, None]
    moved = F.grid_sample(field, move.source[None], padding_mode="border", align_corners=True)
    return np.asarray(moved[0, 0].numpy())


def _moved_plane(plane: NDArray[np.float32], move: _Move) -> NDArray[np.float32]:
    source = move.source[grid.IMAGED_PLANE, :, :, :2]
    moved = F.grid_sample(torch.from_numpy(plane)[None, None], source[None], align_corners=True)
    return np.asarray(moved[0, 0].numpy())
