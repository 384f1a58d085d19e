"""Policies for the KV cache side by side, each a small exact reference; see docs/vrex.md."""

from headrace.models.kv_policies.duo_attention import DuoAttention
from headrace.models.kv_policies.evaluate import Outcome, Traffic, masked_attention, run_policy
from headrace.models.kv_policies.full import Full
from headrace.models.kv_policies.inf_llm import InfLlm
from headrace.models.kv_policies.infinigen import InfiniGen, skewed_columns
from headrace.models.kv_policies.policy import Choice, KvPolicy, Work
from headrace.models.kv_policies.rekv import ReKv
from headrace.models.kv_policies.resv import ResvPolicy
from headrace.models.kv_policies.sir_llm import SirLlm
from headrace.models.kv_policies.step import STAGES, KvCache, Step
from headrace.models.kv_policies.streaming_llm import StreamingLlm

__all__ = [
    "STAGES",
    "Choice",
    "DuoAttention",
    "Full",
    "InfLlm",
    "InfiniGen",
    "KvCache",
    "KvPolicy",
    "Outcome",
    "ReKv",
    "ResvPolicy",
    "SirLlm",
    "Step",
    "StreamingLlm",
    "Traffic",
    "Work",
    "masked_attention",
    "run_policy",
    "skewed_columns",
]
