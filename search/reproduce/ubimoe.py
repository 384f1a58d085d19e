"""UbiMoE's published figures (arXiv 2502.05602), and Edge-MoE's, beside the model's."""

from collections.abc import Iterator, Mapping
from functools import cache

from headrace.arch.calibration import calibration
from headrace.arch.device import load_device
from headrace.arch.resources import Resources
from headrace.arch.ubimoe import UBIMOE
from headrace.arch.ubimoe.published import EDGE_MOE, LADDER, UBIMOE_U280, UBIMOE_ZCU102
from headrace.arch.ubimoe.streaming_attention import attention_steps
from headrace.models.network import load_network
from headrace.search.reproduce.row import Row
from headrace.sim.simulation import Simulation
from headrace.sim.ubimoe.machine import simulate
from headrace.sim.workload import Workload

__all__ = ["rows"]

_UNITS = {"lut": "LUT", "ff": "FF", "dsp": "DSP", "bram36": "BRAM36"}
_ALLOWED = {"lut": 0.25, "ff": 0.25, "dsp": 0.10, "bram36": 0.20}
_BOARDS = {
    "zcu102": ("ZCU102", UBIMOE_ZCU102, 25.76e-3, 11.50, 97.04),
    "u280": ("U280", UBIMOE_U280, 10.33e-3, 32.49, 242.01),
}
_RESOURCES = {
    "zcu102": {"dsp": 1850.0, "bram36": 458.0, "lut": 123.4e3, "ff": 142.6e3},
    "u280": {"dsp": 3413.0, "bram36": 974.0, "lut": 316.1e3, "ff": 385.9e3},
}
_SEARCHED = "parameters are not published but found by search"
_FOUND = {
    "zcu102": "nearest to the published resources",
    "u280": "fastest within the published resources",
}
_EDGE = "arXiv 2305.18691"
_STEPS = {(129, 4): 4257, (197, 4): 9850, (129, 8): 2193, (197, 8): 4929, (128, 4): 4099}


def rows() -> list[Row]:
    """Return every published figure with its prediction."""
    return [*_exact(), *_latencies(), *_ladder(), *_resources(), *_power()]


@cache
def _simulation(board: str, point: tuple[tuple[str, object], ...]) -> Simulation:
    return simulate(
        UBIMOE.point(dict(point)),
        load_device(board),
        load_network(UBIMOE.default_network),
        Workload(),
    )


def _run(board: str, point: Mapping[str, object]) -> Simulation:
    return _simulation(board, tuple(point.items()))


def _fitted(constant: str) -> bool:
    return calibration()[f"ubimoe.{constant}"].fitted


def _exact() -> Iterator[Row]:
    """Figures that follow from sizes alone."""
    for (tokens, lanes), published in _STEPS.items():
        yield Row(
            id=f"steps_{tokens}_{lanes}", what=f"attention steps, {tokens} tokens, {lanes} lanes",
            published=float(published), predicted=float(attention_steps(tokens, lanes)), unit="1",
            fitted=False, source="release", allowed=0.0, note="exact",
        )  # fmt: skip
    network = load_network("m3vit-tiny")
    yield Row(
        id="gmac", what="multiply-accumulates of an image, patch embedding included",
        published=0.7827e9, predicted=float(network.macs(network.max_positions)), unit="MAC",
        fitted=False, source="calculated from the release", allowed=0.001,
    )  # fmt: skip


def _latencies() -> Iterator[Row]:
    """Latencies of a single image, and the rates the paper derives from them."""
    yield Row(
        id="edge_moe_s", what="Edge-MoE on ZCU102, latency", published=34.64e-3,
        predicted=_run("zcu102", EDGE_MOE).metrics["latency_s"], unit="s",
        fitted=_fitted("ddr_port_gb_per_s"), source="table 2", allowed=0.10,
        note="lanes, tile and clock as published; ddr_port_gb_per_s fitted here",
    )  # fmt: skip
    for board, (name, point, seconds, _, gops) in _BOARDS.items():
        metrics = _run(board, point).metrics
        yield Row(
            id=f"{board}_s", what=f"UbiMoE on {name}, latency", published=seconds,
            predicted=metrics["latency_s"], unit="s", fitted=False, source="table 2",
            allowed=0.10, note=f"{_SEARCHED}: {_FOUND[board]}; taken as that of a single image",
        )  # fmt: skip
        yield Row(
            id=f"{board}_gops", what=f"UbiMoE on {name}, rate at 2.5 GOP per image",
            published=gops, predicted=metrics["paper_gflop_per_s"], unit="GOPS", fitted=False,
            source="table 2", allowed=0.10,
            note=f"the network needs {metrics['gflop_per_s'] * metrics['latency_s']:.2f} GOP",
        )  # fmt: skip


def _ladder() -> Iterator[Row]:
    """Edge-MoE's ablation, from its own last step backwards: one feature less in every row."""
    point = dict(EDGE_MOE)
    for without, (change, published) in LADDER.items():
        point |= change
        yield Row(
            id=f"edge_moe_without_{without}",
            what="Edge-MoE, also without " + without.replace("_", " "),
            published=published, predicted=_run("zcu102", point).metrics["latency_s"], unit="s",
            fitted=False, source=f"{_EDGE}, ablation", allowed=0.20,
            note="no constant of its own; see sim/ubimoe/serial.py for the units replaced",
        )  # fmt: skip


def _resources() -> Iterator[Row]:
    """Resources of both boards' points."""
    for board, figures in _RESOURCES.items():
        name, point, *_ = _BOARDS[board]
        modules = _run(board, point).resources
        total = sum(modules.values(), Resources()).as_dict()
        for kind, published in figures.items():
            yield Row(
                id=f"{board}_{kind}", what=f"{_UNITS[kind]}, UbiMoE on {name}",
                published=published, predicted=total[kind], unit=_UNITS[kind],
                fitted=board == "zcu102", source="table 1", allowed=_ALLOWED[kind],
                note=f"{_SEARCHED}: {_FOUND[board]}",
            )  # fmt: skip


def _power() -> Iterator[Row]:
    """Board power."""
    for board, (name, point, _, watts, _) in _BOARDS.items():
        yield Row(
            id=f"{board}_w", what=f"UbiMoE on {name}, power", published=watts,
            predicted=_run(board, point).metrics["power_w"], unit="W",
            fitted=_fitted(f"{board}_static_w"), source="table 2", allowed=0.15,
            note="static watts of the board fitted; how power was measured is not published",
        )  # fmt: skip
    yield Row(
        id="edge_moe_w", what="Edge-MoE on ZCU102, power", published=14.54,
        predicted=_run("zcu102", EDGE_MOE).metrics["power_w"], unit="W",
        fitted=_fitted("zcu102_static_w"), source="table 2", allowed=0.15,
        note="the same static watts as UbiMoE's on this board, between the two",
    )  # fmt: skip
