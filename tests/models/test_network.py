"""Networks from presets and configs, held against published counts."""

import json

import networkx as nx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.errors import InputError
from headrace.models.network import Operator, load_network, network_from_config, network_names

# Published: TeLLMe's workload (section 1 of its paper), the cards of Llama 3 8B and BitNet 2B4T,
# DeiT's table for ViT-Ti and ViT-S, the note beside tiny-bitnet, and the cards (parameters of the
# safetensors files) of Llama 2, Mistral, Falcon, BLOOM and CLIP's vision model.
PARAMETERS = {
    "llama-2-7b": 6_738_415_616,
    "llama-3-8b": 8_030_261_248,
    "bitnet-b1.58-2b-4t": 2_412_820_480,
    "vit-tiny": 5_717_416,
    "vit-small": 22_050_664,
    "tiny-bitnet": 2_759_232,
    "llama-2-70b": 68_976_648_192,
    "mistral-7b": 7_241_732_096,
    "falcon-40b": 41_835_970_560,
    "bloom-176b": 176_247_271_424,
    "clip-vit-l-14-336": 303_507_456,
}

VALID = {
    "architectures": ["BitnetForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 96,
    "max_position_embeddings": 128,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "vocab_size": 50,
}


@pytest.mark.parametrize("name", sorted(PARAMETERS))
def test_parameters_are_the_published_ones(name):
    assert load_network(name).parameters == PARAMETERS[name]


def test_every_published_network_is_there():
    unpublished = {"bitnet-b1.58-large", "m3vit-tiny", "m3vit-tiny-197", "m3vit-small"}
    unpublished |= {"siglip-large-384", "gpt-13b", "llava-1.5-7b"}  # see test_decoders.py
    assert set(network_names()) == set(PARAMETERS) | unpublished


def test_bitnet_large_sums():
    network = load_network("bitnet-b1.58-large")
    assert network.linear_parameters == 24 * (4 * 1536**2 + 3 * 1536 * 4096) == 679_477_248
    assert network.lm_head_parameters == 32002 * 1536
    assert round(network.linear_parameters / 1e6, 2) == 679.48
    assert round(network.lm_head_parameters / 1e6, 2) == 49.16
    assert network.kv_bytes_per_token == 147_456
    assert network.head_dim == 96


def test_bitnet_large_work():
    network = load_network("bitnet-b1.58-large")
    # S(N) causal pairs, two products of 16 heads x 96, 24 layers; linears; LM head
    pairs = 128 * 129 // 2
    attention = 24 * 2 * 1536 * pairs
    assert network.macs(128) == attention + 128 * (679_477_248 + 32002 * 1536)
    assert network.macs(1, 100) == 24 * 2 * 1536 * 101 + 679_477_248 + 32002 * 1536
    attention_op = network.operator("layers.0.attention")
    assert attention_op.kv_write_bytes(1) == 2 * 1536 * 2
    assert attention_op.kv_read_bytes(1, 1023) == 1024 * 2 * 1536 * 2
    q = network.operator("layers.0.q_proj")
    assert q.weight_bytes() == 1536 * 1536 // 4 + 2
    assert q.input_bytes(64) == 64 * 1536
    assert q.output_bytes(64) == 64 * 1536 * 2
    assert network.operator("lm_head").weight_bytes() == 32002 * (1536 + 4)


def test_layer_has_the_operators_of_the_schedule():
    network = load_network("bitnet-b1.58-large")
    names = [op.name.removeprefix("layers.3.") for op in network.layer_operators(3)]
    assert names == [
        "input_norm", "qkv_quantise", "q_proj", "q_rope", "k_proj", "k_rope", "v_proj",
        "attention", "attention_sub_norm", "o_quantise", "o_proj", "attention_residual",
        "post_attention_norm", "ffn_quantise", "up_proj", "gate_proj", "swiglu", "ffn_sub_norm",
        "down_quantise", "down_proj", "ffn_residual",
    ]  # fmt: skip


@pytest.mark.parametrize("name", network_names())
def test_graph_is_connected_ordered_and_shapes_fit(name):
    network = load_network(name)
    assert nx.is_directed_acyclic_graph(network.graph)
    assert nx.is_weakly_connected(network.graph)
    position = {op.name: i for i, op in enumerate(network.operators)}
    for source, target in network.graph.edges:
        assert position[source] < position[target]
        reader = network.operator(target)
        # a gate says where rows go, not what is in them
        if reader.kind != "attention" and network.operator(source).kind != "gate":
            assert network.operator(source).out_features == reader.in_features
    if network.family != "vit":
        assert {op.kind for op in network.operators} >= {"embedding", "lm_head", "attention"}


def test_operator_refuses_what_it_does_not_know():
    shape = {"layer": None, "in_features": 4, "out_features": 4}
    with pytest.raises(InputError, match="operator x: kind = 'conv'; one of attention, "):
        Operator(name="x", kind="conv", **shape)
    with pytest.raises(InputError, match="operator x: format = 'int3'; one of ternary, int8"):
        Operator(name="x", kind="gelu", output_format="int3", **shape)


def test_work_of_small_operators_by_hand():
    vit = load_network("vit-tiny")
    # 196 patches of 768 values, 197 tokens attend to all 197, one class token is classified
    assert vit.operator("patch_embedding").macs(197) == 196 * 768 * 192
    assert vit.operator("layers.0.attention").macs(197) == 2 * 192 * 197 * 197
    assert vit.operator("layers.0.attention").kv_read_bytes(197) == 0
    assert vit.operator("classifier").macs(197) == 192_000
    assert vit.operator("layers.0.q_proj").weight_bytes() == (192 * 192 + 192) * 2
    llama = load_network("llama-3-8b")
    attention = llama.operator("layers.31.attention")
    assert attention.macs(3, 5) == 2 * 4096 * (6 + 7 + 8)
    assert attention.kv_read_bytes(3, 5) == 8 * 2 * 1024 * 2
    assert llama.operator("layers.0.attention_residual").input_bytes(2) == 2 * 2 * 4096 * 2


# Two operations per multiply-accumulate, counted by hand from the shapes, without classifiers.
@pytest.mark.parametrize(
    ("name", "tokens", "gop"),
    [
        ("m3vit-tiny", 129, 1.565),
        ("m3vit-tiny-197", 197, 2.514),
        ("vit-tiny", 197, 2.507),
        ("vit-small", 197, 9.197),
    ],
)
def test_work_of_vision_transformers(name, tokens, gop):
    network = load_network(name)
    assert network.max_positions == tokens
    macs = network.macs(tokens) - network.lm_head_parameters
    assert round(2 * macs / 1e9, 3) == gop


def test_experts_by_hand():
    network = load_network("m3vit-tiny")
    kinds = [[op.kind for op in network.layer_operators(layer)] for layer in range(12)]
    assert [("gate" in k, "combine" in k) for k in kinds] == [(False, False), (True, True)] * 6
    up = network.operator("layers.1.experts.up_proj")
    assert up.weights == 16 * 384 * 192
    assert up.macs(129) == 129 * 2 * 384 * 192
    assert up.weight_bytes() == 2 * 16 * (384 * 192 + 384)
    assert up.output_bytes(129) == 129 * 2 * 384 * 2
    gate = network.operator("layers.11.gate")
    assert (gate.weights, gate.macs(129)) == (2 * 16 * 192, 129 * 16 * 192)
    experts = [op for op in network.operators if op.kind == "expert_matmul"]
    assert sum(op.weights for op in experts) == 14_155_776
    biases = 6 * 16 * (384 + 192)
    dense = 6 * (2 * 768 * 192 + 768 + 192)
    attention = 12 * 4 * (192 * 192 + 192)
    norms, embedding = 25 * 2 * 192, 768 * 192 + 192 + 130 * 192
    gates = 6 * 2 * 16 * 192
    assert network.parameters == (
        14_155_776 + biases + dense + attention + norms + embedding + gates
    )
    assert network.lm_head_parameters == 0


MIXTURE = {
    "model_type": "vit", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4,
    "num_attention_heads": 2, "image_size": [32, 64], "patch_size": 16, "num_experts": 4,
    "num_experts_per_tok": 2, "moe_intermediate_size": 16, "decoder_sparse_step": 4,
}  # fmt: skip


def test_period_of_experts_and_oblong_images():
    network = network_from_config(MIXTURE)
    assert [network.has_experts(layer) for layer in range(4)] == [False, False, False, True]
    assert network.max_positions == 2 * 4 + 1
    assert not network_from_config(MIXTURE | {"num_experts": 0}).has_experts(3)


@pytest.mark.parametrize(
    ("key", "value", "part"),
    [
        ("num_experts", -1, "num_experts = -1; an integer from 0 to 4096"),
        ("num_experts_per_tok", 5, "num_experts_per_tok = 5; at most num_experts = 4"),
        ("num_experts_per_tok", None, "key num_experts_per_tok is missing"),
        ("moe_intermediate_size", None, "key moe_intermediate_size is missing"),
        ("decoder_sparse_step", 0, "from 1 to 1024"),
        ("num_tasks", "2", "num_tasks = '2'; an integer"),
        ("image_size", [32], "one or two integers from 1 to 16384"),
        ("image_size", [32, True], "one or two integers"),
        ("image_size", [32, 40], "a divisor of image_size = 40"),
    ],
)
def test_bad_mixtures_are_named(key, value, part):
    with pytest.raises(InputError) as caught:
        network_from_config(MIXTURE | {key: value})
    assert part in str(caught.value)


def test_grouped_query_shapes():
    network = load_network("bitnet-b1.58-2b-4t")
    assert network.operator("layers.0.k_proj").weight_shape == (5 * 128, 2560)
    assert network.operator("layers.0.relu2_gate").inputs == 2
    assert network.kv_bytes_per_token == 30 * 2 * 5 * 128 * 2


def test_folder_file_and_dictionary_agree(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(VALID))
    folder = load_network(tmp_path)
    assert folder == network_from_config(tmp_path / "config.json")
    assert folder.parameters == network_from_config(VALID).parameters
    assert (folder.layers, folder.kv_heads, folder.name) == (2, 4, tmp_path.name)


@pytest.mark.parametrize(
    ("key", "value", "part"),
    [
        ("hidden_size", True, "hidden_size = True; an integer from 1 to 65536"),
        ("hidden_size", 0, "from 1 to 65536"),
        ("hidden_size", 10**30, "from 1 to 65536"),
        ("hidden_size", 64.0, "an integer"),
        ("hidden_size", None, "key hidden_size is missing"),
        ("num_attention_heads", 5, "a divisor of hidden_size = 64"),
        ("num_attention_heads", 64, "an even number"),
        ("num_key_value_heads", 3, "a divisor of num_attention_heads = 4"),
        ("num_key_value_heads", 8, "a divisor of num_attention_heads = 4"),
        ("num_hidden_layers", 1025, "from 1 to 1024"),
        ("vocab_size", "50", "an integer"),
        ("hidden_act", "gelu", "one of silu, relu2"),
        ("hidden_act", ["silu"], "one of silu, relu2"),
        ("rms_norm_eps", 0, "from 1e-12 to 1"),
        ("rms_norm_eps", float("nan"), "from 1e-12 to 1"),
        ("rope_theta", float("inf"), "from 1 to 1e+12"),
        ("rope_theta", True, "a number"),
        ("rope_parameters", [], "an object"),
        ("rope_parameters", {"rope_theta": -1}, "rope_parameters: rope_theta = -1"),
        ("tie_word_embeddings", 1, "true or false"),
        ("architectures", "x" * 90, "a list of names"),
    ],
)
def test_bad_value_is_named_with_its_range(key, value, part):
    with pytest.raises(InputError) as caught:
        network_from_config(VALID | {key: value})
    assert part in str(caught.value)
    assert str(caught.value).startswith("config: ")
    assert "\n" not in str(caught.value)


def test_unknown_family_and_network_list_what_there_is(tmp_path):
    with pytest.raises(InputError, match="one of bitnet, llama, mistral, falcon, bloom, gpt2, vit"):
        network_from_config({"model_type": "opt"})
    with pytest.raises(InputError, match="model_type is missing"):
        network_from_config({})
    with pytest.raises(InputError, match="tiny-bitnet"):
        load_network("tinybitnet")
    with pytest.raises(InputError, match="tiny-bitnet"):
        load_network("nul\0byte")
    with pytest.raises(InputError, match="no such file"):
        load_network(tmp_path)


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"\xff\xfe{}", "not UTF-8"),
        (b"[" * 200_000, "nested too deeply"),
        (b'{"hidden_size": NaN}', "NaN is not a number"),
        (b'{"a": 1, "a": 2}', "given twice"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not acceptable JSON"),
        (b"[]", "a JSON object is needed"),
        (b'{"hidden_size": 1', "not acceptable JSON"),
        (b" " * (1 << 21), "larger than"),
        (b"", "not acceptable JSON"),
    ],
)
def test_hostile_file(tmp_path, content, part):
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=part) as caught:
        load_network(tmp_path)
    assert str(path) in str(caught.value)


def test_config_that_is_a_folder(tmp_path):
    (tmp_path / "config.json").mkdir()
    with pytest.raises(InputError):
        load_network(tmp_path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=5,
)
SMALL = st.integers(min_value=-2, max_value=16)


@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from([*VALID, "head_dim", "rope_parameters"]), JSON | SMALL))
def test_any_replacement_is_a_network_or_one_clear_line(changes):
    try:
        network = network_from_config(VALID | changes)
    except InputError as error:
        lines = str(error).splitlines()
        assert [line[:8] for line in lines] == ["config: "]
    else:
        assert network.parameters > 0
