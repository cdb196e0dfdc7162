"""Numbers and times in words."""

import pytest

from napari_dispr.errors import counted, duration
from napari_dispr.widgets.parts.wording import breakable, plain, shortened


@pytest.mark.parametrize(
    ("seconds", "words"), [(-3, "0 s"), (40, "40 s"), (480, "8 min"), (11100, "3 h 05 min")]
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_numbers_of_cells() -> None:
    assert [counted(number, "cell") for number in (0, 1, 2)] == ["0 cells", "1 cell", "2 cells"]


def test_measures_have_four_digits_and_whole_volumes() -> None:
    values = (0.01234567, 9618.7, 15988.4, 2.5e7, float("nan"))
    assert [plain(value) for value in values] == ["0.01235", "9619", "15988", "2.5e+07", ""]


def test_long_names_do_not_make_a_window_wider() -> None:
    sentence = "Finished: the model is now available in Predict."
    assert breakable(sentence) == sentence
    pieces = breakable(f"Finished: {'x' * 100} is available.").split("\u200b")
    assert [len(piece) for piece in pieces] == [40, 30, 30, 24]
    assert shortened("generic (start)") == "generic (start)"
    assert shortened("nuclei-of-the-embryo-of-2026-11-30 (start)") == "nuclei-of-t…30 (start)"
