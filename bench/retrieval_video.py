"""Print what ReSV does with keys and queries of an attention layer over the frames of a video.

    .venv/bin/python bench/retrieval_video.py CLIP.mp4 [--json] [--frames n]

Needs PyAV (pip install av) to decode. Nothing here is trained: a ViT of the shape of vit-tiny and
one attention layer of llama-3-8b, between them a projector, have seeded normal weights. Every
frame gives 10 tokens, the class token and the patches' mean over 3 x 3 fields. Untrained weights
keep angles between features, so clusters say how alike frames look to a hash; the retrieval
ratio and the error say nothing about a trained model. Keys are hashed after RoPE, as V-Rex has
it, and for comparison without. Figures are means over the frames but the first.
"""

import argparse
import json
import math
from collections.abc import Iterator
from itertools import islice, pairwise

import numpy as np

from headrace.models.kernels import rope, rope_table
from headrace.models.kernels.retrieval import TRANSFORMS, HashClusterTable, Resv, draw_hyperplanes
from headrace.models.kv_policies import ResvPolicy, Step, run_policy
from headrace.models.network import load_network

SIDE, PATCH, FIELDS = 224, 16, (0, 5, 9, 14)


class Vit:
    """A vision transformer with seeded weights, float32."""

    def __init__(self, rng: np.random.Generator) -> None:
        net = load_network("vit-tiny")
        width, inner = net.hidden_size, net.intermediate_size

        def weights(*shape: int) -> np.ndarray:
            return np.float32(0.02) * rng.standard_normal(shape, np.float32)

        self.heads = net.heads
        self.patch, self.positions = weights(PATCH**2 * 3, width), weights(net.max_positions, width)
        shapes = (width, 3 * width), (width, width), (width, inner), (inner, width)
        self.layers = [[weights(*shape) for shape in shapes] for _ in range(net.layers)]

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Return 10 tokens of an image, shape (224, 224, 3), values from -1 to 1."""
        rows = SIDE // PATCH
        patches = image.reshape(rows, PATCH, rows, PATCH, 3).swapaxes(1, 2).reshape(rows**2, -1)
        x = np.pad(patches @ self.patch, ((1, 0), (0, 0))) + self.positions
        for qkv, out, up, down in self.layers:
            x = x + self.attend(normalised(x) @ qkv) @ out
            x = x + gelu(normalised(x) @ up) @ down
        x = normalised(x)
        grid = x[1:].reshape(rows, rows, -1)
        spans = [slice(a, b) for a, b in pairwise(FIELDS)]
        return np.stack([x[0], *(grid[i, j].mean(axis=(0, 1)) for i in spans for j in spans)])

    def attend(self, qkv: np.ndarray) -> np.ndarray:
        q, k, v = qkv.reshape(len(qkv), 3, self.heads, -1).transpose(1, 2, 0, 3)
        scores = np.exp(q @ k.swapaxes(1, 2) / math.sqrt(q.shape[-1]))
        mixed = scores / scores.sum(axis=-1, keepdims=True) @ v
        return mixed.swapaxes(0, 1).reshape(len(qkv), -1)


def normalised(x: np.ndarray) -> np.ndarray:
    centred = x - x.mean(axis=-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-12)


def gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def images(path: str) -> Iterator[np.ndarray]:
    import av

    with av.open(path) as container:
        for frame in container.decode(video=0):
            pixels = frame.reformat(SIDE, SIDE, format="rgb24").to_ndarray()
            yield pixels.astype(np.float32) / 127.5 - 1


def layer_inputs(
    tokens: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Project features, shape (tokens, width), to q, k and v of a Llama layer, before RoPE."""
    net = load_network("llama-3-8b")

    def weights(rows: int, columns: int) -> np.ndarray:
        return rng.standard_normal((rows, columns), np.float32) / np.float32(math.sqrt(rows))

    hidden = net.hidden_size
    x = gelu(tokens @ weights(tokens.shape[1], hidden)) @ weights(hidden, hidden)
    x /= np.sqrt((x**2).mean(axis=-1, keepdims=True))
    q, k, v = (
        (x @ weights(hidden, heads * net.head_dim)).reshape(len(x), heads, net.head_dim)
        for heads in (net.heads, net.kv_heads, net.kv_heads)
    )
    return q, k, v


def measure(q: np.ndarray, k: np.ndarray, v: np.ndarray, transform: str) -> dict[str, float]:
    planes = draw_hyperplanes(k.shape[1] * k.shape[2], 32, np.random.default_rng(0))
    table = HashClusterTable(*k.shape[1:], planes)
    steps = [
        Step(stage="frame", q=q[t : t + 10], k=k[t : t + 10], v=v[t : t + 10])
        for t in range(0, len(k), 10)
    ]
    outcomes = run_policy(ResvPolicy(Resv(table, transform=transform)), steps)[1:]
    return {
        "clusters": table.clusters,
        "tokens_per_cluster": round(len(k) / table.clusters, 2),
        "retrieval_ratio": round(float(np.mean([o.kept_share for o in outcomes])), 3),
        "error": round(float(np.mean([o.error for o in outcomes])), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clip")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--frames", type=int, default=100)
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    vit = Vit(rng)
    tokens = [vit(image) for image in islice(images(arguments.clip), arguments.frames)]
    q, k, v = layer_inputs(np.concatenate(tokens), rng)
    net = load_network("llama-3-8b")
    turn = rope_table(np.arange(len(k)), net.head_dim, net.rope_theta)
    result = {}
    for where, keys, queries in (("after RoPE", rope(k, *turn), rope(q, *turn)), ("before", k, q)):
        for transform in TRANSFORMS:
            result[f"{where}, {transform}"] = measure(queries, keys, v, transform)
            if not arguments.json:
                print(f"{where}, {transform}: {result[f'{where}, {transform}']}", flush=True)
    if arguments.json:
        print(json.dumps({"frames": len(tokens), "rows": result}))


if __name__ == "__main__":
    main()
