"""Decoders beyond Llama's form: their operators in order, published counts, work, refusals."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.errors import InputError
from headrace.models import vit
from headrace.models.network import load_network, network_from_config
from headrace.models.streaming import VideoDialogue
from headrace.sim.ubimoe.mapping import network_shape

MISTRAL = {
    "model_type": "mistral", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 50,
    "max_position_embeddings": 128, "sliding_window": 8,
}  # fmt: skip
FALCON = {
    "model_type": "falcon", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_kv_heads": 2, "new_decoder_architecture": True, "vocab_size": 50,
}  # fmt: skip
BLOOM = {"model_type": "bloom", "n_embed": 48, "n_layer": 2, "n_head": 16, "vocab_size": 50}
GPT = {"model_type": "gpt2", "n_embd": 64, "n_layer": 2, "n_head": 4, "vocab_size": 50}
CLIP = {
    "model_type": "clip_vision_model", "hidden_size": 64, "intermediate_size": 96,
    "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 28, "patch_size": 14,
}  # fmt: skip


def names(network, layer=1):
    return [op.name.removeprefix(f"layers.{layer}.") for op in network.layer_operators(layer)]


def sources(network, name):
    return [source.removeprefix("layers.1.") for source in network.graph.predecessors(name)]


def test_parallel_block_reads_one_input_and_adds_once():
    network = network_from_config(FALCON)
    assert names(network) == [
        "input_norm", "q_proj", "q_rope", "k_proj", "k_rope", "v_proj", "attention", "o_proj",
        "ffn_norm", "up_proj", "gelu", "down_proj", "residual",
    ]  # fmt: skip
    assert sources(network, "layers.1.residual") == ["layers.0.residual", "o_proj", "down_proj"]
    assert sources(network, "layers.1.ffn_norm") == ["layers.0.residual"]
    assert network.operator("layers.1.residual").input_bytes(2) == 3 * 2 * 64 * 4
    assert network.operator("layers.0.k_proj").weight_shape == (2 * 16, 64)


def test_forms_of_falcon():
    shared = network_from_config(FALCON | {"num_ln_in_parallel_attn": 1})
    assert "ffn_norm" not in names(shared)
    assert sources(shared, "layers.1.up_proj") == ["input_norm"]
    old = network_from_config(FALCON | {"new_decoder_architecture": False, "alibi": True})
    assert (old.kv_heads, old.norms_per_layer, old.positions) == (1, 1, "alibi")
    assert "q_rope" not in names(old)
    serial = {"new_decoder_architecture": False, "parallel_attn": False, "multi_query": False}
    plain = network_from_config(FALCON | serial | {"bias": True})
    assert (plain.kv_heads, plain.norms_per_layer, plain.parallel) == (4, 2, False)
    assert names(plain)[-5:] == [
        "post_attention_norm", "up_proj", "gelu", "down_proj", "ffn_residual",
    ]  # fmt: skip
    assert plain.operator("layers.0.up_proj").biases == 256


def test_bloom_has_alibi_and_a_norm_of_the_embedding():
    network = network_from_config(BLOOM)
    assert [op.name for op in network.operators[:3]] == [
        "embedding", "embedding_norm", "layers.0.input_norm",
    ]  # fmt: skip
    assert names(network) == [
        "input_norm", "q_proj", "k_proj", "v_proj", "attention", "o_proj", "attention_residual",
        "post_attention_norm", "up_proj", "gelu", "down_proj", "ffn_residual",
    ]  # fmt: skip
    assert network.head_dim == 3  # odd heads are refused only where pairs are rotated
    per_layer = 12 * 48**2 + 13 * 48
    assert network.parameters == 2 * per_layer + 50 * 48 + 4 * 48


def test_gpt_learns_its_positions():
    network = network_from_config(GPT)
    assert [op.name for op in network.operators[:2]] == ["embedding", "position_add"]
    assert network.operator("position_add").weight_shape == (1024, 64)
    assert network.parameters == 2 * (12 * 64**2 + 13 * 64) + 50 * 64 + 1024 * 64 + 2 * 64
    # OPT 13B is the same shape with another vocabulary and 2,050 positions; its card says
    # 12,853,473,280
    ours = load_network("gpt-13b")
    assert ours.parameters + (50_272 - 50_257 + 2_050 - 2_048) * 5_120 == 12_853_473_280


def test_window_bounds_what_attention_sees():
    attention = network_from_config(MISTRAL).operator("layers.0.attention")
    for tokens, context in ((1, 0), (1, 7), (1, 8), (5, 0), (5, 6), (20, 0), (20, 3), (3, 40)):
        seen = [min(p + 1, 8) for p in range(context, context + tokens)]
        keys = {k for p in range(context, context + tokens) for k in range(max(0, p - 7), p + 1)}
        assert attention.attention_pairs(tokens, context) == sum(seen)
        assert attention.kv_read_bytes(tokens, context) == len(keys) * 2 * 2 * 16 * 4
    assert network_from_config(MISTRAL | {"sliding_window": None}).sliding_window == 0


def test_mistral_and_llama_2_in_numbers():
    mistral, llama = load_network("mistral-7b"), load_network("llama-2-70b")
    assert mistral.sliding_window == 4096
    assert mistral.kv_bytes_per_token == 32 * 2 * 8 * 128 * 2
    assert llama.kv_bytes_per_token == 80 * 2 * 8 * 128 * 2
    assert llama.weight_bytes() == 2 * 68_976_648_192
    # prefill of a prompt and one token after it: linears, two products of attention
    linears = 68_976_648_192 - 32_000 * 8_192 - 161 * 8_192
    assert llama.macs(4) == 4 * linears + 80 * 2 * 8_192 * 10
    assert llama.macs(1, 4) == linears + 80 * 2 * 8_192 * 5


def test_llava_is_decoder_tower_and_projector():
    both = VideoDialogue(
        network=load_network("llava-1.5-7b"), vision=load_network("clip-vit-l-14-336")
    )
    biases = 2 * 4096
    # the card of llava-hf/llava-1.5-7b-hf
    assert both.network.parameters + both.vision_parameters + biases == 7_063_427_072
    assert both.vision.max_positions == 24 * 24 + 1


def test_clip_towers_are_described_not_computed():
    tower = network_from_config(CLIP)
    assert [op.name for op in tower.operators[:3]] == [
        "patch_embedding", "position_add", "embedding_norm",
    ]  # fmt: skip
    assert tower.operators[-1].name == "final_norm"
    assert tower.operator("patch_embedding").biases == 0
    for use in (vit.tensor_shapes, network_shape):
        with pytest.raises(InputError, match="a norm before its first layer"):
            use(tower)


@pytest.mark.parametrize(
    ("config", "key", "value", "part"),
    [
        (MISTRAL, "sliding_window", 0, "sliding_window = 0; an integer from 1 to 16777216"),
        (MISTRAL, "sliding_window", True, "sliding_window = True; an integer"),
        (MISTRAL, "mlp_bias", 1, "mlp_bias = 1; true or false"),
        (FALCON, "num_kv_heads", 3, "num_kv_heads = 3; a divisor of num_attention_heads = 4"),
        (FALCON, "num_ln_in_parallel_attn", 3, "an integer from 1 to 2"),
        (FALCON, "new_decoder_architecture", "yes", "true or false"),
        (FALCON, "parallel_attn", 0, "parallel_attn = 0; true or false"),
        (FALCON, "activation", "relu", "activation = 'relu'; one of gelu, "),
        (FALCON, "ffn_hidden_size", -1, "ffn_hidden_size = -1; an integer from 1"),
        (FALCON, "num_attention_heads", 64, "an even number"),
        (BLOOM, "n_embed", None, "key n_embed is missing"),
        (BLOOM, "n_layer", 2.0, "n_layer = 2.0; an integer"),
        (BLOOM, "n_head", 5, "n_head = 5; a divisor of hidden_size = 48"),
        (BLOOM, "seq_length", 0, "seq_length = 0; an integer"),
        (BLOOM, "layer_norm_epsilon", 2, "layer_norm_epsilon = 2; a number from 1e-12 to 1"),
        (BLOOM, "apply_residual_connection_post_layernorm", True, "= True; false is needed"),
        (GPT, "n_inner", "x", "n_inner = 'x'; an integer"),
        (GPT, "n_positions", 10**9, "n_positions = 1000000000; an integer"),
        (GPT, "activation_function", "silu", "one of gelu, gelu_new"),
        (CLIP, "hidden_act", "gelu_new", "one of quick_gelu, gelu"),
        (CLIP, "patch_size", 5, "a divisor of image_size = 28"),
    ],
)
def test_bad_values_are_named_as_the_config_names_them(config, key, value, part):
    with pytest.raises(InputError) as caught:
        network_from_config(config | {key: value})
    assert part in str(caught.value)
    assert str(caught.value).startswith("config: ")
    assert "\n" not in str(caught.value)


VALUES = (
    st.none() | st.booleans() | st.integers(-2, 16) | st.floats() | st.text(max_size=8)
    | st.lists(st.integers(), max_size=2) | st.dictionaries(st.text(max_size=3), st.integers())
)  # fmt: skip
KEYS = sorted(
    {*MISTRAL, *FALCON, *BLOOM, *GPT, *CLIP, "head_dim", "n_inner", "alibi", "bias", "multi_query"}
    - {"model_type"}
)


@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from([MISTRAL, FALCON, BLOOM, GPT, CLIP]),
    st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=4),
)
def test_any_replacement_is_a_network_or_one_clear_line(config, changes):
    try:
        network = network_from_config(config | changes)
    except InputError as error:
        assert [line[:8] for line in str(error).splitlines()] == ["config: "]
    else:
        assert network.parameters > 0
