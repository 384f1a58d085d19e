static void load_tiles(unsigned tiles, hls::stream<load_t>& load, hls::stream<beat_t>& weights,
                       hls::stream_of_blocks<slot_t>& slots) {
    for (unsigned tile = 0; tile < tiles; tile++) {
        hls::write_lock<slot_t> slot(slots);
        load_tile(load, weights, slot);
    }
}

static void compute_tiles(unsigned tiles, hls::stream_of_blocks<slot_t>& slots,
                          hls::stream<compute_t>& compute, hls::stream<lanes_t>& activations,
                          hls::stream<results_t>& results) {
    for (unsigned tile = 0; tile < tiles; tile++) {
        hls::read_lock<slot_t> slot(slots);
        compute_tile(slot, compute, activations, results);
    }
}

// Several slots: a load waits for a free slot, a compute for a loaded one; else they overlap.
static void run(unsigned tiles, hls::stream<load_t>& load, hls::stream<compute_t>& compute,
                hls::stream<beat_t>& weights, hls::stream<lanes_t>& activations,
                hls::stream<results_t>& results) {
#pragma HLS DATAFLOW
    hls::stream_of_blocks<slot_t, @slots@> slots;
#pragma HLS ARRAY_PARTITION variable=slots dim=1 complete
#pragma HLS BIND_STORAGE variable=slots type=ram_t2p impl=uram
    load_tiles(tiles, load, weights, slots);
    compute_tiles(tiles, slots, compute, activations, results);
}
