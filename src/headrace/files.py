"""Write files whole or not at all; read those that nobody has vouched for."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from headrace.errors import InputError

__all__ = ["check_folder", "check_replaceable", "read_text", "replace_directory", "write_atomic"]


def write_atomic(path: Path, data: bytes | str) -> None:
    """Write `data` to `path` by way of a temporary file beside it.

    Parameters
    ----------
    path : Path
        Final name; its parent must exist.
    data : bytes or str
        Content; text is stored as UTF-8.

    Raises
    ------
    InputError
        The folder is missing, read-only or full. `path` is as it was before.
    """
    raw = data.encode() if isinstance(data, str) else data
    temporary = None
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
        temporary = None
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error
    finally:
        if temporary is not None:
            with suppress(OSError):
                os.unlink(temporary)


def check_folder(path: Path) -> None:
    """Check, before long work begins, that a file can be written at `path` when it ends.

    Raises
    ------
    InputError
        Its folder is missing or read-only, or `path` is a folder.
    """
    try:
        if path.is_dir():
            raise InputError(f"cannot write {path}: it is a folder")
        if not path.parent.is_dir():
            raise InputError(f"cannot write {path}: no folder {path.parent}")
        if not os.access(path.parent, os.W_OK):
            raise InputError(f"cannot write {path}: {path.parent} is read-only")
    except (OSError, ValueError) as error:
        raise InputError(f"cannot write {path}: {error}") from error


def read_text(path: Path, max_bytes: int) -> str:
    """Read a UTF-8 file that nobody has vouched for.

    Parameters
    ----------
    path : Path
        A regular file (a link to one will do): a pipe could keep us waiting for ever.
    max_bytes : int
        Larger files are refused, and no more than this is read.

    Raises
    ------
    InputError
        Not a readable regular file, too large, or not UTF-8.
    """
    try:
        if not path.is_file():
            found = "it is not a regular file" if path.exists() else "no such file"
            raise InputError(f"cannot read {path}: {found}")
        with path.open("rb") as file:
            raw = file.read(max_bytes + 1)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    if len(raw) > max_bytes:
        raise InputError(f"{path}: larger than {max_bytes} bytes, which is not accepted")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 at byte {error.start}") from error


def check_replaceable(path: Path) -> None:
    """Check that `replace_directory` may put a folder at `path`.

    Raises
    ------
    InputError
        It is a file, or a folder that holds something headrace did not write.
    """
    try:
        if path.exists() and not path.is_dir():
            raise InputError(f"cannot write {path}: it is a file, a folder is needed")
        if path.is_dir() and any(path.iterdir()) and not (path / "point.toml").exists():
            raise InputError(f"cannot replace {path}: it holds files that headrace did not write")
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error


@contextmanager
def replace_directory(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside `path`; move it into place when the block succeeds.

    A folder that already stands at `path` is replaced only if headrace wrote it (it holds
    `point.toml`) or if it is empty; anything else is refused, so that a mistyped `-o` cannot
    delete a user's files.

    Parameters
    ----------
    path : Path
        Final name of the folder.

    Raises
    ------
    InputError
        The place cannot be written, or holds something that is not ours.
    """
    check_replaceable(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
        os.chmod(temporary, 0o755)
        yield temporary
        _swap(temporary, path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def _swap(new: Path, path: Path) -> None:
    """Move `new` to `path`; what stood there leaves only when `new` is in place."""
    if not path.exists():
        os.replace(new, path)
        return
    old = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        os.replace(path, old)
        try:
            os.replace(new, path)
        except BaseException:
            if not path.exists():
                os.replace(old, path)
            raise
    finally:
        shutil.rmtree(old, ignore_errors=True)
