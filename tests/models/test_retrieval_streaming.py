"""The streaming workload: passes in order, growth of the cache, bytes and work by hand."""

from collections import Counter

import pytest

from headrace.errors import InputError
from headrace.models.network import load_network
from headrace.models.streaming import Pass, VideoDialogue


def test_the_average_dialogue():
    passes = list(VideoDialogue(history=40_000).passes())
    assert Counter(p.stage for p in passes) == {"frame": 26, "question": 1, "answer": 39}
    assert passes[0] == Pass(stage="frame", tokens=10, cached=40_000)
    assert passes[25] == Pass(stage="frame", tokens=10, cached=40_250)
    assert passes[26] == Pass(stage="question", tokens=25, cached=40_260)
    assert passes[27] == Pass(stage="answer", tokens=1, cached=40_285)
    assert passes[-1] == Pass(stage="answer", tokens=1, cached=40_323)
    assert VideoDialogue(history=40_000).cached_after == 40_324


@pytest.mark.parametrize(
    ("tokens", "gigabytes"),
    [(1000, 0.131), (5000, 0.655), (10_000, 1.31), (20_000, 2.62), (40_000, 5.24)],
)
def test_published_sizes_of_the_cache(tokens, gigabytes):
    assert VideoDialogue().kv_bytes(tokens) / 1e9 == pytest.approx(gigabytes, rel=4e-3)
    assert VideoDialogue(batch=8).kv_bytes(tokens) == 8 * tokens * 131_072


def test_published_sizes_of_the_weights():
    llama = VideoDialogue().network
    layer = sum(op.weights for op in llama.layer_operators(7) if len(op.weight_shape) == 2)
    assert round(layer / 1e6, 1) == 218.1
    layers = [op for op in llama.operators if op.layer is not None]
    assert round(sum(op.weight_bytes() for op in layers) / 1e9, 2) == 13.96
    assert round(llama.operator("lm_head").weight_bytes() / 1e9, 2) == 1.05


def test_work_of_a_frame_by_hand():
    dialogue = VideoDialogue(history=100, batch=4)
    frame = next(iter(dialogue.passes()))
    linear = 2 * 4096 * 4096 + 2 * 4096 * 1024 + 3 * 4096 * 14336
    pairs = 10 * 100 + 55
    one = 32 * (10 * linear + 2 * 4096 * pairs) + 4096 * 128_256
    assert dialogue.macs(frame) == 4 * one
    assert dialogue.kv_write_bytes(frame) == 4 * 10 * 131_072


def test_parts_may_be_missing():
    assert list(VideoDialogue(frames=0, question_tokens=0, answer_tokens=0).passes()) == []
    only = list(VideoDialogue(frames=0, answer_tokens=2, question_tokens=3).passes())
    assert [(p.stage, p.tokens, p.cached) for p in only] == [
        ("question", 3, 0), ("answer", 1, 3), ("answer", 1, 4)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frames": -1}, "frames = -1; an integer from 0"),
        ({"frame_tokens": 0}, "frame_tokens = 0; an integer from 1"),
        ({"batch": True}, "batch = True"),
        ({"history": 1.5}, "history = 1.5"),
        ({"network": load_network("vit-tiny")}, "vit-tiny: keeps no keys"),
    ],
)
def test_refusals_are_one_line(changes, message):
    with pytest.raises(InputError, match=message) as caught:
        VideoDialogue(**changes)
    assert "\n" not in str(caught.value)


def test_vision_tower():
    """SigLIP-L on 577 positions: 24 layers of 12 x 1024^2 weights, scores and values beside."""
    dialogue = VideoDialogue(batch=2)
    layer = 577 * (12 * 1024**2 + 2 * 577 * 1024)
    embedding, projector = 576 * 1024 * 768, 10 * (1024 * 4096 + 4096**2)
    assert dialogue.vision_macs() == 2 * (24 * layer + embedding + projector)
    with pytest.raises(InputError, match="reads no images"):
        VideoDialogue(vision=dialogue.network)
