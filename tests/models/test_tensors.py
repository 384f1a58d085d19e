"""Folders of safetensors files that are made to cost time, memory or a traceback."""

import json
import time

import numpy as np
import pytest
from safetensors.numpy import save_file

from headrace.errors import InputError
from headrace.models.tensors import TensorFolder


def refused(folder, part):
    with pytest.raises(InputError) as caught:
        TensorFolder(folder)
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def index(folder, weight_map):
    path = folder / "model.safetensors.index.json"
    path.write_text(json.dumps({"weight_map": weight_map}))


def test_shard_with_a_name_too_long_for_the_system(tmp_path):
    index(tmp_path, {"a": "x" * 300 + ".safetensors"})
    refused(tmp_path, "File name too long")


def test_header_that_would_fill_the_memory(tmp_path):
    entry = b'"%07d":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},'
    header = b"{" + b"".join(entry % i for i in range(150_000))[:-1] + b"}"
    assert 8 << 20 < len(header) < 100 << 20  # the safetensors library would read it
    content = len(header).to_bytes(8, "little") + header
    (tmp_path / "model.safetensors").write_bytes(content)
    refused(tmp_path, f"header of {len(header)} bytes; at most 8388608 are accepted")


def test_index_of_many_tensors_takes_linear_time(tmp_path):
    names = [f"t{i}" for i in range(20_000)]
    save_file(dict.fromkeys(names, np.zeros(1, np.uint8)), tmp_path / "a.safetensors")
    index(tmp_path, dict.fromkeys(names, "a.safetensors"))
    begin = time.process_time()
    assert TensorFolder(tmp_path).dtype("t19999") == "U8"
    assert time.process_time() - begin < 5  # a set of all names for each would take ten times that
