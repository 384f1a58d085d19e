import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.arch.device import device_names, load_device
from headrace.errors import InputError

# AMD's data sheets of the parts: LUT, FF, DSP, BRAM36, URAM.
PARTS = {
    "kv260": (117_120, 234_240, 1_248, 144, 64),
    "zcu102": (274_080, 548_160, 2_520, 912, 0),
    "u280": (1_303_680, 2_607_360, 9_024, 2_016, 960),
}


@pytest.mark.parametrize("name", PARTS)
def test_resources_of_the_parts(name):
    found = load_device(name).resources
    assert found is not None
    assert tuple(found.as_dict().values()) == PARTS[name]


def test_every_name_in_use_is_there():
    needed = [
        "kv260",
        "zcu102",
        "u280",
        "agx-orin",
        "a100",
        "vrex8",
        "vrex48",
        "sn40l",
        "sn40l-node",
        "dgx-a100",
        "dgx-h100",
    ]
    assert set(device_names()) >= set(needed)


@pytest.mark.parametrize("name", device_names())
def test_every_figure_has_a_source(name):
    device = load_device(name)
    assert device.tiers
    assert all(figure.source for figure in device.figures.values())
    assert all(tier.capacity_bytes > 0 for tier in device.tiers.values())


def test_alternative_replaces_one_figure_only():
    usual, other = load_device("kv260"), load_device("kv260:ddr4-2400")
    assert usual.tiers["ddr"].bandwidth_bytes_per_s == pytest.approx(17.1e9)
    assert other.tiers["ddr"].bandwidth_bytes_per_s == pytest.approx(19.2e9)
    assert other.name == "kv260:ddr4-2400"
    assert other.resources == usual.resources
    assert other.links == usual.links
    # The table itself is as it was.
    assert load_device("kv260").tiers == usual.tiers


@pytest.mark.parametrize(
    "name, message",
    [
        ("kv261", "unknown device 'kv261': one of kv260, zcu102"),
        ("", "unknown device '': one of kv260"),
        ("kv260:", "device 'kv260' has no alternative '': one of ddr4-2400"),
        ("kv260:fast", "device 'kv260' has no alternative 'fast': one of ddr4-2400, measured"),
    ],
)
def test_refusals_list_what_there_is(name, message):
    with pytest.raises(InputError, match=f"^{re.escape(message)}"):
        load_device(name)


@given(st.text(max_size=20))
def test_any_name_loads_or_is_refused(name):
    try:
        device = load_device(name)
    except InputError:
        return
    assert device.name == name
