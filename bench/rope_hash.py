"""Print how far RoPE turns keys in the eyes of a hash: tiny-bitnet's trained ones and even ones.

    python bench/rope_hash.py --text FILE [--windows n] [--json]

Keys of each layer of tiny-bitnet, over windows of 250 tokens, with their rotation undone; and
normal numbers, whose energy is spread evenly over the pairs of coordinates, in the shapes of
tiny-bitnet and llama-3-8b. Per row:

cosine    of a key to itself 10 positions on, the tokens of one frame, and 100 on
bits      of 32 that differ between both 10 positions apart, mean over keys and 20 sets of planes
joins     share of the keys for which fewer than 7 differ
shared    share of the keys' energy that is their mean's: what all keys have in common
words     bits that differ between keys of equal tokens at different places: hashed after RoPE,
          hashed before, and between keys of different tokens hashed after
clusters  tokens per cluster of a window, hashed after RoPE and before
"""

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from kv_policies import GivenCodes
from numpy.typing import NDArray
from retrieval_text import MAX_TEXT_BYTES, decoder_layers, decoder_windows, still_keys

from headrace.errors import InputError
from headrace.files import read_text
from headrace.models.kernels import rope, rope_table
from headrace.models.kernels.retrieval import (
    HashClusterTable,
    draw_hyperplanes,
    hamming_distance,
    hash_keys,
)
from headrace.models.network import load_network

Floats = NDArray[np.float32]

FRAME, FAR, BITS, THRESHOLD, DRAWS = 10, 100, 32, 7, 20


@dataclass(frozen=True)
class Keys:
    """Keys before RoPE, shape (tokens, kv_heads, head_dim), and their tokens' ids."""

    still: Floats
    theta: float
    ids: NDArray[np.int64]

    def turned(self, by: int = 0) -> Floats:
        """Return the keys after RoPE, `by` positions later than they stand."""
        positions = np.arange(len(self.still)) + by
        return rope(self.still, *rope_table(positions, self.still.shape[2], self.theta))


def codes(keys: Floats, planes: Floats) -> NDArray[np.uint32]:
    return hash_keys(keys.reshape(len(keys), -1), planes)


def figures(keys: Keys) -> dict[str, float]:
    here, there, far = keys.turned(), keys.turned(FRAME), keys.turned(FAR)
    energy = (keys.still**2).sum(axis=(1, 2))
    drawn = [draw_hyperplanes(here[0].size, BITS, np.random.default_rng(n)) for n in range(DRAWS)]
    bits = np.stack([hamming_distance(codes(here, p), codes(there, p)) for p in drawn])
    equal = np.triu(keys.ids[:, None] == keys.ids, 1)
    other = np.triu(keys.ids[:, None] != keys.ids, 1)

    def between(hashed: Floats, pairs: NDArray[np.bool_]) -> float:
        if not pairs.any():
            return float("nan")
        one, two = np.nonzero(pairs)
        found = (codes(hashed, p) for p in drawn)
        return float(np.mean([hamming_distance(c[one], c[two]).mean() for c in found]))

    after = HashClusterTable(*here.shape[1:], drawn[0], distance=THRESHOLD)
    before = GivenCodes(keys.still, drawn[0], distance=THRESHOLD)
    for table in (after, before):
        for first in range(0, len(here), FRAME):
            table.append(here[first : first + FRAME])
    return {
        "cosine": float(np.mean((here * there).sum(axis=(1, 2)) / energy)),
        f"at {FAR}": float(np.mean((here * far).sum(axis=(1, 2)) / energy)),
        "bits": float(bits.mean()),
        "joins": float((bits < THRESHOLD).mean()),
        "shared": float((keys.still.mean(axis=0) ** 2).sum() / energy.mean()),
        "equal words after": between(here, equal),
        "equal words before": between(keys.still, equal),
        "other words after": between(here, other),
        "per cluster after": len(here) / after.clusters,
        "per cluster before": len(here) / before.clusters,
    }


def trained(text: str, windows: int) -> list[list[Keys]]:
    """Return tiny-bitnet's keys, by layer and window."""
    theta = load_network("tiny-bitnet").rope_theta
    ids = [np.array(window) for window in decoder_windows(text, windows)]
    layers = []
    for streams in decoder_layers(text, windows):
        keys = []
        for window, steps in zip(ids, streams, strict=True):
            keys.append(Keys(still_keys(steps), theta, window))
        layers.append(keys)
    return layers


def even(name: str, tokens: int) -> Keys:
    """Return keys of normal numbers in the shape of a network's, every token another one."""
    net = load_network(name)
    shape = (tokens, net.kv_heads, net.head_dim)
    still = np.random.default_rng(0).standard_normal(shape, np.float32)
    return Keys(still, net.rope_theta, np.arange(tokens))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--windows", type=int, default=8)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    text = read_text(arguments.text, MAX_TEXT_BYTES)
    groups = {f"even, {name}": [even(name, 250)] for name in ("llama-3-8b", "tiny-bitnet")}
    for number, keys in enumerate(trained(text, arguments.windows)):
        groups[f"tiny-bitnet, layer {number}"] = keys
    rows = {}
    for name, keys in groups.items():
        found = [figures(one) for one in keys]
        rows[name] = {key: float(np.mean([one[key] for one in found])) for key in found[0]}
    if arguments.json:
        print(json.dumps(rows))
        return
    for name, row in rows.items():
        print(f"{name:24}" + "  ".join(f"{key} {value:.2f}" for key, value in row.items()))


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
