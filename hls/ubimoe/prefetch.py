"""The reader of weight images as Vitis HLS C++ (docs/ubimoe-kernels.md, "prefetch")."""

from collections.abc import Sequence

from headrace.arch.ubimoe.prefetch import PrefetchSizes
from headrace.hls.emit import Code, matrix
from headrace.hls.ubimoe.kernel import Kernel, Memory, Port, kernel

__all__ = ["ADDRESS_BITS", "prefetch"]

ADDRESS_BITS = 40
"""Bits of a base address in a job."""

_NEXT_ARGUMENT = ",\n" + 16 * " "


def prefetch(
    sizes: PrefetchSizes,
    loads: Sequence[tuple[int, int]],
    name: str = "prefetch",
    memory_words: int = 4096,
) -> Kernel:
    """Return the reader of weight images, its top function called `name`; a command is a job.

    Words, the first field lowest: ``jobs`` expert (8 bits), stride in bytes (32), beats (32) and
    a base address per memory port (40 each); ``load`` in_tiles and out_tiles (16 each), as many
    words per job as there are `loads`; ``weights`` a beat. The memories are ``port0``, ``port1``
    and so on.

    Parameters
    ----------
    sizes : PrefetchSizes
    loads : sequence of (int, int)
        Tiles at the input and the output of the images of a job, for the commands of `linear`.
    name : str
    memory_words : int
        Words of each memory in C simulation and co-simulation.
    """
    word_bytes = sizes.port_bits // 8
    memories = [
        Memory(
            name=f"port{port}",
            bits=sizes.port_bits,
            words=memory_words,
            burst_words=sizes.burst_beats,
            outstanding=sizes.outstanding,
        )
        for port in range(sizes.ports)
    ]
    ports = [
        Port(name="jobs", bits=72 + ADDRESS_BITS * sizes.ports),
        *memories,
        Port(name="load", bits=32, output=True),
        Port(name="weights", bits=sizes.beat_bits, output=True),
    ]
    counts = {
        "PORTS": sizes.ports,
        "PORT_BITS": sizes.port_bits,
        "BURST_WORDS": sizes.burst_beats,
        "BURST_SHIFT": (sizes.burst_beats * word_bytes).bit_length() - 1,
        "ADDRESS_BITS": ADDRESS_BITS,
        "MEMORY_WORDS": memory_words,
        "IMAGES": len(loads),
    }
    calls = [
        f"    read_port(jobs_in_all, spans[{port}], port{port}, words[{port}]);"
        for port in range(sizes.ports)
    ]
    values: dict[str, int | Code] = {
        "loads": matrix(loads),
        "memories": Code(_NEXT_ARGUMENT.join(memory.argument for memory in memories)),
        "names": Code(", ".join(memory.name for memory in memories)),
        "reads": Code("\n".join(calls)),
        "buffer_beats": sizes.buffer_beats,
    }
    return kernel(name, ports, template_name="prefetch", sizes=counts, values=values)
