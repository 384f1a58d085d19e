"""Text on its way into Tcl scripts, which RTL and HLS both emit."""

import re

from headrace.errors import InputError

__all__ = ["tcl_word"]


def tcl_word(text: str) -> str:
    """Return `text` as one double-quoted Tcl word in which nothing is substituted.

    Raises
    ------
    InputError
        A control or non-ASCII character, which tools read in different encodings.
    """
    if not all(" " <= character <= "~" for character in text):
        raise InputError(f"{text!r} is not allowed in a Tcl script: printable ASCII needed")
    return '"' + re.sub(r'([\\"$\[\]{}])', r"\\\1", text) + '"'
