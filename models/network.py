"""A network as a directed graph of operators, from a preset or a config.json."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

import networkx as nx

from headrace.errors import InputError
from headrace.models.builders import build_graph
from headrace.models.config import NetworkConfig, parse_config
from headrace.models.json_file import read_json_object
from headrace.models.operators import FORMAT_BITS, KINDS, Operator

__all__ = [
    "FORMAT_BITS",
    "KINDS",
    "Network",
    "NetworkConfig",
    "Operator",
    "load_network",
    "network_from_config",
    "network_names",
]

_LINEAR_KINDS = ("ternary_matmul", "matmul", "expert_matmul")


@dataclass(frozen=True, kw_only=True)
class Network(NetworkConfig):
    """The facts of a network (see `NetworkConfig`) and its operator graph.

    Attributes
    ----------
    graph : networkx.DiGraph
        Nodes are operator names with the `Operator` as attribute ``operator``; an edge means
        that the result of the first is read by the second.
    """

    graph: nx.DiGraph = field(repr=False, compare=False)

    @cached_property
    def operators(self) -> tuple[Operator, ...]:
        """All operators in an order that respects the edges."""
        return tuple(self.graph.nodes[name]["operator"] for name in self.graph.nodes)

    def operator(self, name: str) -> Operator:
        """Return one operator by name; raise `InputError` if there is none."""
        if name not in self.graph:
            raise InputError(f"{self.name}: no operator {name!r}")
        found: Operator = self.graph.nodes[name]["operator"]
        return found

    def layer_operators(self, layer: int) -> tuple[Operator, ...]:
        """Operators of one transformer layer, in order; layers count from 0."""
        return tuple(self._select(layer=layer))

    def operators_of(self, *kinds: str) -> tuple[Operator, ...]:
        """Operators of the given kinds, in order."""
        return tuple(op for op in self.operators if op.kind in kinds)

    def _select(self, layer: int) -> Iterator[Operator]:
        return (op for op in self.operators if op.layer == layer)

    @property
    def linear_parameters(self) -> int:
        """Weights of the linear layers inside the transformer layers."""
        return sum(op.weights for op in self.operators_of(*_LINEAR_KINDS))

    @property
    def lm_head_parameters(self) -> int:
        """Weights of the LM head (or classifier), whether tied or not."""
        return sum(op.weights for op in self.operators_of("lm_head", "classifier"))

    @property
    def parameters(self) -> int:
        """Trained parameters; tied weights count once."""
        tied = self.lm_head_parameters if self.tied_embedding else 0
        return sum(op.parameters for op in self.operators) - tied

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes of keys and values that one token of context occupies, all layers."""
        return sum(op.kv_write_bytes(1) for op in self.operators_of("attention"))

    def macs(self, tokens: int, context: int = 0) -> int:
        """Multiply-accumulates of all operators for `tokens` new tokens after `context`."""
        return sum(op.macs(tokens, context) for op in self.operators)

    def weight_bytes(self) -> int:
        """Bytes of all weights as stored, a tied embedding in both its formats."""
        return sum(op.weight_bytes() for op in self.operators)

    def facts(self) -> dict[str, Any]:
        """Return name, summary, shapes and totals as plain values, ready for JSON."""
        config = {key: value for key, value in _plain_fields(self).items() if key != "graph"}
        return config | {
            "linear_parameters": self.linear_parameters,
            "lm_head_parameters": self.lm_head_parameters,
            "parameters": self.parameters,
            "kv_bytes_per_token": self.kv_bytes_per_token,
        }


def _plain_fields(network: Network) -> dict[str, Any]:
    """Return the fields of a network without copying its graph."""
    return {name: getattr(network, name) for name in network.__dataclass_fields__}


def network_from_config(config: str | Path | Mapping[str, Any], *, name: str = "") -> Network:
    """Build a network from a Hugging Face config.

    Parameters
    ----------
    config : path or mapping
        A ``config.json``, a folder that holds one, or its content. Families: BitNet (both
        1bitLLM's and transformers' form), Llama with grouped-query attention, ViT.
    name : str, optional
        Name of the network; by default that of the folder.

    Raises
    ------
    InputError
        The file cannot be read, or a key is missing, mistyped or out of range.
    """
    if isinstance(config, Mapping):
        facts = parse_config(config, name=name or "network", where="config")
    else:
        path = Path(config)
        path = path / "config.json" if os.path.isdir(path) else path
        default = path.parent.name if path.name == "config.json" else path.stem
        facts = parse_config(read_json_object(path), name=name or default, where=str(path))
    return Network(**asdict(facts), graph=build_graph(facts))


def network_names() -> tuple[str, ...]:
    """Return the names of the networks that come with headrace, sorted."""
    folder = files("headrace.models") / "presets"
    return tuple(
        sorted(p.name.removesuffix(".json") for p in folder.iterdir() if p.name.endswith(".json"))
    )


def load_network(name_or_folder: str | Path) -> Network:
    """Return a network by the name of a preset or from a folder with a ``config.json``.

    Raises
    ------
    InputError
        Neither a preset nor a path that exists, or its config is not acceptable.
    """
    name = str(name_or_folder)
    if name in network_names():
        path = Path(str(files("headrace.models") / "presets" / f"{name}.json"))
        return network_from_config(path, name=name)
    if not os.path.exists(name):  # False for names that no file can have
        raise InputError(
            f"unknown network {name!r}: one of {', '.join(network_names())}, "
            "or a folder with a config.json, is needed"
        )
    return network_from_config(name)
