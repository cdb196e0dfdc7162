"""What the members of a cell are sampled from: mask and image, and further known planes."""

from collections.abc import Iterator, Mapping
from dataclasses import astuple, dataclass, field
from typing import Any, Self, get_args

import numpy as np
from numpy.typing import NDArray

from napari_dispr import grid
from napari_dispr.planes import KnownPlane, on_grid
from napari_dispr.settings import PictureKind
from napari_dispr.stereology import Sizes


@dataclass(frozen=True, slots=True, eq=False)
class Section:
    """Mask and image of a cell on the imaged plane of the model grid, from which members are sampled.

    ``mask`` (64, 64) is the share of each voxel that the cell covers. ``image`` (64, 64) has intensities
    from 0 to 1, neither masked nor normalised. ``known_scale`` is the size on the grid relative to the
    training data, None if it is not known. ``planes`` are further known planes of the cell. ``picture`` says
    whether mask and image are a section or a projection. ``sizes`` are those of the cells of its stack.
    """

    mask: NDArray[np.float32] = field(repr=False)
    image: NDArray[np.float32] | None = field(default=None, repr=False)
    known_scale: float | None = None
    planes: tuple[KnownPlane, ...] = ()
    picture: PictureKind = "section"
    sizes: Sizes | None = None

    def __post_init__(self) -> None:
        further = (array for plane in self.planes for array in (plane.mask, plane.image))
        for plane in (self.mask, self.image, *further):
            if plane is None:
                continue
            if plane.shape != grid.SHAPE[1:]:
                raise ValueError(f"a section is a plane (64, 64), not {plane.shape}")
            if plane.dtype.kind != "f" or not (np.abs(plane) <= 2).all():
                raise ValueError("a section has values from 0 to 1, but for interpolation")
        if self.known_scale is not None and not grid.SMALLEST <= self.known_scale <= grid.LARGEST:
            raise ValueError(f"the known scale is {self.known_scale}")
        if not all(on_grid(plane.depth) for plane in self.planes):
            raise ValueError("a known plane is not on the grid")
        if self.picture not in get_args(PictureKind) or (self.planes and self.picture != "section"):
            raise ValueError(f"the picture is a {self.picture!r} with {len(self.planes)} further planes")

    @property
    def all_planes(self) -> tuple[KnownPlane, ...]:
        """The imaged plane, at depth 0, and the further ones."""
        return KnownPlane(0.0, self.mask, self.image), *self.planes

    @property
    def brightness(self) -> tuple[float, float]:
        """The least and the largest intensity in all planes; 0 and 1 without images."""
        images = [plane.image for plane in self.all_planes if plane.image is not None]
        return (float(np.min(images)), float(np.max(images))) if images else (0.0, 1.0)

    def same(self, other: "Section") -> bool:
        """Whether all is equal, so that the same members are sampled."""
        ours, theirs = self.arrays(), other.arrays()
        return ours.keys() == theirs.keys() and all(np.array_equal(ours[name], theirs[name]) for name in ours)

    def arrays(self) -> dict[str, Any]:
        """All of it as named arrays for a file; see `of_arrays`."""
        arrays: dict[str, Any] = {"mask": self.mask}
        if self.image is not None:
            arrays["image"] = self.image
        if self.known_scale is not None:
            arrays["known_scale"] = np.float64(self.known_scale)
        if self.planes:
            imaged = [plane for plane in self.planes if plane.image is not None]
            arrays["plane_depths"] = np.array([plane.depth for plane in self.planes])
            arrays["plane_masks"] = np.stack([plane.mask for plane in self.planes])
            arrays["plane_imaged"] = np.array([plane.image is not None for plane in self.planes])
            arrays["plane_images"] = np.array([plane.image for plane in imaged], np.float32)
        if self.picture != "section":
            arrays["picture"] = np.str_(self.picture)
        if self.sizes is not None:
            arrays["sizes"] = np.array(astuple(self.sizes))
        return arrays

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self | None:
        """The section in named arrays; None if they hold none."""
        if "mask" not in arrays:
            return None
        scale = float(arrays["known_scale"].item()) if "known_scale" in arrays else None
        picture: Any = str(arrays["picture"]) if "picture" in arrays else "section"
        sizes = Sizes(*arrays["sizes"].tolist()) if "sizes" in arrays else None
        return cls(arrays["mask"], arrays.get("image"), scale, tuple(_planes(arrays)), picture, sizes)


def _planes(arrays: Mapping[str, NDArray[Any]]) -> Iterator[KnownPlane]:
    if "plane_depths" in arrays:
        images = iter(arrays["plane_images"])
        columns = (arrays[name] for name in ("plane_depths", "plane_masks", "plane_imaged"))
        for depth, mask, imaged in zip(*columns, strict=True):
            yield KnownPlane(float(depth.item()), mask, next(images) if imaged else None)
