"""Emit the kernels of UbiMoE as one folder."""

from collections.abc import Sequence
from pathlib import Path

from headrace.arch.device import load_device
from headrace.arch.point import Point
from headrace.arch.ubimoe.machine import block_sizes
from headrace.arch.ubimoe.prefetch import PrefetchSizes
from headrace.errors import InputError
from headrace.hls.csim import shim
from headrace.hls.emit import Code, Tree, comment, identifier, render, tcl_code
from headrace.hls.ubimoe.encoder import encoder_kernels
from headrace.hls.ubimoe.kernel import Kernel, template, vectors
from headrace.hls.ubimoe.samples import Sample

__all__ = ["HLS", "UbimoeHls"]

# The other choices of these axes are machines of the timing model alone.
_NEEDED = {
    "attention": "fused",
    "softmax": "online",
    "gelu": "table",
    "linear": "unified",
    "expert_order": "expert",
}


class UbimoeHls:
    """The HLS face of the design ``ubimoe``."""

    def tree(self, point: Point, device: str = "zcu102") -> Tree:
        """Return all files of the emission: a folder per kernel, and what runs all of them.

        Parameters
        ----------
        point : Point
            A point of ``ubimoe``.
        device : str
            Name of the FPGA whose part the Tcl script sets.

        Raises
        ------
        InputError
            Unknown device or no FPGA, a choice that has no HLS, or sizes that HLS cannot express.
        """
        part = load_device(device).part
        if part is None:
            raise InputError(f"device {device!r} has no Vivado part: an FPGA is needed")
        made = _kernels(point)
        tree = shim()
        for kernel, sample in made:
            _add_kernel(tree, kernel, sample)
        names = Code(" ".join(identifier(kernel.name) for kernel, _ in made))
        tree.add("point.toml", point.to_toml())
        tree.add("Makefile", render(template("testbenches.mk"), {"kernels": names}))
        script: dict[str, int | Code] = {
            "kernels": names,
            "part": tcl_code(part),
            "period_ns": Code(f"{1000 / point.integer('clock_mhz'):.3f}"),
        }
        tree.add("run_hls.tcl", render(template("run_hls.tcl"), script))
        facts: dict[str, int | Code] = {
            "design": comment(point.design),
            "hash": Code(point.hash[:16]),
            "numerics": comment(point.text("numerics")),
            "device": comment(device),
            "part": comment(part),
            "clock_mhz": point.integer("clock_mhz"),
            "modules": point.integer("attention_modules"),
            "kernels": _table([kernel for kernel, _ in made]),
        }
        tree.add("README.md", render(template("README.md"), facts))
        return tree

    def emit(
        self, point: Point, directory: Path, *, device: str = "zcu102", nested: bool = False
    ) -> list[Path]:
        """Write the emission as `directory` and return its files, sorted.

        Parameters
        ----------
        point : Point
            A point of ``ubimoe``.
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


def _kernels(point: Point) -> list[tuple[Kernel, Sample]]:
    for axis, needed in _NEEDED.items():
        if point.text(axis) != needed:
            raise InputError(f"{axis} = {point.text(axis)} has no HLS: {axis} = {needed} needed")
    moe_ports = point.integer("weight_ports")
    # With no ports of its own MSA reads its weights through those of the FFN.
    msa_ports = point.integer("msa_weight_ports") or moe_ports
    bits = point.integer("port_bits")
    return encoder_kernels(
        block_sizes(point),
        (
            PrefetchSizes(ports=msa_ports, port_bits=bits),
            PrefetchSizes(ports=moe_ports, port_bits=bits),
        ),
        attention_modules=point.integer("attention_modules"),
        slots=point.integer("weight_slots"),
    )


def _add_kernel(tree: Tree, kernel: Kernel, sample: Sample) -> None:
    """Add the folder of a kernel; the stand-ins below ``sim/`` are there once for all."""
    for path in kernel.tree.paths():
        if not path.startswith("sim/"):
            tree.add(f"{kernel.name}/{path}", kernel.tree[path])
    tree.add(f"{kernel.name}/tb/vectors.txt", vectors(kernel, sample.commands, sample.words))


def _table(kernels: Sequence[Kernel]) -> Code:
    """Return rows of Markdown: a kernel, and its ports with their bits."""
    rows = []
    for kernel in kernels:
        ports = ", ".join(f"`{identifier(port.name)}` {port.bits}" for port in kernel.ports)
        rows.append(f"| `{identifier(kernel.name)}` | {ports} |")
    return Code("\n".join(rows))


HLS = UbimoeHls()
