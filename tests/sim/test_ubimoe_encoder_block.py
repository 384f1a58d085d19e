"""The graph of UbiMoE's encoder block against its RTL, transfer by transfer."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from headrace.arch.ubimoe.encoder_block import EncoderBlockSizes
from headrace.arch.ubimoe.formats import FORMATS
from headrace.arch.ubimoe.moe_block import MoeBlockSizes
from headrace.arch.ubimoe.msa_block import MsaBlockSizes
from headrace.errors import InputError
from headrace.models.kernels import fixed
from headrace.rtl.streams import StreamVectors, simulate_streams
from headrace.rtl.ubimoe.encoder_block import EncoderBlock
from headrace.sim.cycle import simulate
from headrace.sim.ubimoe.encoder_block import encoder_block_graph
from headrace.sim.ubimoe.moe_block import MoeWork

_SPEC = importlib.util.spec_from_file_location(
    "ubimoe_parameters", Path(__file__).parents[1] / "rtl" / "ubimoe_parameters.py"
)
_shared = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_shared)

PORTS = (
    "command",
    "msa_norm",
    "msa_weights",
    "moe_norm",
    "gate_weights",
    "moe_weights",
    "inputs",
    "jobs",
    "results",
)


def draw_sizes(rng):
    """Draw small sizes, beats and tiles of all ratios."""
    heads, lanes = int(rng.integers(1, 3)), int(rng.integers(1, 4))
    dims, experts = int(rng.choice([1, 2, 4])), int(rng.integers(1, 6))
    shared = {
        "formats": FORMATS["int8"],
        "max_tokens": int(rng.integers(lanes, 8)),
        "dims": dims,
        "beat_bits": int(rng.choice([16, 64])),
    }
    msa = MsaBlockSizes(
        heads=heads,
        head_dim=4,
        attention_lanes=lanes,
        tile_in=int(rng.choice([1, 2, 4])),
        tile_out=int(rng.choice([tile for tile in (1, 2, 4) if tile >= dims])),
        linear_lanes=int(rng.integers(1, 4)),
        **shared,
    )
    moe = MoeBlockSizes(
        width=4 * heads,
        hidden=int(rng.choice([4, 8])),
        experts=experts,
        top_k=int(rng.integers(1, min(3, experts) + 1)),
        tile_in=int(rng.choice([1, 2, 4])),
        tile_out=int(rng.choice([1, 2, 4])),
        linear_lanes=int(rng.integers(1, 5)),
        dense_parts=int(rng.integers(1, 3)),
        **shared,
    )
    return EncoderBlockSizes(msa=msa, moe=moe)


def draw(rng):
    """Return sizes, work and its streams; every weight but those of the gate is zero.

    So attention and projection give nothing, and the MoE block has the features as they came.
    """
    sizes, reference = draw_sizes(rng), fixed.FORMATS["int8"]
    msa, moe = sizes.msa, sizes.moe
    work, streams = [], {name: [] for name in PORTS}
    for _ in range(rng.integers(1, 3)):
        tokens = int(rng.integers(msa.attention_lanes, msa.max_tokens + 1))
        x = rng.integers(-3000, 3000, (tokens, msa.width))
        norm = _shared.norm_of(msa.width, rng)
        loads, jobs = None, list(range(moe.dense_parts))
        if rng.integers(3):
            gate = rng.integers(-128, 128, (moe.experts, moe.width))
            rows = fixed.layer_norm(x, norm.weights, norm.bias, reference)
            chosen = fixed.gate(rows, gate, reference, top_k=moe.top_k).experts
            loads = tuple(np.bincount(chosen.ravel(), minlength=moe.experts).tolist())
            jobs = [expert for expert, load in enumerate(loads) if load]
            streams["gate_weights"] += _shared.beats_of(gate, moe.dims, 8)
        work.append(MoeWork(tokens=tokens, loads=loads))
        streams["command"].append(tokens | (loads is not None) << 16)
        streams["msa_norm"] += [0] * msa.row_beats
        streams["moe_norm"] += _shared.norm_beats(norm, moe.dims)
        streams["jobs"] += jobs
        streams["inputs"] += _shared.beats_of(x, msa.dims, 16)
    streams["msa_weights"] = [0] * (msa.weight_beats * len(work))
    streams["moe_weights"] = [0] * (moe.weight_beats * len(streams["jobs"]))
    streams["results"] = [0] * len(streams["inputs"])
    results = {name: streams.pop(name) for name in ("jobs", "results")}
    return sizes, work, StreamVectors(streams, results)


def predicted(sizes, work, feed):
    graph = encoder_block_graph(sizes, work, feed.arrivals)
    starts = simulate(graph, iterations=1, starts=True).starts
    return {name: starts[name].tolist() if name in starts else [] for name in PORTS}


def compare(seed, stalls):
    rng = np.random.default_rng(seed)
    sizes, work, feed = draw(rng)
    free = predicted(sizes, work, feed)
    if stalls:
        feed = _shared.with_arrivals(feed, seed, free["results"][-1])
    run = simulate_streams(EncoderBlock(sizes), feed)
    found = predicted(sizes, work, feed)
    assert run.results["jobs"] == feed.results["jobs"]
    assert {name: run.times[name].tolist() for name in PORTS} == found
    return found["results"][-1] - free["results"][-1]


@pytest.mark.parametrize("seed, stalls", [(1, False), (1, True)])
def test_every_transfer(seed, stalls):
    assert (compare(seed, stalls) > 0) == stalls


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 152))
@pytest.mark.parametrize("stalls", [False, True])
def test_every_transfer_of_many(seed, stalls):
    compare(seed, stalls)


def test_work_is_checked():
    sizes = draw_sizes(np.random.default_rng(0))
    most = sizes.msa.max_tokens
    with pytest.raises(InputError, match=f"^tokens = {most + 1} is not allowed"):
        encoder_block_graph(sizes, [MoeWork(tokens=most + 1)])
    with pytest.raises(InputError, match="no work"):
        encoder_block_graph(sizes, [])


@pytest.mark.parametrize("seed", range(100))
def test_formula(seed):
    rng = np.random.default_rng(seed)
    sizes = draw_sizes(rng)
    tokens = int(rng.integers(sizes.msa.attention_lanes, sizes.msa.max_tokens + 1))
    loads = None
    if rng.integers(2):
        experts, top_k = sizes.moe.experts, sizes.moe.top_k
        chosen = [rng.permutation(experts)[:top_k] for _ in range(tokens)]
        loads = tuple(np.bincount(np.ravel(chosen), minlength=experts).tolist())
    graph = encoder_block_graph(sizes, [MoeWork(tokens=tokens, loads=loads)])
    exact = simulate(graph, iterations=1).last_start["results"] + 1
    moe = sizes.moe
    if moe.tile_out < moe.dims:
        assert 0.95 * exact <= sizes.cycles(tokens, loads) <= exact + 1
    elif min(moe.in_tiles) < moe.linear_lanes:
        assert sizes.cycles(tokens, loads) in (exact, exact + 1)
    else:
        assert sizes.cycles(tokens, loads) == exact


@pytest.mark.parametrize("loads", [None, (16,) * 14 + (17,) * 2])
def test_formula_at_the_published_size(loads):
    """M3ViT-T on UbiMoE's tiles; a dense FFN has twice an expert's size."""
    shared = {
        "formats": FORMATS["w16a32"],
        "max_tokens": 129,
        "dims": 8,
        "tile_in": 16,
        "tile_out": 16,
        "linear_lanes": 3,
    }
    msa = MsaBlockSizes(heads=3, head_dim=64, attention_lanes=4, **shared)
    moe = MoeBlockSizes(width=192, hidden=384, experts=16, top_k=2, dense_parts=2, **shared)
    sizes = EncoderBlockSizes(msa=msa, moe=moe)
    graph = encoder_block_graph(sizes, [MoeWork(tokens=129, loads=loads)])
    assert sizes.cycles(129, loads) == simulate(graph, iterations=1).last_start["results"] + 1
