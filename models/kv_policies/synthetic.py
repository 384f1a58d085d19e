"""A synthetic layer that watches video: keys, queries and values with scenes, cuts and returns.

No trained weights for video are at hand, so everything here is ours or inferred: it gives the
policies streams of the right structure, on which their choices differ from pass to pass, from
layer to layer and with the length of the cache. It says nothing about accuracy.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from itertools import pairwise

import numpy as np
from numba import njit
from numpy.typing import NDArray

from headrace.errors import InputError
from headrace.models.kernels.rope import rope, rope_table
from headrace.models.kv_policies.step import STAGES, Step
from headrace.models.network import Network

__all__ = ["FITTED", "Concentration", "Scenes", "SyntheticVideo"]

_POOL = 2**18  # normal numbers, of which every token's noise is a stretch
_CHUNK = 100  # frames that `history` makes at once


@dataclass(frozen=True, kw_only=True)
class Scenes:
    """How keys and queries follow the video; the same for all layers.

    Attributes
    ----------
    cut : float
        Probability that a frame begins another scene. Ours: a scene lasts 20 s at 2 frames/s.
    revisit : float
        Probability that this scene was there before. Ours.
    drift : float
        Share of a token's content that is new against the frame before. Ours; with `cut`,
        `revisit` and `noise` it gives about the 32 tokens per cluster that V-Rex reports.
    noise : float
        Share of energy that a key, or a query's interest, has to itself. Ours.
    likeness : float
        Share of content, and of what queries look for, that the tokens of a frame have in
        common. Ours.
    slow_pairs : int
        Coordinate pairs of a head that carry content, those that RoPE turns slowest. Inferred:
        were it spread over all, keys would not cluster after RoPE.
    rope : bool
        Whether keys and queries are turned by their positions.
    """

    cut: float = 0.025
    revisit: float = 0.5
    drift: float = 0.002
    noise: float = 0.05
    likeness: float = 0.1
    slow_pairs: int = 16
    rope: bool = True

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if each.type is float and not 0 <= value <= 1:
                raise InputError(f"{each.name} = {value}; a number from 0 to 1 is needed")
        if self.noise == 1:
            raise InputError("noise = 1; below 1 is needed, else keys have no content")


@dataclass(frozen=True, kw_only=True)
class Concentration:
    """How concentrated the attention of a network's layers is; see `SyntheticVideo`.

    Attributes
    ----------
    sharpness : float
        Of all layers.
    affinity : float
        Of the most concentrated layer; a layer at depth u, from 0 to 1, has u times as much. Which
        of a network's layers are the concentrated ones is not known; the order means nothing.
    text_affinity : float
        Of all layers.
    """

    sharpness: float
    affinity: float
    text_affinity: float

    def affinity_at(self, depth: float) -> float:
        """Return the affinity of the layer at a depth from 0 to 1."""
        return self.affinity * depth


FITTED = Concentration(sharpness=3.6, affinity=0.95, text_affinity=0.62)
"""Fitted to figures of V-Rex (arXiv 2512.12284), means over COIN at lengths that it does not state.

Means over four layers and eight seeds at 5,000 cached tokens, with `Scenes()` and ReSV's exact
selection, ratio 0.3 and `exp`: sharpness gives 32.2 % of the cache per frame (published: 32.7 %),
text affinity 2.5 % per token of an answer (2.5 %). The affinity of the most concentrated layer is
ours, near its limit: the published range over layers is wide (4.2 to 44 %). Nothing is fitted to
other lengths, to questions, or to what whole buckets fetch beyond the exact selection.
"""


class SyntheticVideo:
    """The queries, keys and values of one layer, step after step.

    A key is its content, which drifts from frame to frame and starts anew with a scene, plus
    noise; each coordinate has variance 1 on average. Tokens of text have contents of their own. A
    query of a frame looks for the content of its token and for an interest of its query head,
    place and scene; one of text for a scene that was seen before and an interest of the question.
    Values are the keys with their coordinates in reverse.

    Parameters
    ----------
    network : Network
        Gives heads, head_dim and the base of RoPE.
    sharpness : float
        Standard deviation of a score ``q . k / sqrt(head_dim)`` over keys of unrelated scenes, from
        0 to 100: the higher, the fewer tokens hold a share of a row's attention.
    affinity : float
        Cosine between a frame's query without noise and the content of its own token, from 0 to
        1: the cause of recency, for the running scene's content is alike. The higher, the more
        alike are the choices of a frame's rows, and the smaller is their union.
    text_affinity : float
        The same between a query of text and the content of a place in the scene asked about.
    frame_tokens : int
    scenes : Scenes
    seed : int
        The layer's: equal seeds give equal streams, and equal keys of frames however the history
        is cut into steps.

    Raises
    ------
    InputError
        A number is out of range.
    """

    def __init__(
        self,
        network: Network,
        *,
        sharpness: float,
        affinity: float,
        text_affinity: float,
        frame_tokens: int = 10,
        scenes: Scenes | None = None,
        seed: int = 0,
    ) -> None:
        self.scenes = scenes or Scenes()
        if not (0 <= sharpness <= 100 and 0 <= affinity <= 1 and 0 <= text_affinity <= 1):
            raise InputError(
                f"sharpness {sharpness}, affinities {affinity} and {text_affinity}; 0 to 100 and "
                "twice 0 to 1 are needed"
            )
        if type(seed) is not int or seed < 0 or type(frame_tokens) is not int or frame_tokens < 1:
            raise InputError(
                f"seed {seed}, {frame_tokens} tokens per frame; integers of at least 0 and at "
                "least 1 are needed"
            )
        if not 1 <= self.scenes.slow_pairs <= network.head_dim // 2:
            raise InputError(
                f"slow_pairs = {self.scenes.slow_pairs}; 1 to {network.head_dim // 2} is needed"
            )
        self.network, self.frame_tokens = network, frame_tokens
        self.sharpness, self.affinity, self.text_affinity = sharpness, affinity, text_affinity
        self.tokens = 0
        """Tokens of all steps so far."""
        draws = (np.random.default_rng([seed, part]) for part in range(5))
        self._cuts, self._looks, self._noise, self._words, pool = draws
        self._pool = pool.standard_normal(2 * _POOL, np.float32)
        self._seen: list[tuple[NDArray[np.float32], NDArray[np.float32]]] = []
        self._content = self._interest = np.zeros(0, np.float32)
        self._topic: tuple[int, NDArray[np.float32]] | None = None

    def history(self, tokens: int, *, queries: bool = False) -> Iterator[Step]:
        """Yield steps of many whole frames each, for a cache that is there from the start.

        Parameters
        ----------
        tokens : int
            In all; what is left of the last frame may be less than one.
        queries : bool
            Whether the steps need queries; else these are NaN, which is much faster.
        """
        chunk = self.frame_tokens * (1 if queries else _CHUNK)
        for first in range(0, tokens, chunk):
            count = min(chunk, tokens - first)
            keys = self._frames(count)
            if queries:
                q = self._frame_queries(count)
            else:
                shape = (count, self.network.heads, self.network.head_dim)
                q = np.broadcast_to(np.float32(np.nan), shape)
            yield self._finish("frame", q, keys)

    def step(self, stage: str, tokens: int) -> Step:
        """Return the step of the next pass.

        Parameters
        ----------
        stage : str
            One of `STAGES`.
        tokens : int
            New tokens, those of one frame if it is a frame.
        """
        if stage not in STAGES or tokens < 1:
            raise InputError(f"{stage!r} of {tokens} tokens; one of {', '.join(STAGES)} of >= 1")
        if stage != "answer":
            self._topic = None
        if stage != "frame":
            return self._finish(stage, *self._text(tokens))
        if tokens != self.frame_tokens:
            raise InputError(f"a frame of {tokens} tokens; {self.frame_tokens} are needed")
        keys = self._frames(tokens)
        return self._finish(stage, self._frame_queries(tokens), keys)

    def _finish(self, stage: str, q: NDArray[np.float32], keys: NDArray[np.float32]) -> Step:
        self.tokens += len(keys)
        surprise = self._words.exponential(2.0, len(keys))
        return Step(stage=stage, q=q, k=keys, v=keys[..., ::-1], surprise=surprise)

    @property
    def _amplitude(self) -> float:
        """Standard deviation of a coordinate that carries content."""
        pairs = self.network.head_dim / (2 * self.scenes.slow_pairs)
        return float(np.sqrt((1 - self.scenes.noise) * pairs))

    def _turn(self, tokens: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return cos and sin for the next tokens, shape (tokens, slow_pairs)."""
        pairs = self.scenes.slow_pairs
        if not self.scenes.rope:
            return np.ones((tokens, pairs), np.float32), np.zeros((tokens, pairs), np.float32)
        positions = np.arange(self.tokens, self.tokens + tokens)
        cos, sin = rope_table(positions, self.network.head_dim, self.network.rope_theta)
        return cos[:, -pairs:].copy(), sin[:, -pairs:].copy()

    def _frames(self, tokens: int) -> NDArray[np.float32]:
        """Return the keys of the next frames and leave the content after the last one."""
        net, places = self.network, self.frame_tokens
        keys = np.empty((tokens, net.kv_heads, net.head_dim), np.float32)
        cos, sin = self._turn(tokens)
        draws = self._cuts.random((-(-tokens // places), 3))
        cuts = set(np.flatnonzero(draws[:, 0] < self.scenes.cut).tolist())
        if not self._seen:
            cuts.add(0)
        for frame, end in pairwise(sorted(cuts | {0, len(draws)})):
            if frame in cuts:
                self._enter_scene(draws[frame])
            part = slice(frame * places, min(end * places, tokens))
            self._fill(keys[part], cos[part], sin[part])
        return keys

    def _enter_scene(self, draw: NDArray[np.float64]) -> None:
        """Start a scene, known or new, from three draws from 0 to 1."""
        if self._seen and draw[1] < self.scenes.revisit:
            scene = int(draw[2] * len(self._seen))
        else:
            scene, net = len(self._seen), self.network
            self._seen.append(
                (self._places(net.kv_heads) * np.float32(self._amplitude), self._places(net.heads))
            )
        self._content, self._interest = (part.copy() for part in self._seen[scene])

    def _fill(
        self, keys: NDArray[np.float32], cos: NDArray[np.float32], sin: NDArray[np.float32]
    ) -> None:
        offsets = self._noise.integers(0, _POOL, (len(keys), 2))
        _fill_keys(
            keys, self._content, self._pool, offsets, cos, sin,
            np.float32(np.sqrt(1 - self.scenes.drift)),
            np.float32(np.sqrt(self.scenes.drift) * self._amplitude),
            np.float32(np.sqrt(self.scenes.noise)),
        )  # fmt: skip

    def _places(self, heads: int) -> NDArray[np.float32]:
        """Draw what the places of a scene hold, shape (frame_tokens, heads, 2, slow_pairs)."""
        shape = (self.frame_tokens + 1, heads, 2, self.scenes.slow_pairs)
        drawn = self._looks.standard_normal(shape, np.float32)
        return _mixed(drawn[:1], drawn[1:], self.scenes.likeness)

    def _frame_queries(self, tokens: int) -> NDArray[np.float32]:
        content, interest = self._content[:tokens], self._interest[:tokens]
        return self._queries(content / np.float32(self._amplitude), interest, self.affinity)

    def _text(self, tokens: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return queries and keys of tokens of a question or its answer."""
        net, pairs = self.network, self.scenes.slow_pairs
        if self._topic is None:
            scene = int(self._words.integers(0, max(len(self._seen), 1)))
            common = self._words.standard_normal((1, net.heads, 2, pairs), np.float32)
            self._topic = scene, common
        scene, common = self._topic
        own = self._words.standard_normal((tokens, net.heads, 2, pairs), np.float32)
        wanted = self._words.standard_normal((tokens, net.kv_heads, 2, pairs), np.float32)
        content = self._words.standard_normal(wanted.shape, np.float32)
        if self._seen:
            places = self._words.integers(0, self.frame_tokens, tokens)
            wanted = self._seen[scene][0][places] / np.float32(self._amplitude)
        interest = _mixed(common, own, self.scenes.likeness)
        keys = self._words.standard_normal((tokens, net.kv_heads, net.head_dim), np.float32)
        keys *= np.float32(np.sqrt(self.scenes.noise))
        keys += self._embedded(content * np.float32(self._amplitude))
        return self._queries(wanted, interest, self.text_affinity), keys

    def _queries(
        self, wanted: NDArray[np.float32], interest: NDArray[np.float32], affinity: float
    ) -> NDArray[np.float32]:
        """Return queries after RoPE for contents and interests of variance 1."""
        noise = self._words.standard_normal(interest.shape, np.float32)
        wanted = wanted.repeat(self.network.heads // self.network.kv_heads, axis=1)
        looked = _mixed(noise, interest, self.scenes.noise)
        looked = _mixed(wanted, looked, affinity**2)
        return self._embedded(looked * np.float32(self.sharpness / np.sqrt(1 - self.scenes.noise)))

    def _embedded(self, content: NDArray[np.float32]) -> NDArray[np.float32]:
        """Put contents, (tokens, heads, 2, slow_pairs), into vectors turned by RoPE."""
        tokens, heads, _, pairs = content.shape
        full = np.zeros((tokens, heads, 2, self.network.head_dim // 2), np.float32)
        full[..., -pairs:] = content
        flat = full.reshape(tokens, heads, -1)
        if not self.scenes.rope:
            return flat
        positions = np.arange(self.tokens, self.tokens + tokens)
        return rope(flat, *rope_table(positions, flat.shape[2], self.network.rope_theta))


def _mixed(a: NDArray[np.float32], b: NDArray[np.float32], share: float) -> NDArray[np.float32]:
    """Return a and b of variance 1, mixed to variance 1, with a share of its energy from a."""
    return np.float32(np.sqrt(share)) * a + np.float32(np.sqrt(1 - share)) * b


@njit(cache=True)
def _fill_keys(keys, content, pool, offsets, cos, sin, stay, move, noise):  # type: ignore[no-untyped-def]
    places, heads, _, pairs = content.shape
    half = keys.shape[2] // 2
    for t in range(len(keys)):
        at = offsets[t, 0]
        for h in range(heads):
            for d in range(2 * half):
                keys[t, h, d] = noise * pool[at + h * 2 * half + d]
        now, at = content[t % places], offsets[t, 1]
        for h in range(heads):
            for j in range(pairs):
                a = stay * now[h, 0, j] + move * pool[at]
                b = stay * now[h, 1, j] + move * pool[at + 1]
                now[h, 0, j], now[h, 1, j], at = a, b, at + 2
                keys[t, h, half - pairs + j] += cos[t, j] * a - sin[t, j] * b
                keys[t, h, 2 * half - pairs + j] += sin[t, j] * a + cos[t, j] * b
