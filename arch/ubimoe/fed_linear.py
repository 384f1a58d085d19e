"""When a linear kernel is done with rows that another kernel hands it one by one."""

from collections.abc import Sequence

from headrace.arch.ubimoe.linear import LinearSizes

__all__ = ["fed_linear"]


def fed_linear(
    sizes: LinearSizes,
    first_beats: Sequence[int],
    *,
    row_beats: int,
    in_tiles: int,
    out_tiles: int,
    begin: int,
) -> tuple[int, list[int]]:
    """Return in which cycle the last tile is issued, and in which each group's last result leaves.

    The rows come out of a pipeline that stands still as a whole while the linear does not take a
    beat: then all that follows is later by as much. The linear takes the first beat of a group
    when one of its two row buffers is free, and works on one group at a time; the results of an
    output tile leave while the next one is computed, and nothing holds them up.

    Parameters
    ----------
    sizes : LinearSizes
    first_beats : sequence of int, cycles
        When the first beat of each row would be there if the linear took every beat at once.
    row_beats : int
        Beats of a row, one per cycle; a multiple or a divisor of `in_tiles`.
    in_tiles, out_tiles : int
        Of the computation.
    begin : int, cycles
        Earliest issue.
    """
    longest = max(row_beats, in_tiles)
    ahead = longest // in_tiles - 1  # beats that are taken without a buffer
    row, late = 0, 0
    ends, sums, results = [begin - 1], [0], [0]
    for number, rows in enumerate(sizes.group_rows(len(first_beats))):
        if number >= 2:
            late = max(late, ends[number - 1] + 1 - ahead - first_beats[row])
        row += rows
        taken = first_beats[row - 1] + late + (rows - 1) * (longest - row_beats) + longest - 1
        late += rows * (longest - row_beats)
        period = max(in_tiles, rows)
        first_sum = max(ends[-1], taken) + in_tiles + sizes.pipeline_cycles
        sums.append(max(first_sum, results[-1]) + (out_tiles - 1) * period)
        ends.append(sums[-1] - sizes.pipeline_cycles)
        results.append(sums[-1] + rows)
    return ends[-1], results[1:]
