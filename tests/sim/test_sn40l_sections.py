"""Kernels of the SN40L: cuts against brute force, bytes and buffers against counts by hand."""

from dataclasses import replace
from itertools import combinations, pairwise

import numpy as np
import pytest

from headrace.arch.sn40l.chip import ChipSizes
from headrace.errors import InputError
from headrace.models.network import load_network
from headrace.sim.sn40l.buffers import SectionBuffers, most_saved
from headrace.sim.sn40l.sections import compile_pass, cut_segment, kernel_of
from headrace.sim.sn40l.workload import Pass, Segment, Task, segments_of

CHIP = ChipSizes()
LEVELS = ("unfused", "partial", "full")
LLAMA = load_network("llama-3-8b")
LAYER = [
    "input_norm",
    "q_proj",
    "q_rope",
    "k_proj",
    "k_rope",
    "v_proj",
    "attention.scores",
    "attention.mask",
    "attention.softmax",
    "attention.values",
    "o_proj",
    "o_proj.all_reduce",
    "attention_residual",
    "post_attention_norm",
    "up_proj",
    "gate_proj",
    "swiglu.silu",
    "swiglu.multiply",
    "down_proj",
    "down_proj.all_reduce",
    "ffn_residual",
]


def layer_of(network, **facts):
    return next(s for s in segments_of(Pass(network=network, **facts)) if s.name == "layer")


def segment(tasks, **facts):
    made = {t.name for t in tasks}
    inputs = {name: 10 for t in tasks for name in t.inputs if name not in made}
    shape = {"tokens": 64, "batch": 1} | facts
    return Segment(name="s", tasks=tuple(tasks), inputs=tuple(inputs.items()),
                   outputs=(tasks[-1].name,), **shape)  # fmt: skip


def draw_segment(rng, count):
    """Draw a graph in which tasks read one or two of the tensors before them."""
    tasks, names = [], ["x"]
    for i in range(count):
        sources = rng.choice(
            len(names), size=min(len(names), int(rng.integers(1, 3))), replace=False
        )
        tasks.append(Task(
            name=f"t{i}", kind="matmul", inputs=tuple(names[s] for s in sorted(sources)),
            row_bytes=int(rng.integers(1, 9)), weight_bytes=int(rng.choice([0, 100, 400, 1500])),
        ))  # fmt: skip
        names.append(f"t{i}")
    return segment(tasks, tokens=int(rng.integers(1, 40)), batch=int(rng.integers(1, 4)))


def test_layer_of_llama():
    layer = layer_of(LLAMA, tokens=4096, tensor_parallel=8)
    assert [t.name for t in layer.tasks] == LAYER
    sizes = {t.name: t for t in layer.tasks}
    assert sizes["up_proj"].weight_bytes == 4096 * 14336 * 2 // 8
    assert sizes["down_proj"].macs == 4096 * 4096 * 14336 // 8
    assert sizes["attention.scores"].row_bytes == 4 * 4096 * 2  # heads of a socket, keys, BF16
    assert sizes["attention.scores"].macs == 4 * 128 * (4096 * 4097 // 2)
    assert [t.link_bytes for t in layer.tasks if t.link_bytes] == [4096 * 4096 * 2] * 2
    assert [t.name for t in layer.tasks if t.kept] == ["k_rope", "v_proj"]


@pytest.mark.parametrize("name", ["llama-3-8b", "vit-small", "m3vit-tiny", "bitnet-b1.58-large"])
def test_work_is_that_of_the_network(name):
    network = load_network(name)
    found = segments_of(Pass(network=network, tokens=100, batch=3))
    macs = sum(t.macs for s in found for t in s.tasks)
    head = network.operators_of("lm_head")
    unwanted = 99 * sum(op.weights for op in head)  # logits of all tokens but the last
    assert macs == 3 * (network.macs(100) - unwanted)
    if name == "llama-3-8b":
        weights = sum(t.weight_bytes for s in found for t in s.tasks)
        table = network.operator("embedding")
        assert weights == network.weight_bytes() - table.weight_bytes() + 300 * 4096 * 2


def test_sockets_share_the_work():
    whole, eighth = (segments_of(Pass(network=LLAMA, tokens=16, tensor_parallel=p)) for p in (1, 8))
    for one, part in zip(whole, eighth, strict=True):
        shared = {t.name: t for t in part.tasks}
        for task in one.tasks:
            assert task.macs == 8 * shared[task.name].macs
            if task.kind == "matmul":
                assert task.weight_bytes == 8 * shared[task.name].weight_bytes


CHAIN = [
    Task(name="a", kind="matmul", inputs=("x",), row_bytes=20, weight_bytes=200, macs=6400),
    Task(name="b", kind="gelu", inputs=("a",), row_bytes=20, values=640, steps=8),
    Task(name="c", kind="residual_add", inputs=("b", "x"), row_bytes=10, values=320, steps=1),
]


def test_bytes_of_a_chain_by_hand():
    graph = segment(CHAIN)  # 64 rows of 10 bytes in, 20, 20, 10 out
    unfused, partial, full = (cut_segment(graph, CHIP, level, tile_rows=8) for level in LEVELS)
    assert [k.names for k in unfused] == [("a",), ("b",), ("c",)]
    assert [k.hbm_bytes for k in unfused] == [64 * 30 + 200, 64 * 40, 64 * 40]
    assert [k.names for k in partial] == [("a", "b", "c")]
    assert [k.names for k in full] == [("a", "b", "c")]
    kernel = full[0]
    assert (kernel.activation_in_bytes, kernel.activation_out_bytes) == (640, 640)
    assert kernel.weight_bytes == 200
    assert kernel.flop == 2 * 6400 + 640 * 8 + 320
    assert kernel.intensity == (2 * 6400 + 640 * 8 + 320) / 1480
    # x waits for the sum: loaded, a, b, c: four tiles of 8 rows; the others are double
    sizes = {b.name: b.bytes for b in kernel.buffers if b.kind == "stage"}
    assert sizes == {"x": 4 * 80, "a": 2 * 160, "b": 2 * 160, "c": 2 * 80}


def test_intensities_of_table_1():
    """The published ratio 4.0 of the last two rows gives the first: 10.0, published 10.39.

    Gemm0, Mul, Transpose, Gemm1: partly fused before Gemm1, the intermediate result goes out and
    comes in once more, so it has 1.5 times the bytes of input, output and weights together.
    """
    kinds = ("matmul", "multiply", "transpose", "matmul")
    names = ("x", "gemm0", "mul", "transpose", "gemm1")
    tasks = [
        Task(name=name, kind=kind, inputs=(source,), row_bytes=10 if name == "gemm1" else 30,
             macs=1000)
        for (source, name), kind in zip(pairwise(names), kinds, strict=True)
    ]  # fmt: skip
    graph = segment(tasks)

    def intensity(*cuts):
        kernels = [kernel_of(graph, CHIP, a, b) for a, b in pairwise((0, *cuts, 4))]
        return sum(k.flop for k in kernels) / sum(k.hbm_bytes for k in kernels)

    none, some, full = intensity(1, 2, 3), intensity(3), intensity()
    assert full / some == pytest.approx(410.4 / 102.6)
    assert full / none == pytest.approx(410.4 / 39.5, rel=0.04)
    assert [k.names for k in cut_segment(graph, CHIP, "full")] == [names[1:]]


def test_weights_that_do_not_fit_come_for_every_tile():
    chip = ChipSizes(pmus=8, pmu_bytes=1000)
    graph = segment([replace(CHAIN[0], weight_bytes=9000)])
    (kernel,) = cut_segment(graph, chip, "full", tile_rows=8)
    assert kernel.weight_bytes == 8 * 9000
    (kernel,) = cut_segment(graph, replace(chip, pmus=11), "full", tile_rows=8)
    assert kernel.weight_bytes == 9000


@pytest.mark.parametrize("seed", range(12))
def test_full_fusion_is_the_best_cut(seed):
    rng = np.random.default_rng(seed)
    graph = draw_segment(rng, int(rng.integers(3, 10)))
    chip = ChipSizes(pmus=int(rng.integers(10, 40)), pmu_bytes=100, pcus=int(rng.integers(3, 9)))
    count, costs = len(graph.tasks), []
    for size in range(count):
        for cuts in combinations(range(1, count), size):
            runs = [kernel_of(graph, chip, a, b, tile_rows=4) for a, b in
                    pairwise((0, *cuts, count))]  # fmt: skip
            if None not in runs:
                costs.append((sum(k.hbm_bytes for k in runs), len(runs)))
    found = cut_segment(graph, chip, "full", tile_rows=4)
    assert (sum(k.hbm_bytes for k in found), len(found)) == min(costs)
    assert [n for k in found for n in k.names] == [t.name for t in graph.tasks]


def bytes_counted(graph, start, end):
    """Count activations over HBM: each tensor in once, each that is wanted later out once."""
    rows, inside = graph.tokens * graph.batch, graph.tasks[start:end]
    sizes = dict(graph.inputs) | {t.name: t.row_bytes for t in graph.tasks}
    made = {t.name for t in inside}
    read = {name for t in inside for name in t.inputs} - made
    wanted = {n for t in graph.tasks[end:] for n in t.inputs} | set(graph.outputs)
    return rows * sum(sizes[n] for n in read), rows * sum(sizes[n] for n in wanted & made)


@pytest.mark.parametrize("seed", range(6))
def test_activations_are_counted_once(seed):
    rng = np.random.default_rng(seed)
    graph = draw_segment(rng, 7)
    for start, end in combinations(range(8), 2):
        kernel = kernel_of(graph, CHIP, start, end)
        found = kernel.activation_in_bytes, kernel.activation_out_bytes
        assert found == bytes_counted(graph, start, end)


def live_tiles(graph, tiles):
    """Run tiles through the stages, a step per tile, and count those each buffer holds at most."""
    done, work, free = {}, {}, {}
    for tile in range(tiles):
        for task in graph.tasks:
            ready = max((done.get((n, tile), 0) for n in task.inputs), default=0)
            work[task.name, tile] = max(ready, free.get(task.name, 0))
            done[task.name, tile] = free[task.name] = work[task.name, tile] + 1
    peaks = {}
    for name in (*dict(graph.inputs), *(t.name for t in graph.tasks)):
        spans = []
        for tile in range(tiles):
            reads = [work[t.name, tile] for t in graph.tasks if name in t.inputs]
            first = work[name, tile] if (name, tile) in work else min(reads) - 1
            spans.append((first, max(reads, default=first + 1)))  # a result is then stored
        steps = range(-1, max(b for _, b in spans) + 1)
        peaks[name] = max(sum(a <= step <= b for a, b in spans) for step in steps)
    return peaks


@pytest.mark.parametrize("seed", range(8))
def test_stage_buffers_hold_what_a_run_needs(seed):
    rng = np.random.default_rng(seed)
    tiles = int(rng.choice([1, 3, 20]))
    graph = replace(draw_segment(rng, 9), tokens=2 * tiles, batch=1)
    buffers = SectionBuffers(graph, 0, 9, 2).fit(CHIP)
    rows = dict(graph.inputs) | {t.name: t.row_bytes for t in graph.tasks}
    depths = {b.name: b.bytes // (2 * rows[b.name]) for b in buffers if b.kind == "stage"}
    assert depths == {name: max(2, peak) for name, peak in live_tiles(graph, tiles).items()}


def attention_bytes(tokens, context, batch, tile, row, window=0):
    """Count the rows of keys that tiles of a causal sequence read, query by query."""
    total = 0
    for start in range(0, tokens, tile):
        seen = set()
        for query in range(start, min(start + tile, tokens)):
            low = max(0, context + query + 1 - window) if window else 0
            seen.update(range(low, context + query + 1))
        total += len(seen)
    return total * batch * row


@pytest.mark.parametrize("tokens, context, batch, window", [
    (1, 30, 3, 0), (9, 0, 1, 0), (8, 5, 2, 0), (13, 20, 2, 7), (1, 30, 1, 6), (12, 0, 1, 4),
])  # fmt: skip
def test_keys_held_or_streamed(tokens, context, batch, window):
    cached = min(context, window - 1) if window else context
    score = Task(name="s", kind="scores", inputs=("x",), row_bytes=4, whole="k",
                 whole_row_bytes=50, whole_cached=cached, window=window)  # fmt: skip
    key = Task(name="k", kind="matmul", inputs=("x",), row_bytes=50, kept=True)
    graph = segment([key, score], tokens=tokens, batch=batch)
    tight, wide = ChipSizes(pmus=14, pmu_bytes=100), ChipSizes(pmus=500, pmu_bytes=100)
    alone = kernel_of(graph, tight, 1, 2, tile_rows=4)
    streamed = attention_bytes(tokens, context, batch, 4, 50, window)
    once = (cached + tokens) * batch * 50
    held_units = -(-(cached + tokens) * 50 * (1 if batch == 1 or tokens < 4 else 2) // 100)
    if held_units > 11:
        assert alone.kv_read_bytes == streamed
    assert kernel_of(graph, wide, 1, 2, tile_rows=4).kv_read_bytes == min(once, streamed)
    both = kernel_of(graph, wide, 0, 2, tile_rows=4)
    assert both.kv_read_bytes == once - tokens * batch * 50  # the new keys are on the chip
    assert both.kv_write_bytes == tokens * batch * 50
    stages = sum(b.pmus(wide) for b in both.buffers if b.kind == "stage")
    tight = replace(wide, pmus=stages + max(2, held_units - 1))
    both = kernel_of(graph, tight, 0, 2, tile_rows=4)
    assert both.kv_read_bytes == streamed - tokens * batch * 50


def test_keys_without_cache_must_be_held_by_the_kernel_that_makes_them():
    key = Task(name="k", kind="matmul", inputs=("x",), row_bytes=50)
    score = Task(name="s", kind="scores", inputs=("x",), row_bytes=4, whole="k",
                 whole_row_bytes=50, causal=False)  # fmt: skip
    graph = segment([key, score], tokens=100)
    wide, tight = ChipSizes(pmus=100, pmu_bytes=100), ChipSizes(pmus=40, pmu_bytes=100)
    (kernel,) = cut_segment(graph, wide, "full", tile_rows=4)
    assert kernel.hbm_bytes == 100 * (10 + 4)
    assert [k.names for k in cut_segment(graph, tight, "full", tile_rows=4)] == [("k",), ("s",)]
    alone = kernel_of(graph, tight, 1, 2, tile_rows=4)
    assert alone.activation_in_bytes == 100 * 10 + 25 * 100 * 50  # all keys for every tile


def test_knapsack_is_exact():
    rng = np.random.default_rng(3)
    for _ in range(40):
        count = int(rng.integers(0, 9))
        sizes, savings = (rng.integers(0, 12, count).tolist() for _ in range(2))
        room = int(rng.integers(0, 40))
        every = [c for n in range(count + 1) for c in combinations(range(count), n)
                 if sum(sizes[i] for i in c) <= room]  # fmt: skip
        best = max(sum(savings[i] for i in c) for c in every)
        chosen = most_saved(sizes, savings, room)
        assert sum(savings[i] for i in chosen) == best
        assert sum(sizes[i] for i in chosen) <= room


def test_groups_of_the_libraries():
    layer = layer_of(LLAMA, tokens=512)
    groups = [k.names for k in cut_segment(layer, CHIP, "partial")]
    assert groups == [
        ("input_norm",),
        ("q_proj", "q_rope"),
        ("k_proj", "k_rope"),
        ("v_proj",),
        ("attention.scores", "attention.mask", "attention.softmax", "attention.values"),
        ("o_proj", "attention_residual"),
        ("post_attention_norm",),
        ("up_proj",),
        ("gate_proj", "swiglu.silu", "swiglu.multiply"),
        ("down_proj", "ffn_residual"),
    ]


def test_operators_of_a_framework():
    layer = layer_of(LLAMA, tokens=512, tensor_parallel=8)
    groups = [k.names for k in cut_segment(layer, CHIP, "operators")]
    assert [g for g in groups if len(g) > 1] == [
        ("attention.scores", "attention.mask", "attention.softmax", "attention.values"),
        ("o_proj", "o_proj.all_reduce"),
        ("swiglu.silu", "swiglu.multiply"),
        ("down_proj", "down_proj.all_reduce"),
    ]
    assert [n for g in groups for n in g] == LAYER


@pytest.mark.parametrize("tokens, context", [(4096, 0), (1, 4095)])
def test_a_decoder_layer_is_one_kernel(tokens, context):
    """Section 6 of the paper: a whole decoder layer is one kernel, called for every layer."""
    work = Pass(network=LLAMA, tokens=tokens, context=context, tensor_parallel=8)
    unfused, partial, full = (compile_pass(work, CHIP, level) for level in LEVELS)
    assert unfused.hbm_bytes > partial.hbm_bytes > full.hbm_bytes
    assert unfused.intensity < partial.intensity < full.intensity
    assert unfused.flop == partial.flop == full.flop
    assert full.link_bytes == 32 * 2 * tokens * 4096 * 2
    assert (unfused.launches(), full.launches()) == (1 + 32 * 21 + 2, 34)
    assert (unfused.launches(looping=True), full.launches(looping=True)) == (675, 3)
    kernel = full.calls[1]
    assert kernel.weight_bytes == (4096 * (2 * 4096 + 2 * 1024 + 3 * 14336) // 8 + 2 * 4096) * 2
    assert kernel.kv_read_bytes == context * 2 * 128 * 2
    assert kernel.kv_write_bytes == tokens * 2 * 128 * 2
    assert kernel.activation_in_bytes == kernel.activation_out_bytes == tokens * 4096 * 2


def test_attention_without_mask_waits_for_the_sequence():
    layer = layer_of(load_network("vit-small"), tokens=197)
    (kernel,) = cut_segment(layer, CHIP, "full", tile_rows=16)
    sizes = {b.name: b.bytes for b in kernel.buffers if b.kind == "stage"}
    assert sizes["q_proj"] >= 197 * 384 * 2  # all queries wait for the last key
    assert sizes["input.0"] >= 197 * 384 * 2
    held = {b.name for b in kernel.buffers if b.kind == "held"}
    assert {"k_proj", "v_proj"} <= held
    assert kernel.kv_read_bytes == kernel.kv_write_bytes == 0


@pytest.mark.parametrize("facts, words", [
    ({"tokens": 0}, "tokens = 0"),
    ({"tokens": True}, "tokens = True"),
    ({"tokens": 4, "context": -1}, "context = -1"),
    ({"tokens": 4, "batch": 1 << 30}, "batch"),
    ({"tokens": 4, "tensor_parallel": 3}, "does not divide"),
    ({"tokens": 4, "tensor_parallel": 16}, "KV heads"),
])  # fmt: skip
def test_passes_that_are_refused(facts, words):
    with pytest.raises(InputError, match=words) as refusal:
        Pass(network=LLAMA, **facts)
    assert "\n" not in str(refusal.value)


def test_other_refusals():
    work = Pass(network=LLAMA, tokens=64)
    for level, chip, tile, words in (
        ("more", CHIP, 64, "fusion level"),
        ("full", CHIP, 0, "tile_rows"),
        ("full", ChipSizes(pmus=2), 64, "fewer rows"),
    ):
        with pytest.raises(InputError, match=words):
            compile_pass(work, chip, level, tile_rows=tile)
    with pytest.raises(InputError, match="no KV cache"):
        Pass(network=load_network("vit-tiny"), tokens=4, context=1)
    for facts in ({"pcus": 0}, {"pmus": 1.0}, {"clock_hz": -1}, {"pmu_bytes": 1 << 40}):
        with pytest.raises(InputError, match="not allowed"):
            ChipSizes(**facts)


def test_published_sizes_of_a_socket():
    assert CHIP.sram_bytes == 520 << 20
    assert round(CHIP.peak_flop_per_s / 1e12, 2) == 638.98
