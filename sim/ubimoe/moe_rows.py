"""Timed stream graphs of the MoE block's memories, as parts of its graph.

They state in which cycle the RTL (`headrace.rtl.ubimoe.moe_rows`) does what.
"""

from collections.abc import Sequence

from headrace.arch.ubimoe.moe_block import MoeBlockSizes
from headrace.sim.graph import IntArray
from headrace.sim.held import held_port
from headrace.sim.parts import Part
from headrace.sim.rates import firsts, lasts

__all__ = ["add_hidden_rows", "add_token_rows"]


def add_token_rows(
    part: Part, sizes: MoeBlockSizes, tokens: Sequence[int], fresh: IntArray
) -> None:
    """Add the memory of normalised rows.

    Its ports are `command`, `inputs`, `wanted` and `results`. `wanted` is added: a row stays for
    the firings of `read` of its words.

    Parameters
    ----------
    part : Part
    sizes : MoeBlockSizes
    tokens : sequence of int
        Of each command.
    fresh : int array
        How many rows must be whole for each row that is wanted, beyond those that the rows
        wanted before needed.
    """
    words = sizes.in_tiles[0]
    written = [count * words for count in tokens]
    rows = [words] * len(fresh)
    part.add_port("command", len(tokens))
    part.add_port("inputs", sum(written))
    part.add_port("read", sum(rows))
    part.add_port("results", sum(rows))
    part.ports["wanted"] = held_port(part.ports["read"].node, rows)

    part.add_edge(
        "command", "inputs", consume=firsts(written), free=lasts(written), depth=1, name="writing"
    )
    whole = lasts([words] * sum(tokens))
    part.add_edge("inputs", "wanted", produce=whole, consume=fresh, name="whole")
    part.add_edge("read", "results", depth=1, release=0, name="word")


def add_hidden_rows(part: Part, sizes: MoeBlockSizes, jobs: Sequence[int]) -> None:
    """Add the memory of hidden rows.

    Its ports are `command`, `inputs`, `passed` and `results`, beats of `tile_in` operands, or of
    `tile_out` where that is more.

    Parameters
    ----------
    part : Part
    sizes : MoeBlockSizes
    jobs : sequence of int
        Rows of each job.
    """
    words, passed = sizes.out_tiles
    written = [rows * words for rows in jobs]
    groups = [group for rows in jobs for group in sizes.linear.group_rows(rows)]
    beat_words = max(1, sizes.tile_in // sizes.tile_out)
    beats = [beat_words] * (sum(written) // beat_words)
    part.add_port("command", len(jobs))
    part.add_port("inputs", sum(written))
    part.add_port("passed", sum(jobs) * passed)
    part.add_port("results", len(beats))
    part.add_node("read", phases=sum(written))

    part.add_edge("command", "inputs", consume=firsts(written))
    ends = lasts([rows * passed for rows in jobs])
    part.add_edge("command", "passed", consume=ends, depth=1, name="job")
    whole = lasts([group * words for group in groups])
    whole[whole > 0] = groups
    part.add_edge(
        "inputs", "read", produce=whole, consume=firsts([words] * sum(jobs)), name="whole"
    )
    # Words before the last one of a beat are taken at once (`Repack`).
    part.add_edge("read", "results", claim=firsts(beats), produce=lasts(beats), depth=1, release=0)
