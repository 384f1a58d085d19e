"""The one exception for input that a user can mend."""

__all__ = ["InputError"]


class InputError(ValueError):
    """Bad input: a file, a key, an option or a parameter is not acceptable.

    The message is one line that names what is wrong, where, and the allowed range. The
    command line prints it and exits with code 2. Any other exception is a defect of ours.

    This module, `headrace.files` and `headrace.tcl` import nothing of the layers, so each may use
    them.
    """
