"""When the jobs of an MoE block are done: each goes twice through one linear of two slots."""

from collections.abc import Sequence

from headrace.arch.ubimoe.linear import LinearSizes

__all__ = ["JobTimes"]


class JobTimes:
    """A linear that works on one job after the other, all times in cycles.

    Weights come without a pause, one load after the other as slots are free. Rows are taken when
    one of the two row buffers is free, hidden rows also not before their group is whole. Results
    leave at once. Tested against the graph (`headrace.sim.ubimoe.moe_block`).

    Parameters
    ----------
    linear : LinearSizes
    in_tiles, out_tiles : (int, int)
        Of the first and the second computation of a job.
    offered : int
        From when on jobs are offered.
    """

    def __init__(
        self,
        linear: LinearSizes,
        in_tiles: tuple[int, int],
        out_tiles: tuple[int, int],
        offered: int,
    ) -> None:
        self._linear = linear
        self._tiles = tuple(zip(in_tiles, out_tiles, strict=True))
        self._job = offered  # the next one is taken
        self._passed = -1  # last result of the job before
        self._loader = self._router = 0  # from when on a load, and a computation, can be accepted
        self._free = [0] * linear.slots  # from when on slots can be filled
        self._ends = [-1, -1]  # last issue of each group
        self._sums = [-1] * linear.pipeline_cycles  # the last ones to be added
        self._rows = 0  # of the last group

    def add(self, rows: int, there: Sequence[int] = ()) -> int:
        """Do one more job; return the cycle of its last result.

        Parameters
        ----------
        rows : int
        there : sequence of int
            From when on the first beat of each row can be taken; by default at once.
        """
        groups = self._linear.group_rows(rows)
        asked = self._job + 1
        # Hidden rows are kept from when on all results of the job before have left.
        hidden = max(asked, self._passed + 1)
        self._loader, self._router = max(self._loader, asked), max(self._router, asked)
        _, whole = self._computation(0, groups, there or [0] * rows, 1, hidden)
        # The words of a hidden row are read one by one: so many for a beat, if it is wider.
        words = -(-self._tiles[0][1] // self._tiles[1][0])
        read = [time + 1 + words for time in whole]
        each = [time for time, count in zip(read, groups, strict=True) for _ in range(count)]
        accepted, results = self._computation(1, groups, each, words, 0)
        self._passed = results[-1]
        self._job = max(hidden, accepted) + 1
        return self._passed

    def _computation(
        self, half: int, groups: Sequence[int], there: Sequence[int], pace: int, kept: int
    ) -> tuple[int, list[int]]:
        """Load and compute.

        Return when both commands are accepted, and when each group's last result leaves. A beat is
        there every `pace` cycles; the first result leaves after cycle `kept`.
        """
        in_tiles, out_tiles = self._tiles[half]
        load, compute = max(self._loader, self._free.pop(0)), self._router
        loaded = load + self._linear.load_beats(in_tiles, out_tiles)
        begin = max(loaded, compute, self._ends[-1]) + 1
        beat, row, results = compute + 1, 0, []
        for rows in groups:
            beat = max(beat, self._ends[-2] + 1)
            for _ in range(rows):
                beat = max(beat, there[row]) + in_tiles * pace
                row += 1
            start = max(begin, self._ends[-1], beat - pace) + 1
            results.append(self._group(start, rows, in_tiles, out_tiles, kept))
        self._free.append(self._sums[-1] + 1)
        self._loader = loaded + 1
        self._router = max(beat - pace, begin) + 1
        return max(load, compute), results

    def _group(self, start: int, rows: int, in_tiles: int, out_tiles: int, kept: int) -> int:
        """Compute a group from `start` on, or later; return the cycle of its last result.

        An output tile's last sum waits until the tile before has left, `rows` cycles after it was
        finished; those behind it in the pipeline wait, and so do issues when that is full.
        """
        depth, gelu = self._linear.pipeline_cycles, self._linear.gelu_cycles
        count, period = in_tiles * out_tiles, max(in_tiles, rows)
        start = max(start, self._sums[0])
        left = self._sums[-1] + max(self._rows, in_tiles)
        finished = max(start + in_tiles - 1 + depth, left, kept - gelu)
        ends: list[int] = [self._sums[-1], *range(finished, finished + out_tiles * period, period)]
        for number in range(max(0, count - depth - 1), count):
            tile, place = divmod(number, in_tiles)
            at_once = max(start + number + depth, ends[tile] + 1 + place)
            self._sums.append(ends[tile + 1] if place == in_tiles - 1 else at_once)
        self._ends = [self._ends[-1], max(start + count - 1, self._sums[-1 - depth])]
        self._sums = self._sums[-depth:]
        self._rows = rows
        return ends[-1] + rows + gelu
