import pickle

import pytest

from headrace.errors import InputError
from headrace.sim.budget import Phase, group, plot_budget, table, total


def phase(name="p", **changes):
    terms = {"cycles": 10, "fill": 1, "steady": 6, "drain": 2, "memory": 1, "stall": 0}
    rest = {"kernel": "ternary_matmul", "operator": "q_proj", "bound": "lookup"}
    return Phase(**{"name": name, **rest, **terms, **changes})


def test_terms_must_add_up():
    with pytest.raises(
        InputError,
        match="fill 1 \\+ steady 6 \\+ drain 2 \\+ memory 1 \\+ stall 0 = 10, not 11 cycles",
    ):
        phase(cycles=11)
    with pytest.raises(InputError, match="phase 'p': stall must not be negative, is -1"):
        phase(stall=-1, steady=7)
    with pytest.raises(InputError, match="phase 'p': ddr must not be negative, is -4"):
        phase(bytes={"ddr": -4})


def test_total_and_groups():
    phases = [
        phase("a", bytes={"ddr": 5}, layer=0, macs=3),
        phase(
            "b",
            bytes={"ddr": 1, "bram": 2},
            layer=1,
            kernel="norm",
            bound="ddr",
            stall=9,
            cycles=19,
        ),
        phase("c", layer=None),
    ]
    whole = total(phases)
    assert (whole.cycles, whole.stall, whole.macs) == (39, 9, 3)
    assert whole.bytes == {"ddr": 6, "bram": 2}
    assert (whole.kernel, whole.operator, whole.layer, whole.bound) == (
        "*",
        "q_proj",
        None,
        "lookup",
    )
    assert {key: part.cycles for key, part in group(phases, "kernel").items()} == {
        "ternary_matmul": 20,
        "norm": 19,
    }
    assert list(group(phases, "layer")) == ["0", "1", "-"]
    assert total([]).cycles == 0
    with pytest.raises(InputError, match="not 'colour'"):
        group(phases, "colour")


def test_phases_can_be_sent_to_other_processes():
    original = phase(bytes={"ddr": 5})
    assert pickle.loads(pickle.dumps(original)) == original
    with pytest.raises(TypeError):
        original.bytes["ddr"] = 6


def test_table():
    lines = table([phase("first", cycles=1010, steady=1006)]).splitlines()
    assert " ".join(lines[0].split()) == "phase fill steady drain memory stall cycles bytes bound"
    assert lines[1].split() == ["first", "1", "1,006", "2", "1", "0", "1,010", "0", "lookup"]
    assert lines[2].split()[0] == "total"
    assert all(line == line.rstrip() for line in lines)


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_picture_has_equal_bytes(tmp_path, suffix):
    for name in "ab":
        plot_budget([phase("x"), phase("y")], tmp_path / f"{name}.{suffix}", title="t")
    first, second = ((tmp_path / f"{name}.{suffix}").read_bytes() for name in "ab")
    assert first == second
    assert first[:4] == (b"\x89PNG" if suffix == "png" else b"<?xm")


def test_bad_pictures(tmp_path):
    with pytest.raises(InputError, match=r"must end in \.png or \.svg"):
        plot_budget([phase()], tmp_path / "x.gif")
    with pytest.raises(InputError, match="no phase"):
        plot_budget([], tmp_path / "x.png")
    assert not list(tmp_path.iterdir())
