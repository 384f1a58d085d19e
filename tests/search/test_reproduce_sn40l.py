"""SN40L's published figures: which the model meets, and which it was fitted to."""

import pytest

from headrace.arch.calibration import calibration
from headrace.arch.sn40l.published import BENCHMARKS
from headrace.search.reproduce.sn40l import benchmark_times, rows


@pytest.fixture(scope="module")
def found():
    listed = rows()
    assert len({row.id for row in listed}) == len(listed)
    return {row.id: row for row in listed}


def test_claims_are_met(found):
    assert {name for name, row in found.items() if row.met is False} == set()
    assert sum(row.met is None for row in found.values()) == 1  # a bound alone is published


def test_what_was_fitted_says_so(found):
    fitted = {name for name, row in found.items() if row.fitted}
    launches = {name for name in fitted if name.endswith("_decode_hardware")}
    searched = {name for name in found if name.startswith("intensity_")}
    assert fitted == launches | searched | {"overall_dgx-a100_8"}
    constants = {n for n, c in calibration().items() if n.startswith("sn40l.") and c.fitted}
    assert constants == {"sn40l.all_reduce_s", "sn40l.software_launch_s"}


def test_all_of_table_3_is_there(found):
    phases = sum(len(phases) for *_, phases in BENCHMARKS.values())
    assert sum(row.bounds is not None for row in found.values()) == 2 * phases == 32


def test_mistral_gains_most_of_fusion_in_decode():
    gains = {}
    for name in BENCHMARKS:
        times = benchmark_times(name).get("decode")
        if times:
            gains[name] = times["U"] / times["SO"]
    assert max(gains, key=gains.__getitem__).startswith("mistral")


@pytest.mark.parametrize("name", BENCHMARKS)
def test_fusion_and_schedules_never_cost(name):
    for times in benchmark_times(name).values():
        assert times["U"] > times["SO"] > times["HO"]
