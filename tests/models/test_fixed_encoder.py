"""UbiMoE's whole encoder: its bits, and its distance from PyTorch and float64."""

import importlib.util
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from headrace.errors import InputError
from headrace.models import vit
from headrace.models.kernels import fixed
from headrace.models.kernels.fixed import FORMATS
from headrace.models.network import load_network

HERE = Path(__file__).parent
BENCH = HERE.parents[1] / "bench"


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


block = load(HERE / "test_fixed_block.py")
bench = load(BENCH / "ubimoe_float_error.py")
oracle = block.oracle
GOLDEN = json.loads((HERE / "data/vit-features.json").read_text("utf-8"))
KINDS = tuple(GOLDEN["networks"])
IMAGE = bench.random_image(3, (48, 64))
NETWORKS = {kind: bench.small_network(kind) for kind in KINDS}
TENSORS = {kind: bench.random_tensors(NETWORKS[kind], "gains") for kind in KINDS}


def expected_features(kind):
    return np.array(GOLDEN["networks"][kind]["features"])


def relative_rms(found, expected):
    return math.sqrt(((found - expected) ** 2).mean() / (expected**2).mean())


def float_parameters(tensors, network, layer):
    """The parameters of a layer as `float_block` takes them."""

    def pair(name):
        return tensors[f"layers.{layer}.{name}.weight"], tensors[f"layers.{layer}.{name}.bias"]

    def ffn(name):
        return pair(f"{name}.fc1"), pair(f"{name}.fc2")

    experts = network.experts if layer % 2 else 0
    return {
        "norms": (pair("layernorm_before"), pair("layernorm_after")),
        "qkv": [
            np.concatenate(parts)
            for parts in zip(*(pair(f"attention.{p}_proj") for p in "qkv"), strict=True)
        ],
        "projection": pair("attention.o_proj"),
        "ffns": [ffn(f"mlp.experts.{e}") for e in range(experts)] or [ffn("mlp")],
        "gate": tensors.get(f"layers.{layer}.mlp.gates.0.weight"),
    }


def float_encoder(tensors, network, image):
    """A ViT in float64: its features after the last block, and the experts used in each layer."""
    side, patch = network.patch_size, "embeddings.patch_embeddings.projection"
    real = (image / 255 - 0.5) / 0.5
    rows = [
        np.tensordot(tensors[f"{patch}.weight"], real[:, r : r + side, c : c + side], 3)
        + tensors[f"{patch}.bias"]
        for r in range(0, image.shape[1], side)
        for c in range(0, image.shape[2], side)
    ]
    x = np.vstack([tensors["embeddings.cls_token"][0], rows])
    x = x + tensors["embeddings.position_embeddings"][0]
    used = {}
    for layer in range(network.layers):
        x, chosen = block.float_block(x, float_parameters(tensors, network, layer), network.heads)
        if chosen.shape[1] > 1:
            used[layer] = chosen
    return x, used


def fixed_features(kind, f, **options):
    encoder = vit.stored_encoder(TENSORS[kind], NETWORKS[kind], f, **options)
    features = fixed.encoder(vit.patch_rows(IMAGE, 16), encoder, f, dims=8)
    return fixed.to_real(features, f.feature_fraction)


@pytest.mark.parametrize("kind", KINDS)
def test_the_stored_features_belong_to_these_weights(kind):
    """NumPy may one day draw other numbers from the seed: then the file is to be made anew."""
    assert bench.digest(TENSORS[kind], IMAGE) == GOLDEN["networks"][kind]["digest"]


@pytest.mark.parametrize("kind", KINDS)
def test_pytorch_and_float64_agree(kind):
    features, used = float_encoder(TENSORS[kind], NETWORKS[kind], IMAGE)
    np.testing.assert_allclose(features, expected_features(kind), rtol=0, atol=2e-5)
    chosen = {str(n): [np.flatnonzero(row).tolist() for row in v] for n, v in used.items()}
    assert chosen == GOLDEN["networks"][kind]["chosen"]


@pytest.mark.parametrize(
    "kind, name, stated",
    [
        ("dense", "w16a32", 0.00166),
        ("dense", "int16", 0.0047),
        ("dense", "int8", 0.0933),
        ("experts", "w16a32", 0.00118),
        ("experts", "int16", 0.00367),
        ("experts", "int8", 0.0747),
    ],
)
def test_distance_from_pytorch(kind, name, stated):
    """RMS error of the features after the last block over their RMS, all rounding included."""
    found = fixed_features(kind, FORMATS[name])
    assert relative_rms(found, expected_features(kind)) == pytest.approx(stated, rel=0.1)


@pytest.mark.parametrize("kind, stated", [("dense", 0.0748), ("experts", 0.0607)])
def test_centred_parameters_bring_int8_closer(kind, stated):
    found = fixed_features(kind, FORMATS["int8"], centred=True)
    assert relative_rms(found, expected_features(kind)) == pytest.approx(stated, rel=0.1)


def test_centred_parameters():
    """1/32 is 64 units of an offset and 32 of a bias; the sums of rows carry it further."""
    f = FORMATS["int8"]
    plain, centred = (
        vit.stored_encoder(TENSORS["experts"], NETWORKS["experts"], f, centred=c)
        for c in (False, True)
    )
    for a, b in zip(plain.blocks, centred.blocks, strict=True):
        for x, y in ((a.attention_norm, b.attention_norm), (a.ffn_norm, b.ffn_norm)):
            assert (y.bias - x.bias == 64).all()
        assert (b.attention.qkv.bias - a.attention.qkv.bias == 32).all()
        afters = [(a.attention.projection, b.attention.projection)]
        ffns = [(a.ffn, b.ffn)] if isinstance(a.ffn, fixed.FeedForward) else []
        ffns = ffns or list(zip(a.ffn.experts, b.ffn.experts, strict=True))
        for x, y in ffns:
            assert (x.first.bias == y.first.bias).all()
            afters.append((x.second, y.second))
        for x, y in afters:
            wanted = x.weights.sum(axis=1) / 32
            assert np.abs(y.bias - x.bias - wanted).max() <= 1
    assert (plain.patch.bias == centred.patch.bias).all()


@pytest.mark.parametrize("name", FORMATS)
def test_every_bit_of_an_encoder(name):
    f, rng = FORMATS[name], np.random.default_rng(5)
    blocks = tuple(
        block.stored(block.real_parameters(n, 8, 6, experts, 0.3), f, heads=2)
        for n, experts in enumerate((1, 3))
    )
    patch = fixed.Affine(
        weights=rng.integers(-(2**15), 2**15, (8, 12)), bias=rng.integers(-(2**11), 2**11, 8)
    )
    positions = rng.integers(-(2**11), 2**11, (5, 8))
    encoder = fixed.Encoder(patch=patch, positions=positions, blocks=blocks)
    pixels = rng.integers(0, 256, (4, 12))
    x = [positions[0].tolist()]
    for row, position in zip(pixels.tolist(), positions[1:].tolist(), strict=True):
        out = []
        for w, b, p in zip(patch.weights.tolist(), patch.bias.tolist(), position, strict=True):
            products = [v * u // 4 for v, u in zip(row, w, strict=True)]
            acc = oracle.wrap(b * 2 ** (22 - f.bias_fraction) + sum(products))
            out.append(oracle.wrap(oracle.feature(acc, f) + p, f.feature_bits))
        x.append(out)
    states = [x]
    for parameters in blocks:
        states.append(block.scalar_block(states[-1], parameters, f, 4))
    found = list(fixed.encoder_states(pixels, encoder, f, dims=4))
    assert [state.tolist() for state in found] == states
    assert fixed.encoder(pixels, encoder, f, dims=4).tolist() == states[-1]


def integers_of(encoder):
    """All arrays of an encoder, by the names of the fields on the way to them."""
    found = {}

    def visit(name, value):
        if isinstance(value, np.ndarray):
            found[name] = value.tolist()
        elif isinstance(value, tuple):
            for n, part in enumerate(value):
                visit(f"{name}.{n}", part)
        elif hasattr(value, "__dict__"):
            for key, part in vars(value).items():
                visit(f"{name}.{key}", part)

    visit("", encoder)
    return found


def test_names_in_files():
    """What `save_pretrained` of transformers 5 and 4 writes, with and without a head's prefix."""
    f, network, tensors = FORMATS["int16"], NETWORKS["dense"], TENSORS["dense"]
    in_files = {
        "attention.q_proj": "attention.attention.query",
        "attention.k_proj": "attention.attention.key",
        "attention.v_proj": "attention.attention.value",
        "attention.o_proj": "attention.output.dense",
        "mlp.fc1": "intermediate.dense",
        "mlp.fc2": "output.dense",
    }
    renamed = {}
    for name, tensor in tensors.items():
        if name.startswith("layers."):
            _, number, rest = name.split(".", 2)
            part, kind = rest.rsplit(".", 1)
            name = f"encoder.layer.{number}.{in_files.get(part, part)}.{kind}"
        renamed[name] = tensor
    wanted = integers_of(vit.stored_encoder(tensors, network, f))
    assert len(wanted) == 3 + 4 * 12
    assert integers_of(vit.stored_encoder(renamed, network, f)) == wanted
    with_head = {f"vit.{name}": v for name, v in renamed.items()} | {"classifier.bias": np.ones(3)}
    assert integers_of(vit.stored_encoder(with_head, network, f)) == wanted


def test_gates_of_a_task():
    f, network, tensors = FORMATS["int8"], NETWORKS["experts"], TENSORS["experts"]
    for task in (0, 1):
        stored = vit.stored_encoder(tensors, network, f, task=task).blocks[1].ffn.gate
        wanted = fixed.from_real(tensors[f"layers.1.mlp.gates.{task}.weight"], 8, 10)
        assert (stored == wanted).all()


def test_normalisation_per_channel():
    """Against float64 on the normalised image; half a unit of weights and biases is left."""
    f, network = FORMATS["w16a32"], NETWORKS["dense"]
    mean, deviation = np.array([0.4, 0.5, 0.6]), np.array([0.9, 1.0, 1.1])
    encoder = vit.stored_encoder(TENSORS["dense"], network, f, mean=mean, deviation=deviation)
    first = next(fixed.encoder_states(vit.patch_rows(IMAGE, 16), encoder, f, dims=8))
    normal = (IMAGE / 255 - mean[:, None, None]) / deviation[:, None, None]
    # float_encoder normalises with 0.5 and 0.5 itself
    same_after = (normal * 0.5 + 0.5) * 255
    expected, _ = float_encoder(TENSORS["dense"], replace(network, layers=0), same_after)
    assert np.abs(fixed.to_real(first, 22) - expected).max() < 768 * 2.0**-17 + 2.0**-12


def test_patch_rows():
    image = np.arange(2 * 4 * 6).reshape(2, 4, 6)
    rows = vit.patch_rows(image, 2)
    assert rows.shape == (6, 8)
    assert rows[4].tolist() == [14, 15, 20, 21, 38, 39, 44, 45]


DENSE = TENSORS["dense"]
SHAPES = vit.tensor_shapes(NETWORKS["dense"])


def stored(tensors=DENSE, **options):
    return vit.stored_encoder(tensors, NETWORKS["dense"], FORMATS["int8"], **options)


@pytest.mark.parametrize(
    "refused, message",
    [
        (lambda: stored({}), "tensor embeddings.position_embeddings is missing"),
        (
            lambda: stored(DENSE | {"layers.1.mlp.fc1.bias": np.zeros(3)}),
            r"layers.1.mlp.fc1.bias has shape \(3,\); \(96,\) is needed",
        ),
        (
            lambda: stored(DENSE | {"layers.0.layernorm_after.bias": np.full(64, np.nan)}),
            "layers.0.layernorm_after.bias holds NaN or infinity",
        ),
        (lambda: stored(task=1), "task = 1 is not allowed: 0 to 0"),
        (lambda: stored(mean=[0.5, 0.5]), "mean, deviation: one or 3 numbers"),
        (lambda: stored(deviation=0.0), "deviations above 0"),
        (lambda: vit.tensor_shapes(load_network("tiny-bitnet")), "tiny-bitnet is of family bitnet"),
        (lambda: vit.patch_rows(np.zeros((3, 30, 32), int), 16), r"image of shape \(3, 30, 32\)"),
        (lambda: vit.patch_rows(np.zeros((32, 32), int), 16), r"image of shape \(32, 32\)"),
    ],
)
def test_refusals(refused, message):
    with pytest.raises(InputError, match=message) as caught:
        refused()
    assert "\n" not in str(caught.value)


def test_no_biases_of_q_k_and_v():
    network = replace(NETWORKS["dense"], attention_bias=False)
    shapes = vit.tensor_shapes(network)
    assert set(SHAPES) - set(shapes) == {
        f"layers.{n}.attention.{p}_proj.bias" for n in range(4) for p in "qkv"
    }
    tensors = {name: DENSE[name] for name in shapes}
    first = vit.stored_encoder(tensors, network, FORMATS["int8"]).blocks[0].attention.qkv
    assert not first.bias.any()


@pytest.mark.parametrize("name", ["vit-tiny", "vit-small", "m3vit-tiny", "m3vit-small"])
def test_shapes_add_up_to_the_network(name):
    """All parameters of the preset but its classifier."""
    network = load_network(name)
    count = sum(math.prod(shape) for shape in vit.tensor_shapes(network).values())
    classifier = network.vocab_size * (network.hidden_size + 1)
    assert count == network.parameters - classifier


@pytest.fixture
def pytorch(monkeypatch):
    """The PyTorch side, where torch and a transformers with these names are installed."""
    pytest.importorskip("torch")
    pytest.importorskip("transformers", minversion="5.23")
    monkeypatch.syspath_prepend(BENCH)
    return importlib.import_module("pytorch_vit")


@pytest.mark.parametrize("kind", KINDS)
def test_pytorch_gives_the_stored_features(pytorch, kind):
    reference = pytorch.run(NETWORKS[kind], TENSORS[kind], IMAGE)
    np.testing.assert_allclose(reference.features, expected_features(kind), rtol=0, atol=2e-5)
    chosen = {str(n): np.sort(v).tolist() for n, v in reference.chosen.items()}
    assert chosen == GOLDEN["networks"][kind]["chosen"]


def test_a_checkpoint_that_transformers_wrote(pytorch, tmp_path):
    from safetensors.numpy import load_file

    kind, f = "dense", FORMATS["int16"]
    model = pytorch.build(NETWORKS[kind], (48, 64))
    model.save_pretrained(tmp_path)
    saved = load_file(tmp_path / "model.safetensors")
    assert any(".attention.attention.query." in name for name in saved)
    in_memory = {name: v.numpy() for name, v in model.state_dict().items()}
    assert {name: v.shape for name, v in in_memory.items()} == SHAPES
    wanted = integers_of(vit.stored_encoder(in_memory, NETWORKS[kind], f))
    assert integers_of(vit.stored_encoder(saved, NETWORKS[kind], f)) == wanted


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, figures",
    [
        ("vit-tiny", {"w16a32": 0.003, "int16": 0.0058, "int8": 0.425}),
        ("m3vit-tiny", {"w16a32": 0.006, "int16": 0.0118, "int8": 0.501}),
    ],
)
def test_figures_of_the_manual(pytorch, name, figures):
    case = bench.Case(name, "spread")
    found = {precision: case.errors(f).rms for precision, f in FORMATS.items()}
    assert found == pytest.approx(figures, rel=0.05)
