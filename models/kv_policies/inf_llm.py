"""InfLLM (arXiv 2402.04617): blocks of past tokens, found by their most attended keys."""

from collections import OrderedDict

import numpy as np
from numpy.typing import NDArray

from headrace.errors import InputError
from headrace.models.kv_policies.policy import Choice, KvPolicy, Work
from headrace.models.kv_policies.step import Step

__all__ = ["InfLlm"]


class InfLlm(KvPolicy):
    """Attend to the first tokens, the best blocks and a window of recent tokens.

    Tokens behind the first ones leave the window in whole blocks. Until then a token collects the
    attention that it receives from the group of each KV head (softmax over the window and the
    step's own tokens). A block's key per KV head is the mean of the keys with the most of it, of
    equal ones the older. The query is the mean over the step's tokens; the score is the inner
    product, summed over query heads, and the choice is shared by all heads. Chosen blocks stay
    in device memory until others that were wanted later displace them.

    Parameters
    ----------
    initial, local : int
        First and recent tokens, at least 0; both are in device memory.
    block : int
        Tokens of a block, at least 1.
    top : int
        Blocks to attend to, at least 0.
    representatives : int
        Keys that make up the block's, from 1 to `block`.
    cached_blocks : int
        Blocks that device memory holds, at least `top`; the least recently wanted goes first.
    """

    uses = ("queries",)

    def __init__(
        self,
        *,
        initial: int = 128,
        local: int = 4096,
        block: int = 128,
        top: int = 16,
        representatives: int = 4,
        cached_blocks: int = 32,
    ) -> None:
        if min(initial, local, top) < 0 or not 1 <= representatives <= block:
            raise InputError(
                f"InfLLM: initial {initial}, local {local}, top {top}, representatives "
                f"{representatives}, block {block}; at least 0 and 1 to the block are needed"
            )
        if cached_blocks < top:
            raise InputError(f"cached_blocks = {cached_blocks}; at least top = {top} is needed")
        self.initial, self.local, self.block, self.top = initial, local, block, top
        self.representatives, self.cached_blocks = representatives, cached_blocks
        self._block_keys: list[NDArray[np.float32]] = []
        self._seen = 0
        self._window: NDArray[np.float32] = np.zeros((0, 0, 0), np.float32)
        self._received = np.zeros((0, 0))  # (kv_heads, tokens in the window)
        self._device: OrderedDict[int, None] = OrderedDict()

    def choose(self, step: Step, keys: NDArray[np.float32]) -> Choice:
        """Choose the same blocks for all heads; see `KvPolicy.choose`."""
        kv_heads, head_dim = step.k.shape[1:]
        blocks = len(self._block_keys)
        best = self._best_blocks(step)
        mask = np.ones(len(keys), np.bool_)
        middle = mask[self.initial : self.initial + blocks * self.block]
        middle.reshape(blocks, self.block)[:] = np.isin(np.arange(blocks), best)[:, None]
        missing = [b for b in best if b not in self._device]
        fetched = np.zeros(len(keys), np.bool_)
        for b in missing:
            fetched[self.initial + b * self.block :][: self.block] = True
        self._want(best)
        return Choice(
            kept=np.tile(mask, (kv_heads, 1)),
            fetched=np.tile(fetched, (kv_heads, 1)),
            table_bytes=2 * blocks * kv_heads * head_dim,
            work=Work(macs=blocks * step.q.shape[1] * head_dim, comparisons=blocks),
        )

    def append(self, step: Step) -> None:
        """Spread the step's attention over the window; close the blocks that leave it."""
        if self._seen == 0:
            self._window = step.k[:0]
            self._received = np.zeros((step.k.shape[1], 0))
        skipped = min(max(self.initial - self._seen, 0), len(step.k))
        self._seen += len(step.k)
        self._window = np.concatenate([self._window, step.k])
        received = np.pad(self._received, ((0, 0), (0, len(step.k))))
        received += _received(step.q, self._window)
        self._window, self._received = self._window[skipped:], received[:, skipped:]
        while len(self._window) >= self.local + self.block:
            self._close_block()

    def held_tokens(self, cached: int) -> int:
        """Return first tokens, window and cached blocks; see `KvPolicy.held_tokens`."""
        window = self.initial + self.local + self.block
        return min(cached, window + self.cached_blocks * self.block)

    def _best_blocks(self, step: Step) -> list[int]:
        """Return the best blocks, best first."""
        if not self._block_keys:
            return []
        kv_heads, head_dim = step.k.shape[1:]
        query = step.q.mean(axis=0).reshape(kv_heads, -1, head_dim).sum(axis=1)
        scores = np.tensordot(np.stack(self._block_keys), query, 2)
        order: list[int] = np.argsort(-scores, kind="stable")[: self.top].tolist()
        return order

    def _want(self, blocks: list[int]) -> None:
        """Put blocks into device memory, the best as the most recently wanted."""
        for b in reversed(blocks):
            self._device[b] = None
            self._device.move_to_end(b)
        while len(self._device) > self.cached_blocks:
            self._device.popitem(last=False)

    def _close_block(self) -> None:
        keys, received = self._window[: self.block], self._received[:, : self.block]
        best = np.argsort(-received, axis=1, kind="stable")[:, : self.representatives]
        chosen = np.take_along_axis(keys.swapaxes(0, 1), best[:, :, None], axis=1)
        self._block_keys.append(chosen.mean(axis=1))
        self._window = self._window[self.block :]
        self._received = self._received[:, self.block :]


def _received(q: NDArray[np.float32], keys: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the attention that keys receive from the last tokens, shape (kv_heads, keys)."""
    tokens, heads, head_dim = q.shape
    kv_heads = keys.shape[1]
    rows = q.swapaxes(0, 1).reshape(kv_heads, heads // kv_heads, tokens, head_dim)
    scores = rows @ keys.transpose(1, 2, 0)[:, None] / np.sqrt(np.float32(head_dim))
    later = np.arange(len(keys)) > np.arange(len(keys) - tokens, len(keys))[:, None]
    scores[..., later] = -np.inf
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.asarray((weights / weights.sum(axis=-1, keepdims=True)).sum(axis=(1, 2)), np.float64)
