"""Traces of a dialogue for a point: its KV policy run on synthetic layers."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from headrace.arch.point import Point
from headrace.errors import InputError
from headrace.models.kernels.retrieval import (
    MAX_TOKENS,
    HashClusterTable,
    Resv,
    draw_hyperplanes,
)
from headrace.models.kv_policies import (
    FITTED,
    Chosen,
    DialogueLayer,
    DuoAttention,
    Full,
    InfiniGen,
    InfLlm,
    KvPolicy,
    ReKv,
    ResvPolicy,
    SirLlm,
    StepTrace,
    StreamingLlm,
    SyntheticVideo,
    dialogue_layers,
    place_choices,
    skewed_columns,
)
from headrace.models.streaming import VideoDialogue

__all__ = ["LAYERS", "TRACE_AXES", "DialogueTraces", "counted_tokens", "policy_of", "traces_of"]

LAYERS = 4
"""Synthetic layers that are run, each in place of a share of the network's."""

TRACE_AXES = (
    "frame_tokens",
    "policy",
    "wtu_buckets",
    "ratio_percent",
    "cache_tokens",
    "resident_tokens",
    "layout",
)
"""Axes on which traces depend; what is slowest to compute changes with the first ones."""

REKV_SHARE = 0.584
"""Share of the frames that ReKV fetches, at which it keeps its accuracy (table II)."""

INFINIGEN_TOP_K = 512
"""Tokens that InfiniGenP wants per query row; the cap of one half then holds (table II: 50.8 %)."""

_BITS = 32
_WARM_FRAMES = 4
_SAMPLE_SEED = 1 << 16  # InfiniGen learns its columns from another video


@dataclass(frozen=True)
class DialogueTraces:
    """Traces of every pass, for every layer of the network.

    Attributes
    ----------
    offloads : bool
        Whether the policy writes tokens that leave device memory over the link.
    stages : dict of str to list of (int, list of StepTrace)
        Per stage, passes, each with the number of passes it stands for and a trace per layer.
    """

    offloads: bool
    stages: dict[str, list[tuple[int, list[StepTrace]]]]

    def passes(self, stage: str) -> Sequence[tuple[int, list[StepTrace]]]:
        """Return the passes of a stage; none if the dialogue has none."""
        return self.stages.get(stage, [])

    def kept_share(self, stage: str) -> float:
        """Return the share of cached tokens attended to, mean over passes, layers and heads."""
        shares = [
            float(np.mean(t.kept)) / t.cached
            for _, layers in self.passes(stage)
            for t in layers
            if t.cached
        ]
        return float(np.mean(shares)) if shares else 0.0


def traces_of(point: Point, dialogue: VideoDialogue, *, every_pass: bool) -> DialogueTraces:
    """Return the traces of a dialogue under the policy of a point; remembered.

    Parameters
    ----------
    point : Point
    dialogue : VideoDialogue
        Of its streams one is traced; the others are taken to be alike.
    every_pass : bool
        Trace all passes; else one frame in the middle of the video, the question and the first
        token of the answer, in place of all of their stage.
    """
    short = counted_tokens(point, dialogue)
    if short > MAX_TOKENS:
        raise InputError(
            f"{short} cached tokens: at most {MAX_TOKENS} are needed, counts have 16 bits"
        )
    choosing = _Choosing(policy=point.text("policy"))
    if choosing.policy == "resv":
        buckets, ratio = point.integer("wtu_buckets"), point.integer("ratio_percent")
        choosing = replace(choosing, buckets=buckets, ratio_percent=ratio)
    placing = _Placing(
        resident=point.integer("resident_tokens"),
        cache=point.integer("cache_tokens"),
        layout=point.text("layout"),
    )
    return _traces(replace(dialogue, batch=1), choosing, placing, every_pass)


def counted_tokens(point: Point, dialogue: VideoDialogue) -> int:
    """Return the tokens of a stream that ReSV's counts have to hold; 0 for other policies."""
    return dialogue.cached_after if point.text("policy") == "resv" else 0


@lru_cache(maxsize=64)
def policy_of(policy: str, dialogue: VideoDialogue) -> KvPolicy:
    """Return a policy of a point as it is before a dialogue, in the first of the layers."""
    return _factory(dialogue, policy)(0)


@dataclass(frozen=True, kw_only=True)
class _Choosing:
    """What choices depend on; of other policies than ReSV the last two are 0."""

    policy: str
    buckets: int = 0
    ratio_percent: int = 0


@dataclass(frozen=True, kw_only=True)
class _Placing:
    """Where the tokens are: what choices do not depend on."""

    resident: int
    cache: int
    layout: str


@lru_cache(maxsize=4096)
def _traces(
    dialogue: VideoDialogue, choosing: _Choosing, placing: _Placing, every_pass: bool
) -> DialogueTraces:
    run, weights = dialogue, {"frame": 1, "question": 1, "answer": 1}
    if not every_pass:
        warm = min(dialogue.frames, _WARM_FRAMES if placing.cache else 1)
        before = max(0, (dialogue.frames - warm) // 2)
        run = replace(
            dialogue,
            history=dialogue.history + before * dialogue.frame_tokens,
            frames=warm,
            answer_tokens=min(1, dialogue.answer_tokens),
        )
        weights |= {"frame": dialogue.frames, "answer": dialogue.answer_tokens}
    choose = _choices if every_pass else _few_choices
    by_layer = [
        place_choices(
            choices,
            layout=placing.layout,
            resident=placing.resident,
            cache=placing.cache,
            attend_resident=choosing.policy == "resv",
            layer=layer,
            stands_for=stands_for,
        )
        for layer, (stands_for, choices) in enumerate(choose(run, choosing))
    ]
    stages: dict[str, list[tuple[int, list[StepTrace]]]] = {}
    for each in zip(*by_layer, strict=True):
        layers = [trace for trace in each for _ in range(trace.stands_for)]
        passes = stages.setdefault(each[0].stage, [])
        if not every_pass:
            passes.clear()  # of frames that warm the cache up, the last one counts
        passes.append((weights[each[0].stage], layers))
    return DialogueTraces(policy_of(choosing.policy, dialogue).offloads, stages)


def _choices(run: VideoDialogue, choosing: _Choosing) -> list[tuple[int, list[Chosen]]]:
    """Return for each synthetic layer how many it stands for, and the choices of every pass."""
    if choosing.policy != "resv":
        layers = dialogue_layers(run, _factory(run, choosing.policy), layers=LAYERS)
    else:
        layers = (copy.deepcopy(layer) for layer in _resv_layers(run))
    found = []
    for each in layers:
        if isinstance(each.run.policy, ResvPolicy):
            resv = each.run.policy.resv
            resv.buckets, resv.ratio = choosing.buckets, choosing.ratio_percent / 100
        found.append((each.stands_for, each.choices(run.passes())))
    return found


_few_choices = lru_cache(maxsize=8)(_choices)
"""Those of the few passes of ``analytic`` are kept for other places of the same tokens."""


@lru_cache(maxsize=2)
def _resv_layers(run: VideoDialogue) -> list[DialogueLayer]:
    """Return the layers after the history, whose clusters are those of any threshold."""
    return list(dialogue_layers(run, _factory(run, "resv"), layers=LAYERS))


def _factory(dialogue: VideoDialogue, policy: str) -> Callable[[int], KvPolicy]:
    """Return what makes the policy of a layer; ReSV's threshold is set later."""
    net = dialogue.network
    frames = (dialogue.history + dialogue.frames * dialogue.frame_tokens) // dialogue.frame_tokens

    def resv(layer: int) -> KvPolicy:
        width = net.kv_heads * net.head_dim
        planes = draw_hyperplanes(width, _BITS, np.random.default_rng(layer))
        return ResvPolicy(Resv(HashClusterTable(net.kv_heads, net.head_dim, planes)))

    def infinigen(layer: int, top_k: int | None = None) -> KvPolicy:
        sample = SyntheticVideo(
            net,
            sharpness=FITTED.sharpness,
            affinity=FITTED.affinity,
            text_affinity=FITTED.text_affinity,
            frame_tokens=dialogue.frame_tokens,
            seed=_SAMPLE_SEED + layer,
        )
        queries = np.concatenate(
            [sample.step("frame", dialogue.frame_tokens).q for _ in range(_WARM_FRAMES)]
        )
        return InfiniGen(skewed_columns(queries, net.kv_heads), prefill_top_k=top_k)

    makers: dict[str, Callable[[int], KvPolicy]] = {
        "full": lambda _: Full(),
        "streaming_llm": lambda _: StreamingLlm(),
        "duo_attention": lambda _: DuoAttention(np.arange(net.kv_heads) / net.kv_heads),
        "sir_llm": lambda _: SirLlm(),
        "inf_llm": lambda _: InfLlm(),
        "rekv": lambda _: ReKv(frames=round(REKV_SHARE * frames)),
        "infinigen": infinigen,
        "infinigen_p": lambda layer: infinigen(layer, INFINIGEN_TOP_K),
        "resv": resv,
    }
    return makers[policy]
