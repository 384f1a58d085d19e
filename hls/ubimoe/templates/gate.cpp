// The gate: scores of all experts, their softmax, and the best of them. Ports:
// docs/ubimoe-kernels.md.
#include "@top@.h"

#include "narrow.h"

typedef ap_uint<31> sum_t;  // of at most 256 exponentials
typedef ap_uint<8> expert_t;

// Every beat of a row is held for all experts; behind a row go its scores, expert after expert.
static void score_rows(unsigned tokens, const weights_t weights[EXPERTS][ROW_BEATS],
                       hls::stream<inputs_t>& inputs, hls::stream<wide_t>& scores) {
    wide_t sums[EXPERTS];
    inputs_t beat = 0;
    unsigned at = 0;
    unsigned expert = 0;
steps:
    for (unsigned count = 0; count < tokens * ROW_BEATS * EXPERTS; count++) {
#pragma HLS PIPELINE II=1
#pragma HLS DEPENDENCE variable=sums type=inter distance=@experts@ true
        if (expert == 0) beat = inputs.read();
        const weights_t weight = weights[expert][at];
        wide_t sum = at == 0 ? wide_t(0) : sums[expert];
        for (int d = 0; d < DIMS; d++) {
#pragma HLS UNROLL
            const operand_t x = signed_at<OPERAND_BITS>(beat, d);
            const weight_t w = signed_at<WEIGHT_BITS>(weight, d);
            sum += shifted<PRODUCT_SHIFT>(ap_int<OPERAND_BITS + WEIGHT_BITS>(x * w));
        }
        sums[expert] = sum;
        if (at == ROW_BEATS - 1) scores.write(sum);
        expert++;
        if (expert == EXPERTS) {
            expert = 0;
            at = at + 1 == ROW_BEATS ? 0 : at + 1;
        }
    }
}

// The best scores so far in falling order; of equal ones the first stays ahead.
struct Ranking {
    bool taken[TOP_K];
    wide_t score[TOP_K];
    expert_t expert[TOP_K];

    Ranking() {
#pragma HLS ARRAY_PARTITION variable=taken complete
#pragma HLS ARRAY_PARTITION variable=score complete
#pragma HLS ARRAY_PARTITION variable=expert complete
        for (int rank = 0; rank < TOP_K; rank++) {
#pragma HLS UNROLL
            taken[rank] = false;
            score[rank] = 0;
            expert[rank] = 0;
        }
    }

    void insert(wide_t new_score, expert_t new_expert) {
#pragma HLS INLINE
        bool beaten[TOP_K];
        for (int rank = 0; rank < TOP_K; rank++) {
#pragma HLS UNROLL
            beaten[rank] = !taken[rank] || new_score > score[rank];
        }
        // From the last place up, so that each place still finds what stood above it.
        for (int rank = TOP_K - 1; rank >= 0; rank--) {
#pragma HLS UNROLL
            if (!beaten[rank]) continue;
            const int above = rank == 0 ? 0 : rank - 1;
            const bool falls = rank != 0 && beaten[above];
            taken[rank] = falls ? taken[above] : true;
            score[rank] = falls ? score[above] : new_score;
            expert[rank] = falls ? expert[above] : new_expert;
        }
    }
};

// Softmax with a running largest score, and the probabilities of the best; not renormalised.
static void choose_experts(unsigned tokens, hls::stream<wide_t>& scores,
                           hls::stream<choices_t>& choices) {
tokens:
    for (unsigned token = 0; token < tokens; token++) {
        wide_t largest = wide_t(1) << (WIDE_BITS - 1);  // the lowest value
        sum_t sum = 0;
        Ranking ranking;
    experts:
        for (unsigned expert = 0; expert < EXPERTS; expert++) {
#pragma HLS PIPELINE
            const wide_t score = scores.read();
            const bool higher = score > largest;
            const ap_uint<23> factor = higher ? exponential_below(largest, score)
                                              : exponential_below(score, largest);
            if (higher) {
                sum = sum_t(ap_uint<54>(sum * factor) >> WIDE_FRACTION) + (1 << WIDE_FRACTION);
                largest = score;
            } else {
                sum += factor;
            }
            ranking.insert(score, expert);
        }
        const ap_uint<23> inverse = reciprocal(sum);
        choices_t packed = 0;
        for (int rank = 0; rank < TOP_K; rank++) {
#pragma HLS UNROLL
            const ap_uint<23> power = exponential_below(ranking.score[rank], largest);
            const ap_uint<23> probability = ap_uint<46>(power * inverse) >> WIDE_FRACTION;
            packed.range(31 * rank + 7, 31 * rank) = ranking.expert[rank];
            packed.range(31 * rank + 30, 31 * rank + 8) = probability;
        }
        choices.write(packed);
    }
}

static void run(unsigned tokens, const weights_t weights[EXPERTS][ROW_BEATS],
                hls::stream<inputs_t>& inputs, hls::stream<choices_t>& choices) {
#pragma HLS DATAFLOW
    // Softmax and choice of a token beside the products of the next one.
    hls::stream<wide_t> scores("scores");
#pragma HLS STREAM variable=scores depth=@score_depth@
    score_rows(tokens, weights, inputs, scores);
    choose_experts(tokens, scores, choices);
}

static void work(ap_uint<32> commands,
    @arguments@) {
    for (unsigned i = 0; i < commands; i++) {
        const unsigned tokens = ap_uint<16>(command.read());
        require(tokens <= MAX_TOKENS, "command: too many tokens");
        weights_t kept[EXPERTS][ROW_BEATS];
        for (unsigned expert = 0; expert < EXPERTS; expert++) {
            for (unsigned beat = 0; beat < ROW_BEATS; beat++) {
#pragma HLS PIPELINE II=1
                kept[expert][beat] = weights.read();
            }
        }
        run(tokens, kept, inputs, choices);
    }
}
