"""Sizes of UbiMoE's machine: an encoder block and its memory ports (docs/ubimoe-kernels.md)."""

from dataclasses import dataclass
from functools import cached_property

from headrace.arch.ubimoe.encoder_block import EncoderBlockSizes
from headrace.arch.ubimoe.prefetch import PrefetchSizes
from headrace.errors import InputError

__all__ = ["ShellSizes"]

_PARAMETER_BITS = 16  # of a gain or an offset
_SMALLEST_PORT = 32
_LARGEST_PORT = 1024


@dataclass(frozen=True, kw_only=True)
class ShellSizes:
    """An encoder block, the ports of its weights and the layout of its memory images.

    Parameters
    ----------
    block : EncoderBlockSizes
    weights : PrefetchSizes
        Ports of the weights of FFN and experts; their beats are those of the MoE block.
    attention : PrefetchSizes or None
        Ports of the weights of QKV and projection; None: those of `weights`, in turn.

    Raises
    ------
    InputError
        Ports and block do not fit each other.
    """

    block: EncoderBlockSizes
    weights: PrefetchSizes
    attention: PrefetchSizes | None = None

    def __post_init__(self) -> None:
        """Check that the ports fit the block."""
        msa, moe = self.block.msa, self.block.moe
        for name, ports, beat_bits in (
            ("weights", self.weights, moe.beat_bits),
            ("attention", self.attention or self.weights, msa.beat_bits),
        ):
            if ports.beat_bits != beat_bits:
                raise InputError(
                    f"beats of {ports.beat_bits} bits through the ports of {name} are not "
                    f"allowed: {beat_bits} as in the block"
                )
        if self.parameter_bits > _LARGEST_PORT:
            raise InputError(
                f"dims = {moe.dims} is not allowed: weights of a gate's beat in a port of at most "
                f"{_LARGEST_PORT} bits"
            )

    @property
    def expert_beats(self) -> int:
        """Beats of the image of an expert, or of a part of a dense FFN: two weight images."""
        moe = self.block.moe
        tiles = zip(moe.in_tiles, moe.out_tiles, strict=True)
        return sum(moe.linear.load_beats(inputs, outputs) for inputs, outputs in tiles)

    @property
    def attention_beats(self) -> int:
        """Beats of the image of an MSA block: QKV, then the projection."""
        return self.block.msa.weight_beats

    @property
    def parameter_bits(self) -> int:
        """Width of the port of norm parameters and gate weights: a beat of those, at least 32."""
        moe = self.block.moe
        return max(_SMALLEST_PORT, moe.dims * moe.formats.weight_bits)

    @property
    def norm_words(self) -> int:
        """Words of the parameters of a layer norm."""
        return 2 * _PARAMETER_BITS * self.block.moe.width // self.parameter_bits

    @property
    def gate_words(self) -> int:
        """Words of the gate's weights: one per beat."""
        moe = self.block.moe
        return moe.experts * moe.width // moe.dims

    @cached_property
    def parameters(self) -> PrefetchSizes:
        """The port of norm parameters and gate weights."""
        burst_beats = min(16, self.weights.burst_beats)
        return PrefetchSizes(ports=1, port_bits=self.parameter_bits, burst_beats=burst_beats)

    def parameter_words(self, experts: bool) -> int:
        """Return the words of a layer: both norms and, by experts, the gate's weights."""
        return 2 * self.norm_words + experts * self.gate_words
