"""KV policies: what each keeps against a brute-force replay, bytes and errors by hand."""

import itertools
import math

import numpy as np
import pytest

from headrace.errors import InputError
from headrace.models.kernels.retrieval import (
    HashClusterTable,
    Resv,
    draw_hyperplanes,
    round_to_bfloat16,
)
from headrace.models.kv_policies import (
    DuoAttention,
    Full,
    InfiniGen,
    InfLlm,
    KvCache,
    KvPolicy,
    ReKv,
    ResvPolicy,
    SirLlm,
    Step,
    StreamingLlm,
    masked_attention,
    run_policy,
    skewed_columns,
)

HEADS, KV_HEADS, DIM = 4, 2, 8
GROUP = HEADS // KV_HEADS


def stream(seed, steps=14, frame=6):
    """Frames, a question and an answer, token by token."""
    rng = np.random.default_rng(seed)
    sizes = [("frame", frame)] * steps + [("question", 5)] + [("answer", 1)] * 6
    sizes += [("frame", frame)] * 2 + [("question", 3)] + [("answer", 1)] * 2
    return [
        Step(
            stage=stage,
            q=rng.standard_normal((n, HEADS, DIM), np.float32) * 2,
            k=rng.standard_normal((n, KV_HEADS, DIM), np.float32),
            v=rng.standard_normal((n, KV_HEADS, DIM), np.float32),
            surprise=rng.integers(0, 6, n) / 6,  # with ties
        )
        for stage, n in sizes
    ]


class Recorder(KvPolicy):
    """Passes on, and keeps every choice."""

    def __init__(self, policy):
        self.policy, self.choices, self.offloads = policy, [], policy.offloads

    def choose(self, step, keys):
        self.choices.append(self.policy.choose(step, keys))
        return self.choices[-1]

    def append(self, step):
        self.policy.append(step)


def choices(policy, steps):
    recorder = Recorder(policy)
    return recorder.choices, run_policy(recorder, steps)


def resv_policy(resident=0, **options):
    planes = draw_hyperplanes(KV_HEADS * DIM, 32, np.random.default_rng(0))
    return ResvPolicy(Resv(HashClusterTable(KV_HEADS, DIM, planes), **options), resident=resident)


def every_policy():
    sample = np.random.default_rng(1).standard_normal((40, HEADS, DIM)).astype(np.float32)
    columns = skewed_columns(sample, KV_HEADS, 0.4)
    return {
        "full": Full(),
        "streaming": StreamingLlm(sink=2, recent=20),
        "inf": InfLlm(initial=3, local=9, block=4, top=2, representatives=2, cached_blocks=3),
        "rekv": ReKv(frames=3, initial=2),
        "infinigen": InfiniGen(columns),
        "infinigen-p": InfiniGen(columns, prefill_top_k=3),
        "sir": SirLlm(start=2, budget=20),
        "duo": DuoAttention(np.array([0.9, 0.1]), sink=4, recent=8),
        "resv": resv_policy(resident=12),
    }


def test_masked_attention_against_sums():
    rng = np.random.default_rng(2)
    q, (k, v) = rng.standard_normal((3, 4, 8)), rng.standard_normal((2, 8, 2, 8))
    kept = rng.random((2, 5)) < 0.5
    got = masked_attention(*(a.astype(np.float32) for a in (q, k, v)), kept)
    for t in range(3):
        for h in range(4):
            seen = [j for j in range(5) if kept[h // 2, j]] + list(range(5, 6 + t))
            weights = [math.exp(q[t, h] @ k[j, h // 2] / math.sqrt(8)) for j in seen]
            value = sum(w * v[j, h // 2] for w, j in zip(weights, seen, strict=True))
            assert np.allclose(got[t, h], value / sum(weights), atol=1e-5)


def test_the_cache_holds_bfloat16_of_all_steps():
    cache, steps = KvCache(), stream(3)
    for step in steps:
        cache.append(step)
    k = np.concatenate([s.k for s in steps])
    assert cache.keys.shape == k.shape
    assert (np.abs(cache.keys - k) <= np.abs(k) * 2**-8).all()
    assert not (cache.values.view(np.uint32) & 0xFFFF).any()


@pytest.mark.parametrize("name", every_policy())
def test_books_balance(name):
    steps, policy = stream(4), every_policy()[name]
    made, outcomes = choices(policy, steps)
    per_head, seen, cache = 2 * DIM * 2, 0, KvCache()
    for step, choice, outcome in zip(steps, made, outcomes, strict=True):
        assert outcome.cached == seen
        assert choice.kept.shape == choice.fetched.shape == (KV_HEADS, seen)
        assert not (choice.fetched & ~choice.kept).any()
        new = len(step.k) * KV_HEADS * per_head
        fetched, kept = (m.sum() * per_head for m in (choice.fetched, choice.kept))
        traffic = outcome.traffic
        assert traffic.link_read_bytes == fetched
        assert traffic.link_write_bytes == (new if policy.offloads else 0)
        assert traffic.device_write_bytes == fetched + new
        assert traffic.device_read_bytes == kept + new + choice.table_bytes
        cache.append(step)
        q = round_to_bfloat16(step.q)
        full = masked_attention(q, cache.keys, cache.values, np.ones_like(choice.kept))
        gap = masked_attention(q, cache.keys, cache.values, choice.kept) - full
        expected = math.sqrt((gap**2).sum() / (full**2).sum())
        assert outcome.error == pytest.approx(expected, rel=1e-4)
        assert (outcome.error == 0) == choice.kept.all()
        seen += len(step.k)
    assert seen > 100
    assert name == "full" or not all(c.kept.all() for c in made)


@pytest.mark.parametrize("name", ["streaming", "sir", "duo"])
def test_what_is_dropped_never_comes_back(name):
    made, _ = choices(every_policy()[name], stream(5))
    for before, after in itertools.pairwise(made):
        old = before.kept.shape[1]
        assert not (after.kept[:, :old] & ~before.kept).any()


def test_full_moves_everything():
    steps = stream(6)[:3]
    last = run_policy(Full(), steps)[-1]
    assert last.traffic.link_read_bytes == 12 * 2 * KV_HEADS * DIM * 2
    assert (last.kept_share, last.error, last.work.macs) == (1, 0, 0)


def test_streaming_llm_is_a_cache_that_evicts():
    steps, cache, position = stream(7), [], 0
    made, _ = choices(StreamingLlm(sink=2, recent=9), steps)
    for step, choice in zip(steps, made, strict=True):
        n, length = len(step.k), len(cache)
        if length + n > 11:
            cache = cache[:2] + cache[max(length - 9 + n, 2) :]
        assert [np.flatnonzero(row).tolist() for row in choice.kept] == [cache] * KV_HEADS
        cache = cache + list(range(position, position + n))
        position += n


def test_a_step_larger_than_the_window_leaves_only_the_sink():
    steps = [s for s in stream(8) if s.stage == "frame"]
    made, _ = choices(StreamingLlm(sink=3, recent=4), steps)
    assert np.flatnonzero(made[-1].kept[0]).tolist() == [0, 1, 2]


@pytest.mark.parametrize("decay", [1.0, 0.7])
def test_sir_llm_is_a_cache_that_drops_what_did_not_surprise(decay):
    steps, cache, position = stream(9), [], 0
    made, _ = choices(SirLlm(start=2, budget=15, decay=decay), steps)
    for step, choice in zip(steps, made, strict=True):
        if step.stage == "question":
            cache = [(p, s * decay) for p, s in cache]
        n = len(step.k)
        if len(cache) + n > 17:
            rest = sorted((e for e in cache if e[0] >= 2), key=lambda e: (-e[1], -e[0]))
            cache = sorted([e for e in cache if e[0] < 2] + rest[: max(15 - n, 0)])
        assert np.flatnonzero(choice.kept[1]).tolist() == [p for p, _ in cache]
        for score in step.surprise:
            cache.append((position, math.inf if position == 0 else score))
            position += 1


def test_duo_attention_streams_the_smallest_gates():
    policy = DuoAttention(np.array([0.5, 0.1, 0.9, 0.1]), sparsity=0.75, sink=1, recent=2)
    k = np.zeros((1, 4, 2), np.float32)
    kept = policy.choose(Step(stage="answer", q=k, k=k, v=k), np.zeros((6, 4, 2))).kept
    few = [True, False, False, False, True, True]
    assert kept.tolist() == [few, few, [True] * 6, few]


def test_rekv_takes_the_frames_with_the_largest_products():
    steps = stream(10)
    made, _ = choices(ReKv(frames=3, initial=2), steps)
    position, blocks, text = 0, [], []
    for step, choice in zip(steps, made, strict=True):
        query = step.q.astype(np.float64).mean(axis=0)
        scores = [
            sum(query[h] @ k.astype(np.float64).mean(axis=0)[h // GROUP] for h in range(HEADS))
            for _, k in blocks
        ]
        best = sorted(range(len(blocks)), key=lambda b: -scores[b])[:3]
        frames = {t for b in best for t in blocks[b][0]}
        first = {t for t in (0, 1) if t < position}
        assert set(np.flatnonzero(choice.kept[0])) == frames | first | set(text)
        assert set(np.flatnonzero(choice.fetched[1])) == frames - first - set(text)
        tokens = range(position, position + len(step.k))
        if step.stage == "frame":
            blocks.append((tokens, step.k))
        else:
            text += tokens
        position += len(step.k)


def test_infllm_against_a_replay_of_the_whole_history():
    initial, local, size, top, reps, held = 3, 9, 4, 2, 2, 3
    steps = stream(11)
    policy = InfLlm(
        initial=initial, local=local, block=size, top=top, representatives=reps, cached_blocks=held
    )
    made, _ = choices(policy, steps)
    keys, received, blocks, lru = [], [], [], []
    for step, choice in zip(steps, made, strict=True):
        first = initial + size * len(blocks)  # of the window
        query = step.q.astype(np.float64).mean(axis=0)
        scores = [sum(query[h] @ b[h // GROUP] for h in range(HEADS)) for b in blocks]
        best = sorted(range(len(blocks)), key=lambda b: -scores[b])[:top]
        tokens = {b: set(range(initial + b * size, initial + (b + 1) * size)) for b in best}
        expected = {t for t in range(len(keys)) if t < initial or t >= first}
        assert set(np.flatnonzero(choice.kept[0])) == expected.union(*tokens.values())
        new = [tokens[b] for b in best if b not in lru]
        assert set(np.flatnonzero(choice.fetched[1])) == set().union(*new)
        for b in reversed(best):
            lru = [x for x in lru if x != b] + [b]
        lru = lru[-held:]
        start = len(keys)
        keys += list(step.k.astype(np.float64))
        received += [np.zeros(KV_HEADS) for _ in step.k]
        # as InfLlm has it, the window begins with the tokens of this step if none came before
        window = first if start >= initial else start
        for t in range(len(step.k)):
            for h in range(HEADS):
                seen = range(window, start + t + 1)
                weights = [math.exp(step.q[t, h] @ keys[j][h // GROUP] / DIM**0.5) for j in seen]
                for j, weight in zip(seen, weights, strict=True):
                    received[j][h // GROUP] += weight / sum(weights)
        while len(keys) - (initial + size * len(blocks)) >= local + size:
            lot = range(initial + size * len(blocks), initial + size * (len(blocks) + 1))
            blocks.append([
                np.mean([
                    keys[j][g] for j in sorted(lot, key=lambda j: -received[j][g])[:reps]
                ], axis=0)
                for g in range(KV_HEADS)
            ])  # fmt: skip
    assert len(blocks) > 15


def test_all_columns_give_all_scores():
    rng = np.random.default_rng(12)
    q = rng.standard_normal((30, HEADS, DIM)).astype(np.float32)
    k = rng.standard_normal((KV_HEADS, 20, DIM)).astype(np.float32)
    columns = skewed_columns(q, KV_HEADS, 1.0)
    assert columns.shape == (KV_HEADS, DIM, DIM)
    for h in range(HEADS):
        turned = columns[h // GROUP]
        assert np.allclose(turned.T @ turned, np.eye(DIM), atol=1e-5)
        partial = (q[:, h] @ turned) @ (k[h // GROUP] @ turned).T
        assert np.allclose(partial, q[:, h] @ k[h // GROUP].T, atol=1e-4)
    # queries along one direction need one column
    q = np.outer(rng.standard_normal(30), np.eye(DIM)[3]).astype(np.float32)[:, None, :]
    assert np.abs(skewed_columns(q, 1, 0.1)[0, :, 0]).tolist() == pytest.approx(
        np.eye(DIM)[3].tolist(), abs=1e-5
    )


def test_infinigen_generates_from_guessed_scores():
    steps = stream(13)
    columns = skewed_columns(np.concatenate([s.q for s in steps]), KV_HEADS, 0.4)
    wrong = np.random.default_rng(0).standard_normal((1, HEADS, DIM)).astype(np.float32)
    steps = [
        Step(stage=s.stage, q=s.q, k=s.k, v=s.v, guess=wrong if s.stage == "answer" else None)
        for s in steps
    ]
    for alpha, budget in ((1.0, 0.5), (4.0, 0.1)):
        made, _ = choices(InfiniGen(columns, alpha=alpha, budget=budget), steps)
        cache = KvCache()
        for step, choice in zip(steps, made, strict=True):
            if step.stage == "answer":
                rows = [
                    cache.keys[:, h // GROUP] @ columns[h // GROUP]
                    @ (columns[h // GROUP].T @ wrong[0, h]) / DIM**0.5
                    for h in range(HEADS)
                ]  # fmt: skip
                near = [sum(r > max(row) - alpha for r in row) for row in rows]
                count = min(math.ceil(sum(near) / HEADS), int(budget * cache.tokens))
                for g in range(KV_HEADS):
                    wanted = set()
                    for row in rows[g * GROUP : (g + 1) * GROUP]:
                        wanted |= set(sorted(range(len(row)), key=lambda j: -row[j])[:count])
                    assert set(np.flatnonzero(choice.kept[g])) == wanted
            else:
                assert choice.kept.all()
            cache.append(step)


def test_infinigen_p_caps_prefill():
    steps = stream(14)
    columns = skewed_columns(np.concatenate([s.q for s in steps]), KV_HEADS, 1.0)
    made, _ = choices(InfiniGen(columns, prefill_top_k=4, prefill_cap=0.3), steps)
    cache, capped = KvCache(), 0
    for step, choice in zip(steps, made, strict=True):
        if step.stage != "answer" and cache.tokens:
            for g in range(KV_HEADS):
                heads = step.q[:, g * GROUP : (g + 1) * GROUP].reshape(-1, DIM)
                rows = (heads @ cache.keys[:, g].T).tolist()
                wanted = set()
                for row in rows:
                    wanted |= set(sorted(range(len(row)), key=lambda j: -row[j])[:4])
                size = int(0.3 * cache.tokens)
                capped += len(wanted) > size
                best = [max(column) for column in zip(*rows, strict=True)]
                expected = sorted(wanted, key=lambda j: -best[j])[:size]
                assert set(np.flatnonzero(choice.kept[g])) == set(expected)
        cache.append(step)
    assert capped > 5


def test_resv_attends_to_chosen_and_recent_and_fetches_the_chosen_old():
    steps, policy = stream(15), resv_policy(resident=10)
    alone = resv_policy().resv
    made, _ = choices(policy, steps)
    for step, choice in zip(steps, made, strict=True):
        chosen = alone.select(step.q).tokens
        cached = chosen.shape[1]
        recent = np.arange(cached) >= cached - 10
        assert (choice.kept == (chosen | recent)).all()
        assert (choice.fetched == (chosen & ~recent)).all()
        alone.append(step.k)
    assert choice.work.macs == 16 * 32 + HEADS * DIM * choice_clusters(policy, steps[-1])


def choice_clusters(policy, last):
    """Clusters before the last step."""
    members = policy.resv.table.members
    return len(set(members[: len(members) - len(last.k)].tolist()))


def test_a_ratio_of_one_is_full_attention():
    assert {o.error for o in run_policy(resv_policy(ratio=1.0), stream(16))} == {0.0}


def broken(**changes):
    a = np.ones((2, 2, 4), np.float32)
    return Step(**({"stage": "frame", "q": a, "k": a, "v": a} | changes))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: broken(stage="talk"), "'talk'; one of frame, question, answer"),
        (lambda: broken(v=np.ones((1, 2, 4))), r"v \(1, 2, 4\)"),
        (lambda: broken(guess=np.ones((1, 2, 4))), r"guess \(1, 2, 4\)"),
        (lambda: broken(surprise=np.ones(3)), r"surprise \(3,\)"),
        (lambda: SirLlm().append(broken()), "no surprise"),
        (lambda: SirLlm(decay=2), "decay = 2"),
        (lambda: StreamingLlm(sink=-1), "sink = -1"),
        (lambda: DuoAttention(np.ones(2), sparsity=2), "sparsity 2"),
        (lambda: DuoAttention(np.ones(3)).choose(broken(), np.ones((0, 2, 4))), "3 gates for 2"),
        (lambda: InfLlm(representatives=0), "representatives 0"),
        (lambda: InfLlm(cached_blocks=3), "at least top = 16"),
        (lambda: ReKv(frames=-1), "frames = -1"),
        (lambda: InfiniGen(np.ones(3)), r"columns \(3,\)"),
        (lambda: InfiniGen(np.ones((1, 2, 3)), prefill_top_k=-1), "prefill_top_k = -1"),
        (lambda: InfiniGen(np.ones((1, 2, 3))).choose(broken(), np.ones((0, 2, 4))), "keys"),
        (lambda: skewed_columns(np.ones((2, 3, 4)), 2), "2 KV heads"),
        (lambda: resv_policy(resident=-1), "resident = -1"),
        (lambda: run_policy(Full(), [broken(), stream(0)[0]]), "cache: keys"),
    ],
)
def test_refusals_are_one_line(call, message):
    with pytest.raises(InputError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
