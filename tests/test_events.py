"""Events of a generator: an error at its end, such as of a full disk while it saves, is not lost."""

from collections.abc import Callable, Generator
from typing import Any

import pytest

from napari_dispr.events import mapped, result_of


def saves_at_its_end() -> Generator[int, None, None]:
    try:
        yield 1
        yield 2
    finally:
        raise OSError("full")


def interrupted(event: int) -> None:
    raise KeyboardInterrupt


def closed(events: Generator[int, None, None]) -> None:
    next(events)
    events.close()


@pytest.mark.parametrize(
    "run",
    [
        lambda: result_of(saves_at_its_end(), interrupted),
        lambda: result_of(mapped(saves_at_its_end(), str), interrupted),
        lambda: closed(mapped(saves_at_its_end(), str)),
        lambda: list(mapped(saves_at_its_end(), interrupted)),
    ],
)
def test_an_error_while_a_generator_is_closed_is_raised(run: Callable[[], Any]) -> None:
    with pytest.raises(OSError, match="full"):
        run()
