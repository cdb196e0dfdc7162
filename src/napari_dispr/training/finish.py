"""From the best weights of a run to its model: card, scores of cells kept apart, what trust is read from."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes

from napari_dispr import signed_distance
from napari_dispr.card import Calibration, Card, Quality
from napari_dispr.cells import novelty as familiarity
from napari_dispr.cells import volume
from napari_dispr.cells.augmentation import larger_side
from napari_dispr.cells.folders import CellFile, DatasetNotes
from napari_dispr.diffusion.model import ShapeModel
from napari_dispr.diffusion.network import UNet3D
from napari_dispr.diffusion.original import dispr_qualities
from napari_dispr.diffusion.process import GaussianDiffusion, RectifiedFlow
from napari_dispr.errors import InputError
from napari_dispr.files import written_aside
from napari_dispr.models.shapr import SHAPR, SHAPRModel
from napari_dispr.settings import RivalTrainSettings, TrainSettings
from napari_dispr.shapes.ensemble import Ensemble
from napari_dispr.shapes.intervals import CALIBRATED, LEVEL, calibrate, least_cells
from napari_dispr.shapes.morphometry import measure_ensembles, measure_shape
from napari_dispr.training.objectives import topology_of
from napari_dispr.training.run import Plan, Run
from napari_dispr.training.shapr_state import best_weights
from napari_dispr.training.state import State
from napari_dispr.training.validation import CellScores, score_cell, spread
from napari_dispr.version import __version__

#: At most as many cells kept apart are drawn in the end.
_SCORED = 60
_LIMITS = (
    "Trained with napari-dispr on the cells named here: for the same kind of cells, pictures of the same "
    "microscope and sections of the same height."
)


_WHAT = {
    "flow": "Trained on {} cells of one's own.",
    "dispr": "DISPR as published, trained on {} cells.",
    "shapr": "SHAPR, trained on {} cells; for comparison: one shape a cell.",
    "topo-shapr": "Topological SHAPR, trained on {} cells; for comparison: one shape a cell.",
}
#: Optimiser steps of the published model.
_PUBLISHED_STEPS = 85_000


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """What a model is made of beside its weights.

    Attributes
    ----------
    plan : Plan
    notes : DatasetNotes
    cells, apart : list of CellFile
        Trained on, and kept apart.
    start : ShapeModel or None
    """

    plan: Plan
    notes: DatasetNotes
    cells: list[CellFile]
    apart: list[CellFile]
    start: ShapeModel | None


def process_of(settings: TrainSettings) -> RectifiedFlow | GaussianDiffusion:
    """The process that settings train."""
    return GaussianDiffusion() if settings.method == "dispr" else RectifiedFlow(settings.shift)


def keep_weights(network: UNet3D, path: Path) -> None:
    """Write weights aside, then rename."""
    tensors = {
        name: tensor.cpu().contiguous(memory_format=torch.contiguous_format)
        for name, tensor in network.state_dict().items()
    }
    with written_aside(path) as aside:
        aside.write_bytes(to_bytes(tensors))


def card_of(trained: Trained) -> Card:
    """The card as far as it is known before the first step."""
    plan, notes, settings, start = trained.plan, trained.notes, trained.plan.settings, trained.start
    known = start.card.training if start else {}
    seen = {cell.fingerprint for cell in trained.cells} | set(known.get("fingerprints", ()))
    shapes = {cell.shape_fingerprint for cell in trained.cells}
    attribution = [f"Trained on {len(trained.cells)} cells. {plan.data_note}".strip()]
    if start:
        attribution.append(f"Began from the model {start.name}: {start.card.attribution}")
    physical = notes.voxel_size is not None and notes.unit != "pixel"
    return Card(
        name=plan.name,
        description=plan.description or _WHAT[settings.method].format(len(trained.cells)),
        licence=plan.licence or "not stated",
        attribution=" ".join(attribution),
        limits=_LIMITS,
        typical_extent=round(float(np.median([larger_side(cell.mask) for cell in trained.cells])), 1),
        voxel_size=notes.voxel_size if physical else None,
        unit=notes.unit if physical else "micrometer",
        **_drawing(settings),
        training={
            "date": datetime.now(UTC).date().isoformat(),
            "version": __version__,
            "cells": [cell.name for cell in trained.cells],
            "kept_apart": [cell.name for cell in trained.apart],
            "source": notes.source,
            "plane": notes.plane,
            "fingerprints": sorted(seen),
            "shapes": sorted(shapes | set(known.get("shapes", ()))),
            "started_from": start.hash if start else None,
            "preset": plan.preset,
            "runs": [*known.get("runs", ()), settings.model_dump(mode="json")],
        },
    )


def _drawing(settings: TrainSettings | RivalTrainSettings) -> dict[str, Any]:
    """What a card says of how shapes are drawn."""
    if isinstance(settings, RivalTrainSettings):
        return {"representation": "occupancy", "qualities": {}, "rival": settings.method}
    occupancy = settings.method == "dispr"
    return {
        "representation": "occupancy" if occupancy else "signed_distance",
        "truncation": settings.truncation,
        "qualities": _qualities(settings),
    }


class Stopped(Exception):
    """Somebody stopped the making of a model."""


def finished_model(
    trained: Trained, run: Run, device: torch.device, stop: Callable[[], bool] = lambda: False
) -> ShapeModel:
    """The model of the best weights, with its scores on the cells kept apart.

    What mask and picture tell of volumes goes into the card only if it brings the members' volumes
    nearer to those of the cells kept apart.

    Raises
    ------
    InputError
        If the run has no weights yet.
    Stopped
        If ``stop``, which is asked before each cell, says so.
    """
    settings = trained.plan.settings
    assert isinstance(settings, TrainSettings)
    network = UNet3D(topology_of(settings))
    if run.best.exists():
        network.load_state_dict(load_file(run.best))
    elif run.checkpoint.exists():
        state = State(settings, network.config, torch.device("cpu"))
        state.load(run.checkpoint)
        network = state.average
    else:
        raise InputError(f"The run {run.plan.name!r} has not made a step yet: train it first.")
    card = _with_steps(card_of(trained), settings, _steps_of(run))
    model = ShapeModel(network.half().float(), process_of(settings), card)
    if not trained.apart or settings.method == "dispr":
        return model
    apart = spread(trained.apart, _SCORED)
    found = scored(model, apart, device, stop)
    if (regression := _volume_regression(trained.cells)) is not None:
        second = ShapeModel(network, model.process, model.card.model_copy(update={"volume": regression}))
        also = scored(second, apart, device, stop)
        if also.volume_error < found.volume_error:
            model, found = second, also
    told: dict[str, Any] = {"scores": found.summary, "familiarity": _familiarity(trained.cells, model.card)}
    if len(apart) >= least_cells(LEVEL):
        told["intervals"] = found.intervals(apart)
    return ShapeModel(network, model.process, model.card.model_copy(update=told))


def finished_rival(trained: Trained, run: Run, stop: Callable[[], bool] = lambda: False) -> SHAPRModel:
    """SHAPR with the best weights of its run, and its scores on the cells kept apart.

    Raises
    ------
    InputError
        If the run has no weights yet.
    Stopped
        If ``stop``, which is asked before each cell, says so.
    """
    weights, steps = best_weights(run.checkpoint)
    network = SHAPR()
    network.load_state_dict(weights)
    card = card_of(trained)
    told: dict[str, Any] = {
        "training": {**card.training, "steps": steps},
        "familiarity": _familiarity(trained.cells, card),
    }
    model = SHAPRModel(network, card.model_copy(update=told))
    found = []
    for cell in spread(trained.apart, _SCORED):
        if stop():
            raise Stopped
        found.append(score_cell(model, cell, "balanced", torch.device("cpu")))
    if found:
        scores = Scored({"one_shape": [one for one, _ in found]}, [shape for _, shape in found]).summary
        scores["note"] = "cells kept apart, which also chose between weights: somewhat flattered therefore"
        told["scores"] = scores
    return SHAPRModel(network, card.model_copy(update=told))


def _steps_of(run: Run) -> int:
    """Optimiser steps that the run's best weights have seen."""
    lines = run.reports()[0]
    best = [line for line in lines if line.get("kind") == "validation" and line.get("best")]
    steps = best or [line for line in lines if line.get("kind") == "step"]
    return int(steps[-1]["step"]) if steps else 0


def _with_steps(card: Card, settings: TrainSettings, steps: int) -> Card:
    """The card with the steps that were made; it says so where they are fewer than the published ones."""
    training: dict[str, Any] = {**card.training, "steps": steps}
    if settings.method != "dispr" or steps >= _PUBLISHED_STEPS:
        return card.model_copy(update={"training": training})
    short = f"{steps:,} of the {_PUBLISHED_STEPS:,} steps of the published model"
    told = {
        "training": {**training, "undertrained": short},
        "description": f"{card.description} Undertrained: {short}.",
        "limits": f"Undertrained, with {short}: errors are no measure of the method. {card.limits}",
    }
    return card.model_copy(update=told)


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """Scores and ensembles of the cells kept apart, by quality, each in the cells' order."""

    scores: dict[str, list[CellScores]]
    ensembles: list[Ensemble]

    @property
    def volume_error(self) -> float:
        """Mean relative error of the estimate at the quality ``balanced``."""
        return float(np.mean([abs(one.volume - 1) for one in self.scores["balanced"]]))

    @property
    def summary(self) -> dict[str, Any]:
        """For the card."""
        note = (
            "cells kept apart, which also chose between weights, and whether the card tells volumes: "
            "somewhat flattered therefore"
        )
        return {
            "note": note,
            "cells": len(self.ensembles),
            **{
                quality: {
                    "energy_score": _mean([one.energy_score for one in scores]),
                    "consensus_iou": _mean([one.consensus_iou for one in scores]),
                    "volume_error_mean": _mean([abs(one.volume - 1) for one in scores]),
                    "volume_error_median": round(
                        float(np.median([abs(one.volume - 1) for one in scores])), 4
                    ),
                    "volume_bias": _mean([one.volume - 1 for one in scores]),
                }
                for quality, scores in self.scores.items()
            },
        }

    def intervals(self, cells: Sequence[CellFile]) -> dict[str, Calibration]:
        """What intervals are read from; the estimates are those of the quality ``balanced``."""
        estimates = []
        for ensemble in self.ensembles:
            table = measure_ensembles({1: ensemble}, only=CALIBRATED)
            numbers = table.select_dtypes("number")
            estimates.append({str(name): numbers[name].to_numpy() for name in numbers})
        truths = [
            measure_shape(signed_distance.from_level(cell.obj, 127.5), only=CALIBRATED)
            for cell in cells
            if cell.obj is not None
        ]
        return calibrate(estimates, truths)


def scored(
    model: ShapeModel, cells: Sequence[CellFile], device: torch.device, stop: Callable[[], bool]
) -> Scored:
    """Draw cells at every quality and compare."""
    scores: dict[str, list[CellScores]] = {quality: [] for quality in model.card.qualities}
    ensembles = []
    for cell in cells:
        for quality, found in scores.items():
            if stop():
                raise Stopped
            one, ensemble = score_cell(model, cell, quality, device)
            found.append(one)
            if quality == "balanced":
                ensembles.append(ensemble)
    return Scored(scores, ensembles)


def _qualities(settings: TrainSettings) -> dict[str, Quality]:
    if settings.method == "dispr":
        return dispr_qualities(1000)
    if settings.scored:
        return {"fast": Quality(sampler="euler", steps=1), "balanced": Quality(sampler="euler", steps=4)}
    return {"fast": Quality(sampler="euler", steps=2), "balanced": Quality(sampler="dpm-solver++", steps=8)}


def _volume_regression(cells: Sequence[CellFile]) -> Any:
    """Of real cells: volumes that were predicted from a picture say nothing new of what it tells."""
    cells = [cell for cell in cells if not cell.predicted]
    try:
        return volume.fit_volume(
            [cell.mask for cell in cells],
            [cell.image for cell in cells],
            [float(np.count_nonzero(cell.obj > 127)) for cell in cells if cell.obj is not None],
        )
    except InputError:  # too few
        return None


def _familiarity(cells: Sequence[CellFile], card: Card) -> Any:
    """Of each picture once, however many objects there are of it: pictures are left out one by one."""
    pictures = {cell.fingerprint: (cell.mask, cell.image) for cell in cells}
    try:
        return familiarity.fit_familiarity(list(pictures.values()), extent=card.typical_extent)
    except InputError:  # too few
        return None


def _mean(values: Sequence[float]) -> float:
    return round(float(np.mean(values)), 4)
