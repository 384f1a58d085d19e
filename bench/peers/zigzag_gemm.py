"""Run ZigZag on one GEMM and print cycles and seconds as JSON.

Usage: zigzag_gemm.py M K N. Runs in the environment that bench/peers.sh makes.

Configured as its own example "tpu_like" (32 x 32 MACs, 2 MB of SRAM, 64-bit DRAM port), with
that example's mapping; loma search engine, minimal latency, 8-bit operands and 16-bit
sums, which is what its registers hold.
"""

import contextlib
import io
import json
import logging
import sys
import tempfile
import time
from pathlib import Path

import zigzag
from zigzag.api import get_hardware_performance_zigzag


def main() -> None:
    m, k, n = (int(word) for word in sys.argv[1:4])
    gemm = {
        "id": 0,
        "name": "gemm",
        "operator_type": "Gemm",
        "equation": "O[b][k]+=I[b][c]*W[k][c]",
        "loop_dims": ["B", "K", "C"],
        "loop_sizes": [m, n, k],
        "operand_precision": {"O": 16, "O_final": 8, "W": 8, "I": 8},
        "operand_source": {"I": 0, "W": 0},
    }
    inputs = Path(zigzag.__file__).parent / "inputs"
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            answer = get_hardware_performance_zigzag(
                workload=[gemm],
                accelerator=str(inputs / "hardware" / "tpu_like.yaml"),
                mapping=str(inputs / "mapping" / "tpu_like.yaml"),
                dump_folder=folder,
                loma_show_progress_bar=False,
            )
        seconds = time.perf_counter() - start
    print(json.dumps({"cycles": float(answer[1]), "seconds": seconds}))


if __name__ == "__main__":
    main()
