"""Traces of a dialogue for a point: its KV policy run on synthetic layers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from headrace.arch.point import Point
from headrace.errors import InputError
from headrace.models.kernels.retrieval import HashClusterTable, Resv, draw_hyperplanes
from headrace.models.kv_policies import (
    FITTED,
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
    dialogue_traces,
    skewed_columns,
)
from headrace.models.streaming import VideoDialogue

__all__ = ["LAYERS", "DialogueTraces", "traces_of"]

LAYERS = 4
"""Synthetic layers that are run, each in place of a share of the network's."""

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
    if dialogue.cached_after >= 2**16 and point.text("policy") == "resv":
        raise InputError(
            f"{dialogue.cached_after} cached tokens: at most 65535 are needed, counts have 16 bits"
        )
    options = tuple(
        (name, point[name])
        for name in ("policy", "wtu_buckets", "ratio_percent", "resident_tokens", "cache_tokens",
                     "layout")
    )  # fmt: skip
    return _traces(replace(dialogue, batch=1), options, every_pass)


@lru_cache(maxsize=256)
def _traces(
    dialogue: VideoDialogue, options: tuple[tuple[str, object], ...], every_pass: bool
) -> DialogueTraces:
    chosen = dict(options)
    run, weights = dialogue, {"frame": 1, "question": 1, "answer": 1}
    if not every_pass:
        warm = min(dialogue.frames, _WARM_FRAMES if chosen["cache_tokens"] else 1)
        before = max(0, (dialogue.frames - warm) // 2)
        run = replace(
            dialogue,
            history=dialogue.history + before * dialogue.frame_tokens,
            frames=warm,
            answer_tokens=min(1, dialogue.answer_tokens),
        )
        weights |= {"frame": dialogue.frames, "answer": dialogue.answer_tokens}
    factory, offloads = _factory(run, chosen)
    resident, cache = int(chosen["resident_tokens"]), int(chosen["cache_tokens"])  # type: ignore[call-overload]
    by_layer = dialogue_traces(
        run,
        factory,
        layers=LAYERS,
        layout=str(chosen["layout"]),
        resident=resident,
        cache=cache,
    )
    stages: dict[str, list[tuple[int, list[StepTrace]]]] = {}
    for each in zip(*by_layer, strict=True):
        layers = [trace for trace in each for _ in range(trace.stands_for)]
        passes = stages.setdefault(each[0].stage, [])
        if not every_pass:
            passes.clear()  # of frames that warm the cache up, the last one counts
        passes.append((weights[each[0].stage], layers))
    return DialogueTraces(offloads, stages)


def _factory(
    dialogue: VideoDialogue, chosen: dict[str, object]
) -> tuple[Callable[[int], KvPolicy], bool]:
    """Return what makes the policy of a layer, and whether it offloads."""
    net = dialogue.network
    frames = (dialogue.history + dialogue.frames * dialogue.frame_tokens) // dialogue.frame_tokens

    def resv(layer: int) -> KvPolicy:
        width = net.kv_heads * net.head_dim
        planes = draw_hyperplanes(width, _BITS, np.random.default_rng(layer))
        table = HashClusterTable(net.kv_heads, net.head_dim, planes)
        ratio = int(chosen["ratio_percent"]) / 100  # type: ignore[call-overload]
        selected = Resv(table, ratio=ratio, buckets=int(chosen["wtu_buckets"]))  # type: ignore[call-overload]
        return ResvPolicy(selected, resident=int(chosen["resident_tokens"]))  # type: ignore[call-overload]

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
    maker = makers[str(chosen["policy"])]
    return maker, maker(0).offloads
