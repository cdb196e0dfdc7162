"""All that changes while SHAPR is trained, saved whole, so that a resumed run equals one that went on."""

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch

from napari_dispr.errors import InputError
from napari_dispr.models.shapr import SHAPR, Discriminator
from napari_dispr.settings import RivalTrainSettings
from napari_dispr.training.checkpoints import read_checkpoint, write_checkpoint

#: What a run that goes on may change.
_FREE = {"device"}
#: What the learning rate is multiplied by where nothing gets better, and after how many such times a
#: part ends.
_FALL, _FALLS = 0.2, 3
_COUNTERS = (
    "part",
    "step",
    "epoch",
    "place",
    "watched",
    "clock",
    "best_loss",
    "best_epoch",
    "best_step",
    "best",
    "cells",
)
_MODULES = ("network", "discriminator", "optimiser", "opponent", "plateau")


class RivalState:
    """All that changes while training; saved whole, so that a resumed run equals one that went on.

    Random numbers need no state: those of a step depend on the seed and its number.

    Attributes
    ----------
    network : SHAPR
    discriminator : Discriminator
    part : "supervised" or "adversarial"
    step, epoch, place : int
        Optimiser steps, whole epochs, and steps of the epoch that is not whole.
    watched : int
        The step after which validation cells were last looked at.
    clock : float
        Seconds of training.
    best : dict
        Weights of this part's lowest validation loss: ``best_loss``, ``best_epoch``, ``best_step``.
    cells : list of str
        Names of the training cells and what tells their shapes apart, in their order.
    """

    def __init__(self, settings: RivalTrainSettings, cells: Sequence[str], device: torch.device) -> None:
        torch.manual_seed(settings.seed)
        self.settings, self.device = settings, device
        self.network, self.discriminator = SHAPR().to(device), Discriminator().to(device)
        self.part = "supervised"
        self.step = self.epoch = self.place = self.watched = self.best_epoch = self.best_step = 0
        self.clock = 0.0
        self.best_loss = float("inf")
        self.best = deepcopy(self.network.state_dict())
        self.cells = list(cells)
        self.steps_an_epoch = -(-len(cells) // settings.batch)
        #: False in the middle of a step, where an interrupted run must not be saved.
        self.consistent = True
        self._begin(settings.learning_rate)

    def _begin(self, learning_rate: float) -> None:
        self.optimiser = torch.optim.Adam(self.network.parameters(), lr=learning_rate)
        self.opponent = torch.optim.Adam(
            self.discriminator.parameters(), lr=self.settings.adversarial_learning_rate, betas=(0.5, 0.999)
        )
        self.plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
            self.optimiser, factor=_FALL, patience=self.settings.patience
        )

    def fine_tune(self) -> None:
        """Begin the second part from the best weights of the first."""
        self.part = "adversarial"
        self.best_epoch = self.epoch
        self.best_loss = float("inf")
        self.network.load_state_dict(self.best)
        self._begin(self.settings.adversarial_learning_rate)

    @property
    def share(self) -> float:
        """Of the budget, how much is used up; 1 at its end."""
        if self.settings.minutes is not None:
            return min(1.0, self.clock / (60 * self.settings.minutes))
        return min(1.0, self.step / (self.settings.steps or self.settings.epochs * self.steps_an_epoch))

    @property
    def is_stuck(self) -> bool:
        """Whether nothing got better for long."""
        return self.epoch - self.best_epoch > _FALLS * self.settings.patience

    @property
    def part_is_over(self) -> bool:
        """Whether its share of the budget is used up, or it is stuck."""
        end = 1 - self.settings.adversarial if self.part == "supervised" else 1.0
        return self.share >= end - 1e-9 or self.is_stuck

    @property
    def is_to_be_watched(self) -> bool:
        """Whether an epoch or a part is whole that was not looked at yet."""
        return self.step > self.watched and (self.place == 0 or self.part_is_over)

    def watch(self, loss: float) -> bool:
        """Take note of the loss of the validation cells; whether it is this part's lowest."""
        self.plateau.step(loss)
        self.watched = self.step
        if loss >= self.best_loss:
            return False
        self.best_loss, self.best_epoch, self.best_step = loss, self.epoch, self.step
        self.best = deepcopy(self.network.state_dict())
        return True

    # --- files --------------------------------------------------------------------------------------

    def save(self, path: Path) -> None:
        """Write the whole state aside, then rename."""
        content = {name: getattr(self, name).state_dict() for name in _MODULES}
        content |= {name: getattr(self, name) for name in _COUNTERS}
        write_checkpoint(path, {**content, "settings": self.settings.model_dump()})

    def load(self, path: Path) -> None:
        """Continue where :meth:`save` was called.

        Raises
        ------
        InputError
            If the file is none of ours, or the run was begun with other settings or cells.
        """
        names = (*_MODULES, *_COUNTERS)
        content = read_checkpoint(
            path, names, self.settings, free=_FREE, cells=self.cells, device=self.device
        )
        for name in _COUNTERS:
            setattr(self, name, content[name])
        for name in _MODULES:
            getattr(self, name).load_state_dict(content[name])


def best_weights(checkpoint: Path) -> tuple[dict[str, Any], int]:
    """The weights that a run has chosen so far, and the steps that they were trained for.

    Raises
    ------
    InputError
        If it has made no step, or its file is damaged.
    """
    try:
        content = torch.load(checkpoint, map_location="cpu", weights_only=True)
        step = int(content["best_step"])
        return (content["best"], step) if step else (content["network"], int(content["step"]))
    except FileNotFoundError:
        raise InputError("The run has not made a step yet: train it first.") from None
    except MemoryError:
        raise
    except Exception as error:
        raise InputError(f"The checkpoint {checkpoint} is damaged: begin the run anew.") from error
