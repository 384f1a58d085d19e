"""What one layer of one pass costs: times of its parts, bytes of memory and link."""

from dataclasses import dataclass

import numpy as np

from headrace.models.kv_policies import StepTrace
from headrace.models.network import Network
from headrace.sim.vrex.link import Offload
from headrace.sim.vrex.processor import Prediction, Processor

__all__ = ["LayerCost", "LayerModel"]

_VALUE_BYTES = 2  # bfloat16


@dataclass(frozen=True, kw_only=True)
class LayerCost:
    """Seconds, bytes and multiply-accumulates of one layer in one pass.

    Attributes
    ----------
    qkv_s, attention_s, ffn_s : float
        The longer of arithmetic and device memory; `ffn_s` includes the output projection.
    predict_s : float
        The part of prediction on the matrix unit, or its read of tables.
    prediction : Prediction
    fetch_s : float
        Of the fetched tokens over the link.
    evict_s : float
        For which the layer waits until evicted tokens are written.
    memory_bytes, link_bytes : int
    macs : dict of str to int
        By kernel.
    bytes : dict of str to int
        Device memory, by kernel.
    """

    qkv_s: float
    attention_s: float
    ffn_s: float
    predict_s: float
    prediction: Prediction
    fetch_s: float
    evict_s: float
    link_bytes: int
    macs: dict[str, int]
    bytes: dict[str, int]

    @property
    def memory_bytes(self) -> int:
        """Bytes from and to device memory."""
        return sum(self.bytes.values())


@dataclass(frozen=True, kw_only=True)
class LayerModel:
    """Costs layers of a language model.

    Parameters
    ----------
    network : Network
    processor : Processor
    memory_bytes_per_s : float
        What device memory sustains.
    offload : Offload
        Link and store behind it.
    batch : int
        Streams side by side: they share weights.
    resident_tokens : int or None
        Newest tokens of a stream in device memory; older ones are written out. None: a policy
        that writes none.
    """

    network: Network
    processor: Processor
    memory_bytes_per_s: float
    offload: Offload
    batch: int
    resident_tokens: int | None

    def _evicted(self, step: StepTrace) -> int:
        """Return the tokens of a stream that leave device memory with this step."""
        if self.resident_tokens is None:
            return 0
        return min(step.tokens, max(0, step.cached + step.tokens - self.resident_tokens))

    def cost(self, step: StepTrace) -> LayerCost:
        """Return what a layer costs in a pass with this trace."""
        n, rows = self.network, step.tokens * self.batch
        hidden, width = n.hidden_size, n.heads * n.head_dim
        kv_width = n.kv_heads * n.head_dim
        macs = {
            "qkv": rows * hidden * (width + 2 * kv_width),
            "ffn": rows * (width * hidden + 3 * hidden * n.intermediate_size),
        }
        product = self.processor.product_s
        qkv_s = product(rows, hidden, width + 2 * kv_width)
        ffn_s = product(rows, width, hidden) + product(rows, hidden, 2 * n.intermediate_size)
        ffn_s += product(rows, n.intermediate_size, hidden)
        kept = np.asarray(step.kept, np.int64)
        fetched = int(np.sum(step.fetched))
        seen = int(kept.sum()) + n.kv_heads * step.tokens
        macs["attention"] = 2 * rows * (n.heads // n.kv_heads) * n.head_dim * seen
        per_head = 2 * n.head_dim * _VALUE_BYTES
        prediction = self.processor.prediction(step, self.batch)
        sizes = {
            "qkv": _VALUE_BYTES * hidden * (width + 2 * kv_width),
            "ffn": _VALUE_BYTES * (width * hidden + 3 * hidden * n.intermediate_size),
            "attention": self.batch * per_head * (seen + fetched + n.kv_heads * step.tokens),
            "prediction": self.batch * step.table_bytes,
        }
        memory_s = {k: size / self.memory_bytes_per_s for k, size in sizes.items()}
        link_bytes = self.batch * per_head * fetched
        evicted = self.batch * self._evicted(step)
        return LayerCost(
            qkv_s=max(qkv_s, memory_s["qkv"]),
            attention_s=max(self.processor.macs_s(macs["attention"]), memory_s["attention"]),
            ffn_s=max(ffn_s, memory_s["ffn"]),
            predict_s=max(prediction.matrix_s, memory_s["prediction"]),
            prediction=prediction,
            fetch_s=self.offload.fetch_s(link_bytes, self.batch * int(np.sum(step.requests))),
            evict_s=self.offload.evict_s(evicted),
            link_bytes=link_bytes + evicted * n.kv_heads * per_head,
            macs=macs | {"prediction": self.batch * step.work.macs},
            bytes=sizes,
        )
