"""EXP, RECIP, RSQRT and GELU behind one port, to hold the header against other witnesses."""

from headrace.hls.ubimoe.kernel import Kernel, Port, kernel

__all__ = ["function_unit"]


def function_unit() -> Kernel:
    """Return a kernel that evaluates one function per command.

    Port ``arguments`` (35 bits) has a function in its two highest bits (0 EXP, 1 RECIP, 2 RSQRT,
    3 GELU) above 33 bits of argument: -d for EXP, the low 32 bits of a signed value for the
    last two. Port ``results`` has 32 bits, signed.
    """
    ports = [Port(name="arguments", bits=35), Port(name="results", bits=32, output=True)]
    return kernel("function_unit", ports, sizes={"ARGUMENT_BITS": 33}, values={})
