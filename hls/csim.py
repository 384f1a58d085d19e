"""Compile emitted C++ with g++ and run it, without Vitis."""

import importlib.util
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from hashlib import sha256
from importlib.resources import files
from pathlib import Path

from headrace.errors import InputError
from headrace.hls.emit import Tree

__all__ = ["FLAGS", "ap_types", "build", "compiler", "execute", "shim"]

# Vitis compiles kernels as C++14 unless told otherwise; the sources hold to that, and a test
# compiles them so. Unknown pragmas are the HLS ones.
FLAGS = ("-std=c++17", "-O1", "-Wno-unknown-pragmas")
_AP_TYPES = Path("templates", "vivado", "ap_types")
_SHOWN_LINES = 5


def ap_types() -> Path:
    """Return the folder of ``ap_int.h``, out of the installed package hls4ml.

    The headers are AMD's, under Apache-2.0; hls4ml itself is never imported, so it may be
    installed without its dependencies.

    Raises
    ------
    InputError
        hls4ml is not installed or does not hold the headers.
    """
    spec = importlib.util.find_spec("hls4ml")
    for place in (spec.submodule_search_locations or ()) if spec else ():
        folder = Path(place) / _AP_TYPES
        if (folder / "ap_int.h").is_file():
            return folder
    raise InputError(
        "C simulation needs the ap_types headers of hls4ml: pip install --no-deps hls4ml==1.3.0"
    )


@cache
def _version(path: str) -> str:
    return subprocess.run(
        [path, "--version"], capture_output=True, text=True, timeout=30, check=False
    ).stdout


def compiler() -> str:
    """Return the path of g++.

    Raises
    ------
    InputError
        There is none on PATH.
    """
    path = shutil.which("g++")
    if path is None:
        raise InputError("C simulation needs g++ on PATH: install a C++17 compiler")
    return path


def shim() -> Tree:
    """Return our stand-ins for the stream headers that come with Vitis, below ``sim/``."""
    folder = files("headrace.hls").joinpath("shim")
    names = ("hls_stream.h", "hls_streamofblocks.h")
    return Tree({f"sim/{name}": folder.joinpath(name).read_bytes() for name in names})


def _default_cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "headrace" / "csim"


def _run(command: Sequence[str], timeout_seconds: float) -> "subprocess.CompletedProcess[str]":
    """Run `command`; a run beyond the time is an InputError, since the user chose its size."""
    try:
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        name = Path(command[0]).name
        raise InputError(f"{name} did not finish within {timeout_seconds:g} s") from error


def _first_lines(text: str) -> str:
    return " | ".join(line.strip() for line in text.splitlines()[:_SHOWN_LINES] if line.strip())


def build(
    tree: Tree,
    sources: Sequence[str],
    *,
    flags: Sequence[str] = FLAGS,
    cache: Path | None = None,
    timeout_seconds: float = 300.0,
) -> Path:
    """Compile `sources` of `tree` into an executable and return its path.

    The result is kept under the hash of all files, the flags and the compiler's version, so the
    same sources are compiled once.

    Parameters
    ----------
    tree : Tree
        The emitted files; ``sim/`` is on the include path.
    sources : sequence of str
        Paths in `tree` of the translation units.
    flags : sequence of str
        Options for g++.
    cache : Path, optional
        Where executables are kept; by default ``headrace/csim`` in the user's cache folder.
    timeout_seconds : float
        Limit of the compilation.

    Raises
    ------
    InputError
        No compiler, no ap_types headers, the cache cannot be written, or the time is up.
    RuntimeError
        The compiler refuses the sources; the message has its first lines.
    """
    program, headers = compiler(), ap_types()
    key = "\0".join([tree.hash, *sources, *flags, program, _version(program), str(headers)])
    place = cache if cache is not None else _default_cache()
    target = place / sha256(key.encode()).hexdigest()
    if target.is_file():
        return target
    try:
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place, prefix=".build.") as name:
            folder = Path(name)
            tree.write_into(folder)
            command = [program, *flags, "-I", str(folder / "sim"), "-isystem", str(headers)]
            command += [*(str(folder / source) for source in sources), "-o", str(folder / "out")]
            done = _run(command, timeout_seconds)
            if done.returncode != 0:
                raise RuntimeError(f"g++ refuses the emitted C++: {_first_lines(done.stderr)}")
            os.replace(folder / "out", target)
    except OSError as error:
        raise InputError(f"cannot build in {place}: {error.strerror or error}") from error
    return target


def execute(program: Path, inputs: str, *, timeout_seconds: float = 60.0) -> tuple[int, str, str]:
    """Run a test bench on a file of vectors.

    Parameters
    ----------
    program : Path
        From `build`; it takes the path of the vectors and the path for its results.
    inputs : str
        Content of the file of vectors.
    timeout_seconds : float
        Limit of the run.

    Returns
    -------
    code, results, message : int, str, str
        Exit code, content of the results (empty if there are none) and the first lines of the
        error output.

    Raises
    ------
    InputError
        The time is up.
    """
    with tempfile.TemporaryDirectory() as name:
        vectors, results = Path(name) / "vectors.txt", Path(name) / "results.txt"
        vectors.write_text(inputs, "ascii")
        done = _run([str(program), str(vectors), str(results)], timeout_seconds)
        text = results.read_text("ascii") if results.is_file() else ""
    return done.returncode, text, _first_lines(done.stderr)
