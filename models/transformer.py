"""The forward pass of a BitNet, with a KV cache, in either numerics."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from headrace.errors import InputError
from headrace.models.checkpoint import Checkpoint, LayerWeights
from headrace.models.numerics import Array, make_numerics

__all__ = ["KVCache", "Transformer", "token_bits"]

EVALUATION_WINDOW = 256
"""Tokens per window of `token_bits`; what tiny-bitnet was trained on."""


class KVCache:
    """Keys and values of all layers, in the numerics of the model that fills it.

    Attributes
    ----------
    length : int
        Tokens whose keys and values are stored.
    """

    def __init__(self, model: "Transformer") -> None:
        net = model.network
        self._shape = (net.kv_heads, net.head_dim)
        empty = np.empty((0, *self._shape), dtype=model.dtype)
        self._keys = [empty] * net.layers
        self._values = [empty] * net.layers
        self.length = 0

    def append(self, layer: int, k: Array, v: Array) -> tuple[Array, Array]:
        """Store new keys and values, shape (tokens, kv_heads, head_dim); return all of them."""
        need = self.length + len(k)
        if need > len(self._keys[layer]):
            self._keys[layer] = self._grown(self._keys[layer], need)
            self._values[layer] = self._grown(self._values[layer], need)
        self._keys[layer][self.length : need] = k
        self._values[layer][self.length : need] = v
        return self._keys[layer][:need], self._values[layer][:need]

    def _grown(self, old: Array, need: int) -> Array:
        # doubling keeps appending one token cheap
        new = np.empty((max(need, 2 * len(old)), *self._shape), dtype=old.dtype)
        new[: self.length] = old[: self.length]
        return new


class Transformer:
    """A BitNet that can be run.

    Parameters
    ----------
    checkpoint : Checkpoint
    precision : str
        ``float32`` (BitNet's maths as its authors compute it) or ``hardware`` (TeLLMe's half
        precision, every operation rounded).
    matmul : str
        ``integer``, or TeLLMe's ``naive``, ``half``, ``full``; the numbers are the same.
    group_size : int
        G of the table methods, from 1 to 5.

    Raises
    ------
    InputError
        Unknown precision or matmul.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        precision: str = "float32",
        matmul: str = "integer",
        group_size: int = 3,
    ) -> None:
        self.network = checkpoint.network
        self._numerics = make_numerics(checkpoint, precision, matmul, group_size)
        self._final_norm = checkpoint.final_norm
        self.dtype = self._numerics.dtype

    def hidden_states(self, ids: Sequence[int] | Array, cache: KVCache | None = None) -> Array:
        """Return the embedding and the output of every layer.

        Parameters
        ----------
        ids : sequence of int
            New tokens, at least one.
        cache : KVCache, optional
            Holds the tokens before; the new ones are added.

        Returns
        -------
        ndarray, shape (layers + 1, tokens, hidden_size)
            The last layer's output is normalised by the final norm.

        Raises
        ------
        InputError
            A token is not in the vocabulary, or the sequence is longer than the network allows.
        """
        cache = cache or KVCache(self)
        tokens = self._check(ids, cache)
        positions = np.arange(cache.length, cache.length + len(tokens))
        states = [self._numerics.embed(tokens)]
        for index, layer in enumerate(self._numerics.layers):
            x = self._attention_block(states[-1], layer, index, positions, cache)
            states.append(self._ffn_block(x, layer))
        cache.length += len(tokens)
        states[-1] = self._numerics.norm(states[-1], self._final_norm)
        return np.stack(states)

    def forward(
        self, ids: Sequence[int] | Array, cache: KVCache | None = None, *, last_only: bool = False
    ) -> NDArray[np.float32]:
        """Return logits, float32 of shape (tokens, vocab_size), or (1, ..) with `last_only`.

        Parameters and errors as in `hidden_states`.
        """
        # weights that are absurd, though finite, overflow; the check below tells the user
        with np.errstate(all="ignore"):
            x = self.hidden_states(ids, cache)[-1]
            logits = self._numerics.logits(x[-1:] if last_only else x)
        if not np.isfinite(logits).all():
            raise InputError(
                f"{self.network.name}: activations leave the range of "
                f"{np.dtype(self.dtype).name}; the checkpoint's scales or norms are too large"
            )
        return logits

    def _check(self, ids: Sequence[int] | Array, cache: KVCache) -> NDArray[np.int64]:
        tokens = np.asarray(ids)
        vocab, longest = self.network.vocab_size, self.network.max_positions
        if tokens.ndim != 1 or not tokens.size or not np.issubdtype(tokens.dtype, np.integer):
            raise InputError("token ids: a non-empty list of integers is needed")
        if tokens.min() < 0 or tokens.max() >= vocab:
            raise InputError(f"token ids: values from 0 to {vocab - 1} are needed")
        if cache.length + len(tokens) > longest:
            raise InputError(
                f"{cache.length + len(tokens)} tokens; at most {longest} positions are possible"
            )
        return tokens.astype(np.int64)

    def _attention_block(
        self,
        x: Array,
        layer: LayerWeights,
        index: int,
        positions: NDArray[np.int64],
        cache: KVCache,
    ) -> Array:
        num = self._numerics
        h = num.norm(x, layer.input_norm)
        heads = [
            y.reshape(len(x), -1, self.network.head_dim)
            for y in num.linears(h, layer.q_proj, layer.k_proj, layer.v_proj)
        ]
        k, v = cache.append(index, num.rotate(heads[1], positions), heads[2])
        a = num.attend(num.rotate(heads[0], positions), k, v).reshape(len(x), -1)
        (o,) = num.linears(num.norm(a, layer.attention_sub_norm), layer.o_proj)
        return num.add(x, o)

    def _ffn_block(self, x: Array, layer: LayerWeights) -> Array:
        num = self._numerics
        h = num.norm(x, layer.post_attention_norm)
        up, gate = num.linears(h, layer.up_proj, layer.gate_proj)
        g = num.norm(num.gate(gate, up), layer.ffn_sub_norm)
        (d,) = num.linears(g, layer.down_proj)
        return num.add(x, d)


def token_bits(
    model: Transformer, ids: Sequence[int], window: int = EVALUATION_WINDOW
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Score a text in windows without overlap.

    The last window reaches back so that it is full, but scores only what is new.

    Parameters
    ----------
    model : Transformer
    ids : sequence of int
        The first token is given, the others are predicted; at least two.
    window : int
        Tokens a prediction may see, at least 1.

    Returns
    -------
    bits : ndarray of float64, shape (len(ids) - 1,)
        -log2 of the probability of each token but the first.
    best : ndarray of int64, same shape
        The most likely token at each of these positions.

    Raises
    ------
    InputError
        Fewer than two tokens, or a window that is not positive.
    """
    tokens = np.asarray(ids, dtype=np.int64)
    if len(tokens) < 2 or window < 1:
        raise InputError("scoring needs at least two tokens and a window of at least 1")
    bits, best = np.empty(len(tokens) - 1), np.empty(len(tokens) - 1, dtype=np.int64)
    for done in range(0, len(bits), window):
        end = min(len(bits), done + window)
        logits = model.forward(tokens[max(0, end - window) : end])[done - end :]
        wide = logits.astype(np.float64)
        wide -= wide.max(axis=-1, keepdims=True)
        log_sum = np.log(np.exp(wide).sum(axis=-1))
        target = wide[np.arange(len(wide)), tokens[done + 1 : end + 1]]
        bits[done:end] = (log_sum - target) / math.log(2)
        best[done:end] = logits.argmax(axis=-1)
    return bits, best
