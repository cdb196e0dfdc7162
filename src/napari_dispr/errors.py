"""The exception for wrong input. Its text is one sentence that says what is wrong and what to do."""


class InputError(ValueError):
    """Wrong input. The text is one sentence that names the input and says what to do.

    Widgets show the text next to the inputs; the command line prints it and exits with status 2.
    """
