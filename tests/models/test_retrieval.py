"""ReSV: bits against brute force, the paper's worked examples, bucketed holds exact."""

import math
from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from headrace.errors import InputError
from headrace.models.kernels.retrieval import (
    TRANSFORMS,
    HashClusterTable,
    Resv,
    align_scores,
    draw_hyperplanes,
    exp_bfloat16,
    hamming_distance,
    hash_keys,
    round_to_bfloat16,
    score_clusters,
    select_bucketed,
    select_exact,
    transform_scores,
)

BFLOATS = (np.arange(2**16, dtype=np.uint32) << np.uint32(16)).view(np.float32)
FINITE = np.sort(BFLOATS[np.isfinite(BFLOATS)])


def nearest_bfloat16(x):
    """Nearest finite bfloat16 of one number by search, ties to the even mantissa."""
    exact = x if isinstance(x, Fraction) else Fraction(float(x))
    at = int(np.searchsorted(FINITE, float(x)))
    near = FINITE[max(at - 2, 0) : at + 2]
    gaps = [abs(Fraction(float(c)) - exact) for c in near]
    ties = [c for c, gap in zip(near, gaps, strict=True) if gap == min(gaps)]
    return min(ties, key=lambda c: int(c.view(np.uint32) >> np.uint32(16)) & 1)


def walk(scores, counts, ratio):
    """Eq 1-3 as they are printed, for one row; indices in the order of the walk."""
    share = Fraction(round(ratio * 65536), 65536)
    limit = share * sum(int(s) * int(c) for s, c in zip(scores, counts, strict=True))
    running, chosen = 0, []
    for j in sorted(range(len(scores)), key=lambda j: (-int(scores[j]), j)):
        running += int(scores[j]) * int(counts[j])
        chosen.append(j)
        if running > limit:
            break
    return chosen


def walk_buckets(scores, counts, ratio, buckets):
    """The early exit of one row with every bucket's bounds as fractions."""
    share = Fraction(round(ratio * 65536), 65536)
    limit = share * sum(int(s) * int(c) for s, c in zip(scores, counts, strict=True))
    low, width = int(min(scores)), int(max(scores)) - int(min(scores))
    running, chosen = 0, set()
    for b in reversed(range(buckets)):
        lower = low + Fraction(b * width, buckets)
        new = {j for j, s in enumerate(scores) if int(s) >= lower} - chosen
        running += sum(int(scores[j]) * int(counts[j]) for j in new)
        chosen |= new
        if running > limit:
            return chosen, buckets - b
    return chosen, buckets


def test_rounding_is_to_the_nearest_ties_to_even():
    rng = np.random.default_rng(1)
    x = np.concatenate([
        rng.standard_normal(300), rng.standard_normal(60) * 1e-39, rng.standard_normal(60) * 1e37,
        (FINITE[1000:1060].astype(np.float64) + FINITE[1001:1061]) / 2, [0.0, -0.0],
    ]).astype(np.float32)  # fmt: skip
    expected = np.array([nearest_bfloat16(v) for v in x])
    assert (round_to_bfloat16(x) == expected).all()
    assert np.signbit(round_to_bfloat16(np.array([0.0, -0.0], np.float32))).tolist() == [
        False,
        True,
    ]
    special = round_to_bfloat16(np.array([np.inf, -np.inf, 3.4e38, np.nan], np.float32))
    assert special[:3].tolist() == [np.inf, -np.inf, np.inf]
    assert np.isnan(special[3])


def test_exponentials_are_correctly_rounded():
    x = -FINITE[(FINITE >= 0) & (FINITE < 100)][::37]
    got = exp_bfloat16(x)
    with localcontext(prec=60):
        for value, result in zip(x, got, strict=True):
            exact = Fraction(Decimal(float(value)).exp())
            at = int(np.searchsorted(FINITE, result))
            near = [Fraction(float(c)) for c in FINITE[at - 1 : at + 2]]
            gap = abs(Fraction(float(result)) - exact)
            assert gap == min(abs(c - exact) for c in near), value
    assert exp_bfloat16(np.array([0.0, -0.0, -np.inf], np.float32)).tolist() == [1, 1, 0]


def test_hash_bits_are_signs_of_projections():
    rng = np.random.default_rng(2)
    planes = draw_hyperplanes(24, 32, rng)
    keys = round_to_bfloat16(rng.standard_normal((50, 24)))
    codes = hash_keys(keys, planes)
    for t in range(50):
        for i in range(32):
            exact = sum(
                Fraction(float(a)) * Fraction(float(b))
                for a, b in zip(keys[t], planes[:, i], strict=True)
            )
            if abs(exact) > 1e-4:  # nearer to the plane, float32 sums may differ by order
                assert (int(codes[t]) >> i & 1) == (exact > 0)
    zero = hash_keys(np.zeros((1, 24), np.float32), planes)
    assert zero.tolist() == [0]  # a key on the plane has bit 0
    one = np.eye(3, dtype=np.float32)
    assert hash_keys(np.array([[1, -1, 2]], np.float32), one).tolist() == [0b101]


@pytest.mark.parametrize("angle", [0.2, 0.7, 1.4])
def test_codes_differ_in_proportion_to_the_angle(angle):
    # a random plane lies between two keys with probability angle / pi
    rng = np.random.default_rng(6)
    a, b = np.linalg.qr(rng.standard_normal((64, 2)))[0].T
    keys = np.stack([a, math.cos(angle) * a + math.sin(angle) * b]).astype(np.float32)
    distances = []
    for _ in range(400):
        first, second = hash_keys(keys, draw_hyperplanes(64, 32, rng))
        distances.append(bin(int(first) ^ int(second)).count("1"))
    share = angle / math.pi
    deviation = math.sqrt(32 * share * (1 - share) / 400)
    assert abs(np.mean(distances) - 32 * share) < 4 * deviation


def test_hamming_distance():
    rng = np.random.default_rng(3)
    a, b = rng.integers(0, 2**32, (2, 1000), np.uint32)
    assert hamming_distance(a, b).tolist() == [
        bin(int(x) ^ int(y)).count("1") for x, y in zip(a, b, strict=True)
    ]
    assert hamming_distance(a[:, None], b[None, :3]).shape == (1000, 3)


@pytest.mark.parametrize("rehash", [False, True])
def test_clusters_against_brute_force(rehash):
    rng = np.random.default_rng(4)
    planes = draw_hyperplanes(2 * 8, 32, rng)
    centres = rng.standard_normal((9, 2, 8))
    table = HashClusterTable(2, 8, planes, rehash=rehash)
    codes, means, counts, members = [], [], [], []
    for _ in range(30):
        keys = centres[rng.integers(0, 9, 7)] + rng.standard_normal((7, 2, 8)) * 0.25
        keys = round_to_bfloat16(keys)
        joined, moved = [], set()
        for key, code in zip(keys, hash_keys(keys.reshape(7, 16), planes), strict=True):
            gaps = [bin(int(code) ^ c).count("1") for c in codes]
            if gaps and min(gaps) < 7:
                c = gaps.index(min(gaps))
                counts[c] += 1
                pairs = zip(means[c].ravel().tolist(), key.ravel().tolist(), strict=True)
                exact = [
                    ((counts[c] - 1) * Fraction(m) + Fraction(k)) / counts[c] for m, k in pairs
                ]
                means[c] = np.array([nearest_bfloat16(x) for x in exact]).reshape(2, 8)
            else:
                c = len(codes)
                codes.append(int(code)), means.append(key), counts.append(1)
            moved.add(c)
            joined.append(c)
        if rehash:
            for c in moved:
                codes[c] = int(hash_keys(means[c].reshape(1, 16), planes)[0])
        assert table.append(keys).tolist() == joined
        members += joined
    assert table.members.tolist() == members
    assert table.counts.tolist() == counts
    assert table.codes.tolist() == codes
    assert (table.means.swapaxes(0, 1) == np.array(means)).all()
    assert 9 <= table.clusters < 210
    assert table.table_bytes == table.clusters * (2 * 16 + 8) + 4 * 210


def test_joining_needs_a_distance_below_the_threshold():
    table = HashClusterTable(1, 1, np.ones((1, 32), np.float32))
    key = np.ones((1, 1, 1), np.float32)
    codes = [0, 0b1111111, 0b111111, 0xFFFFFFFF, 0xFFFFFFF0]
    # 7 ones are too far from 0; 6 ones are at 1 from the second, at 6 from the first
    joined = [int(table.append_hashed(key, np.array([c], np.uint32))[0]) for c in codes]
    assert joined == [0, 1, 1, 2, 2]


def test_the_table_takes_1_67_percent():
    table = HashClusterTable(8, 128, np.ones((1024, 32), np.float32))
    table.append_hashed(np.ones((32, 8, 128), np.float32), np.zeros(32, np.uint32))
    assert table.clusters == 1
    assert table.table_bytes == 2184
    assert round(100 * table.table_bytes / (32 * 4096), 3) == 1.666


def test_worked_example_of_the_weighted_sum():
    scores = np.array([3, 8, 1, 9, 7], np.int16)
    counts = np.array([4, 3, 2, 4, 3], np.uint16)  # 36 + 24 + 21 + 12 + 2 = 95, Th = 76
    chosen = select_exact(scores, counts, 0.8)
    assert chosen.mask.tolist() == [False, True, False, True, True]  # 36, 60, 81 > 76
    assert chosen.visited == 3


def test_worked_example_of_the_early_exit():
    # Sum 1000, Th 800; buckets of 2 over 0..40: the 15th holds 28..30 and completes 802.
    scores = np.array([40, 36, 33, 29, 15, 3, 0], np.int16)
    counts = np.array([5, 5, 4, 10, 12, 6, 1], np.uint16)
    assert int(scores.astype(int) @ counts) == 1000
    assert np.cumsum(scores.astype(int) * counts)[:4].tolist() == [200, 380, 512, 802]
    chosen = select_bucketed(scores, counts, 0.8, 20)
    assert chosen.visited == 6  # 20, 19, 18, 17, 16, 15
    assert chosen.mask.tolist() == [True] * 4 + [False] * 3


def test_the_sum_must_exceed_the_threshold():
    scores, counts = np.array([4, 2, 2], np.int16), np.array([1, 1, 1], np.uint16)
    assert select_exact(scores, counts, 0.5).visited == 2  # 4 > 4 does not hold
    assert select_exact(scores, counts, 1.0).mask.all()  # never exceeded: all


@st.composite
def rows(draw):
    clusters, low = draw(st.integers(1, 40)), draw(st.sampled_from([-32768, -40, 0]))
    high = draw(st.sampled_from([32767, 40, 3]))
    scores = draw(arrays(np.int16, (3, clusters), elements=st.integers(low, high)))
    counts = draw(arrays(np.uint16, clusters, elements=st.integers(1, 65535) | st.integers(1, 9)))
    return scores, counts, draw(st.floats(0, 1)), draw(st.sampled_from([1, 2, 7, 16, 20, 32768]))


@settings(max_examples=300, deadline=None)
@given(rows())
def test_both_walks_against_brute_force_and_bucketed_holds_exact(row):
    scores, counts, ratio, buckets = row
    exact = select_exact(scores, counts, ratio)
    bucketed = select_bucketed(scores, counts, ratio, buckets)
    for i, line in enumerate(scores):
        chosen = walk(line, counts, ratio)
        assert np.flatnonzero(exact.mask[i]).tolist() == sorted(chosen)
        assert exact.visited[i] == len(chosen)
        if buckets <= 20:
            taken, visited = walk_buckets(line, counts, ratio, buckets)
            assert set(np.flatnonzero(bucketed.mask[i]).tolist()) == taken
            assert bucketed.visited[i] == visited
    assert (bucketed.mask | ~exact.mask).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(TRANSFORMS), st.sampled_from([4, 16, 20, 64]))
def test_bucketed_holds_exact_on_scores_of_keys(seed, transform, buckets):
    rng = np.random.default_rng(seed)
    scores = round_to_bfloat16(rng.standard_normal((20, 90)) * rng.choice([0.01, 1, 30]))
    counts = rng.geometric(1 / 21, 90).astype(np.uint16)
    aligned = align_scores(transform_scores(scores, transform))
    exact = select_exact(aligned, counts, 0.3)
    assert (select_bucketed(aligned, counts, 0.3, buckets).mask | ~exact.mask).all()


def test_transforms_of_a_row():
    row = np.array([[1.0, -2.0, 0.5, 4.0]], np.float32)
    assert transform_scores(row, "raw").tolist() == row.tolist()
    assert transform_scores(row, "relu").tolist() == [[1, 0, 0.5, 4]]
    assert transform_scores(row, "shift").tolist() == [[3, 0, 2.5, 6]]
    # e^-3, e^-6, e^-3.5 as bfloat16: 8 bits of mantissa
    assert transform_scores(row, "exp").tolist() == [[204 / 4096, 162 / 65536, 247 / 8192, 1]]


def test_alignment_keeps_what_16_bits_hold():
    row = np.array([[1.5, -1.0, 2**-7, 129 / 128 * 2**-9, -(2.0**-20), 0]], np.float32)
    assert align_scores(row).tolist() == [[24576, -16384, 128, 32, 0, 0]]
    tiny, huge = np.float32(2.0**-130), np.float32(2.0**127)
    assert align_scores(np.array([[tiny, -tiny / 2]])).tolist() == [[16384, -8192]]
    assert align_scores(np.array([[huge, 1.0]], np.float32)).tolist() == [[16384, 0]]
    assert align_scores(np.zeros((2, 3), np.float32)).tolist() == [[0] * 3] * 2


@pytest.mark.parametrize("buckets", [0, 16])
def test_a_stream_chooses_per_kv_head_what_any_of_its_rows_needs(buckets):
    rng = np.random.default_rng(5)
    planes = draw_hyperplanes(2 * 16, 32, rng)
    resv = Resv(HashClusterTable(2, 16, planes), buckets=buckets)
    centres = rng.standard_normal((12, 2, 16))
    for _ in range(20):
        resv.append(centres[rng.integers(0, 12, 6)] + rng.standard_normal((6, 2, 16)) * 0.3)
    q = rng.standard_normal((3, 6, 16)).astype(np.float32)
    got = resv.select(q)
    table, expected = resv.table, np.zeros((2, resv.table.clusters), bool)
    for head in range(6):
        for token in range(3):
            mean = table.means[head // 3].astype(np.float64)
            exact = mean @ round_to_bfloat16(q[token, head]).astype(np.float64) / 4
            scores = np.array([nearest_bfloat16(np.float32(s)) for s in exact])
            row = score_clusters(q, table.means)[head // 3, head % 3 * 3 + token]
            assert row.tolist() == scores.tolist()
            aligned = align_scores(transform_scores(row, "exp"))
            if buckets:
                chosen = walk_buckets(aligned, table.counts, 0.3, buckets)[0]
            else:
                chosen = walk(aligned, table.counts, 0.3)
            expected[head // 3, list(chosen)] = True
    assert (got.clusters == expected).all()
    assert (got.tokens == expected[:, table.members]).all()
    assert 0 < got.ratio < 1


def test_nothing_is_cached_before_the_first_frame():
    resv = Resv(HashClusterTable(1, 4, np.ones((4, 8), np.float32)), buckets=4)
    got = resv.select(np.ones((2, 3, 4), np.float32))
    assert got.tokens.shape == (1, 0)
    assert got.ratio == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: draw_hyperplanes(8, 33, np.random.default_rng(0)), "33 hyperplanes"),
        (lambda: hash_keys(np.ones((2, 3)), np.ones((4, 5))), r"keys \(2, 3\), planes \(4, 5\)"),
        (lambda: HashClusterTable(2, 3, np.ones((5, 4))), r"planes \(5, 4\)"),
        (lambda: HashClusterTable(1, 2, np.ones((2, 4))).append(np.ones((1, 2))), r"\(1, 2\)"),
        (
            lambda: HashClusterTable(1, 1, np.ones((1, 4))).append(np.ones((65536, 1, 1))),
            "65536 tokens; at most 65535",
        ),
        (lambda: transform_scores(np.ones(3), "softmax"), "'softmax'; one of raw, relu"),
        (lambda: align_scores(np.array([np.nan, 1], np.float32)), "finite"),
        (lambda: select_exact(np.ones(3), np.ones(3), 0.3), "float64"),
        (lambda: select_exact(np.ones(3, "i2"), np.ones(2, "u2"), 0.3), r"counts \(2,\)"),
        (lambda: select_exact(np.ones(3, "i2"), np.ones(3, "u2"), 1.5), "ratio = 1.5"),
        (lambda: select_bucketed(np.ones(3, "i2"), np.ones(3, "u2"), 0.3, 0), "buckets = 0"),
        (lambda: Resv(HashClusterTable(1, 1, np.ones((1, 4))), buckets=-1), "-1 buckets"),
        (lambda: score_clusters(np.ones((1, 3, 4)), np.ones((2, 5, 4))), r"q \(1, 3, 4\)"),
    ],
)
def test_refusals_are_one_line(call, message):
    with pytest.raises(InputError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
