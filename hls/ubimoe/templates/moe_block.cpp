// Layer norm, dense FFN or gate and experts, and residual, one sequence per command. Ports:
// docs/ubimoe-kernels.md, "encoder_block".
#include "@top@.h"

#include <hls_streamofblocks.h>

#include "functions.h"

@parts@#undef HEADRACE_UBIMOE_NARROW_H

namespace block {

#include "narrow.h"

#include "block.h"

// Normalised rows go on and, by experts, to the gate as well.
static void copy_rows(unsigned tokens, bool by_experts, hls::stream<layer_norm::results_t>& normal,
                      hls::stream<layer_norm::results_t>& rows,
                      hls::stream<gate::command_t>& gate_command,
                      hls::stream<gate::inputs_t>& gate_inputs,
                      hls::stream<dispatch::command_t>& dispatch_command) {
    if (by_experts) {
        gate_command.write(tokens);
        dispatch_command.write(tokens);
    }
beats:
    for (unsigned count = 0; count < tokens * ROW_BEATS; count++) {
#pragma HLS PIPELINE II=1
        const layer_norm::results_t beat = normal.read();
        rows.write(beat);
        if (by_experts) gate_inputs.write(beat);
    }
}

// The jobs, as dispatch gives them, or one of all rows with the score one per part of a dense FFN.
// What runs them, what adds their results and what fetches their weights get them at once.
static void list_jobs(unsigned tokens, bool by_experts, hls::stream<dispatch::jobs_t>& queues,
                      hls::stream<dispatch::rows_t>& queued, hls::stream<jobs_t>& jobs,
                      hls::stream<combine::command_t>& command, hls::stream<token_t>& counts,
                      hls::stream<token_t>& taken, hls::stream<combine::jobs_t>& added,
                      hls::stream<combine::rows_t>& rows) {
    const unsigned choices = by_experts ? TOP_K : DENSE_PARTS;
    command.write(combine::command_t(choices << 16 | tokens));
    unsigned left = tokens * choices;
    unsigned part = 0;
jobs:
    while (left != 0) {
        dispatch::jobs_t job = part++;
        job.range(23, 8) = tokens;
        if (by_experts) job = queues.read();
        const token_t count = job.range(23, 8);
        jobs.write(ap_uint<8>(job));
        counts.write(count);
        added.write(count);
    rows:
        for (unsigned i = 0; i < count; i++) {
#pragma HLS PIPELINE II=1
            dispatch::rows_t row = i;
            row.range(38, 16) = ONE;
            if (by_experts) row = queued.read();
            taken.write(token_t(row));
            rows.write(row);
        }
        left -= count;
    }
}

// Both linears of every job, in turn.
static void run_jobs(unsigned tokens, unsigned rows_in_all,
                     hls::stream<layer_norm::results_t>& normal, hls::stream<token_t>& counts,
                     hls::stream<token_t>& taken, hls::stream<weights_t>& weights,
                     hls::stream<values_t>& values) {
    static memory_t rows;
    static memory_t hidden;
    tokens_t chosen;
    tokens_t all;
    for (unsigned token = 0; token < MAX_TOKENS; token++) {
#pragma HLS PIPELINE II=1
        all[token] = token;
    }
    keep_rows(tokens, normal, rows);
    unsigned left = rows_in_all;
jobs:
    while (left != 0) {
        const unsigned count = counts.read();
    tokens:
        for (unsigned i = 0; i < count; i++) {
#pragma HLS PIPELINE II=1
            chosen[i] = taken.read();
        }
        run_layer(true, true, count, IN_TILES, HIDDEN_OUT_TILES, chosen, rows, weights, hidden,
                  values);
        run_layer(false, false, count, HIDDEN_IN_TILES, OUT_TILES, all, hidden, weights, rows,
                  values);
        left -= count;
    }
}

static void run(unsigned tokens, bool by_experts, hls::stream<norm_t>& norm,
                hls::stream<gate_weights_t>& gate_weights, hls::stream<weights_t>& weights,
                hls::stream<inputs_t>& inputs, hls::stream<jobs_t>& jobs,
                hls::stream<results_t>& results) {
#pragma HLS DATAFLOW
    hls::stream<layer_norm::command_t> norm_command("norm_command");
    hls::stream<layer_norm::inputs_t> given("given");
    hls::stream<layer_norm::results_t> normal("normal"), kept("kept");
    hls::stream<inputs_t> features("features");
    hls::stream<gate::command_t> gate_command("gate_command");
    hls::stream<gate::inputs_t> gate_inputs("gate_inputs");
    hls::stream<gate::choices_t> choices("choices");
    hls::stream<dispatch::command_t> dispatch_command("dispatch_command");
    hls::stream<dispatch::jobs_t> queues("queues");
    hls::stream<dispatch::rows_t> queued("queued");
    hls::stream<token_t> counts("counts"), taken("taken");
    hls::stream<combine::command_t> combine_command("combine_command");
    hls::stream<combine::jobs_t> added("added");
    hls::stream<combine::rows_t> rows("rows");
#pragma HLS STREAM variable=rows depth=@row_depth@
    hls::stream<combine::residual_t> residual("residual");
    hls::stream<values_t> values("values");
    hls::stream<combine::results_t> sums("sums");
    take_rows(tokens, inputs, norm_command, given, features);
    layer_norm::work(1, norm_command, norm, given, normal);
    copy_rows(tokens, by_experts, normal, kept, gate_command, gate_inputs, dispatch_command);
    gate::work(by_experts, gate_command, gate_weights, gate_inputs, choices);
    dispatch::work(by_experts, dispatch_command, choices, queues, queued);
    list_jobs(tokens, by_experts, queues, queued, jobs, combine_command, counts, taken, added,
              rows);
    run_jobs(tokens, tokens * (by_experts ? TOP_K : DENSE_PARTS), kept, counts, taken, weights,
             values);
    repack<DIMS * FEATURE_BITS, TILE_OUT * FEATURE_BITS>(tokens * ROW_BEATS, features, residual);
    combine::work(1, combine_command, added, rows, values, residual, sums);
    repack<TILE_OUT * FEATURE_BITS, DIMS * FEATURE_BITS>(tokens * OUT_TILES, sums, results);
}

}  // namespace block

static void work(ap_uint<32> commands,
    @arguments@) {
    for (unsigned i = 0; i < commands; i++) {
        const command_t fields = command.read();
        const unsigned tokens = fields.range(15, 0);
        const bool by_experts = fields[16];
        require(tokens >= 1 && tokens <= MAX_TOKENS, "command: no tokens or too many");
        block::run(tokens, by_experts, norm, gate_weights, weights, inputs, jobs, results);
    }
}
