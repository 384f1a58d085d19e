"""Parameter axes of the SN40L.

The defaults are one node of eight sockets that runs Samba-CoE. Section, table and figure numbers
refer to arXiv 2405.07518; what it does not say is marked as inferred or ours.
"""

from headrace.arch.axis import Axis, Constraint

__all__ = ["AXES", "CONSTRAINTS"]

AXES = (
    Axis(
        name="clock_mhz",
        default=1600,
        low=100,
        high=2000,
        choices=(1200, 1600, 1800),
        summary="Clock of the tiles; below 2 GHz (table 2), 1.6 GHz inferred.",
    ),
    Axis(
        name="sockets",
        default=8,
        low=1,
        high=64,
        choices=(1, 2, 4, 8, 16),
        summary="Sockets over which a network is split (tensor parallel).",
    ),
    Axis(
        name="pcus",
        default=1040,
        low=1,
        high=65_536,
        choices=(520, 1040, 2080),
        summary="Compute units (PCU) of a socket (table 2).",
    ),
    Axis(
        name="pmus",
        default=1040,
        low=1,
        high=65_536,
        choices=(520, 1040, 2080),
        summary="Memory units (PMU) of a socket (table 2).",
    ),
    Axis(
        name="macs",
        default=192,
        low=1,
        high=4096,
        choices=(96, 192, 384),
        summary="Multiply-accumulates of a compute unit per cycle; 192 at 1.6 GHz give the "
        "published 638 TFLOPS (inferred split).",
    ),
    Axis(
        name="pmu_kib",
        default=512,
        low=16,
        high=65_536,
        choices=(256, 512, 1024),
        summary="Scratchpad of a memory unit, KiB; 520 MiB in all (table 2).",
    ),
    Axis(
        name="fusion",
        default="full",
        choices=("unfused", "operators", "partial", "full"),
        summary="What a kernel holds: a task, an operator of a framework (published as unfused), "
        "what libraries for GPUs fuse, or as much as the units hold (published as fused).",
    ),
    Axis(
        name="launch",
        default="hardware",
        choices=("software", "hardware"),
        summary="Who launches kernels: the host (SO), or a static schedule in the AGCU (HO).",
    ),
    Axis(
        name="looping",
        default=False,
        choices=(False, True),
        summary="Calls of one kernel in a row become one (kernel looping); later than the paper.",
    ),
    Axis(
        name="expert_cache",
        default="lru",
        choices=("lru", "lfu", "lookahead", "belady"),
        summary="Which expert leaves HBM: the least recently used (published), the least "
        "frequently used, the one that the router's look-ahead of one batch needs last, or the "
        "whole trace (the bound).",
    ),
    Axis(
        name="copies",
        default="exposed",
        choices=("exposed", "overlapped"),
        summary="exposed: an expert is copied, then it runs (published). overlapped: beside the "
        "run of the one before; ours.",
    ),
    Axis(
        name="experts",
        default=1,
        low=1,
        high=4096,
        choices=(1, 150, 850),
        summary="Experts of the composition, each the network; 1: the network alone. Samba-CoE has "
        "150 (section 2).",
    ),
)

CONSTRAINTS: tuple[Constraint, ...] = ()
