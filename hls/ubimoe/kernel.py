"""What all kernels share: ports, the file tree, and C simulation on the words of the ports."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from headrace.arch.ubimoe.formats import Formats
from headrace.errors import InputError
from headrace.hls.csim import FLAGS, build, execute, shim
from headrace.hls.emit import Code, Tree, constants, identifier, render
from headrace.hls.ubimoe.tables import (
    EXP_ENTRIES,
    GELU_ENTRIES,
    exponentials,
    gelu_differences,
)

__all__ = ["Kernel", "Memory", "Port", "csim", "kernel", "template", "vectors"]

_LARGEST_WORD = 4096  # AP_INT_MAX_W cannot be set higher
_PROGRAM = "sim/program.cpp"
_ROW_ENTRIES = 10


@dataclass(frozen=True, kw_only=True)
class Port:
    """A stream of a kernel.

    Parameters
    ----------
    name : str
    bits : int
        Bits of a word, fields and values from the lowest bit on. AXI streams are whole bytes
        wide; the bits added above are ignored on inputs and zero on outputs.
    output : bool
        Whether the kernel writes it.
    """

    name: str
    bits: int
    output: bool = False

    def __post_init__(self) -> None:
        """Check name and width."""
        identifier(self.name)
        if not 1 <= self.bits <= _LARGEST_WORD:
            raise InputError(
                f"bits of port {self.name} = {self.bits} is not allowed: "
                f"1 to {_LARGEST_WORD} in HLS"
            )

    @property
    def stream_bits(self) -> int:
        """Bits of the stream, whole bytes."""
        return -(-self.bits // 8) * 8

    @property
    def type(self) -> Code:
        """Name of its C++ type, ``<name>_t``."""
        return identifier(f"{self.name}_t")

    @property
    def argument(self) -> Code:
        """Its parameter of the top function."""
        return Code(f"hls::stream<{self.type}>& {self.name}")

    @property
    def interface(self) -> Code:
        """What follows ``#pragma HLS INTERFACE``."""
        return Code(f"mode=axis port={self.name}")

    @property
    def variable(self) -> Code:
        """What the test bench passes for it."""
        return Code(f'hls::stream<{self.type}> {self.name}("{self.name}");')


@dataclass(frozen=True, kw_only=True)
class Memory(Port):
    """Words behind an AXI4 read master of a kernel; `bits` is a power of two.

    Parameters
    ----------
    words : int
        Words of the array in its place, in C simulation and co-simulation.
    burst_words : int
        Longest burst.
    outstanding : int
        Bursts under way.
    """

    words: int
    burst_words: int
    outstanding: int

    @property
    def argument(self) -> Code:
        """Its parameter of the top function."""
        return Code(f"const {self.type}* {self.name}")

    @property
    def interface(self) -> Code:
        """What follows ``#pragma HLS INTERFACE``; the base address is a register."""
        return Code(
            f"mode=m_axi port={self.name} bundle={self.name} offset=slave depth={self.words} "
            f"max_read_burst_length={max(2, self.burst_words)} "
            f"num_read_outstanding={self.outstanding}"
        )

    @property
    def variable(self) -> Code:
        """What the test bench passes for it."""
        return Code(f"static {self.type} {self.name}[{self.words}];")


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """An emitted kernel.

    Parameters
    ----------
    name : str
        Its top function.
    ports : tuple of Port
        In the order of the arguments, after ``commands``.
    tree : Tree
        ``src/``, ``tb/`` and ``sim/``; the same sizes give the same bytes.
    """

    name: str
    ports: tuple[Port, ...]
    tree: Tree


def template(name: str) -> str:
    """Return the text of a template of this package."""
    return files("headrace.hls.ubimoe").joinpath("templates", name).read_text("utf-8")


def _list(values: Sequence[int]) -> Code:
    rows = [values[at : at + _ROW_ENTRIES] for at in range(0, len(values), _ROW_ENTRIES)]
    return Code("{\n" + "".join(f"    {', '.join(map(str, row))},\n" for row in rows) + "}")


def _functions_header() -> str:
    """Return ``src/functions.h``: EXP, RECIP, RSQRT and GELU with their tables."""
    values: dict[str, int | Code] = {
        "exp_entries": EXP_ENTRIES,
        "exp_coarse": _list(exponentials(16)),
        "exp_fine": _list(exponentials(4096)),
        "gelu_entries": GELU_ENTRIES,
        "gelu_differences": _list(gelu_differences()),
    }
    return render(template("functions.h"), values)


def _format_constants(formats: Formats) -> dict[str, int]:
    """Return the constants that ``src/narrow.h`` needs; shifts to the right, or negative."""
    return {
        "FEATURE_BITS": formats.feature_bits,
        "FEATURE_FRACTION": formats.feature_fraction,
        "OPERAND_BITS": formats.operand_bits,
        "OPERAND_FRACTION": formats.operand_fraction,
        "OPERAND_SATURATES": int(formats.saturates),
        "WEIGHT_BITS": formats.weight_bits,
        "PRODUCT_SHIFT": formats.product_shift,
        "SCORE_SHIFT": formats.score_shift,
    }


def _arguments(ports: Sequence[Port]) -> Code:
    return Code(",\n    ".join(port.argument for port in ports))


def _testbench(name: str, ports: Sequence[Port]) -> str:
    inputs = [port for port in ports if not port.output]
    outputs = [port for port in ports if port.output]
    streams = [port for port in inputs if not isinstance(port, Memory)]

    def lines(texts: Sequence[str]) -> Code:
        return Code("\n".join(f"    {text}" for text in texts))

    return render(
        template("testbench.cpp"),
        {
            "top": identifier(name),
            "streams": lines([port.variable for port in ports]),
            "feeds": lines([f'feed(file, "{p.name}", {p.name});' for p in inputs]),
            "arguments": Code(", ".join(identifier(port.name) for port in ports)),
            "checks": lines([f'check_empty("{p.name}", {p.name});' for p in streams]),
            "drains": lines(
                [f'drain(file, output, "{p.name}", {p.name}, tally);' for p in outputs]
            ),
        },
    )


def kernel(
    name: str,
    ports: Sequence[Port],
    *,
    template_name: str = "",
    formats: Formats | None = None,
    headers: Sequence[str] = (),
    sizes: Mapping[str, int],
    values: Mapping[str, int | Code],
) -> Kernel:
    """Put a kernel together.

    Parameters
    ----------
    name : str
        Its top function.
    ports : sequence of Port
        In the order of the arguments.
    template_name : str
        Its template without the ending, `name` if left out.
    formats : Formats, optional
        Those of ``src/narrow.h``; without them the kernel has none.
    headers : sequence of str
        Templates without placeholders that go to ``src/`` as they are.
    sizes : mapping of str to int
        More constants of ``src/sizes.h``.
    values : mapping of str to int or Code
        Placeholders of the template besides ``@top@`` and ``@arguments@``. It ends with a
        function ``work`` of the arguments of the top function, which is nothing but this.
    """
    top, arguments = identifier(name), _arguments(ports)
    types = [f"typedef ap_uint<{port.stream_bits}> {port.type};" for port in ports]
    interfaces = [f"#pragma HLS INTERFACE {port.interface}" for port in ports]
    tree = shim()
    tree.add("src/functions.h", _functions_header())
    for header in (*headers, *(["narrow.h"] if formats is not None else [])):
        tree.add(f"src/{header}", template(header))
    if formats is not None:
        sizes = {**_format_constants(formats), **sizes}
    facts = {"constants": constants(sizes), "types": Code("\n".join(types))}
    tree.add("src/sizes.h", render(template("sizes.h"), facts))
    tree.add(f"src/{name}.h", render(template("kernel.h"), {"top": top, "arguments": arguments}))
    signature: dict[str, int | Code] = {"top": top, "arguments": arguments}
    source = render(template(f"{template_name or name}.cpp"), {**signature, **values})
    own = {
        "interfaces": Code("\n".join(interfaces)),
        "names": Code(", ".join(port.name for port in ports)),
    }
    source += render(template("top.cpp"), {**signature, **own})
    tree.add(f"src/{name}.cpp", source)
    tree.add("tb/testbench.cpp", _testbench(name, ports))
    # One translation unit reads the headers once.
    tree.add(_PROGRAM, render(template("program.cpp"), {"top": top}))
    return Kernel(name=name, ports=tuple(ports), tree=tree)


def vectors(made: Kernel, commands: int, words: Mapping[str, Sequence[int]]) -> str:
    """Return the test bench's file of vectors.

    Parameters
    ----------
    made : Kernel
    commands : int
        Commands to work through.
    words : mapping of str to sequence of int
        All words of every input port, unsigned; of an output those to compare with, if any.

    Raises
    ------
    InputError
        A port is missing or unknown, or a word does not fit.
    """
    inputs = [port.name for port in made.ports if not port.output]
    outputs = [port.name for port in made.ports if port.output]
    if set(words) - set(outputs) != set(inputs):
        raise InputError(f"ports are {', '.join(sorted(words))}: expected one list of words each "
                         f"for {', '.join(inputs)}")  # fmt: skip
    # The test bench reads the inputs first.
    blocks = [_block(port, words[port.name]) for port in made.ports if not port.output]
    blocks += [_block(port, words.get(port.name, ())) for port in made.ports if port.output]
    return f"commands {commands}\n" + "".join(blocks)


def _block(port: Port, words: Sequence[int]) -> str:
    wrong = next((word for word in words if not 0 <= word < 1 << port.stream_bits), None)
    if wrong is not None:
        raise InputError(
            f"word of port {port.name} = {wrong} is not allowed: 0 to 2^{port.stream_bits} - 1"
        )
    return f"{port.name} {len(words)}\n" + "".join(f"{word:x}\n" for word in words)


def csim(
    made: Kernel,
    commands: int,
    words: Mapping[str, Sequence[int]],
    *,
    flags: Sequence[str] = FLAGS,
    cache: Path | None = None,
    timeout_seconds: float = 300.0,
) -> dict[str, list[int]]:
    """Run an emitted kernel in C and return the words of its outputs.

    Parameters
    ----------
    made : Kernel
        Compiled once for its sizes and kept, see `headrace.hls.csim.build`.
    commands : int
        Commands to work through.
    words : mapping of str to sequence of int
        All words of every input port, unsigned.
    flags, cache, timeout_seconds
        As for `headrace.hls.csim.build`; the time limits the compilation and the run, each.

    Raises
    ------
    InputError
        A port is missing or unknown, a word does not fit, no compiler, no headers, or the time
        is up.
    RuntimeError
        The emitted C++ does not compile, or it broke a rule while running: a read from an
        empty stream, words left over, a size beyond a buffer.
    """
    text = vectors(made, commands, words)
    program = build(
        made.tree, [_PROGRAM], flags=flags, cache=cache, timeout_seconds=timeout_seconds
    )
    code, results, message = execute(program, text, timeout_seconds=timeout_seconds)
    if code != 0:
        raise RuntimeError(f"C simulation ended with exit code {code}: {message}")
    found: dict[str, list[int]] = {}
    tokens = iter(results.split())
    for name in tokens:
        found[name] = [int(next(tokens), 16) for _ in range(int(next(tokens)))]
    return found
