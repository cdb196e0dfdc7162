"""Make a model from the best weights of a run: its card, scores of the validation cells, calibration."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from napari_dispr.card import Calibration, Card, Quality
from napari_dispr.cells import volume
from napari_dispr.cells.folders import CellFile, DatasetNotes
from napari_dispr.cells.novelty import fit_novelty
from napari_dispr.cells.training_cells import larger_side, training_cell
from napari_dispr.diffusion.model import ShapeModel
from napari_dispr.diffusion.network import UNet3D, seeded
from napari_dispr.diffusion.original import dispr_qualities
from napari_dispr.diffusion.process import GaussianDiffusion, RectifiedFlow
from napari_dispr.errors import InputError
from napari_dispr.models.shapr import SHAPR, SHAPRModel
from napari_dispr.settings import RivalTrainSettings, TrainSettings
from napari_dispr.shapes.ensemble import Ensemble
from napari_dispr.shapes.intervals import LEVEL, calibrate, least_cells
from napari_dispr.training.calibrate import measures_of, true_measures
from napari_dispr.training.known_shapes import known_shapes, versions
from napari_dispr.training.objectives import topology_of
from napari_dispr.training.run import Plan, Run
from napari_dispr.training.shapr import best_weights
from napari_dispr.training.state import State
from napari_dispr.training.validation import CellScores, rounded_mean, score_cell, spread, summary_of
from napari_dispr.version import __version__

#: Most validation cells that are scored for the card.
_SCORED = 60
#: Known shapes of a model: versions of each training cell, and at most in all (a minute or two).
_VERSIONS_OF_EACH, _VERSIONS = 40, 3000
_LIMITS = (
    "Trained with napari-dispr on the cells named here. Use it for the same kind of cells, images of the "
    "same microscope and sections at the same height."
)
_DESCRIPTIONS = {
    "flow": "Trained on {} cells of a user.",
    "dispr": "DISPR as published, trained on {} cells.",
    "shapr": "SHAPR, trained on {} cells. For comparison: it predicts one shape per cell.",
    "topo-shapr": "Topological SHAPR, trained on {} cells. For comparison: it predicts one shape per cell.",
}
#: Optimiser steps of the published model.
_PUBLISHED_STEPS = 85_000


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """A training as its card describes it; ``cells`` train, ``validation`` scores."""

    plan: Plan
    notes: DatasetNotes
    cells: list[CellFile]
    validation: list[CellFile]
    start: ShapeModel | None


def process_of(settings: TrainSettings) -> RectifiedFlow | GaussianDiffusion:
    """The process that the settings train."""
    return GaussianDiffusion() if settings.method == "dispr" else RectifiedFlow(settings.shift)


def card_of(trained: Trained) -> Card:
    """The card before the first step: without scores and calibration."""
    plan, notes, settings, start = trained.plan, trained.notes, trained.plan.settings, trained.start
    known = start.card.training if start else {}
    seen = {cell.fingerprint for cell in trained.cells} | set(known.get("fingerprints", ()))
    shapes = {cell.shape_fingerprint for cell in trained.cells}
    attribution = [f"Trained on {len(trained.cells)} cells. {plan.data_note}".strip()]
    if start:
        attribution.append(f"Started from the model {start.name}: {start.card.attribution}")
    return Card(
        name=plan.name,
        description=plan.description or _DESCRIPTIONS[settings.method].format(len(trained.cells)),
        licence=plan.licence or "not stated",
        attribution=" ".join(attribution),
        limits=_LIMITS,
        typical_extent=round(float(np.median([larger_side(cell.mask) for cell in trained.cells])), 1),
        **notes.size_on_card,
        **_sampling(settings),
        training={
            "date": datetime.now(UTC).date().isoformat(),
            "version": __version__,
            "cells": [cell.name for cell in trained.cells],
            "kept_apart": [cell.name for cell in trained.validation],
            "source": notes.source,
            "plane": notes.plane,
            "fingerprints": sorted(seen),
            "shapes": sorted(shapes | set(known.get("shapes", ()))),
            "started_from": start.hash if start else None,
            "preset": plan.preset,
            "runs": [*known.get("runs", ()), settings.model_dump(mode="json")],
        },
    )


def _sampling(settings: TrainSettings | RivalTrainSettings) -> dict[str, Any]:
    """The fields of a card that say how shapes are sampled."""
    if isinstance(settings, RivalTrainSettings):
        return {"representation": "occupancy", "qualities": {}, "rival": settings.method}
    occupancy = settings.method == "dispr"
    return {
        "representation": "occupancy" if occupancy else "signed_distance",
        "truncation": settings.truncation,
        "qualities": _qualities(settings),
    }


class Stopped(Exception):
    """The user stopped the scoring of a model."""


def finished_model(trained: Trained, run: Run, device: torch.device, stop: Callable[[], bool]) -> ShapeModel:
    """The model with the best weights, and its scores on the validation cells.

    The volume regression goes into the card only if it lowers the volume error of the validation cells, and
    members start from known shapes only if that does not raise their energy score. If ``stop``, which is
    called before each cell, is true, `Stopped` is raised.
    """
    settings = trained.plan.settings
    assert isinstance(settings, TrainSettings)
    if run.best.exists():
        with seeded():
            network = UNet3D(topology_of(settings))
        network.load_state_dict(load_file(run.best))
    elif run.checkpoint.exists():
        state = State(settings, topology_of(settings), torch.device("cpu"))
        state.load(run.checkpoint)
        network = state.average
    else:
        raise InputError(f"The run {run.plan.name!r} has not made a step yet: train it first.")
    card = _with_steps(card_of(trained), settings, _steps_of(run))
    model = ShapeModel(network.half().float(), process_of(settings), card)
    if not trained.validation or settings.method == "dispr":
        return model
    validation = spread(trained.validation, _SCORED)
    regression = _volume_regression(trained.cells)
    known = [cell for cell in trained.cells if not cell.predicted] or trained.cells
    turns = 2 if regression is None else 3
    steps = itertools.count()

    def step() -> None:
        # Each validation cell is scored several times, and each known cell prepared.
        run.scoring(next(steps), len(known) + turns * len(validation), "steps")

    found = scored(model, validation, device, stop, step)
    if regression is not None:
        second = replace(model, card=model.card.model_copy(update={"volume": regression}))
        also = scored(second, validation, device, stop, step)
        if also.volume_error < found.volume_error:
            model, found = second, also
    second = _from_known_shapes(model, known, settings, stop, step)
    also = scored(second, validation, device, stop, step)
    energy = {"from_noise": found.energy_score, "from_known_shapes": also.energy_score}
    if also.energy_score <= found.energy_score:
        model, found = second, also
    scores = {**found.summary, "energy_score_by_start": energy}
    more: dict[str, Any] = {"scores": scores, "novelty": _novelty(trained.cells, model.card)}
    if len(validation) >= least_cells(LEVEL):
        more["intervals"] = found.intervals(validation)
    return replace(model, card=model.card.model_copy(update=more))


def _from_known_shapes(
    model: ShapeModel,
    cells: Sequence[CellFile],
    settings: TrainSettings,
    stop: Callable[[], bool],
    step: Callable[[], None],
) -> ShapeModel:
    """The model with versions of its training cells to start from; ``step`` is called once for each cell."""
    prepared = [training_cell(c.name, c.mask, c.image, c.known_object) for c in cells]
    each = min(_VERSIONS_OF_EACH, max(1, _VERSIONS // len(prepared)))
    extent = model.card.typical_extent
    drawn, wanted = [], versions(prepared, each * len(prepared), settings.truncation, extent, settings.seed)
    for number, version in enumerate(wanted):
        if stop():
            raise Stopped
        if number % each == 0:
            step()
        drawn.append(version)
    qualities = model.card.qualities
    if settings.scored:
        qualities = {**qualities, "balanced": qualities["balanced"].model_copy(update={"steps": 2})}
    training = {**model.card.training, "known_shapes": {"cells": len(prepared), "versions": len(drawn)}}
    card = model.card.model_copy(update={"qualities": qualities, "training": training})
    return replace(model, known=known_shapes(drawn), card=card)


def finished_rival(trained: Trained, run: Run, stop: Callable[[], bool]) -> SHAPRModel:
    """SHAPR with the best weights of its run, and its scores; see `finished_model`."""
    weights, steps = best_weights(run.checkpoint)
    with seeded():
        network = SHAPR()
    network.load_state_dict(weights)
    card = card_of(trained)
    training = {**card.training, "steps": steps}
    more: dict[str, Any] = {"training": training, "novelty": _novelty(trained.cells, card)}
    model = SHAPRModel(network, card.model_copy(update=more))
    found = []
    validation = spread(trained.validation, _SCORED)
    for done, cell in enumerate(validation):
        if stop():
            raise Stopped
        run.scoring(done, len(validation))
        found.append(score_cell(model, cell, "balanced", torch.device("cpu")))
    if found:
        own = Scored({"one_shape": [one for one, _ in found]}, [shape for _, shape in found])
        more["scores"] = own.summary
    return SHAPRModel(network, card.model_copy(update=more))


def _steps_of(run: Run) -> int:
    """Optimiser steps of the run's best weights."""
    lines = run.reports()[0]
    best = [line for line in lines if line.get("kind") == "validation" and line.get("best")]
    steps = best or [line for line in lines if line.get("kind") == "step"]
    return int(steps[-1]["step"]) if steps else 0


def _with_steps(card: Card, settings: TrainSettings, steps: int) -> Card:
    """The card with the number of steps, and a warning if the published model had more."""
    training: dict[str, Any] = {**card.training, "steps": steps}
    if settings.method != "dispr" or steps >= _PUBLISHED_STEPS:
        return card.model_copy(update={"training": training})
    short = f"{steps:,} of the {_PUBLISHED_STEPS:,} steps of the published model"
    more = {
        "training": {**training, "undertrained": short},
        "description": f"{card.description} Undertrained: {short}.",
        "limits": f"Undertrained, with {short}: errors are no measure of the method. {card.limits}",
    }
    return card.model_copy(update=more)


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """Scores of the validation cells by quality, and their ensembles at the quality ``balanced``."""

    scores: dict[str, list[CellScores]]
    ensembles: list[Ensemble]

    @property
    def volume_error(self) -> float:
        """Mean relative error of the volume at the quality ``balanced``."""
        return float(np.mean([abs(one.volume - 1) for one in self.scores["balanced"]]))

    @property
    def energy_score(self) -> float:
        """Mean energy score at the quality ``balanced``."""
        return rounded_mean([one.energy_score for one in self.scores["balanced"]])

    @property
    def summary(self) -> dict[str, Any]:
        return {
            "note": "validation cells, which also chose the weights: slightly optimistic",
            "cells": len(self.ensembles),
            **{quality: summary_of(scores) for quality, scores in self.scores.items()},
        }

    def intervals(self, cells: Sequence[CellFile]) -> dict[str, Calibration]:
        """Calibrate intervals at the quality ``balanced``."""
        estimates = [measures_of(list(ensemble.signed_distance)) for ensemble in self.ensembles]
        return calibrate(estimates, [true_measures(cell) for cell in cells])


def scored(
    model: ShapeModel,
    cells: Sequence[CellFile],
    device: torch.device,
    stop: Callable[[], bool],
    step: Callable[[], None],
) -> Scored:
    """Sample and score cells at every quality; ``step`` is called once for each cell."""
    scores: dict[str, list[CellScores]] = {quality: [] for quality in model.card.qualities}
    ensembles = []
    for label, cell in enumerate(cells, start=1):
        step()
        for quality, found in scores.items():
            if stop():
                raise Stopped
            one, ensemble = score_cell(model, cell, quality, device, label)
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
    """The volume regression, from real cells: predicted objects contain no new information on volumes."""
    cells = [cell for cell in cells if not cell.predicted]
    try:
        return volume.fit_volume(
            [cell.mask for cell in cells],
            [cell.image for cell in cells],
            [float(np.count_nonzero(cell.known_object > 127)) for cell in cells],
        )
    except InputError:  # too few
        return None


def _novelty(cells: Sequence[CellFile], card: Card) -> Any:
    """The novelty detector, from each image once, also if the dataset has several objects for it."""
    pictures = {cell.fingerprint: (cell.mask, cell.image) for cell in cells}
    try:
        return fit_novelty(list(pictures.values()), extent=card.typical_extent)
    except InputError:  # too few
        return None
