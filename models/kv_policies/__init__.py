"""Policies for the KV cache side by side, each a small exact reference; see docs/vrex.md."""

from headrace.models.kv_policies.choosing import Chosen
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
from headrace.models.kv_policies.synthetic import FITTED, Concentration, Scenes, SyntheticVideo
from headrace.models.kv_policies.trace import (
    LAYOUTS,
    DialogueLayer,
    StepTrace,
    dialogue_layers,
    dialogue_traces,
    place_choices,
    trace_policy,
)

__all__ = [
    "FITTED",
    "LAYOUTS",
    "STAGES",
    "Choice",
    "Chosen",
    "Concentration",
    "DialogueLayer",
    "DuoAttention",
    "Full",
    "InfLlm",
    "InfiniGen",
    "KvCache",
    "KvPolicy",
    "Outcome",
    "ReKv",
    "ResvPolicy",
    "Scenes",
    "SirLlm",
    "Step",
    "StepTrace",
    "StreamingLlm",
    "SyntheticVideo",
    "Traffic",
    "Work",
    "dialogue_layers",
    "dialogue_traces",
    "masked_attention",
    "place_choices",
    "run_policy",
    "skewed_columns",
    "trace_policy",
]
