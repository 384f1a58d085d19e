"""Witness of tiny-bitnet's float master weights: digests of the ternary matrices they give.

    python make_master_digests.py FOLDER      # FOLDER holds the float model.safetensors

Writes data/master-digests.json (SHA-256 of each ternary matrix, int8, row-major) and
data/master-k_proj.safetensors (one float32 matrix of layer 0) beside this script. It reads the
file with the safetensors library and ternarises with torch's formula as tiny-bitnet's notes
state it, without headrace, so that headrace can be held against it.
"""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

HERE = Path(__file__).resolve().parent / "data"
SLICE = "model.layers.0.self_attn.k_proj.weight"


def main(folder: str) -> None:
    tensors = load_file(Path(folder) / "model.safetensors")
    digests = {}
    for name in sorted(tensors):
        if name.endswith("_proj.weight"):
            master = tensors[name]
            inverse = np.float32(1) / max(np.abs(master).mean(), np.float32(1e-5))
            ternary = np.round(master * inverse).clip(-1, 1).astype(np.int8)
            digests[name] = hashlib.sha256(ternary.tobytes()).hexdigest()
    (HERE / "master-digests.json").write_text(json.dumps(digests, indent=1) + "\n")
    save_file({SLICE: tensors[SLICE]}, HERE / "master-k_proj.safetensors")


if __name__ == "__main__":
    main(sys.argv[1])
