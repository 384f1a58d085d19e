static void load_slots(unsigned commands, hls::stream<load_t>& load,
                       hls::stream<weights_t>& weights,
                       hls::stream_of_blocks<biases_t>& full_biases,
                       hls::stream_of_blocks<tiles_t>& full_tiles) {
    for (unsigned command = 0; command < commands; command++) {
        hls::write_lock<biases_t> biases(full_biases);
        hls::write_lock<tiles_t> tiles(full_tiles);
        load_slot(load, weights, biases, tiles);
    }
}

static void compute_slots(unsigned commands, hls::stream_of_blocks<biases_t>& full_biases,
                          hls::stream_of_blocks<tiles_t>& full_tiles,
                          hls::stream<compute_t>& compute, hls::stream<inputs_t>& inputs,
                          hls::stream<results_t>& results) {
    for (unsigned command = 0; command < commands; command++) {
        hls::read_lock<biases_t> biases(full_biases);
        hls::read_lock<tiles_t> tiles(full_tiles);
        compute_slot(biases, tiles, compute, inputs, results);
    }
}

// Two slots: one is filled while the other one computes.
static void run(unsigned commands, hls::stream<load_t>& load, hls::stream<compute_t>& compute,
                hls::stream<weights_t>& weights, hls::stream<inputs_t>& inputs,
                hls::stream<results_t>& results) {
#pragma HLS DATAFLOW
    hls::stream_of_blocks<biases_t> biases;
    hls::stream_of_blocks<tiles_t> tiles;
#pragma HLS ARRAY_PARTITION variable=biases dim=2 complete
#pragma HLS ARRAY_PARTITION variable=tiles dim=2 complete
    load_slots(commands, load, weights, biases, tiles);
    compute_slots(commands, biases, tiles, compute, inputs, results);
}
