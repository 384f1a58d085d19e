"""Timed stream graph of UbiMoE's encoder block: those of its halves, one behind the other.

The graph states in which cycle the RTL (`headrace.rtl.ubimoe.encoder_block`) does what.
"""

from collections.abc import Mapping, Sequence

from headrace.arch.ubimoe.encoder_block import EncoderBlockSizes
from headrace.errors import InputError
from headrace.sim.graph import IntArray, StreamGraph
from headrace.sim.held import mark_transfers, taken_arrivals
from headrace.sim.parts import Part
from headrace.sim.ubimoe.moe_block import MoeWork, add_moe_block, job_rows
from headrace.sim.ubimoe.msa_block import add_msa_block

__all__ = ["add_encoder_block", "encoder_block_graph"]

_MOE_PORTS = ("norm", "gate_weights", "weights", "jobs", "features", "sums")


def encoder_block_graph(
    sizes: EncoderBlockSizes,
    work: Sequence[MoeWork],
    arrivals: Mapping[str, IntArray] | None = None,
) -> StreamGraph:
    """Build the graph of sequences in turn; simulate one iteration of it.

    A firing is a transfer of a stream, in the very cycle in which the RTL does it: `command`,
    `msa_norm`, `msa_weights`, `moe_norm`, `gate_weights`, `moe_weights`, `jobs`, `inputs`,
    `results`; or one inside, under the name of its half and kernel, as `msa.linear.inputs`.

    Parameters
    ----------
    sizes : EncoderBlockSizes
    work : sequence of MoeWork
    arrivals : mapping of str to int array, optional
        Earliest cycle of each transfer, by port.

    Returns
    -------
    StreamGraph

    Raises
    ------
    InputError
        There is no work, or the block cannot do it.
    """
    graph = StreamGraph("encoder block")
    given = dict(arrivals or {})
    beats = sum(item.tokens for item in work) * sizes.msa.row_beats
    parts = [max(1, sizes.moe.dims // sizes.moe.tile_out)] * beats
    if "results" in given:
        given["sums"] = taken_arrivals(given["results"], parts)
    part = Part(graph, arrivals=given)
    add_encoder_block(part, sizes, work)
    mark_transfers(part, "results", "sums", parts)
    return graph


def add_encoder_block(part: Part, sizes: EncoderBlockSizes, work: Sequence[MoeWork]) -> None:
    """Add the nodes of `encoder_block_graph` to a part of a graph.

    Its ports are those of the block, but `sums` instead of `results` (`add_moe_block`).

    Parameters
    ----------
    part : Part
    sizes : EncoderBlockSizes
    work : sequence of MoeWork

    Raises
    ------
    InputError
        There is no work, or the block cannot do it.
    """
    if not work:
        raise InputError("encoder block: no work; at least one command")
    msa, moe = sizes.msa, sizes.moe
    beats = sum(item.tokens for item in work) * msa.row_beats
    jobs = sum(len(job_rows(moe, item)) for item in work)
    routed = sum(item.loads is not None for item in work)
    narrow = max(1, moe.dims // moe.tile_out)
    transfers = {
        "command": len(work),
        "msa_norm": len(work) * msa.row_beats,
        "msa_weights": len(work) * msa.weight_beats,
        "moe_norm": len(work) * msa.row_beats,
        "gate_weights": routed * moe.gate.weight_words,
        "moe_weights": jobs * moe.weight_beats,
        "jobs": jobs,
        "inputs": beats,
        "between": beats * narrow,
        "sums": beats * narrow,
    }
    for name, count in transfers.items():
        if count:
            part.add_port(name, count)
    port = part.ports
    first = part.inner(
        "msa",
        norm=port["msa_norm"],
        weights=port["msa_weights"],
        inputs=port["inputs"],
        results=port["between"].wide_source(narrow),
    )
    own = {"norm": "moe_norm", "weights": "moe_weights", "features": "between"}
    shared = {name: port[own.get(name, name)] for name in _MOE_PORTS if own.get(name, name) in port}
    second = part.inner("moe", **shared)
    add_msa_block(first, msa, [item.tokens for item in work])
    add_moe_block(second, moe, work)
    for half in ("msa", "moe"):
        part.add_edge("command", f"{half}.command", depth=1)
