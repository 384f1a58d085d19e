"""Part 2 of the streaming attention: exponentials, their sum, their product with the values."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from headrace.arch.ubimoe.formats import WIDE_BITS, WIDE_FRACTION
from headrace.arch.ubimoe.functions import EXP_LATENCY, RECIP_LATENCY
from headrace.arch.ubimoe.streaming_attention import StreamingAttentionSizes
from headrace.rtl.ubimoe.attention_parts import Ring, delayed_flags, one_of, wide
from headrace.rtl.ubimoe.attention_walker import head_numbers
from headrace.rtl.ubimoe.functions import Exponential, Reciprocal
from headrace.rtl.ubimoe.pipeline import delayed
from headrace.rtl.ubimoe.product import split_product

__all__ = ["AttentionValues"]

_SUM_BITS = 31
_DIFFERENCE_BITS = 33


class AttentionValues(wiring.Component):
    """Weigh the values with the exponentials of the scores, and divide by their sum.

    A rigid pipeline, one beat per enabled cycle: the result of a beat with which a row ends is
    there `result_cycles` enabled cycles later. Every beat of a head brings the same scores, so
    exponential, sum and reciprocal stand still for the beats of a head and nothing holds them.

    Multiplications per cycle: lanes x dims, operand by 24 bits, and dims of 32 by 24 bits; lanes x
    exp_units exponentials, one divider.

    Parameters
    ----------
    sizes : StreamingAttentionSizes

    Attributes
    ----------
    enable : In(1)
        Every stage advances.
    valid : In(1)
        There is a beat; `value` and its place are its own.
    value : In
        `dims` operands.
    last, head, starts, ends : In
        Its place, as `StepWalker` tells it.
    scores : In
        One of 32 bits per lane, one enabled cycle after the beat.
    maximum : In(signed(32))
        Of the row that starts, if one does; one enabled cycle after the beat.
    done : Out(1)
        There is a result.
    result : Out
        `dims` operands.
    """

    def __init__(self, sizes: StreamingAttentionSizes) -> None:
        self.sizes = sizes
        operands = data.ArrayLayout(signed(sizes.formats.operand_bits), sizes.dims)
        super().__init__(
            {
                "enable": In(1),
                "valid": In(1),
                "value": In(operands),
                "last": In(1),
                "head": In(head_numbers(sizes)),
                "starts": In(unsigned(sizes.lanes)),
                "ends": In(unsigned(sizes.lanes)),
                "scores": In(data.ArrayLayout(signed(WIDE_BITS), sizes.lanes)),
                "maximum": In(signed(WIDE_BITS)),
                "done": Out(1),
                "result": Out(operands),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        sizes = self.sizes
        lanes = sizes.lanes
        flags = Cat(self.last, self.starts, self.ends, self.head)
        track = delayed_flags(m, self.valid, flags, sizes.result_cycles, self.enable, "beat")
        weighed = 2 + EXP_LATENCY  # enabled cycles after the beat: the exponential is there
        added = weighed + sizes.value_product_stages  # its product with the value is there
        values = delayed(m, self.value.as_value(), weighed, self.enable, "value")
        ends = slice(1 + lanes, 1 + 2 * lanes)
        sums, rows = [], []
        for lane in range(lanes):
            exponential = self._exponential(m, lane, track)
            sums.append(self._sum(m, lane, exponential, *track[weighed]))
            rows.append(self._row(m, lane, exponential, values, *track[added]))
        divider = Reciprocal()
        m.submodules.reciprocal = divider
        divisor = Signal(_SUM_BITS, reset_less=True)
        finished = Signal(WIDE_BITS * sizes.dims, reset_less=True)
        with m.If(self.enable):
            m.d.sync += [
                divisor.eq(one_of(track[weighed][1][ends], sums)),
                finished.eq(one_of(track[added][1][ends], rows)),
            ]
        m.d.comb += [divider.enable.eq(self.enable), divider.argument.eq(divisor)]
        wait = RECIP_LATENCY - sizes.value_product_stages
        finished = delayed(m, finished, wait, self.enable, "finished")
        self._results(m, finished, divider.result)
        m.d.comb += self.done.eq(track[-1][0] & track[-1][1][ends].any())
        return m

    def _exponential(self, m: Module, lane: int, track: list[tuple[Value, Value]]) -> Value:
        """Return a lane's exponential, 2 + `EXP_LATENCY` enabled cycles after the beat."""
        sizes = self.sizes
        valid, flags = track[1]
        ring = Ring(m, WIDE_BITS, sizes.heads, f"maxima_{lane}")
        maximum = Signal(signed(WIDE_BITS), name=f"maximum_{lane}")
        m.d.comb += maximum.eq(Mux(flags[1 + lane], self.maximum, ring.oldest.as_signed()))
        ring.push(maximum.as_unsigned(), self.enable & valid & flags[0])
        difference = Signal(_DIFFERENCE_BITS, name=f"difference_{lane}", reset_less=True)
        with m.If(self.enable):
            m.d.sync += difference.eq(maximum - self.scores[lane])
        results = []
        for unit in range(sizes.exp_units):
            exponential = Exponential()
            m.submodules[f"exponential_{lane}_{unit}"] = exponential
            argument: Value = difference
            if sizes.exp_units > 1:
                argument = Mux(track[2][1][1 + 2 * sizes.lanes :] == unit, difference, 0)
            m.d.comb += [
                exponential.enable.eq(self.enable),
                exponential.argument.eq(argument),
            ]
            results.append(exponential.result)
        if sizes.exp_units == 1:
            return results[0]
        head = track[2 + EXP_LATENCY][1][1 + 2 * sizes.lanes :]
        chosen = Cat(head == unit for unit in range(sizes.exp_units))
        return one_of(chosen, results)

    def _sum(self, m: Module, lane: int, exponential: Value, valid: Value, flags: Value) -> Value:
        """Return the sum of a lane's exponentials, in the cycle of the last one."""
        ring = Ring(m, _SUM_BITS, self.sizes.heads, f"sums_{lane}")
        total = Signal(_SUM_BITS, name=f"sum_{lane}")
        m.d.comb += total.eq(Mux(flags[1 + lane], 0, ring.oldest) + exponential)
        ring.push(total, self.enable & valid & flags[0])
        return total

    def _row(
        self, m: Module, lane: int, exponential: Value, values: Value, valid: Value, flags: Value
    ) -> Value:
        """Return the sums of a lane's weighed values, in the cycle of the last product."""
        sizes = self.sizes
        bits, fraction = sizes.formats.operand_bits, sizes.formats.operand_fraction
        factor = Cat(exponential, Const(0, 1)).as_signed()
        ring = Ring(m, WIDE_BITS * sizes.dims, sizes.row_beats, f"row_{lane}")
        totals = []
        for dim in range(sizes.dims):
            value = values[dim * bits : (dim + 1) * bits].as_signed()
            stages, name = sizes.value_product_stages, f"weighed_{lane}_{dim}"
            product = split_product(m, value, factor, stages, self.enable, name)
            before = ring.oldest[dim * WIDE_BITS : (dim + 1) * WIDE_BITS]
            total = Signal(WIDE_BITS, name=f"total_{lane}_{dim}")
            term = product >> fraction
            m.d.comb += total.eq(Mux(flags[1 + lane], 0, before) + term)
            totals.append(total)
        ring.push(Cat(totals), self.enable & valid)
        return Cat(totals)

    def _results(self, m: Module, finished: Value, reciprocal: Value) -> None:
        """Build the products with the reciprocal, and their conversion to operands."""
        sizes = self.sizes
        factor = Cat(reciprocal, Const(0, 1)).as_signed()
        for dim in range(sizes.dims):
            total = finished[dim * WIDE_BITS : (dim + 1) * WIDE_BITS].as_signed()
            stages, name = sizes.result_product_stages, f"quotient_{dim}"
            product = split_product(m, total, factor, stages, self.enable, name)
            quotient = wide(product >> WIDE_FRACTION)
            # Formats that saturate need nothing here. Let all |v| <= V, a power of two. The sum
            # over the keys is at most V sum(e) in magnitude, or it has wrapped; then sum(e) was at
            # least 2^31 / V, RECIP at most 2^13 V, and the quotient is again within V.
            operand = quotient >> sizes.formats.operand_shift
            register = Signal(signed(sizes.formats.operand_bits), name=f"result_{dim}")
            with m.If(self.enable):
                m.d.sync += register.eq(operand)
            m.d.comb += self.result[dim].eq(register)
