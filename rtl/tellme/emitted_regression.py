"""Run the regression of the emitted engine: ``pytest`` in this folder, or ``make``.

Needs cocotb 2, NumPy, pytest and a simulator: Icarus Verilog, or with ``SIM=verilator`` Verilator
5.036 or newer on the path. Nothing else of where it was emitted.
"""

import os
from pathlib import Path

from cocotb_tools.check_results import get_results
from cocotb_tools.runner import get_runner

FOLDER = Path(__file__).resolve().parent
TOP = "ternary_matmul"
# Icarus 11 leaves combinational outputs undefined at time 0 unless told that this is Verilog.
BUILD_ARGS = {"icarus": ["-g2005"], "verilator": ["-Wno-fatal"]}


def test_results_are_exact() -> None:
    """Every result of the vectors comes out of the Verilog, bit for bit."""
    simulator = os.environ.get("SIM", "icarus")
    build = FOLDER / "sim_build" / simulator
    runner = get_runner(simulator)
    runner.build(
        sources=[FOLDER.parent / "rtl" / f"{TOP}.v"],
        hdl_toplevel=TOP,
        build_dir=build,
        build_args=BUILD_ARGS.get(simulator, []),
        timescale=("1ns", "1ps"),
    )
    results = runner.test(
        test_module="cocotb_engine",
        hdl_toplevel=TOP,
        build_dir=build,
        test_dir=FOLDER,
        results_xml=str(build / "results.xml"),
        seed=int(os.environ.get("SEED", "1")),
        extra_env={"PYTHONPATH": os.pathsep.join([str(FOLDER), os.environ.get("PYTHONPATH", "")])},
    )
    tests, failures = get_results(results)
    assert tests == 1
    assert failures == 0


if __name__ == "__main__":
    test_results_are_exact()
