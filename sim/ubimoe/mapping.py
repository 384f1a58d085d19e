"""How a network maps to UbiMoE's machine, and what the machine's ports give it."""

from dataclasses import dataclass
from math import ceil

from headrace.arch.calibration import calibration, constant
from headrace.arch.device import Device
from headrace.arch.point import Point
from headrace.arch.ubimoe.encoder_block import EncoderBlockSizes
from headrace.arch.ubimoe.machine import block_sizes
from headrace.errors import InputError
from headrace.models.network import Network

__all__ = ["Machine", "Ports", "Shape", "machine_of", "network_shape", "ports_of", "ports_used"]


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What the machine has to know of a network.

    Parameters
    ----------
    tokens : int
        Patches and the class token.
    by_experts : tuple of bool
        For every layer, whether it has experts.
    heads, head_dim, hidden, expert_hidden, experts, top_k : int
        As the axes of the same names; without experts the last three are 0.
    """

    tokens: int
    by_experts: tuple[bool, ...]
    heads: int
    head_dim: int
    hidden: int
    expert_hidden: int
    experts: int
    top_k: int

    @property
    def width(self) -> int:
        """D, values of a token."""
        return self.heads * self.head_dim


@dataclass(frozen=True, kw_only=True)
class Ports:
    """Rates of the memory ports.

    Parameters
    ----------
    interval : float, cycles
        Between two beats of a port, at least 1.
    beat_bytes : int
        Bytes of a beat.
    latency : int, cycles
        From a request to its first beat.
    tier : str
        Memory behind the ports.
    """

    interval: float
    beat_bytes: int
    latency: int
    tier: str

    def beats(self, bits: int) -> int:
        """Return the beats of one port that hold `bits`."""
        return -(-bits // (8 * self.beat_bytes))

    def cycles(self, beats: int) -> int:
        """Return the cycles of that many beats in long bursts on one port, without latency."""
        return ceil(beats * self.interval)


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A point that runs a network on a device."""

    point: Point
    sizes: EncoderBlockSizes
    shape: Shape
    ports: Ports

    @property
    def on_chip(self) -> bool:
        """Whether Q, K and V stay on chip, as in the RTL."""
        return self.point.text("keys") == "chip"


def network_shape(network: Network) -> Shape:
    """Extract the shape of a vision transformer.

    Raises
    ------
    InputError
        The network is none.
    """
    if network.family != "vit" or network.embedding_norm:
        raise InputError(
            f"network {network.name!r} does not map to ubimoe: a vision transformer is needed"
            + (" without a norm before its first layer" if network.embedding_norm else "")
        )
    layers = [network.layer_operators(number) for number in range(network.layers)]
    return Shape(
        tokens=network.max_positions,
        by_experts=tuple(any(op.kind == "expert_matmul" for op in layer) for layer in layers),
        heads=network.heads,
        head_dim=network.head_dim,
        hidden=network.intermediate_size,
        expert_hidden=network.expert_size if network.experts else 0,
        experts=network.experts,
        top_k=network.top_k if network.experts else 0,
    )


def ports_of(point: Point, device: Device) -> Ports:
    """Return the rates of a port at `point`.

    A port gives a beat per cycle, or as many as the calibrated bandwidth of the board's ports
    allows, or, with all ports at work, its share of what the memory tier has.

    Raises
    ------
    InputError
        The device is no FPGA with ports, or has fewer than the point uses.
    """
    link = next((n for n in device.links.values() if n.width_bits is not None), None)
    if device.kind != "fpga" or link is None:
        raise InputError(f"device {device.name!r} cannot run ubimoe: an FPGA with ports is needed")
    boards = [n.split(".")[1].removesuffix("_static_w") for n in calibration() if _is_board(n)]
    if device.name.partition(":")[0] not in boards:
        raise InputError(
            f"device {device.name!r} cannot run ubimoe: its constants are known for "
            f"{', '.join(boards)}"
        )
    used = ports_used(point)
    if used > link.count:
        raise InputError(
            f"{used} memory ports are not allowed: {link.name} has {link.count} (weight_ports, "
            "msa_weight_ports, key_ports, and one each for features in and out)"
        )
    tier = max(
        (t for t in device.tiers.values() if t.bandwidth_bytes_per_s is not None),
        key=lambda t: t.bandwidth_bytes_per_s or 0.0,
    )
    assert tier.bandwidth_bytes_per_s is not None
    board = "hbm" if tier.name == "hbm" else "ddr"
    efficient = 1e9 * constant(f"ubimoe.{board}_port_gb_per_s")
    bytes_per_s = min(efficient, tier.bandwidth_bytes_per_s / used)
    beat_bytes = point.integer("port_bits") // 8
    clock_hz = point.integer("clock_mhz") * 1e6
    return Ports(
        interval=max(1.0, beat_bytes * clock_hz / bytes_per_s),
        beat_bytes=beat_bytes,
        latency=int(constant("fpga.read_latency_cycles")),
        tier=tier.name,
    )


def _is_board(name: str) -> bool:
    return name.startswith("ubimoe.") and name.endswith("_static_w")


def ports_used(point: Point) -> int:
    """Return the memory ports of a point: weights, keys and values, features in and out.

    Features share the ports of keys and values where there are such, one more writes results.
    """
    streams = point.integer("key_ports") if point.text("keys") == "ports" else 1
    weights = point.integer("weight_ports") + point.integer("msa_weight_ports")
    return weights + streams + (point.text("keys") == "ports")


def machine_of(point: Point, device: Device, network: Network) -> Machine:
    """Bind a point to a device and a network.

    Raises
    ------
    InputError
        The network does not fit the machine, or the machine not the device.
    """
    shape = network_shape(network)
    needs = {
        "heads": shape.heads,
        "head_dim": shape.head_dim,
        "hidden": shape.hidden,
        "expert_hidden": shape.expert_hidden,
        "experts": shape.experts,
        "top_k": shape.top_k,
    }
    for axis, value in needs.items():
        if value and point.integer(axis) != value:
            raise InputError(
                f"{axis} = {point.integer(axis)} does not run {network.name}: {axis} = {value} "
                "needed"
            )
    least = point.integer("attention_lanes")
    if not least <= shape.tokens <= point.integer("max_tokens"):
        raise InputError(
            f"{network.name} has {shape.tokens} tokens: attention_lanes <= tokens <= max_tokens "
            f"needed, got {least} and {point.integer('max_tokens')}"
        )
    return Machine(
        point=point, sizes=block_sizes(point), shape=shape, ports=ports_of(point, device)
    )
