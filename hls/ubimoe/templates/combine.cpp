// Combine: the experts' results, weighted, are added to the residual. Ports:
// docs/ubimoe-kernels.md.
#include "@top@.h"

#include "narrow.h"

typedef residual_t words_t[MAX_TOKENS * ROW_BEATS];  // beat b of token t in b MAX_TOKENS + t

static void store_rows(unsigned tokens, hls::stream<residual_t>& residual, words_t words) {
    unsigned token = 0;
    unsigned word = 0;
beats:
    for (unsigned count = 0; count < tokens * ROW_BEATS; count++) {
#pragma HLS PIPELINE II=1
        words[word] = residual.read();
        word += MAX_TOKENS;
        if (word >= MAX_TOKENS * ROW_BEATS) {
            token++;
            word = token;
        }
    }
}

// Values come job by job, group of LANES rows by group, beat by beat, row by row. A word is met
// again ROW_BEATS values later at the earliest.
static void add_values(unsigned values_in_all, unsigned tokens, hls::stream<jobs_t>& jobs,
                       hls::stream<rows_t>& rows, hls::stream<values_t>& values, words_t words) {
    rows_t group[LANES];
#pragma HLS ARRAY_PARTITION variable=group complete
    unsigned left = 0;  // rows of the job from this group on
    unsigned lane = 0;
    unsigned beat = 0;
values:
    for (unsigned count = 0; count < values_in_all; count++) {
#pragma HLS PIPELINE II=1
#pragma HLS DEPENDENCE variable=words type=inter distance=@row_beats@ true
        if (left == 0) left = ap_uint<16>(jobs.read());
        require(left != 0, "jobs: a job without rows");
        if (beat == 0) group[lane] = rows.read();
        const unsigned token = group[lane].range(15, 0);
        const ap_uint<SCORE_BITS> score = group[lane].range(15 + SCORE_BITS, 16);
        require(token < tokens, "rows: no such token");
        const values_t value = values.read();
        const unsigned word = beat * MAX_TOKENS + token;
        const residual_t before = words[word];
        residual_t after = 0;
        for (int d = 0; d < DIMS; d++) {
#pragma HLS UNROLL
            const ap_int<WIDE_BITS + SCORE_BITS> product = signed_at<WIDE_BITS>(value, d) * score;
            const feature_t part = product >> (2 * WIDE_FRACTION - FEATURE_FRACTION);
            put_at<FEATURE_BITS>(after, d,
                                 feature_t(signed_at<FEATURE_BITS>(before, d) + part));
        }
        words[word] = after;
        lane++;
        if (lane == LANES || lane == left) {
            beat++;
            if (beat == ROW_BEATS) {
                beat = 0;
                left -= lane;
            }
            lane = 0;
        }
    }
    require(left == 0, "jobs: more rows than the command says");
}

static void write_rows(unsigned tokens, const words_t words, hls::stream<results_t>& results) {
    unsigned token = 0;
    unsigned word = 0;
beats:
    for (unsigned count = 0; count < tokens * ROW_BEATS; count++) {
#pragma HLS PIPELINE II=1
        results.write(words[word]);
        word += MAX_TOKENS;
        if (word >= MAX_TOKENS * ROW_BEATS) {
            token++;
            word = token;
        }
    }
}

static void work(ap_uint<32> commands,
    @arguments@) {
    static words_t words;
    for (unsigned i = 0; i < commands; i++) {
        const command_t fields = command.read();
        const unsigned tokens = fields.range(15, 0);
        const unsigned choices = fields.range(23, 16);
        require(tokens <= MAX_TOKENS, "command: too many tokens");
        store_rows(tokens, residual, words);
        add_values(tokens * choices * ROW_BEATS, tokens, jobs, rows, values, words);
        write_rows(tokens, words, results);
    }
}
