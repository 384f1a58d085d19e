// Linear layers: tiles of weights shared by several rows. Ports: docs/ubimoe-kernels.md.
#include "@top@.h"

@include@#include "fields.h"
#include "narrow.h"

typedef ap_int<16> bias_t;
// Memories keep the beats as they come; taking weights out of them is wiring.
typedef weights_t biases_t[MAX_OUT_TILES][BIAS_BEATS];
typedef weights_t tiles_t[MAX_TILES][TILE_BEATS];
typedef inputs_t rows_t[LANES][MAX_IN_TILES];

// Fill a slot: all biases, then the tiles, output tile major, input tile minor.
static void load_slot(hls::stream<load_t>& load, hls::stream<weights_t>& weights,
                      biases_t biases, tiles_t tiles) {
    const load_t command = load.read();
    const unsigned in_tiles = command.range(15, 0);
    const unsigned out_tiles = command.range(31, 16);
    require(out_tiles <= MAX_OUT_TILES, "load: out_tiles exceed the biases");
    require(1ULL * in_tiles * out_tiles <= MAX_TILES, "load: tiles exceed the slot");
biases:
    for (unsigned tile = 0; tile < out_tiles; tile++) {
        for (unsigned beat = 0; beat < BIAS_BEATS; beat++) {
#pragma HLS PIPELINE II=1
            biases[tile][beat] = weights.read();
        }
    }
tiles:
    for (unsigned tile = 0; tile < in_tiles * out_tiles; tile++) {
        for (unsigned beat = 0; beat < TILE_BEATS; beat++) {
#pragma HLS PIPELINE II=1
            tiles[tile][beat] = weights.read();
        }
    }
}

// Deal the rows of a group to the lanes.
static void read_group(unsigned rows, unsigned in_tiles, hls::stream<inputs_t>& inputs,
                       rows_t group) {
rows:
    for (unsigned lane = 0; lane < rows; lane++) {
        for (unsigned in = 0; in < in_tiles; in++) {
#pragma HLS PIPELINE II=1
            group[lane][in] = inputs.read();
        }
    }
}

// One weight tile per cycle, for all lanes; a lane without a row computes for nobody.
static void multiply_group(unsigned rows, unsigned in_tiles, unsigned out_tiles,
                           const biases_t biases, const tiles_t tiles, const rows_t group,
                           hls::stream<results_t> finished[LANES]) {
    wide_t sums[LANES][TILE_OUT];
#pragma HLS ARRAY_PARTITION variable=sums dim=0 complete
    unsigned in = 0;
    unsigned out = 0;
steps:
    for (unsigned step = 0; step < in_tiles * out_tiles; step++) {
#pragma HLS PIPELINE II=1
#pragma HLS LOOP_TRIPCOUNT min=1 max=MAX_TILES
        for (int p = 0; p < TILE_OUT; p++) {
#pragma HLS UNROLL
            const wide_t bias = wide_t(field<16>(biases[out], p))
                                << (WIDE_FRACTION - BIAS_FRACTION);
            weight_t row[TILE_IN];
#pragma HLS ARRAY_PARTITION variable=row complete
            for (int q = 0; q < TILE_IN; q++) {
#pragma HLS UNROLL
                row[q] = field<WEIGHT_BITS>(tiles[step], p * TILE_IN + q);
            }
            for (unsigned lane = 0; lane < LANES; lane++) {
#pragma HLS UNROLL
                wide_t sum = 0;
                for (int q = 0; q < TILE_IN; q++) {
#pragma HLS UNROLL
                    const operand_t x = signed_at<OPERAND_BITS>(group[lane][in], q);
                    sum += shifted<PRODUCT_SHIFT>(ap_int<OPERAND_BITS + WEIGHT_BITS>(x * row[q]));
                }
                sums[lane][p] = sum + (in == 0 ? bias : sums[lane][p]);
            }
        }
        in++;
        if (in == in_tiles) {
            in = 0;
            out++;
            for (unsigned lane = 0; lane < LANES; lane++) {
#pragma HLS UNROLL
                results_t packed = 0;
                for (int p = 0; p < TILE_OUT; p++) {
#pragma HLS UNROLL
                    put_at<WIDE_BITS>(packed, p, sums[lane][p]);
                }
                if (lane < rows) finished[lane].write(packed);
            }
        }
    }
}

// Lane after lane, so that one set of GELU units serves all of them.
static void write_group(unsigned rows, unsigned out_tiles, bool with_gelu,
                        hls::stream<results_t> finished[LANES], hls::stream<results_t>& results) {
tiles:
    for (unsigned out = 0; out < out_tiles; out++) {
        for (unsigned lane = 0; lane < rows; lane++) {
#pragma HLS PIPELINE II=1
            results_t packed = finished[lane].read();
            for (int p = 0; GELU_UNITS && p < TILE_OUT; p++) {
#pragma HLS UNROLL
                const wide_t value = signed_at<WIDE_BITS>(packed, p);
                put_at<WIDE_BITS>(packed, p, with_gelu ? gelu(value) : value);
            }
            results.write(packed);
        }
    }
}

// Group after group: in the dataflow region the row buffer becomes two, and a group is read and
// another one written while one computes.
static void run_groups(unsigned rows, unsigned in_tiles, unsigned out_tiles, bool with_gelu,
                       const biases_t biases, const tiles_t tiles,
                       hls::stream<inputs_t>& inputs, hls::stream<results_t>& results) {
groups:
    for (unsigned first = 0; first < rows; first += LANES) {
#pragma HLS DATAFLOW
        rows_t group;
#pragma HLS ARRAY_PARTITION variable=group dim=1 complete
        hls::stream<results_t> finished[LANES];
#pragma HLS STREAM variable=finished depth=2
        const unsigned taken = rows - first < LANES ? rows - first : unsigned(LANES);
        read_group(taken, in_tiles, inputs, group);
        multiply_group(taken, in_tiles, out_tiles, biases, tiles, group, finished);
        write_group(taken, out_tiles, with_gelu, finished, results);
    }
}

// Run all rows of a command on a full slot.
static void compute_slot(const biases_t biases, const tiles_t tiles,
                         hls::stream<compute_t>& compute, hls::stream<inputs_t>& inputs,
                         hls::stream<results_t>& results) {
    const compute_t command = compute.read();
    const unsigned rows = command.range(15, 0);
    const unsigned in_tiles = command.range(31, 16);
    const unsigned out_tiles = command.range(47, 32);
    const bool with_gelu = command[48];
    require(in_tiles <= MAX_IN_TILES, "compute: in_tiles exceed the row buffers");
    require(out_tiles <= MAX_OUT_TILES, "compute: out_tiles exceed the biases");
    require(1ULL * in_tiles * out_tiles <= MAX_TILES, "compute: tiles exceed the slot");
    require(GELU_UNITS || !with_gelu, "compute: there are no GELU units");
    run_groups(rows, in_tiles, out_tiles, with_gelu, biases, tiles, inputs, results);
}

@slots_code@
static void work(ap_uint<32> commands,
    @arguments@) {
    run(commands, load, compute, weights, inputs, results);
}
