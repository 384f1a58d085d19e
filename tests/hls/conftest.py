"""Tests of UbiMoE's C++ share the module `ubimoe_csim` and one folder of programs."""

import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from ubimoe_csim import FLAGS

from headrace.hls.csim import ap_types, compiler


@pytest.fixture(scope="session")
def cache(tmp_path_factory) -> Path:
    """Return a folder for programs, with a precompiled header: a third of the compiler's time."""
    folder = tmp_path_factory.mktemp("csim")
    names = ("ap_int.h", "deque", "fstream", "iostream", "memory", "stdexcept", "string", "vector")
    header = folder / "all.h"
    lines = ["#define AP_INT_MAX_W 4096", *(f"#include <{name}>" for name in names)]
    header.write_text("\n".join(lines) + "\n")
    made = [compiler(), *FLAGS, "-isystem", str(ap_types()), "-x", "c++-header", str(header)]
    subprocess.run([*made, "-o", f"{header}.gch"], check=True, timeout=120)
    return folder
