"""Traces for a machine: what a KV policy keeps, fetches and computes in every pass of a layer."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from headrace.errors import InputError
from headrace.models.kv_policies.choosing import Chosen, PolicyRun
from headrace.models.kv_policies.evaluate import Traffic, step_traffic
from headrace.models.kv_policies.policy import KvPolicy, Work
from headrace.models.kv_policies.residency import DeviceMemory, count_runs
from headrace.models.kv_policies.step import Step
from headrace.models.kv_policies.synthetic import FITTED, Concentration, Scenes, SyntheticVideo
from headrace.models.streaming import Pass, VideoDialogue

__all__ = [
    "LAYOUTS",
    "DialogueLayer",
    "StepTrace",
    "dialogue_layers",
    "dialogue_traces",
    "place_choices",
    "trace_policy",
]

LAYOUTS = ("time", "cluster")
"""Tokens behind the link in the order of their arrival, or each cluster's side by side."""


@dataclass(frozen=True, kw_only=True)
class StepTrace:
    """One pass of one layer under a KV policy.

    Attributes
    ----------
    layer : int
        Of the layers that were run.
    stands_for : int
        Layers of the network that do the same.
    stage : str
        See `Step`.
    tokens, cached : int
        New tokens, and those that had entered before.
    kept, fetched, requests : ndarray of int, shape (kv_heads,)
        Cached tokens attended to; those of them that cross the link; the runs of contiguous
        tokens in which they do.
    traffic : Traffic
        Bytes of keys and values, and of the policy's tables.
    table_bytes : int
        The tables' part of ``traffic.device_read_bytes``.
    work : Work
    clusters : int
        ReSV's before the pass; 0 for other policies, whose arrays below are empty.
    opens : ndarray of bool, shape (tokens,)
        New tokens that open a cluster.
    chosen : ndarray of bool, shape (kv_heads, clusters)
        The union over the rows of each KV head.
    walked : ndarray of int, shape (kv_heads, rows)
        Clusters (exact) or buckets (bucketed) that each row's walk took.
    """

    layer: int
    stands_for: int
    stage: str
    tokens: int
    cached: int
    kept: NDArray[np.int64]
    fetched: NDArray[np.int64]
    requests: NDArray[np.int64]
    traffic: Traffic
    table_bytes: int
    work: Work
    clusters: int
    opens: NDArray[np.bool_]
    chosen: NDArray[np.bool_]
    walked: NDArray[np.int64]

    @property
    def results(self) -> NDArray[np.int64]:
        """Chosen clusters, shape (kv_heads,)."""
        return _per_head(self.chosen)


@dataclass(frozen=True, kw_only=True)
class DialogueLayer:
    """A synthetic layer that has seen the history of a dialogue.

    Attributes
    ----------
    layer, stands_for : int
        See `StepTrace`.
    video : SyntheticVideo
    run : PolicyRun
    """

    layer: int
    stands_for: int
    video: SyntheticVideo
    run: PolicyRun

    def choices(self, passes: Iterable[Pass]) -> list[Chosen]:
        """Return what the policy chooses in the next passes."""
        return [self.run.choose(self.video.step(each.stage, each.tokens)) for each in passes]


def place_choices(
    choices: Iterable[Chosen],
    *,
    layout: str = "cluster",
    extent_tokens: int = 0,
    resident: int = 0,
    cache: int = 0,
    attend_resident: bool = False,
    layer: int = 0,
    stands_for: int = 1,
) -> list[StepTrace]:
    """Return the traces of what a policy chose in one layer, given where the tokens are.

    Parameters
    ----------
    choices : iterable of Chosen
        Of consecutive passes.
    attend_resident : bool
        Whether the tokens resident in device memory take part in attention, chosen or not.
    layout, extent_tokens, resident, cache, layer, stands_for
        See `trace_policy`.

    Returns
    -------
    list of StepTrace
        One for each of `choices`.

    Raises
    ------
    InputError
        The layout is unknown, or a number is negative.
    """
    if layout not in LAYOUTS:
        raise InputError(f"layout {layout!r}; one of {', '.join(LAYOUTS)} is needed")
    memory = DeviceMemory(resident=resident, cache=cache)
    traces = []
    for each in choices:
        choice, step, blocks = each.choice, each.step, each.choice.blocks
        units = np.arange(each.cached, dtype=np.int32) if blocks is None else blocks
        choice = replace(choice, fetched=memory.fetch(choice.fetched, units))
        if attend_resident:
            newest = np.arange(each.cached) >= each.cached - resident
            choice = replace(choice, kept=choice.kept | newest)
        extent = extent_tokens
        if layout == "time" or blocks is None:
            blocks, extent = np.zeros(each.cached, np.int32), 0
        found = choice.retrieval
        nothing = np.zeros((step.k.shape[1], 0), np.bool_)
        traces.append(
            StepTrace(
                layer=layer,
                stands_for=stands_for,
                stage=step.stage,
                tokens=len(step.k),
                cached=each.cached,
                kept=_per_head(choice.kept),
                fetched=_per_head(choice.fetched),
                requests=count_runs(choice.fetched, blocks, extent),
                traffic=step_traffic(choice, step, each.offloads),
                table_bytes=choice.table_bytes,
                work=choice.work,
                clusters=each.clusters,
                opens=each.opens,
                chosen=nothing if found is None else found.clusters,
                walked=each.walked,
            )
        )
    return traces


def trace_policy(
    policy: KvPolicy,
    steps: Iterable[Step],
    *,
    history: Iterable[Step] = (),
    frame_tokens: int = 10,
    layout: str = "cluster",
    extent_tokens: int = 0,
    resident: int = 0,
    cache: int = 0,
    layer: int = 0,
    stands_for: int = 1,
) -> list[StepTrace]:
    """Run the steps of one layer through a policy; attention itself is not computed.

    Choices are those of `run_policy` on the same steps.

    Parameters
    ----------
    policy : KvPolicy
        Fresh; its state grows with the steps.
    steps : iterable of Step
        The passes to trace, in order.
    history : iterable of Step
        What the policy is given before, without a choice: steps of whole frames.
    frame_tokens : int
        Tokens of a frame in `history`.
    layout : str
        One of `LAYOUTS`. ``cluster`` goes by the blocks of the policy's choice, and is the order of
        time for a policy without blocks. Different blocks never share a request.
    extent_tokens : int
        Tokens of a block that lie side by side in layout ``cluster``; 0: all of them.
    resident, cache : int
        See `DeviceMemory`; its cache holds blocks, or single tokens for a policy without. These
        change what is fetched, not what is kept; `ResvPolicy` has a `resident` of its own, which
        changes both.
    layer, stands_for : int
        For the traces.

    Returns
    -------
    list of StepTrace
        One for each of `steps`.

    Raises
    ------
    InputError
        The layout is unknown, or a number is negative.
    """
    run = PolicyRun(policy)
    for step in history:
        run.enter(step, frame_tokens)
    return place_choices(
        map(run.choose, steps),
        layout=layout,
        extent_tokens=extent_tokens,
        resident=resident,
        cache=cache,
        layer=layer,
        stands_for=stands_for,
    )


def dialogue_layers(
    dialogue: VideoDialogue,
    policy_factory: Callable[[int], KvPolicy],
    *,
    layers: int = 4,
    seed: int = 0,
    concentration: Concentration = FITTED,
    scenes: Scenes | None = None,
) -> Iterator[DialogueLayer]:
    """Yield the layers of `dialogue_traces` after the dialogue's history; parameters as there."""
    network = dialogue.network
    if not 1 <= layers <= network.layers:
        raise InputError(f"layers = {layers}; 1 to {network.layers} is needed")
    for layer in range(layers):
        run = PolicyRun(policy_factory(layer))
        video = SyntheticVideo(
            network,
            sharpness=concentration.sharpness,
            affinity=concentration.affinity_at((layer + 0.5) / layers),
            text_affinity=concentration.text_affinity,
            frame_tokens=dialogue.frame_tokens,
            scenes=scenes,
            seed=seed * network.layers + layer,
        )
        for step in video.history(dialogue.history, queries="queries" in run.policy.uses):
            run.enter(step, dialogue.frame_tokens)
        yield DialogueLayer(
            layer=layer,
            stands_for=len(range(layer, network.layers, layers)),
            video=video,
            run=run,
        )


def dialogue_traces(
    dialogue: VideoDialogue,
    policy_factory: Callable[[int], KvPolicy],
    *,
    layers: int = 4,
    seed: int = 0,
    concentration: Concentration = FITTED,
    scenes: Scenes | None = None,
    layout: str = "cluster",
    extent_tokens: int = 0,
    resident: int = 0,
    cache: int = 0,
) -> list[list[StepTrace]]:
    """Trace a dialogue through a few synthetic layers, each in place of a share of the network's.

    Layer i of n stands at depth (i + 1/2) / n of the `Concentration`, and for the network's layers
    in its n-th, the first ones for one more if these do not divide. Streams of a batch
    would each have traces of their own; this is one of them.

    Parameters
    ----------
    dialogue : VideoDialogue
    policy_factory : callable
        Gives a fresh policy for layer 0, 1, ...
    layers : int
        Layers to run, from 1 to those of the network.
    seed : int
        Of the streams; every layer draws its own.
    concentration : Concentration
    scenes : Scenes or None
        None: the defaults.
    layout, extent_tokens, resident, cache
        See `trace_policy`.

    Returns
    -------
    list of list of StepTrace
        Per layer, a trace for every pass.
    """
    return [
        place_choices(
            each.choices(dialogue.passes()),
            layout=layout,
            extent_tokens=extent_tokens,
            resident=resident,
            cache=cache,
            layer=each.layer,
            stands_for=each.stands_for,
        )
        for each in dialogue_layers(
            dialogue,
            policy_factory,
            layers=layers,
            seed=seed,
            concentration=concentration,
            scenes=scenes,
        )
    ]


def _per_head(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    return np.array([np.count_nonzero(row) for row in mask])
