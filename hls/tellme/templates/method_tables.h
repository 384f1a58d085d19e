// One copy of each table per output of a group, since a LUT memory has one read port. Entry 0 is
// never written: looking it up yields 0, which the adders absorb.
typedef entry_t block_t[TABLES][COPIES][ENTRIES];

// Read a row block and write one entry of every table per cycle.
static void prepare(hls::stream<lanes_t>& activations, block_t tables) {
    activation_t block[TABLES][GROUP_SIZE];
#pragma HLS ARRAY_PARTITION variable=block dim=0 complete
    read_block(activations, block);
build:
    for (int index = 1; index <= BUILD_CYCLES; index++) {
#pragma HLS PIPELINE II=1
        for (int t = 0; t < TABLES; t++) {
#pragma HLS UNROLL
            const entry_t entry = signed_sum(block[t], index);
            for (int q = 0; q < COPIES; q++) {
#pragma HLS UNROLL
                tables[t][q][index] = entry;
            }
        }
    }
}

