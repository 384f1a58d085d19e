"""How a network maps to the TeLLMe machine, and what the machine offers it."""

from dataclasses import dataclass
from math import ceil

from headrace.arch.calibration import constant
from headrace.arch.device import Device
from headrace.arch.point import Point
from headrace.arch.tellme.engine import EngineSizes
from headrace.errors import InputError
from headrace.models.network import Network
from headrace.sim.memory import MemoryPort
from headrace.sim.tellme.formulas import FP16_LANES, tile_groups

__all__ = ["Linear", "MemoryRates", "Shape", "Tile", "memory_rates", "network_shape", "tiles"]


@dataclass(frozen=True, kw_only=True)
class Linear:
    """One ternary matrix of a layer: `inputs` (K) by `outputs` (N)."""

    name: str
    inputs: int
    outputs: int


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What the machine has to know of a network.

    Parameters
    ----------
    linears : tuple of Linear
        Matrices of one layer in the order of the schedule: q, k, v, o, up, gate, down.
    layers, hidden, intermediate, heads, head_vectors, kv_vectors : int
        Layers; widths; query heads; 16-value vectors per head and of all key heads.
    lm_head_bytes : int
        INT8 bytes of the LM head, which runs on the CPU.
    max_positions : int
        Longest context of the network.
    """

    linears: tuple[Linear, ...]
    layers: int
    hidden: int
    intermediate: int
    heads: int
    head_vectors: int
    kv_vectors: int
    lm_head_bytes: int
    max_positions: int


@dataclass(frozen=True, kw_only=True)
class Tile:
    """Weights of one linear that are resident together.

    `rows` x `groups` are computed; `load_rows` rows of `load_groups` groups are loaded for it
    (more than computed in the region layout).
    """

    rows: int
    groups: int
    load_rows: int
    load_groups: int


@dataclass(frozen=True, kw_only=True)
class MemoryRates:
    """Sustained rates at the kernel's clock.

    Parameters
    ----------
    port : MemoryPort
        One port of the device; `ports` of them stream weights.
    weight_bytes_per_cycle : float
        All weight ports together.
    vector_interval : float, cycles
        Between 256-bit vectors on one port.
    tier : str
        Memory tier behind the ports.
    """

    port: MemoryPort
    ports: int
    weight_bytes_per_cycle: float
    vector_interval: float
    tier: str


_ORDER = ("q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "gate_proj", "down_proj")


def network_shape(network: Network) -> Shape:
    """Extract the shape of a ternary decoder.

    Raises
    ------
    InputError
        The network has no ternary linears, or not the seven of a gated decoder layer.
    """
    found = {
        op.name.rsplit(".", 1)[-1]: op
        for op in network.layer_operators(0)
        if op.kind == "ternary_matmul"
    }
    if set(found) != set(_ORDER):
        raise InputError(
            f"network {network.name!r} does not map to tellme: a decoder with ternary "
            f"{', '.join(_ORDER)} is needed"
        )
    if network.head_dim % FP16_LANES:
        raise InputError(
            f"network {network.name!r} does not map to tellme: head_dim = {network.head_dim} "
            f"must be a multiple of {FP16_LANES}"
        )
    return Shape(
        linears=tuple(
            Linear(name=n, inputs=found[n].in_features, outputs=found[n].out_features)
            for n in _ORDER
        ),
        layers=network.layers,
        hidden=network.hidden_size,
        intermediate=network.intermediate_size,
        heads=network.heads,
        head_vectors=network.head_dim // FP16_LANES,
        kv_vectors=network.kv_heads * network.head_dim // FP16_LANES,
        lm_head_bytes=network.lm_head_parameters,
        max_positions=network.max_positions,
    )


def tiles(linear: Linear, sizes: EngineSizes, layout: str, hidden: int) -> tuple[Tile, ...]:
    """Cut a matrix into tiles that fit a slot of the weight buffer.

    Raises
    ------
    InputError
        The buffer cannot hold even the smallest tile.
    """
    rows = sizes.row_blocks(linear.inputs)
    groups = ceil(linear.outputs / sizes.copies)
    capacity = f"weight_words = {sizes.words} in {sizes.slots} slot(s)"
    if layout == "region":
        region_rows = sizes.row_blocks(hidden)
        region_groups = ceil(hidden / sizes.copies)
        across, down = ceil(groups / region_groups), ceil(rows / region_rows)
        load_rows = across * down * region_rows
        needed = load_rows * region_groups * sizes.words_per_group
        if needed > sizes.slot_words or groups > sizes.max_groups:
            raise InputError(
                f"{linear.name} does not fit: {needed} words per bank in region layout needed, "
                f"{capacity}"
            )
        return (
            Tile(
                rows=rows,
                groups=groups,
                load_rows=load_rows,
                load_groups=region_groups,
            ),
        )
    size = tile_groups(groups, rows, sizes.slot_words, sizes.words_per_group, sizes.max_groups)
    if size == 0:
        raise InputError(
            f"{linear.name} does not fit: {rows * sizes.words_per_group} words per bank for one "
            f"output group needed, {capacity}"
        )
    return tuple(
        Tile(rows=rows, groups=n, load_rows=rows, load_groups=n)
        for n in (min(size, groups - start) for start in range(0, groups, size))
    )


def memory_rates(point: Point, device: Device) -> MemoryRates:
    """Return the sustained rates of the device's main memory at `point`.

    A port moves at most the width of the device's link per cycle; all weight ports together at
    most the tier's bandwidth. Both are scaled by the calibrated efficiency.

    Raises
    ------
    InputError
        The device has no memory behind ports, or fewer ports than the point uses.
    """
    tier = max(
        (t for t in device.tiers.values() if t.bandwidth_bytes_per_s is not None),
        key=lambda t: t.bandwidth_bytes_per_s or 0.0,
        default=None,
    )
    link = next((n for n in device.links.values() if n.width_bits is not None), None)
    if tier is None or link is None or device.kind != "fpga":
        raise InputError(f"device {device.name!r} cannot run tellme: an FPGA with ports is needed")
    ports = point.integer("weight_ports")
    if ports > link.count:
        raise InputError(f"weight_ports = {ports} is not allowed: {link.name} has {link.count}")
    assert link.width_bits is not None
    assert tier.bandwidth_bytes_per_s is not None
    clock_hz = point.integer("clock_mhz") * 1_000_000
    port = MemoryPort(
        bytes_per_beat=min(point.integer("port_bits"), link.width_bits) // 8,
        clock_hz=clock_hz,
        read_latency_cycles=int(constant("fpga.read_latency_cycles")),
        efficiency=constant("tellme.ddr_efficiency"),
        tier_bytes_per_s=tier.bandwidth_bytes_per_s,
    )
    per_cycle = port.bytes_per_beat * port.beats_per_cycle(ports) * ports
    return MemoryRates(
        port=port,
        ports=ports,
        weight_bytes_per_cycle=float(per_cycle),
        vector_interval=float(2 * FP16_LANES / (port.bytes_per_beat * port.beats_per_cycle())),
        tier=tier.name,
    )
