"""Emit source trees: typed substitution, escaping for each language, whole folders."""

import re
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path, PurePosixPath

from headrace.errors import InputError
from headrace.files import replace_directory, write_atomic
from headrace.tcl import tcl_word

__all__ = ["Code", "Tree", "comment", "constants", "identifier", "matrix", "render", "tcl_code"]

_PLACEHOLDER = re.compile(r"@([a-z][a-z0-9_]*)@")
_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_LINE_CHARACTERS = 96
# Words that a C++14 compiler or the Vitis scheduler takes for itself.
_KEYWORDS = (
    "alignas alignof and and_eq asm auto bitand bitor bool break case catch char char16_t "
    "char32_t class compl const const_cast constexpr continue decltype default delete do double "
    "dynamic_cast else enum explicit export extern false float for friend goto if inline int long "
    "main mutable namespace new noexcept not not_eq nullptr operator or or_eq private protected "
    "public register reinterpret_cast return short signed sizeof static static_assert static_cast "
    "struct switch template this thread_local throw true try typedef typeid typename union "
    "unsigned using virtual void volatile wchar_t while xor xor_eq"
)
_RESERVED = frozenset(_KEYWORDS.split())


class Code(str):
    """Text that is already valid in the language it goes into.

    Only the functions of this module and literals in the emitters make it; `render` refuses
    plain strings, so nothing read from a file reaches a source unescaped.
    """


def identifier(name: str) -> Code:
    """Return `name` if it may name something in C++ and Verilog tools alike.

    Raises
    ------
    InputError
        Not letters, digits and single underscores after a letter, or a reserved word.
    """
    if not _IDENTIFIER.fullmatch(name) or "__" in name or name in _RESERVED:
        raise InputError(
            f"{name!r} is not allowed as an identifier: a letter, then letters, digits and "
            "single underscores needed, no C++ keyword"
        )
    return Code(name)


def comment(text: str) -> Code:
    """Return `text` as one line that is safe inside ``//``, ``#`` and ``/* */`` comments.

    Control and non-ASCII characters become ``?``; backslashes, which would join the next line,
    and the ends of block comments become spaces.
    """
    plain = "".join(c if " " <= c <= "~" else "?" for c in text)
    return Code(
        plain.replace("\\", " ").replace("*/", "* ").replace("/*", " *").replace("??", "? ")
    )


def tcl_code(text: str) -> Code:
    """Return `text` as one Tcl word, see `headrace.tcl.tcl_word`."""
    return Code(tcl_word(text))


def render(template: str, values: Mapping[str, int | Code]) -> str:
    """Replace every ``@name@`` of `template`.

    Parameters
    ----------
    template : str
        Source text.
    values : mapping of str to int or Code
        One value per placeholder, neither more nor fewer.

    Raises
    ------
    TypeError
        A value is neither an integer nor `Code`.
    KeyError
        Placeholders and values are not the same set of names.
    """
    for name, value in values.items():
        if type(value) is not int and not isinstance(value, Code):
            raise TypeError(f"@{name}@ must be int or Code, not {type(value).__name__}")
    odd = set(_PLACEHOLDER.findall(template)) ^ set(values)
    if odd:
        raise KeyError(f"placeholders without a value or the reverse: {', '.join(sorted(odd))}")
    return _PLACEHOLDER.sub(lambda match: str(values[match[1]]), template)


def constants(values: Mapping[str, int]) -> Code:
    """Return one C++ ``constexpr int`` per name, in the order given."""
    return Code("\n".join(f"constexpr int {identifier(n)} = {int(v)};" for n, v in values.items()))


def matrix(rows: Sequence[Sequence[int]]) -> Code:
    """Return a C++ initialiser of a two-dimensional integer array, wrapped at 100 columns."""
    lines = [""]
    for row in rows:
        word = "{" + ", ".join(str(int(v)) for v in row) + "},"
        if lines[-1] and len(lines[-1]) + len(word) >= _LINE_CHARACTERS:
            lines.append("")
        lines[-1] += (" " if lines[-1] else "") + word
    return Code("{\n" + "\n".join(f"    {line}" for line in lines) + "\n}")


class Tree:
    """Files of an emission by relative path; keeps them sorted, writes them whole.

    Parameters
    ----------
    files : mapping of str to str or bytes, optional
        Contents by POSIX path; text is stored as UTF-8.
    """

    def __init__(self, files: Mapping[str, str | bytes] | None = None):
        self._files: dict[str, bytes] = {}
        for path, content in (files or {}).items():
            self.add(path, content)

    def add(self, path: str, content: str | bytes) -> None:
        """Add a file.

        Raises
        ------
        ValueError
            The path is absolute, leaves the tree or is taken.
        """
        pure = PurePosixPath(path)
        if pure.is_absolute() or ".." in pure.parts or str(pure) != path or path in self._files:
            raise ValueError(f"{path!r} is not a new path inside the tree")
        self._files[path] = content.encode() if isinstance(content, str) else content

    def __getitem__(self, path: str) -> bytes:
        return self._files[path]

    def paths(self) -> list[str]:
        """Return the paths, sorted."""
        return sorted(self._files)

    @property
    def hash(self) -> str:
        """SHA-256 over all paths and contents, 64 hex digits."""
        digest = sha256()
        for path in self.paths():
            digest.update(f"{path}\0{len(self._files[path])}\0".encode())
            digest.update(self._files[path])
        return digest.hexdigest()

    def write_into(self, directory: Path) -> list[Path]:
        """Write every file below `directory`, which exists; return their paths, sorted.

        For a folder that the caller is assembling; `write` is for a folder of its own.

        Raises
        ------
        InputError
            A file cannot be written.
        """
        written = []
        for path in self.paths():
            target = directory / path
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise InputError(f"cannot write {target.parent}: {error.strerror}") from error
            write_atomic(target, self._files[path])
            written.append(target)
        return written

    def write(self, directory: Path) -> list[Path]:
        """Write the tree as `directory`, whole or not at all; return its files, sorted.

        Raises
        ------
        InputError
            The place cannot be written or holds files that headrace did not write.
        """
        with replace_directory(directory) as temporary:
            self.write_into(temporary)
        return [directory / path for path in self.paths()]
