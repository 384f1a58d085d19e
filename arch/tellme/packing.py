"""The hardware's weight format: index table and packed weight image (docs/engine.md)."""

from itertools import combinations, product

import numpy as np
from numpy.typing import ArrayLike, NDArray

from headrace.arch.tellme.engine import EngineSizes
from headrace.errors import InputError

__all__ = ["index_patterns", "pack_weights", "unpack_weights", "weight_indices"]

_MAX_GROUP_SIZE = 5


def index_patterns(group_size: int) -> NDArray[np.int8]:
    """Return the ternary pattern that each weight index stands for.

    Parameters
    ----------
    group_size : int
        G, 1 to 5.

    Returns
    -------
    int8 array, shape (3^G, G)
        Row i is the pattern of index i; row 0 is zero, row i + (3^G - 1)/2 is minus row i. The
        order is that of section 3.1's table, continued to every G (docs/engine.md).

    Raises
    ------
    InputError
        The group size is out of range.
    """
    if not 1 <= group_size <= _MAX_GROUP_SIZE:
        raise InputError(f"group_size: {group_size} must be 1 to {_MAX_GROUP_SIZE}")
    representatives = [
        _pattern(group_size, positions, minus)
        for nonzeros in range(1, group_size + 1)
        for positions in combinations(range(group_size), nonzeros)
        for minus in sorted(product((0, 1), repeat=nonzeros), key=lambda flags: (sum(flags), flags))
        if 2 * sum(minus) < nonzeros or (2 * sum(minus) == nonzeros and not minus[0])
    ]
    half = np.array(representatives, np.int8)
    return np.concatenate([np.zeros((1, group_size), np.int8), half, -half])


def _pattern(group_size: int, positions: tuple[int, ...], minus: tuple[int, ...]) -> list[int]:
    signs = {at: 1 - 2 * flag for at, flag in zip(positions, minus, strict=True)}
    return [signs.get(at, 0) for at in range(group_size)]


def weight_indices(ternary: ArrayLike, sizes: EngineSizes) -> NDArray[np.uint8]:
    """Return the index vectors of a ternary matrix, padded to whole blocks and groups.

    Parameters
    ----------
    ternary : integer array, shape (N, K)
        One row per output; values -1, 0 and 1.
    sizes : EngineSizes

    Returns
    -------
    uint8 array, shape (R, groups x Q, T)
        ``[r, n, t]`` codes the weights of output n for inputs (r T + t) G .. + G - 1, with
        R = ceil(K / (G T)) row blocks and groups = ceil(N / Q).

    Raises
    ------
    InputError
        The array is not a matrix of ternary values.
    """
    weights = np.asarray(ternary)
    if weights.ndim != 2 or 0 in weights.shape or weights.dtype.kind not in "iu":
        raise InputError(
            f"weights: an integer matrix [outputs, inputs] is needed, not {weights.dtype}"
            f" of shape {weights.shape}"
        )
    if weights.min() < -1 or weights.max() > 1:
        raise InputError(f"weights: {weights[abs(weights) > 1][0]} is not -1, 0 or 1")
    outputs, inputs = weights.shape
    rows = sizes.row_blocks(inputs)
    padded_outputs = -(-outputs // sizes.copies) * sizes.copies
    padded = np.zeros((padded_outputs, rows * sizes.block_inputs), np.int8)
    padded[:outputs, :inputs] = weights
    radix = 3 ** np.arange(sizes.group_size)
    patterns = index_patterns(sizes.group_size)
    index_of_code = np.empty(len(patterns), np.uint8)
    index_of_code[(patterns + 1) @ radix] = np.arange(len(patterns))
    codes = (padded.reshape(-1, sizes.group_size) + 1) @ radix
    indices = index_of_code[codes].reshape(padded_outputs, rows, sizes.tables)
    return np.ascontiguousarray(indices.transpose(1, 0, 2))


def pack_weights(
    ternary: ArrayLike, sizes: EngineSizes, norm: NDArray[np.uint16] | None = None
) -> NDArray[np.uint8]:
    """Return the weight image of a ternary matrix: the beats of its load, in order.

    Parameters
    ----------
    ternary : integer array, shape (N, K)
        One row per output; values -1, 0 and 1.
    sizes : EngineSizes
        The load has ``row_blocks(K)`` rows of ``ceil(N / Q)`` groups.
    norm : uint16 array, shape (beats,), optional
        Bits of the FP16 norm weights that ride in the beats of the ``beat`` packing.

    Returns
    -------
    uint8 array, shape (beats, beat_bits / 8)
        Byte i of a beat holds its bits 8 i .. 8 i + 7.

    Raises
    ------
    InputError
        The weights are not ternary, or there is not one norm weight per beat.
    """
    indices = weight_indices(ternary, sizes)
    rows, vectors, _ = indices.shape
    bits = (indices[..., None] >> np.arange(sizes.index_bits, dtype=np.uint8)) & 1
    bits = bits.reshape(rows, vectors, sizes.vector_bits)
    per_beat = sizes.vectors_per_beat if sizes.packing == "beat" else sizes.copies
    words = -(-vectors // per_beat)
    payload = np.zeros((rows, words, _word_bits(sizes)), np.uint8)
    filled = np.zeros((rows, words * per_beat, sizes.vector_bits), np.uint8)
    filled[:, :vectors] = bits
    used = per_beat * sizes.vector_bits
    payload[..., :used] = filled.reshape(rows, words, used)
    beats = payload.reshape(-1, sizes.beat_bits)
    if norm is not None:
        if sizes.packing != "beat" or norm.shape != (len(beats),):
            raise InputError(
                f"norm weights: beat packing with one per beat ({len(beats)}) is needed, not"
                f" {sizes.packing} packing with shape {norm.shape}"
            )
        norm_bits = (norm.astype(np.uint16)[:, None] >> np.arange(16, dtype=np.uint16)) & 1
        beats[:, used : used + 16] = norm_bits
    return np.packbits(beats, axis=1, bitorder="little")


def unpack_weights(
    beats: NDArray[np.uint8], sizes: EngineSizes, rows: int, groups: int
) -> NDArray[np.int8]:
    """Return the padded ternary matrix that a weight image holds.

    Parameters
    ----------
    beats : uint8 array, shape (rows x row_beats(groups), beat_bits / 8)
    sizes : EngineSizes
    rows, groups : int
        The load's row blocks and output groups.

    Returns
    -------
    int8 array, shape (groups x Q, rows x G x T)

    Raises
    ------
    InputError
        The image does not have the size of the load, or an index stands for no pattern.
    """
    expected = (rows * sizes.row_beats(groups), sizes.beat_bits // 8)
    if beats.shape != expected:
        raise InputError(f"weight image: shape {beats.shape} is not {expected}")
    bits = np.unpackbits(beats, axis=1, bitorder="little").reshape(rows, -1, _word_bits(sizes))
    per_beat = sizes.vectors_per_beat if sizes.packing == "beat" else sizes.copies
    vectors = bits[..., : per_beat * sizes.vector_bits].reshape(rows, -1, sizes.vector_bits)
    vectors = vectors[:, : groups * sizes.copies]
    fields = vectors.reshape(rows, groups * sizes.copies, sizes.tables, sizes.index_bits)
    indices = (fields.astype(np.int64) << np.arange(sizes.index_bits)).sum(axis=-1)
    patterns = index_patterns(sizes.group_size)
    if indices.max() >= len(patterns):
        raise InputError(f"weight image: index {indices.max()} must be below {len(patterns)}")
    ternary: NDArray[np.int8] = patterns[indices].transpose(1, 0, 2, 3)
    return ternary.reshape(groups * sizes.copies, -1)


def _word_bits(sizes: EngineSizes) -> int:
    """Return the bits of what is packed as one: a beat, or the beats of an output group."""
    return sizes.beat_bits * (1 if sizes.packing == "beat" else sizes.beats_per_group)
