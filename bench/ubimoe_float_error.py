"""Print how far UbiMoE's fixed-point encoder is from PyTorch.

    python bench/ubimoe_float_error.py table [--network NAME ...] [--init NAME ...] [--seed N]
    python bench/ubimoe_float_error.py int8 [--network NAME ...] [--init NAME ...] [--seed N]
    python bench/ubimoe_float_error.py golden     # tests/models/data/vit-features.json

It needs torch and transformers. Random weights and a random image from one seed. ``table``: all
three precisions; ``int8``: INT8 as specified, and what would bring it closer. RMS: root mean square
of the error of the features after the last block, over that of the features; max: the largest
error in the same unit; normed: the RMS after the final norm, in floating point on both sides;
other experts: share of tokens, over all layers with experts, that meet another set of them;
weights cut: share of the layers' weights that are beyond the format's range.
"""

import argparse
import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from headrace.files import write_atomic
from headrace.models.config import NetworkConfig
from headrace.models.kernels import fixed
from headrace.models.network import load_network, network_from_config
from headrace.models.vit import patch_rows, stored_encoder, tensor_shapes

Floats = NDArray[np.float64]
GOLDEN = Path(__file__).parents[1] / "tests/models/data/vit-features.json"
DIMS = 8
SEED = 1
IMAGES = {
    "vit-tiny": (224, 224),
    "vit-small": (224, 224),
    "m3vit-tiny": (128, 256),
    "m3vit-tiny-197": (224, 224),
}


class Init(NamedTuple):
    """Deviations of random parameters, and the mean of the norms' gains.

    Attributes
    ----------
    weights : float
        Of the linears; 0: 1 / sqrt(inputs).
    query_key : float
        Factor on the weights of Q and K: attention is peaked where it is above 1.
    gain : float
    norms, biases, positions : float
    """

    weights: float
    query_key: float = 1.0
    gain: float = 1.0
    norms: float = 0.0
    biases: float = 0.0
    positions: float = 0.02


# default: transformers' own; gains: about what spread computes at a width of 64, but with weights
# that INT8 can hold
INITS = {
    "default": Init(0.02),
    "spread": Init(0.0, query_key=2**0.5, norms=0.1, biases=0.05, positions=0.5),
    "gains": Init(0.04, query_key=2**0.5, gain=3.0, norms=0.1, biases=0.05, positions=0.5),
}
SMALL = {
    "dense": {"num_hidden_layers": 4},
    "experts": {
        "num_hidden_layers": 2,
        "num_experts": 6,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 48,
        "decoder_sparse_step": 2,
        "num_tasks": 2,
    },
}


def small_network(kind: str) -> NetworkConfig:
    """Return a ViT of width 64 with 4 heads, on images of 48 x 64."""
    facts = {
        "model_type": "vit",
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_attention_heads": 4,
        "image_size": [48, 64],
        "patch_size": 16,
        "layer_norm_eps": 1e-6,
        "num_labels": 0,
    }
    return network_from_config(facts | SMALL[kind], name=f"small-{kind}")


def random_tensors(network: NetworkConfig, init: str, seed: int = SEED) -> dict[str, Floats]:
    """Draw all tensors of a ViT in the order of `tensor_shapes`."""
    rng = np.random.Generator(np.random.PCG64(seed))
    shapes, drawn = tensor_shapes(network), INITS[init]
    return {name: _draw(rng, name, shape, drawn) for name, shape in shapes.items()}


def _draw(rng: np.random.Generator, name: str, shape: tuple[int, ...], init: Init) -> Floats:
    inputs = int(np.prod(shape[1:]))
    if "layernorm" in name:
        return rng.normal(init.gain if name.endswith("weight") else 0.0, init.norms, shape)
    if name.endswith(".bias"):
        return rng.normal(0.0, init.biases, shape)
    if not name.endswith(".weight"):
        return rng.normal(0.0, init.positions, shape)
    factor = init.query_key if "q_proj" in name or "k_proj" in name else 1.0
    return rng.normal(0.0, factor * (init.weights or inputs**-0.5), shape)


def random_image(channels: int, size: tuple[int, int], seed: int = SEED) -> NDArray[np.uint8]:
    rng = np.random.Generator(np.random.PCG64(seed + 1000))
    return rng.integers(0, 256, (channels, *size), dtype=np.uint8)


def rms(values: Floats) -> float:
    return float(np.sqrt(np.mean(values**2)))


def normed(features: Floats, tensors: Mapping[str, Floats], epsilon: float) -> Floats:
    centred = features - features.mean(axis=1, keepdims=True)
    unit = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + epsilon)
    return unit * tensors["layernorm.weight"] + tensors["layernorm.bias"]


def cut(tensors: Mapping[str, Floats], f: fixed.Formats) -> float:
    """Return the share of the layers' weights that the format cannot hold."""
    weights = [v for name, v in tensors.items() if name.startswith("layers.") and v.ndim == 2]
    limit = np.ldexp(1.0, f.weight_bits - 1 - f.weight_fraction)
    return sum(int((np.abs(v) > limit).sum()) for v in weights) / sum(v.size for v in weights)


def other_experts(
    states: list[NDArray[np.int64]], encoder: fixed.Encoder, f: fixed.Formats, chosen: Any
) -> float:
    """Return the share of tokens, over all layers with experts, whose set of experts differs."""
    different = []
    for layer, expected in chosen.items():
        block = encoder.blocks[layer]
        assert isinstance(block.ffn, fixed.Experts)
        x = fixed.msa_block(states[layer], block, f, dims=DIMS)
        rows = fixed.layer_norm(x, block.ffn_norm.weights, block.ffn_norm.bias, f)
        found = fixed.gate(rows, block.ffn.gate, f, top_k=block.ffn.top_k).experts
        different.append((np.sort(found) != np.sort(expected)).any(axis=1))
    return float(np.mean(different)) if different else 0.0


@contextmanager
def nearest_operands() -> Iterator[None]:
    """Round to nearest where `operand()` floors. The contract does not; this is to compare."""

    def rounded(value: NDArray[np.int64], f: fixed.Formats) -> NDArray[np.int64]:
        return fixed.to_operand(value + ((1 << (22 - f.operand_fraction)) >> 1), f)

    with ExitStack() as stack:
        for name in ("attention", "encoder_block", "layer_norm"):
            module = import_module(f"headrace.models.kernels.fixed.{name}")
            stack.enter_context(patch.object(module, "to_operand", rounded))
        yield


class Errors(NamedTuple):
    """The figures of a row, as shares of 1; see the top of the file."""

    rms: float
    largest: float
    normed: float
    other_experts: float
    cut: float


class Case:
    """A network with its weights, an image, and what PyTorch makes of it."""

    def __init__(self, name: str, init: str, seed: int = SEED):
        from pytorch_vit import run

        self.name, self.init, self.network = name, init, load_network(name)
        self.tensors = random_tensors(self.network, init, seed)
        image = random_image(self.network.channels, IMAGES[name], seed)
        self.rows = patch_rows(image, self.network.patch_size)
        self.reference = run(self.network, self.tensors, image)

    def errors(self, f: fixed.Formats, *, centred: bool = False) -> Errors:
        """Run the reference in the formats and hold it against PyTorch."""
        encoder = stored_encoder(self.tensors, self.network, f, centred=centred)
        states = list(fixed.encoder_states(self.rows, encoder, f, dims=DIMS))
        features, reference = fixed.to_real(states[-1], f.feature_fraction), self.reference
        size, error = rms(reference.features), features - reference.features
        after = normed(features, self.tensors, self.network.rms_eps) - reference.normed
        return Errors(
            rms=rms(error) / size,
            largest=float(np.abs(error).max()) / size,
            normed=rms(after) / rms(reference.normed),
            other_experts=other_experts(states, encoder, f, reference.chosen),
            cut=cut(self.tensors, f),
        )

    def line(self, label: str, f: fixed.Formats, *, centred: bool = False) -> str:
        """Return a row of the table."""
        errors, keys = self.errors(f, centred=centred), self.reference.effective_keys
        figures = [
            f"{errors.rms:.2%}",
            f"{errors.largest:.3f}",
            f"{errors.normed:.2%}",
            f"{errors.other_experts:.1%}",
            f"{errors.cut:.2%}",
            f"{keys:.0f} of {len(self.reference.features)}",
        ]
        return _row([self.name, self.init, label, *figures])


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def table(cases: Iterator[Case]) -> None:
    """Print all precisions."""
    for case in cases:
        for name, f in fixed.FORMATS.items():
            print(case.line(name, f), flush=True)


def int8(cases: Iterator[Case]) -> None:
    """Print INT8 as it is, with centred parameters, rounding, and wider ranges of weights."""
    for case in cases:
        for fraction in (10, 9, 8):
            f = replace(fixed.FORMATS["int8"], weight_fraction=fraction)
            weights = f"weights 8, {fraction}"
            print(case.line(weights, f), flush=True)
            print(case.line(f"{weights}; centred", f, centred=True), flush=True)
            with nearest_operands():
                print(case.line(f"{weights}; nearest", f), flush=True)


def digest(tensors: Mapping[str, Floats], image: NDArray[np.uint8]) -> str:
    """Return the SHA-256 of the tensors as float32, in order, and the image."""
    parts = [np.asarray(v, "<f4").tobytes() for v in tensors.values()]
    return hashlib.sha256(b"".join([*parts, image.tobytes()])).hexdigest()


def golden() -> None:
    """Write PyTorch's features of the small networks."""
    import torch
    import transformers
    from pytorch_vit import run

    networks = {}
    for kind in SMALL:
        network = small_network(kind)
        tensors, image = random_tensors(network, "gains"), random_image(3, (48, 64))
        reference = run(network, tensors, image)
        networks[kind] = {
            "digest": digest(tensors, image),
            "features": [[float(f"{v:.7g}") for v in row] for row in reference.features],
            "chosen": {str(n): np.sort(v).tolist() for n, v in reference.chosen.items()},
        }
    made = {
        "schema": "headrace/vit-features/1",
        "source": "bench/ubimoe_float_error.py golden: transformers' ViTModel in float32",
        "versions": {
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "numpy": np.__version__,
        },
        "seed": SEED,
        "networks": networks,
    }
    write_atomic(GOLDEN, json.dumps(made) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=["table", "int8", "golden"])
    parser.add_argument("--network", nargs="+", choices=IMAGES, default=list(IMAGES)[:3])
    parser.add_argument("--init", nargs="+", choices=INITS, default=list(INITS)[:2])
    parser.add_argument("--seed", type=int, default=SEED)
    options = parser.parse_args()
    if options.action == "golden":
        return golden()
    head = "network,weights,precision,RMS,max,RMS normed,other experts,weights cut,effective keys"
    print(_row(head.split(",")))
    print(_row(["---"] * 9))
    cases = (Case(name, init, options.seed) for name in options.network for init in options.init)
    return {"table": table, "int8": int8}[options.action](cases)


if __name__ == "__main__":
    main()
