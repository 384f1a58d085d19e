// The functions behind one port. An argument has 33 bits, that of EXP negated, and above it two
// bits with the function: 0 EXP, 1 RECIP, 2 RSQRT, 3 GELU. `commands` counts arguments.
#include "@top@.h"

#include "functions.h"

static void work(ap_uint<32> commands,
    @arguments@) {
arguments:
    for (unsigned i = 0; i < commands; i++) {
#pragma HLS PIPELINE II=1
        const arguments_t word = arguments.read();
        const ap_uint<ARGUMENT_BITS> x = word.range(ARGUMENT_BITS - 1, 0);
        const ap_uint<2> function = word.range(ARGUMENT_BITS + 1, ARGUMENT_BITS);
        wide_t value;
        if (function == 0) value = exponential(x);
        else if (function == 1) value = reciprocal(x.range(30, 0));
        else if (function == 2) value = root_reciprocal(x.range(31, 0));
        else value = gelu(x.range(31, 0));
        results.write(ap_uint<32>(value));
    }
}
