import numpy as np
import pytest

from headrace.arch.tellme import TELLME
from headrace.arch.tellme.engine import engine_sizes, write_cycles
from headrace.arch.tellme.packing import (
    index_patterns,
    pack_weights,
    unpack_weights,
    weight_indices,
)
from headrace.errors import InputError


def sizes_of(**axes):
    return engine_sizes(TELLME.point(axes))


def test_table_of_the_paper():
    a, b, c = 5, -3, 7
    entries = [0, 5, -3, 7, 2, 8, 12, -2, 4, -10, 9, -5, 15, -1]  # worked example of section 3.1
    sums = index_patterns(3).astype(int) @ [a, b, c]
    assert sums.tolist() == entries + [-entry for entry in entries[1:]]


@pytest.mark.parametrize("group_size", range(1, 6))
def test_index_order(group_size):
    patterns = index_patterns(group_size).astype(int)
    half = (3**group_size - 1) // 2
    assert len(set(map(tuple, patterns))) == 3**group_size
    assert not patterns[0].any()
    assert (patterns[half + 1 :] == -patterns[1 : half + 1]).all()
    keys = []
    for pattern in patterns[1 : half + 1]:
        at = np.flatnonzero(pattern)
        minus = [int(pattern[i] < 0) for i in at]
        assert 2 * sum(minus) < len(at) or (2 * sum(minus) == len(at) and minus[0] == 0)
        keys.append((len(at), tuple(at), sum(minus), tuple(minus)))
    assert keys == sorted(keys)


def test_published_image():
    """308 beats per row of 1536 outputs, five vectors of 140 bits in each (section 3.2)."""
    sizes = sizes_of()
    rng = np.random.default_rng(0)
    weights = rng.integers(-1, 2, (1536, 84 * 2), dtype=np.int8)
    norm = rng.integers(0, 2**16, 2 * 308).astype(np.uint16)
    beats = pack_weights(weights, sizes, norm)
    assert beats.shape == (2 * 308, 96)
    values = [int.from_bytes(beat.tobytes(), "little") for beat in beats]
    indices = weight_indices(weights, sizes)
    for row, output, table in [(0, 0, 0), (0, 7, 27), (1, 1535, 3), (1, 123, 11)]:
        beat, vector = row * 308 + output // 5, output % 5
        field = values[beat] >> (vector * 140 + table * 5) & 31
        assert field == indices[row, output, table]
        digits = index_patterns(3)[field]
        assert (digits == weights[output, (row * 28 + table) * 3 :][:3]).all()
    assert [value >> 700 & 0xFFFF for value in values] == norm.tolist()
    assert all(value >> 716 == 0 for value in values)


def test_group_packing_is_one_bit_string():
    sizes = sizes_of(weight_packing="group", weight_layout="exact", weight_ports=2, tables=9)
    weights = np.random.default_rng(1).integers(-1, 2, (32, 27), dtype=np.int8)
    beats = pack_weights(weights, sizes)
    assert beats.shape == (2 * 2, 64)  # 16 vectors of 45 bits in two beats of 512
    indices = weight_indices(weights, sizes)
    string = int.from_bytes(beats[2:].tobytes(), "little")
    for q in (0, 11, 15):
        for t in (0, 8):
            assert string >> (q * 45 + t * 5) & 31 == indices[0, 16 + q, t]


def test_unpack_inverts_pack():
    rng = np.random.default_rng(3)
    for packing in ("beat", "group"):
        for group_size in range(1, 6):
            sizes = sizes_of(
                group_size=group_size, tables=5, weight_packing=packing, activation_lanes=1
            )
            weights = rng.integers(-1, 2, (45, 33), dtype=np.int8)
            rows = sizes.row_blocks(33)
            back = unpack_weights(pack_weights(weights, sizes), sizes, rows, 3)
            assert back.shape == (48, rows * sizes.block_inputs)
            assert (back[:45, :33] == weights).all()
            assert not back[45:].any()
            assert not back[:, 33:].any()


def test_write_cycles():
    assert write_cycles(sizes_of()) == (1,)
    # 16 vectors of 140 bits over 768-bit beats; a word is 8 of them, 1120 bits.
    assert write_cycles(sizes_of(weight_packing="group")) == (0, 1, 1)
    # Words of 4 vectors, 560 bits, end at bits 560, 1120, 1680 and 2240 of beats of 768.
    assert write_cycles(sizes_of(weight_packing="group", weight_banks=4)) == (1, 1, 2)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.full((2, 3), 2), "weights: 2 is not -1, 0 or 1"),
        (np.zeros(3, int), "weights: an integer matrix [outputs, inputs] is needed, not int64 of"),
        (np.zeros((2, 3)), "weights: an integer matrix [outputs, inputs] is needed, not float64"),
    ],
)
def test_bad_weights(weights, message):
    with pytest.raises(InputError) as error:
        pack_weights(weights, sizes_of())
    assert str(error.value).startswith(message)


def test_bad_images():
    sizes = sizes_of()
    with pytest.raises(InputError, match=r"group_size: 6 must be 1 to 5"):
        index_patterns(6)
    with pytest.raises(InputError, match=r"weight image: shape \(3, 96\) is not \(4, 96\)"):
        unpack_weights(np.zeros((3, 96), np.uint8), sizes, 1, 1)
    with pytest.raises(InputError, match=r"weight image: index 31 must be below 27"):
        unpack_weights(np.full((4, 96), 255, np.uint8), sizes, 1, 1)
