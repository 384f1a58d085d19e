"""Traces of a point: remembered choices in other places are those made afresh."""

import numpy as np
import pytest

from headrace.arch.vrex import VREX
from headrace.errors import InputError
from headrace.models.kernels.retrieval import HashClusterTable, Resv, draw_hyperplanes
from headrace.models.kv_policies import ResvPolicy, dialogue_traces
from headrace.models.network import load_network
from headrace.models.streaming import VideoDialogue
from headrace.sim.vrex.traces import LAYERS, traces_of

LLAMA = load_network("llama-3-8b")
DIALOGUE = VideoDialogue(
    network=LLAMA, history=700, frames=3, question_tokens=5, answer_tokens=2, batch=1
)


def afresh(ratio, buckets, resident, cache, layout):
    """Return traces of every pass by a policy that was made for these options alone."""

    def policy(layer):
        width = LLAMA.kv_heads * LLAMA.head_dim
        planes = draw_hyperplanes(width, 32, np.random.default_rng(layer))
        table = HashClusterTable(LLAMA.kv_heads, LLAMA.head_dim, planes)
        return ResvPolicy(Resv(table, ratio=ratio / 100, buckets=buckets), resident=resident)

    return dialogue_traces(
        DIALOGUE, policy, layers=LAYERS, layout=layout, resident=resident, cache=cache
    )


@pytest.mark.parametrize("seed", range(6))
def test_what_is_remembered_changes_nothing(seed):
    rng = np.random.default_rng(seed)
    ratio, buckets = int(rng.choice([10, 30, 50])), int(rng.choice([16, 64]))
    resident, cache = int(rng.choice([0, 200, 500])), int(rng.choice([0, 100, 300]))
    layout = str(rng.choice(["time", "cluster"]))
    point = VREX.point(
        {
            "ratio_percent": ratio,
            "wtu_buckets": buckets,
            "resident_tokens": resident,
            "cache_tokens": cache,
            "layout": layout,
        }
    )
    found = traces_of(point, DIALOGUE, every_pass=True)
    expected = afresh(ratio, buckets, resident, cache, layout)
    passes = [layers for stage in ("frame", "question", "answer")
              for _, layers in found.passes(stage)]  # fmt: skip
    assert len(passes) == 3 + 1 + 2
    for number, layers in enumerate(passes):
        for layer in range(LAYERS):
            a, b = layers[layer * LLAMA.layers // LAYERS], expected[layer][number]
            assert (a.layer, a.stage, a.cached) == (b.layer, b.stage, b.cached)
            assert (a.work, a.traffic, a.table_bytes) == (b.work, b.traffic, b.table_bytes)
            for name in ("kept", "fetched", "requests", "opens", "chosen", "walked"):
                assert np.array_equal(getattr(a, name), getattr(b, name)), name


def test_too_long_a_stream_is_refused():
    long = VideoDialogue(network=LLAMA, history=65_535, frames=1)
    with pytest.raises(InputError, match="at most 65535 are needed"):
        traces_of(VREX.point(), long, every_pass=False)
