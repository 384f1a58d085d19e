import pytest

from headrace.arch.device import load_device
from headrace.arch.memories import load_dram, load_pcie, load_ssd, memory_names
from headrace.errors import InputError

LOAD = {"dram": load_dram, "pcie": load_pcie, "ssd": load_ssd}
ALL = [(kind, name) for kind in LOAD for name in memory_names(kind)]


@pytest.mark.parametrize("kind, name", ALL)
def test_every_figure_has_a_source(kind, name):
    memory = LOAD[kind](name)
    assert memory.figures
    assert all(figure.source for figure in memory.figures.values())
    for key, figure in memory.figures.items():
        assert getattr(memory, key) == figure.value


def test_peaks_are_those_of_the_machines():
    for dram, device, tier in [
        ("lpddr5-6400", "vrex8", "lpddr5"),
        ("hbm2e-1935", "vrex48", "hbm"),
    ]:
        published = load_device(device).tiers[tier].bandwidth_bytes_per_s
        assert load_dram(dram).bytes_per_s == pytest.approx(published)
    # The paper's figures of the links are those before the line code.
    for link, device in [("gen3-x4", "vrex8"), ("gen4-x16", "vrex48")]:
        published = load_device(device).links["pcie"].bandwidth_bytes_per_s
        assert load_pcie(link).bytes_per_s == pytest.approx(published * 128 / 130)


@pytest.mark.parametrize("name", memory_names("dram"))
def test_timings_fit_together(name):
    dram = load_dram(name)
    assert dram.burst_cycles <= dram.cycles("ccd_s") <= dram.cycles("ccd_l")
    assert dram.t_ras_ns >= dram.t_rcd_ns + dram.t_rtp_ns
    assert 4 * dram.t_rrd_s_ns <= dram.t_faw_ns * 1.01 + dram.clock_ns
    assert dram.t_rfc_pb_ns < dram.t_rfc_ab_ns < dram.t_refi_ns
    assert dram.page_bytes % dram.interleave_bytes == 0
    assert dram.interleave_bytes % dram.burst_bytes == 0
    assert dram.banks % dram.refresh_banks == 0


def test_alternative_replaces_the_figures_that_have_it():
    usual, other = load_pcie("gen3-x4"), load_pcie("gen3-x4:payload128")
    assert (usual.max_payload_bytes, other.max_payload_bytes) == (256, 128)
    assert other.dllp_share > usual.dllp_share
    assert other.max_read_request_bytes == usual.max_read_request_bytes


def test_unknown_names_are_refused():
    with pytest.raises(InputError, match="unknown dram 'sdram': one of lpddr5-6400"):
        load_dram("sdram")
    with pytest.raises(InputError, match="no alternative 'x'"):
        load_ssd("bg6:x")
    with pytest.raises(InputError, match="one of dram, pcie, ssd"):
        memory_names("tape")
