"""Methods of evaluation made from functions."""

from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any

import numpy as np

from napari_dispr.card import Card
from napari_dispr.errors import InputError
from napari_dispr.events import Step, mapped
from napari_dispr.models.method import Members, MethodEvent, NotDrawn, Task


class FunctionMethod:
    """A method that calls ``shapes(mask, image, members, seed)`` for each crop.

    The function returns shapes (member, 64, 64, 64), bool or signed distances, or is a generator that returns
    them and yields once for each step.
    """

    members = None
    uses_planes = False
    name = hash = "function"

    def __init__(self, shapes: Callable[..., Any], trained_on: Iterable[str] = ()) -> None:
        self.shapes = shapes
        self.card = Card(name="function", qualities={}, training={"fingerprints": [*trained_on]})
        self.provenance: dict[str, Any] = {}

    def draw(self, tasks: Sequence[Task], /) -> Generator[MethodEvent, None, None]:
        for crop, seeds in ((task.crop, task.seeds) for task in tasks):
            try:
                shapes = self.shapes(crop.mask, crop.image, len(seeds), seeds[0])
                if isinstance(shapes, Generator):
                    shapes = yield from mapped(shapes, lambda _: Step(1, 1, 1, None))
            except InputError as error:
                yield NotDrawn(crop, error)
                continue
            if shapes.dtype == bool:
                shapes = np.where(shapes, 1, -1)
            yield Members(crop, shapes.astype(np.float32))
