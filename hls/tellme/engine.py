"""Emit and C-simulate the ternary matmul engine of TeLLMe."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headrace.arch.device import load_device
from headrace.arch.point import Point
from headrace.arch.tellme.engine import EngineSizes, engine_sizes
from headrace.errors import InputError
from headrace.hls.csim import FLAGS, build, execute
from headrace.hls.emit import Code, Tree, comment, render, tcl_code
from headrace.hls.tellme.source import SOURCES, TOP, engine_tree, template
from headrace.hls.tellme.vectors import Tile, format_tiles, sample_tiles

__all__ = ["HLS", "TellmeHls", "csim"]

_VECTOR_SEED = 0


def csim(
    sizes: EngineSizes,
    tiles: Sequence[Tile],
    *,
    flags: Sequence[str] = FLAGS,
    cache: Path | None = None,
    timeout_seconds: float = 300.0,
) -> list[NDArray[np.int64]]:
    """Run the emitted C++ on `tiles` and return the accumulators.

    Parameters
    ----------
    sizes : EngineSizes
        The engine; its C++ is compiled once per size (about 6 s) and kept.
    tiles : sequence of Tile
        Loads and computations in order; `Tile.expected` is not used.
    flags : sequence of str
        Options for g++.
    cache : Path, optional
        Where executables are kept, see `headrace.hls.csim.build`.
    timeout_seconds : float
        Limit of the compilation and of the run, each.

    Returns
    -------
    list of int64 array, shape [tokens, groups * copies]
        The accumulators of every tile.

    Raises
    ------
    InputError
        A tile does not fit the engine, no compiler, no ap_types headers, or the time is up.
    RuntimeError
        The emitted C++ does not compile, or it broke a rule while running.
    """
    inputs = format_tiles(sizes, [replace(tile, expected=None) for tile in tiles])
    program = build(
        engine_tree(sizes), SOURCES, flags=flags, cache=cache, timeout_seconds=timeout_seconds
    )
    code, text, message = execute(program, inputs, timeout_seconds=timeout_seconds)
    if code != 0:
        raise RuntimeError(f"C simulation ended with exit code {code}: {message}")
    values = np.array(text.split(), np.int64)
    counts = [len(tile.activations) * tile.groups * sizes.copies for tile in tiles]
    parts = np.split(values, np.cumsum(counts)[:-1])
    return [
        part.reshape(len(tile.activations), -1) for part, tile in zip(parts, tiles, strict=True)
    ]


class TellmeHls:
    """The HLS face of the design ``tellme``."""

    def tree(self, point: Point, device: str = "kv260") -> Tree:
        """Return all files of the emission.

        Parameters
        ----------
        point : Point
            A point of ``tellme``.
        device : str
            Name of the FPGA whose part the Tcl script sets.

        Raises
        ------
        InputError
            Unknown device or no FPGA, or sizes that HLS cannot express.
        """
        part = load_device(device).part
        if part is None:
            raise InputError(f"device {device!r} has no Vivado part: an FPGA is needed")
        sizes = engine_sizes(point)
        tree = engine_tree(sizes)
        sample = sample_tiles(sizes, np.random.Generator(np.random.PCG64(_VECTOR_SEED)))
        tree.add("tb/vectors.txt", format_tiles(sizes, sample))
        tree.add("point.toml", point.to_toml())
        script: dict[str, int | Code] = {
            "top": TOP,
            "project": tcl_code(f"{TOP}_project"),
            "archive": tcl_code(f"{TOP}.zip"),
            "part": tcl_code(part),
            "period_ns": Code(f"{1000 / point.integer('clock_mhz'):.3f}"),
        }
        tree.add("run_hls.tcl", render(template("run_hls.tcl"), script))
        facts: dict[str, int | Code] = {
            "top": TOP,
            "design": comment(point.design),
            "hash": Code(point.hash[:16]),
            "method": comment(sizes.method),
            "device": comment(device),
            "part": comment(part),
            "clock_mhz": point.integer("clock_mhz"),
        }
        tree.add("README.md", render(template("README.md"), facts))
        return tree

    def emit(
        self, point: Point, directory: Path, *, device: str = "kv260", nested: bool = False
    ) -> list[Path]:
        """Write the emission as `directory` and return its files, sorted.

        Parameters
        ----------
        point : Point
            A point of ``tellme``.
        directory : Path
            The folder to make or replace, whole or not at all.
        device : str
            Name of the FPGA whose part the Tcl script sets.
        nested : bool
            Write straight into `directory`, a part of a folder that the caller puts in place.

        Raises
        ------
        InputError
            As `tree`, or the place cannot be written or holds other people's files.
        """
        tree = self.tree(point, device)
        return tree.write_into(directory) if nested else tree.write(directory)


HLS = TellmeHls()
