"""What sentences for users have in common: the exception for wrong input, names, numbers and times."""

from collections.abc import Callable, Sequence


class InputError(ValueError):
    """Wrong input. The text is one sentence that names the input and says what to do.

    Widgets show the text next to the inputs; the command line prints it and exits with status 2.
    """


class CellError(InputError):
    """A cell that cannot be used; ``why`` fits behind a number of such cells: "3 cut by the border"."""

    def __init__(self, text: str, why: str) -> None:
        super().__init__(text)
        self.why = why


def problem_of(request: Callable[[], object]) -> str:
    """Why a request cannot be made, in words; empty if it can."""
    try:
        request()
    except InputError as error:
        return str(error)
    return ""


def counted(number: int, word: str) -> str:
    """Such as ``1 cell`` or ``3,000 cells``."""
    ending = "" if number == 1 else "es" if word.endswith("sh") else "s"
    return f"{number:,} {word}{ending}"


def listed(names: Sequence[str]) -> str:
    """Up to three names, as a list in words."""
    if len(names) > 3:
        return f"{', '.join(names[:3])} and {len(names) - 3} more"
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def words_of(name: str) -> str:
    """The name of a column or setting with spaces."""
    return name.replace("_", " ")


def duration(seconds: float) -> str:
    """Such as ``40 s``, ``8 min`` or ``3 h 05 min``."""
    seconds = max(0, round(seconds))
    if seconds < 100:
        return f"{seconds} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"
