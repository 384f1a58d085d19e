import pytest

from headrace.errors import InputError
from headrace.sim.energy import ASSUMED_PRICES, EnergyModel, Price


def test_by_hand():
    model = EnergyModel(2.0, {"add": Price(0.25, "made up"), "byte": Price(100.0, "made up")})
    budget = model.energy({"add": 4_000_000_000, "byte": 10_000_000}, 0.5)
    assert dict(budget.energy_fj) == {
        "static": 10**15,
        "add": 10**12,
        "byte": 10**12,
    }
    assert budget.total_fj == 1_002 * 10**12
    assert budget.energy_j == pytest.approx(1.002)
    assert budget.power_w == pytest.approx(2.004)
    assert budget.power_by_class_w()["byte"] == pytest.approx(0.002)


def test_adds_up_exactly():
    counts = {name: 7**i for i, name in enumerate(ASSUMED_PRICES, 9)}
    budget = EnergyModel(3.3, ASSUMED_PRICES).energy(counts, 0.123)
    assert sum(budget.energy_fj.values()) == budget.total_fj
    assert all(isinstance(fj, int) for fj in budget.energy_fj.values())


def test_assumptions_are_marked():
    for price in ASSUMED_PRICES.values():
        assert price.assumed
        assert price.source.startswith("assumption")


@pytest.mark.parametrize(
    ("counts", "seconds", "message"),
    [
        ({"flop": 1}, 1.0, "no energy price for 'flop'; there are bram_access, ddr_byte"),
        ({"lut_add": -1}, 1.0, "count of 'lut_add' must not be negative, is -1"),
        ({}, 0.0, "more than 0 s, not 0.0"),
    ],
)
def test_bad_runs(counts, seconds, message):
    with pytest.raises(InputError, match=message):
        EnergyModel(1.0, ASSUMED_PRICES).energy(counts, seconds)


def test_bad_models():
    with pytest.raises(InputError, match="at least 0 W, not -1"):
        EnergyModel(-1, {})
    with pytest.raises(InputError, match="price of 'x' must be at least 0 pJ, not nan"):
        EnergyModel(1, {"x": Price(float("nan"), "")})
