"""V-Rex in time: a dialogue of frames, a question and an answer, pass by pass, layer by layer."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from headrace.arch.device import Device
from headrace.arch.point import Point
from headrace.arch.vrex.machine import CoreSizes, core_sizes
from headrace.errors import InputError
from headrace.models.kv_policies import StepTrace
from headrace.models.network import Network
from headrace.models.streaming import VideoDialogue
from headrace.sim.budget import Phase
from headrace.sim.roofline import Roof
from headrace.sim.simulation import FIDELITIES, Simulation
from headrace.sim.vrex.capacity import device_memory
from headrace.sim.vrex.energy import Activity, PowerModel
from headrace.sim.vrex.layers import LayerCost, LayerModel
from headrace.sim.vrex.platform import platform_of
from headrace.sim.vrex.timeline import Span, lay_out
from headrace.sim.vrex.traces import DialogueTraces, traces_of
from headrace.sim.workload import Workload

__all__ = ["METRICS", "analytic_metrics", "dialogue_of", "simulate"]

_VALUE_BYTES = 2
_STAGES = ("frame", "question", "answer")


def simulate(
    point: Point,
    device: Device,
    network: Network,
    workload: Workload,
    fidelity: str = "analytic",
) -> Simulation:
    """Simulate V-Rex, or a GPU, at `point` running a video dialogue on `network`.

    Parameters
    ----------
    point : Point
        On a GPU only its policy, its memory of recent tokens and its frames count.
    device : Device
        A ``vrex`` device, or a GPU: the baseline, with the same policies in software.
    network : Network
        A causal language model.
    workload : Workload
        ``context_tokens`` cached tokens, then ``frames`` frames, ``prompt_tokens`` of a question
        and ``output_tokens`` of an answer, in ``batch`` streams.
    fidelity : {"analytic", "cycle"}
        ``cycle`` runs every pass on its own trace; ``analytic`` one pass of each stage, in the
        middle of it, for all.

    Returns
    -------
    Simulation
        `METRICS`; phases of the stages ``frame``, ``question`` and ``answer``, each the sum over
        its passes.

    Raises
    ------
    InputError
        The network keeps no keys and values, the device has no link, or its memory does not hold
        the weights and the tokens that are to stay.
    """
    if fidelity not in FIDELITIES:
        raise InputError(f"fidelity {fidelity!r} is not allowed: one of {', '.join(FIDELITIES)}")
    dialogue = dialogue_of(point, network, workload)
    needed, available = device_memory(point, device, dialogue)
    if needed > available:
        raise InputError(
            f"device memory of {device.name}: {needed:,} bytes of weights and kept tokens needed, "
            f"{available:,} available"
        )
    traces = traces_of(point, dialogue, every_pass=fidelity == "cycle")
    return _Run(point, device, dialogue, traces).simulation()


def analytic_metrics(point: Point, device: Device, dialogue: VideoDialogue) -> dict[str, float]:
    """Return the metrics of `simulate` at ``analytic``, of a point that device memory holds."""
    traces = traces_of(point, dialogue, every_pass=False)
    return _Run(point, device, dialogue, traces).metrics()


def dialogue_of(point: Point, network: Network, workload: Workload) -> VideoDialogue:
    """Return what `simulate` runs: the workload with the point's tokens per frame."""
    return VideoDialogue(
        network=network,
        history=workload.context_tokens,
        frames=workload.frames,
        frame_tokens=point.integer("frame_tokens"),
        question_tokens=workload.prompt_tokens,
        answer_tokens=workload.output_tokens,
        batch=workload.batch,
    )


METRICS = (
    "frame_s",
    "frames_per_s",
    "tpot_s",
    "question_s",
    "dialogue_s",
    "frame_w",
    "answer_w",
    "frame_j",
    "answer_j",
    "prediction_share",
    "frame_kept_share",
    "answer_kept_share",
    "frame_link_bytes",
    "answer_link_bytes",
    "area_mm2",
    "peak_tflops",
)
"""Names of the metrics: seconds from frame to frame (all streams; with the vision tower beside the
language model a frame is done one later), frames per second of each stream, time
per output token, of the question and of all; average watts and joules of a frame and of a token
of the answer; share of a frame's time that prediction takes; shares of the cached tokens attended
to; bytes over the link per frame and token; area of the cores; peak of the arithmetic."""


@dataclass(frozen=True)
class _Totals:
    """Sums over the passes of a stage, by kernel and layer."""

    spans: dict[tuple[str, int | None], Span]
    passes: int
    units_s: dict[str, float]
    predict_s: float
    link_s: float

    @property
    def seconds(self) -> float:
        return sum(span.seconds for span in self.spans.values())


class _Run:
    """One dialogue on one platform."""

    def __init__(
        self, point: Point, device: Device, dialogue: VideoDialogue, traces: DialogueTraces
    ) -> None:
        self.point, self.device, self.dialogue, self.traces = point, device, dialogue, traces
        self.platform = platform = platform_of(point, device)
        self.sizes: CoreSizes | None = core_sizes(point) if platform.is_asic else None
        self.model = LayerModel(
            network=dialogue.network,
            processor=platform.processor,
            memory_bytes_per_s=platform.memory_bytes_per_s,
            offload=platform.offload,
            batch=dialogue.batch,
            resident_tokens=point.integer("resident_tokens") if traces.offloads else None,
        )

    @cached_property
    def stages(self) -> dict[str, _Totals]:
        """Totals of the stages that the dialogue has."""
        return {stage: self._stage(stage) for stage in _STAGES if self.traces.passes(stage)}

    @cached_property
    def power(self) -> dict[str, dict[str, float]]:
        """Average watts per stage and consumer."""
        return {stage: self._watts(totals) for stage, totals in self.stages.items()}

    @property
    def peak_flop_per_s(self) -> int:
        """Peak of the arithmetic."""
        known = self.device.peak_flop_per_s if self.sizes is None else self.sizes.peak_flop_per_s
        assert known is not None
        return int(known)

    def simulation(self) -> Simulation:
        clock_hz = self.sizes.clock_hz if self.sizes else 1_000_000_000
        tier = self.platform.tier
        tier_rate = self.device.tiers[tier].bandwidth_bytes_per_s
        assert tier_rate is not None
        return Simulation(
            point=self.point,
            metrics=self.metrics(),
            resources={},
            phases={s: _phases(totals, clock_hz, tier) for s, totals in self.stages.items()},
            power=self.power,
            roof=Roof(f"vrex on {self.device.name}", self.peak_flop_per_s, tier_rate),
            clock_hz=clock_hz,
        )

    def _stage(self, stage: str) -> _Totals:
        """Add up the passes of a stage."""
        spans: dict[tuple[str, int | None], Span] = {}
        units: dict[str, float] = {}
        predict_s = link_s = 0.0
        passes = self.traces.passes(stage)
        for weight, layers in passes:
            costs = self._costs(layers)
            for span in self._pass(stage, costs):
                key = span.kernel, span.layer
                spans[key] = _added(spans.get(key), span, weight)
            for cost in costs:
                prediction = cost.prediction
                predict_s += weight * (prediction.matrix_s + prediction.beside_s)
                link_s += weight * cost.fetch_s
                for unit, seconds in prediction.units_s.items():
                    units[unit] = units.get(unit, 0.0) + weight * seconds
        return _Totals(spans, sum(weight for weight, _ in passes), units, predict_s, link_s)

    def _costs(self, layers: Sequence[StepTrace]) -> list[LayerCost]:
        """Return the costs of all layers; equal traces cost the same."""
        known: dict[int, LayerCost] = {}
        for trace in layers:
            if id(trace) not in known:
                known[id(trace)] = self.model.cost(trace)
        return [known[id(trace)] for trace in layers]

    def _pass(self, stage: str, costs: Sequence[LayerCost]) -> list[Span]:
        """Return the spans of one pass, in order."""
        ahead = self.point.text("prefetch") == "layer"
        spans = lay_out(costs, self.platform.memory_bytes_per_s, ahead=ahead)
        spans.append(self._head())
        if stage == "frame":
            spans.insert(0, self._vision(spans))
        return spans

    def _span(self, kernel: str, seconds: float, macs: int, size: int) -> Span:
        memory_s = size / self.platform.memory_bytes_per_s
        return Span(
            kernel=kernel,
            layer=None,
            seconds=max(seconds, memory_s),
            bound="memory" if memory_s > seconds else "compute",
            macs=macs,
            bytes={"memory": size},
        )

    def _vision(self, others: Sequence[Span]) -> Span:
        """Return the vision tower and the projector; all patches of all streams at once.

        Beside the language model only what does not fit into its waiting is left of the time:
        arithmetic while `others` wait for memory or link, and the read of the tower's weights.
        """
        dialogue, processor = self.dialogue, self.platform.processor
        net, tokens = dialogue.vision, dialogue.batch * dialogue.frame_tokens
        rows = dialogue.batch * net.max_positions
        attention = sum(op.macs(net.max_positions) for op in net.operators_of("attention"))
        seconds = processor.macs_s(dialogue.batch * attention)
        for op in net.operators_of("matmul"):
            seconds += processor.product_s(rows, op.in_features, op.out_features)
        for inputs, outputs in dialogue.projector_shapes:
            seconds += processor.product_s(tokens, inputs, outputs)
        if self.point.text("vision") == "beside":
            slack = sum(max(0.0, span.seconds - processor.macs_s(span.macs)) for span in others)
            seconds -= min(seconds, slack)
        size = _VALUE_BYTES * dialogue.vision_parameters
        return self._span("vision", seconds, dialogue.vision_macs(), size)

    def _head(self) -> Span:
        """Return the LM head for the last token: after a frame it tells whether to speak."""
        net, batch = self.dialogue.network, self.dialogue.batch
        seconds = self.platform.processor.product_s(batch, net.hidden_size, net.vocab_size)
        weights = net.lm_head_parameters
        return self._span("lm_head", seconds, batch * weights, _VALUE_BYTES * weights)

    def _watts(self, totals: _Totals) -> dict[str, float]:
        spans = totals.spans.values()
        model = PowerModel(
            sizes=self.sizes,
            device_w=self.platform.device_w,
            dram=self.platform.dram,
            pcie=self.platform.pcie,
            drive=self.platform.drive,
        )
        return model.watts(
            Activity(
                seconds=totals.seconds,
                macs=sum(span.macs for span in spans),
                units_s=totals.units_s,
                link_s=totals.link_s,
                waiting_s=sum(span.seconds for span in spans if span.bound == "link"),
                memory_bytes=sum(span.bytes["memory"] for span in spans),
            )
        )

    def metrics(self) -> dict[str, float]:
        stages = self.stages
        seconds = {s: t.seconds / t.passes for s, t in stages.items()}
        watts = {s: sum(parts.values()) for s, parts in self.power.items()}
        link = {s: sum(x.bytes.get("link", 0) for x in t.spans.values()) / t.passes
                for s, t in stages.items()}  # fmt: skip
        kept = self.traces.kept_share
        figures = {
            "dialogue_s": sum(t.seconds for t in stages.values()),
            "area_mm2": sum(self.sizes.area_mm2().values()) if self.sizes else 0.0,
            "peak_tflops": self.peak_flop_per_s / 1e12,
        }
        if "frame" in stages:
            frame = stages["frame"]
            figures |= {
                "frame_s": seconds["frame"],
                "frames_per_s": 1 / seconds["frame"],
                "frame_w": watts["frame"],
                "frame_j": watts["frame"] * seconds["frame"],
                "prediction_share": frame.predict_s / frame.seconds,
                "frame_kept_share": kept("frame"),
                "frame_link_bytes": link["frame"],
            }
        if "question" in stages:
            figures["question_s"] = seconds["question"]
        if "answer" in stages:
            figures |= {
                "tpot_s": seconds["answer"],
                "answer_w": watts["answer"],
                "answer_j": watts["answer"] * seconds["answer"],
                "answer_kept_share": kept("answer"),
                "answer_link_bytes": link["answer"],
            }
        return {name: figures[name] for name in METRICS if name in figures}


def _added(known: Span | None, span: Span, weight: int) -> Span:
    """Return `known` with `weight` times another span of the same kernel and layer."""
    base = known or Span(kernel=span.kernel, layer=span.layer, seconds=0.0, bound=span.bound)
    tiers = {*base.bytes, *span.bytes}
    return Span(
        kernel=span.kernel,
        layer=span.layer,
        seconds=base.seconds + weight * span.seconds,
        bound=span.bound if weight * span.seconds >= base.seconds else base.bound,
        macs=base.macs + weight * span.macs,
        bytes={t: base.bytes.get(t, 0) + weight * span.bytes.get(t, 0) for t in tiers},
    )


def _phases(totals: _Totals, clock_hz: int, tier: str) -> list[Phase]:
    """Return the spans as phases; cycles are rounded so that their sum is right to one cycle."""
    phases, now, done = [], 0.0, 0
    for span in totals.spans.values():
        now += span.seconds
        cycles = round(now * clock_hz) - done
        done += cycles
        term = {"memory": "memory", "link": "stall", "units": "stall"}.get(span.bound, "steady")
        where = "" if span.layer is None else f"layers.{span.layer}."
        terms: dict[str, int] = {term: cycles}
        phases.append(
            Phase(
                name=where + span.kernel,
                kernel=span.kernel,
                operator=where + span.kernel,
                cycles=cycles,
                bound=tier if span.bound == "memory" else span.bound,
                bytes={tier: span.bytes.get("memory", 0), "link": span.bytes.get("link", 0)},
                macs=span.macs,
                layer=span.layer,
                **terms,
            )
        )
    return phases
