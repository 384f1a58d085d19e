"""Beats that stay at a port for several firings, and are taken with the last of them."""

from collections.abc import Sequence

import numpy as np

from headrace.sim.graph import IntArray
from headrace.sim.parts import Part, Port
from headrace.sim.rates import lasts

__all__ = ["held_arrivals", "held_port", "mark_transfers", "taken_arrivals"]


def held_port(node: str, lengths: Sequence[int]) -> Port:
    """Return the port whose transfer k takes `lengths[k]` firings of the node.

    Parameters
    ----------
    node : str
    lengths : sequence of int
        At least 1 each.
    """
    ends = np.cumsum(lengths, dtype=np.int64)
    return Port(node, ends - np.asarray(lengths, np.int64), ends - 1)


def held_arrivals(times: IntArray, lengths: Sequence[int]) -> IntArray:
    """Return the arrivals of the firings of beats that are offered.

    Parameters
    ----------
    times : int array
        Earliest cycle of each beat's first firing.
    lengths : sequence of int
        Firings of each beat.
    """
    arrivals = np.zeros(sum(lengths), np.int64)
    arrivals[held_port("", lengths).first] = times
    return arrivals


def taken_arrivals(times: IntArray, lengths: Sequence[int]) -> IntArray:
    """Return the arrivals of the firings of beats that are accepted.

    As `held_arrivals`, but of each beat's last firing.
    """
    arrivals = np.zeros(sum(lengths), np.int64)
    arrivals[held_port("", lengths).last] = times
    return arrivals


def mark_transfers(part: Part, name: str, node: str, lengths: Sequence[int]) -> None:
    """Add a node that fires with the last of each beat's firings: the transfers of the port.

    Parameters
    ----------
    part : Part
    name : str
        Of the new node.
    node : str
        Of the firings.
    lengths : sequence of int
        Firings of each beat.
    """
    beats = len(lengths)
    part.add_node(name, phases=beats)
    # A FIFO that is full from the start: a place is free in the very cycle of a last firing.
    part.add_edge(
        name, node, consume=lasts(lengths), depth=beats, initial=beats, release=0, name=name
    )
