"""Numbers and times in words."""

import pytest

from napari_dispr.widgets.parts.wording import cells_text, duration


@pytest.mark.parametrize(
    ("seconds", "words"), [(-3, "0 s"), (40, "40 s"), (480, "8 min"), (11100, "3 h 05 min")]
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_numbers_of_cells() -> None:
    assert [cells_text(number) for number in (0, 1, 2)] == ["0 cells", "1 cell", "2 cells"]
