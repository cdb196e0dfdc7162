"""The ensemble: the members sampled for one cell, their consensus and modes, and its files.

Knows neither how members are sampled nor how they are shown.
"""

import os
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_dispr import grid
from napari_dispr.errors import InputError
from napari_dispr.files import reading, written_aside
from napari_dispr.shapes.ome import OmeImage, write_ome_tiff
from napari_dispr.shapes.section import Section

#: Members belong to different modes if their mean 1 - IoU is above this (average linkage).
MODE_DISTANCE = 0.5

#: Smaller parts of a shape (as a share of it) that do not reach the imaged plane are debris.
DEBRIS = 0.02

#: Members are stretched at most by this factor, unless known cells say by how much.
MOST_STRETCH = 1.5

#: How hard signed distances are compressed: 6, zlib's default, takes twice as long and saves 2 %.
_COMPRESSION = 1
#: A file that promises more than this many times its bytes, and more than the second number, is damaged.
_MOST_PACKED, _SMALL = 100, 2**26

#: A volume of an ensemble that can be written as OME-TIFF.
Volume = Literal["members", "occupancy", "consensus"]


@dataclass(frozen=True, slots=True, eq=False)
class Ensemble:
    """The members of one cell, member axis first, on the model grid.

    Raises a ValueError if an array has a wrong shape, distances are not finite, or a member has no number of
    its own.

    Parameters
    ----------
    label : int
        Value of the cell in the label layer.
    signed_distance : (member, 64, 64, 64) array
        In voxels, positive inside; float32 rounded to half precision, so that a saved and reloaded ensemble
        is equal (near the surface the rounding is below 0.001 voxel).
    grid_to_world : (4, 4) array
        Affine on (z, y, x, 1) from voxel-centre index to world.
    unit : str
        Of the axes of the world ("pixel", "micrometer", ...).
    zoom : float
        Voxels of the model grid per pixel.
    numbers : tuple of int
        The number of each member, which decides its noise; by default 0, 1, 2, ... Adding or removing
        members does not change the numbers of the others.
    section : Section, optional
        Needed to sample more members.
    """

    label: int
    signed_distance: NDArray[np.float32] = field(repr=False)
    grid_to_world: NDArray[np.float64] = field(repr=False)
    unit: str = "pixel"
    zoom: float = 1.0
    numbers: tuple[int, ...] = ()
    section: Section | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        distance = np.asarray(self.signed_distance)
        if distance.ndim != 4 or distance.shape[0] < 1 or distance.shape[1:] != grid.SHAPE:
            raise ValueError(f"an ensemble has shape (member, 64, 64, 64), not {distance.shape}")
        if distance.dtype.kind not in "biuf":
            raise ValueError(f"signed distances are real numbers, not {distance.dtype}")
        affine = grid.check_affine(self.grid_to_world)
        if affine.shape != (4, 4):
            raise ValueError(f"grid_to_world is a (4, 4) affine, not {self.grid_to_world}")
        rounded = distance.astype(np.float16).astype(np.float32)
        if not np.isfinite(rounded).all():
            raise ValueError(f"the signed distance of cell {self.label} is not finite")
        numbers = tuple(int(number) for number in self.numbers) or tuple(range(len(distance)))
        if len(numbers) != len(distance) or len(set(numbers)) != len(numbers):
            raise ValueError(f"{len(distance)} members have as many different numbers, not {self.numbers}")
        object.__setattr__(self, "numbers", numbers)
        object.__setattr__(self, "label", int(self.label))
        object.__setattr__(self, "signed_distance", rounded)
        object.__setattr__(self, "grid_to_world", affine)
        object.__setattr__(self, "zoom", float(self.zoom))

    def __len__(self) -> int:
        return len(self.signed_distance)

    def without(self, number: int) -> "Ensemble":
        left = [i for i, one in enumerate(self.numbers) if one != number]
        return replace(self, signed_distance=self.signed_distance[left], numbers=self.numbers_at(left))

    def joined(self, other: "Ensemble") -> "Ensemble":
        """The ensemble with more members of the same cell on the same grid."""
        both = np.concatenate([self.signed_distance, other.signed_distance])
        return replace(self, signed_distance=both, numbers=self.numbers + other.numbers)

    def numbers_at(self, indices: Iterable[int]) -> tuple[int, ...]:
        return tuple(self.numbers[i] for i in indices)

    @property
    def members(self) -> NDArray[np.bool_]:
        """Voxels inside each member, (member, z, y, x)."""
        return self.signed_distance > 0

    @property
    def occupancy(self) -> NDArray[np.float32]:
        """Share of the members that contain a voxel, in [0, 1], (z, y, x)."""
        return self.members.mean(axis=0, dtype=np.float32)

    @property
    def consensus(self) -> NDArray[np.bool_]:
        """Voxels that at least half of the members contain, (z, y, x)."""
        return self.occupancy >= 0.5

    @property
    def consensus_distance(self) -> NDArray[np.float32]:
        """A smooth level (z, y, x) that is positive in the consensus only.

        At each voxel it is the k-th largest of the n signed distances, with k half of n, rounded up.
        """
        k = (len(self) + 1) // 2
        return np.partition(self.signed_distance, len(self) - k, axis=0)[len(self) - k]

    @property
    def spacing(self) -> NDArray[np.float64]:
        """Size of a voxel along z, y, x in world units."""
        return grid.spacing(self.grid_to_world)

    @property
    def modes(self) -> list[tuple[int, ...]]:
        """Groups of similar members, see `modes_of`."""
        return modes_of(pairwise_iou(self.members))

    @property
    def ambiguity(self) -> float:
        """How much members differ: mean 1 - IoU over all pairs of members; NaN for a single member.

        0 if all members are equal, 1 if no two share a voxel.
        """
        return diversity(self.members)

    def save_npz(self, path: str | os.PathLike[str]) -> None:
        """Save all of the ensemble for `load_npz`, signed distances in float16."""
        arrays = {
            "label": np.uint64(self.label),
            "signed_distance": self.signed_distance.astype(np.float16),
            "grid_to_world": self.grid_to_world,
            "unit": np.str_(self.unit),
            "zoom": np.float64(self.zoom),
            "numbers": np.array(self.numbers, dtype=np.int64),
            **(self.section.arrays() if self.section else {}),
        }
        # As numpy.savez_compressed, which has no choice of the level. Opened by name, not by `ZipInfo`, which
        # is not compressed; the date of the entries is that of 1980.
        with (
            written_aside(path) as temporary,
            zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=_COMPRESSION) as archive,
        ):
            for name, array in arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                    np.lib.format.write_array(file, np.asanyarray(array), allow_pickle=False)

    @classmethod
    def load_npz(cls, path: str | os.PathLike[str]) -> Self:
        """Read a file of `save_npz`; see `arrays_of` for the errors."""
        with arrays_of(path) as arrays:
            return cls(
                label=int(arrays["label"].item()),
                signed_distance=arrays["signed_distance"],
                grid_to_world=arrays["grid_to_world"],
                unit=str(arrays["unit"]),
                zoom=float(arrays["zoom"].item()),
                numbers=tuple(arrays["numbers"].tolist()),
                section=Section.of_arrays(arrays),
            )

    def save_tiff(
        self,
        path: str | os.PathLike[str],
        provenance: Mapping[str, Any] | None = None,
        what: Volume | Sequence[Volume] = "members",
        depth: float = 0.0,
    ) -> None:
        """Save as OME-TIFF, on the model grid, with the size of the voxels.

        Parameters
        ----------
        path : path
            Usually ``LABEL.ome.tif``. ``tifffile.imread(path, squeeze=False)`` also keeps the axis of a
            single member; it gives OME's six axes (member, z, 1, y, x, 1).
        provenance : mapping, optional
            JSON content (model name and hash, settings, seed, version) for the description of the image.
        what : {"members", "occupancy", "consensus"}, or several
            The members as uint8 (1 inside), axes TZYX with T = member; the occupancy as float32, axes ZYX;
            the consensus as uint8, axes ZYX. Several become the images (series) of one file, in this order.
        depth : float
            World z of the image, if it is a plane of a stack.
        """
        to_world = grid.translation((depth, 0.0, 0.0)) @ self.grid_to_world
        images = []
        for one in (what,) if isinstance(what, str) else what:
            description = {
                "label": self.label,
                "content": one,
                "grid_to_world": to_world.tolist(),
                "unit": self.unit,
                "zoom": self.zoom,
                "numbers": list(self.numbers),
                **(provenance or {}),
            }
            name = f"cell {self.label}" if one == "members" else f"cell {self.label}: {one}"
            images.append(OmeImage(getattr(self, one), name, to_world, self.unit, description))
        write_ome_tiff(path, images)


@contextmanager
def arrays_of(path: str | os.PathLike[str]) -> Iterator[Mapping[str, NDArray[Any]]]:
    """The arrays of a file of `Ensemble.save_npz`, read when they are asked for.

    Raises an InputError if the file is missing, damaged or of another kind.
    """
    if not os.path.exists(path):
        raise InputError(f"{path} is missing: give the folder of a complete prediction.")
    with (
        reading(Path(path), "an ensemble of napari-dispr", "predict this cell again"),
        np.load(path, allow_pickle=False) as arrays,
    ):
        promised = sum(one.file_size for one in arrays.zip.infolist())
        if promised > max(_MOST_PACKED * os.path.getsize(path), _SMALL):
            raise ValueError(f"{promised} bytes are too many for such a small file")
        yield arrays


def without_debris(signed_distance: NDArray[np.float32], depths: Sequence[float] = ()) -> NDArray[np.float32]:
    """Remove small parts that sampling sometimes leaves.

    A part is removed, by changing the sign of its signed distance, if it is smaller than `DEBRIS` and does
    not reach the imaged plane, where the mask would show it, or another known plane. These are at ``depths``
    in voxels from the imaged plane.
    """
    inside = signed_distance > 0
    if ndimage.label(inside[grid.box_of(inside)])[1] < 2:
        return signed_distance
    parts, _ = ndimage.label(inside)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    small = sizes < DEBRIS * sizes.sum()
    for depth in (0.0, *depths):
        place = grid.IMAGED_PLANE + depth
        small[np.unique(parts[int(np.floor(place)) : int(np.ceil(place)) + 1])] = False
    return np.where(small[parts] & (parts > 0), -signed_distance, signed_distance)


def stretched(
    signed_distance: NDArray[np.float32], factor: float, most: float = MOST_STRETCH
) -> NDArray[np.float32]:
    """Stretch a shape along z about the imaged plane, which does not change.

    ``factor`` is that of the volume, limited to ``1 / most`` to ``most`` and by the size of the grid. Signed
    distances are accurate to the factor, and exact at the surface.
    """
    inside = grid.depths_inside(signed_distance > 0)
    if not len(inside):
        return signed_distance
    reach = 1 + np.abs(inside).max()
    factor = float(np.clip(factor, 1 / most, most))
    factor = min(factor, max(1.0, (grid.SIZE - 1 - grid.IMAGED_PLANE) / reach))
    source = (np.arange(grid.SIZE) - grid.IMAGED_PLANE) / factor + grid.IMAGED_PLANE
    beyond = (source < 0) | (source > grid.SIZE - 1)
    source = np.clip(source, 0, grid.SIZE - 1)
    below = np.clip(source.astype(int), 0, grid.SIZE - 2)
    share = (source - below).astype(np.float32)[:, None, None]
    result = signed_distance[below] * (1 - share) + signed_distance[below + 1] * share
    result[beyond] = -np.abs(result[beyond])  # outside the grid nothing is known
    return np.asarray(result)


def pairwise_iou(members: NDArray[np.bool_]) -> NDArray[np.float64]:
    """IoU of all pairs of members, (member, member); 1 for two empty members."""
    box = grid.box_of(np.asarray(members.any(axis=0))) or ()
    flat = members[:, *box].reshape(len(members), -1).astype(np.float32)
    both = (flat @ flat.T).astype(np.float64)  # counts up to 64^3 are exact in float32
    volume = np.diag(both)
    either = volume[:, None] + volume[None, :] - both
    return np.where(either > 0, both / np.maximum(either, 1.0), 1.0)


def modes_of(alike: NDArray[np.float64]) -> list[tuple[int, ...]]:
    """Groups of similar members, as indices (not numbers), the largest first, from their `pairwise_iou`.

    Average linkage on 1 - IoU, cut at `MODE_DISTANCE` (0.5).
    """
    if len(alike) == 1:
        return [(0,)]
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    tree = linkage(squareform(1.0 - alike, checks=False), "average")
    groups = fcluster(tree, MODE_DISTANCE, "distance")
    modes = [tuple(int(i) for i in np.flatnonzero(groups == group)) for group in np.unique(groups)]
    return sorted(modes, key=lambda mode: (-len(mode), mode))


def mean_apart(alike: NDArray[np.float64]) -> float:
    """Mean 1 - IoU over all pairs of members, from their `pairwise_iou`; NaN for a single member."""
    return float(1 - alike[np.triu_indices(len(alike), 1)].mean()) if len(alike) > 1 else float("nan")


def diversity(members: NDArray[np.bool_]) -> float:
    """Mean 1 - IoU over all pairs of members (member, z, y, x); NaN for a single member."""
    return mean_apart(pairwise_iou(members))
