"""Print how long the whole of SN40L's table III takes to simulate, in both fidelities.

    .venv/bin/python bench/sn40l_table3.py [--json]

Every network and phase of the table, fused and launched in hardware, compiled anew, in this
process; compiled code is warm in ``cycle`` after a first small run. Networks are built before.
"""

import argparse
import json
import time

from headrace.arch.device import load_device
from headrace.arch.sn40l import SN40L
from headrace.arch.sn40l.published import BENCHMARKS
from headrace.models.network import load_network
from headrace.sim.sn40l.generation import clear_compiled, pass_time
from headrace.sim.sn40l.node import node_of
from headrace.sim.sn40l.workload import Pass


def works() -> list[Pass]:
    found = []
    for name, sequence, phases in BENCHMARKS.values():
        network = load_network(name)
        for phase in phases:
            tokens, context = (1, sequence) if phase == "decode" else (sequence, 0)
            work = Pass(network=network, tokens=tokens, context=context, tensor_parallel=8)
            found += [work] * (3 if phase == "train" else 1)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    node, passes = node_of(SN40L.point(), load_device("sn40l-node")), works()
    result = {"passes": float(len(passes))}
    pass_time(passes[0], node, "full", "cycle")
    for fidelity in ("analytic", "cycle"):
        clear_compiled()
        start = time.perf_counter()
        seconds = sum(pass_time(work, node, "full", fidelity).seconds for work in passes)
        result |= {f"{fidelity}_s": time.perf_counter() - start, f"{fidelity}_model_s": seconds}
    if parser.parse_args().json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        print(f"{name:16} {value:.3f}")


if __name__ == "__main__":
    main()
