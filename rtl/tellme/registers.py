"""Register map of the engine's AXI shell."""

from headrace.rtl.registers import Field, Register, RegisterMap, flags, number

__all__ = ["IDENTITY", "MAX_PORTS", "register_map"]

IDENTITY = 0x48545401  # "HTT", version 1 of this map
MAX_PORTS = 4
_FIRST_BASE = 0x60


def register_map(weight_ports: int) -> RegisterMap:
    """Return the registers of a shell with `weight_ports` AXI ports, 1 to 4.

    A load reads ``load_beats`` words of every port from its base address; the engine takes
    ``rows x row_beats(groups)`` beats for it. Commands are queued one deep.
    """
    bases = []
    for port in range(weight_ports):
        offset = _FIRST_BASE + 8 * port
        low = f"bits 31:0 of port {port}'s weight address, a multiple of 16 port words"
        bases.append(number(f"base{port}_low", offset, low, width=32))
        high = f"bits 39:32 of port {port}'s weight address"
        bases.append(number(f"base{port}_high", offset + 4, high, width=8))
    return RegisterMap(
        [
            number("identity", 0x00, f"0x{IDENTITY:08x}: this map and its version", "read", 32),
            number("point", 0x04, "first 32 bits of the point's hash", "read", 32),
            _geometry(),
            flags(
                "status",
                0x10,
                "read",
                "what is under way",
                ("load_busy", "a load is queued or its weights are being read"),
                ("compute_busy", "a computation is queued or its results are not all out"),
                ("load_queued", "load_start would be refused"),
                ("compute_queued", "compute_start would be refused"),
            ),
            flags(
                "error",
                0x14,
                "read",
                "sticky errors, cleared by clear",
                ("bus", "a weight word arrived with an error response"),
                ("load_refused", "load_start while one was queued; it was dropped"),
                ("compute_refused", "compute_start while one was queued; it was dropped"),
            ),
            number("cycles", 0x18, "cycles in which a computation was under way", "read", 32),
            flags("clear", 0x1C, "command", "clear", ("all", "set cycles and error to 0")),
            number("load_rows", 0x20, "row blocks of the load"),
            number("load_groups", 0x24, "output groups of the load"),
            number("load_beats", 0x28, "words to read from every port", width=32),
            flags("load_start", 0x2C, "command", "queue a load", ("go", "any value")),
            number("compute_rows", 0x40, "row blocks of the computation"),
            number("compute_groups", 0x44, "output groups of the computation"),
            number("compute_stride", 0x48, "output groups from one row to the next in the slot"),
            number("compute_tokens", 0x4C, "tokens of the computation"),
            flags(
                "compute_mode",
                0x50,
                "read/write",
                "how results are framed",
                ("last_per_job", "TLAST on the last token only, not on every token"),
            ),
            flags("compute_start", 0x54, "command", "queue a computation", ("go", "any value")),
            *bases,
        ]
    )


def _geometry() -> Register:
    return Register(
        name="geometry",
        offset=0x08,
        access="read",
        summary="sizes of the engine",
        fields=(
            Field(name="group_size", low=0, width=4, summary="G"),
            Field(name="tables", low=4, width=8, summary="T"),
            Field(name="copies", low=12, width=8, summary="Q"),
            Field(name="lanes", low=20, width=8, summary="activations per transfer"),
            Field(name="ports", low=28, width=4, summary="weight ports"),
        ),
    )
