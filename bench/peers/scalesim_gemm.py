"""Run SCALE-Sim on one GEMM and print cycles and seconds as JSON.

Usage: scalesim_gemm.py M K N. Runs in the environment that bench/peers.sh makes.

Configured as 32 x 32 MACs (1024), output stationary, 64 KB of SRAM for each operand,
bandwidth as the tool computes it ("CALC"), no sparsity, no traces kept.
"""

import contextlib
import io
import json
import sys
import tempfile
import time
from pathlib import Path

from scalesim.scale_sim import scalesim

CONFIG = """
[general]
run_name = gemm

[architecture_presets]
ArrayHeight: 32
ArrayWidth: 32
IfmapSramSzkB: 64
FilterSramSzkB: 64
OfmapSramSzkB: 64
IfmapOffset: 0
FilterOffset: 10000000
OfmapOffset: 20000000
Bandwidth: 10
Dataflow: os
MemoryBanks: 1
ReadRequestBuffer: 32
WriteRequestBuffer: 32

[layout]
IfmapCustomLayout: False
IfmapSRAMBankBandwidth: 10
IfmapSRAMBankNum: 10
IfmapSRAMBankPort: 2
FilterCustomLayout: False
FilterSRAMBankBandwidth: 10
FilterSRAMBankNum: 10
FilterSRAMBankPort: 2

[sparsity]
SparsitySupport: false
SparseRep: ellpack_block
OptimizedMapping: false
BlockSize: 8
RandomNumberGeneratorSeed: 40

[run_presets]
InterfaceBandwidth: CALC
UseRamulatorTrace: False
"""
LAYOUT_ZEROS = 50


def main() -> None:
    m, k, n = (int(word) for word in sys.argv[1:4])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "config.cfg").write_text(CONFIG)
        (folder / "gemm.csv").write_text(f"Layer, M, N, K,\ngemm, {m}, {n}, {k},\n")
        (folder / "layout.csv").write_text("Layer,\ngemm," + "1," * LAYOUT_ZEROS + "\n")
        start = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            simulator = scalesim(
                save_disk_space=True,
                verbose=False,
                config=str(folder / "config.cfg"),
                topology=str(folder / "gemm.csv"),
                layout=str(folder / "layout.csv"),
                input_type_gemm=True,
            )
            simulator.run_scale(top_path=str(folder))
        seconds = time.perf_counter() - start
        report = next(folder.rglob("COMPUTE_REPORT.csv")).read_text().splitlines()
    heads = [head.strip() for head in report[0].split(",")]
    cells = dict(zip(heads, report[1].split(","), strict=False))
    cycles = float(next(cells[h] for h in heads if h.startswith("Total Cycles")))
    print(json.dumps({"cycles": cycles, "seconds": seconds}))


if __name__ == "__main__":
    main()
