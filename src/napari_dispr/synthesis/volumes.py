"""From masks to volumes, and from volumes to slices at any spacing."""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from napari_dispr import signed_distance
from napari_dispr.cells.cropping import crop_cell
from napari_dispr.events import Clock, Step, mapped, steps_of
from napari_dispr.grid import CENTRE, SIZE
from napari_dispr.labels import cell_box
from napari_dispr.models.library import load_model, model_version
from napari_dispr.prediction.predict import iter_predict_crops
from napari_dispr.settings import PredictSettings
from napari_dispr.synthesis.settings import CellSettings
from napari_dispr.synthesis.silhouettes import EXTENT, FIRST, VIEWS, random_body
from napari_dispr.synthesis.surface_fit import STEPS as FIT_STEPS
from napari_dispr.synthesis.surface_fit import iter_fit_surface
from napari_dispr.synthesis.views import STEPS as VIEW_STEPS
from napari_dispr.synthesis.views import iter_views, views_model

if TYPE_CHECKING:
    from napari_dispr.diffusion.model import ShapeModel
    from napari_dispr.models.library import Model

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Volume:
    """The shape of a cell, in 3D or (a mask) in 2D, as signed distances in voxels, positive inside.

    Attributes
    ----------
    voxel : float
        Side of a voxel, in the unit of the learned model.
    stretch : float
        The shape is this many times as high along z.
    depth : float
        Of a mask: where it cuts its cell, from 0 in the middle to 1 at the end.
    """

    signed_distance: Floats
    voxel: float
    stretch: float = 1.0
    depth: float = 0.0

    @property
    def sides(self) -> NDArray[np.float64]:
        """Size of a voxel along each axis."""
        sides = np.full(self.signed_distance.ndim, self.voxel)
        if len(sides) == 3:
            sides[0] *= self.stretch
        return sides

    @property
    def height(self) -> float:
        """Height over the diameter of a disk with the area of the largest section."""
        area = float((self.signed_distance > 0).sum(axis=(1, 2)).max()) * self.voxel**2
        return float(self.box[1][0]) / (2 * (area / np.pi) ** 0.5)

    @property
    def box(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Centre (index) and size (unit of the model) of the box around the shape."""
        inside = np.argwhere(self.signed_distance > 0)
        first, last = inside.min(axis=0), inside.max(axis=0)
        return (first + last) / 2, (last - first + 1) * self.sides

    def sampled(
        self, spacing: Sequence[float], shape: Sequence[int], shift: Sequence[float] | None = None
    ) -> Floats:
        """Signed distance, in voxels of this volume, on a grid of this spacing and shape about the centre of
        the shape.

        The centre may have a ``shift``, in the unit of the spacing.
        """
        centre, _ = self.box
        places = [
            ((np.arange(n) - (n - 1) / 2) * step + move) / side + middle
            for n, step, move, side, middle in zip(
                shape, spacing, shift or [0.0] * len(shape), self.sides, centre, strict=True
            )
        ]
        points = np.stack(np.meshgrid(*places, indexing="ij"))
        # Outside the grid of the volume is outside the cell.
        return map_coordinates(self.signed_distance, points, order=1, cval=-8.0).astype(np.float32)


Way = Callable[
    [Sequence[Floats], float, Sequence[int], CellSettings], Generator[Step, None, list[Volume | None]]
]


def from_model(
    masks: Sequence[Floats], pixel: float, seeds: Sequence[int], settings: CellSettings
) -> Generator[Step, None, list[Volume | None]]:
    """Volumes whose middle section is the mask, by a shape model of this package; None if it draws no shape.

    Masks (128, 128) are signed distances in pixels; ``pixel`` is the side of a pixel. Each mask has a seed.
    """
    model = _shape_model(settings.shape_model, model_version(settings.shape_model))
    crops = []
    for label, mask in enumerate(masks, start=1):
        cell = (mask > 0).astype(np.uint8)
        box = cell_box(cell, 1)
        zoom = model.card.typical_extent / max(side.stop - side.start for side in box)
        crops.append(replace(crop_cell(None, cell, 1, zoom=zoom, box=box), label=label))
    prediction = yield from steps_of(
        iter_predict_crops(
            crops,
            model,
            PredictSettings(model=settings.shape_model, members=1, quality="fast", device=settings.device),
            image_to_world=np.eye(3),
            names={label: str(seed) for label, seed in enumerate(seeds, start=1)},
        )
    )
    found: list[Volume | None] = []
    for crop in crops:
        drawn = prediction[crop.label].signed_distance[0] if crop.label in prediction else None
        is_shape = drawn is not None and (drawn > 0).any()
        found.append(Volume(drawn, pixel / crop.zoom) if drawn is not None and is_shape else None)
    return found


def from_views(
    masks: Sequence[Floats], pixel: float, seeds: Sequence[int], settings: CellSettings
) -> Generator[Step, None, list[Volume | None]]:
    """Volumes whose silhouette is the mask, by many views and a surface, as in the paper.

    The parameters and the result are those of `from_model`.
    """
    model = _views_model(settings.views_model, model_version(settings.views_model))
    silhouettes = [enlarged(mask) for mask in masks]
    first = np.stack([silhouette for silhouette, _ in silhouettes])
    clock = Clock(VIEW_STEPS + FIT_STEPS * len(masks))
    views = yield from _stepped(iter_views(model, first, seeds), clock)
    found: list[Volume | None] = []
    for (silhouette, zoom), others, seed in zip(silhouettes, views, seeds, strict=True):
        seen = np.concatenate([silhouette[None], others])
        drawn = yield from _stepped(iter_fit_surface(seen, (FIRST, *VIEWS), seed, FIT_STEPS), clock)
        found.append(Volume(drawn, pixel / zoom) if (drawn > 0).any() else None)
    return found


def from_harmonics(
    masks: Sequence[Floats], pixel: float, seeds: Sequence[int], settings: CellSettings
) -> Generator[Step, None, list[Volume | None]]:
    """Random bodies of spherical harmonics: the comparison of the paper, which keeps only a mask's area.

    The parameters and the result are those of `from_model`.
    """
    clock = Clock(len(masks))
    found: list[Volume | None] = []
    for mask, seed in zip(masks, seeds, strict=True):
        body = random_body(seed)
        ratio = (mask > 0).sum() / body.sum(axis=(1, 2)).max()
        found.append(Volume(signed_distance.from_level(body), pixel * float(ratio) ** 0.5))
        yield clock.step(1, 1)
    return found


def _stepped(events: Generator[None, None, Floats], clock: Clock) -> Generator[Step, None, Floats]:
    return mapped(events, lambda event: clock.step(1, 1))


def enlarged(mask: Floats) -> tuple[Floats, float]:
    """A mask as a silhouette (64, 64), centred, of the usual size, and its voxels per pixel of the mask."""
    box = cell_box((mask > 0).astype(np.uint8), 1)
    zoom = EXTENT / max(side.stop - side.start for side in box)
    places = [(np.arange(SIZE) - CENTRE) / zoom + (side.start + side.stop - 1) / 2 for side in box]
    points = np.stack(np.meshgrid(*places, indexing="ij"))
    return (zoom * map_coordinates(mask, points, order=1, mode="nearest")).astype(np.float32), zoom


# Models are read once for many batches of masks; `version` is that of their file.


@lru_cache(maxsize=1)
def _views_model(path: str, version: object) -> "ShapeModel":
    return views_model(path)


@lru_cache(maxsize=1)
def _shape_model(name: str, version: object) -> "Model":
    return load_model(name)


#: The ways from masks to volumes, by the name of the setting.
WAYS: dict[str, Way] = {"model": from_model, "views": from_views, "harmonics": from_harmonics}
