// One slot: loading and computing take turns.
static void run(unsigned tiles, hls::stream<load_t>& load, hls::stream<compute_t>& compute,
                hls::stream<beat_t>& weights, hls::stream<lanes_t>& activations,
                hls::stream<results_t>& results) {
    static slot_t slot;
#pragma HLS ARRAY_PARTITION variable=slot dim=1 complete
#pragma HLS BIND_STORAGE variable=slot type=ram_t2p impl=uram
tiles:
    for (unsigned tile = 0; tile < tiles; tile++) {
        load_tile(load, weights, slot);
        compute_tile(slot, compute, activations, results);
    }
}
