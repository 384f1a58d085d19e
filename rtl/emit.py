"""Folders of emitted files: sorted, with a manifest, written whole."""

import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path, PurePosixPath

from headrace.errors import InputError
from headrace.files import replace_directory, write_atomic

__all__ = ["MANIFEST", "emit_folder", "manifest"]

MANIFEST = "manifest.json"


def manifest(files: Mapping[str, bytes]) -> list[dict[str, str]]:
    """Return path and SHA-256 of every file, sorted by path."""
    return [{"path": path, "sha256": sha256(files[path]).hexdigest()} for path in sorted(files)]


def emit_folder(files: Mapping[str, bytes], directory: Path, *, nested: bool = False) -> list[Path]:
    """Write `files` and their manifest as `directory`; return the paths, sorted.

    Parameters
    ----------
    files : mapping of str to bytes
        Contents by POSIX path; ``point.toml`` among them marks the folder as ours.
    directory : Path
        The folder to make or replace, whole or not at all.
    nested : bool
        Write straight into `directory`, a part of a folder that the caller puts in place.

    Raises
    ------
    ValueError
        A path is absolute or leaves the folder.
    InputError
        The place cannot be written or holds files that headrace did not write.
    """
    listed = json.dumps({"files": manifest(files)}, indent=1) + "\n"
    complete = {**files, MANIFEST: listed.encode()}
    for path in complete:
        pure = PurePosixPath(path)
        if pure.is_absolute() or ".." in pure.parts or str(pure) != path:
            raise ValueError(f"{path!r} is not a path inside the folder")
    if nested:
        _write(complete, directory)
    else:
        with replace_directory(directory) as temporary:
            _write(complete, temporary)
    return [directory / path for path in sorted(complete)]


def _write(files: Mapping[str, bytes], directory: Path) -> None:
    for path in sorted(files):
        target = directory / path
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"cannot write {target.parent}: {error.strerror}") from error
        write_atomic(target, files[path])
