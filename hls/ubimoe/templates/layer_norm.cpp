// Layer norm; the statistics of the next row beside the normalisation of this one. Ports:
// docs/ubimoe-kernels.md.
#include "@top@.h"

#include "narrow.h"

constexpr int EPSILON = 4;  // 1e-6 with 22 fraction bits

static feature_t feature_at(const inputs_t& word, int i) {
#pragma HLS INLINE
    return signed_at<FEATURE_BITS>(word, i);
}

// Pass the rows on, and behind each its mean and its variance with epsilon.
static void measure_rows(unsigned tokens, hls::stream<inputs_t>& inputs,
                         hls::stream<inputs_t>& rows, hls::stream<wide_t>& means,
                         hls::stream<wide_t>& variances) {
    wide_t mean = 0;
    wide_t square = 0;
    unsigned at = 0;
beats:
    for (unsigned count = 0; count < tokens * ROW_BEATS; count++) {
#pragma HLS PIPELINE II=1
        const inputs_t beat = inputs.read();
        rows.write(beat);
        wide_t part = 0;
        wide_t part_square = 0;
        for (int d = 0; d < DIMS; d++) {
#pragma HLS UNROLL
            const feature_t x = feature_at(beat, d);
            const wide_t share =
                shifted<FEATURE_FRACTION>(ap_int<FEATURE_BITS + 24>(x * ap_int<24>(RECIPROCAL)));
            part += share;
            part_square += shifted<FEATURE_FRACTION>(ap_int<FEATURE_BITS + 32>(x * share));
        }
        mean = part + (at == 0 ? wide_t(0) : mean);
        square = part_square + (at == 0 ? wide_t(0) : square);
        at++;
        if (at == ROW_BEATS) {
            at = 0;
            means.write(mean);
            variances.write(square - shifted<WIDE_FRACTION>(ap_int<64>(mean * mean)) + EPSILON);
        }
    }
}

static void normalise_rows(unsigned tokens, const parameters_t parameters[ROW_BEATS],
                           hls::stream<inputs_t>& rows, hls::stream<wide_t>& means,
                           hls::stream<wide_t>& variances, hls::stream<results_t>& results) {
    wide_t mean = 0;
    ap_uint<31> factor = 0;
    unsigned at = 0;
beats:
    for (unsigned count = 0; count < tokens * ROW_BEATS; count++) {
#pragma HLS PIPELINE II=1
        if (at == 0) {
            mean = means.read();
            factor = root_reciprocal(variances.read());
        }
        const inputs_t beat = rows.read();
        const parameters_t parameter = parameters[at];
        results_t packed = 0;
        for (int d = 0; d < DIMS; d++) {
#pragma HLS UNROLL
            const wide_t x = wide_t(feature_at(beat, d)) << (WIDE_FRACTION - FEATURE_FRACTION);
            const ap_int<16> gain = signed_at<16>(parameter, 2 * d);
            const ap_int<16> offset = signed_at<16>(parameter, 2 * d + 1);
            const wide_t centred = x - mean;
            const wide_t scaled = shifted<WIDE_FRACTION>(ap_int<64>(centred * factor));
            const wide_t moved = wide_t(offset) << (WIDE_FRACTION - NORM_FRACTION);
            const wide_t y = shifted<NORM_FRACTION>(ap_int<48>(scaled * gain)) + moved;
            put_at<OPERAND_BITS>(packed, d, to_operand(y));
        }
        results.write(packed);
        at = at + 1 == ROW_BEATS ? 0 : at + 1;
    }
}

static void run(unsigned tokens, const parameters_t parameters[ROW_BEATS],
                hls::stream<inputs_t>& inputs, hls::stream<results_t>& results) {
#pragma HLS DATAFLOW
    // A row waits here for its statistics while the one before it leaves.
    hls::stream<inputs_t> rows("rows");
#pragma HLS STREAM variable=rows depth=@row_depth@
    hls::stream<wide_t> means("means");
    hls::stream<wide_t> variances("variances");
    measure_rows(tokens, inputs, rows, means, variances);
    normalise_rows(tokens, parameters, rows, means, variances, results);
}

static void work(ap_uint<32> commands,
    @arguments@) {
    for (unsigned i = 0; i < commands; i++) {
        const unsigned tokens = ap_uint<16>(command.read());
        parameters_t kept[ROW_BEATS];
        for (unsigned beat = 0; beat < ROW_BEATS; beat++) {
#pragma HLS PIPELINE II=1
            kept[beat] = parameters.read();
        }
        run(tokens, kept, inputs, results);
    }
}
