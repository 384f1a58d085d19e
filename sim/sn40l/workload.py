"""One pass of a network as the tasks that one SN40L socket runs, segment by segment."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby

from headrace.errors import InputError
from headrace.models.network import FORMAT_BITS, Network, Operator

__all__ = ["Pass", "Segment", "Task", "segments_of"]

_LIMIT = 1 << 20
_MATMULS = ("matmul", "ternary_matmul", "lm_head", "classifier", "patch_embedding",
            "expert_matmul", "gate")  # fmt: skip
_VECTORS = {
    "embedding": 0,
    "position_add": 1,
    "rms_norm": 4,
    "layer_norm": 7,
    "rope": 3,
    "quantise": 3,
    "gelu": 8,
}
"""Operations per value of operators that one task of the SIMD pipeline does [inferred]."""
_GATES = {"swiglu": ("silu", 4), "relu2_gate": ("relu2", 2)}
_HEADS = ("lm_head", "classifier")
_GATHERS = ("embedding", "position_add")


@dataclass(frozen=True, kw_only=True)
class Pass:
    """One forward pass, split over sockets.

    Parameters
    ----------
    network : Network
    tokens : int
        New tokens of each sequence: the prompt in prefill, 1 in decode.
    context : int
        Tokens of each sequence that are cached; only with a KV cache.
    batch : int
        Sequences.
    tensor_parallel : int
        Sockets that share the weights, heads and FFN of every layer.

    Raises
    ------
    InputError
        A count is out of range, or the sockets do not divide heads, KV heads or FFN.
    """

    network: Network
    tokens: int
    context: int = 0
    batch: int = 1
    tensor_parallel: int = 1

    def __post_init__(self) -> None:
        least = {"tokens": 1, "context": 0, "batch": 1, "tensor_parallel": 1}
        for name, low in least.items():
            value = getattr(self, name)
            if type(value) is not int or not low <= value <= _LIMIT:
                raise InputError(f"{name} = {value!r} is not allowed: {low} to {_LIMIT}")
        net, sockets = self.network, self.tensor_parallel
        widths = {
            "heads": net.heads,
            "KV heads": net.kv_heads,
            "FFN width": net.intermediate_size,
            "expert width": net.expert_size,
        }
        for name, value in widths.items():
            if value % sockets:
                raise InputError(
                    f"{net.name}: tensor_parallel = {sockets} does not divide its {value} ({name})"
                )
        if self.context and not all(op.causal for op in net.operators_of("attention")):
            raise InputError(f"{net.name}: context = {self.context}; it keeps no KV cache, so 0")


@dataclass(frozen=True, kw_only=True)
class Task:
    """One operator of a framework: the smallest thing that can be a kernel, a stage of a section.

    Attributes
    ----------
    name : str
        Unique in its segment; also that of the tensor it makes.
    kind : str
    inputs : tuple of str
        Tensors of which row i is read for row i of the result.
    row_bytes : int
        Bytes of one row of the result; there is a row per new token and sequence.
    macs, values, steps : int
        Multiply-accumulates; values the SIMD pipeline takes, and operations on each.
    weight_bytes, stored_bytes : int
        Bytes of the weights that the pass meets, and of all as they are stored.
    gathers : bool
        The weights are a table of which each row of the result reads its own row.
    whole : str
        Tensor of which the rows of the sequence are read for every row: keys or values.
    whole_row_bytes, whole_cached, window : int
        Bytes of one token in it; tokens before the new ones that are read; the most that a
        row reads (0: all).
    causal : bool
        Whether row i reads only rows up to its own of `whole`, and cached ones.
    kept : bool
        The result goes into the KV cache.
    link_bytes : int
        Bytes of the all-reduce over the sockets that it is, or needs.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    row_bytes: int
    macs: int = 0
    values: int = 0
    steps: int = 0
    weight_bytes: int = 0
    stored_bytes: int = 0
    gathers: bool = False
    whole: str = ""
    whole_row_bytes: int = 0
    whole_cached: int = 0
    window: int = 0
    causal: bool = True
    kept: bool = False
    link_bytes: int = 0

    @property
    def flop(self) -> int:
        """Operations: two per multiply-accumulate, and those of the SIMD pipeline."""
        return 2 * self.macs + self.values * self.steps


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A run of tasks that is compiled at once: a layer, or what stands before or after them.

    Equal layers give equal segments.

    Attributes
    ----------
    name : str
    tasks : tuple of Task
        In an order that respects their inputs.
    inputs : tuple of (str, int)
        Tensors from outside and the bytes of a row.
    outputs : tuple of str
        Tensors that are read outside.
    tokens, batch : int
        Rows of each sequence; sequences.
    """

    name: str
    tasks: tuple[Task, ...]
    inputs: tuple[tuple[str, int], ...]
    outputs: tuple[str, ...]
    tokens: int
    batch: int

    @property
    def rows(self) -> int:
        """Rows of all sequences."""
        return self.tokens * self.batch


def segments_of(work: Pass) -> tuple[Segment, ...]:
    """Return the segments of a pass on one socket, in order, one per layer.

    Weights, heads and FFN are split over the sockets: a matmul of a whole row gives a split one,
    a matmul of a split row an all-reduce. Norms, residuals and the embedding are done by
    every socket.

    Raises
    ------
    InputError
        An operator is of a kind that has no task here.
    """
    groups = [tuple(group) for _, group in groupby(work.network.operators, key=lambda o: o.layer)]
    split: dict[str, bool] = {}
    return tuple(_SegmentBuilder(work, group, split).build() for group in groups)


@dataclass
class _SegmentBuilder:
    """Turns operators into tasks; `split` knows which results so far are spread over sockets."""

    work: Pass
    operators: tuple[Operator, ...]
    split: dict[str, bool]
    tasks: list[Task] = field(default_factory=list)
    tensors: dict[str, str] = field(default_factory=dict)
    inputs: dict[str, int] = field(default_factory=dict)

    def build(self) -> Segment:
        """Return the segment; of a head only each sequence's last row is wanted."""
        has_head = any(op.kind in _HEADS for op in self.operators)
        self.tokens = 1 if has_head else self.work.tokens
        self.kept = set(self._kept())
        for op in self.operators:
            self._add_operator(op)
        first = self.operators[0]
        graph = self.work.network.graph
        own = {op.name for op in self.operators}
        outputs = (op.name for op in self.operators
                   if not own.issuperset(graph.successors(op.name)) or not graph.out_degree(op.name)
                   )  # fmt: skip
        return Segment(
            name=first.name if first.layer is None else "layer",
            tasks=tuple(self.tasks),
            inputs=tuple(self.inputs.items()),
            outputs=tuple(self.tensors[name] for name in outputs),
            tokens=self.tokens,
            batch=self.work.batch,
        )

    def _kept(self) -> Iterator[str]:
        for op in self.operators:
            if op.kind == "attention" and op.causal:
                yield from list(self.work.network.graph.predecessors(op.name))[1:]

    @property
    def _rows(self) -> int:
        return self.tokens * self.work.batch

    def _share(self, value: int, split: bool) -> int:
        return -(-value // self.work.tensor_parallel) if split else value

    def _sources(self, op: Operator) -> tuple[str, ...]:
        """Return the names of the tensors an operator reads, and note those from outside."""
        names = []
        for source in self.work.network.graph.predecessors(op.name):
            if source not in self.tensors:
                known = self.work.network.operator(source)
                self.tensors[source] = f"input.{len(self.inputs)}"
                row = self._share(known.output_bytes(1), self.split[source])
                self.inputs[self.tensors[source]] = row
            names.append(self.tensors[source])
        if not names:
            names = [f"input.{len(self.inputs)}"]
            self.inputs[names[0]] = op.input_bytes(1)
        return tuple(names)

    def _add(self, name: str, kind: str, inputs: tuple[str, ...], **facts: int | str | bool) -> str:
        task = Task(name=name, kind=kind, inputs=inputs, **facts)  # type: ignore[arg-type]
        self.tasks.append(task)
        return name

    def _add_operator(self, op: Operator) -> None:
        name = op.name.removeprefix(f"layers.{op.layer}.")
        sources = self._sources(op)
        parents = list(self.work.network.graph.predecessors(op.name))
        split = any(self.split[parent] for parent in parents)
        if op.kind in _MATMULS:
            self.split[op.name], last = self._matmul(op, name, sources, split)
        else:
            self.split[op.name] = split
            if op.kind == "attention":
                last = self._attention(op, name, sources)
            elif op.kind in _GATES:
                last = self._gate(op, name, sources, split)
            else:
                last = self._vector(op, name, sources, split)
        self.tensors[op.name] = last

    def _matmul(
        self, op: Operator, name: str, sources: tuple[str, ...], split: bool
    ) -> tuple[bool, str]:
        """Add a product; a split row makes it a sum over the sockets."""
        whole = op.kind in ("gate", "patch_embedding")
        spread = not whole and not split and self.work.tensor_parallel > 1
        row = self._share(op.output_bytes(1), spread)
        last = self._add(
            name,
            op.kind,
            sources,
            row_bytes=row,
            macs=self._share(op.macs(self.tokens, 0) * self.work.batch, not whole),
            weight_bytes=self._share(self._weights_read(op), not whole),
            stored_bytes=self._share(op.weight_bytes(), not whole),
            kept=op.name in self.kept,
        )
        if split:
            last = self._add(
                f"{name}.all_reduce",
                "all_reduce",
                (last,),
                row_bytes=row,
                values=self._rows * op.out_features * op.rows_per_token,
                steps=1,
                link_bytes=self._rows * row,
            )
        return spread, last

    def _weights_read(self, op: Operator) -> int:
        """Return the bytes of the weights that are met: rows of an embedding, experts."""
        size = op.weight_bytes()
        if op.kind in _GATHERS:
            return self._rows * op.output_bytes(1)
        if op.kind == "expert_matmul":
            experts = op.weight_shape[0]
            return size * min(experts, self._rows * op.rows_per_token) // experts
        return size

    def _vector(self, op: Operator, name: str, sources: tuple[str, ...], split: bool) -> str:
        """Add a task of the SIMD pipeline."""
        steps = {"residual_add": op.inputs - 1, "combine": 2 * op.inputs} | _VECTORS
        if op.kind not in steps:
            raise InputError(f"{op.name}: kind = {op.kind!r} has no task on the SN40L")
        is_norm = op.kind in ("rms_norm", "layer_norm")
        return self._add(
            name,
            op.kind,
            sources,
            row_bytes=self._share(op.output_bytes(1), split),
            values=self._rows * op.rows_per_token * self._share(op.out_features, split),
            steps=steps[op.kind],
            weight_bytes=self._share(self._weights_read(op), split),
            stored_bytes=self._share(op.weight_bytes(), split),
            gathers=op.kind in _GATHERS,
            kept=op.name in self.kept,
            link_bytes=4 * self._rows if is_norm and split else 0,  # a sum of squares per row
        )

    def _gate(self, op: Operator, name: str, sources: tuple[str, ...], split: bool) -> str:
        """Add an activation of the first input, and its product with the second."""
        function, steps = _GATES[op.kind]
        row = self._share(op.output_bytes(1), split)
        values = self._rows * self._share(op.out_features, split)
        curved = self._add(
            f"{name}.{function}", function, sources[:1], row_bytes=row, values=values, steps=steps
        )
        return self._add(
            f"{name}.multiply",
            "multiply",
            (curved, *sources[1:]),
            row_bytes=row,
            values=values,
            steps=1,
        )

    def _attention(self, op: Operator, name: str, sources: tuple[str, ...]) -> str:
        """Add scores, scale and mask (with ALiBi its bias), softmax, the sum of the values."""
        if len(sources) != 3:
            raise InputError(f"{op.name}: queries, keys and values are needed as its inputs")
        query, key, value = sources
        work, heads = self.work, op.heads // self.work.tensor_parallel
        head_bytes = op.head_dim * FORMAT_BITS[op.activation_format] // 8
        kv_row = op.kv_heads // work.tensor_parallel * head_bytes
        pairs = heads * op.attention_pairs(self.tokens, work.context) * work.batch
        cached = min(work.context, op.window - 1) if op.window else work.context
        score_bits = heads * (self.tokens + cached) * FORMAT_BITS[op.output_format]
        product = {
            "macs": op.head_dim * pairs,
            "whole_row_bytes": kv_row,
            "whole_cached": cached,
            "window": op.window,
            "causal": op.causal,
        }
        last = self._add(
            f"{name}.scores", "scores", (query,), row_bytes=score_bits // 8, whole=key, **product
        )
        mask = "bias" if work.network.positions == "alibi" else "mask"
        for kind, steps in ((mask, 2), ("softmax", 5)):
            last = self._add(
                f"{name}.{kind}", kind, (last,), row_bytes=score_bits // 8, values=pairs,
                steps=steps,
            )  # fmt: skip
        return self._add(
            f"{name}.values", "values", (last,), row_bytes=heads * head_bytes, whole=value,
            **product,
        )  # fmt: skip
