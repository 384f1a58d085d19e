"""The compiled channel against one that tries every command in every clock, rule by rule."""

import numpy as np
import pytest

from headrace.arch.memories import load_dram
from headrace.sim.dram import serve

COLUMN, ACTIVATE, CLOSE = range(3)


class Channel:
    """Commands given so far, and the JEDEC rules between them and the next."""

    def __init__(self, dram):
        self.t = dram.cycles
        self.burst = dram.burst_cycles
        self.given = []
        self.open = {}

    def allows(self, clock, kind, burst):
        """Tell whether no command given so far forbids this one in this clock."""
        rows = [g for g in self.given if g[1] == ACTIVATE]
        if kind == ACTIVATE and len(rows) >= 4 and clock < rows[-4][0] + self.t("faw"):
            return False
        return all(clock >= g[0] + self.gap(g, kind, burst) for g in self.given)

    def gap(self, before, kind, burst):
        """Return the clocks from a given command to one of this kind for this burst."""
        _, first, (bank, group, _, write) = before
        t, same_bank, near = self.t, bank == burst[0], group == burst[1]
        written = t("cwl") + self.burst
        if (first, kind) == (COLUMN, COLUMN):
            if write == burst[3]:
                return t("ccd_l") if near else t("ccd_s")
            return written + (t("wtr_l") if near else t("wtr_s")) if write else t("rtw")
        if (first, kind) == (ACTIVATE, ACTIVATE):
            return t("rrd_l") if near else t("rrd_s")
        if not same_bank:
            return 0
        return {
            (ACTIVATE, COLUMN): t("rcd"),
            (ACTIVATE, CLOSE): t("ras"),
            (COLUMN, CLOSE): written + t("wr") if write else t("rtp"),
            (CLOSE, ACTIVATE): t("rp"),
        }.get((first, kind), 0)

    def wish(self, burst, window, way):
        """Return the next command that a burst in the window may ask for, or None."""
        bank, _, row, write = burst
        ours = [b for b in window if b[0] == bank and b[3] == way]
        opened = self.open.get(bank)
        if write != way and (ours or opened == row):
            return None
        if opened == row:
            return COLUMN
        if opened is None:
            return ACTIVATE
        users = ours if write == way else [b for b in window if b[0] == bank]
        return None if any(b[2] == opened for b in users) else CLOSE


def clock_by_clock(dram, bursts, size):
    """Return the clock after the last data of each burst."""
    channel, done = Channel(dram), [0] * len(bursts)
    waiting, window, way, clock = list(enumerate(bursts)), [], False, 0
    while waiting or window:
        while waiting and len(window) < size:
            window.append(waiting.pop(0))
        held = [b for _, b in window]
        same = sum(b[3] == way for b in held)
        if 4 * same <= size and len(held) > 2 * same:
            way = not way
        wishes = [(channel.wish(b, held, way), i) for i, b in enumerate(held)]
        for kind, i in sorted(w for w in wishes if w[0] is not None):
            index, burst = window[i]
            if channel.allows(clock, kind, burst):
                channel.given.append((clock, kind, burst))
                channel.open[burst[0]] = burst[2] if kind != CLOSE else None
                if kind == COLUMN:
                    latency = dram.cycles("cwl" if burst[3] else "cl")
                    done[index] = clock + latency + dram.burst_cycles
                    window.pop(i)
                break
        clock += 1
    return done


@pytest.mark.parametrize("reads", [1.0, 0.6, 0.0])
@pytest.mark.parametrize("window", [1, 4, 16])
@pytest.mark.parametrize("name", ["lpddr5-6400", "hbm2e-1935", "ddr4-3200"])
def test_every_burst_ends_in_its_clock(name, window, reads):
    dram = load_dram(name)
    rng = np.random.default_rng(window)
    count, block = 60, dram.interleave_bytes
    # Few rows, so that hits, misses and conflicts all occur.
    place = rng.integers(0, 3, count) * dram.banks * dram.page_bytes
    place += rng.integers(0, dram.banks, count) * block
    place += rng.integers(0, block // dram.burst_bytes, count) * dram.burst_bytes
    write = rng.random(count) >= reads
    bank = place // block % dram.banks
    row = place // (dram.banks * dram.page_bytes)
    bursts = [
        (int(b), int(b % dram.bank_groups), int(r), bool(w))
        for b, r, w in zip(bank, row, write, strict=True)
    ]
    found = serve(dram, place, dram.burst_bytes, write, window=window, refresh="none")
    assert found.tolist() == clock_by_clock(dram, bursts, window)
