// One slot: loading and computing take turns.
static void run(unsigned commands, hls::stream<load_t>& load, hls::stream<compute_t>& compute,
                hls::stream<weights_t>& weights, hls::stream<inputs_t>& inputs,
                hls::stream<results_t>& results) {
    static biases_t biases;
    static tiles_t tiles;
#pragma HLS ARRAY_PARTITION variable=biases dim=2 complete
#pragma HLS ARRAY_PARTITION variable=tiles dim=2 complete
    for (unsigned command = 0; command < commands; command++) {
        load_slot(load, weights, biases, tiles);
        compute_slot(biases, tiles, compute, inputs, results);
    }
}
