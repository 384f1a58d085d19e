"""What the compiler of the SN40L makes of a pass: kernels, launches, bytes over HBM, intensity.

    python bench/sn40l_compiler.py                                 # networks of the paper, TP8
    python bench/sn40l_compiler.py --batch 8 --tile-rows 32

Per network and phase (prefill of the sequence, one token after it) and fusion level: kernels per
layer, launches of a pass without and with kernel looping, bytes over HBM of a socket, operations
per byte, HBM height of the static allocation, and for the largest kernel the shares of the units
in use and the share of the time that the compute units work.
"""

import argparse

from headrace.arch.sn40l.chip import ChipSizes
from headrace.models.network import load_network, network_names
from headrace.sim.sn40l.allocation import allocate
from headrace.sim.sn40l.placement import place
from headrace.sim.sn40l.sections import LEVELS, Program, compile_pass
from headrace.sim.sn40l.symbols import symbols_of
from headrace.sim.sn40l.workload import Pass

NETWORKS = {
    "llama-2-7b": 4096,
    "llama-2-70b": 4096,
    "mistral-7b": 4096,
    "falcon-40b": 2048,
    "bloom-176b": 8192,
    "llama-3-8b": 4096,
}
"""Sequences of the paper's table 3, and one more network."""
HBM_BYTES, DDR_BYTES = 64 << 30, 1536 << 30


def row(program: Program, chip: ChipSizes) -> str:
    """Return the figures of a program in one line."""
    layers = [kernels for segment, kernels in program.parts if segment.name == "layer"]
    largest = max(program.calls, key=lambda kernel: kernel.flop)
    placed = place(largest, chip)
    memory = allocate(symbols_of(program), HBM_BYTES, DDR_BYTES)
    return (
        f"{program.level:8} {len(layers[0]):7} {program.launches():8} "
        f"{program.launches(looping=True):6} {program.hbm_bytes / 1e9:10.3f} "
        f"{program.intensity:9.2f} {memory.hbm.height / 1e9:8.2f} "
        f"{placed.pcu_share:7.1%} {placed.pmu_share:7.1%} {placed.balance:7.1%}"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("batch", 1), ("sockets", 8), ("tile-rows", 64)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    chip = ChipSizes()
    print(f"{'':8} kernels launches looped     HBM GB   FLOP/B  held GB    PCUs    PMUs balance")
    for name in sorted({*NETWORKS} & {*network_names()}, key=[*NETWORKS].index):
        for phase, tokens, context in (
            ("prefill", NETWORKS[name], 0),
            ("decode", 1, NETWORKS[name] - 1),
        ):
            work = Pass(
                network=load_network(name),
                tokens=tokens,
                context=context,
                batch=options.batch,
                tensor_parallel=options.sockets,
            )
            print(f"{name}, {phase}, {tokens} tokens after {context}")
            for level in LEVELS:
                print(row(compile_pass(work, chip, level, tile_rows=options.tile_rows), chip))


if __name__ == "__main__":
    main()
