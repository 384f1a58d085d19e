"""Checkpoints: both forms, bfloat16, shards, and files made to hurt."""

import json
import os

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.errors import InputError
from headrace.models.checkpoint import load_checkpoint, pack_ternary, unpack_ternary
from headrace.models.transformer import Transformer

HIDDEN, FFN, VOCAB, HEADS, KV_HEADS = 16, 24, 10, 4, 2
CONFIG = {
    "architectures": ["BitNetForCausalLM"],
    "model_type": "bitnet",
    "hidden_size": HIDDEN,
    "intermediate_size": FFN,
    "max_position_embeddings": 32,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS,
    "num_hidden_layers": 1,
    "vocab_size": VOCAB,
    "tie_word_embeddings": True,
    "quantization_config": {"linear_class": "autobitlinear"},
}
LAYER = "model.layers.0."
LINEARS = {
    "self_attn.q_proj": (16, 16), "self_attn.k_proj": (8, 16), "self_attn.v_proj": (8, 16),
    "self_attn.o_proj": (16, 16), "mlp.up_proj": (24, 16), "mlp.gate_proj": (24, 16),
    "mlp.down_proj": (16, 24),
}  # fmt: skip
NORMS = {
    LAYER + "input_layernorm": 16, LAYER + "post_attention_layernorm": 16,
    LAYER + "self_attn.attn_sub_norm": 16, LAYER + "mlp.ffn_sub_norm": 24, "model.norm": 16,
}  # fmt: skip
TYPES = {"F32": np.float32, "F16": np.float16, "U8": np.uint8, "F64": np.float64}


def bfloat16(values):
    """The upper halves of float32 bits, for values that fit."""
    bits = np.asarray(values, np.float32).view(np.uint32)
    assert not (bits & 0xFFFF).any()
    return (bits >> 16).astype(np.uint16)


def ternary(seed=0):
    rng = np.random.default_rng(seed)
    return {name: rng.integers(-1, 2, shape).astype(np.int8) for name, shape in LINEARS.items()}


def tensors(form, float_type="F32"):
    """Name: (type, array). Float masters are 0.75 T, so that their mean tells T apart."""
    result = {"model.embed_tokens.weight": ("F32", np.full((VOCAB, HIDDEN), 0.5, np.float32))}
    for name, size in NORMS.items():
        result[name + ".weight"] = ("F32", np.ones(size, np.float32))
    for name, matrix in ternary().items():
        weight = LAYER + name + ".weight"
        if form == "packed":
            result[weight] = ("U8", pack_ternary(matrix))
            result[LAYER + name + ".weight_scale"] = ("F32", np.array([0.25], np.float32))
        elif float_type == "BF16":
            result[weight] = ("BF16", bfloat16(0.75 * matrix))
        else:
            result[weight] = (float_type, (0.75 * matrix).astype(TYPES[float_type]))
    return result


def safetensors_bytes(named, header=None):
    """Write the format by hand: length, JSON header, data."""
    entries, data = {}, b""
    for name, (kind, array) in named.items():
        raw = array.tobytes()
        entries[name] = {
            "dtype": kind,
            "shape": list(array.shape),
            "data_offsets": [len(data), len(data) + len(raw)],
        }
        data += raw
    text = json.dumps(entries if header is None else header(entries)).encode()
    return len(text).to_bytes(8, "little") + text + data


def write(folder, content, config=CONFIG):
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(content)
    return folder


def refused(folder, *parts):
    with pytest.raises(InputError) as caught:
        load_checkpoint(folder)
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message
    return message


@pytest.mark.parametrize(
    ("form", "kind"), [("packed", "U8"), ("float", "F32"), ("float", "F16"), ("float", "BF16")]
)
def test_every_form_gives_the_same_ternary_weights(tmp_path, form, kind):
    checkpoint = load_checkpoint(write(tmp_path, safetensors_bytes(tensors(form, kind))))
    (layer,) = checkpoint.layers
    for name, matrix in ternary().items():
        linear = getattr(layer, name.split(".")[1])
        assert linear.weights.dtype == np.int8
        assert np.array_equal(linear.weights, matrix)
        mean = 0.25 if form == "packed" else 0.75 * np.abs(matrix).mean()
        assert linear.scale == pytest.approx(mean, rel=1e-6)
    assert (checkpoint.embedding == 0.5).all()
    assert checkpoint.lm_head is checkpoint.embedding


def test_bitlinear_divides_by_the_scale(tmp_path):
    config = CONFIG | {"quantization_config": {"linear_class": "bitlinear"}}
    folder = write(tmp_path, safetensors_bytes(tensors("packed")), config)
    assert load_checkpoint(folder).layers[0].q_proj.scale == 4


def test_names_of_the_first_bitnet_release(tmp_path):
    names = {"attn_sub_norm": "inner_attn_ln", "ffn_sub_norm": "ffn_layernorm"}
    renamed = {}
    for name, value in tensors("float").items():
        for new, old in names.items():
            name = name.replace(new, old)
        renamed[name] = value
    config = {k: v for k, v in CONFIG.items() if k != "quantization_config"}
    config |= {"model_type": "llama", "architectures": ["BitnetForCausalLM"]}
    assert len(load_checkpoint(write(tmp_path, safetensors_bytes(renamed), config)).layers) == 1


def test_untied_head_is_read_and_needed(tmp_path):
    config = CONFIG | {"tie_word_embeddings": False}
    named = tensors("packed")
    refused(write(tmp_path, safetensors_bytes(named), config), "lm_head.weight is missing")
    named["lm_head.weight"] = ("F16", np.full((VOCAB, HIDDEN), 2, np.float16))
    write(tmp_path, safetensors_bytes(named), config)
    assert (load_checkpoint(tmp_path).lm_head == 2).all()


def shard(folder, index=None):
    """Write the packed form as two shards with an index."""
    named = list(tensors("packed").items())
    parts = {"a-1.safetensors": dict(named[:9]), "a-2.safetensors": dict(named[9:])}
    for file, part in parts.items():
        (folder / file).write_bytes(safetensors_bytes(part))
    weight_map = {name: file for file, part in parts.items() for name in part}
    (folder / "config.json").write_text(json.dumps(CONFIG))
    content = {"weight_map": weight_map} if index is None else index(weight_map)
    (folder / "model.safetensors.index.json").write_text(json.dumps(content))
    return folder


def test_shards(tmp_path):
    layer = load_checkpoint(shard(tmp_path)).layers[0]
    assert np.array_equal(layer.down_proj.weights, ternary()["mlp.down_proj"])


@pytest.mark.parametrize(
    "name", ["../a-1.safetensors", "/etc/passwd", "a/b.safetensors", ".hidden.safetensors",
             "a-1.bin", "", 3, None, "a-1.safetensors\n", "..\\a.safetensors"],
)  # fmt: skip
def test_shard_names_cannot_leave_the_folder(tmp_path, name):
    def index(weight_map):
        return {"weight_map": weight_map | {"model.norm.weight": name}}

    refused(shard(tmp_path, index), "plain *.safetensors file name")


def test_shard_index_that_lies(tmp_path):
    refused(shard(tmp_path, lambda m: {"weight_map": {}}), "weight_map is missing")
    refused(shard(tmp_path, lambda m: {"weight_map": [1]}), "weight_map is missing")
    refused(shard(tmp_path, lambda m: {"weight_map": m | {"x": "a-1.safetensors"}}), "no tensor")
    refused(shard(tmp_path, lambda m: {"weight_map": {"x": "b.safetensors"}}), "no such file")


def changed(name, value):
    named = tensors("packed")
    if value is None:
        del named[name]
    else:
        named[name] = value
    return safetensors_bytes(named)


Q = LAYER + "self_attn.q_proj.weight"


@pytest.mark.parametrize(
    ("name", "value", "part"),
    [
        (Q, None, "q_proj.weight is missing"),
        (Q + "_scale", None, "q_proj.weight_scale is missing"),
        ("model.norm.weight", None, "model.norm.weight is missing"),
        (Q, ("U8", np.zeros((16, 16), np.uint8)), "has shape [16, 16]; [4, 16] is needed"),
        (Q, ("F64", np.zeros((16, 16))), "type F64; one of F16, BF16, F32"),
        (Q, ("U8", np.full((4, 16), 0b00_11_00_00, np.uint8)), "packed weight [8, 0] is 3"),
        (Q + "_scale", ("F32", np.array([np.nan], np.float32)), "NaN or infinity"),
        (Q + "_scale", ("F32", np.array([0], np.float32)), "positive finite"),
        (Q + "_scale", ("F32", np.array([-1], np.float32)), "positive finite"),
        (Q + "_scale", ("F32", np.ones(2, np.float32)), "has shape [2]; [1] is needed"),
        ("model.norm.weight", ("F32", np.full(16, np.inf, np.float32)), "NaN or infinity"),
        ("model.norm.weight", ("U8", np.ones(16, np.uint8)), "type U8; one of F16"),
        ("model.norm.weight", ("F32", np.ones((16, 1), np.float32)), "shape [16, 1]"),
    ],
)
def test_wrong_tensor_is_named(tmp_path, name, value, part):
    refused(write(tmp_path, changed(name, value)), part)


def test_nan_in_bfloat16(tmp_path):
    named = tensors("float", "BF16")
    named[Q][1][3, 3] = 0x7FC0
    refused(write(tmp_path, safetensors_bytes(named)), Q, "NaN or infinity")


def overlapping(entries):
    entries[Q]["data_offsets"] = [0, 64]
    return entries


def beyond_the_file(entries):
    entries[Q]["data_offsets"][1] += 1 << 40
    return entries


@pytest.mark.parametrize(
    "header", [overlapping, beyond_the_file, lambda e: [], lambda e: {"x": 1}, lambda e: {}]
)
def test_lying_header(tmp_path, header):
    refused(write(tmp_path, safetensors_bytes(tensors("packed"), header)), "model.safetensors")


@pytest.mark.parametrize(
    "content",
    [b"", b"\x00" * 7, b"\xff" * 8, (1 << 60).to_bytes(8, "little"), b"PK\x03\x04" * 100,
     (100).to_bytes(8, "little") + b"{" * 100, (2).to_bytes(8, "little") + b"\xff\xfe"],
)  # fmt: skip
def test_not_a_safetensors_file(tmp_path, content):
    refused(write(tmp_path, content), "not a sound safetensors file")


def test_pickles_are_refused_unread(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    (tmp_path / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'exit 3'\ntR.")
    refused(tmp_path, "pytorch_model.bin", "never read", "model.safetensors")


def test_odd_places(tmp_path):
    refused(tmp_path / "absent", "checkpoint folder")
    refused("x" * 5000, "checkpoint folder")
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    refused(tmp_path, "model.safetensors: no such file")
    (tmp_path / "model.safetensors").mkdir()
    refused(tmp_path, "not a regular file")
    (tmp_path / "model.safetensors").rmdir()
    (tmp_path / "model.safetensors").symlink_to(tmp_path)
    refused(tmp_path, "not a regular file")
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "model.safetensors").symlink_to(tmp_path / "nowhere")
    refused(tmp_path, "no such file")


def test_fifo_does_not_hang(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    os.mkfifo(tmp_path / "model.safetensors")
    refused(tmp_path, "not a regular file")


def test_link_to_a_file_is_followed(tmp_path):
    """Download caches keep weights elsewhere and link to them."""
    store = tmp_path / "blob"
    store.write_bytes(safetensors_bytes(tensors("packed")))
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    (tmp_path / "model.safetensors").symlink_to(store)
    assert len(load_checkpoint(tmp_path).layers) == 1


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"attention_bias": True}, "BitNet has no biases"),
        ({"rope_scaling": {"factor": 8}}, "scaled RoPE"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "scaled RoPE"),
        ({"quantization_config": 3}, "an object is needed"),
        ({"quantization_config": {"linear_class": "x"}}, "one of bitlinear, autobitlinear"),
        ({"quantization_config": {"use_rms_norm": True}}, "use_rms_norm"),
        ({"architectures": [], "model_type": "llama"}, "found llama"),
        ({"num_hidden_layers": 2}, "model.layers.1"),
        ({"hidden_size": 32}, "has shape"),
        ({"vocab_size": 1_000_000}, "has shape"),
    ],
)
def test_config_that_does_not_fit(tmp_path, change, part):
    refused(write(tmp_path, safetensors_bytes(tensors("packed")), CONFIG | change), part)


@pytest.mark.parametrize("precision", ["float32", "hardware"])
def test_absurd_scale_gives_one_line_when_run(tmp_path, precision):
    named = tensors("packed")
    for name in list(named):
        if name.endswith("weight_scale"):
            named[name] = ("F32", np.array([3e38], np.float32))
    checkpoint = load_checkpoint(write(tmp_path, safetensors_bytes(named)))
    with pytest.raises(InputError, match="leave the range of float"):
        Transformer(checkpoint, precision).forward([1, 2, 3])


@pytest.mark.parametrize("activation", ["silu", "relu2"])
@pytest.mark.parametrize("precision", ["float32", "hardware"])
def test_shared_kv_heads_equal_their_copies(tmp_path, precision, activation):
    """Grouped-query attention gives what plain attention gives with every KV head repeated."""
    named = tensors("packed")
    rng = np.random.default_rng(8)
    embedding = rng.normal(size=(VOCAB, HIDDEN)).astype(np.float32)
    named["model.embed_tokens.weight"] = ("F32", embedding)
    grouped, plain = tmp_path / "grouped", tmp_path / "plain"
    config = CONFIG | {"hidden_act": activation}
    for folder in (grouped, plain):
        folder.mkdir()
    write(grouped, safetensors_bytes(named), config)
    for name in ("self_attn.k_proj", "self_attn.v_proj"):
        heads = ternary()[name].reshape(KV_HEADS, -1, HIDDEN)
        copies = np.repeat(heads, HEADS // KV_HEADS, axis=0).reshape(-1, HIDDEN)
        named[LAYER + name + ".weight"] = ("U8", pack_ternary(copies))
    write(plain, safetensors_bytes(named), config | {"num_key_value_heads": HEADS})
    ids = [1, 7, 3, 3, 9, 0, 2, 4, 5]
    few, many = (Transformer(load_checkpoint(f), precision).forward(ids) for f in (grouped, plain))
    np.testing.assert_allclose(few, many, rtol=1e-5, atol=1e-6)
    assert np.ptp(few) > 0.1


CONTENT = safetensors_bytes(tensors("packed"))
ANY_CHANGE = settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@ANY_CHANGE
@given(length=st.integers(0, len(CONTENT) - 1))
def test_truncation_anywhere(tmp_path, length):
    refused(write(tmp_path, CONTENT[:length]), "not a sound safetensors file")


@ANY_CHANGE
@given(position=st.integers(0, len(CONTENT) - 1) | st.integers(0, 2200), value=st.integers(0, 255))
def test_any_byte_changed_loads_or_is_refused(tmp_path, position, value):
    hurt = bytearray(CONTENT)
    hurt[position] = value
    try:
        checkpoint = load_checkpoint(write(tmp_path, bytes(hurt)))
    except InputError as error:
        refused(tmp_path, str(error))
    else:
        for linear in (checkpoint.layers[0].q_proj, checkpoint.layers[0].down_proj):
            assert set(np.unique(linear.weights)) <= {-1, 0, 1}
            assert np.isfinite(linear.scale)


@ANY_CHANGE
@given(st.binary(max_size=300))
def test_any_header(tmp_path, noise):
    content = len(noise).to_bytes(8, "little") + noise
    refused(write(tmp_path, content), str(tmp_path))


@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 9))
def test_packing_round_trip(seed, quarter, columns):
    rng = np.random.default_rng(seed)
    weights = rng.integers(-1, 2, (4 * quarter, columns)).astype(np.int8)
    assert np.array_equal(unpack_ternary(pack_ternary(weights)), weights)


def test_pack_refuses_what_is_not_ternary():
    for bad in (np.full((4, 1), 2, np.int8), np.zeros((3, 1), np.int8)):
        with pytest.raises(InputError):
            pack_ternary(bad)
