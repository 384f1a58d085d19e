// Ternary matmul engine: table lookup by method "@method@", weights packed by "@packing@".
#include "ternary_matmul.h"

@includes@
#ifndef __SYNTHESIS__
#include <stdexcept>
#endif

// The cyclic partition over the outputs, written out: output n lives in bank n mod BANKS.
typedef vector_t slot_t[BANKS][SLOT_WORDS];

// Refuse in C simulation what would corrupt memory in hardware.
static void require(bool holds, const char* rule) {
#pragma HLS INLINE
#ifndef __SYNTHESIS__
    if (!holds) throw std::out_of_range(rule);
#endif
}

@method_code@
@packing_code@
// Add one row block to the accumulators of every output group; after the last row block of a
// token, write them out.
static void look_up(block_t block, const slot_t slot, compute_t command,
                    hls::stream<results_t>& results) {
    static accumulator_t sums[MAX_GROUPS][COPIES];
#pragma HLS ARRAY_PARTITION variable=sums dim=2 complete
    // Row block of the token and its first word; both are back at 0 when a token ends.
    static unsigned row = 0;
    static unsigned word = 0;
    const unsigned rows = command.range(15, 0);
    const unsigned groups = command.range(31, 16);
    const unsigned stride = command.range(47, 32);

groups:
    for (unsigned group = 0; group < groups; group++) {
        // A group is visited once per row block, so no sum is read while it is on its way back.
#pragma HLS PIPELINE II=@lookup_cycles@
#pragma HLS DEPENDENCE variable=sums inter false
#pragma HLS LOOP_TRIPCOUNT min=1 max=@max_groups@
    outputs:
        for (int q = 0; q < COPIES; q++) {
#pragma HLS UNROLL
            const unsigned address = word + group * WORDS_PER_GROUP + q / BANKS;
            const vector_t vector = slot[q % BANKS][address];
            const sum_t sum = weigh(block, q, vector);
            const accumulator_t before = row == 0 ? accumulator_t(0) : sums[group][q];
            sums[group][q] = before + sum;
        }
    }
    word += stride * WORDS_PER_GROUP;
    row++;
    if (row == rows) {
        row = 0;
        word = 0;
    drain:
        for (unsigned group = 0; group < groups; group++) {
#pragma HLS PIPELINE II=1
#pragma HLS LOOP_TRIPCOUNT min=1 max=@max_groups@
            results_t packed = 0;
            for (int q = 0; q < COPIES; q++) {
#pragma HLS UNROLL
                packed.range((q + 1) * ACCUMULATOR_BITS - 1, q * ACCUMULATOR_BITS) =
                    sums[group][q].range(ACCUMULATOR_BITS - 1, 0);
            }
            results.write(packed);
        }
    }
}

// Run row block after row block; a dataflow region must be the whole body of a plain loop.
static void run_blocks(unsigned blocks, const slot_t slot, compute_t command,
                       hls::stream<lanes_t>& activations, hls::stream<results_t>& results) {
blocks:
    for (unsigned step = 0; step < blocks; step++) {
@dataflow@        block_t block;
@block_pragmas@        prepare(activations, block);
        look_up(block, slot, command, results);
    }
}

// Run all tokens of one command on a loaded slot.
static void compute_tile(const slot_t slot, hls::stream<compute_t>& compute,
                         hls::stream<lanes_t>& activations, hls::stream<results_t>& results) {
    const compute_t command = compute.read();
    const unsigned rows = command.range(15, 0);
    const unsigned groups = command.range(31, 16);
    const unsigned stride = command.range(47, 32);
    const unsigned tokens = command.range(63, 48);
    require(rows > 0 && groups > 0, "compute: rows and groups must be at least 1");
    require(groups <= MAX_GROUPS, "compute: groups exceed the accumulators");
    require(((rows - 1ULL) * stride + groups) * WORDS_PER_GROUP <= SLOT_WORDS,
            "compute: tile exceeds the slot");
    run_blocks(rows * tokens, slot, command, activations, results);
}

@slots_code@
void @top@(ap_uint<32> tiles, hls::stream<load_t>& load, hls::stream<compute_t>& compute,
    hls::stream<beat_t>& weights, hls::stream<lanes_t>& activations,
    hls::stream<results_t>& results) {
#pragma HLS INTERFACE mode=s_axilite port=tiles
#pragma HLS INTERFACE mode=s_axilite port=return
#pragma HLS INTERFACE mode=axis port=load
#pragma HLS INTERFACE mode=axis port=compute
#pragma HLS INTERFACE mode=axis port=weights
#pragma HLS INTERFACE mode=axis port=activations
#pragma HLS INTERFACE mode=axis port=results
    run(tiles, load, compute, weights, activations, results);
}
