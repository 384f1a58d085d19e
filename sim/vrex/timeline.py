"""A pass in time: layers one after the other, with prediction and fetch beside them."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from headrace.sim.vrex.layers import LayerCost

__all__ = ["Span", "lay_out"]


@dataclass(frozen=True, kw_only=True)
class Span:
    """One part of a pass.

    Attributes
    ----------
    kernel : str
        ``qkv``, ``prediction``, ``attention``, ``ffn``, ``fetch`` (waiting for fetched tokens or
        for units), ``evict``, ``vision`` or ``lm_head``.
    layer : int or None
    seconds : float
    bound : str
        ``compute``, ``memory``, ``link`` or ``units``.
    macs : int
    bytes : dict of str to int
        By ``memory`` and ``link``.
    """

    kernel: str
    layer: int | None
    seconds: float
    bound: str
    macs: int = 0
    bytes: dict[str, int] = field(default_factory=dict)


def lay_out(costs: Sequence[LayerCost], memory_bytes_per_s: float, *, ahead: bool) -> list[Span]:
    """Return the spans of the layers of a pass, which add up to its time.

    Parameters
    ----------
    costs : sequence of LayerCost
        One for each layer.
    memory_bytes_per_s : float
    ahead : bool
        Predict and fetch for the next layer beside attention and FFN of this one (figure 5); the
        last layer does so for the first one of the next pass, whose choice this one's stands for.
        Else each layer predicts and fetches for itself before its attention.

    Returns
    -------
    list of Span
        A layer is QKV, the matrix unit's share of prediction, attention, FFN, and what fetch and
        units take beyond attention and FFN; then what eviction takes.
    """
    spans: list[Span] = []
    for number, cost in enumerate(costs):
        target = costs[(number + 1) % len(costs)] if ahead else cost
        beside = target.prediction.beside_s + target.fetch_s
        covered = cost.attention_s + cost.ffn_s if ahead else 0.0

        def span(kernel: str, seconds: float, bound: str = "", link: int = 0) -> None:
            size = cost.bytes.get(kernel, 0)  # noqa: B023  called at once
            if not bound:
                waits = size / memory_bytes_per_s >= seconds * (1 - 1e-9)
                bound = "memory" if waits else "compute"
            spans.append(
                Span(
                    kernel=kernel,
                    layer=number,  # noqa: B023
                    seconds=seconds,
                    bound=bound,
                    macs=cost.macs.get(kernel, 0),  # noqa: B023
                    bytes={"memory": size, "link": link},
                )
            )

        span("qkv", cost.qkv_s)
        span("prediction", cost.predict_s)
        span("attention", cost.attention_s)
        span("ffn", cost.ffn_s)
        by = "link" if target.fetch_s > target.prediction.beside_s else "units"
        span("fetch", max(0.0, beside - covered), by, cost.link_bytes)
        span("evict", cost.evict_s, "link")
    return spans
