"""Register map of UbiMoE's machine."""

from headrace.arch.ubimoe.shell import ShellSizes
from headrace.rtl.registers import Register, RegisterMap, flags, number

__all__ = ["IDENTITY", "address_names", "register_map"]

IDENTITY = 0x48554D01  # "HUM", version 1 of this map
_FIRST_ADDRESS = 0x40


def address_names(sizes: ShellSizes) -> dict[str, str]:
    """Return the addresses that a layer needs, each with what lies there.

    ``weightP`` and ``attentionP`` are the images at port P, ``parameters`` the small ones.
    """
    attention = sizes.attention or sizes.weights
    return {
        "parameters": "the layer's norm parameters and gate weights",
        **{
            f"weight{port}": f"port {port}'s image of expert 0, or part 0 of a dense FFN"
            for port in range(sizes.weights.ports)
        },
        **{
            f"attention{port}": f"port {port}'s image of QKV and projection"
            for port in range(attention.ports)
        },
    }


def register_map(sizes: ShellSizes) -> RegisterMap:
    """Return the registers of a machine.

    A layer is started when its registers are set. Commands are queued one deep: registers may be
    written again once `queued` is 0.
    """
    addresses: list[Register] = []
    for index, (name, what) in enumerate(address_names(sizes).items()):
        offset = _FIRST_ADDRESS + 8 * index
        low = f"bits 31:0 of the address of {what}; a multiple of a burst"
        addresses.append(number(f"{name}_low", offset, low, width=32))
        high = f"bits 39:32 of the address of {what}"
        addresses.append(number(f"{name}_high", offset + 4, high, width=8))
    return RegisterMap(
        [
            number("identity", 0x00, f"0x{IDENTITY:08x}: this map and its version", "read", 32),
            number("point", 0x04, "first 32 bits of the point's hash", "read", 32),
            number("expert_beats", 0x08, "words of an expert's image at each port", "read", 32),
            number("attention_beats", 0x0C, "words of an MSA image at each port", "read", 32),
            flags(
                "status",
                0x10,
                "read",
                "what is under way",
                ("busy", "a layer is queued or its results are not all out"),
                ("queued", "start would be refused"),
            ),
            flags(
                "error",
                0x14,
                "read",
                "sticky errors, cleared by clear",
                ("bus", "a word arrived with an error response"),
                ("refused", "start while a layer was queued; it was dropped"),
            ),
            number("cycles", 0x18, "cycles in which a layer was under way", "read", 32),
            flags("clear", 0x1C, "command", "clear", ("all", "set cycles and error to 0")),
            number("tokens", 0x20, "tokens of the sequence"),
            flags(
                "mode",
                0x24,
                "read/write",
                "what kind of layer",
                ("experts", "by experts, otherwise a dense FFN"),
            ),
            number("expert_stride", 0x28, "bytes from one expert's image to the next", width=32),
            flags("start", 0x2C, "command", "queue a layer", ("go", "any value")),
            *addresses,
        ]
    )
