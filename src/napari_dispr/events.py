"""What all verbs share: the events of a generator, gone through to what it returns."""

from collections.abc import Callable, Generator
from typing import Any, TypeVar

Result = TypeVar("Result")


def result_of(events: Generator[Any, None, Result], progress: Callable[[Any], None] | None = None) -> Result:
    """What a verb's events end in; ``progress`` is called with each of them."""
    while True:
        try:
            event = next(events)
        except StopIteration as end:
            value: Result = end.value
            return value
        if progress is not None:
            progress(event)
