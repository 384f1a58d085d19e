"""V-Rex's published figures (arXiv 2512.12284) beside the model's."""

from collections.abc import Iterator, Mapping
from functools import cache

from headrace.arch.calibration import calibration
from headrace.arch.device import load_device
from headrace.arch.vrex import VREX
from headrace.arch.vrex.machine import MODULES, CoreSizes, core_sizes, table_row_bytes
from headrace.models.network import load_network
from headrace.search.reproduce.row import Row
from headrace.sim.vrex.machine import simulate
from headrace.sim.workload import Workload

__all__ = ["FLEXGEN", "LADDER", "LENGTHS", "rows"]

LENGTHS = (1000, 5000, 10_000, 20_000, 40_000)
"""Cached tokens of figure 13."""

FLEXGEN: Mapping[str, object] = {"policy": "full", "resident_tokens": 0}
"""The baseline: all keys and values behind the link."""

LADDER: Mapping[str, tuple[str, Mapping[str, object], float, float]] = {
    "agx_resv": ("agx-orin", {"resident_tokens": 0}, 2.8, 4.4),
    "kvpu": ("vrex8", {"resident_tokens": 0}, 6.0, 9.2),
    "kvmu": ("vrex8", {}, 8.1, 10.2),
}
"""Figure 16 at 40,000 tokens: device, point, speed-up and energy gain over FlexGen."""

_SHARES = {
    "area": (72.79, 7.18, 17.98, 0.28, 1.23, 0.53),
    "power": (88.58, 4.68, 4.56, 0.11, 1.49, 0.58),
}
_FRAME_MS = (121, 123, 198, 200, 254)
_FRAME_GAIN = (5.5, 5.1, 5.0, 7.6, 10.2)
_TEXT_GAIN = (4.3, 5.6, 10.6, 13.2, 18.5)
_DIALOGUE = (2.0, 2.0, 2.6, 3.9, 5.4)
_NAMES = {
    "dpe": "matrix unit", "vpe": "vector unit", "lxe_memory": "memory of both",
    "hcu": "hash-cluster unit", "wtu": "threshold unit", "kvmu": "KV management unit",
}  # fmt: skip


def rows() -> list[Row]:
    """Return every published figure with its prediction."""
    return [
        *_exact(), *_shares(), *_latencies(), *_gains(), *_ladder(), *_server(),
    ]  # fmt: skip


@cache
def _metrics(
    device: str, point: tuple[tuple[str, object], ...], cached: int, batch: int
) -> Mapping[str, float]:
    """Run the average sample of COIN after so many cached tokens (section 6.1)."""
    return simulate(
        VREX.point(dict(point)),
        load_device(device),
        load_network(VREX.default_network),
        Workload(context_tokens=cached, frames=26, prompt_tokens=25, output_tokens=39, batch=batch),
        "cycle",
    ).metrics


def _run(
    device: str, point: Mapping[str, object], cached: int, batch: int = 1
) -> Mapping[str, float]:
    return _metrics(device, tuple(point.items()), cached, batch)


def _fitted(constant: str) -> bool:
    return calibration()[f"vrex.{constant}"].fitted


def _exact() -> Iterator[Row]:
    """Figures that follow from sizes alone."""
    sizes = core_sizes(VREX.point())
    server = core_sizes(VREX.point({"cores": 48}))
    for name, cores, published in (("vrex8", sizes, 53.3), ("vrex48", server, 319.5)):
        yield Row(
            id=f"{name}_tflops", what=f"peak of {cores.cores} cores, BF16", published=published,
            predicted=cores.peak_flop_per_s / 1e12, unit="TFLOPS", fitted=False,
            source="table I", allowed=0.001, note="exact to the digits printed",
        )  # fmt: skip
    yield Row(
        id="engine_kb", what="memories of a retrieval engine", published=20.125,
        predicted=sizes.engine_bytes / 1024, unit="KB", fitted=False, source="section 5.3",
        allowed=0.0, note="exact; the union's bit per cluster (512 B here) is not in it",
    )  # fmt: skip
    network = load_network(VREX.default_network)
    width = network.kv_heads * network.head_dim
    token = network.kv_bytes_per_token / network.layers
    yield Row(
        id="table_share", what="hash-cluster table, of the keys and values", published=0.0167,
        predicted=table_row_bytes(width, 32) / (32 * token), unit="1", fitted=False,
        source="section 4.2", allowed=0.003, note="exact to the digits printed, 32 tokens each",
    )  # fmt: skip


def _shares() -> Iterator[Row]:
    """Table III, whose figures the model takes in: what it reproduces is their sum and shares."""
    sizes = core_sizes(VREX.point())
    parts = {"area": sizes.area_mm2(), "power": sizes.power_w()}
    for kind, percents in _SHARES.items():
        total = sum(parts[kind].values())
        for name, percent in zip(MODULES, percents, strict=True):
            yield Row(
                id=f"{name}_{kind}_share", what=f"{_NAMES[name]}, share of a core's {kind}",
                published=percent / 100, predicted=parts[kind][name] / total, unit="1",
                fitted=False, source="table III", allowed=0.05, note="an input of the model",
            )  # fmt: skip
    for name, cores, published in (("vrex8", 8, 15.12), ("vrex48", 48, 90.57)):
        yield Row(
            id=f"{name}_mm2", what=f"area of {cores} cores", published=published,
            predicted=_area(core_sizes(VREX.point({"cores": cores}))), unit="mm2", fitted=False,
            source="table I", allowed=0.01,
        )  # fmt: skip


def _area(sizes: CoreSizes) -> float:
    return sum(sizes.area_mm2().values())


def _latencies() -> Iterator[Row]:
    """Latencies of V-Rex8, one stream."""
    for cached, published in zip(LENGTHS, _FRAME_MS, strict=True):
        fitted = {1000: "lxe_efficiency", 10_000: "evict_s"}.get(cached, "")
        yield Row(
            id=f"frame_{cached}_s", what=f"V-Rex8, a frame after {cached:,} tokens",
            published=published / 1e3, predicted=_run("vrex8", {}, cached)["frame_s"], unit="s",
            fitted=bool(fitted) and _fitted(fitted), source="text", allowed=0.15,
            note=f"{fitted} fitted here" if fitted else "",
        )  # fmt: skip
    for cached, published in ((1000, 89), (40_000, 97)):
        yield Row(
            id=f"tpot_{cached}_s", what=f"V-Rex8, a token of the answer after {cached:,}",
            published=published / 1e3, predicted=_run("vrex8", {}, cached)["tpot_s"], unit="s",
            fitted=False, source="text", allowed=0.15, note="nothing fitted here",
        )  # fmt: skip


def _gains() -> Iterator[Row]:
    """Speed and energy over FlexGen on AGX Orin, one stream."""
    ends = {1000: (2.2, 1.9), 40_000: (7.3, 15.1)}
    for i, cached in enumerate(LENGTHS):
        own, other = _run("vrex8", {}, cached), _run("agx-orin", FLEXGEN, cached)
        for kind, at in (("frame", 0), ("tpot", 1)):
            published = ends[cached][at] if cached in ends else None
            yield Row(
                id=f"{kind}_speedup_{cached}",
                what=f"{'frame' if kind == 'frame' else 'text'}, over FlexGen, {cached:,} tokens",
                published=published, predicted=other[f"{kind}_s"] / own[f"{kind}_s"], unit="1",
                fitted=cached == 1000 and _fitted("gpu_memory_efficiency"), source="figure 13",
                allowed=0.25, note="efficiencies of the GPU fitted here" if cached == 1000 else "",
            )  # fmt: skip
        for kind, published in (("frame", _FRAME_GAIN[i]), ("answer", _TEXT_GAIN[i])):
            yield Row(
                id=f"{kind}_energy_{cached}",
                what=f"{'frame' if kind == 'frame' else 'text'}, energy gain over FlexGen, "
                f"{cached:,} tokens",
                published=published, predicted=other[f"{kind}_j"] / own[f"{kind}_j"], unit="1",
                fitted=(kind, cached) == ("answer", 40_000) and _fitted("gpu_idle_share"),
                source="figure 13", allowed=0.25,
            )  # fmt: skip
        yield Row(
            id=f"dialogue_speedup_{cached}", what=f"whole dialogue over FlexGen, {cached:,} tokens",
            published=_DIALOGUE[i], predicted=other["dialogue_s"] / own["dialogue_s"], unit="1",
            fitted=False, source="figure 14", allowed=None,
            note="the published figure at 40,000 contradicts those of its stages",
        )  # fmt: skip


def _ladder() -> Iterator[Row]:
    """Figure 16: what each part of the machine brings at 40,000 tokens."""
    base = _run("agx-orin", FLEXGEN, 40_000)
    names = {"agx_resv": "AGX Orin with ReSV", "kvpu": "V-Rex8 without KV management",
             "kvmu": "V-Rex8"}  # fmt: skip
    for rung, (device, point, speed, energy) in LADDER.items():
        own = _run(device, point, 40_000)
        yield Row(
            id=f"ladder_{rung}", what=f"{names[rung]}, frame over FlexGen", published=speed,
            predicted=base["frame_s"] / own["frame_s"], unit="1",
            fitted=rung == "agx_resv" and _fitted("gpu_compare_share"), source="figure 16",
            allowed=0.30,
        )  # fmt: skip
        yield Row(
            id=f"ladder_{rung}_energy", what=f"{names[rung]}, energy gain over FlexGen",
            published=energy, predicted=base["frame_j"] / own["frame_j"], unit="1", fitted=False,
            source="figure 16", allowed=0.30,
        )  # fmt: skip
    for rung, share in (("agx_resv", 0.48), ("kvpu", 0.005)):
        device, point, *_ = LADDER[rung]
        fitted = rung == "agx_resv" and _fitted("gpu_compare_share")
        yield Row(
            id=f"ladder_{rung}_prediction", what=f"{names[rung]}, prediction's share of a frame",
            published=share, predicted=_run(device, point, 40_000)["prediction_share"], unit="1",
            fitted=fitted, source="figure 16", allowed=None if fitted else 2.0,
            note="gpu_compare_share fitted here" if fitted else "order of magnitude claimed",
        )  # fmt: skip


def _server() -> Iterator[Row]:
    """The server with the same constants; no absolute figure of it is published."""
    for batch in (1, 8):
        for cached in LENGTHS:
            own = _run("vrex48", {"cores": 48}, cached, batch)
            other = _run("a100", FLEXGEN, cached, batch)
            where = f"V-Rex48, {batch} streams, {cached:,} tokens"
            for kind, name in (("frame_s", "a frame"), ("tpot_s", "a token of the answer")):
                yield Row(
                    id=f"server_{batch}_{cached}_{kind}", what=f"{where}: {name}", published=None,
                    predicted=own[kind], unit="s", fitted=False, source="figure 13",
                    note=f"{other[kind] / own[kind]:.1f} times FlexGen on A100",
                )  # fmt: skip
