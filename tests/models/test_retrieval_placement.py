"""Places of keys and values: a worked example, and what must hold of any stream of tokens."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.errors import InputError
from headrace.models.kernels.retrieval import ClusterRead, KvPlacement, TokenWrite


def test_a_worked_example():
    """Two resident tokens, extents of two: cluster 0 has extents 0 and 2, cluster 1 extent 1."""
    placement = KvPlacement(resident=2, extent_tokens=2, extents=3)
    assert placement.append([0, 0, 1]) == [
        TokenWrite(slot=0),
        TokenWrite(slot=1),
        TokenWrite(slot=0, place=0),
    ]
    assert placement.append([0, 0, 1, 1]) == [
        TokenWrite(slot=1, place=1),
        TokenWrite(slot=0, place=2),  # cluster 1
        TokenWrite(slot=1, place=4),
        TokenWrite(slot=0, place=5),
    ]
    assert placement.fetch([0, 1]) == [
        ClusterRead(place=0, tokens=2, staging=0),
        ClusterRead(place=4, tokens=2, staging=2),
        ClusterRead(place=2, tokens=1, staging=4),
    ]
    assert placement.append([9, 9, 9]) == [
        TokenWrite(slot=1, place=3),
        TokenWrite(slot=0, lost=True),  # cluster 1 is full, and no extent is left
        TokenWrite(slot=1, lost=True),  # cluster 9 has none
    ]
    assert placement.fetch([9]) == []


def test_adjacent_extents_are_one_run_and_layers_lie_apart():
    placement = KvPlacement(resident=1, extent_tokens=4, extents=8, layer=3)
    writes = placement.append([5] * 11)
    assert {write.slot for write in writes} == {3}
    assert placement.fetch([5]) == [ClusterRead(place=3 * 8 * 4, tokens=10, staging=0)]


streams = st.lists(st.lists(st.integers(0, 6), max_size=25), max_size=6)


@settings(max_examples=150, deadline=None)
@given(streams, st.integers(1, 9), st.integers(1, 5), st.integers(1, 12), st.integers(0, 2))
def test_every_token_is_in_one_place(frames, resident, extent_tokens, extents, layer):
    """Replay the moves on memories that hold token numbers, and read every cluster back."""
    placement = KvPlacement(
        resident=resident, extent_tokens=extent_tokens, extents=extents, layer=layer
    )
    tokens = [cluster for frame in frames for cluster in frame]
    device, behind, lost = {}, {}, set()
    writes = [write for frame in frames for write in placement.append(frame)]
    for token, write in enumerate(writes):
        leaving = device.pop(write.slot, None)
        assert (leaving is None) == (write.place is None and not write.lost)
        if write.place is not None:
            assert write.place not in behind
            behind[write.place] = leaving
        elif write.lost:
            lost.add(leaving)
        device[write.slot] = token
    newest = range(max(0, len(tokens) - resident), len(tokens))
    assert sorted(device.values()) == list(newest)
    size = extents * extent_tokens
    assert set(behind) <= set(range(layer * size, (layer + 1) * size))
    assert len(lost) + len(behind) + len(device) == len(tokens)

    for cluster in range(7):
        kept = [t for t in range(len(tokens) - len(device)) if tokens[t] == cluster]
        kept = [t for t in kept if t not in lost]
        runs = placement.fetch([cluster])
        places = [run.place + i for run in runs for i in range(run.tokens)]
        assert [behind[place] for place in places] == kept
        assert [run.staging for run in runs] == [
            sum(run.tokens for run in runs[:n]) for n in range(len(runs))
        ]
        assert all(a.place + a.tokens != b.place for a, b in pairwise(runs))
        assert len({place // extent_tokens for place in places}) == -(-len(kept) // extent_tokens)


@settings(max_examples=50, deadline=None)
@given(streams, st.integers(1, 9))
def test_frames_do_not_matter(frames, resident):
    """Tokens have the same places however they are cut into frames."""
    one, other = (KvPlacement(resident=resident, extent_tokens=2, extents=9) for _ in range(2))
    cut = [write for frame in frames for write in one.append(frame)]
    assert other.append(c for frame in frames for c in frame) == cut


@pytest.mark.parametrize("change", [{"resident": 0}, {"extent_tokens": 0}, {"layer": -1}])
def test_wrong_sizes_are_refused(change):
    with pytest.raises(InputError, match="at least 1, 1, 1 and 0 are needed"):
        KvPlacement(**{"resident": 4, "extents": 2, **change})
