"""A composition of experts on a node: the SN40L with its three tiers, or a DGX."""

from dataclasses import dataclass
from math import ceil

from headrace.arch.device import Device
from headrace.arch.sn40l.published import DGX_COPY_GB_PER_S, DGX_MS, PROMPT_TOKENS
from headrace.errors import InputError
from headrace.models.experts import CompositionOfExperts, zipf_trace
from headrace.sim.expert_cache import BELADY, EAGER, LFU, LRU, ExpertTimes, ReplacementPolicy, serve
from headrace.sim.sn40l.generation import generation_s
from headrace.sim.sn40l.node import Node

__all__ = [
    "POLICIES",
    "TRACE_REQUESTS",
    "Host",
    "composition_metrics",
    "dgx_host",
    "node_host",
    "sn40l_host",
]

POLICIES = {
    "lru": LRU,
    "lfu": LFU,
    "lookahead": ReplacementPolicy(lookahead=1),
    "belady": BELADY,
}
"""Values of the axis ``expert_cache``."""

TRACE_REQUESTS = 20_000
"""Requests of the Zipf trace that a simulation runs."""


@dataclass(frozen=True, kw_only=True)
class Host:
    """Where experts run, and where they wait.

    Attributes
    ----------
    name : str
    times : ExpertTimes
        Router of a batch, copy and run of an expert.
    fast_experts : int
        Experts that fast memory holds beside the router and the KV cache.
    all_experts : int
        Experts that fit at all; more are out of memory.
    """

    name: str
    times: ExpertTimes
    fast_experts: int
    all_experts: int

    @property
    def switch_s(self) -> float:
        """Seconds to copy one expert into fast memory."""
        return self.times.copy_s

    def all_miss_s(self, batch: int) -> float:
        """Return the seconds of a batch whose experts are all absent, nothing overlapped."""
        t = self.times
        return t.router_s + batch * (t.copy_s + t.run_s)

    def nodes_for(self, experts: int) -> int:
        """Return the nodes that hold so many experts in fast memory."""
        return ceil(experts / self.fast_experts)


def sn40l_host(
    node: Node,
    composition: CompositionOfExperts,
    level: str,
    *,
    batch: int,
    prompt: int = PROMPT_TOKENS,
    output: int = 20,
) -> Host:
    """Return an SN40L node: experts wait in DDR, and run in HBM.

    Parameters
    ----------
    node : Node
    composition : CompositionOfExperts
    level : str
        Fusion level of router and experts.
    batch : int
        Prompts that go through the router together; an expert runs for one at a time.
    prompt, output : int
        Tokens of a request; the router answers as many (inferred).
    """
    tokens = {"prompt": prompt, "output": output}
    return node_host(
        node,
        composition,
        router_s=generation_s(composition.router, node, level, batch=batch, **tokens),
        run_s=generation_s(composition.expert, node, level, **tokens),
        kv_bytes=composition.kv_bytes(batch, prompt + output),
    )


def node_host(
    node: Node,
    composition: CompositionOfExperts,
    *,
    router_s: float,
    run_s: float,
    kv_bytes: int,
) -> Host:
    """Return an SN40L node whose runs are known; see `sn40l_host`.

    Parameters
    ----------
    node : Node
    composition : CompositionOfExperts
    router_s, run_s : float
        Of a batch, and of an expert for one prompt.
    kv_bytes : int
        KV cache beside the experts in HBM.
    """
    return Host(
        name="SN40L node",
        times=ExpertTimes(
            router_s=router_s,
            copy_s=composition.expert_bytes / node.copy_bytes_per_s,
            run_s=run_s,
        ),
        fast_experts=composition.resident_experts(int(node.hbm_bytes), kv_bytes),
        all_experts=int(node.ddr_bytes // composition.expert_bytes),
    )


def dgx_host(device: Device, composition: CompositionOfExperts, *, batch: int) -> Host:
    """Return a DGX: experts wait in the host's memory; times of runs are NVIDIA's.

    Raises
    ------
    InputError
        The device is no DGX, or no time is published for the batch.
    """
    base = device.name.partition(":")[0]
    if base not in DGX_MS:
        raise InputError(f"no published latencies of {device.name!r}: one of {', '.join(DGX_MS)}")
    known = DGX_MS[base]
    if batch not in known:
        raise InputError(f"batch = {batch}: published are {', '.join(map(str, known))}")
    hbm, host = device.tiers["hbm"].capacity_bytes, device.tiers["host"].capacity_bytes
    # The sources give both in powers of ten, as drives and boards are sold.
    fast, slow = hbm / 2**30 * 1e9, host / 2**30 / 1024 * 1e12
    return Host(
        name=device.summary,
        times=ExpertTimes(
            router_s=known[batch] / 1e3,
            copy_s=composition.expert_bytes / (DGX_COPY_GB_PER_S[base] * 1e9),
            run_s=known[1] / 1e3,
        ),
        fast_experts=int(fast // composition.expert_bytes),
        all_experts=int(slow // composition.expert_bytes),
    )


def composition_metrics(
    host: Host,
    composition: CompositionOfExperts,
    *,
    policy: str,
    overlapped: bool,
    batch: int,
    skew: float,
) -> dict[str, float]:
    """Return the metrics of a composition on a seeded Zipf trace; see `METRICS` of the machine.

    Raises
    ------
    InputError
        The experts do not fit.
    """
    if composition.experts > host.all_experts:
        raise InputError(
            f"experts = {composition.experts} is not allowed: {host.name} holds "
            f"{host.all_experts} of {composition.expert.name}"
        )
    service = serve(
        zipf_trace(composition.experts, TRACE_REQUESTS, skew, seed=0),
        host.fast_experts,
        POLICIES[policy],
        batch=batch,
        times=host.times,
        prefetch=EAGER if overlapped else 0,
    )
    return {
        "coe_batch_s": service.seconds_per_batch,
        "coe_all_miss_s": host.all_miss_s(batch),
        "coe_miss_share": service.misses / service.requests,
        "coe_switching_share": service.switching_share,
    }
