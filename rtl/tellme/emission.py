"""What is emitted for a TeLLMe point."""

import json
from collections.abc import Mapping
from importlib.resources import files as package_files
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from headrace.arch.device import load_device
from headrace.arch.point import Point
from headrace.arch.tellme.engine import EngineSizes, engine_sizes
from headrace.arch.tellme.packing import pack_weights
from headrace.errors import InputError
from headrace.rtl.axi import stream_bits
from headrace.rtl.emit import RtlFace
from headrace.rtl.memory_ports import load_memory_ports
from headrace.rtl.names import verilog_identifier
from headrace.rtl.tellme.draw import random_vectors
from headrace.rtl.tellme.engine import TernaryMatmul
from headrace.rtl.tellme.registers import register_map
from headrace.rtl.tellme.shell import RESULT_BITS, TellmeShell
from headrace.rtl.tellme.verify import write_vectors
from headrace.rtl.verilog import to_verilog
from headrace.rtl.vivado import VivadoProject, vivado_files

__all__ = ["RTL", "TellmeRtl"]

ENGINE = "ternary_matmul"
SHELL = "tellme_shell"
_VECTORS = 40
_MOST_STALL = 0.5
_MAKEFILE = f"""\
# Needs Python with cocotb 2, NumPy and pytest, and the simulator SIM.
PYTHON ?= python3
SIM ?= icarus

.PHONY: test clean
test:
\tSIM=$(SIM) $(PYTHON) test_{ENGINE}.py

clean:
\trm -rf sim_build __pycache__ report.json
"""


class TellmeRtl(RtlFace):
    """The RTL face of the design ``tellme``.

    Attributes
    ----------
    top : str
        Module of the engine, the one that the regression and the netlist counts are about.
    shell : str
        Module that puts the engine behind AXI.
    """

    top = ENGINE
    shell = SHELL
    device = "kv260"

    def component(self, point: Point) -> TernaryMatmul:
        """Return the engine of `point` in Amaranth."""
        return TernaryMatmul(engine_sizes(point))

    def files(
        self,
        point: Point,
        device: str = "",
        weights: Mapping[str, ArrayLike] | None = None,
    ) -> dict[str, bytes]:
        """Return all files of the emission but the manifest, by path.

        Parameters
        ----------
        point : Point
            A point of ``tellme``.
        device : str
            Name of the FPGA that the Vivado script is for; kv260 if empty.
        weights : mapping of str to array, optional
            Ternary matrices [outputs, inputs] to pack as weight images, by identifier.

        Raises
        ------
        InputError
            Unknown device or no FPGA, weights that are not ternary, or a name that is no
            identifier.
        """
        device = device or self.device
        sizes = engine_sizes(point)
        ports = point.integer("weight_ports")
        engine = TernaryMatmul(sizes)
        shell = TellmeShell(
            sizes,
            weight_ports=ports,
            identifier=int(point.hash[:8], 16),
            external=(ENGINE, engine.signature),
        )
        registers = register_map(ports)
        text = {
            f"rtl/{ENGINE}.v": to_verilog(engine, ENGINE),
            f"rtl/{SHELL}.v": to_verilog(shell, SHELL),
            "driver/tellme_registers.h": registers.c_header("tellme"),
            "driver/registers.md": registers.markdown(),
            "point.toml": point.to_toml(),
            "README.md": _readme(point, sizes, device),
        }
        project = _project(point, sizes, device)
        text |= {f"vivado/{name}": lines for name, lines in vivado_files(project).items()}
        files = {path: content.encode() for path, content in text.items()}
        files |= _regression_files(sizes, point)
        return files | _weight_files(sizes, ports, weights or {})


def _project(point: Point, sizes: EngineSizes, device: str) -> VivadoProject:
    target = load_device(device)
    if target.part is None:
        raise InputError(f"device {device!r} has no Vivado part: an FPGA is needed")
    masters = [f"m_axi_weight{port}" for port in range(point.integer("weight_ports"))]
    return VivadoProject(
        name="tellme",
        top=SHELL,
        part=target.part,
        board=target.board,
        clock_mhz=point.integer("clock_mhz"),
        sources=[f"../rtl/{ENGINE}.v", f"../rtl/{SHELL}.v"],
        control="s_axi_control",
        ports=load_memory_ports("tellme", device, masters),
        stream_in=("s_axis_activations", stream_bits(8 * sizes.activation_lanes)),
        stream_out=("m_axis_results", stream_bits(RESULT_BITS * sizes.copies)),
    )


def _regression_files(sizes: EngineSizes, point: Point) -> dict[str, bytes]:
    """Return test bench, vectors and ways to run them."""
    rng = np.random.Generator(np.random.PCG64(int(point.hash[:8], 16)))
    vectors = random_vectors(sizes, _VECTORS, rng, _matmul)
    image = BytesIO()
    write_vectors(image, vectors, rng.uniform(0, _MOST_STALL, 5).tolist())
    folder = package_files("headrace.rtl.tellme")
    bench = folder.joinpath("cocotb_engine.py").read_bytes()
    runner = folder.joinpath("emitted_regression.py").read_bytes()
    return {
        "regression/cocotb_engine.py": bench,
        f"regression/test_{ENGINE}.py": runner,
        "regression/vectors.npz": image.getvalue(),
        "regression/Makefile": _MAKEFILE.encode(),
    }


def _matmul(inputs: NDArray[Any], weights: NDArray[Any]) -> NDArray[np.int64]:
    return inputs.astype(np.int64) @ weights.astype(np.int64).T


def _weight_files(
    sizes: EngineSizes, ports: int, weights: Mapping[str, ArrayLike]
) -> dict[str, bytes]:
    """Return one image per matrix and port, and an index of the loads."""
    files: dict[str, bytes] = {}
    index: dict[str, Any] = {}
    for name, matrix in sorted(weights.items()):
        verilog_identifier(name)
        ternary = np.asarray(matrix)
        beats = pack_weights(ternary, sizes)
        outputs, inputs = ternary.shape
        index[name] = {
            "outputs": outputs,
            "inputs": inputs,
            "rows": sizes.row_blocks(inputs),
            "groups": -(-outputs // sizes.copies),
            "beats": len(beats),
        }
        for port, part in enumerate(np.split(beats, ports, axis=1)):
            files[f"weights/{name}.port{port}.bin"] = part.tobytes()
    if index:
        files["weights/index.json"] = (json.dumps(index, indent=1) + "\n").encode()
    return files


def _readme(point: Point, sizes: EngineSizes, device: str) -> str:
    return f"""\
# Ternary matmul engine, point {point.hash[:16]}

Emitted by headrace from `point.toml`; emitting the same point again gives the same bytes:

    headrace emit tellme --point point.toml -o DIR

| sizes | |
|---|---|
| weights per index G | {sizes.group_size} |
| tables T | {sizes.tables} |
| outputs per lookup Q | {sizes.copies} |
| lookup method | {sizes.method} |
| sets of tables | {sizes.table_buffers} |
| activations per transfer | {sizes.activation_lanes} |
| weight buffer | {sizes.banks} banks of {sizes.words} words of {sizes.vector_bits} bits, \
{sizes.slots} slots |
| weight beat | {sizes.beat_bits} bits, `{sizes.packing}` packing |

| file | what |
|---|---|
| `rtl/{ENGINE}.v` | the engine: streams with valid and ready |
| `rtl/{SHELL}.v` | the engine behind AXI: registers, weight readers, AXI4-Streams |
| `vivado/build.tcl` | Vivado project for {device}: `vivado -mode batch -source build.tcl` |
| `regression/` | cocotb bench and vectors: `make` there, or `make SIM=verilator` |
| `driver/` | register map as a C header and as a table |
| `weights/` | packed weight images, one per matrix and AXI port, if weights were given |
| `manifest.json` | SHA-256 of every file |

No Vivado was at hand when this generator was tested: the script runs against a stand-in that
checks commands and arguments, the Verilog in open simulators, linters and synthesis.
"""


RTL = TellmeRtl()
