"""What is emitted for a UbiMoE point."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from headrace.arch.device import load_device
from headrace.arch.point import Point
from headrace.arch.ubimoe.images import attention_image, expert_image, parameter_image
from headrace.arch.ubimoe.machine import block_sizes
from headrace.arch.ubimoe.prefetch import PrefetchSizes
from headrace.arch.ubimoe.shell import ShellSizes
from headrace.errors import InputError
from headrace.rtl.emit import RtlFace
from headrace.rtl.memory_ports import MemoryPorts, load_memory_ports
from headrace.rtl.names import verilog_identifier
from headrace.rtl.ubimoe.encoder_block import EncoderBlock
from headrace.rtl.ubimoe.registers import register_map
from headrace.rtl.ubimoe.shell import UbimoeShell, feature_stream_bits, master_names
from headrace.rtl.verilog import to_verilog
from headrace.rtl.vivado import VivadoProject, vivado_files

__all__ = ["RTL", "UbimoeRtl", "shell_sizes"]

BLOCK = "encoder_block"
SHELL = "ubimoe_shell"

_IMAGES: dict[tuple[str, str], Callable[..., NDArray[np.uint8]]] = {
    ("first", "second"): expert_image,
    ("qkv", "projection"): attention_image,
}


def shell_sizes(point: Point) -> ShellSizes:
    """Return the sizes of the machine at `point`.

    Raises
    ------
    InputError
        Keys and values behind the memory ports, or sizes that the kernels cannot have.
    """
    if point.text("keys") != "chip":
        raise InputError(f"keys = {point.text('keys')} has no RTL: keys = chip needed")
    port_bits = point.integer("port_bits")
    attention = point.integer("msa_weight_ports")
    return ShellSizes(
        block=block_sizes(point),
        weights=PrefetchSizes(ports=point.integer("weight_ports"), port_bits=port_bits),
        attention=PrefetchSizes(ports=attention, port_bits=port_bits) if attention else None,
    )


class UbimoeRtl(RtlFace):
    """The RTL face of the design ``ubimoe``.

    Attributes
    ----------
    top : str
        Module of the encoder block, the one that verification and netlist counts are about.
    shell : str
        Module that puts it behind AXI.
    """

    top = BLOCK
    shell = SHELL
    device = "zcu102"

    def component(self, point: Point) -> EncoderBlock:
        """Return the encoder block of `point` in Amaranth."""
        return EncoderBlock(shell_sizes(point).block)

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
            A point of ``ubimoe``.
        device : str
            Name of the FPGA that the Vivado script is for; zcu102 if empty.
        weights : mapping of str to int array, optional
            Integers in the formats of docs/ubimoe-numerics.md, by identifiers: for a group
            ``NAME`` either ``NAME_first`` and ``NAME_second`` (an expert or a part of a dense
            FFN), or ``NAME_qkv`` and ``NAME_projection``, [outputs, inputs], each with a
            ``..._bias`` [outputs]; ``NAME_norms`` [2, 2, width], gains and offsets of both norms,
            and for layers with experts ``NAME_gate`` [experts, width].

        Raises
        ------
        InputError
            Unknown device, none of ours or none with a Vivado part, a choice that has no RTL, or
            weights that do not fit.
        """
        device = device or self.device
        sizes = shell_sizes(point)
        ports = _memory_ports(sizes, device)
        project = vivado_files(_project(point, sizes, device, ports))
        images = _weight_files(sizes, weights or {})
        block = EncoderBlock(sizes.block)
        shell = UbimoeShell(
            sizes, identifier=int(point.hash[:8], 16), external=(BLOCK, block.signature)
        )
        registers = register_map(sizes)
        text = {
            f"rtl/{BLOCK}.v": to_verilog(block, BLOCK),
            f"rtl/{SHELL}.v": to_verilog(shell, SHELL),
            "driver/ubimoe_registers.h": registers.c_header("ubimoe"),
            "driver/registers.md": registers.markdown(),
            "point.toml": point.to_toml(),
            "README.md": _readme(point, sizes, device, ports),
            **{f"vivado/{name}": lines for name, lines in project.items()},
        }
        return {path: content.encode() for path, content in text.items()} | images


def _memory_ports(sizes: ShellSizes, device: str) -> MemoryPorts:
    """Return the memory ports, none of which may be shared: a reader that waits holds it up."""
    ports = load_memory_ports("ubimoe", device, master_names(sizes))
    if ports.shared:
        raise InputError(
            f"{', '.join(ports.shared)} of {device} would have two masters: fewer weight_ports or "
            "msa_weight_ports needed"
        )
    return ports


def _project(point: Point, sizes: ShellSizes, device: str, ports: MemoryPorts) -> VivadoProject:
    target = load_device(device)
    if target.part is None:
        raise InputError(f"device {device!r} has no Vivado part: an FPGA is needed")
    return VivadoProject(
        name="ubimoe",
        top=SHELL,
        part=target.part,
        board=target.board,
        clock_mhz=point.integer("clock_mhz"),
        sources=[f"../rtl/{BLOCK}.v", f"../rtl/{SHELL}.v"],
        control="s_axi_control",
        ports=ports,
        stream_in=("s_axis_features", feature_stream_bits(sizes)),
        stream_out=("m_axis_features", feature_stream_bits(sizes)),
    )


def _weight_files(sizes: ShellSizes, weights: Mapping[str, ArrayLike]) -> dict[str, bytes]:
    """Return a file per image and port, and an index."""
    left = {verilog_identifier(name): np.asarray(values) for name, values in weights.items()}
    files: dict[str, bytes] = {}
    index: dict[str, Any] = {}

    def add(name: str, image: NDArray[np.uint8], ports: PrefetchSizes) -> None:
        index[name] = {"beats": len(image), "bytes": int(ports.stride(len(image)))}
        for port, stripe in enumerate(ports.stripes(image)):
            files[f"weights/{name}.port{port}.bin"] = stripe.tobytes()

    for (one, other), image in _IMAGES.items():
        ports = (sizes.attention or sizes.weights) if one == "qkv" else sizes.weights
        for group in sorted(n.removesuffix(f"_{one}") for n in left if n.endswith(f"_{one}")):
            layers = [_take(left, f"{group}_{part}") for part in (one, other)]
            add(group if one == "first" else f"{group}_attention", image(*layers, sizes), ports)
    for name in sorted(n for n in left if n.endswith("_norms")):
        group = name.removesuffix("_norms")
        norms, gate = left.pop(name), left.pop(f"{group}_gate", None)
        if norms.shape != (2, 2, sizes.block.moe.width):
            raise InputError(f"{name} {list(norms.shape)} is not allowed: [2, 2, width] needed")
        add(f"{group}_parameters", parameter_image(list(norms), gate, sizes), sizes.parameters)
    if left:
        raise InputError(f"weights {', '.join(sorted(left))} belong to no image")
    if index:
        files["weights/index.json"] = (json.dumps(index, indent=1) + "\n").encode()
    return files


def _take(left: dict[str, NDArray[Any]], name: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return weights and biases of a linear, and take them off the list."""
    for part in (name, f"{name}_bias"):
        if part not in left:
            raise InputError(f"weights {part} are missing")
    return left.pop(name), left.pop(f"{name}_bias")


def _readme(point: Point, sizes: ShellSizes, device: str, ports: MemoryPorts) -> str:
    msa, moe = sizes.block.msa, sizes.block.moe
    table = "\n".join(f"| `{master}` | {port} |" for master, port in ports.masters.items())
    return f"""\
# UbiMoE encoder block, point {point.hash[:16]}

Emitted by headrace from `point.toml`; emitting the same point again gives the same bytes:

    headrace emit ubimoe --point point.toml -o DIR

| sizes | |
|---|---|
| numbers | {moe.formats.name} |
| features, heads, tokens | {moe.width}, {msa.heads}, at most {moe.max_tokens} |
| attention lanes, dims of a beat | {msa.attention_lanes}, {msa.dims} |
| weight tile, rows in parallel | {moe.tile_in} x {moe.tile_out}, {moe.linear_lanes} (MSA \
{msa.linear_lanes}) |
| experts, of a token, hidden values | {moe.experts}, {moe.top_k}, {moe.hidden} |
| parts of a dense FFN | {moe.dense_parts} |
| image of an expert or part | {sizes.expert_beats} words at each port |
| image of QKV and projection | {sizes.attention_beats} words at each port |
| norms and gate | {sizes.parameter_words(True)} words of {sizes.parameter_bits} bits |

| AXI master | memory port of {device} |
|---|---|
{table}
| DMA of features | {ports.dma} |

| file | what |
|---|---|
| `rtl/{BLOCK}.v` | the encoder block: streams with valid and ready |
| `rtl/{SHELL}.v` | the block behind AXI: registers, weight readers, AXI4-Streams |
| `vivado/` | Vivado project for {device}: `vivado -mode batch -source build.tcl` |
| `driver/` | register map as a C header and as a table |
| `weights/` | images, one file per AXI port, if weights were given |
| `manifest.json` | SHA-256 of every file |

No Vivado was at hand when this generator was tested: the script runs against a stand-in that
checks commands and arguments, the Verilog in open simulators, linters and synthesis.
"""


RTL = UbimoeRtl()
