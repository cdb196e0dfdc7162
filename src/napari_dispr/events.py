"""Shared by all verbs: the events of a generator, and functions that run a generator to its result."""

import inspect
import re
import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Generic, Self, TypeVar

Result = TypeVar("Result")
Event = TypeVar("Event")


@dataclass(frozen=True, slots=True)
class Step:
    """One evaluation of the network is done: ``done`` of ``total``, for all cells; ``label`` is the first of
    the batch.

    ``seconds_left`` is None until two steps are done.
    """

    label: int
    done: int
    total: int
    seconds_left: float | None


class Clock:
    """Counts the steps of batches of ``steps`` each, and estimates the time left."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._before = self._in_batch = self._taken = 0
        self._start = time.monotonic()

    def step(self, label: int, batches_left: int) -> Step:
        """Count a step; ``batches_left`` includes the current batch."""
        self._in_batch += 1
        self._taken += 1
        done = self._before + self._in_batch
        left = batches_left * self._steps - self._in_batch
        seconds = (time.monotonic() - self._start) / self._taken * left if self._taken > 1 else None
        return Step(label, done, done + left, seconds)

    def end_batch(self, *, finished: bool) -> None:
        """End a batch that is finished, or that will be repeated."""
        self._before += self._in_batch if finished else 0
        self._in_batch = 0


class Running(Generic[Event, Result]):
    """The events of a generator in a ``for`` loop, after which ``result`` is what it returned.

    A class, not a generator: Python closes a generator that a loop leaves early, and drops the errors of
    ``events`` when it does.
    """

    result: Result

    def __init__(self, events: Generator[Event, None, Result]) -> None:
        self._events = events

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        try:
            return next(self._events)
        except StopIteration as end:
            self.result = end.value
            raise


def result_of(events: Generator[Any, None, Result], progress: Callable[[Any], None] | None = None) -> Result:
    """Run a generator to its end and return its result; ``progress`` is called with each event.

    An error in ``progress`` closes the generator.
    """
    running = Running(events)
    with closing(events):
        for event in running:
            if progress is not None:
                progress(event)
    return running.result


def mapped(
    events: Generator[Any, None, Result], change: Callable[[Any], Event | None]
) -> Generator[Event, None, Result]:
    """Pass on what ``change`` makes of each event, unless it is None, and return the generator's result."""
    running = Running(events)
    with closing(events):
        for event in running:
            if (other := change(event)) is not None:
                yield other
    return running.result


def steps_of(events: Generator[Any, None, Result]) -> Generator[Step, None, Result]:
    """Pass on the steps of a generator, without its other events, and return its result."""
    return mapped(events, lambda event: event if isinstance(event, Step) else None)


def in_one_go(verb: Callable[..., Generator[Any, None, Result]], example: str = "") -> Callable[..., Result]:
    """Make the function ``verb`` from the generator ``iter_verb``.

    The function takes the same arguments, and ``progress``, which is called with each event. It has the
    generator's docstring without the section "Yields".
    """

    def run(*args: Any, progress: Callable[[Any], None] | None = None, **options: Any) -> Result:
        return result_of(verb(*args, **options), progress)

    run.__name__ = run.__qualname__ = verb.__name__.removeprefix("iter_")
    run.__module__ = verb.__module__
    signature = inspect.signature(verb)
    last = [one for one in signature.parameters.values() if one.kind is one.VAR_KEYWORD]
    others = [one for one in signature.parameters.values() if one not in last]
    progress = inspect.Parameter("progress", inspect.Parameter.KEYWORD_ONLY, default=None)
    run.__dict__["__signature__"] = signature.replace(
        parameters=[*others, progress, *last], return_annotation=inspect.Signature.empty
    )
    text = re.sub(r"Yields\n-+\n(?:.+\n)+\n?", "", inspect.getdoc(verb) or "")
    text += f"\n\n``progress`` is called with each event; see `{verb.__name__}`."
    run.__doc__ = text + (f"\n\nExamples\n--------\n>>> {example}" if example else "")
    return run
