"""Text to token ids and back, by way of a checkpoint's tokenizer.json."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tokenizers import Tokenizer as _Tokenizer

from headrace.errors import InputError
from headrace.files import read_text

__all__ = ["Tokenizer"]

MAX_TOKENIZER_BYTES = 64 << 20
"""The largest vocabularies in use, of 256,000 tokens, take half of this."""


class Tokenizer:
    """The tokenizer of a checkpoint folder.

    Parameters
    ----------
    folder : path
        Holds ``tokenizer.json``.

    Raises
    ------
    InputError
        The file is missing, too large or not a tokenizer.
    """

    def __init__(self, folder: str | Path) -> None:
        self._path = Path(folder) / "tokenizer.json"
        text = read_text(self._path, MAX_TOKENIZER_BYTES)
        with _library_errors(f"{self._path}: not a tokenizer"):
            self._tokenizer = _Tokenizer.from_str(text)
        # a file may ask for padding to any length, or cut a prompt short without a word
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """Return the token ids of a text; `special` adds what the tokenizer puts around it.

        Raises
        ------
        InputError
            The text holds half a surrogate pair, as bytes on a command line that are not UTF-8
            do, or the tokenizer cannot encode it.
        """
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InputError(f"text: not Unicode at character {error.start}") from error
        with _library_errors(f"{self._path}: cannot encode the text"):
            ids: list[int] = self._tokenizer.encode(text, add_special_tokens=special).ids
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of token ids; bytes that are not yet UTF-8 become U+FFFD.

        Raises
        ------
        InputError
            The tokenizer cannot decode them.
        """
        with _library_errors(f"{self._path}: cannot decode tokens"):
            text: str = self._tokenizer.decode(list(ids), skip_special_tokens=True)
        return text


@contextmanager
def _library_errors(what: str) -> Iterator[None]:
    """Turn errors of the tokenizers library into `InputError`; `what` begins the message."""
    try:
        yield
    except BaseException as error:
        # the library raises bare Exception, and panics, which derive from BaseException only
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise InputError(f"{what}: {' '.join(str(error).split())}") from error
