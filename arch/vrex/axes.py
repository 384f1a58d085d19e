"""Parameter axes of V-Rex.

The defaults are the published edge machine, V-Rex8; what the paper does not say is marked as ours.
Section, table and figure numbers refer to arXiv 2512.12284.
"""

from headrace.arch.axis import Axis, Constraint

__all__ = ["AXES", "CONSTRAINTS", "POLICIES"]

POLICIES = (
    "full",
    "streaming_llm",
    "duo_attention",
    "sir_llm",
    "inf_llm",
    "rekv",
    "infinigen",
    "infinigen_p",
    "resv",
)
"""KV policies that the machine runs; see `headrace.models.kv_policies`."""

AXES = (
    Axis(
        name="clock_mhz",
        default=800,
        low=100,
        high=2000,
        choices=(800,),
        summary="Clock of the cores (table III).",
    ),
    Axis(
        name="cores",
        default=8,
        low=1,
        high=256,
        choices=(4, 8, 16, 24, 32, 48),
        summary="Cores; 8 at the edge, 48 in the server (table I).",
    ),
    Axis(
        name="dpe_trees",
        default=64,
        low=1,
        high=1024,
        choices=(32, 64, 128),
        summary="Multiply-accumulate trees of a core's matrix unit (DPE).",
    ),
    Axis(
        name="dpe_inputs",
        default=64,
        low=2,
        high=1024,
        choices=(32, 64, 128),
        summary="Inputs of a tree.",
    ),
    Axis(
        name="vpe_lanes",
        default=64,
        low=1,
        high=1024,
        choices=(32, 64, 128),
        summary="Lanes of a core's vector unit (VPE).",
    ),
    Axis(
        name="lxe_kib",
        default=384,
        low=16,
        high=65_536,
        choices=(192, 384, 768),
        summary="Memory of a core's matrix and vector units, KiB.",
    ),
    Axis(
        name="hcu_lanes",
        default=16,
        low=1,
        high=64,
        choices=(8, 16, 32),
        summary="Bits of two hash codes that an accumulator compares per cycle.",
    ),
    Axis(
        name="hcu_accumulators",
        default=1,
        low=1,
        high=64,
        choices=(1, 2, 4),
        summary="Clusters that a hash-cluster unit compares side by side.",
    ),
    Axis(
        name="wtu_lanes",
        default=16,
        low=2,
        high=256,
        choices=(8, 16, 32, 64),
        summary="Scores that a threshold unit takes per cycle.",
    ),
    Axis(
        name="wtu_buckets",
        default=64,
        low=1,
        high=1024,
        choices=(16, 32, 64, 128),
        summary="Buckets of the early exit; not published. With 64 few more clusters are chosen "
        "than by the exact selection.",
    ),
    Axis(
        name="policy",
        default="resv",
        choices=POLICIES,
        summary="Which cached tokens a step attends to.",
    ),
    Axis(
        name="prediction",
        default="units",
        choices=("cores", "units"),
        summary="Who clusters and selects: the units of the retrieval engine (published), or the "
        "vector units.",
    ),
    Axis(
        name="layout",
        default="cluster",
        choices=("time", "cluster"),
        summary="Order of the offloaded tokens: of a cluster side by side (the KV management "
        "unit, published), or as they came.",
    ),
    Axis(
        name="resident_tokens",
        default=6000,
        low=0,
        high=1_048_576,
        choices=(0, 2000, 4000, 6000, 8000, 12_000, 16_000, 24_000, 32_000, 48_000),
        summary="Newest tokens of a stream that device memory keeps. Published without a value; "
        "this one lies between the 5,000 and 10,000 where the published latency steps.",
    ),
    Axis(
        name="cache_tokens",
        default=0,
        low=0,
        high=1_048_576,
        choices=(0, 2000, 4000, 8000, 16_000),
        summary="Fetched tokens of a KV head that stay in device memory, the least recently used "
        "clusters leaving first; ours, 0 as published.",
    ),
    Axis(
        name="prefetch",
        default="layer",
        choices=("none", "layer"),
        summary="layer: predict and fetch for the next layer beside attention and FFN of this one "
        "(figure 5). none: before the layer's own attention.",
    ),
    Axis(
        name="vision",
        default="before",
        choices=("before", "beside"),
        summary="before: the vision tower, then the language model. beside: the tower works on the "
        "next frame while the language model waits for memory or link; ours.",
    ),
    Axis(
        name="link_mb_per_s",
        default=0,
        low=0,
        high=1_000_000,
        choices=(0,),
        summary="Raw rate of the link to the offloaded tokens, MB/s; 0: that of the device.",
    ),
    Axis(
        name="evict",
        default="token",
        choices=("token", "page"),
        summary="token: the oldest token is written out on its own, and the layer waits (fitted, "
        "see the calibration). page: writes wait for a full page of the drive; ours.",
    ),
    Axis(
        name="ratio_percent",
        default=30,
        low=1,
        high=100,
        choices=(10, 20, 30, 40, 50),
        summary="Share of a row's weight that ReSV selects (Th_r).",
    ),
    Axis(
        name="frame_tokens",
        default=10,
        low=1,
        high=1024,
        choices=(10,),
        summary="Tokens that the vision tower makes of a frame; inferred from the public release "
        "of VideoLLM-Online.",
    ),
)


def _power_of_two(n: int) -> bool:
    return n & (n - 1) == 0


CONSTRAINTS = (
    Constraint(
        name="hash-cluster unit",
        rule="hcu_accumulators = a power of two",
        holds=lambda p: _power_of_two(p["hcu_accumulators"]),
        knobs=("hcu_accumulators",),
    ),
    Constraint(
        name="threshold unit",
        rule="wtu_lanes = a power of two",
        holds=lambda p: _power_of_two(p["wtu_lanes"]),
        knobs=("wtu_lanes",),
    ),
)
