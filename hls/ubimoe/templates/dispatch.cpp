// Dispatch: the tokens of every expert, expert after expert. Ports: docs/ubimoe-kernels.md.
#include "@top@.h"

#include "functions.h"

constexpr int CHOICE_BITS = 8 + SCORE_BITS;

typedef rows_t queues_t[EXPERTS][MAX_TOKENS];
typedef ap_uint<16> lengths_t[EXPERTS];

// A choice per cycle goes to the end of its expert's queue; a copy of the lengths for each reader.
static void fill_queues(unsigned tokens, hls::stream<choices_t>& choices, queues_t queues,
                        lengths_t lengths, lengths_t lengths_again) {
    lengths_t filled;
#pragma HLS ARRAY_PARTITION variable=filled complete
    for (int expert = 0; expert < EXPERTS; expert++) {
#pragma HLS UNROLL
        filled[expert] = 0;
    }
    choices_t best = 0;
    unsigned token = 0;
    unsigned rank = 0;
choices:
    for (unsigned count = 0; count < tokens * TOP_K; count++) {
#pragma HLS PIPELINE II=1
        if (rank == 0) best = choices.read();
        const unsigned expert = ap_uint<8>(best);
        require(expert < EXPERTS, "choices: no such expert");
        require(filled[expert] < MAX_TOKENS, "choices: an expert twice for one token");
        rows_t row = token;
        row.range(15 + SCORE_BITS, 16) = best.range(CHOICE_BITS - 1, 8);
        queues[expert][filled[expert]] = row;
        filled[expert]++;
        best >>= CHOICE_BITS;
        rank++;
        if (rank == TOP_K) {
            rank = 0;
            token++;
        }
    }
copies:
    for (int expert = 0; expert < EXPERTS; expert++) {
#pragma HLS PIPELINE II=1
        lengths[expert] = filled[expert];
        lengths_again[expert] = filled[expert];
    }
}

static void write_jobs(const lengths_t lengths, hls::stream<jobs_t>& jobs) {
experts:
    for (unsigned expert = 0; expert < EXPERTS; expert++) {
#pragma HLS PIPELINE II=1
        jobs_t job = expert;
        job.range(23, 8) = lengths[expert];
        if (lengths[expert] != 0) jobs.write(job);
    }
}

static void write_rows(const queues_t queues, const lengths_t lengths,
                       hls::stream<rows_t>& rows) {
experts:
    for (unsigned expert = 0; expert < EXPERTS; expert++) {
    queue:
        for (unsigned place = 0; place < lengths[expert]; place++) {
#pragma HLS PIPELINE II=1
#pragma HLS LOOP_TRIPCOUNT min=0 max=MAX_TOKENS
            rows.write(queues[expert][place]);
        }
    }
}

static void run(unsigned tokens, hls::stream<choices_t>& choices, hls::stream<jobs_t>& jobs,
                hls::stream<rows_t>& rows) {
#pragma HLS DATAFLOW
    // Jobs and rows leave side by side, so that no reader of one has to wait for the other.
    queues_t queues;
    lengths_t lengths;
    lengths_t lengths_again;
    fill_queues(tokens, choices, queues, lengths, lengths_again);
    write_jobs(lengths, jobs);
    write_rows(queues, lengths_again, rows);
}

static void work(ap_uint<32> commands,
    @arguments@) {
    for (unsigned i = 0; i < commands; i++) {
        const unsigned tokens = ap_uint<16>(command.read());
        require(tokens <= MAX_TOKENS, "command: too many tokens");
        run(tokens, choices, jobs, rows);
    }
}
