"""UbiMoE's number formats against the table of docs/ubimoe-numerics.md, and its multipliers."""

import re
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from headrace.arch.ubimoe.formats import (
    FORMATS,
    WIDE_BITS,
    WIDE_FRACTION,
    formats_of,
    multiplier_dsp,
)
from headrace.errors import InputError

PAGE = Path(__file__).parents[2] / "docs" / "ubimoe-numerics.md"
COLUMNS = ["w16a32", "int16", "int8"]


def documented():
    """Return {kind: [(bits, fraction) per precision]} of the page's table."""
    table = {}
    for line in PAGE.read_text("utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) != 5:
            continue
        pairs = [re.match(r"(\d+)(?: bits)?, (\d+)", cell) for cell in cells[1:4]]
        if pairs[0] is not None:
            # "same" stands for the column before it.
            found = [tuple(map(int, p.groups())) if p else None for p in pairs]
            table[cells[0]] = [f or found[0] for f in found]
    return table


def test_the_page_has_its_kinds():
    assert set(documented()) == {
        "wide",
        "feature",
        "operand",
        "weight",
        "bias",
        "norm gain, offset",
        "patch weight; pixel",
    }


@pytest.mark.parametrize("column", range(3))
def test_formats_are_those_of_the_page(column):
    table = {kind: pairs[column] for kind, pairs in documented().items()}
    formats = FORMATS[COLUMNS[column]]
    assert formats.name == COLUMNS[column]
    assert table["wide"] == (WIDE_BITS, WIDE_FRACTION)
    assert table["feature"] == (formats.feature_bits, formats.feature_fraction)
    assert table["operand"] == (formats.operand_bits, formats.operand_fraction)
    assert table["weight"] == (formats.weight_bits, formats.weight_fraction)
    assert table["bias"] == (16, formats.attention_bias_fraction)
    assert table["norm gain, offset"] == (16, formats.norm_fraction)
    assert table["patch weight; pixel"] == (16, formats.patch_fraction)


def test_what_the_page_says_in_words():
    """Biases have 9 fraction bits inside MSA and 11 elsewhere, or 10; only INT8 saturates."""
    assert [FORMATS[name].bias_fraction for name in COLUMNS] == [11, 10, 10]
    assert [FORMATS[name].saturates for name in COLUMNS] == [False, False, True]


@pytest.mark.parametrize(
    ("name", "product", "score", "operand", "feature"),
    [
        ("w16a32", 22 + 14 - 22, 2 * 22 - 22, 0, 0),
        ("int16", 10 + 13 - 22, 2 * 10 - 22, 12, 12),
        ("int8", 4 + 10 - 22, 2 * 4 - 22, 18, 12),
    ],
)
def test_shifts(name, product, score, operand, feature):
    formats = FORMATS[name]
    assert formats.product_shift == product
    assert formats.score_shift == score
    assert formats.operand_shift == operand
    assert formats.feature_shift == feature


def test_formats_by_bits():
    assert formats_of(16, 32) is FORMATS["w16a32"]
    assert formats_of(16, 16) is FORMATS["int16"]
    assert formats_of(8, 8) is FORMATS["int8"]
    message = "weight_bits = 8, activation_bits = 16 is not allowed: 16 and 32, 16 and 16, or 8 and"
    with pytest.raises(InputError, match=message):
        formats_of(8, 16)


def test_formats_do_not_change():
    with pytest.raises(FrozenInstanceError):
        FORMATS["int16"].operand_bits = 8


@pytest.mark.parametrize(
    ("a_bits", "b_bits", "slices"),
    [
        (8, 8, 1),
        (16, 16, 1),
        (18, 27, 1),  # a whole slice, either way round
        (27, 18, 1),
        (32, 16, 2),
        (16, 32, 2),
        (32, 32, 4),
        (32, 24, 2),
        (27, 32, 2),
        (24, 24, 2),
        (19, 27, 2),
        (35, 28, 4),
    ],
)
def test_multiplier_slices(a_bits, b_bits, slices):
    """Signed 27 x 18 bits per slice; a part beside another one holds a bit less of each."""
    assert multiplier_dsp(a_bits, b_bits) == slices
