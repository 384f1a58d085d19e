// Streaming attention: one key and one value row per step for all lanes, each of which holds a
// query row for as many steps as there are tokens. Ports: docs/ubimoe-kernels.md.
#include "@top@.h"

#include "narrow.h"

constexpr int ROW_BEATS = HEADS * HEAD_BEATS;

typedef ap_uint<31> sum_t;         // of at most 511 exponentials
typedef ap_uint<32 * DIMS> dims_t;  // wide values

// Which lanes hold a row in a step. Lane j begins one in the steps g tokens + j, as long as there
// are rows, and meets its last key tokens - 1 steps later.
struct Lanes {
    unsigned phase, begun;
    bool begins;                // a lane begins in this step,
    bool first[LANES];          // namely this one
    unsigned left[LANES];       // steps of its row, with this one; 0: no row

    Lanes() : phase(0), begun(0), begins(false) {
#pragma HLS ARRAY_PARTITION variable=first complete
#pragma HLS ARRAY_PARTITION variable=left complete
        for (int lane = 0; lane < LANES; lane++) {
#pragma HLS UNROLL
            first[lane] = false;
            left[lane] = 0;
        }
    }

    void enter_step(unsigned tokens) {
#pragma HLS INLINE
        begins = phase < LANES && begun < tokens;
        for (unsigned lane = 0; lane < LANES; lane++) {
#pragma HLS UNROLL
            first[lane] = begins && lane == phase;
            left[lane] = first[lane] ? tokens : left[lane] - (left[lane] != 0);
        }
        begun += begins;
        phase = phase + 1 == tokens ? 0 : phase + 1;
    }
};

// Place inside a row.
struct Place {
    unsigned at, head, beat;

    Place() : at(0), head(0), beat(0) {}

    void advance() {
#pragma HLS INLINE
        at = at + 1 == ROW_BEATS ? 0 : at + 1;
        beat = beat + 1 == HEAD_BEATS ? 0 : beat + 1;
        if (beat == 0) head = head + 1 == HEADS ? 0 : head + 1;
    }
};

// Part 1: scores of every held row with the key of the step, and the largest of each row. A
// score is the sum of the blocks of DIMS products, each scaled on its own.
static void score_rows(unsigned tokens, unsigned steps, hls::stream<queries_t>& queries,
                       hls::stream<keys_t>& keys, hls::stream<wide_t> scores[LANES],
                       hls::stream<wide_t>& maxima) {
    queries_t held[LANES][ROW_BEATS];
#pragma HLS ARRAY_PARTITION variable=held dim=1 complete
    wide_t largest[LANES][HEADS];
#pragma HLS ARRAY_PARTITION variable=largest dim=1 complete
    wide_t score[LANES];
#pragma HLS ARRAY_PARTITION variable=score complete
    Lanes lanes;
    Place place;
beats:
    for (unsigned count = 0; count < steps * ROW_BEATS; count++) {
#pragma HLS PIPELINE II=1
        if (place.at == 0) lanes.enter_step(tokens);
        const keys_t key = keys.read();
        queries_t fresh = 0;
        if (lanes.begins) fresh = queries.read();
        bool ends = false;
        wide_t ended = 0;
        for (int lane = 0; lane < LANES; lane++) {
#pragma HLS UNROLL
            if (lanes.first[lane]) held[lane][place.at] = fresh;
            const queries_t query = lanes.first[lane] ? fresh : held[lane][place.at];
            wide_t block = 0;
            for (int d = 0; d < DIMS; d++) {
#pragma HLS UNROLL
                const operand_t q = signed_at<OPERAND_BITS>(query, d);
                const operand_t k = signed_at<OPERAND_BITS>(key, d);
                block += shifted<SCORE_SHIFT>(ap_int<2 * OPERAND_BITS>(q * k));
            }
            const wide_t scaled = block >> SCALE_SHIFT;
            score[lane] = place.beat == 0 ? scaled : wide_t(score[lane] + scaled);
            if (place.beat == HEAD_BEATS - 1 && lanes.left[lane] != 0) {
                const bool higher =
                    lanes.first[lane] || score[lane] > largest[lane][place.head];
                const wide_t most = higher ? score[lane] : largest[lane][place.head];
                largest[lane][place.head] = most;
                scores[lane].write(score[lane]);
                if (lanes.left[lane] == 1) {
                    ends = true;
                    ended = most;
                }
            }
        }
        if (ends) maxima.write(ended);  // of one lane at most, in the order of the rows
        place.advance();
    }
}

// Part 2, tokens - 1 steps behind: exponentials, their sum, and the values they weigh.
static void weigh_rows(unsigned tokens, unsigned steps, hls::stream<values_t>& values,
                       hls::stream<wide_t> scores[LANES], hls::stream<wide_t>& maxima,
                       hls::stream<sum_t>& sums, hls::stream<dims_t>& weighted) {
    wide_t largest[LANES][HEADS];
#pragma HLS ARRAY_PARTITION variable=largest dim=1 complete
    sum_t sum[LANES][HEADS];
#pragma HLS ARRAY_PARTITION variable=sum dim=1 complete
    dims_t kept[LANES][ROW_BEATS];
#pragma HLS ARRAY_PARTITION variable=kept dim=1 complete
    ap_uint<23> weight[LANES];
#pragma HLS ARRAY_PARTITION variable=weight complete
    Lanes lanes;
    Place place;
beats:
    for (unsigned count = 0; count < steps * ROW_BEATS; count++) {
#pragma HLS PIPELINE II=1
#pragma HLS DEPENDENCE variable=kept type=inter distance=@row_beats@ true
        if (place.at == 0) lanes.enter_step(tokens);
        const values_t value = values.read();
        wide_t fresh = 0;
        if (place.beat == 0 && lanes.begins) fresh = maxima.read();
        bool ends = false;
        sum_t ended_sum = 0;
        dims_t ended = 0;
        for (int lane = 0; lane < LANES; lane++) {
#pragma HLS UNROLL
            if (lanes.left[lane] == 0) continue;
            if (place.beat == 0) {
                const wide_t most = lanes.first[lane] ? fresh : largest[lane][place.head];
                largest[lane][place.head] = most;
                weight[lane] = exponential_below(scores[lane].read(), most);
                const sum_t before = lanes.first[lane] ? sum_t(0) : sum[lane][place.head];
                sum[lane][place.head] = before + weight[lane];
            }
            const dims_t before = lanes.first[lane] ? dims_t(0) : kept[lane][place.at];
            dims_t after = 0;
            for (int d = 0; d < DIMS; d++) {
#pragma HLS UNROLL
                const operand_t v = signed_at<OPERAND_BITS>(value, d);
                const wide_t part =
                    shifted<OPERAND_FRACTION>(ap_int<OPERAND_BITS + 24>(v * weight[lane]));
                put_at<WIDE_BITS>(after, d, wide_t(signed_at<WIDE_BITS>(before, d) + part));
            }
            kept[lane][place.at] = after;
            if (lanes.left[lane] == 1) {
                ends = true;
                ended_sum = sum[lane][place.head];
                ended = after;
            }
        }
        if (ends && place.beat == 0) sums.write(ended_sum);
        if (ends) weighted.write(ended);
        place.advance();
    }
}

// One reciprocal per row and head, for all lanes; the division comes after the sum.
static void normalise_rows(unsigned tokens, hls::stream<sum_t>& sums,
                           hls::stream<dims_t>& weighted, hls::stream<results_t>& results) {
    ap_uint<23> factor = 0;
    Place place;
beats:
    for (unsigned count = 0; count < tokens * ROW_BEATS; count++) {
#pragma HLS PIPELINE II=1
        if (place.beat == 0) factor = reciprocal(sums.read());
        const dims_t beat = weighted.read();
        results_t packed = 0;
        for (int d = 0; d < DIMS; d++) {
#pragma HLS UNROLL
            const wide_t value = signed_at<WIDE_BITS>(beat, d);
            put_at<OPERAND_BITS>(packed, d,
                                 to_operand(shifted<WIDE_FRACTION>(ap_int<56>(value * factor))));
        }
        results.write(packed);
        place.advance();
    }
}

static void run(unsigned tokens, hls::stream<queries_t>& queries, hls::stream<keys_t>& keys,
                hls::stream<values_t>& values, hls::stream<results_t>& results) {
#pragma HLS DATAFLOW
    // Part 2 may not begin a row before part 1 has ended it.
    hls::stream<wide_t> scores[LANES];
#pragma HLS STREAM variable=scores depth=@score_depth@
    hls::stream<wide_t> maxima("maxima");
#pragma HLS STREAM variable=maxima depth=@maxima_depth@
    hls::stream<sum_t> sums("sums");
    hls::stream<dims_t> weighted("weighted");
    const unsigned steps =
        (tokens + LANES - 1) / LANES * tokens + (tokens + LANES - 1) % LANES;
    score_rows(tokens, steps, queries, keys, scores, maxima);
    weigh_rows(tokens, steps, values, scores, maxima, sums, weighted);
    normalise_rows(tokens, sums, weighted, results);
}

static void work(ap_uint<32> commands,
    @arguments@) {
    for (unsigned i = 0; i < commands; i++) {
        const unsigned tokens = ap_uint<16>(command.read());
        require(tokens >= LANES && tokens <= MAX_TOKENS, "command: tokens below lanes or too many");
        run(tokens, queries, keys, values, results);
    }
}
