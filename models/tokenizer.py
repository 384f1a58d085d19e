"""Text to token ids and back, by way of a checkpoint's tokenizer.json."""

from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer as _Tokenizer

from headrace.errors import InputError

__all__ = ["Tokenizer"]

MAX_TOKENIZER_BYTES = 256 << 20


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
        path = Path(folder) / "tokenizer.json"
        if not path.is_file():
            raise InputError(f"cannot read {path}: no such file")
        try:
            if path.stat().st_size > MAX_TOKENIZER_BYTES:
                raise InputError(f"{path}: more than {MAX_TOKENIZER_BYTES} bytes")
            text = path.read_bytes().decode("utf-8")
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror or error}") from error
        except UnicodeDecodeError as error:
            raise InputError(f"{path}: not UTF-8 at byte {error.start}") from error
        try:
            self._tokenizer = _Tokenizer.from_str(text)
        except Exception as error:  # the library raises Exception itself
            raise InputError(f"{path}: not a tokenizer: {' '.join(str(error).split())}") from error
        # a file may ask for padding to any length, or cut a prompt short without a word
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """Return the token ids of a text; `special` adds what the tokenizer puts around it."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=special).ids
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of token ids; bytes that are not yet UTF-8 become U+FFFD."""
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=True)
        return text
