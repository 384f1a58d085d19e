import pytest

from headrace.errors import InputError
from headrace.sim.roofline import Roof, RooflinePoint, place, plot_roofline

BOARD = Roof("board", 672e9, 12e9)


def test_ridge():
    assert BOARD.ridge_flop_per_byte == 56


def test_place():
    point = place(BOARD, "decode", flop=8e9, size=1e9, seconds=0.1)
    assert point == RooflinePoint("decode", 8.0, 80e9, "memory")
    assert place(BOARD, "prefill", flop=56e9, size=1e9, seconds=1).bound == "compute"


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_picture_has_equal_bytes(tmp_path, suffix):
    points = [place(BOARD, "decode", flop=8e9, size=1e9, seconds=0.1)]
    for name in "ab":
        plot_roofline([BOARD, Roof("two", 1e12, 19e9)], points, tmp_path / f"{name}.{suffix}")
    first, second = ((tmp_path / f"{name}.{suffix}").read_bytes() for name in "ab")
    assert first == second
    if suffix == "svg":
        assert b"decode" in first
        assert b"<dc:date>" not in first


def test_bad_input(tmp_path):
    with pytest.raises(InputError, match="roof 'r': peak and bandwidth must be above 0"):
        Roof("r", 1.0, 0.0)
    with pytest.raises(InputError, match="point 'p': operations, bytes and time must be above 0"):
        place(BOARD, "p", flop=1, size=0, seconds=1)
    with pytest.raises(InputError, match="at least one roof"):
        plot_roofline([], [], tmp_path / "a.png")
    with pytest.raises(InputError, match=r"must end in \.png or \.svg"):
        plot_roofline([BOARD], [], tmp_path / "a.pdf")
