"""Predict: from a picture and its labels to the ensembles of the chosen cells, step by step.

A generator does the work, so that a progress bar, a thread worker, a command line and a test drive
the same code; closing it cancels within one step. What comes out lives in ``results.py``, how a member is
drawn in ``drawing.py``.
"""

import os
from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from napari_dispr import grid
from napari_dispr.card import Calibration
from napari_dispr.cells.cropping import Crop, check_fields, crop_cells
from napari_dispr.diffusion import devices
from napari_dispr.diffusion.model import ShapeModel
from napari_dispr.errors import InputError
from napari_dispr.events import result_of
from napari_dispr.models.library import load_model
from napari_dispr.prediction.members import CellDone, Event, Step, iter_drawn
from napari_dispr.prediction.prior import note_cut
from napari_dispr.prediction.result import Prediction, load_prediction, measure
from napari_dispr.prediction.rival_members import iter_rival
from napari_dispr.settings import PredictSettings, checked_settings
from napari_dispr.version import __version__

if TYPE_CHECKING:
    from napari_dispr.evaluation.evaluate import Method
    from napari_dispr.models.library import Model

__all__ = [
    "CellDone",
    "Event",
    "Prediction",
    "Step",
    "iter_predict",
    "iter_predict_crops",
    "load_prediction",
    "measure",
    "model_method",
    "predict",
]


def predict(
    image: ArrayLike | None,
    labels: ArrayLike,
    *,
    progress: Callable[[Event], None] | None = None,
    **options: Any,
) -> Prediction:
    """Draw the ensembles of cells; see :func:`iter_predict` for ``options``.

    Parameters
    ----------
    image : (y, x) array or None
    labels : (y, x) integer array
    progress : callable
        Called with each :class:`Step` and :class:`CellDone`.

    Examples
    --------
    >>> prediction = predict(image, labels, cells=[3, 7], members=5)
    >>> prediction[7].consensus.sum()
    """
    return result_of(iter_predict(image, labels, **options), progress)


def iter_predict(
    image: ArrayLike | None,
    labels: ArrayLike,
    *,
    model: "Model | str | os.PathLike[str]" = PredictSettings.model_fields["model"].default,
    cells: Sequence[int] | None = None,
    image_to_world: ArrayLike | None = None,
    unit: str = "pixel",
    **settings: Any,
) -> Generator[Event, None, Prediction]:
    """Draw the ensembles of cells, one event after each step; closing the generator cancels.

    Parameters
    ----------
    image : (y, x) array or None
        The picture of one plane, any real type. None: from the segmentation alone.
    labels : (y, x) integer array
        Its segmentation; 0 is background, each other value a cell.
    model : ShapeModel or rival, name or path
        A rival (a fit, or SHAPR) draws one shape a cell: it is an ensemble of one member.
    cells : sequence of int, optional
        Labels of the cells. By default all; those that the border cuts, or that do not fit the grid, are
        left out then, and the prediction's warnings say why.
    image_to_world : (3, 3) array, optional
        Affine on (y, x, 1) from pixel index to world; by default pixels of ``pixel_size``, or of 1.
    unit : str
        Of the world.
    **settings
        Fields of :class:`~napari_dispr.settings.PredictSettings`: ``members``, ``quality``,
        ``sampler``, ``steps``, ``scale``, ``pixel_size``, ``seed``, ``device``.

    Yields
    ------
    Step, CellDone

    Returns
    -------
    Prediction

    Raises
    ------
    InputError
        If something is wrong with image, labels, cells or settings.
    """
    chosen = checked_settings(PredictSettings, settings)
    shape_model = load_model(model) if isinstance(model, str | os.PathLike) else model
    pixels, segmentation = check_fields(image, labels)
    if image_to_world is None:
        image_to_world = np.diag([chosen.pixel_size or 1.0, chosen.pixel_size or 1.0, 1.0])
        unit = shape_model.card.unit if chosen.pixel_size and unit == "pixel" else unit
    to_world = _checked_affine(image_to_world)
    pixel_size = chosen.pixel_size
    if pixel_size is None and unit == shape_model.card.unit:
        pixel_size = grid.in_plane_scale(to_world)
    crops, left_out = crop_cells(
        pixels,
        segmentation,
        None if cells is None else _checked_cells(cells),
        chosen.scale,
        typical_extent=shape_model.card.typical_extent,
        pixel_size=pixel_size,
        voxel_size=shape_model.card.voxel_size,
    )
    return (
        yield from iter_predict_crops(
            crops,
            shape_model,
            chosen,
            image_to_world=to_world,
            unit=unit,
            image_shape=(segmentation.shape[0], segmentation.shape[1]),
            warnings=[f"Left out: {reason}" for reason in left_out.values()],
        )
    )


def _checked_cells(cells: Sequence[int]) -> list[int]:
    """Labels without repetition, in their order."""
    values = np.atleast_1d(np.asarray(cells))
    if values.size and (values.ndim != 1 or values.dtype.kind not in "ui"):
        raise InputError(f"The cells are {cells!r}: give their labels as a list of whole numbers.")
    if not values.size:
        raise InputError("No cells were named: name at least one, or leave the cells out to take all.")
    return [int(label) for label in dict.fromkeys(values.tolist())]


def _checked_affine(image_to_world: ArrayLike) -> NDArray[np.float64]:
    """A (3, 3) affine on (y, x, 1) that can be inverted."""
    affine = np.asarray(image_to_world, dtype=np.float64)
    if affine.shape != (3, 3) or not np.isfinite(affine).all() or abs(np.linalg.det(affine)) < 1e-300:
        raise InputError(
            "image_to_world is no affine of a picture: give 3 x 3 finite numbers that can be inverted."
        )
    return affine


def iter_predict_crops(
    crops: Sequence[Crop],
    model: "Model",
    settings: PredictSettings,
    *,
    image_to_world: NDArray[np.float64],
    unit: str = "pixel",
    image_shape: tuple[int, int] = (grid.SIZE, grid.SIZE),
    warnings: Sequence[str] = (),
    names: dict[int, str] | None = None,
) -> Generator[Event, None, Prediction]:
    """As :func:`iter_predict`, of cells that are on the model grid already.

    Parameters
    ----------
    crops : sequence of Crop
    model : ShapeModel or rival
    settings : PredictSettings
    image_to_world : (3, 3) array
    unit : str
    image_shape : (int, int)
        Of the picture whose pixels the crops' affines lead to.
    warnings : sequence of str
        To be passed on with the result.
    names : dict, optional
        Names of the cells, by label, where they have better ones: for their files and their noise.
    """
    if not isinstance(model, ShapeModel):
        frame = {"image_to_world": image_to_world, "image_shape": image_shape, "unit": unit}
        told = {"warnings": list(warnings), "names": names or {}}
        return (yield from iter_rival(crops, model, settings, **frame, **told))
    sampler, steps = model.sampling(settings.quality, settings.sampler, settings.steps)
    device = devices.choose(settings.device)
    prediction = Prediction(
        {},
        provenance={
            "software": f"napari-dispr {__version__}",
            "torch": torch.__version__,
            "model": model.name,
            "model_hash": model.hash,
            "settings": {**settings.model_dump(), "model": model.name, "sampler": sampler, "steps": steps},
            "device": str(device),
        },
        image_to_world=image_to_world,
        image_shape=image_shape,
        unit=unit,
        warnings=list(warnings),
        names=names or {},
        intervals=_calibrated(crops, model, settings),
    )
    numbers = {crop.label: range(settings.members) for crop in crops}
    prediction = yield from iter_drawn(prediction, crops, model, settings, numbers)
    note_cut(prediction)
    return prediction


def _calibrated(
    crops: Sequence[Crop], model: ShapeModel, settings: PredictSettings
) -> dict[str, Calibration]:
    """What intervals are read from: nothing where cells are drawn otherwise than it was made for."""
    own_way = settings.sampler is None and settings.steps is None
    pictured = all(crop.image is not None for crop in crops)
    return model.card.intervals if own_way and pictured else {}


def model_method(model: ShapeModel, settings: PredictSettings) -> "Method":
    """A shape model as a method of :func:`~napari_dispr.evaluation.evaluate.iter_evaluate`."""

    def draw(
        mask: NDArray[np.float32], image: NDArray[np.float32] | None, members: int, seed: int
    ) -> Generator[Event, None, NDArray[np.float32]]:
        to_pixel = grid.grid_to_pixel(1.0, (grid.CENTRE, grid.CENTRE))
        crop = Crop(1, mask, image, 1.0, to_pixel, known_scale=1.0)
        own = settings.model_copy(update={"members": members, "seed": seed})
        prediction = yield from iter_predict_crops([crop], model, own, image_to_world=np.eye(3))
        return prediction[1].signed_distance

    sampler, steps = model.sampling(settings.quality, settings.sampler, settings.steps)
    draw.trained_on = model.card.seen  # type: ignore[attr-defined]
    draw.provenance = {  # type: ignore[attr-defined]
        "model": model.name,
        "model_hash": model.hash,
        "torch": torch.__version__,
        "quality": settings.quality,
        "sampler": sampler,
        "steps": steps,
        "device": settings.device,
        **{name: text for name, text in model.card.training.items() if name == "undertrained"},
    }
    return draw
