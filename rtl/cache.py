"""Results that can be computed again, kept by the hash of everything that decides them.

An entry is one small file of JSON. It is written whole or not at all, and carries a checksum: one
that is damaged, or is not of the expected form, is as good as none.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from headrace.errors import InputError
from headrace.files import read_text, write_atomic

__all__ = ["Facts", "Kept", "cache_directory", "content_hash", "keep"]

Facts = Mapping[str, int | float | str]
"""What an entry holds: numbers and short texts by name."""

_MOST_BYTES = 1 << 20


@dataclass(frozen=True)
class Kept:
    """Facts, and how they came about.

    Parameters
    ----------
    facts : mapping of str to int, float or str
    seconds : float
        Time it took to compute them, when that was done.
    cached : bool
        Whether that was done before.
    """

    facts: Facts
    seconds: float
    cached: bool


def cache_directory() -> Path:
    """Return the folder for results that can be computed again.

    ``HEADRACE_CACHE`` if set, else ``$XDG_CACHE_HOME/headrace`` or what the platform uses.
    """
    if chosen := os.environ.get("HEADRACE_CACHE"):
        return Path(chosen)
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "headrace"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData/Local")) / "headrace"
    if sys.platform == "darwin":
        return Path.home() / "Library/Caches/headrace"
    return Path.home() / ".cache/headrace"


def content_hash(*parts: str | bytes) -> str:
    """Return SHA-256 over `parts` and where each ends, 64 hex digits."""
    whole = sha256()
    for part in parts:
        raw = part.encode() if isinstance(part, str) else part
        whole.update(f"{len(raw)}\0".encode())
        whole.update(raw)
    return whole.hexdigest()


def keep(kind: str, key: str, form: Mapping[str, type], compute: Callable[[], Facts]) -> Kept:
    """Return the facts of `key`, computed if they are not in the cache.

    Processes that want the same key wait for the first of them, where the system has file locks.
    A cache that cannot be written is done without.

    Parameters
    ----------
    kind : str
        Folder inside `cache_directory`.
    key : str
        `content_hash` of everything that decides the facts.
    form : mapping of str to type
        Names and types (int, float, str) of the facts.
    compute : callable
        Returns the facts. What it raises is passed on, and nothing is kept.
    """
    entry = cache_directory() / kind / f"{key}.json"
    if (kept := _read(entry, key, form)) is not None:
        return kept
    with _alone(entry):
        if (kept := _read(entry, key, form)) is not None:
            return kept
        start = time.perf_counter()
        facts = dict(compute())
        seconds = time.perf_counter() - start
        _write(entry, key, facts, seconds)
    return Kept(facts, seconds, cached=False)


def _read(entry: Path, key: str, form: Mapping[str, type]) -> Kept | None:
    """Return a whole entry of the right form, or None."""
    try:
        data = json.loads(read_text(entry, _MOST_BYTES))
        facts, seconds = data["facts"], data["seconds"]
        if data["sum"] != _checksum(key, facts, seconds) or type(seconds) is not float:
            return None
        if {name: type(value) for name, value in facts.items()} != dict(form):
            return None
    except (InputError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    return Kept(facts, seconds, cached=True)


def _write(entry: Path, key: str, facts: Facts, seconds: float) -> None:
    data = {"facts": facts, "seconds": seconds, "sum": _checksum(key, facts, seconds)}
    with suppress(OSError, InputError):
        entry.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(entry, json.dumps(data, indent=1) + "\n")


def _checksum(key: str, facts: Facts, seconds: float) -> str:
    return content_hash(key, json.dumps([facts, seconds], sort_keys=True))


@contextmanager
def _alone(entry: Path) -> Iterator[None]:
    """Keep other processes from computing `entry`; without file locks they may, which is waste."""
    descriptor = None
    lock = entry.with_name(f".{entry.name}.lock")
    with suppress(ImportError, OSError):
        import fcntl

        lock.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        # Whoever waits holds the file that is unlinked, and finds the entry; whoever comes later
        # finds the entry before it looks for a lock.
        if descriptor is not None:
            with suppress(OSError):
                lock.unlink()
            os.close(descriptor)
