"""Calibrate a model with a few known cells: heights, intervals and warnings are theirs, the network stays.

Takes seconds to minutes, as the model only draws the known cells, once.
"""

import os
from collections.abc import Generator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from napari_dispr import grid, signed_distance
from napari_dispr.card import Card, Heights, VolumeLine
from napari_dispr.cells.cropping import INSIDE, Crop
from napari_dispr.cells.folders import CellFile, DatasetNotes, read_notes, read_training_cells
from napari_dispr.cells.heights import LEAST_CELLS, fit_line
from napari_dispr.cells.novelty import at_extent, fit_novelty
from napari_dispr.cells.splits import copies, real_cells
from napari_dispr.cells.stacks import ROOM
from napari_dispr.cells.training_cells import larger_side
from napari_dispr.diffusion.model import ShapeModel
from napari_dispr.errors import InputError
from napari_dispr.events import Step, in_one_go
from napari_dispr.models import library
from napari_dispr.models.sampling import Model
from napari_dispr.prediction.predict import CellDone, iter_predict_crops
from napari_dispr.prediction.prior import with_known_height
from napari_dispr.settings import PredictSettings
from napari_dispr.shapes.intervals import CALIBRATED
from napari_dispr.shapes.intervals import calibrate as fit_intervals
from napari_dispr.shapes.one_shape import measure_shape
from napari_dispr.training.validation import MEMBERS, CellScores, spread, summary_of, volume_errors
from napari_dispr.version import __version__

#: Most known cells that are drawn.
MOST_CELLS = 60

Distance = NDArray[np.float32]


def iter_calibrate(
    model: Model | str | os.PathLike[str],
    dataset: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    device: str = PredictSettings.model_fields["device"].default,
    **texts: str,
) -> Generator[Step, None, ShapeModel]:
    """Calibrate a shape model with 5 or more cells of a dataset folder, and save the result.

    Parameters
    ----------
    model : ShapeModel, name or path
        Its network does not change.
    dataset : path
        ``train/{obj,image,mask}/NAME.tif``, or the folder ``train`` itself; the images may be missing.
    out : path
        The model file, NAME.safetensors.
    device : str
        Device that draws.
    **texts
        ``licence`` and ``data_note`` (where the cells come from) for the card.

    Yields
    ------
    Step
        Closing the generator cancels; nothing is written then.

    Returns
    -------
    ShapeModel
        The same network with a new card.

    Raises
    ------
    InputError
        If the model is no shape model, the cells are too few or have no objects, or ``out`` already exists.
    """
    path = Path(out)
    library.check_new_file(path)
    drawn_by = library.load_model(model) if isinstance(model, str | os.PathLike) else model
    calibrated = yield from iter_calibrate_cells(
        drawn_by, read_training_cells(dataset), read_notes(dataset), path.stem, device=device, **texts
    )
    save_unchanged(calibrated, path)
    return calibrated


calibrate = in_one_go(iter_calibrate, 'model = calibrate("generic", "cells", "my-nuclei.safetensors")')


def save_unchanged(model: ShapeModel, path: Path) -> None:
    """Write a model in 16 bit, if that does not change its weights."""
    weights = model.network.state_dict().values()
    exact = all(torch.equal(weight.half().to(weight.dtype), weight) for weight in weights)
    model.save(path, torch.float16 if exact else torch.float32)


def iter_calibrate_cells(
    model: Model,
    cells: Sequence[CellFile],
    notes: DatasetNotes,
    name: str,
    *,
    device: str = "auto",
    licence: str = "",
    data_note: str = "",
) -> Generator[Step, None, ShapeModel]:
    """As `iter_calibrate`, for cells that are read already; ``name`` is that of the new model."""
    if not isinstance(model, ShapeModel):
        raise InputError(
            f"{model.name!r} cannot be calibrated: choose a shape model, such as generic or one that you "
            "trained."
        )
    known = real_cells(cells)
    if (count := len(copies(known))) < LEAST_CELLS:
        raise InputError(
            f"There are only {count} different cells: give at least {LEAST_CELLS} to calibrate with."
        )
    card = _for_cells(model.card, known, notes)
    found = yield from _learned(replace(model, card=card), spread(known, MOST_CELLS), device)
    training = {
        **card.training,
        "fingerprints": sorted({*card.training.get("fingerprints", ()), *(c.fingerprint for c in known)}),
        "shapes": sorted({*card.training.get("shapes", ()), *(c.shape_fingerprint for c in known)}),
        "calibrated": {
            "date": datetime.now(UTC).date().isoformat(),
            "version": __version__,
            "model": model.name,
            "model_hash": model.hash,
            "cells": [cell.name for cell in known],
            "source": notes.source,
            "trained_on": sum(cell.is_among(model.card.seen) for cell in known),
        },
    }
    texts = {
        "name": name,
        "description": f"{model.name}, calibrated with {len(known)} known cells of a user.",
        "licence": licence or card.licence,
        "attribution": f"{card.attribution} Calibrated with {len(known)} cells. {data_note}".strip(),
        "limits": f"Heights, intervals and warnings are those of {len(known)} known cells: use it for cells "
        "of the same kind, images of the same microscope and sections at the same height.",
    }
    return replace(model, card=card.model_copy(update={**texts, **found, "training": training}))


def in_words(card: Card) -> str:
    """The volume errors of a calibrated model, each cell left out, and those before, in one sentence."""
    names = {"before": "before", "true_size": "after, at true size", "auto": "after, with scale auto"}
    errors = (f"{card.scores[one]['volume_error_median']:.0%} {text}" for one, text in names.items())
    return (
        f"median volume error of {card.scores['cells']} known cells, each left out of the calibration by "
        f"which it is judged: {'; '.join(errors)}"
    )


def warnings_of(card: Card) -> list[str]:
    """What may be wrong with a calibrated model, one sentence each."""
    warnings = []
    calibrated, scores = card.training["calibrated"], card.scores
    if known := calibrated["trained_on"]:
        warnings.append(
            f"{calibrated['model']!r} was trained on {known} of these cells: intervals may be too narrow for "
            "others. Give cells that it has not seen."
        )
    if scores["true_size"]["volume_error_median"] > scores["before"]["volume_error_median"] + 0.02:
        warnings.append(
            "The volumes of these cells differ so much that the calibration does not help: check their 3D "
            "shapes and the distance of the slices, or add cells."
        )
    return warnings


def measures_of(shapes: Sequence[Distance], voxel: float = 1.0) -> dict[str, NDArray[np.float64]]:
    """The measures that get intervals, of each shape (64, 64, 64) with voxels of this size."""
    rows = [measure_shape(shape, (voxel, voxel, voxel), CALIBRATED) for shape in shapes]
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def true_measures(cell: CellFile) -> dict[str, float]:
    """The same of the object of a cell."""
    return measure_shape(signed_distance.from_level(cell.known_object, 127.5), only=CALIBRATED)


def _for_cells(card: Card, cells: Sequence[CellFile], notes: DatasetNotes) -> Card:
    """The card with the size of the cells on the grid, and their warnings."""
    extent = usual_extent(cells)
    pictures = {cell.fingerprint: (cell.mask, cell.image) for cell in cells}
    novelty = card.novelty
    if len(pictures) >= LEAST_CELLS:
        novelty = fit_novelty(list(pictures.values()), extent=extent, least=LEAST_CELLS)
    return card.model_copy(
        update={
            "typical_extent": extent,
            **notes.size_on_card,
            "novelty": novelty,
            "heights": None,
            "intervals": {},
            "plane_intervals": (),
        }
    )


def usual_extent(cells: Sequence[CellFile]) -> float:
    """Larger side of the masks at the median, or less if nine tenths of the cells would not fit the grid."""
    sides, fitting = [], []
    for cell in cells:
        sides.append(larger_side(cell.mask))
        fitting.append(sides[-1] * ROOM / (np.abs(grid.depths_inside(cell.known_object > 127)).max() + 1))
    return round(float(min(np.median(sides), np.quantile(fitting, 0.1, method="lower"))), 1)


def _learned(
    model: ShapeModel, cells: Sequence[CellFile], device: str
) -> Generator[Step, None, dict[str, Any]]:
    """What the card says about known cells: heights, intervals and scores.

    The cells are drawn in their size on the grid, as of a dataset or with the scale "physical", and as
    with the scale "auto". Intervals are those of "auto", where less is known.
    """
    qualities = model.card.qualities
    quality = "balanced" if "balanced" in qualities else next(iter(qualities))
    settings = PredictSettings(members=MEMBERS, quality=quality, device=device)
    count = len(cells)
    extent = model.card.typical_extent
    crops = [cell.crop(number) for number, cell in enumerate(cells, start=1)]
    crops += [_at_auto(crop, count, extent) for crop in crops]
    shapes: list[NDArray[np.float16]] = []
    done = 0
    for event in iter_predict_crops(crops, model, settings, image_to_world=np.eye(3)):
        if isinstance(event, CellDone):
            shapes.append(event.ensemble.signed_distance.astype(np.float16))
        else:
            done = event.done
            yield Step(event.label, done, event.total + 2 * count, event.seconds_left)
    sized, auto = (
        _KnownCells(cells, crops[part], shapes[part]) for part in (slice(count), slice(count, None))
    )
    scores, estimates = [], []
    for number in range(count):
        scores.append(CellScores.of(np.array(sized.left_out(number)) > 0, sized.truths[number]))
        yield Step(number + 1, done + number + 1, done + 2 * count, None)
    for number in range(count):
        estimates.append(measures_of(auto.left_out(number), 1 / auto.zooms[number]))
        yield Step(number + 1, done + count + number + 1, done + 2 * count, None)
    before = [CellScores.of(own > 0, truth) for own, truth in zip(sized.shapes, sized.truths, strict=True)]
    return {
        "heights": Heights(sized=sized.line(), unsized=auto.line(), cells=count),
        "intervals": fit_intervals(estimates, [true_measures(cell) for cell in cells], few=True),
        "scores": {
            "note": "the cells of the calibration, each left out of it",
            "cells": count,
            "before": summary_of(before),
            "true_size": summary_of(scores),
            "auto": volume_errors(
                [
                    one["volume"].mean() / np.count_nonzero(truth)
                    for one, truth in zip(estimates, sized.truths, strict=True)
                ]
            ),
        },
    }


def _at_auto(crop: Crop, count: int, extent: float) -> Crop:
    """A crop of a dataset as with the scale "auto"; its label is larger by ``count``."""
    zoom = extent / larger_side(crop.mask)
    mask, image = at_extent(crop.mask, crop.image, extent)
    return replace(crop, label=crop.label + count, mask=mask, image=image, zoom=zoom, known_scale=None)


class _KnownCells:
    """Known cells at one scale: their crops, their members as drawn, and their true volumes."""

    def __init__(
        self, cells: Sequence[CellFile], crops: Sequence[Crop], shapes: Sequence[NDArray[np.float16]]
    ) -> None:
        self.shapes = shapes
        self.sized = crops[0].known_scale is not None
        self.zooms = [crop.zoom for crop in crops]
        self.areas = np.array([np.count_nonzero(crop.mask > INSIDE) for crop in crops], np.float64)
        self.drawn = np.array([np.mean([np.count_nonzero(m > 0) for m in own]) for own in shapes])
        self.truths = [cell.known_object > 127 for cell in cells]
        sizes = [np.count_nonzero(truth) for truth in self.truths]
        self.volumes = np.array(sizes) * np.array(self.zooms) ** 3

    def line(self, but: int | None = None) -> VolumeLine:
        """The line fitted to all cells, or to all but one."""
        used = np.array([number != but and self.drawn[number] > 0 for number in range(len(self.shapes))])
        return fit_line(self.areas[used], self.drawn[used], self.volumes[used], sized=self.sized)

    def left_out(self, number: int) -> list[Distance]:
        """The members of a cell with the height that the other cells give it."""
        line = self.line(number)
        return [
            with_known_height(member.astype(np.float32), line, self.areas[number])
            for member in self.shapes[number]
        ]
