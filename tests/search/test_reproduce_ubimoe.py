"""UbiMoE's published figures: what is met, what is fitted, and where the points come from."""

import numpy as np
import pytest

from headrace.arch.calibration import calibration
from headrace.arch.device import load_device
from headrace.arch.ubimoe import UBIMOE
from headrace.arch.ubimoe.published import UBIMOE_ZCU102
from headrace.models.network import load_network
from headrace.search.reproduce.ubimoe import rows
from headrace.search.space import Space
from headrace.search.ubimoe import SPACE
from headrace.sim.workload import Workload

ROWS = {row.id: row for row in rows()}
OUT_OF_REACH = {"u280_bram36", "u280_lut", "u280_ff"}


def test_every_claim_but_the_platform_of_the_u280_is_met() -> None:
    assert len(ROWS) == len(rows())
    assert {name for name, row in ROWS.items() if row.met is False} == OUT_OF_REACH
    assert all(row.allowed is not None for row in ROWS.values())


def test_the_ladder_is_predicted_and_its_last_step_fitted() -> None:
    assert ROWS["edge_moe_s"].fitted
    assert ROWS["edge_moe_s"].error == pytest.approx(0, abs=0.005)
    ladder = [row for name, row in ROWS.items() if name.startswith("edge_moe_without")]
    assert [row.published for row in ladder] == [0.1043, 0.2129, 0.3534, 0.4334, 0.6503]
    assert not any(row.fitted for row in ladder)
    predicted = [row.predicted for row in ladder]
    assert predicted == sorted(predicted)


def test_no_more_constants_are_fitted_than_allowed() -> None:
    """Bandwidth and static power of each board; that of the U280's channels is not even used."""
    fitted = {name for name, c in calibration().items() if name.startswith("ubimoe") and c.fitted}
    assert fitted == {
        "ubimoe.ddr_port_gb_per_s",
        "ubimoe.zcu102_static_w",
        "ubimoe.u280_static_w",
    }


@pytest.mark.slow
def test_the_zcu102s_point_is_the_nearest_of_all() -> None:
    """Worst of the four errors, each against its tolerance, over the paper's genome."""
    genome = set(UBIMOE_ZCU102) | {"attention_modules"}
    space = Space(UBIMOE, {a.name: [a.default] for a in UBIMOE.axes if a.name not in genome})
    evaluator = SPACE.evaluator(load_device("zcu102"), load_network("m3vit-tiny"), Workload())
    points = space.rows(space.range(0, space.size))
    batch = evaluator.evaluate(points)
    worst = np.max(
        [
            np.abs(batch.columns["dsp"] / 1850 - 1) / 0.10,
            np.abs(batch.columns["bram36"] / 458 - 1) / 0.20,
            np.abs(batch.columns["lut"] / 123_400 - 1) / 0.25,
            np.abs(batch.columns["ff"] / 142_600 - 1) / 0.25,
        ],
        axis=0,
    )
    worst[batch.broken != 0] = np.inf
    assert space.decode(points[np.argmin(worst)]) == UBIMOE.point(UBIMOE_ZCU102)
