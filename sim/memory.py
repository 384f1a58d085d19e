"""Memory ports: how long a transfer takes, and when each of its beats arrives.

Both follow one rule. Read requests are made one per cycle, each for a burst, with at most
`outstanding` of them unanswered; the first beat of a burst arrives `read_latency_cycles` after its
request, but not before the burst ahead of it, and after each burst the port rests for a whole
number of cycles, chosen so that the average rate is the port's share of what the memory sustains.
"""

from dataclasses import dataclass
from fractions import Fraction
from math import ceil

import numpy as np

from headrace.errors import InputError
from headrace.sim.rates import IntArray

__all__ = ["MemoryPort", "beat_arrivals", "transfer_cycles"]


@dataclass(frozen=True, kw_only=True)
class MemoryPort:
    """One read or write port of a design, and its share of the memory behind it.

    Parameters
    ----------
    bytes_per_beat : int
        Width of the data bus.
    clock_hz : int
        Clock of the port; cycles are counted in it.
    burst_beats : int
        Beats per request.
    outstanding : int
        Requests that may be unanswered at a time.
    read_latency_cycles : int
        From a request to its first beat, unloaded.
    efficiency : float or Fraction
        Fraction of the peak, of the port or of its share of the tier, that is sustained; above
        0, up to 1. Refresh, row misses and turnarounds are in it; usually calibrated.
    tier_bytes_per_s : float or None
        Peak bandwidth of the memory tier, shared evenly by the ports in use; None if the ports
        are the limit.
    """

    bytes_per_beat: int
    clock_hz: int
    burst_beats: int = 16
    outstanding: int = 16
    read_latency_cycles: int = 0
    efficiency: float | Fraction = 1
    tier_bytes_per_s: float | None = None

    def __post_init__(self) -> None:
        least = {"bytes_per_beat": 1, "clock_hz": 1, "burst_beats": 1, "outstanding": 1}
        for name, smallest in {**least, "read_latency_cycles": 0}.items():
            value = getattr(self, name)
            if value < smallest:
                raise InputError(f"memory port: {name} must be at least {smallest}, not {value}")
        if not 0 < self.efficiency <= 1:
            raise InputError(
                f"memory port: efficiency must be above 0 and at most 1, not {self.efficiency}"
            )
        if self.tier_bytes_per_s is not None and not self.tier_bytes_per_s > 0:
            raise InputError(
                f"memory port: tier_bytes_per_s must be above 0, not {self.tier_bytes_per_s}"
            )

    def beats_per_cycle(self, ports: int = 1) -> Fraction:
        """Return the sustained rate of each of `ports` equal ports, a fraction up to 1.

        Parameters
        ----------
        ports : int
            Ports in use at the same time.
        """
        rate = Fraction(1)
        if self.tier_bytes_per_s is not None:
            peak = self.clock_hz * self.bytes_per_beat * ports
            rate = min(rate, Fraction(self.tier_bytes_per_s) / peak)
        # Both ways of writing a figure, 0.85 and 17/20, must give the same cycles.
        return (rate * Fraction(self.efficiency)).limit_denominator(10**6)


def transfer_cycles(port: MemoryPort, size: int, *, ports: int = 1) -> int:
    """Return the cycles from the first request to the last beat of a transfer.

    Parameters
    ----------
    port : MemoryPort
    size : int, bytes
        Spread evenly over the ports.
    ports : int
        Equal ports that work at the same time.

    Returns
    -------
    int, cycles
        One more than the last entry of `beat_arrivals`, to within 1 % from 1000 beats on.

    Raises
    ------
    InputError
        `size` is negative or `ports` less than 1.
    """
    if size < 0 or ports < 1:
        raise InputError(f"transfer of {size} bytes by {ports} ports: at least 0 bytes and 1 port")
    beats = -(-size // (port.bytes_per_beat * ports))
    if beats == 0:
        return 0
    rate = port.beats_per_cycle(ports)
    bursts = -(-beats // port.burst_beats)
    # A window of `outstanding` bursts takes its beats, or one round trip if that is longer.
    windows, rest = divmod(bursts - 1, port.outstanding)
    burst = port.burst_beats / rate
    round_trip = port.read_latency_cycles + port.burst_beats
    window = max(port.outstanding * burst, Fraction(round_trip))
    last = beats - (bursts - 1) * port.burst_beats
    return ceil(port.read_latency_cycles + windows * window + rest * burst + last)


def beat_arrivals(
    port: MemoryPort,
    beats: int,
    *,
    ports: int = 1,
    stall_probability: float = 0.0,
    rng: np.random.Generator | None = None,
) -> IntArray:
    """Return the cycle in which each beat arrives, counted from the first request.

    Parameters
    ----------
    port : MemoryPort
    beats : int
        Beats of this port.
    ports : int
        Ports that share the tier at the same time.
    stall_probability : float
        Chance, in each cycle, that a beat which could arrive does not; 0 up to, not including, 1.
    rng : numpy.random.Generator, optional
        Needed with `stall_probability`.

    Returns
    -------
    int64 array, shape (beats,), cycles
        Strictly increasing: the valid pattern of a test bench, or `arrivals` of a graph node.

    Raises
    ------
    InputError
        A value is out of range, or `rng` is missing.
    """
    if beats < 0 or ports < 1:
        raise InputError(f"{beats} beats on {ports} ports: at least 0 beats and 1 port")
    if not 0 <= stall_probability < 1:
        raise InputError(f"stall_probability must be 0 up to 1, not {stall_probability}")
    if stall_probability > 0 and rng is None:
        raise InputError("stall_probability needs a random generator")
    rate = port.beats_per_cycle(ports)
    offsets = np.arange(1, beats + 1)
    if rng is not None and stall_probability > 0:
        offsets += (rng.geometric(1 - stall_probability, beats) - 1).cumsum()
    ends: list[int] = []
    starts: list[int] = []
    request, free = -1, 0
    for burst in range(-(-beats // port.burst_beats)):
        first = burst * port.burst_beats
        last = min(first + port.burst_beats, beats) - 1
        request += 1
        if burst >= port.outstanding:
            request = max(request, ends[burst - port.outstanding] + 1)
        before = int(offsets[first - 1]) if first else 0
        begin = max(request + port.read_latency_cycles, free)
        starts.append(begin - before - 1)
        ends.append(begin + int(offsets[last]) - before - 1)
        free = ends[-1] + 1 + _rest(burst, port.burst_beats, rate)
    return (np.repeat(np.array(starts, np.int64), port.burst_beats)[:beats] + offsets).astype(
        np.int64
    )


def _rest(burst: int, beats: int, rate: Fraction) -> int:
    """Return the idle cycles after a burst; they add up to what `rate` asks for, rounded up."""
    slots = [-(-(burst + i) * beats * rate.denominator // rate.numerator) for i in (0, 1)]
    return slots[1] - slots[0] - beats
