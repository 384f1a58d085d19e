// Between the kernels of a block: row memories, repacking, and the linear that all layers share.
// Everything is in the namespace `block`; `array` is the linear.

// A memory keeps rows as units, the greatest number of operands that divides the beats of all kernels.
typedef ap_uint<UNIT * OPERAND_BITS> unit_t;
typedef unit_t memory_t[MAX_TOKENS * ROW_UNITS];
typedef ap_uint<16> token_t;
typedef token_t tokens_t[MAX_TOKENS];
typedef combine::values_t values_t;

constexpr int ONE = 1 << WIDE_FRACTION;

// Pass words of FROM bits on as words of TO bits; one is a multiple of the other.
template <int FROM, int TO, typename from_t, typename to_t>
static void repack(unsigned words, hls::stream<from_t>& given, hls::stream<to_t>& made) {
    constexpr int PART = FROM < TO ? FROM : TO;
    constexpr unsigned SPLIT = FROM / PART;
    constexpr unsigned JOIN = TO / PART;
    from_t from = 0;
    to_t to = 0;
    unsigned split = 0;
    unsigned join = 0;
parts:
    for (unsigned count = 0; count < words * SPLIT; count++) {
#pragma HLS PIPELINE II=1
        if (split == 0) from = given.read();
        to.range((join + 1) * PART - 1, join * PART) =
            from.range((split + 1) * PART - 1, split * PART);
        split = split + 1 == SPLIT ? 0 : split + 1;
        join = join + 1 == JOIN ? 0 : join + 1;
        if (join == 0) made.write(to);
    }
}

// Rows of features go to the layer norm, and once more to what results are added to.
static void take_rows(unsigned tokens, hls::stream<inputs_t>& inputs,
                      hls::stream<layer_norm::command_t>& command,
                      hls::stream<layer_norm::inputs_t>& rows, hls::stream<inputs_t>& residual) {
    command.write(tokens);
beats:
    for (unsigned count = 0; count < tokens * ROW_BEATS; count++) {
#pragma HLS PIPELINE II=1
        const inputs_t beat = inputs.read();
        rows.write(beat);
        residual.write(beat);
    }
}

static void write_units(unsigned tokens, unsigned units_of_row, hls::stream<unit_t>& units,
                        memory_t memory) {
    for (unsigned token = 0; token < tokens; token++) {
    units:
        for (unsigned unit = 0; unit < units_of_row; unit++) {
#pragma HLS PIPELINE II=1
            memory[token * ROW_UNITS + unit] = units.read();
        }
    }
}

// Keep rows of as many operands as there are features.
template <typename beat_t>
static void keep_rows(unsigned tokens, hls::stream<beat_t>& rows, memory_t memory) {
#pragma HLS DATAFLOW
    hls::stream<unit_t> units("units");
    repack<DIMS * OPERAND_BITS, UNIT * OPERAND_BITS>(tokens * ROW_BEATS, rows, units);
    write_units(tokens, WIDTH / UNIT, units, memory);
}

static void command_array(unsigned rows, unsigned in_tiles, unsigned out_tiles, bool gelu,
                          hls::stream<array::load_t>& load,
                          hls::stream<array::compute_t>& compute) {
    array::load_t tiles = in_tiles;
    tiles.range(31, 16) = out_tiles;
    load.write(tiles);
    array::compute_t command = rows;
    command.range(47, 16) = tiles.range(31, 0);
    command[48] = gelu;
    compute.write(command);
}

static void read_units(unsigned rows, unsigned units_of_row, const tokens_t tokens,
                       const memory_t source, hls::stream<unit_t>& units) {
rows:
    for (unsigned row = 0; row < rows; row++) {
        const unsigned first = tokens[row] * ROW_UNITS;
        for (unsigned unit = 0; unit < units_of_row; unit++) {
#pragma HLS PIPELINE II=1
            units.write(source[first + unit]);
        }
    }
}

// Results come by groups of lanes, output tile by tile: into a memory or, as they are, onwards.
static void place_results(bool keep, unsigned rows, unsigned out_tiles,
                          hls::stream<array::results_t>& sums, memory_t memory,
                          hls::stream<values_t>& values) {
groups:
    for (unsigned first = 0; first < rows; first += array::LANES) {
        const unsigned taken =
            rows - first < array::LANES ? rows - first : unsigned(array::LANES);
        for (unsigned out = 0; out < out_tiles; out++) {
            for (unsigned lane = 0; lane < taken; lane++) {
#pragma HLS PIPELINE
                const array::results_t wide = sums.read();
                if (!keep) {
                    values.write(wide);
                    continue;
                }
                for (unsigned part = 0; part < TILE_OUT / UNIT; part++) {
#pragma HLS UNROLL
                    unit_t unit = 0;
                    for (unsigned i = 0; i < UNIT; i++) {
#pragma HLS UNROLL
                        const wide_t value = signed_at<WIDE_BITS>(wide, part * UNIT + i);
                        put_at<OPERAND_BITS>(unit, i, to_operand(value));
                    }
                    memory[(first + lane) * ROW_UNITS + out * (TILE_OUT / UNIT) + part] = unit;
                }
            }
        }
    }
}

// One layer for the rows of some tokens. All layers go through this one function, so that there
// is one array of multipliers.
static void run_layer(bool keep, bool gelu, unsigned rows, unsigned in_tiles, unsigned out_tiles,
                      const tokens_t tokens, const memory_t source,
                      hls::stream<weights_t>& weights, memory_t made,
                      hls::stream<values_t>& values) {
#pragma HLS DATAFLOW
    hls::stream<array::load_t> load("load");
    hls::stream<array::compute_t> compute("compute");
    hls::stream<unit_t> units("units");
    hls::stream<array::inputs_t> inputs("inputs");
    hls::stream<array::results_t> sums("sums");
    const unsigned units_of_row = in_tiles * (TILE_IN / UNIT);
    command_array(rows, in_tiles, out_tiles, gelu, load, compute);
    read_units(rows, units_of_row, tokens, source, units);
    repack<UNIT * OPERAND_BITS, TILE_IN * OPERAND_BITS>(rows * units_of_row, units, inputs);
    array::work(1, load, compute, weights, inputs, sums);
    place_results(keep, rows, out_tiles, sums, made, values);
}
