import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["graph", "budget", "memory", "trace", "roofline", "workload"])
def test_heavy_packages_are_imported_where_used(module):
    code = (
        f"import sys, headrace.sim.{module};"
        "print([m for m in ('numba', 'matplotlib', 'networkx') if m in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
