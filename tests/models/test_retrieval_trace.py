"""Traces of KV policies: against `run_policy`, runs and replacement by hand, synthetic streams."""

import dataclasses
import itertools

import numpy as np
import pytest

from headrace.errors import InputError
from headrace.models.kernels.retrieval import (
    HashClusterTable,
    KvPlacement,
    Resv,
    draw_hyperplanes,
    hamming_distance,
    hash_keys,
)
from headrace.models.kv_policies import (
    DuoAttention,
    Full,
    InfiniGen,
    InfLlm,
    ReKv,
    ResvPolicy,
    Scenes,
    SirLlm,
    Step,
    StreamingLlm,
    SyntheticVideo,
    dialogue_traces,
    place_choices,
    run_policy,
    skewed_columns,
    trace_policy,
)
from headrace.models.kv_policies.choosing import PolicyRun
from headrace.models.kv_policies.residency import DeviceMemory, count_runs
from headrace.models.network import load_network
from headrace.models.streaming import VideoDialogue

LLAMA = load_network("llama-3-8b")
SMALL = load_network("tiny-bitnet")


def resv(network, resident=0, rehash=False, buckets=16):
    width = network.kv_heads * network.head_dim
    planes = draw_hyperplanes(width, 32, np.random.default_rng(0))
    table = HashClusterTable(network.kv_heads, network.head_dim, planes, rehash=rehash)
    return ResvPolicy(Resv(table, buckets=buckets), resident=resident)


def video(network, seed=0, **options):
    pairs = network.head_dim // 4
    options.setdefault("scenes", Scenes(slow_pairs=pairs, cut=0.2))
    options = {"sharpness": 4.0, "affinity": 0.3, "text_affinity": 0.7} | options
    return SyntheticVideo(network, seed=seed, **options)


PASSES = [("frame", 10)] * 9 + [("question", 7)] + [("answer", 1)] * 5 + [("frame", 10)]


def steps(seed, passes=PASSES, network=SMALL):
    stream = video(network, seed)
    return [stream.step(*each) for each in passes]


def every_policy():
    sample = np.concatenate([s.q for s in steps(9)])
    columns = skewed_columns(sample, SMALL.kv_heads, 0.4)
    gates = np.linspace(0, 1, SMALL.kv_heads)
    return {
        "full": Full,
        "streaming": lambda: StreamingLlm(sink=2, recent=20),
        "inf": lambda: InfLlm(
            initial=3, local=9, block=4, top=2, representatives=2, cached_blocks=3
        ),
        "rekv": lambda: ReKv(frames=3, initial=2),
        "infinigen": lambda: InfiniGen(columns),
        "infinigen-p": lambda: InfiniGen(columns, prefill_top_k=3),
        "sir": lambda: SirLlm(start=2, budget=20),
        "duo": lambda: DuoAttention(gates, sink=4, recent=8),
        "resv": lambda: resv(SMALL, resident=12),
        "resv, exact": lambda: resv(SMALL, buckets=0),
    }


@pytest.mark.parametrize("name", every_policy())
def test_traces_are_what_the_policy_does(name):
    make = every_policy()[name]
    outcomes, traces = run_policy(make(), steps(1)), trace_policy(make(), steps(1))
    assert [(t.stage, t.tokens) for t in traces] == PASSES
    for outcome, trace in zip(outcomes, traces, strict=True):
        assert (trace.stage, trace.cached) == (outcome.stage, outcome.cached)
        assert trace.traffic == outcome.traffic
        assert trace.work == outcome.work
        tokens = max(trace.cached, 1) * SMALL.kv_heads
        assert trace.kept.sum() / tokens == pytest.approx(outcome.kept_share)
        assert trace.fetched.sum() / tokens == pytest.approx(outcome.fetched_share)
        assert ((trace.requests == 0) == (trace.fetched == 0)).all()
        assert (trace.requests <= trace.fetched).all()
    if name in ("resv", "rekv", "full"):
        assert any(t.fetched.any() for t in traces)


@pytest.mark.parametrize("name", sorted(every_policy().keys() - {"inf", "sir"}))
def test_a_history_is_steps_without_choices(name):
    """Of the two others, choices decide what device memory holds later."""
    make = every_policy()[name]
    after = [("question", 7)] + [("answer", 1)] * 4 + [("frame", 10)]
    everything = steps(2, [("frame", 10)] * 12 + after)
    long = trace_policy(make(), everything)[12:]
    history = video(SMALL, 2).history(120, queries=True)
    short = trace_policy(make(), everything[12:], history=history)
    for a, b in zip(long, short, strict=True):
        assert (a.cached, a.traffic, a.work) == (b.cached, b.traffic, b.work)
        assert (a.kept == b.kept).all()
        assert (a.requests == b.requests).all()


def test_resv_fields_against_the_table():
    policy, seen = resv(SMALL), 0
    traces = trace_policy(policy, steps(3))
    members = policy.resv.table.members
    for trace in traces:
        before = set(members[:seen].tolist())
        opens = []
        for cluster in members[seen : seen + trace.tokens].tolist():
            opens.append(cluster not in before)
            before.add(cluster)
        assert trace.clusters == len(set(members[:seen].tolist()))
        assert trace.opens.tolist() == opens
        rows = trace.tokens * SMALL.heads // SMALL.kv_heads
        assert trace.walked.shape == (SMALL.kv_heads, rows)
        assert trace.results.tolist() == [len(set(np.flatnonzero(row))) for row in trace.chosen]
        for h in range(SMALL.kv_heads):
            assert trace.kept[h] == np.isin(members[:seen], np.flatnonzero(trace.chosen[h])).sum()
            assert trace.requests[h] == trace.results[h]  # no token is resident
        seen += trace.tokens
    assert any(t.opens.any() and not t.opens.all() for t in traces[1:])


def test_runs_by_hand():
    tokens = np.array([[1, 1, 0, 1, 1, 1], [0, 0, 0, 0, 0, 0], [1, 0, 1, 0, 1, 0]], np.bool_)
    blocks = np.array([0, 1, 0, 1, 1, 0], np.int32)
    time_order = np.zeros(6, np.int32)
    assert count_runs(tokens, time_order).tolist() == [2, 0, 3]
    # block 0 has tokens 0, 2, 5 and block 1 tokens 1, 3, 4, side by side
    assert count_runs(tokens, blocks).tolist() == [3, 0, 2]
    assert count_runs(tokens, blocks, 1).tolist() == [5, 0, 3]
    # in extents of 2 tokens: 0 and 2, 5; 1 and 3, 4
    assert count_runs(tokens, blocks, 2).tolist() == [4, 0, 2]
    assert count_runs(tokens[:, :0], blocks[:0]).tolist() == [0, 0, 0]
    with pytest.raises(InputError, match="runs"):
        count_runs(tokens, blocks[:5])


def test_layouts_of_a_trace():
    class Chooses(Full):
        def choose(self, step, keys):
            choice = super().choose(step, keys)
            mask = np.zeros_like(choice.kept)
            mask[:, 2::3] = mask[:, ::3] = True
            blocks = np.arange(len(keys), dtype=np.int32) % 3
            return dataclasses.replace(choice, kept=mask, fetched=mask, blocks=blocks)

    passes = [("frame", 10), ("frame", 10)]
    by_time = trace_policy(Chooses(), steps(4, passes), layout="time")[1]
    by_cluster = trace_policy(Chooses(), steps(4, passes), layout="cluster")[1]
    assert by_time.fetched.tolist() == by_cluster.fetched.tolist() == [7] * SMALL.kv_heads
    assert by_time.requests.tolist() == [4] * SMALL.kv_heads  # 0, 2-3, 5-6, 8-9
    assert by_cluster.requests.tolist() == [2] * SMALL.kv_heads
    resident = trace_policy(Chooses(), steps(4, passes), layout="time", resident=4)[1]
    assert resident.fetched.tolist() == [4] * SMALL.kv_heads  # 0, 2, 3, 5
    assert resident.kept.tolist() == [7] * SMALL.kv_heads
    assert resident.requests.tolist() == [3] * SMALL.kv_heads
    with pytest.raises(InputError, match="layout"):
        trace_policy(Full(), [], layout="place")


def test_requests_are_the_extents_of_the_placement():
    """Runs that the placement joins, where a cluster was given neighbouring extents, apart."""
    policy, passes = resv(SMALL, resident=20), [("frame", 10)] * 60
    traces = trace_policy(policy, steps(7, passes), extent_tokens=4)
    placement = KvPlacement(resident=20, extent_tokens=4, extents=600)
    seen = 0
    for trace in traces:
        for chosen, requests in zip(trace.chosen, trace.requests, strict=True):
            reads = placement.fetch(np.flatnonzero(chosen))
            places = [range(r.place, r.place + r.tokens) for r in reads]
            assert requests == sum(len({p // 4 for p in run}) for run in places)
        placement.append(policy.resv.table.members[seen : seen + trace.tokens])
        seen += trace.tokens
    assert any((t.requests > t.results).any() for t in traces)


def mask(cached, *tokens):
    row = np.zeros((1, cached), np.bool_)
    row[0, list(tokens)] = True
    return row


def test_least_recently_used_by_hand():
    blocks = np.array([0, 0, 1, 1, 2, 2, 0, 3], np.int32)
    memory = DeviceMemory(resident=1, cache=4)

    def fetch(cached, *tokens):
        missing = memory.fetch(mask(cached, *tokens), blocks[:cached])
        return np.flatnonzero(missing[0]).tolist()

    assert fetch(6, 0, 1) == [0, 1]  # holds block 0
    assert fetch(6, 2, 3) == [2, 3]  # 0, 1
    assert fetch(6, 0, 1) == []  # 1, 0
    assert fetch(6, 4, 5) == [4]  # token 5 is the newest one; holds 0, 2
    assert fetch(7, 4, 5) == [5]  # its time is over
    assert fetch(8, 0, 1, 6) == [6]  # a member joined; 5 tokens do not fit: 2 leaves
    assert fetch(8, 4) == [4]
    assert fetch(8, 0, 1) == []
    # 0 and 2, wanted in passes 8 and 7, stay; a choice beyond the room leaves nothing of block 0
    assert fetch(8, 0, 1, 2, 3, 4, 6) == [2, 3]
    assert fetch(8, 2, 3, 4) == []
    assert fetch(8, 0) == [0]


def test_least_recently_used_against_a_replay():
    rng = np.random.default_rng(5)
    blocks = np.sort(rng.integers(0, 12, 60)).astype(np.int32)[rng.permutation(60)]
    memory, held, used = DeviceMemory(resident=3, cache=15), [set(), set()], [{}, {}]
    hits = 0
    for now in range(80):
        cached = 20 + now // 2
        wanted = np.isin(blocks[:cached], rng.integers(0, 12, 3)) & (rng.random((2, cached)) < 0.9)
        got = memory.fetch(wanted, blocks[:cached])
        for h in range(2):
            old = set(np.flatnonzero(wanted[h, : cached - 3]).tolist())
            assert set(np.flatnonzero(got[h]).tolist()) == old - held[h]
            hits += len(old & held[h])
            held[h] |= old
            used[h] |= {int(blocks[t]): now for t in old}
            while len(held[h]) > 15:
                there = {int(blocks[t]) for t in held[h]}
                victim = min(there, key=lambda b: (used[h][b], b))
                held[h] -= {t for t in held[h] if blocks[t] == victim}
    assert hits > 50
    with pytest.raises(InputError, match="cache"):
        DeviceMemory(cache=-1)


@pytest.mark.parametrize("rehash", [False, True])
def test_filling_in_bulk_is_filling_frame_by_frame(rehash):
    keys = np.concatenate([s.k for s in video(SMALL, 6).history(600)])
    bulk, single = resv(SMALL, rehash=rehash), resv(SMALL, rehash=rehash)
    whole = Step(stage="frame", q=np.zeros((600, SMALL.heads, SMALL.head_dim)), k=keys, v=keys)
    bulk.extend(whole, 10)
    for first in range(0, 600, 10):
        single.resv.append(keys[first : first + 10])
    a, b = bulk.resv.table, single.resv.table
    assert a.clusters == b.clusters > 5
    assert (a.members == b.members).all()
    assert (a.means == b.means).all()
    assert (a.codes == b.codes).all()


def test_equal_seeds_give_equal_keys_however_the_history_is_cut():
    whole = np.concatenate([s.k for s in video(SMALL, 7).history(2400)])
    single = np.concatenate([s.k for s in video(SMALL, 7).history(2400, queries=True)])
    assert (whole == single).all()
    assert not (whole == np.concatenate([s.k for s in video(SMALL, 8).history(2400)])).any()
    assert np.isnan(next(video(SMALL).history(10)).q).all()
    assert [len(s.k) for s in video(SMALL).history(1015)] == [1000, 15]


def test_keys_follow_the_video():
    """Coordinates have variance 1; tokens are near their predecessors, except behind a cut."""
    scenes = Scenes(rope=False, cut=0.05, drift=0.01, noise=0.1)
    stream = video(LLAMA, 1, scenes=scenes)
    keys = np.concatenate([s.k for s in stream.history(3000)]).reshape(300, 10, -1)
    assert keys.var() == pytest.approx(1, rel=0.1)
    unit = keys / np.linalg.norm(keys, axis=2, keepdims=True)
    cosines = (unit[1:] * unit[:-1]).sum(axis=2)
    follows = cosines.mean(axis=1) > 0.7
    assert cosines[follows].mean() == pytest.approx(0.9 * np.sqrt(0.99), abs=0.02)
    assert 5 <= (~follows).sum() <= 30
    # scenes return: first frames after a cut look like some frame before
    firsts = np.flatnonzero(~follows) + 1
    back = [(unit[f, 0] @ unit[:f, 0].T).max() > 0.7 for f in firsts]
    assert 0.2 < np.mean(back) < 0.8


def test_rope_parts_what_lies_far_apart():
    """With content in all pairs a token leaves its cluster; in the slow ones it stays."""
    planes = draw_hyperplanes(1024, 32, np.random.default_rng(0))
    bits = {}
    for pairs, turns in itertools.product((16, 64), (True, False)):
        scenes = Scenes(cut=0.0, drift=0.0, slow_pairs=pairs, rope=turns)
        stream = video(LLAMA, 2, scenes=scenes)
        keys = np.concatenate([s.k for s in stream.history(1000)])
        codes = hash_keys(keys.reshape(1000, -1), planes)
        bits[pairs, turns] = hamming_distance(codes[:500], codes[500:]).mean()
    assert bits[16, True] < 6
    assert bits[16, False] < 6
    assert bits[64, False] < 6
    assert bits[64, True] > 8


def test_concentration_narrows_the_choice():
    def share(**options):
        stream, policy = video(LLAMA, 3, scenes=Scenes(), **options), resv(LLAMA)
        passes = (stream.step("frame", 10) for _ in range(4))
        traces = trace_policy(policy, passes, history=stream.history(4000))
        return np.mean([t.kept / t.cached for t in traces])

    wide = share(sharpness=1.0, affinity=0.0)
    assert wide > 0.6
    assert share(sharpness=4.0, affinity=0.0) < wide - 0.1
    assert share(sharpness=4.0, affinity=0.9) < wide / 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sharpness": -1.0}, "sharpness"),
        ({"affinity": 1.5}, "affinities"),
        ({"seed": -1}, "seed"),
        ({"scenes": Scenes(slow_pairs=1000)}, "slow_pairs"),
    ],
)
def test_streams_are_checked(options, message):
    with pytest.raises(InputError, match=message):
        video(SMALL, **options)


def test_scenes_and_steps_are_checked():
    for wrong in ({"cut": 2.0}, {"noise": 1.0}, {"likeness": float("nan")}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            Scenes(**wrong)
    for stage, tokens in (("frame", 9), ("song", 1), ("answer", 0)):
        with pytest.raises(InputError, match=stage):
            video(SMALL).step(stage, tokens)


def test_a_dialogue_through_sampled_layers():
    dialogue = VideoDialogue(history=1000, frames=3, answer_tokens=4)
    made = []

    def factory(layer):
        made.append(layer)
        return resv(LLAMA)

    traces = dialogue_traces(dialogue, factory, layers=3, seed=1)
    assert made == [0, 1, 2]
    assert [len(t) for t in traces] == [8, 8, 8]
    assert [t[0].stands_for for t in traces] == [11, 11, 10]
    for each in traces:
        expected = [(p.stage, p.tokens, p.cached) for p in dialogue.passes()]
        assert [(t.stage, t.tokens, t.cached) for t in each] == expected
    again = dialogue_traces(dialogue, factory, layers=3, seed=1)
    other = dialogue_traces(dialogue, factory, layers=3, seed=2)
    assert (again[2][5].chosen == traces[2][5].chosen).all()
    assert other[2][0].clusters != traces[2][0].clusters
    with pytest.raises(InputError, match="layers"):
        dialogue_traces(dialogue, factory, layers=0)


def test_a_cache_saves_fetches_not_attention():
    dialogue = VideoDialogue(history=2000, frames=6, answer_tokens=0)
    plain = dialogue_traces(dialogue, lambda _: resv(LLAMA), layers=1)[0]
    cached = dialogue_traces(dialogue, lambda _: resv(LLAMA), layers=1, cache=2000)[0]
    assert (plain[0].fetched == cached[0].fetched).all()
    assert all((a.kept == b.kept).all() for a, b in zip(plain, cached, strict=True))
    assert sum(t.fetched.sum() for t in cached[1:]) < sum(t.fetched.sum() for t in plain[1:]) / 2


@pytest.mark.parametrize("layout", ["time", "cluster"])
def test_places_change_nothing_of_the_choices(layout):
    """Choices made once and placed are what a policy with residents of its own gives."""
    run = PolicyRun(resv(SMALL))
    choices = [run.choose(step) for step in steps(5)]
    for resident, cache in ((0, 0), (30, 0), (12, 20)):
        options = {"layout": layout, "resident": resident, "cache": cache}
        placed = place_choices(choices, attend_resident=True, **options)
        direct = trace_policy(resv(SMALL, resident=resident), steps(5), **options)
        for a, b in zip(placed, direct, strict=True):
            assert repr(a) == repr(b)
            assert (a.kept == b.kept).all()
            assert (a.fetched == b.fetched).all()
            assert (a.chosen == b.chosen).all()
    assert any(t.fetched.any() for t in placed)


@pytest.mark.parametrize("name", ["streaming", "duo", "sir", "inf"])
def test_held_tokens_are_those_that_are_kept(name):
    """Policies with a memory of their own keep no more than they hold, and come to that."""
    policy = every_policy()[name]()
    traces = trace_policy(policy, steps(6, [("frame", 10)] * 30))
    spare = [policy.held_tokens(t.cached) - t.kept.mean() for t in traces]
    assert min(spare) > -1
    assert policy.held_tokens(10) == 10
    assert policy.held_tokens(10_000) < 10_000
    if name != "inf":  # whose blocks come and go
        assert min(abs(s) for s in spare[-5:]) <= 10
    assert every_policy()["full"]().held_tokens(100) == 0
