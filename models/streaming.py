"""The workload of a streaming video language model: frames, a question, an answer."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache

from headrace.errors import InputError
from headrace.models.network import Network, load_network

__all__ = ["Pass", "VideoDialogue"]

_LIMIT = 2**24


@dataclass(frozen=True, kw_only=True)
class Pass:
    """One pass of the language model: a frame, the question, or one token of the answer.

    Attributes
    ----------
    stage : str
        ``frame``, ``question`` or ``answer``.
    tokens : int
        New tokens per stream.
    cached : int
        Tokens per stream whose keys and values are cached before.
    """

    stage: str
    tokens: int
    cached: int


@cache
def _siglip() -> Network:
    """Return the default tower, built once: a search makes a dialogue for every point."""
    return load_network("siglip-large-384")


@dataclass(frozen=True, kw_only=True)
class VideoDialogue:
    """Streams that each watch frames, hear one question and answer it.

    Frames are not batched: every frame is a pass that attends to all before it and appends its
    keys and values. The defaults are the average sample of COIN in V-Rex (arXiv 2512.12284) on
    Llama-3 8B. Tokens per frame are not stated there; 10 (a class token and 3 x 3 pooled ones)
    is VideoLLM-Online's public release.

    Attributes
    ----------
    network : Network
        A causal language model. Its longest sequence is no limit here: long streams are the
        question that retrieval answers.
    vision : Network
        A vision transformer that reads every frame; SigLIP-L by default, with a class token that
        the original has not. Its attention pooling is left out.
    history : int
        Tokens per stream whose keys and values are there before the first frame.
    frames, frame_tokens, question_tokens, answer_tokens : int
        Frames, and tokens of one frame, of the question, of the answer. Every token of the answer
        takes a pass; that of the last one gives the end of the answer.
    batch : int
        Streams side by side; they share weights, not keys and values.

    Raises
    ------
    InputError
        A number is out of range, or the network keeps no keys and values.
    """

    network: Network = field(default_factory=lambda: load_network("llama-3-8b"))
    vision: Network = field(default_factory=_siglip)
    history: int = 0
    frames: int = 26
    frame_tokens: int = 10
    question_tokens: int = 25
    answer_tokens: int = 39
    batch: int = 1

    def __post_init__(self) -> None:
        least = {"history": 0, "frames": 0, "frame_tokens": 1, "question_tokens": 0}
        least |= {"answer_tokens": 0, "batch": 1}
        for name, low in least.items():
            value = getattr(self, name)
            if type(value) is not int or not low <= value <= _LIMIT:
                raise InputError(f"{name} = {value}; an integer from {low} to {_LIMIT} is needed")
        if self.network.kv_bytes_per_token == 0:
            raise InputError(f"{self.network.name}: keeps no keys and values; a decoder is needed")
        if self.vision.family != "vit":
            raise InputError(f"{self.vision.name}: reads no images; a vision transformer is needed")

    def passes(self) -> Iterator[Pass]:
        """Yield the passes in order."""
        cached = self.history
        for stage, tokens, count in (
            ("frame", self.frame_tokens, self.frames),
            ("question", self.question_tokens, int(self.question_tokens > 0)),
            ("answer", 1, self.answer_tokens),
        ):
            for _ in range(count):
                yield Pass(stage=stage, tokens=tokens, cached=cached)
                cached += tokens

    @property
    def cached_after(self) -> int:
        """Tokens per stream that are cached in the end."""
        video = self.frames * self.frame_tokens
        return self.history + video + self.question_tokens + self.answer_tokens

    def kv_bytes(self, cached: int) -> int:
        """Bytes of the keys and values of `cached` tokens per stream, all streams and layers."""
        return self.batch * cached * self.network.kv_bytes_per_token

    def kv_write_bytes(self, each: Pass) -> int:
        """Bytes of keys and values that a pass adds, all streams and layers."""
        return self.kv_bytes(each.tokens)

    @property
    def projector_shapes(self) -> tuple[tuple[int, int], ...]:
        """Inputs and outputs of the two linears that make the tower's features tokens."""
        hidden = self.network.hidden_size
        return (self.vision.hidden_size, hidden), (hidden, hidden)

    @property
    def vision_parameters(self) -> int:
        """Weights of the vision tower and the projector."""
        return self.vision.parameters + sum(i * o for i, o in self.projector_shapes)

    def vision_macs(self) -> int:
        """Multiply-accumulates that make one frame of every stream tokens."""
        projector = self.frame_tokens * sum(i * o for i, o in self.projector_shapes)
        return self.batch * (self.vision.macs(self.vision.max_positions) + projector)

    def macs(self, each: Pass) -> int:
        """Multiply-accumulates of the language model in a pass with full attention, all streams.

        Only the last token of a pass goes through the LM head.
        """
        unread = (each.tokens - 1) * self.network.lm_head_parameters
        return self.batch * (self.network.macs(each.tokens, each.cached) - unread)
