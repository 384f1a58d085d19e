// Read the G x T activations of one row block; spare lanes of the last transfer are ignored.
static void read_block(hls::stream<lanes_t>& activations,
                       activation_t block[TABLES][GROUP_SIZE]) {
read:
    for (int cycle = 0; cycle < READ_CYCLES; cycle++) {
#pragma HLS PIPELINE II=1
        const lanes_t lanes = activations.read();
        for (int lane = 0; lane < ACTIVATION_LANES; lane++) {
#pragma HLS UNROLL
            const int input = cycle * ACTIVATION_LANES + lane;
            if (input < TABLES * GROUP_SIZE) {
                activation_t activation;
                activation.range(7, 0) = lanes.range(8 * lane + 7, 8 * lane);
                block[input / GROUP_SIZE][input % GROUP_SIZE] = activation;
            }
        }
    }
}

// Sum one group of activations with the signs of a pattern.
static entry_t signed_sum(const activation_t group[GROUP_SIZE], int index) {
#pragma HLS INLINE
    entry_t sum = 0;
    for (int i = 0; i < GROUP_SIZE; i++) {
#pragma HLS UNROLL
        const signed char weight = PATTERN[index][i];
        if (weight > 0) sum += group[i];
        if (weight < 0) sum -= group[i];
    }
    return sum;
}
