"""Published figures that the model of the SN40L takes in or is held against.

Sources: arXiv 2405.07518, and NVIDIA's NeMo page of Llama-2 latencies, which that paper refers to
for its baselines.
"""

from collections.abc import Mapping

__all__ = ["BENCHMARKS", "DGX_COPY_GB_PER_S", "DGX_MS", "PROMPT_TOKENS"]

PROMPT_TOKENS = 128
"""Prompt of NVIDIA's latencies; the chatbot's 20 output tokens follow."""

DGX_MS: Mapping[str, Mapping[int, float]] = {
    "dgx-a100": {1: 136.5, 2: 143.3, 4: 158.6, 8: 181.9},
    "dgx-h100": {1: 97.6, 2: 109.1, 4: 116.2, 8: 129.1},
}
"""Llama-2-7B on 8 GPUs, 128 tokens in and 20 out: milliseconds by batch size."""

DGX_COPY_GB_PER_S: Mapping[str, float] = {"dgx-a100": 32.0, "dgx-h100": 64.0}
"""Host memory to GPUs, all together (section 6)."""

BENCHMARKS: Mapping[str, tuple[str, int, tuple[str, ...]]] = {
    "llama2-7b": ("llama-2-7b", 4096, ("prefill", "decode", "train")),
    "sparsegpt-13b": ("gpt-13b", 2048, ("train",)),
    "llama2-70b": ("llama-2-70b", 4096, ("prefill", "decode")),
    "bloom-176b": ("bloom-176b", 8192, ("prefill", "decode")),
    "mistral-7b-2k": ("mistral-7b", 2048, ("prefill", "decode")),
    "mistral-7b-4k": ("mistral-7b", 4096, ("prefill", "decode")),
    "falcon-40b": ("falcon-40b", 2048, ("prefill", "decode")),
    "llava1.5-7b": ("llava-1.5-7b", 4096, ("prefill", "decode")),
}
"""Table 3 without the FFT: network, sequence and phases."""
