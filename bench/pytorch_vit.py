"""ViTs in PyTorch: transformers' ViTModel, with a mixture of experts of our own for M3ViT."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import ViTConfig, ViTModel
from transformers.models.vit.modeling_vit import ViTMLP

from headrace.models.config import NetworkConfig

Floats = NDArray[np.float64]


class MixtureOfExperts(nn.Module):
    """M3ViT's: softmax over all experts, the best k, their probabilities not renormalised."""

    def __init__(self, network: NetworkConfig, config: ViTConfig):
        super().__init__()
        width, self.top_k, self.task = network.hidden_size, network.top_k, 0
        self.gates = nn.ModuleList(
            nn.Linear(width, network.experts, bias=False) for _ in range(network.tasks)
        )
        self.experts = nn.ModuleList(ViTMLP(config) for _ in range(network.experts))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        probabilities, self.chosen = self.gates[self.task](x).softmax(-1).topk(self.top_k)
        result = torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            *token, rank = torch.nonzero(self.chosen == number, as_tuple=True)
            rows = tuple(token)
            result[rows] += probabilities[(*rows, rank)][:, None] * expert(x[rows])
        return result


class Reference(NamedTuple):
    """What a ViT gives for one image.

    Attributes
    ----------
    features, normed : ndarray of float64, shape (tokens, D)
        After the last block, and after the final norm.
    chosen : dict of int to ndarray of int64, shape (tokens, top_k)
        The experts of every token, for each layer that has any.
    effective_keys : float
        exp of the mean entropy of attention over its keys: their number if attention is uniform.
    """

    features: Floats
    normed: Floats
    chosen: dict[int, NDArray[np.int64]]
    effective_keys: float


def build(network: NetworkConfig, size: tuple[int, int]) -> ViTModel:
    """Build a network for images of height and width `size`."""

    def config(hidden: int) -> ViTConfig:
        return ViTConfig(
            hidden_size=network.hidden_size,
            num_hidden_layers=network.layers,
            num_attention_heads=network.heads,
            intermediate_size=hidden,
            hidden_act=network.activation,
            layer_norm_eps=network.rms_eps,
            image_size=size,
            patch_size=network.patch_size,
            num_channels=network.channels,
            qkv_bias=network.attention_bias,
            attn_implementation="eager",
        )

    model = ViTModel(config(network.intermediate_size), add_pooling_layer=False)
    for number, layer in enumerate(model.layers):
        if network.has_experts(number):
            layer.mlp = MixtureOfExperts(network, config(network.expert_size))
    return model.eval()


def run(
    network: NetworkConfig, tensors: Mapping[str, Floats], image: NDArray[np.uint8]
) -> Reference:
    """Run a network in float32 on one image, (channels, height, width), as transformers would.

    Pixels are divided by 255 and normalised with mean and deviation 0.5. Every tensor must have
    the name and the shape that the modules give it.
    """
    model = build(network, image.shape[1:])
    model.load_state_dict(
        {name: torch.tensor(v, dtype=torch.float32) for name, v in tensors.items()}
    )
    last: list[torch.Tensor] = []
    model.layers[-1].register_forward_hook(lambda module, inputs, output: last.append(output))
    pixels = (torch.tensor(image, dtype=torch.float32) / 255 - 0.5) / 0.5
    with torch.no_grad():
        output = model(pixels[None], output_attentions=True)
    entropy = [float(-(a * a.clamp_min(1e-30).log()).sum(-1).mean()) for a in output.attentions]
    return Reference(
        features=last[0][0].double().numpy(),
        normed=output.last_hidden_state[0].double().numpy(),
        chosen={
            number: layer.mlp.chosen[0].numpy()
            for number, layer in enumerate(model.layers)
            if network.has_experts(number)
        },
        effective_keys=float(np.exp(np.mean(entropy))),
    )
