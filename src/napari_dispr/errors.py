"""What sentences for users have in common: the exception for wrong input, and numbers of things."""


class InputError(ValueError):
    """Wrong input. The text is one sentence that names the input and says what to do.

    Widgets show the text next to the inputs; the command line prints it and exits with status 2.
    """


def counted(number: int, word: str) -> str:
    """Such as ``1 cell`` or ``3,000 cells``."""
    ending = "" if number == 1 else "es" if word.endswith("sh") else "s"
    return f"{number:,} {word}{ending}"
