"""The one interface of everything that draws shapes: shape models, SHAPR, fits, and a user's own methods.

A method gets crops with a noise seed for each member, and draws the members. It knows nothing of pictures,
files or predictions.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_dispr import signed_distance
from napari_dispr.card import Card
from napari_dispr.cells.cropping import Crop
from napari_dispr.errors import InputError
from napari_dispr.events import Clock, Step


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """A crop, and the noise seed of each member to draw."""

    crop: Crop
    seeds: Sequence[int]


@dataclass(frozen=True, slots=True, eq=False)
class Members:
    """All members of a task are drawn: their signed distances (member, 64, 64, 64), float32, in voxels,
    positive inside, in the order of the task's seeds.
    """

    crop: Crop
    signed_distance: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class NotDrawn:
    """The method cannot draw this crop."""

    crop: Crop
    reason: InputError


@dataclass(frozen=True, slots=True)
class OutOfMemory:
    """The device ran out of memory: from now on ``batch`` shapes are computed at once."""

    batch: int


MethodEvent = Step | Members | NotDrawn | OutOfMemory


class Method(Protocol):
    """Draws shapes on the model grid from what a picture shows of a cell."""

    @property
    def name(self) -> str:
        """For folders and tables."""
        ...

    @property
    def card(self) -> Card: ...

    @property
    def hash(self) -> str:
        """Differs between methods that draw different shapes."""
        ...

    @property
    def members(self) -> int | None:
        """How many members it can draw of a cell; None: any number."""
        ...

    @property
    def uses_planes(self) -> bool:
        """Whether further planes of a crop change its shapes elsewhere than in these planes."""
        ...

    @property
    def provenance(self) -> Mapping[str, Any]:
        """What is needed to draw the same shapes again; JSON can hold it."""
        ...

    def draw(self, tasks: Sequence[Task], /) -> Generator[MethodEvent, None, None]:
        """Draw the members of crops, one event after each step; closing the generator cancels.

        For each task there is one `Members` or `NotDrawn`, in the order of the tasks.
        """
        ...


class OneShape(ABC):
    """A method that draws one shape of a cell, whatever the seed: a fit, or SHAPR."""

    card: Card
    uses_planes: ClassVar[bool] = False

    @property
    def hash(self) -> str:
        """SHA-256 of all that decides what is drawn, hexadecimal: of the name, if there are no weights."""
        return hashlib.sha256(f"napari-dispr fit {self.name}".encode()).hexdigest()

    @abstractmethod
    def level(self, crop: Crop) -> tuple[NDArray[Any], float]:
        """A volume (64, 64, 64), and the level of the shape's surface in it.

        Raises an InputError if the method cannot draw this cell.
        """

    @property
    def name(self) -> str:
        return self.card.name

    @property
    def members(self) -> int:
        return 1

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Name, hash and kind; it has no settings."""
        return {"model": self.name, "model_hash": self.hash, "method": self.card.rival, "device": "cpu"}

    def draw(self, tasks: Sequence[Task], /) -> Generator[MethodEvent, None, None]:
        clock = Clock(1)
        for done, task in enumerate(tasks):
            try:
                level, surface = self.level(task.crop)
            except InputError as error:
                yield NotDrawn(task.crop, error)
                continue
            distance = signed_distance.from_level(level, surface, self.card.truncation)
            yield clock.step(task.crop.label, len(tasks) - done)
            clock.end_batch(finished=True)
            yield Members(task.crop, distance[None])
