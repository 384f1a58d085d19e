"""What device memory has to hold."""

from headrace.arch.device import Device
from headrace.arch.point import Point
from headrace.models.streaming import VideoDialogue
from headrace.sim.vrex.platform import memory_tier
from headrace.sim.vrex.traces import policy_of

__all__ = ["device_memory"]

_VALUE_BYTES = 2


def device_memory(point: Point, device: Device, dialogue: VideoDialogue) -> tuple[int, int]:
    """Return the bytes that a dialogue needs of device memory at its end, and what there is.

    Weights of language model, vision tower and projector, and keys and values of the tokens that
    stay: what a policy holds, and of one that offloads the resident and the cached ones. A policy's
    tables (1.7 % of keys and values for ReSV) and activations are left out.
    """
    policy, cached = policy_of(point.text("policy"), dialogue), dialogue.cached_after
    tokens = policy.held_tokens(cached)
    if policy.offloads:
        tokens = max(tokens, point.integer("resident_tokens")) + point.integer("cache_tokens")
    weights = dialogue.network.parameters + dialogue.vision_parameters
    needed = _VALUE_BYTES * weights + dialogue.kv_bytes(min(tokens, cached))
    return needed, int(device.tiers[memory_tier(device)].capacity_bytes)
