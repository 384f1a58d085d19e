"""Where the signals of a stream are on a top level; needs nothing but Python."""

from typing import Any

__all__ = ["stream_signals"]

# Streams of Amaranth, AXI4-Streams, channels of AXI4: an address, data or a response.
_SUFFIXES = (
    ("__payload", "__valid", "__ready"),
    ("_tdata", "_tvalid", "_tready"),
    ("addr", "valid", "ready"),
    ("data", "valid", "ready"),
    ("resp", "valid", "ready"),
)


def stream_signals(top: Any, name: str) -> tuple[list[Any], Any, Any]:
    """Return the signals of a stream: those of its payload from the lowest bits on, valid, ready.

    Parameters
    ----------
    top : Amaranth component or cocotb handle
    name : str
        Of a stream, of an AXI4-Stream, whose TLAST is the payload's highest bit, or of a channel
        such as ``m_axi_ar``.

    Raises
    ------
    AttributeError
        There is no such stream.
    """
    for data, valid, ready in _SUFFIXES:
        if hasattr(top, name + data):
            payload = [getattr(top, name + data)]
            if data == "_tdata" and hasattr(top, f"{name}_tlast"):
                payload.append(getattr(top, f"{name}_tlast"))
            return payload, getattr(top, name + valid), getattr(top, name + ready)
    port = getattr(top, name)
    return [port.payload], port.valid, port.ready
