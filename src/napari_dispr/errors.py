"""The one exception that means "the input is at fault": its text is one sentence that a user can act on."""


class InputError(ValueError):
    """Bad input, said in one plain sentence that names the input and the cure.

    Widgets show the text beside the inputs; the command line prints it and exits with status 2.
    """
