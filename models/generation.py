"""Generate text from a checkpoint folder through the reference kernels."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from headrace.errors import InputError
from headrace.models.checkpoint import load_checkpoint
from headrace.models.json_file import read_json_object
from headrace.models.sampling import sample
from headrace.models.tokenizer import Tokenizer
from headrace.models.transformer import KVCache, Transformer

__all__ = ["generate", "generate_ids"]


def generate(
    checkpoint_folder: str | Path,
    prompt: str,
    *,
    max_new_tokens: int = 64,
    temperature: float = 0.0,
    top_k: int = 0,
    seed: int = 0,
    precision: str = "hardware",
    matmul: str = "full",
    group_size: int = 3,
) -> Iterator[str]:
    """Yield the continuation of a prompt, piece by piece, without the prompt.

    Parameters
    ----------
    checkpoint_folder : path
        ``config.json``, safetensors weights and ``tokenizer.json`` of a BitNet.
    prompt : str
        An empty prompt starts from the network's beginning-of-text token.
    max_new_tokens : int
        At least 1. Generation also ends at an end-of-text token and at the longest sequence
        the network allows.
    temperature, top_k : float, int
        As in `headrace.models.sampling.sample`; 0 is greedy.
    seed : int
        Of the generator that draws.
    precision, matmul, group_size : str, str, int
        As in `headrace.models.transformer.Transformer`.

    Raises
    ------
    InputError
        At the call, not at the first piece: a file or an option is not acceptable.
    """
    if max_new_tokens < 1:
        raise InputError(f"max_new_tokens = {max_new_tokens}; at least 1 is needed")
    if seed < 0:
        raise InputError(f"seed = {seed}; an integer from 0 is needed")
    folder = Path(checkpoint_folder)
    model = Transformer(load_checkpoint(folder), precision, matmul, group_size)
    tokenizer = Tokenizer(folder)
    raw = read_json_object(folder / "config.json")
    ids = tokenizer.encode(prompt, special=True) or _token_ids(raw, "bos_token_id", folder)[:1]
    if not ids:
        raise InputError(f"{folder}: an empty prompt, and config.json has no bos_token_id")
    cache = KVCache(model)
    logits = model.forward(ids, cache, last_only=True)[0]  # refuses a prompt that is too long
    rng = np.random.default_rng(seed)
    first = sample(logits, temperature=temperature, top_k=top_k, rng=rng)
    tokens = generate_ids(
        model,
        cache,
        first,
        max_new_tokens=max_new_tokens,
        stop=frozenset(_token_ids(raw, "eos_token_id", folder)),
        temperature=temperature,
        top_k=top_k,
        rng=rng,
    )
    return _pieces(tokenizer, tokens)


def generate_ids(
    model: Transformer,
    cache: KVCache,
    first: int,
    *,
    max_new_tokens: int,
    stop: frozenset[int] = frozenset(),
    temperature: float = 0.0,
    top_k: int = 0,
    rng: np.random.Generator | None = None,
) -> Iterator[int]:
    """Yield token ids from `first` on, one decode step each; ends before a token in `stop`.

    Parameters
    ----------
    model, cache : Transformer, KVCache
        The cache holds everything before `first`.
    first : int
        The token that prefill chose.
    max_new_tokens : int
        Tokens to yield at most, `first` included.
    stop : frozenset of int
        End-of-text tokens.
    temperature, top_k, rng : float, int, numpy.random.Generator
        As in `headrace.models.sampling.sample`.
    """
    token = first
    for step in range(max_new_tokens):
        if token in stop:
            return
        yield token
        if step + 1 == max_new_tokens or cache.length == model.network.max_positions:
            return
        logits = model.forward([token], cache)[0]
        token = sample(logits, temperature=temperature, top_k=top_k, rng=rng)


def _pieces(tokenizer: Tokenizer, tokens: Iterator[int]) -> Iterator[str]:
    """Yield text as soon as it is whole characters."""
    ids: list[int] = []
    shown = 0
    for token in tokens:
        ids.append(token)
        text = tokenizer.decode(ids)
        # a character of several bytes may need several tokens
        if len(text) > shown and not text.endswith("\ufffd"):
            yield text[shown:]
            shown = len(text)
    rest = tokenizer.decode(ids)[shown:]
    if rest:
        yield rest


def _token_ids(raw: dict[str, Any], key: str, folder: Path) -> list[int]:
    value = raw.get(key)
    values = value if isinstance(value, list) else [] if value is None else [value]
    if not all(type(v) is int and v >= 0 for v in values):
        raise InputError(
            f"{folder / 'config.json'}: {key} = {str(value)[:40]}; token ids are needed"
        )
    return values
