"""SN40L's published figures (arXiv 2405.07518) beside the model's."""

from collections.abc import Iterator, Mapping
from functools import cache

from headrace.arch.calibration import calibration
from headrace.arch.device import load_device
from headrace.arch.sn40l import SN40L
from headrace.arch.sn40l.published import BENCHMARKS
from headrace.models.experts import CompositionOfExperts
from headrace.models.intensity import fft_stages, intensity
from headrace.models.network import load_network
from headrace.search.reproduce.row import Row
from headrace.sim.sn40l.buffers import Tiling
from headrace.sim.sn40l.composition import Host, dgx_host, sn40l_host
from headrace.sim.sn40l.fft import fft_convolution
from headrace.sim.sn40l.generation import pass_time
from headrace.sim.sn40l.node import node_of
from headrace.sim.sn40l.sections import cut_segment
from headrace.sim.sn40l.workload import Pass

__all__ = [
    "FFT_RADICES",
    "FFT_ROWS",
    "INTENSITY_SHAPE",
    "PREFILL_BATCH",
    "benchmark_times",
    "fft_times",
    "rows",
]

PREFILL_BATCH = 32
"""Sequences of prefill and training; decode has one. Table 3 names no batch; with 32 the ranges of
figures 10 and 11 hold for all of it."""

FFT_ROWS, FFT_RADICES = 256, (128, 128, 64)
"""Sequences of the FFT convolution, and the factors of its million points; neither is published."""

INTENSITY_SHAPE = (4, 256, 1024, 128)
"""k, m, n, p of `fft_stages`: of powers of two the nearest to table 1 (bench/fft_intensity.py)."""

_KINDS = (
    ("U", "operators", "software"),
    ("SO", "full", "software"),
    ("HO", "full", "hardware"),
)
_DGX = {"dgx-a100": "DGX A100", "dgx-h100": "DGX H100"}
_OVERALL = {("dgx-a100", 8): 6.6, ("dgx-h100", 8): 3.7, ("dgx-a100", 1): 4.8, ("dgx-h100", 1): 2.8}
_EXPERT = {"dgx-a100": 2.0, "dgx-h100": 1.5}
_SWITCH = {"dgx-a100": 31.0, "dgx-h100": 15.0}
_FUSION = {"prefill": (1.5, 3.0), "train": (1.5, 3.0), "decode": (1.0, 13.0)}
_LAUNCH = {"prefill": (1.0, 1.1), "train": (1.0, 1.1), "decode": (1.4, 8.0)}


def rows() -> list[Row]:
    """Return every published figure with its prediction."""
    return [*_exact(), *_composition(), *_intensities(), *_benchmarks()]


@cache
def _samba() -> CompositionOfExperts:
    llama = load_network("llama-2-7b")
    return CompositionOfExperts(expert=llama, router=llama, experts=150)


@cache
def _host(device: str, batch: int) -> Host:
    if device in _DGX:
        return dgx_host(load_device(device), _samba(), batch=batch)
    node = node_of(SN40L.point(), load_device(device))
    return sn40l_host(node, _samba(), "full", batch=batch)


def _exact() -> Iterator[Row]:
    """Figures that follow from sizes alone."""
    node = node_of(SN40L.point(), load_device("sn40l-node"))
    yield Row(
        id="tflops", what="peak of a socket, BF16", published=638.0,
        predicted=node.chip.peak_flop_per_s / 1e12, unit="TFLOPS", fitted=False,
        source="table 2", allowed=0.002, note="192 MAC at 1.6 GHz are inferred from it",
    )  # fmt: skip
    yield Row(
        id="sram", what="scratchpads of a socket", published=520.0,
        predicted=node.chip.sram_bytes / 2**20, unit="MiB", fitted=False, source="table 2",
        allowed=0.0, note="exact",
    )  # fmt: skip
    own = _host("sn40l-node", 1)
    for device, published in _SWITCH.items():
        yield Row(
            id=f"switching_{device}", what=f"switching time of {_DGX[device]} over the node's",
            published=published, predicted=_host(device, 1).switch_s / own.switch_s, unit="1",
            fitted=False, source="table 5", allowed=0.05, note="bytes over published bandwidths",
        )  # fmt: skip
    dgx = _host("dgx-a100", 1)
    for name, what, published, found in (
        ("fast", "experts in the HBM of a DGX", 47, dgx.fast_experts),
        ("all", "experts in a DGX before it is out of memory", 148, dgx.all_experts),
        ("machines", "DGX that hold 850 experts in HBM", 19, dgx.nodes_for(850)),
    ):
        yield Row(
            id=f"dgx_{name}", what=what, published=float(published), predicted=float(found),
            unit="1", fitted=False, source="figure 13", allowed=0.0,
            note="exact; 2 TB of host memory are inferred" if name == "all" else "exact",
        )  # fmt: skip
    yield Row(
        id="node_experts", what="experts that the DDR of a node holds", published=850.0,
        predicted=float(own.all_experts), unit="1", fitted=False, source="text",
        note="at least; what is reserved of DDR is not published",
    )  # fmt: skip


def _composition() -> Iterator[Row]:
    """Table 5: Samba-CoE as a chatbot, every expert absent."""
    fitted = calibration()["sn40l.all_reduce_s"].fitted
    for (device, batch), published in _OVERALL.items():
        own, other = _host("sn40l-node", batch), _host(device, batch)
        yield Row(
            id=f"overall_{device}_{batch}", what=f"Samba-CoE over {_DGX[device]}, {batch} prompts",
            published=published, predicted=other.all_miss_s(batch) / own.all_miss_s(batch),
            unit="1", fitted=fitted and (device, batch) == ("dgx-a100", 8), source="table 5",
            allowed=0.05, note="all_reduce_s fitted here"
            if (device, batch) == ("dgx-a100", 8) else "DGX from published inputs",
        )  # fmt: skip
    for device, published in _EXPERT.items():
        own, other = _host("sn40l-node", 1), _host(device, 1)
        yield Row(
            id=f"expert_{device}", what=f"an expert over {_DGX[device]}, 1 prompt",
            published=published, predicted=other.times.run_s / own.times.run_s, unit="1",
            fitted=False, source="table 5", allowed=0.05,
        )  # fmt: skip


def _intensities() -> Iterator[Row]:
    """Table 1, for a shape that a search found: none is published, and none gives all three."""
    stages = fft_stages(*INTENSITY_SHAPE, is_complex=True)
    rows = {"unfused": ((1, 1, 1, 1), 39.5), "partly": ((3, 1), 102.6), "fully": ((4,), 410.4)}
    for name, (kernels, published) in rows.items():
        yield Row(
            id=f"intensity_{name}", what=f"example of figure 3, {name} fused"
            if name != "unfused" else "example of figure 3, unfused",
            published=published, predicted=float(intensity(stages, kernels)), unit="FLOP/B",
            fitted=True, source="table 1", allowed=0.05,
            note="complex, k = 4, m = 256, n = 1024, p = 128, found by search",
        )  # fmt: skip


@cache
def benchmark_times(name: str) -> Mapping[str, Mapping[str, float]]:
    """Return the seconds and launches of a benchmark of table 3, phase by phase.

    Parameters
    ----------
    name : str
        A key of `BENCHMARKS`.

    Returns
    -------
    mapping of str to mapping of str to float
        Per phase: seconds ``U`` (unfused, launched by the host), ``SO`` and ``HO`` (fused), and
        ``launches``, those of U in those of SO.
    """
    network_name, sequence, phases = BENCHMARKS[name]
    network, device = load_network(network_name), load_device("sn40l-node")
    found = {}
    for phase in phases:
        works = _works(network, sequence, phase)
        times: dict[str, float] = {}
        launches = {}
        for kind, level, launch in _KINDS:
            node = node_of(SN40L.point({"launch": launch}), device)
            passes = [pass_time(work, node, level) for work in works]
            times[kind] = sum(each.seconds for each in passes)
            launches[kind] = sum(each.launches for each in passes)
        found[phase] = {**times, "launches": launches["U"] / launches["SO"]}
    return found


@cache
def fft_times() -> Mapping[str, float]:
    """Return the seconds of the FFT convolution, and the launches of its fused kernels."""
    segment, rows = fft_convolution(FFT_ROWS, FFT_RADICES), FFT_ROWS
    times: dict[str, float] = {}
    for kind, level, launch in _KINDS:
        point = SN40L.point({"launch": launch, "sockets": 1})
        node = node_of(point, load_device("sn40l-node"))
        kernels = cut_segment(segment, node.chip, level, tile_rows=1)
        busy = sum(node.kernel_time(kernel, Tiling(rows, 1, 1)).seconds for kernel in kernels)
        times[kind] = busy + len(kernels) * node.launch_s
    return times | {"launches": float(len(kernels))}


def _works(network: object, sequence: int, phase: str) -> list[Pass]:
    """Return the passes of a phase; training is a pass forward and, with twice its work, two back.

    Gradients of the weights are not reduced over data-parallel nodes: there is one node.
    """
    facts = {"network": network, "tensor_parallel": 8}
    if phase == "decode":
        return [Pass(tokens=1, context=sequence, batch=1, **facts)]  # type: ignore[arg-type]
    work = Pass(tokens=sequence, batch=PREFILL_BATCH, **facts)  # type: ignore[arg-type]
    return [work] * (3 if phase == "train" else 1)


def _benchmarks() -> Iterator[Row]:
    """Figures 10 and 11, of which only ranges are published."""
    fitted = calibration()["sn40l.software_launch_s"].fitted
    for name in BENCHMARKS:
        for phase, times in benchmark_times(name).items():
            for what, gain, bounds in (
                ("fusion", times["U"] / times["SO"], _FUSION[phase]),
                ("hardware launches", times["SO"] / times["HO"], _LAUNCH[phase]),
            ):
                yield Row(
                    id=f"{name}_{phase}_{what.split()[0]}", what=f"{name}, {phase}: {what}",
                    published=None, predicted=gain, unit="1",
                    fitted=fitted and what != "fusion" and phase == "decode",
                    source="figures 10, 11", bounds=bounds,
                    note=f"published range {bounds[0]:g} to {bounds[1]:g}",
                )  # fmt: skip
    times = fft_times()
    yield Row(
        id="fft_fusion", what="FFT convolution of 1M points, 1 socket: fusion", published=13.0,
        predicted=times["U"] / times["SO"], unit="1", fitted=False, source="figure 10",
        allowed=0.2, note="radices 128, 128, 64; 256 sequences; ours",
    )  # fmt: skip
    yield Row(
        id="fft_launches", what="the same: launches of the fused kernel", published=1.0,
        predicted=times["launches"], unit="1", fitted=False, source="text", allowed=0.0,
        note=f"hardware launches gain {times['SO'] / times['HO']:.2f}; published: nothing",
    )  # fmt: skip
    ratio = benchmark_times("llama2-7b")["prefill"]["launches"]
    yield Row(
        id="launches", what="llama2-7b, prefill: launches unfused, in those fused",
        published=11.0, predicted=ratio, unit="1", fitted=False, source="figure 11", allowed=0.3,
        note="what counts as an operator of the framework is not published",
    )  # fmt: skip
