// Layer norm, QKV, attention, projection and residual, one sequence per command. Ports:
// docs/ubimoe-kernels.md, "encoder_block".
#include "@top@.h"

#include <hls_streamofblocks.h>

#include "functions.h"

@parts@#undef HEADRACE_UBIMOE_NARROW_H

namespace block {

#include "narrow.h"

#include "block.h"

// Units of Q, K and V in the order of the attention's steps; the query before its first key.
static void read_steps(unsigned tokens, const memory_t made, hls::stream<unit_t>& queries,
                       hls::stream<unit_t>& keys, hls::stream<unit_t>& values,
                       hls::stream<streaming_attention::command_t>& command) {
    constexpr unsigned UNITS = WIDTH / UNIT;
    const unsigned lanes = streaming_attention::LANES;
    const unsigned steps = (tokens + lanes - 1) / lanes * tokens + (tokens + lanes - 1) % lanes;
    unsigned key = 0;
    unsigned sent = 0;
    command.write(tokens);
steps:
    for (unsigned step = 0; step < steps; step++) {
        const bool begins = key < lanes && sent < tokens;
        for (unsigned unit = 0; unit < UNITS; unit++) {
#pragma HLS PIPELINE
            if (begins) queries.write(made[sent * ROW_UNITS + unit]);
            keys.write(made[key * ROW_UNITS + UNITS + unit]);
            values.write(made[key * ROW_UNITS + 2 * UNITS + unit]);
        }
        sent += begins;
        key = key + 1 == tokens ? 0 : key + 1;
    }
}

static void attend(unsigned tokens, const memory_t made, memory_t rows) {
#pragma HLS DATAFLOW
    hls::stream<unit_t> query_units("query_units"), key_units("key_units");
    hls::stream<unit_t> value_units("value_units"), result_units("result_units");
    // Values are wanted as many steps after their keys as there are tokens, but one.
#pragma HLS STREAM variable=value_units depth=@value_depth@
    hls::stream<streaming_attention::command_t> command("command");
    hls::stream<streaming_attention::queries_t> queries("queries");
    hls::stream<streaming_attention::keys_t> keys("keys");
    hls::stream<streaming_attention::values_t> values("values");
    hls::stream<streaming_attention::results_t> attended("attended");
    constexpr int FROM = UNIT * OPERAND_BITS;
    constexpr int TO = DIMS * OPERAND_BITS;
    constexpr unsigned UNITS = WIDTH / UNIT;
    const unsigned lanes = streaming_attention::LANES;
    const unsigned steps = (tokens + lanes - 1) / lanes * tokens + (tokens + lanes - 1) % lanes;
    read_steps(tokens, made, query_units, key_units, value_units, command);
    repack<FROM, TO>(tokens * UNITS, query_units, queries);
    repack<FROM, TO>(steps * UNITS, key_units, keys);
    repack<FROM, TO>(steps * UNITS, value_units, values);
    streaming_attention::work(1, command, queries, keys, values, attended);
    repack<TO, FROM>(tokens * ROW_BEATS, attended, result_units);
    write_units(tokens, UNITS, result_units, rows);
}

// QKV, attention and projection of normalised rows, in turn.
static void run_layers(unsigned tokens, hls::stream<layer_norm::results_t>& normal,
                       hls::stream<weights_t>& weights, hls::stream<values_t>& values) {
    static memory_t rows;
    static memory_t made;
    tokens_t all;
    for (unsigned token = 0; token < MAX_TOKENS; token++) {
#pragma HLS PIPELINE II=1
        all[token] = token;
    }
    keep_rows(tokens, normal, rows);
    run_layer(true, false, tokens, IN_TILES, 3 * ROW_TILES, all, rows, weights, made, values);
    attend(tokens, made, rows);
    run_layer(false, false, tokens, IN_TILES, ROW_TILES, all, rows, weights, made, values);
}

// The projection is one job of all rows with the score one.
static void command_combine(unsigned tokens, hls::stream<combine::command_t>& command,
                            hls::stream<combine::jobs_t>& jobs,
                            hls::stream<combine::rows_t>& rows) {
    command.write(combine::command_t(1 << 16 | tokens));
    jobs.write(tokens);
rows:
    for (unsigned token = 0; token < tokens; token++) {
#pragma HLS PIPELINE II=1
        combine::rows_t row = token;
        row.range(38, 16) = ONE;
        rows.write(row);
    }
}

static void run(unsigned tokens, hls::stream<norm_t>& norm, hls::stream<weights_t>& weights,
                hls::stream<inputs_t>& inputs, hls::stream<results_t>& results) {
#pragma HLS DATAFLOW
    hls::stream<layer_norm::command_t> norm_command("norm_command");
    hls::stream<layer_norm::inputs_t> given("given");
    hls::stream<layer_norm::results_t> normal("normal");
    hls::stream<inputs_t> features("features");
    hls::stream<combine::command_t> combine_command("combine_command");
    hls::stream<combine::jobs_t> jobs("jobs");
    hls::stream<combine::rows_t> rows("rows");
    hls::stream<combine::residual_t> residual("residual");
    hls::stream<values_t> values("values");
    hls::stream<combine::results_t> sums("sums");
    take_rows(tokens, inputs, norm_command, given, features);
    layer_norm::work(1, norm_command, norm, given, normal);
    run_layers(tokens, normal, weights, values);
    command_combine(tokens, combine_command, jobs, rows);
    repack<DIMS * FEATURE_BITS, TILE_OUT * FEATURE_BITS>(tokens * ROW_BEATS, features, residual);
    combine::work(1, combine_command, jobs, rows, values, residual, sums);
    repack<TILE_OUT * FEATURE_BITS, DIMS * FEATURE_BITS>(tokens * ROW_TILES, sums, results);
}

}  // namespace block

static void work(ap_uint<32> commands,
    @arguments@) {
    for (unsigned i = 0; i < commands; i++) {
        const unsigned tokens = ap_uint<16>(command.read());
        require(tokens >= streaming_attention::LANES && tokens <= MAX_TOKENS,
                "command: tokens below lanes or too many");
        block::run(tokens, norm, weights, inputs, results);
    }
}
