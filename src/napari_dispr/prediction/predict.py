"""Predict: from a picture and its labels to the ensembles of the chosen cells, step by step.

A generator does the work, so that a progress bar, a thread worker, a command line and a test run the same
code; closing it cancels within one step.
"""

import os
from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_dispr import grid
from napari_dispr.cells.cropping import Crop, Scaling, check_fields, crop_cells, usual_scale
from napari_dispr.cells.planes import check_planes, crop_planes
from napari_dispr.errors import InputError
from napari_dispr.events import Step, in_one_go
from napari_dispr.files import plain
from napari_dispr.models.library import load_model
from napari_dispr.models.method import Method
from napari_dispr.models.sampling import Model, Sampling, as_method, unused_settings
from napari_dispr.prediction.members import CellDone, Event, checked_numbers, iter_members, section_of
from napari_dispr.prediction.notes import Note, left_out_notes, mask_notes
from napari_dispr.prediction.result import Prediction
from napari_dispr.settings import PredictSettings, checked_settings
from napari_dispr.version import __version__

__all__ = ["CellDone", "Event", "Step", "iter_predict", "iter_predict_crops", "predict"]

#: After "The earlier prediction has ...": for the command, and for ``earlier`` in Python.
_NOT_THE_SAME = (
    "so it cannot be continued: choose another folder, or --overwrite (in Python, leave out `earlier`)."
)


def iter_predict(
    image: ArrayLike | None,
    labels: ArrayLike,
    *,
    model: Model | str | os.PathLike[str] = PredictSettings.model_fields["model"].default,
    cells: Sequence[int] | None = None,
    depths: Sequence[float] | None = None,
    image_to_world: ArrayLike | None = None,
    unit: str = "pixel",
    earlier: Prediction | None = None,
    **settings: Any,
) -> Generator[Event, None, Prediction]:
    """Draw the ensembles of cells.

    Parameters
    ----------
    image : (y, x) or (plane, y, x) array or None
        The picture of one plane, or those of several parallel planes, any real type. None: only the
        segmentation is used.
    labels : (y, x) or (plane, y, x) integer array
        Its segmentation; 0 is background, each other value is a cell, in all planes the same.
    model : ShapeModel or other method, name or path
        A fit, or SHAPR, draws one shape of each cell: an ensemble of one member.
    cells : sequence of int, optional
        Labels of the cells. By default all; then cells that the border cuts, or that do not fit the grid, are
        left out, and the prediction's warnings say why.
    depths : sequence of float, optional
        World z of each of several planes, in any order. They need not be evenly spaced. A plane next to the
        sections of a cell that does not show it says where the cell ends.
    image_to_world : (3, 3) array, optional
        Affine on (y, x, 1) from pixel index to world; by default a pixel measures ``pixel_size``, or 1.
    unit : str
        Unit of the world.
    earlier : Prediction, optional
        A prediction of the same cells with the same settings that was stopped: its cells are not drawn again.
    **settings
        Fields of :class:`~napari_dispr.settings.PredictSettings`: ``members``, ``quality``,
        ``sampler``, ``steps``, ``scale``, ``pixel_size``, ``picture``, ``seed``, ``device``.

    Yields
    ------
    Step, CellDone
        Closing the generator cancels.

    Raises
    ------
    InputError
        If something is wrong with image, labels, cells, depths or settings, or ``earlier`` has others.
    """
    chosen = checked_settings(PredictSettings, settings)
    drawn_by = load_model(model) if isinstance(model, str | os.PathLike) else model
    if image_to_world is None:
        image_to_world = np.diag([chosen.pixel_size or 1.0, chosen.pixel_size or 1.0, 1.0])
        unit = drawn_by.card.unit if chosen.pixel_size and unit == "pixel" else unit
    to_world = _checked_affine(image_to_world)
    pixel_size = chosen.pixel_size
    if pixel_size is None and unit == drawn_by.card.unit:
        pixel_size = grid.in_plane_scale(to_world)
    chosen_cells = None if cells is None else checked_numbers(cells)
    card = drawn_by.card
    scale = chosen.scale or usual_scale(pixel_size, card.voxel_size)
    chosen = chosen.model_copy(update={"scale": scale})
    scaling = Scaling(scale, card.typical_extent, pixel_size, card.voxel_size, grid.pixel_sides(to_world))
    notes: list[Note] = []
    if depths is None:
        pixels, segmentation = check_fields(image, labels)
        crops, left_out = crop_cells(pixels, segmentation, chosen_cells, scaling)
        notes += mask_notes(segmentation, [crop.label for crop in crops])
        shape, more = segmentation.shape, {}
    else:
        if chosen.picture == "projection":
            raise InputError(
                'A projection has no depth: leave out the depths, or use the picture "section" for planes.'
            )
        planes = check_planes(image, labels, depths)
        in_pixels = replace(planes, depths=planes.depths / grid.in_plane_scale(to_world))
        crops, imaged, left_out = crop_planes(in_pixels, chosen_cells, scaling)
        for k in sorted(set(imaged.values())):
            notes += mask_notes(planes.labels[k], [label for label, one in imaged.items() if one == k])
        shape, more = planes.labels.shape[1:], {"depths": planes.depths.tolist()}
    return (
        yield from iter_predict_crops(
            crops,
            drawn_by,
            chosen,
            image_to_world=to_world,
            unit=unit,
            image_shape=(shape[0], shape[1]),
            notes=[*left_out_notes(left_out), *notes],
            provenance=more,
            earlier=earlier,
        )
    )


def _checked_affine(image_to_world: ArrayLike) -> NDArray[np.float64]:
    """A (3, 3) affine on (y, x, 1) that can be inverted."""
    try:
        affine = grid.check_affine(image_to_world)
    except ValueError as error:
        raise InputError(f"image_to_world is no affine of a picture: {error}.") from None
    if affine.shape != (3, 3):
        raise InputError("image_to_world is no affine of a picture: give 3 x 3 numbers.")
    return affine


def iter_predict_crops(
    crops: Sequence[Crop],
    model: Model,
    settings: PredictSettings,
    *,
    image_to_world: NDArray[np.float64],
    unit: str = "pixel",
    image_shape: tuple[int, int] = (grid.SIZE, grid.SIZE),
    notes: Sequence[Note] = (),
    names: Mapping[int, str] | None = None,
    provenance: Mapping[str, Any] | None = None,
    earlier: Prediction | None = None,
) -> Generator[Event, None, Prediction]:
    """As :func:`iter_predict`, for cells that are on the model grid already.

    ``image_shape`` is that of the picture from which the crops were cut. ``names`` of cells replace labels in
    file names and in the seeds of the noise.
    """
    method = as_method(model, settings)
    if settings.picture == "projection":
        if any(crop.planes for crop in crops):
            raise InputError("A projection has no depth: leave out further planes, or choose section.")
        crops = [replace(crop, picture="projection") for crop in crops]
    members = min(settings.members, method.members or settings.members)
    prediction = Prediction(
        {},
        provenance={
            **_provenance(method, settings.model_copy(update={"members": members})),
            **(provenance or {}),
        },
        image_to_world=image_to_world,
        image_shape=image_shape,
        unit=unit,
        notes=tuple(notes),
        names=names or {},
    )
    # Intervals are calibrated for sections with a picture that are sampled as the quality says.
    usual = settings.sampler is None and settings.steps is None
    if usual and all(crop.image is not None and crop.picture == "section" for crop in crops):
        card = method.card
        prediction = replace(prediction, intervals=card.intervals, plane_intervals=card.plane_intervals)
    texts = [_not_learned(method, crops), unused_settings(method, settings)]
    if members < settings.members:
        texts.append(
            f"{method.name} draws one shape of each cell, not {settings.members}: the shapes do not show how "
            "certain they are."
        )
    prediction = prediction.noted(*(Note("general", None, text) for text in texts if text))
    numbers = {crop.label: range(members) for crop in crops}
    if earlier is None:
        return (yield from iter_members(prediction, crops, method, numbers, settings.seed))
    prediction = _continued(prediction, earlier, crops, members)
    left = [crop for crop in crops if crop.label not in prediction]
    prediction = yield from iter_members(prediction, left, method, numbers, settings.seed)
    return _in_order(prediction, [crop.label for crop in crops])


def _not_learned(method: Method, crops: Sequence[Crop]) -> str:
    """What of the cells the method does not use, in a sentence; empty if it uses all."""
    what = "further planes" if any(crop.planes for crop in crops) else "projections"
    if all(not crop.planes and crop.picture == "section" for crop in crops):
        return ""
    if method.uses_planes and (what == "further planes" or isinstance(method, Sampling)):
        return ""
    if not isinstance(method, Sampling) or method.card.representation == "occupancy":
        return f"{method.name} cannot use {what}: it predicts as from a section in the imaged plane alone."
    return (
        f"{method.name} was not trained with {what}: its shapes agree with them, but are elsewhere as "
        "uncertain as without. Use a model that was."
    )


def _continued(fresh: Prediction, earlier: Prediction, crops: Sequence[Crop], members: int) -> Prediction:
    """A prediction without cells yet, with the cells of an earlier one that are the same."""
    made = plain(fresh.provenance)
    before = plain({name: earlier.provenance.get(name) for name in made})
    for provenance in (made, before):
        provenance |= provenance.pop("settings") or {}
        for name in ("device", "torch"):
            provenance.pop(name, None)
    for name in made:
        if made[name] != before.get(name):
            what = f"{name.replace('_', ' ')} {before.get(name)!r}, not {made[name]!r}"
            raise InputError(f"The earlier prediction has {what}, {_NOT_THE_SAME}")
    if fresh.unit != earlier.unit or not np.allclose(fresh.image_to_world, earlier.image_to_world):
        raise InputError(f"The earlier prediction has another pixel size, {_NOT_THE_SAME}")
    by_label = {crop.label: crop for crop in crops}
    to_world = grid.pixel_to_world(fresh.image_to_world)
    for label in earlier:  # without reading the shapes
        crop, section, facts = by_label.get(label), earlier.store.cell(label).section, earlier.facts(label)
        same = (
            crop is not None
            and section is not None
            and fresh.stem(label) == earlier.stem(label)
            and facts.numbers == tuple(range(members))
            and section.same(section_of(crop))
            and np.allclose(facts.grid_to_world, to_world @ crop.grid_to_pixel)
        )
        if not same:
            other = "cell {}, which is not chosen now" if crop is None else "another cell {}"
            what = other.format(earlier.stem(label))
            raise InputError(f"The earlier prediction has {what}, {_NOT_THE_SAME}")
    ordered = _in_order(earlier, list(by_label))
    notes = tuple(note for note in ordered.notes if note.kind in ("unlike", "cut"))
    return replace(fresh, ensembles=ordered.ensembles, notes=fresh.notes + notes, kept=earlier.kept)


def _in_order(prediction: Prediction, labels: Sequence[int]) -> Prediction:
    """The prediction with its cells, and their notes, in the order of the labels."""
    cells = prediction.store.chosen(label for label in labels if label in prediction)
    # Notes on masks come before all cells are drawn, the others with their cell.
    place = {label: i for i, label in enumerate(labels)}
    notes = sorted(
        prediction.notes,
        key=lambda note: -1 if note.cell is None or note.kind == "mask" else place.get(note.cell, -1),
    )
    return replace(prediction, ensembles=cells, notes=tuple(notes))


def _provenance(method: Method, settings: PredictSettings) -> dict[str, Any]:
    made = dict(method.provenance)
    how = {name: made.pop(name, None) for name in ("quality", "sampler", "steps")}
    return {
        "software": f"napari-dispr {__version__}",
        **made,
        "settings": {**settings.model_dump(), "model": method.name, **how},
    }


predict = in_one_go(iter_predict, "prediction = predict(image, labels, cells=[3, 7], members=5)")
