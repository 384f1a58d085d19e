"""Queries, keys and values of one layer of a trained model on a text, as steps for a policy."""

import math
from collections.abc import Sequence

import numpy as np

from headrace.errors import InputError
from headrace.models.checkpoint import Checkpoint
from headrace.models.kv_policies.step import Step
from headrace.models.numerics import make_numerics
from headrace.models.transformer import Transformer, token_bits

__all__ = ["layer_steps"]


def layer_steps(
    checkpoint: Checkpoint, layer: int, ids: Sequence[int], passes: Sequence[tuple[str, int]]
) -> list[Step]:
    """Run a text through a BitNet in float32 and cut one layer's attention inputs into steps.

    Attention is causal: cut anywhere, the tokens have the same queries, keys and values.

    Parameters
    ----------
    checkpoint : Checkpoint
        Decoder whose layer is wanted.
    layer : int
        Counts from 0.
    ids : sequence of int
        Tokens, at most as many as the network has positions.
    passes : sequence of (str, int)
        Stage and tokens of every step; together the tokens of `ids`.

    Returns
    -------
    list of Step
        With the surprise of every token (that of the first is not known and stands as 0), and
        as guess the queries that the layer's weights give on the input of the layer before;
        none for layer 0.

    Raises
    ------
    InputError
        There is no such layer, the passes do not add up, or the text does not fit the model.
    """
    if not 0 <= layer < checkpoint.network.layers:
        raise InputError(f"layer {layer}; one from 0 to {checkpoint.network.layers - 1} is needed")
    if any(n < 1 for _, n in passes) or sum(n for _, n in passes) != len(ids):
        raise InputError(f"passes: {len(ids)} tokens in steps of at least 1 are needed")
    model = Transformer(checkpoint)
    states = model.hidden_states(ids)
    q, k, v = _inputs(checkpoint, layer, states[layer])
    guess = _inputs(checkpoint, layer, states[layer - 1])[0] if layer else None
    surprise = np.append(0.0, token_bits(model, ids, len(ids))[0] * math.log(2))
    steps, first = [], 0
    for stage, tokens in passes:
        part = slice(first, first + tokens)
        steps.append(
            Step(
                stage=stage, q=q[part], k=k[part], v=v[part], surprise=surprise[part],
                guess=None if guess is None else guess[part],
            )
        )  # fmt: skip
        first += tokens
    return steps


def _inputs(checkpoint: Checkpoint, layer: int, state: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return q and k after RoPE, and v, that a layer makes of a hidden state."""
    numerics, weights = make_numerics(checkpoint, "float32"), checkpoint.layers[layer]
    normed = numerics.norm(state, weights.input_norm)
    q, k, v = (
        y.reshape(len(state), -1, checkpoint.network.head_dim)
        for y in numerics.linears(normed, weights.q_proj, weights.k_proj, weights.v_proj)
    )
    positions = np.arange(len(state))
    return numerics.rotate(q, positions), numerics.rotate(k, positions), v
